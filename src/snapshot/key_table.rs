//! Who a token belongs to.
//!
//! Tokens are random and long, so a keyed hash of one is as good as the token for looking it up,
//! and the table holds no token. The hash's key is made anew in each process: nobody can choose
//! a token by its hash.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use crate::domain::short_hash::ShortMap;

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name, which records carry.
    pub name: Box<str>,
    /// May call providers.
    pub run: bool,
    /// May read through the management API.
    pub read: bool,
    /// May change through the management API.
    pub edit: bool,
}

/// Tokens by hash.
#[derive(Clone)]
pub struct KeyTable {
    secret: [u8; 32],
    keys: ShortMap<[u8; 32], Key>,
    stored: Vec<Stored>,
    /// Differs for every table of the process, so that a [`Proof`] is good for its own only.
    generation: u64,
}

/// The last token that one connection proved. Most callers send the same one with each request,
/// and comparing is cheaper than hashing.
#[derive(Default)]
pub struct Proof {
    generation: u64,
    token: Vec<u8>,
    hash: [u8; 32],
}

/// A token of which only the stored hash is known (`tidegate keys create`).
#[derive(Clone)]
struct Stored {
    hash: [u8; 32],
    key: Key,
}

/// Longest token that a connection remembers; ours have 46 bytes.
const PROOF_BYTES_MAX: usize = 128;

/// Counts tables; a proof starts with 0, which is none.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

/// Domain of the hashes that are kept in `control.db`.
const STORED_CONTEXT: &str = "tidegate 2026-11-21 gateway token";

/// The hash under which a token is stored. Tokens have 256 random bits, so no salt and no slow
/// hash is needed.
pub fn stored_hash(token: &[u8]) -> [u8; 32] {
    blake3::derive_key(STORED_CONTEXT, token)
}

impl KeyTable {
    /// An empty table; `secret` must be random.
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            keys: ShortMap::default(),
            stored: Vec::new(),
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Adds a token.
    pub fn insert(&mut self, token: &[u8], key: Key) {
        self.keys.insert(self.hash(token), key);
    }

    /// Adds a token that is known by its [`stored_hash`] only.
    pub fn insert_stored(&mut self, hash: [u8; 32], key: Key) {
        self.stored.push(Stored { hash, key });
    }

    /// Who `token` belongs to.
    pub fn find(&self, token: &[u8]) -> Option<&Key> {
        if token.is_empty() {
            return None;
        }
        if let Some(key) = self.keys.get(&self.hash(token)) {
            return Some(key);
        }
        if self.stored.is_empty() {
            return None;
        }
        let hash = stored_hash(token);
        self.stored
            .iter()
            .find(|stored| bool::from(stored.hash.ct_eq(&hash)))
            .map(|stored| &stored.key)
    }

    /// Who `token` belongs to, asked on a connection that remembers its last answer.
    pub fn find_again(&self, token: &[u8], proof: &mut Proof) -> Option<&Key> {
        if proof.generation == self.generation && bool::from(proof.token.ct_eq(token)) {
            return self.keys.get(&proof.hash);
        }
        let hash = self.hash(token);
        let Some(key) = self.keys.get(&hash).filter(|_| !token.is_empty()) else {
            return self.find(token);
        };
        if token.len() <= PROOF_BYTES_MAX {
            proof.generation = self.generation;
            proof.token.clear();
            proof.token.extend_from_slice(token);
            proof.hash = hash;
        }
        Some(key)
    }

    /// Who the token belongs to that a connection proved last; `None`: it is not for this table.
    pub fn proved(&self, proof: &Proof) -> Option<&Key> {
        if proof.generation != self.generation {
            return None;
        }
        self.keys.get(&proof.hash)
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.keys.len() + self.stored.len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn hash(&self, token: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.secret, token).as_bytes()
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyTable")
            .field("keys", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key {
            name: name.into(),
            run: true,
            read: false,
            edit: false,
        }
    }

    #[test]
    fn a_token_is_found_whole_or_not_at_all() {
        let mut table = KeyTable::new([7; 32]);
        table.insert(b"token-a", key("a"));
        table.insert_stored(stored_hash(b"token-b"), key("b"));
        assert_eq!(table.find(b"token-a").map(|key| &*key.name), Some("a"));
        assert_eq!(table.find(b"token-b").map(|key| &*key.name), Some("b"));
        for token in [&b""[..], b"token", b"token-aa", b"Token-a"] {
            assert_eq!(table.find(token), None);
        }
        assert!(!format!("{table:?}").contains("token-a"));
    }

    #[test]
    fn a_proof_is_good_for_its_own_token_and_table_only() {
        let mut table = KeyTable::new([7; 32]);
        table.insert(b"token-a", key("a"));
        table.insert(b"token-b", key("b"));
        let mut proof = Proof::default();
        let name = |table: &KeyTable, token: &[u8], proof: &mut Proof| {
            table
                .find_again(token, proof)
                .map(|key| key.name.to_string())
        };
        for _ in 0..2 {
            assert_eq!(name(&table, b"token-a", &mut proof).as_deref(), Some("a"));
        }
        assert_eq!(name(&table, b"token-b", &mut proof).as_deref(), Some("b"));
        assert_eq!(name(&table, b"token-c", &mut proof), None);
        assert_eq!(name(&table, b"", &mut proof), None);
        // A table without the token: it was revoked.
        let later = KeyTable::new([7; 32]);
        assert_eq!(name(&later, b"token-b", &mut proof), None);
    }
}
