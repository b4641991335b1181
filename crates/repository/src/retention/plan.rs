//! From the backups of a repository to the snapshots that go.
//!
//! Each database is decided on by itself; a snapshot goes only where every database in it does, those included that
//! nobody asked about.

use super::candidate::{Candidate, Verdict};
use super::decide::decide;
use super::reason::{Reason, Reasons};
use super::scope::PruneScope;
use flow::Text;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What is to become of the backups that were asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// What stays and what goes: by target, database and host, newest first.
    pub verdicts: Vec<Verdict>,
    /// The snapshots that go.
    pub snapshots: BTreeSet<Text>,
}

/// Decides which of the backups of a repository go. `candidates` are all of them: what no scope selects is left alone,
/// and keeps its snapshot. A backup that several scopes select is decided on by the first.
///
/// Of each database (and plan, where a scope names one; and host, where the target is known by its path alone; and part,
/// where backups hold a part of it: those of the whole are decided on as if there were no others): what any rule keeps
/// stays, with `max_age` whatever is not older too; the newest good backup, the newest good one that was not imported, the
/// newest of all, and at least `min_keep` stay in any case. Where no rule says what to keep, everything is kept before the size acts.
/// Rules that say nothing at all keep everything.
pub fn plan(candidates: &[Candidate], scopes: &[PruneScope], now: Timestamp) -> Decision {
    let mut databases: BTreeMap<_, Vec<&Candidate>> = BTreeMap::new();
    let mut staying: HashMap<Text, Staying> = HashMap::new();
    for backup in candidates {
        match scopes.iter().position(|scope| scope.selector.selects(backup)) {
            Some(scope) => {
                let origin = &backup.origin;
                let in_place = origin.target.as_str().starts_with('/');
                let host = in_place.then_some(origin.host.as_str());
                // A backup of a part stands for none of the whole, nor of another part.
                let part = origin.selection.as_deref();
                databases
                    .entry((&origin.target, &origin.database, part, host, scope))
                    .or_default()
                    .push(backup);
            }
            None => staying.entry(backup.snapshot.clone()).or_default().add(backup),
        }
    }
    let mut reasons = Reasons::default();
    let mut verdicts = Vec::with_capacity(databases.values().map(Vec::len).sum());
    for ((.., scope), backups) in &databases {
        let Some(scope) = scopes.get(*scope) else { continue };
        decide(backups, scope, now, &mut reasons, &mut verdicts);
    }
    for Verdict { backup, .. } in verdicts.iter().filter(|verdict| verdict.kept) {
        staying.entry(backup.snapshot.clone()).or_default().add(backup);
    }
    let mut snapshots = BTreeSet::new();
    for verdict in verdicts.iter_mut().filter(|verdict| !verdict.kept) {
        match staying.get(verdict.backup.snapshot.as_str()) {
            None => drop(snapshots.insert(verdict.backup.snapshot.clone())),
            Some(others) => {
                verdict.kept = true;
                let shares = Reason::SharesSnapshot(others.first.clone(), others.more);
                verdict.reasons = reasons.shared(vec![shares]);
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
            self.first = format!("{}/{}", backup.origin.target, backup.origin.database);
        } else {
            self.more += 1;
        }
    }
}
