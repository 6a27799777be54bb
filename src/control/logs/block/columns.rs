//! The archive of a block's columns, and which column holds what of a record.

use rkyv::{Archive, Serialize};

use crate::domain::record::{ArchivedRecord, Record, TEXTS, Text, Texts};

/// The numbers of a record that have a column of 64 bits. Their order is part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Number {
    /// [`Record::at_micros`].
    At = 0,
    /// [`Record::duration_micros`].
    Duration = 1,
    /// [`Record::first_byte_micros`].
    FirstByte = 2,
    /// [`Record::first_token_micros`].
    FirstToken = 3,
    /// [`Record::overhead_micros`].
    Overhead = 4,
    /// [`Record::request_bytes`].
    RequestBytes = 5,
    /// [`Record::response_bytes`].
    ResponseBytes = 6,
    /// [`Record::tokens_input`].
    TokensInput = 7,
    /// [`Record::tokens_output`].
    TokensOutput = 8,
    /// [`Record::tokens_cache_read`].
    TokensCacheRead = 9,
    /// [`Record::tokens_cache_write`].
    TokensCacheWrite = 10,
    /// [`Record::tokens_cache_write_hour`].
    TokensCacheWriteHour = 11,
    /// [`Record::tokens_reasoning`].
    TokensReasoning = 12,
    /// [`Record::cost`].
    Cost = 13,
    /// [`Record::price_table`].
    PriceTable = 14,
}

/// How many there are.
pub const NUMBERS: usize = 15;

impl Number {
    /// Every number, in the order of its column.
    pub const ALL: [Self; NUMBERS] = [
        Self::At,
        Self::Duration,
        Self::FirstByte,
        Self::FirstToken,
        Self::Overhead,
        Self::RequestBytes,
        Self::ResponseBytes,
        Self::TokensInput,
        Self::TokensOutput,
        Self::TokensCacheRead,
        Self::TokensCacheWrite,
        Self::TokensCacheWriteHour,
        Self::TokensReasoning,
        Self::Cost,
        Self::PriceTable,
    ];
}

/// What every record has besides its numbers and texts, as numbers. Their order is part of the
/// format of packed rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(in crate::control::logs) enum Fixed {
    /// The first 8 bytes of the id, as a big-endian number.
    IdHigh = 0,
    /// The last 8.
    IdLow = 1,
    /// [`Record::flags`].
    Flags = 2,
    /// [`Record::status`].
    Status = 3,
    /// [`Record::outcome`].
    Outcome = 4,
    /// [`Record::step`].
    Step = 5,
    /// [`Record::attempt`].
    Attempt = 6,
}

/// How many there are.
pub(in crate::control::logs) const FIXED: usize = 7;

/// Says whether a text is kept once for all rows that share it. The others differ in almost every
/// row, so that looking for a like one would be in vain.
pub fn is_coded(text: Text) -> bool {
    match text {
        Text::Gateway
        | Text::Provider
        | Text::Model
        | Text::ModelName
        | Text::Method
        | Text::Path
        | Text::UserAgent
        | Text::Key
        | Text::RequestContentType
        | Text::ResponseContentType
        | Text::ResponseContentEncoding
        | Text::Error
        | Text::PriceKey
        | Text::UsageDetail => true,
        Text::Metadata | Text::EventId | Text::UpstreamRequestId | Text::CacheKey => false,
    }
}

/// The columns. Arrays, not lists, so that all pointers lie together in the root.
#[derive(Debug, Default, Archive, Serialize)]
#[rkyv(derive(Debug))]
pub struct Columns {
    pub(super) ids: Vec<[u8; 16]>,
    pub(super) numbers: [NumberColumn; NUMBERS],
    pub(super) flags: Vec<u32>,
    pub(super) statuses: Vec<u16>,
    pub(super) outcomes: Vec<u8>,
    pub(super) steps: Vec<u8>,
    pub(super) attempts: Vec<u8>,
    pub(super) texts: [TextColumn; TEXTS],
    pub(super) sources: Vec<Source>,
}

/// One column of numbers. No values: all unknown. No bitmap: all known. Fewer values than rows: their
/// bytes are those of narrower numbers, see [`super::values`].
#[derive(Debug, Default, Archive, Serialize)]
#[rkyv(derive(Debug))]
pub struct NumberColumn {
    pub(super) values: Vec<u64>,
    pub(super) known: Vec<u64>,
}

/// One column of texts. No codes: one string a row. No strings either: all empty. Fewer codes than rows:
/// their bytes are codes of one byte.
#[derive(Debug, Default, Archive, Serialize)]
#[rkyv(derive(Debug))]
pub struct TextColumn {
    pub(super) codes: Vec<u16>,
    pub(super) ends: Vec<u32>,
    pub(super) bytes: Vec<u8>,
}

/// How many rows in a row came from one journal.
#[derive(Debug, Clone, Copy, Default, Archive, Serialize)]
#[rkyv(derive(Debug))]
pub struct Source {
    pub(super) journal: u64,
    pub(super) rows: u32,
}

/// One record but for its texts, whether it was read in place or not.
#[derive(Debug)]
pub(in crate::control::logs) struct Cells {
    pub(super) id: [u8; 16],
    pub(in crate::control::logs) numbers: [Option<u64>; NUMBERS],
    pub(super) flags: u32,
    pub(super) status: u16,
    pub(super) outcome: u8,
    pub(super) step: u8,
    pub(super) attempt: u8,
}

impl Cells {
    /// From what is in each of [`Fixed`], and the numbers. What is too great for its place, which nobody
    /// writes, becomes 0.
    pub(in crate::control::logs) fn from_fixed(
        [high, low, flags, status, outcome, step, attempt]: [u64; FIXED],
        numbers: [Option<u64>; NUMBERS],
    ) -> Self {
        Self {
            id: id_of(high, low),
            numbers,
            flags: u32::try_from(flags).unwrap_or(0),
            status: u16::try_from(status).unwrap_or(0),
            outcome: u8::try_from(outcome).unwrap_or(0),
            step: u8::try_from(step).unwrap_or(0),
            attempt: u8::try_from(attempt).unwrap_or(0),
        }
    }

    /// The record with these texts.
    pub(in crate::control::logs) fn record(&self, texts: Texts) -> Record {
        let number = |number: Number| self.numbers[number as usize];
        let always = |which| number(which).unwrap_or(0);
        Record {
            id: self.id,
            at_micros: always(Number::At),
            duration_micros: always(Number::Duration),
            first_byte_micros: number(Number::FirstByte),
            first_token_micros: number(Number::FirstToken),
            overhead_micros: always(Number::Overhead),
            status: self.status,
            outcome: self.outcome,
            step: self.step,
            attempt: self.attempt,
            flags: self.flags,
            request_bytes: always(Number::RequestBytes),
            response_bytes: always(Number::ResponseBytes),
            tokens_input: number(Number::TokensInput),
            tokens_output: number(Number::TokensOutput),
            tokens_cache_read: number(Number::TokensCacheRead),
            tokens_cache_write: number(Number::TokensCacheWrite),
            tokens_cache_write_hour: number(Number::TokensCacheWriteHour),
            tokens_reasoning: number(Number::TokensReasoning),
            cost: number(Number::Cost),
            price_table: always(Number::PriceTable),
            texts,
        }
    }
}

/// The id whose first and last 8 bytes are these.
pub(super) fn id_of(high: u64, low: u64) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

impl From<&Record> for Cells {
    fn from(record: &Record) -> Self {
        Self {
            id: record.id,
            numbers: [
                Some(record.at_micros),
                Some(record.duration_micros),
                record.first_byte_micros,
                record.first_token_micros,
                Some(record.overhead_micros),
                Some(record.request_bytes),
                Some(record.response_bytes),
                record.tokens_input,
                record.tokens_output,
                record.tokens_cache_read,
                record.tokens_cache_write,
                record.tokens_cache_write_hour,
                record.tokens_reasoning,
                record.cost,
                Some(record.price_table),
            ],
            flags: record.flags,
            status: record.status,
            outcome: record.outcome,
            step: record.step,
            attempt: record.attempt,
        }
    }
}

impl From<&ArchivedRecord> for Cells {
    fn from(record: &ArchivedRecord) -> Self {
        let maybe =
            |number: &rkyv::Archived<Option<u64>>| number.as_ref().map(|number| number.to_native());
        Self {
            id: record.id,
            numbers: [
                Some(record.at_micros.to_native()),
                Some(record.duration_micros.to_native()),
                maybe(&record.first_byte_micros),
                maybe(&record.first_token_micros),
                Some(record.overhead_micros.to_native()),
                Some(record.request_bytes.to_native()),
                Some(record.response_bytes.to_native()),
                maybe(&record.tokens_input),
                maybe(&record.tokens_output),
                maybe(&record.tokens_cache_read),
                maybe(&record.tokens_cache_write),
                maybe(&record.tokens_cache_write_hour),
                maybe(&record.tokens_reasoning),
                maybe(&record.cost),
                Some(record.price_table.to_native()),
            ],
            flags: record.flags.to_native(),
            status: record.status.to_native(),
            outcome: record.outcome,
            step: record.step,
            attempt: record.attempt,
        }
    }
}
