//! One vector a rule; each is also delivered byte by byte and cut in two at every byte.
#![expect(clippy::indexing_slicing, reason = "the vectors are our own")]

use super::*;

const LIMIT: usize = 32 * 1024;

/// Scans `bytes` however they may arrive, which must always give the same.
#[track_caller]
fn scan(start: fn() -> HeadScan, bytes: &[u8], limit: usize) -> Result<Option<usize>, HeadError> {
    let whole = start().find_end(bytes, limit);
    let mut slow = start();
    let mut result = Ok(None);
    for end in 0..=bytes.len() {
        if result == Ok(None) {
            result = slow.find_end(&bytes[..end], limit);
        }
        let mut halves = start();
        let first = halves.find_end(&bytes[..end], limit);
        let halved = if first == Ok(None) {
            halves.find_end(bytes, limit)
        } else {
            first
        };
        assert_eq!(halved, whole, "cut at {end}");
    }
    assert_eq!(result, whole, "byte by byte");
    whole
}

#[track_caller]
fn request(head: &[u8]) -> Result<RequestHead<'_>, HeadError> {
    let end = scan(HeadScan::request, head, LIMIT)?.ok_or(HeadError::Incomplete)?;
    assert_eq!(end, head.len(), "the whole vector is one head");
    parse_request(head)
}

#[track_caller]
fn response<'a>(head: &'a [u8], method: Method<'_>) -> Result<ResponseHead<'a>, HeadError> {
    let end = scan(HeadScan::response, head, LIMIT)?.ok_or(HeadError::Incomplete)?;
    assert_eq!(end, head.len(), "the whole vector is one head");
    parse_response(head, method)
}

/// A POST of HTTP/1.1 with a host and these lines (each with its line end).
fn post(lines: &str) -> Vec<u8> {
    format!("POST /v1/x HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

/// A 200 of HTTP/1.1 with these lines.
fn ok(lines: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes()
}

#[track_caller]
fn refused(head: impl AsRef<[u8]>, error: HeadError, status: u16) {
    let head = head.as_ref();
    let text = String::from_utf8_lossy(head).into_owned();
    assert_eq!(request(head).err(), Some(error), "{text:?}");
    assert_eq!(error.status(), status, "{error}");
}

#[track_caller]
fn response_refused(head: impl AsRef<[u8]>, error: HeadError) {
    let head = head.as_ref();
    let text = String::from_utf8_lossy(head).into_owned();
    assert_eq!(response(head, Method::Post).err(), Some(error), "{text:?}");
}

#[track_caller]
fn framed(lines: &str, framing: RequestFraming) {
    assert_eq!(request(&post(lines)).unwrap().framing, framing, "{lines:?}");
}

#[test]
fn a_request_is_taken_apart() {
    let head = b"POST /v1/a?b=%2F HTTP/1.1\r\nHost: h:1\r\nX-Empty:\r\nAccept:\t a, b \t\r\n\
        accept: c\r\nContent-Length: 12\r\n\r\n";
    let request = request(head).unwrap();
    assert_eq!(request.method, Method::Post);
    assert_eq!(request.target, b"/v1/a?b=%2F");
    assert_eq!(request.path, request.target);
    assert_eq!(request.host, b"h:1");
    assert_eq!(request.version, Version::Http11);
    assert_eq!(request.framing, RequestFraming::Length(12));
    assert!(request.keep_alive && !request.expects_continue);
    assert_eq!(request.upgrade, None);
    assert_eq!(request.fields.len(), 5);
    let empty = request.fields[1];
    assert_eq!(
        (empty.name, empty.value, empty.id),
        (&b"X-Empty"[..], &b""[..], FieldName::Other)
    );
    assert_eq!(request.field(FieldName::Accept), Some(&b"a, b"[..]));
    assert_eq!(request.values(FieldName::Accept).count(), 2);
    assert_eq!(request.field(FieldName::Cookie), None);
}

#[test]
fn a_response_is_taken_apart() {
    let head = ok("content-type: a/b\r\nContent-Length: 3\r\n");
    let response = response(&head, Method::Get).unwrap();
    assert_eq!((response.status, response.reason), (200, &b"OK"[..]));
    assert_eq!(response.framing, ResponseFraming::Length(3));
    assert_eq!(response.field(FieldName::ContentType), Some(&b"a/b"[..]));
    assert_eq!(response.values(FieldName::SetCookie).count(), 0);
    assert!(response.keep_alive && !response.is_interim());
}

#[test]
fn methods_are_case_sensitive_tokens() {
    for name in [
        "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get", "M-SEARCH",
    ] {
        let method = Method::parse(name.as_bytes()).unwrap();
        assert_eq!(method.as_bytes(), name.as_bytes());
    }
    assert_eq!(Method::parse(b"get"), Ok(Method::Other(b"get")));
    assert_eq!(Method::parse(b""), Err(HeadError::RequestLine));
    assert_eq!(Method::parse(b"G T"), Err(HeadError::RequestLine));
    refused(
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        HeadError::ConnectRefused,
        501,
    );
    let long = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(33));
    refused(long, HeadError::MethodTooLong, 501);
    let longest = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(32));
    assert!(request(longest.as_bytes()).is_ok());
}

#[test]
fn a_request_line_has_three_words_and_two_spaces() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /",
        "GET",
        "GET /\tHTTP/1.1",
        "GET\t/ HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET / a HTTP/1.1",
        "GET / HTTP/1.",
        "GET / http/1.1",
        "GET / HTTP/11",
        "GET / HTTQ/1.1",
        "GET / HTTP/1.1x",
    ] {
        refused(
            format!("{line}\r\nHost: a\r\n\r\n"),
            HeadError::RequestLine,
            400,
        );
    }
}

#[test]
fn only_two_versions_are_spoken() {
    for version in ["2.0", "1.2", "0.9", "3.0"] {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n");
        refused(head, HeadError::VersionUnsupported, 505);
    }
    refused("PRI * HTTP/2.0\r\n\r\n", HeadError::VersionUnsupported, 505);
    response_refused("HTTP/2.0 200 OK\r\n\r\n", HeadError::VersionUnsupported);
    let old = request(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(old.version, Version::Http10);
}

#[test]
fn a_content_length_is_digits_and_nothing_else() {
    framed("Content-Length: 0\r\n", RequestFraming::Length(0));
    framed("CONTENT-LENGTH:\t005 \r\n", RequestFraming::Length(5));
    framed(
        "Content-Length: 9223372036854775807\r\n",
        RequestFraming::Length(i64::MAX as u64),
    );
    for value in [
        "",
        "+5",
        "-5",
        "-0",
        "5,5",
        "5, 5",
        "5 5",
        "0x5",
        "5.0",
        "5e1",
        "1_000",
        "five",
        "5;",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "00000000000000000005",
        "\u{665}",
        "\"5\"",
    ] {
        let line = format!("Content-Length: {value}\r\n");
        refused(post(&line), HeadError::LengthMalformed, 400);
        response_refused(ok(&line), HeadError::LengthMalformed);
    }
}

#[test]
fn a_content_length_is_given_once() {
    for lines in [
        "Content-Length: 5\r\nContent-Length: 3\r\n",
        "Content-Length: 5\r\ncontent-length: 5\r\n",
        "Content-Length:\r\nContent-Length: 5\r\n",
    ] {
        refused(post(lines), HeadError::LengthRepeated, 400);
        response_refused(ok(lines), HeadError::LengthRepeated);
    }
}

#[test]
fn a_transfer_encoding_is_one_single_chunked() {
    framed("Transfer-Encoding: chunked\r\n", RequestFraming::Chunked);
    framed("transfer-encoding:Chunked\t\r\n", RequestFraming::Chunked);
    for lines in [
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\u{a0}\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n",
    ] {
        refused(post(lines), HeadError::EncodingUnsupported, 400);
        response_refused(ok(lines), HeadError::EncodingUnsupported);
    }
}

#[test]
fn a_length_and_an_encoding_exclude_each_other() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length:\r\n",
    ] {
        refused(post(lines), HeadError::LengthAndEncoding, 400);
        response_refused(ok(lines), HeadError::LengthAndEncoding);
    }
}

#[test]
fn version_10_has_no_chunks() {
    let lines = "Transfer-Encoding: chunked\r\n\r\n";
    refused(
        format!("POST / HTTP/1.0\r\n{lines}"),
        HeadError::EncodingInVersion10,
        400,
    );
    response_refused(
        format!("HTTP/1.0 200 OK\r\n{lines}"),
        HeadError::EncodingInVersion10,
    );
}

#[test]
fn a_request_without_framing_has_no_body() {
    framed("", RequestFraming::None);
    let old = request(b"POST / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(old.framing, RequestFraming::None);
}

#[test]
fn lines_end_in_carriage_return_and_line_feed() {
    for head in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "\nGET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nX: y\nTransfer-Encoding: chunked\r\nHost: a\r\n\r\n",
    ] {
        refused(head, HeadError::BareLineFeed, 400);
    }
    for head in [
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n",
        "\rGET /\r\n\r\n",
    ] {
        refused(head, HeadError::BareCarriageReturn, 400);
    }
    response_refused(
        "HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n",
        HeadError::BareLineFeed,
    );
    response_refused(
        "HTTP/1.1 200 OK\rX: y\r\n\r\n",
        HeadError::BareCarriageReturn,
    );
}

#[test]
fn the_parsers_refuse_bare_line_feeds_without_the_scan_too() {
    for head in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.0\n\r\n",
        "GET / HTTP/1.0\n\n",
        "\nGET / HTTP/1.0\r\n\r\n",
        "\r\n\nGET / HTTP/1.0\r\n\r\n",
    ] {
        assert_eq!(
            parse_request(head.as_bytes()),
            Err(HeadError::BareLineFeed),
            "{head:?}"
        );
    }
    let head = b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n";
    assert_eq!(
        parse_response(head, Method::Get),
        Err(HeadError::BareLineFeed)
    );
    let two = b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n";
    assert_eq!(parse_request(two), Err(HeadError::Incomplete));
    assert_eq!(
        parse_request(b"GET / HTTP/1.0\r\n"),
        Err(HeadError::Incomplete)
    );
    assert_eq!(parse_request(b""), Err(HeadError::Incomplete));
}

#[test]
fn control_bytes_are_refused_where_they_stand() {
    for byte in (0..0x20)
        .chain([0x7f])
        .filter(|byte| !b"\t\r\n".contains(byte))
    {
        for place in [
            "GET / HTTP/1.1\r\nHost: a\r\nX: y@z\r\n\r\n",
            "GET /@ HTTP/1.1\r\n",
            "@GET",
        ] {
            let head = place.replace('@', &char::from(byte).to_string());
            let at = head.bytes().position(|found| found == byte).unwrap();
            refused(&head, HeadError::ControlByte, 400);
            // Nothing after it is waited for.
            let early = scan(HeadScan::request, &head.as_bytes()[..=at], LIMIT);
            assert_eq!(early, Err(HeadError::ControlByte));
        }
    }
    refused(
        post("Transfer-Encoding: \x0bchunked\r\n"),
        HeadError::ControlByte,
        400,
    );
    response_refused(ok("X: \0\r\n"), HeadError::ControlByte);
}

#[test]
fn values_may_have_tabs_and_bytes_above_ascii() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\tb\xff\r\n\r\n";
    assert_eq!(request(head).unwrap().fields[1].value, b"\xe4\tb\xff");
}

#[test]
fn field_lines_are_name_colon_value() {
    refused(post("X: y\r\n z\r\n"), HeadError::FoldedLine, 400);
    refused(post("X: y\r\n\tz\r\n"), HeadError::FoldedLine, 400);
    refused(
        post("Transfer-Encoding:\r\n chunked\r\n"),
        HeadError::FoldedLine,
        400,
    );
    refused(
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        HeadError::FoldedLine,
        400,
    );
    refused(
        post("Content-Length : 5\r\n"),
        HeadError::SpaceBeforeColon,
        400,
    );
    refused(
        post("Content-Length\t: 5\r\n"),
        HeadError::SpaceBeforeColon,
        400,
    );
    refused(post(": y\r\n"), HeadError::EmptyName, 400);
    refused(post("X\r\n"), HeadError::NoColon, 400);
    for name in ["a b", "a(", "a@b", "a[", "\u{e4}", "a\"", "a/b", "a{}"] {
        refused(post(&format!("{name}: y\r\n")), HeadError::Name, 400);
        response_refused(ok(&format!("{name}: y\r\n")), HeadError::Name);
    }
    response_refused(ok("X: y\r\n z\r\n"), HeadError::FoldedLine);
    response_refused(ok("Content-Length : 5\r\n"), HeadError::SpaceBeforeColon);
    response_refused(ok(": y\r\n"), HeadError::EmptyName);
}

#[test]
fn names_that_imitate_framing_are_refused() {
    for name in ["Content_Length", "TRANSFER_encoding"] {
        refused(
            post(&format!("{name}: 5\r\n")),
            HeadError::ImitatedName,
            400,
        );
        response_refused(ok(&format!("{name}: 5\r\n")), HeadError::ImitatedName);
    }
    assert!(request(&post("x_content_length: 5\r\n")).is_ok());
}

#[test]
fn a_host_is_one_and_well_formed() {
    refused("GET / HTTP/1.1\r\n\r\n", HeadError::HostMissing, 400);
    refused(
        "GET / HTTP/1.1\r\nX: y\r\n\r\n",
        HeadError::HostMissing,
        400,
    );
    refused(post("Host: a\r\n"), HeadError::HostRepeated, 400);
    refused(
        "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        HeadError::HostRepeated,
        400,
    );
    for host in [
        "", "a b", "a, b", "a/b", "u@a", "a:b", "a:99999", "[::1", "\u{e4}",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        refused(head, HeadError::HostMalformed, 400);
    }
    assert_eq!(request(b"GET / HTTP/1.0\r\n\r\n").unwrap().host, b"");
    assert_eq!(
        request(b"GET / HTTP/1.0\r\nHost: [::1]:80\r\n\r\n")
            .unwrap()
            .host,
        b"[::1]:80"
    );
}

#[test]
fn an_absolute_target_and_its_host_agree() {
    let head = b"GET http://A:1/x?y HTTP/1.1\r\nHost: a:1\r\n\r\n";
    let agreed = request(head).unwrap();
    assert_eq!((agreed.host, agreed.path), (&b"A:1"[..], &b"/x?y"[..]));
    assert_eq!(agreed.target, b"http://A:1/x?y");
    let alone = request(b"GET http://a HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((alone.host, alone.path), (&b"a"[..], &b"/"[..]));
    let differ = "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n";
    refused(differ, HeadError::HostMismatch, 400);
    refused(
        "GET http://a/ HTTP/1.1\r\n\r\n",
        HeadError::HostMissing,
        400,
    );
    refused(
        "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        HeadError::HostMalformed,
        400,
    );
}

#[test]
fn a_target_is_a_path_or_an_asterisk_for_options() {
    let options = request(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((options.method, options.path), (Method::Options, &b"*"[..]));
    for line in [
        "GET *",
        "GET a",
        "GET a:443",
        "GET /a#b",
        "GET ?a",
        "OPTIONS **",
        "GET file:///a",
    ] {
        refused(
            format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"),
            HeadError::Target,
            400,
        );
    }
    let above_ascii = "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n";
    refused(above_ascii, HeadError::Target, 400);
}

#[test]
fn names_and_fields_are_bounded() {
    assert!(request(&post(&format!("{}: y\r\n", "x".repeat(256)))).is_ok());
    let long = format!("{}: y\r\n", "x".repeat(257));
    refused(post(&long), HeadError::NameTooLong, 431);
    response_refused(ok(&long), HeadError::NameTooLong);
    assert_eq!(
        request(&post(&"X: y\r\n".repeat(99))).unwrap().fields.len(),
        100
    );
    refused(post(&"X: y\r\n".repeat(100)), HeadError::TooManyFields, 431);
    response_refused(ok(&"X: y\r\n".repeat(101)), HeadError::TooManyFields);
}

#[test]
fn a_head_ends_within_the_limit_or_is_too_large() {
    let head = b"GET / HTTP/1.0\r\n\r\n";
    assert_eq!(scan(HeadScan::request, head, 18), Ok(Some(18)));
    for limit in 0..18 {
        assert_eq!(
            scan(HeadScan::request, head, limit),
            Err(HeadError::TooLarge),
            "{limit}"
        );
    }
    assert_eq!(HeadError::TooLarge.status(), 431);
    let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'y'; 200]].concat();
    assert_eq!(
        scan(HeadScan::request, &endless, 100),
        Err(HeadError::TooLarge)
    );
    assert_eq!(scan(HeadScan::request, &endless, 300), Ok(None));
}

#[test]
fn what_follows_a_head_is_left_alone() {
    let bytes = b"GET / HTTP/1.0\r\n\r\n\0\n\r";
    assert_eq!(scan(HeadScan::request, bytes, LIMIT), Ok(Some(18)));
}

#[test]
fn a_few_empty_lines_may_come_before_a_request() {
    let bytes = |lines: usize| [&b"\r\n".repeat(lines)[..], b"GET / HTTP/1.0\r\n\r\n"].concat();
    assert!(request(&bytes(4)).is_ok());
    refused(bytes(5), HeadError::EmptyLines, 400);
    response_refused("\r\nHTTP/1.1 200 OK\r\n\r\n", HeadError::EmptyLines);
    let after_scan = parse_response(b"\r\nHTTP/1.1 200 OK\r\n\r\n", Method::Get);
    assert_eq!(after_scan, Err(HeadError::StatusLine));
}

#[test]
fn a_head_byte_by_byte_costs_no_more_than_whole() {
    // A scan that began anew with each byte would look at a billion of them.
    let mut head = b"GET / HTTP/1.1\r\n".to_vec();
    head.resize(40_000, b'x');
    let mut scan = HeadScan::request();
    for end in 0..head.len() {
        assert_eq!(scan.find_end(&head[..end], 50_000), Ok(None));
    }
}

#[test]
fn a_connection_stays_open_as_its_version_says() {
    let cases = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE\r\n", false),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
    ];
    for (version, lines, keep_alive) in cases {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(
            request(head.as_bytes()).unwrap().keep_alive,
            keep_alive,
            "{head}"
        );
        let head = format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n{lines}\r\n");
        let answer = response(head.as_bytes(), Method::Get).unwrap();
        assert_eq!(answer.keep_alive, keep_alive, "{head}");
    }
}

#[test]
fn a_100_is_awaited_only_before_a_body_of_version_11() {
    let expects = |head: &[u8]| request(head).unwrap().expects_continue;
    assert!(expects(&post(
        "Expect: 100-Continue\r\nContent-Length: 5\r\n"
    )));
    assert!(expects(&post(
        "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"
    )));
    assert!(!expects(&post("Expect: 100-continue\r\n")));
    assert!(!expects(&post(
        "Expect: 100-continue\r\nContent-Length: 0\r\n"
    )));
    assert!(!expects(&post("Expect: 200-ok\r\nContent-Length: 5\r\n")));
    assert!(!expects(
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    ));
}

#[test]
fn an_upgrade_is_named_by_connection_too() {
    let upgrade = |lines: &str| {
        let head = post(lines);
        request(&head).unwrap().upgrade.map(<[u8]>::to_vec)
    };
    let both = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(upgrade(both).as_deref(), Some(&b"websocket"[..]));
    assert_eq!(upgrade("Upgrade: websocket\r\n"), None);
    assert_eq!(upgrade("Connection: upgrade\r\n"), None);
    assert_eq!(upgrade("Connection: upgrade\r\nUpgrade:\r\n"), None);
    assert_eq!(upgrade(&format!("{both}Upgrade: h2c\r\n")), None);
    let old = b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(request(old).unwrap().upgrade, None);
}

#[track_caller]
fn answered(status: &str, lines: &str, method: Method<'_>, framing: ResponseFraming) {
    let head = format!("HTTP/1.1 {status}\r\n{lines}\r\n");
    let response = response(head.as_bytes(), method).unwrap();
    assert_eq!(response.framing, framing, "{head:?}");
}

#[test]
fn a_response_is_framed_by_method_status_and_fields() {
    use ResponseFraming::{Chunked, Close, Length, None};
    const FIVE: &str = "Content-Length: 5\r\n";
    const CHUNKS: &str = "Transfer-Encoding: chunked\r\n";
    answered("200 OK", FIVE, Method::Get, Length(5));
    answered("200 OK", CHUNKS, Method::Get, Chunked);
    answered("200 OK", "", Method::Get, Close);
    answered("500 Oops", "", Method::Get, Close);
    answered("200 OK", FIVE, Method::Head, None);
    answered("200 OK", CHUNKS, Method::Head, None);
    answered("200 OK", "", Method::Head, None);
    answered("304 Not Modified", FIVE, Method::Get, None);
    answered("304 Not Modified", CHUNKS, Method::Get, None);
    answered("204 No Content", "", Method::Get, None);
    answered("204 No Content", "Content-Length: 0\r\n", Method::Get, None);
    answered("100 Continue", "", Method::Post, None);
    answered("103 Early Hints", "Link: a\r\n", Method::Post, None);
}

#[test]
fn a_body_announced_where_none_can_be_is_refused() {
    for status in ["100 Continue", "103 Early Hints", "204 No Content"] {
        for line in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
            let head = format!("HTTP/1.1 {status}\r\n{line}\r\n\r\n");
            response_refused(head, HeadError::BodyOnBodiless);
        }
    }
    // Malformed framing stays malformed where it frames nothing.
    response_refused(
        "HTTP/1.1 304 X\r\nContent-Length: +5\r\n\r\n",
        HeadError::LengthMalformed,
    );
}

#[test]
fn a_connection_that_delimits_a_body_is_not_kept() {
    let head = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n";
    let until_close = response(head, Method::Get).unwrap();
    assert!(!until_close.keep_alive);
    assert_eq!(until_close.framing, ResponseFraming::Close);
    assert!(response(head, Method::Head).unwrap().keep_alive);
}

#[test]
fn only_a_101_switches_protocols() {
    let lines = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let head = format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n");
    let switched = response(head.as_bytes(), Method::Get).unwrap();
    assert_eq!(switched.upgrade, Some(&b"websocket"[..]));
    assert_eq!(switched.framing, ResponseFraming::None);
    assert!(!switched.keep_alive && !switched.is_interim());
    let head = ok(&format!("{lines}Content-Length: 0\r\n"));
    assert_eq!(response(&head, Method::Get).unwrap().upgrade, None);
    response_refused("HTTP/1.1 101 X\r\n\r\n", HeadError::UpgradeUnnamed);
    response_refused(
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n",
        HeadError::UpgradeUnnamed,
    );
    response_refused(
        format!("HTTP/1.0 101 X\r\n{lines}\r\n"),
        HeadError::UpgradeUnnamed,
    );
}

#[test]
fn interim_responses_are_told_from_final_ones() {
    let interim = |head: &[u8]| response(head, Method::Post).unwrap().is_interim();
    assert!(interim(b"HTTP/1.1 100 Continue\r\n\r\n"));
    assert!(interim(b"HTTP/1.1 103 Early Hints\r\n\r\n"));
    assert!(!interim(b"HTTP/1.1 200 OK\r\n\r\n"));
}

#[test]
fn a_status_line_is_version_and_three_digits() {
    for line in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 -20 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1\t200 OK",
        "HTTP 200 OK",
        "200 OK",
        "ICY 200 OK",
        "SSH-2.0-OpenSSH_9.6",
        "http/1.1 200 OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1200 OK",
    ] {
        response_refused(format!("{line}\r\n\r\n"), HeadError::StatusLine);
    }
    for status in ["000", "099", "600", "999"] {
        response_refused(
            format!("HTTP/1.1 {status} X\r\n\r\n"),
            HeadError::StatusCode,
        );
    }
    let bare = response(b"HTTP/1.1 200\r\n\r\n", Method::Get).unwrap();
    assert_eq!((bare.status, bare.reason), (200, &b""[..]));
    let above_ascii = response(b"HTTP/1.1 200 \xe4\r\n\r\n", Method::Get).unwrap();
    assert_eq!(above_ascii.reason, b"");
}

#[test]
fn messages_are_plain_and_quote_nothing() {
    let messages = [
        HeadError::TooManyFields,
        HeadError::NameTooLong,
        HeadError::MethodTooLong,
    ];
    let messages = messages.map(|error| error.to_string());
    assert_eq!(
        messages,
        [
            "more than 100 header fields",
            "a header name is longer than 256 bytes",
            "the method is longer than 32 bytes",
        ]
    );
}
