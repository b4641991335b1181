//! Which databases of a target are new, and which are gone, against the recent runs: a tenant whose file vanished is
//! missed by no backup of the others.
//!
//! A run of the whole target is compared; a run of one database says nothing of the others. One that is gone is told in
//! each run for as long as the recent runs hold a backup of it: once is easily overlooked, for ever is noise.

use crate::OperationError;
use flow::{DatabaseName, DatabaseRef, SourceError, SourceErrorKind, TargetName};
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

/// Keeps the one database that is meant. Fails where it is not there.
pub(crate) fn keep_only(
    target: &TargetName,
    only: Option<&DatabaseName>,
    databases: &mut Vec<DatabaseRef>,
) -> Result<(), SourceError> {
    let Some(only) = only else { return Ok(()) };
    databases.retain(|database| database.name == *only);
    if !databases.is_empty() {
        return Ok(());
    }
    let object = format!("{target}/{only}");
    Err(SourceError::new(SourceErrorKind::Missing, object, "the target has no such database"))
}

/// Keeps the databases that a list names, where there is one, and returns those of it that are not there, each with its
/// error. Fails where none of them is.
pub(crate) fn keep_named(
    target: &TargetName,
    among: Option<&BTreeSet<DatabaseName>>,
    databases: &mut Vec<DatabaseRef>,
) -> Result<Vec<(DatabaseName, OperationError)>, OperationError> {
    let Some(among) = among else { return Ok(vec![]) };
    databases.retain(|database| among.contains(&database.name));
    let missing = |name: &DatabaseName| {
        let message = "the list of tenants names it, and it is not there";
        SourceError::new(SourceErrorKind::Missing, format!("{target}/{name}"), message)
            .with_hint("make its database, or take it off the list")
    };
    let gone = among.iter().filter(|name| databases.iter().all(|database| database.name != **name));
    let mut gone: Vec<_> = gone.map(|name| (name.clone(), OperationError::from(missing(name)))).collect();
    match (databases.is_empty(), gone.is_empty()) {
        (true, false) => Err(gone.swap_remove(0).1),
        _ => Ok(gone),
    }
}
