//! Removes the oldest files: those that are too old, and as many as keep the log within its bytes.
//!
//! Whole files go, never parts of one. So a record outlives its age by as much as its file's newest
//! record is younger, which is a day at most; and of bodies and records of one time the bodies,
//! whose files are shorter, may go some minutes earlier.

use std::{
    fs, io, mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use rusqlite::Connection;

use super::{SealQueue, remove};
use crate::{
    config::Config,
    control::{
        logs::{
            folder::{LogDir, RecordFiles},
            frame::Kind,
            segment::{Found, Segment},
            snapshot::LogReader,
        },
        store::{Store, StoreError, marks},
    },
    domain::id::RequestId,
    handoff::log_health::LogHealth,
};

/// What may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// How old records and bodies may become (`log_retention`); `None`: as old as they like.
    pub age: Option<Duration>,
    /// How many bytes the log may have (`log_bytes_max`); `None`: as many as the disk.
    pub bytes: Option<u64>,
}

/// What may stay now; can be changed while the server runs.
#[derive(Debug, Default)]
pub struct Retained {
    now: Mutex<Retention>,
    /// Woken by a change.
    seal: Arc<SealQueue>,
}

impl Retained {
    pub(in crate::control::logs) fn new(retention: Retention, seal: Arc<SealQueue>) -> Self {
        Self {
            now: Mutex::new(retention),
            seal,
        }
    }

    /// Changes what may stay; what may not any more goes at once.
    pub fn set(&self, retention: Retention) {
        if mem::replace(&mut *self.lock(), retention) != retention {
            self.seal.ring();
        }
    }

    /// What may stay.
    pub fn get(&self) -> Retention {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Retention> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Retention {
    /// What a configuration says.
    pub fn of(config: &Config) -> Self {
        Self {
            age: (!config.log_retention.is_zero()).then_some(config.log_retention),
            bytes: (config.log_bytes_max > 0).then_some(config.log_bytes_max),
        }
    }

    /// Longest file that a merge may make: removing one must not remove much of what may stay.
    pub(super) fn merged_bytes_max(&self) -> u64 {
        self.bytes.map_or(u64::MAX, |bytes| bytes / 16)
    }

    /// Removes what must not stay at `now_micros` (Unix epoch), with what people said of it.
    pub(super) fn step(&self, log: &LogDir, now_micros: u64, health: &LogHealth) -> io::Result<()> {
        if self.age.is_none() && self.bytes.is_none() {
            return Ok(());
        }
        let files = log.record_files()?;
        if !files.superseded.is_empty() {
            // Removing a file would bring back what it superseded; the next look finds it gone.
            return Ok(());
        }
        let before = files.sealed.len();
        let removed = self.remove(log, files, now_micros, health);
        // Whatever kept the rest from going.
        if log.record_files()?.sealed.len() < before {
            forget_marks(log, now_micros)?;
        }
        removed
    }

    fn remove(
        &self,
        log: &LogDir,
        files: RecordFiles,
        now_micros: u64,
        health: &LogHealth,
    ) -> io::Result<()> {
        let mut sealed: Vec<PathBuf> = files.sealed.into_iter().map(|file| file.path).collect();
        let mut bodies: Vec<PathBuf> = log
            .body_files()?
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        if let Some(age) = self.age {
            let age_micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            let cutoff = now_micros.saturating_sub(age_micros);
            remove_older(&mut sealed, cutoff, health)?;
            remove_older(&mut bodies, cutoff, health)?;
            remove_set_aside(log, age, health)?;
        }
        if let Some(bytes) = self.bytes {
            remove_beyond(&sealed, &bodies, bytes, health)?;
        }
        let today = log.sealed_file(0, 0, now_micros);
        for day in log.days()? {
            if Some(day.as_path()) != today.parent() {
                // Fails, as it should, unless the folder is empty.
                let _ = fs::remove_dir(day);
            }
        }
        Ok(())
    }
}

/// How far the clock of an id and of its record may differ: a clock that was set back.
const CLOCK_SLACK_MICROS: u64 = 2_000_000;

/// Has `control.db` forget the marks of records that are in no file any more.
fn forget_marks(log: &LogDir, now_micros: u64) -> io::Result<()> {
    let snapshot = LogReader::new(log.clone()).snapshot()?;
    let least = snapshot.blocks().map(|at| *at.micros().start()).min();
    let least = least.unwrap_or(now_micros);
    let id = RequestId::below(least.saturating_sub(CLOCK_SLACK_MICROS) / 1_000);
    marked(log, |connection| marks::delete_below(connection, id))
}

/// Changes marks in the `control.db` beside the log, if there is one.
pub(in crate::control::logs) fn marked(
    log: &LogDir,
    change: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> io::Result<()> {
    let Some(data_dir) = log.path().parent() else {
        return Ok(());
    };
    let changed = Store::open_if_there(data_dir).and_then(|store| match store {
        Some(mut store) => store.change(|connection| Ok::<_, StoreError>(change(connection)?)),
        None => Ok(()),
    });
    changed.map_err(io::Error::other)
}

/// Removes files, oldest first, up to the first that holds something from `cutoff` on.
fn remove_older(files: &mut Vec<PathBuf>, cutoff: u64, health: &LogHealth) -> io::Result<()> {
    while let Some(path) = files.first() {
        match newest(path)? {
            Some(newest) if newest < cutoff => remove(path, health)?,
            Some(_) | None => break,
        }
        files.remove(0);
    }
    Ok(())
}

/// The time of the newest exchange in a file; `None` for one that is still written, or gone. A
/// file that tells no time counts as written when it was last changed.
fn newest(path: &Path) -> io::Result<Option<u64>> {
    let mut segment = match Segment::open(path) {
        Ok(segment) => segment,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if segment.is_live() {
        return Ok(None);
    }
    let mut newest = None;
    let mut offset = 0;
    loop {
        match segment.next(&mut offset)? {
            Found::Frame(frame) if frame.header.kind != Kind::FileHeader as u8 => {
                newest = newest.max(Some(frame.header.max_micros));
            }
            Found::Frame(_) | Found::Damage(_) => {}
            Found::End => break,
        }
    }
    if newest.is_none() {
        let changed = fs::metadata(path)?.modified()?;
        let since = changed.duration_since(SystemTime::UNIX_EPOCH);
        newest = Some(u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(newest)
}

/// Removes damaged journals that were set aside before `age`.
fn remove_set_aside(log: &LogDir, age: Duration, health: &LogHealth) -> io::Result<()> {
    for entry in fs::read_dir(log.path())? {
        let entry = entry?;
        let is_old = || {
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|since| since > age))
        };
        if entry.file_name().to_string_lossy().ends_with(".damaged") && is_old() {
            remove(&entry.path(), health)?;
        }
    }
    Ok(())
}

/// Removes the oldest files until all have `bytes` together. Journals and the newest body file,
/// which are being written, stay.
fn remove_beyond(
    sealed: &[PathBuf],
    bodies: &[PathBuf],
    bytes: u64,
    health: &LogHealth,
) -> io::Result<()> {
    let mut total = health.disk_bytes();
    let (mut sealed, mut bodies) = (sealed.iter().peekable(), bodies.iter().peekable());
    while total > bytes {
        let record_time = begun(sealed.peek())?;
        let body_time = begun(bodies.peek())?;
        let next = match (record_time, body_time) {
            (Some(record), Some(body)) if record > body => bodies.next(),
            (Some(_), _) => sealed.next(),
            (None, Some(_)) => bodies.next(),
            (None, None) => None,
        };
        let Some(path) = next else {
            break;
        };
        total = total.saturating_sub(fs::metadata(path).map_or(0, |metadata| metadata.len()));
        remove(path, health)?;
    }
    Ok(())
}

/// When a file was begun; `None` if there is none, or it is still written.
fn begun(path: Option<&&PathBuf>) -> io::Result<Option<u64>> {
    let Some(path) = path else {
        return Ok(None);
    };
    let mut segment = match Segment::open(path) {
        Ok(segment) => segment,
        // Removed by hand a moment ago: as good as the oldest.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(0)),
        Err(error) => return Err(error),
    };
    if segment.is_live() {
        return Ok(None);
    }
    let header = segment.file_header()?;
    Ok(Some(header.map_or(0, |header| header.created_micros)))
}

#[cfg(test)]
mod tests;
