//! The mesh: from every shard to every other a bounded ring with one writer and one reader.
//!
//! A push takes no lock and makes no system call. [`MeshEnd::ring`] makes one for each reader that was
//! sent something and sleeps: it rings its bell, the one that its letterbox has too. Nothing waits. A ring that is full, and a reader that has
//! ended, give the message back at once.
//!
//! There are two classes of messages. [`MeshEnd::offer`] takes what somebody would like to say and
//! fills a ring to its half. [`MeshEnd::reply`] takes what was asked for, and has the other half:
//! who never has more than [`MeshEnd::replies_max`] questions open at a peer gets all its answers,
//! however many questions come the other way.
//!
//! The reader's part is [`MeshEnd::take`], a bounded number of times in a turn; see
//! `shard/accept.rs`. Before it sleeps it looks at [`MeshEnd::is_empty`], after
//! [`Bell::prepare_sleep`], like at any other queue beside a bell.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::sys::bell::Bell;

/// Messages for one shard that may lie in all its rings together; shared by the rings, since
/// there are as many of them as the square of the shards.
const INBOUND_MESSAGES: usize = 8192;

/// Bounds on the messages of one ring: enough for one turn of a busy peer; and what 32 messages
/// for each of 255 peers come to is still memory that nobody misses.
const RING_MESSAGES_MIN: usize = 32;
const RING_MESSAGES_MAX: usize = 1024;

/// Messages taken from one ring before the next has its turn.
const BURST: usize = 16;

/// A message that was not sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Unsent<T> {
    /// The ring has no room for it now.
    Full(T),
    /// There is no such shard, or it has ended: nothing will ever reach it.
    Gone(T),
}

impl<T> Unsent<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(message) | Self::Gone(message) => message,
        }
    }
}

/// One shard's ends of all its rings. Dropping it tells the other shards that this one has ended.
#[derive(Debug)]
pub struct MeshEnd<T> {
    /// By the number of the peer; `None` at its own.
    links: Vec<Option<Link<T>>>,
    /// The ring that is read next, and how often it was read in a row.
    next: usize,
    burst: usize,
    /// Shards that still serve somebody.
    serving: Arc<AtomicUsize>,
    left: bool,
}

/// The two rings between a shard and one peer.
#[derive(Debug)]
struct Link<T> {
    out: Producer<T>,
    bell: Arc<Bell>,
    /// Something was sent since the bell was rung.
    unheard: bool,
    inward: Consumer<T>,
}

/// Makes a mesh: one end for each bell, which is that of the shard with the same number.
pub fn mesh<T: Send>(bells: &[Arc<Bell>]) -> Vec<MeshEnd<T>> {
    let shards = bells.len();
    let peers = shards.saturating_sub(1).max(1);
    let messages = (INBOUND_MESSAGES / peers).clamp(RING_MESSAGES_MIN, RING_MESSAGES_MAX);
    mesh_of(bells, messages)
}

fn mesh_of<T: Send>(bells: &[Arc<Bell>], messages: usize) -> Vec<MeshEnd<T>> {
    let shards = bells.len();
    let serving = Arc::new(AtomicUsize::new(shards));
    let mut links: Vec<Vec<Option<Link<T>>>> = bells
        .iter()
        .map(|_| (0..shards).map(|_| None).collect())
        .collect();
    for from in 0..shards {
        for to in from + 1..shards {
            let (here, there) = (&bells[from], &bells[to]);
            let (out, there_inward) = RingBuffer::new(messages);
            let (there_out, inward) = RingBuffer::new(messages);
            links[from][to] = Some(Link {
                out,
                bell: Arc::clone(there),
                unheard: false,
                inward,
            });
            links[to][from] = Some(Link {
                out: there_out,
                bell: Arc::clone(here),
                unheard: false,
                inward: there_inward,
            });
        }
    }
    let end = |links| MeshEnd {
        links,
        next: 0,
        burst: 0,
        serving: Arc::clone(&serving),
        left: false,
    };
    links.into_iter().map(end).collect()
}

impl<T> MeshEnd<T> {
    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.links.len()
    }

    /// How many replies from one peer always find room: what a shard may have asked of it and
    /// not heard of yet.
    pub fn replies_max(&self) -> usize {
        let ring = self.links.iter().flatten().next();
        ring.map_or(0, |link| link.out.buffer().capacity() / 2)
    }

    /// Sends what was not asked for, while the ring is not half full.
    pub fn offer(&mut self, to: usize, message: T) -> Result<(), Unsent<T>> {
        self.send(to, message, |ring| {
            // The capacity is even or the greater half is kept free.
            ring.slots() > ring.buffer().capacity() - ring.buffer().capacity() / 2
        })
    }

    /// Sends the one answer to a question of that peer.
    pub fn reply(&mut self, to: usize, message: T) -> Result<(), Unsent<T>> {
        self.send(to, message, |_| true)
    }

    fn send(
        &mut self,
        to: usize,
        message: T,
        has_room: impl Fn(&Producer<T>) -> bool,
    ) -> Result<(), Unsent<T>> {
        let Some(Some(link)) = self.links.get_mut(to) else {
            return Err(Unsent::Gone(message));
        };
        if link.out.is_abandoned() {
            return Err(Unsent::Gone(message));
        }
        if !has_room(&link.out) {
            return Err(Unsent::Full(message));
        }
        match link.out.push(message) {
            Ok(()) => {
                link.unheard = true;
                Ok(())
            }
            Err(PushError::Full(message)) => Err(Unsent::Full(message)),
        }
    }

    /// Wakes the readers of what was sent. Whoever sends calls this, at the end of its turn at the latest.
    pub fn ring(&mut self) {
        for link in self.links.iter_mut().flatten() {
            if std::mem::take(&mut link.unheard) {
                link.bell.ring();
            }
        }
    }

    /// Takes the next message and says whose it is. No ring is read for long while another waits.
    pub fn take(&mut self) -> Option<(usize, T)> {
        for _ in 0..=self.links.len() {
            let from = self.next;
            if self.burst < BURST
                && let Some(Some(link)) = self.links.get_mut(from)
                && let Ok(message) = link.inward.pop()
            {
                self.burst += 1;
                return Some((from, message));
            }
            self.burst = 0;
            self.next = (from + 1) % self.links.len().max(1);
        }
        None
    }

    /// Says whether no message waits.
    pub fn is_empty(&self) -> bool {
        let mut links = self.links.iter().flatten();
        links.all(|link| link.inward.is_empty())
    }

    /// Says that this shard has nobody left to serve. It goes on answering the others until
    /// [`MeshEnd::all_have_left`].
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            self.serving.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Says whether no shard has anybody left to serve.
    pub fn all_have_left(&self) -> bool {
        self.serving.load(Ordering::Acquire) == 0
    }
}

impl<T> Drop for MeshEnd<T> {
    fn drop(&mut self) {
        self.ring();
        self.leave();
    }
}

#[cfg(test)]
mod tests;
