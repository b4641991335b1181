//! Rules, and which backups they are for.

use super::candidate::Candidate;
use super::rules::Rules;
use flow::{DatabaseName, TargetName};
use jiff::tz::TimeZone;
use std::collections::BTreeSet;

/// Which backups rules are for: those to which everything that is said here applies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PruneSelector {
    /// Those of this target.
    pub target: Option<TargetName>,
    /// Those of these databases.
    pub databases: Option<BTreeSet<DatabaseName>>,
    /// Those of what lies at this place: a canonical path or a URL.
    pub place: Option<String>,
    /// Those that this host made.
    pub host: Option<String>,
    /// Those that this plan made.
    pub plan: Option<String>,
}

impl PruneSelector {
    /// Tells whether a backup is meant.
    pub fn selects(&self, backup: &Candidate) -> bool {
        let origin = &backup.origin;
        let place = |place: &String| origin.target.as_str() == place || origin.connection == *place;
        self.target.as_ref().is_none_or(|target| origin.target == *target)
            && self.databases.as_ref().is_none_or(|databases| databases.contains(&origin.database))
            && self.place.as_ref().is_none_or(place)
            && self.host.as_ref().is_none_or(|host| origin.host == *host)
            && self.plan.as_ref().is_none_or(|plan| origin.plan.as_deref() == Some(plan.as_str()))
    }
}

/// Rules and what they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneScope {
    /// Which backups.
    pub selector: PruneSelector,
    /// The rules.
    pub rules: Rules,
    /// The zone in which hours, days, weeks, months and years begin.
    pub zone: TimeZone,
    /// Whether the good backups of a database do not grow older while its newest one is suspect or not proven: their age
    /// counts up to the newest good one.
    pub hold_ages: bool,
}
