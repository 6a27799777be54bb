//! Stage 8: the answer passes through, metered on its way.
//!
//! Each read from upstream goes out in one send, in the same turn; the next read starts when that send
//! is done, which is the back-pressure. Bytes pass as they are; the reader of their framing only
//! watches, and decides where the answer ends.

use std::{future::poll_fn, io, time::Duration};

pub mod shared;

use super::{
    Shard,
    buffer::SMALL_BYTES,
    clock::{Deadline, Moment},
    connection::{Downstream, Interrupt},
    emit::Framing,
    record::Draft,
    reply::Refusal,
    upstream::attempt::Carrier,
};
use crate::{
    domain::outcome::Outcome,
    http::{
        body::{BodyError, CHUNK_END, ChunkDecoder, ChunkHeader, LAST_CHUNK, LengthCounter},
        head::{ResponseFraming, Version},
    },
    provider::meter::Meter,
};

/// How an answer's body is read and how it is written.
pub struct Passage {
    read: ReadFraming,
    write: WriteFraming,
}

enum ReadFraming {
    Nothing,
    Length(LengthCounter),
    Chunked(Box<ChunkDecoder>),
    Close,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WriteFraming {
    /// The bytes as they came, framing included.
    Same,
    /// The payload alone.
    Bare,
    /// The payload in chunks of our own.
    Chunks,
}

impl Passage {
    /// Decides how an answer passes to a caller of that version, and what its head then says.
    pub fn of(framing: ResponseFraming, caller: Version) -> (Self, Framing) {
        let modern = caller == Version::Http11;
        let (read, write, head) = match framing {
            ResponseFraming::None => (ReadFraming::Nothing, WriteFraming::Same, Framing::None),
            ResponseFraming::Length(bytes) => {
                let counter = LengthCounter::new(bytes);
                (
                    ReadFraming::Length(counter),
                    WriteFraming::Same,
                    Framing::Length(bytes),
                )
            }
            ResponseFraming::Chunked if modern => (
                ReadFraming::Chunked(Box::default()),
                WriteFraming::Same,
                Framing::Chunked,
            ),
            ResponseFraming::Chunked => (
                ReadFraming::Chunked(Box::default()),
                WriteFraming::Bare,
                Framing::Close,
            ),
            // An answer that its connection's end delimits gets chunks, so that a caller can
            // tell its end from a cut.
            ResponseFraming::Close if modern => {
                (ReadFraming::Close, WriteFraming::Chunks, Framing::Chunked)
            }
            ResponseFraming::Close => (ReadFraming::Close, WriteFraming::Bare, Framing::Close),
        };
        (Self { read, write }, head)
    }

    /// Says whether the answer has no (further) body.
    pub fn is_done(&self) -> bool {
        match &self.read {
            ReadFraming::Nothing => true,
            ReadFraming::Length(counter) => counter.is_done(),
            ReadFraming::Chunked(decoder) => decoder.is_done(),
            ReadFraming::Close => false,
        }
    }

    /// Takes one read. What goes to the caller is appended to `out`, unless the read itself is
    /// what goes out: then that many of its bytes.
    fn take(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        mut payload: impl FnMut(&[u8]),
    ) -> Result<Taken, BodyError> {
        let fed = match &mut self.read {
            ReadFraming::Nothing => {
                return Ok(Taken {
                    as_it_is: 0,
                    consumed: 0,
                    done: true,
                });
            }
            ReadFraming::Length(counter) => {
                let fed = counter.feed(input);
                payload(input.get(..fed.consumed).unwrap_or_default());
                fed
            }
            ReadFraming::Chunked(decoder) => {
                let bare = self.write == WriteFraming::Bare;
                decoder.feed(input, |piece| {
                    payload(piece);
                    if bare {
                        out.extend_from_slice(piece);
                    }
                })?
            }
            ReadFraming::Close => {
                payload(input);
                if self.write == WriteFraming::Chunks && !input.is_empty() {
                    out.extend_from_slice(ChunkHeader::new(input.len()).as_bytes());
                    out.extend_from_slice(input);
                    out.extend_from_slice(CHUNK_END);
                }
                let as_it_is = if self.write == WriteFraming::Bare {
                    input.len()
                } else {
                    0
                };
                return Ok(Taken {
                    as_it_is,
                    consumed: input.len(),
                    done: false,
                });
            }
        };
        let same = self.write == WriteFraming::Same;
        Ok(Taken {
            as_it_is: if same { fed.forward } else { 0 },
            consumed: fed.consumed,
            done: fed.done,
        })
    }

    /// Ends the caller's answer so that nobody takes it for whole: the last chunk, or some of
    /// the bytes that the head promised, never come. Only where the connection's end is the
    /// answer's end must the end itself tell: by a reset.
    fn cut(&self, peer: &Downstream) -> Relayed {
        let after = if self.write == WriteFraming::Bare {
            peer.writer.reset();
            After::Drop
        } else {
            After::Close
        };
        Relayed {
            after,
            ..Relayed::ended(Outcome::UpstreamCut)
        }
    }

    /// What follows the last byte of the body.
    fn ending(&self) -> &'static [u8] {
        match (&self.read, self.write) {
            // Trailers were dropped; this is the empty line after the last chunk.
            (ReadFraming::Chunked(_), WriteFraming::Same) => CHUNK_END,
            (_, WriteFraming::Chunks) => LAST_CHUNK,
            _ => b"",
        }
    }
}

struct Taken {
    /// Bytes of the input that go out as they are.
    as_it_is: usize,
    /// Bytes of the input that belong to this answer.
    consumed: usize,
    /// The answer is whole.
    done: bool,
}

/// How a relay ended.
pub struct Relayed {
    /// The exchange's outcome, if it is not the status' own.
    pub outcome: Option<Outcome>,
    /// The upstream connection can carry another exchange.
    pub upstream_clean: bool,
    /// What becomes of the downstream connection.
    pub after: After,
}

/// What becomes of a connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It can carry another exchange.
    Keep,
    /// It closes in good order.
    Close,
    /// It closes at once, by a reset if one was asked for.
    Drop,
    /// It has switched to WebSocket, over which further requests come.
    Socket,
}

impl Relayed {
    fn ended(outcome: Outcome) -> Self {
        Self {
            outcome: Some(outcome),
            upstream_clean: false,
            after: After::Drop,
        }
    }
}

/// Time limits of a relay.
pub struct Pace {
    /// Longest pause between two reads from upstream, and between two sends downstream.
    pub idle: Duration,
    /// When the whole exchange must be over.
    pub end: Option<Moment>,
}

impl Pace {
    /// Sets the caller's deadline for the next step.
    pub fn limit(&self, shard: &Shard, peer: &Downstream) {
        self.limit_on(shard, &peer.deadline);
    }

    /// Sets a deadline for the next step.
    pub fn limit_on(&self, shard: &Shard, deadline: &Deadline) {
        let now = shard.clock.coarse();
        let pause = (!self.idle.is_zero()).then(|| now.after(self.idle));
        deadline.set(match (pause, self.end) {
            (Some(pause), Some(end)) => Some(pause.min(end)),
            (pause, end) => pause.or(end),
        });
    }
}

/// Relays one answer to its end. `out` holds its head, `input` what was read behind it.
#[expect(
    clippy::too_many_arguments,
    reason = "the parties of a relay, each once"
)]
pub async fn relay(
    shard: &Shard,
    peer: &mut Downstream,
    upstream: &mut Carrier,
    mut passage: Passage,
    mut out: Vec<u8>,
    mut input: Vec<u8>,
    from: usize,
    meter: &mut Option<Box<Meter>>,
    draft: &mut Draft<'_>,
    pace: &Pace,
) -> Result<Relayed, Refusal> {
    let mut from = from;
    let mut first = true;
    loop {
        let read = input.get(from..).unwrap_or_default();
        let mut token = false;
        let taken = passage.take(read, &mut out, |payload| {
            if let Some(meter) = meter {
                token |= meter.feed(payload).first_token;
            }
            draft.response_piece(shard, payload);
        });
        if token && draft.first_token.is_none() {
            draft.first_token = Some(shard.clock.now());
        }
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) if first => {
                return Err(Refusal::upstream_failed(&format_args!(
                    "the provider's answer broke HTTP: {error}"
                )));
            }
            Err(error) => {
                draft.error = format!("the provider's answer broke HTTP: {error}");
                return Ok(passage.cut(peer));
            }
        };
        let done = taken.done || passage.is_done();
        let as_it_is = read.get(..taken.as_it_is).unwrap_or_default();
        let ending: &[u8] = if done { passage.ending() } else { b"" };
        pace.limit(shard, peer);
        // Head and first bytes go together, so do last bytes and ending; between them the read
        // goes out from where it lies.
        let sent = match peer.writer.post(&[&out, as_it_is, ending]) {
            Ok(true) => Ok(Ok(())),
            Ok(false) if first || done || !out.is_empty() => {
                out.extend_from_slice(as_it_is);
                out.extend_from_slice(ending);
                send(shard, peer, &out).await
            }
            Ok(false) => send(shard, peer, as_it_is).await,
            Err(error) => Ok(Err(error)),
        };
        if first {
            draft.overhead_micros = Some(
                shard
                    .clock
                    .now()
                    .micros_since(draft.received)
                    .saturating_sub(draft.waited_micros),
            );
            first = false;
        }
        out.clear();
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(Interrupt::Gone) => return Ok(gone(draft)),
            Err(Interrupt::Late) => {
                "the caller did not take the answer in time".clone_into(&mut draft.error);
                return Ok(Relayed::ended(Outcome::Cancelled));
            }
        }
        if done {
            let surplus = from + taken.consumed < input.len();
            shard.buffers.give_back(out);
            shard.buffers.give_back(input);
            return Ok(Relayed {
                outcome: None,
                upstream_clean: !surplus,
                after: After::Keep,
            });
        }
        from = 0;
        let buffer = roomier(shard, input);
        let read = read_more(shard, peer, upstream, buffer, pace).await;
        input = match read {
            Ok((Ok(1..), buffer)) => buffer,
            ended => return Ok(end(shard, peer, &passage, ended, draft).await),
        };
    }
}

/// Longest time for the rest of an answer that goes to nobody.
const TAKE_IN_LIMIT: Duration = Duration::from_secs(2);

/// Most bytes of such an answer that are read.
const TAKE_IN_BYTES_MAX: usize = 64 * 1024;

/// Reads an answer that goes to nobody, as far as it is small and comes soon. `true`: it was read
/// to its end, so that its connection can carry another exchange. An error: the caller went away.
pub async fn take_in(
    shard: &Shard,
    peer: &mut Downstream,
    upstream: &mut Carrier,
    mut passage: Passage,
    mut input: Vec<u8>,
    from: usize,
    draft: &mut Draft<'_>,
) -> Result<bool, Interrupt> {
    peer.limit(&shard.clock, TAKE_IN_LIMIT);
    let mut from = from;
    let mut total = 0;
    let mut out = Vec::new();
    loop {
        let read = input.get(from..).unwrap_or_default();
        total += read.len();
        let taken = passage.take(read, &mut out, |payload| {
            draft.response_piece(shard, payload);
        });
        out.clear();
        let Ok(taken) = taken else {
            return Ok(false);
        };
        if taken.done || passage.is_done() {
            let surplus = from + taken.consumed < input.len();
            shard.buffers.give_back(input);
            return Ok(!surplus);
        }
        if total > TAKE_IN_BYTES_MAX {
            return Ok(false);
        }
        from = 0;
        input.clear();
        let refused = upstream.arm(input);
        debug_assert!(refused.is_none(), "a read was in flight");
        let read = poll_fn(|cx| upstream.poll_read(cx));
        let read =
            Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, read);
        input = match read.await {
            Ok((Ok(1..), buffer)) => buffer,
            Ok(_) | Err(Interrupt::Late) => return Ok(false),
            Err(Interrupt::Gone) => return Err(Interrupt::Gone),
        };
    }
}

/// The buffer for the next read: a provider that fills one sends faster than we read, and gets
/// larger bites taken.
fn roomier(shard: &Shard, mut buffer: Vec<u8>) -> Vec<u8> {
    let full = buffer.len() == buffer.capacity();
    buffer.clear();
    if full && buffer.capacity() == SMALL_BYTES {
        shard.buffers.give_back(buffer);
        return shard.buffers.large();
    }
    buffer
}

/// Ends a relay whose provider sends no more: its end, if the connection's end is the answer's,
/// else a cut.
async fn end(
    shard: &Shard,
    peer: &mut Downstream,
    passage: &Passage,
    ended: Result<(io::Result<usize>, Vec<u8>), Interrupt>,
    draft: &mut Draft<'_>,
) -> Relayed {
    match ended {
        Err(Interrupt::Gone) => return gone(draft),
        Ok((Ok(0), _)) if matches!(passage.read, ReadFraming::Close) => {
            let ending = passage.ending();
            return match send(shard, peer, ending).await {
                Ok(Ok(())) => Relayed {
                    outcome: None,
                    upstream_clean: false,
                    after: if ending.is_empty() {
                        After::Close
                    } else {
                        After::Keep
                    },
                },
                _ => gone(draft),
            };
        }
        Err(Interrupt::Late) => "the provider's answer stalled".clone_into(&mut draft.error),
        Ok((Ok(_), _)) => "the provider closed the connection in the middle of its answer"
            .clone_into(&mut draft.error),
        Ok((Err(error), _)) => {
            draft.error = format!(
                "the connection to the provider broke in the middle of its answer: {error}"
            );
        }
    }
    passage.cut(peer)
}

fn gone(draft: &mut Draft<'_>) -> Relayed {
    "the caller went away before the end of the answer".clone_into(&mut draft.error);
    Relayed::ended(Outcome::Cancelled)
}

async fn send(
    shard: &Shard,
    peer: &mut Downstream,
    bytes: &[u8],
) -> Result<io::Result<()>, Interrupt> {
    let send = peer.writer.send(bytes);
    Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, send).await
}

async fn read_more(
    shard: &Shard,
    peer: &mut Downstream,
    upstream: &mut Carrier,
    buffer: Vec<u8>,
    pace: &Pace,
) -> Result<(io::Result<usize>, Vec<u8>), Interrupt> {
    pace.limit(shard, peer);
    let refused = upstream.arm(buffer);
    debug_assert!(refused.is_none(), "a read was in flight");
    let read = poll_fn(|cx| upstream.poll_read(cx));
    Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, read).await
}
