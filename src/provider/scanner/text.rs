//! JSON at the level of bytes: where strings end, where structure is, what a short value says.

use memchr::{memchr, memchr2};
use wide::u8x16;

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

/// Reads a number that is nothing but a few digits, as nearly all are.
#[inline]
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    // No number of so few digits is too great.
    if !(1..=19).contains(&text.len()) {
        return None;
    }
    let mut number = 0u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    Some(number)
}

/// Reads a whole number; `12.0` is one too, since some providers count in floats.
pub(super) fn whole_number(text: &[u8]) -> Option<u64> {
    let mut rest = text;
    let mut number = 0u64;
    while let [digit @ b'0'..=b'9', tail @ ..] = rest {
        number = number
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
        rest = tail;
    }
    let is_whole = match rest {
        [] => !text.is_empty(),
        [b'.', part @ ..] => {
            rest.len() < text.len() && !part.is_empty() && part.iter().all(|digit| *digit == b'0')
        }
        _ => false,
    };
    is_whole.then_some(number)
}

/// Finds the end of a string whose inside begins with `text`: the index after the closing quote.
/// `slash` says whether an odd number of backslashes came just before, and is kept for what comes.
#[inline]
pub(super) fn string_end(text: &[u8], slash: &mut bool) -> Option<usize> {
    // Most strings are names and short values, without escapes.
    if !*slash && let Some(quote) = near_quote(text, 0) {
        return Some(quote + 1);
    }
    long_string_end(text, slash)
}

/// The same of a string whose inside begins at `at`.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "a few instructions, for each member of a document"
)]
pub(super) fn string_end_at(text: &[u8], at: usize) -> Option<usize> {
    if let Some(quote) = near_quote(text, at) {
        return Some(quote + 1);
    }
    far_string_end(text, at)
}

/// The search for what is not near. The call pays for long texts.
#[inline(never)]
fn far_string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut from = at;
    loop {
        let quote = from + memchr(b'"', text.get(from..)?)?;
        from = quote + 1;
        if !odd_backslashes(text.get(at..quote)?, false) {
            return Some(from);
        }
    }
}

/// The same of a string that may come in pieces.
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

/// The first place from `at` on that is not blank.
#[inline]
pub(super) fn skip_blanks(text: &[u8], at: usize) -> usize {
    // Most documents have none.
    if let Some(b'!'..) = text.get(at) {
        return at;
    }
    skip_some_blanks(text, at)
}

#[inline(never)]
fn skip_some_blanks(text: &[u8], at: usize) -> usize {
    // Documents for people have lines, and a dozen spaces before each.
    let marks = |bytes: u8x16| {
        let lines = bytes.simd_eq(LINE_FEEDS) | bytes.simd_eq(RETURNS);
        !(bytes.simd_eq(SPACES) | bytes.simd_eq(TABS) | lines)
    };
    if let Some(marks) = near_marks(text, at, marks)
        && marks != 0
    {
        return at + marks.trailing_zeros() as usize;
    }
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| is_blank(**byte)).count()
}

const LINE_FEEDS: u8x16 = u8x16::new([b'\n'; 16]);
const RETURNS: u8x16 = u8x16::new([b'\r'; 16]);
const TABS: u8x16 = u8x16::new([b'\t'; 16]);

/// Finds the end of a number or a literal.
#[inline]
pub(super) fn scalar_end(text: &[u8]) -> Option<usize> {
    scalar_end_at(text, 0)
}

/// The same of one that begins at `at`.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "a few instructions, for each member of a document"
)]
pub(super) fn scalar_end_at(text: &[u8], at: usize) -> Option<usize> {
    let marks = |bytes: u8x16| {
        let brackets = bytes | SPACES;
        // Other control bytes are in no number and no literal either.
        bytes.simd_eq(COMMAS) | brackets.simd_eq(CLOSES) | bytes.simd_le(SPACES)
    };
    if let Some(marks) = near_marks(text, at, marks)
        && marks != 0
    {
        return Some(at + marks.trailing_zeros() as usize);
    }
    let end = text
        .get(at..)?
        .iter()
        .position(|byte| *byte <= b' ' || matches!(byte, b',' | b'}' | b']'))?;
    Some(at + end)
}

const COMMAS: u8x16 = u8x16::new([b','; 16]);

/// Finds the end of a container whose inside begins at `at`: the index after its bracket.
pub(super) fn container_end(text: &[u8], at: usize) -> Option<usize> {
    let mut open = 1u32;
    let mut at = at;
    loop {
        let byte = *text.get(at)?;
        at += 1;
        if byte == b'"' {
            at = string_end_at(text, at)?;
            // What mostly follows, in a document without blanks.
            if let Some(b':' | b',') = text.get(at) {
                at += 1;
            }
            continue;
        }
        match byte {
            b'{' | b'[' => open = open.checked_add(1)?,
            b'}' | b']' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            b',' | b':' => {}
            _ => at += structural(text.get(at..)?)?,
        }
    }
}

/// Finds the first quote or backslash.
#[inline]
pub(super) fn find_quote_or_backslash(text: &[u8]) -> Option<usize> {
    memchr2(b'"', b'\\', text)
}

const QUOTES: u8x16 = u8x16::new([b'"'; 16]);
const BACKSLASHES: u8x16 = u8x16::new([b'\\'; 16]);

/// Finds the first quote or backslash among a few bytes.
#[inline]
pub(super) fn quote_or_backslash(bytes: &[u8; 32]) -> Option<usize> {
    let (vectors, _) = bytes.as_chunks::<16>();
    let [low, high] = vectors else {
        return None;
    };
    let marks = |bytes: &[u8; 16]| {
        let bytes = u8x16::new(*bytes);
        (bytes.simd_eq(QUOTES) | bytes.simd_eq(BACKSLASHES)).to_bitmask()
    };
    let mut found = marks(low);
    if found == 0 {
        found = marks(high) << 16;
        if found == 0 {
            return None;
        }
    }
    Some(found.trailing_zeros() as usize)
}

/// Says whether the first `len` bytes of two texts are the same.
#[inline]
pub(super) fn is_same(ours: &[u8; 32], other: &[u8; 32], len: usize) -> bool {
    let (ours, _) = ours.as_chunks::<16>();
    let (other, _) = other.as_chunks::<16>();
    let ([ours, ours_high], [other, other_high]) = (ours, other) else {
        return false;
    };
    let same = |ours: &[u8; 16], other: &[u8; 16]| {
        let same = u8x16::new(*ours).simd_eq(u8x16::new(*other));
        same.to_bitmask().trailing_ones() as usize
    };
    let low = same(ours, other);
    low >= len || low == 16 && 16 + same(ours_high, other_high) >= len
}

/// Finds the first quote from `at` on, if it is near and no backslash comes before it. A call of
/// the search for long texts would cost as much.
#[inline]
pub(super) fn near_quote(text: &[u8], at: usize) -> Option<usize> {
    let marks = |bytes: u8x16| bytes.simd_eq(QUOTES) | bytes.simd_eq(BACKSLASHES);
    let mut at = at;
    let mut found = near_marks(text, at, marks)?;
    if found == 0 {
        at += 16;
        found = near_marks(text, at, marks)?;
        if found == 0 {
            return None;
        }
    }
    at += found.trailing_zeros() as usize;
    (text.get(at) == Some(&b'"')).then_some(at)
}

/// The marks of up to sixteen bytes from `at` on, one bit each.
#[inline]
fn near_marks(text: &[u8], at: usize, marks: impl Fn(u8x16) -> u8x16) -> Option<u32> {
    let rest = text.get(at..)?;
    if let Some(vector) = rest.first_chunk::<16>() {
        return Some(marks(u8x16::new(*vector)).to_bitmask());
    }
    // Of the text's last vector, what lies before is shifted out.
    let vector = text.last_chunk::<16>()?;
    Some(marks(u8x16::new(*vector)).to_bitmask() >> (16 - rest.len()))
}

/// Finds the first quote or bracket.
#[inline]
pub(super) fn structural(text: &[u8]) -> Option<usize> {
    let (vectors, rest) = text.as_chunks::<16>();
    for (index, vector) in vectors.iter().enumerate() {
        let bytes = u8x16::new(*vector);
        // `[` and `{`, `]` and `}` differ in one bit.
        let brackets = bytes | SPACES;
        let marks = bytes.simd_eq(QUOTES) | brackets.simd_eq(OPENS) | brackets.simd_eq(CLOSES);
        let marks = marks.to_bitmask();
        if marks != 0 {
            return Some(index * 16 + marks.trailing_zeros() as usize);
        }
    }
    let at = rest.iter().position(|byte| is_structural(*byte))?;
    Some(vectors.len() * 16 + at)
}

const SPACES: u8x16 = u8x16::new([b' '; 16]);
const OPENS: u8x16 = u8x16::new([b'{'; 16]);
const CLOSES: u8x16 = u8x16::new([b'}'; 16]);

fn is_structural(byte: u8) -> bool {
    matches!(byte, b'"' | b'{' | b'[' | b'}' | b']')
}
