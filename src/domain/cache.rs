//! What every zone knows of the response cache: the hash that names a key, what can be forgotten,
//! and the parts of a request that a cached answer depends on.
//!
//! A record keeps a digest of each part ([`PartDigests`]), as one short text. Two such texts say
//! why the second request missed the first one's answer, without either request ([`differing`]).

use std::fmt;

use super::hexadecimal;

/// A key's hash: 128 bits over all its parts. The high half says which shard owns it, the low half
/// where it lies there. It finds an entry; the entry's identity is the whole key.
///
/// ```
/// use tidegate::domain::cache::KeyHash;
///
/// let hash = KeyHash::new(u64::MAX / 2, 7);
/// assert_eq!(hash.owner(2), 0);
/// assert_eq!(hash.to_string().parse(), Ok(hash));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash {
    high: u64,
    low: u64,
}

impl KeyHash {
    /// The hash of two halves.
    pub const fn new(high: u64, low: u64) -> Self {
        Self { high, low }
    }

    /// Which of so many shards owns the key: the high half, multiplied and shifted.
    pub fn owner(self, shards: usize) -> usize {
        let product = u128::from(self.high) * shards as u128;
        // Less than `shards`, so it fits.
        usize::try_from(product >> 64).unwrap_or_default()
    }
}

/// Thirty-two hexadecimal digits: how people name a key.
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.high, self.low)
    }
}

/// Why a text names no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key of the cache is named by 32 hexadecimal digits")]
pub struct NoKeyHash;

impl std::str::FromStr for KeyHash {
    type Err = NoKeyHash;

    fn from_str(text: &str) -> Result<Self, NoKeyHash> {
        // Reading a number alone would take a sign, too.
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoKeyHash);
        }
        let (high, low) = text.split_at(16);
        let half = |digits| u64::from_str_radix(digits, 16).map_err(|_| NoKeyHash);
        Ok(Self::new(half(high)?, half(low)?))
    }
}

/// Cached answers that are to be forgotten, answers on their way included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// All of them.
    All,
    /// Those of one gateway.
    Gateway(Box<str>),
    /// Those of one provider, whichever the gateway.
    Provider(Box<str>),
    /// One.
    Key(KeyHash),
}

/// Greatest answer that is kept, in bytes (contract `data-plane.md` section 17).
pub const ANSWER_BYTES_MAX: u64 = 25 * 1024 * 1024;

/// Least part of a shard that can be of use.
const SHARE_MIN: u64 = 64 * 1024;

/// Bytes for each of so many shards when all caches together may fill `memory`; 0 is off.
pub fn share(memory: u64, shards: usize) -> u64 {
    match memory / (shards.max(1) as u64) {
        ..SHARE_MIN => 0,
        share => share,
    }
}

/// Greatest answer that a shard with such a share keeps, in bytes: a few of them fit.
pub fn answer_bytes_max(share: u64) -> u64 {
    ANSWER_BYTES_MAX.min(share / 4)
}

/// A part of a cache key, in the order in which keys and digests hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The account of the path.
    Account,
    /// The gateway of the path.
    Gateway,
    /// What of the gateway's and the provider's settings forgets old answers when it is saved.
    Revision,
    /// Slug of the provider.
    Provider,
    /// Request method.
    Method,
    /// Who asks: the digest of the credential; absent where a gateway's callers share answers.
    Credential,
    /// The content codings that the provider was offered.
    Encoding,
    /// The caller's own key, which stands for all parts below.
    Custom,
    /// Scheme, host and port of the provider's address.
    Origin,
    /// Path and query as sent to the provider.
    Path,
    /// Header fields that can change an answer.
    Fields,
    /// The body.
    Body,
}

impl Part {
    /// All parts, in order.
    pub const ALL: [Self; 12] = [
        Self::Account,
        Self::Gateway,
        Self::Revision,
        Self::Provider,
        Self::Method,
        Self::Credential,
        Self::Encoding,
        Self::Custom,
        Self::Origin,
        Self::Path,
        Self::Fields,
        Self::Body,
    ];

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Gateway => "gateway",
            Self::Revision => "saved settings",
            Self::Provider => "provider",
            Self::Method => "method",
            Self::Credential => "credential",
            Self::Encoding => "accept-encoding",
            Self::Custom => "cf-aig-cache-key",
            Self::Origin => "provider address",
            Self::Path => "path and query",
            Self::Fields => "header fields",
            Self::Body => "body",
        }
    }
}

/// A digest of each part of one request's key; `None` for a part that the key has not.
///
/// ```
/// use tidegate::domain::cache::{Part, PartDigests};
///
/// let mut first = PartDigests::default();
/// first.set(Part::Body, 7);
/// let mut second = first;
/// second.set(Part::Body, 8);
/// let text = second.to_string();
/// assert_eq!(first.differing(&text.parse().unwrap()), [Part::Body]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartDigests([Option<u32>; Part::ALL.len()]);

/// Why a text holds no digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no digests of a cache key's parts")]
pub struct NoDigests;

impl PartDigests {
    /// Greatest length of the text in bytes.
    pub const TEXT_BYTES_MAX: usize = 2 + Part::ALL.len() * 9;

    /// Sets the digest of one part; half of its bits are kept.
    pub fn set(&mut self, part: Part, digest: u64) {
        if let Some(place) = self.0.get_mut(part as usize) {
            *place = u32::try_from(digest & u64::from(u32::MAX)).ok();
        }
    }

    /// Appends the text: the version, then for each part a full stop and its digest in hexadecimal,
    /// nothing if it is absent.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut text = [0; Self::TEXT_BYTES_MAX];
        let mut length = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(place) = text.get_mut(length..length + bytes.len()) {
                place.copy_from_slice(bytes);
                length += bytes.len();
            }
        };
        put(VERSION.as_bytes());
        for digest in &self.0 {
            put(b".");
            if let Some(digest) = digest {
                put(&hexadecimal::digits(*digest));
            }
        }
        out.extend_from_slice(text.get(..length).unwrap_or_default());
    }

    /// The parts that are not the same in both, in order. Empty: both requests have one key, as
    /// far as 32 bits a part can tell.
    pub fn differing(&self, other: &Self) -> Vec<Part> {
        let pairs = self.0.iter().zip(&other.0);
        let differing = Part::ALL.into_iter().zip(pairs);
        differing
            .filter(|(_, (one, other))| one != other)
            .map(|(part, _)| part)
            .collect()
    }
}

/// The version of the text. Another one has other parts, and is not compared with this.
const VERSION: &str = "1";

impl fmt::Display for PartDigests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(Self::TEXT_BYTES_MAX);
        self.write(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl std::str::FromStr for PartDigests {
    type Err = NoDigests;

    fn from_str(text: &str) -> Result<Self, NoDigests> {
        let mut items = text.split('.');
        if items.next() != Some(VERSION) {
            return Err(NoDigests);
        }
        let mut digests = Self::default();
        for place in &mut digests.0 {
            *place = match items.next() {
                Some("") => None,
                Some(hex) if hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    u32::from_str_radix(hex, 16).ok()
                }
                _ => return Err(NoDigests),
            };
        }
        match items.next() {
            None => Ok(digests),
            Some(_) => Err(NoDigests),
        }
    }
}

/// Names the parts that differ between the requests of two texts; `None` where one of them is not
/// a text of [`PartDigests`].
pub fn differing(one: &str, other: &str) -> Option<Vec<Part>> {
    let (one, other): (PartDigests, PartDigests) = (one.parse().ok()?, other.parse().ok()?);
    Some(one.differing(&other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digests() -> impl Strategy<Value = PartDigests> {
        proptest::array::uniform12(proptest::option::of(any::<u32>())).prop_map(PartDigests)
    }

    proptest! {
        #[test]
        fn a_text_is_read_back(digests in digests()) {
            let text = digests.to_string();
            prop_assert!(text.len() <= PartDigests::TEXT_BYTES_MAX);
            prop_assert_eq!(text.parse(), Ok(digests));
        }

        #[test]
        fn exactly_the_parts_that_differ_are_named(
            digests in digests(),
            changed in proptest::sample::subsequence(Part::ALL.to_vec(), 0..Part::ALL.len()),
        ) {
            let mut other = digests;
            for part in &changed {
                let place = &mut other.0[*part as usize];
                *place = Some(place.map_or(0, |digest| digest.wrapping_add(1)));
            }
            let named = differing(&digests.to_string(), &other.to_string());
            prop_assert_eq!(named, Some(changed));
        }

        #[test]
        fn any_text_is_digests_or_none(text in "[0-9a-f.]{0,200}") {
            if let Ok(digests) = text.parse::<PartDigests>() {
                prop_assert_eq!(digests.to_string(), text);
            }
        }
    }

    #[test]
    fn owners_have_equal_shares_of_the_keys() {
        for shards in 1..=9 {
            let mut owned = vec![0u32; shards];
            for step in 0..9_000u64 {
                let high = step * (u64::MAX / 9_000);
                owned[KeyHash::new(high, 0).owner(shards)] += 1;
            }
            let share = 9_000 / u32::try_from(shards).unwrap();
            assert!(
                owned.iter().all(|owned| owned.abs_diff(share) <= 1),
                "{owned:?}"
            );
        }
        assert_eq!(KeyHash::new(u64::MAX, 0).owner(256), 255);
    }

    #[test]
    fn a_cache_that_is_too_small_to_be_of_use_is_off() {
        assert_eq!(share(0, 4), 0);
        assert_eq!(share(255 << 10, 4), 0);
        assert_eq!(share(256 << 10, 4), 64 << 10);
        assert_eq!(answer_bytes_max(share(256 << 20, 2)), ANSWER_BYTES_MAX);
        assert_eq!(answer_bytes_max(share(256 << 20, 16)), 4 << 20);
    }

    #[test]
    fn a_key_is_named_by_its_digits_alone() {
        let hash = KeyHash::new(0x1234, 0xfedc_ba98_7654_3210);
        assert_eq!(hash.to_string(), "0000000000001234fedcba9876543210");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for text in [
            "",
            "12",
            "+000000000001234fedcba9876543210",
            &"0".repeat(33),
        ] {
            assert_eq!(text.parse::<KeyHash>(), Err(NoKeyHash), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_compared() {
        let text = PartDigests::default().to_string();
        for other in [
            "",
            "1",
            "2............",
            &format!("{text}."),
            "1.+1...........",
        ] {
            assert_eq!(differing(&text, other), None, "{other}");
        }
    }

    #[test]
    fn parts_stand_in_the_order_of_their_numbers() {
        for (number, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, number);
        }
    }
}
