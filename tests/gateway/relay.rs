//! Bytes through, both ways: the same bytes, at once, under back-pressure, in little memory.

use std::{
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use tidegate::cli::demo::mock_provider::MockProvider;
use xxhash_rust::xxh3::Xxh3;

use crate::support::{
    client::{Answer, Client, Sent, chat, chat_stream, get, post, post_with},
    process::{forget_resident_bytes_max, resident_bytes, resident_bytes_max},
    server::{OPEN, STORED, Server, Setup, TOKEN},
    upstream::{Upstream, count, field, last_request, mock},
    wait::{wait_until, wait_until_calm},
};

fn chat_path() -> String {
    format!("{OPEN}/openai/chat/completions")
}

/// The answer of the mock provider without anything between.
#[track_caller]
fn direct(mock: &MockProvider, request: &[u8]) -> Answer {
    Client::connect(mock.addr()).ask(request)
}

#[test]
fn bodies_arrive_as_a_direct_call_gets_them() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let form = "--cut\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--cut\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\0\x01\x02\r\n--cut--\r\n";
    let form_lines = "x-kind: form\r\n";
    let json = |lines: &str, body: &str| (lines.to_owned(), body.to_owned());
    let cases = [
        ("openai", "chat/completions", json("", &chat(""))),
        (
            "openai",
            "chat/completions",
            json("", &chat_stream("+events=200")),
        ),
        (
            "openai",
            "responses",
            json("", r#"{"model":"gpt-4o","input":"x","stream":true}"#),
        ),
        (
            "openai",
            "embeddings",
            json("", r#"{"model":"e","input":["x","y"]}"#),
        ),
        (
            "openai",
            "audio/speech",
            json("", r#"{"model":"tts-1","input":"x","voice":"alloy"}"#),
        ),
        ("openai", "audio/transcriptions", json(form_lines, form)),
        (
            "anthropic",
            "v1/messages",
            json(
                "",
                r#"{"model":"claude","max_tokens":5,"messages":[{"role":"user","content":"x"}],"stream":true}"#,
            ),
        ),
    ];
    let mocks = [
        "",
        "gzip",
        "chunked",
        "length",
        "close",
        "http10",
        "trailers",
        "size=100000",
        "gzip,chunked",
        "drip=7:0",
        "setcookie,reqid=abc",
        "gzip,size=50000",
    ];
    let mut client = server.connect();
    for (provider, path, (lines, body)) in &cases {
        for command in mocks {
            let base = if *provider == "openai" {
                "/openai/v1"
            } else {
                "/anthropic"
            };
            let query = format!("{path}?mock={command}");
            let request = |root: &str| {
                let lines = format!("{lines}Accept-Encoding: gzip\r\n");
                let request = post_with(&format!("{root}/{query}"), &lines, body.as_bytes());
                if lines.contains("x-kind: form") {
                    let text = String::from_utf8(request).unwrap();
                    return text
                        .replacen("application/json", "multipart/form-data; boundary=cut", 1)
                        .into_bytes();
                }
                request
            };
            let wanted = direct(&mock, &request(base));
            let got = client.ask(&request(&format!("{OPEN}/{provider}")));
            assert!(got.whole, "{query}: {}", got.head);
            assert!(got.head.starts_with("HTTP/1.1 "), "{query}: {}", got.head);
            assert_eq!(got.status, wanted.status, "{query}");
            assert!(got.body == wanted.body, "{query}: the body differs");
            for name in [
                "content-type",
                "content-encoding",
                "set-cookie",
                "x-request-id",
                "request-id",
            ] {
                assert_eq!(got.field(name), wanted.field(name), "{query}");
            }
            if got.field("connection") == Some("close") {
                assert_eq!(client.rest(), b"", "{query}");
                client = server.connect();
            }
        }
    }
}

#[test]
fn an_encoding_that_is_none_passes_as_it_is() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let query = "?mock=malformed=badgzip";
    let wanted = direct(
        &mock,
        &post(&format!("/openai/v1/chat/completions{query}"), &chat("")),
    );
    let got = server.ask(&post(&(chat_path() + query), &chat("")));
    assert!(got.whole && got.body == wanted.body);
    assert_eq!(got.field("content-encoding"), Some("gzip"));
    assert_eq!(
        server.records_once(1)[0]["tokens_in"],
        serde_json::Value::Null
    );
}

#[test]
fn a_request_arrives_as_it_was_sent() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let bytes: String = (0..5000_u32)
        .map(|n| char::from_u32(n % 90 + 33).unwrap())
        .collect();
    let body = format!(
        r#"{{"model":"gpt-4o" , "x":[1.0e5,1.00,"\u00e9é"], "text":{}}}"#,
        serde_json::json!(bytes)
    );
    let wanted = {
        direct(&mock, &post("/openai/v1/chat/completions", &body));
        last_request(&mock)
    };
    server.ask(&post(&chat_path(), &body));
    let with_length = last_request(&mock);
    assert_eq!(with_length["body_sha256"], wanted["body_sha256"]);

    let mut request = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        chat_path()
    );
    for piece in body.as_bytes().chunks(700) {
        let piece = std::str::from_utf8(piece).unwrap_or_default();
        assert!(!piece.is_empty());
        request.push_str(&format!("{:x};ext=1\r\n{piece}\r\n", piece.len()));
    }
    request.push_str("0\r\nX-Trailer: dropped\r\n\r\n");
    let answer = server.ask(request.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let chunked = last_request(&mock);
    assert_eq!(chunked["body_sha256"], wanted["body_sha256"]);
    assert!(!chunked.to_string().contains("dropped"));
}

#[test]
fn trailers_are_dropped() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut client = server.connect();
    client.send(&post(&(chat_path() + "?mock=trailers"), &chat("")));
    let head = client.answer_head();
    assert_eq!(head.field("trailer"), None, "{}", head.head);
    while client.chunk().unwrap() != b"" {}
    assert_eq!(client.ask(&post(&chat_path(), &chat(""))).status, 200);
}

#[test]
fn answers_without_a_body_pass() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut client = server.connect();
    for status in [204, 304] {
        let path = format!("{}?mock=status={status}", chat_path());
        let answer = client.ask(&post(&path, &chat("")));
        assert_eq!(answer.status, status);
        assert_eq!(answer.field("transfer-encoding"), None, "{}", answer.head);
    }
    let models = format!("{OPEN}/openai/models");
    let length = direct(&mock, &get("/openai/v1/models", ""))
        .field("content-length")
        .unwrap()
        .to_owned();
    let head = client.ask(format!("HEAD {models} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    assert_eq!(head.status, 200);
    assert_eq!(head.field("content-length"), Some(&*length));
    assert_eq!(client.pending(), b"");
    assert_eq!(client.ask(&get(&models, "")).status, 200);
}

#[test]
fn a_caller_of_http_1_0_gets_a_body_without_chunks() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let body = chat_stream("");
    let wanted = direct(&mock, &post("/openai/v1/chat/completions", &body));
    for framing in ["chunked", "close", "length"] {
        let request = format!(
            "POST {}?mock={framing} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
            chat_path(),
            body.len()
        );
        let mut client = server.connect();
        client.send(request.as_bytes());
        let answer = client.answer(Sent::Other);
        assert_eq!(answer.field("transfer-encoding"), None, "{}", answer.head);
        assert!(answer.whole && answer.body == wanted.body, "{framing}");
        assert_eq!(client.rest(), b"");
    }
}

/// Sends event after event, each on command.
fn stepwise(head: &'static str, chunked: bool) -> (Upstream, mpsc::Sender<Option<String>>) {
    let (step, steps) = mpsc::channel::<Option<String>>();
    let steps = Mutex::new(steps);
    let upstream = Upstream::start(move |peer| {
        peer.request();
        peer.send(head);
        let steps = steps.lock().unwrap();
        while let Ok(Some(event)) = steps.recv() {
            if chunked {
                peer.send(format!("{:x}\r\n{event}\r\n", event.len()));
            } else {
                peer.send(event);
            }
        }
        if chunked {
            peer.send("0\r\n\r\n");
        }
    });
    (upstream, step)
}

/// The head passes before any event, and each event before the next one is even made.
#[track_caller]
fn check_stepwise(head: &'static str, chunked: bool, old: bool) {
    let (upstream, step) = stepwise(head, chunked);
    let server = Setup::scripted(upstream.address).start();
    let mut client = server.connect();
    let body = chat_stream("");
    if old {
        client.send(
            format!(
                "POST {} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
                chat_path(),
                body.len()
            )
            .as_bytes(),
        );
    } else {
        client.send(&post(&chat_path(), &body));
    }
    assert_eq!(client.answer_head().status, 200);
    for number in 0..50 {
        let event = format!("event: delta\ndata: {{\"number\":{number}}}\n\n");
        step.send(Some(event.clone())).unwrap();
        let got = if old {
            client.take(event.len())
        } else {
            client.chunk().unwrap()
        };
        assert_eq!(String::from_utf8(got).unwrap(), event);
    }
    step.send(None).unwrap();
    if old {
        assert_eq!(client.rest(), b"");
    } else {
        assert_eq!(client.chunk().unwrap(), b"");
    }
}

#[test]
fn an_event_passes_before_the_next_one_is_sent() {
    check_stepwise(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        true,
        false,
    );
}

#[test]
fn an_event_of_a_close_delimited_stream_passes_at_once() {
    check_stepwise(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        false,
        false,
    );
}

#[test]
fn an_event_passes_at_once_to_a_caller_of_http_1_0() {
    check_stepwise(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        true,
        true,
    );
}

#[test]
fn a_part_of_an_event_passes_at_once() {
    let (upstream, step) = stepwise(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        true,
    );
    let server = Setup::scripted(upstream.address).start();
    let mut client = server.connect();
    client.send(&post(&chat_path(), &chat_stream("")));
    client.answer_head();
    for piece in [
        "da",
        "ta: {\"choices\":[{\"del",
        "ta\":{}}]}",
        "\n",
        "\n",
        ": comment\n\n",
    ] {
        step.send(Some(piece.to_owned())).unwrap();
        assert_eq!(client.chunk().unwrap(), piece.as_bytes());
    }
    step.send(None).unwrap();
    assert_eq!(client.chunk().unwrap(), b"");
}

#[test]
fn pipelined_requests_are_answered_in_order_on_one_connection() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut all = Vec::new();
    for number in 0..20 {
        all.extend_from_slice(&post(&chat_path(), &chat(&format!("-{number}"))));
    }
    let mut client = server.connect();
    client.send(&all);
    for number in 0..20 {
        let answer = client.answer(Sent::Other);
        assert_eq!(answer.json()["model"], format!("gpt-4o-{number}"));
    }
    assert!(!client.is_closed());
    client.send(&post_with(
        &chat_path(),
        "Connection: close\r\n",
        chat("").as_bytes(),
    ));
    let last = client.answer(Sent::Other);
    assert_eq!(last.field("connection"), Some("close"));
    assert_eq!(client.rest(), b"");
}

#[test]
fn pipelined_requests_beyond_what_is_kept_ahead_are_all_answered() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let body = chat_stream("+events=30+event_delay=2");
    let request = post_with(
        &chat_path(),
        &format!("X-Pad: {}\r\n", "p".repeat(4000)),
        body.as_bytes(),
    );
    let mut client = server.connect();
    client.send(&request.repeat(15));
    for _ in 0..15 {
        let answer = client.answer(Sent::Other);
        assert_eq!((answer.status, answer.whole), (200, true));
    }
}

#[test]
fn upstream_connections_are_reused() {
    let mock = mock();
    let server = Setup::over(mock.addr()).top("shards = 1").start();
    for body in [
        chat(""),
        chat_stream(""),
        chat("+size=300000"),
        chat("+chunked"),
        chat("+gzip"),
        chat("+status=429"),
    ] {
        for _ in 0..5 {
            assert!(server.ask(&post(&chat_path(), &body)).whole);
        }
    }
    assert_eq!(count(&mock, "connections/accepted"), 1);
}

#[test]
fn who_waits_for_a_100_gets_it() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let body = chat("");
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
    };
    let mut client = server.connect();
    client.send(head(&chat_path()).as_bytes());
    let interim = client.try_head().unwrap();
    assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send(body.as_bytes());
    assert_eq!(client.answer(Sent::Other).status, 200);
    assert!(
        !last_request(&mock)["headers"]
            .to_string()
            .to_lowercase()
            .contains("expect")
    );

    // Who would be refused anyway is told before sending a body.
    let mut client = server.connect();
    client.send(head("/v1/me/locked/openai/chat/completions").as_bytes());
    let answer = client.answer(Sent::Other);
    answer.check_refusal(401, 2009);
    assert!(answer.interim.is_empty());
}

#[test]
fn path_and_query_go_upstream_as_they_were_written() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .provider(
            "huggingface",
            &format!("origin = \"http://{}/huggingface\"", mock.addr()),
        )
        .start();
    for (asked, wanted) in [
        ("openai/files/a%2Fb%20c%3f", "/openai/v1/files/a%2Fb%20c%3f"),
        ("openai/v1/files/x", "/openai/v1/files/x"),
        ("openai/x?a=%26&b=c+d&&e", "/openai/v1/x?a=%26&b=c+d&&e"),
        ("openai//x//y/", "/openai/v1/x//y/"),
        (
            "openai/x:generate@cf/%E2%82%AC",
            "/openai/v1/x:generate@cf/%E2%82%AC",
        ),
        ("openai/x?", "/openai/v1/x?"),
    ] {
        let answer = server.ask(&get(&format!("{OPEN}/{asked}"), ""));
        assert_eq!(answer.status, 200, "{asked}: {}", answer.text());
        assert_eq!(last_request(&mock)["path"], wanted, "{asked}");
    }
}

#[test]
fn only_end_to_end_fields_of_the_caller_reach_the_provider() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let kept = "OpenAI-Beta: assistants=v2\r\nX-Custom: one\r\nX-Custom: two\r\nIdempotency-Key: k-1\r\nUser-Agent: test/1\r\nAccept: */*\r\n";
    let dropped = "cf-aig-authorization: Bearer TOKEN\r\ncf-aig-metadata: {\"a\":1}\r\nCF-AIG-Unheard-Of: x\r\ncf-connecting-ip: 10.1.1.1\r\ntg-replay: x\r\nTG-Other: x\r\nCookie: session=1\r\nX-Forwarded-For: 10.1.1.1\r\nX-Forwarded-Host: h\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 10.1.1.1\r\nForwarded: for=10.1.1.1\r\nTrue-Client-IP: 10.1.1.1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nProxy-Authorization: Basic eDp5\r\nProxy-Connection: keep-alive\r\nTrailer: x\r\nUpgrade: h2c\r\n";
    let lines = format!("{kept}{}", dropped.replace("TOKEN", TOKEN));
    for path in [
        chat_path(),
        "/v1/me/locked/openai/chat/completions".to_owned(),
    ] {
        let answer = server.ask(&post_with(&path, &lines, chat("").as_bytes()));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let request = last_request(&mock);
        let mut fields: Vec<(String, String)> = request["headers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| {
                (
                    field[0].as_str().unwrap().to_lowercase(),
                    field[1].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        fields.sort();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let mut wanted: Vec<(String, String)> = [
            ("accept", "*/*"),
            ("authorization", &*format!("Bearer {STORED}")),
            ("content-length", &*chat("").len().to_string()),
            ("content-type", "application/json"),
            ("host", &*mock.addr().to_string()),
            ("idempotency-key", "k-1"),
            ("openai-beta", "assistants=v2"),
            ("user-agent", "test/1"),
            ("x-custom", "one"),
            ("x-custom", "two"),
        ]
        .map(owned)
        .into();
        wanted.sort();
        assert_eq!(fields, wanted);
    }
}

#[test]
fn answers_lose_what_belongs_to_their_connection_and_gain_the_contracts_fields() {
    let upstream = Upstream::start(|peer| {
        while peer.request().is_some() {
            peer.send(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nAlt-Svc: h3=\":443\"\r\nStrict-Transport-Security: max-age=1\r\ncf-aig-log-id: forged\r\ncf-aig-event-id: forged\r\ncf-ray: stays\r\nX-RateLimit-Remaining: 5\r\n\r\n{}",
            );
        }
    });
    let server = Setup::scripted(upstream.address).start();
    let answer = server.ask(&post_with(&chat_path(), "cf-aig-event-id: mine\r\n", b"{}"));
    for name in [
        "x-hop",
        "keep-alive",
        "alt-svc",
        "strict-transport-security",
    ] {
        assert_eq!(answer.field(name), None, "{}", answer.head);
    }
    assert_eq!(answer.field("cf-ray"), Some("stays"));
    assert_eq!(answer.field("x-ratelimit-remaining"), Some("5"));
    assert_eq!(answer.field("cf-aig-event-id"), Some("mine"));
    let id = answer.field("cf-aig-log-id").unwrap();
    assert_eq!(answer.field("cf-aig-request-id"), Some(id));
    assert!(!answer.head.contains("forged"), "{}", answer.head);
    assert!(
        answer
            .field("server-timing")
            .unwrap()
            .starts_with("tg;dur=")
    );
    assert_eq!(server.records_once(1)[0]["id"], id);
}

/// What a long body is made of: no two stretches alike, so that a lost or doubled one shows.
struct Pattern(u64);

impl Pattern {
    fn fill(&mut self, into: &mut [u8]) {
        for word in into.chunks_mut(8) {
            let bytes = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
            self.0 += 1;
        }
    }
}

const LARGE: u64 = 100 << 20;

/// The heap takes memory in pages of this size where the system gives such.
const LARGE_PAGE: u64 = 2 << 20;

/// Sends `LARGE` bytes of pattern through `write`, and gives their hash.
fn send_large(mut write: impl FnMut(&[u8]) -> bool) -> u64 {
    let mut pattern = Pattern(1);
    let mut hash = Xxh3::new();
    let mut piece = vec![0; 256 * 1024];
    for _ in 0..LARGE / piece.len() as u64 {
        pattern.fill(&mut piece);
        hash.update(&piece);
        if !write(&piece) {
            break;
        }
    }
    hash.digest()
}

/// Greatest memory that `work` needed on top of what was there before.
fn growth(server: &Server, work: impl FnOnce()) -> u64 {
    forget_resident_bytes_max(server.pid());
    let before = resident_bytes(server.pid());
    work();
    resident_bytes_max(server.pid()).saturating_sub(before)
}

#[test]
fn a_large_download_passes_in_little_memory() {
    let (hashed, hashes) = mpsc::channel();
    let upstream = Upstream::start(move |peer| {
        while let Some(request) = peer.request() {
            if request.body != b"{\"x\":1}" {
                peer.answer(&request.body);
                continue;
            }
            let head = if request.head.contains("chunked-please") {
                "HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n\r\n"
                    .to_owned()
            } else {
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nContent-Length: {LARGE}\r\n\r\n"
                )
            };
            let chunked = head.contains("chunked");
            peer.send(head);
            let hash = send_large(|piece| {
                if !chunked {
                    return peer.send(piece);
                }
                peer.send(format!("{:x}\r\n", piece.len())) && peer.send(piece) && peer.send("\r\n")
            });
            if chunked {
                peer.send("0\r\n\r\n");
            }
            hashed.send(hash).unwrap();
        }
    });
    let server = Setup::scripted(upstream.address).top("shards = 1").start();
    for _ in 0..20 {
        server.ask(&post(&chat_path(), "{}"));
    }
    for lines in [
        "cf-aig-collect-log-payload: false\r\n",
        "cf-aig-collect-log-payload: false\r\nX-A: chunked-please\r\n",
        "",
    ] {
        let mut client = server.connect();
        let needed = growth(&server, || {
            client.send(&post_with(
                &format!("{OPEN}/openai/audio/speech"),
                lines,
                b"{\"x\":1}",
            ));
            let head = client.answer_head();
            assert_eq!(head.status, 200);
            let mut hash = Xxh3::new();
            let mut left = LARGE;
            while left > 0 {
                let piece = if head.field("transfer-encoding").is_some() {
                    client.chunk().unwrap()
                } else {
                    client.take(usize::try_from(left.min(65536)).unwrap())
                };
                assert!(!piece.is_empty());
                hash.update(&piece);
                left -= piece.len() as u64;
            }
            assert_eq!(hash.digest(), hashes.recv().unwrap());
        });
        println!(
            "a download of 100 MB needed {} KB ({lines:?})",
            needed / 1024
        );
        // Four megabytes, and one large page that the heap may have begun. With stored bodies,
        // what waits for the log's disk comes on top: four more, and its writer's.
        let payload = if lines.is_empty() { 10 << 20 } else { 0 };
        let bound = (4 << 20) + LARGE_PAGE + payload;
        assert!(needed < bound, "{needed} bytes");
    }
}

#[test]
fn a_large_upload_passes_in_little_memory() {
    let (hashed, hashes) = mpsc::channel();
    let upstream = Upstream::start(move |peer| {
        while let Some(head) = peer.head() {
            let mut hash = Xxh3::new();
            let mut left = LARGE;
            if field(&head, "content-length") == Some("2") {
                peer.take(2);
                peer.answer("{}");
                continue;
            }
            if field(&head, "transfer-encoding").is_some() {
                loop {
                    let line = peer.line().unwrap();
                    let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
                    let payload = peer.take(size + 2).unwrap();
                    if size == 0 {
                        break;
                    }
                    hash.update(&payload[..size]);
                    left -= size as u64;
                }
            } else {
                while left > 0 {
                    let piece = peer
                        .take(usize::try_from(left.min(65536)).unwrap())
                        .unwrap();
                    hash.update(&piece);
                    left -= piece.len() as u64;
                }
            }
            assert_eq!(left, 0);
            hashed.send(hash.digest()).unwrap();
            peer.answer("{}");
        }
    });
    // The default of `gather_bytes`.
    let gather = 8 << 20;
    let server = Setup::scripted(upstream.address).top("shards = 1").start();
    for _ in 0..20 {
        server.ask(&post(&chat_path(), "{}"));
    }
    for chunked in [false, true] {
        let mut client = server.connect();
        let needed = growth(&server, || {
            let framing = if chunked {
                "Transfer-Encoding: chunked".to_owned()
            } else {
                format!("Content-Length: {LARGE}")
            };
            client.send(format!("POST {OPEN}/openai/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n{framing}\r\n\r\n").as_bytes());
            let hash = send_large(|piece| {
                if chunked {
                    client.send(format!("{:x}\r\n", piece.len()).as_bytes());
                }
                client.send(piece);
                if chunked {
                    client.send(b"\r\n");
                }
                true
            });
            if chunked {
                client.send(b"0\r\n\r\n");
            }
            let answer = client.answer(Sent::Other);
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(hashes.recv().unwrap(), hash);
        });
        println!(
            "an upload of 100 MB needed {} KB (chunked: {chunked})",
            needed / 1024
        );
        assert!(needed < gather + (4 << 20), "{needed} bytes");
    }
    assert_eq!(upstream.connections(), 1, "the connection is used again");
}

#[test]
fn readers_that_stall_hold_the_provider_back_and_cost_little() {
    const READERS: usize = 32;
    const BODY: u64 = 32 << 20;
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let upstream = Upstream::start(move |peer| {
        while let Some(request) = peer.request() {
            if request.body == b"{}" {
                peer.answer("{}");
                continue;
            }
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nContent-Length: {BODY}\r\n\r\n"
            ));
            let piece = vec![7; 64 * 1024];
            for _ in 0..BODY / piece.len() as u64 {
                if !peer.send(&piece) {
                    return;
                }
                counted.fetch_add(piece.len() as u64, Ordering::AcqRel);
            }
        }
    });
    let server = Setup::scripted(upstream.address).start();
    for _ in 0..50 {
        server.ask(&post(&chat_path(), "{}"));
    }
    let before = resident_bytes(server.pid());
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut client = server.connect();
        // A small window, so that the kernel takes little on its own.
        set_socket_recv_buffer_size(&client.stream, 64 * 1024).unwrap();
        client.send(&post_with(
            &format!("{OPEN}/openai/audio/speech"),
            "cf-aig-collect-log-payload: false\r\n",
            b"{\"x\":1}",
        ));
        readers.push(client);
    }
    let stood = wait_until_calm(Duration::from_millis(500), || sent.load(Ordering::Acquire));
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    println!(
        "{READERS} stalled readers: {} KB sent by the provider, {} KB of memory",
        stood / 1024,
        grown / 1024
    );
    assert!(
        stood < BODY * READERS as u64 / 2,
        "{stood} bytes were taken from the provider"
    );
    assert!(grown < 8 << 20, "{grown} bytes");
    // Others are served, and who reads again gets all of it.
    assert_eq!(server.ask(&post(&chat_path(), "{}")).status, 200);
    let answer = readers[0].answer(Sent::Other);
    assert!(answer.whole && answer.body.len() as u64 == BODY);
}

#[test]
fn a_provider_that_does_not_read_holds_the_caller_back() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |peer| {
        peer.head();
        wait.lock().unwrap().recv().unwrap();
        // The head says how much; it is counted by its end alone.
        peer.finish_reading(64 << 20);
        peer.answer("{}");
    });
    let server = Setup::scripted(upstream.address)
        .tables("[limits]\ngather_bytes = \"64KiB\"")
        .start();
    let client = server.connect();
    let mut stream = client.stream.try_clone().unwrap();
    stream.write_all(format!("POST {OPEN}/openai/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", 64 << 20).as_bytes()).unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let sender = {
        let (sent, done) = (Arc::clone(&sent), Arc::clone(&done));
        thread::spawn(move || {
            let piece = vec![7; 64 * 1024];
            for _ in 0..(64 << 20) / piece.len() {
                stream.write_all(&piece).unwrap();
                sent.fetch_add(piece.len() as u64, Ordering::AcqRel);
            }
            done.store(true, Ordering::Release);
        })
    };
    let stood = wait_until_calm(Duration::from_millis(500), || sent.load(Ordering::Acquire));
    println!(
        "{} KB were sent into an upload that nobody reads",
        stood / 1024
    );
    assert!(!done.load(Ordering::Acquire), "all of it was taken");
    go_on.send(()).unwrap();
    let mut client = client;
    assert_eq!(client.answer(Sent::Other).status, 200);
    wait_until("the rest to be sent", || done.load(Ordering::Acquire));
    sender.join().unwrap();
}

#[test]
fn a_model_is_found_wherever_it_stands_in_a_body_that_passes_through() {
    let upstream = Upstream::start(|peer| {
        while peer.request().is_some() {
            peer.answer("{}");
        }
    });
    let server = Setup::scripted(upstream.address)
        .tables("[limits]\ngather_bytes = \"64KiB\"")
        .start();
    let text = "x\\\"".repeat(10 << 18);
    for (number, (before, after, model)) in [
        ("", r#","model":"at-the-end""#, "at-the-end"),
        (r#""model":"first","#, "", "first"),
        (r#""model":"first","#, r#","model":"last""#, "last"),
        ("", r#","x":{"model":"inside"}"#, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!(r#"{{{before}"messages":["{text}"]{after}}}"#);
        let request = if number % 2 == 0 {
            post(&chat_path(), &body)
        } else {
            let mut request = format!(
                "POST {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
                chat_path()
            )
            .into_bytes();
            for piece in body.as_bytes().chunks(70_001) {
                request.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                request.extend_from_slice(piece);
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"0\r\n\r\n");
            request
        };
        assert_eq!(server.ask(&request).status, 200);
        let record = &server.records_once(number + 1)[number];
        let found = record["model"].as_str().unwrap_or_default();
        assert_eq!(found, model, "{record:#}");
        assert_eq!(record["outcome"], "ok", "{record:#}");
    }
}

#[test]
fn endless_trailers_end_by_a_cut_and_in_little_memory() {
    let line = format!("X-More: {}\r\n", "y".repeat(1000));
    let lines = line.clone();
    let upstream = Upstream::start(move |peer| {
        while let Some(request) = peer.request() {
            if request.body == b"{}" {
                peer.answer("{}");
                continue;
            }
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n";
            peer.send(head);
            while peer.send(&lines) {}
            return;
        }
    });
    let server = Setup::scripted(upstream.address).top("shards = 1").start();
    for _ in 0..20 {
        server.ask(&post(&chat_path(), "{}"));
    }
    let needed = growth(&server, || {
        let answer = server.ask(&post(&chat_path(), r#"{"x":1}"#));
        assert_eq!((answer.status, answer.whole), (200, false));
        assert_eq!(answer.text(), "{}");

        let mut client = server.connect();
        let mut stream = client.stream.try_clone().unwrap();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n",
            chat_path()
        );
        let sending = thread::spawn(move || {
            let mut sent = stream.write_all(head.as_bytes());
            while sent.is_ok() {
                sent = stream.write_all(line.as_bytes());
            }
        });
        client.answer(Sent::Other).check_refusal(431, 7000);
        sending.join().unwrap();
    });
    assert!(needed < (4 << 20) + LARGE_PAGE, "{needed} bytes");
    let records = server.records_once(22);
    let ends: Vec<_> = records[20..]
        .iter()
        .map(|record| &record["outcome"])
        .collect();
    assert_eq!(ends, ["upstream_cut", "refused"]);
}
