use super::{merge::Merged, *};
use crate::{
    control::logs::{
        frame::{self, FrameBuffer},
        segment::{Appender, write_at},
        snapshot::{LogReader, LogSnapshot},
    },
    domain::record::{Record, TEXTS, Text, Texts},
};

static NEVER: AtomicBool = AtomicBool::new(false);

fn record(n: u64) -> Box<Record> {
    let model = format!("model-{}", n % 7);
    let path = format!("/v1/{n}");
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Model as usize] = model.as_bytes();
    texts[Text::Path as usize] = path.as_bytes();
    Box::new(Record {
        id: u128::from(n).to_be_bytes(),
        at_micros: 1_000_000 + n,
        cost: Some(n),
        texts: Texts::pack(&texts),
        ..Record::default()
    })
}

/// Writes journal `number` with the records of `range`, in frames of a hundred.
fn journal(log: &LogDir, number: u64, range: std::ops::Range<u64>) {
    let mut appender = Appender::create(&log.journal(number), Kind::Rows, 0, write_at()).unwrap();
    let numbers: Vec<u64> = range.collect();
    for chunk in numbers.chunks(100) {
        let records: Vec<_> = chunk.iter().map(|n| record(*n)).collect();
        let (mut buffer, header) = frame::encode_rows(&records, FrameBuffer::new()).unwrap();
        appender.append(&mut buffer, header).unwrap();
    }
}

fn seal(log: &LogDir, number: u64) -> Sealed {
    let mut damages = Vec::new();
    let sealed = seal_journal(log, number, &log.journal(number), &mut damages, &NEVER).unwrap();
    assert!(damages.is_empty(), "{damages:?}");
    sealed
}

/// All records of a snapshot in its order, with the journals they came from.
fn all(snapshot: &LogSnapshot) -> Vec<(Record, u64)> {
    let mut found = Vec::new();
    assert_eq!(snapshot.damages().count(), 0);
    for at in snapshot.blocks() {
        let open = at.open().unwrap();
        let block = open.block().unwrap();
        let rows = block.reader().unwrap();
        let mut row = 0;
        for (journal, count) in block.sources().unwrap() {
            for _ in 0..count {
                found.push((rows.record(row).unwrap(), journal));
                row += 1;
            }
        }
        assert_eq!(row as u64, at.rows());
    }
    found
}

fn numbers(log: &LogDir) -> Vec<u64> {
    let snapshot = LogReader::new(log.clone()).snapshot().unwrap();
    let all = all(&snapshot);
    for (found, _) in &all {
        assert_eq!(found, &*record(found.cost.unwrap()));
    }
    all.iter().map(|(record, _)| record.cost.unwrap()).collect()
}

#[test]
fn a_sealed_journal_has_the_same_records_in_the_same_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    journal(&log, 3, 0..20_000);
    journal(&log, 4, 20_000..20_050);
    assert!(numbers(&log).into_iter().eq(0..20_050));
    let Sealed::Done { path, bytes, rows } = seal(&log, 3) else {
        panic!("not sealed");
    };
    assert_eq!(rows, 20_000);
    assert_eq!(fs::metadata(&path).unwrap().len(), bytes);
    assert!(path.ends_with("1970-01-01/3-3.seg"), "{path:?}");
    assert!(log.journal(3).exists(), "a reader may be on its way");
    assert!(numbers(&log).into_iter().eq(0..20_050));
    fs::remove_file(log.journal(3)).unwrap();
    assert!(numbers(&log).into_iter().eq(0..20_050));
    let snapshot = LogReader::new(log).snapshot().unwrap();
    let places: Vec<_> = snapshot
        .blocks()
        .map(|block| (block.position().sealed, block.rows()))
        .collect();
    assert_eq!(
        places,
        [(true, 8_192), (true, 8_192), (true, 3_616), (false, 50)]
    );
}

#[test]
fn a_journal_that_is_written_is_not_sealed_and_an_empty_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let live = Appender::create(&log.journal(1), Kind::Rows, 0, write_at()).unwrap();
    assert_eq!(seal(&log, 1), Sealed::NotYet);
    drop(live);
    assert_eq!(seal(&log, 1), Sealed::Empty);
    assert!(!log.journal(1).exists());
    assert!(numbers(&log).is_empty());
}

#[test]
fn a_merged_file_has_the_records_of_all_and_says_whose_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let mut expected = Vec::new();
    let mut next = 0;
    for (number, rows) in [(1, 10), (2, 9_000), (4, 5), (5, 8_192), (7, 30)] {
        journal(&log, number, next..next + rows);
        seal(&log, number);
        expected.extend((next..next + rows).map(|n| (n, number)));
        next += rows;
    }
    let mut reader = LogReader::new(log.clone());
    let before = reader.snapshot().unwrap();
    let files = log.record_files().unwrap();
    let Merged::Done(bytes) = merge::merge(&log, &files.sealed, &NEVER).unwrap() else {
        panic!("not merged");
    };
    let files = log.record_files().unwrap();
    assert_eq!(files.sealed.len(), 1);
    assert_eq!((files.sealed[0].first, files.sealed[0].last), (1, 7));
    assert_eq!(fs::metadata(&files.sealed[0].path).unwrap().len(), bytes);
    assert_eq!(files.superseded.len(), 10, "five journals, five sealed");
    for path in &files.superseded {
        fs::remove_file(path).unwrap();
    }
    let after = reader.snapshot().unwrap();
    for snapshot in [&before, &after] {
        let found: Vec<_> = all(snapshot)
            .into_iter()
            .map(|(record, journal)| (record.cost.unwrap(), journal))
            .collect();
        assert!(found == expected);
    }
    // Small blocks were filled up; full ones stand as they were.
    let rows: Vec<u64> = after.blocks().map(|block| block.rows()).collect();
    assert_eq!(rows, [10, 8_192, 813, 8_192, 30]);
}

#[test]
fn a_damaged_journal_is_sealed_without_its_damage_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    journal(&log, 1, 0..500);
    let mut bytes = fs::read(log.journal(1)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(log.journal(1), &bytes).unwrap();
    let mut damages = Vec::new();
    let sealed = seal_journal(&log, 1, &log.journal(1), &mut damages, &NEVER).unwrap();
    assert!(
        matches!(sealed, Sealed::Done { rows: 400, .. }),
        "{sealed:?}"
    );
    assert_eq!(damages.len(), 1);
    assert_eq!(damages[0].path, log.journal(1));
    let found = numbers(&log);
    assert_eq!(found.len(), 400);
    let kept = log.path().join("journal-1.seg.damaged");
    assert_eq!(fs::read(kept).unwrap(), bytes);
}

#[test]
fn a_damaged_file_is_not_merged() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    for number in 1..3 {
        journal(&log, number, number * 100..number * 100 + 100);
        seal(&log, number);
    }
    let files = log.record_files().unwrap();
    let mut bytes = fs::read(&files.sealed[1].path).unwrap();
    let end = bytes.len() - 2_000;
    bytes[end] ^= 1;
    fs::write(&files.sealed[1].path, &bytes).unwrap();
    let Merged::Damaged(damage) = merge::merge(&log, &files.sealed, &NEVER).unwrap() else {
        panic!("merged");
    };
    assert_eq!(damage.path, files.sealed[1].path);
    assert_eq!(log.record_files().unwrap().sealed.len(), 2);
    let day = files.sealed[0].path.parent().unwrap();
    assert_eq!(fs::read_dir(day).unwrap().count(), 2, "no draft is left");
    // The thread tries it once, and never again.
    let health = LogHealth::default();
    let mut skip = BTreeSet::new();
    for _ in 0..2 {
        assert!(!merge::merge_once(&log, &health, &mut skip, u64::MAX, &NEVER).unwrap());
        assert_eq!(skip.len(), 1);
    }
}

/// Copies a folder with what is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

#[test]
fn a_crash_at_any_point_of_sealing_and_merging_leaves_every_record_once() {
    // The states that a crash can leave, one after another: with a draft of any length, after the
    // name was given, after the forerunner was removed.
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(&dir.path().join("base"));
    for number in 1..=3u64 {
        journal(&log, number, number * 1_000..number * 1_000 + 1_000);
    }
    let expected: Vec<u64> = (1_000..4_000).collect();
    let mut states: Vec<PathBuf> = Vec::new();
    let keep = |states: &mut Vec<PathBuf>, log: &LogDir| {
        let state = dir.path().join(format!("state-{}", states.len()));
        copy(log.path(), &state.join("log"));
        states.push(state);
    };
    keep(&mut states, &log);
    for number in 1..=3 {
        let Sealed::Done { path, .. } = seal(&log, number) else {
            panic!("not sealed");
        };
        let whole = fs::read(&path).unwrap();
        let draft = path.with_file_name(format!(".{number}-{number}.seg.99.new"));
        fs::rename(&path, &draft).unwrap();
        for part in [0, 64, 1_000, whole.len() - 1, whole.len()] {
            fs::write(&draft, &whole[..part]).unwrap();
            keep(&mut states, &log);
        }
        fs::rename(&draft, &path).unwrap();
        keep(&mut states, &log);
        fs::remove_file(log.journal(number)).unwrap();
        keep(&mut states, &log);
    }
    let files = log.record_files().unwrap();
    merge::merge(&log, &files.sealed, &NEVER).unwrap();
    keep(&mut states, &log);
    for file in &files.sealed {
        fs::remove_file(&file.path).unwrap();
        keep(&mut states, &log);
    }
    assert_eq!(states.len(), 26);
    for state in states {
        let log = LogDir::of(&state);
        assert_eq!(numbers(&log), expected, "{state:?}, as it was found");
        crate::control::logs::recovery::recover(&log).unwrap();
        assert_eq!(numbers(&log), expected, "{state:?}, after recovery");
        let mut work = Work::new(SealParts::of(&log));
        work.step().unwrap();
        assert_eq!(numbers(&log), expected, "{state:?}, after the next pass");
        let past = Instant::now().checked_sub(2 * GRACE).unwrap();
        work.going.values_mut().for_each(|since| *since = past);
        work.step().unwrap();
        assert_eq!(numbers(&log), expected, "{state:?}, cleared up");
        assert!(log.journals().unwrap().is_empty());
        assert_eq!(log.record_files().unwrap().superseded.len(), 0);
    }
}

#[test]
fn a_reader_beside_the_sealer_sees_every_record_once_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let written = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let parts = SealParts::of(&log);
    let queue = Arc::clone(&parts.queue);
    let sealer = Sealer::start(parts).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=40u64 {
                let first = (number - 1) * 50;
                let mut appender =
                    Appender::create(&log.journal(number), Kind::Rows, 0, write_at()).unwrap();
                for n in first..first + 50 {
                    let (mut buffer, header) =
                        frame::encode_rows(&[record(n)], FrameBuffer::new()).unwrap();
                    appender.append(&mut buffer, header).unwrap();
                    written.store(n + 1, Ordering::Release);
                }
                drop(appender);
                queue.ring();
            }
            done.store(true, Ordering::Release);
        });
        let mut reader = LogReader::new(log.clone());
        loop {
            let is_last = done.load(Ordering::Acquire);
            let least = written.load(Ordering::Acquire);
            let snapshot = reader.snapshot().unwrap();
            let found: Vec<u64> = all(&snapshot)
                .iter()
                .map(|(record, _)| record.cost.unwrap())
                .collect();
            let count = found.len() as u64;
            assert!(count >= least, "{count} of {least}");
            assert!(found.into_iter().eq(0..count), "in order, each once");
            if is_last {
                assert_eq!(count, 2_000);
                break;
            }
        }
    });
    sealer.stop();
}
