//! What the steps of a journal come to: what counts on each counter, and what is reserved still.

use std::collections::{BTreeMap, HashMap};

use super::step::Step;
use crate::{
    handoff::ledger::{Charge, Reservation},
    snapshot::limits::CounterKey,
};

/// Charges kept, reserved ones included: some 64 MB. A server with so many users under limits on
/// cost has other needs than one process can meet.
pub const CHARGES_MAX: usize = 1 << 20;

/// Charges that leave within this part of their window are one, the younger.
const WINDOW_PARTS: u64 = 256;

/// What the steps come to.
#[derive(Debug, Default)]
pub struct Balance {
    /// By counter and by when it leaves.
    spent: HashMap<CounterKey, BTreeMap<u64, Spent>>,
    spent_count: usize,
    open: HashMap<u64, Vec<Charge>>,
    open_count: usize,
}

/// What leaves a counter at one time.
#[derive(Debug, Clone, Copy)]
struct Spent {
    /// When the youngest of it was counted.
    at_micros: u64,
    amount: u64,
}

impl Balance {
    /// Takes a step. `false`: there was no room for it. (Whether there is room for a reservation is
    /// asked before it is written: [`Balance::has_room`].)
    pub fn take(&mut self, step: Step) -> bool {
        match step {
            Step::Reserved(reservation) => {
                self.reserve(reservation);
                true
            }
            Step::Settled(settlement) => {
                // One that is unknown was never written, or is settled twice.
                let charges = self.open.remove(&settlement.permit).unwrap_or_default();
                self.open_count -= charges.len();
                let mut has_room = true;
                for (charge, amount) in charges.into_iter().zip(settlement.amounts) {
                    has_room &= self.spend(Charge { amount, ..charge });
                }
                has_room
            }
            Step::Spent(charge) => self.spend(charge),
        }
    }

    fn reserve(&mut self, reservation: Reservation) {
        self.open_count += reservation.charges.len();
        let before = self.open.insert(reservation.permit, reservation.charges);
        // A permit's number is never used twice; a journal that says so all the same counts both.
        for charge in before.unwrap_or_default() {
            self.open_count -= 1;
            self.spend(charge);
        }
    }

    fn spend(&mut self, charge: Charge) -> bool {
        if charge.amount == 0 {
            return true;
        }
        let has_room = self.has_room(1);
        let leaves = self.spent.entry(charge.key).or_default();
        // A power of two, so that charges of one window meet in few places whatever their age.
        let part = charge.until_micros.saturating_sub(charge.at_micros) / WINDOW_PARTS;
        let part = part.checked_ilog2().map_or(1, |bits| 1u64 << bits);
        let last = charge.until_micros.saturating_add(part - 1);
        let near = leaves.range_mut(charge.until_micros..=last).next();
        if let Some((_, spent)) = near {
            spent.at_micros = spent.at_micros.max(charge.at_micros);
            spent.amount = spent.amount.saturating_add(charge.amount);
            return true;
        }
        if !has_room {
            if leaves.is_empty() {
                self.spent.remove(&charge.key);
            }
            return false;
        }
        let spent = Spent {
            at_micros: charge.at_micros,
            amount: charge.amount,
        };
        leaves.insert(last - last % part, spent);
        self.spent_count += 1;
        true
    }

    /// Says whether so many further charges can be kept.
    pub fn has_room(&self, charges: usize) -> bool {
        self.spent_count + self.open_count + charges <= CHARGES_MAX
    }

    /// Forgets what has left its window.
    pub fn sweep(&mut self, now_micros: u64) {
        self.spent.retain(|_, leaves| {
            while let Some(first) = leaves.first_entry()
                && *first.key() <= now_micros
            {
                first.remove();
                self.spent_count -= 1;
            }
            !leaves.is_empty()
        });
    }

    /// Counts every reservation as spent in full: at a start nobody is left to settle them.
    pub fn spend_open(&mut self) {
        let mut open: Vec<_> = self.open.drain().collect();
        open.sort_unstable_by_key(|(permit, _)| *permit);
        self.open_count = 0;
        for charge in open.into_iter().flat_map(|(_, charges)| charges) {
            self.spend(charge);
        }
    }

    /// What was spent, in the order of counters and times.
    pub fn spent(&self) -> Vec<Charge> {
        let all = self.spent.iter().flat_map(|(key, leaves)| {
            leaves.iter().map(|(until, spent)| Charge {
                key: *key,
                at_micros: spent.at_micros,
                until_micros: *until,
                amount: spent.amount,
            })
        });
        let mut all: Vec<_> = all.collect();
        all.sort_unstable_by_key(|charge| (charge.key, charge.until_micros));
        all
    }

    /// What is reserved, in the order in which it was.
    pub fn open(&self) -> Vec<Reservation> {
        let mut open: Vec<_> = self
            .open
            .iter()
            .map(|(permit, charges)| Reservation {
                permit: *permit,
                charges: charges.clone(),
            })
            .collect();
        open.sort_unstable_by_key(|reservation| reservation.permit);
        open
    }

    /// How many charges are kept as spent, and how many reservations are open.
    pub fn counts(&self) -> (usize, usize) {
        (self.spent_count, self.open.len())
    }
}
