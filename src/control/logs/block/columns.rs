//! The archive of a block's columns, and which column holds what of a record.

use rkyv::{Archive, Serialize};

use crate::domain::record::{ArchivedRecord, Record, TEXTS, Text};

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

/// Says whether a text is kept once for all rows that share it. The others differ in almost every
/// row, so that looking for a like one would be in vain.
pub fn is_coded(text: Text) -> bool {
    match text {
        Text::Gateway
        | Text::Provider
        | Text::Model
        | Text::ModelName
        | Text::Method
        | Text::UserAgent
        | Text::Key
        | Text::RequestContentType
        | Text::ResponseContentType
        | Text::ResponseContentEncoding
        | Text::Error
        | Text::PriceKey
        | Text::UsageDetail => true,
        Text::Path | Text::Metadata | Text::EventId | Text::UpstreamRequestId | Text::CacheKey => {
            false
        }
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

/// One column of numbers. No values: all unknown. No bitmap: all known.
#[derive(Debug, Default, Archive, Serialize)]
#[rkyv(derive(Debug))]
pub struct NumberColumn {
    pub(super) values: Vec<u64>,
    pub(super) known: Vec<u64>,
}

/// One column of texts. No codes: one string a row. No strings either: all empty.
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

/// The fixed part of one record, whether it was read in place or not.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) id: [u8; 16],
    pub(super) numbers: [Option<u64>; NUMBERS],
    pub(super) flags: u32,
    pub(super) status: u16,
    pub(super) outcome: u8,
    pub(super) step: u8,
    pub(super) attempt: u8,
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
