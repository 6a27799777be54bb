//! Small streams, exact events; each stream is also cut in two at every byte and read byte by byte.

use super::*;

type Events = (Vec<(String, String)>, u64);

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>, limit: usize) -> Events {
    let mut stream = EventStream::with_limit(limit);
    let mut events = Vec::new();
    let mut note = |event: Event<'_>| {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        events.push((text(event.name), text(event.data)));
    };
    for piece in pieces {
        stream.feed(piece, &mut note);
    }
    stream.finish(&mut note);
    (events, stream.skipped())
}

#[track_caller]
fn check_limited(input: &[u8], limit: usize, events: &[(&str, &str)], skipped: u64) {
    let events = events
        .iter()
        .map(|(name, data)| ((*name).to_owned(), (*data).to_owned()))
        .collect();
    let expected = (events, skipped);
    let text = String::from_utf8_lossy(input);
    assert_eq!(read([input].into_iter(), limit), expected, "{text:?} whole");
    assert_eq!(
        read(input.chunks(1), limit),
        expected,
        "{text:?} byte by byte"
    );
    for at in 0..input.len() {
        let (first, second) = input.split_at(at);
        assert_eq!(
            read([first, second].into_iter(), limit),
            expected,
            "{text:?} cut at {at}"
        );
    }
}

#[track_caller]
fn check(input: impl AsRef<[u8]>, events: &[(&str, &str)]) {
    check_limited(input.as_ref(), EVENT_BYTES_MAX, events, 0);
}

#[test]
fn events_end_at_an_empty_line() {
    check("data: a\n\ndata: b\n\n", &[("", "a"), ("", "b")]);
    check("event: x\ndata: a\n\ndata: b\n\n", &[("x", "a"), ("", "b")]);
    check("data: a\nevent: x\n\n", &[("x", "a")]);
    check("\n\n\ndata: a\n\n\n\n", &[("", "a")]);
    check("", &[]);
}

#[test]
fn all_three_line_ends_are_taken() {
    check(
        "event: x\r\ndata: a\r\n\r\ndata: b\r\n\r\n",
        &[("x", "a"), ("", "b")],
    );
    check("event: x\rdata: a\r\rdata: b\r\r", &[("x", "a"), ("", "b")]);
    check(
        "event: x\rdata: a\r\ndata: b\n\r\ndata: c\n\r",
        &[("x", "a\nb"), ("", "c")],
    );
    check(
        "data: a\r\n\rdata: b\r\r\ndata: c\n\r\n",
        &[("", "a"), ("", "b"), ("", "c")],
    );
}

#[test]
fn data_lines_are_joined_by_line_feeds() {
    check("data: a\ndata: b\n\n", &[("", "a\nb")]);
    check("data\ndata\n\n", &[("", "\n")]);
    check("data:\ndata: a\ndata:\n\n", &[("", "\na\n")]);
    check("data\n\n", &[("", "")]);
    check("data:\n\n", &[("", "")]);
}

#[test]
fn one_space_after_the_colon_is_dropped() {
    check(
        "data:a\n\ndata:  a\n\ndata: \n\ndata:\ta\n\n",
        &[("", "a"), ("", " a"), ("", ""), ("", "\ta")],
    );
    check("event:x\ndata: a: b\n\n", &[("x", "a: b")]);
}

#[test]
fn an_event_without_data_is_none() {
    check("event: x\n\ndata: a\n\n", &[("", "a")]);
    check("event: x\n\n: ping\n\nid: 1\n\n", &[]);
}

#[test]
fn the_last_event_line_names_the_event() {
    check("event: x\nevent: y\ndata: a\n\n", &[("y", "a")]);
    check("event: x\nevent\ndata: a\n\n", &[("", "a")]);
}

#[test]
fn comments_and_other_fields_are_passed_over() {
    check(
        ": ping\n\n:\ndata: a\n: b\nid: \0\nretry: 1\n\n",
        &[("", "a")],
    );
    check(
        "datax: b\ndat: b\nevents: b\nDATA: b\ndata : b\n data: b\ndata: a\n\n",
        &[("", "a")],
    );
}

#[test]
fn a_byte_order_mark_is_dropped_once() {
    check(b"\xef\xbb\xbfdata: a\n\n", &[("", "a")]);
    check(
        b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n",
        &[("", "b")],
    );
    check(b"\xef\xbbdata: a\n\ndata: b\n\n", &[("", "b")]);
    check(b"\xef\n\ndata: b\n\n", &[("", "b")]);
    check(b"data: a\n\n\xef\xbb\xbfdata: b\n\n", &[("", "a")]);
}

#[test]
fn an_event_cut_off_by_the_end_is_reported() {
    check("data: a\n\ndata: b", &[("", "a"), ("", "b")]);
    check("event: x\ndata: b\n", &[("x", "b")]);
    check("data: b\r", &[("", "b")]);
    check("data", &[("", "")]);
    check("event: x", &[]);
}

#[test]
fn nothing_is_reported_twice_by_a_second_end() {
    let mut stream = EventStream::new();
    let mut count = 0;
    stream.feed(b"data: a", |_| count += 1);
    stream.finish(|_| count += 1);
    stream.finish(|_| count += 1);
    assert_eq!(count, 1);
}

#[test]
fn an_event_over_the_limit_is_left_out_and_counted() {
    // "data: " and eighteen bytes are twenty-four.
    let fits = "x".repeat(18);
    let over = "x".repeat(19);
    let stream = format!("data: {fits}\n\ndata: {over}\n\nevent: y\ndata: a\n\n");
    check_limited(stream.as_bytes(), 24, &[("", &fits), ("y", "a")], 1);
    let stream = "data: 0123456789\ndata: 0123456789\n\ndata: a\n\n";
    check_limited(stream.as_bytes(), 24, &[("", "a")], 1);
    let stream = format!("event: {over}\ndata: a\n\ndata: b\n\n");
    check_limited(stream.as_bytes(), 24, &[("", "b")], 1);
    check_limited(format!("data: {over}").as_bytes(), 24, &[], 1);
}

#[test]
fn comments_do_not_count_towards_the_limit() {
    let stream = format!(":{}\nid: {}\ndata: a\n\n", "x".repeat(99), "x".repeat(99));
    check_limited(stream.as_bytes(), 24, &[("", "a")], 0);
}

#[test]
fn a_line_without_end_takes_no_more_memory_than_the_limit() {
    let mut stream = EventStream::new();
    stream.feed(b"data: ", |_| ());
    for _ in 0..1000 {
        stream.feed(&[b'x'; 1000], |_| ());
        assert!(stream.event.data.capacity() <= 2 * EVENT_BYTES_MAX);
    }
    stream.feed(b"\n\ndata: a\n\n", |event| assert_eq!(event.data, b"a"));
    assert_eq!(stream.skipped(), 1);
}

#[test]
fn whole_events_are_slices_of_the_input() {
    let input = b"event: x\ndata: abc\n\ndata: de\n\n";
    let range = input.as_ptr_range();
    let mut count = 0;
    let mut stream = EventStream::new();
    stream.feed(input, |event| {
        assert!(range.contains(&event.data.as_ptr()));
        count += 1;
    });
    assert_eq!(count, 2);
    assert_eq!(stream.event.data.capacity(), 0);
}
