//! The head of a block: what it holds at most and at least, and a checksum for each column.

use rkyv::{Archive, Deserialize, Serialize, rancor::Failure};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    BlockError, ColumnName,
    columns::{Cells, Columns, NUMBERS, Number},
};
use crate::domain::record::{TEXTS, Text, flag};

/// Bytes before the columns: the head's checksum, its archive, and zeros.
pub const HEAD_BYTES: usize = 640;

/// The format that is written. In the first one all numbers took 8 bytes and all codes 2; a column of
/// this width is read as it always was.
const FORMAT: u32 = 2;
const SUM_BYTES: usize = 8;
/// The archive starts here, so that its numbers lie at multiples of 16.
const ARCHIVE_AT: usize = 16;
const ARCHIVE_BYTES: usize = size_of::<ArchivedHead>();

const _: () = assert!(ARCHIVE_AT + ARCHIVE_BYTES <= HEAD_BYTES);

/// The least and the greatest of some numbers; `min` is above `max` if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Range {
    /// The least.
    pub min: u64,
    /// The greatest.
    pub max: u64,
}

impl Range {
    /// No number.
    pub const NONE: Self = Self {
        min: u64::MAX,
        max: 0,
    };

    /// Says whether there is no number.
    pub fn is_empty(&self) -> bool {
        self.min > self.max
    }

    /// Says whether a number between `min` and `max`, both included, can be among them.
    pub fn meets(&self, min: u64, max: u64) -> bool {
        !self.is_empty() && self.min <= max && min <= self.max
    }

    /// Takes one more number in.
    pub fn add(&mut self, number: u64) {
        self.min = self.min.min(number);
        self.max = self.max.max(number);
    }
}

/// What the rows of a block hold at most and at least. Rows that are not to be served count too, so
/// a range can be wider than what is served, never narrower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Zone {
    /// How many rows.
    pub rows: u32,
    /// How many of them have logging off, and are never served.
    pub unlogged: u32,
    /// When exchanges began: microseconds since the Unix epoch.
    pub at: Range,
    /// The least id.
    pub id_min: [u8; 16],
    /// The greatest id.
    pub id_max: [u8; 16],
    /// Statuses.
    pub status: Range,
    /// Durations in microseconds.
    pub duration: Range,
    /// Known times to the first token in microseconds.
    pub first_token: Range,
    /// Known input tokens.
    pub tokens_input: Range,
    /// Known output tokens.
    pub tokens_output: Range,
    /// Input and output tokens together, of rows that know one of them.
    pub tokens_total: Range,
    /// Known costs in pico-dollars.
    pub cost: Range,
    /// Flags that some row has.
    pub flags_any: u32,
    /// Flags that every row has.
    pub flags_all: u32,
    /// Bit `n` says that some row has the outcome of number `n`; outcomes from 31 on share bit 31.
    pub outcomes: u32,
}

impl Zone {
    /// No row.
    pub(super) const NONE: Self = Self {
        rows: 0,
        unlogged: 0,
        at: Range::NONE,
        id_min: [u8::MAX; 16],
        id_max: [0; 16],
        status: Range::NONE,
        duration: Range::NONE,
        first_token: Range::NONE,
        tokens_input: Range::NONE,
        tokens_output: Range::NONE,
        tokens_total: Range::NONE,
        cost: Range::NONE,
        flags_any: 0,
        flags_all: u32::MAX,
        outcomes: 0,
    };

    /// What narrow numbers of a column lack: times are counted from the block's first.
    pub(super) fn base_of(&self, number: Number) -> u64 {
        match number {
            Number::At => self.at.min,
            _ => 0,
        }
    }

    /// Takes one more row in.
    pub(super) fn add(&mut self, cells: &Cells) {
        let number = |number: Number| cells.numbers[number as usize];
        self.rows += 1;
        self.unlogged += u32::from(cells.flags & flag::UNLOGGED != 0);
        self.id_min = self.id_min.min(cells.id);
        self.id_max = self.id_max.max(cells.id);
        self.status.add(u64::from(cells.status));
        let (input, output) = (number(Number::TokensInput), number(Number::TokensOutput));
        let total = (input.is_some() || output.is_some())
            .then(|| input.unwrap_or(0).saturating_add(output.unwrap_or(0)));
        for (range, value) in [
            (&mut self.at, number(Number::At)),
            (&mut self.duration, number(Number::Duration)),
            (&mut self.first_token, number(Number::FirstToken)),
            (&mut self.tokens_input, input),
            (&mut self.tokens_output, output),
            (&mut self.tokens_total, total),
            (&mut self.cost, number(Number::Cost)),
        ] {
            if let Some(value) = value {
                range.add(value);
            }
        }
        self.flags_any |= cells.flags;
        self.flags_all &= cells.flags;
        self.outcomes |= 1 << cells.outcome.min(31);
    }
}

impl Zone {
    /// Takes in the rows of `columns` from row `from` on.
    pub(super) fn add_rows(&mut self, columns: &Columns, from: usize) {
        let rows = columns.ids.len();
        let added = |values: &[u64]| values.len() == rows;
        debug_assert!(columns.numbers.iter().all(|column| added(&column.values)));
        self.rows += u32::try_from(rows - from).unwrap_or(0);
        for id in &columns.ids[from..] {
            self.id_min = self.id_min.min(*id);
            self.id_max = self.id_max.max(*id);
        }
        for (range, number) in [
            (&mut self.at, Number::At),
            (&mut self.duration, Number::Duration),
            (&mut self.first_token, Number::FirstToken),
            (&mut self.tokens_input, Number::TokensInput),
            (&mut self.tokens_output, Number::TokensOutput),
            (&mut self.cost, Number::Cost),
        ] {
            let column = &columns.numbers[number as usize];
            for row in from..rows {
                if column.is_known(row) {
                    range.add(column.values[row]);
                }
            }
        }
        let input = &columns.numbers[Number::TokensInput as usize];
        let output = &columns.numbers[Number::TokensOutput as usize];
        for row in from..rows {
            if input.is_known(row) || output.is_known(row) {
                let total = input.values[row].saturating_add(output.values[row]);
                self.tokens_total.add(total);
            }
        }
        for status in &columns.statuses[from..] {
            self.status.add(u64::from(*status));
        }
        for flags in &columns.flags[from..] {
            self.unlogged += u32::from(flags & flag::UNLOGGED != 0);
            self.flags_any |= flags;
            self.flags_all &= flags;
        }
        for outcome in &columns.outcomes[from..] {
            self.outcomes |= 1 << (*outcome).min(31);
        }
    }
}

/// A part of a block with a checksum of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Root,
    Id,
    Flags,
    Status,
    Outcome,
    Step,
    Attempt,
    Sources,
    Number(Number),
    Text(Text),
}

impl Column {
    /// How many there are.
    pub(super) const COUNT: usize = 8 + NUMBERS + TEXTS;

    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [
            Self::Root,
            Self::Id,
            Self::Flags,
            Self::Status,
            Self::Outcome,
            Self::Step,
            Self::Attempt,
            Self::Sources,
        ]
        .into_iter()
        .chain(Number::ALL.into_iter().map(Self::Number))
        .chain(Text::ALL.into_iter().map(Self::Text))
    }

    /// Its place among the checksums.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Root => 0,
            Self::Id => 1,
            Self::Flags => 2,
            Self::Status => 3,
            Self::Outcome => 4,
            Self::Step => 5,
            Self::Attempt => 6,
            Self::Sources => 7,
            Self::Number(number) => 8 + number as usize,
            Self::Text(text) => 8 + NUMBERS + text as usize,
        }
    }

    /// The error that it is damaged.
    pub(super) fn damaged(self) -> BlockError {
        BlockError::Column(ColumnName(u8::try_from(self.index()).unwrap_or(u8::MAX)))
    }
}

/// The head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct Head {
    format: u32,
    pub(super) zone: Zone,
    pub(super) sums: [u64; Column::COUNT],
}

impl Head {
    /// A head without its checksums.
    pub(super) fn new(zone: Zone) -> Self {
        Self {
            format: FORMAT,
            zone,
            sums: [0; Column::COUNT],
        }
    }

    /// Reads the head of a payload.
    pub(super) fn read(payload: &[u8]) -> Result<Self, BlockError> {
        let (sum, _) = payload
            .split_first_chunk::<SUM_BYTES>()
            .ok_or(BlockError::Head)?;
        let archive = payload
            .get(ARCHIVE_AT..ARCHIVE_AT + ARCHIVE_BYTES)
            .ok_or(BlockError::Head)?;
        if u64::from_le_bytes(*sum) != xxh3_64(archive) {
            return Err(BlockError::Head);
        }
        let head = rkyv::access::<ArchivedHead, Failure>(archive)
            .and_then(rkyv::deserialize::<Self, Failure>)
            .map_err(|Failure| BlockError::Head)?;
        if head.format == 0 || head.format > FORMAT {
            return Err(BlockError::Format(head.format));
        }
        Ok(head)
    }

    /// Writes the head into the room at the start of a payload; `None` if there is none.
    pub(super) fn write(&self, room: &mut [u8]) -> Option<()> {
        let archive = rkyv::to_bytes::<Failure>(self).ok()?;
        room.get_mut(..SUM_BYTES)?
            .copy_from_slice(&xxh3_64(&archive).to_le_bytes());
        room.get_mut(ARCHIVE_AT..ARCHIVE_AT + ARCHIVE_BYTES)?
            .copy_from_slice(archive.get(..ARCHIVE_BYTES)?);
        Some(())
    }
}
