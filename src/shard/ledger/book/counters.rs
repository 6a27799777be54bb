//! The counters of one owner: found by key, bounded in number and memory, dropped when nothing
//! counts on them any more.

use std::{
    collections::{BTreeSet, HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
};

use super::{COUNTERS_MAX, verdict::granted};
use crate::{
    handoff::ledger::Charge,
    shard::ledger::window::{Detail, Now, Window},
    snapshot::limits::{Claim, CounterKey, Span},
};

/// Entries of all windows together: 16 MB. Beyond this, windows that grow remember less.
const ENTRIES_MAX: usize = 1 << 20;

/// From here on windows that grow remember less already, so that there is room for more of them.
const ENTRIES_MANY: usize = ENTRIES_MAX / 4;

/// Time between two looks at a counter that could not be dropped.
const LOOK_AGAIN_MICROS: u64 = 1_000_000;

/// Time between two looks at what the journal held and nobody has asked for.
const PAST_EVERY_MICROS: u64 = 60_000_000;

/// One counter.
#[derive(Debug)]
pub(super) struct Counter {
    /// What counts.
    pub(super) window: Window,
    /// The part of it that is reserved and not settled yet.
    pub(super) held: u128,
    /// Permits that will come back to it: it is not dropped before.
    pub(super) permits: u32,
    /// The window as the last claim had it.
    span: Span,
    /// When it is looked at next.
    look: u64,
}

/// A map by counter. A key is a hash already: here it is mixed once, with what nobody can foresee, so
/// that nobody who tries values for long can make keys fall together.
pub(super) type ByCounter<V> = HashMap<CounterKey, V, ByName>;

/// Hashes the one word that a [`CounterKey`] gives.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByName(u64);

impl Default for ByName {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for ByName {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for ByName {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // Both halves of the product, so that each bit of the word counts in each of the hash.
        let product = u128::from(self.0 ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        let low = u64::try_from(product & u128::from(u64::MAX)).unwrap_or_default();
        self.0 = low ^ u64::try_from(product >> 64).unwrap_or_default();
    }
}

/// All counters of an owner.
#[derive(Debug, Default)]
pub(super) struct Counters {
    all: ByCounter<Counter>,
    /// Each counter once, by when it is looked at next.
    looks: BTreeSet<(u64, CounterKey)>,
    /// What the journal held of counters that nobody has asked for yet.
    past: ByCounter<Vec<Charge>>,
    past_looked_at: u64,
    /// Entries of all windows.
    entries: usize,
}

impl Counters {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn recover(&mut self, charges: impl IntoIterator<Item = Charge>) {
        for charge in charges {
            self.past.entry(charge.key).or_default().push(charge);
        }
    }

    /// A counter as it is now.
    pub(super) fn get(&mut self, key: CounterKey, now: Now) -> Option<&Counter> {
        let span = self.all.get(&key)?.span;
        self.roll(key, span, now)
    }

    /// The counter of a claim as it is now; `None` if nothing counts there yet.
    pub(super) fn of_claim(&mut self, claim: &Claim, now: Now) -> Option<&Counter> {
        if !self.past.is_empty()
            && !self.all.contains_key(&claim.key)
            && let Some(charges) = self.past.remove(&claim.key)
        {
            // What has counted before counts, whether or not there is room for a counter.
            let counter = self.make(claim, now);
            for charge in charges {
                counter
                    .window
                    .add_past(charge.at_micros, charge.amount, now);
            }
            let entries = counter.window.len();
            self.entries += entries;
        }
        self.roll(claim.key, claim.span, now)
    }

    fn roll(&mut self, key: CounterKey, span: Span, now: Now) -> Option<&Counter> {
        let counter = self.all.get_mut(&key)?;
        let before = counter.window.len();
        counter.span = span;
        counter.window.roll(span, now);
        self.entries = (self.entries + counter.window.len()).saturating_sub(before);
        Some(counter)
    }

    fn make(&mut self, claim: &Claim, now: Now) -> &mut Counter {
        let looks = &mut self.looks;
        self.all.entry(claim.key).or_insert_with(|| {
            let look = now.micros + LOOK_AGAIN_MICROS;
            looks.insert((look, claim.key));
            Counter {
                window: Window::new(claim.span, now),
                held: 0,
                permits: 0,
                span: claim.span,
                look,
            }
        })
    }

    /// Adds what is granted of a claim to its counter, which is made if it is not there, and lets
    /// `note` see both.
    pub(super) fn add(&mut self, claim: &Claim, now: Now, note: impl FnOnce(&mut Counter, u64)) {
        let mut note = Some(note);
        let mut add = |counter: &mut Counter, detail| {
            let amount = granted(claim, counter.window.sum());
            if amount > 0 {
                counter.window.add(amount, now, detail);
            }
            if let Some(note) = note.take() {
                note(counter, amount);
            }
        };
        if !self.change(claim.key, now, &mut add) {
            self.make(claim, now);
            self.change(claim.key, now, &mut add);
        }
    }

    /// Changes a counter as it is now; `false`: it is not there.
    pub(super) fn change(
        &mut self,
        key: CounterKey,
        now: Now,
        change: impl FnOnce(&mut Counter, Detail),
    ) -> bool {
        let detail = if self.entries < ENTRIES_MANY {
            Detail::FINE
        } else if self.entries < ENTRIES_MAX {
            Detail::MEDIUM
        } else {
            Detail::COARSE
        };
        let Some(counter) = self.all.get_mut(&key) else {
            return false;
        };
        let before = counter.window.len();
        counter.window.roll(counter.span, now);
        change(counter, detail);
        self.entries = (self.entries + counter.window.len()).saturating_sub(before);
        // What was given back leaves nothing to wait for.
        let look = now.micros.saturating_add(LOOK_AGAIN_MICROS);
        if counter.window.sum() == 0 && counter.permits == 0 && look < counter.look {
            self.looks.remove(&(counter.look, key));
            self.looks.insert((look, key));
            counter.look = look;
        }
        true
    }

    /// Says whether so many counters can be made; looks for some that can be dropped if not.
    pub(super) fn make_room(&mut self, count: usize, now: Now) -> bool {
        if self.all.len() + count > COUNTERS_MAX {
            self.sweep(super::ENDS_A_TICK, now);
        }
        self.all.len() + count <= COUNTERS_MAX
    }

    /// Drops counters on which nothing counts, of at most `most` that it looks at.
    pub(super) fn sweep(&mut self, most: usize, now: Now) {
        for _ in 0..most {
            let next = self.looks.first().copied();
            let Some((look, key)) = next.filter(|(look, _)| *look <= now.micros) else {
                break;
            };
            self.looks.remove(&(look, key));
            self.look_at(key, now);
        }
        if now.micros.saturating_sub(self.past_looked_at) >= PAST_EVERY_MICROS {
            self.past_looked_at = now.micros;
            self.past.retain(|_, charges| {
                charges.retain(|charge| charge.until_micros > now.unix_micros);
                !charges.is_empty()
            });
        }
    }

    fn look_at(&mut self, key: CounterKey, now: Now) {
        let Some(counter) = self.get(key, now) else {
            return;
        };
        if counter.window.sum() == 0 && counter.permits == 0 {
            let entries = counter.window.len();
            self.entries = self.entries.saturating_sub(entries);
            self.all.remove(&key);
            return;
        }
        let wait = counter.window.wait_empty(now).max(LOOK_AGAIN_MICROS);
        if let Some(counter) = self.all.get_mut(&key) {
            counter.look = now.micros.saturating_add(wait);
            self.looks.insert((counter.look, key));
        }
    }
}
