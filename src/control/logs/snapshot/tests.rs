use super::*;
use crate::{
    control::logs::{
        frame::{self, FrameBuffer, Kind},
        segment::{Appender, write_at},
    },
    domain::record::{Record, flag},
};

fn append(appender: &mut Appender, numbers: std::ops::Range<u64>) {
    let records: Vec<Box<Record>> = numbers
        .map(|n| {
            Box::new(Record {
                at_micros: n,
                flags: if n % 10 == 3 { flag::UNLOGGED } else { 0 },
                ..Record::default()
            })
        })
        .collect();
    let (mut buffer, header) = frame::encode_rows(&records, FrameBuffer::new()).unwrap();
    appender.append(&mut buffer, header).unwrap();
}

fn times(snapshot: &LogSnapshot) -> Vec<u64> {
    let mut found = Vec::new();
    for at in snapshot.blocks() {
        let open = at.open().unwrap();
        assert!(open.damages().is_empty());
        let block = open.block().unwrap();
        let rows = block.reader().unwrap();
        let times = (0..block.rows()).map(|row| rows.record(row).unwrap().at_micros);
        let before = found.len();
        found.extend(times);
        let new = &found[before..];
        assert_eq!(at.micros(), new[0]..=new[new.len() - 1]);
    }
    found
}

#[test]
fn a_snapshot_stays_as_it_was_while_the_log_grows() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let mut reader = LogReader::new(log.clone());
    assert_eq!(reader.snapshot().unwrap().blocks().count(), 0);
    let mut appender = Appender::create(&log.journal(1), Kind::Rows, 0, write_at()).unwrap();
    append(&mut appender, 0..100);
    let first = reader.snapshot().unwrap();
    append(&mut appender, 100..200);
    let second = reader.snapshot().unwrap();
    assert!(times(&first).into_iter().eq(0..100));
    assert!(times(&second).into_iter().eq(0..200));
    for n in 0..10 {
        append(&mut appender, 200 + n * 1_000..1_200 + n * 1_000);
    }
    drop(appender);
    fs::remove_file(log.journal(1)).unwrap();
    assert!(times(&second).into_iter().eq(0..200));
    assert_eq!(reader.snapshot().unwrap().blocks().count(), 0);
}

#[test]
fn a_folder_that_was_made_anew_is_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let mut reader = LogReader::new(log.clone());
    for from in [0, 1_000] {
        let mut appender = Appender::create(&log.journal(1), Kind::Rows, 0, write_at()).unwrap();
        append(&mut appender, from..from + 50);
        let snapshot = reader.snapshot().unwrap();
        assert!(times(&snapshot).into_iter().eq(from..from + 50));
        fs::remove_dir_all(log.path()).unwrap();
    }
}

#[test]
fn unsealed_records_come_in_blocks_of_the_usual_size() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let mut appender = Appender::create(&log.journal(1), Kind::Rows, 0, write_at()).unwrap();
    for n in 0..25 {
        append(&mut appender, n * 1_000..n * 1_000 + 1_000);
    }
    let mut reader = LogReader::new(log);
    let snapshot = reader.snapshot().unwrap();
    let rows: Vec<u64> = snapshot.blocks().map(|block| block.rows()).collect();
    assert_eq!(rows, [8_000, 8_000, 8_000, 1_000]);
    assert!(times(&snapshot).into_iter().eq(0..25_000));
    append(&mut appender, 25_000..25_001);
    assert!(times(&reader.snapshot().unwrap()).into_iter().eq(0..25_001));
}

#[test]
fn records_without_logging_are_not_visible() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let mut appender = Appender::create(&log.journal(1), Kind::Rows, 0, write_at()).unwrap();
    append(&mut appender, 0..70);
    append(&mut appender, 70..73);
    let snapshot = LogReader::new(log).snapshot().unwrap();
    let open = snapshot.blocks().next().unwrap().open().unwrap();
    let block = open.block().unwrap();
    let mask = snapshot.visible(&block).unwrap().unwrap();
    for row in 0..128 {
        let is_visible = mask[row / 64] >> (row % 64) & 1 == 1;
        assert_eq!(is_visible, row < 73 && row % 10 != 3, "row {row}");
    }
}

#[test]
fn a_frame_on_its_way_is_left_for_the_next_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let path = log.journal(1);
    let mut appender = Appender::create(&path, Kind::Rows, 0, write_at()).unwrap();
    append(&mut appender, 0..100);
    let half = appender.offset();
    append(&mut appender, 100..200);
    // The second frame's header is there, and the file is as long, but its end has not come.
    let whole = fs::read(&path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let zeros = vec![0; whole.len() - usize::try_from(half).unwrap() - 200];
    std::os::unix::fs::FileExt::write_all_at(&file, &zeros, half + 200).unwrap();
    let mut reader = LogReader::new(log);
    let snapshot = reader.snapshot().unwrap();
    assert!(times(&snapshot).into_iter().eq(0..100));
    assert_eq!(snapshot.damages().count(), 0);
    std::os::unix::fs::FileExt::write_all_at(&file, &whole, 0).unwrap();
    assert!(times(&reader.snapshot().unwrap()).into_iter().eq(0..200));
}
