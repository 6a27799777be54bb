//! Rows packed by column: the payload of a row frame of version 2.
//!
//! What is alike in a frame's rows is there once. A record of a usual exchange takes a third of the
//! bytes of its archive, and every byte of a journal is written, checksummed, synced, read and
//! given up again.
//!
//! ```text
//! 1 byte    how many columns of numbers
//! 1 byte    how many columns of texts
//! columns of numbers: the id's first and last 8 bytes as big-endian numbers, flags, status,
//!           outcome, step, attempt, then [`Number::ALL`]
//!   1 byte    form: 0x20 no row has it, and nothing follows; else the bytes of an offset
//!             (0, 1, 2, 4, 8), and 0x10 if some rows do not have it
//!   varint    base, which every row's offset is added to
//!   bitmap    if some rows do not have it: a bit for each row, lowest first
//!   offsets   one for each row, 0 for a row that does not have it
//! columns of texts, in the order of [`Text`]
//!   1 byte    form: 0 all empty, 1 same, 2 coded, 3 each
//!   same:     the text: a varint, its length, then its bytes
//!   coded:    1 byte, how many texts; these; then a byte for each row, which of them it has
//!   each:     the lengths as a column of numbers, then the bytes
//! ```
//!
//! A reader passes over columns that it does not know, and takes those that are missing as unknown
//! or empty. Varints have 7 bits a byte, lowest first.

use std::{array, ops::Range};

use xxhash_rust::xxh3::xxh3_64;

use super::{FrameBuffer, PayloadError};
use crate::{
    control::logs::block::{
        NUMBERS, Number,
        columns::{Cells, FIXED, Fixed},
    },
    domain::record::{Record, TEXTS, Text, Texts},
};

/// Most rows of a frame: sixteen times what a writer's batch has.
pub const ROWS_MAX: usize = 65_536;

/// Most bytes of text that a frame's rows have, before packing: four times a writer's batch, and so
/// little that a block can take it in beside what it has.
pub const TEXT_BYTES_MAX: usize = 32 << 20;

/// Columns of numbers.
const COLUMNS: usize = FIXED + NUMBERS;

const FORM_UNKNOWN: u8 = 0x20;
const FORM_BITMAP: u8 = 0x10;
const FORM_WIDTH: u8 = 0x0f;

const TEXT_EMPTY: u8 = 0;
const TEXT_SAME: u8 = 1;
const TEXT_CODED: u8 = 2;
const TEXT_EACH: u8 = 3;

/// Most different texts of a coded column.
const CODES_MAX: usize = 255;

/// Different texts from which on a column must have twice as many rows to stay coded.
const CODES_FREE: usize = 16;

/// Places of the table that finds a text's code: at least twice the codes.
const SLOTS: usize = 512;

/// A place of the table without a code.
const FREE: u8 = u8::MAX;

/// Packs records; keeps its memory from frame to frame.
#[derive(Debug)]
pub struct Packer {
    /// Numbers, column after column; 0 where one is unknown.
    numbers: Vec<u64>,
    /// Which numbers a row has, a bit for each column.
    known: Vec<u32>,
    /// Codes of texts, column after column.
    codes: Vec<u8>,
    texts: Box<[TextDraft; TEXTS]>,
}

/// A column of texts that is being coded.
#[derive(Debug, Clone)]
struct TextDraft {
    /// For each code the first row that has its text.
    firsts: Vec<u16>,
    /// Codes by the hash of their texts; empty as long as there is one text.
    slots: Vec<u8>,
    /// Too many differ.
    is_each: bool,
}

const _: () = assert!(COLUMNS <= 32 && ROWS_MAX - 1 <= u16::MAX as usize);

impl Default for Packer {
    fn default() -> Self {
        Self {
            numbers: Vec::new(),
            known: Vec::new(),
            codes: Vec::new(),
            texts: Box::new(array::from_fn(|_| TextDraft {
                firsts: Vec::new(),
                slots: Vec::new(),
                is_each: false,
            })),
        }
    }
}

impl Packer {
    /// Appends the packed rows to `out`; `None`, and `out` as it was, if they are too many or have
    /// too much text for a frame.
    pub(super) fn pack(&mut self, records: &[Box<Record>], out: &mut FrameBuffer) -> Option<()> {
        let text_bytes: usize = records.iter().map(|record| record.texts.byte_len()).sum();
        if records.len() > ROWS_MAX || text_bytes > TEXT_BYTES_MAX {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "there are 22 and 17")]
        out.extend_from_slice(&[COLUMNS as u8, TEXTS as u8]);
        self.pack_numbers(records, out);
        self.code_texts(records);
        for text in Text::ALL {
            self.pack_text(text, records, out);
        }
        Some(())
    }

    fn pack_numbers(&mut self, records: &[Box<Record>], out: &mut FrameBuffer) {
        let rows = records.len();
        // Every place is written below.
        self.numbers.resize(COLUMNS * rows, 0);
        self.known.clear();
        self.known.resize(rows, 0);
        let mut ranges = [(u64::MAX, 0u64); COLUMNS];
        for (tile, records) in records.chunks(TILE).enumerate() {
            let mut tile = Tile {
                records,
                from: tile * TILE,
                rows,
                numbers: &mut self.numbers,
                known: &mut self.known,
                ranges: &mut ranges,
            };
            tile.take_all();
        }
        let all = self.known.iter().fold(u32::MAX, |all, known| all & known);
        for (column, (least, greatest)) in ranges.into_iter().enumerate() {
            let values = &self.numbers[column * rows..(column + 1) * rows];
            if least > greatest {
                out.extend_from_slice(&[FORM_UNKNOWN]);
            } else if ALWAYS & 1 << column != 0 || all & 1 << column != 0 {
                put_numbers(out, values, least, greatest, None);
            } else {
                let known = self.known.iter().map(|known| known & 1 << column != 0);
                let bitmap: Vec<bool> = known.collect();
                put_numbers(out, values, least, greatest, Some(&bitmap));
            }
        }
    }

    /// Finds the different texts of each column, and each row's code.
    fn code_texts(&mut self, records: &[Box<Record>]) {
        let rows = records.len();
        self.codes.resize(TEXTS * rows, 0);
        for draft in self.texts.iter_mut() {
            draft.firsts.clear();
            draft.slots.clear();
            draft.is_each = false;
        }
        // The code of each column, and the row from which on it has been the same.
        let mut last = [(0u8, 0usize); TEXTS];
        let mut before: Option<&Texts> = None;
        let mut runs = runs(&self.texts);
        for (row, record) in (0..=u16::MAX).zip(records) {
            let texts = &record.texts;
            let mut diverged = false;
            for (from, to) in runs.iter().map_while(|run| *run) {
                if before.is_some_and(|before| texts.same(before, from..to)) {
                    continue;
                }
                for text in Text::ALL.get(from..to).unwrap_or_default() {
                    let value = texts.get(*text);
                    if before.is_some_and(|before| before.get(*text) == value) {
                        continue;
                    }
                    let string = |row: u16| {
                        let record = records.get(usize::from(row));
                        record.map_or(&b""[..], |record| record.texts.get(*text))
                    };
                    let draft = &mut self.texts[*text as usize];
                    let code = draft.code(row, value, string);
                    diverged |= draft.is_each;
                    let (old, since) = &mut last[*text as usize];
                    let codes = &mut self.codes[*text as usize * rows..][..rows];
                    codes[*since..usize::from(row)].fill(*old);
                    (*old, *since) = (code, row.into());
                }
            }
            before = Some(texts);
            if diverged {
                runs = self::runs(&self.texts);
            }
        }
        for (text, (code, since)) in last.into_iter().enumerate() {
            self.codes[text * rows..][..rows][since..].fill(code);
        }
    }

    fn pack_text(&self, text: Text, records: &[Box<Record>], out: &mut FrameBuffer) {
        let draft = &self.texts[text as usize];
        let of = |row: u16| {
            let record = records.get(usize::from(row));
            record.map_or(&b""[..], |record| record.texts.get(text))
        };
        match draft.firsts.as_slice() {
            _ if draft.is_each => {
                let lengths = records
                    .iter()
                    .map(|record| record.texts.get(text).len() as u64);
                let lengths: Vec<u64> = lengths.collect();
                let least = lengths.iter().min().copied().unwrap_or(0);
                let greatest = lengths.iter().max().copied().unwrap_or(0);
                out.extend_from_slice(&[TEXT_EACH]);
                put_numbers(out, &lengths, least, greatest, None);
                out.reserve(usize::try_from(lengths.iter().sum::<u64>()).unwrap_or(0));
                for record in records {
                    out.extend_from_slice(record.texts.get(text));
                }
            }
            [] => out.extend_from_slice(&[TEXT_EMPTY]),
            [first] if of(*first).is_empty() => out.extend_from_slice(&[TEXT_EMPTY]),
            [first] => {
                out.extend_from_slice(&[TEXT_SAME]);
                put_text(out, of(*first));
            }
            firsts => {
                let count = u8::try_from(firsts.len()).unwrap_or(u8::MAX);
                out.extend_from_slice(&[TEXT_CODED, count]);
                for first in firsts {
                    put_text(out, of(*first));
                }
                let rows = records.len();
                out.extend_from_slice(&self.codes[text as usize * rows..][..rows]);
            }
        }
    }
}

/// Rows whose numbers are taken column by column: they stay in the first cache meanwhile.
const TILE: usize = 32;

/// Columns of which every row has a number.
const ALWAYS: u32 = {
    let mut always = (1 << FIXED) - 1;
    let mut place = 0;
    while place < NUMBERS_ALWAYS.len() {
        always |= 1 << (FIXED + NUMBERS_ALWAYS[place] as usize);
        place += 1;
    }
    always
};

const NUMBERS_ALWAYS: [Number; 6] = [
    Number::At,
    Number::Duration,
    Number::Overhead,
    Number::RequestBytes,
    Number::ResponseBytes,
    Number::PriceTable,
];

/// Some rows on their way into columns.
struct Tile<'a> {
    records: &'a [Box<Record>],
    /// The number of the first.
    from: usize,
    /// How many rows a column has.
    rows: usize,
    numbers: &'a mut [u64],
    known: &'a mut [u32],
    ranges: &'a mut [(u64, u64); COLUMNS],
}

impl Tile<'_> {
    fn take_all(&mut self) {
        let high = |id: &[u8; 16]| (u128::from_be_bytes(*id) >> 64) as u64;
        #[expect(clippy::cast_possible_truncation, reason = "the low half")]
        let low = |id: &[u8; 16]| u128::from_be_bytes(*id) as u64;
        self.fixed(Fixed::IdHigh, |record| high(&record.id));
        self.fixed(Fixed::IdLow, |record| low(&record.id));
        self.fixed(Fixed::Flags, |record| record.flags.into());
        self.fixed(Fixed::Status, |record| record.status.into());
        self.fixed(Fixed::Outcome, |record| record.outcome.into());
        self.fixed(Fixed::Step, |record| record.step.into());
        self.fixed(Fixed::Attempt, |record| record.attempt.into());
        self.always(Number::At, |record| record.at_micros);
        self.always(Number::Duration, |record| record.duration_micros);
        self.maybe(Number::FirstByte, |record| record.first_byte_micros);
        self.maybe(Number::FirstToken, |record| record.first_token_micros);
        self.always(Number::Overhead, |record| record.overhead_micros);
        self.always(Number::RequestBytes, |record| record.request_bytes);
        self.always(Number::ResponseBytes, |record| record.response_bytes);
        self.maybe(Number::TokensInput, |record| record.tokens_input);
        self.maybe(Number::TokensOutput, |record| record.tokens_output);
        self.maybe(Number::TokensCacheRead, |record| record.tokens_cache_read);
        self.maybe(Number::TokensCacheWrite, |record| record.tokens_cache_write);
        self.maybe(Number::TokensCacheWriteHour, |record| {
            record.tokens_cache_write_hour
        });
        self.maybe(Number::TokensReasoning, |record| record.tokens_reasoning);
        self.maybe(Number::Cost, |record| record.cost);
        self.always(Number::PriceTable, |record| record.price_table);
    }

    fn fixed(&mut self, fixed: Fixed, of: impl Fn(&Record) -> u64) {
        self.take(fixed as usize, of);
    }

    fn always(&mut self, number: Number, of: impl Fn(&Record) -> u64) {
        self.take(FIXED + number as usize, of);
    }

    #[inline]
    fn take(&mut self, column: usize, of: impl Fn(&Record) -> u64) {
        let (mut least, mut greatest) = self.ranges[column];
        let room = &mut self.numbers[column * self.rows + self.from..];
        for (slot, record) in room.iter_mut().zip(self.records) {
            let value = of(record);
            *slot = value;
            least = least.min(value);
            greatest = greatest.max(value);
        }
        self.ranges[column] = (least, greatest);
    }

    /// The same for numbers that a row may lack: 0 is stored for them.
    #[inline]
    fn maybe(&mut self, number: Number, of: impl Fn(&Record) -> Option<u64>) {
        let column = FIXED + number as usize;
        let (mut least, mut greatest) = self.ranges[column];
        let room = &mut self.numbers[column * self.rows + self.from..];
        let known = &mut self.known[self.from..];
        for ((slot, known), record) in room.iter_mut().zip(known).zip(self.records) {
            let value = of(record);
            *slot = value.unwrap_or(0);
            *known |= u32::from(value.is_some()) << column;
            least = least.min(value.unwrap_or(u64::MAX));
            greatest = greatest.max(value.unwrap_or(0));
        }
        self.ranges[column] = (least, greatest);
    }
}

/// The columns that are still coded, in runs that follow one another: the first column of each and
/// the one behind it. A row like the one before costs one comparison for each run.
fn runs(texts: &[TextDraft; TEXTS]) -> [Option<(usize, usize)>; TEXTS] {
    let mut runs = [None; TEXTS];
    let mut count = 0;
    let coded = texts.split(|draft| draft.is_each);
    let mut from = 0;
    for drafts in coded {
        let to = from + drafts.len();
        if !drafts.is_empty() {
            runs[count] = Some((from, to));
            count += 1;
        }
        from = to + 1;
    }
    runs
}

impl TextDraft {
    /// The code of a row's text, `string` being the text of a row; notes that the column is not
    /// coded any more if its texts differ too much.
    fn code<'a>(&mut self, row: u16, text: &[u8], string: impl Fn(u16) -> &'a [u8]) -> u8 {
        let count = self.firsts.len();
        if count == 0 {
            self.firsts.push(row);
            return 0;
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, FREE);
            let first = string(self.firsts[0]);
            self.slots[slot_of(first)] = 0;
        }
        let mut slot = slot_of(text);
        loop {
            match self.slots[slot] {
                FREE => break,
                code if string(self.firsts[usize::from(code)]) == text => return code,
                _ => slot = (slot + 1) % SLOTS,
            }
        }
        let is_diverse = count >= CODES_FREE && count * 2 > usize::from(row);
        let code = match u8::try_from(count) {
            Ok(code) if count < CODES_MAX && !is_diverse => code,
            Ok(_) | Err(_) => {
                self.is_each = true;
                return 0;
            }
        };
        self.slots[slot] = code;
        self.firsts.push(row);
        code
    }
}

fn slot_of(text: &[u8]) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "only the low bits are used"
    )]
    let hash = xxh3_64(text) as usize;
    hash % SLOTS
}

fn put_varint(out: &mut FrameBuffer, mut number: u64) {
    let (mut bytes, mut length) = ([0u8; 10], 0);
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        bytes[length] = low | u8::from(number > 0) << 7;
        length += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&bytes[..length]);
}

fn put_text(out: &mut FrameBuffer, text: &[u8]) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// Appends a column of numbers between `least` and `greatest`; `known` says which rows have one, if
/// not all of them do.
fn put_numbers(
    out: &mut FrameBuffer,
    values: &[u64],
    least: u64,
    greatest: u64,
    known: Option<&[bool]>,
) {
    let width = match greatest.saturating_sub(least) {
        0 => 0u8,
        1..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    };
    let bitmap = if known.is_some() { FORM_BITMAP } else { 0 };
    out.extend_from_slice(&[width | bitmap]);
    put_varint(out, least);
    for bits in known.unwrap_or_default().chunks(8) {
        let bit = |(place, known): (usize, &bool)| u8::from(*known) << place;
        let byte = bits.iter().enumerate().map(bit).sum();
        out.extend_from_slice(&[byte]);
    }
    let start = out.len();
    out.resize(start + values.len() * usize::from(width), 0);
    let Some(room) = out.get_mut(start..) else {
        return;
    };
    // A row without the number has 0 there, which is its offset too.
    let offset = |value: &u64| value.saturating_sub(least);
    #[expect(clippy::cast_possible_truncation, reason = "the width fits the range")]
    match width {
        1 => put_each(room, values, |value| [offset(value) as u8]),
        2 => put_each(room, values, |value| (offset(value) as u16).to_le_bytes()),
        4 => put_each(room, values, |value| (offset(value) as u32).to_le_bytes()),
        8 => put_each(room, values, |value| offset(value).to_le_bytes()),
        _ => {}
    }
}

fn put_each<const WIDTH: usize>(
    room: &mut [u8],
    values: &[u64],
    bytes: impl Fn(&u64) -> [u8; WIDTH],
) {
    for (place, value) in room.as_chunks_mut().0.iter_mut().zip(values) {
        *place = bytes(value);
    }
}

/// Packed rows, read in place. Every length, code and count in them was checked.
#[derive(Debug)]
pub struct PackedRows<'a> {
    rows: usize,
    fixed: [NumberPack<'a>; FIXED],
    numbers: [NumberPack<'a>; NUMBERS],
    texts: [TextPack<'a>; TEXTS],
}

/// A column of numbers.
#[derive(Debug, Clone, Copy)]
pub(in crate::control::logs) struct NumberPack<'a> {
    base: u64,
    offsets: Offsets<'a>,
    known: Known<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Offsets<'a> {
    None,
    One(&'a [u8]),
    Two(&'a [[u8; 2]]),
    Four(&'a [[u8; 4]]),
    Eight(&'a [[u8; 8]]),
}

/// Which rows have a number.
#[derive(Debug, Clone, Copy)]
pub(in crate::control::logs) enum Known<'a> {
    /// None of them.
    None,
    /// All of them.
    All,
    /// Those whose bit is set, lowest first.
    Some(&'a [u8]),
}

/// A column of texts.
#[derive(Debug)]
pub(in crate::control::logs) enum TextPack<'a> {
    /// Every row's is empty.
    Empty,
    /// Every row has this one.
    Same(&'a [u8]),
    /// Every row has one of these.
    Coded {
        /// The different ones.
        strings: Vec<&'a [u8]>,
        /// Which one each row has.
        codes: &'a [u8],
    },
    /// Every row has its own.
    Each {
        /// Their lengths.
        lengths: NumberPack<'a>,
        /// Themselves, one after another.
        bytes: &'a [u8],
    },
}

impl<'a> PackedRows<'a> {
    /// Reads `rows` packed rows.
    pub(super) fn read(payload: &'a [u8], rows: u32) -> Result<Self, PayloadError> {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        if rows > ROWS_MAX {
            return Err(PayloadError::Count);
        }
        Reader(payload).rows(rows).ok_or(PayloadError::Rows)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// A column of what every row has.
    pub(in crate::control::logs) fn fixed(&self, fixed: Fixed) -> &NumberPack<'a> {
        &self.fixed[fixed as usize]
    }

    /// A column of numbers.
    pub(in crate::control::logs) fn numbers(&self, number: Number) -> &NumberPack<'a> {
        &self.numbers[number as usize]
    }

    /// A column of texts.
    pub(in crate::control::logs) fn texts(&self, text: Text) -> &TextPack<'a> {
        &self.texts[text as usize]
    }

    /// The records, one by one.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let mut starts = [0; TEXTS];
        (0..self.rows).map(move |row| {
            let texts = array::from_fn(|text| self.texts[text].next(row, &mut starts[text]));
            let cells = Cells::from_fixed(
                array::from_fn(|fixed| self.fixed[fixed].get(row).unwrap_or(0)),
                array::from_fn(|number| self.numbers[number].get(row)),
            );
            cells.record(Texts::pack(&texts))
        })
    }
}

impl NumberPack<'_> {
    const UNKNOWN: Self = Self {
        base: 0,
        offsets: Offsets::None,
        known: Known::None,
    };

    /// Which rows have it.
    pub(in crate::control::logs) fn known(&self) -> Known<'_> {
        self.known
    }

    fn get(&self, row: usize) -> Option<u64> {
        let offset = match self.offsets {
            Offsets::None => 0,
            Offsets::One(offsets) => u64::from(*offsets.get(row)?),
            Offsets::Two(offsets) => u16::from_le_bytes(*offsets.get(row)?).into(),
            Offsets::Four(offsets) => u32::from_le_bytes(*offsets.get(row)?).into(),
            Offsets::Eight(offsets) => u64::from_le_bytes(*offsets.get(row)?),
        };
        self.known.has(row).then(|| self.base.wrapping_add(offset))
    }

    /// Appends the numbers of `rows`, which are rows of the frame; those that do not have it give
    /// the base.
    pub(in crate::control::logs) fn append(&self, rows: Range<usize>, out: &mut Vec<u64>) {
        fn some<T>(all: &[T], rows: Range<usize>) -> &[T] {
            all.get(rows).unwrap_or_default()
        }
        let base = self.base;
        match self.offsets {
            Offsets::None => out.resize(out.len() + rows.len(), base),
            Offsets::One(offsets) => out.extend(
                some(offsets, rows)
                    .iter()
                    .map(|offset| base.wrapping_add(u64::from(*offset))),
            ),
            Offsets::Two(offsets) => out.extend(
                some(offsets, rows)
                    .iter()
                    .map(|offset| base.wrapping_add(u16::from_le_bytes(*offset).into())),
            ),
            Offsets::Four(offsets) => out.extend(
                some(offsets, rows)
                    .iter()
                    .map(|offset| base.wrapping_add(u32::from_le_bytes(*offset).into())),
            ),
            Offsets::Eight(offsets) => out.extend(
                some(offsets, rows)
                    .iter()
                    .map(|offset| base.wrapping_add(u64::from_le_bytes(*offset))),
            ),
        }
    }
}

impl Known<'_> {
    /// Says whether a row has the number.
    pub(in crate::control::logs) fn has(&self, row: usize) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(bits) => bits
                .get(row / 8)
                .is_some_and(|byte| byte >> (row % 8) & 1 == 1),
        }
    }
}

impl<'a> TextPack<'a> {
    /// The text of a row; `start` is where the column's next text of its own begins.
    pub(in crate::control::logs) fn next(&self, row: usize, start: &mut usize) -> &'a [u8] {
        match self {
            Self::Empty => &[],
            Self::Same(text) => text,
            Self::Coded { strings, codes } => {
                let code = codes.get(row).map(|code| usize::from(*code));
                code.and_then(|code| strings.get(code))
                    .copied()
                    .unwrap_or_default()
            }
            Self::Each { lengths, bytes } => {
                let from = *start;
                *start += length_of(lengths, row);
                bytes.get(from..*start).unwrap_or_default()
            }
        }
    }

    /// Where the first text of `row` begins, for [`Self::next`].
    pub(in crate::control::logs) fn start_of(&self, row: usize) -> usize {
        match self {
            Self::Each { lengths, .. } => (0..row).map(|row| length_of(lengths, row)).sum(),
            Self::Empty | Self::Same(_) | Self::Coded { .. } => 0,
        }
    }
}

fn length_of(lengths: &NumberPack<'_>, row: usize) -> usize {
    // Their sum was found to be the length of what is there.
    usize::try_from(lengths.get(row).unwrap_or(0)).unwrap_or(0)
}

/// What is left to be read of a payload.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn rows(&mut self, rows: usize) -> Option<PackedRows<'a>> {
        let columns = usize::from(self.byte()?);
        let texts = usize::from(self.byte()?);
        let mut packed = PackedRows {
            rows,
            fixed: [NumberPack::UNKNOWN; FIXED],
            numbers: [NumberPack::UNKNOWN; NUMBERS],
            texts: array::from_fn(|_| TextPack::Empty),
        };
        for index in 0..columns {
            let column = self.numbers(rows)?;
            let places = packed.fixed.iter_mut().chain(&mut packed.numbers);
            if let Some(place) = places.into_iter().nth(index) {
                *place = column;
            }
        }
        let mut bytes = 0usize;
        for index in 0..texts {
            let (column, its) = self.texts(rows)?;
            bytes = bytes.checked_add(its)?;
            if let Some(place) = packed.texts.get_mut(index) {
                *place = column;
            }
        }
        (bytes <= TEXT_BYTES_MAX).then_some(packed)
    }

    fn numbers(&mut self, rows: usize) -> Option<NumberPack<'a>> {
        let form = self.byte()?;
        if form == FORM_UNKNOWN {
            return Some(NumberPack::UNKNOWN);
        }
        if form & !(FORM_BITMAP | FORM_WIDTH) != 0 {
            return None;
        }
        let base = self.varint()?;
        let known = if form & FORM_BITMAP == 0 {
            Known::All
        } else {
            Known::Some(self.bytes(rows.div_ceil(8))?)
        };
        let width = form & FORM_WIDTH;
        let bytes = self.bytes(rows.checked_mul(usize::from(width))?)?;
        let offsets = match width {
            0 => Offsets::None,
            1 => Offsets::One(bytes),
            2 => Offsets::Two(bytes.as_chunks().0),
            4 => Offsets::Four(bytes.as_chunks().0),
            8 => Offsets::Eight(bytes.as_chunks().0),
            _ => return None,
        };
        Some(NumberPack {
            base,
            offsets,
            known,
        })
    }

    /// A column of texts, and how many bytes its rows have together.
    fn texts(&mut self, rows: usize) -> Option<(TextPack<'a>, usize)> {
        match self.byte()? {
            TEXT_EMPTY => Some((TextPack::Empty, 0)),
            TEXT_SAME => {
                let text = self.text()?;
                Some((TextPack::Same(text), text.len().checked_mul(rows)?))
            }
            TEXT_CODED => {
                let count = self.byte()?;
                let strings = (0..count).map(|_| self.text());
                let strings: Vec<_> = strings.collect::<Option<_>>()?;
                let codes = self.bytes(rows)?;
                let mut bytes = 0usize;
                for code in codes {
                    bytes = bytes.checked_add(strings.get(usize::from(*code))?.len())?;
                }
                Some((TextPack::Coded { strings, codes }, bytes))
            }
            TEXT_EACH => {
                let lengths = self.numbers(rows)?;
                let mut length = 0u64;
                for row in 0..rows {
                    length = length.checked_add(lengths.get(row)?)?;
                }
                let length = usize::try_from(length).ok()?;
                let bytes = self.bytes(length)?;
                Some((TextPack::Each { lengths, bytes }, length))
            }
            _ => None,
        }
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.varint()?;
        self.bytes(usize::try_from(length).ok()?)
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for place in 0..10 {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            number |= low
                .checked_shl(7 * place)
                .filter(|n| n >> (7 * place) == low)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
