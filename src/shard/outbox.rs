//! What a shard sends in small pieces goes out together, when everybody had his turn.
//!
//! A turn serves all connections on which something has come. Were each answer sent when it is ready,
//! the system's code and the shard's own would push each other out of the processor's caches once
//! for each, and a peer on the same machine would sleep in between and be woken again. So a [`Line`]
//! posts what is small, by copy; [`Outbox::run`], a task that the first piece wakes, comes behind all
//! tasks that were ready then, and sends what they posted, in order, before the shard sleeps. What is
//! large goes out at once.
//!
//! To post is to have sent, as far as a sender can tell at all: a socket's buffer takes bytes, too,
//! that never arrive. What the socket does not take in the end is pushed after it by a task of its own;
//! the next send on that line waits for it. Where a send fails, the connection is shut down both ways,
//! so that who waits for an answer over it hears of its end.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io, mem,
    os::fd::RawFd,
    rc::Rc,
    task::{Poll, Waker},
};

use monoio::{
    buf::IoBuf,
    io::{AsyncWriteRent, OwnedWriteHalf},
    net::TcpStream,
};

use crate::sys::socket;

/// Pieces up to this size are posted.
const POSTED_BYTES_MAX: usize = 8 * 1024;

/// Bytes, and pieces, after which a turn's sends are made without waiting for its end: what so many
/// pieces take to be sent, the first of them waits.
const HELD_BYTES_MAX: usize = 256 * 1024;
const HELD_PIECES_MAX: usize = 64;

/// The small sends of a turn.
#[derive(Default)]
pub struct Outbox {
    posted: RefCell<Posted>,
}

#[derive(Default)]
struct Posted {
    /// The pieces, one behind the other.
    bytes: Vec<u8>,
    /// Whose they are, and where each ends.
    pieces: Vec<(Rc<Line>, usize)>,
    /// Wakes [`Outbox::run`]; `None` while that does not run.
    sender: Option<Waker>,
    /// It is woken already.
    called: bool,
}

impl Outbox {
    /// Sends what is posted, turn by turn, and does what else waits for a turn's end. Never ends. While it
    /// does not run, pieces go out at once.
    pub async fn run(&self, also: impl Fn()) {
        /// Ends the posting also where it ends in a panic.
        struct Running<'o>(&'o Outbox);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.posted.borrow_mut().sender = None;
            }
        }
        let _running = Running(self);
        poll_fn(|cx| {
            self.flush();
            also();
            self.posted.borrow_mut().called = false;
            self.posted.borrow_mut().sender = Some(cx.waker().clone());
            Poll::<()>::Pending
        })
        .await;
    }

    /// Has [`Outbox::run`] come at the end of the turn; false: it does not run.
    pub fn call(&self) -> bool {
        let mut posted = self.posted.borrow_mut();
        let first = !mem::replace(&mut posted.called, true);
        let Some(sender) = &posted.sender else {
            return false;
        };
        if first {
            sender.wake_by_ref();
        }
        true
    }

    /// Sends what is posted.
    pub fn flush(&self) {
        let mut posted = self.posted.borrow_mut();
        let mut bytes = mem::take(&mut posted.bytes);
        let mut pieces = mem::take(&mut posted.pieces);
        drop(posted);
        let mut start = 0;
        for (line, end) in pieces.drain(..) {
            line.send_posted(bytes.get(start..end).unwrap_or_default());
            start = end;
        }
        bytes.clear();
        let mut posted = self.posted.borrow_mut();
        posted.bytes = bytes;
        posted.pieces = pieces;
    }

    /// Posts a piece, given in parts.
    fn post(&self, line: &Rc<Line>, parts: &[&[u8]]) {
        let mut posted = self.posted.borrow_mut();
        for part in parts {
            posted.bytes.extend_from_slice(part);
        }
        let end = posted.bytes.len();
        posted.pieces.push((Rc::clone(line), end));
        line.posted.set(true);
        let full = end >= HELD_BYTES_MAX || posted.pieces.len() >= HELD_PIECES_MAX;
        drop(posted);
        if full || !self.call() {
            self.flush();
        }
    }
}

/// The sending direction of one TCP connection.
pub struct Line {
    fd: RawFd,
    outbox: Rc<Outbox>,
    /// Absent while a task pushes, or after a send that was given up.
    half: RefCell<Option<OwnedWriteHalf<TcpStream>>>,
    /// Something of it is in the outbox.
    posted: Cell<bool>,
    /// What the socket did not take of it; a task pushes that.
    rest: RefCell<Vec<u8>>,
    pushed: Cell<bool>,
    failed: Cell<Option<io::ErrorKind>>,
    /// Who waits for that task's end.
    waiting: Cell<Option<Waker>>,
}

/// How much a socket took at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Everything.
    All,
    /// The first so many bytes.
    Part(usize),
}

impl Line {
    /// The sending direction of the socket `fd`, which `half` is.
    pub fn new(fd: RawFd, half: OwnedWriteHalf<TcpStream>, outbox: &Rc<Outbox>) -> Rc<Self> {
        Rc::new(Self {
            fd,
            outbox: Rc::clone(outbox),
            half: RefCell::new(Some(half)),
            posted: Cell::new(false),
            rest: RefCell::default(),
            pushed: Cell::new(false),
            failed: Cell::new(None),
            waiting: Cell::new(None),
        })
    }

    /// The socket's descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Says whether all that was sent is with the system.
    pub fn is_clear(&self) -> bool {
        !self.posted.get() && !self.pushed.get() && self.failed.get().is_none()
    }

    /// Posts a piece, given in parts. False: it is none to be posted, and nothing was done.
    pub fn post(self: &Rc<Self>, parts: &[&[u8]]) -> io::Result<bool> {
        self.failure()?;
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes > POSTED_BYTES_MAX || self.pushed.get() {
            return Ok(false);
        }
        if bytes > 0 {
            self.outbox.post(self, parts);
        }
        Ok(true)
    }

    /// Sends, or posts, what can be without waiting.
    pub fn send_now(self: &Rc<Self>, bytes: &[u8]) -> io::Result<Sent> {
        if self.post(&[bytes])? {
            return Ok(Sent::All);
        }
        if self.posted.get() {
            self.outbox.flush();
            self.failure()?;
        }
        if self.pushed.get() {
            return Ok(Sent::Part(0));
        }
        send_now(self.fd, bytes)
    }

    /// Sends all of `rest`, waiting for room, behind what is on its way.
    pub async fn send_waiting(self: &Rc<Self>, rest: Vec<u8>) -> io::Result<()> {
        self.settled().await?;
        let half = self.half.borrow_mut().take();
        let mut half = half.ok_or(io::ErrorKind::NotConnected)?;
        let sent = write_all(&mut half, rest).await;
        // A send that is dropped before this has left a part of a message: nothing may follow it.
        *self.half.borrow_mut() = Some(half);
        sent
    }

    /// Waits until all that was sent is with the system.
    pub async fn settled(&self) -> io::Result<()> {
        if self.posted.get() {
            self.outbox.flush();
        }
        if self.pushed.get() {
            poll_fn(|cx| {
                if self.pushed.get() {
                    self.waiting.set(Some(cx.waker().clone()));
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
        }
        self.failure()
    }

    /// Sends what is posted. Its sender does without the rest of what is on its way.
    pub fn leave(&self) {
        if self.posted.get() {
            self.outbox.flush();
        }
        if self.pushed.get() {
            // The task that pushes hears of it, and ends.
            let _ = socket::shutdown_both(self.fd);
        }
    }

    fn failure(&self) -> io::Result<()> {
        self.failed.get().map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn fail(&self, error: &io::Error) {
        self.failed.set(Some(error.kind()));
        let _ = socket::shutdown_both(self.fd);
    }

    fn send_posted(self: &Rc<Self>, piece: &[u8]) {
        self.posted.set(false);
        if self.failed.get().is_some() {
            return;
        }
        if self.pushed.get() {
            self.rest.borrow_mut().extend_from_slice(piece);
            return;
        }
        match send_now(self.fd, piece) {
            Ok(Sent::All) => {}
            Ok(Sent::Part(sent)) => {
                let rest = piece.get(sent..).unwrap_or_default();
                self.rest.borrow_mut().extend_from_slice(rest);
                self.pushed.set(true);
                drop(monoio::spawn(Rc::clone(self).push()));
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Pushes what the socket did not take.
    async fn push(self: Rc<Self>) {
        let half = self.half.borrow_mut().take();
        if let Some(mut half) = half {
            loop {
                let rest = mem::take(&mut *self.rest.borrow_mut());
                if rest.is_empty() {
                    break;
                }
                if let Err(error) = write_all(&mut half, rest).await {
                    self.fail(&error);
                    break;
                }
            }
            *self.half.borrow_mut() = Some(half);
        }
        self.pushed.set(false);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

async fn write_all(half: &mut OwnedWriteHalf<TcpStream>, mut bytes: Vec<u8>) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        let (result, slice) = half.write(bytes.slice(sent..)).await;
        bytes = slice.into_inner();
        match result {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => sent += taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn send_now(fd: RawFd, bytes: &[u8]) -> io::Result<Sent> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match socket::send_now(fd, rest) {
            Ok(taken) => sent += taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Sent::Part(sent)),
            Err(error) => return Err(error),
        }
    }
    Ok(Sent::All)
}

#[cfg(test)]
mod tests;
