//! `databases.jsonl`: one line for each database of a snapshot. `list` and the next run read nothing else.

use crate::{BackupId, BackupRecord, Proof, ProofLevel};
use flow::{DatabaseName, EngineKind, Marks, NameError, Selection, TargetName, Text};
use jiff::Timestamp;
use memchr::memmem::Finder;
use restic::Id;
use serde::{Deserialize, Serialize};
use std::borrow::{Borrow, Cow};
use std::collections::HashSet;
use std::convert::Infallible;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// The file's name, at the root of each snapshot.
pub(super) const FILE: &str = "databases.jsonl";

/// The schema that lines of this version name.
pub(super) const SCHEMA: &str = "backstay.database/1";

/// One database of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// [`SCHEMA`].
    pub(super) schema: String,
    pub(super) target: TargetName,
    pub(super) database: DatabaseName,
    pub(super) connection: String,
    /// Null where the database failed.
    pub(super) engine: Option<EngineKind>,
    /// The folder with its entries and manifest; null where the database failed.
    pub(super) subtree: Option<Id>,
    /// `complete` or `failed`.
    pub(super) outcome: LineOutcome,
    /// Why it failed.
    pub(super) error: Option<String>,
    /// Consistency point of this run.
    pub(super) time: Timestamp,
    /// When the content last changed, as far as the runs tell.
    pub(super) changed: Timestamp,
    /// By what the next run knows it as unchanged.
    pub(super) marks: Option<Marks>,
    pub(super) size_bytes: u64,
    pub(super) read_bytes: u64,
    pub(super) added_bytes: u64,
    pub(super) rows: Option<u64>,
    pub(super) elapsed_ms: u64,
    /// The oldest moment at which a byte of it was last read back and found right.
    pub(super) proof_time: Timestamp,
    /// Whether it was complete once, and what it held is lost; then `outcome` is `failed`, `error` says why, and all
    /// else is as it was but for `subtree` and `marks`. Absent where it is not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) lost: bool,
    /// Why its content is suspect; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) suspect: Option<Vec<String>>,
    /// What of the database it holds; absent where that is all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) selection: Option<Box<Selection>>,
}

impl Line {
    /// Returns the backup's id.
    pub(super) fn id(&self, snapshot: &Id, alone: bool) -> BackupId {
        BackupId::of(&snapshot.to_string(), alone, self.database.as_str())
    }

    /// Returns the list's record for a self. The proof is that of the run; later ones are added by whoever knows them.
    pub(super) fn record(&self, snapshot: &Id, alone: bool, host: &str, tags: Vec<String>) -> BackupRecord {
        BackupRecord {
            id: self.id(snapshot, alone),
            snapshot: snapshot.to_string().into(),
            target: self.target.clone(),
            database: self.database.clone(),
            host: host.into(),
            engine: self.engine,
            connection: self.connection.as_str().into(),
            time: self.time,
            changed: self.changed,
            size_bytes: self.size_bytes,
            added_bytes: self.added_bytes,
            rows: self.rows,
            selection: self.selection.clone(),
            unchanged: self.changed < self.time,
            proof: Some(Proof { level: ProofLevel::Stored, time: self.proof_time }),
            tags,
            lost: None,
            original: None,
            suspect: self.suspect.clone(),
        }
    }
}

/// A line as a list needs it: without the marks, and borrowed from the file. What [`Line`] demands is demanded here.
#[derive(Debug, Deserialize)]
pub(super) struct ListedLine<'a> {
    #[serde(borrow, rename = "schema")]
    _schema: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) target: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) database: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) connection: Cow<'a, str>,
    pub(super) engine: Option<EngineKind>,
    pub(super) subtree: Option<Id>,
    pub(super) outcome: LineOutcome,
    #[serde(borrow)]
    pub(super) error: Option<Cow<'a, str>>,
    pub(super) time: Timestamp,
    pub(super) changed: Timestamp,
    pub(super) size_bytes: u64,
    #[serde(rename = "read_bytes")]
    _read_bytes: u64,
    pub(super) added_bytes: u64,
    pub(super) rows: Option<u64>,
    #[serde(rename = "elapsed_ms")]
    _elapsed_ms: u64,
    pub(super) proof_time: Timestamp,
    pub(super) suspect: Option<Vec<String>>,
    #[serde(default)]
    pub(super) selection: Option<Box<Selection>>,
    #[serde(default)]
    pub(super) lost: bool,
}

impl ListedLine<'_> {
    /// Returns the list's record, with the proof that is known by now. A name that no system can hold is damage.
    pub(super) fn record(&self, of: &Listing<'_>, proof: Option<Proof>) -> Result<BackupRecord, NameError> {
        Ok(BackupRecord {
            id: BackupId::of(&of.snapshot, of.alone, &self.database),
            snapshot: of.snapshot.clone(),
            target: of.names.target(&self.target)?,
            database: of.names.database(&self.database)?,
            host: of.host.clone(),
            engine: self.engine,
            connection: of.names.place(&self.connection),
            time: self.time,
            changed: self.changed,
            size_bytes: self.size_bytes,
            added_bytes: self.added_bytes,
            rows: self.rows,
            selection: self.selection.clone(),
            unchanged: self.changed < self.time,
            proof,
            tags: of.tags.to_vec(),
            lost: self.lost.then(|| self.error.clone().unwrap_or_default().into_owned()),
            original: of.original.map(str::to_owned),
            suspect: self.suspect.clone(),
        })
    }
}

/// What all backups of a snapshot have in common.
pub(super) struct Listing<'a> {
    pub(super) snapshot: Text,
    /// Whether the snapshot has one line.
    pub(super) alone: bool,
    pub(super) host: Text,
    pub(super) tags: &'a [String],
    /// The snapshot that this one is a rewritten copy of.
    pub(super) original: Option<&'a str>,
    pub(super) names: &'a Names,
}

/// The names that lists have in common: the same thousands in each of them, and here once.
#[derive(Default)]
pub(super) struct Names {
    targets: Mutex<HashSet<TargetName>>,
    databases: Mutex<HashSet<DatabaseName>>,
    places: Mutex<HashSet<Text>>,
}

impl Names {
    fn target(&self, name: &str) -> Result<TargetName, NameError> {
        one_of(&self.targets, name, |name| TargetName::new(name))
    }

    fn database(&self, name: &str) -> Result<DatabaseName, NameError> {
        one_of(&self.databases, name, |name| DatabaseName::new(name))
    }

    fn place(&self, place: &str) -> Text {
        one_of(&self.places, place, |place| Ok::<Text, Infallible>(place.into()))
            .unwrap_or_else(|no| match no {})
    }
}

fn one_of<T: Clone + Eq + Hash + Borrow<str>, E>(
    known: &Mutex<HashSet<T>>,
    text: &str,
    new: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, E> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(text) {
        return Ok(found.clone());
    }
    let made = new(text)?;
    known.insert(made.clone());
    Ok(made)
}

/// Which lines are taken apart: those that have a value under a key.
pub(super) struct Only {
    /// `"key":`, by which it is seen that a line was written as ours are.
    key: Finder<'static>,
    /// `"key":"value"`.
    pair: Finder<'static>,
}

impl Only {
    /// Takes a key and the value that it must have.
    pub(super) fn new(key: &str, value: &str) -> Self {
        let key = format!("{}:", serde_json::Value::from(key));
        let pair = format!("{key}{}", serde_json::Value::from(value));
        Self { key: Finder::new(&key).into_owned(), pair: Finder::new(&pair).into_owned() }
    }

    /// Tells whether a line may be meant. One that writes its keys in another way is taken apart to be sure.
    fn may_be(&self, line: &[u8]) -> bool {
        self.pair.find(line).is_some() || self.key.find(line).is_none()
    }
}

/// Reads those lines that are meant, as [`read`] does.
pub(super) fn read_only(content: &[u8], only: &Only) -> Result<Vec<Line>, serde_json::Error> {
    each(content).filter(|line| only.may_be(line)).map(serde_json::from_slice).collect()
}

/// Returns how many lines a file has.
pub(super) fn count(content: &[u8]) -> usize {
    each(content).count()
}

fn each(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut begin = 0;
    let ends = memchr::memchr_iter(b'\n', content).chain([content.len()]);
    let lines = ends.map(move |end| {
        let line = content.get(begin..end).unwrap_or_default();
        begin = end + 1;
        line
    });
    lines.filter(|line| !line.is_empty())
}

/// Reads the file line by line, as [`read`] does, and keeps none. Lines that are not meant are passed over unread.
pub(super) fn scan<'a, E: From<serde_json::Error>>(
    content: &'a [u8],
    only: Option<&Only>,
    mut take: impl FnMut(ListedLine<'a>) -> Result<(), E>,
) -> Result<(), E> {
    for line in each(content).filter(|line| only.is_none_or(|only| only.may_be(line))) {
        take(serde_json::from_slice(line)?)?;
    }
    Ok(())
}

impl Line {
    /// Makes this the line of a backup that is lost.
    pub(super) fn lose(&mut self, reason: &str) {
        self.outcome = LineOutcome::Failed;
        self.error = Some(reason.to_owned());
        self.lost = true;
        self.subtree = None;
        self.marks = None;
    }
}

/// What became of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LineOutcome {
    /// It is backed up.
    Complete,
    /// It is not.
    Failed,
}

/// Writes the file: lines in the order given, which is that of the databases' names.
pub(super) fn write(lines: &[Line]) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut out, line)?;
        out.push(b'\n');
    }
    Ok(out)
}

/// Reads the file. Fields of later versions are passed over; a line that lacks a field of this one is an error.
pub(super) fn read(content: &[u8]) -> Result<Vec<Line>, serde_json::Error> {
    content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an earlier release wrote, to the byte. A change here is a change of FORMAT.md.
    const GOLDEN: &str = r#"{"schema":"backstay.database/1","target":"shops","database":"acme","connection":"/srv/shops/acme.db","engine":"sqlite","subtree":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824","outcome":"complete","error":null,"time":"2026-11-20T02:00:00Z","changed":"2026-11-19T02:00:00Z","marks":{"read_at":"2026-11-20T02:00:00Z","value":{"size":4096}},"size_bytes":4096,"read_bytes":0,"added_bytes":0,"rows":7,"elapsed_ms":1,"proof_time":"2026-11-19T02:00:01Z"}
"#;

    #[test]
    fn lines_of_an_earlier_release_are_read_and_written_the_same() -> Result<(), serde_json::Error> {
        let lines = read(GOLDEN.as_bytes())?;
        assert_eq!(lines.len(), 1);
        assert_eq!(String::from_utf8_lossy(&write(&lines)?), GOLDEN);
        Ok(())
    }

    #[test]
    fn a_suspicion_is_kept_and_is_absent_where_there_is_none() -> Result<(), serde_json::Error> {
        let mut lines = read(GOLDEN.as_bytes())?;
        lines[0].suspect = Some(vec!["every table is empty".to_owned()]);
        let written = write(&lines)?;
        let expected = GOLDEN.replace("01Z\"}", "01Z\",\"suspect\":[\"every table is empty\"]}");
        assert_eq!(String::from_utf8_lossy(&written), expected);
        assert_eq!(read(&written)?, lines);
        Ok(())
    }

    #[test]
    fn only_the_lines_that_are_meant_are_taken_apart() -> Result<(), serde_json::Error> {
        let odd = GOLDEN.replace("acme", "a\\\"b");
        let spaced = GOLDEN.replace("\"database\":", "\"database\" : ");
        let content = format!("{GOLDEN}{odd}{spaced}");
        assert_eq!(count(content.as_bytes()), 3);
        let found = |only: Option<Only>| -> Result<Vec<String>, serde_json::Error> {
            let mut found = Vec::new();
            scan(content.as_bytes(), only.as_ref(), |line| {
                found.push(line.database.into_owned());
                Ok::<(), serde_json::Error>(())
            })?;
            Ok(found)
        };
        assert_eq!(found(None)?, ["acme", "a\"b", "acme"]);
        assert_eq!(found(Some(Only::new("database", "acme")))?, ["acme", "acme"]);
        assert_eq!(found(Some(Only::new("database", "a\"b")))?, ["a\"b", "acme"], "the last one to be sure");
        assert_eq!(found(Some(Only::new("database", "acm")))?, ["acme"]);
        let broken = content.replace("\"size_bytes\":4096,", "");
        assert!(scan(broken.as_bytes(), None, |_| Ok::<(), serde_json::Error>(())).is_err());
        Ok(())
    }

    #[test]
    fn a_later_field_is_passed_over_and_a_missing_one_is_an_error() {
        let later = GOLDEN.replace("{\"schema\"", "{\"later\":[1],\"schema\"");
        assert!(read(later.as_bytes()).is_ok_and(|lines| lines.len() == 1));
        assert!(
            read(GOLDEN.replace("\"rows\":7,", "").as_bytes()).is_ok_and(|lines| lines[0].rows.is_none())
        );
        assert!(read(GOLDEN.replace("\"size_bytes\":4096,", "").as_bytes()).is_err());
    }
}
