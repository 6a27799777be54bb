//! Callers who go away: the provider hears of it at once, one record says so, nothing is left.

use std::time::{Duration, Instant};

use crate::support::{
    client::{Client, chat, chat_stream, post},
    process::{descriptors, established, queues},
    server::{OPEN, Server, Setup},
    upstream::{Upstream, count, mock},
    wait::{wait_for, wait_until},
};

/// Longest time until a provider may hear of it.
const HEARD: Duration = Duration::from_secs(1);

fn chat_path() -> String {
    format!("{OPEN}/openai/chat/completions")
}

/// One record of an exchange that its caller left.
#[track_caller]
fn check_cancelled(server: &Server) {
    let record = &server.records_once(1)[0];
    assert_eq!(record["outcome"], "cancelled", "{record:#}");
    assert_eq!(record["success"], false, "{record:#}");
}

#[test]
fn a_provider_hears_of_callers_who_leave_while_they_wait() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut times = Vec::new();
    for number in 1..=20 {
        let mut client = server.connect();
        client.send(&post(&chat_path(), &chat("+hang")));
        wait_until("the provider to be asked", || {
            count(&mock, "in_flight") == 1
        });
        let left = Instant::now();
        drop(client);
        wait_until("the provider to hear of it", || {
            count(&mock, "aborted_by_peer/count") == number
        });
        times.push(left.elapsed());
    }
    times.sort();
    println!(
        "until the provider heard: median {:?}, longest {:?}",
        times[10], times[19]
    );
    assert!(times[19] < HEARD, "{times:?}");
    let records = server.records_once(20);
    for record in records {
        assert_eq!(record["outcome"], "cancelled", "{record:#}");
        assert_eq!(record["status_code"], serde_json::Value::Null, "{record:#}");
    }
}

#[test]
fn a_provider_hears_of_callers_who_leave_in_the_middle_of_a_stream() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut times = Vec::new();
    for number in 1..=10 {
        let mut client = server.connect();
        client.send(&post(
            &chat_path(),
            &chat_stream("+events=100000+event_delay=5"),
        ));
        assert_eq!(client.answer_head().status, 200);
        for _ in 0..3 {
            assert_ne!(client.chunk(), None);
        }
        let left = Instant::now();
        drop(client);
        wait_until("the provider to hear of it", || {
            count(&mock, "aborted_by_peer/count") == number
        });
        times.push(left.elapsed());
    }
    times.sort();
    println!(
        "until the provider heard: median {:?}, longest {:?}",
        times[5], times[9]
    );
    assert!(times[9] < HEARD, "{times:?}");
    for record in server.records_once(10) {
        assert_eq!(record["outcome"], "cancelled", "{record:#}");
        assert_eq!(record["status_code"], 200, "{record:#}");
        assert_eq!(record["stream"], true, "{record:#}");
    }
}

#[test]
fn a_silent_stream_is_left_too() {
    // No event comes that could fail to be written: only the caller's end itself tells.
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut client = server.connect();
    client.send(&post(&chat_path(), &chat_stream("+hang_after=100")));
    client.answer_head();
    let left = Instant::now();
    drop(client);
    wait_until("the provider to hear of it", || {
        count(&mock, "aborted_by_peer/count") == 1
    });
    assert!(left.elapsed() < HEARD);
    check_cancelled(&server);
}

#[test]
fn a_caller_that_ends_its_sending_side_has_left() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut client = server.connect();
    client.send(&post(&chat_path(), &chat("+hang")));
    wait_until("the provider to be asked", || {
        count(&mock, "in_flight") == 1
    });
    client.finish();
    wait_until("the provider to hear of it", || {
        count(&mock, "aborted_by_peer/count") == 1
    });
    assert_eq!(client.rest(), b"");
    check_cancelled(&server);
}

#[test]
fn a_caller_that_resets_has_left() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut client = server.connect();
    client.send(&post(&chat_path(), &chat("+hang")));
    wait_until("the provider to be asked", || {
        count(&mock, "in_flight") == 1
    });
    rustix::net::sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
    drop(client);
    wait_until("the provider to hear of it", || {
        count(&mock, "aborted_by_peer/count") == 1
    });
    check_cancelled(&server);
}

#[test]
fn a_caller_that_leaves_during_its_upload_leaves_no_whole_request() {
    let upstream = Upstream::start(|peer| {
        peer.request();
    });
    let server = Setup::scripted(upstream.address)
        .tables("[limits]\ngather_bytes = \"64KiB\"")
        .start();
    let mut client = server.connect();
    client.send(format!("POST {OPEN}/openai/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n").as_bytes());
    client.send(&vec![7; 1_000_000]);
    wait_until("the provider to be asked", || upstream.connections() == 1);
    drop(client);
    wait_until("the provider to be left", || upstream.ended() == 1);
    assert_eq!(upstream.requests(), 0);
    check_cancelled(&server);
}

/// Sends an upload until the server takes no more of it: what was sent last lies unread, and there
/// is room behind it, so that the caller's end can be heard of.
pub(crate) fn fill(server: &Server, client: &mut Client) {
    let (ours, theirs) = (
        client.stream.local_addr().unwrap().port(),
        server.address.port(),
    );
    let piece = vec![7; 24 * 1024];
    let is_full = || {
        let mut since = Instant::now();
        let mut last = 0;
        wait_for("the server to read or to rest", || {
            let (unsent, _) = queues(ours, theirs)?;
            let (_, unread) = queues(theirs, ours)?;
            if unread != last || unsent > 0 {
                (last, since) = (unread, Instant::now());
            }
            let rests = since.elapsed() > Duration::from_millis(300);
            (unsent == 0 && (unread == 0 || rests)).then_some(unread > 0)
        })
    };
    for _ in 0..2000 {
        client.send(&piece);
        if is_full() {
            return;
        }
    }
    panic!("the server read everything");
}

#[test]
fn a_caller_is_missed_although_nobody_reads_its_upload() {
    for reset in [false, true] {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        let upstream = Upstream::start(move |peer| {
            peer.head();
            let _ = held.lock().unwrap().recv();
        });
        let server = Setup::scripted(upstream.address)
            .tables("[limits]\ngather_bytes = \"64KiB\"")
            .start();
        let mut client = server.connect();
        client.send(format!("POST {OPEN}/openai/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000000\r\n\r\n").as_bytes());
        fill(&server, &mut client);
        wait_until("the provider to be asked", || {
            established(upstream.address.port()) == 1
        });
        let left = Instant::now();
        if reset {
            rustix::net::sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        wait_until("the provider to be left", || {
            established(upstream.address.port()) == 0
        });
        println!("until the provider was left: {:?}", left.elapsed());
        assert!(left.elapsed() < HEARD);
        check_cancelled(&server);
        drop(hold);
    }
}

#[test]
fn a_caller_that_leaves_before_its_body_is_whole_asks_nobody() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let request = post(&chat_path(), &chat(""));
    let mut client = server.connect();
    client.send(&request[..request.len() - 1]);
    client.finish();
    assert_eq!(client.rest(), b"");
    check_cancelled(&server);
    assert_eq!(count(&mock, "connections/accepted"), 0);
}

#[test]
fn two_hundred_callers_that_left_leave_nothing_behind() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    assert_eq!(server.ask(&post(&chat_path(), &chat(""))).status, 200);
    wait_until("the caller to be gone", || server.connections() == 0);
    let before = descriptors(server.pid());
    for round in 1..=4 {
        let mut clients = Vec::new();
        for number in 0..50 {
            let mut client = server.connect();
            client.send(&match number % 2 {
                0 => post(&chat_path(), &chat("+hang")),
                _ => post(&chat_path(), &chat_stream("+events=100000+event_delay=10")),
            });
            clients.push(client);
        }
        wait_until("all to be in flight", || count(&mock, "in_flight") == 50);
        drop(clients);
        wait_until("the provider to hear of all", || {
            count(&mock, "aborted_by_peer/count") == 50 * round
        });
    }
    // Idle connections of the first request remain, at most one on each shard.
    wait_until("descriptors to be given back", || {
        descriptors(server.pid()) <= before + 1
    });
    wait_until("connections to be closed", || {
        count(&mock, "connections/open") <= 2
    });
    let records = server.records_once(201);
    let cancelled = records
        .iter()
        .filter(|record| record["outcome"] == "cancelled");
    assert_eq!(cancelled.count(), 200);
    assert_eq!(server.ask(&post(&chat_path(), &chat(""))).status, 200);
    assert!(server.figures().contains("_panics_total 0\n"));
}
