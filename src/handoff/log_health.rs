//! How the log store is: written by the log writer, read by shards, metrics and health checks.
//!
//! Numbers only, so that no reader ever waits: a message is made of them when somebody asks.

use std::{
    fmt, io,
    sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering},
};

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
}

impl LogHealth {
    /// Says whether records cannot be written now: with `log_required` a shard refuses then.
    pub fn refuses_records(&self) -> bool {
        self.records_failing.load(Ordering::Relaxed)
    }

    /// Says whether anything fails now.
    pub fn is_degraded(&self) -> bool {
        self.refuses_records()
            || self.bodies_failing.load(Ordering::Relaxed)
            || self.sync_failing.load(Ordering::Relaxed)
            || self.seal_failing.load(Ordering::Relaxed)
    }

    /// What fails now, in plain words: `cannot write records: No space left on device (os error 28)`.
    pub fn message(&self) -> Option<String> {
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
    fn bodies_that_fail_refuse_no_records() {
        let health = LogHealth::default();
        health.failed(LogWork::WriteBodies, &io::Error::other("short"));
        assert!(health.is_degraded() && !health.refuses_records());
        assert_eq!(health.message().unwrap(), "cannot write bodies");
    }
}
