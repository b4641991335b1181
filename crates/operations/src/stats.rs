//! What a repository holds and takes up. Known from the lists of the snapshots and from the index; no content is read.

use crate::report::{Outcome, Report};
use crate::{OperationError, Services};
use flow::{DatabaseName, TargetName};
use jiff::Timestamp;
use repository::BackupRecord;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// The size of each database of a target as its newest backup has it, by host and name.
type NewestSizes<'a> = BTreeMap<(&'a str, &'a DatabaseName), u64>;

/// What one target has.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetStats {
    /// The target.
    pub target: TargetName,
    /// How many databases of it are backed up.
    pub databases: u64,
    /// How many backups of them there are.
    pub backups: u64,
    /// The sizes of all these backups together.
    pub logical_bytes: u64,
    /// The sizes of the newest backup of each database together.
    pub newest_bytes: u64,
    /// What its runs added to the repository.
    pub added_bytes: u64,
    /// When the oldest of them was made.
    pub oldest: Timestamp,
    /// When the newest of them was made.
    pub newest: Timestamp,
}

/// The report's own part.
#[derive(Debug, Clone, Serialize)]
pub struct StatsBody {
    /// The repository's id.
    pub repository_id: String,
    /// Where it is.
    pub repository: String,
    /// How many snapshots hold backups.
    pub snapshots: u64,
    /// How many snapshots there are that cannot be listed: their backups are not counted here.
    pub unlisted: u64,
    /// How many backups there are.
    pub backups: u64,
    /// Of how many databases.
    pub databases: u64,
    /// How many packs are stored.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Bytes of everything that is stored.
    pub stored_bytes: u64,
    /// How many different blobs there are, of content and of folders.
    pub blobs: u64,
    /// The sizes of all backups together.
    pub logical_bytes: u64,
    /// Bytes of the different blobs of content and lists, before compression; with those that no backup needs any more.
    pub unique_bytes: u64,
    /// The bytes of blobs before compression by those after; null where nothing is stored.
    pub compression_ratio: Option<f64>,
    /// `logical_bytes` by `unique_bytes`; null where nothing is stored.
    pub deduplication_ratio: Option<f64>,
    /// What is free where it lies; null where that cannot be told.
    pub free_bytes: Option<u64>,
    /// Each target, by name.
    pub targets: Vec<TargetStats>,
}

/// Sums up.
pub fn run(services: &Services) -> Result<Report<StatsBody>, OperationError> {
    let started = Timestamp::now();
    let (repository, context) = (&services.repository, &services.context);
    let records = repository.backups(None, context)?;
    let usage = repository.usage(context)?;
    let targets = by_target(&records);
    let snapshots: HashSet<&str> = records.iter().map(|record| record.snapshot.as_str()).collect();
    let logical_bytes = records.iter().map(|record| record.size_bytes).sum();
    let ratio =
        |above: u64, below: u64| (below > 0).then(|| (above as f64 / below as f64 * 100.0).round() / 100.0);
    let body = StatsBody {
        repository_id: repository.id().to_owned(),
        repository: repository.location(),
        snapshots: snapshots.len() as u64,
        unlisted: repository.unlisted(context)?.len() as u64,
        backups: records.len() as u64,
        databases: targets.iter().map(|target| target.databases).sum(),
        packs: usage.packs,
        pack_bytes: usage.pack_bytes,
        index_bytes: usage.index_bytes,
        stored_bytes: usage.all_bytes,
        blobs: usage.data_blobs + usage.tree_blobs,
        logical_bytes,
        unique_bytes: usage.data_bytes,
        compression_ratio: ratio(usage.data_bytes + usage.tree_bytes, usage.blob_bytes),
        deduplication_ratio: ratio(logical_bytes, usage.data_bytes),
        free_bytes: usage.free_bytes,
        targets,
    };
    Ok(Report::new("stats", started, Outcome::Complete, body))
}

/// The records are in the order of their times, so that the last one of a database is its newest.
fn by_target(records: &[BackupRecord]) -> Vec<TargetStats> {
    let mut targets: BTreeMap<&TargetName, (TargetStats, NewestSizes<'_>)> = BTreeMap::new();
    for record in records {
        let (stats, newest) = targets.entry(&record.target).or_insert_with(|| {
            let stats = TargetStats {
                target: record.target.clone(),
                databases: 0,
                backups: 0,
                logical_bytes: 0,
                newest_bytes: 0,
                added_bytes: 0,
                oldest: record.time,
                newest: record.time,
            };
            (stats, BTreeMap::new())
        });
        stats.backups += 1;
        stats.logical_bytes += record.size_bytes;
        stats.added_bytes += record.added_bytes;
        stats.newest = record.time;
        newest.insert((record.host.as_str(), &record.database), record.size_bytes);
    }
    let whole = |(mut stats, newest): (TargetStats, BTreeMap<(&str, &DatabaseName), u64>)| {
        stats.databases = newest.len() as u64;
        stats.newest_bytes = newest.values().sum();
        stats
    };
    targets.into_values().map(whole).collect()
}
