//! A window that moves along: what was counted within the last so many microseconds.

use std::collections::VecDeque;

use super::{Detail, Now};

/// What was counted at a moment, or in a slot; its moment is the youngest that it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    moment: u64,
    amount: u64,
}

/// What was counted within the last `span` microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sliding {
    span: u64,
    /// Oldest first, each moment once.
    entries: VecDeque<Entry>,
    sum: u128,
    /// Moments are rounded up to the last of a slot of this length; 1 rounds nothing.
    slot: u64,
    /// What was counted before this moment has left.
    left: u64,
}

impl Sliding {
    pub(super) fn new(span: u64) -> Self {
        Self {
            span: span.max(1),
            entries: VecDeque::new(),
            sum: 0,
            slot: 1,
            left: 0,
        }
    }

    pub(super) fn span(&self) -> u64 {
        self.span
    }

    pub(super) fn set_span(&mut self, span: u64) {
        self.span = span.max(1);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn roll(&mut self, now: Now) {
        while let Some(oldest) = self.entries.front() {
            if !self.has_left(oldest.moment, now) {
                return;
            }
            self.sum -= u128::from(oldest.amount);
            self.left = oldest.moment + 1;
            self.entries.pop_front();
        }
        // Empty: from here on each moment can be noted again.
        self.slot = 1;
    }

    fn has_left(&self, moment: u64, now: Now) -> bool {
        now.micros.saturating_sub(moment) >= self.span
    }

    pub(super) fn sum(&self) -> u128 {
        self.sum
    }

    /// What counts, oldest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, u64)> {
        self.entries
            .iter()
            .map(|entry| (entry.moment, entry.amount))
    }

    /// Adds an amount. Moments before the youngest are taken, too.
    pub(super) fn add(&mut self, moment: u64, amount: u64, detail: Detail) {
        self.put(self.round(moment), amount);
        if self.entries.len() > detail.exact {
            self.make_slots(detail.slots);
        }
    }

    /// Adds to the entry of a moment, which is made if it is not there.
    fn put(&mut self, moment: u64, amount: u64) {
        let at = self.place(moment);
        let mut added = amount;
        match self.entries.get_mut(at) {
            Some(entry) if entry.moment == moment => {
                // One entry holds 18 million dollars.
                added = amount.min(u64::MAX - entry.amount);
                entry.amount += added;
            }
            _ => self.entries.insert(at, Entry { moment, amount }),
        }
        self.sum += u128::from(added);
    }

    /// Where the entry of a moment is, or would be.
    fn place(&self, moment: u64) -> usize {
        match self.entries.back() {
            // What is added is the youngest, nearly always.
            Some(youngest) if youngest.moment < moment => self.entries.len(),
            _ => self.entries.partition_point(|entry| entry.moment < moment),
        }
    }

    /// Changes what was added at a moment, for as long as that counts: in a slot until the slot has
    /// left. What left before there were slots, or a longer span, does not come back.
    pub(super) fn change(&mut self, added: u64, from: u64, to: u64, now: Now) {
        let moment = self.round(added);
        if added < self.left || self.has_left(moment, now) {
            return;
        }
        if to >= from {
            return self.put(moment, to - from);
        }
        // Its entry is the first one there, unless the rule had another span meanwhile: then it is
        // part of a younger one.
        let mut less = from - to;
        let at = self.place(moment);
        for entry in self.entries.iter_mut().skip(at) {
            let part = less.min(entry.amount);
            entry.amount -= part;
            self.sum -= u128::from(part);
            less -= part;
            if less == 0 {
                return;
            }
        }
    }

    pub(super) fn wait(&self, most: u128, now: Now) -> u64 {
        let mut sum = self.sum;
        if most == 0
            && let Some(youngest) = self.entries.iter().rev().find(|entry| entry.amount > 0)
        {
            let leaves = youngest.moment.saturating_add(self.span);
            return leaves.saturating_sub(now.micros).max(1);
        }
        for entry in &self.entries {
            if sum <= most {
                break;
            }
            sum -= u128::from(entry.amount);
            if sum <= most {
                let leaves = entry.moment.saturating_add(self.span);
                return leaves.saturating_sub(now.micros).max(1);
            }
        }
        0
    }

    /// The last moment of the slot that `moment` is in.
    fn round(&self, moment: u64) -> u64 {
        moment - moment % self.slot + (self.slot - 1)
    }

    /// Puts all entries into slots, unless they are in slots as long already.
    fn make_slots(&mut self, slots: u64) {
        let slot = self.span.div_ceil(slots.max(1)).max(1);
        if slot <= self.slot {
            return;
        }
        self.slot = slot;
        self.sum = 0;
        for entry in std::mem::take(&mut self.entries) {
            self.put(self.round(entry.moment), entry.amount);
        }
    }
}
