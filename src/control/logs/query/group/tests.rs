use std::collections::BTreeMap;

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{
    control::logs::{
        block::{Verified, build::BlockBuilder},
        frame::{self, FrameBuffer, HEADER_BYTES, Header},
    },
    domain::record::{Record, TEXTS, Texts, flag},
};

/// 2026-11-21T12:00:00Z.
const NOON: u64 = 1_795_262_400_000_000;

fn record() -> impl Strategy<Value = Record> {
    let numbers = vec(option::of(prop_oneof![0..50u64, Just(u64::MAX)]), 6);
    let kinds = (
        select(vec![200u16, 402, 424, 500]),
        0..11u8,
        0..2u8,
        0..2u8,
        any::<bool>(),
    );
    let texts = (
        select(vec!["", "a", "b", "c"]),
        select(vec!["x", "y"]),
        select(vec![
            "",
            r#"{"user":4}"#,
            r#"{"user":"4"}"#,
            r#"{"user":"z"}"#,
        ]),
        select(vec!["/p", "/q"]),
    );
    (0..5u64, numbers, kinds, texts).prop_map(|(hours, n, k, t)| {
        let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
        texts[Text::Model as usize] = t.0.as_bytes();
        texts[Text::Provider as usize] = t.1.as_bytes();
        texts[Text::Metadata as usize] = t.2.as_bytes();
        texts[Text::Path as usize] = t.3.as_bytes();
        Record {
            at_micros: NOON + hours * 7_000_000_000,
            duration_micros: n[0].unwrap_or(3),
            first_token_micros: n[1],
            tokens_input: n[2],
            tokens_output: n[3],
            tokens_cache_read: n[4],
            cost: n[5],
            status: k.0,
            outcome: k.1,
            step: k.2,
            attempt: k.3,
            flags: if k.4 { flag::CACHED } else { 0 },
            texts: Texts::pack(&texts),
            ..Record::default()
        }
    })
}

fn part(key: &GroupKey, record: &Record) -> Part {
    match key {
        GroupKey::Text(text) => Part::Text(record.texts.get(*text).to_vec()),
        GroupKey::Status => Part::Number(record.status.into()),
        GroupKey::Outcome => Part::Number(record.outcome.into()),
        GroupKey::Time(stretch) => {
            Part::Number(record.at_micros - record.at_micros % stretch.micros())
        }
        GroupKey::Metadata(name) => {
            let value = metadata_value(record.texts.get(Text::Metadata), name);
            Part::Text(value.unwrap_or_default().into_bytes())
        }
    }
}

/// Adds one record, the plain way.
fn add(group: &mut Group, record: &Record) {
    let totals = &mut group.totals;
    totals.rows += 1;
    totals.requests += u64::from(record.step == 0 && record.attempt == 0);
    let class = Class::of(record.outcome, record.status, record.flags);
    totals.classes[class as usize] += 1;
    let known = |number: Option<u64>| u128::from(number.unwrap_or(0));
    totals.tokens[Tokens::Input as usize] += known(record.tokens_input);
    totals.tokens[Tokens::Output as usize] += known(record.tokens_output);
    totals.tokens[Tokens::CacheRead as usize] += known(record.tokens_cache_read);
    if class == Class::Cached {
        totals.tokens[Tokens::CachedInput as usize] += known(record.tokens_input);
        totals.tokens[Tokens::CachedOutput as usize] += known(record.tokens_output);
    }
    totals.unmetered += u64::from(record.tokens_input.is_none() || record.tokens_output.is_none());
    totals.cost += known(record.cost);
    totals.unpriced += u64::from(record.cost.is_none());
    group.times[Time::Duration as usize].record(record.duration_micros);
    if let Some(first) = record.first_token_micros {
        group.times[Time::FirstToken as usize].record(first);
    }
    group.times[Time::Overhead as usize].record(record.overhead_micros);
}

fn add_block(groups: &mut Groups, records: &[Record], skip: usize) {
    let mut builder = BlockBuilder::default();
    for record in records {
        builder.push(record, 0);
    }
    let Some((mut frame, header)) = builder.finish(FrameBuffer::new()) else {
        return;
    };
    frame::seal(&mut frame, header, 0);
    let header = Header::read(frame[..HEADER_BYTES].try_into().unwrap(), 0).unwrap();
    let verified = Verified::default();
    let payload = &frame[HEADER_BYTES..HEADER_BYTES + header.length as usize];
    let block = Block::open(&header, payload, &verified).unwrap();
    let mut mask = Mask::default();
    mask.all(block.rows());
    mask.clear_rows(0..skip.min(block.rows()));
    groups.add(&block, &mask).unwrap();
}

fn key() -> impl Strategy<Value = GroupKey> {
    select(vec![
        GroupKey::Text(Text::Model),
        GroupKey::Text(Text::Provider),
        GroupKey::Text(Text::Path),
        GroupKey::Text(Text::Key),
        GroupKey::Status,
        GroupKey::Outcome,
        GroupKey::Time(Stretch::Hour),
        GroupKey::Time(Stretch::Day),
        GroupKey::Metadata("user".into()),
        GroupKey::Metadata("none".into()),
    ])
}

proptest! {
    #[test]
    fn groups_hold_what_their_records_add_up_to(
        blocks in vec((vec(record(), 1..60), 0..3usize), 1..4),
        keys in vec(key(), 0..4),
    ) {
        let mut groups = Groups::new(keys.clone(), Wanted::ALL, 100_000);
        let mut expected: BTreeMap<Vec<Part>, Group> = BTreeMap::new();
        for (records, skip) in &blocks {
            add_block(&mut groups, records, *skip);
            for record in records.iter().skip(*skip) {
                let parts: Vec<_> = keys.iter().map(|key| part(key, record)).collect();
                let group = expected.entry(parts.clone()).or_insert_with(|| Group {
                    parts,
                    ..Group::default()
                });
                add(group, record);
            }
        }
        let (mut found, other) = groups.finish();
        found.sort_by(|a, b| a.parts.cmp(&b.parts));
        prop_assert_eq!(found, expected.into_values().collect::<Vec<_>>());
        prop_assert_eq!(other, None);
    }

    #[test]
    fn plain_sums_are_those_of_the_rows(
        records in vec(record(), 1..200),
        skip in 0..3usize,
        bound in select(vec![100, u64::MAX]),
    ) {
        let records: Vec<Record> = records
            .into_iter()
            .map(|record| Record { cost: record.cost.map(|cost| cost.min(bound)), ..record })
            .collect();
        let wanted = Wanted { classes: false, times: [false; TIMES], ..Wanted::ALL };
        let mut groups = Groups::new(Vec::new(), wanted, 1);
        add_block(&mut groups, &records, skip);
        let mut expected = Group::default();
        for record in records.iter().skip(skip) {
            add(&mut expected, record);
        }
        // Without classes nobody knows what a hit is.
        expected.totals.tokens[Tokens::CachedInput as usize] = 0;
        expected.totals.tokens[Tokens::CachedOutput as usize] = 0;
        let found = groups.finish().0.pop().unwrap_or_default().totals;
        prop_assert_eq!(found.rows, expected.totals.rows);
        prop_assert_eq!(found.tokens, expected.totals.tokens);
        prop_assert_eq!(found.cost, expected.totals.cost);
        prop_assert_eq!(
            (found.unpriced, found.unmetered),
            (expected.totals.unpriced, expected.totals.unmetered)
        );
    }

    #[test]
    fn what_finds_no_room_is_one_group_and_nothing_is_lost(
        records in vec(record(), 1..100),
        groups_max in 0..6usize,
    ) {
        let keys = vec![GroupKey::Text(Text::Model), GroupKey::Status];
        let mut groups = Groups::new(keys, Wanted::ALL, groups_max);
        let half = records.len() / 2;
        add_block(&mut groups, &records[..half], 0);
        add_block(&mut groups, &records[half..], 0);
        let (found, other) = groups.finish();
        prop_assert!(found.len() <= groups_max);
        let mut sum = Group::default();
        found.iter().chain(&other).for_each(|group| sum.merge(group));
        let mut expected = Group::default();
        for record in &records {
            add(&mut expected, record);
        }
        prop_assert_eq!(sum, expected);
    }
}

#[test]
fn many_combinations_are_told_apart_by_hash() {
    let records: Vec<Record> = (0..600u64)
        .map(|n| {
            let (path, upstream) = (format!("/{n}"), format!("r{}", n % 300));
            let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
            texts[Text::Path as usize] = path.as_bytes();
            texts[Text::UpstreamRequestId as usize] = upstream.as_bytes();
            Record {
                cost: Some(n),
                texts: Texts::pack(&texts),
                ..Record::default()
            }
        })
        .collect();
    let keys = vec![
        GroupKey::Text(Text::Path),
        GroupKey::Text(Text::UpstreamRequestId),
    ];
    let mut groups = Groups::new(keys, Wanted::ALL, 1000);
    add_block(&mut groups, &records, 0);
    let (found, _) = groups.finish();
    assert_eq!(found.len(), 600);
    assert_eq!(found[599].totals.cost, 599);
    assert_eq!(found[599].parts[1], Part::Text(b"r299".to_vec()));
}
