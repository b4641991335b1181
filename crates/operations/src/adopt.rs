//! Tells what a repository that this machine does not know holds: whose backups, and the configurations they were made
//! by. Reads only; whoever called writes the configuration.

use crate::{OperationError, Services};
use flow::{DatabaseName, TargetName, Text};
use jiff::Timestamp;
use repository::{BackupRecord, ConfigurationRecord};
use serde::Serialize;
use std::collections::BTreeMap;

/// A target of a host.
#[derive(Debug, Clone, Serialize)]
pub struct HeldTarget {
    /// Its name.
    pub target: TargetName,
    /// How many databases of it have backups.
    pub databases: u64,
    /// How many backups of them there are.
    pub backups: u64,
    /// The sizes of the newest backup of each database together.
    pub newest_bytes: u64,
    /// When the newest of them was made.
    pub newest: Timestamp,
    /// The newest backup of each database.
    #[serde(skip)]
    pub members: Vec<BackupRecord>,
}

/// A configuration that is kept.
#[derive(Debug, Clone, Serialize)]
pub struct HeldConfiguration {
    /// Its path on that host.
    pub file: String,
    /// When it was first used as it is.
    pub time: Timestamp,
    /// The record.
    #[serde(skip)]
    pub record: ConfigurationRecord,
}

/// A host whose backups are there.
#[derive(Debug, Clone, Serialize)]
pub struct HeldHost {
    /// Its name.
    pub host: String,
    /// Its targets, by name.
    pub targets: Vec<HeldTarget>,
    /// Its configurations, the newest first.
    pub configurations: Vec<HeldConfiguration>,
}

/// What a repository holds.
#[derive(Debug, Clone)]
pub struct Held {
    /// The hosts, by name.
    pub hosts: Vec<HeldHost>,
    /// How many snapshots there are that cannot be listed: what they hold is not told here.
    pub unlisted: u64,
}

/// Looks. What other programs stored belongs to no target, and is left out.
pub fn held(services: &Services) -> Result<Held, OperationError> {
    let (repository, context) = (&services.repository, &services.context);
    let records = repository.backups(None, context)?;
    let state = repository.state(context)?;
    let mut hosts: BTreeMap<String, HeldHost> = BTreeMap::new();
    let empty = |host: &str| HeldHost { host: host.to_owned(), targets: vec![], configurations: vec![] };
    for ((host, _), target) in by_target(records) {
        hosts.entry(host.to_string()).or_insert_with(|| empty(&host)).targets.push(target);
    }
    for record in state.configurations {
        let held = HeldConfiguration { file: record.file.clone(), time: record.time, record: record.clone() };
        hosts.entry(record.host.clone()).or_insert_with(|| empty(&record.host)).configurations.push(held);
    }
    for host in hosts.values_mut() {
        host.configurations.sort_by_key(|held| std::cmp::Reverse(held.time));
    }
    let unlisted = repository.unlisted(context)?.len() as u64;
    Ok(Held { hosts: hosts.into_values().collect(), unlisted })
}

/// The records are in the order of their times, so that the last one of a database is its newest.
fn by_target(records: Vec<BackupRecord>) -> BTreeMap<(Text, TargetName), HeldTarget> {
    let mut newest: BTreeMap<(Text, TargetName), BTreeMap<DatabaseName, BackupRecord>> = BTreeMap::new();
    let mut counts: BTreeMap<(Text, TargetName), u64> = BTreeMap::new();
    for record in records.into_iter().filter(|record| record.engine.is_some()) {
        let key = (record.host.clone(), record.target.clone());
        *counts.entry(key.clone()).or_default() += 1;
        newest.entry(key).or_default().insert(record.database.clone(), record);
    }
    newest
        .into_iter()
        .map(|(key, databases)| {
            let members: Vec<BackupRecord> = databases.into_values().collect();
            let held = HeldTarget {
                target: key.1.clone(),
                databases: members.len() as u64,
                backups: counts.get(&key).copied().unwrap_or(0),
                newest_bytes: members.iter().map(|record| record.size_bytes).sum(),
                newest: members.iter().map(|record| record.time).max().unwrap_or(Timestamp::UNIX_EPOCH),
                members,
            };
            (key, held)
        })
        .collect()
}
