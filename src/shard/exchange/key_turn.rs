//! Which of several keys the attempts of a step take.

use super::step::Step;
use crate::{
    domain::record::flag,
    http::head::parse_response,
    shard::{
        Shard,
        record::Draft,
        retry,
        route::Route,
        upstream::{
            attempt::{Answer, AttemptError},
            keys::{Places, is_of_key},
        },
    },
    snapshot::providers::StoredKey,
};

/// Where the status begins in an answer's head.
const STATUS_AT: usize = b"HTTP/1.1 ".len();

/// The keys that the attempts of a step take, where its provider has several.
pub(super) struct KeyTurn<'r> {
    keys: &'r [StoredKey],
    place: usize,
    tried: Places,
}

impl<'r> KeyTurn<'r> {
    /// Takes the key for the first attempt.
    pub(super) fn of(shard: &Shard, route: &'r Route<'_>, draft: &mut Draft<'_>) -> Self {
        let keys = route.keys.as_ref().map_or(&[][..], |choice| choice.keys);
        let mut turn = Self {
            keys,
            place: 0,
            tried: Places::default(),
        };
        turn.next(shard, draft);
        turn
    }

    /// Takes the key for the next attempt, and notes its place; `true` if there are several.
    pub(super) fn next(&mut self, shard: &Shard, draft: &mut Draft<'_>) -> bool {
        if self.keys.is_empty() {
            return false;
        }
        let place = shard.keys.choose(self.keys, self.tried, shard.clock.now());
        self.place = place;
        self.tried.add(place);
        let bits = u32::try_from(place).unwrap_or_default() << flag::STORED_PLACE_SHIFT;
        draft.flags = draft.flags & !flag::STORED_PLACE | bits & flag::STORED_PLACE;
        true
    }

    /// The place of the key for the next attempt.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Says whether there is a key that may be better off.
    pub(super) fn has_other(&self, shard: &Shard) -> bool {
        let now = shard.clock.now();
        !self.keys.is_empty() && shard.keys.has_other(self.keys, self.tried, now)
    }

    /// Notes what the provider made of the key.
    pub(super) fn note(
        &self,
        shard: &Shard,
        step: &Step<'_, '_>,
        answer: &Result<Answer, AttemptError>,
    ) {
        let (Some(key), Ok(answer)) = (self.keys.get(self.place), answer) else {
            return;
        };
        // Nearly every answer is a success, which says nothing about its key.
        if answer.buffer.get(STATUS_AT) == Some(&b'2') {
            return;
        }
        let bytes = answer.buffer.get(..answer.head_bytes).unwrap_or_default();
        if let Ok(head) = parse_response(bytes, step.head.method)
            && is_of_key(head.status)
        {
            let now = shard.clock.now();
            let asked = retry::asked_wait(&head, shard.clock.unix_micros(now) / 1_000_000);
            shard.keys.answered(key, head.status, asked, now);
        }
    }
}
