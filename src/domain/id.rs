//! Names of gateways and identifiers of exchanges.

use std::fmt;

use super::hexadecimal;

/// Longest gateway id (contract `data-plane.md` section 1).
pub const GATEWAY_ID_BYTES_MAX: usize = 64;

/// Says whether `id` may name a gateway: 1 to 64 of `[A-Za-z0-9_-]`.
pub fn is_gateway_id(id: &str) -> bool {
    (1..=GATEWAY_ID_BYTES_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Identifies one attempt's record: a `UUIDv7` (RFC 9562 section 5.7), printed in lower case.
///
/// The order of two ids of one [`RequestIds`] is the order in which they were made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RequestId(pub [u8; 16]);

impl RequestId {
    /// Reads the textual form with hyphens, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return None;
        }
        let mut out = [0u8; 16];
        let mut at = 0;
        for (index, byte) in out.iter_mut().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                if bytes[at] != b'-' {
                    return None;
                }
                at += 1;
            }
            *byte = hex(bytes[at])? << 4 | hex(bytes[at + 1])?;
            at += 2;
        }
        Some(Self(out))
    }

    /// The 36 characters of the textual form, without an allocation.
    pub fn text(&self) -> [u8; 36] {
        let (words, _) = self.0.as_chunks::<4>();
        let mut digits = [0; 32];
        for (word, place) in words.iter().zip(digits.as_chunks_mut::<8>().0) {
            *place = hexadecimal::digits(u32::from_be_bytes(*word));
        }
        let mut out = [b'-'; 36];
        out[..8].copy_from_slice(&digits[..8]);
        out[9..13].copy_from_slice(&digits[8..12]);
        out[14..18].copy_from_slice(&digits[12..16]);
        out[19..23].copy_from_slice(&digits[16..20]);
        out[24..].copy_from_slice(&digits[20..]);
        out
    }

    /// Milliseconds since the Unix epoch at which the id was made.
    pub fn unix_millis(&self) -> u64 {
        let mut bytes = [0u8; 8];
        bytes[2..].copy_from_slice(&self.0[..6]);
        u64::from_be_bytes(bytes)
    }

    /// What lies below every id of this millisecond since the Unix epoch, and above every earlier
    /// one.
    pub fn below(unix_millis: u64) -> Self {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&unix_millis.to_be_bytes()[2..]);
        Self(id)
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes [`RequestId`]s that rise strictly within one generator: one for each shard.
///
/// Layout: 48 bits of milliseconds, version 7, 12 + 14 bits of counter, 48 bits of randomness
/// fixed for the generator, so that two shards never make the same id.
#[derive(Debug, Clone)]
pub struct RequestIds {
    seed: [u8; 6],
    last_millis: u64,
    counter: u32,
}

impl RequestIds {
    /// Starts a generator from `seed`, which must be random and differ for each shard.
    pub fn new(seed: [u8; 6]) -> Self {
        Self {
            seed,
            last_millis: 0,
            counter: 0,
        }
    }

    /// Makes the next id. A clock that steps back does not: the last time is kept.
    pub fn next(&mut self, unix_millis: u64) -> RequestId {
        if unix_millis > self.last_millis {
            self.last_millis = unix_millis;
            self.counter = 0;
        } else {
            self.counter += 1;
            if self.counter >= 1 << 26 {
                // 67 million ids in one millisecond: borrow the next one.
                self.last_millis += 1;
                self.counter = 0;
            }
        }
        let millis = self.last_millis.to_be_bytes();
        let high = (self.counter >> 14).to_be_bytes();
        let low = (self.counter & 0x3fff).to_be_bytes();
        let mut id = [0u8; 16];
        id[..6].copy_from_slice(&millis[2..]);
        id[6] = 0x70 | (high[2] & 0x0f);
        id[7] = high[3];
        id[8] = 0x80 | (low[2] & 0x3f);
        id[9] = low[3];
        id[10..].copy_from_slice(&self.seed);
        RequestId(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_and_survive_their_text() {
        let mut ids = RequestIds::new([1, 2, 3, 4, 5, 6]);
        let mut last = RequestId::default();
        for step in 0..100_000u64 {
            let id = ids.next(1_795_000_000_000 + step / 40_000 - step / 90_000);
            assert!(id > last);
            assert_eq!(RequestId::parse(&id.to_string()), Some(id));
            let millis = id.unix_millis();
            assert!(RequestId::below(millis) < id && id < RequestId::below(millis + 1));
            last = id;
        }
        let text = last.to_string();
        assert_eq!(&text[14..15], "7");
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
        assert_eq!(last.unix_millis(), 1_795_000_000_002);
    }

    #[test]
    fn text_that_is_no_uuid_is_refused() {
        for text in [
            "",
            "0",
            "0190163d-8694-739b-aea5-966c26f8ad9",
            "0190163d_8694-739b-aea5-966c26f8ad90",
        ] {
            assert_eq!(RequestId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn gateway_ids_are_short_and_plain() {
        assert!(is_gateway_id("default") && is_gateway_id("A_b-9"));
        assert!(!is_gateway_id("") && !is_gateway_id("a b") && !is_gateway_id(&"a".repeat(65)));
    }
}
