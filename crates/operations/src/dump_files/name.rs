//! What a dump file's name says: of which database it is, and as of when.
//!
//! Names are of every make: `acme-20260105.sql`, `app_backup_20260105_120000.db`, `backup-2026-01-05T12-00-00Z.db.gz`,
//! `2026-01-05_acme.sql`. The last date in the name counts, with the time that follows it. What is left, without endings
//! and the word backup, is the database: names that differ there are never taken for one database.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use std::ops::Range;

const COMPRESSED: [&str; 6] = [".gz", ".zst", ".lz4", ".xz", ".bz2", ".zstd"];
const SEALED: [&str; 2] = [".age", ".gpg"];
const FORMS: [&str; 13] = [
    ".sql", ".db", ".sqlite", ".sqlite3", ".db3", ".s3db", ".dump", ".bak", ".backup", ".dmp", ".tar",
    ".pgdump", ".custom",
];
const WORDS: [&str; 3] = ["backup", "dump", "bak"];
const SEPARATORS: [char; 6] = ['-', '_', '.', ' ', '@', '+'];

/// What a name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// The database; `None` where nothing is left for it.
    pub(crate) database: Option<String>,
    /// The moment.
    pub(crate) time: Option<Timestamp>,
    /// Whether it ends as the names of dumps do, or did before the moment was put behind.
    pub(crate) of_a_dump: bool,
}

/// Takes a file's name apart. A time without an offset is meant in `zone`; a date alone is its beginning there.
pub(crate) fn parse(name: &str, zone: &TimeZone) -> Named {
    let stem = stem(name);
    let found = last_moment(stem, zone);
    let (before, after) = match &found {
        Some((range, _)) => (&stem[..range.start], &stem[range.end..]),
        None => (stem, ""),
    };
    // A name that was taken got a number.
    let numbered = found.is_some() && after.len() <= 3 && after[1.min(after.len())..].parse::<u8>().is_ok();
    let after = if numbered { "" } else { after };
    let ended = is_of_a_dump(before.trim_matches(SEPARATORS));
    let parts = [before, after].map(|part| self::stem(part.trim_matches(SEPARATORS)));
    let parts: Vec<&str> =
        parts.iter().map(|part| without_words(part)).filter(|part| !part.is_empty()).collect();
    let joined = parts.join("_");
    let database = Some(without_words(&joined).to_owned()).filter(|name| !name.is_empty());
    let of_a_dump = is_of_a_dump(name) || (found.is_some() && ended);
    Named { database, time: found.map(|(_, time)| time), of_a_dump }
}

/// Tells whether a name ends as the names of dumps do.
fn is_of_a_dump(name: &str) -> bool {
    let inner = unpacked(name);
    without(inner, &FORMS).len() < inner.len()
}

/// Returns a name without what says how the file is encrypted and packed.
fn unpacked(name: &str) -> &str {
    without(without(name, &SEALED), &COMPRESSED)
}

fn stem(name: &str) -> &str {
    without(unpacked(name), &FORMS)
}

fn without<'a>(name: &'a str, endings: &[&str]) -> &'a str {
    let ending = |ending: &&&str| {
        let start = name.len().checked_sub(ending.len()).filter(|start| *start > 0);
        start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
    };
    endings.iter().find(ending).map_or(name, |ending| &name[..name.len() - ending.len()])
}

/// Takes the word backup away at both ends, while something is left.
fn without_words(mut part: &str) -> &str {
    loop {
        let before = part;
        for word in WORDS {
            let ends =
                |rest: &str, at: usize| rest.get(at..).is_some_and(|rest| rest.eq_ignore_ascii_case(word));
            if let Some((front, last)) = part.rsplit_once(SEPARATORS)
                && ends(last, 0)
                && !front.is_empty()
            {
                part = front.trim_end_matches(SEPARATORS);
            }
            if let Some((first, rest)) = part.split_once(SEPARATORS)
                && ends(first, 0)
                && !rest.is_empty()
            {
                part = rest.trim_start_matches(SEPARATORS);
            }
        }
        if part == before {
            return part;
        }
    }
}

/// Finds the last moment in a name, and where it stands.
fn last_moment(name: &str, zone: &TimeZone) -> Option<(Range<usize>, Timestamp)> {
    let bytes = name.as_bytes();
    let begins = |at: &usize| {
        bytes[*at].is_ascii_digit() && at.checked_sub(1).is_none_or(|before| !bytes[before].is_ascii_digit())
    };
    (0..bytes.len()).filter(begins).rev().find_map(|start| {
        let mut rest = Rest { bytes, at: start };
        let date = rest.date()?;
        let time = rest.time_of_day();
        let civil = DateTime::from_parts(date, time.as_ref().map_or(Time::midnight(), |found| found.0));
        let time = match time.and_then(|found| found.1) {
            Some(offset) => offset.to_timestamp(civil).ok()?,
            None => civil.to_zoned(zone.clone()).ok()?.timestamp(),
        };
        Some((start..rest.at, time))
    })
}

/// The rest of a name, from the front.
#[derive(Clone, Copy)]
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Rest<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn digits_ahead(&self) -> usize {
        self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count()
    }

    /// Takes so many digits.
    fn number(&mut self, digits: usize) -> Option<i16> {
        let text = self.bytes.get(self.at..self.at + digits)?;
        if !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.at += digits;
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    fn one_of(&mut self, signs: &[u8]) -> Option<u8> {
        let sign = self.peek().filter(|byte| signs.contains(byte))?;
        self.at += 1;
        Some(sign)
    }

    /// Takes `20260105` or `2026-01-05`; the former may be followed by the digits of a time.
    fn date(&mut self) -> Option<Date> {
        let mut rest = *self;
        let run = rest.digits_ahead();
        let year = rest.number(4)?;
        let (month, day) = match run {
            8 | 12 | 14 => (rest.number(2)?, rest.number(2)?),
            4 => {
                let separator = rest.one_of(b"-_.")?;
                let month = rest.number(2)?;
                rest.one_of(&[separator])?;
                let day = rest.number(2)?;
                if rest.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                (month, day)
            }
            _ => return None,
        };
        if !(1990..=2100).contains(&year) {
            return None;
        }
        let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
        *self = rest;
        Some(date)
    }

    /// Takes the time that follows a date, with its offset where it has one.
    fn time_of_day(&mut self) -> Option<(Time, Option<Offset>)> {
        let mut rest = *self;
        let separator = match rest.digits_ahead() {
            0 => Some(rest.one_of(b"Tt_- .@")?),
            _ => None,
        };
        let (hour, minute, second) = match rest.digits_ahead() {
            6 => (rest.number(2)?, rest.number(2)?, rest.number(2)?),
            4 => (rest.number(2)?, rest.number(2)?, 0),
            2 => rest.apart()?,
            _ => return None,
        };
        let part = |value: i16| i8::try_from(value).ok();
        let time = Time::new(part(hour)?, part(minute)?, part(second)?, 0).ok()?;
        rest.fraction();
        let offset = rest.offset(matches!(separator, Some(b'T' | b't')));
        if rest.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *self = rest;
        Some((time, offset))
    }

    /// Takes `12-00` or `12-00-00`, and other signs for the dash.
    fn apart(&mut self) -> Option<(i16, i16, i16)> {
        let hour = self.number(2)?;
        let separator = self.one_of(b"-_:.h")?;
        let minute = if self.digits_ahead() == 2 { self.number(2)? } else { return None };
        let mut more = *self;
        let next = if separator == b'h' { b'm' } else { separator };
        let second = match more.one_of(&[next]) {
            Some(_) if more.digits_ahead() == 2 => more.number(2)?,
            _ => return Some((hour, minute, 0)),
        };
        *self = more;
        Some((hour, minute, second))
    }

    /// Passes over what is below a second.
    fn fraction(&mut self) {
        let mut rest = *self;
        if rest.one_of(b".,").is_some() && (3..=9).contains(&rest.digits_ahead()) {
            rest.at += rest.digits_ahead();
            *self = rest;
        }
    }

    /// Takes `Z`, `UTC`, `+0100` or `+01:00`. What stands after a minus may be a number of another kind, unless the time
    /// is written as the standard has it.
    fn offset(&mut self, standard: bool) -> Option<Offset> {
        for word in ["utc", "z"] {
            let end = self.at + word.len();
            let there =
                self.bytes.get(self.at..end).is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()));
            if there && !self.bytes.get(end).is_some_and(u8::is_ascii_alphanumeric) {
                self.at = end;
                return Some(Offset::UTC);
            }
        }
        let mut rest = *self;
        let sign = rest.one_of(if standard { b"+-" } else { b"+" })?;
        let (hours, minutes) = match rest.digits_ahead() {
            4 => (rest.number(2)?, rest.number(2)?),
            2 => {
                let hours = rest.number(2)?;
                rest.one_of(b":").and_then(|_| rest.number(2)).map_or((hours, 0), |minutes| (hours, minutes))
            }
            _ => return None,
        };
        let seconds = (i32::from(hours) * 60 + i32::from(minutes)) * 60;
        let offset = Offset::from_seconds(if sign == b'-' { -seconds } else { seconds }).ok();
        if hours <= 14 && minutes < 60 && offset.is_some() {
            *self = rest;
            return offset;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(name: &str) -> (Option<String>, Option<String>) {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let named = parse(name, &zone);
        (named.database, named.time.map(|time| time.to_string()))
    }

    #[test]
    fn names_of_every_make_say_database_and_moment() {
        for (name, database, time) in [
            ("acme-20260105.sql", "acme", "2026-01-04T23:00:00Z"),
            ("app_backup_20260105_120000.db", "app", "2026-01-05T11:00:00Z"),
            ("weekly_20260105.dump", "weekly", "2026-01-04T23:00:00Z"),
            ("backup_20240701.db.gz", "backup", "2024-06-30T22:00:00Z"),
            ("haia_backup_neo4j_20251208_143022.dump", "haia_backup_neo4j", "2025-12-08T13:30:22Z"),
            ("erp_backup_shop_20260105T120000Z.sql.zst", "erp_backup_shop", "2026-01-05T12:00:00Z"),
            ("app.db.safety-20261121T020000Z", "app.db.safety", "2026-11-21T02:00:00Z"),
            ("app.db-2026-01-05T12:30:01.123+0200.xz", "app", "2026-01-05T10:30:01Z"),
            ("2026-01-05_acme.sql", "acme", "2026-01-04T23:00:00Z"),
            ("backup_20260105_acme.sql", "acme", "2026-01-04T23:00:00Z"),
            ("acme_20260105_full.sql", "acme_full", "2026-01-04T23:00:00Z"),
            ("acme-20260105-2.sql", "acme", "2026-01-04T23:00:00Z"),
            ("acme_2026-01-05_12-00-07.sqlite3.bz2", "acme", "2026-01-05T11:00:07Z"),
            ("acme.2026.01.05-12h30.db", "acme", "2026-01-05T11:30:00Z"),
            ("acme20260105120001.SQL.GZ", "acme", "2026-01-05T11:00:01Z"),
            ("acme-20251231-20260105_0100.sql", "acme-20251231", "2026-01-05T00:00:00Z"),
            ("ämter 20240229.db", "ämter", "2024-02-28T23:00:00Z"),
        ] {
            assert_eq!(read(name), (Some(database.to_owned()), Some(time.to_owned())), "{name}");
        }
    }

    #[test]
    fn a_change_of_the_clock_takes_the_earlier_hour_or_goes_on() {
        assert_eq!(read("a-20261025_0230.sql").1.unwrap(), "2026-10-25T00:30:00Z");
        assert_eq!(read("a-20260329_0230.sql").1.unwrap(), "2026-03-29T01:30:00Z");
    }

    #[test]
    fn what_is_no_moment_is_part_of_the_name() {
        for (name, database) in [
            ("app.db", Some("app")),
            ("app-20261305.db", Some("app-20261305")),
            ("app-20250229.db", Some("app-20250229")),
            ("v1234567890.sql", Some("v1234567890")),
            ("order-00012026.sql", Some("order-00012026")),
            ("backup.sql.gz", Some("backup")),
            (".sql", Some("sql")),
        ] {
            assert_eq!(read(name), (database.map(str::to_owned), None), "{name}");
        }
        assert_eq!(read("20260105.sql").0, None);
        assert_eq!(read("20260105_250000.sql").0.as_deref(), Some("250000"));
    }

    #[test]
    fn dumps_are_told_by_their_endings() {
        let dump = |name: &str| parse(name, &TimeZone::UTC).of_a_dump;
        for name in
            ["a.sql", "a.DB.gz", "x.sqlite3", "a.dump.lz4", "a.sql.zst.age", "a.tar", "a.sql.20260105"]
        {
            assert!(dump(name), "{name}");
        }
        for name in
            ["README.md", "a.gz", "notes.txt", ".sql", "run.sh", "log-20260105.txt", "a-20260105.json"]
        {
            assert!(!dump(name), "{name}");
        }
    }
}
