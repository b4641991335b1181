//! From the backups of a repository to the snapshots that go.
//!
//! Each database is decided on by itself; a snapshot goes only where every database in it does, those included that
//! nobody asked about.

use super::candidate::{Candidate, Verdict};
use super::decide::decide;
use super::reason::Reason;
use super::rules::Rules;
use flow::{DatabaseName, TargetName};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
        let place = |place: &String| backup.target.as_str() == place || backup.connection == *place;
        self.target.as_ref().is_none_or(|target| backup.target == *target)
            && self.databases.as_ref().is_none_or(|databases| databases.contains(&backup.database))
            && self.place.as_ref().is_none_or(place)
            && self.host.as_ref().is_none_or(|host| backup.host == *host)
            && self.plan.as_ref().is_none_or(|plan| backup.plan.as_ref() == Some(plan))
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
}

/// What is to become of the backups that were asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// What stays and what goes: by target, database and host, newest first.
    pub verdicts: Vec<Verdict>,
    /// The snapshots that go.
    pub snapshots: BTreeSet<String>,
}

/// Decides which of the backups of a repository go. `candidates` are all of them: what no scope selects is left alone,
/// and keeps its snapshot. A backup that several scopes select is decided on by the first.
///
/// Of each database (and plan, where a scope names one; and host, where the target is known by its path alone): what
/// any rule keeps stays, with `max_age` whatever is not older too; the newest good backup, all that is newer than it,
/// and at least `min_keep` stay in any case. Where no rule says what to keep, everything is kept before the size acts.
/// Rules that say nothing at all keep everything.
pub fn plan(candidates: &[Candidate], scopes: &[PruneScope], now: Timestamp) -> Decision {
    let mut databases: BTreeMap<_, Vec<&Candidate>> = BTreeMap::new();
    let mut staying: HashMap<&str, Staying> = HashMap::new();
    for backup in candidates {
        match scopes.iter().position(|scope| scope.selector.selects(backup)) {
            Some(scope) => {
                let in_place = backup.target.as_str().starts_with('/');
                let host = in_place.then_some(backup.host.as_str());
                databases.entry((&backup.target, &backup.database, host, scope)).or_default().push(backup);
            }
            None => staying.entry(&backup.snapshot).or_default().add(backup),
        }
    }
    let mut verdicts = Vec::new();
    for ((.., scope), backups) in &databases {
        let Some(PruneScope { rules, zone, .. }) = scopes.get(*scope) else { continue };
        verdicts.extend(decide(backups, rules, zone, now));
    }
    let kept: Vec<Candidate> =
        verdicts.iter().filter(|verdict| verdict.kept).map(|verdict| verdict.backup.clone()).collect();
    for backup in &kept {
        staying.entry(&backup.snapshot).or_default().add(backup);
    }
    let mut snapshots = BTreeSet::new();
    for verdict in verdicts.iter_mut().filter(|verdict| !verdict.kept) {
        match staying.get(verdict.backup.snapshot.as_str()) {
            None => drop(snapshots.insert(verdict.backup.snapshot.clone())),
            Some(others) => {
                verdict.kept = true;
                verdict.reasons = vec![Reason::SharesSnapshot(others.first.clone(), others.more)];
            }
        }
    }
    Decision { verdicts, snapshots }
}

/// The backups that keep a snapshot.
#[derive(Default)]
struct Staying {
    first: String,
    more: usize,
}

impl Staying {
    fn add(&mut self, backup: &Candidate) {
        if self.first.is_empty() {
            self.first = format!("{}/{}", backup.target, backup.database);
        } else {
            self.more += 1;
        }
    }
}
