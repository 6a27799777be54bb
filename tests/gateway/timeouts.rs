//! Limits of time: each cuts what is slow near the moment that was configured, and nothing else.

use std::{
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use rustix::net::listen;

use crate::support::{
    client::{Answer, Client, Sent, chat, chat_stream, get, post},
    process::cpu_ticks,
    server::{OPEN, Server, Setup},
    upstream::{Upstream, count, mock},
    wait::wait_until,
};

/// What every limit is set to here.
const LIMIT: Duration = Duration::from_millis(400);

/// How much later than its limit something may end: a tick, and a loaded machine.
const LATE: Duration = Duration::from_secs(3);

fn chat_path() -> String {
    format!("{OPEN}/openai/chat/completions")
}

/// Runs `work` and checks that it took about as long as the limit.
#[track_caller]
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = work();
    let took = started.elapsed();
    println!("{what}: {took:?} for a limit of {LIMIT:?}");
    assert!(took >= LIMIT.mul_f64(0.9), "{what}: {took:?}");
    assert!(took < LIMIT + LATE, "{what}: {took:?}");
    done
}

#[test]
fn a_slow_head_is_cut() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .tables("[limits]\nhead_timeout = \"400ms\"")
        .start();
    for part in [
        "G",
        "GET /v1/me/default/openai/models HTTP/1.1\r\nHost: localhost\r\n",
    ] {
        let mut client = server.connect();
        let answer = timed("a slow head", || {
            client.send(part.as_bytes());
            client.answer(Sent::Other)
        });
        answer.check_refusal(408, 7000);
        assert_eq!(client.rest(), b"");
    }
    // A byte now and then does not help: the limit is on the whole head.
    let mut client = server.connect();
    client.patience(Duration::from_millis(50));
    let answer = timed("a head that drips", || {
        client.send(b"GET / HTTP/1.1\r\nX-A: ");
        while !client.is_readable() {
            client.send(b"x");
        }
        client.patience(LATE);
        client.answer(Sent::Other)
    });
    answer.check_refusal(408, 7000);
    assert_eq!(
        server
            .ask(&get(&format!("{OPEN}/openai/models"), ""))
            .status,
        200
    );
}

#[test]
fn a_slow_body_is_cut() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .tables("[limits]\nbody_timeout = \"400ms\"\ngather_bytes = \"16KiB\"")
        .start();
    let head = format!("POST {} HTTP/1.1\r\nHost: localhost\r\n", chat_path());
    for (what, rest, body) in [
        (
            "a body that stops",
            "Content-Length: 1000\r\n\r\n",
            "half".to_owned(),
        ),
        (
            "chunks that stop",
            "Transfer-Encoding: chunked\r\n\r\n",
            "4\r\nhalf\r\n".to_owned(),
        ),
        (
            "a large body that stops",
            "Content-Length: 100000\r\n\r\n",
            "x".repeat(50_000),
        ),
    ] {
        let mut client = server.connect();
        let answer = timed(what, || {
            client.send(format!("{head}{rest}{body}").as_bytes());
            client.answer(Sent::Other)
        });
        answer.check_refusal(408, 7000);
        assert_eq!(client.rest(), b"", "{what}");
    }
    assert_eq!(count(&mock, "total/requests"), 0);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .tables("[limits]\nidle_timeout = \"1s\"")
        .start();
    let mut client = server.connect();
    let started = Instant::now();
    assert_eq!(client.rest(), b"");
    assert!(started.elapsed() < Duration::from_secs(1) + LATE);

    let mut client = server.connect();
    assert_eq!(client.ask(&post(&chat_path(), &chat(""))).status, 200);
    let started = Instant::now();
    assert_eq!(client.rest(), b"");
    assert!(started.elapsed() >= Duration::from_millis(900));
    assert!(started.elapsed() < Duration::from_secs(1) + LATE);
}

#[test]
fn a_long_answer_is_no_idle_connection() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .tables(
            "[limits]\nidle_timeout = \"1s\"\nhead_timeout = \"400ms\"\nbody_timeout = \"400ms\"",
        )
        .start();
    for body in [
        chat("+delay=1500"),
        chat_stream("+events=15+event_delay=100"),
    ] {
        let answer = server.ask(&post(&chat_path(), &body));
        assert_eq!(
            (answer.status, answer.whole),
            (200, true),
            "{}",
            answer.text()
        );
    }
}

/// A server whose provider has these limits.
fn limited(mock: &tidegate::cli::demo::mock_provider::MockProvider, limits: &str) -> Server {
    Setup::new()
        .provider(
            "openai",
            &format!("origin = \"http://{}/openai\"\n{limits}", mock.addr()),
        )
        .start()
}

#[test]
fn a_connection_that_does_not_come_about_is_a_504() {
    // A full backlog: the system answers no further knock.
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    listen(&full, 0).unwrap();
    let address = full.local_addr().unwrap();
    let _first = TcpStream::connect(address).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let knock = TcpStream::connect_timeout(&address, Duration::from_millis(100));
        waiting.push(knock);
    }
    assert!(
        waiting.iter().any(Result::is_err),
        "the backlog is not full"
    );

    let server = Setup::new()
        .provider(
            "openai",
            &format!("base_url = \"http://{address}\"\nconnect_timeout = \"400ms\""),
        )
        .start();
    let answer = timed("connecting", || server.ask(&post(&chat_path(), &chat(""))));
    answer.check_refusal(504, 2005);
    let record = &server.records_once(1)[0];
    assert_eq!(record["outcome"], "upstream_timeout", "{record:#}");
}

#[test]
fn a_first_byte_that_does_not_come_is_a_504() {
    let mock = mock();
    let server = limited(&mock, "first_byte_timeout = \"400ms\"");
    for body in [chat("+hang"), chat_stream("+hang")] {
        let answer = timed("the first byte", || server.ask(&post(&chat_path(), &body)));
        answer.check_refusal(504, 2005);
    }
    wait_until("the provider to hear of it", || {
        count(&mock, "aborted_by_peer/count") == 2
    });
    assert_eq!(count(&mock, "total/requests"), 2, "asked once each");
    // Half a head is no answer either.
    let upstream = Upstream::start(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-");
        peer.rest();
    });
    let server = Setup::new()
        .provider(
            "openai",
            &format!(
                "base_url = \"http://{}\"\nfirst_byte_timeout = \"400ms\"",
                upstream.address
            ),
        )
        .start();
    let answer = timed("half a head", || server.ask(&post(&chat_path(), &chat(""))));
    answer.check_refusal(504, 2005);
}

/// An answer that was cut: its status stands, its end is missing.
#[track_caller]
fn check_cut(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.whole),
        (200, false),
        "{}",
        answer.text()
    );
}

#[test]
fn a_pause_within_an_answer_cuts_it() {
    let mock = mock();
    let server = limited(&mock, "idle_timeout = \"400ms\"");
    for body in [chat("+hang_after=50"), chat_stream("+hang_after=300")] {
        let answer = timed("a pause", || server.ask(&post(&chat_path(), &body)));
        check_cut(&answer);
    }
    wait_until("the provider to hear of it", || {
        count(&mock, "aborted_by_peer/count") == 2
    });
    for record in server.records_once(2) {
        assert_eq!(record["outcome"], "upstream_cut", "{record:#}");
    }
    // Many short pauses are none.
    let answer = server.ask(&post(
        &chat_path(),
        &chat_stream("+events=20+event_delay=50"),
    ));
    assert!(answer.whole);
}

#[test]
fn the_limit_on_the_whole_cuts_what_still_moves() {
    let mock = mock();
    let server = limited(&mock, "total_timeout = \"400ms\"");
    let answer = timed("the whole, waiting", || {
        server.ask(&post(&chat_path(), &chat("+hang")))
    });
    answer.check_refusal(504, 2005);
    let answer = timed("the whole, streaming", || {
        server.ask(&post(
            &chat_path(),
            &chat_stream("+events=10000+event_delay=10"),
        ))
    });
    check_cut(&answer);
    wait_until("the provider to hear of it", || {
        count(&mock, "aborted_by_peer/count") == 2
    });
}

#[test]
fn a_provider_that_stops_reading_an_upload_is_given_up() {
    let upstream = Upstream::start(|peer| {
        peer.head();
        wait_until("the other side to give up", || match peer.peek() {
            Ok(_) => false,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        });
    });
    let server = Setup::new()
        .provider(
            "openai",
            &format!(
                "base_url = \"http://{}\"\nfirst_byte_timeout = \"400ms\"",
                upstream.address
            ),
        )
        .tables("[limits]\ngather_bytes = \"64KiB\"")
        .start();
    let mut client = server.connect();
    let sender = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let mut client = Client::over(sender);
        client.send(format!("POST {OPEN}/openai/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000000\r\n\r\n").as_bytes());
        client.send(&vec![7; 90_000_000]);
    });
    let answer = client.answer(Sent::Other);
    answer.check_refusal(504, 2005);
    drop(client);
    sending.join().unwrap();
}

#[test]
fn a_full_descriptor_table_is_waited_out() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .top("shards = 1")
        .wrapper(&["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .start();
    let mut early = server.connect();
    assert_eq!(early.ask(&post(&chat_path(), &chat(""))).status, 200);
    // More than there are descriptors for: the rest waits in the listener's queue.
    let crowd: Vec<Client> = (0..150).map(|_| server.connect()).collect();
    let full = |server: &Server| crate::support::process::descriptors(server.pid()) >= 63;
    wait_until("the table to be full", || full(&server));

    // Who is in, is served, while nothing spins.
    let before = cpu_ticks(server.pid());
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        assert_eq!(
            early.ask(&post(&chat_path(), &chat("+delay=100"))).status,
            200
        );
    }
    let used = cpu_ticks(server.pid()) - before;
    println!("{used} hundredths of a second of processor time in one second with a full table");
    assert!(used < 50, "it spins: {used} hundredths of a second");
    assert!(full(&server));

    let left = Instant::now();
    drop(crowd);
    assert_eq!(server.ask(&post(&chat_path(), &chat(""))).status, 200);
    println!("serving again after {:?}", left.elapsed());
    assert!(left.elapsed() < LATE);
}
