//! Starting where one cannot, ending in good order, and ending without a chance to.

use std::{
    collections::HashMap,
    fs,
    net::TcpListener,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{
    client::{Client, Sent, chat, chat_stream, get, post},
    server::{OPEN, Setup, records},
    upstream::{count, mock},
    wait::wait_until,
};

fn chat_path() -> String {
    format!("{OPEN}/openai/chat/completions")
}

#[test]
fn nothing_in_flight_is_lost_to_sigterm() {
    let mock = mock();
    let mut server = Setup::over(mock.addr()).start();
    let mut clients: Vec<Client> = (0..60).map(|_| server.connect()).collect();
    let mut idle = server.connect();
    assert_eq!(idle.ask(&post(&chat_path(), &chat(""))).status, 200);
    for (number, client) in clients.iter_mut().enumerate() {
        let body = if number % 2 == 0 {
            chat("+delay=700")
        } else {
            chat_stream("+events=14+event_delay=50")
        };
        client.send(&post(&chat_path(), &body));
    }
    wait_until("all to be in flight", || count(&mock, "in_flight") == 60);
    server.signal(Signal::TERM);
    for client in &mut clients {
        let answer = client.answer(Sent::Other);
        assert_eq!((answer.status, answer.whole), (200, true));
        assert_eq!(client.rest(), b"", "the connection ends after its answer");
    }
    assert_eq!(idle.rest(), b"");
    assert_eq!(server.wait().code(), Some(0));
    let records = server.records();
    assert_eq!(records.len(), 61);
    assert!(records.iter().all(|record| record["outcome"] == "ok"));
}

#[test]
fn a_server_with_nothing_to_do_ends_at_once() {
    let mock = mock();
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Setup::over(mock.addr()).start();
        let mut idle = server.connect();
        assert_eq!(idle.ask(&post(&chat_path(), &chat(""))).status, 200);
        let begun = Instant::now();
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(idle.rest(), b"");
    }
}

#[test]
fn while_it_drains_it_is_not_ready_and_takes_nothing_new() {
    let mock = mock();
    let mut server = Setup::over(mock.addr())
        .tables("[limits]\ndrain_delay = \"1s\"")
        .start();
    assert_eq!(server.ask(&get("/readyz", "")).status, 200);
    let mut busy = server.connect();
    busy.send(&post(&chat_path(), &chat("+delay=2500")));
    wait_until("it to be in flight", || count(&mock, "in_flight") == 1);
    server.signal(Signal::TERM);
    // During the delay it says so, and still serves.
    wait_until("it to say that it is unready", || {
        server.ask(&get("/readyz", "")).status == 503
    });
    assert_eq!(server.ask(&get("/livez", "")).status, 200);
    assert_eq!(server.ask(&post(&chat_path(), &chat(""))).status, 200);
    wait_until("it to stop listening", || {
        std::net::TcpStream::connect(server.address).is_err()
    });
    assert_eq!(busy.answer(Sent::Other).status, 200);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_drain_has_an_end_and_a_second_signal_is_one() {
    let mock = mock();
    for second in [false, true] {
        let limit = if second { "60s" } else { "300ms" };
        let mut server = Setup::over(mock.addr())
            .tables(&format!("[limits]\ndrain_timeout = \"{limit}\""))
            .start();
        let mut stuck = server.connect();
        stuck.send(&post(&chat_path(), &chat("+hang")));
        wait_until("it to be in flight", || count(&mock, "in_flight") >= 1);
        server.signal(Signal::TERM);
        if second {
            wait_until("the first signal to be heard", || {
                server.said().contains("draining")
            });
            server.signal(Signal::TERM);
        }
        assert_eq!(server.wait().code(), Some(1));
        assert_eq!(stuck.rest(), b"");
        wait_until("the provider to hear of it", || {
            count(&mock, "in_flight") == 0
        });
    }
}

/// One sentence on stderr, and the status.
#[track_caller]
fn check_failure(output: &Output, code: i32, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(output.stdout, b"");
    if code == 1 {
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
}

#[test]
fn a_taken_port_is_one_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Setup::new().listen(&address).fail();
    check_failure(&output, 1, &["cannot listen on", &address, "taken"]);

    // A second server of ours shares no port with the first either.
    let server = Setup::new().start();
    let address = server.address.to_string();
    let output = Setup::new().listen(&address).fail();
    check_failure(&output, 1, &["cannot listen on", &address, "taken"]);
    assert_eq!(server.ask(&get("/livez", "")).status, 200);
}

#[test]
fn a_data_folder_in_use_is_one_sentence() {
    let server = Setup::new().start();
    let folder = server.data_dir();
    let output = Setup::new()
        .top(&format!("data_dir = {:?}", folder.display().to_string()))
        .fail();
    check_failure(&output, 1, &[&folder.display().to_string()]);
    assert_eq!(server.ask(&get("/livez", "")).status, 200);
}

#[test]
fn a_data_folder_that_is_none_is_one_sentence() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    for place in [file.clone(), file.join("below"), "/proc/nowhere".into()] {
        let place = place.display().to_string();
        let output = Setup::new().top(&format!("data_dir = {place:?}")).fail();
        check_failure(&output, 1, &[&place]);
    }
}

#[test]
fn a_wrong_file_is_told_with_line_and_caret() {
    let output = Setup::new().top("listne = \"127.0.0.1:1\"").fail();
    check_failure(&output, 2, &["tidegate.toml", "listne", "^"]);
    let output = Setup::new()
        .tables("[limits]\nhead_bytes = \"10GiB\"")
        .fail();
    check_failure(&output, 2, &["head_bytes", "10GiB", "^"]);
    let output = Setup::new().tables("[limits\n").fail();
    check_failure(&output, 2, &["tidegate.toml", "^"]);
    let output = Setup::new()
        .tables("[providers.openai]\nkey = \"env:NOT_THERE\"")
        .fail();
    check_failure(&output, 2, &["NOT_THERE"]);
}

#[test]
fn listening_for_strangers_with_an_open_gateway_is_refused() {
    let output = Setup::new().listen("0.0.0.0:0").fail();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("allow-open") && said.contains("default"),
        "{said}"
    );
}

#[test]
fn every_answer_that_was_complete_before_a_kill_is_in_the_log_once() {
    const SYNCED: Duration = Duration::from_millis(50);
    let mock = mock();
    let mut server = Setup::over(mock.addr()).start();
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|number| {
            let (over, address) = (Arc::clone(&over), server.address);
            thread::spawn(move || {
                let mut done = Vec::new();
                let mut client = Client::connect(address);
                let request = if number % 2 == 0 {
                    post(&chat_path(), &chat(""))
                } else {
                    post(&chat_path(), &chat_stream(""))
                };
                while !over.load(Ordering::Acquire) {
                    client.send(&request);
                    let Some(head) = client.try_head() else {
                        break;
                    };
                    let id = crate::support::upstream::field(&head, "cf-aig-log-id");
                    let id = id.unwrap().to_owned();
                    if !client.finish_body(&head) {
                        break;
                    }
                    done.push((id, Instant::now()));
                }
                done
            })
        })
        .collect();
    wait_until("some load", || count(&mock, "total/completed") > 3000);
    let killed = Instant::now();
    server.kill();
    over.store(true, Ordering::Release);
    let mut must = Vec::new();
    let mut may = 0;
    for caller in callers {
        for (id, at) in caller.join().unwrap() {
            if at + SYNCED < killed {
                must.push(id);
            } else {
                may += 1;
            }
        }
    }
    let mut found: HashMap<String, usize> = HashMap::new();
    for record in records(&server.data_dir()) {
        *found
            .entry(record["id"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    println!(
        "{} answers had to be in the log, {may} could, {} are",
        must.len(),
        found.len()
    );
    assert!(must.len() > 1000);
    assert!(
        found.values().all(|times| *times == 1),
        "a record is there twice"
    );
    let lost: Vec<_> = must.iter().filter(|id| !found.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost", lost.len(), must.len());

    // The next start serves on the same folder, and loses and doubles nothing.
    let before = found.len();
    let server = Setup::over(mock.addr()).folder(server.folder()).start();
    assert_eq!(server.ask(&post(&chat_path(), &chat(""))).status, 200);
    server.records_once(before + 1);
}
