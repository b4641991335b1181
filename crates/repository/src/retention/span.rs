//! A length of time as rules spell it: `7d`, `12w`, `1y2m3d4h`. `m` is a month, as restic has it.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use std::fmt;
use std::str::FromStr;

/// A length of time in units of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Weeks.
    pub weeks: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

/// A text that is no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no span of time: {problem}; write numbers with y, m (months), w, d or h, as in 12w or 1y6m"
)]
pub struct SpanError {
    text: String,
    problem: &'static str,
}

impl SpanError {
    /// Returns what is wrong, without the text itself.
    pub fn problem(&self) -> &'static str {
        self.problem
    }
}

/// Longer ones are a slip of the pen; each unit stays far from what a calendar can count.
const NUMBER_MAX: u32 = 100_000;

impl Span {
    /// A span of days.
    pub fn of_days(days: u32) -> Self {
        Self { days, ..Self::default() }
    }

    /// Returns the moment that lies so far before another, in a zone. Years, months and days are counted on the
    /// calendar, and a day that a month does not have runs over into the next one, as in restic; then hours are taken
    /// off. `None` before the beginning of all calendars.
    pub fn before(&self, moment: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let zoned = moment.to_zoned(zone.clone());
        let months = i64::from(self.years) * 12 + i64::from(self.months);
        let counted = i64::from(zoned.year()) * 12 + i64::from(zoned.month()) - 1 - months;
        let year = i16::try_from(counted.div_euclid(12)).ok()?;
        let month = i8::try_from(counted.rem_euclid(12) + 1).ok()?;
        let days = i64::from(zoned.day()) - 1 - i64::from(self.weeks) * 7 - i64::from(self.days);
        let date = Date::new(year, month, 1).ok()?.checked_add(days.days()).ok()?;
        let moved = date.to_datetime(zoned.time()).to_zoned(zone.clone()).ok()?;
        moved.timestamp().checked_sub(SignedDuration::from_hours(i64::from(self.hours))).ok()
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let refuse = |problem| SpanError { text: text.to_owned(), problem };
        let mut span = Self::default();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let number: u32 = match number.parse() {
                Ok(number) if number <= NUMBER_MAX => number,
                Ok(_) => return Err(refuse("that is too long")),
                Err(_) if digits == 0 => return Err(refuse("a number is missing")),
                Err(_) => return Err(refuse("that is too long")),
            };
            let mut letters = after.chars();
            let unit = match letters.next() {
                Some('y') => &mut span.years,
                Some('m') => &mut span.months,
                Some('w') => &mut span.weeks,
                Some('d') => &mut span.days,
                Some('h') => &mut span.hours,
                Some(_) => return Err(refuse("there is no such unit")),
                None => return Err(refuse("the last number has no unit")),
            };
            if *unit > 0 {
                return Err(refuse("a unit is there twice"));
            }
            *unit = number;
            rest = letters.as_str();
        }
        if span == Self::default() { Err(refuse("it is empty")) } else { Ok(span) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (self.years, "year"),
            (self.months, "month"),
            (self.weeks, "week"),
            (self.days, "day"),
            (self.hours, "hour"),
        ];
        let mut between = "";
        for (number, unit) in units.into_iter().filter(|(number, _)| *number > 0) {
            let plural = if number == 1 { "" } else { "s" };
            write!(f, "{between}{number} {unit}{plural}")?;
            between = " ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn spans_are_read_as_restic_writes_them_and_with_weeks() {
        let span = |text: &str| text.parse::<Span>().unwrap();
        let long = Span { years: 1, months: 2, days: 3, hours: 4, weeks: 0 };
        assert_eq!(span("1y2m3d4h"), long);
        assert_eq!(span("4h3d2m1y"), long);
        assert_eq!(span("12w"), Span { weeks: 12, ..Span::default() });
        assert_eq!(long.to_string(), "1 year 2 months 3 days 4 hours");
        for bad in ["", "0d", "7", "d", "-7d", "7x", "1d2d", "7 d", "99999999999d", "100001d", "1.5d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_day_that_a_month_does_not_have_runs_over() {
        let before = |moment: &str, span: &str| {
            let span: Span = span.parse().unwrap();
            span.before(moment.parse().unwrap(), &TimeZone::UTC).map(|moment| moment.to_string())
        };
        assert_eq!(before("2026-03-31T05:00:00Z", "1m").as_deref(), Some("2026-03-03T05:00:00Z"));
        assert_eq!(before("2024-02-29T05:00:00Z", "1y").as_deref(), Some("2023-03-01T05:00:00Z"));
        assert_eq!(before("2026-01-10T05:00:00Z", "2w3h").as_deref(), Some("2025-12-27T02:00:00Z"));
        assert_eq!(before("2026-01-10T05:00:00Z", "20000y"), None);
        let berlin = TimeZone::fixed(jiff::tz::offset(1));
        let moved = Span::of_days(1).before("2026-01-10T23:30:00Z".parse().unwrap(), &berlin);
        assert_eq!(moved.unwrap().to_string(), "2026-01-09T23:30:00Z");
    }
}
