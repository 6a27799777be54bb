//! The entries that one shard owns: found by hash, bounded by weight, gone by time or purge.
//!
//! An entry's weight is everything it holds, and [`OVERHEAD_BYTES`]. What is evicted may still be
//! on its way to somebody: such bytes are counted until the last reader lets go, and while they
//! and the entries together are more than the share, nothing new is taken.
//!
//! A purge only writes down a mark: entries older than a mark that concerns them are dead, and are
//! taken out when they are touched or when the sweep comes by. So a purge of a million entries
//! costs the shard no pause. Answers that were asked for before a purge and come after it are as
//! dead: who asks gets a [`Stamp`], and an answer is stored with the stamp of its question.
//!
//! Expiry is by the owner's own clock, which never steps.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use quick_cache::{Lifecycle, Weighter, unsync::Cache};

use super::cached::Cached;
use crate::{
    domain::cache::{KeyHash, Purge, answer_bytes_max},
    shard::clock::Moment,
};

/// Bytes that an entry weighs besides its answer's: its places in the tables, its reference
/// counts, what the allocator rounds up.
pub const OVERHEAD_BYTES: u64 = 128;

/// Part of the share that is kept free for what was evicted and is still being sent: one slow
/// reader must not keep the rest from being renewed.
const HEADROOM: u64 = 16;

/// Weight of a usual entry, for the number of evicted keys that are remembered.
const USUAL_ENTRY_BYTES: u64 = 4096;

/// Marks of single gateways, providers and keys. When there are more, they become one for all.
const MARKS_MAX: usize = 4096;

/// When an answer was asked for, counted in purges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stamp(u64);

/// What a store has counted, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreCounts {
    /// Entries held, dead ones that nobody came by included.
    pub entries: u64,
    /// Their weight in bytes.
    pub bytes: u64,
    /// Bytes of what is out of the store and still being sent.
    pub lingering_bytes: u64,
    /// Look-ups that found an entry.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// Answers taken in.
    pub inserts: u64,
    /// Answers not taken in: too large, too old, or no room.
    pub refused: u64,
    /// Entries that made room for others.
    pub evictions: u64,
    /// Entries that had expired.
    pub expired: u64,
    /// Entries that were purged.
    pub purged: u64,
}

/// One shard's entries.
pub struct Store {
    cache: Cache<KeyHash, Entry, ByBytes, ByHash, KeepEvicted>,
    /// The keys of the cache in no order: what the sweep walks over.
    keys: Vec<KeyHash>,
    /// Where the sweep goes on.
    cursor: usize,
    share: u64,
    /// Out of the store, still being sent.
    lingering: Vec<Arc<Cached>>,
    lingering_bytes: u64,
    lingering_cursor: usize,
    marks: Marks,
    counts: StoreCounts,
    /// What the last insertion evicted: an empty list, for the next.
    evicted: Vec<(KeyHash, Entry)>,
}

#[derive(Debug)]
struct Entry {
    cached: Arc<Cached>,
    expires: Moment,
    stamp: Stamp,
    /// Its place among the keys.
    place: usize,
}

impl Store {
    /// An empty store of so many bytes (`domain::cache::share`); nothing is ever stored in one of 0.
    pub fn new(share: u64) -> Self {
        let capacity = share - share / HEADROOM;
        let usual = usize::try_from(share / USUAL_ENTRY_BYTES).unwrap_or(usize::MAX);
        Self {
            cache: Cache::with(usual, capacity, ByBytes, ByHash, KeepEvicted),
            keys: Vec::new(),
            cursor: 0,
            share,
            lingering: Vec::new(),
            lingering_bytes: 0,
            lingering_cursor: 0,
            marks: Marks::default(),
            counts: StoreCounts::default(),
            evicted: Vec::new(),
        }
    }

    /// Says whether anything can be stored.
    pub fn is_on(&self) -> bool {
        self.share > 0
    }

    /// Greatest answer that is taken, in bytes: 25 MB, and no more than a quarter of the share.
    pub fn answer_bytes_max(&self) -> u64 {
        answer_bytes_max(self.share)
    }

    /// What to store an answer with that is asked for now.
    pub fn stamp(&self) -> Stamp {
        self.marks.now
    }

    /// What it has counted and holds.
    pub fn counts(&self) -> StoreCounts {
        StoreCounts {
            entries: self.cache.len() as u64,
            bytes: self.cache.weight(),
            lingering_bytes: self.lingering_bytes,
            ..self.counts
        }
    }

    /// The entry of that hash, if it is alive. Whoever wants it compares the key.
    pub fn find(&mut self, hash: KeyHash, now: Moment) -> Option<Arc<Cached>> {
        match self.cache.get(&hash) {
            Some(entry) if self.marks.is_alive(hash, entry) && now < entry.expires => {
                self.counts.hits += 1;
                Some(Arc::clone(&entry.cached))
            }
            Some(entry) => {
                let purged = !self.marks.is_alive(hash, entry);
                self.count_dead(purged);
                self.remove(hash);
                self.counts.misses += 1;
                None
            }
            None => {
                self.counts.misses += 1;
                None
            }
        }
    }

    /// Stores an answer until `expires`, in place of any other of that hash. `stamp` is that of
    /// the question. False: it was not taken.
    pub fn insert(
        &mut self,
        hash: KeyHash,
        cached: Arc<Cached>,
        stamp: Stamp,
        now: Moment,
        expires: Moment,
    ) -> bool {
        let entry = Entry {
            cached,
            expires,
            stamp,
            place: self.keys.len(),
        };
        let taken = self.takes(hash, &entry) && now < expires;
        if !taken {
            self.counts.refused += 1;
            return false;
        }
        self.remove(hash);
        let entry = Entry {
            // The removal may have moved the end.
            place: self.keys.len(),
            ..entry
        };
        let mut evicted = Evicted(std::mem::take(&mut self.evicted));
        self.keys.push(hash);
        self.cache.insert_with_lifecycle(hash, entry, &mut evicted);
        self.counts.inserts += 1;
        let mut evicted = evicted.0;
        while let Some((key, entry)) = evicted.pop() {
            self.counts.evictions += 1;
            if let Some(moved) = self.forget_place(key, entry.place) {
                // It is out of the cache as well, and its turn is still to come.
                let mut rest = evicted.iter_mut();
                if let Some((_, other)) = rest.find(|(key, _)| *key == moved) {
                    other.place = entry.place;
                }
            }
            self.linger(entry.cached);
        }
        self.evicted = evicted;
        true
    }

    fn takes(&mut self, hash: KeyHash, entry: &Entry) -> bool {
        if !self.is_on() || !self.marks.is_alive(hash, entry) {
            return false;
        }
        let weight = weight_of(&entry.cached);
        // A key counts too: a small answer to a large request is a large entry.
        if weight > self.share / 4 || entry.cached.answer_bytes() > self.answer_bytes_max() {
            return false;
        }
        if self.is_over_share() {
            self.reap(usize::MAX);
        }
        !self.is_over_share()
    }

    fn is_over_share(&self) -> bool {
        self.cache.weight() + self.lingering_bytes > self.share
    }

    /// Forgets what it is told to.
    pub fn purge(&mut self, what: Purge) {
        if let Purge::Key(hash) = what {
            self.counts.purged += u64::from(self.remove(hash));
        }
        self.marks.set(what);
    }

    /// Takes the dead out of the next `most` entries, and lets go of what nobody sends any more.
    pub fn sweep(&mut self, now: Moment, most: usize) {
        self.reap(most);
        for _ in 0..most.min(self.keys.len()) {
            let Some(hash) = self.keys.get(self.cursor).copied() else {
                self.cursor = 0;
                return;
            };
            match self.cache.peek(&hash) {
                Some(entry) if self.marks.is_alive(hash, entry) && now < entry.expires => {
                    self.cursor += 1;
                }
                Some(entry) => {
                    let purged = !self.marks.is_alive(hash, entry);
                    self.count_dead(purged);
                    // Another key takes its place, and is looked at next.
                    self.remove(hash);
                }
                None => self.cursor += 1,
            }
        }
    }

    fn count_dead(&mut self, purged: bool) {
        if purged {
            self.counts.purged += 1;
        } else {
            self.counts.expired += 1;
        }
    }

    /// Takes an entry out; says whether there was one.
    fn remove(&mut self, hash: KeyHash) -> bool {
        let Some((_, entry)) = self.cache.remove(&hash) else {
            return false;
        };
        self.forget_place(hash, entry.place);
        self.linger(entry.cached);
        true
    }

    /// Takes a key off the list, whose last one moves to its place. Gives back the one that moved
    /// if the cache does not hold it.
    fn forget_place(&mut self, hash: KeyHash, place: usize) -> Option<KeyHash> {
        if self.keys.get(place) != Some(&hash) {
            return None;
        }
        self.keys.swap_remove(place);
        let moved = *self.keys.get(place)?;
        let Some(mut entry) = self.cache.peek_mut(&moved) else {
            return Some(moved);
        };
        entry.place = place;
        None
    }

    fn linger(&mut self, cached: Arc<Cached>) {
        if Arc::strong_count(&cached) > 1 {
            self.lingering_bytes += weight_of(&cached);
            self.lingering.push(cached);
        }
    }

    /// Lets go of lingering answers that nobody else holds, among the next `most`.
    fn reap(&mut self, most: usize) {
        for _ in 0..most.min(self.lingering.len()) {
            if self.lingering_cursor >= self.lingering.len() {
                self.lingering_cursor = 0;
            }
            match self.lingering.get(self.lingering_cursor) {
                // Nobody can take another reference but from this one.
                Some(cached) if Arc::strong_count(cached) == 1 => {
                    self.lingering_bytes -= weight_of(cached);
                    self.lingering.swap_remove(self.lingering_cursor);
                }
                Some(_) => self.lingering_cursor += 1,
                None => return,
            }
        }
    }
}

fn weight_of(cached: &Cached) -> u64 {
    cached.bytes() + OVERHEAD_BYTES
}

/// What was purged when. A mark stays: an answer that was asked for before it may come at any time.
#[derive(Debug, Default)]
struct Marks {
    /// How many purges there were.
    now: Stamp,
    /// Older than this is dead, whatever it is.
    all: Stamp,
    gateways: HashMap<Box<[u8]>, Stamp>,
    providers: HashMap<Box<[u8]>, Stamp>,
    keys: HashMap<KeyHash, Stamp>,
}

impl Marks {
    fn is_alive(&self, hash: KeyHash, entry: &Entry) -> bool {
        let lives = |mark: Option<&Stamp>| mark.is_none_or(|mark| entry.stamp >= *mark);
        entry.stamp >= self.all
            && lives(self.gateways.get(entry.cached.gateway()))
            && lives(self.providers.get(entry.cached.provider()))
            && (self.keys.is_empty() || lives(self.keys.get(&hash)))
    }

    fn set(&mut self, what: Purge) {
        self.now.0 += 1;
        let mark = self.now;
        match what {
            Purge::All => self.set_all(),
            Purge::Gateway(id) => {
                self.gateways.insert(id.into_boxed_bytes(), mark);
            }
            Purge::Provider(slug) => {
                self.providers.insert(slug.into_boxed_bytes(), mark);
            }
            Purge::Key(hash) => {
                self.keys.insert(hash, mark);
            }
        }
        if self.gateways.len() + self.providers.len() + self.keys.len() > MARKS_MAX {
            self.set_all();
        }
    }

    fn set_all(&mut self) {
        self.all = self.now;
        self.gateways.clear();
        self.providers.clear();
        self.keys.clear();
    }
}

/// Weighs an entry by its bytes.
#[derive(Clone)]
struct ByBytes;

impl Weighter<KeyHash, Entry> for ByBytes {
    fn weight(&self, _: &KeyHash, entry: &Entry) -> u64 {
        weight_of(&entry.cached)
    }
}

/// Takes the hash that a key is.
#[derive(Clone)]
struct ByHash;

impl BuildHasher for ByHash {
    type Hasher = Low;

    fn build_hasher(&self) -> Low {
        Low(0)
    }
}

/// Keeps the last word that it is given: of a [`KeyHash`] the low half.
struct Low(u64);

impl Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

/// Hands out what was evicted.
#[derive(Clone)]
struct KeepEvicted;

#[derive(Default)]
struct Evicted(Vec<(KeyHash, Entry)>);

impl Lifecycle<KeyHash, Entry> for KeepEvicted {
    type RequestState = Evicted;

    fn on_evict(&self, evicted: &mut Evicted, key: KeyHash, entry: Entry) {
        evicted.0.push((key, entry));
    }
}

#[cfg(test)]
pub(super) mod tests;
