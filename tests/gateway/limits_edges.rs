//! Limits where something goes otherwise than usual: attempts without an answer, steps that reach
//! nobody, callers who leave, windows that end, settings that change, a server that drains.

use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    limits::{
        CENT_A_THOUSAND, CHAT, DOLLAR, asked, call, hard, nothing_is_out, spent, storm, three_cents,
    },
    management::{GATEWAYS, Manager, gateway},
};
use crate::support::{
    client::{Sent, chat, get, post_with},
    server::{LOCKED, OPEN, Server, Setup},
    upstream::{Upstream, mock},
    wait::wait_until,
};

#[test]
fn attempts_without_an_answer_keep_what_was_reserved_for_each() {
    // It reads the request, so that it may have worked on it, and hangs up.
    let upstream = Upstream::start(|peer| _ = peer.request());
    let server = Setup::scripted(upstream.address)
        .tables(CENT_A_THOUSAND)
        .gateway(&hard("0.10"))
        .start();
    let lines = "cf-aig-max-attempts: 5\r\ncf-aig-retry-delay: 1\r\n";
    // Three cents each, also for attempts of one request: the fourth of it has no leave.
    call(&server, lines, &three_cents()).check_refusal(429, 2041);
    assert_eq!(upstream.requests(), 3);
    call(&server, lines, &three_cents()).check_refusal(429, 2041);
    assert_eq!(upstream.requests(), 3);
    nothing_is_out(&server);
}

#[test]
fn a_caller_who_leaves_an_unanswered_request_does_not_get_it_for_nothing() {
    let upstream = Upstream::start(|peer| {
        peer.request();
        peer.rest();
    });
    let server = Setup::scripted(upstream.address)
        .tables(CENT_A_THOUSAND)
        .gateway(&hard("0.10"))
        .start();
    for number in 1..=3 {
        let mut client = server.connect();
        client.send(&post_with(
            &format!("{OPEN}{CHAT}"),
            "",
            three_cents().as_bytes(),
        ));
        wait_until("the request to arrive", || upstream.requests() == number);
        drop(client);
    }
    nothing_is_out(&server);
    call(&server, "", &three_cents()).check_refusal(429, 2041);
    assert_eq!(upstream.requests(), 3);
}

#[test]
fn a_step_that_reaches_nobody_does_not_give_the_request_back() {
    let mock = mock();
    for more in [
        "",
        "token_limits = [{ limit = 1000000, window = 86400, technique = \"fixed\", by = \"gateway\" }]",
    ] {
        let server = Setup::over(mock.addr())
            .provider("groq", "base_url = \"http://127.0.0.1:9\"")
            .gateway("rate_limiting_limit = 3\nrate_limiting_interval = 86400")
            .gateway(more)
            .start();
        let before = asked(&mock);
        let body: Value = serde_json::from_str(&chat("")).unwrap();
        let step = |provider: &str| json!({"provider": provider, "endpoint": "chat/completions", "query": body});
        let steps = json!([step("groq"), step("openai")]).to_string();
        for expected in [200, 200, 200, 429, 429] {
            let answer = server.ask(&post_with(OPEN, "", steps.as_bytes()));
            assert_eq!(answer.status, expected, "{}", answer.text());
        }
        assert_eq!(asked(&mock) - before, 3, "{more}");
        nothing_is_out(&server);
    }
}

#[test]
fn a_price_that_the_caller_names_counts_for_soft_limits_only() {
    let mock = mock();
    let lines = "x-mock: in=1000,out=1000\r\ncf-aig-custom-cost: {\"per_token_in\":0,\"per_token_out\":0}\r\n";
    let admitted = |rule: &str| {
        let server = Setup::over(mock.addr())
            .tables(CENT_A_THOUSAND)
            .gateway(rule)
            .start();
        let statuses = (0..6).map(|_| call(&server, lines, &three_cents()).status);
        statuses.filter(|status| *status == 200).count()
    };
    // Two cents each by the operator's price, of which three are reserved at first.
    assert_eq!(admitted(&hard("0.07")), 2);
    assert_eq!(admitted(&hard("0.07").replace(", hard = true", "")), 6);
}

#[test]
fn what_has_no_tokens_by_its_method_takes_none() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .gateway("token_limits = [{ limit = 2000, window = 86400, technique = \"fixed\", by = \"gateway\" }]")
        .start();
    for _ in 0..5 {
        let answer = server.ask(&get(&format!("{OPEN}/openai/models"), ""));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let lines = "x-mock: in=40,out=60\r\n";
    let answer = call(&server, lines, &chat(""));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_web_socket_counts_as_a_request_and_does_not_pass_a_hard_limit() {
    let mock = mock();
    let handshake = format!(
        "GET {OPEN}/openai?model=gpt-realtime HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let open = |server: &Server| {
        let mut client = server.connect();
        client.send(handshake.as_bytes());
        let status = client.answer_head().status;
        (client, status)
    };
    let server = Setup::over(mock.addr())
        .gateway("rate_limiting_limit = 2\nrate_limiting_interval = 86400")
        .gateway("token_limits = [{ limit = 100000, window = 86400, technique = \"fixed\", by = \"gateway\" }]")
        .start();
    let sockets: Vec<_> = (0..3).map(|_| open(&server)).collect();
    let statuses: Vec<_> = sockets.iter().map(|(_, status)| *status).collect();
    assert_eq!(statuses, [101, 101, 429]);
    assert!(
        server.figures().contains("\ntidegate_limit_permits 2\n"),
        "open ones hold their leave"
    );
    drop(sockets);
    nothing_is_out(&server);

    let server = Setup::over(mock.addr()).gateway(&hard("9.0")).start();
    assert_eq!(open(&server).1, 429);
}

#[test]
fn a_limit_that_is_raised_holds_as_raised_for_the_next_request() {
    let mock = mock();
    let server = Setup::over(mock.addr()).top("shards = 4").start();
    let mut manager = Manager::of(&server);
    let with = |limit: u64| {
        gateway(
            "raised",
            &json!({"rate_limiting_limit": limit, "rate_limiting_interval": 3600, "rate_limiting_technique": "sliding"}),
        )
    };
    let path = format!("{GATEWAYS}/raised");
    manager.result("POST", GATEWAYS, Some(&with(2)));
    // Each on a connection of its own: on some shard.
    let sent = || {
        let request = post_with(
            &format!("/v1/me/raised{CHAT}"),
            &format!(
                "cf-aig-authorization: Bearer {}\r\n",
                crate::support::server::TOKEN
            ),
            chat("").as_bytes(),
        );
        server.ask(&request).status
    };
    assert_eq!([sent(), sent(), sent()], [200, 200, 429]);
    manager.result("PUT", &path, Some(&with(5)));
    // What counted before counts still.
    assert_eq!([sent(), sent(), sent(), sent()], [200, 200, 200, 429]);
    manager.result("PUT", &path, Some(&with(1)));
    assert_eq!(sent(), 429);
    manager.result("PUT", &path, Some(&with(6)));
    assert_eq!([sent(), sent()], [200, 429]);
}

/// Sends from so many clients until `count` were admitted; gives of each when it was sent and when
/// its answer was there, in the order of the answers.
fn admitted(server: &Server, clients: usize, count: usize) -> Vec<(Instant, Instant)> {
    let all = Mutex::new(Vec::new());
    let request = post_with(
        &format!("{OPEN}{CHAT}"),
        "x-mock: in=4,out=6\r\n",
        chat("").as_bytes(),
    );
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = server.connect();
                while all.lock().unwrap().len() < count {
                    let sent = Instant::now();
                    client.send(&request);
                    let answer = client.answer(Sent::of(&request));
                    let times = (sent, Instant::now());
                    match answer.status {
                        200 => all.lock().unwrap().push(times),
                        _ => answer.check_refusal(429, 2003),
                    }
                }
            });
        }
    });
    let mut all = all.into_inner().unwrap();
    all.sort_by_key(|(_, answered)| *answered);
    all
}

#[test]
fn windows_hold_across_their_edges() {
    let mock = mock();
    // A fixed window may be used up at its end and the next one at its start.
    for (technique, a_window) in [("sliding", 5), ("fixed", 10)] {
        for shards in [1, 4] {
            let server = Setup::over(mock.addr())
                .top(&format!("shards = {shards}"))
                .gateway("collect_logs = false")
                .gateway(&format!("rate_limiting_limit = 5\nrate_limiting_interval = 1\nrate_limiting_technique = \"{technique}\""))
                .start();
            let all = admitted(&server, 4, 15);
            check_seconds(&all, a_window, technique);
        }
    }
}

/// Checks that no second has seen more than `most` admitted. They were admitted not before they were
/// sent and not after their answers; those that were on their way at the same time may have been
/// admitted in another order than they were answered.
#[track_caller]
fn check_seconds(all: &[(Instant, Instant)], most: usize, what: &str) {
    for some in all.windows(most + 1) {
        let first = some.iter().map(|(sent, _)| *sent).min().unwrap();
        let last = some.iter().map(|(_, answered)| *answered).max().unwrap();
        let apart = last - first;
        assert!(apart >= Duration::from_secs(1), "{what}: {apart:?}");
    }
}

#[test]
fn a_limit_on_tokens_holds_in_every_window_against_sixty_four_clients() {
    let mock = mock();
    for shards in [1, 4] {
        let server = Setup::over(mock.addr())
            .top(&format!("shards = {shards}"))
            .gateway("collect_logs = false")
            .gateway("token_limits = [{ limit = 100, window = 1, technique = \"sliding\", by = \"gateway\" }]")
            .start();
        // The first teaches what an answer has: ten tokens.
        assert_eq!(
            call(&server, "x-mock: in=4,out=6\r\n", &chat("")).status,
            200
        );
        let all = admitted(&server, 64, 35);
        // The limit, and the reserve of one request.
        check_seconds(&all, 11, "tokens");
    }
}

#[test]
fn a_budget_of_a_key_holds_over_all_gateways_at_once() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .top("shards = 4")
        .env("RICH_TOKEN", "tide-rich-0123456789abcdef")
        .tables("[[tokens]]\nname = \"rich\"\ntoken = \"env:RICH_TOKEN\"\npermissions = [\"run\"]\nbudget = { limit = \"0.5\", period = \"daily\", hard = true }\n[gateways.other]\nrate_limiting_limit = 1000\nrate_limiting_interval = 86400\n")
        .tables(CENT_A_THOUSAND)
        .start();
    let statuses = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..16 {
            let (server, statuses) = (&server, &statuses);
            scope.spawn(move || {
                let place = [OPEN, LOCKED, "/v1/me/other"][number % 3];
                for _ in 0..5 {
                    let request = post_with(
                        &format!("{place}{CHAT}"),
                        "cf-aig-authorization: Bearer tide-rich-0123456789abcdef\r\nx-mock: in=1000,out=1000,delay=2\r\n",
                        three_cents().as_bytes(),
                    );
                    let answer = server.ask(&request);
                    statuses.lock().unwrap().push(answer.status);
                }
            });
        }
    });
    let statuses = statuses.into_inner().unwrap();
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    // On a machine that does much else the journal may be late: that refuses too.
    let known = |status: &u16| [200, 429, 503].contains(status);
    assert!(statuses.iter().all(known), "{statuses:?}");
    let spent = spent(&server.records_once(80));
    assert_eq!(spent, admitted as u128 * DOLLAR / 50);
    assert!(spent <= DOLLAR / 2, "{spent}");
    assert!(admitted >= 12, "{admitted}");
    nothing_is_out(&server);
    // What the key could not pay for was given back to the gateway.
    let answer = storm(&server, 4, 10, "", &chat(""));
    assert_eq!(answer, 40);
}

#[test]
fn what_was_spent_while_a_server_drains_is_not_forgotten() {
    let mock = mock();
    let folder = tempfile::tempdir().unwrap();
    let setup = || {
        Setup::over(mock.addr())
            .folder(folder.path())
            .top("shards = 4")
            .tables(CENT_A_THOUSAND)
            .gateway(&hard("1.0").replace(", hard = true", ""))
    };
    let lines = "x-mock: in=1000,out=1000,delay=150\r\n";
    let request = post_with(&format!("{OPEN}{CHAT}"), lines, chat("").as_bytes());
    for round in 1..=3 {
        let mut server = setup().start();
        let mut clients: Vec<_> = (0..12).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send(&request);
        }
        wait_until("all to be at the provider", || asked(&mock) == round * 12);
        server.signal(Signal::TERM);
        for mut client in clients {
            assert_eq!(client.answer(Sent::of(&request)).status, 200);
        }
        assert!(server.wait().success());
    }
    // Two cents each: of fifty, 36 are spent.
    let server = setup().start();
    let lines = "x-mock: in=1000,out=1000\r\n";
    let statuses = (0..20).map(|_| call(&server, lines, &chat("")).status);
    let admitted = statuses.filter(|status| *status == 200).count();
    assert_eq!(admitted, 14);
}

#[test]
fn where_an_answer_is_read_on_after_a_hang_up_it_is_paid_as_it_was_used() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .tables(CENT_A_THOUSAND)
        .gateway(&hard("0.08"))
        .gateway("on_disconnect = \"drain\"")
        .start();
    let body = json!({
        "model": "gpt-4o", "max_tokens": 1000, "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "x"}],
    });
    let lines = "x-mock: in=1000,out=1000,events=5,event_delay=20\r\n";
    let request = post_with(&format!("{OPEN}{CHAT}"), lines, body.to_string().as_bytes());
    // Three cents are reserved, two are used: the third has room, the fourth has not.
    for _ in 0..3 {
        let mut client = server.connect();
        client.send(&request);
        let head = client.answer_head();
        assert_eq!(head.status, 200, "{}", head.head);
        drop(client);
        nothing_is_out(&server);
    }
    server.ask(&request).check_refusal(429, 2041);
    assert_eq!(spent(&server.records_once(4)), DOLLAR * 6 / 100);
}
