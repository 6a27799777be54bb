//! The API shapes that providers speak.

/// The shape of a provider's requests and answers, as far as usage and model are concerned.
///
/// Providers that copied another's API share its dialect; within one dialect the meter tells the
/// forms apart by the members it finds (chat, responses, completions and embeddings of OpenAI).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Dialect {
    /// OpenAI: chat completions, responses, completions, embeddings; and who copied them.
    OpenAi,
    /// Anthropic messages, wherever they are served.
    Anthropic,
    /// Gemini `generateContent` and its relatives, on AI Studio and Vertex.
    Gemini,
    /// Cohere v1 and v2.
    Cohere,
    /// Mistral: OpenAI's shape with fields of its own.
    Mistral,
    /// Bedrock `invoke` and `converse`, plain and as a binary event stream.
    Bedrock,
    /// Workers AI native form: the model's answer inside the v4 envelope.
    WorkersAi,
    /// Nothing is known: bytes pass, nothing is metered.
    #[default]
    Unknown,
}

impl Dialect {
    /// The word for it in the file (`[custom_providers.*] dialect`).
    pub fn word(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Cohere => "cohere",
            Self::Mistral => "mistral",
            Self::Bedrock => "bedrock",
            Self::WorkersAi => "workers-ai",
            Self::Unknown => "unknown",
        }
    }

    /// Every dialect that the file may name.
    pub const ALL: [Self; 8] = [
        Self::OpenAi,
        Self::Anthropic,
        Self::Gemini,
        Self::Cohere,
        Self::Mistral,
        Self::Bedrock,
        Self::WorkersAi,
        Self::Unknown,
    ];

    /// Reads the word of [`Dialect::word`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.word() == word)
    }
}

/// How an answer's body is cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// One JSON document (a Gemini stream without `alt=sse` is one too: an array).
    #[default]
    Json,
    /// Server-sent events.
    EventStream,
    /// `application/vnd.amazon.eventstream`: Bedrock's binary frames.
    AmazonEventStream,
    /// Newline-delimited JSON (Cohere v1 streams, some hosts).
    JsonLines,
    /// Anything else: audio, images, files.
    Opaque,
}

impl Shape {
    /// The shape that a `content-type` value announces.
    pub fn of_content_type(content_type: &[u8]) -> Self {
        // What nearly all send, and nothing but this.
        if content_type == b"application/json" {
            return Self::Json;
        }
        let end = content_type
            .iter()
            .position(|b| *b == b';')
            .unwrap_or(content_type.len());
        let essence = content_type.get(..end).unwrap_or_default().trim_ascii();
        let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
        if is("text/event-stream") {
            Self::EventStream
        } else if is("application/vnd.amazon.eventstream") {
            Self::AmazonEventStream
        } else if is("application/x-ndjson")
            || is("application/stream+json")
            || is("application/jsonl")
        {
            Self::JsonLines
        } else if is("application/json") || essence.to_ascii_lowercase().ends_with(b"+json") {
            Self::Json
        } else {
            Self::Opaque
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_name_their_shape() {
        let check = |text: &str, shape| {
            assert_eq!(Shape::of_content_type(text.as_bytes()), shape, "{text}");
        };
        check("application/json; charset=utf-8", Shape::Json);
        check("application/problem+json", Shape::Json);
        check("Text/Event-Stream;charset=utf-8", Shape::EventStream);
        check(
            "application/vnd.amazon.eventstream",
            Shape::AmazonEventStream,
        );
        check("audio/mpeg", Shape::Opaque);
        check("", Shape::Opaque);
    }

    #[test]
    fn words_name_their_dialect() {
        for dialect in Dialect::ALL {
            assert_eq!(Dialect::parse(dialect.word()), Some(dialect));
        }
    }
}
