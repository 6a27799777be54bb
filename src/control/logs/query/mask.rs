//! Which rows of a block a filter passes, found column by column.
//!
//! A mask has one byte a row, 1 or 0, so that each comparison is one loop without branches over
//! one column, which the compiler turns into vector instructions. Texts are compared once for each
//! different one of a block. A block's zone often answers for all its rows at once.

use crate::{
    control::logs::{
        block::{
            Block, BlockError, Cell, Number, Numbers, Range, Slots, TextCells, Values, Zone,
            with_cells,
        },
        filter::{
            FREE_TEXTS, Filter, FlagField, NumberField, NumberTest, Pattern, Said, Term, Test,
            TextField, field, text,
        },
    },
    domain::{id::RequestId, outcome::Outcome, record::Text},
};

/// What is known of all rows of a block without looking at one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No row passes.
    None,
    /// Rows have to be looked at.
    Some,
    /// Every row passes.
    All,
}

impl Verdict {
    fn of(none: bool, all: bool) -> Self {
        match (none, all) {
            (true, _) => Self::None,
            (false, true) => Self::All,
            (false, false) => Self::Some,
        }
    }

    fn not(self) -> Self {
        match self {
            Self::None => Self::All,
            Self::Some => Self::Some,
            Self::All => Self::None,
        }
    }

    /// What a block's zone says of a term.
    pub fn of_term(term: &Term, zone: &Zone) -> Self {
        let verdict = Self::of_test(&term.test, zone);
        if term.negated { verdict.not() } else { verdict }
    }

    fn of_test(test: &Test, zone: &Zone) -> Self {
        match test {
            Test::Time(stretches) => Self::of(
                !stretches.iter().any(|(from, to)| zone.at.meets(*from, *to)),
                stretches
                    .iter()
                    .any(|(from, to)| *from <= zone.at.min && zone.at.max <= *to),
            ),
            Test::Number(field, tests) => {
                let Some((range, always)) = range_of(*field, zone) else {
                    return Self::Some;
                };
                let meets = |test: &NumberTest| match test {
                    NumberTest::Within(from, to) => from <= to && range.meets(*from, *to),
                    NumberTest::Unknown => !always,
                };
                let holds = |test: &NumberTest| match test {
                    NumberTest::Within(from, to) => {
                        always && *from <= range.min && range.max <= *to
                    }
                    NumberTest::Unknown => !always && range.is_empty(),
                };
                Self::of(!tests.iter().any(meets), tests.iter().any(holds))
            }
            Test::Flag(field, wanted) => {
                let verdict = match (field.bit(), field) {
                    (Some(bit), _) => {
                        Self::of(zone.flags_any & bit == 0, zone.flags_all & bit != 0)
                    }
                    (None, FlagField::Success) => {
                        let ok = 1 << Outcome::Ok as u8;
                        Self::of(zone.outcomes & ok == 0, zone.outcomes == ok)
                    }
                    (None, _) => Self::None,
                };
                if *wanted { verdict } else { verdict.not() }
            }
            Test::Outcome(outcomes) => {
                let wanted = outcomes.iter().fold(0u32, |bits, o| bits | 1 << *o as u8);
                Self::of(zone.outcomes & wanted == 0, zone.outcomes & !wanted == 0)
            }
            Test::Id(patterns) => {
                let can = |pattern: &Pattern| match pattern.as_exact().map(RequestId::parse) {
                    Some(Some(id)) => (zone.id_min..=zone.id_max).contains(&id.0),
                    // An id that is none, or the part of one.
                    Some(None) => false,
                    None => true,
                };
                Self::of(!patterns.iter().any(can), false)
            }
            Test::Gateway(_)
            | Test::Text(..)
            | Test::MetadataKey(_)
            | Test::MetadataValue(_)
            | Test::Metadata(..)
            | Test::Feedback(_)
            | Test::Free(_) => Self::Some,
        }
    }
}

/// The zone's range of a number, and whether every row has the number.
fn range_of(field: NumberField, zone: &Zone) -> Option<(Range, bool)> {
    Some(match field {
        // A status of 0 is none.
        NumberField::Status => (zone.status, zone.status.min > 0),
        NumberField::Cost => (zone.cost, false),
        NumberField::Tokens => (zone.tokens_total, false),
        NumberField::TokensIn => (zone.tokens_input, false),
        NumberField::TokensOut => (zone.tokens_output, false),
        NumberField::Duration => (zone.duration, true),
        NumberField::FirstToken => (zone.first_token, false),
        NumberField::CacheRead
        | NumberField::CacheWrite
        | NumberField::Reasoning
        | NumberField::FirstByte
        | NumberField::Overhead
        | NumberField::RequestSize
        | NumberField::ResponseSize
        | NumberField::Step
        | NumberField::Attempt => return None,
    })
}

/// The rows of a block that pass, and room for finding them; used for one block after another.
#[derive(Debug, Clone, Default)]
pub struct Mask {
    rows: Vec<u8>,
    /// Which rows one term's test holds for.
    hits: Vec<u8>,
    room: Vec<u8>,
}

impl Mask {
    /// One byte a row: 1 if it passes.
    pub fn rows(&self) -> &[u8] {
        &self.rows
    }

    /// How many rows pass.
    pub fn count(&self) -> usize {
        // In pieces short enough for sums of bytes, which vectorise.
        let pieces = self.rows.chunks(255);
        pieces
            .map(|piece| usize::from(piece.iter().sum::<u8>()))
            .sum()
    }

    /// Writes the numbers of the rows that pass to `out`, in order.
    pub fn select(&self, out: &mut Vec<u32>) {
        out.clear();
        out.resize(self.rows.len() + 1, 0);
        let mut length = 0;
        for (row, passes) in (0u32..).zip(&self.rows) {
            // Written in any case, kept if it passes: no branch.
            if let Some(slot) = out.get_mut(length) {
                *slot = row;
            }
            length += usize::from(*passes);
        }
        out.truncate(length);
    }

    /// Takes out the rows for which `keep` says no.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        for (row, passes) in self.rows.iter_mut().enumerate() {
            if *passes == 1 && !keep(row) {
                *passes = 0;
            }
        }
    }

    /// Starts with every row, those that are only counted included.
    pub fn all(&mut self, rows: usize) {
        self.rows.clear();
        self.rows.resize(rows, 1);
    }

    /// Keeps the rows whose bit is set: bit `n % 64` of word `n / 64` is that of row `n`.
    pub fn and_bits(&mut self, bits: &[u64]) {
        for (rows, word) in self.rows.chunks_mut(64).zip(bits) {
            for (bit, row) in rows.iter_mut().enumerate() {
                *row &= (word >> bit & 1) as u8;
            }
        }
    }

    /// Keeps no row of this stretch.
    pub fn clear_rows(&mut self, rows: std::ops::Range<usize>) {
        if let Some(rows) = self.rows.get_mut(rows) {
            rows.fill(0);
        }
    }

    /// Keeps the rows that pass `filter`.
    pub fn filter(&mut self, filter: &Filter, block: &Block<'_>) -> Result<(), BlockError> {
        for term in filter.terms() {
            self.and(term, filter.said(), block)?;
            if self.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Says whether no row passes.
    pub fn is_empty(&self) -> bool {
        memchr::memchr(1, &self.rows).is_none()
    }

    /// Says whether every row passes.
    pub fn is_full(&self) -> bool {
        memchr::memchr(0, &self.rows).is_none()
    }

    /// Takes in the rows of `other`, which is of the same block.
    pub fn or(&mut self, other: &Self) {
        for (row, theirs) in self.rows.iter_mut().zip(&other.rows) {
            *row |= theirs;
        }
    }

    /// Keeps the rows for which the term holds, given what was said of them.
    fn and(&mut self, term: &Term, said: &Said, block: &Block<'_>) -> Result<(), BlockError> {
        match Verdict::of_term(term, block.zone()) {
            Verdict::All => return Ok(()),
            Verdict::None => {
                self.rows.fill(0);
                return Ok(());
            }
            Verdict::Some => {}
        }
        self.hits.clear();
        self.hits.resize(self.rows.len(), 0);
        self.test(&term.test, said, block)?;
        let zone = block.zone();
        if term.test.asks_metadata() && said.has_metadata_within(zone.id_min, zone.id_max) {
            self.replaced(&term.test, said, block)?;
        }
        let turned = u8::from(term.negated);
        for (row, hit) in self.rows.iter_mut().zip(&self.hits) {
            *row &= hit ^ turned;
        }
        Ok(())
    }

    fn test(&mut self, test: &Test, said: &Said, block: &Block<'_>) -> Result<(), BlockError> {
        match test {
            Test::Number(field, tests) => self.number(*field, tests, block),
            Test::Flag(field, wanted) => self.flag(*field, *wanted, block),
            Test::Outcome(wanted) => {
                let wanted = wanted.iter().fold(0u32, |bits, o| bits | 1 << *o as u8);
                for (hit, outcome) in self.hits.iter_mut().zip(block.outcomes()?) {
                    *hit = (wanted.checked_shr(u32::from(*outcome)).unwrap_or(0) & 1) as u8;
                }
                Ok(())
            }
            Test::Time(stretches) => {
                let at = block.numbers(Number::At)?;
                for (from, to) in stretches {
                    self.within(at, *from, *to);
                }
                Ok(())
            }
            Test::Id(patterns) => {
                let ids = block.ids()?;
                self.each(|row| {
                    ids.get(row).is_some_and(|id| {
                        let text = RequestId(*id).text();
                        patterns.iter().any(|pattern| pattern.matches(&text))
                    })
                });
                Ok(())
            }
            Test::Gateway(id) => {
                let gateways = block.texts(Text::Gateway)?;
                self.cells(gateways, |gateway| gateway == id.as_bytes());
                Ok(())
            }
            Test::Text(field, patterns) => self.text(*field, patterns, block),
            Test::MetadataKey(_) | Test::MetadataValue(_) | Test::Metadata(..) => {
                let metadata = block.texts(Text::Metadata)?;
                self.cells(metadata, |json| test.passes_metadata(json));
                Ok(())
            }
            Test::Feedback(wanted) => {
                let zone = block.zone();
                if !said.has_feedback_within(zone.id_min, zone.id_max) {
                    self.hits.fill(u8::from(wanted.contains(&None)));
                    return Ok(());
                }
                let ids = block.ids()?;
                let fits = |id: &[u8; 16]| wanted.contains(&said.feedback(id));
                self.each(|row| ids.get(row).is_some_and(fits));
                Ok(())
            }
            Test::Free(free) => {
                for text in FREE_TEXTS {
                    let cells = block.texts(text)?;
                    self.cells(cells, |cell| text::contains(cell, free.text.as_bytes()));
                }
                if !free.is_in_no_body() {
                    let ids = block.ids()?;
                    self.each(|row| ids.get(row).is_some_and(|id| free.is_in_bodies_of(*id)));
                }
                Ok(())
            }
        }
    }

    /// Asks the rows once more whose metadata was replaced.
    fn replaced(&mut self, test: &Test, said: &Said, block: &Block<'_>) -> Result<(), BlockError> {
        let ids = block.ids()?;
        let mut elsewhere = Vec::new();
        if let Test::Free(_) = test {
            for text in FREE_TEXTS
                .into_iter()
                .filter(|text| *text != Text::Metadata)
            {
                elsewhere.push(block.texts(text)?);
            }
        }
        for (row, ((hit, passes), id)) in self.hits.iter_mut().zip(&self.rows).zip(ids).enumerate()
        {
            let Some(metadata) = said.metadata(id).filter(|_| *passes == 1) else {
                continue;
            };
            let is_elsewhere = match test {
                Test::Free(free) => {
                    let has = |cells: &TextCells<'_>| {
                        text::contains(cells.get(row), free.text.as_bytes())
                    };
                    free.is_in_bodies_of(*id) || elsewhere.iter().any(has)
                }
                _ => false,
            };
            *hit = u8::from(is_elsewhere || test.passes_metadata(metadata));
        }
        Ok(())
    }

    /// Asks each row that still passes, for tests that cost more than a comparison.
    fn each(&mut self, test: impl Fn(usize) -> bool) {
        for (row, (hit, passes)) in self.hits.iter_mut().zip(&self.rows).enumerate() {
            if *passes == 1 && *hit == 0 {
                *hit = u8::from(test(row));
            }
        }
    }

    /// Asks each text: once where rows share it.
    fn cells(&mut self, cells: TextCells<'_>, test: impl Fn(&[u8]) -> bool) {
        match cells {
            TextCells::Empty => {
                if test(b"") {
                    self.hits.fill(1);
                }
            }
            TextCells::Coded { codes, strings } => {
                let passes: Vec<u8> = strings.iter().map(|text| u8::from(test(text))).collect();
                self.codes(codes, &passes);
            }
            TextCells::Each(strings) => self.each(|row| test(strings.get(row))),
        }
    }

    fn codes(&mut self, codes: Slots<'_>, passes: &[u8]) {
        let mut wanted = (0u64..).zip(passes).filter(|(_, passes)| **passes == 1);
        match (wanted.next(), wanted.next()) {
            (None, _) => {}
            (Some((code, _)), None) => with_cells!(codes, cells => {
                within(&mut self.hits, cells, code, code);
            }),
            (Some(_), Some(_)) => with_cells!(codes, cells => {
                for (hit, cell) in self.hits.iter_mut().zip(cells) {
                    let code = usize::try_from(cell.wide()).unwrap_or(usize::MAX);
                    *hit |= passes.get(code).copied().unwrap_or(0);
                }
            }),
        }
    }

    fn text(
        &mut self,
        field: TextField,
        patterns: &[Pattern],
        block: &Block<'_>,
    ) -> Result<(), BlockError> {
        let any = |text: &[u8]| patterns.iter().any(|pattern| pattern.matches(text));
        match field {
            TextField::Event => {
                let (events, ids) = (block.texts(Text::EventId)?, block.ids()?);
                self.each(|row| match (events.get(row), ids.get(row)) {
                    (b"", Some(id)) => any(&RequestId(*id).text()),
                    (event, _) => any(event),
                });
            }
            TextField::ModelType => {
                let paths = block.texts(Text::Path)?;
                self.cells(paths, |path| any(field::model_type(path).as_bytes()));
            }
            TextField::RequestType => {
                let flags = block.flags()?;
                self.each(|row| {
                    flags
                        .get(row)
                        .is_some_and(|flags| any(field::request_type(flags.to_native()).as_bytes()))
                });
            }
            TextField::DlpAction => {
                if any(b"") {
                    self.hits.fill(1);
                }
            }
            stored => {
                for text in stored.stored() {
                    self.cells(block.texts(*text)?, any);
                }
            }
        }
        Ok(())
    }

    fn flag(
        &mut self,
        field: FlagField,
        wanted: bool,
        block: &Block<'_>,
    ) -> Result<(), BlockError> {
        let turned = u8::from(!wanted);
        match field.bit() {
            Some(bit) => {
                for (hit, flags) in self.hits.iter_mut().zip(block.flags()?) {
                    *hit = u8::from(flags.to_native() & bit != 0) ^ turned;
                }
            }
            None => {
                for (hit, outcome) in self.hits.iter_mut().zip(block.outcomes()?) {
                    *hit = u8::from(field.of(0, *outcome)) ^ turned;
                }
            }
        }
        Ok(())
    }

    fn number(
        &mut self,
        field: NumberField,
        tests: &[NumberTest],
        block: &Block<'_>,
    ) -> Result<(), BlockError> {
        let any = |number: Option<u64>| tests.iter().any(|test| test.passes(number));
        let column = match field {
            NumberField::Status => {
                let statuses = block.statuses()?;
                for test in tests {
                    let (from, to) = match *test {
                        NumberTest::Within(from, to) => (from.max(1), to),
                        NumberTest::Unknown => (0, 0),
                    };
                    let Ok(from) = u16::try_from(from) else {
                        continue;
                    };
                    let to = u16::try_from(to).unwrap_or(u16::MAX);
                    for (hit, status) in self.hits.iter_mut().zip(statuses) {
                        let status = status.to_native();
                        *hit |= u8::from(from <= status) & u8::from(status <= to);
                    }
                }
                return Ok(());
            }
            NumberField::Step | NumberField::Attempt => {
                let column = match field {
                    NumberField::Step => block.steps()?,
                    _ => block.attempts()?,
                };
                let passes: [u8; 256] =
                    std::array::from_fn(|value| u8::from(any(Some(value as u64))));
                for (hit, value) in self.hits.iter_mut().zip(column) {
                    *hit = passes[usize::from(*value)];
                }
                return Ok(());
            }
            NumberField::Tokens => {
                let input = block.numbers(Number::TokensInput)?;
                let output = block.numbers(Number::TokensOutput)?;
                self.each(|row| {
                    any(match (input.get(row), output.get(row)) {
                        (None, None) => None,
                        (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
                    })
                });
                return Ok(());
            }
            NumberField::Cost => Number::Cost,
            NumberField::TokensIn => Number::TokensInput,
            NumberField::TokensOut => Number::TokensOutput,
            NumberField::CacheRead => Number::TokensCacheRead,
            NumberField::CacheWrite => Number::TokensCacheWrite,
            NumberField::Reasoning => Number::TokensReasoning,
            NumberField::Duration => Number::Duration,
            NumberField::FirstByte => Number::FirstByte,
            NumberField::FirstToken => Number::FirstToken,
            NumberField::Overhead => Number::Overhead,
            NumberField::RequestSize => Number::RequestBytes,
            NumberField::ResponseSize => Number::ResponseBytes,
        };
        let numbers = block.numbers(column)?;
        for test in tests {
            match *test {
                NumberTest::Within(from, to) => self.within(numbers, from, to),
                NumberTest::Unknown => self.unknown(numbers),
            }
        }
        Ok(())
    }

    fn within(&mut self, numbers: Numbers<'_>, from: u64, to: u64) {
        match numbers {
            Numbers::Unknown => {}
            Numbers::Each(values) => within_values(&mut self.hits, values, from, to),
            // What is unknown is stored as 0.
            Numbers::Some { values, .. } if from > 0 => {
                within_values(&mut self.hits, values, from, to);
            }
            Numbers::Some { values, known } => {
                self.room.clear();
                self.room.resize(self.hits.len(), 0);
                within_values(&mut self.room, values, from, to);
                let rows = self.hits.chunks_mut(64).zip(self.room.chunks(64));
                for ((hits, fits), known) in rows.zip(known) {
                    let known = known.to_native();
                    for (bit, (hit, fits)) in hits.iter_mut().zip(fits).enumerate() {
                        *hit |= fits & (known >> bit & 1) as u8;
                    }
                }
            }
        }
    }

    fn unknown(&mut self, numbers: Numbers<'_>) {
        match numbers {
            Numbers::Unknown => self.hits.fill(1),
            Numbers::Each(_) => {}
            Numbers::Some { known, .. } => {
                for (hits, known) in self.hits.chunks_mut(64).zip(known) {
                    let unknown = !known.to_native();
                    for (bit, hit) in hits.iter_mut().enumerate() {
                        *hit |= (unknown >> bit & 1) as u8;
                    }
                }
            }
        }
    }
}

/// Marks the rows whose number is between `from` and `to`, both included.
fn within_values(hits: &mut [u8], values: Values<'_>, from: u64, to: u64) {
    // What is below the base is below every number.
    let Some(to) = to.checked_sub(values.base) else {
        return;
    };
    let from = from.saturating_sub(values.base);
    with_cells!(values.slots, cells => within(hits, cells, from, to));
}

/// The same for stored numbers, compared as narrow as they are.
fn within<C: Cell>(hits: &mut [u8], cells: &[C], from: u64, to: u64) {
    let Ok(from) = C::Plain::try_from(from) else {
        return; // above whatever fits
    };
    let to = C::Plain::try_from(to).unwrap_or(C::MAX);
    for (hit, cell) in hits.iter_mut().zip(cells) {
        let value = cell.plain();
        *hit |= u8::from(from <= value) & u8::from(value <= to);
    }
}

#[cfg(test)]
mod tests;
