//! What is sent and expected: documents of a given size in OpenAI's chat shape, and the events of
//! a stream. Both sides build them from here, so every byte that arrives can be compared.

use std::{ops::Range, sync::LazyLock};

use xxhash_rust::xxh3::Xxh3;

/// A JSON document of a chosen size. It is never held whole: its middle is a repeated pattern.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Document {
    head: &'static [u8],
    filler_bytes: u64,
    tail: &'static [u8],
}

impl Document {
    /// A chat completion of `bytes`, or the shortest there is.
    pub(crate) fn answer(bytes: u64) -> Self {
        Self::filled(ANSWER_HEAD, ANSWER_TAIL, bytes)
    }

    /// A chat request of `bytes`, or the shortest there is.
    pub(crate) fn request(bytes: u64, streamed: bool) -> Self {
        let tail = if streamed {
            STREAM_REQUEST_TAIL
        } else {
            REQUEST_TAIL
        };
        Self::filled(REQUEST_HEAD, tail, bytes)
    }

    fn filled(head: &'static [u8], tail: &'static [u8], bytes: u64) -> Self {
        Self {
            head,
            filler_bytes: bytes.saturating_sub((head.len() + tail.len()) as u64),
            tail,
        }
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        (self.head.len() + self.tail.len()) as u64 + self.filler_bytes
    }

    /// Where what fills it lies, which may be any text.
    pub(crate) fn filler(&self) -> Range<u64> {
        let start = self.head.len() as u64;
        start..start + self.filler_bytes
    }

    /// As many bytes as lie together at `offset`; none past the end.
    pub(crate) fn piece(&self, offset: u64) -> &'static [u8] {
        let head = self.head.len() as u64;
        if offset < head {
            return &self.head[usize::try_from(offset).unwrap_or(usize::MAX)..];
        }
        let in_filler = offset - head;
        if in_filler < self.filler_bytes {
            let pattern = PATTERN.as_slice();
            let begin = usize::try_from(in_filler % pattern.len() as u64).unwrap_or(0);
            let left = usize::try_from(self.filler_bytes - in_filler).unwrap_or(usize::MAX);
            return &pattern[begin..pattern.len().min(begin.saturating_add(left))];
        }
        let in_tail = usize::try_from(in_filler - self.filler_bytes).unwrap_or(usize::MAX);
        self.tail.get(in_tail..).unwrap_or_default()
    }

    /// All pieces in order.
    pub(crate) fn pieces(self) -> impl Iterator<Item = &'static [u8]> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let piece = self.piece(offset);
            offset += piece.len() as u64;
            (!piece.is_empty()).then_some(piece)
        })
    }

    /// The document in one buffer.
    pub(crate) fn to_vec(self) -> Vec<u8> {
        self.pieces().flatten().copied().collect()
    }

    /// The xxh3 of all its bytes.
    pub(crate) fn hash(self) -> u64 {
        let mut hash = Xxh3::new();
        self.pieces().for_each(|piece| hash.update(piece));
        hash.digest()
    }
}

/// One stamped event, as it is filled in and read again. Its length never changes, so the chunk
/// around it can be written once.
pub(crate) struct Event;

impl Event {
    /// An event with empty places for its number and its stamp.
    pub(crate) fn template() -> Vec<u8> {
        [
            EVENT_HEAD,
            &[b'0'; NUMBER_DIGITS],
            EVENT_MIDDLE,
            &[b'0'; STAMP_DIGITS],
            EVENT_TAIL,
        ]
        .concat()
    }

    /// Fills number and stamp into `event`.
    pub(crate) fn fill(event: &mut [u8], number: u64, stamp_micros: u64) {
        digits(&mut event[NUMBER_AT..NUMBER_AT + NUMBER_DIGITS], number);
        digits(&mut event[STAMP_AT..STAMP_AT + STAMP_DIGITS], stamp_micros);
    }

    /// Number and stamp of an event that is byte for byte as it was sent; `None` for any other.
    pub(crate) fn read(event: &[u8]) -> Option<(u64, u64)> {
        let rest = event.strip_prefix(EVENT_HEAD)?;
        let (number, rest) = rest.split_at_checked(NUMBER_DIGITS)?;
        let rest = rest.strip_prefix(EVENT_MIDDLE)?;
        let (stamp, rest) = rest.split_at_checked(STAMP_DIGITS)?;
        (rest == EVENT_TAIL).then_some(())?;
        Some((number_of(number)?, number_of(stamp)?))
    }
}

fn digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

fn number_of(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

const ANSWER_HEAD: &[u8] = br#"{"id":"chatcmpl-load","object":"chat.completion","created":1760000000,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":""#;
const ANSWER_TAIL: &[u8] = br#""},"finish_reason":"stop"}],"usage":{"prompt_tokens":200,"completion_tokens":150,"total_tokens":350,"prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":0}}}"#;

// `model` comes after the messages, as OpenAI's own Python client writes it.
const REQUEST_HEAD: &[u8] = br#"{"messages":[{"role":"user","content":""#;
const REQUEST_TAIL: &[u8] = br#""}],"model":"gpt-4o-mini"}"#;
const STREAM_REQUEST_TAIL: &[u8] =
    br#""}],"model":"gpt-4o-mini","stream":true,"stream_options":{"include_usage":true}}"#;

const EVENT_HEAD: &[u8] = br#"data: {"id":"chatcmpl-load","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}],"number":""#;
const EVENT_MIDDLE: &[u8] = br#"","sent_us":""#;
const EVENT_TAIL: &[u8] = b"\"}\n\n";
const NUMBER_DIGITS: usize = 7;
const STAMP_DIGITS: usize = 16;
const NUMBER_AT: usize = EVENT_HEAD.len();
const STAMP_AT: usize = NUMBER_AT + NUMBER_DIGITS + EVENT_MIDDLE.len();

/// Most events of one stream: what `NUMBER_DIGITS` can count.
pub(crate) const EVENTS_MAX: u64 = 1_000_000;

/// The last two events of a stream: usage, then the end mark.
pub(crate) const USAGE_EVENT: &[u8] = b"data: {\"id\":\"chatcmpl-load\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"gpt-4o-mini\",\"choices\":[],\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":150,\"total_tokens\":350}}\n\n";
pub(crate) const DONE_EVENT: &[u8] = b"data: [DONE]\n\n";

/// Largest document: a test moves some hundred megabytes at most.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Letters in no obvious order. The length is prime, so no power-of-two block repeats it and a
/// block that was lost, doubled or moved changes the hash.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9E37_79B9_u32;
    (0..65_521)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + u8::try_from((state >> 24) % 26).unwrap_or(0)
        })
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_the_size_that_was_asked_for() {
        for bytes in [1_024, 65_536, 200_000] {
            assert_eq!(Document::answer(bytes).to_vec().len() as u64, bytes);
            assert_eq!(Document::request(bytes, true).len(), bytes);
        }
    }

    #[test]
    fn a_document_is_json() {
        let answer: serde_json::Value =
            serde_json::from_slice(&Document::answer(1_024).to_vec()).unwrap();
        assert_eq!(answer["usage"]["total_tokens"], 350);
    }

    #[test]
    fn an_event_gives_back_its_number_and_stamp() {
        let mut event = Event::template();
        Event::fill(&mut event, 42, 123_456_789);
        assert_eq!(Event::read(&event), Some((42, 123_456_789)));
        event[10] ^= 1;
        assert_eq!(Event::read(&event), None);
    }
}
