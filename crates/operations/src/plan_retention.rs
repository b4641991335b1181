//! Retention after a backup: what the plan that made it lets go.
//!
//! It never fails the backup. Where somebody else is at work in the repository, or anything goes wrong, that is told
//! and the next run does it. It looks first, without an exclusive lock; and while there is nothing to remove, that is
//! all. The space of what goes is freed by the first backup of a day, since finding out what is needed reads every
//! folder. Where that met damage, it is not tried again each night: until somebody looked, or a week is over, old backups
//! stay, and that was said once.

use crate::{SafetyRule, Services, safety_copies};
use flow::{DatabaseName, Event, Finding, Severity, TargetName};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use journal::Outcome;
use repository::retention::{PruneScope, PruneSelector, Rules, Verdict};
use repository::{PruneRequest, RepositoryError, RepositoryErrorKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a plan keeps of its backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The rules.
    pub rules: Rules,
    /// The zone in which its days begin.
    pub zone: TimeZone,
    /// Which safety copies of the target may go too.
    pub safety: Option<SafetyRule>,
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
    /// How many safety copies of restores went.
    pub safety_copies: u64,
    /// Why it did not do what it was to do; null where it did.
    pub error: Option<String>,
    /// The damage that keeps old backups where they are; null where none was met.
    pub damage: Option<MetDamage>,
}

/// Damage that was met when space was to be freed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetDamage {
    /// The id of the repository.
    pub repository: String,
    /// When it was met first.
    pub since: Timestamp,
}

impl Pruned {
    /// Adds what was done for another target.
    pub fn add(&mut self, other: Self) {
        self.backups += other.backups;
        self.snapshots += other.snapshots;
        self.freed_bytes += other.freed_bytes;
        self.safety_copies += other.safety_copies;
        self.error = self.error.take().or(other.error);
        self.damage = self.damage.take().or(other.damage);
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
    let now = Timestamp::now();
    if let Some(damage) = known_damage(services, now) {
        let error = format!("damage that was met on {} is not settled", damage.since.strftime("%Y-%m-%d"));
        return Pruned { error: Some(error), damage: Some(damage), ..Pruned::default() };
    }
    let selector = PruneSelector {
        target: Some(made.target.clone()),
        plan: Some(made.plan.to_owned()),
        databases: made.only.map(|only| BTreeSet::from([only.clone()])),
        ..PruneSelector::default()
    };
    let Retention { rules, zone, safety } = retention.clone();
    let scopes = vec![PruneScope { selector, rules, zone: zone.clone(), hold_ages: true }];
    let request = PruneRequest { scopes, now, dry_run: false, forget_only: false };
    let leaves_space = |verdicts: &[Verdict]| !is_first_of_day(verdicts, &zone);
    match services.repository.prune_if_any(&request, &leaves_space, &services.context) {
        Ok(report) => Pruned {
            backups: report.verdicts.iter().filter(|verdict| !verdict.kept).count() as u64,
            snapshots: report.snapshots,
            freed_bytes: report.freed_bytes,
            safety_copies: safety_copies::sweep(services, safety.as_slice(), now, false).removed.len() as u64,
            ..Pruned::default()
        },
        Err(error) => {
            tell(services, &made.target.to_string(), &error);
            let damaged = error.kind == RepositoryErrorKind::Damaged;
            let damage =
                damaged.then(|| MetDamage { repository: services.repository.id().to_owned(), since: now });
            Pruned { error: Some(error.to_string()), damage, ..Pruned::default() }
        }
    }
}

/// How long damage that keeps old backups where they are is said once for.
const SAID_AGAIN_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Returns the damage that kept the last backup from removing anything, if it was met in this repository, not long ago,
/// and nobody healed, verified or pruned since.
fn known_damage(services: &Services, now: Timestamp) -> Option<MetDamage> {
    let journal = services.journal.as_ref()?;
    let outcomes = [Outcome::Done, Outcome::Incomplete];
    let newest = outcomes.into_iter().filter_map(|outcome| journal.last("backup", outcome).ok()?);
    let newest = newest.max_by_key(|run| run.start.started)?;
    let damage = newest.end?.report.get("pruned")?.get("damage")?.clone();
    let damage: MetDamage = serde_json::from_value(damage).ok()?;
    let looked = ["heal", "prune", "verify"].into_iter().flat_map(|command| {
        let outcomes = [Outcome::Done, Outcome::Incomplete, Outcome::Failed].into_iter();
        outcomes.filter_map(move |outcome| journal.last(command, outcome).ok()?)
    });
    let settled = looked.map(|run| run.start.started).any(|started| started > damage.since);
    let fresh = damage.since <= now && now.duration_since(damage.since) < SAID_AGAIN_AFTER;
    Some(damage).filter(|damage| damage.repository == services.repository.id() && fresh && !settled)
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
