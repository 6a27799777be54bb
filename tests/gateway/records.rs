//! What is kept about an exchange: the provider's own numbers, the exact cost, and what the caller
//! wished.

use serde_json::{Value, json};
use tidegate::{
    cli::demo::mock_provider::MockProvider,
    control::logs::{segment::LogDir, snapshot::LogReader},
    domain::record::{Record, Text, flag},
};

use crate::support::{
    client::{Answer, chat, chat_stream, post, post_with},
    server::{LOCKED, OPEN, STORED, Server, Setup, TOKEN, stored_body},
    upstream::{count, mock},
    wait::wait_until,
};

const PRICES: &str = r#"
[prices]
"openai/gpt-4o" = { input = "2.53", output = "10.07", cache_read = "1.27" }
"openai/gpt-4o-cached" = { input = "2.53", output = "10.07", cache_read = "1.27" }
"anthropic/claude-sonnet-4-6" = { input = "3.01", output = "15.13", cache_read = "0.31", cache_write = "3.79" }
"anthropic/claude-sonnet-4-6-cached" = { input = "3.01", output = "15.13", cache_read = "0.31", cache_write = "3.79" }
"#;

fn start(mock: &MockProvider, more: &str) -> Server {
    let mut setup = Setup::over(mock.addr()).tables(PRICES).tables(more);
    for slug in [
        "google-ai-studio",
        "cohere",
        "mistral",
        "groq",
        "workers-ai",
    ] {
        setup = setup.provider(slug, &format!("origin = \"http://{}/{slug}\"", mock.addr()));
    }
    setup.start()
}

#[track_caller]
fn call(server: &Server, lines: &str, body: &str) -> Answer {
    let answer = server.ask(&post_with(
        &format!("{OPEN}/openai/chat/completions"),
        lines,
        body.as_bytes(),
    ));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// An exchange and the one record of it.
#[track_caller]
fn only_record(lines: &str, body: &str) -> Value {
    let mock = mock();
    let server = start(&mock, "");
    call(&server, lines, body);
    server.records_once(1).remove(0)
}

#[test]
fn tokens_are_those_that_the_provider_reported_in_every_dialect() {
    let mock = mock();
    let server = start(&mock, "");
    let gemini = "google-ai-studio/v1beta/models/gemini-2.5-flash";
    let ordered = "mock=in=1234,out=567";
    let messages = json!({"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
    let stream = |mut body: Value| {
        body["stream"] = true.into();
        body
    };
    let openai = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]});
    let mut openai_stream = stream(openai.clone());
    openai_stream["stream_options"] = json!({"include_usage": true});
    let contents = json!({"contents": [{"parts": [{"text": "x"}]}]});
    let responses = json!({"model": "gpt-4o", "input": "x"});
    let cohere =
        json!({"model": "command-a-03-2025", "messages": [{"role": "user", "content": "x"}]});
    let cases = [
        ("openai/chat/completions", openai.clone()),
        ("openai/chat/completions", openai_stream.clone()),
        ("openai/responses", responses.clone()),
        ("openai/responses", stream(responses)),
        (
            "openai/completions",
            json!({"model": "gpt-3.5-turbo-instruct", "prompt": "x"}),
        ),
        ("anthropic/v1/messages", messages.clone()),
        ("anthropic/v1/messages", stream(messages)),
        (&*format!("{gemini}:generateContent"), contents.clone()),
        (
            &*format!("{gemini}:streamGenerateContent?alt=sse"),
            contents.clone(),
        ),
        (&*format!("{gemini}:streamGenerateContent"), contents),
        ("cohere/v2/chat", cohere.clone()),
        ("cohere/v2/chat", stream(cohere)),
        ("mistral/v1/chat/completions", openai.clone()),
        ("mistral/v1/chat/completions", openai_stream.clone()),
        ("groq/chat/completions", openai),
        ("groq/chat/completions", openai_stream),
    ];
    for (number, (path, body)) in cases.iter().enumerate() {
        for gzip in ["", ",gzip"] {
            let join = if path.contains('?') { '&' } else { '?' };
            let path = format!("{OPEN}/{path}{join}{ordered}{gzip}");
            let request = post_with(
                &path,
                "Accept-Encoding: gzip\r\n",
                body.to_string().as_bytes(),
            );
            let answer = server.ask(&request);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
        let records = server.records_once(2 * (number + 1));
        for record in &records[2 * number..] {
            let tokens = (record["tokens_in"].as_u64(), record["tokens_out"].as_u64());
            assert_eq!(tokens, (Some(1234), Some(567)), "{path}: {record:#}");
            assert_eq!(
                record["stream"],
                body["stream"] == true || path.contains("alt=sse"),
                "{path}: {record:#}"
            );
            assert_eq!(record["outcome"], "ok");
        }
    }
    let embeddings = json!({"model": "text-embedding-3-small", "input": "x"}).to_string();
    server.ask(&post(
        &format!("{OPEN}/openai/embeddings?mock=in=77"),
        &embeddings,
    ));
    let records = server.records_once(2 * cases.len() + 1);
    assert_eq!(records.last().unwrap()["tokens_in"], 77);
}

#[test]
fn a_cost_is_exact_to_its_last_digit() {
    let mock = mock();
    let server = start(&mock, "");
    let openai = |model: &str| json!({"model": model, "messages": []}).to_string();
    let claude = json!({"model": "claude-sonnet-4-6-cached", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}).to_string();
    let cases = [
        // 1001 × 2.53 + 7 × 10.07 = 2603.02 millionths.
        (
            "openai/chat/completions?mock=in=1001,out=7",
            openai("gpt-4o"),
            "0.00260302",
        ),
        // 500 of 1001 read from the cache: 501 × 2.53 + 500 × 1.27 + 7 × 10.07.
        (
            "openai/chat/completions?mock=in=1001,out=7",
            openai("gpt-4o-cached"),
            "0.00197302",
        ),
        // A price for a million and one token of each.
        (
            "openai/chat/completions?mock=in=1,out=1",
            openai("gpt-4o"),
            "0.0000126",
        ),
        (
            "openai/chat/completions?mock=in=1000000000,out=0",
            openai("gpt-4o"),
            "2530",
        ),
        // 500 read, 250 written: 251 × 3.01 + 500 × 0.31 + 250 × 3.79 + 7 × 15.13.
        (
            "anthropic/v1/messages?mock=in=1001,out=7",
            claude,
            "0.00196392",
        ),
    ];
    for (number, (path, body, cost)) in cases.iter().enumerate() {
        let answer = server.ask(&post(&format!("{OPEN}/{path}"), body));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let record = server.records_once(number + 1).remove(number);
        assert_eq!(
            record["cost"].to_string(),
            *cost,
            "{path} {body}: {record:#}"
        );
        assert_eq!(record["custom_cost"], false);
    }
}

#[test]
fn what_is_unknown_is_null_and_not_zero() {
    let mock = mock();
    let server = start(&mock, "");
    let unpriced = json!({"model": "no-such-model", "messages": []}).to_string();
    call(&server, "", &unpriced);
    let without_usage = chat_stream("").replace(r#","stream_options":{"include_usage":true}"#, "");
    call(&server, "", &without_usage);
    let records = server.records_once(2);
    assert!(records[0]["tokens_in"].is_u64(), "{:#}", records[0]);
    assert_eq!(records[0]["cost"], Value::Null);
    assert_eq!(records[1]["tokens_in"], Value::Null, "{:#}", records[1]);
    assert_eq!(records[1]["cost"], Value::Null);
}

#[test]
fn a_callers_own_prices_win() {
    let record = only_record(
        "x-mock: in=1000,out=10\r\ncf-aig-custom-cost: {\"per_token_in\":0.000001,\"per_token_out\":0.0000025}\r\n",
        &chat(""),
    );
    assert_eq!(record["cost"].to_string(), "0.001025", "{record:#}");
    assert_eq!(record["custom_cost"], true);
    let record = only_record(
        "x-mock: in=1000,out=10\r\ncf-aig-custom-cost: {\"per_token_in\":0.01,\"per_token_out\":1,\"per_cache_read_token\":0.001}\r\n",
        &json!({"model": "gpt-4o-cached", "messages": []}).to_string(),
    );
    // 500 × 0.01 + 500 × 0.001 + 10 × 1.
    assert_eq!(record["cost"].to_string(), "15.5", "{record:#}");
    // What cannot be read counts as absent.
    let record = only_record(
        "x-mock: in=1000,out=0\r\ncf-aig-custom-cost: {\r\n",
        &chat(""),
    );
    assert_eq!(record["cost"].to_string(), "0.00253", "{record:#}");
    assert_eq!(record["custom_cost"], false);
}

#[test]
fn metadata_and_event_id_are_kept() {
    let record = only_record(
        "cf-aig-metadata: {\"a\":1,\"b\":\"x\",\"c\":true,\"cf.user_id\":\"me\",\"d\":1.50,\"e\":5,\"f\":6}\r\ncf-aig-event-id: my-event\r\nUser-Agent: test/1\r\n",
        &chat(""),
    );
    assert_eq!(
        record["metadata"].to_string(),
        r#"{"a":1,"b":"x","c":true,"d":1.50,"e":5}"#
    );
    assert_eq!(record["event_id"], "my-event");
    assert_eq!(record["user_agent"], "test/1");
    for broken in ["{\"a\":{\"b\":1}}", "{\"a\":null}", "[1]", "{", "x"] {
        let record = only_record(&format!("cf-aig-metadata: {broken}\r\n"), &chat(""));
        assert_eq!(record["metadata"], Value::Null, "{broken}");
        assert_eq!(record["event_id"], record["id"]);
    }
}

#[test]
fn the_caller_and_the_gateway_decide_what_is_logged() {
    let mock = mock();
    let server = start(
        &mock,
        "[gateways.quiet]\nauthentication = false\ncollect_logs = false",
    );
    let ask = |gateway: &str, lines: &str| {
        let path = format!("/v1/me/{gateway}/openai/chat/completions");
        let answer = server.ask(&post_with(&path, lines, chat("").as_bytes()));
        assert_eq!(answer.status, 200);
        answer.field("cf-aig-log-id").map(str::to_owned)
    };
    assert_eq!(ask("default", "cf-aig-collect-log: false\r\n"), None);
    assert_eq!(ask("quiet", ""), None);
    let mut wanted = [
        ask("quiet", "cf-aig-collect-log: true\r\n").unwrap(),
        ask("default", "cf-aig-collect-log: nonsense\r\n").unwrap(),
        ask("default", "").unwrap(),
    ];
    let mut found: Vec<String> = server
        .records_once(3)
        .iter()
        .map(|record| record["id"].as_str().unwrap().to_owned())
        .collect();
    // Each shard writes its own; those of one moment may stand in either order.
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

/// All records of the log, those without logging included.
fn kept(server: &Server) -> Vec<Record> {
    let mut reader = LogReader::new(LogDir::of(&server.data_dir()));
    let snapshot = reader.snapshot().unwrap();
    let mut kept = Vec::new();
    for at in snapshot.blocks() {
        let open = at.open().unwrap();
        let block = open.block().unwrap();
        let rows = block.reader().unwrap();
        kept.extend((0..block.rows()).filter_map(|row| rows.record(row)));
    }
    kept
}

#[test]
fn bodies_that_are_too_large_together_are_dropped_together() {
    let mock = mock();
    let server = start(&mock, "");
    for (size, is_dropped) in [(1 << 20, false), ((10 << 20) - 10, true)] {
        let path = format!("/v1/me/default/openai/chat/completions?mock=size={size}");
        let answer = server.ask(&post(&path, &chat("")));
        assert_eq!((answer.status, answer.body.len()), (200, size));
        let id = answer.field("cf-aig-log-id").unwrap();
        let find = || {
            let mut kept = kept(&server).into_iter();
            kept.find(|record| record.id().to_string() == id)
        };
        wait_until("the record", || find().is_some());
        let record = find().unwrap();
        assert_eq!(record.has(flag::REQUEST_BODY_DROPPED), is_dropped, "{size}");
        assert!(!is_dropped || record.has(flag::RESPONSE_BODY_DROPPED));
    }
}

#[test]
fn an_exchange_without_logging_counts_and_keeps_nothing_of_the_caller() {
    let mock = mock();
    let server = start(&mock, "");
    let lines = "cf-aig-collect-log: false\r\nuser-agent: secret-agent\r\n\
                 cf-aig-event-id: secret-event\r\ncf-aig-metadata: {\"team\":\"secret-team\"}\r\n";
    let path = "/v1/me/default/openai/chat/completions?x=secret-query";
    let answer = server.ask(&post_with(path, lines, chat("").as_bytes()));
    assert_eq!(answer.status, 200);
    // A refusal of a stranger leaves nothing at all.
    let locked = format!("{LOCKED}/openai/chat/completions");
    assert_eq!(server.ask(&post(&locked, "{}")).status, 401);
    call(&server, "", &chat(""));
    let served = server.records_once(1);
    let kept = kept(&server);
    let (logged, counted): (Vec<_>, Vec<_>) = kept.iter().partition(|record| record.is_logged());
    assert_eq!((logged.len(), counted.len()), (1, 1));
    assert_eq!(served[0]["id"], logged[0].id().to_string());
    assert_eq!(counted[0].text(Text::Gateway), "default");
    assert_eq!(counted[0].text(Text::Provider), "openai");
    assert!(counted[0].cost.is_some() && counted[0].tokens_output.is_some());
    for text in Text::ALL {
        let value = counted[0].text(text);
        assert!(!value.contains("secret"), "{text:?}: {value}");
        assert!(text.is_kept_unlogged() || value.is_empty(), "{text:?}");
    }
}

#[test]
fn bodies_are_stored_as_they_passed_unless_the_caller_says_no() {
    let mock = mock();
    let server = start(&mock, "");
    for (body, lines) in [
        (chat(""), ""),
        (chat_stream(""), ""),
        (chat(""), "cf-aig-collect-log-payload: false\r\n"),
    ] {
        let answer = call(&server, lines, &body);
        let id = answer.field("cf-aig-log-id").unwrap().to_owned();
        wait_until("the record", || {
            server.records().iter().any(|record| record["id"] == *id)
        });
        let stored = |which| stored_body(&server.data_dir(), &id, which).stdout;
        if lines.is_empty() {
            // Bodies are handed over apart from the record, within milliseconds.
            wait_until("the bodies", || {
                stored("request") == body.as_bytes() && stored("response") == answer.body
            });
        } else {
            assert_eq!(stored("request"), b"");
            assert_eq!(stored("response"), b"");
        }
    }
}

#[test]
fn a_record_says_who_asked_what_of_whom() {
    let mock = mock();
    let server = start(&mock, "");
    let path = format!("{LOCKED}/openai/chat/completions?mock=reqid=req_1");
    let lines = format!("cf-aig-authorization: Bearer {TOKEN}\r\n");
    let body = chat("");
    let answer = server.ask(&post_with(&path, &lines, body.as_bytes()));
    let record = &server.records_once(1)[0];
    for (name, value) in [
        ("gateway", json!("locked")),
        ("provider", json!("openai")),
        ("model", json!("gpt-4o")),
        ("method", json!("POST")),
        (
            "path",
            json!("/openai/v1/chat/completions?mock=reqid=req_1"),
        ),
        ("status_code", json!(200)),
        ("success", json!(true)),
        ("cached", json!(false)),
        ("key", json!("app")),
        ("authenticated", json!(true)),
        ("request_size", json!(body.len())),
        ("response_size", json!(answer.body.len())),
        ("request_content_type", json!("application/json")),
        ("response_content_type", json!("application/json")),
        ("upstream_request_id", json!("req_1")),
        ("error", Value::Null),
    ] {
        assert_eq!(record[name], value, "{name} in {record:#}");
    }
    assert!(!record.to_string().contains(STORED));
    assert!(record["first_byte_ms"].as_f64().is_some());
    assert!(record["overhead_ms"].as_f64().unwrap() < 1000.0);
}

#[test]
fn sums_of_many_exchanges_are_those_of_the_provider() {
    let mock = mock();
    let server = start(&mock, "");
    let mut client = server.connect();
    for number in 0..100 {
        let body = if number % 2 == 0 {
            chat(&format!("+in={}+out={}", number * 7 + 1, number + 3))
        } else {
            chat_stream(&format!("+in={}+out={}", number * 5 + 1, number + 2))
        };
        let path = format!("{OPEN}/openai/chat/completions");
        assert!(client.ask(&post(&path, &body)).whole);
    }
    let records = server.records_once(100);
    let sum = |name: &str| -> u64 {
        records
            .iter()
            .map(|record| record[name].as_u64().unwrap())
            .sum()
    };
    assert_eq!(sum("tokens_in"), count(&mock, "total/input_tokens"));
    assert_eq!(sum("tokens_out"), count(&mock, "total/output_tokens"));
    assert_eq!(sum("request_size"), count(&mock, "total/request_bytes"));
}
