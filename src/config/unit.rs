//! Durations and sizes as people write them: `75s`, `200ms`, `8MiB`.
//!
//! A unit is always part of a duration, so that nobody has to guess between seconds and
//! milliseconds. A bare number is a size in bytes.

use std::time::Duration;

/// Why a text is no duration or size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// There is no number in front of the unit.
    #[error("there is no whole number at its start")]
    NoNumber,
    /// A number with a fraction.
    #[error("fractions are not understood")]
    Fraction,
    /// A duration that is only a number.
    #[error("the unit is missing")]
    NoUnit,
    /// The letters after the number are no unit.
    #[error("its unit is not known")]
    UnknownUnit,
    /// The value does not fit 64 bits.
    #[error("the number is too large")]
    TooLarge,
}

/// Units of a duration, in milliseconds.
const DURATIONS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Units of a size, in bytes. A lone `K` or `M` is left out: it means two things.
const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// What a duration looks like, for messages.
pub const DURATION_HELP: &str =
    "write a whole number and a unit: \"200ms\", \"75s\", \"5m\", \"1h\", \"7d\"";

/// What a size looks like, for messages.
pub const SIZE_HELP: &str = "write a whole number and a unit: \"512B\", \"32KiB\", \"8MiB\", \"1GiB\"; or a plain number of bytes";

/// Reads a duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
///
/// ```
/// use std::time::Duration;
/// use tidegate::config::unit::duration;
///
/// assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
/// assert!(duration("200").is_err());
/// ```
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text)?;
    if unit.is_empty() {
        return Err(UnitError::NoUnit);
    }
    let millis = DURATIONS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(UnitError::UnknownUnit)?
        .1;
    let total = number.checked_mul(millis).ok_or(UnitError::TooLarge)?;
    Ok(Duration::from_millis(total))
}

/// Reads a size in bytes: a whole number and a unit (in any case), or a number of bytes alone.
pub fn size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text)?;
    if unit.is_empty() {
        return Ok(number);
    }
    let bytes = SIZES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
        .ok_or(UnitError::UnknownUnit)?
        .1;
    number.checked_mul(bytes).ok_or(UnitError::TooLarge)
}

/// Cuts `text` behind its digits; spaces between number and unit are let through.
fn split(text: &str) -> Result<(u64, &str), UnitError> {
    let text = text.trim();
    let end = text
        .bytes()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() {
        return Err(UnitError::NoNumber);
    }
    if unit.starts_with(['.', ',']) {
        return Err(UnitError::Fraction);
    }
    let number = digits.parse().map_err(|_| UnitError::TooLarge)?;
    Ok((number, unit.trim_start()))
}

/// Prints a duration the way the file writes it, in the largest unit that leaves it whole.
pub fn duration_text(value: Duration) -> String {
    let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let (name, unit) = DURATIONS
        .iter()
        .rev()
        .find(|(_, unit)| millis.is_multiple_of(*unit))
        .unwrap_or(&("ms", 1));
    format!("{}{name}", millis / unit)
}

/// Prints a size the way the file writes it, in the largest binary unit that leaves it whole.
pub fn size_text(bytes: u64) -> String {
    if bytes == 0 {
        return "0".to_owned();
    }
    let (name, unit) = SIZES
        .iter()
        .rev()
        .find(|(name, unit)| (*unit == 1 || name.contains('i')) && bytes.is_multiple_of(*unit))
        .unwrap_or(&("B", 1));
    format!("{}{name}", bytes / unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        let check = |text: &str, millis| {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        };
        check("200ms", 200);
        check("75s", 75_000);
        check("5 m", 300_000);
        check(" 1h ", 3_600_000);
        check("7d", 604_800_000);
        check("0s", 0);
    }

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        let check = |text: &str, bytes| assert_eq!(size(text), Ok(bytes), "{text}");
        check("4096", 4096);
        check("512B", 512);
        check("32KiB", 32_768);
        check("8mib", 8 << 20);
        check("2GiB", 2 << 30);
        check("10kB", 10_000);
        check("10KB", 10_000);
    }

    #[test]
    fn what_is_no_duration_says_why() {
        let check = |text: &str, error| assert_eq!(duration(text), Err(error), "{text}");
        check("", UnitError::NoNumber);
        check("s", UnitError::NoNumber);
        check("-1s", UnitError::NoNumber);
        check("+1s", UnitError::NoNumber);
        check("10", UnitError::NoUnit);
        check("1.5s", UnitError::Fraction);
        check("10 parsecs", UnitError::UnknownUnit);
        check("10S", UnitError::UnknownUnit);
        check("99999999999999999999s", UnitError::TooLarge);
        check("18446744073709551615d", UnitError::TooLarge);
    }

    #[test]
    fn what_is_no_size_says_why() {
        let check = |text: &str, error| assert_eq!(size(text), Err(error), "{text}");
        check("MiB", UnitError::NoNumber);
        check("1.5MiB", UnitError::Fraction);
        check("8M", UnitError::UnknownUnit);
        check("18446744073709551615KiB", UnitError::TooLarge);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = duration(&text);
            let _ = size(&text);
        }

        #[test]
        fn what_is_printed_reads_back(millis in 0u64..1 << 50, bytes in 0u64..1 << 60) {
            let value = Duration::from_millis(millis);
            prop_assert_eq!(duration(&duration_text(value)), Ok(value));
            prop_assert_eq!(size(&size_text(bytes)), Ok(bytes));
        }
    }
}
