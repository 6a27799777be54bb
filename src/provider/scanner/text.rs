//! JSON at the level of bytes: where strings end, where structure is, what a short value says.

use memchr::memchr;

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
pub(super) fn string_end(text: &[u8], slash: &mut bool) -> Option<usize> {
    let mut from = 0;
    while let Some(tail) = text.get(from..)
        && let Some(quote) = memchr(b'"', tail)
    {
        let at = from + quote;
        let escaped = odd_backslashes(text.get(from..at).unwrap_or_default(), from == 0 && *slash);
        from = at + 1;
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
