//! Which databases of a target are new, and which are gone, against the recent runs: a tenant whose file vanished is
//! missed by no backup of the others.
//!
//! A run of the whole target is compared; a run of one database says nothing of the others. One that is gone is told in
//! each run for as long as the recent runs hold a backup of it: once is easily overlooked, for ever is noise.

use flow::{DatabaseName, DatabaseRef, TargetName};
use jiff::Timestamp;
use repository::{BackupId, RecentRuns};
use serde::Serialize;
use std::collections::BTreeSet;

/// A database that the run before did not find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Appeared {
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: DatabaseName,
    /// When the run before was.
    pub since: Timestamp,
}

/// A database that recent runs backed up, and this one did not find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vanished {
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: DatabaseName,
    /// Its newest backup.
    pub backup: BackupId,
    /// Whose consistency point was then.
    pub time: Timestamp,
}

/// Compares the databases of a target with what recent runs found. Before the first run of the whole target all of them
/// are new, which is no news.
pub(crate) fn compare(
    target: &TargetName,
    databases: &[DatabaseRef],
    recent: RecentRuns,
) -> (Vec<Appeared>, Vec<Vanished>) {
    let Some(since) = recent.full_run else { return (vec![], vec![]) };
    let there: BTreeSet<&DatabaseName> = databases.iter().map(|database| &database.name).collect();
    let known = |name: &DatabaseName| recent.newest.contains(name) || recent.backups.contains_key(name);
    let appeared = there
        .iter()
        .filter(|name| !known(name))
        .map(|name| Appeared { target: target.clone(), database: (*name).clone(), since })
        .collect();
    let vanished = recent
        .backups
        .iter()
        .filter(|(name, _)| !there.contains(name))
        .map(|(name, last)| Vanished {
            target: target.clone(),
            database: name.clone(),
            backup: last.backup.clone(),
            time: last.time,
        })
        .collect();
    (appeared, vanished)
}
