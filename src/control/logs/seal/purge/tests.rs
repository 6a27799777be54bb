use std::{collections::BTreeSet, time::SystemTime};

use super::*;
use crate::{
    control::{
        data_dir::DataDir,
        logs::{
            LogOptions,
            bodies::Bodies,
            compress,
            frame::{self, FrameBuffer, Kind},
            seal::{SealParts, Work},
            segment::{Appender, write_at},
            start,
        },
    },
    domain::{
        id::{RequestId, RequestIds},
        record::Record,
    },
    handoff::body_parts::{BodyCursor, Direction},
};

static NEVER: AtomicBool = AtomicBool::new(false);

/// When the records of these tests were made: milliseconds since the Unix epoch.
const MADE: u64 = 1_795_000_000_000;

/// Two days later, in microseconds.
const LATER: u64 = (MADE + 2 * 86_400_000) * 1_000;

/// Runs a server that writes a hundred records with bodies; gives their ids.
fn run(dir: &std::path::Path, ids: &mut RequestIds) -> Vec<RequestId> {
    let data_dir = DataDir::lock(dir).unwrap();
    let (mut senders, logs) = start(&data_dir, &LogOptions::new(1)).unwrap();
    let made: Vec<_> = (0..100).map(|_| ids.next(MADE)).collect();
    for id in &made {
        for direction in [Direction::Request, Direction::Response] {
            let mut cursor = BodyCursor::new(*id, direction);
            senders[0].body(&mut cursor, format!("body of {id}").as_bytes());
            senders[0].end_body(&mut cursor);
        }
        assert!(senders[0].record(Box::new(Record {
            id: id.0,
            at_micros: id.unix_millis() * 1000,
            ..Record::default()
        })));
    }
    drop(senders);
    logs.stop();
    made
}

/// Every id in the files, deleted or not, and how often.
fn stored(log: &LogDir) -> Vec<[u8; 16]> {
    let snapshot = LogReader::new(log.clone()).snapshot().unwrap();
    let mut ids = Vec::new();
    for at in snapshot.blocks() {
        let open = at.open().unwrap();
        ids.extend_from_slice(open.block().unwrap().ids().unwrap());
    }
    ids
}

fn holds(log: &LogDir, id: RequestId) -> bool {
    let text = format!("body of {id}");
    log.body_files().unwrap().iter().any(|(_, path)| {
        let bytes = fs::read(path).unwrap();
        memchr::memmem::find(&bytes, text.as_bytes()).is_some()
    })
}

fn seal(log: &LogDir) {
    Work::new(SealParts::of(log)).step().unwrap();
    for path in log.record_files().unwrap().superseded {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn deleted_records_leave_the_files_with_their_bodies() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let mut ids = RequestIds::new([1; 6]);
    let made = run(dir.path(), &mut ids);
    let deleter = LogDeleter::new(log.clone());
    let (gone, left) = made.split_at(10);
    let gone_ids: Vec<_> = gone.iter().map(|id| id.0).collect();
    deleter.delete(&gone_ids).unwrap();
    let health = LogHealth::default();
    let bytes = |log: &LogDir| -> u64 {
        let files = log.record_files().unwrap();
        let bodies = log.body_files().unwrap().into_iter().map(|(_, path)| path);
        let journals = files.journals.into_iter().map(|(_, path)| path);
        let all = files.sealed.into_iter().map(|file| file.path);
        all.chain(bodies)
            .chain(journals)
            .map(|path| fs::metadata(path).unwrap().len())
            .sum()
    };

    // Still in a journal: nothing is forgotten.
    purge(&log, &deleter, &health, Worth::Anything, LATER, &NEVER).unwrap();
    assert_eq!(log.deletion_files().unwrap().len(), 1);
    seal(&log);
    health.add_disk_bytes(bytes(&log));
    // A tenth is not worth a rewrite before its time.
    purge(&log, &deleter, &health, Worth::Half, LATER, &NEVER).unwrap();
    assert_eq!(stored(&log).len(), 100);
    purge(&log, &deleter, &health, Worth::Anything, LATER, &NEVER).unwrap();
    assert!(stored(&log).into_iter().eq(left.iter().map(|id| id.0)));
    assert!(log.deletion_files().unwrap().is_empty());
    assert_eq!(health.disk_bytes(), bytes(&log));
    for id in gone {
        assert!(!holds(&log, *id));
    }
    for id in left {
        let bodies = Bodies::find(&log, *id, id.unix_millis() * 1000, 0).unwrap();
        let expected = format!("body of {id}");
        assert_eq!(bodies.request.unwrap().bytes, expected.as_bytes());
        assert_eq!(bodies.response.unwrap().bytes, expected.as_bytes());
    }

    // The rest: the file goes, too.
    deleter.delete_oldest(b"", [u8::MAX; 16]).unwrap();
    purge(&log, &deleter, &health, Worth::Half, LATER, &NEVER).unwrap();
    assert!(stored(&log).is_empty() && log.record_files().unwrap().sealed.is_empty());
    assert_eq!(health.disk_bytes(), bytes(&log));
}

/// Ids that are served.
fn served(log: &LogDir) -> Vec<[u8; 16]> {
    let snapshot = LogReader::new(log.clone()).snapshot().unwrap();
    let mut served = Vec::new();
    for at in snapshot.blocks() {
        let open = at.open().unwrap();
        let block = open.block().unwrap();
        let mask = snapshot.visible(&block).unwrap();
        let is_visible = |row| mask.as_ref().is_none_or(|mask| has(mask, row));
        let ids = block.ids().unwrap().iter().enumerate();
        served.extend(ids.filter(|(row, _)| is_visible(*row)).map(|(_, id)| *id));
    }
    served
}

/// The journal of a server that ran, with these records.
fn journal(log: &LogDir, number: u64, ids: &[RequestId]) {
    let made = Appender::create(&log.journal(number), Kind::Rows, 0, write_at());
    let records = ids.iter().map(|id| {
        Box::new(Record {
            id: id.0,
            at_micros: id.unix_millis() * 1_000,
            ..Record::default()
        })
    });
    let records: Vec<_> = records.collect();
    let (mut buffer, header) = frame::encode_rows(&records, FrameBuffer::new()).unwrap();
    made.unwrap().append(&mut buffer, header).unwrap();
}

#[test]
fn a_deletion_outlives_the_exchanges_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let mut ids = RequestIds::new([1; 6]);
    let made: Vec<_> = (0..6).map(|n| ids.next(MADE + n)).collect();
    let next_day = ids.next(MADE + 86_400_000);
    let deleter = LogDeleter::new(log.clone());
    let health = LogHealth::default();
    let soon = (MADE + 3_600_000) * 1_000;
    // One that is known, one that is still in flight, and all before the third.
    journal(&log, 1, &[made[2], made[4]]);
    seal(&log);
    deleter.delete(&[made[4].0, made[5].0]).unwrap();
    deleter.delete_oldest(b"", made[2].0).unwrap();
    purge(&log, &deleter, &health, Worth::Anything, soon, &NEVER).unwrap();
    assert!(stored(&log).is_empty());
    journal(&log, 2, &[made[1], made[3], made[5], next_day]);
    assert_eq!(served(&log), [made[3].0, next_day.0]);
    seal(&log);
    purge(&log, &deleter, &health, Worth::Anything, soon, &NEVER).unwrap();
    assert_eq!(stored(&log), [made[3].0, next_day.0]);

    // In the end the ids are forgotten; how far the oldest went takes a few bytes for each gateway.
    for n in 0..100 {
        let id = RequestId::below(MADE - 100 + n);
        deleter.delete_oldest(b"", id.0).unwrap();
    }
    purge(&log, &deleter, &health, Worth::Anything, LATER, &NEVER).unwrap();
    let files = log.deletion_files().unwrap();
    let read = read_files(files.iter().map(|(_, path)| path.clone())).unwrap();
    assert_eq!(read.files, 1);
    assert!(!read.deleted.has(&made[5].0, b"") && read.deleted.has(&made[1].0, b""));
    let length = fs::metadata(&files[0].1).unwrap().len();
    assert!(length < 512, "{length}");
    assert_eq!(served(&log), [made[3].0, next_day.0]);
}

#[test]
fn bodies_that_another_process_compresses_are_purged_when_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let made = run(dir.path(), &mut RequestIds::new([1; 6]));
    seal(&log);
    let deleter = LogDeleter::new(log.clone());
    deleter.delete(&[made[3].0]).unwrap();
    let (_, body_file) = log.body_files().unwrap().remove(0);
    // As a process does that rewrites a file of this folder.
    let other = fs::File::open(body_file.parent().unwrap()).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let health = LogHealth::default();
    purge(&log, &deleter, &health, Worth::Anything, LATER, &NEVER).unwrap();
    assert!(holds(&log, made[3]), "it would be brought back");
    assert_eq!(served(&log).len(), 99);
    let age = Duration::ZERO;
    let compressing = std::thread::scope(|scope| {
        let compressing = scope.spawn(|| compress::pass(&log, age, &mut BTreeSet::new(), &NEVER));
        drop(other);
        compressing.join().unwrap().unwrap()
    });
    assert_eq!(compressing.files, 1);
    purge(&log, &deleter, &health, Worth::Anything, LATER, &NEVER).unwrap();
    let gone = Bodies::find(&log, made[3], MADE * 1_000, 0).unwrap();
    assert!(gone.request.is_none() && gone.response.is_none());
    let left = Bodies::find(&log, made[4], MADE * 1_000, 0).unwrap();
    assert!(left.request.is_some() && left.response.is_some());
    assert!(log.deletion_files().unwrap().is_empty());
}

#[test]
fn deletions_of_an_earlier_run_are_purged_without_waiting_for_an_hour() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let made = run(dir.path(), &mut RequestIds::new([1; 6]));
    seal(&log);
    LogDeleter::new(log.clone()).delete(&[made[0].0]).unwrap();
    let mut purges = Purges::new(Rewriting::default());
    let (deleter, health) = (LogDeleter::new(log.clone()), LogHealth::default());
    purges.step(&log, &deleter, &health, &NEVER).unwrap();
    assert_eq!(stored(&log).len(), 100, "young, and a hundredth only");
    let file = fs::File::options().append(true).open(log.deletion_file(1));
    let before = SystemTime::now().checked_sub(INTERVAL).unwrap();
    file.unwrap().set_modified(before).unwrap();
    purges.step(&log, &deleter, &health, &NEVER).unwrap();
    assert_eq!(stored(&log).len(), 99);
}

#[test]
fn a_body_that_may_still_be_written_to_keeps_its_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let mut ids = RequestIds::new([1; 6]);
    let made = run(dir.path(), &mut ids);
    seal(&log);
    let deleter = LogDeleter::new(log.clone());
    deleter.delete(&[made[3].0]).unwrap();
    let (_, body_file) = log.body_files().unwrap().remove(0);
    let lock = fs::File::open(&body_file).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let health = LogHealth::default();
    purge(&log, &deleter, &health, Worth::Anything, LATER, &NEVER).unwrap();
    assert_eq!(stored(&log).len(), 100);
    assert_eq!(log.deletion_files().unwrap().len(), 1);
    drop(lock);
    purge(&log, &deleter, &health, Worth::Anything, LATER, &NEVER).unwrap();
    assert_eq!(stored(&log).len(), 99);
    assert!(log.deletion_files().unwrap().is_empty());
}

#[test]
fn a_reader_beside_a_purge_never_sees_what_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    let mut ids = RequestIds::new([1; 6]);
    let made = run(dir.path(), &mut ids);
    seal(&log);
    let deleter = LogDeleter::new(log.clone());
    let mut reader = LogReader::new(log.clone());
    let health = LogHealth::default();
    std::thread::scope(|scope| {
        for (n, id) in made.iter().enumerate().take(30) {
            deleter.delete(&[id.0]).unwrap();
            let purging = scope
                .spawn(|| purge(&log, &deleter, &health, Worth::Anything, LATER, &NEVER).unwrap());
            loop {
                let is_last = purging.is_finished();
                let snapshot = reader.snapshot().unwrap();
                let mut visible = Vec::new();
                for at in snapshot.blocks() {
                    let open = at.open().unwrap();
                    let block = open.block().unwrap();
                    let mask = snapshot.visible(&block).unwrap();
                    let all = block.ids().unwrap().iter().enumerate();
                    let is_visible = |row| mask.as_ref().is_none_or(|mask| has(mask, row));
                    visible.extend(all.filter(|(row, _)| is_visible(*row)).map(|(_, id)| *id));
                }
                assert!(visible.into_iter().eq(made[n + 1..].iter().map(|id| id.0)));
                if is_last {
                    break;
                }
            }
        }
    });
}
