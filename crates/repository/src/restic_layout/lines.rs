//! `databases.jsonl`: one line for each database of a snapshot. `list` and the next run read nothing else.

use crate::{BackupId, BackupRecord, Proof, ProofLevel};
use flow::{DatabaseName, EngineKind, Marks, TargetName};
use jiff::Timestamp;
use restic::Id;
use serde::{Deserialize, Serialize};

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
    /// Why its content is suspect; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) suspect: Option<Vec<String>>,
}

impl Line {
    /// Returns the backup's id.
    pub(super) fn id(&self, snapshot: &Id, alone: bool) -> BackupId {
        BackupId(if alone { snapshot.to_string() } else { format!("{snapshot}:{}", self.database) })
    }

    /// Returns the list's record for a self. The proof is that of the run; later ones are added by whoever knows them.
    pub(super) fn record(&self, snapshot: &Id, alone: bool, host: &str, tags: Vec<String>) -> BackupRecord {
        BackupRecord {
            id: self.id(snapshot, alone),
            snapshot: snapshot.to_string(),
            target: self.target.clone(),
            database: self.database.clone(),
            host: host.to_owned(),
            engine: self.engine,
            connection: self.connection.clone(),
            time: self.time,
            changed: self.changed,
            size_bytes: self.size_bytes,
            added_bytes: self.added_bytes,
            rows: self.rows,
            unchanged: self.changed < self.time,
            proof: Some(Proof { level: ProofLevel::Stored, time: self.proof_time }),
            tags,
            suspect: self.suspect.clone(),
        }
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
    fn a_later_field_is_passed_over_and_a_missing_one_is_an_error() {
        let later = GOLDEN.replace("{\"schema\"", "{\"later\":[1],\"schema\"");
        assert!(read(later.as_bytes()).is_ok_and(|lines| lines.len() == 1));
        assert!(
            read(GOLDEN.replace("\"rows\":7,", "").as_bytes()).is_ok_and(|lines| lines[0].rows.is_none())
        );
        assert!(read(GOLDEN.replace("\"size_bytes\":4096,", "").as_bytes()).is_err());
    }
}
