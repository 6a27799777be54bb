//! The columns that a question about groups needs.

use super::Wanted;
use crate::{
    control::{
        logs::block::{Block, BlockError, Number, Numbers, U16, U32},
        rollup::totals::{Class, Time, Tokens},
    },
    domain::{outcome::Outcome, record::flag},
};

/// The columns that are needed, all verified before the first is added up.
pub(super) struct Columns<'a> {
    pub(super) classes: Option<ClassColumns<'a>>,
    pub(super) tokens: Vec<(Tokens, Numbers<'a>)>,
    pub(super) unmetered: Option<(Numbers<'a>, Numbers<'a>)>,
    pub(super) cost: Option<Numbers<'a>>,
    pub(super) times: Vec<(Time, Numbers<'a>)>,
}

impl<'a> Columns<'a> {
    /// Says whether nothing is wanted but sums of columns.
    pub(super) fn are_sums(&self) -> bool {
        self.classes.is_none() && self.times.is_empty()
    }

    pub(super) fn of(block: &Block<'a>, wanted: Wanted) -> Result<Self, BlockError> {
        let mut columns = Self {
            classes: None,
            tokens: Vec::new(),
            unmetered: None,
            cost: None,
            times: Vec::new(),
        };
        if wanted.classes {
            columns.classes = Some(ClassColumns::of(block)?);
        }
        if wanted.tokens {
            for (kind, number) in [
                (Tokens::Input, Number::TokensInput),
                (Tokens::Output, Number::TokensOutput),
                (Tokens::CacheRead, Number::TokensCacheRead),
                (Tokens::CacheWrite, Number::TokensCacheWrite),
                (Tokens::Reasoning, Number::TokensReasoning),
            ] {
                let numbers = block.numbers(number)?;
                if !matches!(numbers, Numbers::Unknown) {
                    columns.tokens.push((kind, numbers));
                }
            }
            let input = block.numbers(Number::TokensInput)?;
            columns.unmetered = Some((input, block.numbers(Number::TokensOutput)?));
        }
        if wanted.cost {
            columns.cost = Some(block.numbers(Number::Cost)?);
        }
        for (time, number) in [
            (Time::Duration, Number::Duration),
            (Time::FirstToken, Number::FirstToken),
            (Time::Overhead, Number::Overhead),
        ] {
            if wanted.times[time as usize] {
                let numbers = block.numbers(number)?;
                columns.times.push((time, numbers));
            }
        }
        Ok(columns)
    }
}

/// What decides the class of a row.
pub(super) struct ClassColumns<'a> {
    outcomes: &'a [u8],
    statuses: &'a [U16],
    flags: &'a [U32],
    steps: &'a [u8],
    attempts: &'a [u8],
}

impl<'a> ClassColumns<'a> {
    fn of(block: &Block<'a>) -> Result<Self, BlockError> {
        Ok(Self {
            outcomes: block.outcomes()?,
            statuses: block.statuses()?,
            flags: block.flags()?,
            steps: block.steps()?,
            attempts: block.attempts()?,
        })
    }

    /// The class of a row; that of most is told without a look at the status.
    #[inline]
    pub(super) fn of_row(&self, row: usize) -> Class {
        let outcome = self.outcomes.get(row).copied().unwrap_or(u8::MAX);
        let flags = self.flags.get(row).map_or(0, |flags| flags.to_native());
        if outcome == Outcome::Ok as u8 && flags & flag::CACHED == 0 {
            return Class::Ok;
        }
        let status = self
            .statuses
            .get(row)
            .map_or(0, |status| status.to_native());
        Class::of(outcome, status, flags)
    }

    #[inline]
    pub(super) fn is_first(&self, row: usize) -> bool {
        self.steps.get(row) == Some(&0) && self.attempts.get(row) == Some(&0)
    }
}
