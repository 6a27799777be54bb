//! Hexadecimal digits, eight at a time: every answer has an id, and every record of a request with a
//! cache key a dozen digests.

/// Eight digits in lower case.
pub fn digits(word: u32) -> [u8; 8] {
    // Half a byte in each.
    let mut halves = u64::from(word);
    halves = (halves | halves << 16) & 0x0000_ffff_0000_ffff;
    halves = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    halves = (halves | halves << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 where it is more than nine.
    let letters = (halves + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    let digits = halves + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10);
    digits.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_the_digits_that_everybody_writes() {
        let mut word = 1_u32;
        for _ in 0..10_000 {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            for word in [word, word >> 24, word & 0xff, !word] {
                assert_eq!(digits(word), *format!("{word:08x}").as_bytes());
            }
        }
        assert_eq!(digits(0), *b"00000000");
        assert_eq!(digits(u32::MAX), *b"ffffffff");
    }
}
