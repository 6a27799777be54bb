//! Periods of the calendar: where the hour, day, week or month of a time zone begins and ends.

use jiff::{
    SignedDuration, Timestamp, ToSpan as _,
    civil::Date,
    tz::{Offset, TimeZone},
};

use crate::config::{Budget, Period};

/// A period of the calendar in a time zone whose tables are in memory.
#[derive(Debug, Clone)]
pub struct Calendar {
    zone: TimeZone,
    period: Period,
}

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;

/// Seconds in an hour.
const HOUR: i64 = 3_600;

impl Calendar {
    /// Loads the zone of a budget; `None` if this machine has no such zone.
    pub fn load(budget: &Budget) -> Option<Self> {
        Some(Self {
            zone: TimeZone::get(&budget.time_zone).ok()?,
            period: budget.period,
        })
    }

    /// The word for one period.
    pub fn unit(&self) -> &'static str {
        match self.period {
            Period::Hourly => "hour",
            Period::Daily => "day",
            Period::Weekly => "week",
            Period::Monthly => "month",
        }
    }

    /// The period around `unix_micros`: where it begins, where it ends, and where the one after it
    /// ends, in microseconds since the Unix epoch. Beyond the years that a calendar knows, one
    /// period is all of time.
    pub fn bounds(&self, unix_micros: u64) -> [u64; 3] {
        self.find_bounds(unix_micros)
            .unwrap_or([0, u64::MAX, u64::MAX])
    }

    fn find_bounds(&self, unix_micros: u64) -> Option<[u64; 3]> {
        let at = Timestamp::from_microsecond(i64::try_from(unix_micros).ok()?).ok()?;
        let (start, end) = self.around(at)?;
        let (_, next) = self.around(end)?;
        let micros = |at: Timestamp| u64::try_from(at.as_microsecond()).unwrap_or(0);
        Some([micros(start), micros(end), micros(next)])
    }

    fn around(&self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let offset = self.zone.to_offset(at);
        if self.period == Period::Hourly {
            return hour_around(at, offset);
        }
        let today = offset.to_datetime(at).date();
        let (first, after) = match self.period {
            Period::Hourly | Period::Daily => (today, today.tomorrow().ok()?),
            Period::Weekly => {
                let days = i64::from(today.weekday().to_monday_zero_offset());
                let monday = today.checked_sub(days.days()).ok()?;
                (monday, monday.checked_add(7.days()).ok()?)
            }
            Period::Monthly => {
                let first = today.first_of_month();
                (first, first.checked_add(1.month()).ok()?)
            }
        };
        Some((self.midnight(first)?, self.midnight(after)?))
    }

    /// When a day begins: at midnight, or where the clocks skip that, after it.
    fn midnight(&self, date: Date) -> Option<Timestamp> {
        Some(date.to_zoned(self.zone.clone()).ok()?.timestamp())
    }
}

/// The hour on the clock of `offset`. Where clocks are set by half an hour, the hour in which
/// that happens is as long as its beginning says.
fn hour_around(at: Timestamp, offset: Offset) -> Option<(Timestamp, Timestamp)> {
    let local = at.as_microsecond() + i64::from(offset.seconds()) * SECOND;
    let start = at.as_microsecond() - local.rem_euclid(HOUR * SECOND);
    let start = Timestamp::from_microsecond(start).ok()?;
    let end = start.checked_add(SignedDuration::from_secs(HOUR)).ok()?;
    Some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::PicoDollars;

    fn micros(text: &str) -> u64 {
        let at: Timestamp = text.parse().unwrap();
        u64::try_from(at.as_microsecond()).unwrap()
    }

    fn calendar(zone: &str, period: Period) -> Option<Calendar> {
        Calendar::load(&Budget {
            limit: PicoDollars(1),
            period,
            time_zone: zone.to_owned(),
            hard: false,
            allow_unpriced: false,
        })
    }

    #[track_caller]
    fn check(zone: &str, period: Period, at: &str, bounds: [&str; 3]) {
        let calendar = calendar(zone, period).unwrap();
        assert_eq!(calendar.bounds(micros(at)), bounds.map(micros), "{at}");
    }

    #[test]
    fn periods_begin_at_the_midnight_of_their_zone() {
        check(
            "Europe/Vienna",
            Period::Daily,
            "2026-11-21T23:30:00Z",
            [
                "2026-11-21T23:00:00Z",
                "2026-11-22T23:00:00Z",
                "2026-11-23T23:00:00Z",
            ],
        );
        check(
            "UTC",
            Period::Weekly,
            "2026-11-22T12:00:00Z",
            [
                "2026-11-16T00:00:00Z",
                "2026-11-23T00:00:00Z",
                "2026-11-30T00:00:00Z",
            ],
        );
        check(
            "America/New_York",
            Period::Monthly,
            "2026-12-31T23:00:00-05:00",
            [
                "2026-12-01T05:00:00Z",
                "2027-01-01T05:00:00Z",
                "2027-02-01T05:00:00Z",
            ],
        );
        check(
            "Asia/Kolkata",
            Period::Hourly,
            "2026-11-22T12:10:00Z",
            [
                "2026-11-22T11:30:00Z",
                "2026-11-22T12:30:00Z",
                "2026-11-22T13:30:00Z",
            ],
        );
    }

    #[test]
    fn a_day_on_which_clocks_are_set_is_shorter_or_longer() {
        let vienna = calendar("Europe/Vienna", Period::Daily).unwrap();
        let [start, end, _] = vienna.bounds(micros("2026-03-29T12:00:00Z"));
        assert_eq!(end - start, 23 * 3_600_000_000);
        let [start, end, _] = vienna.bounds(micros("2026-10-25T12:00:00Z"));
        assert_eq!(end - start, 25 * 3_600_000_000);
    }

    #[test]
    fn an_unknown_zone_is_no_calendar_and_the_end_of_time_no_panic() {
        assert!(calendar("Nowhere/Land", Period::Daily).is_none());
        let utc = calendar("UTC", Period::Monthly).unwrap();
        assert_eq!(utc.bounds(u64::MAX), [0, u64::MAX, u64::MAX]);
        assert_eq!(utc.bounds(0)[0], 0);
    }
}
