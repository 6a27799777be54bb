//! Answers metered while they pass.
//!
//! `cargo bench --bench meter`; times are for one whole answer unless the name says otherwise.
#![expect(clippy::unwrap_used, reason = "a bench, which may fail")]

use std::hint::black_box;
use std::io::Write as _;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tidegate::provider::dialect::{Dialect, Shape};
use tidegate::provider::meter::{Encoding, Meter};

const STREAMS: [(&str, Dialect, &[u8]); 3] = [
    (
        "OpenAI",
        Dialect::OpenAi,
        include_bytes!("../tests/fixtures/usage/openai-chat-stream.sse"),
    ),
    (
        "Anthropic",
        Dialect::Anthropic,
        include_bytes!("../tests/fixtures/usage/anthropic-messages-stream.sse"),
    ),
    (
        "Gemini",
        Dialect::Gemini,
        include_bytes!("../tests/fixtures/usage/gemini-stream.sse"),
    ),
];

/// The events of a stream, each with the empty line that ends it.
fn events(stream: &[u8]) -> Vec<&[u8]> {
    let text = std::str::from_utf8(stream).unwrap();
    text.split_inclusive("\n\n").map(str::as_bytes).collect()
}

fn streams(c: &mut Criterion) {
    let mut group = c.benchmark_group("event");
    for (name, dialect, stream) in STREAMS {
        let events = events(stream);
        let reports = |event: &&&[u8]| {
            let text = std::str::from_utf8(event).unwrap();
            text.contains("\"usage") && !text.contains("\"usage\":null")
        };
        let mut settled = Meter::new(dialect, Shape::EventStream, Encoding::Identity);
        for event in &events {
            settled.feed(event);
        }
        let with = events.iter().rfind(reports).unwrap();
        group.throughput(Throughput::Bytes(with.len() as u64));
        group.bench_function(format!("{name}, with usage"), |b| {
            b.iter(|| settled.feed(black_box(with)));
        });
        // Every event of Gemini reports.
        if let Some(without) = events.iter().skip(1).find(|event| !reports(event)) {
            group.throughput(Throughput::Bytes(without.len() as u64));
            group.bench_function(format!("{name}, without usage"), |b| {
                b.iter(|| settled.feed(black_box(without)));
            });
        }
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(format!("{name}, whole stream by events"), |b| {
            b.iter(|| {
                let mut meter = Meter::new(dialect, Shape::EventStream, Encoding::Identity);
                for event in black_box(&events) {
                    meter.feed(event);
                }
                meter.finish()
            });
        });
    }
    group.finish();
}

/// A chat completion of about so many bytes.
fn completion(bytes: usize) -> Vec<u8> {
    let text = "Twice a day the gate opens and the water comes in. ".repeat(bytes / 51 + 1);
    let usage = json!({
        "prompt_tokens": 19,
        "completion_tokens": 150,
        "total_tokens": 169,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    });
    let body = json!({
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": 1_763_719_200,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": &text[..bytes.saturating_sub(460)]},
            "finish_reason": "stop",
        }],
        "usage": usage,
    });
    serde_json::to_vec(&body).unwrap()
}

fn documents(c: &mut Criterion) {
    let mut group = c.benchmark_group("document");
    let fixture: &[u8] = include_bytes!("../tests/fixtures/usage/openai-chat.json");
    for (name, body) in [
        ("fixture", fixture.to_vec()),
        ("1 KiB", completion(1 << 10)),
        ("4 KiB", completion(4 << 10)),
    ] {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&body).unwrap();
        let gzip = gzip.finish().unwrap();
        group.throughput(Throughput::Bytes(body.len() as u64));
        for (name, encoding, body) in [
            (name.to_owned(), Encoding::Identity, &body),
            (format!("{name}, gzip"), Encoding::Gzip, &gzip),
        ] {
            group.bench_function(name, |b| {
                b.iter(|| {
                    let mut meter = Meter::new(Dialect::OpenAi, Shape::Json, encoding);
                    meter.feed(black_box(body));
                    let metered = meter.finish();
                    assert!(metered.usage.input.is_some());
                    metered
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, streams, documents);
criterion_main!(benches);
