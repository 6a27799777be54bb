//! A golden address for every provider, and paths that try to lead elsewhere.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::provider::{by_slug, provider};

fn id(slug: &str) -> ProviderId {
    by_slug(slug).unwrap_or_else(|| panic!("{slug}"))
}

fn wanted(rest: &str) -> Wanted<'_> {
    Wanted {
        rest: rest.as_bytes(),
        account_id: "acc",
        target_url: None,
    }
}

type Resolve = for<'o> fn(
    ProviderId,
    &Wanted<'_>,
    &'o Overrides,
    &mut Vec<u8>,
) -> Result<Place<'o>, AddressError>;

fn url(
    resolve: Resolve,
    slug: &str,
    wanted: &Wanted<'_>,
    overrides: &Overrides,
) -> Result<String, AddressError> {
    let mut path = Vec::new();
    let place = resolve(id(slug), wanted, overrides, &mut path)?;
    let scheme = if place.origin().tls { "https" } else { "http" };
    let path = String::from_utf8(path).unwrap();
    Ok(format!("{scheme}://{}{path}", place.origin().authority()))
}

#[track_caller]
fn check(slug: &str, rest: &str, expected: &str) {
    let found = url(resolve, slug, &wanted(rest), &Overrides::default());
    assert_eq!(found.as_deref(), Ok(expected), "{slug}/{rest}");
}

#[track_caller]
fn check_error(slug: &str, rest: &str, expected: AddressError) {
    let mut path = b"before".to_vec();
    let overrides = Overrides::default();
    let found = resolve(id(slug), &wanted(rest), &overrides, &mut path);
    assert_eq!(found, Err(expected), "{slug}/{rest}");
    assert_eq!(path, b"before");
}

/// One path for each slug, the address it has, and what follows the upstream base there.
const GOLDEN: [(&str, &str, &str, &str); 25] = [
    (
        "openai",
        "chat/completions",
        "https://api.openai.com/v1/chat/completions",
        "/chat/completions",
    ),
    (
        "anthropic",
        "v1/messages?beta=true",
        "https://api.anthropic.com/v1/messages?beta=true",
        "/v1/messages?beta=true",
    ),
    (
        "google-ai-studio",
        "v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
    ),
    (
        "google-vertex-ai",
        "v1/projects/p/locations/us-east4/publishers/google/models/m:generateContent",
        "https://us-east4-aiplatform.googleapis.com/v1/projects/p/locations/us-east4/publishers/google/models/m:generateContent",
        "/v1/projects/p/locations/us-east4/publishers/google/models/m:generateContent",
    ),
    (
        "azure-openai",
        "res/dep/chat/completions?api-version=2024-10-21",
        "https://res.openai.azure.com/openai/deployments/dep/chat/completions?api-version=2024-10-21",
        "/chat/completions?api-version=2024-10-21",
    ),
    (
        "aws-bedrock",
        "bedrock-runtime/us-east-1/model/anthropic.claude-v2%3A1/invoke",
        "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-v2%3A1/invoke",
        "/model/anthropic.claude-v2%3A1/invoke",
    ),
    (
        "workers-ai",
        "@cf/meta/llama-3.1-8b-instruct",
        "https://api.cloudflare.com/client/v4/accounts/acc/ai/run/@cf/meta/llama-3.1-8b-instruct",
        "/@cf/meta/llama-3.1-8b-instruct",
    ),
    (
        "huggingface",
        "bigcode/starcoder",
        "https://api-inference.huggingface.co/models/bigcode/starcoder",
        "/bigcode/starcoder",
    ),
    (
        "groq",
        "chat/completions",
        "https://api.groq.com/openai/v1/chat/completions",
        "/chat/completions",
    ),
    (
        "replicate",
        "predictions",
        "https://api.replicate.com/v1/predictions",
        "/predictions",
    ),
    (
        "cohere",
        "v1/chat",
        "https://api.cohere.com/v1/chat",
        "/v1/chat",
    ),
    (
        "mistral",
        "v1/chat/completions",
        "https://api.mistral.ai/v1/chat/completions",
        "/v1/chat/completions",
    ),
    (
        "deepseek",
        "chat/completions",
        "https://api.deepseek.com/chat/completions",
        "/chat/completions",
    ),
    (
        "grok",
        "chat/completions",
        "https://api.x.ai/v1/chat/completions",
        "/chat/completions",
    ),
    (
        "perplexity-ai",
        "chat/completions",
        "https://api.perplexity.ai/chat/completions",
        "/chat/completions",
    ),
    (
        "openrouter",
        "chat/completions",
        "https://openrouter.ai/api/v1/chat/completions",
        "/chat/completions",
    ),
    (
        "cerebras",
        "chat/completions",
        "https://api.cerebras.ai/v1/chat/completions",
        "/chat/completions",
    ),
    (
        "fireworks",
        "chat/completions",
        "https://api.fireworks.ai/inference/v1/chat/completions",
        "/chat/completions",
    ),
    (
        "elevenlabs",
        "v1/text-to-speech/v",
        "https://api.elevenlabs.io/v1/text-to-speech/v",
        "/v1/text-to-speech/v",
    ),
    (
        "cartesia",
        "tts/bytes",
        "https://api.cartesia.ai/tts/bytes",
        "/tts/bytes",
    ),
    (
        "fal",
        "fal-ai/fast-sdxl",
        "https://fal.run/fal-ai/fast-sdxl",
        "/fal-ai/fast-sdxl",
    ),
    (
        "ideogram",
        "v1/ideogram-v3/generate",
        "https://api.ideogram.ai/v1/ideogram-v3/generate",
        "/v1/ideogram-v3/generate",
    ),
    (
        "deepgram",
        "v1/listen?model=nova-3",
        "https://api.deepgram.com/v1/listen?model=nova-3",
        "/v1/listen?model=nova-3",
    ),
    (
        "baseten",
        "v1/chat/completions",
        "https://inference.baseten.co/v1/chat/completions",
        "/v1/chat/completions",
    ),
    (
        "parallel",
        "v1beta/findall/ingest",
        "https://api.parallel.ai/v1beta/findall/ingest",
        "/v1beta/findall/ingest",
    ),
];

#[test]
fn every_provider_has_its_documented_address() {
    for (slug, rest, expected, _) in GOLDEN {
        check(slug, rest, expected);
    }
    let homeless = AddressError::NoBase {
        slug: "adobe-firefly",
    };
    check_error("adobe-firefly", "v3/images/generate", homeless);
    assert_eq!(GOLDEN.len() + 1, ProviderId::all().count());
}

#[test]
fn base_url_replaces_the_base_and_origin_only_scheme_and_host_for_every_provider() {
    for (slug, rest, direct, below) in GOLDEN {
        let parse = |text: &str| Base::parse(text, provider(id(slug)).parts).unwrap();
        let based = Overrides {
            base_url: Some(parse("http://127.0.0.1:9001/mock")),
            origin: None,
        };
        let found = url(resolve, slug, &wanted(rest), &based);
        assert_eq!(
            found,
            Ok(format!("http://127.0.0.1:9001/mock{below}")),
            "{slug}"
        );

        let moved = Overrides {
            base_url: None,
            origin: Some(parse("http://[::1]:81/x/")),
        };
        let found = url(resolve, slug, &wanted(rest), &moved);
        let path = direct.splitn(4, '/').nth(3).unwrap();
        assert_eq!(found, Ok(format!("http://[::1]:81/x/{path}")), "{slug}");
    }
    let base = Base::parse("https://firefly.example.com/v3", &[]).unwrap();
    let based = Overrides {
        base_url: Some(base.clone()),
        origin: None,
    };
    let moved = Overrides {
        base_url: None,
        origin: Some(base),
    };
    for overrides in [based, moved] {
        let found = url(resolve, "adobe-firefly", &wanted("images?a=b"), &overrides);
        assert_eq!(
            found.as_deref(),
            Ok("https://firefly.example.com/v3/images?a=b")
        );
    }
}

#[test]
fn a_base_url_may_name_the_parts_of_a_path() {
    let check = |slug: &str, base: &str, rest: &str, expected: &str| {
        let base = Base::parse(base, provider(id(slug)).parts).unwrap();
        let overrides = Overrides {
            base_url: Some(base),
            origin: None,
        };
        assert_eq!(
            url(resolve, slug, &wanted(rest), &overrides).as_deref(),
            Ok(expected)
        );
    };
    check(
        "azure-openai",
        "https://{resource}.openai.azure.us/openai/deployments/{deployment}",
        "Res/dep/x?y",
        "https://res.openai.azure.us/openai/deployments/dep/x?y",
    );
    check(
        "aws-bedrock",
        "http://h:1/{service}/{region}",
        "bedrock-mantle/eu-west-1/v1/x",
        "http://h:1/bedrock-mantle/eu-west-1/v1/x",
    );
    check("baseten", "http://h/{model}", "model/abc", "http://h/abc");
    check("baseten", "http://h", "model/abc", "http://h/model/abc");
    check(
        "workers-ai",
        "http://h/{account_id}/ai",
        "@cf/a/b",
        "http://h/acc/ai/run/@cf/a/b",
    );
    check(
        "workers-ai",
        "http://h/ai/run",
        "v1/embeddings",
        "http://h/ai/v1/embeddings",
    );
    check("workers-ai", "http://h", "run/@cf/a/b", "http://h/@cf/a/b");
}

#[test]
fn a_leading_v1_is_optional_where_the_base_ends_in_it() {
    for (slug, base) in [
        ("openai", "https://api.openai.com/v1"),
        ("groq", "https://api.groq.com/openai/v1"),
        ("replicate", "https://api.replicate.com/v1"),
        ("grok", "https://api.x.ai/v1"),
        ("openrouter", "https://openrouter.ai/api/v1"),
        ("cerebras", "https://api.cerebras.ai/v1"),
        ("fireworks", "https://api.fireworks.ai/inference/v1"),
        ("baseten", "https://inference.baseten.co/v1"),
    ] {
        for rest in ["models", "v1/models", "/v1/models", "//v1//models"] {
            check(slug, rest, &format!("{base}/models"));
        }
        check(slug, "v1", base);
        check(slug, "v1/v1/models", &format!("{base}/v1/models"));
        check(slug, "v10/models", &format!("{base}/v10/models"));
    }
    check(
        "groq",
        "openai/v1/models",
        "https://api.groq.com/openai/v1/models",
    );
    check(
        "openrouter",
        "api/v1/models",
        "https://openrouter.ai/api/v1/models",
    );
    check(
        "anthropic",
        "v1/v1/messages",
        "https://api.anthropic.com/v1/v1/messages",
    );

    let base = Base::parse("http://h/other", &[]).unwrap();
    let overrides = Overrides {
        base_url: Some(base),
        origin: None,
    };
    let found = url(resolve, "openai", &wanted("v1/models"), &overrides);
    assert_eq!(found.as_deref(), Ok("http://h/other/v1/models"));
}

#[test]
fn the_join_is_folded_and_the_rest_stays_as_sent() {
    check("openai", "", "https://api.openai.com/v1");
    check("openai", "/", "https://api.openai.com/v1");
    check("openai", "?a=b", "https://api.openai.com/v1?a=b");
    check("anthropic", "", "https://api.anthropic.com/");
    check("anthropic", "?a=b", "https://api.anthropic.com/?a=b");
    check(
        "anthropic",
        "//v1//messages/",
        "https://api.anthropic.com/v1//messages/",
    );
    check(
        "openai",
        "files/a%2Fb%3f?x=%2e%2e&y=a/../b?",
        "https://api.openai.com/v1/files/a%2Fb%3f?x=%2e%2e&y=a/../b?",
    );
    check(
        "google",
        "v1/models/m:countTokens",
        "https://generativelanguage.googleapis.com/v1/models/m:countTokens",
    );
}

#[test]
fn templated_addresses_take_their_parts_from_the_path() {
    let vertex =
        |region: &str| format!("v1/projects/p/locations/{region}/publishers/google/models/m:x");
    check(
        "google-vertex-ai",
        &vertex("global"),
        &format!("https://aiplatform.googleapis.com/{}", vertex("global")),
    );
    check(
        "google-vertex-ai",
        &vertex("eu"),
        &format!("https://aiplatform.eu.rep.googleapis.com/{}", vertex("eu")),
    );
    check(
        "google-vertex-ai",
        "v1/publishers/google/models/m:x?key=k",
        "https://aiplatform.googleapis.com/v1/publishers/google/models/m:x?key=k",
    );
    check(
        "aws-bedrock",
        "bedrock-mantle/us-east-1/anthropic/v1/messages",
        "https://bedrock-mantle.us-east-1.api.aws/anthropic/v1/messages",
    );
    check(
        "azure-openai",
        "res/dep",
        "https://res.openai.azure.com/openai/deployments/dep",
    );
    check(
        "workers-ai",
        "run/@cf/a/b",
        "https://api.cloudflare.com/client/v4/accounts/acc/ai/run/@cf/a/b",
    );
    check(
        "workers-ai",
        "v1/chat/completions",
        "https://api.cloudflare.com/client/v4/accounts/acc/ai/v1/chat/completions",
    );
    check(
        "workers-ai",
        "v1/embeddings",
        "https://api.cloudflare.com/client/v4/accounts/acc/ai/v1/embeddings",
    );
    check(
        "baseten",
        "model/abc123",
        "https://model-abc123.api.baseten.co/production/predict",
    );
    check(
        "baseten",
        "model/abc123/?x=1",
        "https://model-abc123.api.baseten.co/production/predict?x=1",
    );
    check(
        "baseten",
        "model/abc/environments/production/async_predict",
        "https://model-abc.api.baseten.co/environments/production/async_predict",
    );
}

#[test]
fn paths_that_lack_or_bend_a_part_are_refused() {
    for rest in ["", "res", "res/", "/res//chat"] {
        let form = "{resource}/{deployment}/chat/completions?api-version=...";
        check_error("azure-openai", rest, AddressError::MissingPart { form });
    }
    let bad = |part| AddressError::BadPart { part };
    for resource in [
        "evil.com%2f",
        "evil.com",
        "a_b",
        "-a",
        "a-",
        "a:80",
        "user@h",
        "[::1]",
    ] {
        check_error("azure-openai", &format!("{resource}/d/x"), bad("resource"));
    }
    check_error(
        "azure-openai",
        &format!("{}/d/x", "a".repeat(64)),
        bad("resource"),
    );
    check_error(
        "aws-bedrock",
        "bedrock-runtime/evil.com#/x",
        AddressError::Malformed,
    );
    check_error(
        "aws-bedrock",
        "bedrock-runtime/evil.com/model/m/invoke",
        bad("region"),
    );
    check_error(
        "aws-bedrock",
        "evil.com/us-east-1/x",
        AddressError::UnknownService,
    );
    check_error(
        "google-vertex-ai",
        "v1/projects/p/locations/evil.com%23/x",
        bad("region"),
    );
    check_error("baseten", "model/x.evil.com", bad("model"));
    check_error(
        "baseten",
        &format!("model/{}", "a".repeat(60)),
        bad("model"),
    );
    let account = Wanted {
        account_id: "../x",
        ..wanted("@cf/a/b")
    };
    let found = url(resolve, "workers-ai", &account, &Overrides::default());
    assert_eq!(found, Err(bad("account id")));
}

#[test]
fn hostile_paths_stay_paths_or_are_refused() {
    check(
        "openai",
        "//evil.com/",
        "https://api.openai.com/v1/evil.com/",
    );
    check("openai", "@evil.com", "https://api.openai.com/v1/@evil.com");
    check(
        "openai",
        ":80@evil.com/x",
        "https://api.openai.com/v1/:80@evil.com/x",
    );
    check(
        "openai",
        "\\\\evil.com",
        "https://api.openai.com/v1/\\\\evil.com",
    );
    check(
        "openai",
        "a%0d%0aHost:%20evil",
        "https://api.openai.com/v1/a%0d%0aHost:%20evil",
    );
    check(
        "anthropic",
        "@evil.com",
        "https://api.anthropic.com/@evil.com",
    );
    check(
        "anthropic",
        "http://evil.com/",
        "https://api.anthropic.com/http://evil.com/",
    );
    for rest in [
        "..",
        "../x",
        "a/../../x",
        "%2e%2e/x",
        "a/.",
        "a%2f..%2fb",
        "\\..\\x",
    ] {
        check_error("openai", rest, AddressError::DotSegment);
    }
    for rest in [
        "a b",
        "a\r\nHost: x",
        "a\tb",
        "a#b",
        "a?b#c",
        "a\0",
        "a?b c",
        "a\x7f",
    ] {
        check_error("openai", rest, AddressError::Malformed);
    }
}

#[test]
fn custom_providers_keep_the_whole_rest() {
    let check = |base: &str, rest: &str, expected: &str| {
        let base = Base::parse(base, &[]).unwrap();
        let mut path = Vec::new();
        let place = resolve_custom(&base, rest.as_bytes(), &mut path).unwrap();
        assert!(matches!(place, Place::Fixed(_)));
        let path = String::from_utf8(path).unwrap();
        assert_eq!(format!("{}{path}", place.origin().authority()), expected);
    };
    check(
        "http://127.0.0.1:8000/v1",
        "chat/completions?x=1",
        "127.0.0.1:8000/v1/chat/completions?x=1",
    );
    check(
        "http://127.0.0.1:8000/v1/",
        "v1/models",
        "127.0.0.1:8000/v1/v1/models",
    );
    check("https://h", "", "h/");
    check("https://h", "//a", "h/a");
}

#[test]
fn a_fal_target_stays_at_fal() {
    let resolve_target = |target: &str, overrides: &Overrides| {
        let wanted = Wanted {
            target_url: Some(target.as_bytes()),
            ..wanted("ignored?x")
        };
        url(resolve, "fal", &wanted, overrides)
    };
    let none = Overrides::default();
    let fine = |target: &str| assert_eq!(resolve_target(target, &none).as_deref(), Ok(target));
    fine("https://queue.fal.run/fal-ai/x?fal_webhook=https%3A%2F%2Fh");
    fine("https://fal.run/a/b");
    assert_eq!(
        resolve_target("https://FAL.run:443", &none).as_deref(),
        Ok("https://fal.run/")
    );
    for target in [
        "",
        "queue.fal.run",
        "http://queue.fal.run/x",
        "https://fal.run.evil.com/",
        "https://evilfal.run/",
        "https://fal.run@evil.com/",
        "https://evil.com/.fal.run",
        "https://evil.com#.fal.run",
        "https://evil.com\\.fal.run",
        "https://fal.run:8443/",
        "https://127.0.0.1/",
        "https://.fal.run/",
        "https://x..fal.run/",
        "wss://fal.run/",
    ] {
        assert_eq!(
            resolve_target(target, &none),
            Err(AddressError::TargetUrl),
            "{target}"
        );
    }
    assert_eq!(
        resolve_target("https://fal.run/../x", &none),
        Err(AddressError::DotSegment)
    );
    assert_eq!(
        resolve_target("https://fal.run/a b", &none),
        Err(AddressError::Malformed)
    );
    let origin = Some(Base::parse("http://h/mock", &[]).unwrap());
    let moved = Overrides {
        base_url: None,
        origin,
    };
    let found = resolve_target("https://queue.fal.run/a/b?c", &moved);
    assert_eq!(found.as_deref(), Ok("http://h/mock/a/b?c"));
    let other = Wanted {
        target_url: Some(b"https://fal.run/x"),
        ..wanted("models")
    };
    assert_eq!(
        url(resolve, "openai", &other, &none).as_deref(),
        Ok("https://api.openai.com/v1/models")
    );
}

#[test]
fn realtime_requests_without_a_path_find_the_realtime_api() {
    let none = Overrides::default();
    let check = |slug: &str, rest: &str, expected: &str| {
        let found = url(resolve_realtime, slug, &wanted(rest), &none);
        assert_eq!(found.as_deref(), Ok(expected), "{slug}{rest}");
    };
    check(
        "openai",
        "?model=gpt-realtime",
        "https://api.openai.com/v1/realtime?model=gpt-realtime",
    );
    check(
        "openai",
        "/?model=m",
        "https://api.openai.com/v1/realtime?model=m",
    );
    check(
        "openai",
        "v1/realtime?model=m",
        "https://api.openai.com/v1/realtime?model=m",
    );
    let live = format!(
        "https://generativelanguage.googleapis.com/{}",
        gemini::LIVE_PATH
    );
    check("google", "?api_key=k&a=%20", &format!("{live}?key=k&a=%20"));
    check("google-ai-studio", "?key=k", &format!("{live}?key=k"));
    check("google", "", &live);
    check(
        "google",
        "ws/x?api_key=k",
        "https://generativelanguage.googleapis.com/ws/x?api_key=k",
    );
    check(
        "cartesia",
        "?cartesia_version=1&api_key=k",
        "https://api.cartesia.ai/tts/websocket?cartesia_version=1&api_key=k",
    );
    check(
        "elevenlabs",
        "?agent_id=a",
        "https://api.elevenlabs.io/v1/convai/conversation?agent_id=a",
    );
    check(
        "elevenlabs",
        "v1/text-to-speech/v/stream-input",
        "https://api.elevenlabs.io/v1/text-to-speech/v/stream-input",
    );
    check(
        "fal",
        "fal-ai/fast-lcm-diffusion",
        "https://ws.fal.run/fal-ai/fast-lcm-diffusion",
    );
    check(
        "fal",
        "fal-ai/x/realtime?a",
        "https://fal.run/fal-ai/x/realtime?a",
    );
    let run = "https://api.cloudflare.com/client/v4/accounts/acc/ai/run";
    check(
        "workers-ai",
        "?model=@cf/deepgram/nova-3&encoding=linear16",
        &format!("{run}/@cf/deepgram/nova-3?encoding=linear16"),
    );
    check(
        "workers-ai",
        "?a=1&model=%40cf%2Fdeepgram%2Fflux",
        &format!("{run}/@cf/deepgram/flux?a=1"),
    );
    check(
        "workers-ai",
        "?model=@cf/deepgram/aura-1",
        &format!("{run}/@cf/deepgram/aura-1"),
    );
    check(
        "deepgram",
        "v1/listen?model=nova-3",
        "https://api.deepgram.com/v1/listen?model=nova-3",
    );
    check("anthropic", "x", "https://api.anthropic.com/x");
    for rest in [
        "",
        "?model=",
        "?model=gpt",
        "?model=@cf/../x",
        "?model=@cf/a%3Fb",
        "?model=@cf/%0a",
    ] {
        let found = url(resolve_realtime, "workers-ai", &wanted(rest), &none);
        assert_eq!(found, Err(AddressError::RealtimeModel), "{rest}");
    }
    let origin = Some(Base::parse("http://h/m", &[]).unwrap());
    let moved = Overrides {
        base_url: None,
        origin,
    };
    let found = url(resolve_realtime, "fal", &wanted("a/b"), &moved);
    assert_eq!(found.as_deref(), Ok("http://h/m/a/b"));
}

#[test]
fn fixed_origins_are_handed_out_without_a_copy() {
    let overrides = Overrides::default();
    let mut path = Vec::new();
    for (slug, rest, _, _) in GOLDEN {
        let place = resolve(id(slug), &wanted(rest), &overrides, &mut path).unwrap();
        let is_templated = matches!(slug, "azure-openai" | "aws-bedrock" | "google-vertex-ai");
        assert_eq!(matches!(place, Place::Made(_)), is_templated, "{slug}");
        if let Place::Fixed(origin) = place {
            assert!(matches!(origin.host, Cow::Borrowed(_)));
        }
    }
}

#[test]
fn errors_are_sentences_for_the_caller() {
    let homeless = AddressError::NoBase {
        slug: "adobe-firefly",
    };
    assert_eq!(
        homeless.to_string(),
        "no address is known for adobe-firefly: set base_url or origin for it in the file"
    );
    let bad = AddressError::BadPart { part: "region" };
    assert_eq!(
        bad.to_string(),
        "the region in the path may be letters, digits and inner hyphens only"
    );
}

/// Whether a provider may be reached under `host`, written down apart from the table.
fn is_allowed(slug: &str, host: &str) -> bool {
    let label_before = |tail: &str| {
        host.strip_suffix(tail)
            .is_some_and(|label| !label.is_empty() && !label.contains('.'))
    };
    match slug {
        "azure-openai" => label_before(".openai.azure.com"),
        "aws-bedrock" => {
            let region = host
                .strip_prefix("bedrock-runtime.")
                .and_then(|h| h.strip_suffix(".amazonaws.com"));
            let mantle = host
                .strip_prefix("bedrock-mantle.")
                .and_then(|h| h.strip_suffix(".api.aws"));
            region
                .or(mantle)
                .is_some_and(|region| !region.is_empty() && !region.contains('.'))
        }
        "google-vertex-ai" => {
            host == "aiplatform.googleapis.com"
                || [
                    "aiplatform.us.rep.googleapis.com",
                    "aiplatform.eu.rep.googleapis.com",
                ]
                .contains(&host)
                || label_before("-aiplatform.googleapis.com")
        }
        "baseten" => {
            host == "inference.baseten.co"
                || (host.starts_with("model-") && label_before(".api.baseten.co"))
        }
        "fal" => host == "fal.run" || host.ends_with(".fal.run"),
        _ => {
            let hosts: BTreeMap<_, _> = GOLDEN
                .iter()
                .map(|(slug, _, url, _)| (*slug, url.split('/').nth(2).unwrap()))
                .collect();
            hosts.get(slug) == Some(&host)
        }
    }
}

proptest! {
    #[test]
    fn no_path_chooses_a_host_that_is_not_its_providers(
        rest in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            "(bedrock-runtime/|bedrock-mantle/|model/|v1/projects/p/locations/|v1/)?[-a-zA-Z0-9./@:?%\\\\#_~]{0,40}"
                .prop_map(String::into_bytes),
        ],
        target in proptest::option::of("https?://[-a-z.@:/\\\\#?]{0,12}(fal.run)?[-a-z.@:/]{0,12}"),
    ) {
        let overrides = Overrides::default();
        for id in ProviderId::all() {
            let wanted = Wanted {
                rest: &rest,
                account_id: "acc",
                target_url: target.as_deref().map(str::as_bytes),
            };
            for resolve in [resolve as Resolve, resolve_realtime] {
                let mut path = Vec::new();
                if let Ok(place) = resolve(id, &wanted, &overrides, &mut path) {
                    let origin = place.origin();
                    prop_assert!(is_allowed(id.slug(), &origin.host), "{} {}", id.slug(), origin.host);
                    prop_assert!(origin.tls && origin.port == 443);
                    prop_assert!(path.starts_with(b"/"));
                    prop_assert!(!path.iter().any(|b| matches!(b, 0..=b' ' | 0x7f | b'#')));
                } else {
                    prop_assert!(path.is_empty());
                }
            }
        }
    }

    #[test]
    fn an_override_decides_the_host_alone(rest in proptest::collection::vec(any::<u8>(), 0..60)) {
        let base = Base::parse("http://127.0.0.1:9/b", &[]).unwrap();
        for overrides in [
            Overrides { base_url: Some(base.clone()), origin: None },
            Overrides { base_url: None, origin: Some(base.clone()) },
        ] {
            for id in ProviderId::all() {
                let wanted = Wanted { rest: &rest, account_id: "acc", target_url: None };
                for resolve in [resolve as Resolve, resolve_realtime] {
                    let mut path = Vec::new();
                    if let Ok(place) = resolve(id, &wanted, &overrides, &mut path) {
                        prop_assert_eq!(place.origin(), base.origin());
                        prop_assert!(path.starts_with(b"/b"));
                    }
                }
            }
        }
    }
}
