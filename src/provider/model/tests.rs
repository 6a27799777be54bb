//! Real paths and real names of models.

use proptest::prelude::*;

use super::*;
use crate::provider::by_slug;

fn id(slug: &str) -> ProviderId {
    by_slug(slug).unwrap_or_else(|| panic!("{slug}"))
}

#[track_caller]
fn check_model(slug: &str, rest: &str, expected: Option<&str>) {
    let found = model_of(id(slug), rest.as_bytes());
    assert_eq!(found.as_deref(), expected, "{slug}/{rest}");
}

#[test]
fn models_are_read_off_paths() {
    let gemini = Some("gemini-2.5-flash");
    check_model(
        "google-ai-studio",
        "v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        gemini,
    );
    check_model(
        "google-ai-studio",
        "/v1/models/gemini-2.5-flash:generateContent",
        gemini,
    );
    check_model("google-ai-studio", "v1beta/models/gemini-2.5-flash", gemini);
    check_model("google-ai-studio", "v1beta/models", None);
    check_model("google-ai-studio", "v1beta/models/:generateContent", None);
    check_model("google-ai-studio", "v1beta/openai/chat/completions", None);
    check_model(
        "google-vertex-ai",
        "v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4-5@20250929:streamRawPredict",
        Some("claude-sonnet-4-5@20250929"),
    );
    check_model(
        "aws-bedrock",
        "bedrock-runtime/us-east-1/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/invoke",
        Some("us.anthropic.claude-haiku-4-5-20251001-v1:0"),
    );
    check_model(
        "aws-bedrock",
        "bedrock-runtime/r/model/arn%3Aaws%3Abedrock%3Ar%3A1%3Ainference-profile%2Fus.x.y/converse",
        Some("arn:aws:bedrock:r:1:inference-profile/us.x.y"),
    );
    check_model(
        "aws-bedrock",
        "bedrock-mantle/r/anthropic/v1/messages",
        None,
    );
    check_model(
        "azure-openai",
        "res/dep-1/chat/completions?api-version=1",
        Some("dep-1"),
    );
    check_model("azure-openai", "res", None);
    check_model(
        "workers-ai",
        "@cf/meta/llama-3.1-8b-instruct",
        Some("@cf/meta/llama-3.1-8b-instruct"),
    );
    check_model("workers-ai", "run/@cf/baai/bge-m3", Some("@cf/baai/bge-m3"));
    check_model("workers-ai", "%40cf/baai/bge-m3", Some("@cf/baai/bge-m3"));
    check_model(
        "workers-ai",
        "?model=@cf%2Fdeepgram%2Fnova-3&x=1",
        Some("@cf/deepgram/nova-3"),
    );
    check_model("workers-ai", "v1/chat/completions", None);
    check_model(
        "huggingface",
        "bigcode/starcoder",
        Some("bigcode/starcoder"),
    );
    check_model("huggingface", "gpt2", Some("gpt2"));
    check_model("huggingface", "gpt2/v1/chat/completions", Some("gpt2"));
    check_model("huggingface", "o/m/v1/chat/completions", Some("o/m"));
    check_model("huggingface", "", None);
    check_model(
        "replicate",
        "models/meta/meta-llama-3-8b/predictions",
        Some("meta/meta-llama-3-8b"),
    );
    check_model("replicate", "v1/deployments/a/b/predictions", Some("a/b"));
    check_model("replicate", "predictions", None);
    check_model("replicate", "models/meta", None);
    check_model("fal", "fal-ai/flux/dev", Some("fal-ai/flux/dev"));
    check_model(
        "fal",
        "fal-ai/flux/requests/1-2-3/status",
        Some("fal-ai/flux"),
    );
    check_model("fal", "", None);
    check_model(
        "elevenlabs",
        "v1/text-to-speech/v?model_id=eleven_turbo_v2_5",
        Some("eleven_turbo_v2_5"),
    );
    check_model(
        "deepgram",
        "v1/listen?model=nova-3&language=en",
        Some("nova-3"),
    );
    check_model("openai", "?model=gpt-realtime", Some("gpt-realtime"));
    check_model("openai", "chat/completions", None);
    check_model("baseten", "model/abc123", Some("abc123"));
    check_model("baseten", "v1/chat/completions", None);
    check_model("ideogram", "v1/ideogram-v3/generate", Some("ideogram-v3"));
    check_model(
        "deepgram",
        &format!("v1/listen?model={}", "x".repeat(257)),
        None,
    );
    check_model("deepgram", "v1/listen?model=%0d%0a", None);
    check_model("deepgram", "v1/listen?model=%ff", None);
}

#[test]
fn paths_say_whether_they_stream() {
    let check = |slug: &str, rest: &str, expected| {
        assert_eq!(
            path_streams(id(slug), rest.as_bytes()),
            expected,
            "{slug}/{rest}"
        );
    };
    check(
        "google-ai-studio",
        "v1/models/m:streamGenerateContent?alt=sse",
        Some(true),
    );
    check(
        "google-ai-studio",
        "v1/models/m:generateContent",
        Some(false),
    );
    check("google-ai-studio", "v1/models/m", None);
    check(
        "google-vertex-ai",
        "v1/x/models/m:streamRawPredict",
        Some(true),
    );
    check("google-vertex-ai", "v1/x/models/m:rawPredict", None);
    check(
        "aws-bedrock",
        "bedrock-runtime/r/model/m/invoke-with-response-stream",
        Some(true),
    );
    check(
        "aws-bedrock",
        "bedrock-runtime/r/model/m/converse-stream",
        Some(true),
    );
    check(
        "aws-bedrock",
        "bedrock-runtime/r/model/m/invoke",
        Some(false),
    );
    check("aws-bedrock", "bedrock-mantle/r/v1/responses", None);
    check("openai", "chat/completions", None);
}

#[test]
fn paths_have_the_dialect_that_is_spoken_there() {
    use Dialect::{Anthropic, Bedrock, Cohere, Gemini, Mistral, OpenAi, Unknown, WorkersAi};
    let check = |slug: &str, rest: &str, expected| {
        assert_eq!(
            dialect_of(id(slug), rest.as_bytes()),
            expected,
            "{slug}/{rest}"
        );
    };
    check("openai", "v1/chat/completions", OpenAi);
    check("openai", "v1/threads/t/messages", OpenAi);
    check("anthropic", "v1/messages?beta=true", Anthropic);
    check("anthropic", "v1/chat/completions", OpenAi);
    check("grok", "chat/completions", OpenAi);
    check("grok", "v1/messages", Anthropic);
    check("deepseek", "anthropic/v1/messages", Anthropic);
    check("openrouter", "/v1/messages", Anthropic);
    check("openrouter", "api/v1/messages", Anthropic);
    check(
        "google-ai-studio",
        "v1beta/models/m:generateContent",
        Gemini,
    );
    check("google-ai-studio", "v1beta/openai/chat/completions", OpenAi);
    let vertex = "v1/projects/p/locations/r/";
    check(
        "google-vertex-ai",
        &format!("{vertex}publishers/google/models/m:x"),
        Gemini,
    );
    check(
        "google-vertex-ai",
        &format!("{vertex}publishers/anthropic/models/m:x"),
        Anthropic,
    );
    check(
        "google-vertex-ai",
        &format!("{vertex}publishers/mistralai/models/m:x"),
        Mistral,
    );
    check(
        "google-vertex-ai",
        &format!("{vertex}endpoints/openapi/chat/completions"),
        OpenAi,
    );
    check("aws-bedrock", "bedrock-runtime/r/model/m/invoke", Bedrock);
    check(
        "aws-bedrock",
        "bedrock-runtime/r/openai/v1/chat/completions",
        OpenAi,
    );
    check(
        "aws-bedrock",
        "bedrock-mantle/r/anthropic/v1/messages",
        Anthropic,
    );
    check("aws-bedrock", "bedrock-mantle/r/v1/responses", OpenAi);
    check("workers-ai", "@cf/a/b", WorkersAi);
    check("workers-ai", "v1/chat/completions", OpenAi);
    check("cohere", "v2/chat", Cohere);
    check("cohere", "compatibility/v1/chat/completions", OpenAi);
    check("mistral", "v1/chat/completions", Mistral);
    check("azure-openai", "r/d/chat/completions", OpenAi);
    check("huggingface", "o/m", Unknown);
    check("huggingface", "o/m/v1/chat/completions", OpenAi);
    check("baseten", "v1/chat/completions", OpenAi);
    check("baseten", "model/abc", Unknown);
    check("elevenlabs", "v1/text-to-speech/v", Unknown);
    assert_eq!(dialect_of_custom(OpenAi, b"v1/messages"), Anthropic);
    assert_eq!(dialect_of_custom(Gemini, b"v1/messages"), Gemini);
}

/// Provider, name as it calls it, normalised name.
#[rustfmt::skip]
const NAMES: [(&str, &str, &str); 82] = [
    ("anthropic", "claude-haiku-4-5-20251001", "anthropic/claude-haiku-4.5"),
    ("anthropic", "claude-haiku-4-5", "anthropic/claude-haiku-4.5"),
    ("anthropic", "claude-opus-4-1-20250805", "anthropic/claude-opus-4.1"),
    ("anthropic", "claude-sonnet-4-20250514", "anthropic/claude-sonnet-4"),
    ("anthropic", "claude-sonnet-4-0", "anthropic/claude-sonnet-4.0"),
    ("anthropic", "claude-opus-5", "anthropic/claude-opus-5"),
    ("anthropic", "claude-3-5-sonnet-20241022", "anthropic/claude-3.5-sonnet"),
    ("anthropic", "claude-3-5-haiku-latest", "anthropic/claude-3.5-haiku"),
    ("anthropic", "claude-3-opus-20240229", "anthropic/claude-3-opus"),
    ("anthropic", "claude-3-7-sonnet-20250219", "anthropic/claude-3.7-sonnet"),
    ("anthropic", "claude-instant-1.2", "anthropic/claude-instant-1.2"),
    ("anthropic", "claude-2.1", "anthropic/claude-2.1"),
    ("openai", "gpt-4o-mini", "openai/gpt-4o-mini"),
    ("openai", "gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini"),
    ("openai", "gpt-4.1", "openai/gpt-4.1"),
    ("openai", "gpt-4.1-nano-2025-04-14", "openai/gpt-4.1-nano"),
    ("openai", "gpt-4-0613", "openai/gpt-4"),
    ("openai", "gpt-4-32k-0613", "openai/gpt-4-32k"),
    ("openai", "gpt-4-1106-preview", "openai/gpt-4-1106-preview"),
    ("openai", "gpt-3.5-turbo-0125", "openai/gpt-3.5-turbo"),
    ("openai", "gpt-5-2025-08-07", "openai/gpt-5"),
    ("openai", "chatgpt-4o-latest", "openai/chatgpt-4o-latest"),
    ("openai", "o3", "openai/o3"),
    ("openai", "o1-2024-12-17", "openai/o1"),
    ("openai", "text-embedding-3-small", "openai/text-embedding-3-small"),
    ("openai", "text-embedding-ada-002", "openai/text-embedding-ada-002"),
    ("openai", "dall-e-3", "openai/dall-e-3"),
    ("openai", "whisper-1", "openai/whisper-1"),
    ("openai", "ft:gpt-4o-mini-2024-07-18:acme::A1", "openai/ft:gpt-4o-mini-2024-07-18:acme::A1"),
    ("openai", "openai/gpt-4o", "openai/gpt-4o"),
    ("google-ai-studio", "gemini-2.5-flash", "google/gemini-2.5-flash"),
    ("google", "models/gemini-2.5-flash", "google/gemini-2.5-flash"),
    ("google-ai-studio", "gemini-2.0-flash-001", "google/gemini-2.0-flash"),
    ("google-ai-studio", "gemini-1.5-flash-8b", "google/gemini-1.5-flash-8b"),
    ("google-ai-studio", "gemini-2.5-flash-preview-05-20", "google/gemini-2.5-flash-preview"),
    ("google-ai-studio", "gemini-2.5-pro-exp-03-25", "google/gemini-2.5-pro-exp"),
    ("google-ai-studio", "gemini-2.5-flash-preview-09-2025", "google/gemini-2.5-flash-preview"),
    ("google-ai-studio", "gemini-exp-1206", "google/gemini-exp-1206"),
    ("google-ai-studio", "gemini-embedding-001", "google/gemini-embedding-001"),
    ("google-ai-studio", "text-embedding-004", "google/text-embedding-004"),
    ("google-ai-studio", "gemini-flash-latest", "google/gemini-flash-latest"),
    ("google-vertex-ai", "claude-sonnet-4-5@20250929", "google-vertex-ai/claude-sonnet-4.5"),
    ("google-vertex-ai", "claude-3-5-sonnet-v2@20241022", "google-vertex-ai/claude-3.5-sonnet"),
    ("google-vertex-ai", "claude-opus-5@default", "google-vertex-ai/claude-opus-5"),
    ("google-vertex-ai", "publishers/google/models/gemini-2.5-pro", "google-vertex-ai/gemini-2.5-pro"),
    ("aws-bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0", "aws-bedrock/anthropic.claude-haiku-4.5"),
    ("aws-bedrock", "anthropic.claude-3-5-sonnet-20241022-v2:0", "aws-bedrock/anthropic.claude-3.5-sonnet"),
    ("aws-bedrock", "anthropic.claude-3-sonnet-20240229-v1:0:28k", "aws-bedrock/anthropic.claude-3-sonnet"),
    ("aws-bedrock", "anthropic.claude-v2:1", "aws-bedrock/anthropic.claude-v2:1"),
    ("aws-bedrock", "anthropic.claude-v2", "aws-bedrock/anthropic.claude-v2"),
    ("aws-bedrock", "amazon.nova-pro-v1:0", "aws-bedrock/amazon.nova-pro"),
    ("aws-bedrock", "amazon.titan-embed-text-v2:0", "aws-bedrock/amazon.titan-embed-text-v2"),
    ("aws-bedrock", "meta.llama3-1-70b-instruct-v1:0", "aws-bedrock/meta.llama3-1-70b-instruct"),
    ("aws-bedrock", "arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-lite-v1:0", "aws-bedrock/amazon.nova-lite"),
    ("aws-bedrock", "arn:aws:bedrock:r:1:application-inference-profile/abc", "aws-bedrock/application-inference-profile/abc"),
    ("workers-ai", "@cf/meta/llama-3.1-8b-instruct", "workers-ai/@cf/meta/llama-3.1-8b-instruct"),
    ("groq", "llama-3.3-70b-versatile", "groq/llama-3.3-70b-versatile"),
    ("groq", "openai/gpt-oss-120b", "groq/openai/gpt-oss-120b"),
    ("groq", "moonshotai/kimi-k2-instruct-0905", "groq/moonshotai/kimi-k2-instruct-0905"),
    ("mistral", "mistral-large-2411", "mistral/mistral-large-2411"),
    ("mistral", "mistral-small-latest", "mistral/mistral-small-latest"),
    ("mistral", "open-mixtral-8x22b", "mistral/open-mixtral-8x22b"),
    ("cohere", "command-r-plus-08-2024", "cohere/command-r-plus"),
    ("cohere", "embed-english-v3.0", "cohere/embed-english-v3.0"),
    ("deepseek", "deepseek-reasoner", "deepseek/deepseek-reasoner"),
    ("grok", "grok-4-0709", "xai/grok-4-0709"),
    ("grok", "xai/grok-3-mini", "xai/grok-3-mini"),
    ("perplexity-ai", "sonar-pro", "perplexity-ai/sonar-pro"),
    ("openrouter", "anthropic/claude-3-5-haiku-20241022", "openrouter/anthropic/claude-3.5-haiku"),
    ("openrouter", "deepseek/deepseek-r1-0528:free", "openrouter/deepseek/deepseek-r1-0528:free"),
    ("openrouter", "openrouter/auto", "openrouter/auto"),
    ("cerebras", "qwen-3-235b-a22b-instruct-2507", "cerebras/qwen-3-235b-a22b-instruct-2507"),
    ("fireworks", "accounts/fireworks/models/llama-v3p1-8b-instruct", "fireworks/llama-v3p1-8b-instruct"),
    ("huggingface", "meta-llama/Llama-3.3-70B-Instruct", "huggingface/meta-llama/Llama-3.3-70B-Instruct"),
    ("fal", "fal-ai/flux/dev", "fal/fal-ai/flux/dev"),
    ("elevenlabs", "eleven_turbo_v2_5", "elevenlabs/eleven_turbo_v2_5"),
    ("custom-local", "qwen2.5-7b", "custom-local/qwen2.5-7b"),
    ("openai", "20251001", "openai/20251001"),
    ("openai", "-20251001", "openai/-20251001"),
    ("openai", "openai/", "openai/openai/"),
    ("openai", "", ""),
    ("openai", "  ", ""),
];

#[test]
fn names_lose_dates_and_revisions_and_nothing_else() {
    for (slug, raw, expected) in NAMES {
        let mut out = String::new();
        normalise(slug, raw, &mut out);
        assert_eq!(out, expected, "{slug} {raw}");
    }
    let mut out = String::new();
    normalise("replicate", &format!("a/b:{}", "0f".repeat(32)), &mut out);
    assert_eq!(out, "replicate/a/b");
}

proptest! {
    #[test]
    fn a_name_grows_by_its_author_only(raw in "(claude|gpt-4|gemini-2|us\\.anthropic\\.claude|m/)?[-a-z0-9.:/@v]{0,30}") {
        for slug in ["anthropic", "openai", "google", "aws-bedrock", "mistral"] {
            let (mut once, mut twice) = (String::new(), String::new());
            normalise(slug, &raw, &mut once);
            normalise(slug, &once, &mut twice);
            prop_assert!(once.len() <= slug.len() + 1 + raw.len());
            prop_assert!(raw.trim().is_empty() == once.is_empty());
            prop_assert!(twice.len() <= once.len());
        }
    }

    #[test]
    fn no_name_and_no_path_panics(rest in proptest::collection::vec(any::<u8>(), 0..80), raw in ".{0,300}") {
        for id in ProviderId::all() {
            let _ = model_of(id, &rest);
            let _ = path_streams(id, &rest);
            let _ = dialect_of(id, &rest);
            let mut out = String::new();
            normalise(id.slug(), &raw, &mut out);
            prop_assert!(out.len() <= MODEL_BYTES_MAX + 32);
        }
    }
}
