//! Windows: what was counted, and how much of it still counts.
//!
//! Plain values: the time is handed in with every call. An amount counts from when it was added;
//! later it may be changed to what it turned out to be, and leaves when it would have left anyway.
//! So the sum of a window is what was admitted in it, never more and never less, but for two
//! roundings that both count too long:
//!
//! * A sliding window notes each moment apart up to a number ([`Detail`]). With more it becomes
//!   slots of equal length, of which the oldest counts whole until its last moment has left.
//! * A window whose length was changed keeps what it has as if it were as young as it may be.
//!
//! Fixed windows and periods of the calendar follow the time of day, sliding ones the monotonic
//! clock. A time of day that was set back neither empties a window nor keeps it full for long: how
//! old an amount is, is told by the monotonic clock alone.

mod frame;
mod sliding;
#[cfg(test)]
mod tests;

use frame::Frame;
use sliding::Sliding;

use crate::{
    shard::clock::{Clock, Moment},
    snapshot::limits::Span,
};

/// How much a sliding window remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detail {
    /// Moments that are noted apart; 16 bytes each.
    pub exact: usize,
    /// Slots of a window that has more moments: what it lets in is at most one of them late.
    pub slots: u64,
}

impl Detail {
    /// The usual: a limit of 4,096 requests is exact to the microsecond.
    pub const FINE: Self = Self {
        exact: 4_096,
        slots: 256,
    };

    /// Where counters have taken a good part of the memory that they may have.
    pub const MEDIUM: Self = Self {
        exact: 256,
        slots: 256,
    };

    /// Where they have taken all of it.
    pub const COARSE: Self = Self {
        exact: 16,
        slots: 16,
    };
}

/// What time it is, by both clocks of a counter's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Microseconds of a clock that never steps back. It is so far from zero that what was counted
    /// before the process began has a place on it, too.
    pub micros: u64,
    /// Microseconds since the Unix epoch.
    pub unix_micros: u64,
}

/// Where the monotonic clock begins: further from zero than any window is long.
pub const MICROS_AT_START: u64 = 1 << 60;

impl Now {
    /// A moment of a shard's clock.
    pub fn of_moment(clock: &Clock, moment: Moment) -> Self {
        let micros = moment.micros_since(Moment::default());
        Self::new(micros, clock.unix_micros(moment))
    }

    /// The time `micros` after the owner's clock began.
    pub fn new(micros: u64, unix_micros: u64) -> Self {
        Self {
            micros: MICROS_AT_START.saturating_add(micros),
            unix_micros,
        }
    }

    /// The monotonic time of something that happened at a time of day; not later than now.
    pub fn moment_of(self, unix_micros: u64) -> u64 {
        let age = self.unix_micros.saturating_sub(unix_micros);
        self.micros.saturating_sub(age)
    }
}

/// What was counted within a [`Span`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Frame(Frame),
    Sliding(Sliding),
}

impl Window {
    /// An empty window.
    pub fn new(span: Span, now: Now) -> Self {
        Self(match span {
            Span::Sliding(micros) => Form::Sliding(Sliding::new(micros)),
            Span::Fixed(_) | Span::Calendar(_) => Form::Frame(Frame::new(span, now)),
        })
    }

    /// Lets go of what has left the window. If the rule has another span now, what counts is
    /// taken over into that.
    pub fn roll(&mut self, span: Span, now: Now) {
        match (&mut self.0, span) {
            (Form::Frame(frame), Span::Fixed(_) | Span::Calendar(_)) => frame.roll(span, now),
            (Form::Sliding(sliding), Span::Sliding(micros)) => {
                sliding.set_span(micros);
                sliding.roll(now);
            }
            (Form::Frame(frame), Span::Sliding(micros)) => {
                let mut sliding = Sliding::new(micros);
                let sum = u64::try_from(frame.sum()).unwrap_or(u64::MAX);
                sliding.add(frame.last(), sum, Detail::FINE);
                sliding.roll(now);
                self.0 = Form::Sliding(sliding);
            }
            (Form::Sliding(sliding), Span::Fixed(_) | Span::Calendar(_)) => {
                let mut frame = Frame::new(span, now);
                for (moment, amount) in sliding.entries() {
                    frame.add_past(moment, u128::from(amount), now);
                }
                self.0 = Form::Frame(frame);
            }
        }
    }

    /// What counts now. To be asked after [`Window::roll`].
    pub fn sum(&self) -> u128 {
        match &self.0 {
            Form::Frame(frame) => frame.sum(),
            Form::Sliding(sliding) => sliding.sum(),
        }
    }

    /// How many entries it holds, of 16 bytes each.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Frame(_) => 0,
            Form::Sliding(sliding) => sliding.len(),
        }
    }

    /// Says whether it holds no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an amount now. To be called after [`Window::roll`].
    pub fn add(&mut self, amount: u64, now: Now, detail: Detail) {
        match &mut self.0 {
            Form::Frame(frame) => frame.add(now.micros, u128::from(amount)),
            Form::Sliding(sliding) => sliding.add(now.micros, amount, detail),
        }
    }

    /// Adds an amount that was counted at a time of day in the past, if it counts still. To be
    /// called after [`Window::roll`].
    pub fn add_past(&mut self, unix_micros: u64, amount: u64, now: Now) {
        let moment = now.moment_of(unix_micros);
        match &mut self.0 {
            Form::Frame(frame) => frame.add_past(moment, u128::from(amount), now),
            Form::Sliding(sliding) => {
                sliding.add(moment, amount, Detail::FINE);
                sliding.roll(now);
            }
        }
    }

    /// Changes what was added at the monotonic moment `added` from one amount to another. Changes
    /// nothing if that has left the window.
    pub fn change(&mut self, added: u64, from: u64, to: u64, now: Now) {
        match &mut self.0 {
            Form::Frame(frame) => frame.change(added, from, to),
            Form::Sliding(sliding) => sliding.change(added, from, to, now),
        }
    }

    /// How many microseconds from now until the sum is at most `most`, if nothing is added: 0 if it
    /// is so already.
    pub fn wait(&self, most: u128, now: Now) -> u64 {
        match &self.0 {
            Form::Frame(frame) if frame.sum() <= most => 0,
            Form::Frame(frame) => frame.rest(now),
            Form::Sliding(sliding) => sliding.wait(most, now),
        }
    }

    /// How many microseconds from now until the window is empty, if nothing is added.
    pub fn wait_empty(&self, now: Now) -> u64 {
        self.wait(0, now)
    }

    /// Until when an amount that is added now counts: microseconds since the Unix epoch.
    pub fn leaves_at(&self, now: Now) -> u64 {
        match &self.0 {
            Form::Frame(frame) => frame.end(),
            Form::Sliding(sliding) => now.unix_micros.saturating_add(sliding.span()),
        }
    }
}
