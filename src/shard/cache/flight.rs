//! Single flight: equal requests that come while the first is under way wait for its answer.
//!
//! Kept by the owner of the key, and decided here without acting. The first asker leads; others
//! follow until the leader reports how it [`Ending`]s:
//!
//! | the leader | its followers |
//! | --- | --- |
//! | stored an answer | get that answer |
//! | got one that is not kept, or failed | go their own ways, all at once |
//! | went away (its caller hung up) | one of them leads, the others follow that one |
//! | has an answer that may be kept | read along live ([`super::live`]), and follow here no longer |
//! | reports nothing until the limit | go their own ways; a report after that means nothing |
//!
//! What a call costs at most: a follower waits no longer than the limit of the first leader's
//! flight, however often leaders go away, because a promotion does not move it.
//!
//! A key whose answer turned out not to be kept is remembered for [`PASS_FOR`]: meanwhile equal
//! requests do not wait for each other in vain.

use std::{collections::VecDeque, num::NonZeroU64, sync::Arc, time::Duration};

use super::{live::LiveHead, store::Stamp};
use crate::{
    domain::{cache::KeyHash, short_hash::ShortMap},
    shard::{clock::Moment, mesh::Asker},
};

/// Flights of one owner.
const FLIGHTS_MAX: usize = 16 * 1024;

/// Followers of one flight, and of all flights of one owner.
const FOLLOWERS_MAX: usize = 1024;
const ALL_FOLLOWERS_MAX: usize = 16 * 1024;

/// How long a flight may take, in which a reasoning model thinks to its end.
pub const FLIGHT_LIMIT: Duration = Duration::from_mins(10);

/// How long equal requests go alone after one whose answer was not kept.
pub const PASS_FOR: Duration = Duration::from_secs(10);

/// Keys that are remembered for that.
const PASSES_MAX: usize = 4096;

/// Names one leader's flight of one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlightId(NonZeroU64);

impl FlightId {
    /// Names a run's track where a flight's is meant.
    pub fn of_run(number: u64) -> Self {
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }
}

/// What an asker is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Ask the provider, and report how it ends.
    Lead(FlightId),
    /// Wait for what that shard's exchange gets.
    Follow {
        /// The shard that leads.
        leader: usize,
        /// Its flight.
        flight: FlightId,
    },
    /// Ask the provider, and report nothing.
    Alone,
}

/// How a leader ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its answer is in the store.
    Stored,
    /// Its answer is one that is not kept.
    NotKept,
    /// The provider gave no answer, or an error.
    Failed,
    /// It went away before it knew.
    Gone,
}

/// What a follower is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is in the store.
    Stored,
    /// Ask the provider, and report how it ends.
    Lead(FlightId),
    /// Ask the provider.
    Alone,
}

/// The flights of one owner.
#[derive(Debug, Default)]
pub struct Flights {
    under_way: ShortMap<KeyHash, Flight>,
    followers: usize,
    last: u64,
    /// Flights by the time of their limit, some of them over already.
    limits: VecDeque<(Moment, KeyHash, FlightId)>,
    /// Keys whose answers were not kept, and until when they are not shared.
    passes: ShortMap<KeyHash, Moment>,
    pass_order: VecDeque<(Moment, KeyHash)>,
}

#[derive(Debug)]
struct Flight {
    id: FlightId,
    /// The id it had before any promotion, which its limit goes by.
    first: FlightId,
    /// When its answer was asked for.
    stamp: Stamp,
    leader: Asker,
    followers: VecDeque<Asker>,
    /// The answer's head, once it can be followed live.
    live: Option<Arc<LiveHead>>,
}

impl Flights {
    /// How many flights are under way, and how many askers follow.
    pub fn counts(&self) -> (usize, usize) {
        (self.under_way.len(), self.followers)
    }

    /// Says whether somebody is fetching the answer.
    pub fn is_under_way(&self, key: KeyHash) -> bool {
        self.under_way.contains_key(&key)
    }

    /// Takes an asker in. It leads if nobody does. After a purge nobody follows who asked before.
    pub fn join(&mut self, key: KeyHash, asker: Asker, stamp: Stamp, now: Moment) -> Role {
        if let Some(flight) = self.under_way.get_mut(&key) {
            if flight.stamp < stamp
                || flight.followers.len() >= FOLLOWERS_MAX
                || self.followers >= ALL_FOLLOWERS_MAX
            {
                return Role::Alone;
            }
            flight.followers.push_back(asker);
            self.followers += 1;
            return Role::Follow {
                leader: flight.leader.shard,
                flight: flight.id,
            };
        }
        let passes = self.passes.get(&key).is_some_and(|until| now < *until);
        if passes || self.under_way.len() >= FLIGHTS_MAX {
            return Role::Alone;
        }
        let id = self.next_id();
        let flight = Flight {
            id,
            first: id,
            stamp,
            leader: asker,
            followers: VecDeque::new(),
            live: None,
        };
        self.under_way.insert(key, flight);
        self.keep_limits_short();
        let limit = now.after(FLIGHT_LIMIT);
        self.limits.push_back((limit, key, id));
        Role::Lead(id)
    }

    /// How many wait for the answer, and who leads: its shard and flight.
    pub fn waiting(&self, key: KeyHash) -> Option<(usize, usize, FlightId)> {
        let flight = self.under_way.get(&key)?;
        Some((flight.followers.len(), flight.leader.shard, flight.id))
    }

    /// Notes that a leader's answer has begun, and gives up its followers: they read along.
    pub fn go_live(&mut self, key: KeyHash, id: FlightId, head: Arc<LiveHead>) -> VecDeque<Asker> {
        let Some(flight) = self.under_way.get_mut(&key) else {
            return VecDeque::new();
        };
        if flight.id != id {
            return VecDeque::new();
        }
        flight.live = Some(head);
        let followers = std::mem::take(&mut flight.followers);
        self.followers -= followers.len();
        followers
    }

    /// The answer that can be followed live, if there is one and it was asked for late enough: the
    /// leading shard, its flight, and the answer's head.
    pub fn live(&self, key: KeyHash, stamp: Stamp) -> Option<(usize, FlightId, Arc<LiveHead>)> {
        let flight = self.under_way.get(&key)?;
        let head = flight.live.as_ref().filter(|_| flight.stamp >= stamp)?;
        Some((flight.leader.shard, flight.id, Arc::clone(head)))
    }

    /// Takes a leader's report, and puts what its followers are to be told into `verdicts`. A
    /// report of a flight that is over means nothing.
    pub fn end(
        &mut self,
        key: KeyHash,
        id: FlightId,
        ending: Ending,
        now: Moment,
        verdicts: &mut Vec<(Asker, Verdict)>,
    ) {
        let Some(flight) = self.under_way.get_mut(&key) else {
            return;
        };
        if flight.id != id {
            return;
        }
        let verdict = match ending {
            Ending::Gone => {
                if let Some(next) = flight.followers.pop_front() {
                    flight.leader = next;
                    self.followers -= 1;
                    let id = self.next_id();
                    if let Some(flight) = self.under_way.get_mut(&key) {
                        flight.id = id;
                    }
                    verdicts.push((next, Verdict::Lead(id)));
                    return;
                }
                Verdict::Alone
            }
            Ending::Stored => Verdict::Stored,
            Ending::NotKept => {
                self.pass(key, now);
                Verdict::Alone
            }
            Ending::Failed => Verdict::Alone,
        };
        let followers = self.dissolve(key);
        verdicts.extend(followers.into_iter().map(|asker| (asker, verdict)));
    }

    /// Takes an asker back that follows no longer.
    pub fn leave(&mut self, key: KeyHash, asker: Asker) {
        if let Some(flight) = self.under_way.get_mut(&key)
            && let Some(place) = flight.followers.iter().position(|other| *other == asker)
        {
            flight.followers.remove(place);
            self.followers -= 1;
        }
    }

    /// Ends the flights whose limit has passed, at most `most` of them.
    pub fn expire(
        &mut self,
        now: Moment,
        most: usize,
        verdicts: &mut Vec<(KeyHash, Asker, Verdict)>,
    ) {
        for _ in 0..most {
            match self.limits.front() {
                Some((limit, _, _)) if *limit <= now => {}
                _ => break,
            }
            if let Some((_, key, first)) = self.limits.pop_front()
                && self.is_first(key, first)
            {
                let followers = self.dissolve(key);
                let alone = |asker| (key, asker, Verdict::Alone);
                verdicts.extend(followers.into_iter().map(alone));
            }
        }
        for _ in 0..most {
            match self.pass_order.front() {
                Some((until, _)) if *until <= now => {}
                _ => break,
            }
            self.forget_pass();
        }
    }

    fn next_id(&mut self) -> FlightId {
        self.last += 1;
        FlightId(NonZeroU64::new(self.last).unwrap_or(NonZeroU64::MIN))
    }

    fn dissolve(&mut self, key: KeyHash) -> VecDeque<Asker> {
        let flight = self.under_way.remove(&key);
        let followers = flight.map_or_else(VecDeque::new, |flight| flight.followers);
        self.followers -= followers.len();
        followers
    }

    fn is_first(&self, key: KeyHash, first: FlightId) -> bool {
        let flight = self.under_way.get(&key);
        flight.is_some_and(|flight| flight.first == first)
    }

    /// Flights end before their limit; their limits are thrown out when they are the greater part.
    fn keep_limits_short(&mut self) {
        /// Fewer than this are never looked through.
        const FEW: usize = 64;
        if self.limits.len() > FEW.max(self.under_way.len() * 2) {
            let under_way = &self.under_way;
            self.limits.retain(|(_, key, first)| {
                let flight = under_way.get(key);
                flight.is_some_and(|flight| flight.first == *first)
            });
        }
    }

    fn pass(&mut self, key: KeyHash, now: Moment) {
        while self.pass_order.len() >= PASSES_MAX {
            self.forget_pass();
        }
        let until = now.after(PASS_FOR);
        self.passes.insert(key, until);
        self.pass_order.push_back((until, key));
    }

    fn forget_pass(&mut self) {
        let Some((until, key)) = self.pass_order.pop_front() else {
            return;
        };
        // The key may have been put down again since.
        if self.passes.get(&key) == Some(&until) {
            self.passes.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
