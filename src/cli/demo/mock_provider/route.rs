//! Which provider and which of its endpoints a path asks for.

/// What a request's path says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// The provider's slug: the first segment that is one, else the endpoint's inventor.
    pub(super) provider: &'static str,
    pub(super) endpoint: Endpoint,
    /// The model, where the path names it.
    pub(super) model: Option<String>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Models,
    Model,
    Moderations,
    Speech,
    Transcription,
    Images,
    Messages,
    MessagesCount,
    Generate {
        stream: bool,
    },
    GenerateCount,
    EmbedContent {
        batch: bool,
    },
    CohereChatV1,
    CohereChatV2,
    CohereEmbed {
        v2: bool,
    },
    Rerank,
    Invoke {
        stream: bool,
    },
    Converse {
        stream: bool,
    },
    Run,
    /// Anything else of a provider we know.
    Echo,
    /// Nobody's path.
    Unknown,
}

/// Whose conventions an endpoint follows; decides how it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    OpenAi,
    Anthropic,
    Gemini,
    Cohere,
    Mistral,
    Bedrock,
    WorkersAi,
    HuggingFace,
    Replicate,
    ElevenLabs,
}

impl Route {
    /// Reads a path without its query.
    pub(super) fn of(path: &str) -> Self {
        let named = path.split('/').find_map(|segment| {
            PROVIDERS
                .iter()
                .find(|(slug, _)| *slug == segment)
                .map(|(_, provider)| *provider)
        });
        let (endpoint, model) = endpoint(path, named);
        let provider = match named {
            // Azure's native path starts like OpenAI's slug.
            Some("openai") | None if path.contains("/deployments/") => "azure-openai",
            Some(provider) => provider,
            None => inventor(endpoint, path),
        };
        Self {
            provider,
            endpoint,
            model: model.map(decode),
        }
    }

    pub(super) fn family(&self) -> Family {
        match self.endpoint {
            Endpoint::Messages | Endpoint::MessagesCount => Family::Anthropic,
            Endpoint::Generate { .. } | Endpoint::GenerateCount | Endpoint::EmbedContent { .. } => {
                Family::Gemini
            }
            Endpoint::CohereChatV1
            | Endpoint::CohereChatV2
            | Endpoint::CohereEmbed { .. }
            | Endpoint::Rerank => Family::Cohere,
            Endpoint::Invoke { .. } | Endpoint::Converse { .. } => Family::Bedrock,
            Endpoint::Run => Family::WorkersAi,
            Endpoint::Chat | Endpoint::Responses | Endpoint::Embeddings
                if self.provider != "mistral" =>
            {
                Family::OpenAi
            }
            _ => match self.provider {
                "anthropic" => Family::Anthropic,
                "mistral" => Family::Mistral,
                "cohere" => Family::Cohere,
                "google-ai-studio" | "google-vertex-ai" => Family::Gemini,
                "aws-bedrock" => Family::Bedrock,
                "huggingface" => Family::HuggingFace,
                "replicate" => Family::Replicate,
                "elevenlabs" => Family::ElevenLabs,
                "workers-ai" if self.endpoint == Endpoint::Echo => Family::WorkersAi,
                _ => Family::OpenAi,
            },
        }
    }
}

impl Endpoint {
    /// Its name in the counters.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Models => "models",
            Self::Model => "model",
            Self::Moderations => "moderations",
            Self::Speech => "speech",
            Self::Transcription => "transcription",
            Self::Images => "images",
            Self::Messages => "messages",
            Self::MessagesCount => "count_tokens",
            Self::Generate { stream: false } => "generate",
            Self::Generate { stream: true } => "stream_generate",
            Self::GenerateCount => "count_tokens_gemini",
            Self::EmbedContent { .. } => "embed_content",
            Self::CohereChatV1 => "chat_v1",
            Self::CohereChatV2 => "chat_v2",
            Self::CohereEmbed { .. } => "embed",
            Self::Rerank => "rerank",
            Self::Invoke { stream: false } => "invoke",
            Self::Invoke { stream: true } => "invoke_stream",
            Self::Converse { stream: false } => "converse",
            Self::Converse { stream: true } => "converse_stream",
            Self::Run => "run",
            Self::Echo => "echo",
            Self::Unknown => "unknown",
        }
    }
}

fn endpoint<'p>(path: &'p str, provider: Option<&str>) -> (Endpoint, Option<&'p str>) {
    let path = path.trim_end_matches('/');
    if let Some(found) = by_last_segments(path) {
        return (found, deployment(path));
    }
    if let Some((_, model)) = path.rsplit_once("/models/") {
        if let Some((model, verb)) = model.rsplit_once(':') {
            return (gemini_verb(verb), Some(model));
        }
        if !model.contains('/') && provider != Some("huggingface") {
            return (Endpoint::Model, Some(model));
        }
    }
    if let Some((_, rest)) = path.rsplit_once("/model/")
        && let Some((model, verb)) = rest.rsplit_once('/')
        && let Some(found) = bedrock_verb(verb)
    {
        return (found, Some(model));
    }
    if let Some(at) = path.find("/@cf/").or_else(|| path.find("/@hf/")) {
        return (Endpoint::Run, path.get(at + 1..));
    }
    if path.contains("/text-to-speech/") {
        return (Endpoint::Speech, None);
    }
    if provider.is_some() {
        (Endpoint::Echo, None)
    } else {
        (Endpoint::Unknown, None)
    }
}

/// Endpoints that the end of the path settles.
fn by_last_segments(path: &str) -> Option<Endpoint> {
    ENDINGS
        .iter()
        .find(|(ending, _)| path.ends_with(ending))
        .map(|(_, endpoint)| *endpoint)
}

fn gemini_verb(verb: &str) -> Endpoint {
    match verb {
        "generateContent" => Endpoint::Generate { stream: false },
        "streamGenerateContent" => Endpoint::Generate { stream: true },
        // Claude on Vertex: Anthropic's bodies, which say themselves whether to stream.
        "rawPredict" | "streamRawPredict" => Endpoint::Messages,
        "countTokens" => Endpoint::GenerateCount,
        "embedContent" => Endpoint::EmbedContent { batch: false },
        "batchEmbedContents" => Endpoint::EmbedContent { batch: true },
        _ => Endpoint::Echo,
    }
}

fn bedrock_verb(verb: &str) -> Option<Endpoint> {
    Some(match verb {
        "invoke" => Endpoint::Invoke { stream: false },
        "invoke-with-response-stream" => Endpoint::Invoke { stream: true },
        "converse" => Endpoint::Converse { stream: false },
        "converse-stream" => Endpoint::Converse { stream: true },
        _ => return None,
    })
}

/// Azure's deployment, which stands for the model.
fn deployment(path: &str) -> Option<&str> {
    let (_, rest) = path.split_once("/deployments/")?;
    rest.split('/').next()
}

fn inventor(endpoint: Endpoint, path: &str) -> &'static str {
    match endpoint {
        Endpoint::Messages | Endpoint::MessagesCount => "anthropic",
        Endpoint::Generate { .. } | Endpoint::GenerateCount | Endpoint::EmbedContent { .. } => {
            "google-ai-studio"
        }
        Endpoint::CohereChatV1
        | Endpoint::CohereChatV2
        | Endpoint::CohereEmbed { .. }
        | Endpoint::Rerank => "cohere",
        Endpoint::Invoke { .. } | Endpoint::Converse { .. } => "aws-bedrock",
        Endpoint::Run => "workers-ai",
        _ if path.contains("/ai/v1/") => "workers-ai",
        Endpoint::Echo | Endpoint::Unknown => "unknown",
        _ => "openai",
    }
}

/// Undoes percent-encoding; what is not UTF-8 then is replaced.
pub(super) fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high << 4 | low).unwrap_or(byte));
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8(out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Longer endings first where one is the end of another.
const ENDINGS: &[(&str, Endpoint)] = &[
    ("/chat/completions", Endpoint::Chat),
    ("/completions", Endpoint::Completions),
    ("/responses", Endpoint::Responses),
    ("/embeddings", Endpoint::Embeddings),
    ("/messages", Endpoint::Messages),
    ("/messages/count_tokens", Endpoint::MessagesCount),
    ("/models", Endpoint::Models),
    ("/moderations", Endpoint::Moderations),
    ("/audio/speech", Endpoint::Speech),
    ("/tts/bytes", Endpoint::Speech),
    ("/v1/speak", Endpoint::Speech),
    ("/audio/transcriptions", Endpoint::Transcription),
    ("/audio/translations", Endpoint::Transcription),
    ("/speech-to-text", Endpoint::Transcription),
    ("/v1/listen", Endpoint::Transcription),
    ("/images/generations", Endpoint::Images),
    ("/images/edits", Endpoint::Images),
    ("/images/variations", Endpoint::Images),
    ("/ideogram-v3/generate", Endpoint::Images),
    ("/v1/chat", Endpoint::CohereChatV1),
    ("/v2/chat", Endpoint::CohereChatV2),
    ("/v1/embed", Endpoint::CohereEmbed { v2: false }),
    ("/v2/embed", Endpoint::CohereEmbed { v2: true }),
    ("/v1/rerank", Endpoint::Rerank),
    ("/v2/rerank", Endpoint::Rerank),
];

/// Segments that name a provider, and its slug.
const PROVIDERS: &[(&str, &str)] = &[
    ("openai", "openai"),
    ("anthropic", "anthropic"),
    ("google-ai-studio", "google-ai-studio"),
    ("google", "google-ai-studio"),
    ("google-vertex-ai", "google-vertex-ai"),
    // Vertex paths name the model's publisher next, which is not the provider.
    ("publishers", "google-vertex-ai"),
    ("azure-openai", "azure-openai"),
    ("aws-bedrock", "aws-bedrock"),
    ("bedrock-runtime", "aws-bedrock"),
    ("bedrock-mantle", "aws-bedrock"),
    ("workers-ai", "workers-ai"),
    ("huggingface", "huggingface"),
    ("groq", "groq"),
    ("replicate", "replicate"),
    ("cohere", "cohere"),
    ("mistral", "mistral"),
    ("deepseek", "deepseek"),
    ("grok", "grok"),
    ("perplexity-ai", "perplexity-ai"),
    ("openrouter", "openrouter"),
    ("cerebras", "cerebras"),
    ("fireworks", "fireworks"),
    ("elevenlabs", "elevenlabs"),
    ("cartesia", "cartesia"),
    ("fal", "fal"),
    ("ideogram", "ideogram"),
    ("deepgram", "deepgram"),
    ("baseten", "baseten"),
    ("parallel", "parallel"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, provider: &str, endpoint: Endpoint, model: Option<&str>) {
        let route = Route::of(path);
        assert_eq!(
            (route.provider, route.endpoint, route.model.as_deref()),
            (provider, endpoint, model),
            "{path}"
        );
    }

    #[test]
    fn the_end_of_a_path_settles_the_endpoint_and_its_start_the_provider() {
        check(
            "/openai/v1/chat/completions",
            "openai",
            Endpoint::Chat,
            None,
        );
        check("/v1/chat/completions", "openai", Endpoint::Chat, None);
        check(
            "/groq/openai/v1/chat/completions",
            "groq",
            Endpoint::Chat,
            None,
        );
        check(
            "/anthropic/v1/messages",
            "anthropic",
            Endpoint::Messages,
            None,
        );
        check(
            "/x/v1/messages/count_tokens",
            "anthropic",
            Endpoint::MessagesCount,
            None,
        );
        check("/cohere/v2/chat", "cohere", Endpoint::CohereChatV2, None);
        check(
            "/openai/v1/models/gpt-4o",
            "openai",
            Endpoint::Model,
            Some("gpt-4o"),
        );
        check(
            "/client/v4/accounts/a/ai/v1/chat/completions",
            "workers-ai",
            Endpoint::Chat,
            None,
        );
        check("/fal/fal-ai/flux", "fal", Endpoint::Echo, None);
        check("/nobody", "unknown", Endpoint::Unknown, None);
    }

    #[test]
    fn models_in_paths_are_decoded() {
        check(
            "/google-ai-studio/v1beta/models/gemini%2Bdelay=5:streamGenerateContent",
            "google-ai-studio",
            Endpoint::Generate { stream: true },
            Some("gemini+delay=5"),
        );
        check(
            "/v1/projects/p/locations/l/publishers/google/models/gemini:generateContent",
            "google-vertex-ai",
            Endpoint::Generate { stream: false },
            Some("gemini"),
        );
        check(
            "/model/anthropic.claude-v2%3A1/converse-stream",
            "aws-bedrock",
            Endpoint::Converse { stream: true },
            Some("anthropic.claude-v2:1"),
        );
        check(
            "/openai/deployments/gpt-4o/chat/completions",
            "azure-openai",
            Endpoint::Chat,
            Some("gpt-4o"),
        );
        check(
            "/workers-ai/run/@cf/meta/llama-3",
            "workers-ai",
            Endpoint::Run,
            Some("@cf/meta/llama-3"),
        );
        check(
            "/huggingface/models/org/m",
            "huggingface",
            Endpoint::Echo,
            None,
        );
    }

    #[test]
    fn broken_percent_encoding_stays_as_it_is() {
        assert_eq!(decode("a%2Fb%zz%4"), "a/b%zz%4");
        assert_eq!(decode("%ff"), "\u{fffd}");
    }
}
