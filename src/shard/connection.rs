//! One connection from downstream: exchange after exchange.
//!
//! Between exchanges a connection is a small future, a buffer of 4 KB with the kernel and a
//! deadline: that is what ten thousand idle callers cost. An exchange's own future is boxed and
//! lives from its head to its end.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    os::fd::RawFd,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    Shard,
    clock::{Clock, Deadline, Lookout},
    exchange,
    relay::After,
    remembered::Remembered,
    reply::{self, Refusal},
    stream::{Reader, Stream, Writer},
};
use crate::{
    http::head::{HeadError, HeadMemo, HeadScan},
    sys::socket,
};

/// The caller's side of an exchange.
pub struct Downstream {
    /// What the caller sends, read ahead.
    pub inlet: Inlet,
    /// What goes to the caller.
    pub writer: Writer,
    /// What this connection waits for must come before this.
    pub deadline: Deadline,
    /// The listener is on a loopback address.
    pub loopback: bool,
    /// The listener is the one for management.
    pub admin: bool,
    /// The last request's head.
    pub memo: HeadMemo,
    /// What that came to.
    pub remembered: Remembered,
}

/// The receiving side: bytes that have arrived, and the read in flight that brings more or tells
/// of a hang-up.
pub struct Inlet {
    reader: Reader,
    /// What has arrived and was not wholly consumed. A read in flight owns another buffer, unless
    /// there is nothing here: then it owns this one.
    input: Vec<u8>,
    /// How much of it was consumed: less than all.
    consumed: usize,
    gone: bool,
    /// While this is set, what runs goes on without the caller.
    stays: Option<Rc<Cell<bool>>>,
    /// The socket, looked at every few ticks while no read may be in flight.
    fd: RawFd,
    lookout: Lookout,
}

/// Bytes read ahead while an exchange runs. Beyond this the socket is looked at every few ticks.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

/// Why waiting ended before what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// The caller went away, or closed its sending side.
    Gone,
    /// The deadline passed.
    Late,
}

impl Inlet {
    /// Waits for more input; the number of bytes that came is not told, [`Inlet::input`] is.
    pub fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Interrupt>> {
        if self.gone {
            return Poll::Ready(Err(Interrupt::Gone));
        }
        if !self.reader.is_armed() {
            self.arm();
        }
        let Poll::Ready((result, read)) = self.reader.poll(cx) else {
            return Poll::Pending;
        };
        if self.input.is_empty() {
            self.input = read;
        } else {
            self.input.drain(..self.consumed);
            self.consumed = 0;
            self.input.extend_from_slice(&read);
        }
        if matches!(result, Ok(1..)) {
            return Poll::Ready(Ok(()));
        }
        self.gone = true;
        Poll::Ready(Err(Interrupt::Gone))
    }

    fn arm(&mut self) {
        // What has arrived stays within reach: the read may be in flight for long.
        let mut space = Vec::new();
        if self.input.is_empty() {
            std::mem::swap(&mut space, &mut self.input);
        }
        if space.capacity() < super::buffer::SMALL_BYTES / 4 {
            space.reserve(super::buffer::SMALL_BYTES);
        }
        let refused = self.reader.arm(space);
        debug_assert!(refused.is_none(), "a read was in flight");
    }

    /// Lets what runs go on when the caller has gone, for as long as `stays` is set; until it is
    /// called with `None`.
    pub fn go_on(&mut self, stays: Option<Rc<Cell<bool>>>) {
        self.stays = stays;
    }

    /// Says whether the caller was seen to be gone, whatever goes on without it.
    pub fn has_left(&self) -> bool {
        self.gone
    }

    /// Says whether the caller is gone and what runs is to end; see [`Inlet::go_on`].
    pub fn is_gone(&mut self, deadline: &Deadline, clock: &Clock, cx: &mut Context<'_>) -> bool {
        self.has_gone(deadline, clock, cx) && !self.stays.as_ref().is_some_and(|stays| stays.get())
    }

    /// Says whether the caller is gone; if not, the task is woken when it goes, or may have gone.
    /// Bytes that arrive meanwhile are kept. `deadline` is one of the same task.
    fn has_gone(&mut self, deadline: &Deadline, clock: &Clock, cx: &mut Context<'_>) -> bool {
        loop {
            if self.gone {
                return true;
            }
            if !self.reader.is_armed() && self.input().len() >= AHEAD_BYTES_MAX {
                self.gone =
                    self.lookout.is_due(deadline, clock.coarse(), cx) && socket::has_left(self.fd);
                return self.gone;
            }
            match self.poll_more(cx) {
                Poll::Pending => return false,
                Poll::Ready(_) => {}
            }
        }
    }

    /// What has arrived and was not consumed.
    pub fn input(&self) -> &[u8] {
        self.input.get(self.consumed..).unwrap_or_default()
    }

    /// Takes the first `bytes` of the input away.
    pub fn consume(&mut self, bytes: usize) {
        self.consumed = self.consumed.saturating_add(bytes);
        if self.consumed >= self.input.len() {
            self.input.clear();
            self.consumed = 0;
        }
    }
}

impl Downstream {
    /// The caller at the other end of `stream`, of whom `input` has been read already.
    pub fn new(shard: &Shard, stream: Stream, input: Vec<u8>, door: Door) -> Self {
        Self {
            inlet: Inlet {
                fd: stream.fd(),
                lookout: Lookout::default(),
                reader: stream.reader,
                input,
                consumed: 0,
                gone: false,
                stays: None,
            },
            writer: stream.writer,
            deadline: shard.deadlines.open(),
            loopback: door.loopback,
            admin: door.admin,
            memo: HeadMemo::default(),
            remembered: Remembered::default(),
        }
    }

    /// Runs `work`, unless the caller goes away or the deadline passes first. The work is dropped
    /// then, so it must be such that its connection is not used again.
    pub async fn unless_interrupted<F: Future>(
        inlet: &mut Inlet,
        deadline: &Deadline,
        clock: &Clock,
        work: F,
    ) -> Result<F::Output, Interrupt> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if inlet.is_gone(deadline, clock, cx) {
                return Poll::Ready(Err(Interrupt::Gone));
            }
            if deadline.is_past(clock.coarse(), cx) {
                return Poll::Ready(Err(Interrupt::Late));
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for more input until the deadline.
    pub async fn more(&mut self, clock: &Clock) -> Result<(), Interrupt> {
        poll_fn(|cx| match self.inlet.poll_more(cx) {
            Poll::Pending if self.deadline.is_past(clock.coarse(), cx) => {
                Poll::Ready(Err(Interrupt::Late))
            }
            polled => polled,
        })
        .await
    }

    /// Sets the deadline `limit` from now; zero means none.
    pub fn limit(&self, clock: &Clock, limit: Duration) {
        let at = (limit > Duration::ZERO).then(|| clock.coarse().after(limit));
        self.deadline.set(at);
    }
}

/// What a listener is to the connections that come through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    /// It can be reached from this machine only.
    pub loopback: bool,
    /// It serves management, and nothing else.
    pub admin: bool,
}

/// What the next head is.
enum Next {
    /// A whole head stands at the start of the input.
    Head {
        /// Its length.
        bytes: usize,
        /// It is the one before, but for the length of its body.
        same_head: bool,
    },
    /// The caller is gone, or was idle for too long, or the server drains.
    End,
    /// The head is not one.
    Bad(HeadError),
    /// The head did not come to its end in time.
    Slow,
}

/// Serves one connection to its end.
pub async fn serve(shard: Rc<Shard>, stream: Stream, door: Door) {
    let mut peer = Downstream::new(&shard, stream, shard.buffers.small(), door);
    loop {
        match next_head(&shard, &mut peer).await {
            Next::Head { bytes, same_head } => {
                let mut head = shard.buffers.small();
                head.extend_from_slice(peer.inlet.input().get(..bytes).unwrap_or_default());
                peer.inlet.consume(bytes);
                // Boxed: an idle connection must not carry the size of an exchange. It is made where
                // it lies, not moved there.
                let exchange = Box::new_uninit();
                let exchange = Box::write(
                    exchange,
                    exchange::carry(&shard, &mut peer, head, same_head),
                );
                match Box::into_pin(exchange).await {
                    After::Keep => {}
                    // Whoever switched has served what came over it.
                    After::Close | After::Socket => break,
                    After::Drop => return,
                }
            }
            Next::End => return settle(&shard, &mut peer).await,
            Next::Bad(error) => {
                shard.count_malformed();
                Box::pin(refuse(&shard, &mut peer, &Refusal::malformed(&error))).await;
                break;
            }
            Next::Slow => {
                shard.count_malformed();
                Box::pin(refuse(&shard, &mut peer, &Refusal::slow_head())).await;
                break;
            }
        }
    }
    settle(&shard, &mut peer).await;
    Box::pin(linger(&shard, &mut peer)).await;
}

async fn next_head(shard: &Shard, peer: &mut Downstream) -> Next {
    let mut scan = HeadScan::request();
    let snapshot = shard.snapshot();
    let limits = &snapshot.limits;
    let mut begun = false;
    peer.limit(&shard.clock, limits.idle_timeout);
    loop {
        if !peer.inlet.input().is_empty() {
            let found = peer.memo.find(peer.inlet.input());
            if let Some(bytes) = found.filter(|bytes| *bytes <= limits.head_bytes) {
                return Next::Head {
                    bytes,
                    same_head: true,
                };
            }
            match scan.find_end(peer.inlet.input(), limits.head_bytes) {
                Ok(Some(bytes)) => {
                    return Next::Head {
                        bytes,
                        same_head: false,
                    };
                }
                Ok(None) => {}
                Err(error) => return Next::Bad(error),
            }
            if !begun {
                begun = true;
                peer.limit(&shard.clock, limits.head_timeout);
            }
        }
        let more = poll_fn(|cx| match peer.inlet.poll_more(cx) {
            Poll::Pending if peer.deadline.is_past(shard.clock.coarse(), cx) => {
                Poll::Ready(Err(Interrupt::Late))
            }
            Poll::Pending if !begun && shard.is_draining() => Poll::Ready(Err(Interrupt::Gone)),
            polled => polled,
        })
        .await;
        match more {
            Ok(()) => {}
            Err(Interrupt::Late) if begun => return Next::Slow,
            Err(_) => return Next::End,
        }
    }
}

/// Longest time for a caller to take the last of an answer.
const LAST_PIECE_LIMIT: Duration = Duration::from_mins(5);

/// Waits until the caller's system has the last of what was sent, as far as its socket has room.
async fn settle(shard: &Shard, peer: &mut Downstream) {
    if !peer.writer.is_clear() {
        peer.limit(&shard.clock, LAST_PIECE_LIMIT);
        let settled = Box::pin(peer.writer.settled());
        let (inlet, deadline) = (&mut peer.inlet, &peer.deadline);
        let _ = Downstream::unless_interrupted(inlet, deadline, &shard.clock, settled).await;
    }
}

async fn refuse(shard: &Shard, peer: &mut Downstream, refusal: &Refusal) {
    let bytes = reply::bare(refusal);
    peer.limit(&shard.clock, LINGER);
    let send = peer.writer.send(&bytes);
    // Whether it arrives or not, the connection ends.
    let _ =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, send).await;
}

/// How long the caller may take to read a last answer after which the connection closes.
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that a caller may still send into a connection that is being closed.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// Closes in good order: our side first, then what the caller still sends is read and thrown
/// away for a while. Closing with bytes unread would reset the connection, and the reset would
/// take the answer with it.
async fn linger(shard: &Shard, peer: &mut Downstream) {
    peer.limit(&shard.clock, LINGER);
    let finish = peer.writer.finish();
    let _ =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, finish).await;
    let mut thrown_away = peer.inlet.input().len();
    while thrown_away < LINGER_BYTES_MAX {
        peer.inlet.consume(usize::MAX);
        if peer.more(&shard.clock).await.is_err() {
            return;
        }
        thrown_away += peer.inlet.input().len();
    }
}
