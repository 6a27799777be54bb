//! A window that begins and ends by the clock on the wall: a fixed one, or a period of the
//! calendar.

use super::Now;
use crate::snapshot::limits::Span;

/// What was counted between two times of day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Where it begins and ends: microseconds since the Unix epoch.
    start: u64,
    end: u64,
    /// What it was made of.
    span: Span,
    sum: u128,
    /// The monotonic moment since which all that was added is in the sum.
    since: u64,
    /// The monotonic moment of the youngest amount.
    last: u64,
}

impl Frame {
    pub(super) fn new(span: Span, now: Now) -> Self {
        let (start, end) = around(span, now.unix_micros);
        Self {
            start,
            end,
            span,
            sum: 0,
            since: now.micros,
            last: 0,
        }
    }

    pub(super) fn roll(&mut self, span: Span, now: Now) {
        if span == self.span && (self.start..self.end).contains(&now.unix_micros) {
            return;
        }
        self.span = span;
        let (start, end) = around(span, now.unix_micros);
        if (start, end) == (self.start, self.end) {
            return;
        }
        // Time has passed the end; or the clock was set back, or the rule has another span, and
        // then what was counted within the new bounds, as the clock is now, goes on counting.
        let is_over = start >= self.end;
        let age = now.micros.saturating_sub(self.last);
        if is_over || now.unix_micros.saturating_sub(age) < start {
            self.sum = 0;
            self.since = now.micros;
        }
        (self.start, self.end) = (start, end);
    }

    pub(super) fn sum(&self) -> u128 {
        self.sum
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn add(&mut self, moment: u64, amount: u128) {
        self.sum = self.sum.saturating_add(amount);
        self.last = self.last.max(moment);
    }

    /// Adds what was counted at an earlier moment, if that is within the bounds.
    pub(super) fn add_past(&mut self, moment: u64, amount: u128, now: Now) {
        let age = now.micros.saturating_sub(moment);
        if now.unix_micros.saturating_sub(age) >= self.start {
            self.add(moment, amount);
            self.since = self.since.min(moment);
        }
    }

    pub(super) fn change(&mut self, added: u64, from: u64, to: u64) {
        if added >= self.since {
            let rest = self.sum.saturating_sub(u128::from(from));
            self.sum = rest.saturating_add(u128::from(to));
        }
    }

    /// Microseconds until it ends.
    pub(super) fn rest(&self, now: Now) -> u64 {
        self.end.saturating_sub(now.unix_micros).max(1)
    }
}

/// Where the window around a time begins and ends.
fn around(span: Span, unix_micros: u64) -> (u64, u64) {
    match span {
        Span::Fixed(micros) | Span::Sliding(micros) => {
            let micros = micros.max(1);
            let start = unix_micros - unix_micros % micros;
            (start, start.saturating_add(micros))
        }
        Span::Calendar([start, end, _]) if unix_micros < end => (start, end),
        Span::Calendar([_, end, next]) if unix_micros < next => (end, next),
        // Nobody has asked for long: periods as long as the last one known, until somebody does.
        Span::Calendar([_, end, next]) => {
            let length = next.saturating_sub(end).max(1);
            let start = unix_micros - (unix_micros - next) % length;
            (start, start.saturating_add(length))
        }
    }
}
