//! The mock provider as a plain socket sees it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;

struct Client {
    provider: MockProvider,
    stream: TcpStream,
}

#[derive(Debug, PartialEq, Eq)]
struct Reply {
    head: String,
    body: Vec<u8>,
}

impl Client {
    fn new() -> Self {
        let provider = MockProvider::start(Options::default()).unwrap();
        let stream = TcpStream::connect(provider.addr()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self { provider, stream }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    fn post(&mut self, path: &str, commands: &str, body: &str) {
        let len = body.len();
        self.send(format!(
            "POST {path} HTTP/1.1\r\nhost: mock\r\nx-mock: {commands}\r\ncontent-length: {len}\r\n\r\n{body}"
        ));
    }

    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        (self.stream.read(&mut byte).ok()? == 1).then_some(byte[0])
    }

    fn until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while !out.ends_with(end) {
            match self.byte() {
                Some(byte) => out.push(byte),
                None => break,
            }
        }
        out
    }

    fn exactly(&mut self, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.stream.read_exact(&mut out).unwrap();
        out
    }

    /// All bytes until the mock provider closes, and whether it did so in an orderly way.
    fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        let orderly = self.stream.read_to_end(&mut out).is_ok();
        (out, orderly)
    }

    fn reply(&mut self) -> Reply {
        let head = String::from_utf8(self.until(b"\r\n\r\n")).unwrap();
        let body = if let Some((_, len)) = head.split_once("content-length: ") {
            self.exactly(len.lines().next().unwrap().parse().unwrap())
        } else if head.contains("chunked") {
            self.chunks()
        } else if head.contains(" 204 ") || head.contains(" 304 ") {
            Vec::new()
        } else {
            self.rest().0
        };
        Reply { head, body }
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let line = String::from_utf8(self.until(b"\r\n")).unwrap();
            let len = usize::from_str_radix(line.trim(), 16).unwrap();
            if len == 0 {
                while self.until(b"\r\n").len() > 2 {}
                return out;
            }
            out.extend(self.exactly(len));
            assert_eq!(self.exactly(2), b"\r\n");
        }
    }

    fn ask(&mut self, path: &str, commands: &str, body: &str) -> Reply {
        self.post(path, commands, body);
        self.reply()
    }

    /// Waits until the counters show what `holds` looks for.
    fn until_counters(&self, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let counters = self.provider.counters();
            if holds(&counters) {
                return counters;
            }
            assert!(Instant::now() < end, "{counters}");
            thread::yield_now();
        }
    }
}

impl Reply {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The data of each event.
    fn events(&self) -> Vec<String> {
        let text = String::from_utf8(self.body.clone())
            .unwrap()
            .replace('\r', "");
        text.lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(str::to_owned)
            .collect()
    }

    fn event_json(&self) -> Vec<Value> {
        let events = self.events();
        let json = events.iter().filter(|data| data.as_str() != "[DONE]");
        json.map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}

const CHAT: &str = "/openai/v1/chat/completions";
const PLAIN: &str = r#"{"model":"gpt-4o","messages":[]}"#;
const STREAM: &str = r#"{"model":"gpt-4o","stream":true}"#;

#[test]
fn chat_has_its_shape_and_the_documented_usage() {
    let mut client = Client::new();
    let reply = client.ask(CHAT, "", r#"{"model":"gpt-cached-reason","messages":[]}"#);
    assert!(
        reply.head.starts_with("HTTP/1.1 200 OK\r\n"),
        "{}",
        reply.head
    );
    let json = reply.json();
    assert_eq!(json["object"], "chat.completion");
    let usage = &json["usage"];
    assert_eq!(usage["prompt_tokens"], 11);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 5);
    assert_eq!(usage["completion_tokens"], 48);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 32);
    assert_eq!(usage["total_tokens"], 59);
    // An answer is counted once it is sent, which its reader may see earlier.
    client.until_counters(|counters| {
        let total = &counters["total"];
        total["input_tokens"] == 11 && total["output_tokens"] == 48
    });
}

#[test]
fn the_same_body_gets_the_same_bytes_whatever_the_prefix() {
    let mut client = Client::new();
    let direct = client.ask("/v1/chat/completions", "", PLAIN);
    assert_eq!(
        client.ask("/any/openai/v1/chat/completions", "", PLAIN),
        direct
    );
    assert_ne!(
        client
            .ask(CHAT, "", r#"{"model":"gpt-4o","messages":[1]}"#)
            .body,
        direct.body
    );
}

#[test]
fn a_chat_stream_ends_with_usage_only_where_asked() {
    let mut client = Client::new();
    let plain = client.ask(CHAT, "", STREAM);
    assert_eq!(plain.events().len(), 1 + 16 + 1 + 1);
    assert_eq!(plain.events().last().unwrap(), "[DONE]");
    assert!(
        plain
            .event_json()
            .iter()
            .all(|event| event["usage"].is_null())
    );

    let body = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true}}"#;
    let told = client.ask(CHAT, "", body).event_json();
    assert_eq!(told.last().unwrap()["choices"], serde_json::json!([]));
    assert_eq!(told.last().unwrap()["usage"]["completion_tokens"], 16);
    let text: String = told[..told.len() - 1]
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert!(
        text.ends_with("潮 fills every pool and goes out again, slowly."),
        "{text}"
    );
}

#[test]
fn tools_are_called_until_a_result_is_there() {
    let mut client = Client::new();
    let tools = r#""tools":[{"type":"function","function":{"name":"tide","parameters":{}}}]"#;
    let reply = client
        .ask(CHAT, "", &format!(r#"{{"model":"m",{tools}}}"#))
        .json();
    let call = &reply["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "tide");
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments["city"], "Kiel");

    let body = format!(r#"{{"model":"m",{tools},"messages":[{{"role":"tool"}}]}}"#);
    assert_eq!(
        client.ask(CHAT, "", &body).json()["choices"][0]["finish_reason"],
        "stop"
    );
}

#[test]
fn anthropic_events_come_in_order() {
    let mut client = Client::new();
    let body = r#"{"model":"claude-cached","stream":true,"thinking":{"type":"enabled"}}"#;
    let events = client
        .ask("/anthropic/v1/messages", "events=2", body)
        .event_json();
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    let usage = &events[10]["usage"];
    assert_eq!(usage["output_tokens"], 6);
    assert_eq!(usage["input_tokens"], 5);
    assert_eq!(usage["cache_read_input_tokens"], 9);
    assert_eq!(usage["cache_creation_input_tokens"], 4);
}

#[test]
fn responses_number_their_events() {
    let mut client = Client::new();
    for body in [
        r#"{"model":"gpt-reason","stream":true}"#,
        r#"{"model":"gpt","stream":true,"tools":[{"type":"function","name":"tide"}]}"#,
    ] {
        let events = client.ask("/openai/v1/responses", "", body).event_json();
        for (number, event) in events.iter().enumerate() {
            assert_eq!(event["sequence_number"], number, "{event}");
        }
        assert_eq!(events[0]["type"], "response.created");
        let last = events.last().unwrap();
        assert_eq!(last["type"], "response.completed");
        assert!(last["response"]["usage"]["output_tokens"].as_u64() >= Some(5));
    }
}

#[test]
fn a_gemini_stream_is_an_array_or_events() {
    let mut client = Client::new();
    let path = "/google-ai-studio/v1beta/models/gemini:streamGenerateContent";
    let array = client.ask(path, "", "{}").json();
    let events = client
        .ask(&format!("{path}?alt=sse"), "", "{}")
        .event_json();
    assert_eq!(array, Value::from(events.clone()));
    assert_eq!(
        events.last().unwrap()["usageMetadata"]["candidatesTokenCount"],
        16
    );
}

#[test]
fn a_cohere_v1_stream_is_lines_of_json() {
    let mut client = Client::new();
    let reply = client.ask("/cohere/v1/chat", "", r#"{"stream":true,"message":"hi"}"#);
    let text = String::from_utf8(reply.body).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["event_type"], "stream-start");
    assert_eq!(
        lines.last().unwrap()["response"]["meta"]["tokens"]["output_tokens"],
        16
    );
}

#[test]
fn bedrock_streams_are_frames_with_the_right_sums() {
    let mut client = Client::new();
    for verb in ["converse-stream", "invoke-with-response-stream"] {
        let reply = client.ask(&format!("/aws-bedrock/model/claude/{verb}"), "", "{}");
        let mut rest = reply.body.as_slice();
        let mut frames = 0;
        while !rest.is_empty() {
            let number = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
            let total = number(0) as usize;
            assert_eq!(number(8), digest::crc32(&rest[..8]));
            assert_eq!(number(total - 4), digest::crc32(&rest[..total - 4]));
            let payload = &rest[12 + number(4) as usize..total - 4];
            serde_json::from_slice::<Value>(payload).unwrap();
            rest = &rest[total..];
            frames += 1;
        }
        assert!(frames > 16, "{verb}: {frames}");
    }
}

#[test]
fn every_endpoint_answers_with_json_or_events_that_parse() {
    let mut client = Client::new();
    for path in [
        "/openai/v1/completions",
        "/openai/v1/embeddings",
        "/openai/v1/moderations",
        "/openai/v1/images/generations",
        "/groq/openai/v1/chat/completions",
        "/mistral/v1/chat/completions",
        "/deepseek/chat/completions",
        "/anthropic/v1/messages/count_tokens",
        "/google-ai-studio/v1beta/models/g:embedContent",
        "/google-ai-studio/v1beta/models/g:countTokens",
        "/cohere/v2/chat",
        "/cohere/v2/embed",
        "/cohere/v2/rerank",
        "/workers-ai/run/@cf/meta/llama",
        "/workers-ai/run/@cf/baai/bge-base-en",
        "/aws-bedrock/model/amazon.nova-lite/invoke",
        "/aws-bedrock/model/meta.llama3/invoke",
        "/aws-bedrock/model/c/converse",
        "/huggingface/org/model",
        "/replicate/predictions",
        "/fal/fal-ai/flux",
    ] {
        let reply = client.ask(path, "", r#"{"model":"m","input":"x"}"#);
        assert!(reply.head.contains(" 200 OK"), "{path}: {}", reply.head);
        reply.json();
        let streamed = client.ask(path, "", r#"{"model":"m","input":"x","stream":true}"#);
        if streamed.head.contains("event-stream") {
            assert!(streamed.event_json().len() >= 16, "{path}");
        }
    }
}

#[test]
fn errors_are_worded_as_their_provider_would() {
    let mut client = Client::new();
    let mut refused = |path: &str, pointer: &str| {
        let reply = client.ask(path, "", r#"{"model":"m+status=429"}"#);
        assert!(reply.head.starts_with("HTTP/1.1 429 "), "{}", reply.head);
        assert!(reply.head.contains("retry-after: 1\r\n"), "{}", reply.head);
        reply.json().pointer(pointer).cloned().unwrap()
    };
    assert_eq!(refused(CHAT, "/error/code"), "rate_limit_exceeded");
    assert_eq!(
        refused("/anthropic/v1/messages", "/error/type"),
        "rate_limit_error"
    );
    let gemini = "/v1beta/models/g+status=429:generateContent";
    assert_eq!(refused(gemini, "/error/status"), "RESOURCE_EXHAUSTED");
    let gemini = "/v1beta/models/g+status=429:streamGenerateContent";
    assert_eq!(refused(gemini, "/0/error/code"), 429);
    assert!(refused("/cohere/v2/chat", "/message").is_string());
    assert_eq!(refused("/mistral/v1/chat/completions", "/object"), "error");
    assert!(refused("/model/m+status=429/converse", "/message").is_string());
    assert_eq!(refused("/ai/run/@cf/m+status=429", "/success"), false);
}

#[test]
fn json_that_does_not_parse_and_commands_nobody_knows_are_refused() {
    let mut client = Client::new();
    let reply = client.ask(CHAT, "", "{\"model\":");
    assert!(
        reply.head.contains(" 400 ") && reply.json()["error"]["type"] == "invalid_request_error"
    );
    let reply = client.ask(CHAT, "dely=5", PLAIN);
    assert_eq!(
        reply.json()["error"]["message"],
        "unknown mock command `dely=5`"
    );
    let reply = client.ask(CHAT, "", r#"{"model":"m+nonsense"}"#);
    assert_eq!(reply.json()["error"]["type"], "mock_command");
    assert!(client.ask("/nobody", "", "").head.contains(" 404 "));
}

#[test]
fn commands_come_by_query_and_by_standing_order_too() {
    let mut client = Client::new();
    let path = format!("{CHAT}?mock=status%3D503,setcookie");
    let reply = client.ask(&path, "", PLAIN);
    assert!(reply.head.contains(" 503 ") && reply.head.matches("set-cookie: ").count() == 2);
    client.provider = MockProvider::start(Options {
        commands: "status=418".to_owned(),
        ..Options::default()
    })
    .unwrap();
    client.stream = TcpStream::connect(client.provider.addr()).unwrap();
    assert!(client.ask(CHAT, "", PLAIN).head.contains(" 418 "));
}

#[test]
fn only_the_first_requests_misbehave_where_so_ordered() {
    let mut client = Client::new();
    let body = r#"{"model":"gpt-4o+status=500+first=2"}"#;
    let statuses: Vec<bool> = (0..4)
        .map(|_| client.ask(CHAT, "", body).head.contains(" 500 "))
        .collect();
    assert_eq!(statuses, [true, true, false, false]);
}

#[test]
fn every_framing_carries_the_same_bytes() {
    let mut client = Client::new();
    let mut check = |body: &str| {
        let ordinary = client.ask(CHAT, "", body).body;
        for framing in [
            "length",
            "chunked",
            "trailers",
            "drip=100:0",
            "chunked,drip=33:0",
        ] {
            assert_eq!(client.ask(CHAT, framing, body).body, ordinary, "{framing}");
        }
        for framing in ["close", "http10", "keepalive=no"] {
            let reply = client.ask(CHAT, framing, body);
            assert!(reply.head.contains("connection: close"), "{}", reply.head);
            assert_eq!(reply.body, ordinary, "{framing}");
            client.stream = TcpStream::connect(client.provider.addr()).unwrap();
        }
    };
    check(PLAIN);
    check(STREAM);
}

#[test]
fn trailers_follow_the_last_chunk() {
    let mut client = Client::new();
    client.post(CHAT, "trailers,keepalive=no", PLAIN);
    let text = String::from_utf8(client.rest().0).unwrap();
    assert!(text.contains("trailer: x-mock-trailer, x-mock-end\r\n"));
    assert!(
        text.ends_with("\r\n0\r\nx-mock-trailer: tide\r\nx-mock-end: yes\r\n\r\n"),
        "{text}"
    );
}

#[test]
fn bodies_have_the_size_that_was_ordered() {
    let mut client = Client::new();
    for size in [1024, 5000, 3_000_000] {
        for body in [PLAIN, STREAM, r#"{"model":"g","input":"x"}"#] {
            let path = if body.contains("input") {
                "/v1/embeddings"
            } else {
                CHAT
            };
            for framing in ["", ",length"] {
                let commands = format!("size={size}{framing}");
                let reply = client.ask(path, &commands, body);
                if reply.head.contains("event-stream") {
                    assert!(reply.event_json().len() > 16);
                } else {
                    reply.json();
                }
                let least = if reply.head.contains("event-stream") {
                    5000
                } else {
                    0
                };
                if size > least {
                    assert_eq!(reply.body.len(), size, "{body}");
                }
            }
        }
    }
}

#[test]
fn gzip_holds_the_plain_bytes() {
    let mut client = Client::new();
    for body in [PLAIN, STREAM] {
        let plain = client.ask(CHAT, "size=20000", body).body;
        let reply = client.ask(CHAT, "size=20000,gzip", body);
        assert!(reply.head.contains("content-encoding: gzip"));
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(reply.body.as_slice())
            .read_to_end(&mut unpacked)
            .unwrap();
        assert!(unpacked == plain);
    }
}

#[test]
fn stamps_are_micros_in_every_event() {
    let mut client = Client::new();
    let before = send::micros_now();
    let events = client.ask(CHAT, "stamp,length", STREAM).event_json();
    let after = send::micros_now();
    let stamps: Vec<u64> = events
        .iter()
        .map(|event| event["stamp"].as_u64().unwrap())
        .collect();
    assert!(stamps.is_sorted() && stamps[0] >= before && *stamps.last().unwrap() <= after);
}

#[test]
fn cuts_end_the_answer_where_they_say() {
    let check = |cut: &str, body: &str| {
        let mut client = Client::new();
        client.post(CHAT, cut, body);
        let (bytes, orderly) = client.rest();
        let total = client.until_counters(|counters| counters["total"]["cut"] == 1);
        assert_eq!(total["total"]["aborted_by_peer"], 0);
        let body = memchr::memmem::find(&bytes, b"\r\n\r\n").map(|at| bytes.len() - at - 4);
        (bytes.len(), body, orderly)
    };
    assert_eq!(check("cut=before", PLAIN), (0, None, true));
    let (bytes, body, orderly) = check("cut=head", PLAIN);
    assert!(bytes > 20 && body.is_none() && orderly);
    let (_, body, orderly) = check("cut=100", PLAIN);
    assert_eq!((body, orderly), (Some(100), true));
    let (_, body, _) = check("cut=700,close", STREAM);
    assert_eq!(body, Some(700));
    assert!(!check("cut=rst:100", STREAM).2);
    assert!(!check("cut=rst", PLAIN).2);
}

#[test]
fn malformed_answers_go_out_and_the_connection_ends() {
    for (word, mark) in [
        ("cl", "content-length: +"),
        ("dupcl", "content-length: "),
        ("clte", "transfer-encoding: chunked"),
        ("chunk", "\r\nzz\r\n"),
        ("status", "HTTP/1.1 2000 OK"),
        ("obsfold", "\r\n two"),
        ("nul", "a\0b"),
        ("lf", "OK\ncontent"),
        ("badversion", "HTTP/3.7"),
        ("manyheaders", "x-1999: 1999"),
        ("early100", "HTTP/1.1 100 Continue"),
        ("garbage", "garbage"),
    ] {
        let mut client = Client::new();
        client.post(CHAT, &format!("malformed={word}"), PLAIN);
        let (bytes, orderly) = client.rest();
        assert!(
            memchr::memmem::find(&bytes, mark.as_bytes()).is_some(),
            "{word}"
        );
        assert!(orderly, "{word}");
    }
}

#[test]
fn interim_answers_and_surplus_surround_the_real_one() {
    let mut client = Client::new();
    client.post(CHAT, "continue,surplus,keepalive=no", PLAIN);
    let text = String::from_utf8(client.rest().0).unwrap();
    assert!(text.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"));
    assert!(text.ends_with("content-length: 8\r\n\r\nsurplus!"));
}

#[test]
fn answers_without_a_body_have_none() {
    let mut client = Client::new();
    for status in [204, 304] {
        let reply = client.ask(CHAT, &format!("status={status}"), PLAIN);
        assert!(reply.head.contains(&format!(" {status} ")) && !reply.head.contains("content-"));
    }
    client.send("HEAD /openai/v1/models HTTP/1.1\r\nhost: mock\r\n\r\n");
    let head = String::from_utf8(client.until(b"\r\n\r\n")).unwrap();
    assert!(head.contains("content-length: ") && !head.contains("content-length: 0"));
    client.send("GET /openai/v1/models HTTP/1.1\r\nhost: mock\r\n\r\n");
    assert_eq!(client.reply().json()["object"], "list");
}

#[test]
fn early_answers_come_before_the_body() {
    let mut client = Client::new();
    client.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: m\r\nx-mock: early,status=401\r\ncontent-length: 5\r\n\r\n"
    ));
    assert!(client.reply().head.contains(" 401 "));
    client.send("hello");
    assert!(client.ask(CHAT, "", PLAIN).head.contains(" 200 "));
}

#[test]
fn requests_may_be_chunked_pipelined_or_wait_for_a_100() {
    let mut client = Client::new();
    let chunked = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: m\r\ntransfer-encoding: chunked\r\n\r\n10\r\n{}\r\n{:x};x=y\r\n{}\r\n0\r\nt: 1\r\n\r\n",
        &PLAIN[..16],
        PLAIN.len() - 16,
        &PLAIN[16..]
    );
    client.send(format!("{chunked}{chunked}"));
    let first = client.reply();
    assert_eq!(client.reply(), first);
    assert_eq!(client.ask(CHAT, "", PLAIN), first);

    client.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: m\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        PLAIN.len()
    ));
    assert_eq!(client.until(b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send(PLAIN);
    assert_eq!(client.reply(), first);
}

#[test]
fn requests_that_no_provider_would_accept_are_refused_and_counted() {
    for bad in [
        "POST / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\naa\r\n0\r\n\r\n",
        "\0\0\0",
    ] {
        let mut client = Client::new();
        client.send(bad);
        let (bytes, _) = client.rest();
        assert!(bytes.starts_with(b"HTTP/1.1 400 "), "{bad}");
        assert_eq!(client.provider.counters()["bad_requests"], 1);
    }
}

#[test]
fn a_hang_up_is_noticed_while_waiting_dripping_and_hanging() {
    for (commands, body, sent) in [
        ("delay=60000", PLAIN, Some(0)),
        ("hang", PLAIN, Some(0)),
        ("hang_after=50", PLAIN, Some(50)),
        ("drip=10:60000", PLAIN, Some(10)),
        ("event_delay=60000", STREAM, None),
        ("size=10000000000", STREAM, None),
    ] {
        let mut client = Client::new();
        client.post(CHAT, commands, body);
        if sent != Some(0) {
            client.until(b"\r\n\r\n");
        }
        client.until_counters(|counters| counters["in_flight"] == 1);
        if let Some(sent) = sent {
            client.exactly(sent);
        }
        let before = Instant::now();
        client.stream.shutdown(std::net::Shutdown::Both).unwrap();
        client.stream = TcpStream::connect(client.provider.addr()).unwrap();
        let counters = client.until_counters(|counters| counters["aborted_by_peer"]["count"] == 1);
        // 20 ms on an idle machine; a busy one must not fail this test.
        assert!(before.elapsed() < Duration::from_secs(2), "{commands}");
        let abort = &counters["aborted_by_peer"]["newest"][0];
        assert_eq!(abort["endpoint"], "chat");
        if let Some(sent) = sent {
            assert_eq!(abort["body_bytes_sent"], sent, "{commands}");
        }
        assert_eq!(counters["in_flight"], 0);
    }
}

#[test]
fn a_request_broken_off_is_counted_as_such() {
    let mut client = Client::new();
    client.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: m\r\ncontent-length: 5\r\n\r\nab"
    ));
    client.stream.shutdown(std::net::Shutdown::Both).unwrap();
    let counters = client.until_counters(|counters| counters["cut_requests"] == 1);
    assert_eq!(counters["total"]["requests"], 0);
}

#[test]
fn requests_are_kept_as_they_came() {
    let mut client = Client::new();
    let body = "x".repeat(10_000);
    client.send(format!("POST /openai/v1/%7Ea/?q=%2f HTTP/1.1\r\nHost: m\r\nX-Odd:  Value \r\ncontent-length: 10000\r\n\r\n{body}"));
    client.reply();
    client.until_counters(|counters| counters["in_flight"] == 0);
    client.send("GET /__mock/requests?last=5 HTTP/1.1\r\nhost: m\r\n\r\n");
    let requests = client.reply().json();
    let request = &requests["requests"][0];
    assert_eq!(request["method"], "POST");
    assert_eq!(request["path"], "/openai/v1/%7Ea/?q=%2f");
    assert_eq!(request["headers"][1], serde_json::json!(["X-Odd", "Value"]));
    assert_eq!(request["body_bytes"], 10_000);
    assert_eq!(request["body"].as_str().unwrap().len(), 4096);
    assert_eq!(request["body_sha256"], digest::Sha256::of(body.as_bytes()));
    assert_eq!(request["outcome"], "completed");
    assert_eq!(requests["requests"].as_array().unwrap().len(), 1);

    client.send("POST /__mock/reset HTTP/1.1\r\nhost: m\r\ncontent-length: 0\r\n\r\n");
    assert!(client.reply().head.contains(" 204 "));
    assert_eq!(
        client.provider.requests(5)["requests"],
        serde_json::json!([])
    );
}

#[test]
fn uploads_are_told_by_their_hash() {
    let mut client = Client::new();
    let file = "\u{1}".repeat(100_000);
    let body = format!(
        "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{file}\r\n--b--\r\n"
    );
    let len = body.len();
    client.send(format!("POST /v1/audio/transcriptions HTTP/1.1\r\nhost: m\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: {len}\r\n\r\n{body}"));
    assert_eq!(
        client.reply().json()["text"],
        digest::Sha256::of(file.as_bytes())
    );
}

#[test]
fn websocket_frames_come_back() {
    let mut client = Client::new();
    client.send("GET /v1/realtime?model=m HTTP/1.1\r\nhost: m\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: realtime, b\r\n\r\n");
    let head = String::from_utf8(client.until(b"\r\n\r\n")).unwrap();
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.contains("sec-websocket-protocol: realtime\r\n")
    );
    // Text "hi", then a ping, then a close, masked with 1, 2, 3, 4.
    client.send(b"\x81\x82\x01\x02\x03\x04ik\x89\x80\0\0\0\0\x88\x82\0\0\0\0\x03\xe8");
    assert_eq!(client.rest().0, b"\x81\x02hi\x8a\x00\x88\x02\x03\xe8");
    let counters = client.until_counters(|counters| counters["in_flight"] == 0);
    assert_eq!(counters["websocket_frames"], 3);
}

#[test]
fn too_many_connections_are_closed_and_counted() {
    let provider = MockProvider::start(Options {
        connections_max: 1,
        ..Options::default()
    })
    .unwrap();
    let stream = TcpStream::connect(provider.addr()).unwrap();
    let mut client = Client { provider, stream };
    client.ask(CHAT, "", PLAIN);
    let mut second = TcpStream::connect(client.provider.addr()).unwrap();
    assert_eq!(second.read(&mut [0]).unwrap(), 0);
    client.until_counters(|counters| counters["connections"]["refused"] == 1);
}

#[test]
fn dropping_it_closes_every_connection_and_the_port() {
    let mut client = Client::new();
    client.post(CHAT, "hang", PLAIN);
    client.until_counters(|counters| counters["in_flight"] == 1);
    let addr = client.provider.addr();
    let Client {
        provider,
        mut stream,
    } = client;
    drop(provider);
    assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn it_listens_on_loopback_only() {
    let error = MockProvider::start(Options {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..Options::default()
    })
    .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}
