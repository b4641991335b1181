//! What a dump file must keep to, whatever it holds: its size and its age.
//!
//! Pure functions. An age that is asked for is proven by no time that is still to come.

use super::report::Check;
use crate::dump_files::{DumpFile, TimeSource};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use repository::retention::Span;

/// Clocks of two hosts differ by less.
const SKEW_SECONDS: i64 = 300;

/// What a file must keep to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// It has at least so many bytes.
    pub min_size_bytes: Option<u64>,
    /// It has at most so many bytes.
    pub max_size_bytes: Option<u64>,
    /// It is no older.
    pub max_age: Option<Span>,
}

impl Limits {
    /// Holds the length of a file against the limits.
    pub(super) fn size(&self, size_bytes: u64) -> Check {
        let problem = match (self.min_size_bytes, self.max_size_bytes) {
            _ if size_bytes == 0 => Some("is empty".to_owned()),
            (Some(least), _) if size_bytes < least => {
                Some(format!("has {size_bytes} bytes, fewer than the {least} that are asked for"))
            }
            (_, Some(most)) if size_bytes > most => {
                Some(format!("has {size_bytes} bytes, more than the {most} that are allowed"))
            }
            _ => None,
        };
        let detail = problem.clone().unwrap_or_else(|| format!("{size_bytes} bytes"));
        Check { name: "size".to_owned(), passed: problem.is_none(), detail }
    }

    /// Holds the age of a file against the limits; `None` where none is asked for and nothing is odd.
    pub(super) fn age(&self, file: &DumpFile, now: Timestamp, zone: &TimeZone) -> Option<Check> {
        let by = match file.time_source {
            TimeSource::Name => "by its name",
            TimeSource::Modified => "by its modification time",
        };
        let time = file.time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
        let check = |passed, detail| Some(Check { name: "age".to_owned(), passed, detail });
        let ahead = file.time.as_second() - now.as_second();
        if ahead > SKEW_SECONDS {
            let detail = format!(
                "is of {time} {by}, which is still to come: a clock is or was wrong, or the time zone"
            );
            return check(self.max_age.is_none(), detail);
        }
        let most = self.max_age?;
        let oldest = most.before(now, zone);
        if oldest.is_some_and(|oldest| file.time < oldest) {
            return check(false, format!("is of {time} {by}, older than {most}"));
        }
        check(true, format!("is of {time} {by}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_size_is_within_the_limits() {
        let limits = Limits { min_size_bytes: Some(10), max_size_bytes: Some(20), max_age: None };
        assert!(limits.size(10).passed && limits.size(20).passed);
        assert!(!limits.size(9).passed && !limits.size(21).passed);
        assert!(!Limits::default().size(0).passed && Limits::default().size(1).passed);
    }
}
