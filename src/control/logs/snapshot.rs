//! All records as they stood at one moment, block by block, for queries.
//!
//! A [`LogReader`] takes [`LogSnapshot`]s of a log folder, in the process of the server or in any
//! other, while records are written, sealed, merged and removed. What a snapshot lists it can read:
//! sealed files are mapped and unsealed journals are open, so that a file that is removed meanwhile
//! stays until the snapshot goes.
//!
//! Unsealed records are put into blocks when a query looks at them, so that a reader meets blocks
//! only. Taking a snapshot reads the headers of new frames and nothing else.

use std::{
    collections::BTreeMap, fs, io, ops::RangeInclusive, os::unix::fs::MetadataExt, path::PathBuf,
    sync::Arc,
};

use super::{
    block::{Block, BlockError},
    deletion::{Deleted, DeletedFiles, all_rows},
    folder::{LogDir, RecordFiles},
    segment::Damage,
};
use crate::domain::record::flag;

mod journal;
mod sealed;

use journal::{Group, Journal, MemoryBlock};
use sealed::Sealed;

/// Takes snapshots, and keeps between them what stays the same.
#[derive(Debug)]
pub struct LogReader {
    log: LogDir,
    sealed: BTreeMap<FileKey, Arc<Sealed>>,
    journals: BTreeMap<u64, Journal>,
    deleted: DeletedFiles,
}

/// A file, and that it is the same one: a rewritten file takes its forerunner's name.
type FileKey = (PathBuf, u64, u64);

/// How often files are listed again because one of them went away before it was opened.
const LISTINGS_MAX: usize = 8;

impl LogReader {
    /// A reader of the log folder `log`, which need not be there yet.
    pub fn new(log: LogDir) -> Self {
        Self {
            log,
            sealed: BTreeMap::new(),
            journals: BTreeMap::new(),
            deleted: DeletedFiles::default(),
        }
    }

    /// The folder.
    pub fn log(&self) -> &LogDir {
        &self.log
    }

    /// The records as they stand now.
    pub fn snapshot(&mut self) -> io::Result<LogSnapshot> {
        for _ in 0..LISTINGS_MAX {
            // Before the files: what is deleted is forgotten only after it was taken out of them.
            let deleted = self.deleted.read(&self.log)?;
            let files = self.log.record_files()?;
            if let Some(snapshot) = self.open(&files, deleted)? {
                return Ok(snapshot);
            }
        }
        Err(io::Error::other(
            "the files of the log change faster than they can be opened",
        ))
    }

    /// Opens the files that were listed; `None` if one is gone.
    fn open(
        &mut self,
        files: &RecordFiles,
        deleted: Arc<Deleted>,
    ) -> io::Result<Option<LogSnapshot>> {
        let mut parts: Vec<(u64, Part)> = Vec::new();
        let mut kept = BTreeMap::new();
        for name in &files.sealed {
            let Some(metadata) = found(fs::metadata(&name.path))? else {
                return Ok(None);
            };
            let key = (name.path.clone(), metadata.dev(), metadata.ino());
            let sealed = match self.sealed.get(&key) {
                Some(sealed) => Arc::clone(sealed),
                None => match found(Sealed::open(name))? {
                    Some(sealed) => Arc::new(sealed),
                    None => return Ok(None),
                },
            };
            kept.insert(key, Arc::clone(&sealed));
            parts.push((name.first, Part::Sealed(sealed)));
        }
        self.sealed = kept;
        let mut journals = BTreeMap::new();
        for (number, path) in &files.journals {
            // Numbers begin anew in a folder that was made anew.
            let known = self.journals.remove(number);
            let known = known.filter(|known| known.is_at(path));
            let journal = match known {
                Some(journal) => Some(journal),
                None => found(Journal::open(*number, path))?,
            };
            let Some(mut journal) = journal else {
                return Ok(None);
            };
            parts.push((*number, Part::Journal(Arc::new(journal.read_on()?))));
            journals.insert(*number, journal);
        }
        self.journals = journals;
        parts.sort_by_key(|(number, _)| *number);
        let parts = parts.into_iter().map(|(_, part)| part).collect();
        Ok(Some(LogSnapshot { parts, deleted }))
    }
}

/// The value, or `None` for a file that is not there any more.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// All records at one moment.
#[derive(Debug, Clone)]
pub struct LogSnapshot {
    parts: Vec<Part>,
    deleted: Arc<Deleted>,
}

/// One file.
#[derive(Debug, Clone)]
enum Part {
    Sealed(Arc<Sealed>),
    Journal(Arc<JournalPart>),
}

/// What a snapshot holds of an unsealed journal.
#[derive(Debug)]
struct JournalPart {
    number: u64,
    groups: Vec<Arc<Group>>,
    damages: Vec<Damage>,
}

impl LogSnapshot {
    /// The blocks, oldest first: in the order of the log, which is that of the journals' numbers
    /// and within a journal that in which exchanges ended.
    pub fn blocks(&self) -> impl DoubleEndedIterator<Item = BlockRef<'_>> {
        self.parts.iter().flat_map(|part| {
            let count = match part {
                Part::Sealed(sealed) => sealed.blocks().len(),
                Part::Journal(journal) => journal.groups.len(),
            };
            (0..count).map(move |index| BlockRef { part, index })
        })
    }

    /// Damage that was met while frames were listed: none of it is in a block.
    pub fn damages(&self) -> impl Iterator<Item = &Damage> {
        self.parts.iter().flat_map(|part| match part {
            Part::Sealed(sealed) => sealed.damages(),
            Part::Journal(journal) => &journal.damages,
        })
    }

    /// Which rows of `block` may be served, a bit for each as in
    /// [`super::block::Numbers::Some`]; `None` if all of them may. Records of exchanges without
    /// logging, and deleted ones, may not.
    pub fn visible(&self, block: &Block<'_>) -> Result<Option<Vec<u64>>, BlockError> {
        let mut mask = self.deleted.mask(block)?;
        if block.zone().unlogged == 0 {
            return Ok(mask);
        }
        let words = mask.get_or_insert_with(|| all_rows(block.rows()));
        for (row, flags) in block.flags()?.iter().enumerate() {
            let is_unlogged = flags.to_native() & flag::UNLOGGED != 0;
            if let Some(word) = words.get_mut(row / 64) {
                *word &= !(u64::from(is_unlogged) << (row % 64));
            }
        }
        Ok(mask)
    }

    /// What was deleted when the snapshot was taken, and is still in its blocks.
    pub fn deleted(&self) -> &Deleted {
        &self.deleted
    }
}

/// A block of a snapshot, not looked into yet.
#[derive(Debug, Clone, Copy)]
pub struct BlockRef<'s> {
    part: &'s Part,
    index: usize,
}

/// Which block of which file: the same at every look, as long as the file stands. Merges move rows
/// to other files: who must count each row once goes by [`Block::sources`], which stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The file's first journal.
    pub first: u64,
    /// Its last one.
    pub last: u64,
    /// Place of the block within the file, from 0.
    pub index: usize,
    /// Says whether the file is sealed: its blocks stay as they are.
    pub sealed: bool,
}

impl<'s> BlockRef<'s> {
    /// Where it stands.
    pub fn position(&self) -> Position {
        let (first, last, sealed) = match self.part {
            Part::Sealed(sealed) => (sealed.name().first, sealed.name().last, true),
            Part::Journal(journal) => (journal.number, journal.number, false),
        };
        Position {
            first,
            last,
            index: self.index,
            sealed,
        }
    }

    /// How many rows it has, without touching it.
    pub fn rows(&self) -> u64 {
        match self.part {
            Part::Sealed(sealed) => sealed
                .blocks()
                .get(self.index)
                .map_or(0, |place| u64::from(place.frame.header.rows)),
            Part::Journal(journal) => journal.groups.get(self.index).map_or(0, |group| group.rows),
        }
    }

    /// The times at which its exchanges began, without touching it: microseconds since the Unix
    /// epoch.
    pub fn micros(&self) -> RangeInclusive<u64> {
        let none = RangeInclusive::new(1, 0);
        match self.part {
            Part::Sealed(sealed) => sealed.blocks().get(self.index).map_or(none, |place| {
                place.frame.header.min_micros..=place.frame.header.max_micros
            }),
            Part::Journal(journal) => journal
                .groups
                .get(self.index)
                .map_or(none, |group| group.micros.clone()),
        }
    }

    /// Looks into it: takes a few hundred bytes of a sealed block; puts rows into columns for an
    /// unsealed one.
    pub fn open(&self) -> Result<OpenBlock<'s>, Damage> {
        match self.part {
            Part::Sealed(sealed) => match sealed.block(self.index) {
                Ok(block) => Ok(OpenBlock(Open::Sealed(block))),
                Err(error) => Err(self.damage(error)),
            },
            Part::Journal(journal) => match journal.groups.get(self.index) {
                Some(group) => Ok(OpenBlock(Open::Memory(group.block()?))),
                None => Err(self.damage(BlockError::Columns)),
            },
        }
    }

    /// The report that this block cannot be read.
    pub fn damage(&self, error: BlockError) -> Damage {
        match self.part {
            Part::Sealed(sealed) => sealed.damage(self.index, error),
            Part::Journal(journal) => match journal.groups.get(self.index) {
                Some(group) => group.damage(error),
                None => Damage {
                    path: PathBuf::new(),
                    offset: 0,
                    bytes: 0,
                    what: error.into(),
                },
            },
        }
    }
}

/// A block of a snapshot that can be read.
#[derive(Debug, Clone)]
pub struct OpenBlock<'s>(Open<'s>);

#[derive(Debug, Clone)]
enum Open<'s> {
    Sealed(Block<'s>),
    Memory(Arc<MemoryBlock>),
}

impl OpenBlock<'_> {
    /// The block.
    pub fn block(&self) -> Result<Block<'_>, BlockError> {
        match &self.0 {
            Open::Sealed(block) => Ok(*block),
            Open::Memory(block) => block.block(),
        }
    }

    /// Frames that could not be read when an unsealed block was made; its rows go without theirs.
    pub fn damages(&self) -> &[Damage] {
        match &self.0 {
            Open::Sealed(..) => &[],
            Open::Memory(block) => block.damages(),
        }
    }
}

#[cfg(test)]
mod tests;
