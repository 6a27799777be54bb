//! Limits on a request's way: claims made of rules, granted and settled.
//!
//! `cargo bench --bench ledger`; times are for one request.
#![expect(clippy::unwrap_used, reason = "a bench, which may fail")]

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::{
    config::gateway::{Gateway, LimitBy, SpendLimits, SpendRule, Technique, TrafficLimit},
    domain::money::PicoDollars,
    provider::{
        dialect::Dialect,
        price::{Dearest, PriceTable},
    },
    shard::ledger::{Actual, Ask, Book, Now, Ticket, bound},
    snapshot::limits::{Claim, CostBound, Facts, Rules, Scope, TokenGuess, names::Names},
};

const UNIX: u64 = 1_795_000_000_000_000;

const FACTS: Facts<'static> = Facts {
    key: Some("app"),
    metadata: b"",
    provider: "openai",
    model: "gpt-4o-mini",
    model_name: "openai/gpt-4o-mini",
    tokens: TokenGuess {
        least: 300,
        most: 300,
    },
    bound: CostBound::AtMost(900),
    unix_micros: UNIX,
};

/// A limit on requests, one on tokens, one on cost: what a busy gateway may have.
fn rules() -> Rules {
    let traffic = || TrafficLimit {
        limit: 1_000_000_000,
        window: Duration::from_mins(1),
        technique: Technique::Sliding,
        by: LimitBy::Key,
    };
    Rules::of_gateway(&Gateway {
        request_limits: vec![traffic()],
        token_limits: vec![traffic()],
        spend_limits: SpendLimits {
            enabled: true,
            rules: vec![SpendRule {
                id: "day".to_owned(),
                enabled: true,
                limit: PicoDollars(u64::MAX),
                window: Duration::from_hours(24),
                technique: Technique::Sliding,
                metadata: std::collections::BTreeMap::new(),
                model: None,
                provider: None,
                hard: false,
                allow_unpriced: false,
            }],
        },
        ..Gateway::default()
    })
}

fn claims(rules: &Rules, names: &mut Names) -> Vec<Claim> {
    let mut claims = Vec::new();
    let gateway = Scope::Gateway("default");
    rules
        .claim(gateway, black_box(&FACTS), names, &mut claims)
        .unwrap();
    claims
}

fn ledger(c: &mut Criterion) {
    let mut group = c.benchmark_group("ledger");
    let rules = rules();
    let mut names = Names::default();
    group.bench_function("claims of three rules", |b| {
        b.iter(|| claims(&rules, &mut names));
    });

    let mut ask = Ask {
        ticket: Ticket {
            shard: 0,
            number: 0,
        },
        claims: claims(&rules, &mut names),
        life: Duration::from_mins(10),
        undoable: false,
    };
    let actual = Actual {
        tokens: Some(250),
        cost: Some(700),
        list_cost: Some(700),
    };
    // 100 µs between two requests: windows are as full as they get.
    let mut micros = 0;
    let mut now = || {
        micros += 100;
        Now::new(micros, UNIX + micros)
    };
    let mut book = Book::new(0);
    group.bench_function("reserve and settle three limits", |b| {
        b.iter(|| {
            let now = now();
            let answer = book.reserve(black_box(&ask), now).unwrap();
            book.settle(answer.result.unwrap().id.unwrap(), actual, now)
        });
    });
    ask.claims.truncate(1);
    let mut book = Book::new(0);
    group.bench_function("reserve of a limit on requests", |b| {
        b.iter(|| book.reserve(black_box(&ask), now()));
    });

    let body = format!(
        r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "words and more words, ".repeat(40)
    );
    let table = PriceTable::embedded();
    let place = table.find_place("openai", "gpt-4o-mini", "").unwrap();
    let request = bound::Request {
        dialect: Dialect::OpenAi,
        body: Some(body.as_bytes()),
        max_tokens: None,
    };
    group.bench_function("bound of a 1 KB request", |b| {
        b.iter(|| {
            let dearest: Option<Dearest> = table.dearest(black_box(place));
            bound::bound(dearest.as_ref(), &request)
        });
    });
    group.finish();
}

criterion_group!(benches, ledger);
criterion_main!(benches);
