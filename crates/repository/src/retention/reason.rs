//! Why a backup is kept or removed, in words that a person understands without the manual.

use super::size;
use super::span::Span;
use serde::{Serialize, Serializer};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// What a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// Single backups.
    Last,
    /// Hours.
    Hour,
    /// Days.
    Day,
    /// Weeks, from Monday.
    Week,
    /// Months.
    Month,
    /// Years.
    Year,
}

impl Period {
    fn adverb(self) -> &'static str {
        match self {
            Period::Last => "last",
            Period::Hour => "hourly",
            Period::Day => "daily",
            Period::Week => "weekly",
            Period::Month => "monthly",
            Period::Year => "yearly",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Period::Last => "moment",
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
            Period::Year => "year",
        }
    }
}

/// Why a backup is kept or removed. Its text is stable, in reports too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Kept: a rule counts it.
    Counted(Period),
    /// Kept: so close to the newest.
    Within(Span),
    /// Kept: too young to go.
    NotOlder(Span),
    /// Kept: no rule says what to keep, so all is, until the size acts.
    NoRule,
    /// Kept: nothing newer is proven.
    NewestProven,
    /// Kept: the newest of all, and newer than every proven one.
    NewerThanProven,
    /// Kept: nothing newer of that host is proven, and others back up a target of the same name.
    NewestOfHost(String),
    /// Kept: nothing newer is proven but what is dated in the future.
    NewestOfNow,
    /// Kept: nothing newer is proven but what was imported.
    NewestOfRuns,
    /// Kept: nothing newer is proven but what was imported, or is dated in the future.
    NewestOfRunsNow,
    /// Kept: no backup of the database is proven.
    NothingProven,
    /// Kept: too young to go when the newest proven one was made; what came since is suspect or not proven.
    NotOlderThen(Span),
    /// Kept: so many stay whatever the rules say.
    AtLeast(u32),
    /// Kept: its snapshot holds others that are kept, the first of them and how many more.
    SharesSnapshot(String, usize),
    /// Removed: the rule counts so many, all of them newer.
    Beyond(Period, u32),
    /// Removed: a newer one stands for its period.
    NotTheLastOf(Period),
    /// Removed: too far from the newest.
    NotWithin(Span),
    /// Removed: older than that.
    OlderThan(Span),
    /// Removed: the oldest, while all together are larger than that.
    OverSize(u64),
    /// Removed although these reasons would keep it.
    Although(Vec<Reason>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Counted(period) => f.write_str(period.adverb()),
            Reason::Within(span) => write!(f, "within {span} of the newest"),
            Reason::NotOlder(span) => write!(f, "not older than {span}"),
            Reason::NoRule => f.write_str("no rule removes it"),
            Reason::NewestProven => f.write_str("newest proven backup"),
            Reason::NewerThanProven => f.write_str("newer than the newest proven backup"),
            Reason::NewestOfHost(host) => write!(f, "newest proven backup of host {host}"),
            Reason::NewestOfNow => f.write_str("newest proven backup that is not dated in the future"),
            Reason::NewestOfRuns => f.write_str("newest proven backup that was not imported"),
            Reason::NewestOfRunsNow => {
                f.write_str("newest proven backup that was neither imported nor dated in the future")
            }
            Reason::NothingProven => f.write_str("no backup of the database is proven"),
            Reason::NotOlderThen(span) => write!(f, "not older than {span} at the newest proven backup"),
            Reason::AtLeast(count) => write!(f, "at least {count} stay"),
            Reason::SharesSnapshot(with, 0) => write!(f, "shares its snapshot with {with}"),
            Reason::SharesSnapshot(with, more) => {
                write!(f, "shares its snapshot with {with} and {more} more")
            }
            Reason::Beyond(Period::Last, count) => write!(f, "beyond the last {count}"),
            Reason::Beyond(period, count) => write!(f, "beyond {count} {}", period.adverb()),
            Reason::NotTheLastOf(period) => write!(f, "not the last of its {}", period.noun()),
            Reason::NotWithin(span) => write!(f, "not within {span} of the newest"),
            Reason::OlderThan(span) => write!(f, "older than {span}"),
            Reason::OverSize(bytes) => write!(f, "oldest, over the size of {}", size::describe(*bytes)),
            Reason::Although(reasons) => {
                let reasons: Vec<String> = reasons.iter().map(Reason::to_string).collect();
                write!(f, "although kept otherwise: {}", reasons.join(", "))
            }
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The reasons of a decision. Hundreds of thousands of verdicts have a few of them in common, and each is here once.
#[derive(Default)]
pub(super) struct Reasons(HashSet<Arc<[Reason]>>);

impl Reasons {
    pub(super) fn shared(&mut self, reasons: Vec<Reason>) -> Arc<[Reason]> {
        if let Some(known) = self.0.get(reasons.as_slice()) {
            return Arc::clone(known);
        }
        let made: Arc<[Reason]> = reasons.into();
        self.0.insert(Arc::clone(&made));
        made
    }
}
