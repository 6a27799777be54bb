//! What the memo says of a head is what parsing it says, or nothing.

use proptest::prelude::*;

use super::*;
use crate::http::head::{HeadScan, parse_request};

const HEAD: &str = "POST /v1/a/g/openai/chat/completions?x=1 HTTP/1.1\r\nHost: localhost:8787\r\n\
    Content-Type: application/json\r\nX-Empty:\r\nContent-Length: 1234\r\nAuthorization: Bearer x\r\n\r\n";

fn memo_of(head: &str) -> HeadMemo {
    let mut memo = HeadMemo::default();
    let request = parse_request(head.as_bytes()).unwrap();
    for _ in 0..2 {
        memo.keep(head.as_bytes(), &request);
    }
    memo
}

/// Finds and reads, and compares with what the parser says.
#[track_caller]
fn read<'a>(memo: &mut HeadMemo, input: &'a str) -> Option<RequestHead<'a>> {
    let bytes = memo.find(input.as_bytes())?;
    let end = HeadScan::request().find_end(input.as_bytes(), usize::MAX);
    assert_eq!(end, Ok(Some(bytes)));
    let head = input.as_bytes().get(..bytes).unwrap();
    let read = memo.read(head)?;
    assert_eq!(Ok(&read), parse_request(head).as_ref());
    Some(read)
}

#[test]
fn a_head_is_known_again_whatever_the_length_of_its_body() {
    let mut memo = memo_of(HEAD);
    for length in ["1234", "9999", "0001"] {
        let next = HEAD.replace("1234", length) + "{}";
        let request = read(&mut memo, &next).unwrap();
        assert_eq!(
            request.framing,
            RequestFraming::Length(length.parse().unwrap())
        );
    }
    for other in [
        HEAD.replace("1234", "12345"),
        HEAD.replace("1234", "12 4"),
        HEAD.replace("1234", "+234"),
        HEAD.replace("1234", "0x12"),
        HEAD.replace("Bearer x", "Bearer y"),
        HEAD.replace("x=1", "x=2"),
        HEAD[..HEAD.len() - 1].to_owned(),
        String::new(),
    ] {
        assert_eq!(memo.find(other.as_bytes()), None, "{other}");
    }
    // No body, and other rules: the parser has to say.
    assert_eq!(read(&mut memo, &HEAD.replace("1234", "0000")), None);
}

#[test]
fn only_what_can_come_again_is_kept() {
    let keeps = |head: &str| memo_of(head).find(head.as_bytes()).is_some();
    assert!(keeps(
        "GET /v1/a/g/openai/models HTTP/1.1\r\nhost: a\r\n\r\n"
    ));
    assert!(keeps(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    ));
    assert!(!keeps(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
    ));
    assert!(!keeps("BREW / HTTP/1.1\r\nhost: a\r\n\r\n"));
    let upgrade = "upgrade: websocket\r\nconnection: upgrade\r\n";
    assert!(!keeps(&format!(
        "GET / HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n"
    )));
    // There is no host to point at.
    assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
    let long = format!(
        "GET /{} HTTP/1.1\r\nhost: a\r\n\r\n",
        "x".repeat(HEAD_BYTES_MAX)
    );
    assert!(!keeps(&long));
}

#[test]
fn the_first_head_is_not_kept_and_nothing_of_one_that_always_differs() {
    let mut memo = HeadMemo::default();
    for number in 0..20 {
        let head = HEAD.replace("x=1", &format!("x={number:02}"));
        let request = parse_request(head.as_bytes()).unwrap();
        memo.keep(head.as_bytes(), &request);
        let kept = (1..usize::from(MISSED_MAX)).contains(&number);
        assert_eq!(memo.find(head.as_bytes()).is_some(), kept, "{number}");
    }
    assert!(memo.places.is_none() && memo.bytes.is_empty());
}

#[test]
fn no_head_but_the_last_one_is_known_again() {
    let other = HEAD.replace("Bearer x", "Bearer other");
    let mut memo = memo_of(HEAD);
    for _ in 0..3 {
        assert!(read(&mut memo, HEAD).is_some());
    }
    memo.keep(other.as_bytes(), &parse_request(other.as_bytes()).unwrap());
    assert_eq!(memo.find(HEAD.as_bytes()), None);
}

proptest! {
    #[test]
    fn it_never_says_what_the_parser_does_not(
        at in 0..HEAD.len(),
        with in prop::sample::select(vec!['0', '9', ' ', '\r', '\n', ':', 'x', '\0', '-', '+']),
        digits in "[0-9]{1,6}",
        first in "[0-9]{1,6}",
        tail in "[ -~\r\n]{0,40}",
    ) {
        let mut memo = memo_of(&HEAD.replace("1234", &format!("1{first}")));
        let mut next = HEAD.replace("1234", &digits);
        next.push_str(&tail);
        let _ = read(&mut memo, &next);
        let at = at.min(next.len() - 1);
        next.replace_range(at..=at, &with.to_string());
        let _ = read(&mut memo, &next);
    }
}
