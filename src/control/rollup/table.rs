//! Rollups as bytes: the payload of a `Rollup` frame.
//!
//! Numbers are variable-length integers of seven bits a byte, the least first. A table is: format
//! (3), level (see [`Level`]); the number of ranges of journals and for each its first and how many
//! follow; the number of texts and for each its length and bytes; the number of cells and for each
//! the minute since the Unix epoch at which it starts, the places of gateway, provider, model and
//! key among the texts, then rows, requests, classes, tokens, unmetered, cost, unpriced, and for
//! each time the number of buckets and for each how far it is from the one before and its count;
//! then the length of what [`members`] describes, and that. A table of format 2 ends before it.

use std::{collections::HashMap, ops::RangeInclusive};

use super::{
    sketch::Sketch,
    totals::{CLASSES, TIMES, TOKENS, Totals},
};
use crate::control::logs::{
    frame::FrameBuffer,
    query::group::{Group, Part, Stretch},
};

pub mod members;

use members::MemberCell;

const FORMAT: u64 = 3;

/// The format before cells by members of the metadata were kept.
const FORMAT_WITHOUT_MEMBERS: u64 = 2;

/// Parts of a cell's name: its start, gateway, provider, model, key.
pub const PARTS: usize = 5;

/// What a table's cells are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Minutes, in no other table of the file.
    Fresh = 0,
    /// Minutes whose hours and days are in other tables of the file.
    Minutes = 1,
    /// Hours, from the minutes of the file.
    Hours = 2,
    /// Days, from the hours of the file.
    Days = 3,
}

impl Level {
    /// The level of that number.
    pub fn from_number(number: u64) -> Option<Self> {
        [Self::Fresh, Self::Minutes, Self::Hours, Self::Days]
            .into_iter()
            .find(|level| *level as u64 == number)
    }

    /// The length of its cells.
    pub fn stretch(self) -> Stretch {
        match self {
            Self::Fresh | Self::Minutes => Stretch::Minute,
            Self::Hours => Stretch::Hour,
            Self::Days => Stretch::Day,
        }
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What its cells are.
    pub level: Level,
    /// The journals whose records are in it.
    pub journals: Vec<RangeInclusive<u64>>,
    /// Groups by start, gateway, provider, model and key.
    pub cells: Vec<Group>,
    /// Groups by start, gateway, member of the metadata and its value (see [`members`]).
    pub members: Vec<Group>,
}

impl Table {
    /// The times at which its cells start and end, in microseconds since the Unix epoch; empty
    /// bounds without cells.
    pub fn micros(&self) -> (u64, u64) {
        let starts = || self.cells.iter().map(start_of);
        let min = starts().min().unwrap_or(0);
        let length = self.level.stretch().micros();
        let max = starts()
            .max()
            .map_or(0, |start| start.saturating_add(length - 1));
        (min, max)
    }

    /// Appends the bytes to `out`.
    pub fn write(&self, out: &mut FrameBuffer) {
        let mut bytes = Vec::new();
        put(&mut bytes, FORMAT);
        put(&mut bytes, self.level as u64);
        put(&mut bytes, self.journals.len() as u64);
        for range in &self.journals {
            put(&mut bytes, *range.start());
            put(&mut bytes, range.end().saturating_sub(*range.start()));
        }
        let mut texts = Places::default();
        let mut cells = Vec::new();
        put(&mut cells, self.cells.len() as u64);
        for cell in &self.cells {
            put(&mut cells, start_of(cell) / Stretch::Minute.micros());
            for text in names_of(cell) {
                put(&mut cells, texts.of(text));
            }
            put_sums(&mut cells, cell);
        }
        texts.put(&mut bytes);
        bytes.append(&mut cells);
        let members = members::write(&self.members);
        put(&mut bytes, members.len() as u64);
        bytes.extend_from_slice(&members);
        out.extend_from_slice(&bytes);
    }

    /// Reads a payload; `None` if it is no table.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (mut cells, mut members) = (Vec::new(), Vec::new());
        let cell = |cell: Cell<'_>| {
            let mut group = Group {
                parts: cell.parts(),
                ..Group::default()
            };
            cell.add_to(&mut group);
            cells.push(group);
        };
        let (level, journals) = Self::each(payload, cell, |cell| {
            let mut group = Group {
                parts: cell.parts(),
                ..Group::default()
            };
            cell.add_to(&mut group);
            members.push(group);
        })?;
        Some(Self {
            level,
            journals,
            cells,
            members,
        })
    }

    /// Calls `visit` with each cell of a payload, and gives its level and its journals. `None` if
    /// it is no table, which may show after some cells.
    pub fn each_cell<'a>(payload: &'a [u8], mut visit: impl FnMut(Cell<'a>)) -> Option<HeadOf> {
        let mut reader = Reader(payload);
        let (head, members) = reader.table(&mut visit)?;
        if let Some(members) = members {
            reader.bytes(members)?;
        }
        reader.0.is_empty().then_some(head)
    }

    /// The same, and calls `member` with each cell by a member of the metadata. Of a table that
    /// was made before there were such, each cell comes as one whose member is untold, too.
    pub fn each<'a>(
        payload: &'a [u8],
        mut visit: impl FnMut(Cell<'a>),
        mut member: impl FnMut(MemberCell<'a>),
    ) -> Option<HeadOf> {
        let mut reader = Reader(payload);
        let is_told = Reader(payload).number()? != FORMAT_WITHOUT_MEMBERS;
        let mut both = |cell: Cell<'a>| {
            if !is_told {
                member(MemberCell::untold(&cell));
            }
            visit(cell);
        };
        let (head, members) = reader.table(&mut both)?;
        if let Some(members) = members {
            members::read(reader.bytes(members)?, member)?;
        }
        reader.0.is_empty().then_some(head)
    }
}

/// A table's level and its journals.
pub type HeadOf = (Level, Vec<RangeInclusive<u64>>);

impl<'a> Reader<'a> {
    /// Reads a table up to its members, whose length it gives if the format has them.
    fn table(&mut self, visit: &mut impl FnMut(Cell<'a>)) -> Option<(HeadOf, Option<usize>)> {
        let format = self.number()?;
        if ![FORMAT, FORMAT_WITHOUT_MEMBERS].contains(&format) {
            return None;
        }
        let level = Level::from_number(self.number()?)?;
        let journals = self.list(|reader| {
            let first = reader.number()?;
            Some(first..=first.checked_add(reader.number()?)?)
        })?;
        let texts = self.texts()?;
        self.list(|reader| {
            let start = reader.start()?;
            let mut names: [&[u8]; PARTS - 1] = [&[]; PARTS - 1];
            for name in &mut names {
                *name = texts.get(usize::try_from(reader.number()?).ok()?)?;
            }
            let sums = reader.sums()?;
            visit(Cell { start, names, sums });
            Some(())
        })?;
        let members = match format {
            FORMAT => Some(usize::try_from(self.number()?).ok()?),
            _ => None,
        };
        Some(((level, journals), members))
    }

    fn start(&mut self) -> Option<u64> {
        self.number()?.checked_mul(Stretch::Minute.micros())
    }

    fn texts(&mut self) -> Option<Vec<&'a [u8]>> {
        self.list(|reader| {
            let length = usize::try_from(reader.number()?).ok()?;
            reader.bytes(length)
        })
    }

    fn sums(&mut self) -> Option<SumsAt<'a>> {
        let totals = self.totals()?;
        let mut times: [&[u8]; TIMES] = [&[]; TIMES];
        for time in &mut times {
            *time = self.sketch()?;
        }
        Some(SumsAt { totals, times })
    }
}

/// A cell in place.
#[derive(Debug)]
pub struct Cell<'a> {
    /// When it starts, in microseconds since the Unix epoch.
    pub start: u64,
    /// Gateway, provider, model, key.
    pub names: [&'a [u8]; PARTS - 1],
    sums: SumsAt<'a>,
}

impl Cell<'_> {
    /// The parts of its name.
    pub fn parts(&self) -> Vec<Part> {
        let names = self.names.map(|name| Part::Text(name.to_vec()));
        [Part::Number(self.start)]
            .into_iter()
            .chain(names)
            .collect()
    }

    /// Adds what it holds to `group`.
    pub fn add_to(&self, group: &mut Group) {
        self.sums.add_to(group);
    }
}

/// What a cell holds, in place.
#[derive(Debug, Clone)]
struct SumsAt<'a> {
    totals: Totals,
    /// Buckets and counts, not read yet but known to be whole.
    times: [&'a [u8]; TIMES],
}

impl SumsAt<'_> {
    fn add_to(&self, group: &mut Group) {
        group.totals.merge(&self.totals);
        for (bytes, sketch) in self.times.iter().zip(&mut group.times) {
            let mut reader = Reader(bytes);
            let mut bucket = 0u64;
            while let (Some(step), Some(count)) = (reader.number(), reader.number()) {
                bucket = bucket.saturating_add(step);
                sketch.add_bucket(u16::try_from(bucket).unwrap_or(u16::MAX), count);
            }
        }
    }
}

/// When a cell starts.
pub fn start_of(cell: &Group) -> u64 {
    match cell.parts.first() {
        Some(Part::Number(start)) => *start,
        Some(Part::Text(_)) | None => 0,
    }
}

fn names_of(cell: &Group) -> impl Iterator<Item = &[u8]> {
    (1..PARTS).map(|index| match cell.parts.get(index) {
        Some(Part::Text(text)) => text.as_slice(),
        Some(Part::Number(_)) | None => &[],
    })
}

/// Texts, each once, in the order in which they were first met.
#[derive(Debug, Default)]
struct Places<'a> {
    places: HashMap<&'a [u8], u64>,
    list: Vec<&'a [u8]>,
}

impl<'a> Places<'a> {
    /// The place of a text.
    fn of(&mut self, text: &'a [u8]) -> u64 {
        *self.places.entry(text).or_insert_with(|| {
            self.list.push(text);
            self.list.len() as u64 - 1
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        put(out, self.list.len() as u64);
        for text in &self.list {
            put(out, text.len() as u64);
            out.extend_from_slice(text);
        }
    }
}

fn put_sums(out: &mut Vec<u8>, cell: &Group) {
    put_totals(out, &cell.totals);
    for sketch in &cell.times {
        put_sketch(out, sketch);
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    put_wide(out, u128::from(number));
}

fn put_wide(out: &mut Vec<u8>, mut number: u128) {
    let low = |number: u128| number.to_le_bytes()[0];
    while number >= 0x80 {
        out.push(low(number) | 0x80);
        number >>= 7;
    }
    out.push(low(number));
}

fn put_totals(out: &mut Vec<u8>, totals: &Totals) {
    put(out, totals.rows);
    put(out, totals.requests);
    for count in totals.classes {
        put(out, count);
    }
    for sum in totals.tokens {
        put_wide(out, sum);
    }
    put(out, totals.unmetered);
    put_wide(out, totals.cost);
    put(out, totals.unpriced);
}

fn put_sketch(out: &mut Vec<u8>, sketch: &Sketch) {
    put(out, sketch.buckets().count() as u64);
    let mut before = 0;
    for (bucket, count) in sketch.buckets() {
        put(out, u64::from(bucket - before));
        put(out, count);
        before = bucket;
    }
}

/// What is left of a payload.
#[derive(Debug, Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn wide(&mut self) -> Option<u128> {
        let mut number = 0u128;
        for shift in (0..128).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u128::from(byte & 0x7f);
            if shift == 126 && bits > 3 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn number(&mut self) -> Option<u64> {
        // Most numbers have one byte.
        if let Some((byte, rest)) = self.0.split_first()
            && byte & 0x80 == 0
        {
            self.0 = rest;
            return Some(u64::from(*byte));
        }
        u64::try_from(self.wide()?).ok()
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A number of items and the items, each of which takes a byte at least.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.number()?).ok()?;
        if count > self.0.len() {
            return None;
        }
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }

    fn totals(&mut self) -> Option<Totals> {
        let mut totals = Totals {
            rows: self.number()?,
            requests: self.number()?,
            ..Totals::default()
        };
        for count in &mut totals.classes[..CLASSES] {
            *count = self.number()?;
        }
        for sum in &mut totals.tokens[..TOKENS] {
            *sum = self.wide()?;
        }
        totals.unmetered = self.number()?;
        totals.cost = self.wide()?;
        totals.unpriced = self.number()?;
        Some(totals)
    }

    /// Passes over buckets and counts, and gives their bytes.
    fn sketch(&mut self) -> Option<&'a [u8]> {
        let count = self.number()?;
        let all = self.0;
        let mut ends = count.checked_mul(2)?;
        let mut length = 0;
        for byte in all {
            if ends == 0 {
                break;
            }
            length += 1;
            ends -= u64::from(byte & 0x80 == 0);
        }
        if ends > 0 {
            return None;
        }
        self.bytes(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{
        members::{FOLDED, UNTOLD},
        *,
    };

    fn cell() -> impl Strategy<Value = Group> {
        let numbers = vec(prop_oneof![0..300u64, any::<u64>()], 16);
        let values = vec(vec(any::<u64>(), 0..40), TIMES);
        (0..1_000_000_000u64, vec("[a-c]{0,3}", 4), numbers, values).prop_map(
            |(minute, names, n, values)| {
                let mut parts = vec![Part::Number(minute * Stretch::Minute.micros())];
                parts.extend(names.into_iter().map(|name| Part::Text(name.into())));
                let mut group = Group {
                    parts,
                    ..Group::default()
                };
                group.totals.rows = n[0];
                group.totals.classes.copy_from_slice(&n[1..10]);
                group.totals.tokens[1] = u128::from(n[10]) * u128::from(n[11]);
                group.totals.cost = u128::MAX / (1 + u128::from(n[12]));
                group.totals.unpriced = n[13];
                for (sketch, values) in group.times.iter_mut().zip(values) {
                    for value in values {
                        sketch.record(value);
                    }
                }
                group
            },
        )
    }

    fn member() -> impl Strategy<Value = Group> {
        let name = || {
            prop_oneof![
                "[a-c]{0,3}".prop_map(|t| Part::Text(t.into())),
                Just(FOLDED)
            ]
        };
        (cell(), name(), name()).prop_map(|(mut group, key, value)| {
            group.parts.truncate(2);
            group.parts.extend([key, value]);
            group
        })
    }

    #[test]
    fn a_table_without_members_is_read_as_one_that_does_not_tell_them() {
        let part = |name: &str| Part::Text(name.as_bytes().to_vec());
        let start = Part::Number(60_000_000);
        let mut cell = Group {
            parts: vec![start.clone(), part("g"), part("p"), part("m"), part("k")],
            ..Group::default()
        };
        cell.totals.rows = 7;
        cell.times[1].record(300);
        let mut table = Table {
            level: Level::Days,
            journals: vec![3..=4],
            cells: vec![cell.clone()],
            members: Vec::new(),
        };
        let mut bytes = FrameBuffer::new();
        table.write(&mut bytes);
        // As the format before had it: another number, and no length of members at the end.
        let without = [&[2], &bytes[1..bytes.len() - 3]].concat();
        assert_eq!(bytes[bytes.len() - 3..], [2, 0, 0]);
        cell.parts = vec![start, part("g"), UNTOLD, UNTOLD];
        table.members.push(cell);
        assert_eq!(Table::read(&without), Some(table));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn tables_come_back_as_they_were_written(
            cells in vec(cell(), 0..6),
            members in vec(member(), 0..6),
            journals in vec((any::<u32>(), 0..100u64), 0..5),
        ) {
            let table = Table {
                level: Level::Hours,
                journals: journals.iter().map(|(a, n)| u64::from(*a)..=u64::from(*a) + n).collect(),
                cells,
                members,
            };
            let mut bytes = FrameBuffer::new();
            table.write(&mut bytes);
            prop_assert_eq!(Table::read(&bytes), Some(table));
            for end in (0..bytes.len()).step_by(7) {
                prop_assert_eq!(Table::read(&bytes[..end]), None);
            }
        }

        #[test]
        fn bytes_that_are_no_table_are_refused_or_read_without_a_panic(
            bytes in vec(prop_oneof![0..4u8, any::<u8>()], 0..200),
        ) {
            let _ = Table::read(&bytes);
        }
    }
}
