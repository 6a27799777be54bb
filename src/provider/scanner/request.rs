//! What routing and limits need to know of a request's body.

use super::multipart::MultipartScan;
use super::{Names, Path, Scanner, Take};

/// Longest model name that is kept, in bytes of JSON text; a longer one is none.
const MODEL_BYTES_MAX: u32 = 1024;

const MODEL: u8 = 0;

const STREAM: u8 = 0;
const MAX_TOKENS: u8 = 1;
const MAX_COMPLETION_TOKENS: u8 = 2;
const MAX_OUTPUT_TOKENS: u8 = 3;
const NESTED_MAX_TOKENS: u8 = 4;
const NUMBERS: usize = 5;

/// The members of a request that count, over all dialects.
static REQUEST: Names = Names::of(&[
    Path::to(
        "model",
        Take::Text {
            slot: MODEL,
            max: MODEL_BYTES_MAX,
        },
    ),
    Path::to("stream", Take::Flag(STREAM)),
    Path::to("max_tokens", Take::Number(MAX_TOKENS)),
    Path::to("max_completion_tokens", Take::Number(MAX_COMPLETION_TOKENS)),
    Path::to("max_output_tokens", Take::Number(MAX_OUTPUT_TOKENS)),
    Path::into("generationConfig", &GENERATION_CONFIG),
    Path::into("inferenceConfig", &INFERENCE_CONFIG),
]);

/// Gemini.
static GENERATION_CONFIG: Names =
    Names::of(&[Path::to("maxOutputTokens", Take::Number(NESTED_MAX_TOKENS))]);

/// Bedrock converse.
static INFERENCE_CONFIG: Names =
    Names::of(&[Path::to("maxTokens", Take::Number(NESTED_MAX_TOKENS))]);

/// What a request's body says about itself.
///
/// ```
/// use tidegate::provider::scanner::RequestFacts;
///
/// let facts = RequestFacts::of_json(br#"{"messages":[],"model":"m","stream":true}"#);
/// assert_eq!(facts.model.as_deref(), Some("m"));
/// assert_eq!(facts.stream, Some(true));
/// assert_eq!(facts.max_tokens, None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestFacts {
    /// The model it names.
    pub model: Option<Box<str>>,
    /// Whether it asks for a stream; `None` if it does not say.
    pub stream: Option<bool>,
    /// The most output tokens it allows; of several members that say so, the greatest.
    pub max_tokens: Option<u64>,
}

impl RequestFacts {
    /// Reads a whole JSON body.
    pub fn of_json(body: &[u8]) -> Self {
        let mut scanner = Scanner::new(&REQUEST);
        scanner.feed(body);
        Self::of_scanner(&scanner)
    }

    fn of_scanner(scanner: &Scanner<NUMBERS, 1>) -> Self {
        let most = [
            MAX_TOKENS,
            MAX_COMPLETION_TOKENS,
            MAX_OUTPUT_TOKENS,
            NESTED_MAX_TOKENS,
        ];
        Self {
            model: decode_string(scanner.text(MODEL)),
            stream: scanner.number(STREAM).map(|flag| flag == 1),
            max_tokens: most.iter().filter_map(|slot| scanner.number(*slot)).max(),
        }
    }
}

/// Scans a request's body while it passes.
#[derive(Debug)]
pub struct RequestScan(Kind);

#[derive(Debug)]
enum Kind {
    Json(Box<Scanner<NUMBERS, 1>>),
    Multipart(Box<MultipartScan>),
    Opaque,
}

impl RequestScan {
    /// A scan for a body of this `content-type`. Anything that is neither a form with files nor a
    /// known binary type is read as JSON: clients often send none, or `text/plain`.
    pub fn of_content_type(content_type: &[u8]) -> Self {
        // What nearly all send, and nothing but this.
        if content_type == b"application/json" {
            return Self::json();
        }
        if let Some(form) = MultipartScan::of_content_type(content_type) {
            return Self(Kind::Multipart(Box::new(form)));
        }
        let essence = content_type.trim_ascii_start();
        let starts = |prefix: &str| {
            essence
                .get(..prefix.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        if [
            "audio/",
            "image/",
            "video/",
            "multipart/",
            "application/octet-stream",
        ]
        .into_iter()
        .any(starts)
        {
            return Self(Kind::Opaque);
        }
        Self::json()
    }

    /// What a whole body of this `content-type` says.
    pub fn whole(content_type: &[u8], body: &[u8]) -> RequestFacts {
        if content_type == b"application/json" {
            return RequestFacts::of_json(body);
        }
        let mut scan = Self::of_content_type(content_type);
        scan.feed(body);
        scan.facts()
    }

    /// A scan for a JSON body.
    pub fn json() -> Self {
        Self(Kind::Json(Box::new(Scanner::new(&REQUEST))))
    }

    /// Reads the next piece of the body.
    pub fn feed(&mut self, piece: &[u8]) {
        match &mut self.0 {
            Kind::Json(scanner) => scanner.feed(piece),
            Kind::Multipart(form) => form.feed(piece),
            Kind::Opaque => {}
        }
    }

    /// What is known so far. Until the body is over, a member may still be replaced by a later
    /// one of the same name.
    pub fn facts(&self) -> RequestFacts {
        match &self.0 {
            Kind::Json(scanner) => RequestFacts::of_scanner(scanner),
            Kind::Multipart(form) => form.facts(),
            Kind::Opaque => RequestFacts::default(),
        }
    }
}

/// Decodes a raw JSON string, quotes included. `None` for anything else, the empty string too.
pub(in crate::provider) fn decode_string(raw: &[u8]) -> Option<Box<str>> {
    let [b'"', inner @ .., b'"'] = raw else {
        return None;
    };
    if inner.is_empty() {
        return None;
    }
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Box::from);
    }
    serde_json::from_slice::<Box<str>>(raw).ok()
}
