//! What a frame of the ledger holds: reservations, their ends, and what was spent without one.
//!
//! Numbers are little endian. Each step begins with a byte that says what it is:
//!
//! | byte | step |
//! | --- | --- |
//! | 1 | reservation: permit (8 bytes), number of charges (4), the charges |
//! | 2 | settlement: permit (8), number of amounts (4), the amounts (8 each) |
//! | 3 | spent: a charge |
//!
//! A charge is its counter (owner 8, id 16), the times at which it was counted and leaves (8 each,
//! microseconds since the Unix epoch), and its amount (8, pico-dollars).

use crate::{
    control::logs::frame::FrameBuffer,
    handoff::ledger::{Batch, Charge, Reservation, Settlement},
    snapshot::limits::CounterKey,
};

const RESERVED: u8 = 1;
const SETTLED: u8 = 2;
const SPENT: u8 = 3;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A request holds so much.
    Reserved(Reservation),
    /// It has ended.
    Settled(Settlement),
    /// So much was spent.
    Spent(Charge),
}

/// Appends all of a batch, and says how many steps that are.
pub fn write_batch(batch: &Batch, out: &mut FrameBuffer) -> u32 {
    let mut steps = 0;
    for reservation in &batch.reservations {
        write_reservation(reservation, out);
        steps += 1;
    }
    for settlement in &batch.settlements {
        write_settlement(settlement, out);
        steps += 1;
    }
    for charge in &batch.spent {
        write_spent(charge, out);
        steps += 1;
    }
    steps
}

impl Step {
    /// Appends the step.
    pub fn write(&self, out: &mut FrameBuffer) {
        match self {
            Self::Reserved(reservation) => write_reservation(reservation, out),
            Self::Settled(settlement) => write_settlement(settlement, out),
            Self::Spent(charge) => write_spent(charge, out),
        }
    }
}

fn write_reservation(reservation: &Reservation, out: &mut FrameBuffer) {
    out.push(RESERVED);
    out.extend_from_slice(&reservation.permit.to_le_bytes());
    write_count(reservation.charges.len(), out);
    for charge in &reservation.charges {
        write_charge(charge, out);
    }
}

fn write_settlement(settlement: &Settlement, out: &mut FrameBuffer) {
    out.push(SETTLED);
    out.extend_from_slice(&settlement.permit.to_le_bytes());
    write_count(settlement.amounts.len(), out);
    for amount in &settlement.amounts {
        out.extend_from_slice(&amount.to_le_bytes());
    }
}

fn write_spent(charge: &Charge, out: &mut FrameBuffer) {
    out.push(SPENT);
    write_charge(charge, out);
}

fn write_charge(charge: &Charge, out: &mut FrameBuffer) {
    out.extend_from_slice(&charge.key.owner.to_le_bytes());
    out.extend_from_slice(&charge.key.id);
    for number in [charge.at_micros, charge.until_micros, charge.amount] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn write_count(count: usize, out: &mut FrameBuffer) {
    // A gateway has some sixty limits.
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
}

/// Calls `visit` with each step of a payload; `false` if it does not read to its end.
pub fn read(payload: &[u8], mut visit: impl FnMut(Step)) -> bool {
    let mut rest = payload;
    while !rest.is_empty() {
        let Some(step) = read_step(&mut rest) else {
            return false;
        };
        visit(step);
    }
    true
}

fn read_step(rest: &mut &[u8]) -> Option<Step> {
    let [kind] = take(rest)?;
    Some(match kind {
        RESERVED => Step::Reserved(Reservation {
            permit: read_u64(rest)?,
            charges: read_all(rest, read_charge)?,
        }),
        SETTLED => Step::Settled(Settlement {
            permit: read_u64(rest)?,
            amounts: read_all(rest, read_u64)?,
        }),
        SPENT => Step::Spent(read_charge(rest)?),
        _ => return None,
    })
}

/// Reads a number of things. What the number promises is believed as far as there are bytes.
fn read_all<T>(rest: &mut &[u8], read: impl Fn(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let count = u32::from_le_bytes(take(rest)?);
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(read(rest)?);
    }
    Some(all)
}

fn read_charge(rest: &mut &[u8]) -> Option<Charge> {
    Some(Charge {
        key: CounterKey {
            owner: read_u64(rest)?,
            id: take(rest)?,
        },
        at_micros: read_u64(rest)?,
        until_micros: read_u64(rest)?,
        amount: read_u64(rest)?,
    })
}

fn read_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
