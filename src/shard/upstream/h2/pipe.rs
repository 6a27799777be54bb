//! The bytes of one connection, as the HTTP/2 client reads and writes them.
//!
//! Reads come from the connection's own [`Reader`], whose read in flight owns its buffer, so a
//! read that is dropped loses nothing. Writes are gathered in an [`Outbox`]; the connection's
//! task sends what a turn has gathered at once, so that the head of a frame does not travel
//! without its body.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    rc::Rc,
    task::Poll,
};

use monoio::{
    BufResult,
    buf::{IoBuf, IoBufMut, IoVecBuf, IoVecBufMut},
    io::{AsyncReadRent, AsyncWriteRent},
};

use crate::{
    shard::stream::{Reader, Writer},
    sys::buffer::bytes_of,
};

/// Plaintext read at once: the content of one TLS record of the greatest size.
const READ_BYTES: usize = 16 * 1024;

/// Bytes that may wait to be sent; who writes more waits for the socket.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// Both directions, for the HTTP/2 client.
pub(super) struct Pipe {
    reader: Reader,
    /// What was read, of which the client has taken `taken` bytes.
    held: Vec<u8>,
    taken: usize,
    heard: Rc<Cell<u64>>,
    heads: HeadWatch,
    outbox: Rc<Outbox>,
}

impl Pipe {
    /// Makes the pipe of a connection. `heard` counts the bytes that arrive; `head_bytes` bounds
    /// a head.
    pub(super) fn new(
        reader: Reader,
        heard: Rc<Cell<u64>>,
        head_bytes: usize,
        outbox: Rc<Outbox>,
    ) -> Self {
        Self {
            heads: HeadWatch::new(head_bytes),
            reader,
            held: Vec::with_capacity(READ_BYTES),
            taken: 0,
            heard,
            outbox,
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        let mut space = std::mem::take(&mut self.held);
        space.clear();
        self.taken = 0;
        let (result, held) = self.reader.read(space).await;
        self.held = held;
        self.heard
            .set(self.heard.get().wrapping_add(result? as u64));
        self.heads.look(&self.held)
    }
}

/// Watches for heads without end. The client reads frame after frame of one without a bound, and
/// meanwhile nothing else of the connection.
struct HeadWatch {
    /// The frame header that is arriving.
    header: [u8; FRAME_HEADER_BYTES],
    /// How much of it has arrived.
    arrived: usize,
    /// Bytes of the frame's content that are still to come.
    left: usize,
    /// Bytes of the head that is arriving, its frames' headers included.
    head: usize,
    most: usize,
}

/// RFC 9113 section 4.1.
const FRAME_HEADER_BYTES: usize = 9;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

impl HeadWatch {
    /// `head_bytes` bounds a head as it reads; a head on its way is allowed twice that, so that the
    /// client, which ends no more than the stream, comes first.
    fn new(head_bytes: usize) -> Self {
        Self {
            header: [0; FRAME_HEADER_BYTES],
            arrived: 0,
            left: 0,
            head: 0,
            most: head_bytes.saturating_mul(2),
        }
    }

    /// Looks at the next bytes that arrived.
    fn look(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let passed = self.left.min(bytes.len());
            self.left -= passed;
            bytes = bytes.get(passed..).unwrap_or_default();
            let Some((first, rest)) = bytes.split_first() else {
                return Ok(());
            };
            if let Some(place) = self.header.get_mut(self.arrived) {
                *place = *first;
            }
            self.arrived += 1;
            bytes = rest;
            if self.arrived == FRAME_HEADER_BYTES {
                self.arrived = 0;
                self.begin_frame()?;
            }
        }
    }

    fn begin_frame(&mut self) -> io::Result<()> {
        let [high, middle, low, kind, ..] = self.header;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let bytes = FRAME_HEADER_BYTES + self.left;
        self.head = match kind {
            HEADERS | PUSH_PROMISE => bytes,
            CONTINUATION => self.head.saturating_add(bytes),
            _ => 0,
        };
        if self.head > self.most {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a head is larger than the limit",
            ));
        }
        Ok(())
    }
}

impl AsyncReadRent for Pipe {
    async fn read<T: IoBufMut>(&mut self, buffer: T) -> BufResult<usize, T> {
        if self.taken == self.held.len()
            && let Err(error) = self.fill().await
        {
            return (Err(error), buffer);
        }
        let mut rest = self.held.get(self.taken..).unwrap_or_default();
        let (result, buffer) = rest.read(buffer).await;
        self.taken = self.held.len() - rest.len();
        (result, buffer)
    }

    async fn readv<T: IoVecBufMut>(&mut self, buffers: T) -> BufResult<usize, T> {
        (Err(io::ErrorKind::Unsupported.into()), buffers)
    }
}

impl AsyncWriteRent for Pipe {
    async fn write<T: IoBuf>(&mut self, buffer: T) -> BufResult<usize, T> {
        let result = poll_fn(|_| self.outbox.poll_put(bytes_of(&buffer))).await;
        (result, buffer)
    }

    async fn writev<T: IoVecBuf>(&mut self, buffers: T) -> BufResult<usize, T> {
        (Err(io::ErrorKind::Unsupported.into()), buffers)
    }

    /// Done at once: the connection's task sends after each turn, asked or not.
    async fn flush(&mut self) -> io::Result<()> {
        self.outbox.check()
    }

    /// Done at once: the connection's task closes the socket at its end.
    async fn shutdown(&mut self) -> io::Result<()> {
        self.outbox.check()
    }
}

/// Bytes on their way out. Filled and emptied by one task, which looks at both sides whenever it
/// runs; so nobody has to be woken here.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: RefCell<Vec<u8>>,
    /// Somebody waits for room.
    wanted: Cell<bool>,
    broken: Cell<bool>,
}

impl Outbox {
    fn check(&self) -> io::Result<()> {
        if self.broken.get() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    fn poll_put(&self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        let mut waiting = self.bytes.borrow_mut();
        if waiting.len() >= OUTBOX_BYTES_MAX {
            self.wanted.set(true);
            return Poll::Pending;
        }
        waiting.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Says, once, whether somebody who waited for room has it now.
    pub(super) fn has_made_room(&self) -> bool {
        let room = self.bytes.borrow().len() < OUTBOX_BYTES_MAX;
        room && self.wanted.take()
    }

    /// Sends what comes, until a send fails.
    pub(super) async fn send_all(&self, writer: &mut Writer) {
        let mut out = Vec::new();
        loop {
            poll_fn(|_| self.poll_take(&mut out)).await;
            let sent = writer.send(&out).await;
            out.clear();
            if sent.is_err() {
                self.broken.set(true);
                return;
            }
        }
    }

    fn poll_take(&self, out: &mut Vec<u8>) -> Poll<()> {
        let mut waiting = self.bytes.borrow_mut();
        if waiting.is_empty() {
            return Poll::Pending;
        }
        std::mem::swap(&mut *waiting, out);
        Poll::Ready(())
    }

    /// What still waits to be sent.
    pub(super) fn take_rest(&self) -> Vec<u8> {
        self.bytes.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_outbox_lets_nobody_in_until_it_was_emptied() {
        let outbox = Outbox::default();
        let most = vec![0; OUTBOX_BYTES_MAX];
        assert!(matches!(
            outbox.poll_put(&most),
            Poll::Ready(Ok(OUTBOX_BYTES_MAX))
        ));
        assert!(!outbox.has_made_room());
        assert!(outbox.poll_put(b"x").is_pending());
        assert!(!outbox.has_made_room());
        let mut out = Vec::new();
        assert!(outbox.poll_take(&mut out).is_ready());
        assert_eq!(out.len(), OUTBOX_BYTES_MAX);
        assert!(outbox.has_made_room());
        assert!(!outbox.has_made_room(), "it is said once");
        assert!(matches!(outbox.poll_put(b"x"), Poll::Ready(Ok(1))));
    }

    fn frame(kind: u8, bytes: usize) -> Vec<u8> {
        let length = u32::try_from(bytes).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend_from_slice(&[kind, 0, 0, 0, 0, 1]);
        // Content that reads like the header of a frame.
        frame.extend((0..bytes).map(|_| CONTINUATION));
        frame
    }

    #[test]
    fn a_head_without_end_is_an_error_however_its_frames_are_cut() {
        const DATA: u8 = 0;
        let good = [
            frame(DATA, 16_384),
            frame(HEADERS, 900),
            frame(CONTINUATION, 1000),
            frame(DATA, 5000),
            frame(HEADERS, 1000),
            frame(CONTINUATION, 0),
            frame(CONTINUATION, 900),
            frame(PUSH_PROMISE, 1900),
        ]
        .concat();
        let small: Vec<u8> = (0..230).flat_map(|_| frame(CONTINUATION, 0)).collect();
        for bad in [frame(CONTINUATION, 200), small] {
            for cut in [1, 7, 1000, usize::MAX] {
                let mut watch = HeadWatch::new(1000);
                for piece in good.chunks(cut) {
                    watch.look(piece).unwrap();
                }
                let looked = bad.chunks(cut).try_for_each(|piece| watch.look(piece));
                assert!(looked.is_err(), "{cut}");
            }
        }
    }

    #[test]
    fn a_broken_outbox_takes_nothing() {
        let outbox = Outbox::default();
        outbox.broken.set(true);
        assert!(matches!(outbox.poll_put(b"x"), Poll::Ready(Err(_))));
    }
}
