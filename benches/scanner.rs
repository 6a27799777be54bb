//! Requests' bodies scanned for model, stream and token limit while they pass.
//!
//! `cargo bench --bench scanner`; times are for one whole body.
#![expect(clippy::unwrap_used, reason = "a bench, which may fail")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use tidegate::provider::scanner::RequestScan;

/// What a connection reads at a time.
const PIECE_BYTES: usize = 16 * 1024;

const PROSE: &str = "The tide comes in twice a day, and whoever minds the gate writes down when. ";

/// Text of a source file as JSON holds it: a line end, quotes or a tab in every few bytes.
const SOURCE: &str = "\tif (name == \"gate\") {\n\t\tprintf(\"%s\\n\", \"open\");\n\t}\n";

/// A chat request of about so many bytes, with one long message or many short ones.
fn chat(bytes: usize, text: &str, messages: usize) -> Vec<u8> {
    let content = text.repeat(bytes / messages / text.len() + 1);
    let content = &content[..bytes / messages];
    let messages: Vec<_> = (0..messages)
        .map(|_| json!({"role": "user", "content": content}))
        .collect();
    let body = json!({
        "model": "gpt-4o-mini",
        "messages": messages,
        "temperature": 0.2,
        "stream": true,
        "max_tokens": 512,
    });
    serde_json::to_vec(&body).unwrap()
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("scanner");
    for (name, body) in [
        ("2 KiB", chat(2 << 10, PROSE, 1)),
        ("64 KiB", chat(64 << 10, PROSE, 8)),
        ("1 MiB", chat(1 << 20, PROSE, 64)),
        ("64 KiB, short messages", chat(48 << 10, PROSE, 512)),
        ("64 KiB, many escapes", chat(48 << 10, SOURCE, 8)),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut scan = RequestScan::json();
                for piece in black_box(&body).chunks(PIECE_BYTES) {
                    scan.feed(piece);
                }
                let facts = scan.facts();
                assert_eq!(facts.max_tokens, Some(512));
                facts
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bodies);
criterion_main!(benches);
