//! The log store: records and bodies on disk, from the shards' queue to the answer of a question.
//!
//! ```text
//! data_dir/lock                    one server at a time
//! data_dir/log/journal-<n>.seg     row frames: records that are not sealed yet
//! data_dir/log/<date>/<a>-<b>.seg  blocks of columns: the records of journals a to b
//! data_dir/log/<date>/<n>.body     body frames, rewritten compressed later
//! data_dir/log/deleted-<n>.seg     ids of deleted records that are still in files
//! ```
//!
//! Reading order: [`frame`] (the format), [`block`] (columns), [`folder`] (the names), [`segment`]
//! (one file), [`recovery`] (what a start does), `writer` and `sync` (the threads), [`seal`] and
//! [`compress`] (two more); then the readers, which need no server: [`snapshot`], [`query`],
//! [`filter`], [`bodies`].

use std::{collections::BTreeMap, io, sync::Arc, thread::JoinHandle, time::Duration};

use crate::{
    control::data_dir::DataDir,
    handoff::{
        log_health::LogHealth,
        log_queue::{LogSender, LogStop, log_queue},
    },
};

pub mod frame;
pub mod block;
pub mod folder;
pub mod segment;
pub mod recovery;
mod writer;
mod sync;
pub mod seal;
pub mod compress;
pub mod deletion;
pub mod limit;
pub mod snapshot;
pub mod query;
pub mod filter;
pub mod bodies;

use compress::{Compressor, Rewriting};
use deletion::LogDeleter;
use limit::{RowLimit, RowLimits};
use recovery::Recovery;
use seal::{
    SealParts, SealQueue, Sealer,
    retention::{Retained, Retention},
};
use segment::{LogDir, WriteAt};
use sync::SyncQueue;
use writer::WriterParts;

/// How the log store of a server runs.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// How many shards send records.
    pub shards: usize,
    /// Time between two syncs to disk (`log_sync_ms`).
    pub sync: Duration,
    /// Age at which bodies are compressed (`log_compress_after`); `None` never.
    pub compress_after: Option<Duration>,
    /// Age at which records are sealed although they fill no block.
    pub seal_after: Duration,
    /// How long records and bodies stay (`log_retention`, `log_bytes_max`).
    pub retention: Retention,
    /// How many records a gateway may have (`log_management`), for those that have a limit.
    pub row_limits: BTreeMap<String, RowLimit>,
}

impl LogOptions {
    /// The defaults for `shards` shards.
    pub fn new(shards: usize) -> Self {
        Self {
            shards,
            sync: Duration::from_millis(200),
            compress_after: Some(Duration::from_hours(1)),
            seal_after: SEAL_AFTER,
            retention: Retention::default(),
            row_limits: BTreeMap::new(),
        }
    }
}

/// Records that fill no block are sealed after this time. Until then they are read row by row, which
/// for so few of them costs nothing.
const SEAL_AFTER: Duration = Duration::from_mins(5);

/// Why the log store cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogStartError {
    /// Its folder or the files in it cannot be used.
    #[error("cannot use the log folder {path}: {source}")]
    Folder {
        /// The folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A thread or its bell cannot be made.
    #[error("cannot start the log writer: {0}")]
    Thread(#[source] io::Error),
}

/// The threads of the log store.
#[derive(Debug)]
pub struct Logs {
    health: Arc<LogHealth>,
    stop: LogStop,
    sync: Arc<SyncQueue>,
    compressor: Option<Compressor>,
    sealer: Sealer,
    deleter: Arc<LogDeleter>,
    limits: Arc<RowLimits>,
    retained: Arc<Retained>,
    writer: JoinHandle<()>,
    syncer: JoinHandle<()>,
    recovery: Recovery,
}

/// Recovers the log store and starts its threads. Gives one sender for each shard.
pub fn start(
    data_dir: &DataDir,
    options: &LogOptions,
) -> Result<(Vec<LogSender>, Logs), LogStartError> {
    start_with(data_dir, options, segment::write_at())
}

fn start_with(
    data_dir: &DataDir,
    options: &LogOptions,
    write_at: WriteAt,
) -> Result<(Vec<LogSender>, Logs), LogStartError> {
    let log = LogDir::of(data_dir.path());
    let folder_error = |source| LogStartError::Folder {
        path: log.path().display().to_string(),
        source,
    };
    let recovery = recovery::recover(&log).map_err(folder_error)?;
    for cut in &recovery.cut {
        tracing::warn!("a torn end was cut off: {cut}");
    }
    for damage in &recovery.damages {
        tracing::warn!("{damage}");
    }
    let (senders, receiver) = log_queue(options.shards).map_err(LogStartError::Thread)?;
    let stop = receiver.stop_handle();
    let health = Arc::new(LogHealth::default());
    health.add_disk_bytes(recovery.disk_bytes);
    let sync = Arc::new(SyncQueue::default());
    let seal = Arc::new(SealQueue::default());
    let deleter = Arc::new(LogDeleter::new(log.clone()));
    let limits = Arc::new(RowLimits::new(&options.row_limits, Arc::clone(&seal)));
    let retained = Arc::new(Retained::new(options.retention, Arc::clone(&seal)));
    let rewriting = Rewriting::default();
    let sealer = Sealer::start(SealParts {
        log: log.clone(),
        health: Arc::clone(&health),
        queue: Arc::clone(&seal),
        deleter: Arc::clone(&deleter),
        limits: Arc::clone(&limits),
        rewriting: Arc::clone(&rewriting),
        retention: Arc::clone(&retained),
    })
    .map_err(LogStartError::Thread)?;
    let writer = writer::start(WriterParts {
        log: log.clone(),
        receiver,
        health: Arc::clone(&health),
        sync: Arc::clone(&sync),
        seal,
        seal_after: options.seal_after,
        limits: Arc::clone(&limits),
        write_at,
        next_journal: recovery.next_journal,
        next_body_file: recovery.next_body_file,
    })
    .map_err(folder_error)?;
    let syncer = sync::start(Arc::clone(&sync), Arc::clone(&health), options.sync)
        .map_err(LogStartError::Thread)?;
    let compressor = options
        .compress_after
        .map(|after| Compressor::start(log.clone(), after, Arc::clone(&health), rewriting))
        .transpose()
        .map_err(LogStartError::Thread)?;
    let logs = Logs {
        health,
        stop,
        sync,
        compressor,
        sealer,
        deleter,
        limits,
        retained,
        writer,
        syncer,
        recovery,
    };
    Ok((senders, logs))
}

impl Logs {
    /// How the log store is, for shards, metrics and health checks.
    pub fn health(&self) -> &Arc<LogHealth> {
        &self.health
    }

    /// Deletes records, for whoever is asked to.
    pub fn deleter(&self) -> &Arc<LogDeleter> {
        &self.deleter
    }

    /// How many records each gateway may have; can be changed while the server runs.
    pub fn row_limits(&self) -> &Arc<RowLimits> {
        &self.limits
    }

    /// How long records and bodies stay; can be changed while the server runs.
    pub fn retained(&self) -> &Arc<Retained> {
        &self.retained
    }

    /// What the start found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Writes and syncs all that was sent, and ends the threads. To be called when the shards
    /// have ended: what they send later is lost.
    pub fn stop(self) {
        self.stop.stop();
        // A thread that panicked has said so; there is nothing more to do about it here.
        let _ = self.writer.join();
        self.sync.stop();
        let _ = self.syncer.join();
        self.sealer.stop();
        if let Some(compressor) = self.compressor {
            compressor.stop();
        }
    }
}

/// Has the calling thread leave the processor to those that serve requests and write records, as
/// far as they want it. Work that is done later is not lost. `nice` is what the system calls it:
/// 0 is the usual, 19 the least.
fn give_way(nice: i32) {
    // Where it is not allowed, the thread is like the others.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice);
}

#[cfg(test)]
mod tests;
