//! What retention looks at, and what it says of it.
//!
//! There may be hundreds of thousands of backups: what those of one database have in common is there once.

use super::reason::Reason;
use crate::BackupId;
use flow::{DatabaseName, TargetName, Text};
use jiff::Timestamp;
use std::sync::Arc;

/// Whose backup it is: the same for all that one host made of a database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
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
}

/// A backup that retention may decide on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Whose it is.
    pub origin: Arc<Origin>,
    /// The snapshot that holds it, which goes or stays as a whole.
    pub snapshot: Text,
    /// Whether the snapshot holds nothing else.
    pub alone: bool,
    /// The consistency point.
    pub time: Timestamp,
    /// How large it is when it is restored.
    pub size_bytes: u64,
    /// Whether its every byte was read back and found right, and nobody found it damaged since.
    pub proven: bool,
    /// Whether its content looks wrong, and nobody said yet that it is as it should be.
    pub suspect: bool,
    /// Whether it was brought in from a file of another tool, which says nothing of what the database is now.
    pub imported: bool,
}

/// What a backup may stand for when others go. A later one stands for none of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// A run made it, it is proven, and nothing about it looks wrong.
    Good,
    /// It was imported, and is as good as that.
    Imported,
    /// It is suspect, damaged or not proven.
    Doubtful,
}

impl Rank {
    pub(super) const ALL: [Rank; 3] = [Rank::Good, Rank::Imported, Rank::Doubtful];
}

impl Candidate {
    /// Returns its id.
    pub fn id(&self) -> BackupId {
        BackupId::of(&self.snapshot, self.alone, self.origin.database.as_str())
    }

    pub(super) fn rank(&self) -> Rank {
        match (self.proven && !self.suspect, self.imported) {
            (false, _) => Rank::Doubtful,
            (true, true) => Rank::Imported,
            (true, false) => Rank::Good,
        }
    }

    /// Tells whether it may stand for others that go.
    pub(super) fn is_good(&self) -> bool {
        self.rank() <= Rank::Imported
    }
}

/// What becomes of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The backup.
    pub backup: Candidate,
    /// Whether it stays.
    pub kept: bool,
    /// Why; never empty. The same few are shared by all of a decision.
    pub reasons: Arc<[Reason]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_hundreds_of_thousands_each_takes_little() {
        assert!(size_of::<Candidate>() <= 56, "{}", size_of::<Candidate>());
        assert!(size_of::<Verdict>() <= 80, "{}", size_of::<Verdict>());
    }
}
