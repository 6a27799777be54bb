//! JSON at the level of bytes: where strings end, where structure is, what a short value says.

use memchr::{memchr, memchr2};

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Says whether a short value is more than null, false or an empty string or container.
pub(super) fn is_something(value: &[u8]) -> bool {
    let inner = match value {
        [b'"', inner @ .., b'"'] => return !inner.is_empty(),
        [b'{' | b'[', inner @ .., b'}' | b']'] => inner,
        b"null" | b"false" => return false,
        other => other,
    };
    inner.iter().any(|byte| !is_blank(*byte))
}

/// Reads a whole number; `12.0` is one too, since some providers count in floats.
pub(super) fn whole_number(text: &[u8]) -> Option<u64> {
    let mut digits = text.splitn(2, |byte| *byte == b'.');
    let whole = digits.next()?;
    let part = digits.next();
    if whole.is_empty()
        || part.is_some_and(|part| part.is_empty() || part.iter().any(|b| *b != b'0'))
    {
        return None;
    }
    whole.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Finds the end of a string whose inside begins with `text`: the index after the closing quote.
/// `slash` says whether an odd number of backslashes came just before, and is kept for what comes.
#[inline]
pub(super) fn string_end(text: &[u8], slash: &mut bool) -> Option<usize> {
    // Most strings are names and short values, without escapes.
    if !*slash
        && let Some(quote) = find_near(text, |word| equal_marks(word, b'"'))
        && text.get(..quote).and_then(<[u8]>::last) != Some(&b'\\')
    {
        return Some(quote + 1);
    }
    long_string_end(text, slash)
}

#[inline(never)]
fn long_string_end(text: &[u8], slash: &mut bool) -> Option<usize> {
    let mut from = 0;
    while let Some(tail) = text.get(from..)
        && let Some(quote) = memchr(b'"', tail)
    {
        let before = tail.get(..quote).unwrap_or_default();
        let escaped = odd_backslashes(before, from == 0 && *slash);
        from += quote + 1;
        if !escaped {
            *slash = false;
            return Some(from);
        }
    }
    let tail = text.get(from..).unwrap_or_default();
    *slash = odd_backslashes(tail, from == 0 && *slash);
    None
}

/// Says whether `text` ends in an odd number of backslashes, `before` being the answer for what
/// lies before it.
fn odd_backslashes(text: &[u8], before: bool) -> bool {
    let run = text.iter().rev().take_while(|byte| **byte == b'\\').count();
    (run % 2 == 1) != (before && run == text.len())
}

/// Finds the first quote or backslash.
#[inline]
pub(super) fn find_quote_or_backslash(text: &[u8]) -> Option<usize> {
    let marks = |word| equal_marks(word, b'"') | equal_marks(word, b'\\');
    find_near(text, marks).or_else(|| memchr2(b'"', b'\\', text))
}

/// Bytes looked at in words, in place, before vectors are: the call for those costs as much as
/// four words do.
const NEAR_BYTES: usize = 32;

/// Finds the first byte that `marks` marks in its word, among the first whole words alone.
#[inline]
fn find_near(text: &[u8], marks: impl Fn(u64) -> u64) -> Option<usize> {
    let (words, _) = text.get(..NEAR_BYTES).unwrap_or(text).as_chunks::<8>();
    words.iter().enumerate().find_map(|(index, word)| {
        let marks = marks(u64::from_le_bytes(*word));
        (marks != 0).then(|| index * 8 + (marks.trailing_zeros() / 8) as usize)
    })
}

/// Sets the top bit of each byte that equals `byte`. A borrow can set bits above the lowest one
/// set, never below, so the lowest is exact.
#[inline]
fn equal_marks(word: u64, byte: u8) -> u64 {
    const ONES: u64 = u64::from_le_bytes([0x01; 8]);
    const TOPS: u64 = u64::from_le_bytes([0x80; 8]);
    let differs = word ^ (ONES * u64::from(byte));
    differs.wrapping_sub(ONES) & !differs & TOPS
}

/// Bytes looked at one by one before whole blocks are: most structure is dense, long runs without
/// any are arrays of numbers.
const DENSE_BYTES: usize = 24;

/// Bytes in a block of the search for structure; a multiple of the vector registers' width.
const BLOCK_BYTES: usize = 64;

/// Finds the first quote or bracket.
#[inline]
pub(super) fn structural(text: &[u8]) -> Option<usize> {
    let dense = text.get(..DENSE_BYTES).unwrap_or(text);
    if let Some(at) = dense.iter().position(|byte| is_structural(*byte)) {
        return Some(at);
    }
    let sparse = text.get(dense.len()..)?;
    let (blocks, _) = sparse.as_chunks::<BLOCK_BYTES>();
    // No early exit within a block, so that the compiler makes vector code of it.
    let empty = blocks
        .iter()
        .take_while(|block| block.iter().fold(0, |any, byte| any | structure(*byte)) == 0)
        .count();
    let from = dense.len() + empty * BLOCK_BYTES;
    let tail = text.get(from..)?;
    tail.iter()
        .position(|byte| is_structural(*byte))
        .map(|at| from + at)
}

fn is_structural(byte: u8) -> bool {
    structure(byte) != 0
}

/// Not zero for a quote or a bracket.
#[inline]
fn structure(byte: u8) -> u8 {
    // `[` and `{`, `]` and `}` differ in one bit.
    let bracket = byte | 0x20;
    u8::from(byte == b'"') | u8::from(bracket == b'{') | u8::from(bracket == b'}')
}
