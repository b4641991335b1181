//! What retention looks at, and what it says of it.

use super::reason::Reason;
use crate::BackupId;
use flow::{DatabaseName, TargetName, Text};
use jiff::Timestamp;
use std::sync::Arc;

/// A backup that retention may decide on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: BackupId,
    /// The snapshot that holds it, which goes or stays as a whole.
    pub snapshot: Text,
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: DatabaseName,
    /// The host whose run it was.
    pub host: Text,
    /// Where the database was.
    pub connection: Text,
    /// The plan that made it.
    pub plan: Option<Text>,
    /// What of the database it holds, in words; `None` for all of it.
    pub selection: Option<Text>,
    /// The consistency point.
    pub time: Timestamp,
    /// How large it is when it is restored.
    pub size_bytes: u64,
    /// Whether its every byte was read back and found right, and nobody found it damaged since.
    pub proven: bool,
    /// Whether its content looks wrong, and nobody said yet that it is as it should be.
    pub suspect: bool,
}

impl Candidate {
    /// Tells whether it may stand for others that go.
    pub(super) fn is_good(&self) -> bool {
        self.proven && !self.suspect
    }
}

/// What becomes of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The backup.
    pub backup: Arc<Candidate>,
    /// Whether it stays.
    pub kept: bool,
    /// Why; never empty.
    pub reasons: Vec<Reason>,
}
