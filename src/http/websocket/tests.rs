//! Messages whole and in pieces, and every way to break the protocol.
#![expect(clippy::indexing_slicing, reason = "the vectors are our own")]

use proptest::prelude::*;

use super::*;

/// A frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [7, 0, 200, 31];
    let mut out = vec![first];
    match payload.len() {
        small @ ..126 => out.push(0x80 | u8::try_from(small).unwrap()),
        middle @ ..65_536 => {
            out.push(0xfe);
            out.extend_from_slice(&u16::try_from(middle).unwrap().to_be_bytes());
        }
        large => {
            out.push(0xff);
            out.extend_from_slice(&(large as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    let mask = MASK.iter().cycle();
    out.extend(payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    out
}

/// Feeds pieces and gives all that was received.
fn read<'p>(
    limit: usize,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Result<Vec<Received>, Violation> {
    let mut messages = Messages::new(limit);
    let mut all = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            let fed = messages.feed(piece)?;
            assert!(fed.received.is_some() || fed.consumed == piece.len());
            piece = &piece[fed.consumed..];
            all.extend(fed.received);
        }
    }
    Ok(all)
}

#[track_caller]
fn check(bytes: &[u8], wanted: Result<&[Received], Violation>) {
    let got = read(1 << 20, [bytes]);
    assert_eq!(got.as_deref().map_err(|violation| *violation), wanted);
}

fn text(text: &str) -> Received {
    Received::Text(text.to_owned())
}

#[test]
fn a_message_in_parts_is_one_and_control_frames_stand_between_them() {
    let mut bytes = frame(0x01, b"a");
    bytes.extend(frame(0x89, b"are you there"));
    bytes.extend(frame(0x00, b""));
    bytes.extend(frame(0x8a, b""));
    bytes.extend(frame(0x80, b"b"));
    bytes.extend(frame(0x81, b""));
    bytes.extend(frame(0x88, &1000_u16.to_be_bytes()));
    let wanted = [
        Received::Ping(b"are you there".to_vec()),
        Received::Pong,
        text("ab"),
        text(""),
        Received::Close(Some(1000)),
    ];
    check(&bytes, Ok(&wanted));
}

#[test]
fn what_the_protocol_forbids_is_a_violation_with_its_code() {
    let check = |bytes: &[u8], violation: Violation, code: u16| {
        check(bytes, Err(violation));
        assert_eq!(violation.code(), code);
    };
    check(&[0x81, 0x01, b'a'], Violation::Unmasked, 1002);
    check(&frame(0xc1, b"a"), Violation::ReservedBit, 1002);
    check(&frame(0x83, b"a"), Violation::Opcode, 1002);
    check(&frame(0x8b, b"a"), Violation::Opcode, 1002);
    check(&frame(0x80, b"a"), Violation::NoMessage, 1002);
    check(&frame(0x09, b"a"), Violation::ControlFrame, 1002);
    check(&frame(0x89, &[0; 126]), Violation::ControlFrame, 1002);
    check(&frame(0x88, &[3]), Violation::CloseCode, 1002);
    check(
        &frame(0x88, &1005_u16.to_be_bytes()),
        Violation::CloseCode,
        1002,
    );
    check(&frame(0x88, &[3, 232, 0xff]), Violation::NotUtf8, 1007);
    check(&frame(0x82, b"a"), Violation::Binary, 1003);
    check(&frame(0x81, &[0xff]), Violation::NotUtf8, 1007);
    check(
        &frame(0x81, &vec![b'a'; (1 << 20) + 1]),
        Violation::TooLarge,
        1009,
    );
    let mut two = frame(0x01, b"a");
    two.extend(frame(0x81, b"b"));
    check(&two, Violation::MessageOpen, 1002);
    let long = [0x81, 0xfe, 0, 1, 0, 0, 0, 0, b'a'];
    check(&long, Violation::LengthForm, 1002);
    let greatest = [
        0x81, 0xff, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0,
    ];
    check(&greatest, Violation::TooLarge, 1009);
}

#[test]
fn the_parts_of_a_message_share_its_limit() {
    let mut bytes = frame(0x01, b"abc");
    bytes.extend(frame(0x80, b"de"));
    assert_eq!(read(5, [&bytes[..]]), Ok(vec![text("abcde")]));
    assert_eq!(read(4, [&bytes[..]]), Err(Violation::TooLarge));
}

#[test]
fn what_has_begun_and_not_ended_is_known() {
    assert!(Messages::new(100).is_between());
    let bytes = frame(0x01, b"abc");
    for cut in [1, 3, 7] {
        let mut fresh = Messages::new(100);
        fresh.feed(&bytes[..cut]).unwrap();
        assert!(!fresh.is_between());
    }
    let mut messages = Messages::new(100);
    messages.feed(&bytes).unwrap();
    assert!(!messages.is_between(), "its last part is missing");
    messages.feed(&frame(0x89, b"")).unwrap();
    assert!(!messages.is_between());
    messages.feed(&frame(0x80, b"")).unwrap();
    assert!(messages.is_between());
}

#[test]
fn a_claimed_length_takes_no_memory() {
    let mut messages = Messages::new(1 << 40);
    let claim = [0x81, 0xff, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0, b'a'];
    messages.feed(&claim).unwrap();
    assert!(messages.text.unwrap().capacity() < 1024);
}

#[test]
fn frames_of_ours_have_the_shortest_header() {
    let written = |bytes: usize| {
        let mut out = Vec::new();
        write_text(&mut out, &vec![b'x'; bytes]);
        out.len() - bytes
    };
    assert_eq!([0, 125, 126, 65_535, 65_536].map(written), [2, 2, 4, 4, 10]);
    let mut out = Vec::new();
    write_close(&mut out, Some(1001), "bye");
    assert_eq!(out, b"\x88\x05\x03\xe9bye");
    out.clear();
    write_close(&mut out, Some(1001), &"ä".repeat(100));
    assert_eq!(out.len(), 2 + 2 + 122, "cut between two characters");
    out.clear();
    write_close(&mut out, None, "");
    assert_eq!(out, b"\x88\x00");
}

#[test]
fn the_proof_is_that_of_the_standard_and_needs_a_whole_key() {
    let proof = accept(b"dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(proof.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for key in [
        "",
        "==",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ= ",
        "dGhlIHNhbXBsZSBub25j!Q==",
    ] {
        assert_eq!(accept(key.as_bytes()), None, "{key}");
    }
}

proptest! {
    #[test]
    fn messages_are_the_same_however_they_are_cut(
        parts in prop::collection::vec((".{0,300}", any::<bool>()), 1..8),
        step in 1_usize..40,
    ) {
        let mut bytes = Vec::new();
        let mut wanted = Vec::new();
        let mut open = String::new();
        let mut is_open = false;
        let last = parts.len() - 1;
        for (number, (part, ends)) in parts.iter().enumerate() {
            let ends = *ends || number == last;
            let opcode = u8::from(!is_open);
            bytes.extend(frame(if ends { 0x80 } else { 0 } | opcode, part.as_bytes()));
            open.push_str(part);
            is_open = !ends;
            if ends {
                wanted.push(Received::Text(std::mem::take(&mut open)));
            }
        }
        prop_assert_eq!(read(1 << 20, bytes.chunks(step)), Ok(wanted));
    }

    #[test]
    fn no_input_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let whole = read(1 << 10, [&bytes[..]]);
        prop_assert_eq!(whole, read(1 << 10, bytes.chunks(1)));
    }
}
