//! Wakes a sleeping thread: an eventfd that is written only when the other side says it sleeps.
//!
//! Protocol. Sender: push; [`Bell::ring`]. Receiver: drain; [`Bell::prepare_sleep`]; look at the
//! queue again; wait on the descriptor; [`Bell::awake`]. Both sides fence sequentially, so a
//! message pushed while the receiver falls asleep is either seen by its last look or rings.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering, fence},
    time::Duration,
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// A bell between any number of senders and one receiver.
#[derive(Debug)]
pub struct Bell {
    fd: OwnedFd,
    asleep: AtomicBool,
}

impl Bell {
    /// Makes a bell whose receiver is awake.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            fd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            asleep: AtomicBool::new(false),
        })
    }

    /// Wakes the receiver if it sleeps.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::SeqCst) {
            self.ring_always();
        }
    }

    /// Makes the descriptor readable, asleep or not: a receiver that has more to do than it wants
    /// to do in one turn rings for itself.
    pub fn ring_always(&self) {
        // Fails only when the counter is full: then it is readable already.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Says that the receiver is about to sleep. It must look at its queue once more after this.
    pub fn prepare_sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Says that the receiver is awake, and takes what was rung.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.fd, &mut count);
    }

    /// Waits until the bell was rung, or for `timeout`. For side threads; a shard awaits the
    /// descriptor instead.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A second descriptor of the same bell, for a runtime to own.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn is_rung(bell: &Bell) -> bool {
        let mut fds = [PollFd::new(bell, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn only_a_sleeper_is_rung_for() {
        let bell = Bell::new().unwrap();
        bell.ring();
        assert!(!is_rung(&bell));
        bell.prepare_sleep();
        bell.ring();
        bell.ring();
        assert!(is_rung(&bell));
        bell.awake();
        assert!(!is_rung(&bell));
    }

    #[test]
    fn no_message_is_slept_through() {
        let (bell, (sender, receiver)) = (Arc::new(Bell::new().unwrap()), crossbeam_channel::bounded(4));
        let peer = Arc::clone(&bell);
        let thread = std::thread::spawn(move || {
            for number in 0..20_000u32 {
                let mut message = number;
                while let Err(error) = sender.try_send(message) {
                    message = error.into_inner();
                    std::thread::yield_now();
                }
                peer.ring();
            }
        });
        let mut expected = 0;
        while expected < 20_000 {
            while let Ok(number) = receiver.try_recv() {
                assert_eq!(number, expected);
                expected += 1;
            }
            bell.prepare_sleep();
            if receiver.is_empty() && expected < 20_000 {
                bell.wait(Some(Duration::from_secs(20))).unwrap();
                assert!(!receiver.is_empty(), "slept through a message");
            }
            bell.awake();
        }
        thread.join().unwrap();
    }
}
