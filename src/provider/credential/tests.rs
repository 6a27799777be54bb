//! What counts as a credential, where it goes, and what never shows.

use proptest::prelude::*;

use super::*;
use crate::provider::by_slug;

fn id(slug: &str) -> ProviderId {
    by_slug(slug).unwrap_or_else(|| panic!("{slug}"))
}

#[track_caller]
fn check_stored(slug: &str, rest: &str, expected: &str) {
    let mut out = Vec::new();
    write_stored(id(slug), rest.as_bytes(), b"k", &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\r\n"));
}

#[test]
fn every_provider_gets_its_stored_credential_where_it_reads_it() {
    check_stored("openai", "chat/completions", "authorization: Bearer k");
    check_stored("anthropic", "v1/messages", "x-api-key: k");
    check_stored(
        "google-ai-studio",
        "v1beta/models/m:generateContent",
        "x-goog-api-key: k",
    );
    check_stored(
        "google-vertex-ai",
        "v1/projects/p/locations/r/x",
        "authorization: Bearer k",
    );
    check_stored(
        "google-vertex-ai",
        "v1/publishers/google/models/m:x",
        "x-goog-api-key: k",
    );
    check_stored("azure-openai", "r/d/chat/completions", "api-key: k");
    check_stored(
        "aws-bedrock",
        "bedrock-runtime/r/model/m/invoke",
        "authorization: Bearer k",
    );
    check_stored(
        "aws-bedrock",
        "bedrock-mantle/r/anthropic/v1/messages?x",
        "x-api-key: k",
    );
    check_stored(
        "aws-bedrock",
        "/bedrock-mantle/r/v1/chat/completions",
        "authorization: Bearer k",
    );
    check_stored("workers-ai", "@cf/a/b", "authorization: Bearer k");
    check_stored("huggingface", "o/m", "authorization: Bearer k");
    check_stored("groq", "chat/completions", "authorization: Bearer k");
    check_stored("replicate", "predictions", "authorization: Bearer k");
    check_stored("cohere", "v2/chat", "authorization: Bearer k");
    check_stored("mistral", "v1/chat/completions", "authorization: Bearer k");
    check_stored("deepseek", "chat/completions", "authorization: Bearer k");
    check_stored("grok", "chat/completions", "authorization: Bearer k");
    check_stored(
        "perplexity-ai",
        "chat/completions",
        "authorization: Bearer k",
    );
    check_stored("openrouter", "chat/completions", "authorization: Bearer k");
    check_stored("cerebras", "chat/completions", "authorization: Bearer k");
    check_stored("fireworks", "chat/completions", "authorization: Bearer k");
    check_stored("elevenlabs", "v1/text-to-speech/v", "xi-api-key: k");
    check_stored("cartesia", "tts/bytes", "x-api-key: k");
    check_stored("fal", "fal-ai/x", "authorization: Key k");
    check_stored("ideogram", "generate", "api-key: k");
    check_stored("deepgram", "v1/listen", "authorization: Token k");
    check_stored("baseten", "v1/chat/completions", "authorization: Bearer k");
    check_stored("baseten", "model/abc", "authorization: Api-Key k");
    check_stored("parallel", "v1/tasks/runs", "x-api-key: k");
    check_stored("adobe-firefly", "v3/images", "authorization: Bearer k");
}

#[test]
fn credentials_that_cannot_stand_in_a_head_are_refused_and_leave_nothing() {
    let check = |slug: &str, credential: &[u8], error| {
        let mut out = b"before".to_vec();
        assert_eq!(
            write_stored(id(slug), b"x", credential, &mut out),
            Err(error)
        );
        assert_eq!(out, b"before");
    };
    check("openai", b"a\r\nb: c", CredentialError::Unprintable);
    check("openai", b" ", CredentialError::Unprintable);
    check("openai", "ü".as_bytes(), CredentialError::Unprintable);
    check(
        "aws-bedrock",
        b"{\"accessKeyId\":1}",
        CredentialError::NeedsSignature,
    );
    check(
        "google-vertex-ai",
        b" {\"type\":1}",
        CredentialError::NeedsAccessToken,
    );
}

#[test]
fn a_prefix_the_credential_brings_is_not_doubled() {
    let mut out = Vec::new();
    KEY.write_value(b"key abc\n", &mut out).unwrap();
    assert_eq!(out, b"key abc");
}

#[track_caller]
fn check_read(slug: &str, name: &str, value: &str, expected: Option<&str>) {
    let found = read(id(slug), name.as_bytes(), value.as_bytes());
    assert_eq!(found, expected.map(str::as_bytes), "{slug} {name}: {value}");
}

#[test]
fn credentials_are_read_from_native_headers_and_authorization() {
    check_read("openai", "Authorization", "Bearer sk-1", Some("sk-1"));
    check_read("openai", "authorization", "bearer  sk-1 ", Some("sk-1"));
    check_read("openai", "authorization", "sk-1", Some("sk-1"));
    check_read("openai", "authorization", "Bearer", None);
    check_read("openai", "authorization", "  ", None);
    check_read("openai", "authorization", "Bearerly", Some("Bearerly"));
    check_read("openai", "x-api-key", "sk-1", None);
    check_read("anthropic", "X-Api-Key", "k", Some("k"));
    check_read("anthropic", "authorization", "Bearer k", Some("k"));
    check_read("google-ai-studio", "x-goog-api-key", "k", Some("k"));
    check_read("azure-openai", "api-key", "k", Some("k"));
    check_read("deepgram", "authorization", "Token k", Some("k"));
    check_read("fal", "authorization", "Key k", Some("k"));
    check_read("elevenlabs", "xi-api-key", "k", Some("k"));
    check_read("elevenlabs", "authorization", "Bearer k", Some("k"));
    let signature = "AWS4-HMAC-SHA256 Credential=AKIA/20261120/us-east-1/bedrock/aws4_request";
    check_read("aws-bedrock", "authorization", signature, Some(signature));
}

#[test]
fn credentials_in_the_query_count() {
    let given = |slug: &str, rest: &str| is_given(id(slug), rest.as_bytes(), []);
    assert!(given(
        "google-ai-studio",
        "v1beta/models/m:generateContent?key=k"
    ));
    assert!(given("google", "?alt=sse&api_key=k"));
    assert!(given("cartesia", "?cartesia_version=1&api_key=k"));
    assert!(given("aws-bedrock", "x?x-amz-signature=k"));
    assert!(!given("google-ai-studio", "v1beta/models?key="));
    assert!(!given("openai", "models?key=k"));
    assert!(!given("google-ai-studio", "v1beta/key=k"));
    let fields = [(&b"x-api-key"[..], &b"k"[..])];
    assert!(is_given(id("anthropic"), b"v1/messages", fields));
    assert!(!is_given(id("openai"), b"v1/messages", fields));
}

#[test]
fn a_bedrock_key_moves_for_mantle_and_a_signature_does_not() {
    let bedrock = id("aws-bedrock");
    let mantle = b"bedrock-mantle/us-east-1/anthropic/v1/messages";
    let moved_to =
        |rest: &[u8], name: &[u8], value: &'static [u8]| moved(bedrock, rest, name, value);
    assert_eq!(
        moved_to(mantle, b"Authorization", b"bearer k"),
        Some((X_API_KEY, &b"k"[..]))
    );
    assert_eq!(
        moved_to(mantle, b"authorization", b"AWS4-HMAC-SHA256 x"),
        None
    );
    assert_eq!(moved_to(mantle, b"x-api-key", b"k"), None);
    assert_eq!(
        moved_to(
            b"bedrock-runtime/r/model/m/invoke",
            b"authorization",
            b"Bearer k"
        ),
        None
    );
    assert_eq!(
        moved(
            id("anthropic"),
            b"v1/messages",
            b"authorization",
            b"Bearer k"
        ),
        None
    );
}

#[track_caller]
fn check_offer(values: &[&str], token: &str, credential: &str, echo: &str, upstream: &str) {
    let bytes = || values.iter().map(|value| value.as_bytes());
    let offer = read_offer(bytes());
    let text =
        |found: Option<&[u8]>| String::from_utf8(found.unwrap_or_default().to_vec()).unwrap();
    assert_eq!(text(offer.gateway_token), token);
    let field = offer.credential.map(|(slot, secret)| {
        let mut out = Vec::new();
        slot.write(secret, &mut out).unwrap();
        String::from_utf8(out).unwrap().trim_end().to_owned()
    });
    assert_eq!(field.unwrap_or_default(), credential);
    assert_eq!(text(offer.echo), echo);
    let mut out = Vec::new();
    write_offer(bytes(), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), upstream);
}

#[test]
fn subprotocols_are_parted_into_token_credential_and_protocols() {
    check_offer(&[], "", "", "", "");
    check_offer(&["realtime"], "", "", "realtime", "realtime");
    check_offer(
        &["cf-aig-authorization.T"],
        "T",
        "",
        "cf-aig-authorization.T",
        "",
    );
    check_offer(
        &["xi-api-key.K, cf-aig-authorization.T", " convai "],
        "T",
        "xi-api-key: K",
        "convai",
        "convai",
    );
    check_offer(
        &["fal-api-key.a:b,cf-aig-authorization.T"],
        "T",
        "authorization: Key a:b",
        "fal-api-key.a:b",
        "",
    );
    check_offer(
        &["openai-insecure-api-key.K, realtime, openai-beta.realtime-v1"],
        "",
        "",
        "realtime",
        "openai-insecure-api-key.K, realtime, openai-beta.realtime-v1",
    );
    check_offer(&["token, K, token"], "", "", "token", "token, K, token");
    check_offer(
        &["cf-aig-authorization., ,x"],
        "",
        "",
        "cf-aig-authorization.",
        "cf-aig-authorization., x",
    );
}

#[test]
fn native_credentials_among_subprotocols_are_noticed() {
    let has = |value: &str| read_offer([value.as_bytes()]).has_native_credential;
    assert!(has("realtime, openai-insecure-api-key.K"));
    assert!(has("token, K"));
    assert!(!has("realtime, token"));
    assert!(!has("cf-aig-authorization.T"));
}

#[track_caller]
fn check_redacted(path: &str, expected: &str) {
    let mut out = Vec::new();
    redact_query(path.as_bytes(), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn secrets_in_queries_are_replaced_and_all_else_is_copied() {
    check_redacted("/v1/models", "/v1/models");
    check_redacted("/v1?", "/v1?");
    check_redacted("/m?key=abc", "/m?key=***");
    check_redacted("/m?alt=sse&KEY=abc&x=%20", "/m?alt=sse&KEY=***&x=%20");
    check_redacted("/m?%6b%65%79=abc", "/m?%6b%65%79=***");
    check_redacted(
        "/m?api_key=a&token=b&access_token=c&sig=d",
        "/m?api_key=***&token=***&access_token=***&sig=***",
    );
    check_redacted(
        "/m?X-Amz-Signature=a&x-amz-credential=b&X%2DAmz%2DDate=c",
        "/m?X-Amz-Signature=***&x-amz-credential=***&X%2DAmz%2DDate=***",
    );
    check_redacted("/m?a=1;key=b=c;d", "/m?a=1;key=***;d");
    check_redacted(
        "/m?keys=a&monkey=b&tokens=c&key&key=",
        "/m?keys=a&monkey=b&tokens=c&key&key=",
    );
    check_redacted("/m?q=a?key=b&&key=c", "/m?q=a?key=b&&key=***");
    check_redacted("/key=a?x", "/key=a?x");
}

proptest! {
    #[test]
    fn a_secret_never_survives_redaction(before in "[a-z=&;%?0-9]{0,20}", after in "[a-z=&;%?0-9]{0,20}") {
        let path = format!("/p?{before}&key=SECRETSECRET&{after}");
        let mut out = Vec::new();
        redact_query(path.as_bytes(), &mut out);
        prop_assert!(!String::from_utf8_lossy(&out).contains("SECRET"));
    }
}
