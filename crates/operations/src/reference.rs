//! What a person means by `shop.db@latest`, `shops/acme@2026-11-20T02:00` or `3fa1c0de`: the backups it names.
//!
//! The text is taken apart by whoever knows the configuration; here the outcome is matched with what a repository
//! lists. Nothing is guessed: what fits more than one backup is an error that lists them.

use crate::OperationError;
use flow::{DatabaseName, TargetName};
use jiff::Timestamp;
use repository::BackupRecord;
use std::collections::{BTreeMap, BTreeSet};

/// Which databases are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// A configured target, or one database of it.
    Target {
        /// The target's name.
        target: TargetName,
        /// The database, where one was named.
        database: Option<DatabaseName>,
    },
    /// A place named in place: the canonical path of a file, folder or glob, or a URL.
    Place(String),
    /// The beginning of an id, as 8 or more hexadecimal digits, with the database where one was named.
    Id {
        /// The digits.
        prefix: String,
        /// The database of that snapshot.
        database: Option<String>,
    },
    /// `latest` alone: the repository's only database.
    Only,
}

/// Which of a database's backups is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The newest.
    Newest,
    /// So many before the newest.
    Back(u32),
    /// The newest whose consistency point is at or before that time.
    At(Timestamp),
}

/// A backup, as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// As it was written, for messages.
    pub text: String,
    /// Which databases.
    pub selector: Selector,
    /// Which backup of each.
    pub moment: Moment,
}

/// Returns the one backup that a reference names.
pub fn resolve_one(
    records: &[BackupRecord],
    reference: &Reference,
    host: &str,
) -> Result<BackupRecord, OperationError> {
    let mut found = resolve(records, reference, host)?;
    if found.len() > 1 {
        return Err(ambiguous(&reference.text, &found));
    }
    found.pop().ok_or_else(|| nothing(reference, records))
}

/// Returns the backups that a reference names: one of each database that it selects, in the order of their names.
/// Fails where there is none.
pub fn resolve(
    records: &[BackupRecord],
    reference: &Reference,
    host: &str,
) -> Result<Vec<BackupRecord>, OperationError> {
    let found = match &reference.selector {
        Selector::Id { prefix, database } => by_id(records, prefix, database.as_deref(), &reference.text)?,
        Selector::Target { target, database } => {
            let mine = select(records, |record| {
                record.target == *target && database.as_ref().is_none_or(|name| record.database == *name)
            });
            pick(&mine, reference.moment)
        }
        Selector::Place(place) => {
            let all =
                select(records, |record| record.target.as_str() == place || record.connection == *place);
            let mine = of_one_host(all, host, &reference.text)?;
            // The same file may have been backed up by itself, with its folder and by a glob: it is one database.
            let (exactly, below): (Vec<_>, Vec<_>) =
                mine.into_iter().partition(|record| record.connection == *place);
            match (pick_from(&exactly, reference.moment), exactly.is_empty()) {
                (found, false) => found.into_iter().collect(),
                (_, true) => pick(&below, reference.moment),
            }
        }
        Selector::Only => {
            let found = pick(&records.iter().collect::<Vec<_>>(), reference.moment);
            if found.len() > 1 {
                return Err(ambiguous(&reference.text, &found));
            }
            found
        }
    };
    if found.is_empty() { Err(nothing(reference, records)) } else { Ok(found) }
}

/// Returns the backups of the same database that are older than a given one, newest first.
pub fn older<'a>(records: &'a [BackupRecord], than: &BackupRecord) -> Vec<&'a BackupRecord> {
    let mut older = select(records, |record| key(record) == key(than) && record.time < than.time);
    older.sort_by_key(|record| std::cmp::Reverse(record.time));
    older
}

fn select(records: &[BackupRecord], fits: impl Fn(&BackupRecord) -> bool) -> Vec<&BackupRecord> {
    records.iter().filter(|record| fits(record)).collect()
}

fn key(record: &BackupRecord) -> (&TargetName, &DatabaseName, &str) {
    (&record.target, &record.database, &record.host)
}

fn pick(records: &[&BackupRecord], moment: Moment) -> Vec<BackupRecord> {
    let mut databases: BTreeMap<_, Vec<&BackupRecord>> = BTreeMap::new();
    for record in records {
        databases.entry(key(record)).or_default().push(record);
    }
    databases.into_values().filter_map(|backups| pick_from(&backups, moment)).collect()
}

/// Picks one of the backups of one database.
fn pick_from(backups: &[&BackupRecord], moment: Moment) -> Option<BackupRecord> {
    let mut backups = backups.to_vec();
    backups.sort_by_key(|record| std::cmp::Reverse(record.time));
    match moment {
        Moment::Newest => backups.first().copied(),
        Moment::Back(steps) => backups.get(usize::try_from(steps).ok()?).copied(),
        Moment::At(time) => backups.into_iter().find(|record| record.time <= time),
    }
    .cloned()
}

/// A path means this host's; on a new machine, where this host has none, the only other host's.
fn of_one_host<'a>(
    records: Vec<&'a BackupRecord>,
    host: &str,
    text: &str,
) -> Result<Vec<&'a BackupRecord>, OperationError> {
    let own: Vec<_> = records.iter().copied().filter(|record| record.host == host).collect();
    if !own.is_empty() {
        return Ok(own);
    }
    let hosts: BTreeSet<&str> = records.iter().map(|record| record.host.as_str()).collect();
    if hosts.len() > 1 {
        let hosts: Vec<_> = hosts.into_iter().collect();
        return Err(OperationError::usage(
            format!("`{text}` has backups of several hosts, none of them this one: {}", hosts.join(", ")),
            "name the backup by its id; `backstay list` shows them".to_owned(),
        ));
    }
    Ok(records)
}

fn by_id(
    records: &[BackupRecord],
    prefix: &str,
    database: Option<&str>,
    text: &str,
) -> Result<Vec<BackupRecord>, OperationError> {
    let found = select(records, |record| {
        record.snapshot.starts_with(prefix) && database.is_none_or(|name| record.database.as_str() == name)
    });
    let snapshots: BTreeSet<&str> = found.iter().map(|record| record.snapshot.as_str()).collect();
    if snapshots.len() > 1 {
        return Err(ambiguous(text, &found.into_iter().cloned().collect::<Vec<_>>()));
    }
    Ok(found.into_iter().cloned().collect())
}

fn ambiguous(text: &str, found: &[BackupRecord]) -> OperationError {
    const SHOWN: usize = 20;
    let mut lines: Vec<String> = found
        .iter()
        .take(SHOWN)
        .map(|record| {
            format!("{}  {}  {} of {}", short(&record.id.0), record.time, record.database, record.target)
        })
        .collect();
    if found.len() > SHOWN {
        lines.push(format!("and {} more", found.len() - SHOWN));
    }
    OperationError::usage(
        format!("`{text}` fits {} backups:\n  {}", found.len(), lines.join("\n  ")),
        "name one by its id, or as SOURCE@latest".to_owned(),
    )
}

/// Returns the id as a person may type it.
pub fn short(id: &str) -> String {
    match id.split_once(':') {
        Some((snapshot, database)) => format!("{}:{database}", snapshot.get(..8).unwrap_or(snapshot)),
        None => id.get(..8).unwrap_or(id).to_owned(),
    }
}

fn nothing(reference: &Reference, records: &[BackupRecord]) -> OperationError {
    let databases: BTreeSet<String> = records.iter().map(|record| record.connection.clone()).collect();
    let hint = if databases.is_empty() {
        "the repository holds no backup yet; make one with `backstay backup SOURCE`".to_owned()
    } else {
        let shown: Vec<_> = databases.iter().take(5).cloned().collect();
        format!("`backstay list` shows what there is; there are backups of {}", shown.join(", "))
    };
    OperationError::usage(format!("`{}` names no backup of this repository", reference.text), hint)
}
