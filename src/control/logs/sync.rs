//! Brings what was written to the disk, on a thread of its own: an fdatasync takes milliseconds,
//! and the writer has ten.
//!
//! A written frame survives the end of the process at once; the sync makes it survive the end of
//! the machine, at most `log_sync_ms` later.
//!
//! Bodies leave the page cache with their sync: hardly one is ever read, and a file that grows into
//! fresh pages costs several times what one does that gets those back which others gave up.

use std::{
    fs::File,
    io, mem,
    num::NonZeroU64,
    os::unix::fs::MetadataExt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::fs::{Advice, fadvise};

use crate::handoff::log_health::{LogHealth, LogWork};

/// Files that wait for their sync.
#[derive(Debug, Default)]
pub(super) struct SyncQueue {
    state: Mutex<SyncState>,
    wake: Condvar,
    file_gone: AtomicBool,
}

#[derive(Debug, Default)]
struct SyncState {
    dirty: Vec<Dirty>,
    stop: bool,
}

#[derive(Debug)]
struct Dirty {
    file: Arc<File>,
    cached: Cached,
}

/// What becomes of a file's pages in memory once they are on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cached {
    /// They stay as long as the system finds room: the file is read soon.
    Keep,
    /// They go.
    Drop,
}

impl SyncQueue {
    /// Notes that `file` was written to.
    pub(super) fn mark(&self, file: &Arc<File>, cached: Cached) {
        let mut state = self.lock();
        let known = |dirty: &Dirty| Arc::ptr_eq(&dirty.file, file);
        if !state.dirty.iter().any(known) {
            let file = Arc::clone(file);
            state.dirty.push(Dirty { file, cached });
            self.wake.notify_one();
        }
    }

    /// Says, once, that a file being written has been deleted: its writer starts another.
    pub(super) fn take_file_gone(&self) -> bool {
        self.file_gone.load(Ordering::Relaxed) && self.file_gone.swap(false, Ordering::Relaxed)
    }

    /// Asks the thread to sync what is left and end.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, SyncState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for dirty files, gathers more for `interval`, and gives them out; `None` at the end.
    fn take(&self, interval: Duration) -> Option<Vec<Dirty>> {
        let mut state = self.lock();
        while state.dirty.is_empty() {
            if state.stop {
                return None;
            }
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let (mut state, _) = self
            .wake
            .wait_timeout_while(state, interval, |state| !state.stop)
            .unwrap_or_else(PoisonError::into_inner);
        Some(mem::take(&mut state.dirty))
    }
}

/// Starts the thread.
pub(super) fn start(
    queue: Arc<SyncQueue>,
    health: Arc<LogHealth>,
    interval: Duration,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("logs-sync".into())
        .spawn(move || {
            while let Some(files) = queue.take(interval) {
                let mut failed = false;
                for Dirty { file, cached } in files {
                    let syncing = health.begin_sync();
                    let synced = file.sync_data();
                    drop(syncing);
                    if let Err(error) = synced {
                        health.failed(LogWork::Sync, &error);
                        failed = true;
                    } else if cached == Cached::Drop {
                        drop_pages(&file);
                    }
                    // No name left: what goes into it is lost when it is closed.
                    if file.metadata().is_ok_and(|metadata| metadata.nlink() == 0) {
                        queue.file_gone.store(true, Ordering::Relaxed);
                    }
                }
                if !failed {
                    health.succeeded(LogWork::Sync);
                }
            }
        })
}

/// Takes the whole pages of a file out of memory, as far as they are on the disk. The last one is
/// still written to, and would have to be read again for that.
fn drop_pages(file: &File) {
    let page = rustix::param::page_size() as u64;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    if let Some(whole) = NonZeroU64::new(length - length % page) {
        // Advice that is not taken costs memory, and nothing else.
        let _ = fadvise(file, 0, Some(whole), Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_file_is_noticed_and_the_rest_is_synced_at_the_end() {
        let queue = Arc::new(SyncQueue::default());
        let health = Arc::new(LogHealth::default());
        let thread = start(
            Arc::clone(&queue),
            Arc::clone(&health),
            Duration::from_hours(1),
        )
        .unwrap();
        let file = Arc::new(tempfile::tempfile().unwrap()); // has no name
        queue.mark(&file, Cached::Keep);
        queue.mark(&file, Cached::Drop);
        queue.stop();
        thread.join().unwrap();
        assert!(queue.take_file_gone() && !queue.take_file_gone());
        assert!(!health.is_degraded());
    }
}
