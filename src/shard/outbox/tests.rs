//! Real sockets on both drivers, with a peer that reads when it is told to.

use std::{
    io::{ErrorKind, Read},
    net::{TcpListener, TcpStream as Peer},
    os::fd::AsRawFd,
    rc::Weak,
    time::Duration,
};

use monoio::{
    io::{AsyncReadRent, OwnedReadHalf, Splitable},
    time::{sleep, timeout},
};

use super::*;
use crate::shard::runtime::{self, Choice};

fn on_both_drivers(test: impl AsyncFn(Rc<Outbox>)) {
    for choice in [Choice::Auto, Choice::Epoll] {
        let (mut runtime, _, _) = runtime::build(choice).unwrap();
        runtime.block_on(async {
            let outbox = Rc::<Outbox>::default();
            let running = Rc::clone(&outbox);
            monoio::spawn(async move { running.run(|| ()).await });
            let test = timeout(Duration::from_secs(20), async {
                pause().await;
                test(outbox).await;
            });
            test.await.expect("the test hangs");
        });
    }
}

/// Lets other tasks run, and the runtime look at its sockets.
async fn pause() {
    sleep(Duration::from_millis(2)).await;
}

async fn line(outbox: &Rc<Outbox>) -> (Rc<Line>, Peer) {
    let (line, _, peer) = line_and_reader(outbox).await;
    (line, peer)
}

async fn line_and_reader(outbox: &Rc<Outbox>) -> (Rc<Line>, OwnedReadHalf<TcpStream>, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let socket = TcpStream::connect_addr(address).await.unwrap();
    let (peer, _) = listener.accept().unwrap();
    peer.set_nonblocking(true).unwrap();
    let fd = socket.as_raw_fd();
    let (reader, half) = socket.into_split();
    (Line::new(fd, half, outbox), reader, peer)
}

/// Reads what is there; an end counts as nothing more.
fn arrived(peer: &mut Peer) -> Vec<u8> {
    let mut bytes = Vec::new();
    match peer.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) if error.kind() == ErrorKind::WouldBlock => bytes,
        Err(error) => panic!("{error}"),
    }
}

/// Fills the socket until a task pushes, and gives what was sent.
fn fill(line: &Rc<Line>) -> Vec<u8> {
    let mut sent = Vec::new();
    for number in 0_u32.. {
        let piece = number.to_le_bytes().repeat(POSTED_BYTES_MAX / 4);
        if line.send_now(&piece).unwrap() != Sent::All {
            break;
        }
        sent.extend_from_slice(&piece);
        line.outbox.flush();
    }
    assert!(line.pushed.get() && !line.is_clear());
    sent
}

async fn gone(line: &Weak<Line>) {
    while line.strong_count() > 0 {
        pause().await;
    }
}

#[test]
fn the_pieces_of_a_turn_go_out_at_its_end_and_in_order() {
    on_both_drivers(async |outbox| {
        let (first, mut first_peer) = line(&outbox).await;
        let (second, mut second_peer) = line(&outbox).await;
        for (line, piece) in [(&first, b"one"), (&second, b"two"), (&first, b"six")] {
            assert_eq!(line.send_now(piece).unwrap(), Sent::All);
        }
        assert!(!first.is_clear() && !second.is_clear());
        assert_eq!(arrived(&mut first_peer), b"");
        pause().await;
        assert!(first.is_clear() && second.is_clear());
        assert_eq!(arrived(&mut first_peer), b"onesix");
        assert_eq!(arrived(&mut second_peer), b"two");
        assert_eq!(first.send_now(b"").unwrap(), Sent::All);
        assert!(first.is_clear(), "nothing is no piece");
    });
}

#[test]
fn a_large_piece_does_not_overtake_a_small_one() {
    on_both_drivers(async |outbox| {
        let (line, mut peer) = line(&outbox).await;
        line.send_now(b"small").unwrap();
        let large = vec![b'x'; POSTED_BYTES_MAX + 1];
        assert_eq!(line.send_now(&large).unwrap(), Sent::All);
        assert_eq!(arrived(&mut peer), [b"small".as_slice(), &large].concat());
    });
}

#[test]
fn many_pieces_do_not_wait_for_the_end_of_a_turn() {
    on_both_drivers(async |outbox| {
        let (line, mut peer) = line(&outbox).await;
        for _ in 0..HELD_PIECES_MAX {
            line.send_now(b"x").unwrap();
        }
        assert_eq!(arrived(&mut peer).len(), HELD_PIECES_MAX);
        let piece = [b'x'; POSTED_BYTES_MAX];
        for _ in 0..HELD_BYTES_MAX / POSTED_BYTES_MAX {
            line.send_now(&piece).unwrap();
        }
        assert_eq!(arrived(&mut peer).len(), HELD_BYTES_MAX);
        assert!(outbox.posted.borrow().bytes.capacity() <= 2 * HELD_BYTES_MAX);
    });
}

#[test]
fn without_its_task_pieces_go_out_at_once() {
    on_both_drivers(async |_| {
        let (line, mut peer) = line(&Rc::default()).await;
        line.send_now(b"piece").unwrap();
        assert_eq!(arrived(&mut peer), b"piece");
    });
}

#[test]
fn what_a_full_socket_does_not_take_is_pushed_after_it() {
    on_both_drivers(async |outbox| {
        let (line, mut peer) = line(&outbox).await;
        let mut sent = fill(&line);
        // Nothing is added to what is pushed: who sends waits.
        assert_eq!(line.send_now(b"more").unwrap(), Sent::Part(0));
        let waiting = Rc::clone(&line);
        let last = monoio::spawn(async move { waiting.send_waiting(b"last".to_vec()).await });
        let mut read = Vec::new();
        while !read.ends_with(b"last") {
            read.extend(arrived(&mut peer));
            pause().await;
        }
        sent.extend_from_slice(b"last");
        assert!(read == sent, "{} and {} bytes", read.len(), sent.len());
        last.await.unwrap();
        line.settled().await.unwrap();
        assert!(line.is_clear());
    });
}

#[test]
fn who_leaves_sends_what_is_posted_and_gives_up_what_is_pushed() {
    on_both_drivers(async |outbox| {
        let (posting, mut peer) = line(&outbox).await;
        posting.send_now(b"posted").unwrap();
        posting.leave();
        drop(posting);
        assert_eq!(arrived(&mut peer), b"posted");

        let (pushing, mut peer) = line(&outbox).await;
        let sent = fill(&pushing);
        pushing.leave();
        let weak = Rc::downgrade(&pushing);
        drop(pushing);
        gone(&weak).await;
        let mut read = Vec::new();
        while read.len() < sent.len() {
            let more = arrived(&mut peer);
            if more.is_empty() && matches!(peer.read(&mut [0]), Ok(0)) {
                break;
            }
            read.extend(more);
            pause().await;
        }
        assert!(read.len() < sent.len() && sent.starts_with(&read));
    });
}

#[test]
fn a_send_that_fails_ends_the_connection_for_whoever_reads_from_it() {
    on_both_drivers(async |outbox| {
        let (line, mut reader, peer) = line_and_reader(&outbox).await;
        drop(peer);
        // The first piece is answered by a reset, which the second one meets.
        for _ in 0..2 {
            let _ = line.send_now(b"piece");
            pause().await;
        }
        assert!(line.send_now(b"piece").is_err());
        assert!(line.settled().await.is_err() && !line.is_clear());
        assert!(line.send_waiting(b"piece".to_vec()).await.is_err());
        let (read, _) = reader.read(vec![0]).await;
        assert_eq!(read.unwrap_or_default(), 0);
    });
}
