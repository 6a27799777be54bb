use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// A request's parts, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    account: Vec<u8>,
    gateway: Vec<u8>,
    revision: u64,
    provider: Vec<u8>,
    method: Vec<u8>,
    credential: Option<Vec<u8>>,
    offered: Offered,
    custom: Option<Vec<u8>>,
    origin: Origin,
    path: Vec<u8>,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

fn request() -> Request {
    Request {
        account: b"acct".to_vec(),
        gateway: b"gw".to_vec(),
        revision: 0,
        provider: b"openai".to_vec(),
        method: b"POST".to_vec(),
        credential: Some(b"sk-1".to_vec()),
        offered: Offered::Gzip,
        custom: None,
        origin: Origin::parse("https://api.openai.com").unwrap(),
        path: b"/v1/chat/completions?a=b".to_vec(),
        fields: vec![("content-type".into(), b"application/json".to_vec())],
        body: br#"{"model":"gpt-4o","messages":[]}"#.to_vec(),
    }
}

fn secret() -> KeySecret {
    KeySecret::derive(b"a secret of tests")
}

/// What a key comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Made {
    hash: KeyHash,
    bytes: Box<[u8]>,
    digests: PartDigests,
}

fn with_parts<T>(request: &Request, work: impl FnOnce(&KeyParts<'_>) -> T) -> T {
    let digest = |credential: &Vec<u8>| {
        let fields = [(&b"authorization"[..], &**credential)];
        CredentialDigest::of(&secret(), fields, b"/", b"/", &mut Vec::new())
    };
    let credential = request.credential.as_ref().map(digest);
    let fields: Vec<_> = request
        .fields
        .iter()
        .map(|(name, value)| Field {
            name: name.as_bytes(),
            value,
            id: FieldName::of(name.as_bytes()),
        })
        .collect();
    work(&KeyParts {
        account: &request.account,
        gateway: &request.gateway,
        revision: request.revision,
        provider: &request.provider,
        method: &request.method,
        credential: credential.as_ref(),
        offered: request.offered,
        custom: request.custom.as_deref(),
        origin: &request.origin,
        path: &request.path,
        fields: &fields,
    })
}

fn made(request: &Request) -> Made {
    with_parts(request, |parts| {
        // A buffer that something was in before.
        let mut rows = Rows::default();
        let row = parts.row(&secret(), &mut rows, &mut b"something".to_vec());
        let (key, digests) = row.key(&secret(), &request.body);
        let bytes = key.to_bytes(&request.body);
        assert!(key.matches(&request.body, &bytes));
        // The same when the row is known.
        let row = parts.row(&secret(), &mut rows, &mut Vec::new());
        let (again, digests_again) = row.key(&secret(), &request.body);
        assert_eq!((again.hash, digests_again), (key.hash, digests));
        Made {
            hash: key.hash,
            digests,
            bytes,
        }
    })
}

fn matches(request: &Request, bytes: &[u8]) -> bool {
    with_parts(request, |parts| {
        let row = parts.row(&secret(), &mut Rows::default(), &mut Vec::new());
        let (key, _) = row.key(&secret(), &request.body);
        key.matches(&request.body, bytes)
    })
}

#[track_caller]
fn check_differ(one: &Request, other: &Request, differing: &[Part]) {
    let (a, b) = (made(one), made(other));
    assert_ne!(a.hash, b.hash, "{one:?} {other:?}");
    assert_ne!(a.bytes, b.bytes);
    assert!(!matches(other, &a.bytes));
    assert_eq!(a.digests.differing(&b.digests), differing);
}

#[test]
fn each_part_makes_another_key_and_is_named() {
    let plain = request();
    let check = |change: &dyn Fn(&mut Request), part| {
        let mut other = plain.clone();
        change(&mut other);
        check_differ(&plain, &other, &[part]);
    };
    check(&|it| it.account = b"acct2".to_vec(), Part::Account);
    check(&|it| it.gateway = b"GW".to_vec(), Part::Gateway);
    check(&|it| it.provider = b"groq".to_vec(), Part::Provider);
    check(&|it| it.revision = 1, Part::Revision);
    check(&|it| it.method = b"GET".to_vec(), Part::Method);
    check(
        &|it| it.credential = Some(b"sk-2".to_vec()),
        Part::Credential,
    );
    check(&|it| it.credential = None, Part::Credential);
    check(&|it| it.offered = Offered::Identity, Part::Encoding);
    check(&|it| it.offered = Offered::Nothing, Part::Encoding);
    for origin in [
        "http://api.openai.com:443",
        "https://api.openai.com:444",
        "https://api.openai.co",
    ] {
        let origin = Origin::parse(origin).unwrap();
        check(&|it| it.origin = origin.clone(), Part::Origin);
    }
    check(
        &|it| it.path = b"/v1/chat/completions?a=c".to_vec(),
        Part::Path,
    );
    check(&|it| it.path.push(b'/'), Part::Path);
    check(&|it| it.fields.clear(), Part::Fields);
    check(&|it| it.fields[0].1.push(b';'), Part::Fields);
    check(&|it| it.body.push(b' '), Part::Body);
    check(&|it| it.body[1] = b'\t', Part::Body);
    check(&|it| it.body.clear(), Part::Body);
}

#[test]
fn fields_that_can_change_an_answer_are_part_of_the_key() {
    let plain = request();
    for name in [
        "accept",
        "Content-Encoding",
        "accept-language",
        "origin",
        "anthropic-version",
        "anthropic-beta",
        "anthropic-dangerous-direct-browser-access",
        "OpenAI-Organization",
        "openai-project",
        "openai-beta",
        "x-goog-user-project",
        "x-goog-request-params",
        "x-amzn-bedrock-guardrailIdentifier",
        "cartesia-version",
        "groq-model-version",
        "prefer",
        "x-wait-for-model",
        "acme-api-version",
        "acme-beta",
    ] {
        let mut other = plain.clone();
        other.fields.push((name.into(), b"one".to_vec()));
        check_differ(&plain, &other, &[Part::Fields]);
        let mut third = other.clone();
        third.fields[1].1 = b"two".to_vec();
        check_differ(&other, &third, &[Part::Fields]);
        third.fields[1] = (name.to_ascii_uppercase(), b"one".to_vec());
        assert_eq!(made(&other), made(&third), "{name} in capitals");
    }
}

#[test]
fn fields_that_tell_about_the_caller_are_not() {
    let plain = made(&request());
    for name in [
        "user-agent",
        "x-stainless-retry-count",
        "x-stainless-package-version",
        "x-goog-api-client",
        "traceparent",
        "x-request-id",
        "idempotency-key",
        "x-title",
        "authorization",
        "cf-aig-metadata",
        "accept-encoding",
        "x-forwarded-for",
    ] {
        let mut other = request();
        other.fields.push((name.into(), b"one".to_vec()));
        assert_eq!(made(&other), plain, "{name}");
    }
}

#[test]
fn what_a_provider_is_offered_is_what_is_sent_to_it() {
    let offered = |values: &[&str]| {
        let fields: Vec<_> = values
            .iter()
            .map(|value| Field {
                name: b"accept-encoding",
                value: value.as_bytes(),
                id: FieldName::AcceptEncoding,
            })
            .collect();
        Offered::of(&fields)
    };
    assert_eq!(offered(&[]), Offered::Nothing);
    assert_eq!(offered(&["br, gzip"]), Offered::Gzip);
    assert_eq!(offered(&["br", "GZIP;q=0.5"]), Offered::Gzip);
    assert_eq!(offered(&["gzip;q=0"]), Offered::Identity);
    assert_eq!(offered(&["br"]), Offered::Identity);
    assert_eq!(offered(&[""]), Offered::Identity);
}

#[test]
fn the_callers_own_key_stands_for_what_is_asked_and_for_nothing_else() {
    let mut plain = request();
    plain.custom = Some(b"my key".to_vec());
    let same = |change: &dyn Fn(&mut Request)| {
        let mut other = plain.clone();
        change(&mut other);
        assert_eq!(made(&other), made(&plain), "{other:?}");
    };
    same(&|it| it.body = b"other".to_vec());
    same(&|it| it.path = b"/other".to_vec());
    same(&|it| it.fields.clear());
    same(&|it| it.origin = Origin::parse("http://localhost").unwrap());
    let check = |change: &dyn Fn(&mut Request), part| {
        let mut other = plain.clone();
        change(&mut other);
        check_differ(&plain, &other, &[part]);
    };
    check(&|it| it.account.push(b'x'), Part::Account);
    check(&|it| it.gateway.push(b'x'), Part::Gateway);
    check(&|it| it.provider.push(b'x'), Part::Provider);
    check(&|it| it.method.push(b'x'), Part::Method);
    check(&|it| it.credential = Some(b"x".to_vec()), Part::Credential);
    check(&|it| it.offered = Offered::Identity, Part::Encoding);
    check(&|it| it.custom = Some(b"my key2".to_vec()), Part::Custom);
    check(&|it| it.custom = Some(Vec::new()), Part::Custom);
    let all = [
        Part::Custom,
        Part::Origin,
        Part::Path,
        Part::Fields,
        Part::Body,
    ];
    check_differ(&plain, &request(), &all);
}

#[test]
fn a_credential_is_told_apart_in_whatever_field_it_comes() {
    let digest = |fields: &[(&str, &str)], path: &str, recorded: &str| {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        CredentialDigest::of(
            &secret(),
            fields,
            path.as_bytes(),
            recorded.as_bytes(),
            &mut Vec::new(),
        )
        .0
    };
    let mut seen = HashSet::new();
    for name in [
        "authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "xi-api-key",
        "x-amz-security-token",
        "x-acme-auth",
        "acme-secret",
        "x-acme-jwt",
    ] {
        for value in ["one", "two", ""] {
            assert!(
                seen.insert(digest(&[(name, value)], "/", "/")),
                "{name} {value}"
            );
        }
    }
    assert!(seen.insert(digest(&[], "/", "/")));
    assert!(seen.insert(digest(&[], "/?key=a", "/?key=***")));
    assert!(seen.insert(digest(&[], "/?key=b", "/?key=***")));
    assert!(seen.insert(digest(
        &[("x-api-key", "one"), ("api-key", "two")],
        "/",
        "/"
    )));
    assert!(seen.insert(digest(
        &[("x-api-key", "oneapi-key"), ("", "two")],
        "/",
        "/"
    )));
    let ours = [
        ("cf-aig-authorization", "a token"),
        ("idempotency-key", "x"),
    ];
    assert!(
        !seen.insert(digest(&ours, "/", "/")),
        "it is nobody's credential"
    );
    let plain = digest(&[("X-Api-Key", "one"), ("accept", "x")], "/a", "/a");
    assert_eq!(
        plain,
        digest(&[("x-api-key", "one"), ("accept", "y")], "/b", "/b")
    );
    let other = KeySecret::derive(b"another server's");
    let field = [(&b"x-api-key"[..], &b"one"[..])];
    assert_ne!(
        plain,
        CredentialDigest::of(&other, field, b"/", b"/", &mut Vec::new()).0
    );
}

#[test]
fn secrets_do_not_print_themselves() {
    let text = format!("{:?}", secret());
    assert_eq!(text, "KeySecret(***)");
    let digest = CredentialDigest::of(&secret(), [], b"/", b"/", &mut Vec::new());
    assert_eq!(format!("{digest:?}"), "CredentialDigest(***)");
}

#[test]
fn another_servers_keys_lie_elsewhere() {
    let other = KeySecret::derive(b"another server's");
    let [mine, theirs] = [secret(), other].map(|secret| {
        with_parts(&request(), |parts| {
            let row = parts.row(&secret, &mut Rows::default(), &mut Vec::new());
            let (key, digests) = row.key(&secret, b"{}");
            (key.hash, digests)
        })
    });
    assert_ne!(mine.0, theirs.0);
    assert_ne!(mine.1, theirs.1);
}

/// Text of the bytes that keys are made of: a tricky value is one that looks like a border.
fn tricky() -> impl Strategy<Value = Vec<u8>> {
    let byte = proptest::sample::select(vec![0u8, 1, 2, 3, 7, 8, 9, 10, b'/', b'a', 255]);
    proptest::collection::vec(byte, 0..12)
}

fn requests() -> impl Strategy<Value = Request> {
    let names = vec!["accept", "prefer", "openai-beta", "x-version"];
    let field = (proptest::sample::select(names), tricky());
    let fields = proptest::collection::vec(field, 0..3);
    let one = (tricky(), tricky(), tricky(), tricky(), tricky(), tricky());
    let two = (
        fields,
        proptest::option::of(tricky()),
        proptest::option::of(tricky()),
        0..3u8,
    );
    (one, two).prop_map(|(one, (fields, credential, custom, offered))| {
        let (account, gateway, provider, method, path, body) = one;
        Request {
            account,
            gateway,
            revision: offered.into(),
            provider,
            method,
            credential,
            offered: match offered {
                0 => Offered::Nothing,
                1 => Offered::Identity,
                _ => Offered::Gzip,
            },
            custom,
            origin: request().origin,
            path,
            fields: fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            body,
        }
    })
}

/// What of a request counts.
fn essence(request: &Request) -> Request {
    let mut essence = request.clone();
    if essence.custom.is_some() {
        essence.path.clear();
        essence.fields.clear();
        essence.body.clear();
    }
    essence
}

/// The same request with its bytes moved across a border between two parts.
fn moved(request: &Request, border: usize, count: usize) -> Request {
    let mut moved = request.clone();
    let (from, to) = match border % 5 {
        0 => (&mut moved.account, &mut moved.gateway),
        1 => (&mut moved.gateway, &mut moved.provider),
        2 => (&mut moved.provider, &mut moved.method),
        3 => (&mut moved.path, &mut moved.body),
        _ => (&mut moved.body, &mut moved.path),
    };
    let count = count.min(from.len());
    let tail = from.split_off(from.len() - count);
    to.splice(0..0, tail);
    moved
}

proptest! {
    #[test]
    fn two_keys_are_one_exactly_if_their_requests_are(one in requests(), other in requests()) {
        let (a, b) = (made(&one), made(&other));
        let same = essence(&one) == essence(&other);
        prop_assert_eq!(a.bytes == b.bytes, same);
        prop_assert_eq!(a.hash == b.hash, same);
        prop_assert_eq!(matches(&one, &b.bytes), same);
        prop_assert_eq!(a.digests.differing(&b.digests).is_empty(), same);
    }

    #[test]
    fn no_border_between_parts_can_be_moved(one in requests(), border in 0usize..5, count in 0usize..12) {
        let other = moved(&one, border, count);
        let same = essence(&one) == essence(&other);
        prop_assert_eq!(made(&one).bytes == made(&other).bytes, same);
        prop_assert_eq!(made(&one).hash == made(&other).hash, same);
    }

    #[test]
    fn a_cut_or_longer_key_is_another(one in requests(), cut in 0usize..40, more in tricky()) {
        let bytes = made(&one).bytes;
        let short = &bytes[..bytes.len().saturating_sub(cut + 1)];
        prop_assert!(!matches(&one, short));
        let long = [&*bytes, &more, &[0]].concat();
        prop_assert!(!matches(&one, &long));
    }
}
