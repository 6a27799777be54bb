//! One TCP connection, plain or TLS, as a reader that is polled and a writer that sends; or what
//! stands in for one where a request came within another connection.
//!
//! A read stays in flight while something else happens: that is how a hang-up is noticed. It
//! owns its buffer until it completes, so nothing is lost when the task looks elsewhere; it is
//! dropped only together with the connection.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use monoio::{
    buf::IoBufMut,
    io::{AsyncReadRent, OwnedReadHalf, Splitable},
    net::TcpStream,
};

use super::{
    outbox::{Line, Outbox, Sent},
    tls::Session,
};
use crate::sys::socket;

/// A connection split into its two directions.
pub struct Stream {
    /// What arrives.
    pub reader: Reader,
    /// What is sent.
    pub writer: Writer,
}

impl Stream {
    /// Wraps a connected socket, whose small sends go by `outbox`.
    pub fn plain(socket: TcpStream, outbox: &Rc<Outbox>) -> Self {
        // Small writes go out at once, both sides; a failure costs latency, not correctness.
        let _ = socket.set_nodelay(true);
        let fd = socket.as_raw_fd();
        let (read, write) = socket.into_split();
        Self {
            reader: Reader {
                slot: new_slot(),
                half: Some(read),
                tls: None,
                done: None,
            },
            writer: Writer {
                way: Way::Plain(Line::new(fd, write, outbox)),
                sealed: Vec::new(),
            },
        }
    }

    /// What stands in for a connection: nothing is read from it but the caller's end, and what is
    /// sent goes to `sink`.
    pub fn within(sink: Rc<dyn Sink>) -> Self {
        Self {
            reader: Reader {
                slot: Box::new(Watch(Rc::clone(&sink))),
                half: None,
                tls: None,
                done: None,
            },
            writer: Writer {
                way: Way::Within(sink),
                sealed: Vec::new(),
            },
        }
    }

    /// Puts a TLS session, its handshake done, on top of a plain stream.
    #[must_use]
    pub fn secured(mut self, session: Session) -> Self {
        let session = Rc::new(RefCell::new(session));
        self.reader.tls = Some(Box::new(TlsReader {
            session: Rc::clone(&session),
            sealed: Some(Vec::new()),
            fed: 0,
            plain: None,
        }));
        if let Way::Plain(line) | Way::Tls { line, .. } = &self.writer.way {
            let line = Rc::clone(line);
            self.writer.way = Way::Tls { line, session };
        }
        self
    }

    /// The socket's descriptor, for peeks and options.
    pub fn fd(&self) -> RawFd {
        self.writer.line().map_or(NO_SOCKET, |line| line.fd())
    }
}

/// The descriptor of a stream that is none: never handed to the system, since what stands in for a
/// connection always has a read in flight.
const NO_SOCKET: RawFd = -1;

/// Where an answer goes that has no connection of its own.
pub trait Sink {
    /// Takes all of `bytes`, or none of them and wakes the task when there may be room.
    fn poll_take(&self, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ready when the caller has gone; wakes the task then.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// The answer ends here, and is not whole.
    fn cut(&self);
}

/// What a read brought: how many bytes were appended, and the buffer.
pub type ReadResult = (io::Result<usize>, Vec<u8>);

/// The receiving direction.
pub struct Reader {
    slot: Box<dyn Slot>,
    /// Present while no read is in flight.
    half: Option<OwnedReadHalf<TcpStream>>,
    tls: Option<Box<TlsReader>>,
    /// A completed read whose result nobody has taken yet.
    done: Option<ReadResult>,
}

struct TlsReader {
    session: Rc<RefCell<Session>>,
    /// Buffer for ciphertext, while it is not with the kernel.
    sealed: Option<Vec<u8>>,
    /// How much of it the session has taken.
    fed: usize,
    /// The caller's buffer, from `arm` to completion.
    plain: Option<Vec<u8>>,
}

/// Ciphertext read at once: one TLS record of the greatest size, with its header and tag.
const SEALED_BYTES: usize = 16 * 1024 + 256;

impl Reader {
    /// Says whether a read is in flight.
    pub fn is_armed(&self) -> bool {
        if self.done.is_some() {
            return true;
        }
        match &self.tls {
            Some(tls) => tls.plain.is_some(),
            None => self.half.is_none(),
        }
    }

    /// Starts a read that appends to `buffer`, at most up to its capacity. Does nothing but hand
    /// the buffer back if a read is in flight already.
    pub fn arm(&mut self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        if self.is_armed() || buffer.len() == buffer.capacity() {
            return Some(buffer);
        }
        match &mut self.tls {
            Some(tls) => tls.plain = Some(buffer),
            None => self.arm_socket(buffer),
        }
        None
    }

    fn arm_socket(&mut self, buffer: Vec<u8>) {
        if let Some(half) = self.half.take() {
            self.slot.start(half, buffer);
        }
    }

    /// Polls the read in flight; ready with the buffer when it completed. Pending for ever if
    /// none is in flight.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ReadResult> {
        if let Some(done) = self.done.take() {
            return Poll::Ready(done);
        }
        match self.tls.take() {
            None => self.poll_socket(cx),
            Some(mut tls) => {
                let polled = self.poll_tls(&mut tls, cx);
                self.tls = Some(tls);
                polled
            }
        }
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<ReadResult> {
        if self.half.is_some() {
            return Poll::Pending;
        }
        let Poll::Ready((half, result, buffer)) = self.slot.poll(cx) else {
            return Poll::Pending;
        };
        self.half = half;
        Poll::Ready((result, buffer))
    }

    fn poll_tls(&mut self, tls: &mut TlsReader, cx: &mut Context<'_>) -> Poll<ReadResult> {
        let Some(mut plain) = tls.plain.take() else {
            return Poll::Pending;
        };
        loop {
            match tls.session.borrow_mut().open_into(&mut plain) {
                Ok(None) => {}
                Ok(Some(bytes)) => return Poll::Ready((Ok(bytes), plain)),
                Err(error) => return Poll::Ready((Err(error), plain)),
            }
            if let Some(mut sealed) = tls.sealed.take() {
                if let Some(rest) = sealed.get(tls.fed..).filter(|rest| !rest.is_empty()) {
                    let fed = tls.session.borrow_mut().feed(rest);
                    tls.sealed = Some(sealed);
                    match fed {
                        Ok(bytes) => tls.fed += bytes,
                        Err(error) => return Poll::Ready((Err(error), plain)),
                    }
                    continue;
                }
                sealed.clear();
                sealed.reserve_exact(SEALED_BYTES);
                self.arm_socket(sealed);
            }
            let Poll::Ready((result, sealed)) = self.poll_socket(cx) else {
                tls.plain = Some(plain);
                return Poll::Pending;
            };
            tls.sealed = Some(sealed);
            tls.fed = 0;
            let ended = match result {
                Ok(0) => tls.session.borrow_mut().end_of_input(),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                return Poll::Ready((Err(error), plain));
            }
        }
    }

    /// Says whether the read in flight has completed, without taking its result; if not, the task
    /// is woken when it has.
    pub fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        if self.done.is_none()
            && let Poll::Ready(done) = self.poll(cx)
        {
            self.done = Some(done);
        }
        self.done.is_some()
    }

    /// Says whether the read in flight has brought nothing so far, not even an end. Nobody is woken
    /// when it does: who keeps an idle connection asks again.
    pub fn is_quiet(&mut self) -> bool {
        !self.is_ready(&mut Context::from_waker(Waker::noop()))
    }

    /// Reads once into `buffer` and waits for it.
    pub async fn read(&mut self, buffer: Vec<u8>) -> ReadResult {
        if let Some(buffer) = self.arm(buffer) {
            return (Err(io::ErrorKind::WouldBlock.into()), buffer);
        }
        poll_fn(|cx| self.poll(cx)).await
    }
}

/// The sending direction. Dropped, it gives up what the socket has not taken.
pub struct Writer {
    way: Way,
    /// Ciphertext on its way out, kept for its allocation.
    sealed: Vec<u8>,
}

/// Which way bytes go out.
enum Way {
    Plain(Rc<Line>),
    Tls {
        line: Rc<Line>,
        session: Rc<RefCell<Session>>,
    },
    Within(Rc<dyn Sink>),
}

/// Plaintext sealed at a time, so that a large body is not held twice.
const SEAL_BYTES: usize = 64 * 1024;

impl Writer {
    /// Sends a small piece, given in parts, here and now. False: it cannot be, and nothing was done.
    pub fn post(&self, parts: &[&[u8]]) -> io::Result<bool> {
        match &self.way {
            Way::Plain(line) => line.post(parts),
            Way::Tls { .. } | Way::Within(_) => Ok(false),
        }
    }

    /// Sends all of `bytes`. Most sends end here and now: small ones are posted, and others the
    /// socket's buffer takes in one system call. What it does not take waits in the ring.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = match &self.way {
            Way::Plain(line) => line.send_now(bytes)?,
            Way::Tls { .. } | Way::Within(_) => Sent::Part(0),
        };
        match sent {
            Sent::All => Ok(()),
            // Boxed: a full socket is rare, and every exchange carries the size of this future.
            Sent::Part(sent) => {
                let rest = bytes.get(sent..).unwrap_or_default();
                Box::pin(self.send_rest(rest)).await
            }
        }
    }

    async fn send_rest(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (line, session) = match &self.way {
            Way::Plain(line) => return line.send_waiting(bytes.to_vec()).await,
            Way::Tls { line, session } => (line, session),
            Way::Within(sink) => return poll_fn(|cx| sink.poll_take(bytes, cx)).await,
        };
        for part in bytes.chunks(SEAL_BYTES) {
            self.sealed.clear();
            session.borrow_mut().seal_into(part, &mut self.sealed)?;
            send_sealed(line, &self.sealed).await?;
        }
        self.sealed.clear();
        Ok(())
    }

    /// Sends what the TLS session wants to say: handshake messages, alerts.
    pub async fn flush(&mut self, session: &mut Session) -> io::Result<()> {
        self.sealed.clear();
        session.take_output(&mut self.sealed)?;
        match self.line() {
            Some(line) => send_sealed(line, &self.sealed).await,
            None => Ok(()),
        }
    }

    /// Waits until the system has all that was sent. Only then may the connection be closed, which
    /// gives up the rest.
    pub async fn settled(&self) -> io::Result<()> {
        match self.line() {
            Some(line) => line.settled().await,
            None => Ok(()),
        }
    }

    /// Says whether the system has all that was sent.
    pub fn is_clear(&self) -> bool {
        self.line().is_none_or(|line| line.is_clear())
    }

    /// Says that no more will be sent (TLS: with the closing alert).
    pub async fn finish(&mut self) {
        if let Way::Tls { line, session } = &self.way {
            self.sealed.clear();
            session.borrow_mut().close_into(&mut self.sealed);
            let _ = send_sealed(line, &self.sealed).await;
        }
        if let Some(line) = self.line()
            && line.settled().await.is_ok()
        {
            let _ = socket::shutdown_write(line.fd());
        }
    }

    /// Resets the connection, which is of no use then.
    pub fn reset(&self) {
        match &self.way {
            Way::Plain(line) | Way::Tls { line, .. } => {
                line.leave();
                socket::reset(line.fd());
            }
            Way::Within(sink) => sink.cut(),
        }
    }

    fn line(&self) -> Option<&Rc<Line>> {
        match &self.way {
            Way::Plain(line) | Way::Tls { line, .. } => Some(line),
            Way::Within(_) => None,
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(line) = self.line() {
            line.leave();
        }
    }
}

async fn send_sealed(line: &Rc<Line>, sealed: &[u8]) -> io::Result<()> {
    match line.send_now(sealed)? {
        Sent::All => Ok(()),
        Sent::Part(sent) => {
            let rest = sealed.get(sent..).unwrap_or_default().to_vec();
            line.send_waiting(rest).await
        }
    }
}

/// Storage for the future of one read, kept for the connection's life so that a read allocates
/// nothing. The future's type has no name, hence the trait object.
trait Slot {
    fn start(&mut self, half: OwnedReadHalf<TcpStream>, buffer: Vec<u8>);
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ReadDone>;
}

type ReadDone = (Option<OwnedReadHalf<TcpStream>>, io::Result<usize>, Vec<u8>);

/// The read of a stream that is none: in flight until the caller goes.
struct Watch(Rc<dyn Sink>);

impl Slot for Watch {
    fn start(&mut self, _half: OwnedReadHalf<TcpStream>, _buffer: Vec<u8>) {}

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ReadDone> {
        let gone = self.0.poll_gone(cx);
        gone.map(|()| (None, Ok(0), Vec::new()))
    }
}

struct FutureSlot<F, M> {
    future: Pin<Box<Option<F>>>,
    make: M,
}

impl<F, M> Slot for FutureSlot<F, M>
where
    F: Future<Output = ReadDone>,
    M: Fn(OwnedReadHalf<TcpStream>, Vec<u8>) -> F,
{
    fn start(&mut self, half: OwnedReadHalf<TcpStream>, buffer: Vec<u8>) {
        let future = (self.make)(half, buffer);
        self.future.as_mut().set(Some(future));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ReadDone> {
        let Some(future) = self.future.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let Poll::Ready(done) = future.poll(cx) else {
            return Poll::Pending;
        };
        self.future.as_mut().set(None);
        Poll::Ready(done)
    }
}

fn new_slot() -> Box<dyn Slot> {
    fn boxed<F, M>(make: M) -> Box<dyn Slot>
    where
        F: Future<Output = ReadDone> + 'static,
        M: Fn(OwnedReadHalf<TcpStream>, Vec<u8>) -> F + 'static,
    {
        Box::new(FutureSlot {
            future: Box::pin(None),
            make,
        })
    }
    boxed(
        async |mut half: OwnedReadHalf<TcpStream>, buffer: Vec<u8>| {
            let (from, to) = (buffer.len(), buffer.capacity());
            let (result, slice) = half.read(buffer.slice_mut(from..to)).await;
            (Some(half), result, slice.into_inner())
        },
    )
}
