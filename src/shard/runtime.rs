//! The runtime of one shard, built on its own thread down a ladder of drivers.
//!
//! The runtime's own probe is not used: it succeeds where the real ring is then refused (old
//! kernels, memory lock, seccomp), and has no way back from there.

use std::{fmt, io};

use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder, time::TimeDriver};

/// A runtime on either driver, with timers.
pub type Runtime = FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// `io_uring` if the kernel gives it, else epoll.
    #[default]
    Auto,
    /// `io_uring`, or no start at all.
    Uring,
    /// epoll.
    Epoll,
}

/// Which rung of the ladder held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// `io_uring` with `SINGLE_ISSUER` and `DEFER_TASKRUN` (Linux 6.1).
    UringDefer,
    /// `io_uring` with `COOP_TASKRUN` (Linux 5.19).
    UringCoop,
    /// `io_uring` without further flags.
    Uring,
    /// epoll.
    Epoll,
}

impl Driver {
    /// The word for it, as metrics and `version` print it.
    pub fn word(self) -> &'static str {
        match self {
            Self::UringDefer => "io_uring-defer",
            Self::UringCoop => "io_uring-coop",
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Operations that the ring holds at once. 6,000 connections that complete together took twice
/// as long with 256.
const RING_ENTRIES: u32 = 4096;

/// Builds the runtime of the calling thread. The second value says why a better rung was refused.
pub fn build(choice: Choice) -> io::Result<(Runtime, Driver, Option<io::Error>)> {
    let mut refused = None;
    if choice != Choice::Epoll {
        for driver in [Driver::UringDefer, Driver::UringCoop, Driver::Uring] {
            match build_uring(driver) {
                Ok(runtime) => return Ok((runtime, driver, refused)),
                Err(error) => refused = Some(error),
            }
        }
        if choice == Choice::Uring {
            return Err(refused.unwrap_or_else(|| io::ErrorKind::Unsupported.into()));
        }
    }
    let runtime = RuntimeBuilder::<LegacyDriver>::new()
        .with_entries(RING_ENTRIES)
        .enable_timer()
        .build()?;
    Ok((runtime.into(), Driver::Epoll, refused))
}

fn build_uring(driver: Driver) -> io::Result<Runtime> {
    let mut ring = io_uring::IoUring::builder();
    match driver {
        Driver::UringDefer => {
            ring.setup_single_issuer().setup_defer_taskrun();
        }
        Driver::UringCoop => {
            ring.setup_coop_taskrun();
        }
        Driver::Uring | Driver::Epoll => {}
    }
    let runtime = RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(RING_ENTRIES)
        .uring_builder(ring)
        .enable_timer()
        .build()?;
    Ok(runtime.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoll_is_always_there() {
        let (mut runtime, driver, _) = build(Choice::Epoll).unwrap();
        assert_eq!(driver, Driver::Epoll);
        assert_eq!(runtime.block_on(async { 7 }), 7);
    }

    #[test]
    fn auto_takes_a_rung_that_runs() {
        let (mut runtime, _, _) = build(Choice::Auto).unwrap();
        runtime.block_on(async { monoio::time::sleep(std::time::Duration::from_millis(1)).await });
    }
}
