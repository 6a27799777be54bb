//! Several keys of one provider: turns by weight, rests after a refusal, another key for the next
//! attempt, and one key's answer for all in the cache.

use std::sync::{Arc, Mutex};

use super::limits::{CHAT, call};
use crate::support::{
    client::{chat, post_with},
    server::{OPEN, Server, Setup},
    upstream::{Upstream, field},
};

const KEYS: [&str; 3] = [
    "key-one-0123456789",
    "key-two-0123456789",
    "key-three-0123456789",
];

/// Which key came, in order.
type Seen = Arc<Mutex<Vec<usize>>>;

/// A provider that answers each key with its status; `429` asks for a minute's rest.
fn provider(statuses: [u16; 3]) -> (Upstream, Seen) {
    let seen: Seen = Arc::default();
    let upstream = {
        let seen = Arc::clone(&seen);
        Upstream::start(move |peer| {
            while let Some(request) = peer.request() {
                let key = field(&request.head, "authorization").unwrap();
                let key = key.strip_prefix("Bearer ").unwrap();
                let place = KEYS.iter().position(|known| *known == key).unwrap();
                seen.lock().unwrap().push(place);
                let status = statuses[place];
                let more = if status == 429 {
                    "Retry-After: 60\r\n"
                } else {
                    ""
                };
                peer.send(format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{more}Content-Length: 2\r\n\r\n{{}}"
                ));
            }
        })
    };
    (upstream, seen)
}

fn server(upstream: &Upstream, weights: [u16; 3]) -> Setup {
    let [one, two, three] = weights;
    Setup::new()
        .top("shards = 1")
        .env("ONE", KEYS[0])
        .env("TWO", KEYS[1])
        .env("THREE", KEYS[2])
        .tables(&format!(
            "[providers.openai]\nbase_url = \"http://{}\"\nkeys = [{{ key = \"env:ONE\", weight = {one} }}, {{ key = \"env:TWO\", weight = {two} }}, {{ key = \"env:THREE\", weight = {three} }}]",
            upstream.address
        ))
}

fn statuses(server: &Server, lines: &str, count: usize) -> Vec<u16> {
    (0..count)
        .map(|_| call(server, lines, &chat("")).status)
        .collect()
}

fn counts(seen: &Seen) -> [usize; 3] {
    let seen = seen.lock().unwrap();
    [0, 1, 2].map(|place| seen.iter().filter(|key| **key == place).count())
}

#[test]
fn keys_take_turns_by_weight_and_a_record_names_the_place_alone() {
    let (upstream, seen) = provider([200; 3]);
    let server = server(&upstream, [3, 2, 1]).start();
    assert_eq!(statuses(&server, "", 60), [200; 60]);
    assert_eq!(counts(&seen), [30, 20, 10]);
    assert!(!server.said().contains("not built"), "{}", server.said());
    let mut places = [0; 3];
    for record in server.records_once(60) {
        let place = usize::try_from(record["stored_key"].as_u64().unwrap()).unwrap();
        places[place] += 1;
        let text = record.to_string();
        assert!(KEYS.iter().all(|key| !text.contains(key)), "{text}");
    }
    assert_eq!(places, [30, 20, 10]);
}

#[test]
fn a_key_that_has_had_too_much_rests_and_the_next_attempt_takes_another() {
    for status in [429, 401, 403] {
        let (upstream, seen) = provider([status, 200, 200]);
        let server = server(&upstream, [1; 3]).start();
        // The provider asked for a minute; with other keys nobody waits for it.
        let lines = "cf-aig-max-attempts: 3\r\ncf-aig-retry-delay: 1\r\n";
        assert_eq!(statuses(&server, lines, 20), [200; 20]);
        assert_eq!(counts(&seen), [1, 10, 10], "{status}");
    }
}

#[test]
fn without_attempts_the_refusal_goes_to_the_caller_once() {
    let (upstream, seen) = provider([429, 200, 200]);
    let server = server(&upstream, [1; 3]).start();
    let all = statuses(&server, "", 20);
    assert_eq!(all.iter().filter(|status| **status == 429).count(), 1);
    assert_eq!(counts(&seen)[0], 1);
}

#[test]
fn where_every_key_rests_the_provider_has_the_word() {
    let (upstream, seen) = provider([429; 3]);
    let server = server(&upstream, [1; 3]).start();
    assert_eq!(statuses(&server, "", 5), [429; 5]);
    assert_eq!(counts(&seen).iter().sum::<usize>(), 5);
    assert!(counts(&seen).iter().all(|count| *count > 0));
}

#[test]
fn an_answer_to_one_key_is_the_answer_to_all_in_the_cache() {
    let (upstream, seen) = provider([200; 3]);
    let server = server(&upstream, [1; 3]).gateway("cache_ttl = 60").start();
    let statuses: Vec<_> = (0..6)
        .map(|_| {
            let answer = call(&server, "", &chat(""));
            answer.field("cf-aig-cache-status").unwrap().to_owned()
        })
        .collect();
    assert_eq!(statuses, ["MISS", "HIT", "HIT", "HIT", "HIT", "HIT"]);
    assert_eq!(counts(&seen).iter().sum::<usize>(), 1);
    // A caller's own credential is another matter.
    let request = post_with(
        &format!("{OPEN}{CHAT}"),
        &format!("Authorization: Bearer {}\r\n", KEYS[1]),
        chat("").as_bytes(),
    );
    let answer = server.ask(&request);
    assert_eq!(answer.field("cf-aig-cache-status"), Some("MISS"));
}
