//! One cached answer: immutable, of exact size, shared by every shard that sends it.
//!
//! A hit is the answer as it was emitted: the body byte for byte in the coding that the caller
//! accepts, status and header fields as they went to the first caller. Left out are the fields
//! that were about that one exchange; [`is_replayed`] is the list. The exchange that serves the
//! hit adds its own: ids, `cf-aig-cache-status`, `server-timing`, framing, `date` if any.

use super::key::{ends_with, starts_with};
use crate::{
    domain::{cache::PartDigests, id::RequestId, money::PicoDollars, usage::Usage},
    http::{head::Field, header::FieldName},
};

/// One answer, and what a record of its hit needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Cached {
    /// HTTP status.
    pub status: u16,
    /// What is text of it, one part behind the other, and the body behind that: one piece of memory.
    bytes: Box<[u8]>,
    ends: Ends,
    /// Frames of an event stream, in order; empty for another answer.
    pub frames: Box<[Frame]>,
    /// What the first exchange used: what a hit saves.
    pub usage: Usage,
    /// What that cost, if its price is known.
    pub cost: Option<PicoDollars>,
    /// The first exchange's record.
    pub origin: RequestId,
    /// Digests of the key's parts.
    pub digests: PartDigests,
}

/// Where the parts in front of a body end.
type Ends = [u32; Front::PARTS];

/// What is known of an answer when its head has come, with room for the body behind it.
#[derive(Debug, Default)]
pub struct Front {
    /// The parts. Its owner gathers the body behind them.
    pub bytes: Vec<u8>,
    ends: Ends,
}

/// What a [`Front`] is made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrontParts<'a> {
    /// The whole key, in pieces; compared by who wants to send the answer.
    pub key: [&'a [u8]; 3],
    /// The account's gateway that it belongs to, as in the path: what is purged together.
    pub gateway: &'a str,
    /// Slug of the provider.
    pub provider: &'a str,
    /// Header fields, each with its line end, ready to be sent.
    pub fields: &'a [u8],
    /// Value of `content-type`; empty if there was none.
    pub content_type: &'a [u8],
    /// The model that the first exchange's record has.
    pub model: &'a [u8],
}

impl Front {
    const PARTS: usize = 6;

    /// Puts the parts together, with room for a body of so many bytes.
    pub fn new(parts: &FrontParts<'_>, body_bytes: usize) -> Self {
        let [row, head, body] = parts.key;
        let pieces: [&[&[u8]]; Self::PARTS] = [
            &[row, head, body],
            &[parts.gateway.as_bytes()],
            &[parts.provider.as_bytes()],
            &[parts.fields],
            &[parts.content_type],
            &[parts.model],
        ];
        let length = |pieces: &&[&[u8]]| pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let front: usize = pieces.iter().map(length).sum();
        let mut bytes = Vec::with_capacity(front + body_bytes);
        let ends = pieces.map(|pieces| {
            for piece in pieces {
                bytes.extend_from_slice(piece);
            }
            // What does not fit is found nowhere.
            u32::try_from(bytes.len()).unwrap_or(u32::MAX)
        });
        Self { bytes, ends }
    }

    /// The whole key.
    pub fn key(&self) -> &[u8] {
        let [end, ..] = self.ends;
        between(&self.bytes, 0, end)
    }

    /// Header fields, each with its line end.
    pub fn fields(&self) -> &[u8] {
        let [_, _, start, end, ..] = self.ends;
        between(&self.bytes, start, end)
    }

    /// Where the body begins.
    pub fn body_start(&self) -> usize {
        let [.., last] = self.ends;
        usize::try_from(last).unwrap_or(usize::MAX)
    }
}

/// A piece of a stream as it arrived in one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Where it ends in the body.
    pub end: u32,
    /// Microseconds from the answer's head to its arrival; 71 minutes at most.
    pub micros: u32,
}

/// What the end of an exchange adds to the bytes of its answer.
#[derive(Debug, Default)]
pub struct Rest {
    /// HTTP status.
    pub status: u16,
    /// Frames of an event stream, in order; empty for another answer.
    pub frames: Box<[Frame]>,
    /// What the exchange used.
    pub usage: Usage,
    /// What that cost, if its price is known.
    pub cost: Option<PicoDollars>,
    /// Its record.
    pub origin: RequestId,
    /// Digests of the key's parts.
    pub digests: PartDigests,
}

impl Cached {
    /// An answer whose body has come whole behind its front.
    pub fn new(front: Front, rest: Rest) -> Self {
        let Rest {
            status,
            frames,
            usage,
            cost,
            origin,
            digests,
        } = rest;
        Self {
            status,
            bytes: front.bytes.into_boxed_slice(),
            ends: front.ends,
            frames,
            usage,
            cost,
            origin,
            digests,
        }
    }

    /// The whole key; compared by who wants to send this.
    pub fn key(&self) -> &[u8] {
        let [end, ..] = self.ends;
        between(&self.bytes, 0, end)
    }

    /// The account's gateway that it belongs to, as in the path: what is purged together.
    pub fn gateway(&self) -> &[u8] {
        let [start, end, ..] = self.ends;
        between(&self.bytes, start, end)
    }

    /// Slug of the provider.
    pub fn provider(&self) -> &[u8] {
        let [_, start, end, ..] = self.ends;
        between(&self.bytes, start, end)
    }

    /// Header fields, each with its line end, ready to be sent.
    pub fn fields(&self) -> &[u8] {
        let [_, _, start, end, ..] = self.ends;
        between(&self.bytes, start, end)
    }

    /// Value of `content-type`; empty if there was none.
    pub fn content_type(&self) -> &[u8] {
        let [.., start, end, _] = self.ends;
        between(&self.bytes, start, end)
    }

    /// The model that the first exchange's record has.
    pub fn model(&self) -> &[u8] {
        let [.., start, end] = self.ends;
        between(&self.bytes, start, end)
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        let [.., start] = self.ends;
        self.bytes.get(start as usize..).unwrap_or_default()
    }

    /// Bytes of the answer itself: what is compared with the greatest that is kept.
    pub fn answer_bytes(&self) -> u64 {
        (self.body().len() + self.fields().len()) as u64
    }

    /// Bytes of everything that it holds, itself included.
    pub fn bytes(&self) -> u64 {
        let frames = size_of_val::<[Frame]>(&self.frames);
        (size_of::<Self>() + self.bytes.len() + frames) as u64
    }

    /// Says whether it is an event stream, to be replayed frame by frame.
    pub fn is_stream(&self) -> bool {
        !self.frames.is_empty()
    }
}

fn between(bytes: &[u8], start: u32, end: u32) -> &[u8] {
    let part = bytes.get(start as usize..end as usize);
    part.unwrap_or_default()
}

/// Says whether a field of an answer is kept with it. To be asked about fields that pass to the
/// caller at all (`emit.rs`): end-to-end ones that are no `cf-aig-*`.
pub fn is_replayed(field: &Field<'_>) -> bool {
    /// They name one exchange, or count what is left of a limit after it.
    const STARTS: [&[u8]; 9] = [
        b"x-ratelimit-",
        b"ratelimit-",
        b"anthropic-ratelimit-",
        b"anthropic-priority-",
        b"x-envoy-",
        b"x-goog-quota-",
        b"x-amzn-bedrock-invocation-",
        b"x-amz-cf-",
        b"openai-processing-",
    ];
    const ENDS: [&[u8]; 5] = [
        b"request-id",
        b"requestid",
        b"trace-id",
        b"traceid",
        b"correlation-id",
    ];
    const NAMES: [&[u8]; 14] = [
        b"ratelimit",
        b"traceparent",
        b"tracestate",
        b"x-cloud-trace-context",
        b"cf-cache-status",
        b"cf-ray",
        b"x-cache",
        b"x-served-by",
        b"x-timer",
        b"x-runtime",
        b"x-response-time",
        b"nel",
        b"report-to",
        b"x-compute-time",
    ];
    match field.id {
        FieldName::Date
        | FieldName::Age
        | FieldName::RetryAfter
        | FieldName::ServerTiming
        | FieldName::SetCookie
        | FieldName::Connection
        | FieldName::KeepAlive
        | FieldName::TransferEncoding
        | FieldName::ContentLength
        | FieldName::Via
        | FieldName::AltSvc
        | FieldName::CfRay
        | FieldName::RequestId
        | FieldName::XRequestId
        | FieldName::XAmznRequestId
        | FieldName::XAmznBedrockInvocationLatency => false,
        FieldName::Other => {
            let name = field.name;
            let starts = |start: &&[u8]| starts_with(name, start);
            let ends = |end: &&[u8]| ends_with(name, end);
            let listed = NAMES.iter().any(|listed| name.eq_ignore_ascii_case(listed));
            !listed && !STARTS.iter().any(starts) && !ENDS.iter().any(ends)
        }
        _ => true,
    }
}

/// Writes the fields that are kept, each with its line end, exact in size.
pub fn replayed<'f>(fields: impl Iterator<Item = &'f Field<'f>>) -> Box<[u8]> {
    let mut lines = Vec::new();
    for field in fields.filter(|field| is_replayed(field)) {
        for part in [field.name, b": ", field.value, b"\r\n"] {
            lines.extend_from_slice(part);
        }
    }
    lines.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_kept_as_they_came_and_in_order() {
        let field = |name: &'static str, value: &'static str| Field {
            name: name.as_bytes(),
            value: value.as_bytes(),
            id: FieldName::of(name.as_bytes()),
        };
        let fields = [
            field("Content-Type", "application/json"),
            field("Date", "Mon"),
            field("x-a", ""),
        ];
        let lines = replayed(fields.iter());
        assert_eq!(&*lines, b"Content-Type: application/json\r\nx-a: \r\n");
    }

    fn check(name: &str, replayed: bool) {
        let field = Field {
            name: name.as_bytes(),
            value: b"x",
            id: FieldName::of(name.as_bytes()),
        };
        assert_eq!(is_replayed(&field), replayed, "{name}");
    }

    #[test]
    fn what_describes_the_answer_is_replayed() {
        for name in [
            "Content-Type",
            "content-encoding",
            "content-language",
            "etag",
            "cache-control",
            "vary",
            "access-control-allow-origin",
            "openai-version",
            "openai-organization",
            "x-content-type-options",
            "x-amzn-bedrock-input-token-count",
            "server",
        ] {
            check(name, true);
        }
    }

    #[test]
    fn what_was_about_one_exchange_is_not() {
        for name in [
            "Date",
            "Age",
            "X-Request-Id",
            "request-id",
            "apim-request-id",
            "x-ms-request-id",
            "x-amzn-RequestId",
            "X-RateLimit-Remaining-Tokens",
            "anthropic-ratelimit-requests-remaining",
            "openai-processing-ms",
            "CF-Ray",
            "cf-cache-status",
            "set-cookie",
            "server-timing",
            "x-envoy-upstream-service-time",
            "traceparent",
            "retry-after",
            "content-length",
            "transfer-encoding",
        ] {
            check(name, false);
        }
    }
}
