//! Providers that break HTTP, break off, or answer at the wrong moment: a 502, or an answer that
//! nobody takes for whole, and a connection that is not used again.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
    mpsc,
};

use crate::support::{
    client::{Sent, chat, chat_stream, find, get, post},
    process::established,
    server::{OPEN, Setup},
    upstream::{Upstream, count, mock},
    wait::wait_until,
};

fn chat_path() -> String {
    format!("{OPEN}/openai/chat/completions")
}

#[test]
fn a_malformed_answer_becomes_a_502_and_ends_its_connection() {
    let mock = mock();
    let server = Setup::over(mock.addr()).top("shards = 1").start();
    let words = [
        "cl",
        "cllist",
        "clhuge",
        "clempty",
        "dupcl",
        "clte",
        "te",
        "telist",
        "chunk",
        "hugechunk",
        "chunkend",
        "status",
        "badversion",
        "obsfold",
        "nul",
        "cr",
        "colonspace",
        "lf",
        "bighead",
        "manyheaders",
        "early100",
        "garbage",
    ];
    let mut client = server.connect();
    for (number, word) in (1..).zip(words) {
        // The caller did nothing wrong: its connection lives on.
        let answer = client.ask(&post(&chat_path(), &chat(&format!("+malformed={word}"))));
        assert_eq!(answer.status, 502, "{word}: {}", answer.text());
        assert_eq!(answer.code(), 2005, "{word}");
        assert!(answer.field("cf-aig-log-id").is_some(), "{word}");
        let good = client.ask(&post(&chat_path(), &chat("")));
        assert_eq!(good.status, 200, "after {word}");
        // Each broken connection is replaced by one that the good answer came on, and that is
        // the one to break next.
        assert_eq!(count(&mock, "connections/accepted"), number + 1, "{word}");
    }
    let records = server.records_once(2 * words.len());
    let failed = records
        .iter()
        .filter(|record| record["outcome"] == "upstream_failed" && record["status_code"] == 502)
        .count();
    assert_eq!(failed, words.len(), "{records:#?}");
}

#[test]
fn heads_that_only_a_script_can_send_become_a_502() {
    let answers: &[&[u8]] = &[
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer_Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n Content-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n: nameless\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/2 200\r\nContent-Length: 2\r\n\r\n{}",
        b"ICY 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"{\"no\":\"head\"}",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
    ];
    let next: Arc<Mutex<&[u8]>> = Arc::default();
    let script = Arc::clone(&next);
    let upstream = Upstream::start(move |peer| {
        if peer.request().is_some() {
            let answer = *script.lock().unwrap();
            peer.send(answer);
            peer.finish();
            peer.rest();
        }
    });
    let server = Setup::scripted(upstream.address).start();
    for answer in answers {
        *next.lock().unwrap() = answer;
        let shown = String::from_utf8_lossy(answer);
        let got = server.ask(&post(&chat_path(), &chat("")));
        assert_eq!(got.status, 502, "{shown}: {}", got.text());
        assert_eq!(got.code(), 2005, "{shown}");
    }
    assert_eq!(upstream.requests(), answers.len() as u64);
}

#[test]
fn a_connection_that_ends_before_the_head_becomes_a_502() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    for cut in ["before", "head", "rst:before", "rst:head"] {
        for body in [
            chat(&format!("+cut={cut}")),
            chat_stream(&format!("+cut={cut}")),
        ] {
            let answer = server.ask(&post(&chat_path(), &body));
            answer.check_refusal(502, 2005);
        }
    }
    // Asked once each: a POST that was read is not sent again.
    assert_eq!(count(&mock, "total/requests"), 8);
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut exchanges = 0;
    for cut in ["1", "100", "rst:1", "rst:100"] {
        for framing in ["length", "chunked"] {
            for body in [chat(""), chat_stream("")] {
                let query = format!("?mock={framing},cut={cut}");
                let mut client = server.connect();
                client.send(&post(&(chat_path() + &query), &body));
                let answer = client.answer(Sent::Other);
                let what = format!("{query} {body}");
                assert_eq!(answer.status, 200, "{what}");
                assert!(!answer.whole, "{what}: {}", answer.text());
                assert!(answer.body.len() <= 100, "{what}: something was appended");
                assert_eq!(client.rest(), b"", "{what}: the connection goes on");
                exchanges += 1;
            }
        }
    }
    let records = server.records_once(exchanges);
    for record in records {
        assert_eq!(record["outcome"], "upstream_cut", "{record:#}");
    }
}

#[test]
fn a_close_delimited_answer_that_is_reset_never_looks_whole() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let path = chat_path() + "?mock=close,cut=rst:50";
    let answer = server.ask(&post(&path, &chat("")));
    assert_eq!((answer.status, answer.whole), (200, false));

    // A caller of HTTP/1.0 tells the end by the connection's end, so that must be a reset.
    let old = format!(
        "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{}",
        chat("").len(),
        chat("")
    );
    let answer = server.ask(old.as_bytes());
    assert_eq!(
        (answer.status, answer.whole),
        (200, false),
        "{}",
        answer.head
    );
}

#[test]
fn an_answer_cut_for_a_caller_of_http_1_0_ends_by_a_reset() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let body = chat("");
    for query in ["?mock=chunked,cut=50", "?mock=chunked,cut=rst:50"] {
        let old = format!(
            "POST {}{query} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
            chat_path(),
            body.len()
        );
        let answer = server.ask(old.as_bytes());
        assert_eq!(answer.field("transfer-encoding"), None);
        assert_eq!((answer.status, answer.whole), (200, false), "{query}");
    }
}

#[test]
fn chunks_that_break_behind_the_first_read_end_the_answer_short() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        wait.lock().unwrap().recv().unwrap();
        peer.send("zz\r\nworld\r\n0\r\n\r\n");
        peer.rest();
    });
    let server = Setup::scripted(upstream.address).start();
    let mut client = server.connect();
    client.send(&post(&chat_path(), &chat("")));
    assert_eq!(client.answer_head().status, 200);
    assert_eq!(client.chunk().as_deref(), Some(&b"hello"[..]));
    go_on.send(()).unwrap();
    let rest = client.rest();
    assert_eq!(
        find(&rest, b"0\r\n\r\n"),
        None,
        "{}",
        String::from_utf8_lossy(&rest)
    );
    wait_until("the provider to be left", || upstream.ended() == 1);
}

#[test]
fn surplus_bytes_retire_the_connection_and_reach_nobody() {
    let mock = mock();
    let server = Setup::over(mock.addr()).top("shards = 1").start();
    let mut client = server.connect();
    let direct = crate::support::client::Client::connect(mock.addr())
        .ask(&post("/openai/v1/chat/completions", &chat("")));
    for number in 1..=5 {
        for path in [
            chat_path() + "?mock=surplus",
            chat_path() + "?mock=surplus,chunked",
        ] {
            let answer = client.ask(&post(&path, &chat("")));
            assert!(answer.whole);
            assert_eq!(answer.body, direct.body);
            assert_eq!(client.pending(), b"");
        }
        // One was the direct call's.
        assert_eq!(count(&mock, "connections/accepted"), 2 * number + 1);
    }
}

#[test]
fn surplus_that_comes_late_is_not_the_next_answer() {
    // Bytes that arrive on an idle connection would be taken for the answer to the next request.
    let (go_on, wait) = mpsc::channel::<()>();
    let (poisoned, done) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |peer| {
        while peer.request().is_some() {
            peer.answer("{\"good\":1}");
            if peer.place == 0 {
                wait.lock().unwrap().recv().unwrap();
                peer.answer("{\"poison\":1}");
                poisoned.send(()).unwrap();
            }
        }
    });
    let server = Setup::scripted(upstream.address).top("shards = 1").start();
    let mut client = server.connect();
    for number in 0..5 {
        let answer = client.ask(&post(&chat_path(), &chat("")));
        assert_eq!(answer.text(), "{\"good\":1}");
        if number == 0 {
            go_on.send(()).unwrap();
            done.recv().unwrap();
        }
    }
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn interim_answers_pass_and_do_not_disturb() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let mut client = server.connect();
    for _ in 0..3 {
        let answer = client.ask(&post(&(chat_path() + "?mock=continue"), &chat("")));
        assert_eq!((answer.status, answer.whole), (200, true));
        assert_eq!(answer.interim.len(), 1, "{:?}", answer.interim);
        assert!(
            answer.interim[0].starts_with("HTTP/1.1 103 "),
            "{:?}",
            answer.interim
        );
    }
    // HTTP/1.0 knows none.
    let body = chat("");
    let old = format!(
        "POST {}?mock=continue HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
        chat_path(),
        body.len()
    );
    let answer = server.ask(old.as_bytes());
    assert_eq!((answer.status, answer.interim.len()), (200, 0));
}

#[test]
fn an_answer_before_the_request_is_read_reaches_the_caller() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .top("shards = 1")
        .tables("[limits]\ngather_bytes = \"16KiB\"")
        .start();
    let large = format!(
        r#"{{"model":"gpt-4o","padding":"{}"}}"#,
        "x".repeat(8 << 20)
    );
    for early in ["early", "early=close"] {
        for body in [chat(""), large.clone()] {
            let path = format!("{}?mock={early},status=429", chat_path());
            let answer = server.ask(&post(&path, &body));
            assert_eq!(
                (answer.status, answer.whole),
                (429, true),
                "{early}: {}",
                answer.text()
            );
        }
        // Whatever connection is left over carries no rest of a body.
        let good = server.ask(&post(&chat_path(), &chat("")));
        assert_eq!(good.status, 200, "{early}: {}", good.text());
    }
    assert_eq!(count(&mock, "bad_requests"), 0);
}

#[test]
fn no_request_is_lost_to_a_pooled_connection_that_the_provider_closed() {
    let upstream = Upstream::start(|peer| {
        peer.request();
        // Says keep-alive, and closes.
        peer.answer("{}");
    });
    let server = Setup::scripted(upstream.address).top("shards = 1").start();
    let mut client = server.connect();
    for number in 0..200 {
        wait_until("the provider to have closed", || {
            upstream.ended() == number && established(upstream.address.port()) == 0
        });
        let request = if number % 2 == 0 {
            post(&chat_path(), &chat(""))
        } else {
            get(&format!("{OPEN}/openai/models"), "")
        };
        let answer = client.ask(&request);
        assert_eq!(answer.status, 200, "request {number}: {}", answer.text());
    }
    assert_eq!(upstream.requests(), 200);
}

#[test]
fn a_get_that_met_a_closing_connection_is_sent_again_and_a_post_is_not() {
    // Reads the second request on each connection, and closes without an answer.
    let upstream = Upstream::start(|peer| {
        if peer.request().is_some() {
            peer.answer("{}");
            peer.request();
        }
    });
    let server = Setup::scripted(upstream.address).top("shards = 1").start();
    let warm = || assert_eq!(server.ask(&post(&chat_path(), &chat(""))).status, 200);

    warm();
    let answer = server.ask(&get(&format!("{OPEN}/openai/models"), ""));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(upstream.requests(), 3);

    // The connection of the repeated GET is warm now.
    let answer = server.ask(&post(&chat_path(), &chat("")));
    answer.check_refusal(502, 2005);
    assert_eq!(
        upstream.requests(),
        4,
        "a POST that was read is not sent twice"
    );
}

#[test]
fn a_provider_that_refuses_or_is_nowhere_becomes_a_502() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let server = Setup::scripted(address)
        .provider("groq", "origin = \"http://no-such-host.invalid\"")
        .start();
    let answer = server.ask(&post(&chat_path(), &chat("")));
    answer.check_refusal(502, 2005);
    let answer = server.ask(&post(&format!("{OPEN}/groq/chat/completions"), &chat("")));
    answer.check_refusal(502, 2005);
    let description = answer.json()["description"].as_str().unwrap().to_owned();
    assert!(
        description.contains("no-such-host.invalid"),
        "{description}"
    );
    let records = server.records_once(2);
    for record in records {
        assert_eq!(record["outcome"], "upstream_failed", "{record:#}");
    }
}

#[test]
fn a_providers_own_errors_pass_through_with_status_and_body() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    for status in [400, 401, 404, 408, 429, 500, 503, 529] {
        let body = chat(&format!("+status={status}"));
        let through = server.ask(&post(&chat_path(), &body));
        let mut direct = crate::support::client::Client::connect(mock.addr());
        let direct = direct.ask(&post("/openai/v1/chat/completions", &body));
        assert_eq!(
            (through.status, &through.body),
            (direct.status, &direct.body)
        );
        assert_eq!(through.field("retry-after"), direct.field("retry-after"));
    }
}

#[test]
fn an_endless_head_is_cut_at_the_limit() {
    let gone = Arc::new(AtomicBool::new(false));
    let noticed = Arc::clone(&gone);
    let upstream = Upstream::start(move |peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\n");
        while peer.send("X-More: and more\r\n".repeat(100)) {}
        noticed.store(true, Ordering::Release);
    });
    let server = Setup::scripted(upstream.address).start();
    server
        .ask(&post(&chat_path(), &chat("")))
        .check_refusal(502, 2005);
    wait_until("the provider to notice", || gone.load(Ordering::Acquire));
}
