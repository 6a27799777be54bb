//! Puts records into columns: a side thread makes a sealed file of each finished journal, and merges
//! small sealed files.
//!
//! A file is written under a draft's name, synced, and gets its name in one step; what it holds is
//! in its name (see [`super::folder`]). Only then do its forerunners count as gone, and a moment
//! later they are removed. A crash leaves the forerunners, or both, of which one counts, and perhaps
//! a draft that the next start clears away: each record is there once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    folder::LogDir,
    frame::Kind,
    recovery::remove_drafts,
    segment::{Damage, Found, Segment},
    writer::unix_micros,
};
use crate::handoff::log_health::{LogHealth, LogWork};

mod draft;
pub mod merge;

use draft::Draft;

/// Longest time between two passes.
const PASS_INTERVAL: Duration = Duration::from_mins(1);

/// How long a file stays after its records are in another: for a reader that listed it and opens it
/// now, and for one that follows a journal and looks for new ones a few times a second.
const GRACE: Duration = Duration::from_secs(1);

/// Wait before a pass that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

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
    let mut segment = Segment::open(path)?;
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
                    Ok(rows) => {
                        for row in rows {
                            draft.push_archived(row, number)?;
                        }
                    }
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
pub(super) struct SealQueue {
    stop: AtomicBool,
    rung: Mutex<bool>,
    wake: Condvar,
}

impl SealQueue {
    /// A journal is finished.
    pub(super) fn ring(&self) {
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

/// The thread.
#[derive(Debug)]
pub(super) struct Sealer {
    queue: Arc<SealQueue>,
    thread: JoinHandle<()>,
}

impl Sealer {
    pub(super) fn start(log: LogDir, health: Arc<LogHealth>) -> io::Result<Self> {
        let queue = Arc::new(SealQueue::default());
        let work = Work {
            log,
            health,
            queue: Arc::clone(&queue),
            going: BTreeMap::new(),
            skip: BTreeSet::new(),
        };
        let thread = thread::Builder::new()
            .name("logs-seal".into())
            .spawn(move || work.run())?;
        Ok(Self { queue, thread })
    }

    pub(super) fn queue(&self) -> Arc<SealQueue> {
        Arc::clone(&self.queue)
    }

    pub(super) fn stop(self) {
        self.queue.stop.store(true, Ordering::Relaxed);
        self.queue.ring();
        let _ = self.thread.join();
    }
}

struct Work {
    log: LogDir,
    health: Arc<LogHealth>,
    queue: Arc<SealQueue>,
    /// Superseded files, and since when they were seen to be.
    going: BTreeMap<PathBuf, Instant>,
    /// Damaged files, which are not merged.
    skip: BTreeSet<PathBuf>,
}

impl Work {
    fn run(mut self) {
        for day in self.log.days().unwrap_or_default() {
            let _ = remove_drafts(&day);
        }
        while !self.queue.is_stopped() {
            let rest = match self.step() {
                Ok(()) => {
                    self.health.succeeded(LogWork::Seal);
                    match self.going.is_empty() {
                        true => PASS_INTERVAL,
                        false => GRACE,
                    }
                }
                Err(error) => {
                    self.health.failed(LogWork::Seal, &error);
                    RETRY
                }
            };
            self.queue.wait(rest);
        }
    }

    fn step(&mut self) -> io::Result<()> {
        let stop = &self.queue.stop;
        seal_all(&self.log, &self.health, stop)?;
        while merge::merge_once(&self.log, &self.health, &mut self.skip, stop)? {
            seal_all(&self.log, &self.health, stop)?;
        }
        let superseded = self.log.record_files()?.superseded;
        let now = Instant::now();
        self.going.retain(|path, _| superseded.contains(path));
        for path in superseded {
            let since = *self.going.entry(path.clone()).or_insert(now);
            if now.duration_since(since) < GRACE {
                continue;
            }
            self.going.remove(&path);
            remove(&path, &self.health)?;
        }
        Ok(())
    }
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
