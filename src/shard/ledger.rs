//! Limits that hold: the owner's book of counters and reservations.

pub mod window;
