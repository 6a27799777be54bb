use super::*;
use crate::{
    control::logs::{
        frame::{self, FrameBuffer, HEADER_BYTES, Header},
        seal::seal_journal,
        segment::{Appender, write_at},
    },
    domain::record::Record,
};

const DAY: u64 = 86_400_000_000;

/// Five days, each with a sealed file and a body file.
fn store(log: &LogDir) {
    for day in 1..=5 {
        let path = log.journal(day);
        let mut appender = Appender::create(&path, Kind::Rows, day * DAY, write_at()).unwrap();
        let record = Box::new(Record {
            at_micros: day * DAY + 1,
            ..Record::default()
        });
        let (mut buffer, header) = frame::encode_rows(&[record], FrameBuffer::new()).unwrap();
        appender.append(&mut buffer, header).unwrap();
        drop(appender);
        let never = std::sync::atomic::AtomicBool::new(false);
        seal_journal(log, day, &path, &mut Vec::new(), &never).unwrap();
        fs::remove_file(path).unwrap();
        let path = log.body_file(day, day * DAY);
        let mut appender = Appender::create(&path, Kind::Bodies, day * DAY, write_at()).unwrap();
        let mut buffer = vec![0; HEADER_BYTES + 64_000];
        let header = Header {
            kind: Kind::Bodies as u8,
            flags: 0,
            rows: 0,
            length: 64_000,
            min_micros: day * DAY,
            max_micros: day * DAY + 2,
            sequence: 0,
            segment: 0,
            payload_hash: 0,
        };
        appender.append(&mut buffer, header).unwrap();
    }
}

fn left(log: &LogDir) -> (Vec<u64>, Vec<u64>) {
    let sealed = log.record_files().unwrap().sealed;
    let bodies = log.body_files().unwrap();
    (
        sealed.into_iter().map(|file| file.first).collect(),
        bodies.into_iter().map(|(number, _)| number).collect(),
    )
}

#[test]
fn what_is_too_old_goes_with_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    store(&log);
    let damaged = log.path().join("journal-9.seg.damaged");
    fs::write(&damaged, b"x").unwrap();
    let health = LogHealth::default();
    health.add_disk_bytes(1 << 30);
    let keep = |age| Retention { age, bytes: None };
    keep(None).step(&log, 9 * DAY, &health).unwrap();
    assert_eq!(left(&log).0.len(), 5);
    let days = |days: u64| Some(Duration::from_hours(24 * days));
    keep(days(3)).step(&log, 5 * DAY + 1, &health).unwrap();
    assert_eq!(left(&log), (vec![2, 3, 4, 5], vec![2, 3, 4, 5]));
    keep(days(3)).step(&log, 5 * DAY + 2, &health).unwrap();
    assert_eq!(left(&log), (vec![3, 4, 5], vec![2, 3, 4, 5]));
    keep(days(3)).step(&log, 6 * DAY + 3, &health).unwrap();
    assert_eq!(left(&log), (vec![4, 5], vec![4, 5]));
    assert_eq!(log.days().unwrap().len(), 2);
    assert!(damaged.exists(), "it is young");
    keep(Some(Duration::ZERO))
        .step(&log, 9 * DAY, &health)
        .unwrap();
    assert_eq!(left(&log), (vec![], vec![]));
    assert!(!damaged.exists());
}

#[test]
fn the_oldest_go_until_the_log_has_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    store(&log);
    let bytes = || -> u64 {
        let sealed = log.record_files().unwrap().sealed;
        let bodies = log.body_files().unwrap();
        let paths = sealed.iter().map(|file| &file.path);
        let paths = paths.chain(bodies.iter().map(|(_, path)| path));
        paths.map(|path| fs::metadata(path).unwrap().len()).sum()
    };
    let health = LogHealth::default();
    health.add_disk_bytes(bytes());
    let keep = |bytes| Retention {
        age: None,
        bytes: Some(bytes),
    };
    keep(bytes()).step(&log, 9 * DAY, &health).unwrap();
    assert_eq!(left(&log).0.len(), 5);
    let limit = bytes() - 100_000;
    keep(limit).step(&log, 9 * DAY, &health).unwrap();
    assert!(bytes() <= limit);
    assert_eq!(health.disk_bytes(), bytes());
    assert_eq!(left(&log), (vec![3, 4, 5], vec![3, 4, 5]));
    // What is being written stays.
    let path = log.body_file(6, 6 * DAY);
    let _live = Appender::create(&path, Kind::Bodies, 6 * DAY, write_at()).unwrap();
    keep(0).step(&log, 9 * DAY, &health).unwrap();
    assert_eq!(left(&log), (vec![], vec![6]));
}

#[test]
fn what_people_said_of_records_goes_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    store(&log);
    let mut control = Store::open(dir.path()).unwrap();
    let id = |day: u64| RequestId::below((day * DAY + 1) / 1_000);
    let mark = marks::Mark {
        feedback: Some(1),
        ..marks::Mark::default()
    };
    let set = |connection: &Connection| {
        (1..=5).try_for_each(|day| marks::set(connection, "default", id(day), &mark, 0))
    };
    control
        .change(|connection| Ok::<_, StoreError>(set(connection)?))
        .unwrap();
    let marked = || {
        let is_marked = |day: &u64| {
            let mark = control.read(|connection| marks::get(connection, id(*day)));
            mark.unwrap().is_some()
        };
        (1..=5).filter(is_marked).collect::<Vec<_>>()
    };
    let retention = |days: u32| Retention {
        age: Some(Duration::from_hours(24) * days),
        bytes: None,
    };
    let health = LogHealth::default();
    retention(10).step(&log, 6 * DAY, &health).unwrap();
    assert_eq!(marked(), [1, 2, 3, 4, 5]);
    retention(3).step(&log, 6 * DAY, &health).unwrap();
    assert_eq!(left(&log).0, marked());
    retention(0).step(&log, 60 * DAY, &health).unwrap();
    assert!(left(&log).0.is_empty() && marked().is_empty());
}
