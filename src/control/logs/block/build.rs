//! Makes blocks of records.

use std::mem;

use rkyv::rancor::Failure;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    BLOCK_ROWS, HEAD_BYTES,
    columns::{ArchivedColumns, Cells, Columns, NumberColumn, Source, TextColumn, is_coded},
    head::{Column, Head, Zone},
    sum,
};
use crate::{
    control::logs::frame::{self, FrameBuffer, HEADER_BYTES, Header, Kind, PAYLOAD_BYTES_MAX},
    domain::record::{ArchivedRecord, Record, TEXTS, Text},
};

/// A block with more text than this takes no further row: its payload stays far below
/// [`PAYLOAD_BYTES_MAX`], which the longest record cannot change.
const TEXT_BYTES: usize = 16 << 20;

/// Gathers records, and makes a block of them when there are enough.
#[derive(Debug)]
pub struct BlockBuilder {
    columns: Columns,
    dictionaries: [Dictionary; TEXTS],
    zone: Zone,
    text_bytes: usize,
}

impl Default for BlockBuilder {
    fn default() -> Self {
        Self {
            columns: Columns::default(),
            dictionaries: Default::default(),
            zone: Zone::NONE,
            text_bytes: 0,
        }
    }
}

impl BlockBuilder {
    /// How many rows it holds.
    pub fn len(&self) -> usize {
        self.columns.ids.len()
    }

    /// Says whether it holds no row.
    pub fn is_empty(&self) -> bool {
        self.columns.ids.is_empty()
    }

    /// Says whether a block is to be made now.
    pub fn is_full(&self) -> bool {
        self.len() >= BLOCK_ROWS || self.text_bytes >= TEXT_BYTES
    }

    /// How many rows it still takes: beyond that a record is not taken in.
    pub fn room(&self) -> usize {
        BLOCK_ROWS - self.len().min(BLOCK_ROWS)
    }

    /// Takes a record in that came from journal number `journal`.
    pub fn push(&mut self, record: &Record, journal: u64) {
        self.add(&Cells::from(record), |text| record.texts.get(text), journal);
    }

    /// Takes a record in that lies in a row frame of journal number `journal`.
    pub fn push_archived(&mut self, record: &ArchivedRecord, journal: u64) {
        self.add(&Cells::from(record), |text| record.texts.get(text), journal);
    }

    fn add<'a>(&mut self, cells: &Cells, texts: impl Fn(Text) -> &'a [u8], journal: u64) {
        let row = self.len();
        if row >= BLOCK_ROWS {
            debug_assert!(false, "the caller asks for room first");
            return;
        }
        let columns = &mut self.columns;
        columns.ids.push(cells.id);
        for (column, number) in columns.numbers.iter_mut().zip(cells.numbers) {
            column.push(row, number);
        }
        columns.flags.push(cells.flags);
        columns.statuses.push(cells.status);
        columns.outcomes.push(cells.outcome);
        columns.steps.push(cells.step);
        columns.attempts.push(cells.attempt);
        for text in Text::ALL {
            let value = texts(text);
            let column = &mut columns.texts[text as usize];
            if is_coded(text) {
                let dictionary = &mut self.dictionaries[text as usize];
                let before = column.bytes.len();
                let code = dictionary.code(column, value);
                column.codes.push(code);
                self.text_bytes += column.bytes.len() - before;
            } else {
                column.append(value);
                self.text_bytes += value.len();
            }
        }
        match columns.sources.last_mut() {
            Some(source) if source.journal == journal => source.rows += 1,
            Some(_) | None => columns.sources.push(Source { journal, rows: 1 }),
        }
        self.zone.add(cells);
    }

    /// Makes a frame of the rows in `buffer` (whose allocation is used again), all but its seal,
    /// and starts afresh. Returns it with the header that [`frame::seal`] needs. `None` without a
    /// row.
    pub fn finish(&mut self, mut buffer: FrameBuffer) -> Option<(FrameBuffer, Header)> {
        if self.is_empty() {
            return None;
        }
        self.drop_idle_columns();
        buffer.clear();
        buffer.resize(HEADER_BYTES + HEAD_BYTES, 0);
        let zone = mem::replace(&mut self.zone, Zone::NONE);
        let made = rkyv::api::high::to_bytes_in::<_, Failure>(&self.columns, buffer);
        self.clear();
        let mut buffer = made.ok()?;
        let length = u32::try_from(buffer.len() - HEADER_BYTES).ok()?;
        if length > PAYLOAD_BYTES_MAX {
            return None;
        }
        let mut head = Head::new(zone);
        let archive = buffer.get(HEADER_BYTES + HEAD_BYTES..)?;
        let columns = rkyv::access::<ArchivedColumns, Failure>(archive).ok()?;
        for column in Column::all() {
            head.sums[column.index()] = sum(columns, archive, column);
        }
        head.write(buffer.get_mut(HEADER_BYTES..HEADER_BYTES + HEAD_BYTES)?)?;
        buffer.resize(frame::padded(length as usize), 0);
        let header = Header {
            kind: Kind::Columns as u8,
            flags: 0,
            rows: zone.rows,
            length,
            min_micros: zone.at.min,
            max_micros: zone.at.max,
            sequence: 0,
            segment: 0,
            payload_hash: 0,
        };
        Some((buffer, header))
    }

    /// Empties columns that say nothing: numbers that no row has, bitmaps of ones, empty texts.
    fn drop_idle_columns(&mut self) {
        let rows = self.len();
        for column in &mut self.columns.numbers {
            let known: u32 = column.known.iter().map(|word| word.count_ones()).sum();
            if known == 0 {
                column.values.clear();
            }
            if known == 0 || known as usize == rows {
                column.known.clear();
            }
        }
        for text in Text::ALL {
            let column = &mut self.columns.texts[text as usize];
            if column.bytes.is_empty() {
                column.codes.clear();
                column.ends.clear();
            }
        }
    }

    fn clear(&mut self) {
        let columns = &mut self.columns;
        columns.ids.clear();
        for column in &mut columns.numbers {
            column.values.clear();
            column.known.clear();
        }
        columns.flags.clear();
        columns.statuses.clear();
        columns.outcomes.clear();
        columns.steps.clear();
        columns.attempts.clear();
        for (column, dictionary) in columns.texts.iter_mut().zip(&mut self.dictionaries) {
            column.codes.clear();
            column.ends.clear();
            column.bytes.clear();
            dictionary.slots.clear();
        }
        columns.sources.clear();
        self.text_bytes = 0;
    }
}

impl NumberColumn {
    fn push(&mut self, row: usize, number: Option<u64>) {
        if row.is_multiple_of(64) {
            self.known.push(0);
        }
        if let Some(word) = self.known.last_mut() {
            *word |= u64::from(number.is_some()) << (row % 64);
        }
        self.values.push(number.unwrap_or(0));
    }
}

impl TextColumn {
    fn append(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        // A block's text is bounded far below: see `TEXT_BYTES`.
        self.ends
            .push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    fn string(&self, index: u16) -> &[u8] {
        let index = usize::from(index);
        let end = |index: usize| self.ends.get(index).map_or(0, |end| *end as usize);
        let from = index.checked_sub(1).map_or(0, end);
        self.bytes.get(from..end(index)).unwrap_or_default()
    }
}

/// Finds the code of a text: a table of codes, open addressing, twice as many slots as rows.
#[derive(Debug, Default)]
struct Dictionary {
    /// Codes; 0 is a free slot, since the empty text is never looked up.
    slots: Vec<u16>,
}

const SLOTS: usize = 2 * BLOCK_ROWS;

const _: () = assert!(BLOCK_ROWS < u16::MAX as usize && SLOTS.is_power_of_two());

impl Dictionary {
    fn code(&mut self, column: &mut TextColumn, text: &[u8]) -> u16 {
        if column.ends.is_empty() {
            column.append(b""); // code 0
        }
        if text.is_empty() {
            return 0;
        }
        if let Some(last) = column.codes.last()
            && *last != 0
            && column.string(*last) == text
        {
            return *last;
        }
        self.slots.resize(SLOTS, 0);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "only the low bits are used"
        )]
        let mut slot = xxh3_64(text) as usize % SLOTS;
        loop {
            match self.slots[slot] {
                0 => break,
                code if column.string(code) == text => return code,
                _ => slot = (slot + 1) % SLOTS,
            }
        }
        let code = u16::try_from(column.ends.len()).unwrap_or(0);
        column.append(text);
        self.slots[slot] = code;
        code
    }
}
