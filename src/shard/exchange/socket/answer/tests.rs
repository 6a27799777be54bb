use std::{rc::Rc, task::Waker};

use proptest::prelude::*;

use super::*;
use crate::shard::exchange::socket::hub::Hub;

const IDS: &str = "cf-aig-event-id: mine\r\ncf-aig-log-id: log\r\ncf-aig-step: 1\r\ncf-aig-cache-status: MISS\r\n";

/// The texts of the frames in what a server sends.
fn texts(mut bytes: &[u8]) -> Vec<Value> {
    let mut texts = Vec::new();
    while let [0x81, short, rest @ ..] = bytes {
        let (size, rest) = match short {
            126 => {
                let (size, rest) = rest.split_first_chunk().unwrap();
                (usize::from(u16::from_be_bytes(*size)), rest)
            }
            127 => {
                let (size, rest) = rest.split_first_chunk().unwrap();
                (usize::try_from(u64::from_be_bytes(*size)).unwrap(), rest)
            }
            small => (usize::from(*small), rest),
        };
        let (text, rest) = rest.split_at(size);
        texts.push(serde_json::from_slice(text).unwrap());
        bytes = rest;
    }
    assert_eq!(bytes, b"");
    texts
}

/// The frames that come of an answer in pieces.
fn frames<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<Value> {
    let mut reading = Reading::new(Some("mine".to_owned()));
    let mut out = Vec::new();
    for piece in pieces {
        reading.take(piece, &mut out);
    }
    reading.end(&mut out);
    texts(&out)
}

fn response(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{fields}\r\n{IDS}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

const JSON: &str = "content-type: application/json";
const EVENTS: &str = "content-type: text/event-stream";

#[track_caller]
fn check(bytes: &[u8], wanted: &[Value]) {
    assert_eq!(frames([bytes]), wanted);
}

fn metadata(content_type: &str, status: u16) -> Value {
    json!({
        "cacheStatus": "MISS",
        "eventId": "mine",
        "logId": "log",
        "step": "1",
        "contentType": content_type,
        "status": status,
    })
}

#[test]
fn an_answer_of_json_is_one_frame_and_its_end() {
    let metadata = metadata("application/json", 200);
    check(
        &response("200 OK", JSON, br#"{"n":1.50}"#),
        &[
            json!({"type": "universal.created", "metadata": metadata, "response": serde_json::from_str::<Value>(r#"{"n":1.50}"#).unwrap()}),
            json!({"type": "universal.done", "metadata": metadata}),
        ],
    );
}

#[test]
fn events_are_frames_and_the_mark_of_their_end_is_none() {
    let metadata = metadata("text/event-stream", 200);
    let body =
        b": hi\n\ndata: {\"a\":1}\n\nevent: named\ndata: {\"b\":\ndata: 2}\n\ndata: text\n\ndata: [DONE]\n\n";
    let event = json!({"eventId": "mine"});
    check(
        &response("200 OK", EVENTS, body),
        &[
            json!({"type": "universal.created", "metadata": metadata}),
            json!({"type": "universal.stream", "metadata": event, "response": {"a": 1}}),
            json!({"type": "universal.stream", "metadata": event, "event": "named", "response": {"b": 2}}),
            json!({"type": "universal.stream", "metadata": event, "response": "text"}),
            json!({"type": "universal.done", "metadata": metadata}),
        ],
    );
}

#[test]
fn what_is_no_json_is_a_string_and_what_is_no_text_is_base64() {
    let check = |fields: &str, body: &[u8], response_text: &str, encoding: Option<&str>| {
        let frames = frames([&response("200 OK", fields, body)[..]]);
        assert_eq!(frames[0]["response"], response_text);
        assert_eq!(frames[0]["metadata"]["encoding"], json!(encoding));
        assert_eq!(frames[1]["metadata"], frames[0]["metadata"]);
    };
    check("content-type: text/plain", b"[1]", "[1]", None);
    check(JSON, b"{\"a\":", "{\"a\":", None);
    check(
        "content-type: audio/mpeg",
        b"\xff\xfb",
        "//s=",
        Some("base64"),
    );
    let zipped = format!("{JSON}\r\ncontent-encoding: gzip");
    check(&zipped, b"{}", "e30=", Some("base64"));
    check("x-a: b", b"", "", None);
}

#[test]
fn a_failure_is_an_error_whoever_it_is_of() {
    let ours = br#"{"success":false,"error":[{"code":2003,"message":"Rate limited"}],"name":"AiGatewayError","description":"wait"}"#;
    let fields = format!("{JSON}\r\nretry-after: 7");
    let all = frames([&response("429 Too Many Requests", &fields, ours)[..]]);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["type"], "universal.error");
    assert_eq!(
        all[0]["error"],
        json!([{"code": 2003, "message": "Rate limited"}])
    );
    assert_eq!(all[0]["description"], "wait");
    assert_eq!(all[0]["metadata"]["status"], 429);
    assert_eq!(all[0]["metadata"]["retryAfter"], 7);

    let all = frames([&response("404 Not Found", JSON, br#"{"error":"no such model"}"#)[..]]);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["type"], "universal.error");
    assert_eq!(all[0]["error"][0]["code"], 2005);
    assert_eq!(all[0]["response"], json!({"error": "no such model"}));
    assert_eq!(all[0]["metadata"]["eventId"], "mine");
}

#[test]
fn an_answer_that_breaks_off_ends_in_an_error() {
    let check = |bytes: &[u8], types: &[&str], status: u64| {
        let all = frames([bytes]);
        let found: Vec<_> = all
            .iter()
            .map(|frame| frame["type"].as_str().unwrap())
            .collect();
        assert_eq!(found, types);
        let last = all.last().unwrap();
        assert_eq!(last["metadata"]["eventId"], "mine");
        assert_eq!(last["metadata"]["status"], status);
        assert!(last["error"][0]["code"].is_number());
    };
    let whole = response("200 OK", JSON, b"{}");
    check(&whole[..whole.len() - 1], &["universal.error"], 200);
    let events = response("200 OK", EVENTS, b"data: 1\n\ndata: 2\n\n");
    check(
        &events[..events.len() - 1],
        &["universal.created", "universal.stream", "universal.error"],
        200,
    );
    check(b"", &["universal.error"], 500);
    check(b"HTTP/1.1 200 OK\r\n", &["universal.error"], 500);
    check(b"garbage\r\n\r\n", &["universal.error"], 500);
}

#[test]
fn an_answer_to_the_end_of_its_connection_is_whole_unless_it_was_cut() {
    let bytes = format!("HTTP/1.1 200 OK\r\n{JSON}\r\n\r\n{{}}").into_bytes();
    for cut in [false, true] {
        let mut reading = Reading::new(None);
        let mut out = Vec::new();
        reading.take(&bytes, &mut out);
        reading.is_cut = cut;
        reading.end(&mut out);
        let wanted = if cut {
            "universal.error"
        } else {
            "universal.created"
        };
        assert_eq!(texts(&out)[0]["type"], wanted);
    }
}

#[test]
fn what_is_too_large_for_a_frame_is_said_once_and_not_held() {
    let large = format!("HTTP/1.1 200 OK\r\n{JSON}\r\ncontent-length: 99999999\r\n\r\n");
    let mut reading = Reading::new(None);
    let mut out = Vec::new();
    reading.take(large.as_bytes(), &mut out);
    let piece = vec![b' '; ANSWER_BYTES_MAX / 2];
    for _ in 0..4 {
        reading.take(&piece, &mut out);
    }
    assert_eq!(reading.gathered(), 0);
    reading.end(&mut out);
    let all = texts(&out);
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!(all[0]["type"], "universal.error");

    let event = vec![b'x'; EVENT_BYTES_MAX + 1];
    let body = [b"data: 1\n\ndata: ", &event[..], b"\n\ndata: 2\n\n"].concat();
    let all = frames(response("200 OK", EVENTS, &body).chunks(1 << 20));
    let (last, before) = all.split_last().unwrap();
    assert_eq!(last["type"], "universal.error");
    // What stands in the same read goes out with what came before it.
    assert!(before.iter().all(|frame| frame["type"] != "universal.done"));
    assert!(
        before
            .iter()
            .all(|frame| frame["type"] != "universal.error")
    );
}

#[test]
fn one_answer_of_a_socket_at_a_time_is_large_and_the_next_follows_it() {
    let hub = Rc::new(Hub::default());
    let waker = Waker::noop();
    let mut cx = Context::from_waker(waker);
    let answer = || Answer::new(Hub::enter(&hub, None, 0), None);
    let (first, second) = (answer(), answer());
    let head = format!("HTTP/1.1 200 OK\r\n{JSON}\r\ncontent-length: 99999999\r\n\r\n");
    let piece = vec![b' '; SHARE_BYTES];
    let take = |answer: &Answer, bytes: &[u8], cx: &mut Context<'_>| {
        answer.poll_take(bytes, cx).map(|taken| taken.is_ok())
    };
    for answer in [&first, &second] {
        assert_eq!(take(answer, head.as_bytes(), &mut cx), Poll::Ready(true));
        assert_eq!(take(answer, &piece, &mut cx), Poll::Ready(true));
    }
    assert_eq!(take(&first, b" ", &mut cx), Poll::Ready(true));
    assert_eq!(take(&second, b" ", &mut cx), Poll::Pending);
    drop(first);
    assert_eq!(take(&second, b" ", &mut cx), Poll::Ready(true));
    hub.hang_up();
    assert_eq!(take(&second, b" ", &mut cx), Poll::Ready(false));
}

#[test]
fn an_answer_waits_while_too_much_waits_to_be_sent() {
    let hub = Rc::new(Hub::default());
    let mut cx = Context::from_waker(Waker::noop());
    let answer = Answer::new(Hub::enter(&hub, None, 0), None);
    hub.push(&vec![0; 1 << 20]);
    assert!(!hub.has_room());
    assert!(answer.poll_take(b"H", &mut cx).is_pending());
    let mut spare = Vec::new();
    assert!(hub.poll_ready(&mut spare, &mut cx).is_ready());
    assert!(hub.has_room());
    assert!(answer.poll_take(b"H", &mut cx).is_ready());
}

proptest! {
    #[test]
    fn frames_are_the_same_however_the_answer_is_cut(step in 1_usize..60, chunk in 1_usize..30) {
        let body = b"data: {\"a\":1}\r\n\r\nevent: e\ndata: {\"b\":2}\n\ndata: [DONE]\n\n";
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".to_vec();
        bytes.extend_from_slice(format!("HTTP/1.1 200 OK\r\n{EVENTS}\r\n{IDS}transfer-encoding: chunked\r\n\r\n").as_bytes());
        for piece in body.chunks(chunk) {
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        let whole = frames([&bytes[..]]);
        prop_assert_eq!(whole.len(), 4);
        prop_assert_eq!(whole, frames(bytes.chunks(step)));
    }
}
