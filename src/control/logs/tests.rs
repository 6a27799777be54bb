use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    ops::ControlFlow,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicI64, Ordering},
    time::Instant,
};

use super::{
    bodies::{Bodies, BodyEnd},
    filter::Filter,
    query::{Follower, Order, by_id, newest, scan},
    *,
};
use crate::{
    domain::{
        id::{RequestId, RequestIds},
        record::{ArchivedRecord, Record},
    },
    handoff::body_parts::{BodyCursor, Direction},
};

mod damage;
mod disk;

fn record(id: RequestId, n: u64) -> Box<Record> {
    Box::new(Record {
        id: id.0,
        at_micros: id.unix_millis() * 1000,
        cost: Some(n),
        ..Record::default()
    })
}

fn ids() -> impl FnMut() -> RequestId {
    let mut ids = RequestIds::new([1; 6]);
    move || ids.next(writer::unix_micros() / 1000)
}

/// Waits for a condition that a side thread brings about.
#[track_caller]
fn wait(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All records of a store by their `cost`, and how often each is there.
fn all(data_dir: &Path) -> BTreeMap<u64, u32> {
    let mut found = BTreeMap::new();
    let mut visit = |record: &ArchivedRecord| {
        let cost = record.cost.as_ref().unwrap().to_native();
        *found.entry(cost).or_insert(0) += 1;
        ControlFlow::Continue(())
    };
    let log = LogDir::of(data_dir);
    let order = Order::OldestFirst;
    let report = scan(&log, order, &(0..=u64::MAX), None, &mut visit).unwrap();
    assert!(report.damages.is_empty(), "{:?}", report.damages);
    found
}

#[test]
fn records_and_bodies_of_two_shards_come_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut next_id = ids();
    let mut kept = Vec::new();
    for run in 0..3u64 {
        let data_dir = DataDir::lock(dir.path()).unwrap();
        let (mut senders, logs) = start(&data_dir, &LogOptions::new(2)).unwrap();
        for n in 0..1_000u64 {
            let id = next_id();
            let sender = &mut senders[usize::from(n % 2 == 1)];
            let sent = sender.counters().chunks_sent();
            // Both shards send alike; a shard has 32 chunks.
            wait(|| 2 * sent < logs.health().chunks_written() + 32);
            let body = format!("body {run} {n} ").repeat(usize::try_from(n).unwrap());
            for direction in [Direction::Request, Direction::Response] {
                let mut cursor = BodyCursor::new(id, direction);
                for piece in body.as_bytes().chunks(1000) {
                    sender.body(&mut cursor, piece);
                }
                sender.end_body(&mut cursor);
                assert!(!cursor.is_dropped());
            }
            assert!(sender.record(record(id, run * 1_000 + n)));
            kept.push((id, body));
        }
        drop(senders);
        let health = Arc::clone(logs.health());
        logs.stop();
        assert_eq!(health.records_written(), 1_000);
        assert!(!health.is_degraded());
        let on_disk = |files: Vec<segment::Numbered>| -> u64 {
            let lengths = files
                .iter()
                .map(|(_, path)| fs::metadata(path).unwrap().len());
            lengths.sum()
        };
        let log = LogDir::of(dir.path());
        let sealed = log.record_files().unwrap().sealed;
        assert_eq!(
            health.disk_bytes(),
            on_disk(log.journals().unwrap())
                + on_disk(log.body_files().unwrap())
                + on_disk(sealed.into_iter().map(|file| (0, file.path)).collect())
        );
    }
    let found = all(dir.path());
    assert_eq!(found.len(), 3_000);
    assert!(found.values().all(|times| *times == 1));

    let log = LogDir::of(dir.path());
    for (id, body) in kept.iter().step_by(97) {
        let (found, _) = by_id(&log, *id).unwrap();
        let bodies = Bodies::find(&log, *id, found.unwrap().at_micros, 0).unwrap();
        for found in [bodies.request.unwrap(), bodies.response.unwrap()] {
            assert_eq!(found.end, BodyEnd::Whole);
            assert!(found.bytes == body.as_bytes());
        }
    }
    let filter = Filter::default();
    let (page, _) = newest(&log, &filter, 5, None).unwrap();
    assert_eq!(page.len(), 5);
    assert!(page.is_sorted_by_key(|record| record.at_micros));
}

#[test]
fn a_follower_sees_every_record_once_across_journals() {
    let dir = tempfile::tempdir().unwrap();
    let mut next_id = ids();
    let log = LogDir::of(dir.path());
    let mut seen = Vec::new();
    let mut follower: Option<Follower> = None;
    for run in 0..3u64 {
        let data_dir = DataDir::lock(dir.path()).unwrap();
        let (senders, logs) = start(&data_dir, &LogOptions::new(1)).unwrap();
        for n in 0..200u64 {
            assert!(senders[0].record(record(next_id(), run * 200 + n)));
            if run == 0 && n == 99 {
                wait(|| logs.health().records_written() == 100);
                let (new, ends) = Follower::from_end(&log).unwrap();
                follower = Some(new);
                let (page, _) = newest(&log, &Filter::default(), 1_000, Some(&ends)).unwrap();
                assert_eq!(page.len(), 100);
                seen.extend(page.iter().map(|record| record.cost.unwrap()));
            }
            if n % 50 == 0
                && let Some(follower) = &mut follower
            {
                let mut visit = |record: &ArchivedRecord| {
                    seen.push(record.cost.as_ref().unwrap().to_native());
                    ControlFlow::Continue(())
                };
                assert!(follower.poll(&mut visit).unwrap().damages.is_empty());
            }
        }
        drop(senders);
        logs.stop();
    }
    let mut visit = |record: &ArchivedRecord| {
        seen.push(record.cost.as_ref().unwrap().to_native());
        ControlFlow::Continue(())
    };
    follower.unwrap().poll(&mut visit).unwrap();
    assert!(seen.iter().copied().eq(0..600), "{seen:?}");
}

#[test]
fn a_full_disk_loses_nothing_that_the_queue_can_hold_and_heals_by_itself() {
    // Bytes that the disk still takes; below zero it is broken.
    let room = Arc::new(AtomicI64::new(10_000));
    let left = Arc::clone(&room);
    let write_at: WriteAt = Arc::new(move |file, bytes, offset| {
        use std::os::unix::fs::FileExt;
        let room = left.load(Ordering::Relaxed);
        let length = usize::try_from(room).unwrap_or(0).min(bytes.len());
        if length == 0 {
            return Err(io::Error::from_raw_os_error(28));
        }
        let written = file.write_at(&bytes[..length], offset)?;
        left.fetch_sub(i64::try_from(written).unwrap(), Ordering::Relaxed);
        Ok(written)
    });
    let dir = tempfile::tempdir().unwrap();
    let data_dir = DataDir::lock(dir.path()).unwrap();
    let (mut senders, logs) = start_with(&data_dir, &LogOptions::new(1), write_at).unwrap();
    let health = Arc::clone(logs.health());
    let mut next_id = ids();
    let mut sent = 0;
    while !health.refuses_records() {
        assert!(senders[0].record(record(next_id(), sent)));
        sent += 1;
        wait(|| health.records_written() == sent || health.refuses_records());
    }
    assert_eq!(
        health.message().unwrap(),
        "cannot write records: No space left on device (os error 28)"
    );
    for _ in 0..100 {
        assert!(senders[0].record(record(next_id(), sent)));
        sent += 1;
    }
    room.store(i64::MAX, Ordering::Relaxed);
    wait(|| health.records_written() == sent);
    wait(|| !health.is_degraded());

    // Bodies that find no room are given up, and said.
    room.store(0, Ordering::Relaxed);
    let mut cursor = BodyCursor::new(next_id(), Direction::Request);
    senders[0].body(&mut cursor, b"hello");
    senders[0].end_body(&mut cursor);
    senders[0].tick();
    wait(|| health.chunks_lost() == 1);
    assert!(health.is_degraded() && !health.refuses_records());
    room.store(i64::MAX, Ordering::Relaxed);
    senders[0].body(
        &mut BodyCursor::new(next_id(), Direction::Request),
        b"again",
    );
    senders[0].tick();
    wait(|| !health.is_degraded());

    drop(senders);
    logs.stop();
    let found = all(dir.path());
    assert_eq!(found.len() as u64, sent);
    assert!(found.values().all(|times| *times == 1));
}

#[test]
fn each_single_failing_write_loses_nothing() {
    // Fails the n-th write of a run, for every n until a run has fewer writes.
    for failing in 1.. {
        let count = Arc::new(AtomicI64::new(0));
        let writes = Arc::clone(&count);
        let write_at: WriteAt = Arc::new(move |file, bytes, offset| {
            use std::os::unix::fs::FileExt;
            if writes.fetch_add(1, Ordering::Relaxed) == failing {
                // Half of it gets there, as on a failing disk.
                file.write_at(&bytes[..bytes.len() / 2], offset)?;
                return Err(io::Error::from_raw_os_error(5));
            }
            file.write_at(bytes, offset)
        });
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::lock(dir.path()).unwrap();
        let (senders, logs) = start_with(&data_dir, &LogOptions::new(1), write_at).unwrap();
        let health = Arc::clone(logs.health());
        let mut next_id = ids();
        for n in 0..5 {
            assert!(senders[0].record(record(next_id(), n)));
            wait(|| health.records_written() == n + 1);
        }
        drop(senders);
        logs.stop();
        let found = all(dir.path());
        assert_eq!(found.len(), 5, "write {failing}");
        assert!(found.values().all(|times| *times == 1));
        if health.failures() == 0 {
            break;
        }
    }
}

#[test]
fn a_deleted_log_folder_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = DataDir::lock(dir.path()).unwrap();
    let options = LogOptions {
        sync: Duration::from_millis(1),
        ..LogOptions::new(1)
    };
    let (senders, logs) = start(&data_dir, &options).unwrap();
    let log = LogDir::of(dir.path());
    let mut next_id = ids();
    fs::remove_dir_all(log.path()).unwrap();
    wait(|| {
        senders[0].record(record(next_id(), 1));
        log.journals().unwrap().len() == 1
    });
    drop(senders);
    logs.stop();
    assert!(!all(dir.path()).is_empty());
}

#[test]
fn a_log_folder_that_cannot_be_used_is_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = DataDir::lock(dir.path()).unwrap();
    fs::write(dir.path().join("log"), b"").unwrap();
    let error = start(&data_dir, &LogOptions::new(1)).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("cannot use the log folder "), "{text}");
}

#[test]
fn a_start_does_not_read_old_journals() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogDir::of(dir.path());
    fs::create_dir(log.path()).unwrap();
    for number in 1..=16 {
        // 64 MiB each, without a byte on disk: reading them would show.
        let file = fs::File::create(log.journal(number)).unwrap();
        file.set_len(if number == 16 { 0 } else { 64 << 20 })
            .unwrap();
    }
    let data_dir = DataDir::lock(dir.path()).unwrap();
    let (_senders, logs) = start(&data_dir, &LogOptions::new(1)).unwrap();
    assert_eq!(logs.recovery().next_journal, 17);
    assert!(logs.recovery().damages.is_empty());
    assert!(logs.health().disk_bytes() > 15 * (64 << 20));
    logs.stop();
}

/// Names the folder that the child of the next test writes to.
const CHILD_DIR: &str = "TIDEGATE_TEST_LOG_CHILD";

/// Not a test of its own: the process that the next test kills. It sends records and says, after
/// each, how many are written for good.
#[test]
fn child_of_the_kill_test() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let data_dir = DataDir::lock(Path::new(&dir)).unwrap();
    // Sealed at once, so that the kill strikes while records move from file to file.
    let options = LogOptions {
        seal_after: Duration::from_millis(5),
        ..LogOptions::new(1)
    };
    let (mut senders, logs) = start(&data_dir, &options).unwrap();
    let mut next_id = ids();
    let mut out = io::stdout().lock();
    for n in 0u64.. {
        let id = next_id();
        let mut cursor = BodyCursor::new(id, Direction::Response);
        senders[0].body(&mut cursor, &[b'x'; 300]);
        senders[0].end_body(&mut cursor);
        if !senders[0].record(record(id, n)) {
            break;
        }
        if n % 64 == 0 {
            senders[0].tick();
            writeln!(out, "written {}", logs.health().records_written()).unwrap();
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

#[test]
fn what_was_written_before_a_kill_is_there_exactly_once() {
    for round in 0..5u64 {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::of(dir.path());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "control::logs::tests::child_of_the_kill_test",
                "--nocapture",
            ])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut written = 0u64;
        let until = 1_000 + round * 3_777;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(count) = line.strip_prefix("written ") {
                written = count.parse().unwrap();
                let sealed = || log.record_files().unwrap().sealed.len() as u64;
                if written >= until && sealed() > round {
                    break;
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(written >= until, "the child ended by itself");

        // Another start recovers, writes on, and everything is there once.
        let data_dir = DataDir::lock(dir.path()).unwrap();
        let (senders, logs) = start(&data_dir, &LogOptions::new(1)).unwrap();
        assert!(logs.recovery().damages.is_empty());
        assert!(senders[0].record(record(ids()(), u64::MAX)));
        drop(senders);
        logs.stop();
        let mut found = all(dir.path());
        assert_eq!(found.remove(&u64::MAX), Some(1));
        assert!(found.values().all(|times| *times == 1));
        for n in 0..written {
            assert!(found.contains_key(&n), "round {round}: record {n} is lost");
        }
        let count = found.len() as u64;
        assert!(found.keys().all(|n| *n < count), "no holes");
    }
}

#[test]
fn a_panic_of_the_writer_costs_its_batch_only() {
    let count = Arc::new(AtomicI64::new(0));
    let writes = Arc::clone(&count);
    let write_at: WriteAt = Arc::new(move |file, bytes, offset| {
        use std::os::unix::fs::FileExt;
        assert!(
            writes.fetch_add(1, Ordering::Relaxed) != 2,
            "a fault of ours"
        );
        file.write_at(bytes, offset)
    });
    let dir = tempfile::tempdir().unwrap();
    let data_dir = DataDir::lock(dir.path()).unwrap();
    let (senders, logs) = start_with(&data_dir, &LogOptions::new(1), write_at).unwrap();
    let health = Arc::clone(logs.health());
    let mut next_id = ids();
    for n in 0..5 {
        assert!(senders[0].record(record(next_id(), n)));
        wait(|| health.records_written() + health.records_lost() == n + 1);
    }
    drop(senders);
    logs.stop();
    assert_eq!((health.records_lost(), health.records_written()), (1, 4));
    assert!(!health.is_degraded());
    let found = all(dir.path());
    assert!(found.keys().copied().eq([0, 2, 3, 4]));
}
