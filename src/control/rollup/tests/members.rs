//! Totals by members of the metadata: against a plain sum, against a scan, and at their bounds.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::control::{
    logs::{
        filter::field::metadata_value,
        query::group::{GroupKey, Groups, Wanted},
    },
    rollup::{
        members::{KEYS_MAX, NAME_BYTES_MAX, NAMES_MAX, VALUES_MAX},
        ranges::Ranges,
        store::{each_uncovered, floor},
        table::{Level, Table, members::UNTOLD},
        view::members::{self as by_member, Answer, Fits, Unknown},
    },
};

const HOUR: u64 = 3_600_000_000;

fn by(member: &str) -> by_member::Question {
    by_member::Question {
        micros: 0..=u64::MAX,
        stretch: None,
        by_gateway: false,
        member: member.to_owned(),
        gateways: Vec::new(),
        values: Vec::new(),
        groups_max: 10_000,
    }
}

impl Store {
    fn by(&self, question: &by_member::Question) -> Answer {
        let mut reader = LogReader::new(self.log.clone());
        let mut answer = by_member::ask(&mut reader, question).unwrap();
        assert!(answer.damages.is_empty(), "{:?}", answer.damages);
        assert!(!answer.is_crowded);
        answer.groups.sort_by(|a, b| a.parts.cmp(&b.parts));
        answer
    }

    /// Sums by the team of each record, none of them folded.
    pub(super) fn teams(&self) -> Vec<Group> {
        let answer = self.by(&by("team"));
        assert_eq!(answer.unknown.values, 0);
        answer.groups
    }

    /// All groups of the question by a scan of the records.
    fn scan(&self, question: &by_member::Question) -> BTreeMap<Vec<Part>, Group> {
        let mut keys = vec![
            GroupKey::Time(Stretch::Minute),
            GroupKey::Text(Text::Gateway),
        ];
        keys.push(GroupKey::Metadata(question.member.clone()));
        let mut groups = Groups::new(keys, Wanted::ALL, 10_000);
        let snapshot = LogReader::new(self.log.clone()).snapshot().unwrap();
        let (nothing, mut damages) = (Ranges::default(), Vec::new());
        each_uncovered(
            &snapshot,
            &nothing,
            &(0..=u64::MAX),
            &mut damages,
            |block, mask| groups.add(block, mask),
        );
        assert!(damages.is_empty(), "{damages:?}");
        let (cells, other) = groups.finish();
        assert_eq!(other, None);
        let mut found = BTreeMap::new();
        for cell in cells {
            let [Part::Number(start), Part::Text(gateway), Part::Text(value)] = &cell.parts[..]
            else {
                panic!("{:?}", cell.parts);
            };
            if let Some(parts) = parts(question, *start, gateway, value) {
                let group: &mut Group = found.entry(parts).or_default();
                group.merge(&cell);
            }
        }
        found
    }

    fn merge_rollups(&self) {
        let (mut rollups, damages) = Rollups::open(self.log.clone(), NOW).unwrap();
        assert!(damages.is_empty(), "{damages:?}");
        for (date, _) in crate::control::rollup::file::list(&self.log).unwrap() {
            rollups.merge(&date, NOW).unwrap();
        }
    }
}

/// The parts of the group that something is in, if it counts.
fn parts(
    question: &by_member::Question,
    micros: u64,
    gateway: &[u8],
    value: &[u8],
) -> Option<Vec<Part>> {
    let minute = floor(micros, Stretch::Minute);
    let minutes = floor(*question.micros.start(), Stretch::Minute)..=*question.micros.end();
    let fits = |all: &[Fits], text: &[u8]| {
        all.iter().all(|one| {
            let any = one.patterns.iter().any(|pattern| pattern.matches(text));
            any != one.negated
        })
    };
    if !minutes.contains(&minute)
        || !fits(&question.gateways, gateway)
        || !fits(&question.values, value)
    {
        return None;
    }
    let time = question
        .stretch
        .map(|stretch| Part::Number(floor(micros, stretch)));
    let gateway = question.by_gateway.then(|| Part::Text(gateway.to_vec()));
    let value = Part::Text(value.to_vec());
    Some(time.into_iter().chain(gateway).chain([value]).collect())
}

/// The answer, the plain way.
fn expected(question: &by_member::Question, records: &[Record]) -> BTreeMap<Vec<Part>, Group> {
    let mut groups: BTreeMap<Vec<Part>, Group> = BTreeMap::new();
    for record in records {
        let gateway = record.texts.get(Text::Gateway);
        let value = metadata_value(record.texts.get(Text::Metadata), &question.member);
        let value = value.unwrap_or_default();
        if let Some(parts) = parts(question, record.at_micros, gateway, value.as_bytes()) {
            count(groups.entry(parts).or_default(), record);
        }
    }
    groups
}

fn some_record() -> impl Strategy<Value = Record> {
    let metadata = select(vec![
        "",
        r#"{"team":"a"}"#,
        r#"{"team":"b","user":7}"#,
        r#"{"user":"7"}"#,
        r#"{"user":7,"team":"a"}"#,
        r#"{"team":null,"user":true}"#,
        r#"{"team":""}"#,
        r#"{"te\u0061m":"\u0061"}"#,
        r#"{"team":"(other)"}"#,
        r#"{"":"nameless"}"#,
        "{}",
        "no json",
    ]);
    let gateway = select(vec!["one", "two", ""]);
    let kinds = (0..6u8, 0..3u8, any::<bool>(), any::<bool>());
    let numbers = (0..4_000u64, 0..5u64, proptest::option::of(0..900u64));
    (metadata, gateway, kinds, numbers).prop_map(|(metadata, gateway, k, n)| {
        let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
        texts[Text::Gateway as usize] = gateway.as_bytes();
        let is_unlogged = k.2 && k.3;
        if !is_unlogged {
            texts[Text::Metadata as usize] = metadata.as_bytes();
        }
        let mut flags = if is_unlogged { flag::UNLOGGED } else { 0 };
        if k.0 == 0 && k.2 {
            flags |= flag::CACHED;
        }
        Record {
            at_micros: MIDNIGHT - 50 * HOUR + n.0 * 47_000_000,
            duration_micros: n.1 * 977,
            overhead_micros: n.1,
            outcome: k.0,
            attempt: k.1,
            status: 200,
            cost: n.2.map(|cost| u64::MAX - cost),
            tokens_input: Some(n.1),
            tokens_output: n.2,
            flags,
            texts: Texts::pack(&texts),
            ..Record::default()
        }
    })
}

fn question() -> impl Strategy<Value = by_member::Question> {
    let stretch = select(vec![
        None,
        Some(Stretch::Minute),
        Some(Stretch::Hour),
        Some(Stretch::Day),
    ]);
    let member = select(vec!["team", "user", "nobody", ""]);
    let fits = |texts: Vec<&'static str>| {
        let one = (select(texts), any::<bool>()).prop_map(|(text, negated)| Fits {
            patterns: vec![Pattern::exact(text)],
            negated,
        });
        vec(one, 0..2)
    };
    let times = (0..60u64, 0..60u64, any::<bool>());
    let filters = (fits(vec!["one", "two"]), fits(vec!["a", "7", ""]));
    (stretch, member, any::<bool>(), filters, times).prop_map(
        |(stretch, member, by_gateway, (gateways, values), (from, hours, all))| {
            let from = MIDNIGHT - 51 * HOUR + from * HOUR - 1_234_567;
            by_member::Question {
                micros: if all {
                    0..=u64::MAX
                } else {
                    from..=from + hours * HOUR
                },
                stretch,
                by_gateway,
                gateways,
                values,
                ..by(member)
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sums_by_a_member_are_those_of_a_scan_wherever_the_records_are(
        records in vec(some_record(), 1..120),
        questions in vec(question(), 1..6),
    ) {
        let store = Store::new();
        let third = records.len().div_ceil(3);
        for (number, records) in (1..).zip(records.chunks(third)) {
            let records: Vec<_> = records.iter().cloned().map(Box::new).collect();
            store.write(number, &records);
        }
        let check = |case: &str| {
            for question in &questions {
                let answer = store.by(question);
                prop_assert_eq!(answer.unknown, Unknown::default());
                let found: BTreeMap<_, _> = answer
                    .groups
                    .into_iter()
                    .map(|group| (group.parts.clone(), Group { parts: Vec::new(), ..group }))
                    .collect();
                let scanned = store.scan(question);
                prop_assert_eq!(&found, &scanned, "{} {:?}", case, question);
                prop_assert_eq!(found, expected(question, &records), "{} {:?}", case, question);
            }
            Ok(())
        };
        check("nothing sealed")?;
        store.seal(1);
        store.pass();
        check("one summed up")?;
        let journals = store.log.journals().unwrap();
        for (number, _) in &journals {
            store.seal(*number);
        }
        check("all sealed")?;
        store.pass();
        check("all summed up")?;
        store.merge_rollups();
        check("all merged")?;
        store.merge_rollups();
        check("merged again")?;
    }
}

/// A record of an hour before midnight.
fn with_metadata(n: u64, gateway: &str, metadata: &str) -> Box<Record> {
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Gateway as usize] = gateway.as_bytes();
    texts[Text::Metadata as usize] = metadata.as_bytes();
    Box::new(Record {
        at_micros: MIDNIGHT - HOUR + n,
        cost: Some(n),
        texts: Texts::pack(&texts),
        ..Record::default()
    })
}

fn text(group: &Group) -> String {
    match group.parts.last() {
        Some(Part::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_summed_up_by_a_member_stays_when_the_records_go() {
    let store = Store::new();
    store.journal(1, 0..600);
    let before = store.teams();
    assert_eq!(before.len(), 4);
    store.seal(1);
    assert_eq!(store.pass(), 600);
    assert_eq!(store.teams(), before);
    for name in store.log.record_files().unwrap().sealed {
        fs::remove_file(name.path).unwrap();
    }
    store.merge_rollups();
    assert_eq!(store.teams(), before);
}

#[test]
fn values_beyond_the_bound_are_one_and_are_said_to_be() {
    let store = Store::new();
    let most = u64::try_from(VALUES_MAX).unwrap();
    let records: Vec<_> = (0..most + 100)
        .map(|n| {
            with_metadata(
                n,
                "g",
                &format!(r#"{{"request":"r{n}","team":"t{}"}}"#, n % 2),
            )
        })
        .collect();
    store.write(1, &records);
    store.seal(1);
    assert_eq!(store.pass(), most + 100);
    let check = |all: u64| {
        let answer = store.by(&by("request"));
        assert_eq!(answer.groups.len(), VALUES_MAX + 1);
        let folded = answer
            .groups
            .iter()
            .find(|group| text(group) == "(other)")
            .unwrap();
        assert_eq!(folded.totals.rows, all - most);
        let unknown = Unknown {
            values: all - most,
            ..Unknown::default()
        };
        assert_eq!(answer.unknown, unknown);
        let kept: BTreeSet<_> = answer.groups.iter().map(text).collect();
        assert!(
            (0..most).all(|n| kept.contains(&format!("r{n}"))),
            "those that came first are kept"
        );
        let cost: u128 = answer.groups.iter().map(|group| group.totals.cost).sum();
        assert_eq!(cost, (0..u128::from(all)).sum::<u128>());
        // A member of few values is not touched by one of many.
        let teams = store.by(&by("team"));
        assert_eq!(
            teams.groups.iter().map(text).collect::<Vec<_>>(),
            ["t0", "t1"]
        );
        assert_eq!(teams.unknown, Unknown::default());
    };
    check(most + 100);
    store.merge_rollups();
    check(most + 100);
    // Later ones of an earlier minute do not drive out those that were kept.
    let later: Vec<_> = (most + 100..most + 200)
        .map(|n| {
            let metadata = format!(r#"{{"request":"r{n}","team":"t{}"}}"#, n % 2);
            let mut record = with_metadata(n, "g", &metadata);
            record.at_micros -= 5 * HOUR;
            record
        })
        .collect();
    store.write(2, &later);
    store.seal(2);
    store.pass();
    store.merge_rollups();
    check(most + 200);
}

#[test]
fn members_beyond_the_bound_are_counted_and_what_was_asked_for_is_said_to_be_uncertain() {
    let store = Store::new();
    let most = u64::try_from(KEYS_MAX).unwrap();
    let records: Vec<_> = (0..most + 50)
        .map(|n| with_metadata(n, "g", &format!(r#"{{"k{n}":"v"}}"#)))
        .collect();
    store.write(1, &records);
    store.seal(1);
    store.pass();
    for _ in 0..2 {
        let first = store.by(&by("k0"));
        assert_eq!(first.groups.iter().map(text).collect::<Vec<_>>(), ["", "v"]);
        assert_eq!(first.groups[1].totals.rows, 1);
        assert_eq!(first.unknown.members, 50);
        let last = store.by(&by(&format!("k{}", most + 49)));
        assert_eq!(last.groups.iter().map(text).collect::<Vec<_>>(), [""]);
        assert_eq!(
            (last.groups[0].totals.rows, last.unknown.members),
            (most + 50, 50)
        );
        store.merge_rollups();
    }
    // Another gateway's are none of its business.
    let mut question = by("k0");
    question.gateways = vec![Fits {
        patterns: vec![Pattern::exact("other")],
        negated: false,
    }];
    assert_eq!(store.by(&question).unknown, Unknown::default());
}

#[test]
fn values_of_all_members_together_are_bounded() {
    let store = Store::new();
    let records: Vec<_> = (0..500u64)
        .map(|n| {
            let members: Vec<_> = (0..5).map(|k| format!(r#""k{k}":"v{n}""#)).collect();
            with_metadata(n, "g", &format!("{{{}}}", members.join(",")))
        })
        .collect();
    store.write(1, &records);
    store.seal(1);
    store.pass();
    let values = |store: &Store| -> usize {
        let of = |k: usize| {
            let answer = store.by(&by(&format!("k{k}")));
            let rows: u64 = answer.groups.iter().map(|group| group.totals.rows).sum();
            assert_eq!(rows, 500);
            answer
                .groups
                .iter()
                .filter(|group| text(group).starts_with('v'))
                .count()
        };
        (0..5).map(of).sum()
    };
    assert_eq!(values(&store), NAMES_MAX);
    store.merge_rollups();
    assert_eq!(values(&store), NAMES_MAX);
}

#[test]
fn long_names_are_folded_and_a_value_that_looks_like_the_mark_is_not() {
    let store = Store::new();
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let records = [
        with_metadata(1, "g", &format!(r#"{{"team":"{long}"}}"#)),
        with_metadata(2, "g", &format!(r#"{{"team":"{}"}}"#, &long[1..])),
        with_metadata(3, "g", &format!(r#"{{"{long}":"a"}}"#)),
        with_metadata(4, "g", r#"{"team":"(other)"}"#),
    ];
    store.write(1, &records);
    store.seal(1);
    store.pass();
    for _ in 0..2 {
        let answer = store.by(&by("team"));
        let found: Vec<_> = answer
            .groups
            .iter()
            .map(|group| (text(group), group.totals.cost))
            .collect();
        assert_eq!(
            found,
            [
                (String::new(), 3),
                ("(other)".to_owned(), 1 + 4),
                (long[1..].to_owned(), 2)
            ]
        );
        let unknown = Unknown {
            values: 1,
            members: 1,
            untold: 0,
        };
        assert_eq!(answer.unknown, unknown);
        store.merge_rollups();
    }
}

#[test]
fn a_record_without_metadata_adds_no_cell_and_one_with_two_members_two() {
    let store = Store::new();
    let records = [
        with_metadata(1, "g", ""),
        with_metadata(2, "g", r#"{"team":"a","user":"u"}"#),
        with_metadata(3, "g", r#"{"team":"a"}"#),
    ];
    store.write(1, &records);
    store.seal(1);
    let (mut rollups, _) = Rollups::open(store.log.clone(), MIDNIGHT - HOUR).unwrap();
    rollups.pass(MIDNIGHT - HOUR, &NEVER).unwrap();
    let path = store.rollup_files().remove(0);
    let mut file = crate::control::rollup::file::RollupFile::open(&path).unwrap();
    let at = file.tables[0];
    let table = file.table(&at).unwrap().unwrap();
    assert_eq!((table.level, table.cells.len()), (Level::Fresh, 1));
    let rows: Vec<_> = table
        .members
        .iter()
        .map(|cell| (&cell.parts[1..], cell.totals.rows))
        .collect();
    let part = |text: &str| Part::Text(text.as_bytes().to_vec());
    assert_eq!(
        rows,
        [
            (&[part("g"), part("team"), part("a")][..], 2),
            (&[part("g"), part("user"), part("u")][..], 1)
        ]
    );
}

#[test]
fn records_that_were_summed_up_without_their_members_are_said_to_be_untold() {
    let store = Store::new();
    store.journal(1, 0..600);
    store.seal(1);
    store.pass();
    // As an earlier version left it: the totals, and nothing about members.
    for path in store.rollup_files() {
        let mut file = crate::control::rollup::file::RollupFile::open(&path).unwrap();
        let mut tables = Vec::new();
        for at in file.tables.clone() {
            let table = file.table(&at).unwrap().unwrap();
            let mut untold = Vec::new();
            for cell in &table.cells {
                let mut cell = cell.clone();
                cell.parts.truncate(2);
                cell.parts.extend([UNTOLD, UNTOLD]);
                untold.push(cell);
            }
            tables.push(Table {
                members: untold,
                ..table
            });
        }
        crate::control::rollup::file::write_anew(&path, &tables, NOW).unwrap();
    }
    store.journal(2, 600..700);
    store.seal(2);
    store.pass();
    for _ in 0..2 {
        let answer = store.by(&by("team"));
        assert_eq!(answer.unknown.untold, 600);
        let told: u64 = answer
            .groups
            .iter()
            .filter(|group| !text(group).is_empty())
            .map(|group| group.totals.rows)
            .sum();
        let has_team = |n: &u64| !record(*n).texts.get(Text::Metadata).is_empty();
        assert_eq!(told, (600..700).filter(has_team).count() as u64);
        let all: u64 = answer.groups.iter().map(|group| group.totals.rows).sum();
        assert_eq!(all, 700);
        store.merge_rollups();
    }
}

#[test]
fn many_minutes_of_few_values_end_a_table_and_fold_nothing() {
    let store = Store::new();
    let minute = Stretch::Minute.micros();
    // The first has some more cells than a table is to have, and each has blocks of its own.
    let counts = [13_192, 5_000];
    for (journal, count) in (0..).zip(counts) {
        let records: Vec<_> = (0..count)
            .map(|n| {
                let others = r#""a":1,"b":2,"c":3"#;
                let metadata = format!(r#"{{"team":"t{}",{others}}}"#, n % 2);
                let mut record = with_metadata(n, "g", &metadata);
                record.at_micros = MIDNIGHT - (journal * 20_000 + n) * minute;
                record
            })
            .collect();
        store.write(journal + 1, &records);
        store.seal(journal + 1);
    }
    store.merge_all();
    let (mut rollups, _) = Rollups::open(store.log.clone(), 0).unwrap();
    assert_eq!(rollups.pass(0, &NEVER).unwrap().rows, 18_192);
    // A table lies in the file of its newest day.
    assert_eq!(store.rollup_files().len(), 2, "a table for each journal");
    let answer = store.by(&by("team"));
    assert_eq!(answer.unknown, Unknown::default());
    let rows: Vec<_> = answer
        .groups
        .iter()
        .map(|group| group.totals.rows)
        .collect();
    assert_eq!(rows, [9_096, 9_096]);
}
