//! One cached answer: immutable, of exact size, shared by every shard that sends it.
//!
//! A hit is the answer as it was emitted: the body byte for byte in the coding that the caller
//! accepts, status and header fields as they went to the first caller. Left out are the fields
//! that were about that one exchange; [`is_replayed`] is the list. The exchange that serves the
//! hit adds its own: ids, `cf-aig-cache-status`, `server-timing`, framing, `date` if any.

use crate::{
    domain::{cache::PartDigests, id::RequestId, money::PicoDollars, usage::Usage},
    http::{head::Field, header::FieldName},
};

/// One answer, and what a record of its hit needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Cached {
    /// The whole key; compared by who wants to send this.
    pub key: Box<[u8]>,
    /// The account's gateway that it belongs to, as in the path: what is purged together.
    pub gateway: Box<str>,
    /// Slug of the provider.
    pub provider: Box<str>,
    /// HTTP status.
    pub status: u16,
    /// Header fields, each with its line end, ready to be sent.
    pub fields: Box<[u8]>,
    /// Value of `content-type`; empty if there was none.
    pub content_type: Box<[u8]>,
    /// The body.
    pub body: Box<[u8]>,
    /// Frames of an event stream, in order; empty for another answer.
    pub frames: Box<[Frame]>,
    /// The model that the first exchange's record has.
    pub model: Box<[u8]>,
    /// What the first exchange used: what a hit saves.
    pub usage: Usage,
    /// What that cost, if its price is known.
    pub cost: Option<PicoDollars>,
    /// The first exchange's record.
    pub origin: RequestId,
    /// Digests of the key's parts.
    pub digests: PartDigests,
}

/// A piece of a stream as it arrived in one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Where it ends in the body.
    pub end: u32,
    /// Microseconds from the answer's head to its arrival; 71 minutes at most.
    pub micros: u32,
}

impl Cached {
    /// Bytes of the answer itself: what is compared with the greatest that is kept.
    pub fn answer_bytes(&self) -> u64 {
        (self.body.len() + self.fields.len()) as u64
    }

    /// Bytes of everything that it holds, itself included.
    pub fn bytes(&self) -> u64 {
        let texts = self.gateway.len() + self.provider.len() + self.model.len();
        let frames = size_of_val::<[Frame]>(&self.frames);
        let whole = size_of::<Self>() + self.key.len() + self.content_type.len() + texts + frames;
        whole as u64 + self.answer_bytes()
    }

    /// Says whether it is an event stream, to be replayed frame by frame.
    pub fn is_stream(&self) -> bool {
        !self.frames.is_empty()
    }
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
            let starts = |start: &&[u8]| {
                let head = name.get(..start.len());
                head.is_some_and(|head| head.eq_ignore_ascii_case(start))
            };
            let ends = |end: &&[u8]| {
                let from = name.len().checked_sub(end.len());
                let tail = from.and_then(|from| name.get(from..));
                tail.is_some_and(|tail| tail.eq_ignore_ascii_case(end))
            };
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
