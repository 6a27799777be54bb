use super::*;
use crate::{
    control::logs::{
        frame,
        snapshot::{LogReader, LogSnapshot},
    },
    domain::record::{Record, TEXTS, Texts},
};

fn record(n: u64, gateway: &str) -> Box<Record> {
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Gateway as usize] = gateway.as_bytes();
    Box::new(Record {
        id: u128::from(n).to_be_bytes(),
        cost: Some(n),
        texts: Texts::pack(&texts),
        ..Record::default()
    })
}

fn id(n: u64) -> [u8; 16] {
    u128::from(n).to_be_bytes()
}

/// A journal of the records 0 to 299, of three gateways in turn.
fn store(log: &LogDir) {
    let mut appender = Appender::create(&log.journal(1), Kind::Rows, 0, write_at()).unwrap();
    let records: Vec<_> = (0..300)
        .map(|n| record(n, ["a", "b", ""][usize::try_from(n % 3).unwrap()]))
        .collect();
    let (mut buffer, header) = frame::encode_rows(&records, FrameBuffer::new()).unwrap();
    appender.append(&mut buffer, header).unwrap();
}

fn visible(snapshot: &LogSnapshot) -> Vec<u64> {
    let mut found = Vec::new();
    for at in snapshot.blocks() {
        let open = at.open().unwrap();
        let block = open.block().unwrap();
        let rows = block.reader().unwrap();
        let mask = snapshot.visible(&block).unwrap();
        for row in 0..block.rows() {
            if mask
                .as_ref()
                .is_none_or(|mask| mask[row / 64] >> (row % 64) & 1 == 1)
            {
                found.push(rows.record(row).unwrap().cost.unwrap());
            }
        }
    }
    found
}

#[test]
fn deleted_records_are_gone_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    store(&log);
    let mut reader = LogReader::new(log.clone());
    let before = reader.snapshot().unwrap();
    let deleter = LogDeleter::new(log.clone());
    deleter.delete(&[id(7), id(299), id(5), id(1_000)]).unwrap();
    let expected: Vec<u64> = (0..300).filter(|n| ![5, 7, 299].contains(n)).collect();
    assert_eq!(visible(&reader.snapshot().unwrap()), expected);
    assert_eq!(
        visible(&before).len(),
        300,
        "an older snapshot stays as it was"
    );
    deleter.delete_oldest(b"b", id(100)).unwrap();
    deleter.delete_oldest(b"b", id(10)).unwrap();
    deleter.delete_oldest(b"", id(20)).unwrap();
    deleter.delete_oldest(b"nobody", id(200)).unwrap();
    let expected: Vec<u64> = expected
        .into_iter()
        .filter(|n| match n % 3 {
            1 => *n > 100,
            2 => *n > 20,
            _ => true,
        })
        .collect();
    assert_eq!(visible(&reader.snapshot().unwrap()), expected);
    drop(deleter);
    let again = LogDeleter::new(log.clone());
    again.delete(&[id(298)]).unwrap();
    assert_eq!(log.deletion_files().unwrap().len(), 2);
    let expected: Vec<u64> = expected.into_iter().filter(|n| *n != 298).collect();
    let snapshot = LogReader::new(log).snapshot().unwrap();
    assert_eq!(visible(&snapshot), expected);
    assert!(snapshot.deleted().has(&id(5), b"a") && !snapshot.deleted().has(&id(6), b"a"));
    assert!(snapshot.deleted().has(&id(4), b"b") && !snapshot.deleted().has(&id(4), b"a"));
}

#[test]
fn a_torn_entry_hides_nothing_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    store(&log);
    let deleter = LogDeleter::new(log.clone());
    deleter.delete(&[id(1)]).unwrap();
    deleter.delete(&[id(2)]).unwrap();
    drop(deleter);
    let path = log.deletion_file(1);
    let length = fs::metadata(&path).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(length - 1).unwrap();
    let mut reader = LogReader::new(log);
    let found = visible(&reader.snapshot().unwrap());
    assert_eq!(found.len(), 299);
    let damages = read_files(std::iter::once(path)).unwrap().damages;
    assert_eq!(damages.len(), 1);
}

#[test]
fn many_ids_go_into_many_frames() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    store(&log);
    let ids: Vec<_> = (100..100_000).map(id).collect();
    LogDeleter::new(log.clone()).delete(&ids).unwrap();
    let snapshot = LogReader::new(log).snapshot().unwrap();
    assert!(visible(&snapshot).into_iter().eq(0..100));
}

#[test]
fn a_mask_has_no_bits_beyond_the_rows() {
    for rows in [0, 1, 63, 64, 65, 8_192] {
        let words = all_rows(rows);
        let bits: u32 = words.iter().map(|word| word.count_ones()).sum();
        assert_eq!((words.len(), bits as usize), (rows.div_ceil(64), rows));
    }
}
