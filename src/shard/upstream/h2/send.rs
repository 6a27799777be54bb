//! One try of an exchange over a link: the request goes out, the answer's head comes back.

use std::{
    future::{Future, poll_fn},
    rc::Rc,
    task::Poll,
};

use http::Request;

use super::{
    Lease,
    call::{Call, CallError},
    head,
};
use crate::shard::{
    Shard,
    body::{self, Body, BodyError, Rest},
    connection::{Downstream, Interrupt},
    record::Draft,
    relay::Pace,
    reply::Refusal,
    upstream::{
        attempt::{Answer, Ask, AttemptError, Carrier, timeout},
        host::Host,
    },
};

/// Sends the request and waits for the answer's head, which is given as HTTP/1 would say it.
#[expect(
    clippy::too_many_arguments,
    reason = "the parties of an attempt, each once"
)]
pub async fn send_and_wait(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    host: &Host,
    ask: &Ask<'_>,
    request: Request<()>,
    body: &mut Body,
    draft: &mut Draft<'_>,
    lease: Lease,
) -> Result<Answer, AttemptError> {
    let failed = |error| match error {
        CallError::Refused => AttemptError::Refused {
            host: host.authority.clone(),
        },
        CallError::Broken(error) => AttemptError::Closed {
            host: host.authority.clone(),
            detail: format!(" ({error})").into(),
        },
    };
    let pace = Pace {
        idle: ask.first_byte,
        end: ask.end,
    };
    pace.limit(shard, peer);
    let ends = matches!(body, Body::Whole(bytes) if bytes.is_empty());
    let mut call = Box::new(Call::start(lease, request, ends).map_err(failed)?);
    let sent = match body {
        Body::Whole(bytes) => send_whole(shard, peer, bytes, &mut call).await,
        Body::Passing { first, rest } => {
            pass_body(shard, peer, ask, &pace, first, rest, draft, &mut call).await
        }
    };
    let request_whole = match sent {
        Ok(whole) => whole,
        Err(Unsent::Interrupted(Interrupt::Gone)) => return Err(AttemptError::Gone),
        Err(Unsent::Interrupted(Interrupt::Late)) => {
            call.note_timeout();
            return Err(timeout(host, ask));
        }
        Err(Unsent::Body(refusal)) => return Err(AttemptError::Body(refusal)),
    };
    let now = shard.clock.now();
    draft.sent = Some(now);
    pace.limit(shard, peer);
    let parts = poll_fn(|cx| call.poll_head(cx));
    let parts = match unless_interrupted(shard, peer, parts).await {
        Ok(parts) => parts,
        Err(Interrupt::Gone) => return Err(AttemptError::Gone),
        Err(Interrupt::Late) => {
            call.note_timeout();
            return Err(timeout(host, ask));
        }
    };
    let first_byte = shard.clock.now();
    draft.first_byte = Some(first_byte);
    draft.waited_micros += first_byte.micros_since(now);
    let parts = parts.map_err(failed)?;
    let mut buffer = shard.buffers.small();
    head::response(&mut buffer, &parts);
    let head_bytes = buffer.len();
    Ok(Answer {
        buffer: take_ready(&mut call, buffer).await,
        carrier: Carrier::Http2(call),
        head_bytes,
        request_whole,
    })
}

/// Takes what has come with the head, so that both go out together. Waits for nothing. An end or
/// a cut shows again at the next read.
async fn take_ready(call: &mut Call, mut buffer: Vec<u8>) -> Vec<u8> {
    if buffer.len() == buffer.capacity() {
        buffer.reserve(buffer.len());
    }
    if let Some(buffer) = call.arm(buffer) {
        return buffer;
    }
    poll_fn(|cx| match call.poll_read(cx) {
        Poll::Ready((_, buffer)) => Poll::Ready(buffer),
        Poll::Pending => Poll::Ready(call.disarm().unwrap_or_default()),
    })
    .await
}

enum Unsent {
    Interrupted(Interrupt),
    Body(Box<Refusal>),
}

/// Sends a body that is here. An answer that comes meanwhile is not kept waiting: the rest of
/// the body goes on beside it.
async fn send_whole(
    shard: &Shard,
    peer: &mut Downstream,
    body: &[u8],
    call: &mut Call,
) -> Result<bool, Unsent> {
    let mut left = body;
    if left.is_empty() {
        return Ok(true);
    }
    let send = poll_fn(|cx| {
        if call.poll_send(cx, &mut left, true).is_ready() || call.is_answered(cx) {
            return Poll::Ready(());
        }
        Poll::Pending
    });
    unless_interrupted(shard, peer, send)
        .await
        .map_err(Unsent::Interrupted)?;
    call.keep_rest(left);
    Ok(left.is_empty())
}

/// Passes a body on as it arrives. Ends early, with `false`, when the provider answers first.
#[expect(
    clippy::too_many_arguments,
    reason = "the parties of an attempt, each once"
)]
async fn pass_body(
    shard: &Shard,
    peer: &mut Downstream,
    ask: &Ask<'_>,
    pace: &Pace,
    first: &mut Vec<u8>,
    rest: &mut Rest,
    draft: &mut Draft<'_>,
    call: &mut Call,
) -> Result<bool, Unsent> {
    let mut done = false;
    let mut piece = std::mem::take(first);
    loop {
        let mut left = piece.as_slice();
        pace.limit(shard, peer);
        let send = poll_fn(|cx| {
            if call.is_answered(cx) {
                return Poll::Ready(true);
            }
            call.poll_send(cx, &mut left, false).map(|()| false)
        });
        let answered = unless_interrupted(shard, peer, send)
            .await
            .map_err(Unsent::Interrupted)?;
        // What the provider did not take says that it wants no more; its answer says why.
        if answered || !left.is_empty() {
            return Ok(false);
        }
        if done {
            call.end_body();
            return Ok(true);
        }
        piece.clear();
        peer.limit(&shard.clock, ask.bounds.pause);
        let answered = poll_fn(|cx| {
            if call.is_answered(cx) {
                return Poll::Ready(Ok(true));
            }
            // Some may have come while a piece was on its way upstream.
            if !peer.inlet.input().is_empty() {
                return Poll::Ready(Ok(false));
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
        match answered {
            Ok(true) => return Ok(false),
            Ok(false) => {}
            Err(Interrupt::Gone) => return Err(Unsent::Interrupted(Interrupt::Gone)),
            Err(Interrupt::Late) => return Err(Unsent::Body(Box::new(Refusal::slow_body()))),
        }
        done = body::take_passing(peer, rest, ask.bounds, &mut piece).map_err(
            |error| match error {
                BodyError::Refused(refusal) => Unsent::Body(Box::new(refusal)),
                BodyError::Gone => Unsent::Interrupted(Interrupt::Gone),
            },
        )?;
        draft.passing_piece(&piece);
    }
}

async fn unless_interrupted<F: Future>(
    shard: &Shard,
    peer: &mut Downstream,
    work: F,
) -> Result<F::Output, Interrupt> {
    Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, work).await
}
