//! WebSockets pass through: the handshake as HTTP, then bytes both ways, and none before.

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    client::{Sent, is_timeout},
    server::{LOCKED, OPEN, STORED, Server, Setup, TOKEN},
    upstream::{Peer, Upstream, count, last_request, mock},
    wait::{SOON, wait_until},
    websocket::{BINARY, CLOSE, TEXT, frame, handshake, read_frame},
};

#[test]
fn frames_pass_both_ways() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut client = server.connect();
    client.send(&handshake(
        &format!("{OPEN}/openai?model=gpt-realtime&mock=greet"),
        "",
    ));
    let answer = client.answer_head();
    assert_eq!(answer.status, 101, "{}", answer.head);
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    assert_eq!(
        answer.field("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    let (_, greeting) = read_frame(&mut client);
    let greeting: Value = serde_json::from_slice(&greeting).unwrap();
    assert_eq!(greeting["type"], "session.created");
    let request = &mock.requests(1)["requests"][0];
    assert_eq!(
        request["path"],
        "/openai/v1/realtime?model=gpt-realtime&mock=greet"
    );
    let headers = request["headers"].to_string();
    assert!(headers.contains(STORED), "{headers}");

    for round in 0..20_u8 {
        let text = format!("{{\"round\":{round}}}");
        client.send(&frame(TEXT, text.as_bytes()));
        assert_eq!(read_frame(&mut client), (TEXT, text.into_bytes()));
    }
    let large: Vec<u8> = (0..300_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 2])
        .collect();
    client.send(&frame(BINARY, &large));
    assert_eq!(read_frame(&mut client), (BINARY, large));
    client.send(&frame(CLOSE, &1000_u16.to_be_bytes()));
    assert_eq!(
        read_frame(&mut client),
        (CLOSE, 1000_u16.to_be_bytes().to_vec())
    );
    assert_eq!(client.rest(), b"");
    let record = &server.records_once(1)[0];
    assert_eq!(record["status_code"], 101, "{record:#}");
    assert_eq!(record["outcome"], "ok", "{record:#}");
}

#[test]
fn frames_right_behind_the_handshake_arrive() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut client = server.connect();
    let mut bytes = handshake(&format!("{OPEN}/openai?model=m"), "");
    bytes.extend_from_slice(&frame(TEXT, b"early"));
    client.send(&bytes);
    assert_eq!(client.answer_head().status, 101);
    assert_eq!(read_frame(&mut client), (TEXT, b"early".to_vec()));
}

#[test]
fn a_browser_shows_its_token_as_a_subprotocol() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let path = format!("{LOCKED}/openai?model=m");
    let mut client = server.connect();
    let lines = format!(
        "Sec-WebSocket-Protocol: realtime, cf-aig-authorization.{TOKEN}, openai-beta.realtime-v1\r\n"
    );
    client.send(&handshake(&path, &lines));
    let answer = client.answer_head();
    assert_eq!(answer.status, 101, "{}", answer.head);
    assert_eq!(answer.field("sec-websocket-protocol"), Some("realtime"));
    let request = mock.requests(1)["requests"][0].to_string();
    assert!(!request.contains(TOKEN), "{request}");
    assert!(request.contains("openai-beta.realtime-v1"), "{request}");

    // With the token alone, the answer must still name an offered protocol.
    let mut client = server.connect();
    let offered = format!("cf-aig-authorization.{TOKEN}");
    client.send(&handshake(
        &path,
        &format!("Sec-WebSocket-Protocol: {offered}\r\n"),
    ));
    let answer = client.answer_head();
    assert_eq!(answer.status, 101, "{}", answer.head);
    assert_eq!(answer.field("sec-websocket-protocol"), Some(&*offered));
    assert!(!mock.requests(1).to_string().contains(TOKEN));

    for lines in [
        "",
        "Sec-WebSocket-Protocol: realtime\r\n",
        "Sec-WebSocket-Protocol: cf-aig-authorization.wrong\r\n",
    ] {
        let mut client = server.connect();
        client.send(&handshake(&path, lines));
        client.answer(Sent::Other).check_refusal(401, 2009);
    }
    assert_eq!(count(&mock, "providers/openai/websocket/requests"), 2);
}

#[test]
fn a_refused_handshake_is_an_ordinary_answer() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut client = server.connect();
    client.send(&handshake(
        &format!("{OPEN}/openai?model=m&mock=status=401"),
        "",
    ));
    let answer = client.answer(Sent::Other);
    assert_eq!((answer.status, answer.whole), (401, true));
    assert_eq!(answer.field("upgrade"), None, "{}", answer.head);
    assert_eq!(last_request(&mock)["status"], 401);
}

#[test]
fn nothing_is_tunnelled_before_a_101() {
    // Answers the handshake with 200, and then notes whatever else comes.
    let behind: Arc<Mutex<Vec<u8>>> = Arc::default();
    let noted = Arc::clone(&behind);
    let upstream = Upstream::start(move |peer| {
        peer.head();
        peer.answer("{}");
        noted.lock().unwrap().extend_from_slice(&peer.rest());
    });
    let server = Setup::scripted(upstream.address).top("shards = 1").start();
    let mut client = server.connect();
    let mut bytes = handshake(&format!("{OPEN}/openai/v1/realtime?model=m"), "");
    bytes.extend_from_slice(b"GET /internal HTTP/1.1\r\nHost: api.openai.com\r\n\r\n");
    client.send(&bytes);
    let answer = client.answer(Sent::Other);
    assert_eq!(answer.status, 200);
    // What came behind is HTTP to the gateway, and leads nowhere.
    if answer.field("connection") != Some("close") {
        client.answer(Sent::Other).check_refusal(404, 7003);
    }
    drop(client);
    drop(server);
    wait_until("the provider to be left", || upstream.ended() >= 1);
    assert_eq!(String::from_utf8_lossy(&behind.lock().unwrap()), "");
}

#[test]
fn either_end_of_a_tunnel_ends_the_other() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut client = server.connect();
    client.send(&handshake(&format!("{OPEN}/openai?model=m&mock=cut=1"), ""));
    assert_eq!(client.answer_head().status, 101);
    client.send(&frame(TEXT, b"x"));
    read_frame(&mut client);
    assert_eq!(client.rest(), b"", "the provider's end");

    let mut client = server.connect();
    client.send(&handshake(&format!("{OPEN}/openai?model=m"), ""));
    assert_eq!(client.answer_head().status, 101);
    drop(client);
    wait_until("the provider to hear of it", || {
        count(&mock, "in_flight") == 0
    });
    server.records_once(2);
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A provider that switches protocols and then does as it is told.
fn switching(then: impl Fn(&mut Peer) + Send + Sync + 'static) -> (Upstream, Server) {
    let upstream = Upstream::start(move |peer| {
        peer.head();
        peer.send(SWITCH);
        then(peer);
    });
    let lines = format!(
        "base_url = \"http://{}\"\nidle_timeout = \"400ms\"",
        upstream.address
    );
    let server = Setup::new().provider("openai", &lines).start();
    (upstream, server)
}

#[test]
fn a_caller_that_takes_no_frames_is_given_up() {
    let (upstream, server) = switching(|peer| while peer.send([0; 8 * 1024]) {});
    let mut client = server.connect();
    client.send(&handshake(&format!("{OPEN}/openai?model=m"), ""));
    assert_eq!(client.answer_head().status, 101);
    wait_until("the provider to be left", || upstream.ended() == 1);
    let record = &server.records_once(1)[0];
    assert_eq!(record["outcome"], "cancelled", "{record:#}");
    assert!(
        record["error"].as_str().unwrap().contains("in time"),
        "{record:#}"
    );
    drop(client);
}

#[test]
fn a_provider_that_takes_no_frames_is_given_up() {
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let (_upstream, server) = switching(move |_| {
        let _ = wait.lock().unwrap().recv();
    });
    let mut client = server.connect();
    client.send(&handshake(&format!("{OPEN}/openai?model=m"), ""));
    assert_eq!(client.answer_head().status, 101);
    client.stream.set_write_timeout(Some(SOON)).unwrap();
    let error = loop {
        if let Err(error) = client.stream.write_all(&[0; 8 * 1024]) {
            break error;
        }
    };
    assert!(!is_timeout(&error), "{error}");
    let record = &server.records_once(1)[0];
    assert_eq!(record["outcome"], "upstream_cut", "{record:#}");
    assert!(
        record["error"].as_str().unwrap().contains("in time"),
        "{record:#}"
    );
    drop(go_on);
}

#[test]
fn a_silent_tunnel_stays_open() {
    let (_upstream, server) = switching(|peer| {
        peer.take(1);
        peer.send("y");
        peer.rest();
    });
    let mut client = server.connect();
    client.send(&handshake(&format!("{OPEN}/openai?model=m"), ""));
    assert_eq!(client.answer_head().status, 101);
    client.patience(Duration::from_millis(1200));
    assert!(!client.is_readable(), "it ended while nobody said anything");
    client.patience(SOON);
    client.send(b"x");
    assert_eq!(client.take(1), b"y");
}

#[test]
fn a_provider_that_does_not_read_is_heard_all_the_same() {
    let (speak, word) = std::sync::mpsc::channel::<()>();
    let word = Mutex::new(word);
    let upstream = Upstream::start(move |peer| {
        peer.head();
        peer.send(SWITCH);
        while word.lock().unwrap().recv().is_ok() && peer.send("word") {}
    });
    let server = Setup::scripted(upstream.address).start();
    let mut client = server.connect();
    client.send(&handshake(&format!("{OPEN}/openai?model=m"), ""));
    assert_eq!(client.answer_head().status, 101);
    let patience = Some(Duration::from_millis(500));
    client.stream.set_write_timeout(patience).unwrap();
    while client.stream.write_all(&[0; 8 * 1024]).is_ok() {}
    for _ in 0..3 {
        speak.send(()).unwrap();
        assert_eq!(client.take(4), b"word");
    }
}
