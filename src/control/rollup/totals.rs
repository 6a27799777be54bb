//! What is counted and summed of records, whoever groups them.

use super::sketch::Sketch;
use crate::domain::{outcome::Outcome, record::flag};

/// How an exchange ended, as charts tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Class {
    /// It went well.
    Ok = 0,
    /// The cache answered.
    Cached = 1,
    /// tidegate refused it for a limit: 429, 402.
    Limited = 2,
    /// tidegate refused it for its content: 424.
    Blocked = 3,
    /// tidegate refused it for another reason.
    Refused = 4,
    /// The provider refused it.
    ClientError = 5,
    /// The provider failed.
    UpstreamError = 6,
    /// The caller went away.
    Cancelled = 7,
    /// tidegate itself failed.
    Internal = 8,
}

/// How many classes there are.
pub const CLASSES: usize = 9;

impl Class {
    /// Every class, in the order of its number.
    pub const ALL: [Self; CLASSES] = [
        Self::Ok,
        Self::Cached,
        Self::Limited,
        Self::Blocked,
        Self::Refused,
        Self::ClientError,
        Self::UpstreamError,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Cached => "cached",
            Self::Limited => "limited",
            Self::Blocked => "blocked",
            Self::Refused => "refused",
            Self::ClientError => "client_error",
            Self::UpstreamError => "upstream_error",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// The class of a record.
    pub fn of(outcome: u8, status: u16, flags: u32) -> Self {
        match Outcome::from_number(outcome) {
            Some(Outcome::Ok) if flags & flag::CACHED != 0 => Self::Cached,
            Some(Outcome::Ok) => Self::Ok,
            Some(Outcome::ClientError) => Self::ClientError,
            Some(
                Outcome::UpstreamError
                | Outcome::UpstreamFailed
                | Outcome::UpstreamTimeout
                | Outcome::UpstreamCut,
            ) => Self::UpstreamError,
            Some(Outcome::Cancelled) => Self::Cancelled,
            Some(Outcome::Refused | Outcome::Unauthorized) => match status {
                429 | 402 => Self::Limited,
                424 => Self::Blocked,
                _ => Self::Refused,
            },
            Some(Outcome::Internal) | None => Self::Internal,
        }
    }

    /// Says whether a provider was asked.
    pub fn is_attempt(self) -> bool {
        match self {
            Self::Ok | Self::ClientError | Self::UpstreamError | Self::Cancelled => true,
            Self::Cached | Self::Limited | Self::Blocked | Self::Refused | Self::Internal => false,
        }
    }

    /// Says whether it is an error.
    pub fn is_error(self) -> bool {
        !matches!(self, Self::Ok | Self::Cached)
    }
}

/// The kinds of tokens that are summed, in the order in which they lie in [`Totals::tokens`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Tokens {
    /// All input tokens.
    Input = 0,
    /// All output tokens.
    Output = 1,
    /// Those of the input that were read from the provider's prompt cache.
    CacheRead = 2,
    /// Those of the input that were written to it.
    CacheWrite = 3,
    /// Those of the output that were spent on reasoning.
    Reasoning = 4,
    /// Those of the input that belong to answers from the gateway's own cache.
    CachedInput = 5,
    /// Those of the output that belong to answers from the gateway's own cache.
    CachedOutput = 6,
}

/// How many kinds of tokens there are.
pub const TOKENS: usize = 7;

/// Counts and sums, all exact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Records.
    pub rows: u64,
    /// Requests: records of a first attempt (contract `observability.md` 3.4).
    pub requests: u64,
    /// Records by [`Class`].
    pub classes: [u64; CLASSES],
    /// Sums by [`Tokens`], of what is known.
    pub tokens: [u128; TOKENS],
    /// Records whose tokens are not known, input or output.
    pub unmetered: u64,
    /// Sum of what is known, in pico-dollars.
    pub cost: u128,
    /// Records whose cost is not known.
    pub unpriced: u64,
}

impl Totals {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.requests += other.requests;
        for (mine, theirs) in self.classes.iter_mut().zip(other.classes) {
            *mine += theirs;
        }
        for (mine, theirs) in self.tokens.iter_mut().zip(other.tokens) {
            *mine += theirs;
        }
        self.unmetered += other.unmetered;
        self.cost += other.cost;
        self.unpriced += other.unpriced;
    }

    /// Takes all of `other`, which is a part of it, out again.
    pub fn subtract(&mut self, other: &Self) {
        let less = |mine: &mut u64, theirs: u64| *mine = mine.saturating_sub(theirs);
        less(&mut self.rows, other.rows);
        less(&mut self.requests, other.requests);
        for (mine, theirs) in self.classes.iter_mut().zip(other.classes) {
            less(mine, theirs);
        }
        for (mine, theirs) in self.tokens.iter_mut().zip(other.tokens) {
            *mine = mine.saturating_sub(theirs);
        }
        less(&mut self.unmetered, other.unmetered);
        self.cost = self.cost.saturating_sub(other.cost);
        less(&mut self.unpriced, other.unpriced);
    }

    /// Records for which a provider was asked.
    pub fn attempts(&self) -> u64 {
        self.sum_of(Class::is_attempt)
    }

    /// Records that ended in an error.
    pub fn errors(&self) -> u64 {
        self.sum_of(Class::is_error)
    }

    /// Records that the cache answered.
    pub fn cached(&self) -> u64 {
        self.classes[Class::Cached as usize]
    }

    /// Tokens of a kind that providers were asked for: without those of answers from the cache.
    pub fn used(&self, kind: Tokens) -> u128 {
        let all = self.tokens[kind as usize];
        match kind {
            Tokens::Input => all - self.tokens[Tokens::CachedInput as usize],
            Tokens::Output => all - self.tokens[Tokens::CachedOutput as usize],
            Tokens::CacheRead
            | Tokens::CacheWrite
            | Tokens::Reasoning
            | Tokens::CachedInput
            | Tokens::CachedOutput => all,
        }
    }

    fn sum_of(&self, wanted: fn(Class) -> bool) -> u64 {
        let classes = Class::ALL.into_iter().filter(|class| wanted(*class));
        classes.map(|class| self.classes[class as usize]).sum()
    }
}

/// The times of which histograms are kept, in the order in which they lie in [`Times`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Time {
    /// From the request's head to the end of the answer.
    Duration = 0,
    /// From the request sent to the first token.
    FirstToken = 1,
    /// What tidegate added.
    Overhead = 2,
}

/// How many times there are.
pub const TIMES: usize = 3;

/// Histograms in microseconds, by [`Time`].
pub type Times = [Sketch; TIMES];
