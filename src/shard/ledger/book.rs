//! The book of one owner: its counters, the permits that are out, and what is to be written down.

mod counters;
mod permits;
mod verdict;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use counters::{ByCounter, Counters};
use permits::{Open, PERMITS_MAX, Permits};
use verdict::{room, standing, verdict, worst};

use super::{Actual, Answer, Ask, Now, Permit, PermitId, Refusal, Standings, Ticket, Why};
use crate::{
    handoff::ledger::{Batch, Charge, Journalled, Reservation, Settlement},
    snapshot::limits::{Claim, CounterKey, Measure},
};

/// Counters of one owner. Each takes some 300 bytes and what its window remembers, which for all
/// together is bounded too.
pub const COUNTERS_MAX: usize = 1 << 16;

/// How long a request waits for its reservation to be written.
const JOURNAL_WAIT_MICROS: u64 = 50_000;

/// Shortest life of a permit: its asker is answered before it ends.
const LIFE_MICROS_MIN: u64 = 2 * JOURNAL_WAIT_MICROS;

/// When to ask again where nobody knows: soon.
const TRY_AGAIN_MICROS: u64 = 1_000_000;

/// Time between two writes of what was spent without a reservation, and the most that a kill
/// takes of it.
const SPENT_EVERY_MICROS: u64 = 1_000_000;

/// How long settlements may wait for company. A kill in this time counts them as their
/// reservations: too much, never too little.
const SETTLED_EVERY_MICROS: u64 = 100_000;

/// Counters spent on that wait for the next write; with more, the write does not wait.
const SPENT_MAX: usize = 4_096;

/// Permits and counters that one tick ends: a shard must not stand still for long.
const ENDS_A_TICK: usize = 1_024;

/// The book of one owner.
#[derive(Debug)]
pub struct Book {
    shard: usize,
    counters: Counters,
    permits: Permits,
    /// Permits whose reservations are being written, and until when they wait.
    waiting: VecDeque<(u64, PermitId)>,
    reservations: Vec<Reservation>,
    settlements: Vec<Settlement>,
    spent: ByCounter<Charge>,
    /// What is reserved under hard limits and not settled yet, over all counters.
    held_cost: u128,
    /// When settlements and what was spent went out last.
    settled_at: u64,
    spent_at: u64,
}

/// What a permit holds of one counter.
#[derive(Debug, Clone, Copy)]
struct Held {
    key: CounterKey,
    rule: u16,
    measure: Measure,
    hard: bool,
    amount: u64,
    /// The monotonic moment at which it was added.
    added: u64,
}

/// How a permit ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Settled(Actual),
    /// As if it had never been.
    Released,
    /// Nobody came for it.
    Forgotten,
}

impl Book {
    /// The empty book of a shard.
    pub fn new(shard: usize) -> Self {
        Self {
            shard,
            counters: Counters::default(),
            permits: Permits::new(shard),
            waiting: VecDeque::new(),
            reservations: Vec::new(),
            settlements: Vec::new(),
            spent: ByCounter::default(),
            held_cost: 0,
            settled_at: 0,
            spent_at: 0,
        }
    }

    /// Takes over what the journal held at the start, of this owner's counters.
    pub fn recover(&mut self, charges: impl IntoIterator<Item = Charge>) {
        self.counters.recover(charges);
    }

    /// How many permits are out.
    pub fn outstanding(&self) -> usize {
        self.permits.len()
    }

    /// How many pico-dollars are reserved under hard limits and not settled yet. A request counts
    /// once for each such limit that it has.
    pub fn held_cost(&self) -> u128 {
        self.held_cost
    }

    /// How many counters there are.
    pub fn counters(&self) -> usize {
        self.counters.len()
    }

    /// What counts on a counter now, and how much of it is reserved and not settled yet.
    pub fn standing(&mut self, key: CounterKey, now: Now) -> Option<(u128, u128)> {
        let counter = self.counters.get(key, now)?;
        Some((counter.window.sum(), counter.held))
    }

    /// Grants all claims or none. `None`: the answer comes when the reservation is written, or
    /// was not written in time.
    pub fn reserve(&mut self, ask: &Ask, now: Now) -> Option<Answer> {
        let ticket = ask.ticket;
        let result = match self.look(ask, now) {
            Ok(()) => self.grant(ask, now)?,
            Err(refusal) => Err(refusal),
        };
        Some(Answer { ticket, result })
    }

    /// Says whether all claims can be granted. Makes no counter.
    fn look(&mut self, ask: &Ask, now: Now) -> Result<(), Refusal> {
        let mut refusal: Option<Refusal> = None;
        let mut missing = 0;
        for claim in &ask.claims {
            let Some(counter) = self.counters.of_claim(claim, now) else {
                missing += 1;
                if let Err(why) = verdict(claim, 0) {
                    worst(&mut refusal, claim, why, None);
                }
                continue;
            };
            if let Err(why) = verdict(claim, counter.window.sum()) {
                let wait = room(claim).map(|most| counter.window.wait(most, now));
                worst(&mut refusal, claim, why, wait);
            }
        }
        let is_crowded = keeps(ask) && self.permits.len() >= PERMITS_MAX
            || missing > 0 && !self.counters.make_room(missing, now);
        if is_crowded
            && refusal.is_none()
            && let Some(claim) = ask.claims.first()
        {
            worst(&mut refusal, claim, Why::Crowded, Some(TRY_AGAIN_MICROS));
        }
        match refusal {
            Some(refusal) => Err(Refusal {
                standings: self.standings(ask, now),
                ..refusal
            }),
            None => Ok(()),
        }
    }

    /// How the limits of a request stand that is refused.
    fn standings(&mut self, ask: &Ask, now: Now) -> Standings {
        let mut standings = Standings::default();
        for claim in &ask.claims {
            let counter = self.counters.of_claim(claim, now);
            if counter.is_some() || verdict(claim, 0).is_err() {
                standings.note(claim.measure, standing(claim, counter, now));
            }
        }
        standings
    }

    /// Adds the claims to their counters. `None`: the asker waits for the journal.
    fn grant(&mut self, ask: &Ask, now: Now) -> Option<Result<Permit, Refusal>> {
        let keeps = keeps(ask);
        let mut standings = Standings::default();
        let mut held = if keeps {
            self.permits.list()
        } else {
            Vec::new()
        };
        let mut charges = Vec::new();
        for claim in &ask.claims {
            let holds = keeps && (claim.hard || claim.measure == Measure::Tokens);
            let mut reserved = 0;
            self.counters.add(claim, now, |counter, amount| {
                reserved = amount;
                if keeps {
                    counter.permits += 1;
                }
                if holds {
                    counter.held += u128::from(amount);
                }
                standings.note(claim.measure, standing(claim, Some(counter), now));
                if claim.hard {
                    charges.push(Charge {
                        key: claim.key,
                        at_micros: now.unix_micros,
                        until_micros: counter.window.leaves_at(now),
                        amount,
                    });
                }
            });
            if claim.hard {
                self.held_cost += u128::from(reserved);
            }
            if keeps {
                held.push(Held {
                    key: claim.key,
                    rule: claim.rule,
                    measure: claim.measure,
                    hard: claim.hard,
                    amount: reserved,
                    added: now.micros,
                });
            }
        }
        if !keeps {
            return Some(Ok(Permit {
                id: None,
                standings,
            }));
        }
        let in_journal = !charges.is_empty();
        let life = micros(ask.life).max(LIFE_MICROS_MIN);
        let id = self.permits.open(Open {
            ticket: ask.ticket,
            held,
            deadline: now.micros.saturating_add(life),
            in_journal,
            standings: in_journal.then_some(standings),
        });
        if in_journal {
            self.reservations.push(Reservation {
                permit: id.0,
                charges,
            });
            self.waiting
                .push_back((now.micros + JOURNAL_WAIT_MICROS, id));
        }
        (!in_journal).then_some(Ok(Permit {
            id: Some(id),
            standings,
        }))
    }

    /// Replaces what a permit holds by what was used. `false`: it has ended already.
    pub fn settle(&mut self, permit: PermitId, actual: Actual, now: Now) -> bool {
        self.end(permit, End::Settled(actual), now).is_some()
    }

    /// Gives all back that a permit holds, as if it had never been asked for. `false`: it has ended
    /// already.
    pub fn release(&mut self, permit: PermitId, now: Now) -> bool {
        self.end(permit, End::Released, now).is_some()
    }

    fn end(&mut self, permit: PermitId, end: End, now: Now) -> Option<Open> {
        let mut open = self.permits.close(permit)?;
        let mut amounts = Vec::new();
        for held in &open.held {
            let charged = self.end_held(held, end, now);
            if held.hard {
                self.held_cost = self.held_cost.saturating_sub(u128::from(held.amount));
                amounts.push(charged);
            }
        }
        if open.in_journal {
            self.settlements.push(Settlement {
                permit: permit.0,
                amounts,
            });
        }
        if open.standings.is_none() {
            // Nobody looks at what it held.
            self.permits.give_back(std::mem::take(&mut open.held));
        }
        Some(open)
    }

    /// Ends what a permit holds of one counter, and says what counts instead.
    fn end_held(&mut self, held: &Held, end: End, now: Now) -> u64 {
        let is_soft_cost = held.measure == Measure::Cost && !held.hard;
        let amount = match (end, held.measure) {
            (End::Released, _) | (End::Forgotten, Measure::Tokens) => 0,
            (End::Settled(actual), Measure::Tokens) => actual.tokens.unwrap_or(held.amount),
            (End::Settled(actual), Measure::Cost) if held.hard => {
                actual.list_cost.unwrap_or(held.amount)
            }
            (End::Settled(actual), Measure::Cost) => actual.cost.unwrap_or(0),
            (End::Settled(_) | End::Forgotten, Measure::Requests)
            | (End::Forgotten, Measure::Cost) => held.amount,
        };
        let mut until = now.unix_micros;
        self.counters.change(held.key, now, |counter, detail| {
            counter.permits = counter.permits.saturating_sub(1);
            if held.hard || held.measure == Measure::Tokens {
                counter.held = counter.held.saturating_sub(u128::from(held.amount));
            }
            if is_soft_cost {
                if amount > 0 {
                    counter.window.add(amount, now, detail);
                }
            } else {
                counter.window.change(held.added, held.amount, amount, now);
            }
            until = counter.window.leaves_at(now);
        });
        if is_soft_cost && amount > 0 {
            let charge = self.spent.entry(held.key).or_insert(Charge {
                key: held.key,
                at_micros: 0,
                until_micros: 0,
                amount: 0,
            });
            charge.at_micros = charge.at_micros.max(now.unix_micros);
            charge.until_micros = charge.until_micros.max(until);
            charge.amount = charge.amount.saturating_add(amount);
        }
        amount
    }

    /// Answers those whose reservations the journal took, or did not take.
    pub fn journalled(&mut self, journalled: &Journalled, now: Now, answers: &mut Vec<Answer>) {
        for permit in &journalled.permits {
            let id = PermitId(*permit);
            if journalled.written {
                let open = self.permits.get_mut(id);
                // Else it was given back, or waited too long: the journal is told so.
                if let Some(open) = open
                    && let Some(standings) = open.standings.take()
                {
                    answers.push(Answer {
                        ticket: open.ticket,
                        result: Ok(Permit {
                            id: Some(id),
                            standings,
                        }),
                    });
                }
            } else {
                self.refuse(id, false, now, answers);
            }
        }
    }

    /// Refuses a permit that waits for the journal. Where the journal may have it all the same,
    /// it is told.
    fn refuse(&mut self, id: PermitId, may_have: bool, now: Now, answers: &mut Vec<Answer>) {
        let Some(open) = self.permits.get_mut(id) else {
            return;
        };
        let Some(standings) = open.standings else {
            return;
        };
        open.in_journal = may_have;
        let Some(open) = self.end(id, End::Released, now) else {
            return;
        };
        let hard = open.held.iter().find(|held| held.hard);
        answers.push(Answer {
            ticket: open.ticket,
            result: Err(Refusal {
                why: Why::Journal,
                rule: hard.map_or(0, |held| held.rule),
                measure: Measure::Cost,
                wait_micros: Some(TRY_AGAIN_MICROS),
                standings,
            }),
        });
    }

    /// Does what is due: ends permits that nobody came for, refuses those whose reservation was
    /// not written in time, drops counters on which nothing counts.
    pub fn tick(&mut self, now: Now, answers: &mut Vec<Answer>) {
        while let Some((until, id)) = self.waiting.front().copied() {
            let open = self.permits.get_mut(id);
            let waits = open.is_some_and(|open| open.standings.is_some());
            if waits && now.micros < until {
                break;
            }
            self.waiting.pop_front();
            self.refuse(id, true, now, answers);
        }
        for _ in 0..ENDS_A_TICK {
            let Some(id) = self.permits.due(now.micros) else {
                break;
            };
            self.end(id, End::Forgotten, now);
        }
        self.counters.sweep(ENDS_A_TICK, now);
    }

    /// What is to be written down now, if anything is.
    pub fn take_batch(&mut self, now: Now) -> Option<Batch> {
        let is_due = |last: u64, every: u64| now.micros.saturating_sub(last) >= every;
        let spent_due = !self.spent.is_empty()
            && (is_due(self.spent_at, SPENT_EVERY_MICROS) || self.spent.len() >= SPENT_MAX);
        let settled_due =
            !self.settlements.is_empty() && is_due(self.settled_at, SETTLED_EVERY_MICROS);
        if self.reservations.is_empty() && !settled_due && !spent_due {
            return None;
        }
        self.settled_at = now.micros;
        let spent = if spent_due {
            self.spent_at = now.micros;
            self.take_spent()
        } else {
            Vec::new()
        };
        Some(Batch {
            shard: self.shard,
            reservations: std::mem::take(&mut self.reservations),
            settlements: std::mem::take(&mut self.settlements),
            spent,
        })
    }

    /// All that is to be written down, due or not: at the end.
    pub fn take_rest(&mut self) -> Option<Batch> {
        let rest = Batch {
            shard: self.shard,
            reservations: std::mem::take(&mut self.reservations),
            settlements: std::mem::take(&mut self.settlements),
            spent: self.take_spent(),
        };
        (!rest.is_empty()).then_some(rest)
    }

    fn take_spent(&mut self) -> Vec<Charge> {
        let mut spent: Vec<Charge> = self.spent.drain().map(|(_, charge)| charge).collect();
        spent.sort_unstable_by_key(|charge| charge.key);
        spent
    }

    /// Takes a batch back that the journal's queue had no room for. Its reservations are refused;
    /// the rest goes out with the next batch.
    pub fn take_back(&mut self, batch: Batch, now: Now, answers: &mut Vec<Answer>) {
        for reservation in &batch.reservations {
            let id = PermitId(reservation.permit);
            self.refuse(id, false, now, answers);
        }
        // A reservation of this batch that was given back meanwhile is one that the journal
        // does not know: it passes over the settlement.
        let later = std::mem::replace(&mut self.settlements, batch.settlements);
        self.settlements.extend(later);
        for charge in batch.spent {
            let waiting = self.spent.entry(charge.key).or_insert(Charge {
                amount: 0,
                ..charge
            });
            waiting.at_micros = waiting.at_micros.max(charge.at_micros);
            waiting.until_micros = waiting.until_micros.max(charge.until_micros);
            waiting.amount = waiting.amount.saturating_add(charge.amount);
        }
    }
}

/// Says whether a permit is owed back. Where requests are counted there is nothing to settle,
/// unless they are to be undone.
fn keeps(ask: &Ask) -> bool {
    let settles = |claim: &Claim| claim.measure != Measure::Requests;
    ask.undoable || ask.claims.iter().any(settles)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
