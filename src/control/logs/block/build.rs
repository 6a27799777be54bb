//! Makes blocks of records.

use std::{mem, ops::Range};

use rkyv::rancor::Failure;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    BLOCK_ROWS, HEAD_BYTES,
    columns::{
        ArchivedColumns, Cells, Columns, Fixed, Number, NumberColumn, Source, TextColumn, id_of,
        is_coded,
    },
    head::{Column, Head, Zone},
    sum,
    values::NARROW_ROWS_MIN,
};
use crate::{
    control::logs::frame::{
        self, FrameBuffer, HEADER_BYTES, Header, Kind, PAYLOAD_BYTES_MAX, Rows,
        packed::{Known, NumberPack, PackedRows, TextPack},
    },
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
    /// Room for a column on its way.
    values: Vec<u64>,
}

impl Default for BlockBuilder {
    fn default() -> Self {
        Self {
            columns: Columns::default(),
            dictionaries: Default::default(),
            zone: Zone::NONE,
            text_bytes: 0,
            values: Vec::new(),
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

    /// Takes in those of a frame's rows that are in `range`, for which there is room; the frame is of
    /// journal number `journal`.
    pub(in crate::control::logs) fn push_rows(
        &mut self,
        rows: &Rows<'_>,
        range: Range<usize>,
        journal: u64,
    ) {
        debug_assert!(range.len() <= self.room(), "the caller asks for room first");
        match rows {
            Rows::Archived(rows) => {
                for row in rows.get(range).unwrap_or_default() {
                    self.push_archived(row, journal);
                }
            }
            Rows::Packed(rows) => self.push_packed(rows, range, journal),
        }
    }

    /// Takes packed rows in, column by column.
    fn push_packed(&mut self, rows: &PackedRows<'_>, range: Range<usize>, journal: u64) {
        let from = self.len();
        let range = range.start..range.end.min(rows.len()).min(range.start + self.room());
        if range.is_empty() {
            return;
        }
        let columns = &mut self.columns;
        let values = &mut self.values;
        let mut fixed = |fixed: Fixed, add: &mut dyn FnMut(&[u64])| {
            values.clear();
            rows.fixed(fixed).append(range.clone(), values);
            add(values);
        };
        fixed(Fixed::IdHigh, &mut |high| {
            columns.ids.extend(high.iter().map(|high| id_of(*high, 0)));
        });
        fixed(Fixed::IdLow, &mut |low| {
            for (id, low) in columns.ids[from..].iter_mut().zip(low) {
                id[8..].copy_from_slice(&low.to_be_bytes());
            }
        });
        // What is too great for its place, which nobody writes, becomes 0.
        fixed(Fixed::Flags, &mut |flags| {
            let flags = flags.iter().map(|flags| u32::try_from(*flags).unwrap_or(0));
            columns.flags.extend(flags);
        });
        fixed(Fixed::Status, &mut |statuses| {
            let statuses = statuses
                .iter()
                .map(|status| u16::try_from(*status).unwrap_or(0));
            columns.statuses.extend(statuses);
        });
        for (which, column) in [
            (Fixed::Outcome, &mut columns.outcomes),
            (Fixed::Step, &mut columns.steps),
            (Fixed::Attempt, &mut columns.attempts),
        ] {
            fixed(which, &mut |values| {
                column.extend(values.iter().map(|value| u8::try_from(*value).unwrap_or(0)));
            });
        }
        for number in Number::ALL {
            columns.numbers[number as usize].append(from, rows.numbers(number), range.clone());
        }
        for text in Text::ALL {
            let column = &mut columns.texts[text as usize];
            let before = column.bytes.len();
            if is_coded(text) {
                let dictionary = &mut self.dictionaries[text as usize];
                dictionary.append(column, rows.texts(text), range.clone());
            } else {
                column.append_pack(rows.texts(text), range.clone());
            }
            self.text_bytes += column.bytes.len() - before;
        }
        let count = u32::try_from(range.len()).unwrap_or(0);
        match columns.sources.last_mut() {
            Some(source) if source.journal == journal => source.rows += count,
            Some(_) | None => columns.sources.push(Source {
                journal,
                rows: count,
            }),
        }
        self.zone.add_rows(columns, from);
    }

    /// Takes a record in that lies in a row frame of journal number `journal`.
    fn push_archived(&mut self, record: &ArchivedRecord, journal: u64) {
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
        self.narrow_columns();
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

    /// Gives the columns as many bytes a row as they need.
    fn narrow_columns(&mut self) {
        if self.len() < NARROW_ROWS_MIN {
            return;
        }
        for number in Number::ALL {
            let column = &mut self.columns.numbers[number as usize];
            narrow(&mut column.values, self.zone.base_of(number));
        }
        for column in &mut self.columns.texts {
            if column.ends.len() <= 256 {
                pack_codes(&mut column.codes);
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

/// Puts numbers, less `base`, into as few words as hold them, each in 1, 2 or 4 bytes; leaves them as
/// they are if one of them takes 8.
fn narrow(values: &mut Vec<u64>, base: u64) {
    let bits = |bits: u64, value: &u64| bits | value.wrapping_sub(base);
    let words = match values.iter().fold(0, bits) {
        0..=0xff => pack::<8>(values, base),
        0x100..=0xffff => pack::<4>(values, base),
        0x1_0000..=0xffff_ffff => pack::<2>(values, base),
        _ => return,
    };
    values.truncate(words);
}

/// Puts `EACH` numbers into a word, in place; says how many words there are.
fn pack<const EACH: usize>(values: &mut [u64], base: u64) -> usize {
    let words = values.len().div_ceil(EACH);
    for word in 0..words {
        let from = word * EACH;
        let end = values.len().min(from + EACH);
        let packed = values[from..end].iter().rev().fold(0, |packed, value| {
            packed << (64 / EACH) | value.wrapping_sub(base)
        });
        values[word] = packed;
    }
    words
}

/// The same for codes below 256.
fn pack_codes(codes: &mut Vec<u16>) {
    let words = codes.len().div_ceil(2);
    for word in 0..words {
        let high = codes.get(2 * word + 1).copied().unwrap_or(0);
        codes[word] = codes[2 * word] | high << 8;
    }
    codes.truncate(words);
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

    /// Says whether a row has the number.
    pub(super) fn is_known(&self, row: usize) -> bool {
        let word = self.known.get(row / 64);
        word.is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Appends the rows of `range`, the first of which becomes row `from`.
    fn append(&mut self, from: usize, pack: &NumberPack<'_>, range: Range<usize>) {
        let end = from + range.len();
        self.known.resize(end.div_ceil(64), 0);
        match pack.known() {
            Known::None => self.values.resize(end, 0),
            Known::All => {
                pack.append(range, &mut self.values);
                let mut row = from;
                while row < end {
                    let word_end = (row / 64 + 1) * 64;
                    let bits = end.min(word_end) - row;
                    self.known[row / 64] |= (u64::MAX >> (64 - bits)) << (row % 64);
                    row += bits;
                }
            }
            known @ Known::Some(_) => {
                pack.append(range.clone(), &mut self.values);
                for (row, place) in (from..end).zip(range) {
                    let is_known = known.has(place);
                    self.known[row / 64] |= u64::from(is_known) << (row % 64);
                    self.values[row] *= u64::from(is_known);
                }
            }
        }
    }
}

impl TextColumn {
    fn append(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        // A block's text is bounded far below: see `TEXT_BYTES`.
        self.ends
            .push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// Appends the texts of the rows of `range`.
    fn append_pack(&mut self, pack: &TextPack<'_>, range: Range<usize>) {
        if let TextPack::Empty = pack {
            let end = self.ends.last().copied().unwrap_or(0);
            self.ends.resize(self.ends.len() + range.len(), end);
            return;
        }
        let mut start = pack.start_of(range.start);
        for row in range {
            self.append(pack.next(row, &mut start));
        }
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
    /// Appends the codes of the rows of `range`: one look-up for each different text of a frame.
    fn append(&mut self, column: &mut TextColumn, pack: &TextPack<'_>, range: Range<usize>) {
        match pack {
            TextPack::Empty | TextPack::Same(_) => {
                let code = self.code(column, pack.next(range.start, &mut 0));
                column.codes.resize(column.codes.len() + range.len(), code);
            }
            TextPack::Coded { strings, codes } => {
                const UNKNOWN: u16 = u16::MAX;
                let mut ours = [UNKNOWN; 256];
                column.codes.reserve(range.len());
                for theirs in codes.get(range).unwrap_or_default() {
                    let place = &mut ours[usize::from(*theirs)];
                    if *place == UNKNOWN {
                        let text = strings.get(usize::from(*theirs)).copied();
                        *place = self.code(column, text.unwrap_or_default());
                    }
                    column.codes.push(*place);
                }
            }
            TextPack::Each { .. } => {
                let mut start = pack.start_of(range.start);
                for row in range {
                    let code = self.code(column, pack.next(row, &mut start));
                    column.codes.push(code);
                }
            }
        }
    }

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
