//! Asking every shard for its counts, without waiting.

use std::time::Instant;

use crossbeam_channel::{Receiver, TryRecvError, bounded};

use crate::handoff::{
    counters::Counters,
    mailbox::{Order, Post},
};

/// One collection on its way.
pub struct Count {
    shards: Vec<Reply>,
    until: Instant,
}

enum Reply {
    Awaited(Receiver<Box<Counters>>),
    Here,
    /// The shard's mailbox is full, or the shard is gone.
    Never,
}

/// What a collection brought.
pub struct Counted<'a> {
    /// The last known counts of each shard.
    pub known: &'a [Counters],
    /// How many shards did not answer this time.
    pub silent: usize,
}

impl Counted<'_> {
    /// The sums over all shards.
    pub fn sum(&self) -> Counters {
        let mut sum = Counters::default();
        for counters in self.known {
            sum.merge(counters);
        }
        sum
    }
}

impl Count {
    /// Asks every shard; what has not come at `until` is not waited for.
    pub fn start(shards: &[Post<Order>], until: Instant) -> Self {
        let ask = |post: &Post<Order>| {
            // A channel for each shard, so that the reply tells whose it is.
            let (sender, receiver) = bounded(1);
            match post.send(Order::Count(sender)) {
                Ok(()) => Reply::Awaited(receiver),
                Err(_) => Reply::Never,
            }
        };
        Self {
            shards: shards.iter().map(ask).collect(),
            until,
        }
    }

    /// Takes what has come into `known`; says whether there is nothing left to wait for.
    pub fn look(&mut self, known: &mut [Counters], now: Instant) -> bool {
        let mut awaited = false;
        for (reply, known) in self.shards.iter_mut().zip(known) {
            let Reply::Awaited(receiver) = reply else {
                continue;
            };
            match receiver.try_recv() {
                Ok(counters) => {
                    *known = *counters;
                    *reply = Reply::Here;
                }
                Err(TryRecvError::Disconnected) => *reply = Reply::Never,
                Err(TryRecvError::Empty) => awaited = true,
            }
        }
        !awaited || now >= self.until
    }

    /// How many shards have not answered.
    pub fn silent(&self) -> usize {
        let here = |reply: &&Reply| matches!(reply, Reply::Here);
        self.shards.len() - self.shards.iter().filter(here).count()
    }
}
