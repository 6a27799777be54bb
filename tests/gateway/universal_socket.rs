//! The universal endpoint over a WebSocket: what comes over it is what would have come over HTTP.

use std::{
    collections::HashMap,
    fs,
    sync::{Mutex, mpsc},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    client::{Sent, chat, chat_stream, get, post, post_with},
    server::{LOCKED, OPEN, READ_TOKEN, Server, Setup, TOKEN},
    upstream::{Upstream, count, last_request, mock},
    wait::{wait_until, wait_until_calm},
    websocket::{BINARY, CLOSE, PING, PONG, Socket, TEXT, frame, handshake, is_end, read_frame},
};

fn token() -> String {
    format!("cf-aig-authorization: Bearer {TOKEN}\r\n")
}

fn open(server: &Server) -> Socket {
    Socket::open(server, OPEN, &token())
}

/// A step with a body of its own, and commands for the mock provider.
fn step_of(body: &str, commands: &str) -> Value {
    let body: Value = serde_json::from_str(body).unwrap();
    json!({"provider": "openai", "endpoint": "chat/completions", "headers": {"x-mock": commands}, "query": body})
}

fn step(commands: &str) -> Value {
    step_of(&chat(""), commands)
}

fn stream(commands: &str) -> Value {
    step_of(&chat_stream(""), commands)
}

fn create(id: &str, mut request: Value) -> Value {
    request["eventId"] = json!(id);
    json!({"type": "universal.create", "request": request})
}

/// What differs from one answer of the mock provider to the next.
fn without_ids(mut answer: Value) -> Value {
    for name in ["id", "created"] {
        answer.as_object_mut().unwrap().remove(name);
    }
    answer
}

#[track_caller]
fn types(messages: &[Value]) -> Vec<&str> {
    let types = messages.iter().map(|message| message["type"].as_str());
    types.map(Option::unwrap).collect()
}

#[track_caller]
fn check_error(message: &Value, id: &Value, status: u16, code: u64) {
    assert_eq!(message["type"], "universal.error", "{message:#}");
    assert_eq!(message["metadata"]["eventId"], *id, "{message:#}");
    assert_eq!(message["metadata"]["status"], status, "{message:#}");
    assert_eq!(message["error"][0]["code"], code, "{message:#}");
    assert!(
        message["error"][0]["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    assert!(
        message["description"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{message:#}"
    );
}

#[test]
fn a_request_over_a_socket_has_the_answer_that_it_has_over_http() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let over_http = server
        .ask(&post(OPEN, &json!([step("")]).to_string()))
        .json();
    let mut socket = open(&server);
    socket.say(&create("first", step("")));
    let messages = socket.hear_all();
    assert_eq!(types(&messages), ["universal.created", "universal.done"]);
    let created = &messages[0];
    assert_eq!(
        without_ids(created["response"].clone()),
        without_ids(over_http)
    );
    let record = &server.records_once(2)[1];
    let metadata = json!({
        "cacheStatus": null,
        "eventId": "first",
        "logId": record["id"],
        "step": "0",
        "contentType": "application/json",
        "status": 200,
    });
    assert_eq!(created["metadata"], metadata);
    assert_eq!(messages[1]["metadata"], metadata);
    assert_eq!(record["event_id"], "first");
    assert_eq!(record["outcome"], "ok");
    assert_eq!(record["status_code"], 200);
    assert_eq!(record["key"], "app", "{record:#}");
    assert!(
        record["tokens_in"]
            .as_u64()
            .is_some_and(|tokens| tokens > 0)
    );
    let seen = last_request(&mock);
    assert_eq!(seen["path"], "/openai/v1/chat/completions");
    let seen = seen.to_string();
    assert!(
        !seen.contains(TOKEN) && !seen.contains("sec-websocket"),
        "{seen}"
    );

    // Without an id of the caller's, the request's own is the event's.
    socket.say(&json!({"type": "universal.create", "request": [step("")]}));
    let messages = socket.hear_all();
    let metadata = &messages[0]["metadata"];
    assert_eq!(metadata["eventId"], metadata["logId"]);
    let record = &server.records_once(3)[2];
    assert_eq!(record["event_id"], metadata["eventId"]);
}

#[test]
fn the_events_of_a_stream_are_those_over_http() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let answer = server.ask(&post(OPEN, &json!([stream("events=20")]).to_string()));
    let text = answer.text();
    let over_http: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| without_ids(serde_json::from_str(data).unwrap()))
        .collect();
    assert!(over_http.len() > 20);
    let mut socket = open(&server);
    socket.say(&create("s", stream("events=20")));
    let messages = socket.hear_all();
    let (first, rest) = messages.split_first().unwrap();
    let (last, events) = rest.split_last().unwrap();
    assert_eq!(first["type"], "universal.created");
    assert_eq!(
        first["metadata"]["contentType"],
        "text/event-stream; charset=utf-8"
    );
    assert_eq!(first.get("response"), None);
    assert_eq!(
        (&last["type"], &last["metadata"]),
        (&json!("universal.done"), &first["metadata"])
    );
    let over_socket: Vec<Value> = events
        .iter()
        .map(|event| {
            assert_eq!(event["type"], "universal.stream");
            assert_eq!(event["metadata"], json!({"eventId": "s"}));
            without_ids(event["response"].clone())
        })
        .collect();
    assert_eq!(over_socket, over_http);
    let records = server.records_once(2);
    assert_eq!(records[1]["tokens_out"], records[0]["tokens_out"]);
    assert_eq!(records[1]["stream"], true, "{:#}", records[1]);
}

#[test]
fn requests_in_flight_do_not_wait_for_each_other() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut socket = open(&server);
    socket.say(&create("hangs", step("hang")));
    wait_until("it to be asked", || count(&mock, "in_flight") == 1);
    for (id, events) in [("a", 30), ("b", 31), ("c", 32)] {
        socket.say(&create(
            id,
            stream(&format!("events={events},event_delay=5")),
        ));
    }
    socket.say(&create("plain", step("")));
    let mut of = HashMap::<String, Vec<Value>>::new();
    let mut order = Vec::new();
    let mut ended = 0;
    while ended < 4 {
        let message = socket.hear();
        ended += usize::from(is_end(&message));
        let id = message["metadata"]["eventId"].as_str().unwrap().to_owned();
        order.push(id.clone());
        of.entry(id).or_default().push(message);
    }
    assert_eq!(types(&of["plain"]), ["universal.created", "universal.done"]);
    for id in ["a", "b", "c"] {
        assert!(of[id].len() > 30, "{id}");
    }
    order.dedup();
    assert!(order.len() > 8, "they come in turns: {order:?}");
    assert_eq!(of.get("hangs"), None);
    // A name is free again when its request has ended, and no sooner.
    socket.say(&create("hangs", step("")));
    check_error(&socket.hear(), &json!("hangs"), 400, 7000);
    socket.say(&create("a", step("")));
    assert_eq!(
        types(&socket.hear_all()),
        ["universal.created", "universal.done"]
    );
    server.records_once(5);
}

#[test]
fn steps_follow_each_other_over_a_socket_too() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut socket = open(&server);
    let steps = json!([step("status=500"), stream("")]);
    for message in [
        json!({"type": "universal.create", "eventId": "e0", "request": steps}),
        json!({"type": "universal.create", "request": {"eventId": "e1", "providers": steps}}),
    ] {
        socket.say(&message);
        let messages = socket.hear_all();
        assert_eq!(messages[0]["metadata"]["step"], "1", "{:#}", messages[0]);
        assert_eq!(types(&messages).last(), Some(&"universal.done"));
    }
    let records = server.records_once(4);
    let events: Vec<_> = records.iter().map(|record| &record["event_id"]).collect();
    assert_eq!(events, ["e0", "e0", "e1", "e1"]);

    // The last step's failure is the provider's own.
    socket.say(&create("f", step("status=404")));
    let failed = socket.hear();
    check_error(&failed, &json!("f"), 404, 2005);
    assert!(failed["response"]["error"].is_object(), "{failed:#}");
    assert!(failed["metadata"]["logId"].is_string());
}

#[test]
fn limits_and_cache_are_those_of_the_gateway() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .gateway("cache_ttl = 60\nrate_limiting_limit = 2\nrate_limiting_interval = 86400")
        .start();
    let mut socket = open(&server);
    for (round, status) in ["MISS", "HIT", "HIT"].into_iter().enumerate() {
        socket.say(&create("c", step("")));
        let messages = socket.hear_all();
        assert_eq!(messages[0]["metadata"]["cacheStatus"], status, "{round}");
        assert!(messages[0]["response"]["choices"].is_array());
    }
    // A hit over HTTP of what came over the socket.
    let answer = server.ask(&post(OPEN, &json!([step("")]).to_string()));
    assert_eq!(answer.field("cf-aig-cache-status"), Some("HIT"));
    assert_eq!(count(&mock, "total/requests"), 1);
    let fresh = |id: &str| {
        let mut step = step("");
        step["headers"]["cf-aig-skip-cache"] = json!(true);
        create(id, step)
    };
    socket.say(&fresh("second"));
    assert_eq!(
        types(&socket.hear_all()),
        ["universal.created", "universal.done"]
    );
    socket.say(&fresh("third"));
    let refused = socket.hear();
    check_error(&refused, &json!("third"), 429, 2003);
    assert!(refused["metadata"]["retryAfter"].is_u64(), "{refused:#}");
    assert!(refused["metadata"]["logId"].is_string(), "{refused:#}");
    assert_eq!(count(&mock, "total/requests"), 2);
}

#[test]
fn what_is_no_request_is_an_error_and_the_socket_stays_open() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut socket = open(&server);
    for text in ["", "{", "[]", "hello", r#"{"request":{}}"#] {
        socket.send(TEXT, text.as_bytes());
        check_error(&socket.hear(), &Value::Null, 400, 7000);
    }
    for (message, code) in [
        (json!({"type": "universal.cancel", "eventId": "x"}), 7000),
        (json!({"type": "universal.create", "eventId": "x"}), 7000),
        (
            json!({"type": "universal.create", "eventId": "x", "request": 7}),
            7000,
        ),
        (
            json!({"type": "universal.create", "eventId": "x", "request": []}),
            7000,
        ),
        (
            json!({"type": "universal.create", "eventId": "x", "request": {"provider": "openai"}}),
            7000,
        ),
        (
            create(
                "x",
                json!({"provider": "nobody", "endpoint": "a", "query": {}}),
            ),
            2008,
        ),
        (
            create(
                "x",
                json!({"provider": "groq", "endpoint": "a", "query": {}}),
            ),
            7000,
        ),
    ] {
        socket.say(&message);
        check_error(&socket.hear(), &json!("x"), 400, code);
    }
    socket.say(&json!({"type": "universal.create", "request": {"eventId": 7}}));
    check_error(&socket.hear(), &Value::Null, 400, 7000);
    socket.say(&create("last", step("")));
    assert_eq!(
        types(&socket.hear_all()),
        ["universal.created", "universal.done"]
    );
    assert_eq!(count(&mock, "total/requests"), 1);
}

#[test]
fn answers_that_are_no_json_and_answers_that_break_off_are_told_apart() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            let body = match &*String::from_utf8(request.body).unwrap() {
                "\"audio\"" => "Content-Type: audio/mpeg\r\nContent-Length: 2\r\n\r\n",
                "\"text\"" => "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi",
                "\"cut\"" => "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
                _ => {
                    "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n7\r\ndata: 2\r\n"
                }
            };
            peer.send("HTTP/1.1 200 OK\r\n");
            peer.send(body);
            if body.contains("audio") {
                peer.send([0xff, 0xfb]);
            }
            if !body.contains(": 2\r\n\r\n") {
                return;
            }
        }
    });
    let server = Setup::scripted(upstream.address).start();
    let mut socket = open(&server);
    let ask = |what: &str| {
        create(
            what,
            json!({"provider": "openai", "endpoint": "v1/x", "query": what}),
        )
    };
    socket.say(&ask("audio"));
    let messages = socket.hear_all();
    assert_eq!(messages[0]["response"], "//s=");
    assert_eq!(messages[0]["metadata"]["encoding"], "base64");
    socket.say(&ask("text"));
    assert_eq!(socket.hear_all()[0]["response"], "hi");
    socket.say(&ask("cut"));
    check_error(&socket.hear(), &json!("cut"), 200, 2005);
    socket.say(&ask("stream"));
    let messages = socket.hear_all();
    assert_eq!(
        types(&messages),
        ["universal.created", "universal.stream", "universal.error"]
    );
    check_error(&messages[2], &json!("stream"), 200, 2005);
    let records = server.records_once(4);
    let outcomes: Vec<_> = records.iter().map(|record| &record["outcome"]).collect();
    assert_eq!(outcomes, ["ok", "ok", "upstream_cut", "upstream_cut"]);
}

#[test]
fn a_large_answer_is_one_message_and_does_not_lose_the_others() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut socket = open(&server);
    for id in ["a", "b", "c"] {
        socket.say(&create(id, step("size=3000000")));
    }
    socket.say(&create("small", step("")));
    let mut ended = 0;
    let mut sizes = HashMap::new();
    while ended < 4 {
        let message = socket.hear();
        ended += usize::from(is_end(&message));
        if message["type"] == "universal.created" {
            let size = message["response"].to_string().len();
            sizes.insert(
                message["metadata"]["eventId"].as_str().unwrap().to_owned(),
                size,
            );
        }
    }
    for id in ["a", "b", "c"] {
        assert!(sizes[id] > 2_900_000, "{sizes:?}");
    }
    assert!(sizes["small"] < 10_000);
}

#[test]
fn what_the_protocol_forbids_closes_the_socket_with_its_code() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .tables("[limits]\ngather_bytes = \"16KiB\"\nbody_timeout = \"300ms\"")
        .start();
    let large = frame(TEXT, &vec![b' '; 16 * 1024 + 1]);
    let control = frame(PING, &[0; 126]);
    let half = frame(TEXT, b"{\"type\":");
    for (bytes, code) in [
        (&[TEXT, 2, b'{', b'}'][..], 1002),
        (&frame(0xc1, b"{}"), 1002),
        (&frame(0x83, b"{}"), 1002),
        (&frame(0x80, b"{}"), 1002),
        (&control, 1002),
        (&frame(CLOSE, b"x"), 1002),
        (&frame(BINARY, b"{}"), 1003),
        (&frame(TEXT, b"\xff\xfe"), 1007),
        (&large, 1009),
        // The rest of a message that never comes.
        (&half[..half.len() - 1], 1008),
        (&frame(0x01, b"{"), 1008),
    ] {
        let mut socket = open(&server);
        socket.client.send(bytes);
        assert_eq!(socket.closed(), Some(code), "{:?}", &bytes[..2]);
    }
    // Just fits.
    let mut socket = open(&server);
    socket.send(TEXT, &[b' '; 16 * 1024]);
    check_error(&socket.hear(), &Value::Null, 400, 7000);
}

#[test]
fn a_message_may_come_in_parts_with_pings_between_them() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut client = server.connect();
    // The first frame right behind the handshake.
    let mut bytes = handshake(OPEN, &token());
    bytes.extend_from_slice(&frame(PING, b"early"));
    let message = create("parts", step("")).to_string();
    let (start, rest) = message.as_bytes().split_at(20);
    bytes.extend_from_slice(&frame(0x01, start));
    client.send(&bytes);
    assert_eq!(client.answer_head().status, 101);
    assert_eq!(read_frame(&mut client), (PONG, b"early".to_vec()));
    let mut socket = Socket { client };
    socket.send(PONG, b"unasked");
    for byte in rest {
        socket.send(0x00, &[*byte]);
    }
    socket.send(PING, b"");
    assert_eq!(read_frame(&mut socket.client), (PONG, Vec::new()));
    let end = frame(0x80, b"");
    socket.client.trickle(&end);
    assert_eq!(
        types(&socket.hear_all()),
        ["universal.created", "universal.done"]
    );
    socket.send(CLOSE, &[&1000_u16.to_be_bytes()[..], b"bye"].concat());
    assert_eq!(socket.closed(), Some(1000));
    let mut socket = open(&server);
    socket.send(CLOSE, b"");
    assert_eq!(socket.closed(), None);
}

#[test]
fn a_caller_who_leaves_takes_all_that_is_in_flight_with_him() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    for (round, closes) in [false, true].into_iter().enumerate() {
        let mut socket = open(&server);
        socket.say(&create("hangs", step("hang")));
        socket.say(&create("streams", stream("events=100000,event_delay=5")));
        assert_eq!(socket.hear()["type"], "universal.created");
        wait_until("both to be asked", || count(&mock, "in_flight") == 2);
        if closes {
            socket.send(CLOSE, &1000_u16.to_be_bytes());
            while read_frame(&mut socket.client).0 != CLOSE {}
        } else {
            drop(socket);
        }
        let gone = 2 * (round as u64 + 1);
        wait_until("the provider to hear of it", || {
            count(&mock, "aborted_by_peer/count") == gone
        });
    }
    for record in server.records_once(4) {
        assert_eq!(record["outcome"], "cancelled", "{record:#}");
    }
    // An idle socket is nothing in flight; the question itself is.
    let _idle = open(&server);
    wait_until("nothing to be left of them", || {
        server
            .figures()
            .contains("\ntidegate_inflight_requests 1\n")
    });
}

#[test]
fn a_caller_who_takes_nothing_is_given_up() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .tables("[limits]\nidle_timeout = \"1s\"")
        .start();
    let mut socket = open(&server);
    for number in 0..8 {
        socket.say(&create(
            &number.to_string(),
            stream("events=100000,size=50000000"),
        ));
    }
    let records = server.records_once(8);
    assert!(
        records
            .iter()
            .all(|record| record["outcome"] == "cancelled"),
        "{records:#?}"
    );
    wait_until("the providers to be left", || {
        count(&mock, "in_flight") == 0
    });
    drop(socket);
}

#[test]
fn past_so_many_in_flight_the_socket_is_not_read() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |peer| {
        while peer.request().is_some() {
            let _ = wait.lock().unwrap().recv();
            peer.answer("{}");
        }
    });
    let server = Setup::scripted(upstream.address).top("shards = 1").start();
    let mut socket = open(&server);
    for number in 0..50 {
        socket.say(&create(&number.to_string(), step("")));
    }
    let calm = Duration::from_millis(300);
    assert_eq!(wait_until_calm(calm, || upstream.requests()), 32);
    go_on.send(()).unwrap();
    assert_eq!(
        types(&socket.hear_all()),
        ["universal.created", "universal.done"]
    );
    assert_eq!(wait_until_calm(calm, || upstream.requests()), 33);
    // Who has said more than is read, and leaves, is missed all the same.
    let many = frame(PING, b"").repeat(6_000);
    socket.client.send(&many);
    drop(socket);
    let records = server.records_once(33);
    let cancelled = |record: &&Value| record["outcome"] == "cancelled";
    assert_eq!(records.iter().filter(cancelled).count(), 32);
    drop(go_on);
}

#[test]
fn a_drain_ends_what_is_in_flight_and_then_the_socket() {
    let mock = mock();
    let mut server = Setup::over(mock.addr()).start();
    let mut idle = open(&server);
    let mut busy = open(&server);
    busy.say(&create("slow", step("delay=700")));
    busy.say(&create("stream", stream("events=14,event_delay=50")));
    wait_until("both to be asked", || count(&mock, "in_flight") == 2);
    server.signal(Signal::TERM);
    assert_eq!(idle.closed(), Some(1001));
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let message = busy.hear();
        if is_end(&message) {
            ended.push(message["type"].clone());
        }
    }
    assert_eq!(ended, ["universal.done", "universal.done"]);
    assert_eq!(busy.closed(), Some(1001));
    assert_eq!(server.wait().code(), Some(0));
    let records = server.records();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record["outcome"] == "ok"));
}

#[test]
fn nobody_opens_a_socket_without_a_token() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let refused = |path: &str, lines: &str, status: u16, code: u64| {
        let mut client = server.connect();
        client.send(&handshake(path, lines));
        let answer = client.answer(Sent::Other);
        answer.check_refusal(status, code);
        answer
    };
    for path in [OPEN, LOCKED] {
        refused(path, "", 401, 2009);
        refused(path, "cf-aig-authorization: Bearer wrong\r\n", 401, 2009);
        refused(
            path,
            "Sec-WebSocket-Protocol: cf-aig-authorization.wrong\r\n",
            401,
            2009,
        );
        let reader = format!("cf-aig-authorization: Bearer {READ_TOKEN}\r\n");
        refused(path, &reader, 403, 10_000);
        let mut socket = Socket::open(&server, path, &token());
        socket.say(&create("a", step("")));
        assert_eq!(
            types(&socket.hear_all()),
            ["universal.created", "universal.done"]
        );
    }
    refused("/v1/me/nowhere", &token(), 400, 2001);
    // As browsers do.
    let offered = format!("cf-aig-authorization.{TOKEN}");
    for (offer, echo) in [
        (format!("universal, {offered}"), "universal"),
        (offered.clone(), &offered),
    ] {
        let mut client = server.connect();
        client.send(&handshake(
            LOCKED,
            &format!("Sec-WebSocket-Protocol: {offer}\r\n"),
        ));
        let answer = client.answer_head();
        assert_eq!(answer.status, 101, "{}", answer.head);
        assert_eq!(answer.field("sec-websocket-protocol"), Some(echo));
        let mut socket = Socket { client };
        socket.say(&create("a", step("")));
        assert_eq!(
            types(&socket.hear_all()),
            ["universal.created", "universal.done"]
        );
    }
    assert!(!mock.requests(9).to_string().contains(TOKEN));
    // Strangers leave no record.
    for record in server.records_once(4) {
        assert_ne!(record["outcome"], "unauthorized", "{record:#}");
    }
}

#[test]
fn a_handshake_that_is_none_is_refused_in_words() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let good = String::from_utf8(handshake(OPEN, &token())).unwrap();
    let ask = |from: &str, to: &str| {
        assert!(good.contains(from));
        server.ask(good.replacen(from, to, 1).as_bytes())
    };
    let version = "Sec-WebSocket-Version: 13\r\n";
    for other in [
        "",
        "Sec-WebSocket-Version: 8\r\n",
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\n",
    ] {
        let answer = ask(version, other);
        answer.check_refusal(426, 7000);
        assert_eq!(answer.field("sec-websocket-version"), Some("13"));
        assert_eq!(answer.field("upgrade"), Some("websocket"));
    }
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for other in ["", "Sec-WebSocket-Key: short==\r\n", &key.repeat(2)] {
        ask(key, other).check_refusal(400, 7000);
    }
    ask("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\n{}").check_refusal(400, 7000);
    // No upgrade, no socket.
    ask("Upgrade: websocket\r\n", "").check_refusal(405, 7000);
    server.ask(&get(OPEN, &token())).check_refusal(405, 7000);
    assert_eq!(count(&mock, "total/requests"), 0);
}

#[test]
fn a_silent_socket_stays_open_and_has_the_fields_of_its_handshake() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .tables("[limits]\nidle_timeout = \"1s\"\nbody_timeout = \"200ms\"")
        .start();
    let lines = format!(
        "{}cf-aig-metadata: {{\"team\":\"x\"}}\r\ncf-aig-event-id: of-the-handshake\r\n",
        token()
    );
    let mut socket = Socket::open(&server, OPEN, &lines);
    socket.client.patience(Duration::from_millis(1500));
    assert!(
        !socket.client.is_readable(),
        "it ended while nobody said anything"
    );
    socket.client.patience(crate::support::wait::SOON);
    socket.say(&create("late", step("")));
    assert_eq!(
        types(&socket.hear_all()),
        ["universal.created", "universal.done"]
    );
    let record = &server.records_once(1)[0];
    assert_eq!(record["metadata"], json!({"team": "x"}), "{record:#}");
    assert_eq!(record["event_id"], "late");
    // Over HTTP the same fields say the same.
    let answer = server.ask(&post_with(
        OPEN,
        &lines,
        json!([step("")]).to_string().as_bytes(),
    ));
    assert_eq!(answer.field("cf-aig-event-id"), Some("of-the-handshake"));
}

#[test]
fn an_answer_is_read_on_without_its_caller_where_the_gateway_wants_it_so() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .gateway("on_disconnect = \"drain\"")
        .start();
    let mut socket = open(&server);
    let mut step = stream("events=30,event_delay=10");
    step["query"]["stream_options"] = json!({"include_usage": true});
    socket.say(&create("left", step));
    assert_eq!(socket.hear()["type"], "universal.created");
    drop(socket);
    let record = &server.records_once(1)[0];
    assert_eq!(record["outcome"], "cancelled", "{record:#}");
    assert_eq!(record["tokens_out"], 30, "{record:#}");
    assert_eq!(count(&mock, "aborted_by_peer/count"), 0);
    wait_until("the connection to end", || server.connections() == 0);
}

#[test]
fn a_token_that_is_taken_back_is_none_for_open_sockets_either() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut socket = Socket::open(&server, LOCKED, &token());
    socket.say(&create("before", step("")));
    assert_eq!(types(&socket.hear_all()).len(), 2);
    let file = server.folder().join("tidegate.toml");
    let text = fs::read_to_string(&file).unwrap();
    let (start, rest) = text.split_once("[[tokens]]\nname = \"app\"").unwrap();
    let (_, rest) = rest.split_once("[[tokens]]").unwrap();
    fs::write(&file, format!("{start}[[tokens]]{rest}")).unwrap();
    server.signal(Signal::HUP);
    let mut asked = 1;
    wait_until("the token to be unknown", || {
        socket.say(&create("after", step("")));
        let last = socket.hear_all().pop().unwrap();
        if last["type"] == "universal.done" {
            asked += 1;
            return false;
        }
        check_error(&last, &json!("after"), 401, 2009);
        true
    });
    assert_eq!(count(&mock, "total/requests"), asked);
}
