//! Takes deleted records out of the files, with their bodies, and forgets the deletions.
//!
//! Bodies go first: the records are what tells whose they are. A file of which nothing is left is
//! removed. A deletion is forgotten when no file holds its records any more, and none can come.

use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    sync::{PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

use super::{
    draft::Draft,
    merge::{Copied, copy_file, has},
    remove,
};
use crate::{
    control::logs::{
        block::BlockError,
        compress::{Compressed, Rewriting, Rewritten, remove_bodies},
        deletion::{Deleted, LogDeleter, read_files},
        folder::LogDir,
        segment::Segment,
        snapshot::{BlockRef, LogReader, LogSnapshot},
        writer::unix_micros,
    },
    handoff::log_health::LogHealth,
};

/// Longest time that a deleted record stays in its file, once that is sealed and its bodies' file
/// is finished too.
const INTERVAL: Duration = Duration::from_hours(1);

/// Shortest time between two looks at which files are mostly deleted: where the oldest records go
/// all the time, there is something new at every look.
const LOOK_INTERVAL: Duration = Duration::from_mins(1);

/// When purges are due.
#[derive(Debug)]
pub(super) struct Purges {
    rewriting: Rewriting,
    started: Instant,
    last: Option<Instant>,
    looked: Option<Instant>,
    /// The deletion files at the last look, and their lengths.
    seen: Vec<(PathBuf, u64)>,
}

impl Purges {
    pub(super) fn new(rewriting: Rewriting) -> Self {
        Self {
            rewriting,
            started: Instant::now(),
            last: None,
            looked: None,
            seen: Vec::new(),
        }
    }

    /// Makes a purge if one is due: every hour of all files, and after new deletions of those that
    /// hold more that is deleted than that is not.
    pub(super) fn step(
        &mut self,
        log: &LogDir,
        deleter: &LogDeleter,
        health: &LogHealth,
        stop: &AtomicBool,
    ) -> io::Result<()> {
        let seen = deleter.noted()?;
        if seen.is_empty() {
            return Ok(());
        }
        let all = match self.last {
            Some(last) => last.elapsed() >= INTERVAL,
            None => self.started.elapsed() >= INTERVAL || is_old(&seen),
        };
        let is_early = |looked: Instant| looked.elapsed() < LOOK_INTERVAL;
        if !all && (seen == self.seen || self.looked.is_some_and(is_early)) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let worth = if all { Worth::Anything } else { Worth::Half };
        {
            let _one = self
                .rewriting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            purge(log, deleter, health, worth, unix_micros(), stop)?;
        }
        if all {
            self.last = Some(Instant::now());
        }
        self.seen = seen;
        Ok(())
    }
}

/// Says whether deletions wait since before the start: a server that is often started purges, too.
fn is_old(noted: &[(PathBuf, u64)]) -> bool {
    noted.iter().any(|(path, _)| {
        let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
        changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|since| since >= INTERVAL))
    })
}

/// From how much on a file is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// A single deleted record.
    Anything,
    /// Half of the file.
    Half,
}

/// Takes what is deleted out of the files, at `now_micros` (Unix epoch).
pub(super) fn purge(
    log: &LogDir,
    deleter: &LogDeleter,
    health: &LogHealth,
    worth: Worth,
    now_micros: u64,
    stop: &AtomicBool,
) -> io::Result<()> {
    // What is deleted meanwhile waits for the next purge.
    let noted = match worth {
        Worth::Anything => deleter.finish()?,
        Worth::Half => deleter.noted()?,
    };
    let read = read_files(noted.iter().map(|(path, _)| path.clone()))?;
    let (deleted, damages) = (read.deleted, read.damages);
    let snapshot = LogReader::new(log.clone()).snapshot()?;
    let files = log.record_files()?;
    if !files.superseded.is_empty() {
        // Removing a file would bring back what it superseded.
        return Ok(());
    }
    // Whether every file was gone through and nothing of what is deleted is left in any.
    let mut is_over = damages.is_empty() && !holds_unsealed(&snapshot, &deleted);
    let mut blocks: BTreeMap<u64, Vec<BlockRef<'_>>> = BTreeMap::new();
    for at in snapshot.blocks().filter(|at| at.position().sealed) {
        blocks.entry(at.position().first).or_default().push(at);
    }
    for file in &files.sealed {
        let blocks = blocks.get(&file.first).map_or(&[][..], Vec::as_slice);
        let Ok((ids, rows)) = hidden(blocks, &deleted) else {
            // What cannot be read is not rewritten.
            is_over = false;
            continue;
        };
        if ids.is_empty() {
            continue;
        }
        if worth == Worth::Half && 2 * (ids.len() as u64) < rows {
            is_over = false;
            continue;
        }
        if !purge_bodies(log, &ids, health)? {
            is_over = false;
            continue;
        }
        let mut segment = Segment::open_sealed(&file.path)?;
        let before = segment.length()?;
        let created = segment
            .file_header()?
            .map_or(0, |header| header.created_micros);
        let mut draft = Draft::begin(&file.path, created)?;
        match copy_file(&mut segment, &mut draft, &deleted, stop)? {
            Copied::Whole => {}
            Copied::Stopped => return Ok(()),
            Copied::Damaged(_) => {
                is_over = false;
                continue;
            }
        }
        if draft.rows() == 0 {
            drop(draft);
            remove(&file.path, health)?;
        } else {
            health.add_disk_bytes(draft.publish()?);
            health.remove_disk_bytes(before);
        }
    }
    if is_over && worth == Worth::Anything {
        deleter.forget(&noted, &deleted, now_micros)?;
    }
    Ok(())
}

/// The ids of deleted records in the blocks of a file, sorted, and how many rows these have in all.
fn hidden(blocks: &[BlockRef<'_>], deleted: &Deleted) -> Result<(Vec<[u8; 16]>, u64), BlockError> {
    let (mut ids, mut rows) = (Vec::new(), 0);
    for at in blocks {
        rows += at.rows();
        let open = at.open().map_err(|_| BlockError::Columns)?;
        let block = open.block()?;
        let Some(mask) = deleted.mask(&block)? else {
            continue;
        };
        let gone = block.ids()?.iter().enumerate();
        ids.extend(gone.filter(|(row, _)| !has(&mask, *row)).map(|(_, id)| *id));
    }
    ids.sort_unstable();
    Ok((ids, rows))
}

/// Says whether an unsealed journal holds deleted records, or cannot be read.
fn holds_unsealed(snapshot: &LogSnapshot, deleted: &Deleted) -> bool {
    snapshot
        .blocks()
        .filter(|at| !at.position().sealed)
        .any(|at| {
            let Ok(open) = at.open() else {
                return true;
            };
            let mask = open.block().and_then(|block| deleted.mask(&block));
            !matches!(mask, Ok(None))
        })
}

/// Removes the bodies of `ids`; `false` if a file that is still written holds some of them.
fn purge_bodies(log: &LogDir, ids: &[[u8; 16]], health: &LogHealth) -> io::Result<bool> {
    let mut is_done = true;
    let mut done = Compressed::default();
    for (_, path) in log.body_files()? {
        match remove_bodies(&path, ids, &mut done) {
            Ok(Rewritten::NotYet) => is_done = false,
            Ok(Rewritten::Done | Rewritten::Never) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    health.add_disk_bytes(done.bytes_out);
    health.remove_disk_bytes(done.bytes_in);
    Ok(is_done)
}

#[cfg(test)]
mod tests;
