//! Answers on their way that several callers read: one call, and each gets what comes as it comes.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    client::{Client, Sent, chat, chat_stream, post, post_with},
    server::{OPEN, Server, Setup},
    upstream::Upstream,
    wait::wait_until,
};

/// A provider whose answer comes piece by piece, as a test lets it.
struct Gated {
    upstream: Upstream,
    /// How many pieces may go out.
    gate: Arc<AtomicUsize>,
}

const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const LAST_CHUNK: &str = "0\r\n\r\n";

fn chunk(payload: &str) -> String {
    format!("{:x}\r\n{payload}\r\n", payload.len())
}

fn event(number: usize) -> String {
    format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{number}\"}}}}]}}\n\n")
}

impl Gated {
    /// Gives `pieces` to each request, the first at once; after the last the connection is kept,
    /// or with `cut` reset.
    fn start(pieces: Vec<String>, cut: bool) -> Self {
        let gate = Arc::new(AtomicUsize::new(1));
        let allowed = Arc::clone(&gate);
        let upstream = Upstream::start(move |peer| {
            while peer.request().is_some() {
                for (number, piece) in pieces.iter().enumerate() {
                    wait_until("the gate", || allowed.load(Ordering::Acquire) > number);
                    if peer.stream.write_all(piece.as_bytes()).is_err() {
                        return;
                    }
                }
                if cut {
                    return;
                }
            }
        });
        Self { upstream, gate }
    }

    fn open(&self, pieces: usize) {
        self.gate.store(pieces, Ordering::Release);
    }

    fn serve(&self) -> Server {
        self.serve_with("")
    }

    fn serve_with(&self, lines: &str) -> Server {
        Setup::scripted(self.upstream.address)
            .gateway(&format!("cache_ttl = 3600\ncache_streams = true\n{lines}"))
            .start()
    }
}

fn request(body: &str) -> Vec<u8> {
    post(&format!("{OPEN}/openai/chat/completions"), body)
}

/// A caller that has asked and leads: the provider has its request.
fn leader(gated: &Gated, server: &Server, body: &str) -> Client {
    let before = gated.upstream.requests();
    let mut client = server.connect();
    client.send(&request(body));
    wait_until("the leader's call", || gated.upstream.requests() > before);
    client
}

fn followers(server: &Server, count: usize, body: &str) -> Vec<Client> {
    let follower = |_| {
        let mut client = server.connect();
        client.send(&request(body));
        client
    };
    (0..count).map(follower).collect()
}

/// A stream of three events in pieces of one each, and its body.
fn three_events() -> (Vec<String>, String) {
    let events: Vec<String> = (0..3).map(event).collect();
    let pieces = vec![
        format!("{STREAM_HEAD}{}", chunk(&events[0])),
        chunk(&events[1]),
        format!("{}{LAST_CHUNK}", chunk(&events[2])),
    ];
    (pieces, events.concat())
}

/// Reads a streamed answer's head and first event.
#[track_caller]
fn begin(client: &mut Client, cache: Option<&str>) -> Vec<u8> {
    let head = client.answer_head();
    assert_eq!(head.status, 200, "{}", head.head);
    assert_eq!(head.field("content-type"), Some("text/event-stream"));
    if let Some(cache) = cache {
        assert_eq!(head.field("cf-aig-cache-status"), Some(cache));
    }
    client.chunk().unwrap()
}

/// Reads the rest of a streamed answer; `None`: it was cut.
fn rest(client: &mut Client, mut body: Vec<u8>) -> Option<Vec<u8>> {
    loop {
        match client.chunk()? {
            end if end.is_empty() => return Some(body),
            piece => body.extend_from_slice(&piece),
        }
    }
}

#[test]
fn followers_on_every_shard_read_a_stream_while_it_comes() {
    let (pieces, body) = three_events();
    let gated = Gated::start(pieces, false);
    let server = gated.serve();
    let mut leader = leader(&gated, &server, &chat_stream(""));
    let mut followers = followers(&server, 24, &chat_stream(""));
    let first = begin(&mut leader, Some("MISS"));
    // All have the first event, and the stream has not ended: the provider was not let.
    let firsts: Vec<Vec<u8>> = followers
        .iter_mut()
        .map(|client| begin(client, Some("HIT")))
        .collect();
    gated.open(2);
    assert_eq!(leader.chunk().unwrap(), event(1).as_bytes());
    gated.open(3);
    let whole = rest(&mut leader, [first, event(1).into_bytes()].concat());
    assert_eq!(whole.as_deref(), Some(body.as_bytes()));
    for (client, first) in followers.iter_mut().zip(firsts) {
        let whole = rest(client, first);
        assert_eq!(whole.as_deref(), Some(body.as_bytes()));
    }
    assert_eq!(gated.upstream.requests(), 1);
    let hit = server.ask(&request(&chat_stream("")));
    assert_eq!(
        (hit.field("cf-aig-cache-status"), hit.body.as_slice()),
        (Some("HIT"), body.as_bytes())
    );
    // The connections carry on.
    for client in &mut followers {
        let again = client.ask(&request(&chat_stream("")));
        assert_eq!(again.body, body.as_bytes());
    }
    let records = server.records_once(50);
    let costs = records.iter().filter(|record| record["cost"] == 0);
    assert_eq!(costs.count(), 49);
}

#[test]
fn a_thousand_equal_streams_are_one_call() {
    let (pieces, body) = three_events();
    let gated = Gated::start(pieces, false);
    let server = gated.serve();
    let mut clients = followers(&server, 1000, &chat_stream(""));
    let firsts: Vec<Vec<u8>> = clients.iter_mut().map(|it| begin(it, None)).collect();
    gated.open(3);
    for (client, first) in clients.iter_mut().zip(firsts) {
        let whole = rest(client, first);
        assert_eq!(whole.as_deref(), Some(body.as_bytes()));
    }
    assert_eq!(gated.upstream.requests(), 1);
}

#[test]
fn a_leader_that_hangs_up_takes_nothing_from_those_who_follow() {
    let (pieces, body) = three_events();
    let gated = Gated::start(pieces, false);
    let server = gated.serve();
    let mut leader = leader(&gated, &server, &chat_stream(""));
    let mut followers = followers(&server, 8, &chat_stream(""));
    begin(&mut leader, Some("MISS"));
    let firsts: Vec<Vec<u8>> = followers.iter_mut().map(|it| begin(it, None)).collect();
    drop(leader);
    gated.open(2);
    let seconds: Vec<Vec<u8>> = followers
        .iter_mut()
        .map(|client| client.chunk().unwrap())
        .collect();
    gated.open(3);
    for ((client, first), second) in followers.iter_mut().zip(firsts).zip(seconds) {
        let whole = rest(client, [first, second].concat());
        assert_eq!(whole.as_deref(), Some(body.as_bytes()));
    }
    let hit = server.ask(&request(&chat_stream("")));
    assert_eq!(hit.field("cf-aig-cache-status"), Some("HIT"));
    assert_eq!(gated.upstream.requests(), 1);
    let records = server.records_once(10);
    let led: Vec<_> = records
        .iter()
        .filter(|record| record["cached"] == false)
        .collect();
    assert_eq!(led.len(), 1);
    assert_eq!(led[0]["outcome"], "cancelled");
    assert_eq!(led[0]["response_size"], body.len());
}

#[test]
fn the_call_ends_when_the_last_reader_has_left() {
    let (pieces, _) = three_events();
    let gated = Gated::start(pieces, false);
    let server = gated.serve();
    let mut leader = leader(&gated, &server, &chat_stream(""));
    let mut followers = followers(&server, 8, &chat_stream(""));
    begin(&mut leader, Some("MISS"));
    for client in &mut followers {
        begin(client, Some("HIT"));
    }
    drop(leader);
    drop(followers);
    let records = server.records_once(9);
    for record in &records {
        assert_eq!(record["outcome"], "cancelled", "{record:#}");
    }
    // The provider's connection was closed: its next write or read tells it.
    gated.open(3);
    wait_until("the provider to hear of it", || gated.upstream.ended() == 1);
    let answer = server.ask(&request(&chat_stream("")));
    assert_eq!(
        (answer.whole, answer.field("cf-aig-cache-status")),
        (true, Some("MISS"))
    );
}

#[test]
fn a_stream_that_is_cut_is_cut_for_all_who_read_it() {
    let (mut pieces, body) = three_events();
    // The last chunk never comes.
    pieces[2] = chunk(&event(2));
    let gated = Gated::start(pieces, true);
    let server = gated.serve();
    let mut leader = leader(&gated, &server, &chat_stream(""));
    let mut followers = followers(&server, 8, &chat_stream(""));
    let first = begin(&mut leader, Some("MISS"));
    let firsts: Vec<Vec<u8>> = followers.iter_mut().map(|it| begin(it, None)).collect();
    gated.open(3);
    assert_eq!(rest(&mut leader, first), None);
    for (client, first) in followers.iter_mut().zip(firsts) {
        assert_eq!(rest(client, first), None);
    }
    for record in server.records_once(9) {
        assert_eq!(record["outcome"], "upstream_cut", "{record:#}");
        assert_eq!(record["response_size"], body.len(), "{record:#}");
    }
    // Nothing of it was kept.
    let mut next = server.connect();
    next.send(&request(&chat_stream("")));
    begin(&mut next, Some("MISS"));
    assert_eq!(gated.upstream.requests(), 2);
}

#[test]
fn a_document_with_a_length_is_followed_too_and_its_cut_shows() {
    let half = "{\"choices\":[".to_owned();
    let head = |length: usize| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    for cut in [false, true] {
        let length = half.len() + 2;
        let end = if cut { "]" } else { "]}" };
        let pieces = vec![format!("{}{half}", head(length)), end.to_owned()];
        let gated = Gated::start(pieces, cut);
        let server = gated.serve();
        let leader = leader(&gated, &server, &chat(""));
        let mut clients = followers(&server, 8, &chat(""));
        clients.push(leader);
        let heads: Vec<String> = clients
            .iter_mut()
            .map(|client| {
                let head = client.answer_head();
                assert_eq!(head.field("content-length"), Some(&*length.to_string()));
                assert_eq!(client.take(half.len()), half.as_bytes());
                head.head
            })
            .collect();
        gated.open(2);
        for (client, _) in clients.iter_mut().zip(heads) {
            assert_eq!(client.take(2), end.as_bytes());
            if cut {
                assert_eq!(client.rest(), b"");
            } else {
                assert!(!client.is_closed());
            }
        }
        assert_eq!(gated.upstream.requests(), 1);
    }
}

#[test]
fn an_old_caller_that_follows_learns_of_the_end_by_the_connection() {
    let (pieces, body) = three_events();
    let gated = Gated::start(pieces, false);
    let server = gated.serve();
    let mut leader = leader(&gated, &server, &chat_stream(""));
    begin(&mut leader, Some("MISS"));
    let mut old = server.connect();
    let text = String::from_utf8(request(&chat_stream(""))).unwrap();
    old.send(text.replacen("HTTP/1.1", "HTTP/1.0", 1).as_bytes());
    let head = old.answer_head();
    assert_eq!(head.field("transfer-encoding"), None);
    gated.open(3);
    assert_eq!(old.rest(), body.as_bytes());
    let events = [event(1), event(2)].concat();
    let whole = rest(&mut leader, Vec::new());
    assert_eq!(whole.as_deref(), Some(events.as_bytes()));
}

#[test]
fn an_answer_that_is_not_to_be_kept_is_not_followed() {
    let head = STREAM_HEAD.replace("\r\n\r\n", "\r\nset-cookie: a=b\r\n\r\n");
    let pieces = vec![format!("{head}{}{LAST_CHUNK}", chunk(&event(0)))];
    let gated = Gated::start(pieces, false);
    let server = gated.serve();
    let mut clients = followers(&server, 4, &chat_stream(""));
    for client in &mut clients {
        let answer = client.answer(Sent::Other);
        assert_eq!(answer.field("cf-aig-cache-status"), Some("MISS"));
    }
    assert_eq!(gated.upstream.requests(), 4);
}

/// An event with usage, as the last one of a stream.
fn usage_event() -> String {
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n".to_owned()
}

#[test]
fn a_stream_whose_caller_left_is_read_to_its_end_where_the_gateway_says_so() {
    for (policy, next) in [("drain", "MISS"), ("cache", "HIT")] {
        let pieces = vec![
            format!("{STREAM_HEAD}{}", chunk(&event(0))),
            chunk(&event(1)),
            format!("{}{LAST_CHUNK}", chunk(&usage_event())),
        ];
        let gated = Gated::start(pieces, false);
        let server = gated.serve_with(&format!("on_disconnect = \"{policy}\""));
        let mut caller = leader(&gated, &server, &chat_stream(""));
        begin(&mut caller, Some("MISS"));
        drop(caller);
        // The server sees it before the provider goes on.
        wait_until("the caller to be gone", || server.connections() == 0);
        gated.open(3);
        let record = &server.records_once(1)[0];
        assert_eq!(record["outcome"], "cancelled", "{record:#}");
        assert_eq!(record["tokens_in"], 7, "{record:#}");
        assert_eq!(record["tokens_out"], 3, "{record:#}");
        let answer = server.ask(&request(&chat_stream("")));
        assert_eq!(answer.field("cf-aig-cache-status"), Some(next), "{policy}");
        assert_eq!(
            answer.body,
            [event(0), event(1), usage_event()].concat().as_bytes()
        );
    }
}

#[test]
fn an_answer_whose_caller_left_before_it_began_is_metered_where_the_gateway_says_so() {
    for cache in ["", "cache_ttl = 60\n"] {
        let answer = "{\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}";
        let pieces = vec![
            String::new(),
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            ),
        ];
        let gated = Gated::start(pieces, false);
        let server = Setup::scripted(gated.upstream.address)
            .gateway(&format!("{cache}on_disconnect = \"drain\""))
            .start();
        drop(leader(&gated, &server, &chat("")));
        wait_until("the caller to be gone", || server.connections() == 0);
        gated.open(2);
        let record = &server.records_once(1)[0];
        assert_eq!(record["outcome"], "cancelled", "{record:#}");
        assert_eq!(
            (&record["tokens_in"], &record["tokens_out"]),
            (&7.into(), &3.into())
        );
    }
}

#[test]
fn a_cached_stream_comes_at_once_or_at_its_first_pace() {
    let (pieces, body) = three_events();
    let gated = Gated::start(pieces, false);
    let server = gated.serve();
    let mut first = leader(&gated, &server, &chat_stream(""));
    begin(&mut first, Some("MISS"));
    // Most of a second between the first event and the rest.
    let pause = Duration::from_millis(800);
    let began = Instant::now();
    wait_until("the pause", || began.elapsed() >= pause);
    gated.open(3);
    let rest = rest(&mut first, Vec::new()).unwrap();
    let at_once = server.ask(&request(&chat_stream("")));
    assert_eq!(at_once.body, body.as_bytes());
    let paced = post_with(
        &format!("{OPEN}/openai/chat/completions"),
        "tg-replay: original\r\n",
        chat_stream("").as_bytes(),
    );
    let mut client = server.connect();
    let asked = Instant::now();
    client.send(&paced);
    let head = client.answer_head();
    assert_eq!(head.field("cf-aig-cache-status"), Some("HIT"));
    assert_eq!(client.take(event(0).len()), event(0).as_bytes());
    assert_eq!(client.take(rest.len()), rest);
    // The clock of the pace began with the answer's head; a little of it was over by then.
    assert!(asked.elapsed() >= pause / 2, "{:?}", asked.elapsed());
}
