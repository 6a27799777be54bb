//! How numbers compare, and how people write them: exactly, without floats.

/// What a number may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberTest {
    /// Known, and within these bounds, both included; empty if the second is less.
    Within(u64, u64),
    /// Not known.
    Unknown,
}

impl NumberTest {
    /// No number at all.
    pub const NEVER: Self = Self::Within(1, 0);
    /// Any number that is known.
    pub const KNOWN: Self = Self::Within(0, u64::MAX);

    /// Says whether the number fits.
    pub fn passes(self, number: Option<u64>) -> bool {
        match (self, number) {
            (Self::Within(from, to), Some(number)) => (from..=to).contains(&number),
            (Self::Unknown, None) => true,
            (Self::Within(..), None) | (Self::Unknown, Some(_)) => false,
        }
    }

    /// The same bounds in a unit `factor` times as fine, in which a number stands for all that
    /// are cut down to it.
    #[must_use]
    pub fn finer(self, factor: u64) -> Self {
        match self {
            Self::Within(from, to) if from <= to => match from.checked_mul(factor) {
                Some(from) => {
                    Self::Within(from, to.saturating_mul(factor).saturating_add(factor - 1))
                }
                None => Self::NEVER,
            },
            other => other,
        }
    }

    fn of(from: u64, to: u64) -> Self {
        if from > to {
            return Self::NEVER;
        }
        Self::Within(from, to)
    }
}

/// A bound as written, which need not be a whole number of the unit that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Less than nothing.
    Negative,
    /// This many whole units.
    Exact(u64),
    /// More than this many, less than one more.
    Between(u64),
    /// More than any number.
    Huge,
}

impl Bound {
    /// Reads a decimal number, sign and exponent allowed, in units of 10⁻ˢᶜᵃˡᵉ.
    pub fn decimal(text: &str, scale: i32) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let bound = Self::magnitude(text, scale)?;
        if negative && bound != Self::Exact(0) {
            return Some(Self::Negative);
        }
        Some(bound)
    }

    fn magnitude(text: &str, scale: i32) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
            None => (text, 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && part.is_empty() {
            return None;
        }
        let mut value: u128 = 0;
        for byte in whole.bytes().chain(part.bytes()) {
            if !byte.is_ascii_digit() {
                return None;
            }
            // 38 digits are more than any amount that can be compared has.
            value = value
                .checked_mul(10)?
                .checked_add(u128::from(byte - b'0'))?;
        }
        // The value is `digits` × 10^shift in the wanted unit.
        let shift = exponent + scale - i32::try_from(part.len()).ok()?;
        let power = 10u128.checked_pow(shift.unsigned_abs());
        let (floor, rest) = match (shift >= 0, power) {
            _ if value == 0 => (Some(0), 0),
            (true, power) => (power.and_then(|power| value.checked_mul(power)), 0),
            (false, Some(power)) => (Some(value / power), value % power),
            (false, None) => (Some(0), 1),
        };
        let Some(floor) = floor.and_then(|floor| u64::try_from(floor).ok()) else {
            return Some(Self::Huge);
        };
        Some(if rest == 0 {
            Self::Exact(floor)
        } else {
            Self::Between(floor)
        })
    }

    /// Reads digits, with `k` or `M` for thousands and millions.
    pub fn count(text: &str) -> Option<Self> {
        let (digits, factor) = match text.strip_suffix('k') {
            Some(digits) => (digits, 1_000),
            None => text
                .strip_suffix('M')
                .map_or((text, 1), |digits| (digits, 1_000_000)),
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let count = digits.parse::<u64>().ok()?.checked_mul(factor)?;
        Some(Self::Exact(count))
    }

    /// Reads a time such as `2s`, `1.5s`, `250ms`, `2h`, in microseconds.
    pub fn duration(text: &str) -> Option<Self> {
        const UNITS: [(&str, u64); 6] = [
            ("us", 1),
            ("ms", 1_000),
            ("s", 1_000_000),
            ("m", 60_000_000),
            ("h", 3_600_000_000),
            ("d", 86_400_000_000),
        ];
        let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, unit) = text.split_at(digits_end);
        let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        if part.contains('.') || whole.is_empty() {
            return None;
        }
        let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
        // Twelve digits behind the point are finer than a microsecond of a day.
        let part = part.get(..part.len().min(12))?;
        let (part, power) = match part {
            "" => (0, 1),
            part => {
                let digits = u32::try_from(part.len()).ok()?;
                (part.parse::<u128>().ok()?, 10u128.checked_pow(digits)?)
            }
        };
        let fine = part * u128::from(factor);
        let micros = whole.checked_add(u64::try_from(fine / power).ok()?)?;
        Some(if fine % power == 0 {
            Self::Exact(micros)
        } else {
            Self::Between(micros)
        })
    }

    /// Numbers that equal it.
    pub fn equal(self) -> NumberTest {
        match self {
            Self::Exact(number) => NumberTest::Within(number, number),
            Self::Negative | Self::Between(_) | Self::Huge => NumberTest::NEVER,
        }
    }

    /// Numbers from `self` up to `to`, both included.
    pub fn up_to(self, to: Self) -> NumberTest {
        match (self.at_least(), to.at_most()) {
            (NumberTest::Within(from, a), NumberTest::Within(b, to)) if from <= a && b <= to => {
                NumberTest::of(from, to)
            }
            _ => NumberTest::NEVER,
        }
    }

    /// Numbers greater than it.
    pub fn above(self) -> NumberTest {
        match self {
            Self::Negative => NumberTest::KNOWN,
            Self::Exact(number) | Self::Between(number) => number
                .checked_add(1)
                .map_or(NumberTest::NEVER, |from| NumberTest::of(from, u64::MAX)),
            Self::Huge => NumberTest::NEVER,
        }
    }

    /// Numbers less than it.
    pub fn below(self) -> NumberTest {
        match self {
            Self::Negative | Self::Exact(0) => NumberTest::NEVER,
            Self::Exact(number) => NumberTest::of(0, number - 1),
            Self::Between(number) => NumberTest::of(0, number),
            Self::Huge => NumberTest::KNOWN,
        }
    }

    /// Numbers that are not less than it.
    pub fn at_least(self) -> NumberTest {
        match self {
            Self::Exact(number) => NumberTest::of(number, u64::MAX),
            other => other.above(),
        }
    }

    /// Numbers that are not greater than it.
    pub fn at_most(self) -> NumberTest {
        match self {
            Self::Exact(number) => NumberTest::of(0, number),
            other => other.below(),
        }
    }
}

fn read_exponent(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || digits.len() > 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: i32 = digits.parse().ok()?;
    Some(if text.starts_with('-') { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_text_becomes_whole_units_or_says_that_it_is_none() {
        let dollars = |text| Bound::decimal(text, 12);
        assert_eq!(dollars("0.01"), Some(Bound::Exact(10_000_000_000)));
        assert_eq!(dollars("1e-12"), Some(Bound::Exact(1)));
        assert_eq!(dollars("0.0000000000005"), Some(Bound::Between(0)));
        assert_eq!(dollars("-0.0"), Some(Bound::Exact(0)));
        assert_eq!(dollars("-1"), Some(Bound::Negative));
        assert_eq!(dollars("1e30"), Some(Bound::Huge));
        assert_eq!(dollars("1e-999"), Some(Bound::Between(0)));
        assert_eq!(
            dollars("18446744.073709551615"),
            Some(Bound::Exact(u64::MAX))
        );
        for text in [
            "", ".", "-", "+1", "1e", "1e9999", "nan", "1,5", " 1", "--1",
        ] {
            assert_eq!(dollars(text), None, "{text}");
        }
    }

    #[test]
    fn what_lies_between_two_numbers_bounds_both_exactly() {
        let between = Bound::Between(7);
        assert_eq!(between.above(), NumberTest::Within(8, u64::MAX));
        assert_eq!(between.at_least(), NumberTest::Within(8, u64::MAX));
        assert_eq!(between.below(), NumberTest::Within(0, 7));
        assert_eq!(between.at_most(), NumberTest::Within(0, 7));
        assert_eq!(between.equal(), NumberTest::NEVER);
        assert_eq!(Bound::Exact(0).below(), NumberTest::NEVER);
        assert_eq!(Bound::Exact(u64::MAX).above(), NumberTest::NEVER);
        assert_eq!(
            Bound::Between(1).up_to(Bound::Between(1)),
            NumberTest::NEVER
        );
        assert_eq!(Bound::Negative.up_to(Bound::Huge), NumberTest::KNOWN);
    }

    #[test]
    fn times_keep_what_is_finer_than_a_microsecond_in_mind() {
        assert_eq!(Bound::duration("1.5s"), Some(Bound::Exact(1_500_000)));
        assert_eq!(Bound::duration("0.0000005s"), Some(Bound::Between(0)));
        assert_eq!(Bound::duration("1.5d"), Some(Bound::Exact(129_600_000_000)));
        for text in ["5", "1.2.3s", ".5s", "1x", "99999999999999999999s", ""] {
            assert_eq!(Bound::duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_coarse_number_stands_for_all_that_are_cut_down_to_it() {
        let millis = Bound::Exact(12);
        assert_eq!(
            millis.equal().finer(1000),
            NumberTest::Within(12_000, 12_999)
        );
        assert_eq!(
            millis.above().finer(1000),
            NumberTest::Within(13_000, u64::MAX)
        );
        assert_eq!(NumberTest::NEVER.finer(1000), NumberTest::NEVER);
    }
}
