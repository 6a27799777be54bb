//! Digests and encodings: SHA-256 of uploads, SHA-1 of WebSocket handshakes, hex, base64, CRC-32.

use std::fmt::Write as _;

use rustls::crypto::hash;

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as crypto;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use rustls::crypto::ring as crypto;

/// SHA-256 over pieces, computed by the TLS library's hash so that large uploads stay cheap.
pub(super) struct Sha256(Option<Box<dyn hash::Context>>);

impl Sha256 {
    pub(super) fn new() -> Self {
        let suite = crypto::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
        Self(suite.map(|suite| suite.common.hash_provider.start()))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        if let Some(context) = &mut self.0 {
            context.update(bytes);
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
            .map(|context| hex(context.finish().as_ref()))
            .unwrap_or_default()
    }

    pub(super) fn of(bytes: &[u8]) -> String {
        let mut sha256 = Self::new();
        sha256.update(bytes);
        sha256.finish()
    }
}

/// The digest that answers echo: xxh3 of the bytes in 16 hex digits.
pub(super) fn echo(bytes: &[u8]) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(bytes))
}

/// SHA-1 (FIPS 180-4), which the WebSocket handshake asks for (RFC 6455 section 4.2.2).
pub(super) fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut message = bytes.to_vec();
    let bits = u64::try_from(bytes.len()).unwrap_or(u64::MAX) * 8;
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend_from_slice(&bits.to_be_bytes());

    let mut state: [u32; 5] = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    for block in message.chunks_exact(64) {
        sha1_block(&mut state, block);
    }
    let mut out = [0; 20];
    for (slot, word) in out.chunks_exact_mut(4).zip(state) {
        slot.copy_from_slice(&word.to_be_bytes());
    }
    out
}

#[expect(
    clippy::many_single_char_names,
    reason = "the standard's names for its working variables"
)]
fn sha1_block(state: &mut [u32; 5], block: &[u8]) {
    let mut schedule = [0_u32; 80];
    for (slot, bytes) in schedule.iter_mut().zip(block.chunks_exact(4)) {
        *slot = bytes.iter().fold(0, |word, b| word << 8 | u32::from(*b));
    }
    for i in 16..80 {
        schedule[i] = (schedule[i - 3] ^ schedule[i - 8] ^ schedule[i - 14] ^ schedule[i - 16])
            .rotate_left(1);
    }
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    for (i, word) in schedule.into_iter().enumerate() {
        let (mixed, constant) = match i {
            0..20 => ((b & c) | (!b & d), 0x5a82_7999),
            20..40 => (b ^ c ^ d, 0x6ed9_eba1),
            40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6_u32),
        };
        let next = a
            .rotate_left(5)
            .wrapping_add(mixed)
            .wrapping_add(e)
            .wrapping_add(constant)
            .wrapping_add(word);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
    }
    for (slot, word) in state.iter_mut().zip([a, b, c, d, e]) {
        *slot = slot.wrapping_add(word);
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Standard base64 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = (0..3).fold(0_usize, |word, i| {
            word << 8 | group.get(i).map_or(0, |byte| usize::from(*byte))
        });
        for (i, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let symbol = ALPHABET[word >> shift & 63];
            out.push(char::from(if i <= group.len() { symbol } else { b'=' }));
        }
    }
    out
}

/// CRC-32 as Amazon's event stream uses it (that of gzip).
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_agree_with_published_vectors() {
        assert_eq!(
            hex(&sha1(b"abc")),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
        assert_eq!(
            hex(&sha1(&[b'a'; 119])),
            "ee971065aaa017e0632a8ca6c77bb3bf8b1dfc56"
        );
        assert_eq!(
            Sha256::of(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn base64_pads_to_whole_groups() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
