//! What `/metrics` says of what has just happened.

use std::net::TcpListener;

use crate::support::{
    client::{chat, chat_stream, post},
    server::{OPEN, Setup},
    upstream::{count, mock},
    wait::wait_until,
};

/// The value of one series; `None` if it is not there.
fn value(figures: &str, series: &str) -> Option<f64> {
    let line = figures.lines().find_map(|line| line.strip_prefix(series));
    line.map(|value| value.trim().parse().unwrap())
}

#[test]
fn attempts_and_connections_are_counted_by_how_they_are() {
    let mock = mock();
    let nowhere = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let server = Setup::over(mock.addr())
        .provider(
            "groq",
            &format!("base_url = \"http://{nowhere}\"\nfirst_byte_timeout = \"300ms\""),
        )
        .top("shards = 1")
        .start();
    let path = format!("{OPEN}/openai/chat/completions");
    assert_eq!(server.ask(&post(&path, &chat(""))).status, 200);
    let mut client = server.connect();
    let stream = client.ask(&post(&path, &chat_stream("+events=20+event_delay=5")));
    assert!(stream.whole);
    let lost = post(&format!("{OPEN}/groq/chat/completions"), &chat(""));
    assert_eq!(server.ask(&lost).status, 502);
    client.send(&post(&path, &chat("+hang")));
    wait_until("the provider to be asked", || {
        count(&mock, "in_flight") == 1
    });

    let figures = server.figures();
    let check = |series: &str, wanted: Option<f64>| {
        assert_eq!(value(&figures, series), wanted, "{series}\n{figures}");
    };
    let attempts = "tidegate_upstream_attempts_total";
    check(
        &format!("{attempts}{{provider=\"openai\",result=\"answered\"}}"),
        Some(2.0),
    );
    check(
        &format!("{attempts}{{provider=\"groq\",result=\"connect_failed\"}}"),
        Some(1.0),
    );
    check(
        &format!("{attempts}{{provider=\"openai\",result=\"abandoned\"}}"),
        None,
    );
    let connections = "tidegate_upstream_connections";
    check(&format!("{connections}{{state=\"active\"}}"), Some(1.0));
    check(&format!("{connections}{{state=\"idle\"}}"), Some(0.0));
    let speed = "tidegate_output_tokens_per_second_count";
    check(
        &format!("{speed}{{gateway=\"default\",provider=\"openai\"}}"),
        Some(1.0),
    );

    drop(client);
    wait_until("the attempt to be given up", || {
        let figures = server.figures();
        let given_up = format!("{attempts}{{provider=\"openai\",result=\"abandoned\"}}");
        value(&figures, &given_up) == Some(1.0)
            && value(&figures, &format!("{connections}{{state=\"active\"}}")) == Some(0.0)
    });
}

#[test]
fn each_shard_says_how_busy_it_is() {
    let server = Setup::new().top("shards = 2").start();
    wait_until("shards that were busy", || {
        let figures = server.figures();
        (0..2).all(|shard| {
            let busy = value(
                &figures,
                &format!("tidegate_shard_busy_ratio{{shard=\"{shard}\"}}"),
            );
            let lag = value(
                &figures,
                &format!("tidegate_shard_loop_lag_seconds{{shard=\"{shard}\"}}"),
            );
            busy.is_some_and(|busy| busy > 0.0 && busy < 1.0) && lag.is_some_and(|lag| lag > 0.0)
        })
    });
}
