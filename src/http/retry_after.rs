//! `Retry-After` (RFC 9110 section 10.2.3) and its relative in milliseconds.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;

use super::header::whole_number;

/// Longest value that is told apart from "for ever".
const SECONDS_MAX: u64 = 365 * 24 * 60 * 60;

/// Reads `Retry-After`: seconds, or a date, of which `unix_seconds` is now. A date that is past
/// means no wait. `None`: the value is neither.
///
/// ```
/// use std::time::Duration;
/// use tidegate::http::retry_after::parse;
///
/// assert_eq!(parse(b"7", 0), Some(Duration::from_secs(7)));
/// let date = b"Thu, 01 Jan 1970 00:02:00 GMT";
/// assert_eq!(parse(date, 100), Some(Duration::from_secs(20)));
/// assert_eq!(parse(b"-1", 0), None);
/// ```
pub fn parse(value: &[u8], unix_seconds: u64) -> Option<Duration> {
    if let Some(seconds) = whole_number(value) {
        return Some(Duration::from_secs(seconds.min(SECONDS_MAX)));
    }
    let date = std::str::from_utf8(value).ok()?;
    let at = DateTimeParser::new().parse_timestamp(date).ok()?;
    let at = u64::try_from(at.as_second()).unwrap_or(0);
    Some(Duration::from_secs(
        at.saturating_sub(unix_seconds).min(SECONDS_MAX),
    ))
}

/// Reads `retry-after-ms`: milliseconds.
pub fn millis(value: &[u8]) -> Option<Duration> {
    whole_number(value).map(|millis| Duration::from_millis(millis.min(SECONDS_MAX * 1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_neither_are_none() {
        for value in ["", "+5", "5s", "1.5", "soon", "0x10", "\u{ff}"] {
            assert_eq!(parse(value.as_bytes(), 0), None, "{value}");
        }
    }

    #[test]
    fn a_date_that_is_past_means_no_wait() {
        let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(parse(date, 2_000_000_000), Some(Duration::ZERO));
    }

    #[test]
    fn huge_numbers_are_cut() {
        let year = Duration::from_secs(SECONDS_MAX);
        assert_eq!(parse(b"99999999999999999999999", 0), Some(year));
        assert_eq!(millis(b"1500"), Some(Duration::from_millis(1500)));
        assert_eq!(millis(b"1e3"), None);
    }
}
