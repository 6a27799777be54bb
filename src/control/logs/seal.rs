//! Puts records into columns: a side thread makes a sealed file of each finished journal, merges
//! small sealed files, takes out what was deleted, and removes what is too old or too much.
//!
//! A file is written under a draft's name, synced, and gets its name in one step; what it holds is
//! in its name (see [`super::folder`]). Only then do its forerunners count as gone, and a moment
//! later they are removed. A crash leaves the forerunners, or both, of which one counts, and perhaps
//! a draft that the next start clears away: each record is there once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    compress::Rewriting,
    deletion::LogDeleter,
    folder::LogDir,
    frame::Kind,
    give_way,
    limit::RowLimits,
    recovery::remove_drafts,
    segment::{Damage, Found, Segment},
    writer::unix_micros,
};
use crate::handoff::log_health::{LogHealth, LogWork};

mod draft;
pub mod merge;
mod purge;
pub mod retention;
pub mod rewrite;

use draft::Draft;
use purge::Purges;
use retention::Retained;

/// Longest time between two passes.
const PASS_INTERVAL: Duration = Duration::from_mins(1);

/// How long a file stays after its records are in another: for a reader that listed it and opens it
/// now, and for one that follows a journal and looks for new ones a few times a second.
const GRACE: Duration = Duration::from_secs(1);

/// Wait before a pass that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A third of a usual thread's share of a core that is wanted by all: the journals that gather
/// behind it meanwhile are read as well.
const NICE: i32 = 5;

/// What sealing one journal came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Sealed {
    /// It is sealed; a sealed file of so many bytes has its records.
    Done {
        /// The sealed file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// Records in it.
        rows: u64,
    },
    /// It holds no record, and is removed.
    Empty,
    /// It is still written.
    NotYet,
}

/// Seals journal `number` at `path`, and tells what in it could not be read. A journal with damage
/// is kept beside the sealed file under another name, for somebody to look at.
pub fn seal_journal(
    log: &LogDir,
    number: u64,
    path: &Path,
    damages: &mut Vec<Damage>,
    stop: &AtomicBool,
) -> io::Result<Sealed> {
    let mut segment = Segment::open_passing(path)?;
    if segment.is_live() {
        return Ok(Sealed::NotYet);
    }
    let created = match segment.file_header()? {
        Some(header) => header.created_micros,
        None => unix_micros(),
    };
    let met = damages.len();
    let target = log.sealed_file(number, number, created);
    let mut draft = Draft::begin(&target, created)?;
    let mut offset = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(Sealed::NotYet);
        }
        match segment.next(&mut offset)? {
            Found::Frame(frame) if frame.header.kind == Kind::Rows as u8 => {
                match segment.rows(&frame)? {
                    Ok(rows) => draft.push_rows(&rows, number)?,
                    Err(damage) => damages.push(damage),
                }
            }
            Found::Frame(_) => {}
            Found::Damage(damage) => damages.push(damage),
            Found::End => break,
        }
    }
    let is_damaged = damages.len() > met;
    if draft.rows() == 0 {
        drop(draft);
        if is_damaged {
            set_aside(path)?;
        } else {
            fs::remove_file(path)?;
        }
        return Ok(Sealed::Empty);
    }
    let rows = draft.rows();
    let bytes = draft.publish()?;
    if is_damaged {
        set_aside(path)?;
    }
    Ok(Sealed::Done {
        path: target,
        bytes,
        rows,
    })
}

/// Renames a damaged journal, so that it counts as a journal no more.
fn set_aside(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    fs::rename(path, name)
}

/// Seals every finished journal.
fn seal_all(log: &LogDir, health: &LogHealth, stop: &AtomicBool) -> io::Result<()> {
    for (number, path) in &log.record_files()?.journals {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut damages = Vec::new();
        let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
        let sealed = match seal_journal(log, *number, path, &mut damages, stop) {
            // Removed by hand since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            sealed => sealed?,
        };
        for damage in damages {
            tracing::warn!("not sealed: {damage}");
        }
        match sealed {
            Sealed::Done { bytes, .. } => health.add_disk_bytes(bytes),
            Sealed::Empty => health.remove_disk_bytes(length),
            Sealed::NotYet => {}
        }
    }
    Ok(())
}

/// Says when a journal is finished; also ends the thread.
#[derive(Debug, Default)]
pub(in crate::control::logs) struct SealQueue {
    stop: AtomicBool,
    rung: Mutex<bool>,
    wake: Condvar,
}

impl SealQueue {
    /// A journal is finished.
    pub(in crate::control::logs) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_one();
    }

    fn wait(&self, longest: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) = self
            .wake
            .wait_timeout_while(rung, longest, |rung| !*rung)
            .unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What the thread needs to begin.
#[derive(Debug)]
pub(super) struct SealParts {
    pub(super) log: LogDir,
    pub(super) health: Arc<LogHealth>,
    pub(super) queue: Arc<SealQueue>,
    pub(super) deleter: Arc<LogDeleter>,
    pub(super) limits: Arc<RowLimits>,
    pub(super) rewriting: Rewriting,
    pub(super) retention: Arc<Retained>,
}

impl SealParts {
    /// What it needs for the folder `log` alone.
    #[cfg(test)]
    pub(super) fn of(log: &LogDir) -> Self {
        Self {
            log: log.clone(),
            health: Arc::default(),
            queue: Arc::default(),
            deleter: Arc::new(LogDeleter::new(log.clone())),
            limits: Arc::default(),
            rewriting: Arc::default(),
            retention: Arc::default(),
        }
    }
}

/// The thread.
#[derive(Debug)]
pub(super) struct Sealer {
    queue: Arc<SealQueue>,
    thread: JoinHandle<()>,
}

impl Sealer {
    pub(super) fn start(parts: SealParts) -> io::Result<Self> {
        let queue = Arc::clone(&parts.queue);
        let work = Work::new(parts);
        let thread = thread::Builder::new()
            .name("logs-seal".into())
            .spawn(move || {
                give_way(NICE);
                work.run();
            })?;
        Ok(Self { queue, thread })
    }

    pub(super) fn stop(self) {
        self.queue.stop.store(true, Ordering::Relaxed);
        self.queue.ring();
        let _ = self.thread.join();
    }
}

/// What the thread does, step by step.
pub(super) struct Work {
    parts: SealParts,
    /// Superseded files, and since when they were seen to be.
    going: BTreeMap<PathBuf, Instant>,
    /// Damaged files, which are not merged.
    skip: BTreeSet<PathBuf>,
    purges: Purges,
}

impl Work {
    pub(super) fn new(parts: SealParts) -> Self {
        Self {
            purges: Purges::new(Arc::clone(&parts.rewriting)),
            parts,
            going: BTreeMap::new(),
            skip: BTreeSet::new(),
        }
    }

    fn run(mut self) {
        for day in self.parts.log.days().unwrap_or_default() {
            let _ = remove_drafts(&day);
        }
        while !self.parts.queue.is_stopped() {
            let step = catch_unwind(AssertUnwindSafe(|| self.step()));
            // What was half done is a draft, which is removed, or stands as it is.
            let step = step.unwrap_or_else(|_| Err(io::Error::other("the sealer panicked")));
            let rest = match step {
                Ok(()) => {
                    self.parts.health.succeeded(LogWork::Seal);
                    let rest = if self.going.is_empty() {
                        PASS_INTERVAL
                    } else {
                        GRACE
                    };
                    self.parts.limits.due().map_or(rest, |due| due.min(rest))
                }
                Err(error) => {
                    self.parts.health.failed(LogWork::Seal, &error);
                    RETRY
                }
            };
            self.parts.queue.wait(rest);
        }
    }

    /// Does what is due, one thing after another. What fails does not keep the rest from being
    /// done: on a full disk nothing can be sealed, but old files can go.
    pub(super) fn step(&mut self) -> io::Result<()> {
        let SealParts {
            log,
            health,
            queue,
            deleter,
            limits,
            rewriting: _,
            retention,
        } = &self.parts;
        let stop = &queue.stop;
        let sealed = seal_all(log, health, stop);
        let merged = merge_all(&self.parts, &mut self.skip);
        let removed = remove_superseded(log, health, &mut self.going);
        let limited = limits.step(log, deleter);
        let purged = self.purges.step(log, deleter, health, stop);
        let retained = retention.get().step(log, unix_micros(), health);
        sealed
            .and(merged)
            .and(removed)
            .and(limited)
            .and(purged)
            .and(retained)
    }
}

/// Makes every merge that is due; journals that are finished meanwhile come first.
fn merge_all(parts: &SealParts, skip: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let (log, health, stop) = (&parts.log, &parts.health, &parts.queue.stop);
    let bytes_max = parts.retention.get().merged_bytes_max();
    while merge::merge_once(log, health, skip, bytes_max, stop)? {
        seal_all(log, health, stop)?;
    }
    Ok(())
}

/// Removes files whose records are in others for some time. `going` says since when they were seen
/// to be.
fn remove_superseded(
    log: &LogDir,
    health: &LogHealth,
    going: &mut BTreeMap<PathBuf, Instant>,
) -> io::Result<()> {
    let superseded = log.record_files()?.superseded;
    let now = Instant::now();
    going.retain(|path, _| superseded.contains(path));
    for path in superseded {
        let since = *going.entry(path.clone()).or_insert(now);
        if now.duration_since(since) >= GRACE {
            going.remove(&path);
            remove(&path, health)?;
        }
    }
    Ok(())
}

/// Removes a file, which may be gone already.
pub(super) fn remove(path: &Path, health: &LogHealth) -> io::Result<()> {
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    match fs::remove_file(path) {
        Ok(()) => {
            health.remove_disk_bytes(length);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Brings a folder's names to the disk.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
