//! Limits that hold: the owner's book of counters and reservations.

pub mod window;
pub mod estimate;
pub mod bound;
