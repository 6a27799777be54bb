use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::{
    control::{
        data_dir::DataDir,
        logs::{
            LogOptions,
            frame::Kind,
            segment::{Found, Segment},
            start,
        },
        store::{Store, StoreError},
    },
    domain::record::{TEXTS, Texts},
};

fn record(n: u64, gateway: &str) -> Box<Record> {
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Gateway as usize] = gateway.as_bytes();
    texts[Text::Path as usize] = b"/v1/secret";
    Box::new(Record {
        id: u128::from(n).to_be_bytes(),
        cost: Some(n),
        texts: Texts::pack(&texts),
        ..Record::default()
    })
}

fn limits(rows: u64, when_full: WhenFull) -> BTreeMap<String, RowLimit> {
    BTreeMap::from([("small".to_owned(), RowLimit { rows, when_full })])
}

/// What is served of each gateway, and how many records only count.
fn served(log: &LogDir) -> (BTreeMap<String, Vec<u64>>, u32) {
    let snapshot = LogReader::new(log.clone()).snapshot().unwrap();
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut unlogged = 0;
    for at in snapshot.blocks() {
        let open = at.open().unwrap();
        unlogged += open.block().unwrap().zone().unlogged;
        for_each_visible(&snapshot, &open, |gateway, id| {
            let gateway = String::from_utf8_lossy(gateway).into_owned();
            let n = u64::try_from(u128::from_be_bytes(*id)).unwrap();
            found.entry(gateway).or_default().push(n);
        })
        .unwrap();
    }
    (found, unlogged)
}

#[track_caller]
fn wait(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "it never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_counted(limits: &RowLimits) -> bool {
    limits.lock().counted.is_some()
}

#[test]
fn a_full_gateway_takes_no_more_and_its_records_still_count() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let options = LogOptions {
        row_limits: limits(20, WhenFull::StopInserting),
        ..LogOptions::new(1)
    };
    // The limit holds over restarts.
    for (from, to) in [(0, 12), (12, 30), (30, 40)] {
        let data_dir = DataDir::lock(dir.path()).unwrap();
        let (senders, logs) = start(&data_dir, &options).unwrap();
        wait(|| is_counted(logs.row_limits()));
        for n in from..to {
            assert!(senders[0].record(record(n, "small")));
            assert!(senders[0].record(record(1_000 + n, "other")));
        }
        drop(senders);
        logs.stop();
    }
    let (found, unlogged) = served(&log);
    assert!(found["small"].iter().copied().eq(0..20));
    assert_eq!((found["other"].len(), unlogged), (40, 20));
    let mut journal = Segment::open(&log.journal(3)).unwrap();
    let (mut offset, mut paths) = (0, 0);
    while let Found::Frame(frame) = journal.next(&mut offset).unwrap() {
        if frame.header.kind == Kind::Rows as u8 {
            let records = journal.rows(&frame).unwrap().unwrap().records();
            let is_there = |record: &&Record| record.text(Text::Path).starts_with("/v1/secret");
            paths += records.iter().filter(is_there).count();
        }
    }
    assert_eq!(paths, 10, "of the other gateway only");
}

#[test]
fn a_full_gateway_loses_its_oldest_in_chunks_of_a_thousandth() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let data_dir = DataDir::lock(dir.path()).unwrap();
    let options = LogOptions {
        row_limits: limits(3_000, WhenFull::DeleteOldest),
        ..LogOptions::new(1)
    };
    let (senders, logs) = start(&data_dir, &options).unwrap();
    wait(|| is_counted(logs.row_limits()));
    for n in 0..3_000 {
        assert!(senders[0].record(record(n, "small")));
    }
    assert!(senders[0].record(record(0, "other")));
    let mut control = Store::open(dir.path()).unwrap();
    let id = |n: u64| RequestId(u128::from(n).to_be_bytes());
    let mark = marks::Mark {
        feedback: Some(-1),
        ..marks::Mark::default()
    };
    let set = |connection: &Connection| {
        let of_small = [1, 2, 5].into_iter().map(|n| (n, "small"));
        let mut all = of_small.chain([(0, "other")]);
        all.try_for_each(|(n, gateway)| marks::set(connection, gateway, id(n), &mark, 0))
    };
    control
        .change(|connection| Ok::<_, StoreError>(set(connection)?))
        .unwrap();
    let is_marked = |n| {
        let mark = control.read(|connection| marks::get(connection, id(n)));
        mark.unwrap().is_some()
    };
    wait(|| logs.health().records_written() == 3_001);
    assert_eq!(served(&log).0["small"].len(), 3_000);
    assert!(senders[0].record(record(3_000, "small")));
    wait(|| served(&log).0["small"].first() != Some(&0));
    let (found, _) = served(&log);
    assert!(found["small"].iter().copied().eq(3..3_001), "three at once");
    assert_eq!(found["other"], [0]);
    wait(|| !is_marked(2));
    assert!(!is_marked(1) && is_marked(5) && is_marked(0));
    // What comes right after a deletion waits for the next, and is not forgotten.
    for n in 3_001..3_010 {
        assert!(senders[0].record(record(n, "small")));
    }
    wait(|| logs.health().records_written() == 3_011 && served(&log).0["small"].len() <= 3_000);
    assert_eq!(served(&log).0["small"].last(), Some(&3_009));
    // Limits can change meanwhile.
    logs.row_limits().set(&limits(100, WhenFull::DeleteOldest));
    wait(|| served(&log).0["small"].len() == 100);
    logs.row_limits().set(&BTreeMap::new());
    for n in 4_000..4_500 {
        assert!(senders[0].record(record(n, "small")));
    }
    drop(senders);
    logs.stop();
    assert_eq!(served(&log).0["small"].len(), 600);
}
