use proptest::{collection::vec, option, prelude::*, sample::select};
use rkyv::rancor::Failure;

use super::*;
use crate::{
    control::logs::{
        block::{Verified, build::BlockBuilder},
        filter::Filter,
        frame::{self, FrameBuffer, HEADER_BYTES, Header},
    },
    domain::record::{ArchivedRecord, Record, TEXTS, Texts, flag},
};

/// 2026-11-21T12:00:00Z.
const NOW: u64 = 1_795_262_400_000_000;

fn record() -> impl Strategy<Value = Record> {
    let small = || option::of(0..6u64);
    let numbers = (
        0..6u64,
        0..6u64,
        small(),
        small(),
        small(),
        small(),
        small(),
    );
    let kinds = (
        select(vec![0u16, 200, 404, 429, 503]),
        0..11u8,
        0..3u8,
        0..2u8,
        0..1024u32,
    );
    let texts = (
        select(vec!["", "gpt-4o", "gpt-4o-mini", "claude"]),
        select(vec!["", "openai/gpt-4o", "anthropic/claude"]),
        select(vec!["", "openai", "anthropic"]),
        select(vec!["/v1/chat/completions", "/v1/embeddings?x=1", "/x"]),
        select(vec![
            "",
            r#"{"user":4,"team":"Blue Sky"}"#,
            r#"{"user":"x"}"#,
            "no json",
        ]),
        select(vec!["", "ev-1"]),
    );
    (0..6u128, numbers, kinds, texts).prop_map(|(id, n, k, t)| {
        let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
        for (which, text) in [
            (Text::Model, t.0),
            (Text::ModelName, t.1),
            (Text::Provider, t.2),
            (Text::Path, t.3),
            (Text::Metadata, t.4),
            (Text::EventId, t.5),
        ] {
            texts[which as usize] = text.as_bytes();
        }
        Record {
            id: id.to_be_bytes(),
            at_micros: NOW - n.0,
            duration_micros: n.1 * 1000,
            first_token_micros: n.2.map(|n| n * 1000),
            tokens_input: n.3,
            tokens_output: n.4,
            tokens_reasoning: n.5,
            cost: n.6.map(|n| n * 10_000_000_000),
            status: k.0,
            outcome: k.1,
            step: k.2,
            attempt: k.3,
            flags: k.4 & !flag::UNLOGGED,
            texts: Texts::pack(&texts),
            ..Record::default()
        }
    })
}

const TERMS: [&str; 56] = [
    "status:200",
    "status:4xx",
    "status:none",
    "status:>=400",
    "status:200,5xx",
    "status:>70000",
    "cost:>0.02",
    "cost:none",
    "cost:0.01,0.03..0.05",
    "cost:>=0",
    "tokens:>4",
    "tokens:none",
    "tokens:0..9",
    "tokens_in:<3",
    "tokens_out:none,2",
    "reasoning:>=0",
    "reasoning:none",
    "cache_read:none",
    "cache_read:>=0",
    "duration:>2ms",
    "duration:>=0us",
    "duration:>1h",
    "ttft:<3ms",
    "ttft:none",
    "overhead:0us",
    "step:0,2",
    "attempt:>0",
    "request_size:>0",
    "cached:true",
    "success:true",
    "success:false",
    "stream:true",
    "wholesale:true",
    "wholesale:false",
    "outcome:ok",
    "outcome:client_error,internal",
    "id:0000",
    "feedback:none",
    "id:\"00000000-0000-0000-0000-000000000003\"",
    "id:*3,*4",
    "model:gpt-*",
    "model:\"\"",
    "model:openai/gpt-4o",
    "model:GPT-4O,claude",
    "name:openai/*",
    "provider:openai",
    "path:*?x=*",
    "model_type:embedding",
    "request_type:websocket",
    "dlp_action:\"\"",
    "event:ev-1",
    "event:0000*",
    "meta.user:4",
    "meta_value:*sky",
    "meta_key:team",
    "sky",
];

const TIMES: [&str; 4] = [
    "after:3us",
    "before:2us",
    "at:4us..2us",
    "at:5us..4us,1us..0us",
];

fn filter() -> impl Strategy<Value = Filter> {
    let terms: Vec<_> = TERMS.into_iter().chain(TIMES).collect();
    vec((any::<bool>(), select(terms)), 0..4).prop_map(|terms| {
        let terms: Vec<_> = terms
            .into_iter()
            .map(|(negated, term)| format!("{}{term}", if negated { "-" } else { "" }))
            .collect();
        Filter::parse(&terms.join(" "), NOW).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_block_gives_the_rows_that_the_filter_passes_one_by_one(
        records in vec(record(), 1..150),
        filter in filter(),
    ) {
        let mut builder = BlockBuilder::default();
        for record in &records {
            builder.push(record, 0);
        }
        let (mut frame, header) = builder.finish(FrameBuffer::new()).unwrap();
        frame::seal(&mut frame, header, 0);
        let header = Header::read(frame[..HEADER_BYTES].try_into().unwrap(), 0).unwrap();
        let verified = Verified::default();
        let payload = &frame[HEADER_BYTES..HEADER_BYTES + header.length as usize];
        let block = Block::open(&header, payload, &verified).unwrap();

        let mut mask = Mask::default();
        mask.all(block.rows());
        mask.filter(&filter, &block).unwrap();
        let expected: Vec<u32> = (0..)
            .zip(&records)
            .filter(|(_, record)| {
                let bytes = rkyv::to_bytes::<Failure>(*record).unwrap();
                filter.matches(rkyv::access::<ArchivedRecord, Failure>(&bytes).unwrap())
            })
            .map(|(row, _)| row)
            .collect();
        let mut selected = Vec::new();
        mask.select(&mut selected);
        prop_assert_eq!(&selected, &expected, "{}", filter);
        prop_assert_eq!(mask.count(), expected.len());
        prop_assert_eq!(mask.is_empty(), expected.is_empty());
        prop_assert_eq!(mask.is_full(), expected.len() == records.len());
    }
}

#[test]
fn bits_and_stretches_take_rows_out() {
    let mut mask = Mask::default();
    mask.all(130);
    mask.and_bits(&[u64::MAX, 0b101, 0b10]);
    mask.clear_rows(0..63);
    let mut rows = Vec::new();
    mask.select(&mut rows);
    assert_eq!(rows, [63, 64, 66, 129]);
    mask.retain(|row| row != 64);
    assert_eq!(mask.count(), 3);
}
