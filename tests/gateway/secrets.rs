//! No secret is found where it does not belong: canaries go in by every way there is, and every file,
//! answer, metric and word of the process is searched for them.

use std::{fs, path::Path};

use serde_json::json;

use crate::support::{
    client::{find, get, post_with},
    server::{API_TOKEN, LOCKED, OPEN, READ_TOKEN, STORED, Server, Setup, TOKEN},
    upstream::{Peer, Upstream},
};

/// Begins every secret of these tests that a caller sends.
const CANARY: &str = "canary-5e1f";

/// Every field that may carry a secret, known to the server or not.
const FIELDS: [&str; 18] = [
    "Authorization: Bearer",
    "x-api-key:",
    "api-key:",
    "x-goog-api-key:",
    "xi-api-key:",
    "Cookie: session=",
    "Proxy-Authorization: Basic",
    "x-amz-security-token:",
    "cf-access-jwt-assertion:",
    "x-internal-token:",
    "cf-aig-cache-key:",
    "cf-aig-session-id:",
    "cf-aig-unknown:",
    "x-forwarded-for:",
    "Referer: https://example.com/?key=",
    "If-None-Match:",
    "payment-signature:",
    "OpenAI-Organization:",
];

/// Every parameter whose value is a secret by its name.
const PARAMETERS: [&str; 8] = [
    "key",
    "api_key",
    "token",
    "access_token",
    "sig",
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
];

fn lines() -> String {
    let numbered = FIELDS.iter().enumerate();
    numbered
        .map(|(number, field)| format!("{field} {CANARY}-field-{number}\r\n"))
        .collect()
}

fn query() -> String {
    let parameters = PARAMETERS.iter().enumerate();
    let parameters = parameters.map(|(n, name)| format!("{name}={CANARY}-parameter-{n}"));
    format!("?{}&alt=json", parameters.collect::<Vec<_>>().join("&"))
}

/// A body with canaries for names and for values, and a model.
fn body() -> String {
    let named = format!("{CANARY}-name");
    json!({
        "model": "gpt-4o",
        "api_key": format!("{CANARY}-in-body"),
        "messages": [{"role": "user", "content": format!("{CANARY}-words"), (named.clone()): 1}],
        (named): {"deep": [format!("{CANARY}-deep")]},
    })
    .to_string()
}

#[track_caller]
fn check_file(path: &Path, secrets: &[&str]) {
    let bytes = fs::read(path).unwrap();
    for secret in secrets {
        let found = find(&bytes, secret.as_bytes());
        assert!(found.is_none(), "{secret} is in {}", path.display());
    }
}

/// Every file below, that of the management token excepted, whose purpose is to hold it.
fn check_files(folder: &Path, secrets: &[&str]) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files += check_files(&path, secrets);
        } else {
            check_file(&path, secrets);
            files += 1;
        }
    }
    files
}

/// Searches files, metrics and words of a server that has just ended all exchanges.
#[track_caller]
fn check_server(server: &Server, secrets: &[&str]) {
    let files = check_files(&server.data_dir(), secrets);
    assert!(files >= 2, "{files} files: a log and a database at least");
    for (place, text) in [("metrics", server.figures()), ("output", server.said())] {
        for secret in secrets {
            assert!(
                !text.contains(secret),
                "{secret} is in the {place}:\n{text}"
            );
        }
    }
}

/// A provider that scolds like some do: with the key that it was shown.
fn scolding(peer: &mut Peer) {
    while let Some(request) = peer.request() {
        let mut lines = request.head.lines();
        let key = lines.find_map(|line| line.strip_prefix("authorization: "));
        let key = key.unwrap_or_default().to_owned();
        let body = json!({"error": {"message": format!("Incorrect API key provided: {key}")}});
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nx-request-id: r-1\r\nSet-Cookie: {CANARY}-cookie\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if !peer.send(head + &body) {
            return;
        }
    }
}

#[test]
fn what_callers_send_in_secret_is_kept_nowhere() {
    let upstream = Upstream::start(scolding);
    let server = Setup::scripted(upstream.address)
        .provider("anthropic", "base_url = \"http://127.0.0.1:1\"")
        .start();
    let own = [STORED, TOKEN, READ_TOKEN, API_TOKEN];
    let no_bodies = "cf-aig-collect-log-payload: false\r\n";
    let mut answers = Vec::new();
    for gateway in [OPEN, LOCKED] {
        for provider in ["openai", "anthropic", "nobody"] {
            let path = format!("{gateway}/{provider}/v1/chat{}", query());
            let lines = lines() + no_bodies;
            answers.push(server.ask(&post_with(&path, &lines, body().as_bytes())));
            // The same by who may: the field that holds the token holds no canary then.
            let lines = format!("cf-aig-authorization: Bearer {TOKEN}\r\n{lines}");
            answers.push(server.ask(&post_with(&path, &lines, body().as_bytes())));
        }
    }
    for answer in &answers {
        assert!(answer.whole, "{}", answer.head);
        let text = answer.head.clone() + &answer.text();
        // The provider's own words pass as they are.
        if answer.status != 401 || !text.contains("Incorrect") {
            assert!(!text.contains(CANARY), "{text}");
        }
        assert!(own.iter().all(|secret| !text.contains(secret)), "{text}");
    }
    // Heads that are refused before anything is known of them.
    for line in [
        format!("x-api-key : {CANARY}\r\n"),
        format!("{CANARY}\r\n"),
        format!("x-api-key: {CANARY}\u{0}\r\n"),
        format!("Content-Length: {CANARY}\r\n"),
        format!("Transfer-Encoding: {CANARY}\r\n"),
        format!("x: y\r\n {CANARY}\r\n"),
    ] {
        let answer = server.ask(&get(&format!("{OPEN}/openai/models{}", query()), &line));
        assert_eq!(answer.status, 400);
        let text = answer.head.clone() + &answer.text();
        assert!(!text.contains(CANARY), "{text}");
    }
    for target in [
        format!("http://user:{CANARY}@localhost/v1/me/default/openai/models"),
        format!("{OPEN}/openai/../{CANARY}"),
        format!("/client/v4/accounts/me/tokens/{CANARY}{}", query()),
    ] {
        let request = get(&target, &format!("Authorization: Bearer {CANARY}\r\n"));
        let answer = server.ask(&request);
        assert!((400..500).contains(&answer.status), "{}", answer.head);
        let text = answer.head.clone() + &answer.text();
        assert!(!text.contains(CANARY), "{text}");
    }
    // All but those that showed no token where one is asked for.
    server.records_once(6 + 3);
    let mut secrets = own.to_vec();
    secrets.push(CANARY);
    check_server(&server, &secrets);
}

#[test]
fn stored_bodies_are_the_only_place_where_a_bodys_secret_is_found() {
    let upstream = Upstream::start(|peer| {
        while peer.request().is_some() {
            if !peer.answer(format!(r#"{{"answer":"{CANARY}-answer"}}"#)) {
                return;
            }
        }
    });
    let mut server = Setup::scripted(upstream.address).start();
    let path = format!("{OPEN}/openai/v1/chat{}", query());
    let answer = server.ask(&post_with(&path, &lines(), body().as_bytes()));
    assert_eq!(answer.status, 200);
    server.records_once(1);
    server.signal(rustix::process::Signal::TERM);
    server.wait();
    let log = server.data_dir().join("log");
    let mut with_bodies = 0;
    let mut folders = vec![server.data_dir()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let is_body = path.starts_with(&log) && path.extension().is_some_and(|e| e == "body");
            let bytes = fs::read(&path).unwrap();
            let words = format!("{CANARY}-words");
            if is_body && find(&bytes, words.as_bytes()).is_some() {
                with_bodies += 1;
                // Its head is not in it.
                let secrets = [format!("{CANARY}-field"), format!("{CANARY}-parameter")];
                check_file(&path, &[&secrets[0], &secrets[1], STORED]);
            } else {
                check_file(&path, &[CANARY, STORED]);
            }
        }
    }
    assert_eq!(with_bodies, 1, "the body is stored where it belongs");
}
