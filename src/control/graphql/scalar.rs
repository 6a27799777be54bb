//! Numbers and times as they stand in an answer: every digit of a number is kept, none goes
//! through a float.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use jiff::{Timestamp, civil::Date as CivilDate, tz::TimeZone};
use serde_json::Number;

/// Digits of a dollar that pico-dollars have.
const PICO_DIGITS: usize = 12;

/// Digits of a millisecond that microseconds have.
const MICRO_DIGITS: usize = 3;

/// A whole number of any size, as a JSON number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count(pub u128);

/// A whole number without a sign, as a JSON number. It may be larger than an `Int`.
#[Scalar(name = "uint64")]
impl ScalarType for Count {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::Number(number) => number.to_string().parse().ok().map(Self),
            _ => None,
        }
        .ok_or_else(|| InputValueError::expected_type(value))
    }

    fn to_value(&self) -> Value {
        number(&self.0.to_string())
    }
}

/// A decimal number of a fixed number of digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    units: u128,
    digits: usize,
}

impl Decimal {
    /// Dollars.
    pub fn of_pico_dollars(units: u128) -> Self {
        Self {
            units,
            digits: PICO_DIGITS,
        }
    }

    /// Milliseconds.
    pub fn millis_of_micros(micros: u64) -> Self {
        Self {
            units: micros.into(),
            digits: MICRO_DIGITS,
        }
    }

    fn text(&self) -> String {
        let digits = self.digits;
        let text = format!("{:0>width$}", self.units, width = digits + 1);
        let (whole, fraction) = text.split_at(text.len() - digits);
        match fraction.trim_end_matches('0') {
            "" => whole.to_owned(),
            fraction => format!("{whole}.{fraction}"),
        }
    }
}

/// An exact decimal number, as a JSON number with all its digits.
#[Scalar(name = "Decimal")]
impl ScalarType for Decimal {
    fn parse(value: Value) -> InputValueResult<Self> {
        // Nothing takes one.
        Err(InputValueError::expected_type(value))
    }

    fn to_value(&self) -> Value {
        number(&self.text())
    }
}

fn number(text: &str) -> Value {
    text.parse::<Number>().map_or(Value::Null, Value::Number)
}

/// A moment: microseconds since the Unix epoch, negative before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub i64);

/// A moment as RFC 3339 has it, such as `2026-11-21T12:00:00Z`.
#[Scalar(name = "Time")]
impl ScalarType for Time {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(InputValueError::expected_type(value));
        };
        let time = text.parse::<Timestamp>().map_err(|_| {
            InputValueError::custom("a time is written as in `2026-11-21T12:00:00Z`")
        })?;
        Ok(Self(time.as_microsecond()))
    }

    fn to_value(&self) -> Value {
        Value::String(Timestamp::from_microsecond(self.0).map_or_else(
            |_| String::new(), // beyond the year 9999
            |time| time.to_string(),
        ))
    }
}

/// A day in UTC: its first microsecond since the Unix epoch, negative before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date(pub i64);

/// A day in UTC, such as `2026-11-21`.
#[Scalar(name = "Date")]
impl ScalarType for Date {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(InputValueError::expected_type(value));
        };
        let start = text
            .parse::<CivilDate>()
            .and_then(|date| date.to_zoned(TimeZone::UTC))
            .map_err(|_| InputValueError::custom("a date is written as in `2026-11-21`"))?;
        Ok(Self(start.timestamp().as_microsecond()))
    }

    fn to_value(&self) -> Value {
        Value::String(Timestamp::from_microsecond(self.0).map_or_else(
            |_| String::new(), // beyond the year 9999
            |time| time.to_zoned(TimeZone::UTC).date().to_string(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_of_a_sum_is_written() {
        let check = |decimal: Decimal, text: &str| {
            let json = serde_json::to_string(&decimal.to_value()).unwrap();
            assert_eq!(json, text);
        };
        check(Decimal::of_pico_dollars(0), "0");
        check(Decimal::of_pico_dollars(1), "0.000000000001");
        check(Decimal::of_pico_dollars(1_500_000_000_000), "1.5");
        check(
            Decimal::of_pico_dollars(123_456_789_012_345_678_901_234_567),
            "123456789012345.678901234567",
        );
        check(Decimal::millis_of_micros(12_340), "12.34");
        check(Decimal::millis_of_micros(7), "0.007");
        let count = serde_json::to_string(&Count(u128::MAX).to_value()).unwrap();
        assert_eq!(count, u128::MAX.to_string());
    }

    #[test]
    fn times_and_dates_are_read_and_written() {
        let time = Time::parse("2026-11-21T13:00:00.5+01:00".into()).unwrap();
        assert_eq!(time, Time(1_795_262_400_500_000));
        assert_eq!(
            Time(1_795_262_400_000_000).to_value(),
            Value::from("2026-11-21T12:00:00Z")
        );
        let date = Date::parse("2026-11-21".into()).unwrap();
        assert_eq!(date, Date(1_795_219_200_000_000));
        assert_eq!(date.to_value(), Value::from("2026-11-21"));
        assert!(Time::parse("yesterday".into()).is_err());
        assert!(Date::parse(Value::from(5)).is_err());
    }
}
