#![expect(
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test reads its files, and one that panics is one that fails"
)]

use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

/// A body of a provider and what it reports.
struct Fixture {
    name: String,
    dialect: Dialect,
    shape: Shape,
    body: Vec<u8>,
    expected: Metered,
}

impl Fixture {
    fn meter(&self, encoding: Encoding) -> Meter {
        Meter::new(self.dialect, self.shape, encoding)
    }
}

static FIXTURES: LazyLock<Vec<Fixture>> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/usage");
    let index = std::fs::read_to_string(folder.join("index.tsv")).unwrap();
    let lines = index.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [name, dialect, numbers @ .., model, cost, detail] = fields.as_slice() else {
                panic!("{line}");
            };
            let number = |index: usize| numbers[index].parse::<u64>().ok();
            let text = |text: &str| (text != "-").then(|| Box::from(text));
            let raw = std::fs::read(folder.join(name)).unwrap();
            let (shape, body) = match name.rsplit_once('.').unwrap().1 {
                "json" => (Shape::Json, raw),
                "sse" => (Shape::EventStream, raw),
                "ndjson" => (Shape::JsonLines, raw),
                "frames" => (Shape::AmazonEventStream, frames(&raw, false)),
                "bytes" => (Shape::AmazonEventStream, frames(&raw, true)),
                other => panic!("{other}"),
            };
            let mut usage = Usage {
                input: number(0),
                output: number(1),
                cache_read: number(2),
                cache_write: number(3),
                cache_write_hour: number(4),
                reasoning: number(5),
                ..Usage::UNKNOWN
            };
            usage.note_detail(detail);
            Fixture {
                name: (*name).to_owned(),
                dialect: Dialect::parse(dialect).unwrap(),
                shape,
                body,
                expected: Metered {
                    usage,
                    model: text(model),
                    cost_reported: text(cost),
                },
            }
        })
        .collect()
});

/// Puts each line into a frame, as base64 inside its payload if `inner`.
fn frames(lines: &[u8], inner: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()) {
        let payload = if inner {
            format!(r#"{{"bytes":"{}","p":"abcdefgh"}}"#, base64(line)).into_bytes()
        } else {
            line.to_vec()
        };
        out.extend_from_slice(&frame(b"\x0b:event-type\x07\x00\x05chunk", &payload));
    }
    out
}

fn frame(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes();
    let mut out = length(headers.len() + payload.len() + 16).to_vec();
    out.extend(length(headers.len()));
    out.extend(checksum(&out));
    out.extend(headers);
    out.extend(payload);
    out.extend(checksum(&out));
    out
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_be_bytes()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let mut word = [0u8; 4];
        word[1..=three.len()].copy_from_slice(three);
        let word = u32::from_be_bytes(word);
        for place in 0..4 {
            if place <= three.len() {
                out.push(char::from(
                    ALPHABET[(word >> (18 - 6 * place)) as usize & 63],
                ));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// Feeds pieces; gives what was metered and in which piece the first token came.
fn run<'a>(mut meter: Meter, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Metered, Vec<usize>) {
    let mut first = Vec::new();
    for (index, piece) in pieces.into_iter().enumerate() {
        if meter.feed(piece).first_token {
            first.push(index);
        }
    }
    (meter.finish(), first)
}

fn cut(body: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
    cuts.extend([0, body.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| &body[pair[0]..pair[1]])
        .collect()
}

#[track_caller]
fn check(shape: Shape, body: &str, expected: Usage) {
    let (metered, _) = run(
        Meter::new(Dialect::OpenAi, shape, Encoding::Identity),
        [body.as_bytes()],
    );
    assert_eq!(metered.usage, expected, "{body}");
}

#[test]
fn bodies_of_all_dialects_give_their_usage() {
    assert!(FIXTURES.len() > 60);
    for fixture in FIXTURES.iter() {
        let (metered, first) = run(fixture.meter(Encoding::Identity), [fixture.body.as_slice()]);
        assert_eq!(metered, fixture.expected, "{}", fixture.name);
        assert_eq!(first.len(), 1, "{}: one first token", fixture.name);
    }
}

#[test]
fn a_meter_that_goes_round_gives_the_same() {
    let mut meter = Meter::new(Dialect::OpenAi, Shape::Json, Encoding::Identity);
    for (before, fixture) in FIXTURES.iter().rev().zip(FIXTURES.iter()) {
        // The one before it breaks off anywhere: in a name, a number, a frame, or half inflated.
        for cut in [
            1,
            before.body.len() / 3,
            before.body.len() / 2,
            before.body.len(),
        ] {
            for encoding in [Encoding::Identity, Encoding::Gzip] {
                meter.begin(before.dialect, before.shape, encoding);
                meter.feed(&before.body[..cut]);
                meter.begin(fixture.dialect, fixture.shape, Encoding::Identity);
                let mut first = 0;
                for piece in fixture.body.chunks(1_000) {
                    first += usize::from(meter.feed(piece).first_token);
                }
                assert_eq!(
                    meter.finish(),
                    fixture.expected,
                    "{} after {}",
                    fixture.name,
                    before.name
                );
                assert_eq!(first, 1, "{}", fixture.name);
            }
        }
    }
}

#[test]
fn bodies_give_the_same_byte_by_byte() {
    for fixture in FIXTURES.iter() {
        let (metered, first) = run(fixture.meter(Encoding::Identity), fixture.body.chunks(1));
        assert_eq!(metered, fixture.expected, "{}", fixture.name);
        assert_eq!(first.len(), 1, "{}: one first token", fixture.name);
    }
}

#[test]
fn bodies_give_the_same_event_by_event() {
    for fixture in FIXTURES.iter() {
        let pieces = fixture.body.split_inclusive(|byte| *byte == b'\n');
        let (metered, _) = run(fixture.meter(Encoding::Identity), pieces);
        assert_eq!(metered, fixture.expected, "{}", fixture.name);
    }
}

#[test]
fn compressed_bodies_give_the_same() {
    for fixture in FIXTURES.iter() {
        let level = Compression::default();
        let mut gzip = GzEncoder::new(Vec::new(), level);
        let mut zlib = ZlibEncoder::new(Vec::new(), level);
        let mut raw = DeflateEncoder::new(Vec::new(), level);
        // A flush after each line, as a provider does that streams.
        for line in fixture.body.split_inclusive(|byte| *byte == b'\n') {
            for writer in [&mut gzip as &mut dyn Write, &mut zlib, &mut raw] {
                writer.write_all(line).unwrap();
                writer.flush().unwrap();
            }
        }
        let bodies = [
            (Encoding::Gzip, gzip.finish().unwrap()),
            (Encoding::Deflate, zlib.finish().unwrap()),
            (Encoding::Deflate, raw.finish().unwrap()),
        ];
        for (encoding, body) in &bodies {
            for size in [1, 7, 1000, body.len()] {
                let (metered, first) = run(fixture.meter(*encoding), body.chunks(size));
                assert_eq!(metered, fixture.expected, "{} {encoding:?}", fixture.name);
                assert_eq!(first.len(), 1, "{}", fixture.name);
            }
        }
    }
}

#[test]
fn the_first_token_comes_with_the_first_delta() {
    let first = |name: &str| {
        let fixture = FIXTURES.iter().find(|f| f.name == name).unwrap();
        // Frames are cut at their sizes, events after their empty lines.
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut rest = fixture.body.as_slice();
        while !rest.is_empty() {
            let end = match fixture.shape {
                Shape::AmazonEventStream => {
                    u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize
                }
                Shape::JsonLines => memchr::memchr(b'\n', rest).unwrap() + 1,
                Shape::Json | Shape::EventStream | Shape::Opaque => {
                    memchr::memmem::find(rest, b"\n\n").unwrap() + 2
                }
            };
            pieces.push(&rest[..end]);
            rest = &rest[end..];
        }
        run(fixture.meter(Encoding::Identity), pieces).1[0]
    };
    assert_eq!(first("openai-chat-stream.sse"), 1);
    assert_eq!(first("openai-chat-stream-tools.sse"), 0);
    assert_eq!(first("azure-chat-stream.sse"), 2);
    assert_eq!(first("openai-completion-stream.sse"), 0);
    assert_eq!(first("openai-responses-stream-completed.sse"), 3);
    assert_eq!(
        first("deepseek-chat-stream.sse"),
        2,
        "a comment, an empty delta, reasoning"
    );
    assert_eq!(first("anthropic-messages-stream.sse"), 3);
    assert_eq!(first("cohere-v2-chat-stream.sse"), 2);
    assert_eq!(first("cohere-v1-chat-stream.ndjson"), 1);
    assert_eq!(first("mistral-chat-stream.sse"), 1);
    assert_eq!(first("bedrock-converse-stream.frames"), 2);
    assert_eq!(first("bedrock-claude-stream.bytes"), 3);
    assert_eq!(first("bedrock-nova-stream.bytes"), 1);
    assert_eq!(first("bedrock-llama-stream.bytes"), 1);
    assert_eq!(first("workers-ai-run-stream.sse"), 1);
}

#[test]
fn what_cannot_be_metered_still_has_a_first_byte() {
    let off = [
        Meter::new(Dialect::Unknown, Shape::EventStream, Encoding::Identity),
        Meter::new(Dialect::OpenAi, Shape::Opaque, Encoding::Identity),
        Meter::new(Dialect::OpenAi, Shape::Json, Encoding::Unsupported),
        Meter::new(Dialect::OpenAi, Shape::EventStream, Encoding::Unsupported),
    ];
    for meter in off {
        let body: [&[u8]; 3] = [b"", br#"{"usage":{"prompt_tokens":1}}"#, b"x"];
        assert_eq!(run(meter, body), (Metered::default(), vec![1]));
    }
}

#[test]
fn headers_count_where_the_body_is_silent() {
    let headers: [(&[u8], &[u8]); 4] = [
        (b"X-Amzn-Bedrock-Input-Token-Count", b" 12 "),
        (b"x-amzn-bedrock-output-token-count", b"7"),
        (b"x-amzn-bedrock-cache-read-input-token-count", b"100"),
        (b"x-amzn-bedrock-cache-write-input-token-count", b"-3"),
    ];
    let run = |body: &str| {
        let mut meter = Meter::new(Dialect::Bedrock, Shape::Json, Encoding::Identity);
        for (name, value) in headers {
            meter.note_header(name, value);
        }
        meter.feed(body.as_bytes());
        meter.finish().usage
    };
    let silent = run(r#"{"outputs":[{"text":"hi"}]}"#);
    assert_eq!(
        silent,
        Usage {
            input: Some(112),
            output: Some(7),
            cache_read: Some(100),
            ..Usage::UNKNOWN
        }
    );
    let spoken = run(r#"{"usage":{"input_tokens":1,"output_tokens":2}}"#);
    assert_eq!((spoken.input, spoken.output), (Some(1), Some(2)));
}

#[test]
fn usage_inside_of_strings_and_arguments_does_not_count() {
    for body in [
        r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1}"}}]}"#,
        r#"{"choices":[{"message":{"usage":{"prompt_tokens":1}}}]}"#,
        r#"{"choices":[{"message":{"content":"}],\"usage\":{\"prompt_tokens\":1}}"}}]}"#,
        r#"{"tools":[{"usage":{"prompt_tokens":1}}],"usage":null}"#,
        r#"{"usage":"{\"prompt_tokens\":1}"}"#,
        r#"{"usage":{"prompt_tokens":"1"}}"#,
    ] {
        check(Shape::Json, body, Usage::UNKNOWN);
        check(
            Shape::EventStream,
            &format!("data: {body}\n\n"),
            Usage::UNKNOWN,
        );
        check(Shape::JsonLines, &format!("{body}\n"), Usage::UNKNOWN);
    }
    let outside =
        "event: x\nid: {\"usage\":{\"prompt_tokens\":1}}\n: {\"usage\":{\"prompt_tokens\":1}}\n\n";
    check(Shape::EventStream, outside, Usage::UNKNOWN);
}

#[test]
fn an_event_may_span_several_data_lines_wherever_it_is_cut() {
    let pretty = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n\
        data: {\ndata:   \"x\": {\ndata:   },\ndata:   \"usage\": {\"prompt_tokens\": 3,\n\
        data:     \"completion_tokens\": 4}\ndata: }\n\n";
    for at in 0..pretty.len() {
        let (one, two) = pretty.as_bytes().split_at(at);
        let meter = Meter::new(Dialect::OpenAi, Shape::EventStream, Encoding::Identity);
        let usage = run(meter, [one, two]).0.usage;
        assert_eq!((usage.input, usage.output), (Some(3), Some(4)), "{at}");
    }
}

#[test]
fn a_long_final_event_is_read_whatever_its_length() {
    let text = "word \\\"usage\\\" ".repeat(100_000);
    let body = format!(
        "data: {{\"type\":\"response.output_text.delta\",\"delta\":\"x\"}}\n\n\
         data: {{\"type\":\"response.completed\",\"response\":{{\"output\":[{{\"text\":\"{text}\"}}],\
         \"usage\":{{\"input_tokens\":1,\"output_tokens\":2}}}}}}\n\n"
    );
    let mut meter = Meter::new(Dialect::OpenAi, Shape::EventStream, Encoding::Identity);
    for piece in body.as_bytes().chunks(16 * 1024) {
        meter.feed(piece);
    }
    let usage = meter.finish().usage;
    assert_eq!((usage.input, usage.output), (Some(1), Some(2)));
}

#[test]
fn broken_or_boundless_compression_leaves_usage_unknown() {
    let body = br#"{"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(body).unwrap();
    bomb.write_all(&vec![b' '; 64 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 100_000);
    for body in [
        bomb.as_slice(),
        b"no gzip at all",
        b"\x1f\x8b\x08\x00junkjunkjunk",
    ] {
        let meter = Meter::new(Dialect::OpenAi, Shape::Json, Encoding::Gzip);
        assert_eq!(run(meter, [body, body]), (Metered::default(), vec![0]));
    }
}

#[test]
fn bytes_after_the_end_of_a_compressed_body_are_ignored() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(br#"{"usage":{"prompt_tokens":1}}"#).unwrap();
    let mut body = gzip.finish().unwrap();
    body.extend_from_slice(b"trailing rubbish");
    for size in [1, 5, body.len()] {
        let meter = Meter::new(Dialect::OpenAi, Shape::Json, Encoding::Gzip);
        let (metered, _) = run(meter, body.chunks(size));
        assert_eq!(metered.usage.input, Some(1));
    }
}

#[test]
fn impossible_frames_end_the_reading() {
    let good = frame(b"", br#"{"usage":{"inputTokens":1,"outputTokens":2}}"#);
    let mut empty = frame(b"", b"");
    empty.extend_from_slice(&good);
    let metered = |body: &[u8]| {
        let meter = Meter::new(
            Dialect::Bedrock,
            Shape::AmazonEventStream,
            Encoding::Identity,
        );
        run(meter, [body]).0.usage.input
    };
    assert_eq!(metered(&good), Some(1));
    assert_eq!(metered(&empty), Some(1), "an empty payload is passed");
    let mut tiny = vec![0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0, 0];
    tiny.extend_from_slice(&good);
    assert_eq!(metered(&tiny), None);
    let mut long_headers = vec![0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0];
    long_headers.extend_from_slice(&good);
    assert_eq!(metered(&long_headers), None);
    let mut huge = vec![0xff; 12];
    huge.extend_from_slice(&good);
    assert_eq!(metered(&huge), None);
}

#[test]
fn a_meter_is_small() {
    assert!(size_of::<Meter>() < 1024, "{}", size_of::<Meter>());
}

#[test]
fn encodings_by_their_names() {
    for (name, encoding) in [
        ("", Encoding::Identity),
        ("identity", Encoding::Identity),
        (" GZIP ", Encoding::Gzip),
        ("x-gzip", Encoding::Gzip),
        ("deflate", Encoding::Deflate),
        ("br", Encoding::Unsupported),
        ("gzip, gzip", Encoding::Unsupported),
    ] {
        assert_eq!(Encoding::of_header(name.as_bytes()), encoding, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn cuts_never_change_what_is_metered(which in any::<prop::sample::Index>(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let fixture = which.get(&FIXTURES);
        let cuts = cuts.iter().map(|cut| cut.index(fixture.body.len() + 1)).collect();
        let (metered, first) = run(fixture.meter(Encoding::Identity), cut(&fixture.body, cuts));
        prop_assert_eq!(&metered, &fixture.expected, "{}", fixture.name);
        prop_assert_eq!(first.len(), 1);
    }

    #[test]
    fn a_cut_answer_reports_no_figure_that_a_whole_one_would_not(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>()) {
        let fixture = which.get(&FIXTURES);
        let body = &fixture.body[..at.index(fixture.body.len() + 1)];
        let (metered, _) = run(fixture.meter(Encoding::Identity), [body]);
        // Running figures grow, so a cut one is no greater; all others are there or not.
        let (got, whole) = (metered.usage, fixture.expected.usage);
        for (got, whole) in [(got.cache_read, whole.cache_read), (got.cache_write, whole.cache_write), (got.reasoning, whole.reasoning)] {
            prop_assert!(got.is_none() || got == whole, "{}", fixture.name);
        }
        if let Some(input) = got.input {
            prop_assert!(whole.input.is_some_and(|whole| input <= whole), "{}", fixture.name);
        }
    }

    #[test]
    fn garbage_never_panics(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
        shape in prop::sample::select(vec![Shape::Json, Shape::EventStream, Shape::JsonLines, Shape::AmazonEventStream]),
        encoding in prop::sample::select(vec![Encoding::Identity, Encoding::Gzip, Encoding::Deflate]),
    ) {
        let mut meter = Meter::new(Dialect::OpenAi, shape, encoding);
        for piece in &pieces {
            meter.feed(piece);
        }
        meter.finish();
    }
}
