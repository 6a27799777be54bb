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
    if !*slash
        && let Some(quote) = find_near(text, |bytes| bytes.simd_eq(QUOTES))
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

/// The text behind the blanks in front.
#[inline]
pub(super) fn after_blanks(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let [first, tail @ ..] = rest
        && is_blank(*first)
    {
        rest = tail;
    }
    rest
}

/// Finds the end of a number or a literal.
#[inline]
pub(super) fn scalar_end(text: &[u8]) -> Option<usize> {
    if let Some(vector) = text.first_chunk::<16>() {
        let bytes = u8x16::new(*vector);
        let brackets = bytes | SPACES;
        // Other control bytes are in no number and no literal either.
        let marks = bytes.simd_eq(COMMAS) | brackets.simd_eq(CLOSES) | bytes.simd_le(SPACES);
        let marks = marks.to_bitmask();
        if marks != 0 {
            return Some(marks.trailing_zeros() as usize);
        }
    }
    text.iter()
        .position(|byte| *byte <= b' ' || matches!(byte, b',' | b'}' | b']'))
}

const COMMAS: u8x16 = u8x16::new([b','; 16]);

/// Finds the end of a container whose inside begins with `text`: the index after its bracket.
pub(super) fn container_end(text: &[u8]) -> Option<usize> {
    let mut open = 1u32;
    let mut at = 0;
    loop {
        at += structural(text.get(at..)?)? + 1;
        match text.get(at - 1)? {
            b'"' => at += string_end(text.get(at..)?, &mut false)?,
            b'{' | b'[' => open = open.checked_add(1)?,
            _ => open -= 1,
        }
        if open == 0 {
            return Some(at);
        }
    }
}

/// Finds the first quote or backslash.
#[inline]
pub(super) fn find_quote_or_backslash(text: &[u8]) -> Option<usize> {
    let marks = |bytes: u8x16| bytes.simd_eq(QUOTES) | bytes.simd_eq(BACKSLASHES);
    find_near(text, marks).or_else(|| memchr2(b'"', b'\\', text))
}

const QUOTES: u8x16 = u8x16::new([b'"'; 16]);
const BACKSLASHES: u8x16 = u8x16::new([b'\\'; 16]);

/// Bytes looked at in place before the search of long texts is called: the call costs as much as
/// that.
const NEAR_BYTES: usize = 48;

/// Finds the first byte that is marked, among the first whole vectors alone.
#[inline]
fn find_near(text: &[u8], marks: impl Fn(u8x16) -> u8x16) -> Option<usize> {
    let (vectors, _) = text.get(..NEAR_BYTES).unwrap_or(text).as_chunks::<16>();
    vectors.iter().enumerate().find_map(|(index, vector)| {
        let marks = marks(u8x16::new(*vector)).to_bitmask();
        (marks != 0).then(|| index * 16 + marks.trailing_zeros() as usize)
    })
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
