//! The thread that writes the journal and answers the owners.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::Journal;
use crate::{
    handoff::{
        ledger::{Batch, Journalled},
        mailbox::{Letterbox, Order, Post},
    },
    sys::bell::Bell,
};

/// Batches that share a frame. One holds what a shard granted in a turn, so this is far below
/// what a frame can hold.
const BATCHES_A_FRAME: usize = 64;

/// Steps that share a frame: more than this is only taken if one batch has it.
const STEPS_A_FRAME: usize = 4_096;

/// Time between two looks at what no longer counts.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// Time between two looks at a file that is being written anew.
const SOON: Duration = Duration::from_millis(100);

/// The ledger's thread; it ends when this is stopped or dropped.
pub struct LedgerThread {
    stop: Arc<AtomicBool>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl LedgerThread {
    /// Starts the thread. Batches come from `batches`, answers go to the shards that sent them.
    pub fn start(
        journal: Journal,
        batches: Letterbox<Batch>,
        shards: Vec<Post<Order>>,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let bell = Arc::clone(&batches.bell);
        let mut clerk = Clerk {
            journal,
            batches,
            shards,
            stop: Arc::clone(&stop),
            swept: Instant::now(),
        };
        let builder = std::thread::Builder::new().name("ledger".to_owned());
        let thread = builder.spawn(move || {
            // Who waits for an answer that a panic took is refused by its owner in time.
            while catch_unwind(AssertUnwindSafe(|| clerk.run())).is_err() {}
        })?;
        Ok(Self {
            stop,
            bell,
            thread: Some(thread),
        })
    }

    /// Writes what was sent so far, and ends the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring_always();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for LedgerThread {
    fn drop(&mut self) {
        self.end();
    }
}

struct Clerk {
    journal: Journal,
    batches: Letterbox<Batch>,
    shards: Vec<Post<Order>>,
    stop: Arc<AtomicBool>,
    swept: Instant,
}

impl Clerk {
    fn run(&mut self) {
        loop {
            // Asked before the look at the queue: what was sent before the stop is seen.
            let stopping = self.stop.load(Ordering::Acquire);
            let first = if stopping {
                self.batches.take()
            } else {
                let rest = SWEEP_EVERY.saturating_sub(self.swept.elapsed());
                let longest = if self.journal.is_unfinished() {
                    SOON.min(rest)
                } else {
                    rest
                };
                self.batches.wait(longest)
            };
            match first {
                Some(first) => self.write(first),
                None if stopping => {
                    self.journal.finish(unix_micros());
                    return;
                }
                None => self.tend(),
            }
        }
    }

    /// Writes a batch and those that wait behind it as one frame, and answers.
    fn write(&mut self, first: Batch) {
        let steps =
            |batch: &Batch| batch.reservations.len() + batch.settlements.len() + batch.spent.len();
        let mut total = steps(&first);
        let mut batches = vec![first];
        while batches.len() < BATCHES_A_FRAME && total < STEPS_A_FRAME {
            let Some(batch) = self.batches.take() else {
                break;
            };
            total += steps(&batch);
            batches.push(batch);
        }
        let waiting: Vec<(usize, Vec<u64>)> = batches
            .iter()
            .map(|batch| {
                let permits = batch.reservations.iter();
                let permits = permits.map(|reservation| reservation.permit).collect();
                (batch.shard, permits)
            })
            .collect();
        let written = self.journal.write(batches, unix_micros());
        for ((shard, permits), written) in waiting.into_iter().zip(written) {
            if permits.is_empty() {
                continue;
            }
            if let Some(post) = self.shards.get(shard) {
                // A full mailbox: the owner refuses in time, and says that it did.
                let _ = post.send(Order::Journalled(Journalled { permits, written }));
            }
        }
        // They are answered: a good time.
        self.journal.tend(unix_micros());
    }

    fn tend(&mut self) {
        if self.swept.elapsed() >= SWEEP_EVERY {
            self.journal.sweep(unix_micros());
            self.swept = Instant::now();
        }
        self.journal.tend(unix_micros());
    }
}

fn unix_micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
