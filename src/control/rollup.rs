//! Counts, sums and histograms by the minute, so that a chart of a month needs no look at its
//! records.
//!
//! A cell is a minute of one gateway, provider, model and key: how many records, requests and
//! outcomes, tokens by kind, cost, and histograms of duration, time to the first token and the
//! time that tidegate added. Cells are summed up from sealed records, those of exchanges without
//! logging included, and outlive the records. They lie in `data_dir/log/rollup-<date>`.
//!
//! Beside them lie cells of a second family: a minute of one gateway, one member of the metadata
//! and its value. A record adds to one for each of its members. There can be as many values as
//! there are requests, so a day tells a number of them apart and folds the rest, which is counted
//! and told to whoever asks. An exchange without logging keeps no metadata, not even until it is
//! summed up: it counts as one that has none.
//!
//! Reading order: [`totals`] and [`sketch`] (what a cell holds), [`table`] (cells as bytes),
//! [`file`], [`members`] (sums by metadata), [`store`] (who writes), [`view`] (who asks).

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::control::logs::folder::LogDir;

pub mod totals;
pub mod sketch;
pub mod ranges;
pub mod table;
pub mod file;
pub mod members;
pub mod store;
pub mod view;

use store::Rollups;

/// Time between two passes. What was sealed in between is read from its blocks, so nobody waits
/// for one.
const PASS_INTERVAL: Duration = Duration::from_secs(10);

/// The thread that keeps the rollups.
#[derive(Debug)]
pub struct RollupThread {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl RollupThread {
    /// Starts it. The caller holds the lock of the data folder.
    pub fn start(log: LogDir) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("rollup".into())
            .spawn(move || run(&log, &its))?;
        Ok(Self { shared, thread })
    }

    /// Ends it; a pass on its way ends at the next table.
    pub fn stop(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        {
            let _held = self.shared.hold();
            self.shared.wake.notify_all();
        }
        // A thread that panicked has said so; there is nothing more to do about it here.
        let _ = self.thread.join();
    }
}

impl Shared {
    fn hold(&self) -> std::sync::MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(log: &LogDir, shared: &Shared) {
    let mut rollups = None;
    let mut trouble = String::new();
    while !shared.stop.load(Ordering::Relaxed) {
        match pass(log, &mut rollups, &shared.stop) {
            Ok(()) => trouble.clear(),
            Err(error) => {
                // Said once as long as it stays the same; begun anew, since a file may be half
                // known.
                rollups = None;
                let error = error.to_string();
                if error != trouble {
                    tracing::warn!("rollups cannot be written: {error}");
                    trouble = error;
                }
            }
        }
        let held = shared.hold();
        if !shared.stop.load(Ordering::Relaxed) {
            // Whether it was woken or the time is over, the loop looks again.
            let _ = shared.wake.wait_timeout(held, PASS_INTERVAL);
        }
    }
}

fn pass(log: &LogDir, rollups: &mut Option<Rollups>, stop: &AtomicBool) -> io::Result<()> {
    let now = now_micros();
    let rollups = if let Some(rollups) = rollups {
        rollups
    } else {
        let (opened, damages) = Rollups::open(log.clone(), now)?;
        for damage in damages {
            tracing::warn!("rollups were repaired: {damage}");
        }
        rollups.insert(opened)
    };
    for damage in rollups.pass(now, stop)?.damages {
        tracing::warn!("not counted in rollups: {damage}");
    }
    Ok(())
}

fn now_micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
