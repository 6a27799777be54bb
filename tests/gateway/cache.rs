//! The response cache: who gets which answer, for how long, and what is left of a hit.

use std::{thread, time::Duration};

use serde_json::{Value, json};
use tidegate::cli::demo::mock_provider::MockProvider;

use crate::support::{
    client::{Answer, Client, chat, chat_stream, get, post_with},
    server::{OPEN, Server, Setup, stored_body},
    upstream::{Upstream, count, mock},
    wait::wait_until,
};

const CHAT: &str = "/openai/chat/completions";

fn cached(mock: &MockProvider) -> Server {
    Setup::over(mock.addr()).gateway("cache_ttl = 3600").start()
}

#[track_caller]
fn call(server: &Server, lines: &str, body: &str) -> Answer {
    let answer = server.ask(&post_with(&format!("{OPEN}{CHAT}"), lines, body.as_bytes()));
    assert!(answer.whole, "{}", answer.head);
    answer
}

fn asked(mock: &MockProvider) -> u64 {
    count(mock, "total/requests")
}

fn status(answer: &Answer) -> Option<&str> {
    answer.field("cf-aig-cache-status")
}

#[test]
fn a_hit_is_the_first_answer_byte_for_byte_on_every_shard() {
    let mock = mock();
    let server = cached(&mock);
    let first = call(&server, "", &chat(""));
    assert_eq!((first.status, status(&first)), (200, Some("MISS")));
    // Connections land on either of the two shards; one of them does not own the key.
    for _ in 0..24 {
        let hit = call(&server, "", &chat(""));
        assert_eq!((hit.status, status(&hit)), (200, Some("HIT")));
        assert_eq!(hit.body, first.body);
        assert_eq!(hit.field("content-type"), first.field("content-type"));
        assert_ne!(hit.field("cf-aig-log-id"), first.field("cf-aig-log-id"));
    }
    assert_eq!(asked(&mock), 1);
    let records = server.records_once(25);
    // Those of two shards do not come in the order of their exchanges.
    let (hits, fetched): (Vec<_>, Vec<_>) =
        records.iter().partition(|record| record["cached"] == true);
    let fetched = fetched[0];
    assert_eq!(hits.len(), 24);
    for hit in hits {
        assert_eq!(
            (&hit["cost"], &hit["model"]),
            (&json!(0), &fetched["model"]),
            "{hit:#}"
        );
        // Bodies come to the disk a little after their records.
        let id = hit["id"].as_str().unwrap();
        wait_until("the body of a hit", || {
            stored_body(&server.data_dir(), id, "response").stdout == first.body
        });
    }
    // What a hit used is nothing.
    let figures = server.figures();
    let tokens = figures
        .lines()
        .find(|line| line.starts_with("tidegate_tokens_total{") && line.contains("\"input\""))
        .unwrap();
    assert!(
        tokens.ends_with(&format!(" {}", fetched["tokens_in"])),
        "{tokens}"
    );
}

#[test]
fn answers_are_alike_whatever_their_framing_and_coding() {
    let mock = mock();
    let server = cached(&mock);
    for commands in [
        "chunked",
        "length",
        "gzip",
        "gzip,chunked",
        "trailers",
        "size=200000",
        "size=200000,chunked",
    ] {
        let lines = format!("x-mock: {commands}\r\naccept-encoding: gzip\r\n");
        let body = chat(&format!("-{}", commands.len()));
        let body = body.replace("hello", commands);
        let first = call(&server, &lines, &body);
        let hit = call(&server, &lines, &body);
        assert_eq!(
            (status(&first), status(&hit)),
            (Some("MISS"), Some("HIT")),
            "{commands}"
        );
        assert_eq!(hit.body, first.body, "{commands}");
        assert_eq!(
            hit.field("content-encoding"),
            first.field("content-encoding"),
            "{commands}"
        );
    }
}

#[test]
fn without_a_ttl_nothing_is_cached_and_a_request_can_ask_for_one() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    for _ in 0..2 {
        assert_eq!(status(&call(&server, "", &chat(""))), None);
    }
    assert_eq!(asked(&mock), 2);
    for (name, expected) in [("cf-aig-cache-ttl", "MISS"), ("cf-cache-ttl", "HIT")] {
        let answer = call(&server, &format!("{name}: 60\r\n"), &chat(""));
        assert_eq!(status(&answer), Some(expected));
    }
    // A key alone is kept for five minutes.
    for expected in ["MISS", "HIT"] {
        let answer = call(&server, "cf-aig-cache-key: mine\r\n", &chat(""));
        assert_eq!(status(&answer), Some(expected));
    }
    assert_eq!(asked(&mock), 4);
}

#[test]
fn a_request_can_go_past_the_cache_and_renews_it() {
    let upstream = Upstream::start(|peer| {
        let mut number = 0;
        while peer.request().is_some() {
            number += 1;
            peer.answer(format!(
                "{{\"connection\":{},\"number\":{number}}}",
                peer.place
            ));
        }
    });
    let server = Setup::scripted(upstream.address)
        .gateway("cache_ttl = 60")
        .top("shards = 1")
        .start();
    let first = call(&server, "", &chat(""));
    let fresh = call(&server, "cf-aig-skip-cache: true\r\n", &chat(""));
    assert_eq!(
        (status(&first), status(&fresh)),
        (Some("MISS"), Some("MISS"))
    );
    assert_ne!(first.body, fresh.body);
    let later = call(&server, "", &chat(""));
    assert_eq!((status(&later), &later.body), (Some("HIT"), &fresh.body));
    // Off for one request: neither looked up nor kept.
    let off = call(&server, "cf-aig-cache-ttl: 0\r\n", &chat(""));
    assert_eq!((off.status, status(&off)), (200, None));
    assert_eq!(upstream.requests(), 3);
}

#[test]
fn anything_that_can_change_an_answer_is_part_of_the_key() {
    let mock = mock();
    let server = cached(&mock);
    let with = |lines: &str, body: &str| {
        let answer = call(&server, lines, body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        status(&answer).map(str::to_owned)
    };
    let base = chat("");
    assert_eq!(with("", &base).as_deref(), Some("MISS"));
    assert_eq!(with("", &base).as_deref(), Some("HIT"));
    for (lines, body) in [
        ("", base.replace("hello", "hello ")),
        ("", base.replace("{\"model\"", "{ \"model\"")),
        ("Authorization: Bearer somebody-else\r\n", base.clone()),
        ("OpenAI-Organization: org-1\r\n", base.clone()),
        ("OpenAI-Beta: assistants=v2\r\n", base.clone()),
        ("Accept: text/plain\r\n", base.clone()),
        ("cf-aig-cache-key: x\r\n", base.clone()),
    ] {
        assert_eq!(with(lines, &body).as_deref(), Some("MISS"), "{lines}");
        assert_eq!(with(lines, &body).as_deref(), Some("HIT"), "{lines}");
    }
    // What only tells about the caller is not.
    for lines in [
        "User-Agent: other/1\r\n",
        "x-stainless-retry-count: 1\r\n",
        "cf-aig-metadata: {\"a\":1}\r\n",
    ] {
        assert_eq!(with(lines, &base).as_deref(), Some("HIT"), "{lines}");
    }
    // A key of the caller's own stands for body and path.
    let other = base.replace("hello", "goodbye");
    assert_eq!(
        with("cf-aig-cache-key: x\r\n", &other).as_deref(),
        Some("HIT")
    );
}

#[test]
fn failures_parts_cookies_and_cut_answers_are_never_kept() {
    let mock = mock();
    let server = cached(&mock);
    for commands in [
        "status=500",
        "status=400",
        "status=429,retry_after=0",
        "status=206",
        "setcookie",
        "close",
    ] {
        let body = chat("").replace("hello", commands);
        for _ in 0..2 {
            let answer = call(&server, &format!("x-mock: {commands}\r\n"), &body);
            assert_eq!(status(&answer), Some("MISS"), "{commands}");
        }
    }
    let cut = chat("").replace("hello", "cut");
    for _ in 0..2 {
        let lines = "x-mock: cut=40\r\n";
        let request = post_with(&format!("{OPEN}{CHAT}"), lines, cut.as_bytes());
        let answer = server.ask(&request);
        assert!(!answer.whole);
        assert_eq!(status(&answer), Some("MISS"));
    }
}

#[test]
fn streams_are_cached_only_where_that_is_switched_on() {
    let mock = mock();
    let server = cached(&mock);
    for _ in 0..2 {
        let answer = call(&server, "", &chat_stream(""));
        assert_eq!((answer.status, status(&answer)), (200, None));
    }
    assert_eq!(asked(&mock), 2);
    let server = Setup::over(mock.addr())
        .gateway("cache_ttl = 60\ncache_streams = true")
        .start();
    let first = call(&server, "", &chat_stream(""));
    let hit = call(&server, "", &chat_stream(""));
    assert_eq!((status(&first), status(&hit)), (Some("MISS"), Some("HIT")));
    assert_eq!(hit.body, first.body);
    assert_eq!(hit.field("content-type"), first.field("content-type"));
    assert_eq!(asked(&mock), 3);
}

#[test]
fn equal_requests_in_flight_share_one_upstream_call() {
    let mock = mock();
    let server = cached(&mock);
    let request = post_with(
        &format!("{OPEN}{CHAT}"),
        "x-mock: delay=400\r\n",
        chat("").as_bytes(),
    );
    let mut clients: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(&request);
    }
    let answers: Vec<Answer> = clients
        .iter_mut()
        .map(|client| client.answer(crate::support::client::Sent::Other))
        .collect();
    assert_eq!(asked(&mock), 1);
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (200, &answers[0].body));
    }
    let hits = answers
        .iter()
        .filter(|answer| status(answer) == Some("HIT"))
        .count();
    assert_eq!(hits, 199);
}

#[test]
fn a_leader_that_hangs_up_harms_nobody() {
    let mock = mock();
    let server = cached(&mock);
    let request = post_with(
        &format!("{OPEN}{CHAT}"),
        "x-mock: delay=300\r\n",
        chat("").as_bytes(),
    );
    let mut leader = server.connect();
    leader.send(&request);
    wait_until("the leader's call", || asked(&mock) == 1);
    let followers: Vec<_> = (0..8)
        .map(|_| {
            let mut client = server.connect();
            client.send(&request);
            client
        })
        .collect();
    thread::sleep(Duration::from_millis(50));
    drop(leader);
    for mut client in followers {
        let answer = client.answer(crate::support::client::Sent::Other);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // The call goes on for them.
    assert_eq!(asked(&mock), 1);
}

#[test]
fn the_body_of_a_request_that_the_cache_answers_is_no_request_of_its_own() {
    let mock = mock();
    let server = cached(&mock);
    let request = post_with(&format!("{OPEN}{CHAT}"), "", chat("").as_bytes());
    call(&server, "", &chat(""));
    let mut client = server.connect();
    // Two at once, and the second in pieces.
    client.send(&request);
    client.trickle(&request);
    for _ in 0..2 {
        let answer = client.answer(crate::support::client::Sent::Other);
        assert_eq!((answer.status, status(&answer)), (200, Some("HIT")));
    }
    client.send(&get(&format!("{OPEN}/openai/models"), ""));
    assert_eq!(
        client.answer(crate::support::client::Sent::Other).status,
        200
    );
    let report = mock.counters();
    assert_eq!(report["bad_requests"], Value::from(0));
}

#[test]
fn steps_have_cache_settings_of_their_own() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let body: Value = serde_json::from_str(&chat("")).unwrap();
    let steps = json!([{
        "provider": "openai", "endpoint": "chat/completions",
        "headers": {"cf-aig-cache-ttl": "60"}, "query": body,
    }]);
    for expected in ["MISS", "HIT"] {
        let answer = server.ask(&post_with(OPEN, "", steps.to_string().as_bytes()));
        assert_eq!((answer.status, status(&answer)), (200, Some(expected)));
        assert_eq!(answer.field("cf-aig-step"), Some("0"));
    }
    assert_eq!(asked(&mock), 1);
}
