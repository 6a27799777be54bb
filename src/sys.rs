//! Calls of the operating system, each behind a safe function; the only unsafe code of the crate.
//!
//! Reading order: [`bell`] (waking a thread that sleeps), [`mmap`] (reading finished files in place).

pub mod bell;
pub mod mmap;
