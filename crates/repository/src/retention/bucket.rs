//! What the counting rules say of each backup of a list: stock restic's policy, newest first, period by period.
//!
//! Each rule walks the list once; the first backup of a period that it has not seen just before takes one of its
//! places. All rules walk by themselves, and what any of them takes is kept.

use super::reason::{Period, Reason};
use super::rules::Rules;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// What the rules say of one backup.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    /// The rules that keep it.
    pub(super) kept: Vec<Reason>,
    /// Why the others do not.
    pub(super) missed: Vec<Reason>,
}

/// Applies the rules that say what to keep. `times` are newest first; `now` tells which of them cannot be the newest
/// because their clock was ahead.
pub(super) fn apply(times: &[Timestamp], rules: &Rules, zone: &TimeZone, now: Timestamp) -> Vec<Marks> {
    let mut marks = vec![Marks::default(); times.len()];
    within(times, rules, zone, now, &mut marks);
    let counts = [
        (Period::Last, rules.last),
        (Period::Hour, rules.hourly),
        (Period::Day, rules.daily),
        (Period::Week, rules.weekly),
        (Period::Month, rules.monthly),
        (Period::Year, rules.yearly),
    ];
    let zoned: Vec<Zoned> = times.iter().map(|time| time.to_zoned(zone.clone())).collect();
    for (period, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        let mut left = count;
        let mut last = None;
        for (number, (zoned, marks)) in zoned.iter().zip(&mut marks).enumerate() {
            let value = value(period, zoned, number);
            if last == Some(value) {
                marks.missed.push(Reason::NotTheLastOf(period));
            } else if left > 0 {
                left -= 1;
                last = Some(value);
                marks.kept.push(Reason::Counted(period));
            } else {
                marks.missed.push(Reason::Beyond(period, count));
            }
        }
    }
    marks
}

fn within(times: &[Timestamp], rules: &Rules, zone: &TimeZone, now: Timestamp, marks: &mut [Marks]) {
    let Some(span) = rules.within else { return };
    let newest = times.iter().filter(|time| **time < now).max();
    // Where nothing tells how far back it goes, everything is within.
    let cutoff = newest.and_then(|newest| span.before(*newest, zone));
    for (time, marks) in times.iter().zip(marks) {
        match cutoff {
            Some(cutoff) if *time <= cutoff => marks.missed.push(Reason::NotWithin(span)),
            _ => marks.kept.push(Reason::Within(span)),
        }
    }
}

/// Returns a number that two neighbours share where they are of the same period.
fn value(period: Period, zoned: &Zoned, number: usize) -> i64 {
    let year = i64::from(zoned.year());
    let month = year * 100 + i64::from(zoned.month());
    let day = month * 100 + i64::from(zoned.day());
    match period {
        Period::Last => i64::try_from(number).unwrap_or(i64::MAX),
        Period::Hour => day * 100 + i64::from(zoned.hour()),
        Period::Day => day,
        Period::Week => {
            let week = zoned.date().iso_week_date();
            i64::from(week.year()) * 100 + i64::from(week.week())
        }
        Period::Month => month,
        Period::Year => year,
    }
}
