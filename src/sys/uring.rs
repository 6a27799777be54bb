//! Which kinds of `io_uring` the kernel gives this process, found out by asking for one.

use std::io;

use io_uring::{IoUring, cqueue, opcode, squeue};

/// A kind of ring, best first: the ladder that a shard's runtime climbs down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// `SINGLE_ISSUER` and `DEFER_TASKRUN` (Linux 6.1).
    Defer,
    /// `COOP_TASKRUN` (Linux 5.19).
    Coop,
    /// No further flags.
    Plain,
}

impl Rung {
    /// All rungs, best first.
    pub const ALL: [Self; 3] = [Self::Defer, Self::Coop, Self::Plain];

    /// The word for it, as `serve` and metrics print it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Defer => "io_uring-defer",
            Self::Coop => "io_uring-coop",
            Self::Plain => "io_uring",
        }
    }
}

/// Sets up a ring with `entries` entries and sends one operation through it.
///
/// A set-up alone proves little: some sandboxes allow it and refuse the call that submits.
pub fn probe(rung: Rung, entries: u32) -> io::Result<()> {
    let mut builder = IoUring::<squeue::Entry, cqueue::Entry>::builder();
    match rung {
        Rung::Defer => {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
        Rung::Coop => {
            builder.setup_coop_taskrun();
        }
        Rung::Plain => {}
    }
    let mut ring = builder.build(entries)?;
    let nothing = opcode::Nop::new().build();
    // SAFETY: a no-op refers to no memory, so there is nothing that has to outlive it.
    unsafe { ring.submission().push(&nothing) }
        .map_err(|_| io::Error::other("a new ring has no room"))?;
    ring.submit_and_wait(1)?;
    match ring.completion().next() {
        Some(done) if done.result() >= 0 => Ok(()),
        Some(done) => Err(io::Error::from_raw_os_error(-done.result())),
        None => Err(io::Error::other(
            "an operation was taken and never completed",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_nothing_behind_and_says_the_same_twice() {
        for rung in Rung::ALL {
            let kind = |result: io::Result<()>| result.map_err(|error| error.raw_os_error());
            assert_eq!(kind(probe(rung, 8)), kind(probe(rung, 8)), "{rung:?}");
        }
    }

    #[test]
    fn more_entries_than_the_kernel_knows_are_refused() {
        assert!(probe(Rung::Plain, u32::MAX).is_err());
    }
}
