//! Merges small sealed files, so that a store of years has hundreds of files, and its blocks are
//! full.
//!
//! Files are of three sizes: small, middle and large. Eight neighbours of one size that are not
//! large become one, which makes one of the next size; so a record is copied two or three times in
//! all. What is left of a day when it is over becomes one file, or as few as their size allows.

use std::{
    collections::BTreeSet,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use super::draft::Draft;
use crate::{
    control::logs::{
        block::{BLOCK_ROWS, Block, BlockError, Verified},
        deletion::Deleted,
        folder::{LogDir, RecordFiles, SealedName},
        frame::Kind,
        segment::{Damage, Found, FrameAt, Segment},
        writer::unix_micros,
    },
    handoff::log_health::LogHealth,
};

/// Below this a file is small: eight blocks of usual records.
const SMALL_BYTES: u64 = 16 << 20;

/// Below this, but not small, it is middle: a merge makes at most half a GiB of eight of them.
const MIDDLE_BYTES: u64 = 64 << 20;

/// So many neighbours of one size are merged.
const FAN: usize = 8;

/// A block with fewer rows is taken apart when it is copied, so that it fills up with others.
const FULL_ROWS: usize = BLOCK_ROWS / 2;

/// Merges one run of files if there is one that is due. Says whether there was. Files in `skip`
/// stay as they are, and those found damaged are added to it. No merge is longer than `bytes_max`.
pub(super) fn merge_once(
    log: &LogDir,
    health: &LogHealth,
    skip: &mut BTreeSet<PathBuf>,
    bytes_max: u64,
    stop: &AtomicBool,
) -> io::Result<bool> {
    let files = log.record_files()?;
    let today = log.sealed_file(0, 0, unix_micros());
    let Some(run) = due(&files, today.parent(), skip, bytes_max) else {
        return Ok(false);
    };
    let Some(run) = files.sealed.get(run) else {
        return Ok(false);
    };
    match merge(log, run, stop)? {
        Merged::Done(bytes) => {
            health.add_disk_bytes(bytes);
            Ok(true)
        }
        Merged::Stopped => Ok(false),
        Merged::Damaged(damage) => {
            // It stays apart from now on, and whole: nothing of it is thrown away.
            tracing::warn!("not merged: {damage}");
            skip.insert(damage.path);
            Ok(false)
        }
    }
}

/// The run of files to be merged next.
fn due(
    files: &RecordFiles,
    today: Option<&Path>,
    skip: &BTreeSet<PathBuf>,
    bytes_max: u64,
) -> Option<Range<usize>> {
    let mut start = 0;
    while let Some(file) = files.sealed.get(start) {
        let run = neighbours(files, start, skip);
        let is_over = file.path.parent() != today;
        let lengths: Vec<u64> = files.sealed[run.clone()]
            .iter()
            .map(|file| fs::metadata(&file.path).map_or(u64::MAX, |metadata| metadata.len()))
            .collect();
        if let Some(within) = choose(&lengths, is_over, bytes_max) {
            return Some(run.start + within.start..run.start + within.end);
        }
        start = run.end;
    }
    None
}

/// Files from `start` on that may become one: of one day, with no unsealed journal between them.
fn neighbours(files: &RecordFiles, start: usize, skip: &BTreeSet<PathBuf>) -> Range<usize> {
    let mut end = start + 1;
    while let (Some(last), Some(next)) = (files.sealed.get(end - 1), files.sealed.get(end)) {
        let between = |(number, _): &(u64, _)| last.last < *number && *number < next.first;
        let is_apart = last.path.parent() != next.path.parent()
            || files.journals.iter().any(between)
            || skip.contains(&last.path)
            || skip.contains(&next.path);
        if is_apart {
            break;
        }
        end += 1;
    }
    start..end
}

/// Chooses neighbours by their lengths.
fn choose(lengths: &[u64], is_over: bool, bytes_max: u64) -> Option<Range<usize>> {
    let size = |length: u64| match length {
        0..SMALL_BYTES => 0,
        SMALL_BYTES..MIDDLE_BYTES => 1,
        _ => 2,
    };
    for wanted in 0..2 {
        let alike = |run: &[u64]| {
            run.iter().all(|length| size(*length) == wanted) && run.iter().sum::<u64>() <= bytes_max
        };
        if let Some(start) = lengths.windows(FAN).position(alike) {
            return Some(start..start + FAN);
        }
    }
    if !is_over {
        return None;
    }
    (0..lengths.len()).find_map(|start| {
        let mut sum = 0u64;
        let fitting = lengths[start..].iter().take_while(|length| {
            sum = sum.saturating_add(**length);
            sum <= MIDDLE_BYTES.min(bytes_max)
        });
        let count = fitting.count();
        (count > 1).then_some(start..start + count)
    })
}

/// What a merge came to.
#[derive(Debug)]
pub enum Merged {
    /// There is one file now, of so many bytes.
    Done(u64),
    /// It was to end before its end.
    Stopped,
    /// A block could not be read; everything is as it was.
    Damaged(Damage),
}

/// Makes one file of `run`.
pub fn merge(log: &LogDir, run: &[SealedName], stop: &AtomicBool) -> io::Result<Merged> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return Ok(Merged::Stopped);
    };
    let created = match Segment::open_sealed(&first.path)?.file_header()? {
        Some(header) => header.created_micros,
        None => unix_micros(),
    };
    let name = log.sealed_file(first.first, last.last, created);
    // In the same folder, whatever the first file's header says.
    let target = first
        .path
        .with_file_name(name.file_name().unwrap_or_default());
    let mut draft = Draft::begin(&target, created)?;
    for file in run {
        let mut segment = Segment::open_sealed_passing(&file.path)?;
        match copy_file(&mut segment, &mut draft, &Deleted::default(), stop)? {
            Copied::Whole => {}
            Copied::Stopped => return Ok(Merged::Stopped),
            Copied::Damaged(damage) => return Ok(Merged::Damaged(damage)),
        }
    }
    draft.publish().map(Merged::Done)
}

/// How far a file was copied.
#[derive(Debug)]
pub(super) enum Copied {
    Whole,
    Stopped,
    Damaged(Damage),
}

/// Copies the rows of a file that are not deleted.
pub(super) fn copy_file(
    segment: &mut Segment,
    draft: &mut Draft,
    deleted: &Deleted,
    stop: &AtomicBool,
) -> io::Result<Copied> {
    let mut offset = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(Copied::Stopped);
        }
        let frame = match segment.next(&mut offset)? {
            Found::Frame(frame) if frame.header.kind == Kind::Columns as u8 => frame,
            Found::Frame(_) => continue,
            Found::Damage(damage) => return Ok(Copied::Damaged(damage)),
            Found::End => return Ok(Copied::Whole),
        };
        if let Some(damage) = copy_block(segment, &frame, draft, deleted)? {
            return Ok(Copied::Damaged(damage));
        }
    }
}

/// Copies one block, whole or row by row. Gives the damage that keeps it from being copied.
fn copy_block(
    segment: &mut Segment,
    frame: &FrameAt,
    draft: &mut Draft,
    deleted: &Deleted,
) -> io::Result<Option<Damage>> {
    let damage = segment.damage(frame, BlockError::Columns);
    let payload = match segment.payload(frame)? {
        Ok(payload) => payload,
        Err(damage) => return Ok(Some(damage)),
    };
    let verified = Verified::default();
    let opened = Block::open(&frame.header, payload, &verified)
        .and_then(|block| Ok((block, deleted.mask(&block)?)));
    let (block, mask) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            return Ok(Some(Damage {
                what: error.into(),
                ..damage
            }));
        }
    };
    if mask.is_none() && frame.header.rows as usize >= FULL_ROWS {
        draft.copy(&frame.header, payload)?;
        return Ok(None);
    }
    match copy_rows(&block, mask.as_deref(), draft) {
        Ok(copied) => copied.map(|()| None),
        Err(error) => Ok(Some(Damage {
            what: error.into(),
            ..damage
        })),
    }
}

/// Copies the rows of a block, or those whose bit is set in `mask`.
fn copy_rows(
    block: &Block<'_>,
    mask: Option<&[u64]>,
    draft: &mut Draft,
) -> Result<io::Result<()>, BlockError> {
    let rows = block.reader()?;
    let mut row = 0;
    for (journal, count) in block.sources()? {
        for _ in 0..count {
            if mask.is_none_or(|mask| has(mask, row))
                && let Some(record) = rows.record(row)
                && let Err(error) = draft.push(&record, journal)
            {
                return Ok(Err(error));
            }
            row += 1;
        }
    }
    Ok(Ok(()))
}

/// Says whether the bit of a row is set.
pub(super) fn has(mask: &[u64], row: usize) -> bool {
    mask.get(row / 64)
        .is_some_and(|word| word >> (row % 64) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_neighbours_of_one_size_are_merged() {
        const MB: u64 = 1 << 20;
        assert_eq!(choose(&[MB; 7], false, u64::MAX), None);
        assert_eq!(choose(&[MB; 9], false, u64::MAX), Some(0..8));
        let mut lengths = vec![20 * MB; 8];
        assert_eq!(choose(&lengths, false, u64::MAX), Some(0..8));
        lengths.insert(4, MB);
        assert_eq!(choose(&lengths, false, u64::MAX), None, "not neighbours");
        assert_eq!(
            choose(&[200 * MB; 20], true, u64::MAX),
            None,
            "large ones stay"
        );
        assert_eq!(choose(&[MB; 9], false, 7 * MB), None, "too long");
    }

    #[test]
    fn a_day_that_is_over_has_few_files() {
        const MB: u64 = 1 << 20;
        assert_eq!(
            choose(&[50 * MB, MB, 10 * MB, 60 * MB], true, u64::MAX),
            Some(0..3)
        );
        assert_eq!(choose(&[50 * MB, 60 * MB], true, u64::MAX), None);
        assert_eq!(choose(&[MB], true, u64::MAX), None);
        assert_eq!(choose(&[], true, u64::MAX), None);
    }
}
