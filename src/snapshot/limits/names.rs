//! Names of counters that were worked out before.
//!
//! A counter's name is a keyed hash, which takes longer than all else about a claim, and the same few
//! counters are met again and again. What is remembered is compared whole: a counter is never taken
//! for another one.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Names remembered; each has one place, where the next one with that place follows it.
const PLACES: usize = 1024;

/// Longer lists of parts are not remembered.
const PARTS_BYTES_MAX: usize = 256;

/// What was worked out, for one thread.
#[derive(Debug, Default)]
pub struct Names {
    /// Empty until the first name.
    places: Vec<Option<Name>>,
    /// What the next name is made of.
    parts: Vec<u8>,
}

#[derive(Debug)]
struct Name {
    seed: [u8; 32],
    parts: Box<[u8]>,
    id: [u8; 16],
}

impl Names {
    /// An empty list for the parts of the next name.
    pub(super) fn parts(&mut self) -> &mut Vec<u8> {
        self.parts.clear();
        &mut self.parts
    }

    /// The name that is made of `seed` and the parts.
    pub(super) fn find(&mut self, seed: &[u8; 32]) -> [u8; 16] {
        if self.parts.len() > PARTS_BYTES_MAX {
            return id(seed, &self.parts);
        }
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        let first = seed.first_chunk().copied().unwrap_or_default();
        let hash = xxh3_64_with_seed(&self.parts, u64::from_le_bytes(first));
        let place = usize::try_from(hash % PLACES as u64).unwrap_or_default();
        match self.places.get(place) {
            Some(Some(name)) if name.seed == *seed && *name.parts == *self.parts => name.id,
            _ => {
                let id = id(seed, &self.parts);
                if let Some(place) = self.places.get_mut(place) {
                    *place = Some(Name {
                        seed: *seed,
                        parts: self.parts.as_slice().into(),
                        id,
                    });
                }
                id
            }
        }
    }
}

fn id(seed: &[u8; 32], parts: &[u8]) -> [u8; 16] {
    let hash = blake3::keyed_hash(seed, parts);
    let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *hash.as_bytes();
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_whether_or_not_it_was_met_before() {
        let mut names = Names::default();
        let mut check = |seed: u8, text: &[u8]| {
            let seed = [seed; 32];
            names.parts().extend_from_slice(text);
            assert_eq!(names.find(&seed), id(&seed, text), "{text:?}");
        };
        // More than there are places, so that some follow others.
        for _ in 0..3 {
            for number in 0..2 * PLACES {
                let text = number.to_string();
                check(1, text.as_bytes());
                check(2, text.as_bytes());
            }
            check(1, b"");
            check(1, &[7; PARTS_BYTES_MAX]);
            check(1, &[7; PARTS_BYTES_MAX + 1]);
        }
    }
}
