//! Which records: one typed filter, from whatever form it was written in.
//!
//! A [`Filter`] is a list of terms that must all hold; a term is a field with the values it may
//! have, or may not have. Three sources make one: the short language of dashboard and command line
//! ([`language`]), the filters of the management API ([`contract`]), and the command line's flags,
//! which are terms of the short language. It prints as the short language, so that what one face
//! asked can be shown, kept and asked again on another.
//!
//! Reading order: here the terms; [`field`] (what a record has), [`number`] and [`text`] (how
//! values compare), [`said`], [`language`], `print`, [`contract`].

use std::{collections::HashSet, ops::RangeInclusive, sync::Arc};

use crate::domain::{
    id::RequestId,
    outcome::Outcome,
    record::{ArchivedRecord, Text},
};

pub mod field;
pub mod number;
pub mod text;
pub mod said;
pub mod language;
mod print;
pub mod contract;

pub use field::{FlagField, NumberField, TextField};
pub use language::{FilterError, parse_time};
pub use number::NumberTest;
pub use said::Said;
pub use text::Pattern;

/// A compiled filter: terms that must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Cheap terms come first.
    terms: Vec<Term>,
    said: Arc<Said>,
}

/// One term of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// It must not hold.
    pub negated: bool,
    /// What is asked.
    pub test: Test,
}

/// What a term asks. Of several values one must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// A number lies within bounds, or is unknown.
    Number(NumberField, Vec<NumberTest>),
    /// A yes-or-no is as given.
    Flag(FlagField, bool),
    /// It ended in one of these ways.
    Outcome(Vec<Outcome>),
    /// It began within one of these stretches: microseconds since the Unix epoch, both ends
    /// included; a stretch whose end is before its start is empty.
    Time(Vec<(u64, u64)>),
    /// Its id, as text.
    Id(Vec<Pattern>),
    /// It is of this gateway: ids are compared to the letter, other than texts.
    Gateway(String),
    /// A text.
    Text(TextField, Vec<Pattern>),
    /// The name of any member of its metadata.
    MetadataKey(Vec<Pattern>),
    /// The value of any member of its metadata.
    MetadataValue(Vec<Pattern>),
    /// The value of the member of its metadata with this name.
    Metadata(String, Vec<Pattern>),
    /// What people said of it is one of these: 1 up, -1 down, `None` for no word about it.
    Feedback(Vec<Option<i64>>),
    /// Contains a text: in path, model, error or metadata, or in a body.
    Free(FreeText),
}

/// A text that may be anywhere in a record, or in its bodies.
///
/// Bodies lie apart and are looked through before records are ([`Filter::with_bodies`]); a question
/// that does not do that does not find what is in bodies only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeText {
    /// In lower case.
    pub text: String,
    /// The records whose bodies have it.
    bodies: Arc<HashSet<[u8; 16]>>,
}

impl FreeText {
    /// This text, which is not looked for in bodies yet.
    pub fn new(text: &str) -> Self {
        Self {
            text: text.to_ascii_lowercase(),
            bodies: Arc::default(),
        }
    }

    /// Says whether a record's bodies are known to have the text.
    pub fn is_in_bodies_of(&self, id: [u8; 16]) -> bool {
        self.bodies.contains(&id)
    }

    /// Says whether no body is known to have it.
    pub fn is_in_no_body(&self) -> bool {
        self.bodies.is_empty()
    }
}

impl Term {
    /// A term that must hold.
    pub fn of(test: Test) -> Self {
        Self {
            negated: false,
            test,
        }
    }

    fn passes(&self, record: &ArchivedRecord, said: &Said) -> bool {
        self.test.passes(record, said) != self.negated
    }
}

impl Test {
    /// How dear it is to ask, by order of magnitude.
    fn rank(&self) -> u8 {
        match self {
            Self::Number(..)
            | Self::Flag(..)
            | Self::Outcome(_)
            | Self::Time(_)
            | Self::Gateway(_) => 0,
            Self::Id(_) | Self::Text(..) | Self::Feedback(_) => 1,
            Self::MetadataKey(_) | Self::MetadataValue(_) | Self::Metadata(..) => 2,
            Self::Free(_) => 3,
        }
    }

    fn passes(&self, record: &ArchivedRecord, said: &Said) -> bool {
        let stored = |text: Text| match said.metadata(&record.id) {
            Some(metadata) if text == Text::Metadata => metadata,
            _ => record.texts.get(text),
        };
        match self {
            Self::Number(field, tests) => {
                let number = field.of(record);
                tests.iter().any(|test| test.passes(number))
            }
            Self::Flag(field, wanted) => {
                field.of(record.flags.to_native(), record.outcome) == *wanted
            }
            Self::Outcome(outcomes) => {
                let outcome = Outcome::from_number(record.outcome);
                outcomes.iter().any(|wanted| Some(*wanted) == outcome)
            }
            Self::Time(stretches) => {
                let at = record.at_micros.to_native();
                stretches
                    .iter()
                    .any(|(from, to)| (*from..=*to).contains(&at))
            }
            Self::Id(patterns) => {
                let text = RequestId(record.id).text();
                patterns.iter().any(|pattern| pattern.matches(&text))
            }
            Self::Gateway(id) => record.texts.get(Text::Gateway) == id.as_bytes(),
            Self::Text(TextField::Metadata, patterns) => {
                let metadata = stored(Text::Metadata);
                patterns.iter().any(|pattern| pattern.matches(metadata))
            }
            Self::Text(field, patterns) => field.any(record, |text| {
                patterns.iter().any(|pattern| pattern.matches(text))
            }),
            Self::MetadataKey(_) | Self::MetadataValue(_) | Self::Metadata(..) => {
                self.passes_metadata(stored(Text::Metadata))
            }
            Self::Feedback(wanted) => wanted.contains(&said.feedback(&record.id)),
            Self::Free(free) => {
                let mut texts = FREE_TEXTS.into_iter();
                texts.any(|text| text::contains(stored(text), free.text.as_bytes()))
                    || free.is_in_bodies_of(record.id)
            }
        }
    }

    /// Says whether the answer depends on metadata.
    pub(super) fn asks_metadata(&self) -> bool {
        matches!(
            self,
            Self::MetadataKey(_)
                | Self::MetadataValue(_)
                | Self::Metadata(..)
                | Self::Text(TextField::Metadata, _)
                | Self::Free(_)
        )
    }

    /// Answers a question about metadata, given its JSON text.
    pub(super) fn passes_metadata(&self, json: &[u8]) -> bool {
        let members = || field::members(json);
        match self {
            Self::MetadataKey(patterns) => members()
                .iter()
                .any(|(name, _)| patterns.iter().any(|p| p.matches(name.as_bytes()))),
            Self::MetadataValue(patterns) => members()
                .iter()
                .any(|(_, value)| patterns.iter().any(|p| p.matches(value.as_bytes()))),
            Self::Metadata(name, patterns) => field::metadata_value(json, name)
                .is_some_and(|value| patterns.iter().any(|p| p.matches(value.as_bytes()))),
            Self::Text(TextField::Metadata, patterns) => patterns.iter().any(|p| p.matches(json)),
            Self::Free(free) => text::contains(json, free.text.as_bytes()),
            _ => false,
        }
    }
}

/// Where free text is looked for in a record itself.
pub(super) const FREE_TEXTS: [Text; 4] = [Text::Path, Text::Model, Text::Error, Text::Metadata];

impl Filter {
    /// A filter of these terms.
    pub fn new(mut terms: Vec<Term>) -> Self {
        terms.sort_by_key(|term| term.test.rank());
        Self {
            terms,
            said: Arc::default(),
        }
    }

    /// Compiles the short language; times such as `2h` are counted back from `now_micros` (Unix
    /// epoch).
    pub fn parse(filter: &str, now_micros: u64) -> Result<Self, FilterError> {
        language::parse(filter, now_micros)
    }

    /// Its terms, cheap ones first.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Says whether every record passes.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Says whether the record passes. Bodies are not looked at.
    pub fn matches(&self, record: &ArchivedRecord) -> bool {
        self.terms
            .iter()
            .all(|term| term.passes(record, &self.said))
    }

    /// The times at which a record that passes can have begun: what lies outside needs no look.
    pub fn micros(&self) -> RangeInclusive<u64> {
        let (mut from, mut to) = (0, u64::MAX);
        for term in self.terms.iter().filter(|term| !term.negated) {
            let Test::Time(stretches) = &term.test else {
                continue;
            };
            from = from.max(stretches.iter().map(|s| s.0).min().unwrap_or(u64::MAX));
            to = to.min(stretches.iter().map(|s| s.1).max().unwrap_or(0));
        }
        from..=to
    }

    /// Adds the terms of `other`. What was said stays what this one was told.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.terms.extend(other.terms);
        self.terms.sort_by_key(|term| term.test.rank());
        self
    }

    /// Says whether it asks for feedback, so that [`with_said`](Self::with_said) is due.
    pub fn asks_feedback(&self) -> bool {
        let mut tests = self.terms.iter().map(|term| &term.test);
        tests.any(|test| matches!(test, Test::Feedback(_)))
    }

    /// Says whether it asks for metadata, which people may have replaced.
    pub fn asks_metadata(&self) -> bool {
        self.terms.iter().any(|term| term.test.asks_metadata())
    }

    /// Tells it what people said of records.
    #[must_use]
    pub fn with_said(mut self, said: Arc<Said>) -> Self {
        self.said = said;
        self
    }

    /// What people said of records, as far as it was told.
    pub fn said(&self) -> &Said {
        &self.said
    }

    /// The texts that it looks for anywhere, bodies included.
    pub fn free_texts(&self) -> impl Iterator<Item = &FreeText> {
        self.terms.iter().filter_map(|term| match &term.test {
            Test::Free(free) => Some(free),
            _ => None,
        })
    }

    /// Tells it in which records' bodies its free texts are, in the order of
    /// [`free_texts`](Self::free_texts).
    #[must_use]
    pub fn with_bodies(mut self, found: Vec<HashSet<[u8; 16]>>) -> Self {
        let free = self
            .terms
            .iter_mut()
            .filter_map(|term| match &mut term.test {
                Test::Free(free) => Some(free),
                _ => None,
            });
        for (free, found) in free.zip(found) {
            free.bodies = Arc::new(found);
        }
        self
    }
}

#[cfg(test)]
mod tests;
