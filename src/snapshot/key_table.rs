//! Who a token belongs to.
//!
//! Tokens are random and long, so a keyed hash of one is as good as the token for looking it up,
//! and the table holds no token. The hash's key is made anew in each process: nobody can choose
//! a token by its hash.

use std::{collections::HashMap, fmt};

use subtle::ConstantTimeEq as _;

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
    keys: HashMap<[u8; 32], Key>,
    stored: Vec<Stored>,
}

/// A token of which only the stored hash is known (`tidegate keys create`).
#[derive(Clone)]
struct Stored {
    hash: [u8; 32],
    key: Key,
}

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
            keys: HashMap::new(),
            stored: Vec::new(),
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
}
