//! What of a record a filter can ask for.

use super::number::Bound;
use crate::domain::{
    id::RequestId,
    outcome::Outcome,
    record::{ArchivedRecord, Text, flag},
};

/// A number of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NumberField {
    /// Status sent to the caller; unknown if none was sent.
    Status,
    /// Pico-dollars.
    Cost,
    /// Input and output tokens together; unknown if neither is known.
    Tokens,
    /// Input tokens.
    TokensIn,
    /// Output tokens.
    TokensOut,
    /// Input tokens read from the provider's prompt cache.
    CacheRead,
    /// Input tokens written to the provider's prompt cache.
    CacheWrite,
    /// Output tokens spent on reasoning.
    Reasoning,
    /// Microseconds from the request's head to the end of the answer.
    Duration,
    /// Microseconds to the first byte of the answer.
    FirstByte,
    /// Microseconds to the first token.
    FirstToken,
    /// Microseconds that tidegate added.
    Overhead,
    /// Bytes of the request's body.
    RequestSize,
    /// Bytes of the answer's body.
    ResponseSize,
    /// Index of the step.
    Step,
    /// Number of the attempt.
    Attempt,
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// As a count.
    Count,
    /// As a status, or a class of them.
    Status,
    /// As dollars.
    Dollars,
    /// As a time with its unit.
    Time,
}

impl NumberField {
    /// Every number and its key; of two keys the first is the one that is printed.
    pub const KEYS: [(&'static str, Self); 17] = [
        ("status", Self::Status),
        ("cost", Self::Cost),
        ("tokens", Self::Tokens),
        ("tokens_in", Self::TokensIn),
        ("tokens_out", Self::TokensOut),
        ("cache_read", Self::CacheRead),
        ("cache_write", Self::CacheWrite),
        ("reasoning", Self::Reasoning),
        ("duration", Self::Duration),
        ("first_byte", Self::FirstByte),
        ("ttft", Self::FirstToken),
        ("first_token", Self::FirstToken),
        ("overhead", Self::Overhead),
        ("request_size", Self::RequestSize),
        ("response_size", Self::ResponseSize),
        ("step", Self::Step),
        ("attempt", Self::Attempt),
    ];

    /// The number, if the record knows it.
    pub fn of(self, record: &ArchivedRecord) -> Option<u64> {
        let number = |field: &rkyv::option::ArchivedOption<rkyv::rend::u64_le>| {
            field.as_ref().map(|number| number.to_native())
        };
        match self {
            Self::Status => match record.status.to_native() {
                0 => None,
                status => Some(u64::from(status)),
            },
            Self::Cost => number(&record.cost),
            Self::Tokens => match (number(&record.tokens_input), number(&record.tokens_output)) {
                (None, None) => None,
                (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
            },
            Self::TokensIn => number(&record.tokens_input),
            Self::TokensOut => number(&record.tokens_output),
            Self::CacheRead => number(&record.tokens_cache_read),
            Self::CacheWrite => number(&record.tokens_cache_write),
            Self::Reasoning => number(&record.tokens_reasoning),
            Self::Duration => Some(record.duration_micros.to_native()),
            Self::FirstByte => number(&record.first_byte_micros),
            Self::FirstToken => number(&record.first_token_micros),
            Self::Overhead => Some(record.overhead_micros.to_native()),
            Self::RequestSize => Some(record.request_bytes.to_native()),
            Self::ResponseSize => Some(record.response_bytes.to_native()),
            Self::Step => Some(u64::from(record.step)),
            Self::Attempt => Some(u64::from(record.attempt)),
        }
    }

    /// How it is written.
    pub fn unit(self) -> Unit {
        match self {
            Self::Status => Unit::Status,
            Self::Cost => Unit::Dollars,
            Self::Duration | Self::FirstByte | Self::FirstToken | Self::Overhead => Unit::Time,
            Self::Tokens
            | Self::TokensIn
            | Self::TokensOut
            | Self::CacheRead
            | Self::CacheWrite
            | Self::Reasoning
            | Self::RequestSize
            | Self::ResponseSize
            | Self::Step
            | Self::Attempt => Unit::Count,
        }
    }
}

impl Unit {
    /// Reads one number.
    pub fn read(self, text: &str) -> Option<Bound> {
        match self {
            Self::Dollars => Bound::decimal(text, 12).filter(|bound| *bound != Bound::Negative),
            Self::Time => Bound::duration(text),
            Self::Status | Self::Count => Bound::count(text),
        }
    }

    /// What a value looks like.
    pub fn example(self) -> &'static str {
        match self {
            Self::Status => "`200`, `5xx` or `>=400`",
            Self::Dollars => "dollars such as `>0.01`",
            Self::Time => "a time such as `>2s`, `250ms` or `1m..5m`",
            Self::Count => "a number such as `>4000` or `1..5`",
        }
    }
}

/// A yes-or-no of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlagField {
    /// Answered from the cache.
    Cached,
    /// It ended well.
    Success,
    /// The answer was a stream of events.
    Stream,
    /// The caller proved a gateway token.
    Authenticated,
    /// The provider was called with a stored credential.
    StoredCredential,
    /// The connection became a WebSocket.
    WebSocket,
    /// The cost came from the caller's own prices.
    CustomCost,
    /// Paid by the gateway's operator for the caller: never, here.
    Wholesale,
    /// Came through the unified endpoint: there is none yet.
    Compatibility,
}

impl FlagField {
    /// Every yes-or-no and its key.
    pub const KEYS: [(&'static str, Self); 9] = [
        ("cached", Self::Cached),
        ("success", Self::Success),
        ("stream", Self::Stream),
        ("authenticated", Self::Authenticated),
        ("byok", Self::StoredCredential),
        ("web_socket", Self::WebSocket),
        ("custom_cost", Self::CustomCost),
        ("wholesale", Self::Wholesale),
        ("compat", Self::Compatibility),
    ];

    /// Its value, given the record's flags and the number of its outcome.
    pub fn of(self, flags: u32, outcome: u8) -> bool {
        match self.bit() {
            Some(bit) => flags & bit != 0,
            None => self == Self::Success && outcome == Outcome::Ok as u8,
        }
    }

    /// The flag's bit, if it is one of the record's flags.
    pub fn bit(self) -> Option<u32> {
        match self {
            Self::Cached => Some(flag::CACHED),
            Self::Stream => Some(flag::STREAM),
            Self::Authenticated => Some(flag::AUTHENTICATED),
            Self::StoredCredential => Some(flag::STORED_CREDENTIAL),
            Self::WebSocket => Some(flag::WEB_SOCKET),
            Self::CustomCost => Some(flag::CUSTOM_COST),
            Self::Success | Self::Wholesale | Self::Compatibility => None,
        }
    }
}

/// A text of a record. One that is not there is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextField {
    /// The model: as it was named, or in its normalised form; either may fit.
    Model,
    /// The model in its normalised form only.
    ModelName,
    /// See [`model_type`].
    ModelType,
    /// Provider slug.
    Provider,
    /// Gateway id.
    Gateway,
    /// Name of the key.
    Key,
    /// Request method.
    Method,
    /// The provider's path.
    Path,
    /// The caller's user agent.
    UserAgent,
    /// What went wrong.
    Error,
    /// Event id: the caller's, else the record's own id.
    Event,
    /// The provider's own request id.
    UpstreamId,
    /// The entry of the price table.
    PriceKey,
    /// Content type of the request.
    RequestContentType,
    /// Content type of the answer.
    ResponseContentType,
    /// See [`request_type`].
    RequestType,
    /// What data-loss prevention did: nothing looks for it yet.
    DlpAction,
    /// The metadata as JSON text.
    Metadata,
}

impl TextField {
    /// Every text and its key.
    pub const KEYS: [(&'static str, Self); 18] = [
        ("model", Self::Model),
        ("name", Self::ModelName),
        ("model_type", Self::ModelType),
        ("provider", Self::Provider),
        ("gateway", Self::Gateway),
        ("key", Self::Key),
        ("method", Self::Method),
        ("path", Self::Path),
        ("user_agent", Self::UserAgent),
        ("error", Self::Error),
        ("event", Self::Event),
        ("upstream_id", Self::UpstreamId),
        ("price_key", Self::PriceKey),
        ("request_content_type", Self::RequestContentType),
        ("response_content_type", Self::ResponseContentType),
        ("request_type", Self::RequestType),
        ("dlp_action", Self::DlpAction),
        ("metadata", Self::Metadata),
    ];

    /// The texts of the record that it is, as far as they are kept as they are.
    pub fn stored(self) -> &'static [Text] {
        match self {
            Self::Model => &[Text::Model, Text::ModelName],
            Self::ModelName => &[Text::ModelName],
            Self::Provider => &[Text::Provider],
            Self::Gateway => &[Text::Gateway],
            Self::Key => &[Text::Key],
            Self::Method => &[Text::Method],
            Self::Path => &[Text::Path],
            Self::UserAgent => &[Text::UserAgent],
            Self::Error => &[Text::Error],
            Self::UpstreamId => &[Text::UpstreamRequestId],
            Self::PriceKey => &[Text::PriceKey],
            Self::RequestContentType => &[Text::RequestContentType],
            Self::ResponseContentType => &[Text::ResponseContentType],
            Self::Metadata => &[Text::Metadata],
            Self::ModelType | Self::Event | Self::RequestType | Self::DlpAction => &[],
        }
    }

    /// Says whether `test` holds for the text, or for one of the texts, that it is.
    pub fn any(self, record: &ArchivedRecord, test: impl Fn(&[u8]) -> bool) -> bool {
        let text = |text| record.texts.get(text);
        match self {
            Self::Event => match text(Text::EventId) {
                b"" => test(&RequestId(record.id).text()),
                event => test(event),
            },
            Self::ModelType => test(model_type(text(Text::Path)).as_bytes()),
            Self::RequestType => test(request_type(record.flags.to_native()).as_bytes()),
            Self::DlpAction => test(b""),
            stored => stored.stored().iter().any(|stored| test(text(*stored))),
        }
    }
}

/// What kind of work a path asks a model for; empty if its end says nothing.
pub fn model_type(path: &[u8]) -> &'static str {
    const ENDS: [(&[u8], &str); 21] = [
        (b"/chat/completions", "text-generation"),
        (b"/completions", "text-generation"),
        (b"/responses", "text-generation"),
        (b"/messages", "text-generation"),
        (b"/chat", "text-generation"),
        (b":generateContent", "text-generation"),
        (b":streamGenerateContent", "text-generation"),
        (b"/converse", "text-generation"),
        (b"/converse-stream", "text-generation"),
        (b"/embeddings", "embedding"),
        (b"/embed", "embedding"),
        (b":embedContent", "embedding"),
        (b":batchEmbedContents", "embedding"),
        (b"/images/generations", "text-to-image"),
        (b"/images/edits", "text-to-image"),
        (b"/images/variations", "text-to-image"),
        (b"/audio/speech", "text-to-speech"),
        (b"/audio/transcriptions", "automatic-speech-recognition"),
        (b"/audio/translations", "automatic-speech-recognition"),
        (b"/rerank", "rerank"),
        (b"/moderations", "text-classification"),
    ];
    let end = memchr::memchr(b'?', path).unwrap_or(path.len());
    let path = path.get(..end).unwrap_or(path);
    let found = ENDS.iter().find(|(end, _)| path.ends_with(end));
    found.map_or("", |(_, kind)| kind)
}

/// By which way a request came, in the management API's words.
pub fn request_type(flags: u32) -> &'static str {
    if flags & flag::WEB_SOCKET != 0 {
        "websocket"
    } else {
        "http"
    }
}

/// The value of one member of a metadata object, as text.
pub fn metadata_value(metadata: &[u8], name: &str) -> Option<String> {
    if metadata.is_empty() {
        return None;
    }
    // Most records lack the member: looking for its name is cheaper than parsing.
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'/'));
    if plain
        && !metadata.contains(&b'\\')
        && memchr::memmem::find(metadata, name.as_bytes()).is_none()
    {
        return None;
    }
    members(metadata)
        .into_iter()
        .find(|(member, _)| member == name)
        .map(|(_, value)| value)
}

/// The members of a metadata object with their values as text. Those that are null are left out.
pub fn members(metadata: &[u8]) -> Vec<(String, String)> {
    if metadata.is_empty() {
        return Vec::new();
    }
    let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(metadata) else {
        return Vec::new();
    };
    object
        .into_iter()
        .filter_map(|(name, value)| match value {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some((name, text)),
            other => Some((name, other.to_string())),
        })
        .collect()
}
