//! A block of records, column by column: the payload of a `Columns` frame.
//!
//! ```text
//! offset 0          8 bytes xxh3-64 of the head's archive, then the archive of Head
//! HEAD_BYTES        the archive of Columns, its root at the end
//! ```
//!
//! The head says which values the block holds at most and at least (its [`Zone`]) and has one
//! checksum for each column. So a reader that skips a block touches its head only, and a scan
//! touches, and verifies, only the columns that it names; what was verified once is remembered in
//! a [`Verified`]. The frame's own checksum covers all of it again, for whoever copies blocks.
//!
//! Rows lie in the order of the log, which is the order in which exchanges ended. All numbers are
//! little endian and every column starts at a multiple of the size of its values.
//!
//! Reading order: here the reader; [`values`] (what it hands out), [`columns`] (the archive), [`head`]
//! (the head), [`build`] (records into a block).

use std::{
    fmt,
    mem::offset_of,
    slice,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rkyv::{
    Archived, Portable,
    api::high::{HighValidator, access_pos},
    bytecheck::CheckBytes,
    rancor::Failure,
    vec::ArchivedVec,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::frame::{HEADER_BYTES, Header, Kind};
use crate::domain::record::{Record, TEXTS, Text, Texts};

pub mod columns;
pub mod head;
pub mod build;
pub mod values;

use columns::{ArchivedColumns, ArchivedNumberColumn, ArchivedSource, ArchivedTextColumn, Cells};
pub use columns::{NUMBERS, Number};
use head::{Column, HEAD_BYTES, Head};
pub use head::{Range, Zone};
pub(in crate::control::logs) use values::with_cells;
pub use values::{Cell, Numbers, Slots, Strings, TextCells, Values};

/// Most rows of a block.
pub const BLOCK_ROWS: usize = 8_192;

/// A 64-bit number as it lies in a block.
pub type U64 = Archived<u64>;
/// A 32-bit number as it lies in a block.
pub type U32 = Archived<u32>;
/// A 16-bit number as it lies in a block.
pub type U16 = Archived<u16>;

/// Why a block, or a column of it, cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Its head is damaged.
    #[error("the block's head is damaged")]
    Head,
    /// A later version of tidegate wrote it.
    #[error("block format {0} is newer than this program")]
    Format(u32),
    /// Its columns cannot be found.
    #[error("the block's columns cannot be read")]
    Columns,
    /// One column is damaged.
    #[error("column {0} of the block is damaged")]
    Column(ColumnName),
}

/// The number of a column, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnName(pub u8);

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What of one block was found whole: its head, and which columns. Kept as long as the block is, by
/// whoever keeps it.
#[derive(Debug, Default)]
pub struct Verified {
    columns: AtomicU64,
    head: OnceLock<Box<Head>>,
}

const _: () = assert!(Column::COUNT <= 64);

impl Verified {
    fn has(&self, column: Column) -> bool {
        self.columns.load(Ordering::Relaxed) & (1 << column.index()) != 0
    }

    fn note(&self, column: Column) {
        self.columns
            .fetch_or(1 << column.index(), Ordering::Relaxed);
    }

    /// The block's head, read at the first look.
    fn head(&self, header: &Header, payload: &[u8]) -> Result<&Head, BlockError> {
        if let Some(head) = self.head.get() {
            return Ok(head);
        }
        let head = Block::head(header, payload)?;
        Ok(self.head.get_or_init(|| Box::new(head)))
    }
}

/// A block that is read in place.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    head: &'a Head,
    /// The archive of the columns.
    bytes: &'a [u8],
    verified: &'a Verified,
}

impl<'a> Block<'a> {
    /// Opens the block in the payload of a `Columns` frame, which lies at a multiple of 16. Reads
    /// its head, unless `verified` has it, and its skeleton; columns are verified when they are
    /// asked for. `verified` is of this block and of no other.
    pub fn open(
        header: &Header,
        payload: &'a [u8],
        verified: &'a Verified,
    ) -> Result<Self, BlockError> {
        let head = verified.head(header, payload)?;
        let bytes = payload.get(HEAD_BYTES..).ok_or(BlockError::Columns)?;
        let block = Self {
            head,
            bytes,
            verified,
        };
        block.check(Column::Root, || xxh3_64(block.root()))?;
        Ok(block)
    }

    /// The end of the archive, where all its pointers lie.
    fn root(&self) -> &'a [u8] {
        let (_, root) = self.bytes.split_at(root_at(self.bytes));
        root
    }

    /// A column in the archive, `offset` bytes into the root: its own pointers are checked, whoever
    /// asks and however often, and no others.
    fn at<T>(&self, offset: usize) -> Result<&'a T, BlockError>
    where
        T: Portable + for<'c> CheckBytes<HighValidator<'c, Failure>>,
    {
        let place = root_at(self.bytes) + offset;
        access_pos::<T, Failure>(self.bytes, place).map_err(|Failure| BlockError::Columns)
    }

    /// Reads what the block says of itself, without touching its columns.
    pub fn zone_of(header: &Header, payload: &[u8]) -> Result<Zone, BlockError> {
        Self::head(header, payload).map(|head| head.zone)
    }

    fn head(header: &Header, payload: &[u8]) -> Result<Head, BlockError> {
        let head = Head::read(payload)?;
        let is_of_this_frame = header.kind == Kind::Columns as u8
            && head.zone.rows == header.rows
            && head.zone.at.min == header.min_micros
            && head.zone.at.max == header.max_micros;
        if !is_of_this_frame {
            return Err(BlockError::Head);
        }
        Ok(head)
    }

    /// How many rows it has, unlogged ones included.
    pub fn rows(&self) -> usize {
        self.head.zone.rows as usize
    }

    /// Which values it holds.
    pub fn zone(&self) -> &Zone {
        &self.head.zone
    }

    /// The ids (see [`Record::id`]).
    pub fn ids(&self) -> Result<&'a [[u8; 16]], BlockError> {
        self.column(Column::Id, offset_of!(ArchivedColumns, ids))
    }

    /// A column of numbers.
    pub fn numbers(&self, number: Number) -> Result<Numbers<'a>, BlockError> {
        let each = size_of::<ArchivedNumberColumn>();
        let offset = offset_of!(ArchivedColumns, numbers) + number as usize * each;
        let column: &ArchivedNumberColumn = self.at(offset)?;
        self.check(Column::Number(number), || column.sum(self.bytes))?;
        let rows = self.rows();
        if column.values.is_empty() {
            return Ok(Numbers::Unknown);
        }
        let base = self.zone().base_of(number);
        let values = part(self.bytes, &column.values);
        let values = Values::read(values, size_of::<u64>(), rows, base)
            .ok_or_else(|| Column::Number(number).damaged())?;
        if column.known.is_empty() {
            return Ok(Numbers::Each(values));
        }
        if column.known.len() != rows.div_ceil(64) {
            return Err(Column::Number(number).damaged());
        }
        Ok(Numbers::Some {
            values,
            known: &column.known,
        })
    }

    /// The flags (see [`crate::domain::record::flag`]).
    pub fn flags(&self) -> Result<&'a [U32], BlockError> {
        self.column(Column::Flags, offset_of!(ArchivedColumns, flags))
    }

    /// The status sent to the caller; 0 if none was.
    pub fn statuses(&self) -> Result<&'a [U16], BlockError> {
        self.column(Column::Status, offset_of!(ArchivedColumns, statuses))
    }

    /// The outcomes by their numbers.
    pub fn outcomes(&self) -> Result<&'a [u8], BlockError> {
        self.column(Column::Outcome, offset_of!(ArchivedColumns, outcomes))
    }

    /// The steps.
    pub fn steps(&self) -> Result<&'a [u8], BlockError> {
        self.column(Column::Step, offset_of!(ArchivedColumns, steps))
    }

    /// The numbers of attempts.
    pub fn attempts(&self) -> Result<&'a [u8], BlockError> {
        self.column(Column::Attempt, offset_of!(ArchivedColumns, attempts))
    }

    /// A column of texts.
    pub fn texts(&self, text: Text) -> Result<TextCells<'a>, BlockError> {
        let each = size_of::<ArchivedTextColumn>();
        let offset = offset_of!(ArchivedColumns, texts) + text as usize * each;
        let column: &ArchivedTextColumn = self.at(offset)?;
        self.check(Column::Text(text), || column.sum(self.bytes))?;
        let strings = Strings {
            ends: &column.ends,
            bytes: &column.bytes,
        };
        let rows = self.rows();
        if !column.codes.is_empty() {
            let codes = part(self.bytes, &column.codes);
            let codes = Values::read(codes, size_of::<u16>(), rows, 0)
                .ok_or_else(|| Column::Text(text).damaged())?;
            return Ok(TextCells::Coded {
                codes: codes.slots,
                strings,
            });
        }
        match strings.len() {
            0 => Ok(TextCells::Empty),
            count if count == rows => Ok(TextCells::Each(strings)),
            _ => Err(Column::Text(text).damaged()),
        }
    }

    /// From which journals the rows came: each journal's number and how many of the following
    /// rows it gave. A journal's rows stand together, in their order.
    pub fn sources(&self) -> Result<impl Iterator<Item = (u64, usize)> + use<'a>, BlockError> {
        let sources: &ArchivedVec<ArchivedSource> =
            self.at(offset_of!(ArchivedColumns, sources))?;
        self.check(Column::Sources, || one(self.bytes, sources))?;
        let sources = sources.iter();
        Ok(sources.map(|source| (source.journal.to_native(), source.rows.to_native() as usize)))
    }

    /// All columns, verified, for taking rows out.
    pub fn reader(&self) -> Result<Rows<'a>, BlockError> {
        const UNKNOWN: Numbers<'_> = Numbers::Unknown;
        const EMPTY: TextCells<'_> = TextCells::Empty;
        let mut numbers = [UNKNOWN; NUMBERS];
        for number in Number::ALL {
            numbers[number as usize] = self.numbers(number)?;
        }
        let mut texts = [EMPTY; TEXTS];
        for text in Text::ALL {
            texts[text as usize] = self.texts(text)?;
        }
        Ok(Rows {
            ids: self.ids()?,
            numbers,
            flags: self.flags()?,
            statuses: self.statuses()?,
            outcomes: self.outcomes()?,
            steps: self.steps()?,
            attempts: self.attempts()?,
            texts,
        })
    }

    /// A column with one value for each row.
    fn column<T>(&self, column: Column, offset: usize) -> Result<&'a [T], BlockError>
    where
        ArchivedVec<T>: Portable + for<'c> CheckBytes<HighValidator<'c, Failure>>,
    {
        let values: &ArchivedVec<T> = self.at(offset)?;
        self.check(column, || one(self.bytes, values))?;
        if values.len() != self.rows() {
            return Err(column.damaged());
        }
        Ok(values)
    }

    /// Verifies a column by its checksum, unless that was done before.
    fn check(&self, column: Column, sum: impl FnOnce() -> u64) -> Result<(), BlockError> {
        if self.verified.has(column) {
            return Ok(());
        }
        if sum() != self.head.sums[column.index()] {
            return Err(column.damaged());
        }
        self.verified.note(column);
        Ok(())
    }
}

/// Where in the archive its root begins.
fn root_at(bytes: &[u8]) -> usize {
    bytes.len().saturating_sub(size_of::<ArchivedColumns>())
}

/// The checksum of one column. `bytes` is the archive that `columns` lies in.
fn sum(columns: &ArchivedColumns, bytes: &[u8], column: Column) -> u64 {
    match column {
        Column::Root => one(bytes, slice::from_ref(columns)),
        Column::Id => one(bytes, &columns.ids),
        Column::Number(number) => columns.numbers[number as usize].sum(bytes),
        Column::Flags => one(bytes, &columns.flags),
        Column::Status => one(bytes, &columns.statuses),
        Column::Outcome => one(bytes, &columns.outcomes),
        Column::Step => one(bytes, &columns.steps),
        Column::Attempt => one(bytes, &columns.attempts),
        Column::Text(text) => columns.texts[text as usize].sum(bytes),
        Column::Sources => one(bytes, &columns.sources),
    }
}

/// The checksum of values that lie in `bytes`.
fn one<T>(bytes: &[u8], values: &[T]) -> u64 {
    xxh3_64(part(bytes, values))
}

impl ArchivedNumberColumn {
    fn sum(&self, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(part(bytes, &self.values), one(bytes, &self.known))
    }
}

impl ArchivedTextColumn {
    fn sum(&self, bytes: &[u8]) -> u64 {
        let strings = xxh3_64_with_seed(part(bytes, &self.bytes), one(bytes, &self.ends));
        xxh3_64_with_seed(part(bytes, &self.codes), strings)
    }
}

/// The bytes that `values` occupies within `bytes`, of which it is a part.
fn part<'a, T>(bytes: &'a [u8], values: &[T]) -> &'a [u8] {
    if values.is_empty() {
        return &[];
    }
    let start = values.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
    let end = start.wrapping_add(size_of_val(values));
    bytes.get(start..end).unwrap_or_default()
}

/// All columns of a block, verified.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    ids: &'a [[u8; 16]],
    numbers: [Numbers<'a>; NUMBERS],
    flags: &'a [U32],
    statuses: &'a [U16],
    outcomes: &'a [u8],
    steps: &'a [u8],
    attempts: &'a [u8],
    texts: [TextCells<'a>; TEXTS],
}

impl<'a> Rows<'a> {
    /// One text of a row.
    pub fn text(&self, row: usize, text: Text) -> &'a [u8] {
        self.texts[text as usize].get(row)
    }

    /// One number of a row.
    pub fn number(&self, row: usize, number: Number) -> Option<u64> {
        self.numbers[number as usize].get(row)
    }

    /// The record in a row; `None` beyond the last.
    pub fn record(&self, row: usize) -> Option<Record> {
        let cells = Cells {
            id: *self.ids.get(row)?,
            numbers: self.numbers.map(|numbers| numbers.get(row)),
            flags: self.flags.get(row)?.to_native(),
            status: self.statuses.get(row)?.to_native(),
            outcome: *self.outcomes.get(row)?,
            step: *self.steps.get(row)?,
            attempt: *self.attempts.get(row)?,
        };
        let texts = Text::ALL.map(|text| self.text(row, text));
        Some(cells.record(Texts::pack(&texts)))
    }
}

const _: () = assert!(HEAD_BYTES.is_multiple_of(HEADER_BYTES));

#[cfg(test)]
mod tests;
