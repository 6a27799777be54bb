//! A request on its way out, with the body that is here or that comes while it goes.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    task::Poll,
};

use super::Ask;
use crate::{
    http::body::{CHUNK_END, ChunkHeader, LAST_CHUNK},
    shard::{
        Shard,
        body::{self, BodyError, Rest},
        connection::{Downstream, Interrupt},
        record::Draft,
        relay::Pace,
        reply::Refusal,
        stream::Stream,
        upstream::connect::Connection,
    },
};

/// Bodies up to this size go out in one send with their head.
const ONE_SEND_BYTES: usize = 64 * 1024;

pub(super) enum SendError {
    Interrupted(Interrupt),
    Body(Box<Refusal>),
    Broken,
}

pub(super) async fn send_whole(
    shard: &Shard,
    peer: &mut Downstream,
    head: &[u8],
    body: &[u8],
    connection: &mut Connection,
) -> Result<bool, SendError> {
    let writer = &mut connection.stream.writer;
    match writer.post(&[head, body]) {
        Ok(true) => return Ok(true),
        Ok(false) => {}
        Err(_) => return Err(SendError::Broken),
    }
    // Boxed, like everything rare: most requests are small.
    let send = Box::pin(async {
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
    });
    match Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, send).await
    {
        Ok(Ok(())) => Ok(true),
        Ok(Err(_)) => Err(SendError::Broken),
        Err(interrupt) => Err(SendError::Interrupted(interrupt)),
    }
}

/// Passes a body on as it arrives. Ends early, with `false`, when the provider answers first.
pub(super) async fn pass_body(
    shard: &Shard,
    peer: &mut Downstream,
    ask: &Ask<'_>,
    first: &mut Vec<u8>,
    rest: &mut Rest,
    draft: &mut Draft<'_>,
    connection: &mut Connection,
) -> Result<bool, SendError> {
    let pace = Pace {
        idle: ask.first_byte,
        end: ask.end,
    };
    let mut out = ask.head.to_vec();
    // What was gathered may be megabytes: it goes out in parts, so that it is not held twice.
    let first = std::mem::take(first);
    let mut parts = first.chunks(ONE_SEND_BYTES);
    let mut part = parts.next().unwrap_or_default();
    loop {
        frame_part(rest, part, false, &mut out);
        pace.limit(shard, peer);
        if !send_unless_answered(shard, peer, connection, &out).await? {
            return Ok(false);
        }
        out.clear();
        match parts.next() {
            Some(next) => part = next,
            None => break,
        }
    }
    drop(first);
    let mut piece = Vec::new();
    loop {
        peer.limit(&shard.clock, ask.bounds.pause);
        if wait_for_body(shard, peer, connection).await? {
            return Ok(false);
        }
        piece.clear();
        let done = body::take_passing(peer, rest, ask.bounds, &mut piece);
        let done = done.map_err(|error| match error {
            BodyError::Refused(refusal) => SendError::Body(Box::new(refusal)),
            BodyError::Gone => SendError::Interrupted(Interrupt::Gone),
        })?;
        draft.passing_piece(&piece);
        frame_part(rest, &piece, done, &mut out);
        pace.limit(shard, peer);
        if !send_unless_answered(shard, peer, connection, &out).await? {
            return Ok(false);
        }
        out.clear();
        if done {
            return Ok(true);
        }
    }
}

/// Appends a part of a body in its framing; `last`: nothing follows.
fn frame_part(rest: &Rest, part: &[u8], last: bool, out: &mut Vec<u8>) {
    if matches!(rest, Rest::Length { .. }) {
        return out.extend_from_slice(part);
    }
    if !part.is_empty() {
        out.extend_from_slice(ChunkHeader::new(part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(CHUNK_END);
    }
    if last {
        out.extend_from_slice(LAST_CHUNK);
    }
}

/// Sends a part of a body. Ends early, with `false`, when the provider answers first; then the
/// connection carries nothing further.
async fn send_unless_answered(
    shard: &Shard,
    peer: &mut Downstream,
    connection: &mut Connection,
    bytes: &[u8],
) -> Result<bool, SendError> {
    let Stream { reader, writer } = &mut connection.stream;
    let send = async {
        let mut send = pin!(writer.send(bytes));
        poll_fn(|cx| match send.as_mut().poll(cx) {
            Poll::Pending if reader.is_ready(cx) => Poll::Ready(Ok(false)),
            sent => sent.map_ok(|()| true),
        })
        .await
    };
    match Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, send).await
    {
        Ok(Ok(whole)) => Ok(whole),
        Ok(Err(_)) => Err(SendError::Broken),
        Err(interrupt) => Err(SendError::Interrupted(interrupt)),
    }
}

/// Waits for more of the body; `true`: the provider answers first.
async fn wait_for_body(
    shard: &Shard,
    peer: &mut Downstream,
    connection: &mut Connection,
) -> Result<bool, SendError> {
    let turn = poll_fn(|cx| {
        if connection.stream.reader.is_ready(cx) {
            return Poll::Ready(Ok(true));
        }
        // Some may have come while a part was on its way upstream.
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
    });
    turn.await.map_err(|interrupt| match interrupt {
        Interrupt::Gone => SendError::Interrupted(Interrupt::Gone),
        Interrupt::Late => SendError::Body(Box::new(Refusal::slow_body())),
    })
}
