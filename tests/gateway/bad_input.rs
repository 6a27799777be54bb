//! What strangers send: refused with the right status, in the contract's shape, connection
//! closed, nothing forwarded.

use crate::support::{
    client::{Answer, Client, Sent, post},
    server::{OPEN, Server, Setup},
    upstream::{Upstream, count, mock},
};

/// A request to refuse: a name, its bytes, the status.
struct Vector {
    name: String,
    bytes: Vec<u8>,
    status: u16,
}

fn vector(name: &str, bytes: impl AsRef<[u8]>, status: u16) -> Vector {
    Vector {
        name: name.to_owned(),
        bytes: bytes.as_ref().to_vec(),
        status,
    }
}

/// A POST with these header lines and this body.
fn with(name: &str, lines: &str, body: &str, status: u16) -> Vector {
    let head = format!("POST {OPEN}/openai/chat/completions HTTP/1.1\r\nHost: localhost\r\n");
    vector(name, format!("{head}{lines}\r\n{body}"), status)
}

/// A GET with these header lines.
fn field(name: &str, lines: &str, status: u16) -> Vector {
    let head = format!("GET {OPEN}/openai/models HTTP/1.1\r\nHost: localhost\r\n");
    vector(name, format!("{head}{lines}\r\n"), status)
}

/// A request line, without a body.
fn line(name: &str, line: &str, status: u16) -> Vector {
    vector(name, format!("{line}\r\nHost: localhost\r\n\r\n"), status)
}

/// A chunked body, head before it.
fn chunks(name: &str, body: &str, status: u16) -> Vector {
    with(name, "Transfer-Encoding: chunked\r\n", body, status)
}

/// Sends each vector twice, whole and byte by byte, with a well-formed request right behind it.
/// That one must go nowhere, and the provider must not hear of either.
#[track_caller]
fn check(vectors: &[Vector]) {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    for Vector {
        name,
        bytes,
        status,
    } in vectors
    {
        let mut bytes = bytes.clone();
        bytes.extend_from_slice(&smuggled());
        let whole = refusal(&server, |client| client.send(&bytes));
        let trickled = refusal(&server, |client| client.trickle(&bytes));
        for (way, (answer, behind)) in [("whole", whole), ("byte by byte", trickled)] {
            assert_eq!(answer.status, *status, "{name}, {way}: {}", answer.text());
            assert_eq!(answer.code(), 7000, "{name}, {way}");
            assert_eq!(
                answer.field("connection"),
                Some("close"),
                "{name}, {way}: {}",
                answer.head
            );
            assert!(
                behind.is_empty(),
                "{name}, {way}: a second answer, {}",
                String::from_utf8_lossy(&behind)
            );
        }
    }
    let healthy = server.ask(&post(&format!("{OPEN}/openai/embeddings"), EMBED));
    assert_eq!(healthy.status, 200, "{}", healthy.text());
    let report = mock.counters();
    assert_eq!(count(&mock, "total/requests"), 1, "{report:#}");
    assert_eq!(count(&mock, "bad_requests"), 0, "{report:#}");
    assert_eq!(count(&mock, "cut_requests"), 0, "{report:#}");
    assert_eq!(count(&mock, "connections/accepted"), 1, "{report:#}");
}

/// The refusal, and whatever came behind it before the connection ended.
#[track_caller]
fn refusal(server: &Server, send: impl FnOnce(&mut Client)) -> (Answer, Vec<u8>) {
    let mut client = server.connect();
    send(&mut client);
    (client.answer(Sent::Other), client.rest())
}

fn smuggled() -> Vec<u8> {
    post(&format!("{OPEN}/openai/embeddings"), EMBED)
}

const EMBED: &str = r#"{"model":"text-embedding-3-small","input":"x"}"#;

#[test]
fn a_length_that_is_not_one_plain_number_is_refused() {
    let lengths = [
        "+5",
        "-5",
        "5,5",
        "5, 5",
        "",
        "18446744073709551616",
        "18446744073709551615",
        "9223372036854775808",
        "00000000000000000005",
        "0x5",
        "5 5",
        "5.0",
        "5;",
        "five",
        "\"5\"",
    ];
    let mut vectors: Vec<Vector> = lengths
        .iter()
        .map(|length| {
            with(
                &format!("length {length:?}"),
                &format!("Content-Length: {length}\r\n"),
                "hello",
                400,
            )
        })
        .collect();
    for (first, second) in [("5", "5"), ("5", "6"), ("5", "")] {
        let lines = format!("Content-Length: {first}\r\nContent-Length: {second}\r\n");
        vectors.push(with(
            &format!("lengths {first:?} and {second:?}"),
            &lines,
            "hello",
            400,
        ));
    }
    vectors.push(with(
        "length written with an underscore",
        "Content_Length: 5\r\n",
        "hello",
        400,
    ));
    check(&vectors);
}

#[test]
fn an_encoding_that_is_not_one_plain_chunked_is_refused() {
    let encodings = [
        "xchunked",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "gzip, chunked",
        "chunked, identity",
        "identity",
        "gzip",
        "",
        "chunked;q=1",
        "\"chunked\"",
        "chunked x",
        "chun ked",
        "chu\tnked",
    ];
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let mut vectors: Vec<Vector> = encodings
        .iter()
        .map(|encoding| {
            with(
                &format!("encoding {encoding:?}"),
                &format!("Transfer-Encoding: {encoding}\r\n"),
                body,
                400,
            )
        })
        .collect();
    for (name, lines) in [
        (
            "length before encoding",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "encoding before length",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ),
        (
            "encoding twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "chunked, then identity",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        ),
        (
            "an unknown encoding with a length",
            "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n",
        ),
        (
            "encoding written with an underscore",
            "Transfer_Encoding: chunked\r\n",
        ),
        (
            "encoding behind a vertical tab",
            "Transfer-Encoding: \x0bchunked\r\n",
        ),
        (
            "encoding before a form feed",
            "Transfer-Encoding: chunked\x0c\r\n",
        ),
        ("a tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
        ("a folded encoding", "Transfer-Encoding:\r\n chunked\r\n"),
        (
            "an encoding folded on",
            "Transfer-Encoding: chunked\r\n , identity\r\n",
        ),
    ] {
        vectors.push(with(name, lines, body, 400));
    }
    vectors.push(vector(
        "chunked on HTTP/1.0",
        format!(
            "POST {OPEN}/openai/chat/completions HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        ),
        400,
    ));
    check(&vectors);
}

#[test]
fn chunks_that_are_not_framed_exactly_are_refused() {
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(257));
    let long_trailer = format!("0\r\nx: {}\r\n\r\n", "y".repeat(9 * 1024));
    check(&[
        chunks("no digits", "\r\nhello\r\n0\r\n\r\n", 400),
        chunks("letters", "zz\r\nhello\r\n0\r\n\r\n", 400),
        chunks("a plus", "+5\r\nhello\r\n0\r\n\r\n", 400),
        chunks("a minus", "-5\r\nhello\r\n0\r\n\r\n", 400),
        chunks("0x", "0x5\r\nhello\r\n0\r\n\r\n", 400),
        chunks("an underscore", "0_5\r\nhello\r\n0\r\n\r\n", 400),
        chunks("space before", " 5\r\nhello\r\n0\r\n\r\n", 400),
        chunks("space after", "5 \r\nhello\r\n0\r\n\r\n", 400),
        chunks("2^64", "10000000000000000\r\nhello\r\n0\r\n\r\n", 400),
        chunks("2^64 less 1", "ffffffffffffffff\r\nhello\r\n", 413),
        chunks("2^63", "8000000000000000\r\nhello\r\n", 413),
        chunks(
            "seventeen digits",
            "00000000000000005\r\nhello\r\n0\r\n\r\n",
            400,
        ),
        chunks("data too long", "5\r\nhelloX\r\n0\r\n\r\n", 400),
        chunks("data too short", "5\r\nhell\r\n0\r\n\r\n", 400),
        chunks("size ended by a line feed", "5\nhello\r\n0\r\n\r\n", 400),
        chunks("size ended by a return", "5\rhello\r\n0\r\n\r\n", 400),
        chunks("data ended by a line feed", "5\r\nhello\n0\r\n\r\n", 400),
        chunks("last chunk ended by a line feed", "0\n\r\n", 400),
        chunks(
            "a line feed in an extension",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            400,
        ),
        chunks("a NUL in an extension", "5;a\0b\r\nhello\r\n0\r\n\r\n", 400),
        chunks("a long extension", &long_extension, 400),
        chunks("a trailer without colon", "0\r\nnonsense\r\n\r\n", 400),
        chunks("a folded trailer", "0\r\nx: 1\r\n 2\r\n\r\n", 400),
        chunks("a trailer with a bare line feed", "0\r\nx: 1\n\r\n", 400),
        chunks("trailers over their limit", &long_trailer, 431),
    ]);
}

#[test]
fn bytes_that_heads_may_not_have_are_refused() {
    let models = format!("{OPEN}/openai/models");
    let head = format!("GET {models} HTTP/1.1\r\nHost: localhost\r\n");
    check(&[
        field("a folded field", "X-A: one\r\n two\r\n", 400),
        field("a field folded by a tab", "X-A: one\r\n\ttwo\r\n", 400),
        vector(
            "a fold right behind the request line",
            format!("GET {models} HTTP/1.1\r\n Host: localhost\r\n\r\n"),
            400,
        ),
        vector("bare line feeds", head.replace("\r\n", "\n") + "\n", 400),
        field("one bare line feed", "X-A: one\nX-B: two\r\n", 400),
        vector("a bare line feed at the end", format!("{head}\n"), 400),
        field("a bare return", "X-A: one\rX-B: two\r\n", 400),
        vector(
            "a bare return in the request line",
            format!("GET {models}\r HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            400,
        ),
        field("NUL in a value", "X-A: a\0b\r\n", 400),
        field("NUL in a name", "X-\0A: b\r\n", 400),
        line(
            "NUL in the target",
            &format!("GET {models}\0 HTTP/1.1"),
            400,
        ),
        field("a control byte", "X-A: a\x01b\r\n", 400),
        field("DEL", "X-A: a\x7fb\r\n", 400),
        field("space before a colon", "X-A : b\r\n", 400),
        field("a tab before a colon", "X-A\t: b\r\n", 400),
        field("no colon", "X-A\r\n", 400),
        field("no name", ": b\r\n", 400),
        field("a space in a name", "X A: b\r\n", 400),
        field("a name that is no token", "X(A): b\r\n", 400),
        vector(
            "a high byte in a name",
            [head.as_bytes(), b"X-\xe9: b\r\n\r\n"].concat(),
            400,
        ),
        vector(
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            400,
        ),
        vector(
            "a line feed before the request",
            format!("\n{head}\r\n"),
            400,
        ),
    ]);
}

#[test]
fn a_request_without_exactly_one_good_host_is_refused() {
    let target = format!("{OPEN}/openai/models");
    let hosts = |name: &str, lines: &str| {
        vector(name, format!("GET {target} HTTP/1.1\r\n{lines}\r\n"), 400)
    };
    check(&[
        hosts("no host", "X-A: b\r\n"),
        hosts("two hosts", "Host: localhost\r\nHost: evil.example\r\n"),
        hosts(
            "the same host twice",
            "Host: localhost\r\nhost: localhost\r\n",
        ),
        hosts("a list of hosts", "Host: localhost, evil.example\r\n"),
        hosts("a user in the host", "Host: a@localhost\r\n"),
        hosts("a path in the host", "Host: localhost/x\r\n"),
        hosts("a space in the host", "Host: local host\r\n"),
        hosts("a port that is none", "Host: localhost:http\r\n"),
        hosts("a port too high", "Host: localhost:65536\r\n"),
        line(
            "another host in the target",
            &format!("GET http://evil.example{target} HTTP/1.1"),
            400,
        ),
    ]);
}

#[test]
fn request_lines_that_are_none_are_refused() {
    let target = format!("{OPEN}/openai/models");
    let long = "M".repeat(33);
    check(&[
        line("two spaces", &format!("GET  {target} HTTP/1.1"), 400),
        line(
            "two spaces before the version",
            &format!("GET {target}  HTTP/1.1"),
            400,
        ),
        line("a tab", &format!("GET\t{target} HTTP/1.1"), 400),
        line("a word too many", &format!("GET {target} x HTTP/1.1"), 400),
        line("space at the end", &format!("GET {target} HTTP/1.1 "), 400),
        line("no version", &format!("GET {target}"), 400),
        line(
            "a version in small letters",
            &format!("GET {target} http/1.1"),
            400,
        ),
        line("version 0.9", &format!("GET {target} HTTP/0.9"), 505),
        line("version 1.2", &format!("GET {target} HTTP/1.2"), 505),
        line("version 2.0", &format!("GET {target} HTTP/2.0"), 505),
        line(
            "a method that is no token",
            &format!("G(T {target} HTTP/1.1"),
            400,
        ),
        line("a long method", &format!("{long} {target} HTTP/1.1"), 501),
        line("CONNECT", "CONNECT api.openai.com:443 HTTP/1.1", 501),
        line("a fragment", &format!("GET {target}#x HTTP/1.1"), 400),
        line("no slash", "GET v1/me HTTP/1.1", 400),
        vector(
            "HTTP/2 without asking",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            505,
        ),
    ]);
}

#[test]
fn heads_over_a_limit_are_refused() {
    let many: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
    let kilobyte = "y".repeat(1000);
    let large: String = (0..40).map(|n| format!("X-{n}: {kilobyte}\r\n")).collect();
    check(&[
        field("101 fields", &many, 431),
        field(
            "a name of 257 bytes",
            &format!("{}: y\r\n", "n".repeat(257)),
            431,
        ),
        field("a head of 40 KB", &large, 431),
        field(
            "a value of 40 KB",
            &format!("X-A: {}\r\n", kilobyte.repeat(40)),
            431,
        ),
        line(
            "a target of 40 KB",
            &format!("GET {OPEN}/openai/{} HTTP/1.1", kilobyte.repeat(40)),
            431,
        ),
    ]);
}

#[test]
fn heads_within_the_limits_pass() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let names: String = (0..98).map(|n| format!("X-{n}: y\r\n")).collect();
    let long_name = format!("{}: y\r\n", "n".repeat(256));
    let long_value = format!("X-A: {}\r\n", "y".repeat(31_000));
    for lines in [names, long_name, long_value] {
        let request =
            format!("GET {OPEN}/openai/models HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        let answer = server.ask(request.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn dot_segments_are_refused_however_they_are_written() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let paths = [
        "/../models",
        "/./models",
        "/x/..",
        "/x/.",
        "/%2e%2e/models",
        "/%2E%2E/models",
        "/.%2e/models",
        "/%2e./models",
        "/%2e/models",
        "/..%2fmodels",
        "/..%2Fmodels",
        "/x%2f..%2fmodels",
        "/..\\models",
        "/..%5cmodels",
        "/..;/models",
        "/x/%2e%2e?q=1",
    ];
    for path in paths {
        for prefix in ["openai", "custom-x", "nobody"] {
            let request = format!("GET {OPEN}/{prefix}{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let mut client = server.connect();
            client.trickle(request.as_bytes());
            client.answer(Sent::Other).check_refusal(400, 7000);
            server.ask(request.as_bytes()).check_refusal(400, 7000);
        }
    }
    assert_eq!(count(&mock, "connections/accepted"), 0);
    // Dots that make no segment, and dots in the query, are nobody's harm.
    for path in ["/models?q=/../", "/models/gpt-4.1", "/models/..."] {
        let answer = server
            .ask(format!("GET {OPEN}/openai{path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        assert_ne!(answer.status, 400, "{path}: {}", answer.text());
    }
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .tables("[limits]\nbody_bytes = \"64KiB\"\ngather_bytes = \"16KiB\"")
        .start();
    let path = format!("{OPEN}/openai/chat/completions");
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n");

    let mut client = server.connect();
    client.send(format!("{head}Content-Length: 65537\r\n\r\n").as_bytes());
    let answer = client.answer(Sent::Other);
    answer.check_refusal(413, 7000);
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(client.rest(), b"");
    assert_eq!(count(&mock, "connections/accepted"), 0);

    // Chunks tell their sum late: what went upstream must not look whole.
    let mut client = server.connect();
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
    let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
    client.send(chunk.repeat(9).as_bytes());
    client.answer(Sent::Other).check_refusal(413, 7000);
    assert_eq!(client.rest(), b"");
    assert_eq!(count(&mock, "total/requests"), 0);
}

#[test]
fn chunks_that_break_after_their_first_part_went_out_never_look_whole_upstream() {
    let upstream = Upstream::start(|peer| {
        peer.request();
        peer.answer("{}");
    });
    let server = Setup::scripted(upstream.address)
        .tables("[limits]\ngather_bytes = \"16KiB\"")
        .start();
    let mut client = server.connect();
    client.send(
        format!(
            "POST {OPEN}/openai/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        .as_bytes(),
    );
    client.send(format!("8000\r\n{}\r\n", "x".repeat(0x8000)).as_bytes());
    crate::support::wait::wait_until("the provider to be called", || upstream.connections() == 1);
    client.send(b"zz\r\nhello\r\n0\r\n\r\n");
    client.send(&smuggled());
    client.answer(Sent::Other).check_refusal(400, 7000);
    assert_eq!(client.rest(), b"");
    crate::support::wait::wait_until("the provider to be left", || upstream.ended() == 1);
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn a_request_in_the_body_of_another_stays_a_body() {
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let inner = String::from_utf8(smuggled()).unwrap();
    let mut client = server.connect();
    client.send(&post(&format!("{OPEN}/openai/echo"), &inner));
    client.send(&post(&format!("{OPEN}/openai/embeddings"), EMBED));
    assert_eq!(client.answer(Sent::Other).status, 200);
    assert_eq!(client.answer(Sent::Other).status, 200);
    let requests = mock.requests(10);
    let requests = requests["requests"].as_array().unwrap();
    assert_eq!(requests.len(), 2, "{requests:#?}");
    assert_eq!(requests[0]["body"], inner.as_str());
    assert_eq!(requests[1]["body"], EMBED);
}

#[test]
fn a_refused_body_ends_its_connection() {
    // A refusal that does not wait for the body must not take that body for the next request.
    let mock = mock();
    let server = Setup::over(mock.addr()).start();
    let smuggled = smuggled();
    for (path, code) in [
        ("/v1/me/nowhere/openai/chat/completions", 2001),
        ("/v1/me/default/nobody/chat/completions", 2008),
        ("/v1/me/locked/openai/chat/completions", 2009),
        ("/elsewhere", 7003),
        ("/v1/me/default/openai/../x", 7000),
    ] {
        let mut client = server.connect();
        client.send(&post(path, std::str::from_utf8(&smuggled).unwrap()));
        let answer = client.answer(Sent::Other);
        assert_eq!(answer.code(), code, "{path}");
        assert_eq!(answer.field("connection"), Some("close"), "{path}");
        assert_eq!(client.rest(), b"", "{path}");
    }
    assert_eq!(count(&mock, "connections/accepted"), 0);
}
