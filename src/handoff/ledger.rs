//! Between the owners of counters and the ledger's journal: what is to be written down, and that
//! it was.
//!
//! A shard sends [`Batch`]es through a [`Post`](super::mailbox::Post) and gets a [`Journalled`]
//! back for each that holds reservations, as an [`Order`](super::mailbox::Order). What the journal
//! held at the start comes as [`Charge`]s, before the shard begins.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::snapshot::limits::CounterKey;

/// An amount on a counter. Times are microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// The counter.
    pub key: CounterKey,
    /// When it was counted.
    pub at_micros: u64,
    /// When it leaves the counter's window.
    pub until_micros: u64,
    /// How much: pico-dollars.
    pub amount: u64,
}

/// What a request holds of its hard limits until it is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Names it among all reservations of the process.
    pub permit: u64,
    /// One for each hard limit.
    pub charges: Vec<Charge>,
}

/// What became of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The reservation.
    pub permit: u64,
    /// What counts instead of each of its charges, in their order; 0 gives one back.
    pub amounts: Vec<u64>,
}

/// What one owner has to write down, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// The shard that sends it, and is answered.
    pub shard: usize,
    /// Reservations; their requests wait.
    pub reservations: Vec<Reservation>,
    /// Ends of reservations, of this batch or earlier ones.
    pub settlements: Vec<Settlement>,
    /// What was spent without a reservation.
    pub spent: Vec<Charge>,
}

impl Batch {
    /// Says whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.reservations.is_empty() && self.settlements.is_empty() && self.spent.is_empty()
    }
}

/// Whether the reservations of a [`Batch`] are in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journalled {
    /// The reservations.
    pub permits: Vec<u64>,
    /// The system took them; else they are not in the journal.
    pub written: bool,
}

/// How the journal is: numbers for metrics and health checks.
#[derive(Debug, Default)]
pub struct LedgerHealth {
    failing: AtomicBool,
    failures: AtomicU64,
    frames: AtomicU64,
    reservations: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    bytes: AtomicU64,
    charges: AtomicU64,
    open: AtomicU64,
}

/// A copy of the numbers of [`LedgerHealth`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerFigures {
    /// The journal cannot be written now: hard limits refuse.
    pub failing: bool,
    /// Writes that failed.
    pub failures: u64,
    /// Frames written.
    pub frames: u64,
    /// Reservations written.
    pub reservations: u64,
    /// Reservations that could not be written, and were refused.
    pub refused: u64,
    /// Charges without a reservation that the journal had no room for.
    pub lost: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Charges that the journal holds.
    pub charges: u64,
    /// Reservations that it holds and that nobody has settled.
    pub open: u64,
}

impl LedgerHealth {
    /// All numbers as they are now.
    pub fn figures(&self) -> LedgerFigures {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        LedgerFigures {
            failing: self.failing.load(Ordering::Relaxed),
            failures: read(&self.failures),
            frames: read(&self.frames),
            reservations: read(&self.reservations),
            refused: read(&self.refused),
            lost: read(&self.lost),
            bytes: read(&self.bytes),
            charges: read(&self.charges),
            open: read(&self.open),
        }
    }

    /// Notes a frame with so many reservations.
    pub fn wrote(&self, reservations: u64) {
        self.failing.store(false, Ordering::Relaxed);
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.reservations.fetch_add(reservations, Ordering::Relaxed);
    }

    /// Notes a write that failed, and with it so many reservations.
    pub fn failed(&self, reservations: u64) {
        self.failing.store(true, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.refused.fetch_add(reservations, Ordering::Relaxed);
    }

    /// Notes what there was no room for: reservations that were refused, charges that were lost.
    pub fn overflowed(&self, reservations: u64, charges: u64) {
        self.refused.fetch_add(reservations, Ordering::Relaxed);
        self.lost.fetch_add(charges, Ordering::Relaxed);
    }

    /// Notes what the journal holds.
    pub fn holds(&self, bytes: u64, charges: u64, open: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.charges.store(charges, Ordering::Relaxed);
        self.open.store(open, Ordering::Relaxed);
    }
}
