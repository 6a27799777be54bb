//! System calls behind safe functions; the only unsafe code of the crate.
#![expect(unsafe_code, reason = "the one place that may hold it")]

pub mod affinity;
pub mod bell;
pub mod socket;
