//! One vector a rule; each is also delivered byte by byte and cut in two at every byte.
#![expect(clippy::indexing_slicing, reason = "the vectors are our own")]

use super::*;

/// Payload, what may be passed on, bytes consumed, whether it ended.
type Decoded = (Vec<u8>, Vec<u8>, usize, bool);
type Expected<'a> = (&'a [u8], &'a [u8], usize, bool);

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Decoded, BodyError> {
    let mut decoder = ChunkDecoder::new();
    let (mut payload, mut passed_on, mut consumed) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        let fed = decoder.feed(piece, |data| payload.extend_from_slice(data))?;
        passed_on.extend_from_slice(&piece[..fed.forward]);
        consumed += fed.consumed;
        assert_eq!(fed.done, decoder.is_done());
    }
    assert_eq!(decoder.payload_bytes(), payload.len() as u64);
    Ok((payload, passed_on, consumed, decoder.is_done()))
}

#[track_caller]
fn check(input: &[u8], expected: Result<Expected<'_>, BodyError>) {
    let expected = expected.map(|(payload, passed_on, consumed, done)| {
        (payload.to_vec(), passed_on.to_vec(), consumed, done)
    });
    let text = String::from_utf8_lossy(input);
    assert_eq!(decode([input].into_iter()), expected, "{text:?} whole");
    assert_eq!(decode(input.chunks(1)), expected, "{text:?} byte by byte");
    for at in 0..input.len() {
        let (first, second) = input.split_at(at);
        assert_eq!(
            decode([first, second].into_iter()),
            expected,
            "{text:?} cut at {at}"
        );
    }
}

/// A body that is passed on whole, less its final empty line.
#[track_caller]
fn whole(input: &str, payload: &str) {
    let passed_on = &input.as_bytes()[..input.len() - 2];
    check(
        input.as_bytes(),
        Ok((payload.as_bytes(), passed_on, input.len(), true)),
    );
}

#[track_caller]
fn refused(input: &str, error: BodyError) {
    check(input.as_bytes(), Err(error));
}

#[test]
fn chunks_are_joined() {
    whole("0\r\n\r\n", "");
    whole("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world");
    whole(
        "a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n",
        "01234567890123456789",
    );
    whole("7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n\r\n");
}

#[test]
fn a_body_that_has_not_ended_is_not_done() {
    check(b"5\r\nhel", Ok((b"hel", b"5\r\nhel", 6, false)));
    check(
        b"5\r\nhello\r\n0\r\n",
        Ok((b"hello", b"5\r\nhello\r\n0\r\n", 13, false)),
    );
    check(b"0\r\n\r", Ok((b"", b"0\r\n", 4, false)));
    check(b"", Ok((b"", b"", 0, false)));
}

#[test]
fn what_follows_the_body_is_left_alone() {
    check(
        b"1\r\na\r\n0\r\n\r\nGET /",
        Ok((b"a", b"1\r\na\r\n0\r\n", 11, true)),
    );
    let mut decoder = ChunkDecoder::new();
    assert!(decoder.feed(b"0\r\n\r\n", |_| ()).unwrap().done);
    let after = Fed {
        consumed: 0,
        forward: 0,
        done: true,
    };
    assert_eq!(decoder.feed(b"more", |_| ()), Ok(after));
}

#[test]
fn a_size_is_hex_digits_alone() {
    for size in [
        "+5",
        "-5",
        "0x5",
        "5 ",
        " 5",
        "\t5",
        "5\t",
        "5h",
        "",
        "5_0",
        "5,5",
        "\u{ff15}",
        "00000000000000005",
        "10000000000000000",
        "5\0",
        "5:",
        "\"5\"",
    ] {
        refused(
            &format!("{size}\r\nhello\r\n0\r\n\r\n"),
            BodyError::ChunkSize,
        );
    }
    whole("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello");
}

#[test]
fn sizes_that_no_body_has_are_refused() {
    refused("ffffffffffffffff\r\n", BodyError::ChunkTooLarge);
    refused("8000000000000000\r\n", BodyError::ChunkTooLarge);
    refused("1\r\na\r\n7fffffffffffffff\r\n", BodyError::ChunkTooLarge);
    let largest = b"7fffffffffffffff\r\nabc";
    check(largest, Ok((b"abc", largest, largest.len(), false)));
}

#[test]
fn lines_end_in_carriage_return_and_line_feed() {
    refused("5\nhello\r\n0\r\n\r\n", BodyError::ChunkSize);
    refused("5\rhello\r\n0\r\n\r\n", BodyError::LineEnd);
    refused("5;a\nb\r\nhello\r\n0\r\n\r\n", BodyError::Extension);
    refused("5;a\rb\r\nhello\r\n0\r\n\r\n", BodyError::LineEnd);
    refused("0\r\n\n", BodyError::Trailer);
    refused("0\r\n\r\r", BodyError::LineEnd);
    refused("\r\n0\r\n\r\n", BodyError::ChunkSize);
}

#[test]
fn data_ends_where_its_size_says() {
    refused("5\r\nhello!\r\n0\r\n\r\n", BodyError::ChunkEnd);
    refused("5\r\nhello\n0\r\n\r\n", BodyError::ChunkEnd);
    refused("5\r\nhello\rx0\r\n\r\n", BodyError::ChunkEnd);
    refused("5\r\nhello0\r\n\r\n", BodyError::ChunkEnd);
    refused("6\r\nhello\r\n0\r\n\r\n", BodyError::ChunkEnd);
}

#[test]
fn an_extension_is_short_and_printable() {
    whole("5;a=b;c=\"d e\"\t\r\nhello\r\n0;last\r\n\r\n", "hello");
    whole(&format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(255)), "a");
    refused(
        &format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(256)),
        BodyError::ExtensionTooLong,
    );
    refused("5;a\0\r\nhello\r\n0\r\n\r\n", BodyError::Extension);
    refused("5;\u{e4}\r\nhello\r\n0\r\n\r\n", BodyError::Extension);
    refused("5 ;a\r\nhello\r\n0\r\n\r\n", BodyError::ChunkSize);
    refused(";a\r\nhello\r\n0\r\n\r\n", BodyError::ChunkSize);
}

#[test]
fn trailers_are_walked_and_never_passed_on() {
    let body = b"1\r\na\r\n0\r\nX-Sum: 1\r\nY:\t\xe4\r\n\r\n";
    check(body, Ok((b"a", b"1\r\na\r\n0\r\n", body.len(), true)));
    let body = b"0\r\nContent-Length: 5\r\n\r\nhello";
    check(body, Ok((b"", b"0\r\n", 24, true)));
}

#[test]
fn a_trailer_is_a_field() {
    for trailer in [
        "X\r\n",
        ": x\r\n",
        "X : a\r\n",
        "X: a\r\n b\r\n",
        "X: \0\r\n",
        "X: a\n",
        "\tX: a\r\n",
        "{}: a\r\n",
    ] {
        refused(&format!("0\r\n{trailer}\r\n"), BodyError::Trailer);
    }
    refused("0\r\nX: a\rb\r\n\r\n", BodyError::LineEnd);
}

#[test]
fn trailers_are_bounded() {
    // Behind the last-chunk line: "X: ", the value, its line end and the empty line.
    let trailers = |value: usize| format!("X: {}\r\n\r\n", "y".repeat(value));
    let most = TRAILER_BYTES_MAX - 7;
    let decoded = decode([format!("0\r\n{}", trailers(most)).as_bytes()].into_iter());
    assert!(decoded.is_ok_and(|(.., done)| done));
    let decoded = decode([format!("0\r\n{}", trailers(most + 1)).as_bytes()].into_iter());
    assert_eq!(decoded, Err(BodyError::TrailersTooLarge));
    let endless = b"0\r\n".iter().chain(b"X: y\r\n".iter().cycle().take(9000));
    let endless: Vec<u8> = endless.copied().collect();
    assert_eq!(
        decode(endless.chunks(100)),
        Err(BodyError::TrailersTooLarge)
    );
}

#[test]
fn faults_are_answered_with_their_status() {
    assert_eq!(BodyError::ChunkSize.status(), 400);
    assert_eq!(BodyError::ChunkTooLarge.status(), 413);
    assert_eq!(BodyError::TrailersTooLarge.status(), 431);
    assert_eq!(
        BodyError::ExtensionTooLong.to_string(),
        "a chunk extension is longer than 256 bytes"
    );
}

#[test]
fn a_big_chunk_is_handed_over_in_one_slice() {
    let data = vec![b'x'; 100_000];
    let body = [b"186a0\r\n".as_slice(), &data, b"\r\n0\r\n\r\n"].concat();
    let mut slices = Vec::new();
    let mut decoder = ChunkDecoder::new();
    decoder
        .feed(&body, |slice| slices.push(slice.len()))
        .unwrap();
    assert_eq!(slices, [100_000]);
}

#[test]
fn a_length_is_counted_down_and_what_is_left_over_is_told() {
    let mut counter = LengthCounter::new(5);
    let fed = |consumed, done| Fed {
        consumed,
        forward: consumed,
        done,
    };
    assert_eq!(counter.feed(b"hel"), fed(3, false));
    assert_eq!(counter.remaining(), 2);
    assert_eq!(counter.feed(b"loGET"), fed(2, true));
    assert_eq!(counter.feed(b"more"), fed(0, true));
    assert!(LengthCounter::new(0).is_done());
    assert_eq!(LengthCounter::new(u64::MAX).feed(b"a"), fed(1, false));
}

#[test]
fn a_chunk_header_is_its_size_in_hex() {
    let cases: [(usize, &[u8]); 7] = [
        (0, b""),
        (1, b"1\r\n"),
        (15, b"f\r\n"),
        (16, b"10\r\n"),
        (8000, b"1f40\r\n"),
        (0x00ab_cdef, b"abcdef\r\n"),
        (usize::MAX, b"ffffffffffffffff\r\n"),
    ];
    for (size, header) in cases {
        assert_eq!(ChunkHeader::new(size).as_bytes(), header);
    }
}
