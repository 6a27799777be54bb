#![expect(
    clippy::indexing_slicing,
    reason = "a test that panics is a test that fails"
)]

use proptest::prelude::*;

use super::*;

static PATHS: Names = Names::of(&[
    Path::to("model", Take::Text { slot: 0, max: 16 }),
    Path::into("usage", &USAGE),
    Path::to("delta", Take::Presence(2)),
    Path::either("reply", Take::Presence(3), &USAGE),
]);
static USAGE: Names = Names::of(&[
    Path::to("in", Take::Number(0)),
    Path::to("out", Take::LatestNumber(1)),
    Path::to("each", Take::Sum(4)),
]);

type Small = Scanner<5, 1>;

fn scan(pieces: &[&[u8]]) -> ([Option<u64>; 5], String) {
    let mut scanner = Small::new(&PATHS);
    for piece in pieces {
        scanner.feed(piece);
    }
    let text = String::from_utf8_lossy(scanner.text(0)).into_owned();
    (
        std::array::from_fn(|slot| scanner.number(u8::try_from(slot).unwrap())),
        text,
    )
}

/// Scans whole and byte by byte; both must give the numbers (in, out, delta, reply, sum).
#[track_caller]
fn check(document: &str, numbers: [Option<u64>; 5], text: &str) {
    let whole = scan(&[document.as_bytes()]);
    assert_eq!(whole, (numbers, text.to_owned()), "{document}");
    let bytes: Vec<&[u8]> = document.as_bytes().chunks(1).collect();
    assert_eq!(scan(&bytes), whole, "byte by byte: {document}");
}

const NOTHING: [Option<u64>; 5] = [None; 5];

#[test]
fn members_are_found_at_their_own_place_only() {
    check(
        r#"{"a":{"model":"no"},"usage":{"in":12,"x":{"in":3}},"model":"m"}"#,
        [Some(12), None, None, None, None],
        r#""m""#,
    );
    check(r#"{"x":[{"usage":{"in":1}}]}"#, NOTHING, "");
}

#[test]
fn strings_do_not_fool_it() {
    check(
        r#"{"a":"\"usage\":{\"in\":9}, {[","b":["}]","\\"],"c":"\\\"","usage":{"in":1}}"#,
        [Some(1), None, None, None, None],
        "",
    );
}

#[test]
fn names_may_be_written_with_escapes() {
    check(
        r#"{"\u006dodel":"m","us\u0061ge":{"\u0069n":4},"mod\nel":"x","mod\u00e9l":1}"#,
        [Some(4), None, None, None, None],
        r#""m""#,
    );
}

#[test]
fn the_last_of_equal_names_counts() {
    check(
        r#"{"model":"a","usage":{"in":1,"out":1},"model":"b","usage":{"in":null,"out":null}}"#,
        [None, Some(1), None, None, None],
        r#""b""#,
    );
    check(
        r#"{"model":"a","model":"longer than the bound allows"}"#,
        NOTHING,
        "",
    );
}

#[test]
fn arrays_are_transparent_and_sums_add_up() {
    check(
        r#"[{"usage":[{"each":2},{"each":3},[{"each":4.0}]]},{"model":"m","usage":{"in":7}}]"#,
        [Some(7), None, None, None, Some(9)],
        r#""m""#,
    );
}

#[test]
fn presence_needs_more_than_emptiness() {
    for nothing in ["null", "\"\"", "[]", "{}", "{ }", "false"] {
        check(&format!(r#"{{"delta":{nothing}}}"#), NOTHING, "");
    }
    for something in [
        "\"x\"",
        "[1]",
        r#"{"a":"long enough to pass the scratch"}"#,
        "0",
    ] {
        let known = [None, None, Some(1), None, None];
        check(&format!(r#"{{"delta":{something},"z":0}}"#), known, "");
    }
}

#[test]
fn a_member_may_be_a_text_or_a_place_to_look_into() {
    check(r#"{"reply":"hi"}"#, [None, None, None, Some(1), None], "");
    check(
        r#"{"reply":{"in":5}}"#,
        [Some(5), None, None, None, None],
        "",
    );
}

#[test]
fn white_space_and_a_byte_order_mark_are_no_hindrance() {
    check(
        "\u{feff} \r\n{ \"usage\" : { \"in\" : 5 , \"out\" :\t6 } }\n",
        [Some(5), Some(6), None, None, None],
        "",
    );
}

#[test]
fn a_value_cut_short_leaves_the_one_before() {
    check(
        r#"{"model":"a","usage":{"in":1},"usage":{"in":23"#,
        [Some(1), None, None, None, None],
        r#""a""#,
    );
    check(r#"{"model":"a","model":"b"#, NOTHING, r#""a""#);
}

#[test]
fn numbers_out_of_range_are_unknown() {
    for text in [
        "-1",
        "1.5",
        "1e3",
        "99999999999999999999999999",
        "\"3\"",
        "1.",
    ] {
        check(&format!(r#"{{"usage":{{"in":{text}}}}}"#), NOTHING, "");
    }
    check(
        r#"{"usage":{"in":18446744073709551615}}"#,
        [Some(u64::MAX), None, None, None, None],
        "",
    );
}

#[test]
fn what_is_no_json_ends_quietly() {
    for text in [
        "",
        "}",
        "]]]]",
        "hello",
        "{{{{{{",
        "[[[[[[[[[[[[[[[[",
        "{\"a\"}",
        "\"",
        "{,}",
    ] {
        check(text, NOTHING, "");
    }
}

#[test]
fn depth_costs_no_memory() {
    let mut scanner = Small::new(&PATHS);
    let open = vec![b'['; 65536];
    for _ in 0..64 {
        scanner.feed(&open);
    }
    scanner.feed(br#"{"model":"m"}"#);
    assert!(!scanner.is_done());
    assert!(scanner.text(0).is_empty());
}

#[test]
fn a_text_beyond_its_bound_costs_no_memory() {
    let mut scanner = Small::new(&PATHS);
    scanner.feed(br#"{"model":""#);
    let text = vec![b'x'; 4096];
    for _ in 0..1000 {
        scanner.feed(&text);
        assert!(scanner.pending.capacity() <= 64);
    }
    scanner.feed(br#"","usage":{"in":1}}"#);
    assert_eq!(scanner.number(0), Some(1));
    assert!(scanner.text(0).is_empty());
}

#[test]
fn long_runs_of_numbers_are_skipped_right() {
    for len in 0..200 {
        let digits = "1".repeat(len);
        check(
            &format!(r#"{{"a":[{digits},{{"b":"]"}}],"usage":{{"in":3}}}}"#),
            [Some(3), None, None, None, None],
            "",
        );
    }
}

#[test]
fn facts_of_requests() {
    let check = |body: &str, model: Option<&str>, stream, max_tokens| {
        let facts = RequestFacts {
            model: model.map(Box::from),
            stream,
            max_tokens,
        };
        assert_eq!(RequestFacts::of_json(body.as_bytes()), facts, "{body}");
        let mut scan = RequestScan::of_content_type(b"application/json");
        body.as_bytes().chunks(3).for_each(|piece| scan.feed(piece));
        assert_eq!(scan.facts(), facts, "in pieces: {body}");
    };
    check(
        r#"{"messages":[{"role":"user","content":"\"model\":\"x\""}],"model":"gpt-4o","stream":true,"max_tokens":5,"max_completion_tokens":9}"#,
        Some("gpt-4o"),
        Some(true),
        Some(9),
    );
    check(
        r#"{"contents":[],"generationConfig":{"maxOutputTokens":100}}"#,
        None,
        None,
        Some(100),
    );
    check(
        r#"{"model":"\u0067pt\/\ud83d\ude00","stream":false,"stream":"yes"}"#,
        Some("gpt/😀"),
        None,
        None,
    );
    check(r#"{"model":"\ud83d"}"#, None, None, None);
    check(r#"{"model":7,"stream":false}"#, None, Some(false), None);
    check(r#"{"model":""}"#, None, None, None);
}

const FORM: &str = "--b0\r\ncontent-disposition: form-data; name=\"file\"; filename=\"name=\\\"model\\\"\"\r\n\
Content-Type: audio/wav\r\n\r\n\r\r\n-\r\n--b\r\n--b name=\"model\"\r\n\r\nfake\r\n--b0\r\n\
Content-Disposition: form-data; name=\"model\"\r\n\r\ngpt-4o-transcribe\r\n--b0\r\n\
Content-Disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n--b0--\r\n";

#[test]
fn a_form_names_its_model_wherever_it_was_cut() {
    for size in 1..FORM.len() {
        let mut scan = RequestScan::of_content_type(b"multipart/form-data; boundary=\"b0\"");
        FORM.as_bytes()
            .chunks(size)
            .for_each(|piece| scan.feed(piece));
        let facts = scan.facts();
        assert_eq!(facts.model.as_deref(), Some("gpt-4o-transcribe"), "{size}");
        assert_eq!(facts.stream, Some(true));
    }
}

#[test]
fn a_form_without_end_stays_small() {
    let mut form =
        multipart::MultipartScan::of_content_type(b"multipart/form-data; boundary=b0").unwrap();
    form.feed(b"--b0\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n");
    for _ in 0..1000 {
        form.feed(&[b'x'; 1000]);
    }
    form.feed(b"\r\n--b0");
    for _ in 0..1000 {
        form.feed(&[b'y'; 1000]);
    }
    assert_eq!(form.facts(), RequestFacts::default());
}

#[test]
fn binary_bodies_are_left_alone() {
    let mut scan = RequestScan::of_content_type(b"audio/wav");
    scan.feed(br#"{"model":"x"}"#);
    assert_eq!(scan.facts(), RequestFacts::default());
}

/// Any JSON value, as text.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (0u32..9999).prop_map(|number| number.to_string()),
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "[\\\\\"{}\\[\\],:umodelusage ]{0,12}"
            .prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    let name = prop_oneof![
        Just("model".to_owned()),
        Just("usage".to_owned()),
        Just("in".to_owned()),
        Just("out".to_owned()),
        Just("\\\"".to_owned()),
        "[a-z]{0,3}",
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5)
                .prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec((name.clone(), inner), 0..5).prop_map(|all| {
                let all: Vec<String> = all.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
                format!("{{{}}}", all.join(", "))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_never_change_the_result(document in json(), cuts in prop::collection::vec(0usize..200, 0..6)) {
        let bytes = document.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.push(0);
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(scan(&pieces), scan(&[bytes]));
    }

    #[test]
    fn it_agrees_with_a_full_parser(before in json(), inner in json(), model in "\\PC{0,12}", after in json()) {
        let model = serde_json::to_string(&model).unwrap();
        let document = format!(
            r#"{{"a":{before},"model":{model},"usage":{{"x":{inner},"in":7,"out":{inner}}},"z":{after}}}"#
        );
        let value: serde_json::Value = serde_json::from_str(&document).unwrap();
        let (numbers, text) = scan(&[document.as_bytes()]);
        prop_assert_eq!(numbers[0], value["usage"]["in"].as_u64());
        prop_assert_eq!(numbers[1], value["usage"]["out"].as_u64());
        prop_assert_eq!(text, if model.len() <= 16 { model } else { String::new() });
    }

    #[test]
    fn no_bytes_make_it_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        scan(&pieces);
    }
}
