//! Prices looked up, costs computed.
//!
//! `cargo bench --bench price`; times are for one lookup or one cost.
#![expect(clippy::unwrap_used, reason = "a bench, which may fail")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::domain::usage::Usage;
use tidegate::provider::price::PriceTable;

const USAGE: Usage = Usage {
    input: Some(1_117),
    output: Some(346),
    cache_read: Some(1_024),
    reasoning: Some(20),
    ..Usage::UNKNOWN
};

fn prices(c: &mut Criterion) {
    let table = PriceTable::embedded();
    let mut group = c.benchmark_group("price");
    for (name, provider, model, normalised) in [
        ("listed", "openai", "gpt-4o-mini", "openai/gpt-4o-mini"),
        (
            "listed by rule",
            "anthropic",
            "claude-sonnet-4-5-20250929",
            "anthropic/claude-sonnet-4-5",
        ),
        (
            "not listed",
            "openai",
            "gpt-nothing-at-all",
            "openai/gpt-nothing-at-all",
        ),
    ] {
        group.bench_function(format!("find, {name}"), |b| {
            b.iter(|| table.find_place(black_box(provider), black_box(model), normalised));
        });
    }
    let place = table.find_place("openai", "gpt-4o-mini", "").unwrap();
    group.bench_function("cost of a usage at a place", |b| {
        b.iter(|| {
            let (_, cost) = table.cost_at(place, black_box(&USAGE)).unwrap();
            cost.unwrap()
        });
    });
    group.sample_size(10);
    group.bench_function("read the embedded table", |b| b.iter(PriceTable::embedded));
    group.finish();
}

criterion_group!(benches, prices);
criterion_main!(benches);
