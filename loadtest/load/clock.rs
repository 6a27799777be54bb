//! Time: stamps that two processes can compare, and a timer finer than the runtime's millisecond.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use monoio::net::UnixStream;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

/// Microseconds of `CLOCK_MONOTONIC`, which all processes of a machine share.
pub(crate) fn stamp_micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000
        + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}

/// A timer descriptor awaited on the ring. The runtime's own timers step by whole milliseconds,
/// which an open loop would count as latency.
pub(crate) struct Alarm {
    timer: OwnedFd,
    ready: UnixStream,
}

impl Alarm {
    /// Makes an alarm that is not set.
    pub(crate) fn new() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let ready = UnixStream::from_std(timer.try_clone()?.into())?;
        Ok(Self { timer, ready })
    }

    /// Sleeps for `wait`.
    pub(crate) async fn sleep(&self, wait: Duration) -> io::Result<()> {
        // A zero would disarm the timer.
        let wait = wait.max(Duration::from_nanos(1));
        let setting = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(wait.subsec_nanos()),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)?;
        self.ready.readable(false).await?;
        let mut expirations = [0; 8];
        match rustix::io::read(&self.timer, &mut expirations) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
