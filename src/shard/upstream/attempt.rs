//! One try of an exchange at one host: the request goes out, the answer's head comes back.

use std::{future::poll_fn, io, rc::Rc, task::Poll, time::Duration};

use super::{
    connect::{ConnectError, Connection, Dialer},
    host::Host,
};
use crate::{
    handoff::{counters::Plain, mailbox::Question},
    http::{
        body::{CHUNK_END, ChunkHeader, LAST_CHUNK},
        head::{HeadError, HeadScan, Method, parse_response},
    },
    shard::{
        Shard,
        body::{self, Body, BodyError, Bounds, Rest},
        clock::Moment,
        connection::{Downstream, Interrupt},
        emit,
        record::Draft,
        relay::Pace,
    },
};

/// Why an attempt gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke, or ended, before the answer's head was complete.
    #[error("{host} closed the connection before it answered{detail}")]
    Closed {
        /// The name and port.
        host: Box<str>,
        /// What the system said, if it was an error.
        detail: Box<str>,
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
    Body(crate::shard::reply::Refusal),
}

/// An answer whose head is complete.
pub struct Answer {
    /// The connection that it comes on.
    pub connection: Connection,
    /// What was read: the head, and what came with it.
    pub buffer: Vec<u8>,
    /// Length of the head.
    pub head_bytes: usize,
    /// The request went out whole, so that the connection may carry another one.
    pub request_whole: bool,
}

/// What is asked, and how long it may take.
pub struct Ask<'a> {
    /// The request's method.
    pub method: Method<'a>,
    /// The head as it goes upstream.
    pub head: &'a [u8],
    /// Until a connection stands.
    pub connect: Duration,
    /// From the request to the first byte of the answer.
    pub first_byte: Duration,
    /// When the whole exchange must be over.
    pub end: Option<Moment>,
    /// Bounds on a body that passes through.
    pub bounds: &'a Bounds,
    /// The caller speaks HTTP/1.1, so interim answers may pass.
    pub interim: bool,
}

/// Bodies up to this size go out in one send with their head.
const ONE_SEND_BYTES: usize = 64 * 1024;

/// Interim answers that a provider may send before its answer.
const INTERIM_MAX: usize = 16;

/// Sends the request and waits for the answer's head.
///
/// A pooled connection that turns out to be dead is replaced by a fresh one where no byte of the
/// request can have been processed: that is, where the method allows a repeat (RFC 9110 section
/// 9.2.2).
pub async fn attempt(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    host: &Rc<Host>,
    ask: &Ask<'_>,
    body: &mut Body,
    draft: &mut Draft<'_>,
) -> Result<Answer, AttemptError> {
    let connection = take_connection(shard, peer, host, ask, draft).await?;
    let reused = connection.reused;
    let tried = send_and_wait(shard, peer, host, ask, body, draft, connection).await;
    let repeatable = matches!(ask.method, Method::Get | Method::Head | Method::Options)
        && matches!(body, Body::Whole(_));
    match tried {
        Err(AttemptError::Closed { .. }) if reused && repeatable => {
            let connection = Box::pin(dial(shard, peer, host, ask, draft)).await?;
            Box::pin(send_and_wait(
                shard, peer, host, ask, body, draft, connection,
            ))
            .await
        }
        tried => tried,
    }
}

async fn take_connection(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    host: &Rc<Host>,
    ask: &Ask<'_>,
    draft: &mut Draft<'_>,
) -> Result<Connection, AttemptError> {
    let (idle, stale) = host.take_idle();
    if stale > 0 {
        shard.counters.borrow_mut().add(Plain::UpstreamStale, stale);
    }
    match idle {
        Some(mut connection) => {
            shard.count(Plain::UpstreamReuses);
            connection.reused = true;
            Ok(connection)
        }
        // Boxed: opening a connection is rare, and its future is the largest of all.
        None => Box::pin(dial(shard, peer, host, ask, draft)).await,
    }
}

async fn dial(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    host: &Rc<Host>,
    ask: &Ask<'_>,
    draft: &mut Draft<'_>,
) -> Result<Connection, AttemptError> {
    let started = shard.clock.now();
    let ask_name = |host: &Host| {
        let question = Question::Resolve {
            shard: shard.number,
            host: host.origin.host.as_ref().into(),
            port: host.origin.port,
        };
        shard.resolve.send(question).is_ok()
    };
    let dialer = Dialer {
        clock: &shard.clock,
        deadlines: &shard.deadlines,
        tls: &shard.tls,
        ask: &ask_name,
        limit: ask.connect,
    };
    peer.deadline.set(ask.end);
    let dial = dialer.connect(host);
    let dialed =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, dial).await;
    draft.waited_micros += shard.clock.now().micros_since(started);
    match dialed {
        Ok(Ok(connection)) => {
            shard.count(Plain::UpstreamConnects);
            Ok(connection)
        }
        Ok(Err(error)) => {
            shard.count(Plain::UpstreamConnectFailures);
            Err(error.into())
        }
        Err(Interrupt::Gone) => Err(AttemptError::Gone),
        Err(Interrupt::Late) => Err(timeout(host, ask)),
    }
}

fn timeout(host: &Host, ask: &Ask<'_>) -> AttemptError {
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
    mut connection: Connection,
) -> Result<Answer, AttemptError> {
    // The read is in flight before the request goes out: an early answer is seen while a large
    // body is still being sent, and a small exchange saves a turn of the loop.
    let refused = connection.stream.reader.arm(shard.buffers.small());
    debug_assert!(
        refused.is_none(),
        "a pooled connection had a read in flight"
    );
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
        connection,
        buffer,
        head_bytes,
        request_whole,
    })
}

enum SendError {
    Interrupted(Interrupt),
    Body(crate::shard::reply::Refusal),
    Broken,
}

async fn send_whole(
    shard: &Shard,
    peer: &mut Downstream,
    head: &[u8],
    body: &[u8],
    connection: &mut Connection,
) -> Result<bool, SendError> {
    let writer = &mut connection.stream.writer;
    let send = async {
        if body.is_empty() {
            return writer.send(head).await;
        }
        if head.len() + body.len() <= ONE_SEND_BYTES {
            let mut both = shard.buffers.large();
            both.extend_from_slice(head);
            both.extend_from_slice(body);
            let sent = writer.send(&both).await;
            shard.buffers.give_back(both);
            return sent;
        }
        writer.send(head).await?;
        writer.send(body).await
    };
    match Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, send).await
    {
        Ok(Ok(())) => Ok(true),
        Ok(Err(_)) => Err(SendError::Broken),
        Err(interrupt) => Err(SendError::Interrupted(interrupt)),
    }
}

/// Passes a body on as it arrives. Ends early, with `false`, when the provider answers first.
async fn pass_body(
    shard: &Shard,
    peer: &mut Downstream,
    ask: &Ask<'_>,
    first: &mut Vec<u8>,
    rest: &mut Rest,
    draft: &mut Draft<'_>,
    connection: &mut Connection,
) -> Result<bool, SendError> {
    let mut out = ask.head.to_vec();
    let mut done = false;
    let mut piece = std::mem::take(first);
    loop {
        match rest {
            Rest::Length { .. } => out.extend_from_slice(&piece),
            Rest::Chunked(_) => {
                if !piece.is_empty() {
                    out.extend_from_slice(ChunkHeader::new(piece.len()).as_bytes());
                    out.extend_from_slice(&piece);
                    out.extend_from_slice(CHUNK_END);
                }
                if done {
                    out.extend_from_slice(LAST_CHUNK);
                }
            }
        }
        // No watch for a hang-up here: the caller's bytes are the body.
        if connection.stream.writer.send(&out).await.is_err() {
            return Err(SendError::Broken);
        }
        if done {
            return Ok(true);
        }
        out.clear();
        piece.clear();
        // Whichever comes first: the answer, or more of the body.
        peer.limit(&shard.clock, ask.bounds.pause);
        let early = poll_fn(|cx| {
            if connection.stream.reader.is_ready(cx) {
                return Poll::Ready(Ok(true));
            }
            match peer.inlet.poll_more(cx) {
                Poll::Ready(more) => Poll::Ready(more.map(|()| false)),
                Poll::Pending if peer.deadline.is_past(shard.clock.now(), cx) => {
                    Poll::Ready(Err(Interrupt::Late))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match early {
            Ok(true) => return Ok(false),
            Ok(false) => {}
            Err(Interrupt::Gone) => return Err(SendError::Interrupted(Interrupt::Gone)),
            Err(Interrupt::Late) => {
                return Err(SendError::Body(crate::shard::reply::Refusal::slow_body()));
            }
        }
        done = body::take_passing(peer, rest, ask.bounds, &mut piece).map_err(
            |error| match error {
                BodyError::Refused(refusal) => SendError::Body(refusal),
                BodyError::Gone => SendError::Interrupted(Interrupt::Gone),
            },
        )?;
        draft.request_bytes += piece.len() as u64;
    }
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
