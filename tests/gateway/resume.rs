//! Streams that go on where their callers lost them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::support::{
    client::{Answer, Client, chat_stream, get, post_with},
    server::{OPEN, Server, Setup},
    upstream::Upstream,
    wait::wait_until,
};

const CHAT: &str = "/openai/chat/completions";

/// A provider of streams of `EVENTS` events, the first at once and the others as a test lets them.
struct Provider {
    upstream: Upstream,
    gate: Arc<AtomicUsize>,
}

const EVENTS: usize = 4;

fn event(number: usize) -> String {
    format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{number}\"}}}}]}}\n\n")
}

fn events(from: usize) -> String {
    (from..EVENTS).map(event).collect()
}

impl Provider {
    fn start() -> Self {
        let gate = Arc::new(AtomicUsize::new(1));
        let allowed = Arc::clone(&gate);
        let upstream = Upstream::start(move |peer| {
            while peer.request().is_some() {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                peer.send(head);
                for number in 0..EVENTS {
                    wait_until("the gate", || allowed.load(Ordering::Acquire) > number);
                    let event = event(number);
                    if !peer.send(format!("{:x}\r\n{event}\r\n", event.len())) {
                        return;
                    }
                }
                peer.send("0\r\n\r\n");
            }
        });
        Self { upstream, gate }
    }

    fn serve(&self, resume_for: &str) -> Server {
        Setup::scripted(self.upstream.address)
            .gateway(&format!("resume_for = \"{resume_for}\""))
            .start()
    }
}

/// Asks, reads the first event, and hangs up; gives the run's id.
#[track_caller]
fn lose(server: &Server) -> String {
    let mut client = server.connect();
    client.send(&ask(""));
    let head = client.answer_head();
    assert_eq!(head.status, 200, "{}", head.head);
    assert_eq!(client.chunk().unwrap(), event(0).as_bytes());
    head.field("cf-aig-run-id").unwrap().to_owned()
}

fn ask(lines: &str) -> Vec<u8> {
    post_with(&format!("{OPEN}{CHAT}"), lines, chat_stream("").as_bytes())
}

fn resume(id: &str, lines: &str) -> Vec<u8> {
    get(
        &format!("{OPEN}{CHAT}"),
        &format!("cf-aig-run-id: {id}\r\n{lines}"),
    )
}

#[track_caller]
fn check(answer: &Answer, id: &str, body: &str) {
    assert_eq!(
        (answer.status, answer.whole),
        (200, true),
        "{}",
        answer.text()
    );
    assert_eq!(answer.text(), body);
    assert_eq!(answer.field("cf-aig-run-id"), Some(id));
    assert_eq!(answer.field("content-type"), Some("text/event-stream"));
}

#[test]
fn a_lost_stream_goes_on_while_it_comes_and_after_its_end_on_every_shard() {
    let provider = Provider::start();
    let server = provider.serve("60s");
    let id = lose(&server);
    // Several at once, while the stream is still on its way.
    let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(&resume(&id, "Last-Event-ID: 1\r\n"));
        assert_eq!(client.answer_head().status, 200);
    }
    provider.gate.store(EVENTS, Ordering::Release);
    for client in &mut clients {
        let mut body = Vec::new();
        while let Some(chunk) = client.chunk().filter(|chunk| !chunk.is_empty()) {
            body.extend_from_slice(&chunk);
        }
        assert_eq!(body, events(1).as_bytes());
    }
    let offset = event(0).len() + event(1).len() + 5;
    for _ in 0..8 {
        check(&server.ask(&resume(&id, "")), &id, &events(0));
        check(
            &server.ask(&resume(&id, "Last-Event-ID: 3\r\n")),
            &id,
            &events(3),
        );
        let lines = format!("tg-offset: {offset}\r\n");
        check(&server.ask(&resume(&id, &lines)), &id, &events(0)[offset..]);
        let again = server.ask(&ask(&format!(
            "cf-aig-run-id: {id}\r\nLast-Event-ID: 2\r\n"
        )));
        check(&again, &id, &events(2));
    }
    assert_eq!(provider.upstream.requests(), 1);
    // What is read again costs nothing.
    let records = server.records_once(1 + 8 + 32);
    assert_eq!(
        records.iter().filter(|record| record["cost"] == 0).count(),
        40
    );
}

#[test]
fn a_run_is_its_callers_alone_and_has_only_the_places_it_has() {
    let provider = Provider::start();
    provider.gate.store(EVENTS, Ordering::Release);
    let server = provider.serve("60s");
    let answer = server.ask(&ask("Authorization: Bearer mine\r\n"));
    let id = answer.field("cf-aig-run-id").unwrap().to_owned();
    let mine = "Authorization: Bearer mine\r\n";
    check(&server.ask(&resume(&id, mine)), &id, &events(0));
    for lines in ["", "Authorization: Bearer other\r\n"] {
        server.ask(&resume(&id, lines)).check_refusal(404, 7000);
    }
    let (start, token) = id.rsplit_once('-').unwrap();
    let zeros = "0".repeat(token.len());
    for other in [
        format!("{start}-{zeros}"),
        "1".to_owned(),
        format!("ff-1-{token}"),
    ] {
        server.ask(&resume(&other, mine)).check_refusal(404, 7000);
    }
    for place in ["tg-offset: 9999999", "tg-offset: x", "Last-Event-ID: 77"] {
        let lines = format!("{mine}{place}\r\n");
        server.ask(&resume(&id, &lines)).check_refusal(416, 7000);
    }
    let all = format!("{mine}tg-offset: {}\r\n", events(0).len());
    check(&server.ask(&resume(&id, &all)), &id, "");
    assert_eq!(provider.upstream.requests(), 1);
}

#[test]
fn a_run_is_forgotten_when_its_time_is_over_and_off_there_are_none() {
    let provider = Provider::start();
    provider.gate.store(EVENTS, Ordering::Release);
    let server = provider.serve("1s");
    let answer = server.ask(&ask(""));
    let id = answer.field("cf-aig-run-id").unwrap().to_owned();
    check(&server.ask(&resume(&id, "")), &id, &events(0));
    wait_until("the run to be forgotten", || {
        server.ask(&resume(&id, "")).status == 404
    });
    let server = provider.serve("0s");
    let answer = server.ask(&ask(""));
    assert_eq!(answer.field("cf-aig-run-id"), None);
    assert_eq!(answer.text(), events(0));
}

#[test]
fn a_provider_is_left_when_nobody_comes_back_in_time() {
    let provider = Provider::start();
    let server = provider.serve("1s");
    let id = lose(&server);
    let record = &server.records_once(1)[0];
    assert_eq!(record["outcome"], "cancelled", "{record:#}");
    server.ask(&resume(&id, "")).check_refusal(404, 7000);
    // Its next write finds the connection closed.
    provider.gate.store(EVENTS, Ordering::Release);
    wait_until("the provider to hear of it", || {
        provider.upstream.ended() == 1
    });
}
