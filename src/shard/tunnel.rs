//! A WebSocket: after the switch of protocols, bytes pass in both directions until one ends.

use std::{future::poll_fn, io, rc::Rc, task::Poll};

use super::{
    Shard,
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

/// Tunnels until one side ends. `out` holds the head of the 101, `buffer` what was read behind
/// it upstream from `from` on.
pub async fn tunnel(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    upstream: &mut Connection,
    mut out: Vec<u8>,
    mut buffer: Vec<u8>,
    from: usize,
    draft: &mut Draft<'_>,
) -> Relayed {
    let early = buffer.get(from..).unwrap_or_default();
    draft.response_piece(shard, early);
    out.extend_from_slice(early);
    // A socket may be silent for as long as its two ends like.
    peer.deadline.set(None);
    let mut outcome = None;
    if peer.writer.send(&out).await.is_err() {
        outcome = Some(Outcome::Cancelled);
    }
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
                let sent = peer.writer.send(&read).await;
                buffer = read;
                sent.is_err().then_some(Outcome::Cancelled)
            }
            Turn::Upstream(Err(_), _) => Some(Outcome::UpstreamCut),
            Turn::Downstream(Ok(())) => {
                let input = peer.inlet.input();
                draft.request_piece(shard, input);
                let sent = upstream.stream.writer.send(input).await;
                peer.inlet.consume(usize::MAX);
                sent.is_err().then_some(Outcome::UpstreamCut)
            }
            // Which end of a WebSocket closes first says nothing about how it went.
            Turn::Upstream(Ok(0), _) | Turn::Downstream(Err(_)) => Some(Outcome::Ok),
        };
    }
    upstream.stream.writer.finish().await;
    Relayed {
        outcome,
        upstream_clean: false,
        after: After::Close,
    }
}
