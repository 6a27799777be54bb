//! Calls of the operating system, each behind a safe function; the only unsafe code of the crate.
//!
//! Reading order: [`affinity`] (which cores), [`processor`] (time on them), [`socket`] (what the runtime does not offer),
//! [`buffer`] (buffers that its traits hand over), [`bell`] (waking a thread that sleeps), [`mmap`]
//! (reading finished files in place), [`uring`] (what the kernel gives), [`allocator`] (memory).
#![expect(unsafe_code, reason = "the one place that may hold it")]

pub mod affinity;
pub mod processor;
pub mod socket;
pub mod buffer;
pub mod bell;
pub mod mmap;
pub mod uring;
pub mod allocator;
