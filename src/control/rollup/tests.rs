use std::{fs, ops::Range, path::PathBuf, sync::atomic::AtomicBool};

use super::{
    store::Rollups,
    totals::{Class, Time, Tokens},
    view::{Dimension, Question, ask},
};
use crate::{
    control::logs::{
        filter::Pattern,
        folder::LogDir,
        frame::{self, FrameBuffer, Kind},
        query::group::{Group, Part, Stretch},
        seal::{
            merge::{Merged, merge},
            seal_journal,
        },
        segment::{Appender, write_at},
        snapshot::LogReader,
    },
    domain::record::{Record, TEXTS, Text, Texts, flag},
};

mod members;

static NEVER: AtomicBool = AtomicBool::new(false);

/// 2026-11-21T00:00:00Z.
const MIDNIGHT: u64 = 1_795_219_200_000_000;
const NOW: u64 = MIDNIGHT + 12 * 3_600_000_000;

/// One record each 7 minutes, from two days before midnight on.
fn record(n: u64) -> Record {
    let model = format!("model-{}", n % 3);
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Gateway as usize] = b"default";
    texts[Text::Provider as usize] = if n.is_multiple_of(2) {
        b"openai"
    } else {
        b"anthropic"
    };
    texts[Text::Model as usize] = model.as_bytes();
    let metadata = format!(r#"{{"team":"t{}","n":{n}}}"#, n % 3);
    let flags = if n % 10 == 3 { flag::UNLOGGED } else { 0 };
    if flags == 0 && !n.is_multiple_of(4) {
        texts[Text::Metadata as usize] = metadata.as_bytes();
    }
    Record {
        id: u128::from(n).to_be_bytes(),
        at_micros: MIDNIGHT - 2 * 86_400_000_000 + n * 420_000_000,
        duration_micros: n * 1000,
        cost: (!n.is_multiple_of(5)).then_some(u64::MAX - n),
        tokens_input: Some(n),
        tokens_output: (!n.is_multiple_of(4)).then_some(2 * n),
        outcome: (n.is_multiple_of(7)).into(),
        status: 200,
        flags,
        texts: Texts::pack(&texts),
        ..Record::default()
    }
}

struct Store {
    _dir: tempfile::TempDir,
    log: LogDir,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::of(dir.path());
        Self { _dir: dir, log }
    }

    fn journal(&self, number: u64, records: Range<u64>) {
        let records: Vec<_> = records.map(|n| Box::new(record(n))).collect();
        self.write(number, &records);
    }

    fn write(&self, number: u64, records: &[Box<Record>]) {
        let path = self.log.journal(number);
        let mut appender = Appender::create(&path, Kind::Rows, 0, write_at()).unwrap();
        let (mut buffer, header) = frame::encode_rows(records, FrameBuffer::new()).unwrap();
        appender.append(&mut buffer, header).unwrap();
    }

    fn seal(&self, number: u64) {
        let path = self.log.journal(number);
        seal_journal(&self.log, number, &path, &mut Vec::new(), &NEVER).unwrap();
        let _ = fs::remove_file(path);
    }

    fn merge_all(&self) {
        let files = self.log.record_files().unwrap();
        let merged = merge(&self.log, &files.sealed, &NEVER).unwrap();
        assert!(matches!(merged, Merged::Done(_)));
        for path in self.log.record_files().unwrap().superseded {
            fs::remove_file(path).unwrap();
        }
    }

    fn pass(&self) -> u64 {
        let (mut rollups, damages) = Rollups::open(self.log.clone(), NOW).unwrap();
        assert!(damages.is_empty(), "{damages:?}");
        let pass = rollups.pass(NOW, &NEVER).unwrap();
        assert!(pass.damages.is_empty());
        pass.rows
    }

    fn ask(&self, question: &Question) -> Vec<Group> {
        let answer = ask(&mut LogReader::new(self.log.clone()), question).unwrap();
        assert!(answer.damages.is_empty(), "{:?}", answer.damages);
        assert_eq!(answer.other, None);
        let mut groups = answer.groups;
        groups.sort_by(|a, b| a.parts.cmp(&b.parts));
        groups
    }

    fn rows(&self) -> u64 {
        self.ask(&everything())
            .iter()
            .map(|group| group.totals.rows)
            .sum()
    }

    fn rollup_files(&self) -> Vec<PathBuf> {
        let files = super::file::list(&self.log).unwrap();
        files.into_iter().map(|(_, path)| path).collect()
    }
}

fn everything() -> Question {
    Question {
        micros: 0..=u64::MAX,
        stretch: None,
        by: Vec::new(),
        only: Vec::new(),
        groups_max: 1000,
    }
}

/// The totals of these records, the plain way.
fn expected(records: impl Iterator<Item = u64>) -> Group {
    let mut group = Group::default();
    for n in records {
        count(&mut group, &record(n));
    }
    group
}

fn count(group: &mut Group, record: &Record) {
    let totals = &mut group.totals;
    let known = |number: Option<u64>| u128::from(number.unwrap_or(0));
    totals.rows += 1;
    totals.requests += u64::from(record.attempt == 0);
    totals.classes[Class::of(record.outcome, record.status, record.flags) as usize] += 1;
    totals.tokens[Tokens::Input as usize] += known(record.tokens_input);
    totals.tokens[Tokens::Output as usize] += known(record.tokens_output);
    if record.has(flag::CACHED) {
        totals.tokens[Tokens::CachedInput as usize] += known(record.tokens_input);
        totals.tokens[Tokens::CachedOutput as usize] += known(record.tokens_output);
    }
    totals.unmetered += u64::from(record.tokens_output.is_none());
    totals.cost += known(record.cost);
    totals.unpriced += u64::from(record.cost.is_none());
    group.times[Time::Duration as usize].record(record.duration_micros);
    group.times[Time::Overhead as usize].record(record.overhead_micros);
}

#[track_caller]
fn check(group: &Group, records: impl Iterator<Item = u64>) {
    let expected = expected(records);
    assert_eq!(group.totals, expected.totals);
    assert_eq!(group.times, expected.times);
}

#[test]
fn every_record_counts_once_whatever_is_sealed_merged_and_summed_up_when() {
    let store = Store::new();
    for number in 1..=6 {
        store.journal(number, number * 100 - 100..number * 100);
    }
    let check_all = |store: &Store, case: &str| {
        let groups = store.ask(&everything());
        assert_eq!(groups.len(), 1, "{case}");
        check(&groups[0], 0..600);
    };
    check_all(&store, "nothing sealed");
    store.seal(1);
    store.seal(2);
    check_all(&store, "sealed, not summed up");
    assert_eq!(store.pass(), 200);
    check_all(&store, "summed up");
    store.seal(3);
    store.merge_all();
    check_all(&store, "merged with what was not summed up");
    assert_eq!(store.pass(), 100);
    check_all(&store, "the rest of it");
    assert_eq!(store.pass(), 0);
    (4..=6).for_each(|number| store.seal(number));
    store.merge_all();
    assert_eq!(store.pass(), 300);
    assert_eq!(store.pass(), 0);
    check_all(&store, "all of it");

    // Retention takes the records; what was counted stays.
    for name in store.log.record_files().unwrap().sealed {
        fs::remove_file(name.path).unwrap();
    }
    assert_eq!(store.pass(), 0);
    check_all(&store, "the records are gone");
}

#[test]
fn totals_are_told_apart_by_time_and_name_from_fresh_and_merged_tables_alike() {
    let store = Store::new();
    store.journal(1, 0..500);
    store.seal(1);
    store.journal(2, 500..600);
    let question = Question {
        // From the middle of a day and an hour to the middle of others.
        micros: MIDNIGHT - 86_400_000_000 - 5_000_000_000..=MIDNIGHT + 40_000_000_000,
        stretch: None,
        by: vec![Dimension::Model],
        only: vec![(Dimension::Provider, vec![Pattern::exact("openai")])],
        groups_max: 1000,
    };
    let minute = Stretch::Minute.micros();
    let from = question.micros.start() / minute * minute;
    let to = question.micros.end() / minute * minute + minute;
    let counts = move |n: &u64| n.is_multiple_of(2) && (from..to).contains(&record(*n).at_micros);
    let check_groups = || {
        let groups = store.ask(&question);
        assert_eq!(groups.len(), 3);
        for (model, group) in (0u64..).zip(&groups) {
            assert_eq!(group.parts, [Part::Text(format!("model-{model}").into())]);
            check(group, (0..600).filter(counts).filter(|n| n % 3 == model));
        }
        for stretch in [Stretch::Minute, Stretch::Hour, Stretch::Day] {
            let groups = store.ask(&Question {
                stretch: Some(stretch),
                by: Vec::new(),
                ..question.clone()
            });
            let length = stretch.micros();
            for group in &groups {
                let Part::Number(start) = group.parts[0] else {
                    panic!("a stretch has a start");
                };
                let within = |n: &u64| record(*n).at_micros / length * length == start;
                check(group, (0..600).filter(counts).filter(within));
            }
            let rows: u64 = groups.iter().map(|group| group.totals.rows).sum();
            assert_eq!(rows, (0..600).filter(counts).count() as u64);
        }
    };
    check_groups();
    assert_eq!(store.pass(), 500);
    check_groups();
    let (mut rollups, _) = Rollups::open(store.log.clone(), NOW).unwrap();
    for (date, _) in super::file::list(&store.log).unwrap() {
        rollups.merge(&date, NOW).unwrap();
    }
    check_groups();
    store.seal(2);
    assert_eq!(store.pass(), 100);
    check_groups();
}

#[test]
fn damaged_rollups_are_made_again_from_records() {
    let store = Store::new();
    store.journal(1, 0..300);
    store.seal(1);
    assert_eq!(store.pass(), 300);
    store.journal(2, 300..600);
    store.seal(2);
    assert_eq!(store.pass(), 300);
    let image = fs::read(&store.rollup_files()[0]).unwrap();
    let teams = store.teams();
    assert_eq!(teams.len(), 4);
    for at in (0..image.len()).step_by(image.len() / 60) {
        let path = store.rollup_files()[0].clone();
        let mut damaged = image.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let (mut rollups, _) = Rollups::open(store.log.clone(), NOW).unwrap();
        rollups.pass(NOW, &NEVER).unwrap();
        assert_eq!(store.rows(), 600, "byte {at}");
        assert_eq!(store.teams(), teams, "byte {at}");
        for path in store.rollup_files() {
            fs::remove_file(path).unwrap();
        }
        fs::write(&path, &image).unwrap();
    }
    for end in (0..image.len()).step_by(image.len() / 30) {
        fs::write(&store.rollup_files()[0], &image[..end]).unwrap();
        let (mut rollups, _) = Rollups::open(store.log.clone(), NOW).unwrap();
        rollups.pass(NOW, &NEVER).unwrap();
        assert_eq!(store.rows(), 600, "cut at {end}");
        assert_eq!(store.teams(), teams, "cut at {end}");
        for path in store.rollup_files().into_iter().skip(1) {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn names_beyond_the_bound_are_one_and_nothing_is_lost() {
    let store = Store::new();
    let records: Vec<_> = (0..3_000u64)
        .map(|n| {
            let model = format!("m{n}");
            let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
            texts[Text::Gateway as usize] = b"g";
            texts[Text::Model as usize] = model.as_bytes();
            Box::new(Record {
                at_micros: MIDNIGHT - 3_600_000_000 + n,
                cost: Some(n),
                texts: Texts::pack(&texts),
                ..Record::default()
            })
        })
        .collect();
    store.write(1, &records);
    store.seal(1);
    assert_eq!(store.pass(), 3_000, "and merges, since the day is over");
    let mut question = everything();
    question.by = vec![Dimension::Gateway, Dimension::Model];
    question.groups_max = 10_000;
    let groups = store.ask(&question);
    assert_eq!(groups.len(), 2_001);
    let cost: u128 = groups.iter().map(|group| group.totals.cost).sum();
    assert_eq!(cost, (0..3_000).sum::<u128>());
    assert_eq!(groups[0].parts[1], Part::Text(b"(other)".to_vec()));
    assert_eq!(groups[0].totals.rows, 1_000);
}
