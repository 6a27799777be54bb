//! A WebSocket: after the switch of protocols, bytes pass in both directions until one ends.
//!
//! A socket may be silent for as long as its two ends like; but who is sent something must take
//! it in time.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use super::{
    Shard,
    clock::{Clock, Deadline},
    connection::{Downstream, Interrupt},
    record::Draft,
    relay::{After, Relayed},
    upstream::connect::Connection,
};
use crate::domain::outcome::Outcome;

/// What happened next.
enum Turn {
    Downstream(Result<(), Interrupt>),
    Upstream(io::Result<usize>, Vec<u8>),
}

/// Tunnels until one side ends, or does not take a piece within `limit` (zero: no limit). `out`
/// holds the head of the 101, `buffer` what was read behind it upstream from `from` on.
#[expect(
    clippy::too_many_arguments,
    reason = "the parties of a tunnel, each once"
)]
pub async fn tunnel(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    upstream: &mut Connection,
    mut out: Vec<u8>,
    mut buffer: Vec<u8>,
    from: usize,
    draft: &mut Draft<'_>,
    limit: Duration,
) -> Relayed {
    let early = buffer.get(from..).unwrap_or_default();
    draft.response_piece(shard, early);
    out.extend_from_slice(early);
    let clock = &shard.clock;
    peer.limit(clock, limit);
    let sent = in_time(&peer.deadline, clock, peer.writer.send(&out)).await;
    let mut outcome = downstream(sent.as_ref(), draft);
    shard.buffers.give_back(out);
    while outcome.is_none() {
        if !upstream.stream.reader.is_armed() {
            buffer.clear();
            let refused = upstream.stream.reader.arm(std::mem::take(&mut buffer));
            debug_assert!(refused.is_none(), "a read was in flight");
        }
        let turn = poll_fn(|cx| {
            if let Poll::Ready((result, read)) = upstream.stream.reader.poll(cx) {
                return Poll::Ready(Turn::Upstream(result, read));
            }
            // Also what came behind the handshake, before the 101.
            if !peer.inlet.input().is_empty() {
                return Poll::Ready(Turn::Downstream(Ok(())));
            }
            peer.inlet.poll_more(cx).map(Turn::Downstream)
        })
        .await;
        outcome = match turn {
            Turn::Upstream(Ok(1..), read) => {
                draft.response_piece(shard, &read);
                peer.limit(clock, limit);
                let sent = in_time(&peer.deadline, clock, peer.writer.send(&read)).await;
                buffer = read;
                downstream(sent.as_ref(), draft)
            }
            Turn::Upstream(Err(_), _) => Some(Outcome::UpstreamCut),
            Turn::Downstream(Ok(())) => {
                let input = peer.inlet.input();
                draft.request_piece(shard, input);
                peer.limit(clock, limit);
                let send = upstream.stream.writer.send(input);
                let sent = in_time(&peer.deadline, clock, send).await;
                peer.inlet.consume(usize::MAX);
                match sent {
                    Some(Ok(())) => None,
                    Some(Err(_)) => Some(Outcome::UpstreamCut),
                    None => {
                        draft.error = late("provider");
                        Some(Outcome::UpstreamCut)
                    }
                }
            }
            // Which end of a WebSocket closes first says nothing about how it went.
            Turn::Upstream(Ok(0), _) | Turn::Downstream(Err(_)) => Some(Outcome::Ok),
        };
    }
    // One that took nothing takes no goodbye either.
    peer.limit(clock, FAREWELL);
    let finish = upstream.stream.writer.finish();
    let _ = in_time(&peer.deadline, clock, finish).await;
    Relayed {
        outcome,
        upstream_clean: false,
        after: if outcome == Some(Outcome::Cancelled) {
            After::Drop
        } else {
            After::Close
        },
    }
}

/// Longest time for the provider to take the goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a send to the caller means for the tunnel.
fn downstream(sent: Option<&io::Result<()>>, draft: &mut Draft<'_>) -> Option<Outcome> {
    match sent {
        Some(Ok(())) => return None,
        Some(Err(_)) => {}
        None => draft.error = late("caller"),
    }
    Some(Outcome::Cancelled)
}

fn late(side: &str) -> String {
    format!("the {side} did not take what was sent to it in time")
}

/// Waits for a send; `None` when the deadline passes first. Half of a frame may have been sent
/// then: its connection is of no use any more.
async fn in_time<F: Future>(deadline: &Deadline, clock: &Clock, send: F) -> Option<F::Output> {
    let mut send = pin!(send);
    let sent = poll_fn(|cx| match send.as_mut().poll(cx) {
        Poll::Ready(sent) => Poll::Ready(Some(sent)),
        Poll::Pending if deadline.is_past(clock.coarse(), cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await;
    deadline.set(None);
    sent
}
