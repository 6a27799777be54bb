//! How the log store is: written by the log writer, read by shards, metrics and health checks.
//!
//! Numbers only, so that no reader ever waits: a message is made of them when somebody asks.

use std::{
    fmt, io,
    sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering},
};

use rustix::time::{ClockId, clock_gettime};

/// A write that has not come back after this time counts as failing, until it does. A write beside
/// the syncs of a busy disk was seen to take 190 ms.
const WRITE_MILLIS_MAX: u64 = 1_000;

/// The same for bringing what was written to the disk: slow disks with much to write take seconds.
const SYNC_MILLIS_MAX: u64 = 10_000;

/// What the writer was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LogWork {
    /// Appending records to the journal.
    WriteRecords = 0,
    /// Appending bodies.
    WriteBodies = 1,
    /// Starting a new file.
    OpenFile = 2,
    /// Bringing what was written to the disk.
    Sync = 3,
    /// Putting records into columns.
    Seal = 4,
}

impl LogWork {
    const ALL: [Self; 5] = [
        Self::WriteRecords,
        Self::WriteBodies,
        Self::OpenFile,
        Self::Sync,
        Self::Seal,
    ];
}

impl fmt::Display for LogWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WriteRecords => "cannot write records",
            Self::WriteBodies => "cannot write bodies",
            Self::OpenFile => "cannot start a log file",
            Self::Sync => "cannot sync the log to disk",
            Self::Seal => "cannot seal records of the log",
        })
    }
}

/// The state of the log store. Every counter rises only.
#[derive(Debug, Default)]
pub struct LogHealth {
    records_failing: AtomicBool,
    bodies_failing: AtomicBool,
    sync_failing: AtomicBool,
    seal_failing: AtomicBool,
    work: AtomicU8,
    errno: AtomicI32,
    records_written: AtomicU64,
    records_lost: AtomicU64,
    chunks_written: AtomicU64,
    chunks_lost: AtomicU64,
    frames_written: AtomicU64,
    failures: AtomicU64,
    disk_bytes: AtomicU64,
    queued: AtomicU64,
    writing: Since,
    syncing: Since,
}

/// Since when something is going on: milliseconds of a clock that only rises, 0 for nothing.
#[derive(Debug, Default)]
struct Since(AtomicU64);

impl Since {
    /// For how many milliseconds it has been going on, if that is at least `least`.
    fn late(&self, least: u64) -> Option<u64> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            since => Some(now_millis().saturating_sub(since)).filter(|millis| *millis >= least),
        }
    }
}

/// A clock to the next few milliseconds, which costs next to nothing.
fn now_millis() -> u64 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    let millis = time.tv_sec * 1_000 + time.tv_nsec / 1_000_000;
    u64::try_from(millis).unwrap_or(0).max(1)
}

/// Something of the disk's that has begun and not ended. Dropped, it has ended.
#[derive(Debug)]
pub struct Waiting<'a>(&'a Since);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.store(0, Ordering::Relaxed);
    }
}

impl LogHealth {
    /// Says whether records cannot be written now: with `log_required` a shard refuses then.
    pub fn refuses_records(&self) -> bool {
        self.records_failing.load(Ordering::Relaxed)
            || self.writing.late(WRITE_MILLIS_MAX).is_some()
    }

    /// Says whether anything fails now.
    pub fn is_degraded(&self) -> bool {
        self.refuses_records()
            || self.syncing.late(SYNC_MILLIS_MAX).is_some()
            || self.bodies_failing.load(Ordering::Relaxed)
            || self.sync_failing.load(Ordering::Relaxed)
            || self.seal_failing.load(Ordering::Relaxed)
    }

    /// What fails now, in plain words: `cannot write records: No space left on device (os error 28)`.
    pub fn message(&self) -> Option<String> {
        for (work, since, least) in [
            (LogWork::WriteRecords, &self.writing, WRITE_MILLIS_MAX),
            (LogWork::Sync, &self.syncing, SYNC_MILLIS_MAX),
        ] {
            if let Some(millis) = since.late(least) {
                let seconds = millis / 1_000;
                return Some(format!("{work}: the disk has not answered for {seconds} s"));
            }
        }
        if !self.is_degraded() {
            return None;
        }
        let number = usize::from(self.work.load(Ordering::Relaxed));
        let work = LogWork::ALL.get(number)?;
        let errno = self.errno.load(Ordering::Relaxed);
        Some(match errno {
            0 => work.to_string(),
            _ => format!("{work}: {}", io::Error::from_raw_os_error(errno)),
        })
    }

    /// Notes that a write begins: if the disk does not answer in a second, records count as
    /// failing until the write has ended.
    pub fn begin_write(&self) -> Waiting<'_> {
        Self::begin(&self.writing)
    }

    /// Notes that a sync begins.
    pub fn begin_sync(&self) -> Waiting<'_> {
        Self::begin(&self.syncing)
    }

    fn begin(since: &Since) -> Waiting<'_> {
        since.0.store(now_millis(), Ordering::Relaxed);
        Waiting(since)
    }

    /// Notes that `work` failed.
    pub fn failed(&self, work: LogWork, error: &io::Error) {
        self.work.store(work as u8, Ordering::Relaxed);
        self.errno
            .store(error.raw_os_error().unwrap_or(0), Ordering::Relaxed);
        self.flag(work).store(true, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that `work` succeeds (again).
    pub fn succeeded(&self, work: LogWork) {
        self.flag(work).store(false, Ordering::Relaxed);
    }

    fn flag(&self, work: LogWork) -> &AtomicBool {
        match work {
            LogWork::WriteRecords | LogWork::OpenFile => &self.records_failing,
            LogWork::WriteBodies => &self.bodies_failing,
            LogWork::Sync => &self.sync_failing,
            LogWork::Seal => &self.seal_failing,
        }
    }

    /// Notes a frame of `records` records that `pwrite` took.
    pub fn wrote_records(&self, records: u64, bytes: u64) {
        self.records_written.fetch_add(records, Ordering::Release);
        self.frames_written.fetch_add(1, Ordering::Relaxed);
        self.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes a chunk of bodies that `pwrite` took.
    pub fn wrote_chunk(&self, bytes: u64) {
        self.chunks_written.fetch_add(1, Ordering::Relaxed);
        self.frames_written.fetch_add(1, Ordering::Relaxed);
        self.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes records that were given up.
    pub fn lost_records(&self, records: u64) {
        self.records_lost.fetch_add(records, Ordering::Relaxed);
    }

    /// Notes a chunk that was given up.
    pub fn lost_chunk(&self) {
        self.chunks_lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes bytes on disk that were there before, or came by another way.
    pub fn add_disk_bytes(&self, bytes: u64) {
        self.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes bytes on disk that are gone.
    pub fn remove_disk_bytes(&self, bytes: u64) {
        self.disk_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Notes how many messages wait.
    pub fn set_queued(&self, messages: u64) {
        self.queued.store(messages, Ordering::Relaxed);
    }

    /// Records that `pwrite` took: they survive the end of this process, however it comes.
    pub fn records_written(&self) -> u64 {
        self.records_written.load(Ordering::Acquire)
    }

    /// Records that the writer gave up.
    pub fn records_lost(&self) -> u64 {
        self.records_lost.load(Ordering::Relaxed)
    }

    /// Chunks of bodies written.
    pub fn chunks_written(&self) -> u64 {
        self.chunks_written.load(Ordering::Relaxed)
    }

    /// Chunks of bodies that the writer gave up.
    pub fn chunks_lost(&self) -> u64 {
        self.chunks_lost.load(Ordering::Relaxed)
    }

    /// Frames written: one `pwrite` each.
    pub fn frames_written(&self) -> u64 {
        self.frames_written.load(Ordering::Relaxed)
    }

    /// Failed writes, opens and syncs.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Bytes of the log store on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    /// Messages that waited when the writer last looked.
    pub fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_until_it_is_over() {
        let health = LogHealth::default();
        assert_eq!(health.message(), None);
        health.failed(LogWork::WriteRecords, &io::Error::from_raw_os_error(28));
        assert!(health.refuses_records() && health.is_degraded());
        assert_eq!(
            health.message().unwrap(),
            "cannot write records: No space left on device (os error 28)"
        );
        health.succeeded(LogWork::WriteRecords);
        assert_eq!((health.message(), health.failures()), (None, 1));
    }

    #[test]
    fn a_disk_that_does_not_answer_fails_until_it_does() {
        let health = LogHealth::default();
        let writing = health.begin_write();
        assert!(!health.is_degraded(), "it may take its time");
        let begun = now_millis().saturating_sub(3_500);
        health.writing.0.store(begun, Ordering::Relaxed);
        assert!(health.refuses_records() && health.is_degraded());
        assert_eq!(
            health.message().unwrap(),
            "cannot write records: the disk has not answered for 3 s"
        );
        drop(writing);
        assert_eq!((health.refuses_records(), health.message()), (false, None));
        let syncing = health.begin_sync();
        health.syncing.0.store(1, Ordering::Relaxed);
        assert!(!health.refuses_records() && health.is_degraded());
        assert!(health.message().unwrap().starts_with("cannot sync"));
        drop(syncing);
        assert!(!health.is_degraded());
    }

    #[test]
    fn bodies_that_fail_refuse_no_records() {
        let health = LogHealth::default();
        health.failed(LogWork::WriteBodies, &io::Error::other("short"));
        assert!(health.is_degraded() && !health.refuses_records());
        assert_eq!(health.message().unwrap(), "cannot write bodies");
    }
}
