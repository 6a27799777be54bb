//! A request's body: gathered up to a bound, or passed on as it arrives.

use std::time::Duration;

use super::{
    buffer::{Buffers, LARGE_BYTES, SMALL_BYTES},
    clock::Clock,
    connection::{Downstream, Interrupt},
    reply::Refusal,
};
use crate::http::{body::ChunkDecoder, head::RequestFraming};

/// A request's body, as far as it has been read.
pub enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// Its beginning; the rest is still to come and passes through.
    Passing {
        /// What was gathered before the bound was met, without framing.
        first: Vec<u8>,
        /// How the rest is framed.
        rest: Rest,
    },
}

/// The framing of a body that is still arriving.
pub enum Rest {
    /// So many bytes after those that were gathered, of so many in all.
    Length {
        /// Bytes still to come.
        left: u64,
        /// Bytes of the whole body.
        total: u64,
    },
    /// Chunks.
    Chunked(Box<ChunkDecoder>),
}

/// Bounds on one body.
pub struct Bounds {
    /// Greatest body.
    pub body_bytes: u64,
    /// How much is held.
    pub gather_bytes: u64,
    /// Longest pause between two reads.
    pub pause: Duration,
}

/// Why there is no body.
pub enum BodyError {
    /// It is to be refused.
    Refused(Refusal),
    /// The caller went away.
    Gone,
}

impl From<Refusal> for BodyError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Gathers the body that `framing` announces.
pub async fn gather(
    peer: &mut Downstream,
    clock: &Clock,
    buffers: &Buffers,
    framing: RequestFraming,
    bounds: &Bounds,
) -> Result<Body, BodyError> {
    match framing {
        RequestFraming::None | RequestFraming::Length(0) => Ok(Body::Whole(Vec::new())),
        RequestFraming::Length(total) => gather_length(peer, clock, buffers, total, bounds).await,
        RequestFraming::Chunked => gather_chunks(peer, clock, buffers, bounds).await,
    }
}

async fn gather_length(
    peer: &mut Downstream,
    clock: &Clock,
    buffers: &Buffers,
    total: u64,
    bounds: &Bounds,
) -> Result<Body, BodyError> {
    if total > bounds.body_bytes {
        return Err(Refusal::body_too_large(bounds.body_bytes).into());
    }
    // The buffer grows as bytes arrive: a length that is only claimed costs nothing.
    let mut body = match usize::try_from(total) {
        Ok(total) if total <= SMALL_BYTES => buffers.small(),
        Ok(total) if total <= LARGE_BYTES => buffers.large(),
        _ => Vec::with_capacity(LARGE_BYTES),
    };
    let mut left = total;
    loop {
        let input = peer.inlet.input();
        let taken = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        make_room(&mut body, taken, total);
        body.extend_from_slice(input.get(..taken).unwrap_or_default());
        peer.inlet.consume(taken);
        left -= taken as u64;
        if left == 0 {
            return Ok(Body::Whole(body));
        }
        if total > bounds.gather_bytes {
            let rest = Rest::Length { left, total };
            return Ok(Body::Passing { first: body, rest });
        }
        more(peer, clock, bounds.pause).await?;
    }
}

async fn gather_chunks(
    peer: &mut Downstream,
    clock: &Clock,
    buffers: &Buffers,
    bounds: &Bounds,
) -> Result<Body, BodyError> {
    let mut decoder = Box::new(ChunkDecoder::new());
    let mut body = buffers.small();
    loop {
        // Before it would be too much, not after: the buffer has no room past its bound.
        if (body.len() + peer.inlet.input().len()) as u64 > bounds.gather_bytes {
            let rest = Rest::Chunked(decoder);
            return Ok(Body::Passing { first: body, rest });
        }
        make_room(&mut body, peer.inlet.input().len(), bounds.gather_bytes);
        let fed = decoder
            .feed(peer.inlet.input(), |payload| {
                body.extend_from_slice(payload);
            })
            .map_err(|error| Refusal::malformed_body(error.status(), &error))?;
        peer.inlet.consume(fed.consumed);
        if decoder.payload_bytes() > bounds.body_bytes {
            return Err(Refusal::body_too_large(bounds.body_bytes).into());
        }
        if fed.done {
            return Ok(Body::Whole(body));
        }
        more(peer, clock, bounds.pause).await?;
    }
}

/// Makes room for `bytes` more. A large body gets all that it may need in one step: pages that are
/// never written cost nothing, while each doubling would leave a half behind.
fn make_room(body: &mut Vec<u8>, bytes: usize, most: u64) {
    if body.capacity() - body.len() >= bytes || body.len() + bytes <= LARGE_BYTES {
        return;
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    body.reserve_exact(bytes.max(most.saturating_sub(body.len())));
}

/// Waits for more of the body.
pub async fn more(peer: &mut Downstream, clock: &Clock, pause: Duration) -> Result<(), BodyError> {
    peer.limit(clock, pause);
    match peer.more(clock).await {
        Ok(()) => Ok(()),
        Err(Interrupt::Gone) => Err(BodyError::Gone),
        Err(Interrupt::Late) => Err(Refusal::slow_body().into()),
    }
}

/// Takes what has arrived of a body that passes through, without its framing. `true`: it is whole.
pub fn take_passing(
    peer: &mut Downstream,
    rest: &mut Rest,
    bounds: &Bounds,
    piece: &mut Vec<u8>,
) -> Result<bool, BodyError> {
    let input = peer.inlet.input();
    let (consumed, done) = match rest {
        Rest::Length { left, .. } => {
            let taken = input
                .len()
                .min(usize::try_from(*left).unwrap_or(usize::MAX));
            piece.extend_from_slice(input.get(..taken).unwrap_or_default());
            *left -= taken as u64;
            (taken, *left == 0)
        }
        Rest::Chunked(decoder) => {
            let fed = decoder
                .feed(input, |payload| piece.extend_from_slice(payload))
                .map_err(|error| Refusal::malformed_body(error.status(), &error))?;
            if decoder.payload_bytes() > bounds.body_bytes {
                return Err(Refusal::body_too_large(bounds.body_bytes).into());
            }
            (fed.consumed, fed.done)
        }
    };
    peer.inlet.consume(consumed);
    Ok(done)
}
