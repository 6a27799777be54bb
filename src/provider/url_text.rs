//! Small readings of URL text: percent-encoding, queries, segments. Nothing here allocates unless
//! it says so.

use std::borrow::Cow;

/// Splits `rest` at its first `?`; the query keeps the mark, so that writing both gives `rest`.
pub(crate) fn split_query(rest: &[u8]) -> (&[u8], &[u8]) {
    let mark = memchr::memchr(b'?', rest).unwrap_or(rest.len());
    rest.split_at_checked(mark).unwrap_or((rest, b""))
}

/// The bytes of `text` with percent-encoding undone; a broken escape stands for itself.
pub(crate) fn decoded(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *text.get(at)?;
        let escape = (byte == b'%')
            .then(|| escaped(text.get(at + 1..at + 3)?))
            .flatten();
        at += if escape.is_some() { 3 } else { 1 };
        Some(escape.unwrap_or(byte))
    })
}

fn escaped(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    let high = char::from(*high).to_digit(16)?;
    let low = char::from(*low).to_digit(16)?;
    u8::try_from(high << 4 | low).ok()
}

/// Undoes percent-encoding; allocates only if there is any. `None`: not UTF-8, or has controls.
pub(crate) fn decode(text: &[u8]) -> Option<Cow<'_, str>> {
    let whole = if text.contains(&b'%') {
        Cow::Owned(String::from_utf8(decoded(text).collect()).ok()?)
    } else {
        Cow::Borrowed(std::str::from_utf8(text).ok()?)
    };
    (!whole.chars().any(char::is_control)).then_some(whole)
}

/// The parameters of a query (with or without its `?`) as raw names and values.
pub(crate) fn parameters(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let query = query.strip_prefix(b"?").unwrap_or(query);
    query
        .split(|b| *b == b'&')
        .filter(|parameter| !parameter.is_empty())
        .map(split_parameter)
}

/// The raw name and value of one parameter; the value is empty where there is no `=`.
pub(crate) fn split_parameter(parameter: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'=', parameter) {
        Some(mark) => (
            parameter.get(..mark).unwrap_or_default(),
            parameter.get(mark + 1..).unwrap_or_default(),
        ),
        None => (parameter, b""),
    }
}

/// The raw value of the first parameter called `name`.
pub(crate) fn parameter<'q>(query: &'q [u8], name: &str) -> Option<&'q [u8]> {
    parameters(query)
        .find(|(raw, _)| is_name(raw, name))
        .map(|(_, value)| value)
}

/// Says whether the raw name of a parameter means `name`, whatever its case and encoding.
pub(crate) fn is_name(raw: &[u8], name: &str) -> bool {
    let mut expected = name.bytes();
    decoded(raw).all(|byte| {
        expected
            .next()
            .is_some_and(|wanted| wanted.eq_ignore_ascii_case(&byte))
    }) && expected.next().is_none()
}

/// The segments of a path, as sent.
pub(crate) fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/')
}

/// The first segment of a path and what follows its slash.
pub(crate) fn first_segment(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'/', path) {
        Some(mark) => (
            path.get(..mark).unwrap_or_default(),
            path.get(mark + 1..).unwrap_or_default(),
        ),
        None => (path, b""),
    }
}

/// The segment that follows the first segment called `name`.
pub(crate) fn segment_after<'p>(path: &'p [u8], name: &str) -> Option<&'p [u8]> {
    let mut all = segments(path);
    all.find(|segment| *segment == name.as_bytes())?;
    all.next().filter(|segment| !segment.is_empty())
}

/// Says whether a path has a segment that decodes to `.` or `..` (contract section 1.2).
///
/// An encoded slash and a backslash count as borders too: some providers' front ends decode
/// before they resolve dots.
pub(crate) fn has_dot_segment(path: &[u8]) -> bool {
    if memchr::memchr2(b'.', b'%', path).is_none() {
        return false;
    }
    let mut dots = 0;
    let mut only_dots = true;
    for byte in decoded(path).chain([b'/']) {
        match byte {
            b'/' | b'\\' => {
                if only_dots && (dots == 1 || dots == 2) {
                    return true;
                }
                dots = 0;
                only_dots = true;
            }
            b'.' => dots += 1,
            _ => only_dots = false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_seen_through_encoding() {
        for path in [
            "..",
            "a/../b",
            "a/%2e%2E/b",
            ".",
            "a/.%2e",
            "a%2F..%2Fb",
            "..\\x",
            "%2e/",
        ] {
            assert!(has_dot_segment(path.as_bytes()), "{path}");
        }
        for path in [
            "",
            "...",
            "v1/models/gpt-4.1",
            "a..b/c.",
            "%252e%252e/x",
            "%2",
            "%zz/.a",
        ] {
            assert!(!has_dot_segment(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn parameters_are_found_by_decoded_name_in_any_case() {
        assert_eq!(parameter(b"?a=1&%6Bey=2&key=3", "key"), Some(&b"2"[..]));
        assert_eq!(parameter(b"?KEY", "key"), Some(&b""[..]));
        assert_eq!(parameter(b"?keys=1&ke=2", "key"), None);
    }

    #[test]
    fn decoding_borrows_where_there_is_nothing_to_decode() {
        assert!(matches!(decode(b"gpt-4o"), Some(Cow::Borrowed("gpt-4o"))));
        assert_eq!(decode(b"a%2Fb%zz").as_deref(), Some("a/b%zz"));
        assert_eq!(decode(b"a%0d%0ab"), None);
        assert_eq!(decode(b"%ff"), None);
    }
}
