//! Lists what a repository holds.

use crate::dump_files::TimeSource;
use crate::report::{Outcome, Report};
use crate::unlisted::none_listed;
use crate::{OperationError, Services};
use flow::{DatabaseName, EngineKind, Selection, TargetName, Text};
use jiff::Timestamp;
use repository::{BackupId, BackupRecord, ProofLevel, Wanted};
use serde::Serialize;

/// One backup of a list.
#[derive(Debug, Clone, Serialize)]
pub struct ListItem {
    /// Its id.
    pub id: BackupId,
    /// The file, in a folder of dump files, where its id is its name; null elsewhere.
    pub path: Option<String>,
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: DatabaseName,
    /// The engine; null for files that stock restic stored.
    pub engine: Option<EngineKind>,
    /// The consistency point.
    pub time: Timestamp,
    /// From where that is known of a file; null elsewhere: the run said so.
    pub time_source: Option<TimeSource>,
    /// Size of its entries.
    pub size_bytes: u64,
    /// What it added to the repository.
    pub added_bytes: u64,
    /// Rows of all tables.
    pub rows: Option<u64>,
    /// What of the database it holds; null for all of it.
    pub selection: Option<Box<Selection>>,
    /// How far it is proven; null where it was found damaged, or is not ours and was never verified.
    pub proof: Option<ProofLevel>,
    /// As of when.
    pub proof_time: Option<Timestamp>,
    /// The tags that its run was given.
    pub tags: Vec<String>,
    /// The host whose run it was.
    pub host: Text,
    /// Where the database was.
    pub connection: Text,
    /// Why its content is suspect; null where it is not, or was accepted.
    pub suspect: Option<Vec<String>>,
    /// Why it can never be restored again; null where it can.
    pub lost: Option<String>,
}

impl From<BackupRecord> for ListItem {
    fn from(record: BackupRecord) -> Self {
        Self {
            id: record.id,
            path: None,
            time_source: None,
            target: record.target,
            database: record.database,
            engine: record.engine,
            time: record.time,
            size_bytes: record.size_bytes,
            added_bytes: record.added_bytes,
            rows: record.rows,
            selection: record.selection,
            proof: record.proof.map(|proof| proof.level),
            proof_time: record.proof.map(|proof| proof.time),
            tags: record.tags,
            host: record.host,
            connection: record.connection,
            suspect: record.suspect,
            lost: record.lost,
        }
    }
}

/// The report's own part.
#[derive(Debug, Clone, Serialize)]
pub struct ListBody {
    /// The backups, oldest first.
    pub backups: Vec<ListItem>,
}

/// What to list: all, or what a target, a database of it, or a place has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListFilter {
    /// Everything.
    All,
    /// One target, or one of its databases.
    Target(TargetName, Option<DatabaseName>),
    /// What was backed up at that place: a canonical path or a URL.
    Place(String),
}

/// Lists the backups. Fails where there are none of what was asked for, and snapshots that may hold some cannot be
/// listed: an empty list would say that nothing was ever backed up.
pub fn run(services: &Services, filter: &ListFilter) -> Result<Report<ListBody>, OperationError> {
    let started = Timestamp::now();
    let records = services.repository.backups_of(&filter.wanted(), &services.context)?;
    if records.is_empty() {
        refuse_unlisted(services, filter)?;
    }
    let backups = records.into_iter().map(ListItem::from).collect();
    Ok(Report::new("list", started, Outcome::Complete, ListBody { backups }))
}

/// Shows the backups that [`run`] lists one after the other, by snapshots and not yet by their times, and returns how
/// many they are: there may be hundreds of thousands.
pub fn each(
    services: &Services,
    filter: &ListFilter,
    take: &mut dyn FnMut(ListItem),
) -> Result<u64, OperationError> {
    let mut number = 0;
    services.repository.each_backup(&filter.wanted(), &services.context, &mut |record| {
        number += 1;
        take(record.into());
    })?;
    if number == 0 {
        refuse_unlisted(services, filter)?;
    }
    Ok(number)
}

impl ListFilter {
    fn wanted(&self) -> Wanted {
        match self {
            ListFilter::All => Wanted::All,
            ListFilter::Target(target, None) => Wanted::Target(target.clone()),
            ListFilter::Target(target, Some(name)) => Wanted::Database(target.clone(), name.clone()),
            ListFilter::Place(place) => Wanted::Place(place.clone()),
        }
    }
}

fn refuse_unlisted(services: &Services, filter: &ListFilter) -> Result<(), OperationError> {
    let asked = match filter {
        ListFilter::All => None,
        ListFilter::Target(target, _) => Some(target.as_str()),
        ListFilter::Place(place) => Some(place.as_str()),
    };
    let mut unlisted = services.repository.unlisted(&services.context)?;
    unlisted.retain(|unlisted| match (&unlisted.target, asked) {
        (Some(target), Some(asked)) => target.as_str() == asked,
        _ => true,
    });
    if unlisted.is_empty() { Ok(()) } else { Err(none_listed(services, &unlisted)) }
}
