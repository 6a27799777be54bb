//! Hashing for maps with short keys that are looked up on every exchange.
//!
//! The standard library's hasher withstands keys that somebody chose in order to collide; that
//! costs some forty nanoseconds a look-up. The maps that use this one are bounded, or filled by the
//! operator alone, so that nobody can make them slow.

use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A map with short keys.
pub type ShortMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<ShortHasher>>;

/// xxh3 over each piece, seeded with the hash of those before it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShortHasher(u64);

impl ShortHasher {
    fn mix(&mut self, value: u64) {
        // An odd constant of which half the bits are set: the golden ratio's.
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for ShortHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn finish(&self) -> u64 {
        // The map looks at the lowest and the highest bits.
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, hash::BuildHasher};

    use super::*;

    #[test]
    fn like_keys_have_unlike_hashes() {
        let hasher = BuildHasherDefault::<ShortHasher>::default();
        let texts = (0..10_000).map(|number| hasher.hash_one(format!("gateway-{number}").as_str()));
        assert_eq!(texts.collect::<HashSet<_>>().len(), 10_000);
        let low = (0u16..100).flat_map(|a| (0u16..100).map(move |b| (a, b)));
        let low: HashSet<u64> = low.map(|pair| hasher.hash_one(pair) & 0xf_ffff).collect();
        assert!(low.len() > 9_900, "{}", low.len());
        assert_ne!(hasher.hash_one(("a", "bc")), hasher.hash_one(("ab", "c")));
    }
}
