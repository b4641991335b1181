//! Retention after a backup: what the plan that made it lets go.
//!
//! It never fails the backup. Where somebody else is at work in the repository, or anything goes wrong, that is told
//! and the next run does it. It looks first, without a lock; and while there is nothing to remove, that is all. The
//! space of what goes is freed by the first backup of a day, since finding out what is needed reads every folder.

use crate::Services;
use flow::{DatabaseName, Event, Finding, Severity, TargetName};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use repository::retention::{PruneScope, PruneSelector, Rules, Verdict};
use repository::{PruneReport, PruneRequest, RepositoryError, RepositoryErrorKind};
use serde::Serialize;
use std::collections::BTreeSet;

/// What a plan keeps of its backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The rules.
    pub rules: Rules,
    /// The zone in which its days begin.
    pub zone: TimeZone,
}

/// What retention did after a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// How many backups went.
    pub backups: u64,
    /// How many snapshots that was.
    pub snapshots: u64,
    /// By how many bytes the repository became smaller; 0 where the space is left for later.
    pub freed_bytes: u64,
    /// Why it did not do what it was to do; null where it did.
    pub error: Option<String>,
}

impl Pruned {
    /// Adds what was done for another target.
    pub fn add(&mut self, other: Self) {
        self.backups += other.backups;
        self.snapshots += other.snapshots;
        self.freed_bytes += other.freed_bytes;
        self.error = self.error.take().or(other.error);
    }
}

/// Which backups a run of a plan may let go.
pub(crate) struct Made<'a> {
    pub(crate) target: &'a TargetName,
    pub(crate) plan: &'a str,
    /// The one database that the run was for.
    pub(crate) only: Option<&'a DatabaseName>,
}

/// Removes what the plan lets go.
pub(crate) fn apply(services: &Services, retention: &Retention, made: Made<'_>) -> Pruned {
    let selector = PruneSelector {
        target: Some(made.target.clone()),
        plan: Some(made.plan.to_owned()),
        databases: made.only.map(|only| BTreeSet::from([only.clone()])),
        ..PruneSelector::default()
    };
    let Retention { rules, zone } = retention.clone();
    let scopes = vec![PruneScope { selector, rules, zone, settled_only: true }];
    let request = PruneRequest { scopes, now: Timestamp::now(), dry_run: true, forget_only: true };
    match look_and_prune(services, request, &retention.zone) {
        Ok(report) => Pruned {
            backups: report.verdicts.iter().filter(|verdict| !verdict.kept).count() as u64,
            snapshots: report.snapshots,
            freed_bytes: report.freed_bytes,
            error: None,
        },
        Err(error) => {
            tell(services, &made.target.to_string(), &error);
            Pruned { error: Some(error.to_string()), ..Pruned::default() }
        }
    }
}

fn look_and_prune(
    services: &Services,
    look: PruneRequest,
    zone: &TimeZone,
) -> Result<PruneReport, RepositoryError> {
    let expected = services.repository.prune(&look, &services.context)?;
    if expected.snapshots == 0 {
        return Ok(expected);
    }
    let forget_only = !is_first_of_day(&expected.verdicts, zone);
    let request = PruneRequest { dry_run: false, forget_only, ..look };
    services.repository.prune(&request, &services.context)
}

/// Tells whether the newest backup is the plan's only run of its day so far.
fn is_first_of_day(verdicts: &[Verdict], zone: &TimeZone) -> bool {
    let Some(newest) = verdicts.iter().map(|verdict| &verdict.backup).max_by_key(|backup| backup.time) else {
        return true;
    };
    let day = |time: Timestamp| time.to_zoned(zone.clone()).date();
    let others =
        verdicts.iter().map(|verdict| &verdict.backup).filter(|backup| backup.snapshot != newest.snapshot);
    others.map(|backup| day(backup.time)).all(|other| other != day(newest.time))
}

fn tell(services: &Services, target: &str, error: &RepositoryError) {
    let next = match error.kind {
        RepositoryErrorKind::Locked => "the next backup of the plan tries again",
        RepositoryErrorKind::Damaged => {
            "`backstay check` names what is damaged; `backstay prune --forget-only` removes them and leaves their space"
        }
        _ => "`backstay prune` does it, or tells what is wrong",
    };
    services.context.observer.event(Event::Finding(Finding {
        severity: Severity::Warning,
        object: target.to_owned(),
        message: format!("the backup is made, and old backups were not removed: {error}"),
        hint: Some(next.to_owned()),
    }));
}
