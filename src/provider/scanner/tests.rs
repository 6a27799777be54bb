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
fn names_are_told_apart_by_every_byte() {
    // Many with the same length, first and last letter.
    static ALIKE: Names = Names::of(&[
        Path::to("a", Take::Count(0)),
        Path::to("ab", Take::Count(1)),
        Path::to("ba", Take::Count(2)),
        Path::to("abcd", Take::Count(3)),
        Path::to("acbd", Take::Count(4)),
        Path::to("a.bcdefghijklmn.z", Take::Count(5)),
        Path::to("a.bcdefghijklmnoz", Take::Count(6)),
        Path::to("a.bcdefghijklmnopz", Take::Count(7)),
        Path::to("a.bcdefghijklmno.z", Take::Count(8)),
        Path::to("a.bcdefghijklmnopqrstuvwxyz.abcz", Take::Count(9)),
        Path::to("a.bcdefghijklmnopqrstuvwxyzzabcz", Take::Count(10)),
    ]);
    let ours = [
        "a",
        "ab",
        "ba",
        "abcd",
        "acbd",
        "a.bcdefghijklmn.z",
        "a.bcdefghijklmnoz",
        "a.bcdefghijklmnopz",
        "a.bcdefghijklmno.z",
        "a.bcdefghijklmnopqrstuvwxyz.abcz",
        "a.bcdefghijklmnopqrstuvwxyzzabcz",
    ];
    let found = |name: &str, size: usize| -> Vec<u8> {
        let mut scanner = Scanner::<11, 0>::new(&ALIKE);
        let document =
            format!("{{\"{name}\":1,\"so that more follows than is looked at at once\":1}}");
        document
            .as_bytes()
            .chunks(size)
            .for_each(|piece| scanner.feed(piece));
        (0..11)
            .filter(|slot| scanner.number(*slot).is_some())
            .collect()
    };
    for (slot, name) in (0..).zip(ours) {
        for size in [1, 7, 1000] {
            assert_eq!(found(name, size), [slot], "{name}");
            for at in 0..name.len() {
                let mut other = name.to_owned();
                other.replace_range(at..=at, "-");
                assert_eq!(found(&other, size), [0; 0], "{other}");
            }
            assert_eq!(found(&format!("{name}-"), size), [0; 0]);
            assert_eq!(found(&format!("-{name}"), size), [0; 0]);
        }
    }
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

/// Takes of every kind, at any depth.
static ANYWHERE: Names = Names::of(&[
    Path::into("deep", &ANYWHERE),
    Path::either("reply", Take::Text { slot: 0, max: 20 }, &ANYWHERE),
    Path::to("model", Take::Text { slot: 1, max: 9 }),
    Path::to("in", Take::Number(0)),
    Path::to("out", Take::LatestNumber(1)),
    Path::to("each", Take::Sum(2)),
    Path::to("count", Take::Count(3)),
    Path::to("flag", Take::Flag(4)),
    Path::to("delta", Take::Presence(5)),
    // As long as names can be, and what can be mistaken for it.
    Path::to("a_name_of_two_and_thirty_letters", Take::Count(6)),
    Path::to("a_name_of_17_byte", Take::Count(7)),
    Path::to("b_name_of_17_byte", Take::Count(8)),
]);

/// All that is known after each piece.
type Known = (Vec<Option<u64>>, Vec<Vec<u8>>, bool);

fn known(pieces: &[&[u8]]) -> Known {
    let mut scanner = Scanner::<9, 2>::new(&ANYWHERE);
    for piece in pieces {
        scanner.feed(piece);
    }
    (
        (0..9).map(|slot| scanner.number(slot)).collect(),
        (0..2).map(|slot| scanner.text(slot).to_vec()).collect(),
        scanner.is_done(),
    )
}

#[test]
fn a_member_outside_of_all_containers_is_the_same_whole_and_in_pieces() {
    let bytes = br#""deep","in":1,{"in":2}"#;
    let one_by_one: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(known(&[bytes]), known(&one_by_one));
}

/// Writes what is nearly JSON, as one byte after the other chooses; when they are used up, it ends.
struct Writer<'c> {
    choices: std::slice::Iter<'c, u8>,
    text: String,
}

impl Writer<'_> {
    /// Deeper than anything is followed.
    const DEPTH_MAX: usize = 14;

    fn choice(&mut self, of: usize) -> usize {
        usize::from(self.choices.next().copied().unwrap_or(0)) % of
    }

    fn one_of(&mut self, all: &[&str]) {
        let chosen = self.choice(all.len());
        self.text.push_str(all[chosen]);
    }

    /// Writes what stands between two parts, seldom with blanks, now and then a slip.
    fn mostly(&mut self, usual: &str, slips: &[&str]) {
        let blanks = [" ", "\n", "\t\r\n", " \n ", "\n                    "];
        match self.choice(64) {
            0..=51 => self.text.push_str(usual),
            52..=56 => {
                self.text.push_str(usual);
                self.one_of(&blanks);
            }
            57..=61 => {
                self.one_of(&blanks);
                self.text.push_str(usual);
            }
            _ => self.one_of(slips),
        }
    }

    fn value(&mut self, depth: usize) {
        match self.choice(8) {
            3..=6 if depth < Self::DEPTH_MAX => self.object(depth + 1),
            7 if depth < Self::DEPTH_MAX => self.array(depth + 1),
            _ => self.leaf(),
        }
    }

    fn object(&mut self, depth: usize) {
        self.mostly("{", &["{{", "[", ""]);
        for index in 0..self.choice(5) {
            if index > 0 {
                self.mostly(",", &[",,", "", "}", "]", ":", "1", "\"", "\0"]);
            }
            self.member(depth);
        }
        self.mostly("}", &["]", "}}", "", ",}"]);
    }

    fn member(&mut self, depth: usize) {
        self.text.push('"');
        match self.choice(8) {
            0..=2 => self.one_of(&[
                "model",
                "in",
                "out",
                "each",
                "count",
                "flag",
                "delta",
                "a_name_of_two_and_thirty_letters",
                "a_name_of_17_byte",
                "b_name_of_17_byte",
            ]),
            3..=6 => self.one_of(&["deep", "reply", "de\\u0065p"]),
            _ => self.one_of(&[
                "",
                "\\u0069n",
                "dee",
                "deeep",
                "dxep",
                "ou\\\"t",
                "mod\\\\",
                "d\0\0p",
                "deep\0",
                "a_name_of_two_and_thirty_lettert",
                "a_name_of_two_and_thirty_letterss",
                "a_name_of_17_bytf",
                "a_name_of_more_than_thirty_letters_or_so",
            ]),
        }
        self.text.push('"');
        self.mostly(":", &["", "::", ";", ":,", "\0:"]);
        self.value(depth);
    }

    fn array(&mut self, depth: usize) {
        self.mostly("[", &["[[", "{", ""]);
        for index in 0..self.choice(4) {
            if index > 0 {
                self.mostly(",", &[",,", "", "}", "]", "\0"]);
            }
            self.value(depth);
        }
        self.mostly("]", &["}", "]]", "", ",]"]);
    }

    fn leaf(&mut self) {
        match self.choice(4) {
            0 => self.one_of(&[
                "null",
                "true",
                "false",
                "{}",
                "[]",
                "[ ]",
                "[1,[2]]",
                "",
                "\0",
                "\u{1}1",
                "{\"in\":1}",
                "-1",
                "1.5",
                "12.0",
                "99999999999999999999",
            ]),
            1 => {
                let digits = self.choice(26);
                self.text.push_str(&"12345678901234567890123456"[..=digits]);
            }
            _ => {
                self.text.push('"');
                for _ in 0..self.choice(6) {
                    self.one_of(&[
                        "a",
                        "\\\"",
                        "\\\\",
                        "\\n",
                        "{",
                        "]",
                        ",",
                        ":",
                        "é",
                        "\\u00e9",
                        "thirteen or so",
                        "as long as two vectors, less one",
                    ]);
                }
                self.text.push('"');
            }
        }
    }
}

fn nearly_json() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(|choices| {
        let mut writer = Writer {
            choices: choices.iter(),
            text: String::new(),
        };
        match writer.choice(8) {
            0 => writer.array(0),
            1 => writer.value(0),
            _ => writer.object(0),
        }
        writer.text
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
    fn a_document_is_read_the_same_whole_cut_anywhere_and_byte_by_byte(
        document in nearly_json(),
        tail in prop_oneof![4 => Just(String::new()), 1 => nearly_json()],
        end in any::<prop::sample::Index>(),
        is_cut in prop::bool::weighted(0.2),
    ) {
        let mut bytes = format!("{document}{tail}").into_bytes();
        if is_cut {
            bytes.truncate(end.index(bytes.len() + 1));
        }
        let one_by_one: Vec<&[u8]> = bytes.chunks(1).collect();
        let expected = known(&one_by_one);
        prop_assert_eq!(&known(&[&bytes]), &expected);
        for at in 0..bytes.len() {
            let (head, tail) = bytes.split_at(at);
            prop_assert_eq!(&known(&[head, tail]), &expected, "cut at {}", at);
        }
        // What was known at any time does not depend on how it came either.
        let half = bytes.len() / 2;
        prop_assert_eq!(known(&[&bytes[..half]]), known(&one_by_one[..half]));
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
