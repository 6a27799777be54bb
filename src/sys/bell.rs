//! A bell: wakes one sleeping thread, and costs its ringers nothing while that thread is awake.
//!
//! The protocol has two sides, and each does its two steps in this order, a fence between them:
//!
//! * the ringer pushes to a queue, then calls [`Bell::ring`], which looks at `asleep`;
//! * the sleeper calls [`Bell::prepare_sleep`], which sets `asleep`, then looks at its queue
//!   **again**, and only if that is empty waits.
//!
//! With both fences sequentially consistent, at least one of the two sees what the other did, so
//! a message is never left lying beside a sleeper.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering, fence},
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
};

/// A non-blocking eventfd and whether its owner sleeps on it.
#[derive(Debug)]
pub struct Bell {
    fd: OwnedFd,
    asleep: AtomicBool,
}

impl Bell {
    /// Makes a bell whose owner is awake.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            fd: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            asleep: AtomicBool::new(false),
        })
    }

    /// Wakes the owner if it said that it sleeps. To be called after the push it tells of; no
    /// system call while the owner is awake.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        // The load first: a swap would pull the cache line away from the other ringers each time.
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.strike();
        }
    }

    /// Wakes the owner whatever it said: also out of a short [`Bell::wait`] while it is awake.
    pub fn ring_always(&self) {
        self.asleep.store(false, Ordering::Release);
        self.strike();
    }

    fn strike(&self) {
        // A full counter (EAGAIN) means that the owner has 2⁶⁴ - 2 rings to read: it will wake.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Says that the owner is about to sleep. It must look at its queues once more after this,
    /// and call [`Bell::awake`] instead of waiting if there is anything.
    pub fn prepare_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that the owner is awake, and takes back the rings that woke it.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Release);
        self.drain();
    }

    /// Takes all rings out of the descriptor; returns at once if there are none.
    pub fn drain(&self) {
        let mut count = [0u8; 8];
        while let Err(Errno::INTR) = rustix::io::read(&self.fd, &mut count) {}
    }

    /// Blocks a side thread until the bell rings or `timeout` is over, and takes the rings.
    /// May return early, so the caller looks at its queues in any case.
    pub fn wait(&self, timeout: Option<Duration>) {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        if matches!(poll(&mut fds, timeout.as_ref()), Ok(1..)) {
            self.drain();
        }
    }

    /// The descriptor, readable while rings are pending: for an owner that awaits it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A second descriptor of the same bell, for a runtime that wants to own one.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        thread,
        time::Duration,
    };

    use super::*;

    fn is_pending(bell: &Bell) -> bool {
        let mut fds = [PollFd::new(&bell.fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn an_owner_that_is_awake_is_not_rung() {
        let bell = Bell::new().unwrap();
        bell.ring();
        assert!(!is_pending(&bell));
    }

    #[test]
    fn a_sleeper_is_rung_once() {
        let bell = Bell::new().unwrap();
        bell.prepare_sleep();
        bell.ring();
        bell.ring();
        assert!(is_pending(&bell));
        bell.wait(None);
        assert!(!is_pending(&bell));
        bell.ring();
        assert!(!is_pending(&bell), "the first ring said that it is awake");
    }

    #[test]
    fn a_second_descriptor_is_the_same_bell() {
        let bell = Bell::new().unwrap();
        let other = bell.try_clone_fd().unwrap();
        bell.ring_always();
        let mut count = [0u8; 8];
        rustix::io::read(&other, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);
        assert!(!is_pending(&bell));
    }

    #[test]
    fn waiting_ends_with_its_timeout() {
        let bell = Bell::new().unwrap();
        bell.wait(Some(Duration::from_millis(1)));
        bell.awake();
    }

    #[test]
    fn no_message_is_left_beside_a_sleeper() {
        const MESSAGES: u64 = 20_000;
        let bell = Arc::new(Bell::new().unwrap());
        let sent = Arc::new(AtomicU64::new(0));
        let ringer = {
            let (bell, sent) = (Arc::clone(&bell), Arc::clone(&sent));
            thread::spawn(move || {
                for _ in 0..MESSAGES {
                    sent.fetch_add(1, Ordering::Relaxed);
                    bell.ring();
                }
            })
        };
        let mut seen = 0;
        while seen < MESSAGES {
            bell.prepare_sleep();
            let now = sent.load(Ordering::Relaxed);
            if now == seen {
                bell.wait(None);
            }
            bell.awake();
            seen = now;
        }
        ringer.join().unwrap();
    }
}
