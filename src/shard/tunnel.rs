//! A WebSocket: after the switch of protocols, bytes pass in both directions until one ends.
//!
//! The directions know nothing of each other: one that stands still does not hold the other up. A
//! socket may be silent for as long as its two ends like; but who is sent something must take it
//! in time.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use super::{
    Shard,
    clock::{self, Deadline},
    connection::{Downstream, Inlet},
    record::Draft,
    relay::{After, Relayed},
    stream::{Reader, Stream, Writer},
    upstream::connect::Connection,
};
use crate::domain::outcome::Outcome;

/// What both directions share.
struct Tunnel<'t, 'd> {
    shard: &'t Rc<Shard>,
    draft: RefCell<&'t mut Draft<'d>>,
    limit: Duration,
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
    buffer: Vec<u8>,
    from: usize,
    draft: &mut Draft<'_>,
    limit: Duration,
) -> Relayed {
    let early = buffer.get(from..).unwrap_or_default();
    draft.response_piece(shard, early);
    out.extend_from_slice(early);
    shard.buffers.give_back(buffer);
    peer.deadline.set(None);
    let tunnel = Tunnel {
        shard,
        draft: RefCell::new(draft),
        limit,
    };
    let Stream { reader, writer } = &mut upstream.stream;
    let outcome = {
        let mut up = pin!(tunnel.up(&mut peer.inlet, writer));
        let mut down = pin!(tunnel.down(reader, &mut peer.writer, out));
        poll_fn(|cx| match down.as_mut().poll(cx) {
            Poll::Pending => up.as_mut().poll(cx),
            Poll::Ready(ended) => Poll::Ready(ended),
        })
        .await
    };
    if outcome != Outcome::UpstreamCut {
        let deadline = shard.deadlines.open();
        let _ = clock::in_time(&deadline, &shard.clock, FAREWELL, writer.finish()).await;
    }
    let after = match outcome {
        Outcome::Cancelled => After::Drop,
        _ => After::Close,
    };
    Relayed {
        outcome: Some(outcome),
        upstream_clean: false,
        after,
    }
}

/// Longest time for the provider to take the goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

impl Tunnel<'_, '_> {
    /// From the caller to the provider.
    async fn up(&self, inlet: &mut Inlet, writer: &mut Writer) -> Outcome {
        let deadline = self.shard.deadlines.open();
        loop {
            // Some may have come behind the handshake, before the 101.
            if inlet.input().is_empty() && poll_fn(|cx| inlet.poll_more(cx)).await.is_err() {
                // Which end of a WebSocket closes first says nothing about how it went.
                return Outcome::Ok;
            }
            let input = inlet.input();
            self.draft.borrow_mut().request_piece(self.shard, input);
            if !self.send(&deadline, writer, input, "provider").await {
                return Outcome::UpstreamCut;
            }
            inlet.consume(usize::MAX);
        }
    }

    /// From the provider to the caller. `out` goes first.
    async fn down(&self, reader: &mut Reader, writer: &mut Writer, mut out: Vec<u8>) -> Outcome {
        let deadline = self.shard.deadlines.open();
        loop {
            if !self.send(&deadline, writer, &out, "caller").await {
                return Outcome::Cancelled;
            }
            out.clear();
            let (result, read) = reader.read(out).await;
            out = read;
            match result {
                Ok(0) => return Outcome::Ok,
                Ok(_) => {}
                Err(_) => return Outcome::UpstreamCut,
            }
            self.draft.borrow_mut().response_piece(self.shard, &out);
        }
    }

    /// Sends a piece; `false` if it cannot be sent, or is not taken in time.
    async fn send(
        &self,
        deadline: &Deadline,
        writer: &mut Writer,
        piece: &[u8],
        side: &str,
    ) -> bool {
        let send = writer.send(piece);
        let sent = clock::in_time(deadline, &self.shard.clock, self.limit, send).await;
        if sent.is_none() {
            self.draft.borrow_mut().error =
                format!("the {side} did not take what was sent to it in time");
        }
        sent.is_some_and(|sent: io::Result<()>| sent.is_ok())
    }
}
