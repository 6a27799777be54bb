//! One try of an exchange at one host: the request goes out, the answer's head comes back.

mod send;
mod way;

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use self::{
    send::{SendError, pass_body, send_whole},
    way::{Way, dial, find_way},
};
use super::{
    connect::{ConnectError, Connection},
    h2::{self, call::Call},
    host::Host,
};
use crate::{
    handoff::counters::Attempted,
    http::head::{HeadError, HeadScan, Method, parse_response},
    shard::{
        Shard,
        body::{Body, Bounds},
        clock::Moment,
        connection::{Downstream, Interrupt},
        emit,
        record::Draft,
        relay::Pace,
        reply::Refusal,
        stream::ReadResult,
    },
};

/// Why an attempt gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It could not be reached a moment ago, so it is not tried now.
    #[error("{host} could not be reached a moment ago; it is tried again in {} s", wait.as_secs() + 1)]
    Unreachable {
        /// The name and port.
        host: Box<str>,
        /// Until it is tried again.
        wait: Duration,
    },
    /// The connection broke, or ended, before the answer's head was complete.
    #[error("{host} closed the connection before it answered{detail}")]
    Closed {
        /// The name and port.
        host: Box<str>,
        /// What the system said, if it was an error.
        detail: Box<str>,
    },
    /// The request was turned away unread: the connection was about to close, or full.
    #[error("{host} refused the request before working on it")]
    Refused {
        /// The name and port.
        host: Box<str>,
    },
    /// The answer's head is not HTTP.
    #[error("{host} answered with a malformed head: {error}")]
    Malformed {
        /// The name and port.
        host: Box<str>,
        /// What is wrong with it.
        error: HeadError,
    },
    /// The answer did not begin in time.
    #[error("{host} did not answer within {limit:?}")]
    Timeout {
        /// The name and port.
        host: Box<str>,
        /// The limit.
        limit: Duration,
    },
    /// The caller went away.
    #[error("the caller went away before the provider answered")]
    Gone,
    /// The caller's body is to be refused.
    #[error("the request's body was refused")]
    Body(Box<Refusal>),
}

impl AttemptError {
    /// Says whether the provider may have worked on the request, if it went out.
    pub fn may_have_worked(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Unreachable { .. } | Self::Refused { .. } => false,
            Self::Closed { .. }
            | Self::Malformed { .. }
            | Self::Timeout { .. }
            | Self::Gone
            | Self::Body(_) => true,
        }
    }

    /// What it counts as.
    fn ended(&self) -> Attempted {
        match self {
            Self::Connect(_) => Attempted::ConnectFailed,
            Self::Unreachable { .. } => Attempted::Skipped,
            Self::Closed { .. } => Attempted::Closed,
            Self::Refused { .. } => Attempted::Refused,
            Self::Malformed { .. } => Attempted::Malformed,
            Self::Timeout { .. } => Attempted::Timeout,
            Self::Gone | Self::Body(_) => Attempted::Abandoned,
        }
    }
}

/// An answer whose head is complete.
pub struct Answer {
    /// What it comes on.
    pub carrier: Carrier,
    /// What was read: the head, and what came with it.
    pub buffer: Vec<u8>,
    /// Length of the head.
    pub head_bytes: usize,
    /// The request went out whole, so that the connection may carry another one.
    pub request_whole: bool,
}

/// What an answer comes on: a connection of its own, or a stream of a shared one.
pub enum Carrier {
    /// HTTP/1.1
    Http1(Box<Connection>),
    /// HTTP/2
    Http2(Box<Call>),
}

impl Carrier {
    /// Starts a read, as [`Reader::arm`](crate::shard::stream::Reader::arm) does.
    pub fn arm(&mut self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::Http1(connection) => connection.stream.reader.arm(buffer),
            Self::Http2(call) => call.arm(buffer),
        }
    }

    /// Polls the read in flight, as [`Reader::poll`](crate::shard::stream::Reader::poll) does.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<ReadResult> {
        match self {
            Self::Http1(connection) => connection.stream.reader.poll(cx),
            Self::Http2(call) => call.poll_read(cx),
        }
    }

    /// Ends the exchange. `whole`: request and answer were, so that another may follow; on the
    /// connection that is given back, if it was this exchange's own.
    pub fn finish(self, shard: &Rc<Shard>, whole: bool) -> Option<Box<Connection>> {
        match self {
            Self::Http1(connection) => whole.then_some(connection),
            Self::Http2(call) => {
                if whole {
                    call.finish(shard);
                }
                None
            }
        }
    }
}

/// What is asked, and how long it may take.
pub struct Ask<'a> {
    /// The request's method.
    pub method: Method<'a>,
    /// The head as it goes upstream.
    pub head: &'a [u8],
    /// HTTP/2 may be offered.
    pub http2: bool,
    /// Until a connection stands.
    pub connect: Duration,
    /// That is the provider's own limit, which the request did not cut short.
    pub patient: bool,
    /// From the request to the first byte of the answer.
    pub first_byte: Duration,
    /// When the whole exchange must be over.
    pub end: Option<Moment>,
    /// Bounds on a body that passes through.
    pub bounds: &'a Bounds,
    /// The caller speaks HTTP/1.1, so interim answers may pass.
    pub interim: bool,
    /// Raised before the first byte goes out: from then on the provider may work on it.
    pub at_risk: Option<&'a Cell<bool>>,
}

/// Interim answers that a provider may send before its answer.
const INTERIM_MAX: usize = 16;

/// Sends the request and waits for the answer's head.
///
/// A pooled connection that turns out to be dead is replaced by a fresh one where no byte of the
/// request can have been processed: that is, where the method allows a repeat (RFC 9110 section
/// 9.2.2), or where the provider said so (RFC 9113 section 8.7).
pub async fn attempt(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    host: &Rc<Host>,
    ask: &Ask<'_>,
    body: &mut Body,
    draft: &mut Draft<'_>,
) -> Result<Answer, AttemptError> {
    let offer = ask.http2 && host.origin.tls;
    // What HTTP/2 cannot say goes by HTTP/1.1.
    let request = offer
        .then(|| h2::head::request(ask.head, &host.authority))
        .flatten()
        .map(Box::new);
    let offer = request.is_some();
    let way = find_way(shard, peer, host, ask, offer, draft).await;
    let way = way.inspect_err(|error| count(shard, draft, error.ended()))?;
    let reused = way.is_reused();
    let tried = go(shard, peer, host, ask, request.clone(), body, draft, way).await;
    count(shard, draft, ended(&tried));
    let way = match &tried {
        // What refused is not shared any more, so this finds or opens another.
        Err(AttemptError::Refused { .. }) if matches!(body, Body::Whole(_)) => {
            Box::pin(find_way(shard, peer, host, ask, offer, draft)).await
        }
        Err(AttemptError::Closed { .. })
            if reused && is_repeatable(ask.method) && matches!(body, Body::Whole(_)) =>
        {
            Box::pin(dial(shard, peer, host, ask, offer, draft)).await
        }
        _ => return tried,
    };
    let tried = match way {
        Ok(way) => Box::pin(go(shard, peer, host, ask, request, body, draft, way)).await,
        Err(error) => Err(error),
    };
    count(shard, draft, ended(&tried));
    tried
}

fn count(shard: &Shard, draft: &Draft<'_>, ended: Attempted) {
    let mut counters = shard.counters.borrow_mut();
    counters.attempt(draft.provider, ended);
}

fn ended(tried: &Result<Answer, AttemptError>) -> Attempted {
    match tried {
        Ok(_) => Attempted::Answered,
        Err(error) => error.ended(),
    }
}

fn is_repeatable(method: Method<'_>) -> bool {
    matches!(method, Method::Get | Method::Head | Method::Options)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parties of an attempt, each once"
)]
async fn go(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    host: &Rc<Host>,
    ask: &Ask<'_>,
    request: Option<Box<http::Request<()>>>,
    body: &mut Body,
    draft: &mut Draft<'_>,
    way: Way,
) -> Result<Answer, AttemptError> {
    if let Some(at_risk) = ask.at_risk {
        at_risk.set(true);
    }
    match (way, request) {
        (Way::Http2(lease, _), Some(request)) => {
            Box::pin(h2::send::send_and_wait(
                shard, peer, host, ask, *request, body, draft, lease,
            ))
            .await
        }
        // A shared connection is only looked for where there is a request for it.
        (Way::Http2(..), None) => Err(AttemptError::Refused {
            host: host.authority.clone(),
        }),
        (Way::Http1(connection), _) => {
            send_and_wait(shard, peer, host, ask, body, draft, connection).await
        }
    }
}

pub(super) fn timeout(host: &Host, ask: &Ask<'_>) -> AttemptError {
    AttemptError::Timeout {
        host: host.authority.clone(),
        limit: ask.first_byte,
    }
}

async fn send_and_wait(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    host: &Rc<Host>,
    ask: &Ask<'_>,
    body: &mut Body,
    draft: &mut Draft<'_>,
    mut connection: Box<Connection>,
) -> Result<Answer, AttemptError> {
    // A read is there before the request goes out: an early answer is seen while a large body is
    // still being sent. A connection that lay idle has had one all the time.
    if !connection.stream.reader.is_armed() {
        connection.stream.reader.arm(shard.buffers.small());
    }
    let pace = Pace {
        idle: ask.first_byte,
        end: ask.end,
    };
    pace.limit(shard, peer);
    let sent = match body {
        Body::Whole(bytes) => send_whole(shard, peer, ask.head, bytes, &mut connection).await,
        Body::Passing { first, rest } => {
            Box::pin(pass_body(
                shard,
                peer,
                ask,
                first,
                rest,
                draft,
                &mut connection,
            ))
            .await
        }
    };
    let request_whole = match sent {
        Ok(whole) => whole,
        Err(SendError::Interrupted(Interrupt::Gone)) => return Err(AttemptError::Gone),
        Err(SendError::Interrupted(Interrupt::Late)) => return Err(timeout(host, ask)),
        Err(SendError::Body(refusal)) => return Err(AttemptError::Body(refusal)),
        // The provider may have answered before it closed its end: the answer explains more
        // than the broken connection.
        Err(SendError::Broken) => false,
    };
    draft.sent = Some(shard.clock.now());
    pace.limit(shard, peer);
    let (buffer, head_bytes) =
        wait_for_head(shard, peer, host, ask, draft, &mut connection).await?;
    Ok(Answer {
        carrier: Carrier::Http1(connection),
        buffer,
        head_bytes,
        request_whole,
    })
}

async fn wait_for_head(
    shard: &Shard,
    peer: &mut Downstream,
    host: &Host,
    ask: &Ask<'_>,
    draft: &mut Draft<'_>,
    connection: &mut Connection,
) -> Result<(Vec<u8>, usize), AttemptError> {
    let limit = shard.snapshot().limits.head_bytes;
    let mut scan = HeadScan::response();
    let mut interim = 0;
    let started = shard.clock.now();
    let malformed = |error| AttemptError::Malformed {
        host: host.authority.clone(),
        error,
    };
    let closed = |detail: String| AttemptError::Closed {
        host: host.authority.clone(),
        detail: detail.into(),
    };
    loop {
        let reader = &mut connection.stream.reader;
        let read = poll_fn(|cx| reader.poll(cx));
        let read =
            Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, read)
                .await;
        let (result, mut buffer) = match read {
            Ok(read) => read,
            Err(Interrupt::Gone) => return Err(AttemptError::Gone),
            Err(Interrupt::Late) => return Err(timeout(host, ask)),
        };
        if draft.first_byte.is_none() && result.is_ok() {
            let now = shard.clock.now();
            draft.first_byte = Some(now);
            draft.waited_micros += now.micros_since(started);
        }
        match result {
            Ok(0) => return Err(closed(String::new())),
            Err(error) => return Err(closed(format!(" ({})", describe(&error)))),
            Ok(_) => {}
        }
        while let Some(head_bytes) = scan.find_end(&buffer, limit).map_err(malformed)? {
            // Most answers are final: only an interim one is parsed here.
            if buffer.get(9) != Some(&b'1') {
                return Ok((buffer, head_bytes));
            }
            let bytes = buffer.get(..head_bytes).unwrap_or_default();
            let head = parse_response(bytes, ask.method).map_err(malformed)?;
            if !head.is_interim() {
                return Ok((buffer, head_bytes));
            }
            interim += 1;
            if interim > INTERIM_MAX {
                return Err(malformed(HeadError::TooLarge));
            }
            if ask.interim && head.status != 100 {
                let mut out = Vec::new();
                emit::interim(&mut out, &head, ask.method);
                // A caller that cannot take it cannot take the answer either.
                let _ = peer.writer.send(&out).await;
            }
            buffer.drain(..head_bytes);
            scan = HeadScan::response();
        }
        if buffer.len() == buffer.capacity() {
            buffer.reserve(buffer.len());
        }
        let refused = connection.stream.reader.arm(buffer);
        debug_assert!(refused.is_none(), "a read was in flight");
    }
}

fn describe(error: &io::Error) -> String {
    error.to_string().to_lowercase()
}
