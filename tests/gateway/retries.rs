//! Attempts: how many a provider sees, what is waited for between them, and what is left of each.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::cli::demo::mock_provider::MockProvider;

use crate::support::{
    client::{Answer, chat, chat_stream, post, post_with},
    server::{OPEN, STORED, Server, Setup, stored_body},
    upstream::{Upstream, count, field, mock},
    wait::wait_until,
};

const CHAT: &str = "/openai/chat/completions";

#[track_caller]
fn call(server: &Server, lines: &str, body: &str) -> Answer {
    server.ask(&post_with(&format!("{OPEN}{CHAT}"), lines, body.as_bytes()))
}

/// A stored body, once it is there: bodies reach the log a moment after their record.
fn body_of(server: &Server, id: &str, which: &str) -> Vec<u8> {
    let mut body = Vec::new();
    wait_until("a stored body", || {
        body = stored_body(&server.data_dir(), id, which).stdout;
        !body.is_empty()
    });
    body
}

/// How many requests the mock provider saw.
fn asked(mock: &MockProvider) -> u64 {
    count(mock, "total/requests")
}

fn commands(mock: &str, more: &str) -> String {
    format!("x-mock: {mock}\r\n{more}")
}

/// Step, attempt and status of each record, in the order of their making.
fn attempts(records: &[Value]) -> Vec<(u64, u64, u64)> {
    let of = |record: &Value, name: &str| record[name].as_u64().unwrap();
    let of = |record| {
        (
            of(record, "step"),
            of(record, "attempt"),
            of(record, "status_code"),
        )
    };
    records.iter().map(of).collect()
}

#[test]
fn a_provider_that_recovers_is_asked_again_and_each_attempt_leaves_a_record() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let lines = commands(
        "status=500,first=2",
        "cf-aig-max-attempts: 4\r\ncf-aig-retry-delay: 30\r\n",
    );
    let answer = call(&server, &lines, &chat(""));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(asked(&mock), 3);
    let records = server.records_once(3);
    assert_eq!(attempts(&records), [(0, 0, 500), (0, 1, 500), (0, 2, 200)]);
    // One event, three records; the exchange's id is its first record's.
    let request = answer.field("cf-aig-request-id").unwrap();
    assert_eq!(answer.field("cf-aig-event-id"), Some(request));
    assert_eq!(records[0]["id"], request);
    assert!(records.iter().all(|record| record["event_id"] == request));
    assert_eq!(answer.field("cf-aig-log-id"), records[2]["id"].as_str());
    for record in &records {
        let id = record["id"].as_str().unwrap();
        let body = body_of(&server, id, "request");
        assert_eq!(body, chat("").as_bytes(), "{record:#}");
        assert_eq!(record["request_size"], chat("").len());
    }
    let failed = body_of(&server, records[0]["id"].as_str().unwrap(), "response");
    assert!(String::from_utf8_lossy(&failed).contains("error"));
    assert_eq!(
        (&records[0]["tokens_in"], &records[0]["cost"]),
        (&Value::Null, &Value::Null)
    );
    assert!(records[2]["tokens_in"].as_u64().is_some());
    // An exchange counts once.
    let figures = server.figures();
    let requests: u64 = figures
        .lines()
        .filter(|line| line.starts_with("tidegate_requests_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(requests, 1, "{figures}");
}

#[test]
fn a_provider_that_stays_broken_sees_as_many_tries_as_were_asked_for() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let lines = |name: &str, tries: &str| {
        commands(
            "status=503",
            &format!("{name}: {tries}\r\ncf-aig-retry-delay: 0\r\n"),
        )
    };
    let mut seen = 0;
    for (name, tries, made) in [
        ("cf-aig-max-attempts", "3", 3),
        ("cf-aig-retry-count", "2", 2),
        ("cf-aig-max-attempts", "99", 5),
        ("cf-aig-max-attempts", "0", 1),
        ("cf-aig-max-attempts", "many", 1),
    ] {
        let answer = call(&server, &lines(name, tries), &chat(""));
        // The provider's own last word, not one of ours.
        assert_eq!(answer.status, 503);
        assert!(
            answer.json()["error"]["message"].is_string(),
            "{}",
            answer.text()
        );
        assert_eq!(asked(&mock), seen + made, "{name}: {tries}");
        seen += made;
    }
}

#[test]
fn the_gateways_settings_hold_where_a_request_says_nothing() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .gateway("retry_max_attempts = 3\nretry_delay = 10\nretry_backoff = \"linear\"")
        .start();
    assert_eq!(
        call(&server, &commands("status=500", ""), &chat("")).status,
        500
    );
    assert_eq!(asked(&mock), 3);
    let once = commands("status=500", "cf-aig-max-attempts: 1\r\n");
    assert_eq!(call(&server, &once, &chat("")).status, 500);
    assert_eq!(asked(&mock), 4);
    assert!(!server.said().contains("retry"), "{}", server.said());
}

#[test]
fn what_is_the_callers_own_doing_is_not_tried_again() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    for (status, made) in [
        (400, 1),
        (401, 1),
        (404, 1),
        (422, 1),
        (408, 2),
        (409, 2),
        (429, 2),
    ] {
        let before = asked(&mock);
        let lines = commands(
            &format!("status={status},retry_after=0"),
            "cf-aig-max-attempts: 2\r\ncf-aig-retry-delay: 0\r\n",
        );
        assert_eq!(call(&server, &lines, &chat("")).status, status);
        assert_eq!(asked(&mock) - before, made, "{status}");
    }
}

#[test]
fn a_wait_that_the_provider_asks_for_is_kept_within_the_cap() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let lines = |seconds: u32| {
        let asked = format!("status=429,first=1,retry_after={seconds}");
        commands(
            &asked,
            "cf-aig-max-attempts: 2\r\ncf-aig-retry-delay: 0\r\n",
        )
    };
    let started = Instant::now();
    assert_eq!(call(&server, &lines(1), &chat("")).status, 200);
    assert!(started.elapsed() >= Duration::from_millis(900));
    // Nobody waits for an hour: the caller hears it at once, with the provider's own words.
    let answer = call(&server, &lines(3600), &chat(""));
    assert_eq!(answer.status, 429);
    assert_eq!(answer.field("retry-after"), Some("3600"));
}

#[test]
fn a_connection_that_breaks_before_an_answer_is_an_attempt_that_failed() {
    let upstream = Upstream::start(|peer| {
        while peer.request().is_some() {
            if peer.place < 2 {
                return;
            }
            peer.answer("{}");
        }
    });
    let server = Setup::scripted(upstream.address).start();
    let lines = "cf-aig-max-attempts: 3\r\ncf-aig-retry-delay: 20\r\n";
    let answer = call(&server, lines, &chat(""));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let records = server.records_once(3);
    assert_eq!(attempts(&records), [(0, 0, 502), (0, 1, 502), (0, 2, 200)]);
    assert_eq!(records[0]["outcome"], "upstream_failed");
    // Without being asked to, a request that was read is never sent twice.
    let upstream = Upstream::start(|peer| {
        peer.request();
    });
    let server = Setup::scripted(upstream.address).start();
    call(&server, "", &chat("")).check_refusal(502, 2005);
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn a_time_limit_ends_each_attempt_but_the_last() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    // Alone, it ends the call.
    let alone = commands("hang", "cf-aig-request-timeout: 300\r\n");
    let started = Instant::now();
    call(&server, &alone, &chat("")).check_refusal(504, 2005);
    assert!(started.elapsed() >= Duration::from_millis(270));
    assert!(started.elapsed() < Duration::from_secs(5));
    // With attempts left, the last one is waited for.
    let lines = commands(
        "delay=900",
        "cf-aig-request-timeout: 300\r\ncf-aig-max-attempts: 2\r\ncf-aig-retry-delay: 0\r\n",
    );
    assert_eq!(call(&server, &lines, &chat("")).status, 200);
    let records = server.records_once(3);
    assert_eq!(attempts(&records), [(0, 0, 504), (0, 0, 504), (0, 1, 200)]);
    // It is a limit on the first byte: what flows may take its time.
    let lines = commands(
        "event_delay=150,events=6",
        "cf-aig-request-timeout: 400\r\n",
    );
    let answer = call(&server, &lines, &chat_stream(""));
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().ends_with("data: [DONE]\n\n"),
        "{}",
        answer.text()
    );
}

#[test]
fn nothing_is_repeated_once_bytes_reached_the_caller() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let lines = commands(
        "cut=200",
        "cf-aig-max-attempts: 5\r\ncf-aig-retry-delay: 0\r\n",
    );
    let answer = call(&server, &lines, &chat_stream(""));
    assert_eq!(answer.status, 200);
    assert!(!answer.whole, "a stream that was cut ends as one");
    assert_eq!(asked(&mock), 1);
}

#[test]
fn a_caller_that_leaves_during_the_wait_ends_it() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let lines = commands(
        "status=500",
        "cf-aig-max-attempts: 5\r\ncf-aig-retry-delay: 5000\r\n",
    );
    let mut client = server.connect();
    client.send(&post_with(
        &format!("{OPEN}{CHAT}"),
        &lines,
        chat("").as_bytes(),
    ));
    wait_until("the first attempt", || asked(&mock) == 1);
    drop(client);
    let records = server.records_once(1);
    assert_eq!(records[0]["outcome"], "cancelled");
    assert_eq!(asked(&mock), 1);
}

fn step(provider: &str, endpoint: &str, headers: &Value) -> Value {
    let body: Value = serde_json::from_str(&chat("")).unwrap();
    json!({"provider": provider, "endpoint": endpoint, "headers": headers, "query": body})
}

fn openai(mock: &str) -> Value {
    step("openai", "chat/completions", &json!({"x-mock": mock}))
}

#[track_caller]
fn universal(server: &Server, steps: &Value) -> Answer {
    server.ask(&post(OPEN, &steps.to_string()))
}

#[test]
fn steps_are_tried_in_order_until_one_answers() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let anthropic = json!({
        "provider": "anthropic", "endpoint": "/v1/messages", "config": {"maxAttempts": 2, "retryDelay": 10},
        "headers": {"x-mock": "status=529"},
        "query": {"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
    });
    let steps = json!([openai("status=401"), anthropic, openai("")]);
    let answer = universal(&server, &steps);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.field("cf-aig-step"), Some("2"));
    assert_eq!(asked(&mock), 4);
    let records = server.records_once(4);
    let made = [(0, 0, 401), (1, 0, 529), (1, 1, 529), (2, 0, 200)];
    assert_eq!(attempts(&records), made);
    let event = &records[0]["event_id"];
    assert!(records.iter().all(|record| record["event_id"] == *event));
    assert_eq!(records[1]["provider"], "anthropic");
    assert_eq!(records[1]["model"], "claude-sonnet-4-6");
    // A step's own body is what its record holds.
    let body = body_of(&server, records[1]["id"].as_str().unwrap(), "request");
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        steps[1]["query"]
    );
}

#[test]
fn the_first_step_that_answers_is_the_only_one_asked() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    for path in [OPEN.to_owned(), format!("{OPEN}/")] {
        let answer = server.ask(&post(&path, &json!([openai(""), openai("")]).to_string()));
        assert_eq!(
            (answer.status, answer.field("cf-aig-step")),
            (200, Some("0"))
        );
    }
    assert_eq!(asked(&mock), 2);
    // The other two forms.
    for steps in [json!({"providers": [openai("")]}), openai("")] {
        assert_eq!(universal(&server, &steps).status, 200);
    }
    // A stream passes as one.
    let mut streamed = openai("");
    streamed["query"] = serde_json::from_str(&chat_stream("")).unwrap();
    let answer = universal(&server, &json!([openai("status=500"), streamed]));
    assert_eq!(
        answer.field("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
}

#[test]
fn when_all_steps_fail_the_last_ones_words_are_the_answer() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .provider("groq", "base_url = \"http://127.0.0.1:9\"")
        .start();
    let answer = universal(
        &server,
        &json!([openai("status=500"), openai("status=404")]),
    );
    assert_eq!(
        (answer.status, answer.field("cf-aig-step")),
        (404, Some("1"))
    );
    let dead = step("groq", "chat/completions", &json!({}));
    let answer = universal(&server, &json!([openai("status=500"), dead]));
    answer.check_refusal(502, 2005);
    assert_eq!(answer.field("cf-aig-step"), Some("1"));
    // A step that cannot even be asked has failed too.
    let unknown = step("nobody", "x", &json!({}));
    let answer = universal(&server, &json!([unknown, dead, openai("")]));
    assert_eq!(
        (answer.status, answer.field("cf-aig-step")),
        (200, Some("2"))
    );
    universal(&server, &json!([unknown])).check_refusal(400, 2008);
}

#[test]
fn a_provider_that_hangs_falls_through_in_time() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut hangs = openai("hang");
    hangs["config"] = json!({"requestTimeout": 300, "maxAttempts": 2, "retryDelay": 0});
    let started = Instant::now();
    let answer = universal(&server, &json!([hangs, openai("")]));
    assert_eq!(
        (answer.status, answer.field("cf-aig-step")),
        (200, Some("1"))
    );
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(asked(&mock), 3);
}

#[test]
fn a_step_brings_its_own_credential_or_gets_the_stored_one() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            let of = |name| field(&request.head, name).unwrap_or("none").to_owned();
            let seen = json!({
                "authorization": of("authorization"), "gateway": of("cf-aig-cache-ttl"),
                "type": of("content-type"), "own": of("x-own"),
            });
            peer.answer(seen.to_string());
        }
    });
    let server = Setup::scripted(upstream.address).start();
    let ask = |headers: Value| {
        let answer = universal(
            &server,
            &json!([step("openai", "chat/completions", &headers)]),
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let own = ask(json!({"Authorization": "Bearer mine", "x-own": 7, "cf-aig-cache-ttl": 60}));
    assert_eq!(own["authorization"], "Bearer mine");
    assert_eq!(
        (&own["own"], &own["gateway"]),
        (&json!("7"), &json!("none"))
    );
    assert_eq!(own["type"], "application/json");
    let stored = ask(json!({}));
    assert_eq!(stored["authorization"], format!("Bearer {STORED}"));
}

#[test]
fn what_is_no_list_of_steps_is_refused_with_the_place_of_what_is_wrong() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    for (body, said) in [
        ("", "neither an array nor an object"),
        ("[", "EOF"),
        ("[]", "no step"),
        (r#"[{"provider":"openai"}]"#, "step 0: missing field"),
    ] {
        let answer = server.ask(&post(OPEN, body));
        assert_eq!((answer.status, answer.code()), (400, 7000), "{body}");
        assert!(answer.text().contains(said), "{}", answer.text());
    }
    let answer = server.ask(&crate::support::client::get(OPEN, ""));
    assert_eq!(answer.status, 405);
    assert_eq!(asked(&mock), 0);
}
