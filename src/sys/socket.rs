//! Sockets as the runtime does not offer them: shared listeners, an immediate send, a peek.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{BorrowedFd, RawFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, bind, connect_unspec, listen,
        send, shutdown, socket_with, sockopt,
    },
};

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Opens `count` listeners on one address, so that the kernel spreads connections over them.
///
/// The address is first bound alone: without that, `SO_REUSEPORT` would share a port with
/// another process in silence. Port 0 becomes the same free port for all.
pub fn listen_shared(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let probe = open(address, false)?;
    let address = probe.local_addr()?;
    drop(probe);
    (0..count).map(|_| open(address, true)).collect()
}

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let fd = socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if shared {
        sockopt::set_socket_reuseport(&fd, true)?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    bind(&fd, &address)?;
    listen(&fd, BACKLOG)?;
    Ok(TcpListener::from(fd))
}

/// Sends what the socket takes at once; `WouldBlock` if that is nothing.
pub fn send_now(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(send(borrow(fd), bytes, flags)?)
}

/// Says that no more will be sent; what is in the socket's buffer still goes out.
pub fn shutdown_write(fd: RawFd) -> io::Result<()> {
    Ok(shutdown(borrow(fd), Shutdown::Write)?)
}

/// Ends both directions; what is in the socket's buffer still goes out.
pub fn shutdown_both(fd: RawFd) -> io::Result<()> {
    Ok(shutdown(borrow(fd), Shutdown::Both)?)
}

/// Says whether the peer has ended its sending side or the connection broke, also while bytes that
/// came before lie unread. An end behind bytes for which the system has no room is not known yet.
pub fn has_left(fd: RawFd) -> bool {
    let fd = borrow(fd);
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let left = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    poll(&mut polled, Some(&at_once)).is_ok_and(|ready| ready > 0)
        && polled.iter().any(|fd| fd.revents().intersects(left))
}

/// Resets the connection: the peer learns that the answer is not whole even where its end is the
/// end of the connection.
///
/// Asking for a reset at the socket's closing would not do: the runtime shuts the sending side
/// down first, and its end would arrive before the reset.
pub fn reset(fd: RawFd) {
    // Failing leaves an ordinary close, which is all that can be done then.
    let _ = connect_unspec(borrow(fd));
}

fn borrow<'fd>(fd: RawFd) -> BorrowedFd<'fd> {
    // SAFETY: callers pass the descriptor of a socket that they own and that outlives the call;
    // the borrow does not leave this module.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::TcpStream,
        os::fd::AsRawFd,
    };

    #[test]
    fn a_port_can_be_shared_only_by_its_own_listeners() {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let listeners = listen_shared(loopback, 3).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert!(listeners.iter().all(|l| l.local_addr().unwrap() == address));
        let error = listen_shared(address, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_end_is_seen_behind_unread_bytes() {
        let listeners = listen_shared("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        listeners[0].set_nonblocking(false).unwrap();
        for reset_it in [false, true] {
            let mut there = TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap();
            let (here, _) = listeners[0].accept().unwrap();
            there.write_all(b"unread").unwrap();
            here.peek(&mut [0]).unwrap();
            assert!(!has_left(here.as_raw_fd()));
            if reset_it {
                reset(there.as_raw_fd());
            } else {
                shutdown_write(there.as_raw_fd()).unwrap();
            }
            while !has_left(here.as_raw_fd()) {}
        }
    }

    #[test]
    fn a_reset_connection_does_not_look_ended() {
        let listeners = listen_shared("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let mut here = TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap();
        listeners[0].set_nonblocking(false).unwrap();
        let (mut there, _) = listeners[0].accept().unwrap();
        there.write_all(b"half").unwrap();
        reset(there.as_raw_fd());
        let _ = there.shutdown(std::net::Shutdown::Write);
        drop(there);
        let mut read = Vec::new();
        let error = here.read_to_end(&mut read).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(read, b"half");
    }
}
