//! Telling the service manager how far we are (`sd_notify(3)`): one datagram to `$NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A state that the service manager understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Ready,
    /// It ends.
    Stopping,
    /// It still works.
    Alive,
}

/// Tells the service manager; nothing happens where there is none.
pub fn notify(state: State) -> io::Result<()> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(socket) if !socket.is_empty() => send(&socket, state),
        _ => Ok(()),
    }
}

/// Sends to a path, or to an abstract name that is written with `@` in front.
fn send(socket: &OsStr, state: State) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        _ => {
            return Err(io::Error::other(
                "NOTIFY_SOCKET is neither a path nor an abstract name",
            ));
        }
    };
    let message: &[u8] = match state {
        State::Ready => b"READY=1",
        State::Stopping => b"STOPPING=1",
        State::Alive => b"WATCHDOG=1",
    };
    // A full queue must not hold the server up.
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(message, &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(receiver: &UnixDatagram, socket: &OsStr) {
        send(socket, State::Ready).unwrap();
        send(socket, State::Stopping).unwrap();
        let mut bytes = [0; 64];
        let length = receiver.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"READY=1");
        let length = receiver.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"STOPPING=1");
    }

    #[test]
    fn a_socket_in_the_file_system_is_told() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        check(&receiver, path.as_os_str());
    }

    #[test]
    fn an_abstract_socket_is_told() {
        let name = format!("tidegate-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        check(&receiver, OsStr::new(&format!("@{name}")));
    }

    #[test]
    fn a_manager_that_is_gone_is_an_error_and_no_wait() {
        assert!(send(OsStr::new("/nowhere/notify"), State::Ready).is_err());
        assert!(send(OsStr::new("vsock:1:2"), State::Ready).is_err());
    }
}
