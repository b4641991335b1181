//! What a person means by `shop.db@latest`, `shops/acme@2026-11-20T02:00` or `3fa1c0de`: the backups it names.
//!
//! The text is taken apart by whoever knows the configuration; here the outcome is matched with what a repository
//! lists. Nothing is guessed: what fits more than one backup is an error that lists them. A snapshot of stock restic is
//! meant only by its id, or where there is no database backup that fits: it holds files, and may be of the same place.
//! A backup of a part of a database is meant only by its id, or where there is none of the whole.

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
    found.pop().ok_or_else(|| nothing(reference, records, host))
}

/// Returns the backups that a reference names: one of each database that it selects, in the order of their names.
/// Fails where there is none.
pub fn resolve(
    records: &[BackupRecord],
    reference: &Reference,
    host: &str,
) -> Result<Vec<BackupRecord>, OperationError> {
    let found = find(records, reference, reference.moment, host)?;
    if found.is_empty() { Err(nothing(reference, records, host)) } else { Ok(found) }
}

/// Finds what a reference names, at that moment instead of its own; maybe nothing.
fn find(
    records: &[BackupRecord],
    reference: &Reference,
    moment: Moment,
    host: &str,
) -> Result<Vec<BackupRecord>, OperationError> {
    Ok(match &reference.selector {
        Selector::Id { prefix, database } => by_id(records, prefix, database.as_deref(), &reference.text)?,
        Selector::Target { target, database } => {
            let mine = select(records, |record| {
                record.target == *target && database.as_ref().is_none_or(|name| record.database == *name)
            });
            pick(&ours_first(mine), moment)
        }
        Selector::Place(place) => {
            let all =
                select(records, |record| record.target.as_str() == place || record.connection == *place);
            let mine = of_one_host(ours_first(all), host, &reference.text)?;
            // The same file may have been backed up by itself, with its folder and by a glob: it is one database.
            let (exactly, below): (Vec<_>, Vec<_>) =
                mine.into_iter().partition(|record| record.connection == *place);
            match (pick_from(&exactly, moment), exactly.is_empty()) {
                (found, false) => found.into_iter().collect(),
                (_, true) => pick(&below, moment),
            }
        }
        Selector::Only => {
            // A file is one database, whether it was backed up by itself or with its folder.
            let place = |record: &BackupRecord| (record.connection.clone(), record.host.clone());
            let found = pick_by(&ours_first(records.iter().collect()), moment, place);
            if found.len() > 1 {
                return Err(ambiguous(&reference.text, &found));
            }
            found
        }
    })
}

/// Returns the backups of the same part of the same database that are older than a given one, newest first.
pub fn older<'a>(records: &'a [BackupRecord], than: &BackupRecord) -> Vec<&'a BackupRecord> {
    let same = |record: &BackupRecord| key(record) == key(than) && record.selection == than.selection;
    let mut older = select(records, |record| same(record) && record.time < than.time);
    older.sort_by_key(|record| std::cmp::Reverse(record.time));
    older
}

fn select(records: &[BackupRecord], fits: impl Fn(&BackupRecord) -> bool) -> Vec<&BackupRecord> {
    records.iter().filter(|record| fits(record)).collect()
}

fn key(record: &BackupRecord) -> (&TargetName, &DatabaseName, &str) {
    (&record.target, &record.database, &record.host)
}

/// Returns the database backups among them; where there is none, what stock restic stored.
pub(crate) fn ours_first(records: Vec<&BackupRecord>) -> Vec<&BackupRecord> {
    let ours: Vec<&BackupRecord> = records.iter().copied().filter(|record| record.engine.is_some()).collect();
    if ours.is_empty() { records } else { ours }
}

fn pick(records: &[&BackupRecord], moment: Moment) -> Vec<BackupRecord> {
    let owned = |record: &BackupRecord| (record.target.clone(), record.database.clone(), record.host.clone());
    pick_by(records, moment, owned)
}

/// Picks a backup of each database, where those with one key are of one database.
fn pick_by<K: Ord>(
    records: &[&BackupRecord],
    moment: Moment,
    key: impl Fn(&BackupRecord) -> K,
) -> Vec<BackupRecord> {
    let mut databases: BTreeMap<K, Vec<&BackupRecord>> = BTreeMap::new();
    for record in records {
        databases.entry(key(record)).or_default().push(record);
    }
    databases.into_values().filter_map(|backups| pick_from(&backups, moment)).collect()
}

/// Picks one of the backups of one database.
fn pick_from(backups: &[&BackupRecord], moment: Moment) -> Option<BackupRecord> {
    let whole: Vec<&BackupRecord> =
        backups.iter().copied().filter(|record| record.selection.is_none()).collect();
    let mut backups = if whole.is_empty() { backups.to_vec() } else { whole };
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
    let of_database = |record: &BackupRecord| database.is_none_or(|name| record.database.as_str() == name);
    let mut found = select(records, |record| record.snapshot.starts_with(prefix) && of_database(record));
    if found.is_empty() {
        // The id of a snapshot that was rewritten since.
        let is_original =
            |record: &BackupRecord| record.original.as_deref().is_some_and(|id| id.starts_with(prefix));
        found = select(records, |record| is_original(record) && of_database(record));
    }
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
            let time = to_the_second(record.time);
            format!("{}  {time}  {} of {}", short(&record.id.0), record.database, record.target)
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

/// Returns a time without the fraction of its second, for messages.
pub(crate) fn to_the_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Returns the id as a person may type it.
pub fn short(id: &str) -> String {
    match id.split_once(':') {
        Some((snapshot, database)) => format!("{}:{database}", snapshot.get(..8).unwrap_or(snapshot)),
        None => id.get(..8).unwrap_or(id).to_owned(),
    }
}

fn nothing(reference: &Reference, records: &[BackupRecord], host: &str) -> OperationError {
    if let Some(oldest) = oldest(reference, records, host) {
        let message = match reference.moment {
            Moment::At(_) => "none is as old as that",
            Moment::Newest | Moment::Back(_) => "there are not so many",
        };
        let (id, time) = (short(&oldest.id.0), to_the_second(oldest.time));
        let hint = format!("the oldest is {id} of {time}; `backstay list` shows all");
        return OperationError::usage(format!("`{}` names no backup: {message}", reference.text), hint);
    }
    let databases: BTreeSet<flow::Text> = records.iter().map(|record| record.connection.clone()).collect();
    let hint = if databases.is_empty() {
        "nothing is listed: `backstay backup SOURCE` makes a backup; where there was one, `backstay check` tells what \
         is damaged"
            .to_owned()
    } else {
        let shown: Vec<_> = databases.iter().take(5).map(flow::Text::as_str).collect();
        format!("`backstay list` shows what there is; there are backups of {}", shown.join(", "))
    };
    OperationError::usage(format!("`{}` names no backup of this repository", reference.text), hint)
}

/// Returns the oldest backup of the database that a reference selects, whatever its moment.
fn oldest(reference: &Reference, records: &[BackupRecord], host: &str) -> Option<BackupRecord> {
    let at = |steps| find(records, reference, Moment::Back(steps), host).ok()?.pop();
    // So many steps back there is one; so many more there is none.
    let (mut there, mut none) = (0, u32::try_from(records.len()).unwrap_or(u32::MAX));
    let mut oldest = at(there)?;
    while none - there > 1 {
        let middle = there + (none - there) / 2;
        match at(middle) {
            Some(older) => (there, oldest) = (middle, older),
            None => none = middle,
        }
    }
    Some(oldest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flow::{EngineKind, Selection};
    use repository::BackupId;

    /// A backup of `/srv/app.db`; without an engine, as stock restic makes one of the same path.
    fn record(id: u8, target: &str, host: &str, engine: Option<EngineKind>) -> BackupRecord {
        let time = Timestamp::from_second(i64::from(id)).unwrap();
        BackupRecord {
            id: BackupId(format!("{id:064x}")),
            snapshot: format!("{id:064x}").into(),
            target: TargetName::new(target).unwrap(),
            database: DatabaseName::new("app.db").unwrap(),
            host: host.into(),
            engine,
            connection: "/srv/app.db".into(),
            time,
            changed: time,
            size_bytes: 1,
            added_bytes: 1,
            rows: None,
            selection: None,
            unchanged: false,
            proof: None,
            tags: vec![],
            lost: None,
            original: None,
            suspect: None,
        }
    }

    fn chosen(records: &[BackupRecord], selector: Selector, moment: Moment) -> Result<i64, String> {
        let reference = Reference { text: "asked".to_owned(), selector, moment };
        let found = resolve_one(records, &reference, "here");
        found.map(|record| record.time.as_second()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_snapshot_of_restic_never_stands_before_a_database_backup() {
        let ours = Some(EngineKind::Sqlite);
        let (path, place) = ("/srv/app.db", Selector::Place("/srv/app.db".to_owned()));
        let target = Selector::Target { target: TargetName::new(path).unwrap(), database: None };
        let records = [
            record(1, path, "here", None),
            record(2, path, "here", ours),
            record(3, path, "here", ours),
            record(4, path, "here", None),
        ];
        for selector in [place.clone(), target, Selector::Only] {
            assert_eq!(chosen(&records, selector.clone(), Moment::Newest), Ok(3), "{selector:?}");
            assert_eq!(chosen(&records, selector.clone(), Moment::Back(1)), Ok(2), "{selector:?}");
            let before = Moment::At(Timestamp::from_second(2).unwrap());
            assert_eq!(chosen(&records, selector.clone(), before), Ok(2), "{selector:?}");
            let too_early = Moment::At(Timestamp::from_second(1).unwrap());
            let error = chosen(&records, selector.clone(), too_early).unwrap_err();
            assert!(error.contains("none is as old as that"), "{error}");
            let error = chosen(&records, selector.clone(), Moment::Back(2)).unwrap_err();
            assert!(error.contains("there are not so many"), "{error}");
            let reference = Reference { text: String::new(), selector: selector.clone(), moment: too_early };
            let oldest = oldest(&reference, &records, "here").map(|record| record.time.as_second());
            assert_eq!(oldest, Some(2), "{selector:?}");
            let foreign = [records[0].clone(), records[3].clone()];
            assert_eq!(chosen(&foreign, selector.clone(), Moment::Newest), Ok(4), "{selector:?}");
        }
        let by_id = Selector::Id { prefix: records[3].snapshot.to_string(), database: None };
        assert_eq!(chosen(&records, by_id, Moment::Newest), Ok(4));
        // Not even one of this host before ours of another one.
        let moved = [record(1, path, "there", ours), record(2, path, "here", None)];
        assert_eq!(chosen(&moved, place, Moment::Newest), Ok(1));
    }

    #[test]
    fn a_part_is_meant_only_where_there_is_no_whole() {
        let ours = Some(EngineKind::Postgres);
        let part = |id| {
            let selection = Selection {
                content: flow::Content::Schema,
                tables: vec![],
                schemas: vec![],
                exclude_table_data: vec![],
            };
            BackupRecord { selection: Some(Box::new(selection)), ..record(id, "erp", "here", ours) }
        };
        let target = Selector::Target { target: TargetName::new("erp").unwrap(), database: None };
        let mut records = vec![part(1), part(3)];
        assert_eq!(chosen(&records, target.clone(), Moment::Newest), Ok(3));
        records.push(record(2, "erp", "here", ours));
        assert_eq!(chosen(&records, target.clone(), Moment::Newest), Ok(2));
        assert!(chosen(&records, target, Moment::Back(1)).is_err());
        let by_id = Selector::Id { prefix: records[1].snapshot.to_string(), database: None };
        assert_eq!(chosen(&records, by_id, Moment::Newest), Ok(3));
        assert_eq!(older(&records, &part(4)).len(), 2);
    }

    #[test]
    fn one_file_by_two_targets_is_one_database() {
        let ours = Some(EngineKind::Sqlite);
        let mut records = vec![record(1, "/srv/app.db", "here", ours), record(2, "/srv", "here", ours)];
        assert_eq!(chosen(&records, Selector::Only, Moment::Newest), Ok(2));
        assert_eq!(chosen(&records, Selector::Only, Moment::Back(1)), Ok(1));
        records.push(record(3, "/srv", "there", ours));
        let two = chosen(&records, Selector::Only, Moment::Newest).unwrap_err();
        assert!(two.contains("fits 2 backups") && two.contains("1970-01-01T00:00:03Z"), "{two}");
    }

    #[test]
    fn times_in_messages_end_with_the_second() {
        let time = "2026-11-21T02:00:05.123456789Z".parse().unwrap();
        assert_eq!(to_the_second(time).to_string(), "2026-11-21T02:00:05Z");
    }
}
