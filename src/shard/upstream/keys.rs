//! Several keys of one provider: which of them an attempt takes, and which ones rest.
//!
//! Keys take turns by their weights. One that the provider refused rests: as long as the provider
//! asked for where it has had too much, longer where it is not known there. Where all rest, the one
//! whose rest ends first is taken: the provider decides, not the gateway.

use std::{cell::RefCell, cmp::Reverse, collections::HashMap, time::Duration};

use crate::{shard::clock::Moment, snapshot::providers::StoredKey};

/// The rest of a key that had too much and was not told for how long.
const REST_USUAL: Duration = Duration::from_secs(5);

/// The longest rest: a wrong `Retry-After` must not lose a key for the day.
const REST_MAX: Duration = Duration::from_mins(5);

/// Keys that are remembered; beyond this all are forgotten. A configuration has fewer, but it may
/// be replaced.
const REMEMBERED_MAX: usize = 8 * 1024;

/// What a shard remembers of keys.
#[derive(Debug, Default)]
pub struct Keys(RefCell<HashMap<u64, Known>>);

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// Its turns by weight, less those it had.
    credit: i64,
    /// Until when it rests.
    rests_until: Moment,
}

/// Places in a list of keys, of which there are at most 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Places(u64);

impl Places {
    fn bit(place: usize) -> u64 {
        u32::try_from(place)
            .ok()
            .and_then(|place| 1u64.checked_shl(place))
            .unwrap_or(0)
    }

    /// Adds a place.
    pub fn add(&mut self, place: usize) {
        self.0 |= Self::bit(place);
    }

    /// Says whether a place is among them.
    pub fn has(self, place: usize) -> bool {
        self.0 & Self::bit(place) != 0
    }
}

/// Says whether an answer of that status is about the key.
pub fn is_of_key(status: u16) -> bool {
    matches!(status, 401 | 403 | 429)
}

impl Keys {
    /// The place of the key for the next attempt: one that was not tried and does not rest, in
    /// turn; else one that was not tried; else any.
    pub fn choose(&self, keys: &[StoredKey], tried: Places, now: Moment) -> usize {
        let mut all = self.0.borrow_mut();
        if all.len() > REMEMBERED_MAX {
            all.clear();
        }
        let rests = |all: &HashMap<u64, Known>, key: &StoredKey| {
            all.get(&key.id)
                .map(|known| known.rests_until)
                .filter(|until| *until > now)
        };
        let usable: Vec<usize> = (0..)
            .zip(keys)
            .filter(|(place, key)| !tried.has(*place) && rests(&all, key).is_none())
            .map(|(place, _)| place)
            .collect();
        if usable.is_empty() {
            let soonest = (0..)
                .zip(keys)
                .min_by_key(|(place, key)| (tried.has(*place), rests(&all, key)));
            return soonest.map_or(0, |(place, _)| place);
        }
        // Each gets its weight, and who is taken pays for all: as even as turns can be.
        let mut total = 0;
        let mut best = None;
        for place in usable {
            let Some(key) = keys.get(place) else {
                continue;
            };
            let known = all.entry(key.id).or_default();
            known.credit += i64::from(key.weight);
            total += i64::from(key.weight);
            best = best.max(Some((known.credit, Reverse(place))));
        }
        let Some((_, Reverse(place))) = best else {
            return 0;
        };
        if let Some(known) = keys.get(place).and_then(|key| all.get_mut(&key.id)) {
            known.credit -= total;
        }
        place
    }

    /// Says whether there is a key that was not tried and does not rest.
    pub fn has_other(&self, keys: &[StoredKey], tried: Places, now: Moment) -> bool {
        let all = self.0.borrow();
        (0..).zip(keys).any(|(place, key)| {
            let rests = all
                .get(&key.id)
                .is_some_and(|known| known.rests_until > now);
            !tried.has(place) && !rests
        })
    }

    /// Notes what the provider answered to a key. `asked`: for how long it wants to be left alone.
    pub fn answered(&self, key: &StoredKey, status: u16, asked: Option<Duration>, now: Moment) {
        let rest = match status {
            429 => asked.unwrap_or(REST_USUAL).min(REST_MAX),
            401 | 403 => REST_MAX,
            _ => return,
        };
        let mut all = self.0.borrow_mut();
        let known = all.entry(key.id).or_default();
        known.rests_until = now.after(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::providers::Secret;

    fn keys(weights: &[u16]) -> Vec<StoredKey> {
        let key = |(place, weight): (u32, &u16)| {
            StoredKey::new("openai", Secret::new(format!("sk-{place}")), *weight)
        };
        (0..).zip(weights).map(key).collect()
    }

    fn at(seconds: u64) -> Moment {
        Moment::default().after(Duration::from_secs(seconds))
    }

    fn turns(state: &Keys, keys: &[StoredKey], count: usize, now: Moment) -> Vec<usize> {
        let choose = |_| state.choose(keys, Places::default(), now);
        (0..count).map(choose).collect()
    }

    #[test]
    fn keys_take_turns_by_weight() {
        let (state, keys) = (Keys::default(), keys(&[2, 1, 1]));
        let turns = turns(&state, &keys, 400, at(0));
        let count = |place| turns.iter().filter(|turn| **turn == place).count();
        assert_eq!([count(0), count(1), count(2)], [200, 100, 100]);
        assert!(turns.windows(3).all(|three| three != [0, 0, 0]), "even");
    }

    #[test]
    fn a_key_that_had_too_much_rests_as_long_as_was_asked_within_bounds() {
        let (state, keys) = (Keys::default(), keys(&[1, 1]));
        let rests = |seconds| !turns(&state, &keys, 4, at(seconds)).contains(&0);
        let asked = |seconds| Some(Duration::from_secs(seconds));
        state.answered(&keys[0], 429, asked(30), at(0));
        assert!(rests(29) && !rests(30));
        state.answered(&keys[0], 429, None, at(100));
        assert!(rests(104) && !rests(105));
        state.answered(&keys[0], 429, asked(1_000_000), at(200));
        assert!(rests(499) && !rests(500));
        state.answered(&keys[0], 401, asked(1), at(600));
        assert!(rests(899) && !rests(900));
        state.answered(&keys[0], 500, asked(50), at(1_000));
        assert!(!rests(1_000), "not the key's doing");
    }

    #[test]
    fn what_was_tried_is_tried_again_last_and_where_all_rest_the_first_to_be_back_goes() {
        let (state, keys) = (Keys::default(), keys(&[1, 1, 1]));
        let mut tried = Places::default();
        for _ in 0..3 {
            assert!(state.has_other(&keys, tried, at(0)));
            let place = state.choose(&keys, tried, at(0));
            assert!(!tried.has(place));
            tried.add(place);
        }
        assert!(!state.has_other(&keys, tried, at(0)));
        let rest = |place: usize, seconds| {
            let asked = Some(Duration::from_secs(seconds));
            state.answered(&keys[place], 429, asked, at(0));
        };
        rest(0, 60);
        rest(1, 20);
        rest(2, 40);
        assert_eq!(turns(&state, &keys, 3, at(1)), [1, 1, 1]);
        let mut tried = Places::default();
        tried.add(1);
        assert_eq!(state.choose(&keys, tried, at(1)), 2);
        assert_eq!(state.choose(&keys, tried, at(30)), 2);
        assert_eq!(state.choose(&[], Places::default(), at(0)), 0);
    }

    #[test]
    fn a_key_keeps_its_rest_when_the_list_changes() {
        let (state, two) = (Keys::default(), keys(&[1, 1]));
        state.answered(&two[1], 403, None, at(0));
        let swapped: Vec<_> = two.into_iter().rev().collect();
        assert_eq!(turns(&state, &swapped, 3, at(1)), [1, 1, 1]);
    }
}
