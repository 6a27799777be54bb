//! Who may ask, with whose credential, and what a provider never gets to see.

use serde_json::Value;
use tidegate::cli::demo::mock_provider::MockProvider;

use crate::support::{
    client::{Answer, chat, get, post, post_with},
    server::{API_TOKEN, LOCKED, OPEN, READ_TOKEN, STORED, Server, Setup, TOKEN},
    upstream::{count, last_request, mock},
};

/// Every provider that these tests call, at the mock provider.
fn start(mock: &MockProvider, more: &str) -> Server {
    let address = mock.addr();
    let mut setup = Setup::over(address).tables(more);
    for slug in ["google-ai-studio", "azure-openai", "groq"] {
        setup = setup.provider(slug, &format!("origin = \"http://{address}/{slug}\""));
    }
    setup
        .tables(&format!(
            "[providers.mistral]\norigin = \"http://{address}/mistral\""
        ))
        .start()
}

/// What the provider got: the values of a field of its last request.
#[track_caller]
fn seen(mock: &MockProvider, name: &str) -> Vec<String> {
    let request = last_request(mock);
    let all = request["headers"].as_array().unwrap();
    let values = all.iter().filter(|field| {
        let found = field[0].as_str().unwrap();
        found.eq_ignore_ascii_case(name)
    });
    values
        .map(|field| field[1].as_str().unwrap().to_owned())
        .collect()
}

/// No token of this server is anywhere in what the provider got.
#[track_caller]
fn check_no_token(mock: &MockProvider) {
    let request = last_request(mock).to_string();
    for token in [TOKEN, READ_TOKEN, API_TOKEN] {
        assert!(!request.contains(token), "{request}");
    }
}

#[track_caller]
fn call(server: &Server, gateway: &str, lines: &str) -> Answer {
    server.ask(&post_with(
        &format!("{gateway}/openai/chat/completions"),
        lines,
        chat("").as_bytes(),
    ))
}

#[test]
fn a_locked_gateway_opens_to_its_token_in_every_form() {
    let mock = mock();
    let server = start(&mock, "");
    for lines in [
        format!("cf-aig-authorization: Bearer {TOKEN}\r\n"),
        format!("cf-aig-authorization: bearer {TOKEN}\r\n"),
        format!("cf-aig-authorization: {TOKEN}\r\n"),
        format!("CF-AIG-Authorization:Bearer {TOKEN}\r\n"),
        format!("Authorization: Bearer {TOKEN}\r\n"),
        format!("cf-aig-authorization: Bearer {API_TOKEN}\r\n"),
    ] {
        let answer = call(&server, LOCKED, &lines);
        assert_eq!(answer.status, 200, "{lines}: {}", answer.text());
        assert_eq!(
            seen(&mock, "authorization"),
            [format!("Bearer {STORED}")],
            "{lines}"
        );
        check_no_token(&mock);
    }
}

#[test]
fn a_token_in_a_providers_own_slot_is_recognised_and_replaced() {
    let mock = mock();
    let server = start(&mock, "");
    let gemini = "google-ai-studio/v1beta/models/gemini-2.5-flash:generateContent";
    let azure = "azure-openai/resource/gpt-4o/chat/completions?api-version=1";
    for (path, slot, own) in [
        (
            "openai/chat/completions",
            "Authorization: Bearer ",
            "authorization",
        ),
        ("anthropic/v1/messages", "x-api-key: ", "x-api-key"),
        (
            "anthropic/v1/messages",
            "Authorization: Bearer ",
            "x-api-key",
        ),
        (gemini, "x-goog-api-key: ", "x-goog-api-key"),
        (azure, "api-key: ", "api-key"),
        (azure, "Authorization: Bearer ", "api-key"),
    ] {
        let body = br#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}],"contents":[]}"#;
        let answer = server.ask(&post_with(
            &format!("{LOCKED}/{path}"),
            &format!("{slot}{TOKEN}\r\n"),
            body,
        ));
        assert_eq!(answer.status, 200, "{path} {slot}: {}", answer.text());
        let value = seen(&mock, own).concat();
        assert!(value.ends_with(STORED), "{path} {slot}: {value}");
        check_no_token(&mock);
    }
}

#[test]
fn a_token_next_to_a_providers_key_lets_the_key_pass() {
    let mock = mock();
    let server = start(&mock, "");
    let lines =
        format!("cf-aig-authorization: Bearer {TOKEN}\r\nAuthorization: Bearer sk-mine\r\n");
    assert_eq!(call(&server, LOCKED, &lines).status, 200);
    assert_eq!(seen(&mock, "authorization"), ["Bearer sk-mine"]);

    let lines = format!("Authorization: Bearer {TOKEN}\r\nx-api-key: sk-mine\r\n");
    let answer = server.ask(&post_with(
        &format!("{LOCKED}/anthropic/v1/messages"),
        &lines,
        br#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}]}"#,
    ));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(seen(&mock, "x-api-key"), ["sk-mine"]);
    assert_eq!(seen(&mock, "authorization"), [""; 0]);
    check_no_token(&mock);
}

#[test]
fn a_callers_own_key_beats_the_stored_one() {
    let mock = mock();
    let server = start(&mock, "");
    assert_eq!(
        call(&server, OPEN, "Authorization: Bearer sk-mine\r\n").status,
        200
    );
    assert_eq!(seen(&mock, "authorization"), ["Bearer sk-mine"]);
    assert_eq!(call(&server, OPEN, "").status, 200);
    assert_eq!(seen(&mock, "authorization"), [format!("Bearer {STORED}")]);
}

#[test]
fn a_wrong_or_missing_token_is_refused_before_anything_is_asked() {
    let mock = mock();
    let server = start(&mock, "");
    let longer = format!("cf-aig-authorization: Bearer {TOKEN}x\r\n");
    let shorter = format!("cf-aig-authorization: Bearer {}\r\n", &TOKEN[1..]);
    let other_slot = format!("x-api-key: {TOKEN}\r\n");
    for lines in [
        "",
        "cf-aig-authorization:\r\n",
        "cf-aig-authorization: Bearer \r\n",
        "cf-aig-authorization: Bearer wrong\r\n",
        "Authorization: Bearer sk-mine\r\n",
        &longer,
        &shorter,
        &other_slot,
    ] {
        let answer = call(&server, LOCKED, lines);
        answer.check_refusal(401, 2009);
        let body = answer.json();
        assert_eq!(body["message"], "Unauthorized");
        assert!(!answer.text().contains("tide-caller"), "{body}");
    }
    assert_eq!(count(&mock, "connections/accepted"), 0);
}

#[test]
fn a_token_without_the_permission_is_refused() {
    let mock = mock();
    let server = start(&mock, "");
    for gateway in [LOCKED, OPEN] {
        let answer = call(
            &server,
            gateway,
            &format!("cf-aig-authorization: Bearer {READ_TOKEN}\r\n"),
        );
        answer.check_refusal(403, 10000);
    }
    let figures = |token: &str| {
        server
            .ask(&get(
                "/metrics",
                &format!("Authorization: Bearer {token}\r\n"),
            ))
            .status
    };
    assert_eq!(figures(READ_TOKEN), 200);
    assert_eq!(figures(API_TOKEN), 200);
    assert_eq!(figures(TOKEN), 403);
    assert_eq!(figures("wrong"), 401);
    assert_eq!(count(&mock, "connections/accepted"), 0);
}

#[test]
fn management_is_closed_without_a_token_and_health_is_open() {
    let server = Setup::new().start();
    for path in ["/metrics", "/client/v4/accounts/me/ai-gateway/gateways"] {
        let answer = server.ask(&get(path, ""));
        assert_eq!(answer.status, 401, "{path}: {}", answer.text());
    }
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(server.ask(&get(path, "")).status, 200, "{path}");
    }
}

#[test]
fn names_that_nobody_knows_are_refused_by_their_codes() {
    let mock = mock();
    let server = start(&mock, "");
    for (path, status, code) in [
        ("/v1/me/nowhere/openai/chat/completions", 400, 2001),
        ("/v1/me/Default/openai/chat/completions", 400, 2001),
        ("/v1/me/default/nobody/chat/completions", 400, 2008),
        ("/v1/me/default/OpenAI/chat/completions", 400, 2008),
        ("/v1/me/default/custom-none/chat/completions", 400, 2008),
        ("/v1/me", 404, 7003),
        ("/chat/completions", 404, 7003),
    ] {
        let answer = server.ask(&post(path, &chat("")));
        assert_eq!(
            (answer.status, answer.code()),
            (status, code),
            "{path}: {}",
            answer.text()
        );
    }
    let answer = call(&server, OPEN, "cf-aig-byok-alias: second\r\n");
    answer.check_refusal(400, 2040);
    assert_eq!(
        call(&server, OPEN, "cf-aig-byok-alias: default\r\n").status,
        200
    );
    let answer = server.ask(&post(
        &format!("{OPEN}/mistral/v1/chat/completions"),
        &chat(""),
    ));
    answer.check_refusal(400, 7000);
    assert!(
        answer.text().contains("providers.mistral.key"),
        "{}",
        answer.text()
    );
}

#[test]
fn an_account_of_the_file_is_the_only_one() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .top("account_id = \"acme\"")
        .start();
    let asked = |account: &str| {
        server.ask(&post(
            &format!("/v1/{account}/default/openai/chat/completions"),
            &chat(""),
        ))
    };
    assert_eq!(asked("acme").status, 200);
    asked("other").check_refusal(400, 2001);
}

#[test]
fn a_page_of_another_site_cannot_use_an_open_gateway() {
    let mock = mock();
    let server = start(&mock, "");
    let with_host = |host: &str, lines: &str| {
        let body = chat("");
        let request = format!(
            "POST {OPEN}/openai/chat/completions HTTP/1.1\r\nHost: {host}\r\n{lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        server.ask(request.as_bytes())
    };
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "[2001:db8::1]",
    ] {
        let answer = with_host(host, "");
        assert_eq!(answer.status, 403, "{host}: {}", answer.text());
        answer.code();
        // A token proves that it is no page of another site.
        let answer = with_host(host, &format!("cf-aig-authorization: Bearer {TOKEN}\r\n"));
        assert_eq!(answer.status, 200, "{host}");
    }
    for host in [
        "localhost",
        "127.0.0.1:8787",
        "[::1]:1",
        "LOCALHOST",
        "app.localhost",
    ] {
        assert_eq!(with_host(host, "").status, 200, "{host}");
    }
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
    ] {
        let answer = with_host("localhost", &format!("Origin: {origin}\r\n"));
        assert_eq!(answer.status, 403, "{origin}");
    }
    for origin in ["http://localhost:3000", "http://127.0.0.1"] {
        let answer = with_host("localhost", &format!("Origin: {origin}\r\n"));
        assert_eq!(answer.status, 200, "{origin}: {}", answer.text());
    }
    let server = Setup::over(mock.addr())
        .top("hosts = [\"gateway.example\"]")
        .start();
    let body = chat("");
    let request = format!(
        "POST {OPEN}/openai/chat/completions HTTP/1.1\r\nHost: gateway.example\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(server.ask(request.as_bytes()).status, 200);
}

#[test]
fn a_probe_of_a_providers_root_is_answered_here() {
    let mock = mock();
    let server = start(&mock, "");
    let answer =
        server.ask(format!("HEAD {OPEN}/anthropic HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    assert_eq!(answer.status, 200);
    let answer = server
        .ask(format!("HEAD {LOCKED}/anthropic HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    assert_eq!(answer.status, 401);
    assert_eq!(count(&mock, "connections/accepted"), 0);
    assert_eq!(server.records(), Vec::<Value>::new());
}

#[test]
fn secrets_are_in_no_record_and_in_no_output() {
    let mock = mock();
    let server = start(&mock, "");
    let lines = format!(
        "cf-aig-authorization: Bearer {TOKEN}\r\nX-Goog-Api-Key: canary-header-key\r\nCookie: canary-cookie\r\n"
    );
    let path = format!(
        "{LOCKED}/google-ai-studio/v1beta/models/gemini-2.5-flash:generateContent?key=canary-query-key&token=canary-query-token&a=b"
    );
    let answer = server.ask(&post_with(&path, &lines, br#"{"contents":[]}"#));
    assert_eq!(answer.status, 200, "{}", answer.text());
    call(
        &server,
        LOCKED,
        "Authorization: Bearer canary-refused-key\r\n",
    );
    call(
        &server,
        OPEN,
        "Authorization: Bearer canary-open-key\r\ncf-aig-byok-alias: other\r\n",
    );
    // Who was refused for want of a token leaves no record.
    let records = server.records_once(2);
    let mut paths = records.iter().filter_map(|record| record["path"].as_str());
    let path = paths.find(|path| path.contains("gemini")).unwrap();
    assert!(path.contains("key=***") && path.contains("a=b"), "{path}");
    let mut all = serde_json::to_string(&records).unwrap() + &server.said() + &server.figures();
    let mut folders = vec![server.data_dir()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
            }
        }
    }
    for secret in ["canary-", TOKEN, STORED] {
        assert!(!all.contains(secret), "{secret}");
    }
}
