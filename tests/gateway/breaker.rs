//! A provider that cannot be reached costs one time-out, not one for each request, and is called
//! again when it is back.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::limits::{CHAT, call};
use crate::support::{
    client::{chat, post_with},
    server::{OPEN, Server, Setup},
    upstream::mock,
    wait::wait_until,
};

/// A figure of `/metrics`, by the start of its line; 0 if there is none.
fn figure(server: &Server, line: &str) -> u64 {
    let text = server.figures();
    let found = text.lines().find_map(|found| found.strip_prefix(line));
    found.map_or(0, |value| value.trim().parse().unwrap())
}

fn skipped(server: &Server, provider: &str) -> u64 {
    let line =
        format!("tidegate_upstream_attempts_total{{provider=\"{provider}\",result=\"skipped\"}}");
    figure(server, &line)
}

fn failures(server: &Server) -> u64 {
    figure(server, "tidegate_upstream_connect_failures_total")
}

fn open(server: &Server) -> u64 {
    figure(server, "tidegate_upstream_breakers_open")
}

/// Answers whatever comes, for as long as the test runs.
fn answer_all(listener: TcpListener) {
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            thread::spawn(move || {
                let mut piece = [0; 4096];
                while stream.read(&mut piece).is_ok_and(|bytes| bytes > 0) {
                    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// A port at which nobody listens.
fn dead_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A listener whose backlog is full, so that the system answers no further knock; and who fills it.
fn black_hole() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let knock = || TcpStream::connect_timeout(&address, Duration::from_millis(100));
    let knocked: Vec<_> = (0..5).map(|_| knock()).collect();
    assert!(knocked.iter().any(Result::is_err), "there is still room");
    (listener, knocked.into_iter().flatten().collect())
}

#[test]
fn a_provider_that_refuses_is_left_alone_after_some_failures_and_found_again() {
    let mock = mock();
    let dead = dead_port();
    let server = Setup::over(mock.addr())
        .top("shards = 1")
        .provider("groq", &format!("base_url = \"http://{dead}\""))
        .start();
    let to_groq = |lines: &str| {
        let path = format!("{OPEN}/groq/chat/completions");
        server.ask(&post_with(&path, lines, chat("").as_bytes()))
    };
    for _ in 0..3 {
        let answer = to_groq("");
        answer.check_refusal(502, 2005);
        assert!(
            answer.text().contains("cannot connect"),
            "{}",
            answer.text()
        );
    }
    let answer = to_groq("");
    answer.check_refusal(502, 2005);
    assert!(
        answer.text().contains("tried again in"),
        "{}",
        answer.text()
    );
    assert_eq!((failures(&server), open(&server)), (3, 1));
    // Others are not concerned, and the next step is asked at once.
    assert_eq!(call(&server, "", &chat("")).status, 200);
    let body: Value = serde_json::from_str(&chat("")).unwrap();
    let step = |provider: &str| json!({"provider": provider, "endpoint": "chat/completions", "query": body});
    let steps = json!([step("groq"), step("openai")]).to_string();
    let answer = server.ask(&post_with(OPEN, "", steps.as_bytes()));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.field("cf-aig-step"), Some("1"));
    assert!(skipped(&server, "groq") >= 1);
    answer_all(TcpListener::bind(dead).unwrap());
    wait_until("the provider to be found again", || {
        to_groq("").status == 200
    });
    assert_eq!(open(&server), 0);
}

#[test]
fn a_provider_that_does_not_answer_a_knock_costs_one_time_out() {
    let (listener, knocked) = black_hole();
    let server = Setup::new()
        .top("shards = 1")
        .provider(
            "openai",
            &format!(
                "base_url = \"http://{}\"\nconnect_timeout = \"300ms\"",
                listener.local_addr().unwrap()
            ),
        )
        .start();
    // Whoever has no patience learns nothing about the provider.
    for _ in 0..4 {
        let answer = call(&server, "cf-aig-request-timeout: 30\r\n", &chat(""));
        answer.check_refusal(504, 2005);
    }
    assert_eq!((skipped(&server, "openai"), open(&server)), (0, 0));
    let before = failures(&server);
    call(&server, "", &chat("")).check_refusal(504, 2005);
    for _ in 0..5 {
        call(&server, "", &chat("")).check_refusal(502, 2005);
    }
    assert_eq!(failures(&server) - before, 1);
    assert_eq!(skipped(&server, "openai"), 5);
    // Those who knocked in vain are taken in, and leave.
    drop(knocked);
    answer_all(listener);
    wait_until("the provider to be found again", || {
        let request = post_with(&format!("{OPEN}{CHAT}"), "", chat("").as_bytes());
        server.ask(&request).status == 200
    });
    assert_eq!(open(&server), 0);
}

#[test]
fn attempts_of_one_request_go_on_when_the_provider_is_back() {
    let dead = dead_port();
    let server = Setup::new()
        .top("shards = 1")
        .provider("openai", &format!("base_url = \"http://{dead}\""))
        .start();
    for _ in 0..4 {
        call(&server, "", &chat("")).check_refusal(502, 2005);
    }
    answer_all(TcpListener::bind(dead).unwrap());
    let lines =
        "cf-aig-max-attempts: 5\r\ncf-aig-retry-delay: 1000\r\ncf-aig-backoff: constant\r\n";
    let answer = call(&server, lines, &chat(""));
    assert_eq!(answer.status, 200, "{}", answer.text());
}
