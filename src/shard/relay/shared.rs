//! An answer for several readers: it is fetched into a track, and each caller reads from there.
//!
//! Both sides run beside each other: [`run`] fetches for as long as anybody reads, and sends to its
//! own caller, who is a reader like any other; [`deliver`] is all that a follower does. Framing is
//! written anew, the payload is the provider's byte for byte.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use super::{After, Pace, Passage, ReadFraming, Relayed, roomier};
use crate::{
    domain::outcome::Outcome,
    http::body::{CHUNK_END, ChunkHeader, LAST_CHUNK},
    provider::meter::Meter,
    shard::{
        Shard,
        clock::{Deadline, Moment},
        connection::{Downstream, Interrupt},
        emit::Framing,
        record::Draft,
        track::{self, Cut, Reader, Writer},
        upstream::attempt::Carrier,
    },
};

/// How fetching ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// The answer is whole.
    Whole,
    /// It is whole, and nobody read it to its end.
    Unread,
    /// The provider ended it early.
    Cut,
    /// Nobody reads any more.
    Abandoned,
}

/// How sending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// The caller has all of it.
    Whole,
    /// There was no more to send.
    Cut(Cut),
    /// The caller went away.
    Gone,
    /// The caller did not take it in time.
    Late,
}

/// An answer that is fetched for whoever reads it.
pub struct Fetch<'f> {
    /// What it comes on.
    pub upstream: &'f mut Carrier,
    /// How it is read.
    pub passage: Passage,
    /// What was read behind its head, from `from` on.
    pub input: Vec<u8>,
    /// See `input`.
    pub from: usize,
    /// Where it goes.
    pub writer: Writer,
    /// How long it is read on when nobody reads along.
    pub stays: Stays,
}

/// How long an answer is read on when nobody reads along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// Not at all.
    No,
    /// For so long.
    For(Duration),
    /// To its end.
    ToTheEnd,
}

/// Fetches an answer and sends it to its caller, whose head is in `out`.
#[expect(
    clippy::too_many_arguments,
    reason = "the parties of a relay, each once"
)]
pub async fn run(
    shard: &Shard,
    peer: &mut Downstream,
    fetch: Fetch<'_>,
    reader: Reader,
    out: Vec<u8>,
    framing: Framing,
    meter: &mut Option<Box<Meter>>,
    draft: &mut Draft<'_>,
    pace: &Pace,
) -> (Relayed, Fetched) {
    let deadline = shard.deadlines.open();
    let (received, waited) = (draft.received, draft.waited_micros);
    let mut overhead = None;
    let mut fetched = None;
    let mut delivered = None;
    {
        let mut fetching = pin!(fetch_all(shard, fetch, &deadline, meter, draft, pace));
        let mut delivering = pin!(async {
            let mut reader = reader;
            let first = |at: Moment| overhead = Some(at.micros_since(received));
            deliver(shard, peer, &mut reader, out, framing, pace, first, |_| {}).await
        });
        poll_fn(|cx| {
            if fetched.is_none()
                && let Poll::Ready(ended) = fetching.as_mut().poll(cx)
            {
                fetched = Some(ended);
            }
            if delivered.is_none()
                && let Poll::Ready(ended) = delivering.as_mut().poll(cx)
            {
                delivered = Some(ended);
            }
            match (fetched, delivered) {
                (Some(_), Some(_)) => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
    }
    draft.overhead_micros = overhead.map(|overhead| u64::saturating_sub(overhead, waited));
    let (fetched, clean) = fetched.unwrap_or((Fetched::Cut, false));
    let delivered = delivered.unwrap_or(Delivered::Gone);
    let relayed = relayed(peer, framing, delivered, fetched, draft);
    let upstream_clean = clean && matches!(fetched, Fetched::Whole | Fetched::Unread);
    (
        Relayed {
            upstream_clean,
            ..relayed
        },
        fetched,
    )
}

/// What the end of both sides is for the exchange and its connection.
fn relayed(
    peer: &Downstream,
    framing: Framing,
    delivered: Delivered,
    fetched: Fetched,
    draft: &mut Draft<'_>,
) -> Relayed {
    let outcome = if fetched == Fetched::Cut {
        Some(Outcome::UpstreamCut)
    } else if delivered == Delivered::Whole {
        None
    } else {
        Some(Outcome::Cancelled)
    };
    if let Some(error) = delivered.error()
        && fetched != Fetched::Cut
    {
        error.clone_into(&mut draft.error);
    }
    Relayed {
        outcome,
        upstream_clean: false,
        after: delivered.after(peer, framing),
    }
}

impl Delivered {
    /// What a record says of it, if anything went wrong.
    pub fn error(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::Cut(Cut::Aborted) => Some("the answer that was shared ended early"),
            Self::Cut(Cut::Behind) => {
                Some("the caller was so slow that the rest was no longer kept")
            }
            Self::Gone => Some("the caller went away before the end of the answer"),
            Self::Late => Some("the caller did not take the answer in time"),
        }
    }

    /// What becomes of the caller's connection. What was cut is ended so that nobody takes it for whole:
    /// where the connection's end is the answer's, by a reset.
    pub fn after(self, peer: &Downstream, framing: Framing) -> After {
        match self {
            Self::Whole if framing == Framing::Close => After::Close,
            Self::Whole => After::Keep,
            Self::Cut(_) if framing == Framing::Close => {
                peer.writer.reset();
                After::Drop
            }
            Self::Cut(_) => After::Close,
            Self::Gone | Self::Late => After::Drop,
        }
    }
}

/// Reads an answer to its end, into its track. Also says whether its connection can carry another
/// exchange.
async fn fetch_all(
    shard: &Shard,
    fetch: Fetch<'_>,
    deadline: &Deadline,
    meter: &mut Option<Box<Meter>>,
    draft: &mut Draft<'_>,
    pace: &Pace,
) -> (Fetched, bool) {
    let Fetch {
        upstream,
        mut passage,
        mut input,
        mut from,
        writer,
        stays,
    } = fetch;
    let began = shard.clock.now();
    let mut unread_since = None;
    let mut scratch = Vec::new();
    let mut payload = Vec::new();
    loop {
        let read = input.get(from..).unwrap_or_default();
        let mut token = false;
        let taken = passage.take(read, &mut scratch, |piece| {
            if let Some(meter) = meter {
                token |= meter.feed(piece).first_token;
            }
            payload.extend_from_slice(piece);
        });
        scratch.clear();
        let now = shard.clock.now();
        if token && draft.first_token.is_none() {
            draft.first_token = Some(now);
        }
        draft.response_piece(shard, &payload);
        let micros = u32::try_from(now.micros_since(began)).unwrap_or(u32::MAX);
        writer.push(&payload, micros);
        payload.clear();
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) => {
                draft.error = format!("the provider's answer broke HTTP: {error}");
                return (Fetched::Cut, false);
            }
        };
        if taken.done || passage.is_done() {
            let surplus = from + taken.consumed < input.len();
            shard.buffers.give_back(input);
            return (end(writer, meter), !surplus);
        }
        if writer.may_go_on().await == track::Pace::Abandoned && stays == Stays::No {
            return (Fetched::Abandoned, false);
        }
        from = 0;
        let refused = upstream.arm(roomier(shard, input));
        debug_assert!(refused.is_none(), "a read was in flight");
        pace.limit_on(shard, deadline);
        let mut read = pin!(poll_fn(|cx| {
            if let Poll::Ready(read) = upstream.poll_read(cx) {
                return Poll::Ready(Some(read));
            }
            if deadline.is_past(shard.clock.coarse(), cx) {
                return Poll::Ready(None);
            }
            Poll::Pending
        }));
        let read = match (stays, writer.while_read(read.as_mut()).await) {
            (_, Some(read)) => Some(read),
            (Stays::No, None) => None,
            (Stays::ToTheEnd, None) => Some(read.await),
            (Stays::For(time), None) => {
                let since = *unread_since.get_or_insert_with(|| shard.clock.now());
                within(shard, since.after(time), read).await
            }
        };
        if writer.is_read() {
            unread_since = None;
        }
        input = match read {
            None => return (Fetched::Abandoned, false),
            Some(None) => {
                "the provider's answer stalled".clone_into(&mut draft.error);
                return (Fetched::Cut, false);
            }
            Some(Some((Ok(1..), buffer))) => buffer,
            Some(Some((Ok(_), _))) if matches!(passage.read, ReadFraming::Close) => {
                return (end(writer, meter), false);
            }
            Some(Some((Ok(_), _))) => {
                "the provider closed the connection in the middle of its answer"
                    .clone_into(&mut draft.error);
                return (Fetched::Cut, false);
            }
            Some(Some((Err(error), _))) => {
                draft.error = format!(
                    "the connection to the provider broke in the middle of its answer: {error}"
                );
                return (Fetched::Cut, false);
            }
        };
    }
}

/// Waits for `work` until `end`.
async fn within<F: Future>(shard: &Shard, end: Moment, mut work: Pin<&mut F>) -> Option<F::Output> {
    let patience = shard.deadlines.open();
    patience.set(Some(end));
    poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if patience.is_past(shard.clock.coarse(), cx) {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

fn end(writer: Writer, meter: &mut Option<Box<Meter>>) -> Fetched {
    let fetched = if writer.is_read() {
        Fetched::Whole
    } else {
        Fetched::Unread
    };
    match meter {
        Some(meter) => writer.end_used(meter.finish().usage),
        None => writer.end(),
    }
    fetched
}

/// Sends a head and what a reader gives to a caller. `first` is told when the head has gone out,
/// `passed` what goes behind it.
#[expect(
    clippy::too_many_arguments,
    reason = "the parties of a relay, each once"
)]
pub async fn deliver(
    shard: &Shard,
    peer: &mut Downstream,
    reader: &mut Reader,
    mut out: Vec<u8>,
    framing: Framing,
    pace: &Pace,
    first: impl FnOnce(Moment),
    mut passed: impl FnMut(&[u8]),
) -> Delivered {
    let mut first = Some(first);
    if peer.inlet.has_left() {
        return Delivered::Gone;
    }
    loop {
        // Head and first bytes go together, if there are any yet.
        let ended = if first.is_some() && reader.would_wait() {
            None
        } else {
            peer.deadline.set(pace.end);
            let next = reader.next();
            let next =
                Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, next);
            match next.await {
                Ok(Ok(Some(piece))) => {
                    put(&mut out, piece.bytes(), framing);
                    passed(piece.bytes());
                    None
                }
                Ok(Ok(None)) => {
                    if framing == Framing::Chunked {
                        out.extend_from_slice(LAST_CHUNK);
                    }
                    Some(Delivered::Whole)
                }
                Ok(Err(cut)) => Some(Delivered::Cut(cut)),
                Err(Interrupt::Gone) => return Delivered::Gone,
                Err(Interrupt::Late) => return Delivered::Late,
            }
        };
        if !out.is_empty() {
            pace.limit(shard, peer);
            let sent = super::send(shard, peer, &out).await;
            out.clear();
            if let Some(first) = first.take() {
                first(shard.clock.now());
            }
            match sent {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(Interrupt::Gone) => return Delivered::Gone,
                Err(Interrupt::Late) => return Delivered::Late,
            }
        }
        if let Some(ended) = ended {
            shard.buffers.give_back(out);
            return ended;
        }
    }
}

/// Appends a piece of a body.
pub fn put(out: &mut Vec<u8>, bytes: &[u8], framing: Framing) {
    if framing != Framing::Chunked {
        return out.extend_from_slice(bytes);
    }
    out.extend_from_slice(ChunkHeader::new(bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(CHUNK_END);
}
