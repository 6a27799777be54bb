//! A disk that is full, or cannot be written: a real one, of three megabytes, in a mount namespace of
//! its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use super::{ids, record, wait};
use crate::{
    control::{
        data_dir::DataDir,
        logs::{
            LogOptions,
            segment::{LogDir, WriteAt},
            snapshot::LogReader,
            start, start_with,
        },
    },
    domain::id::RequestId,
    handoff::{
        body_parts::{BodyCursor, Direction},
        log_queue::{LogSender, QUEUE_RECORDS_MAX},
    },
};

/// Names the folder that the child mounts its disk on.
const CHILD_DIR: &str = "TIDEGATE_TEST_DISK_CHILD";

/// Where this process may have mounts of its own, runs the test `name` of this module once more
/// in a child that has.
fn in_a_namespace(name: &str) {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount"]);
        command
    };
    let may = unshare().arg("true").output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("no mount namespaces here; faults of the disk are only played");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = unshare()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("control::logs::tests::disk::{name}")])
        .arg("--nocapture")
        .env(CHILD_DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains("the disk was a real one"), "{said}");
}

/// The child's disk; `None` in the parent.
fn disk() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os(CHILD_DIR)?);
    mount(&["-t", "tmpfs", "-o", "size=3m", "none"], &dir);
    println!("the disk was a real one");
    Some(dir)
}

#[track_caller]
fn mount(args: &[&str], dir: &Path) {
    let done = Command::new("mount").args(args).arg(dir).status().unwrap();
    assert!(done.success());
}

/// Leaves `room` bytes of the disk.
fn fill(dir: &Path, room: usize) -> PathBuf {
    let ballast = dir.join("ballast");
    let mut length = 3 << 20;
    while fs::write(&ballast, vec![0; length]).is_err() {
        length -= 16 << 10;
    }
    fs::write(&ballast, vec![0; length - room]).unwrap();
    ballast
}

fn send(sender: &mut LogSender, id: RequestId, n: u64) -> bool {
    let mut cursor = BodyCursor::new(id, Direction::Response);
    sender.body(&mut cursor, &[b'x'; 500]);
    sender.end_body(&mut cursor);
    sender.tick();
    sender.record(record(id, n))
}

fn options() -> LogOptions {
    LogOptions {
        seal_after: Duration::from_millis(20),
        ..LogOptions::new(1)
    }
}

/// The records that are served, by number.
fn served(log: &LogDir) -> Vec<u64> {
    let snapshot = LogReader::new(log.clone()).snapshot().unwrap();
    let mut found = Vec::new();
    for at in snapshot.blocks() {
        let open = at.open().unwrap();
        let rows = open.block().unwrap().reader().unwrap();
        let records = (0..).map_while(|row| rows.record(row));
        found.extend(records.map(|record| record.cost.unwrap()));
    }
    assert_eq!(snapshot.damages().count(), 0);
    found
}

#[test]
fn a_full_disk_costs_records_only_and_heals_by_itself() {
    let Some(dir) = disk() else {
        return in_a_namespace("a_full_disk_costs_records_only_and_heals_by_itself");
    };
    let data_dir = DataDir::lock(&dir).unwrap();
    let (mut senders, logs) = start(&data_dir, &options()).unwrap();
    let health = logs.health();
    let mut next_id = ids();
    let mut sent = 0;
    let mut send = |sent: &mut u64| {
        assert!(
            send(&mut senders[0], next_id(), *sent),
            "the queue has room"
        );
        *sent += 1;
    };
    for _ in 0..100 {
        send(&mut sent);
    }
    wait(|| health.records_written() == sent);
    for round in 0..3 {
        let ballast = fill(&dir, 20 << 10);
        while !health.refuses_records() {
            send(&mut sent);
            wait(|| health.records_written() == sent || health.refuses_records());
        }
        let message = health.message().unwrap();
        assert!(message.contains("No space left on device"), "{message}");
        for _ in 0..50 {
            send(&mut sent);
        }
        fs::remove_file(ballast).unwrap();
        wait(|| health.records_written() == sent);
        wait(|| {
            // Bodies and syncs heal with the next of them.
            send(&mut sent);
            !health.is_degraded()
        });
        let sealed = || LogDir::of(&dir).record_files().unwrap().sealed.len();
        wait(|| {
            send(&mut sent);
            sealed() > 0
        });
        assert_eq!(health.records_lost(), 0, "round {round}");
    }
    wait(|| health.records_written() == sent);
    drop(senders);
    logs.stop();
    assert!(served(&LogDir::of(&dir)).into_iter().eq(0..sent));
}

/// A disk whose writes do not come back while it is shut.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    moved: Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.moved.notify_all();
    }

    fn pass(&self) {
        let shut = self.shut.lock().unwrap();
        drop(self.moved.wait_while(shut, |shut| *shut).unwrap());
    }
}

#[test]
fn a_disk_that_hangs_costs_what_finds_no_room_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = DataDir::lock(dir.path()).unwrap();
    let gate = Arc::<Gate>::default();
    let its = Arc::clone(&gate);
    let write: WriteAt = Arc::new(move |file, bytes, offset| {
        its.pass();
        std::os::unix::fs::FileExt::write_at(file, bytes, offset)
    });
    let (senders, logs) = start_with(&data_dir, &LogOptions::new(1), write).unwrap();
    let health = logs.health();
    let mut next_id = ids();
    let mut taken = Vec::new();
    let mut dropped = 0;
    for round in 0..2u64 {
        gate.set(true);
        let before = taken.len();
        // Each is an answer that does not wait, whatever becomes of its record.
        for n in 0..2 * QUEUE_RECORDS_MAX {
            let n = round << 32 | n;
            if senders[0].record(record(next_id(), n)) {
                taken.push(n);
            } else {
                dropped += 1;
            }
        }
        assert!(taken.len() - before >= usize::try_from(QUEUE_RECORDS_MAX).unwrap());
        assert_eq!(senders[0].counters().records_dropped(), dropped);
        assert!(dropped > 0, "the queue has a bound");
        wait(|| health.refuses_records());
        let message = health.message().unwrap();
        let begin = "cannot write records: the disk has not answered for ";
        assert!(message.starts_with(begin), "{message}");
        gate.set(false);
        wait(|| health.records_written() == taken.len() as u64);
        wait(|| !health.is_degraded());
    }
    assert_eq!(health.records_lost(), 0);
    drop(senders);
    logs.stop();
    assert_eq!(served(&LogDir::of(dir.path())), taken);
}

#[test]
fn a_folder_that_takes_no_sealed_files_keeps_their_journals() {
    let Some(dir) = disk() else {
        return in_a_namespace("a_folder_that_takes_no_sealed_files_keeps_their_journals");
    };
    let data_dir = DataDir::lock(&dir).unwrap();
    let log = LogDir::of(&dir);
    let now = super::writer::unix_micros();
    // Today's folder, and tomorrow's, are a read-only disk.
    let days = [0, 86_400_000_000].map(|later| log.sealed_file(1, 1, now + later));
    let days = days.map(|path| path.parent().unwrap().to_path_buf());
    for day in &days {
        fs::create_dir_all(day).unwrap();
        mount(&["-t", "tmpfs", "-o", "size=1m,ro", "none"], day);
    }
    let (senders, logs) = start(&data_dir, &options()).unwrap();
    let health = logs.health();
    let mut next_id = ids();
    let mut sent = 0;
    while health.message().is_none() {
        assert!(senders[0].record(record(next_id(), sent)));
        sent += 1;
        wait(|| health.records_written() == sent);
    }
    assert_eq!(
        health.message().unwrap(),
        "cannot seal records of the log: Read-only file system (os error 30)"
    );
    assert!(
        !health.refuses_records(),
        "records are safe in their journals"
    );
    assert!(served(&log).into_iter().eq(0..sent));
    for day in &days {
        let done = Command::new("umount").arg(day).status().unwrap();
        assert!(done.success());
    }
    wait(|| !health.is_degraded());
    wait(|| !log.record_files().unwrap().sealed.is_empty());
    drop(senders);
    logs.stop();
    assert!(served(&log).into_iter().eq(0..sent));
}
