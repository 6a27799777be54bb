//! HTTP/2 towards providers: few connections to one origin, each shared by many exchanges.
//!
//! A [`Link`] is one connection as exchanges see it; its own task drives it. An exchange takes a
//! [`Lease`] on a link and makes a [`Call`](call::Call) over it. Reading order: here, then
//! [`send`] (one try), [`call`] (one exchange), [`head`] (heads from one version to the other),
//! `pipe` (bytes).

pub mod call;
pub mod head;
mod pipe;
pub mod send;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use monoio_http::h2::{
    Error, Ping, PingPong, Reason,
    client::{Builder, Connection as Driven, SendRequest},
};

use self::pipe::{Outbox, Pipe};
use super::connect::Connection;
use crate::shard::{
    Gauge, Shard, accept,
    clock::{Deadline, Moment},
    stream::Writer,
};

/// Bytes of one answer that may be on their way or lie here unread: what a caller that stalls may
/// cost, and with a way of 50 ms to the provider enough for 5 MB a second.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Exchanges that share a connection, whatever the provider would allow. What a connection costs
/// when it breaks grows with their number.
const STREAMS_MAX: u32 = 100;

/// Bytes of all answers of one connection together: every stream's window, so that callers that
/// stall take nothing from the others. 25 MB, if all stall at once.
const CONNECTION_WINDOW: u32 = STREAMS_MAX * STREAM_WINDOW;

/// Bytes of request bodies that wait for one stream's turn to be sent.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// Streams that were given up and whose late frames are still ignored. More would only be answered with
/// another reset.
const RESET_STREAMS_MAX: usize = 64;

/// How long their late frames are ignored.
const RESET_STREAMS_TIME: Duration = Duration::from_secs(5);

/// A connection on which exchanges wait and nothing was heard for so long is asked for a sign of
/// life; if none comes for as long again, it is dead.
const SILENCE: Duration = Duration::from_secs(15);

/// Longest time for the last words to be sent.
const FAREWELL: Duration = Duration::from_secs(1);

/// One connection as exchanges see it.
pub struct Link {
    /// Opens streams; `None` once the link takes no more.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Exchanges on it.
    active: Cell<usize>,
    /// How many there may be.
    limit: Cell<usize>,
    /// Bytes that have arrived. Counted so that a silent connection can be told from a slow one.
    heard: Rc<Cell<u64>>,
    /// When it was last seen in use.
    used: Cell<Moment>,
    /// Wakes its task.
    waker: RefCell<Option<Waker>>,
}

impl Link {
    /// Says whether another exchange may use it.
    pub fn has_room(&self) -> bool {
        self.is_open() && self.active.get() < self.limit.get()
    }

    /// Says whether it takes exchanges at all.
    pub fn is_open(&self) -> bool {
        let sender = self.sender.borrow();
        sender
            .as_ref()
            .is_some_and(|sender| !sender.has_conn_error())
    }

    /// Says whether it carries no exchange.
    pub fn is_idle(&self) -> bool {
        self.active.get() == 0
    }

    /// Takes a place on it.
    pub fn lease(self: &Rc<Self>) -> Lease {
        self.active.set(self.active.get() + 1);
        Lease {
            heard: self.heard.get(),
            link: Rc::clone(self),
        }
    }

    /// Lets it take no more exchanges; with the last one it ends.
    pub fn retire(&self) {
        let sender = self.sender.take();
        // Dropping it wakes the task by way of the client, but only if it is the last one.
        drop(sender);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Says whether it is to be forgotten: ended, or idle for `limit`. Notes when it was in use.
    pub fn is_worn(&self, now: Moment, limit: Duration) -> bool {
        if self.active.get() > 0 {
            self.used.set(now);
        }
        let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        !self.is_open() || now.micros_since(self.used.get()) >= limit
    }
}

/// A place on a link, for one exchange.
pub struct Lease {
    link: Rc<Link>,
    /// What had been heard when the place was taken.
    heard: u64,
}

impl Lease {
    fn sender(&self) -> Option<SendRequest<Bytes>> {
        self.link.sender.borrow().clone()
    }

    /// The exchange failed. What the provider says of one stream concerns no other; anything else
    /// makes the connection one to leave.
    fn note_error(&self, error: &Error) {
        let its_own =
            error.is_reset() && error.is_remote() && error.reason() != Some(Reason::REFUSED_STREAM);
        if !its_own {
            self.link.retire();
        }
    }

    /// Time has run out. If nothing at all came meanwhile, the next one is not to wait here too.
    pub(super) fn note_timeout(&self) {
        if self.link.heard.get() == self.heard {
            self.link.retire();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let active = self.link.active.get().saturating_sub(1);
        self.link.active.set(active);
        // A link that takes no more ends with its last exchange.
        if active == 0
            && !self.link.is_open()
            && let Some(waker) = self.link.waker.take()
        {
            waker.wake();
        }
    }
}

/// Begins HTTP/2 on a connection that agreed on it, and starts the task that drives it.
///
/// `head_bytes` bounds the head of an answer.
pub async fn open(
    shard: &Rc<Shard>,
    connection: Connection,
    head_bytes: usize,
) -> Result<Rc<Link>, Error> {
    let outbox = Rc::new(Outbox::default());
    let link = Rc::new(Link {
        sender: RefCell::default(),
        active: Cell::new(0),
        limit: Cell::new(STREAMS_MAX as usize),
        heard: Rc::default(),
        used: Cell::new(shard.clock.now()),
        waker: RefCell::default(),
    });
    let stream = connection.stream;
    let heard = Rc::clone(&link.heard);
    let pipe = Pipe::new(stream.reader, heard, head_bytes, Rc::clone(&outbox));
    // Nothing is waited for: the preface is only put into the outbox.
    let (sender, driven) = Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(STREAMS_MAX as usize)
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .reset_stream_duration(RESET_STREAMS_TIME)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .handshake::<_, Bytes>(pipe)
        .await?;
    *link.sender.borrow_mut() = Some(sender);
    let task = drive(
        Rc::clone(shard),
        driven,
        outbox,
        stream.writer,
        Rc::clone(&link),
        connection.open,
    );
    accept::spawn(shard, task);
    Ok(link)
}

/// Closes the link whatever ends its task, a panic included.
struct Closing(Rc<Link>);

impl Drop for Closing {
    fn drop(&mut self) {
        drop(self.0.sender.take());
    }
}

async fn drive(
    shard: Rc<Shard>,
    driven: Driven<Pipe>,
    outbox: Rc<Outbox>,
    mut writer: Writer,
    link: Rc<Link>,
    _open: Option<Gauge>,
) {
    let closing = Closing(Rc::clone(&link));
    let deadline = shard.deadlines.open();
    let mut pulse = Pulse::new(&shard, deadline);
    {
        // Stays where it is from its first poll on: its read in flight points into it.
        let mut driven = Box::pin(driven);
        pulse.ping = driven.ping_pong();
        let mut send = pin!(outbox.send_all(&mut writer));
        poll_fn(|cx| {
            *link.waker.borrow_mut() = Some(cx.waker().clone());
            let mut again = true;
            loop {
                let ended = driven.as_mut().poll(cx).is_ready();
                link.limit.set(
                    driven
                        .max_concurrent_send_streams()
                        .min(STREAMS_MAX as usize),
                );
                let broken = send.as_mut().poll(cx).is_ready();
                if ended || broken || pulse.has_stopped(&shard, &link, cx) {
                    return Poll::Ready(());
                }
                // What the client found out during the turn it acts on in the next: a link that
                // has just lost its last exchange says goodbye then.
                let leaving = link.active.get() == 0 && link.sender.borrow().is_none();
                let goes_on = outbox.has_made_room() || leaving && std::mem::take(&mut again);
                if !goes_on {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }
    drop(closing);
    let rest = outbox.take_rest();
    pulse.deadline.set(Some(shard.clock.now().after(FAREWELL)));
    let mut farewell = pin!(async {
        if writer.send(&rest).await.is_ok() {
            writer.finish().await;
        }
    });
    poll_fn(|cx| match farewell.as_mut().poll(cx) {
        Poll::Pending if pulse.deadline.is_past(shard.clock.now(), cx) => Poll::Ready(()),
        polled => polled,
    })
    .await;
}

/// Tells a dead connection from a quiet one.
struct Pulse {
    ping: Option<PingPong>,
    deadline: Deadline,
    /// What had been heard at the last look.
    heard: u64,
    asked: bool,
}

impl Pulse {
    fn new(shard: &Shard, deadline: Deadline) -> Self {
        deadline.set(Some(shard.clock.now().after(SILENCE)));
        Self {
            ping: None,
            deadline,
            heard: 0,
            asked: false,
        }
    }

    /// Says whether the connection has given no sign of life although it was asked for one.
    fn has_stopped(&mut self, shard: &Shard, link: &Link, cx: &mut Context<'_>) -> bool {
        let now = shard.clock.now();
        if !self.deadline.is_past(now, cx) {
            return false;
        }
        let heard = link.heard.get();
        let silent = heard == self.heard && link.active.get() > 0;
        if silent && self.asked {
            return true;
        }
        self.heard = heard;
        self.asked = silent;
        if silent && let Some(ping) = &mut self.ping {
            // An old answer makes room for a new question. The question wakes this task.
            let _ = ping.poll_pong(cx);
            let _ = ping.send_ping(Ping::opaque());
        }
        self.deadline.set(Some(now.after(SILENCE)));
        // So that the new deadline wakes the task.
        self.deadline.is_past(now, cx);
        false
    }
}
