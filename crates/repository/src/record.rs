//! The values that cross the seam between operations and a repository.

use flow::{DatabaseName, EngineKind, Facts, Selection, TargetName, Text};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The tag of what was brought in from files of other tools. It says nothing of what a target is now.
pub const IMPORTED_TAG: &str = "imported";

/// The id of a backup: its snapshot's where that holds one database, else `SNAPSHOT:DATABASE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackupId(pub String);

impl BackupId {
    /// Returns the id of a database's backup in a snapshot, which it has for itself (`alone`) or not.
    pub fn of(snapshot: &str, alone: bool, database: &str) -> Self {
        Self(if alone { snapshot.to_owned() } else { format!("{snapshot}:{database}") })
    }

    /// Returns the snapshot that holds it.
    pub fn snapshot(&self) -> &str {
        self.0.split_once(':').map_or(self.0.as_str(), |(snapshot, _)| snapshot)
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a backup is proven. Ordered: a later one includes the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofLevel {
    /// The source ended cleanly and the manifest is written.
    Recorded,
    /// Every byte was read back and its hash matched.
    Stored,
    /// It was restored into a scratch database.
    Restorable,
    /// The restored content is the backed-up content.
    Equal,
    /// The user's own checks passed on it.
    Usable,
}

impl fmt::Display for ProofLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ProofLevel::Recorded => "recorded",
            ProofLevel::Stored => "stored",
            ProofLevel::Restorable => "restorable",
            ProofLevel::Equal => "equal",
            ProofLevel::Usable => "usable",
        })
    }
}

/// A proof level and since when it holds: the oldest moment at which a byte of the backup was last seen to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// How far.
    pub level: ProofLevel,
    /// As of when.
    pub time: Timestamp,
}

/// What a list says of one backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// Its id.
    pub id: BackupId,
    /// The snapshot that holds it.
    pub snapshot: Text,
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: DatabaseName,
    /// The host whose run it was.
    pub host: Text,
    /// The engine; `None` for files that stock restic stored.
    pub engine: Option<EngineKind>,
    /// Where the database was.
    pub connection: Text,
    /// The run's consistency point.
    pub time: Timestamp,
    /// When the content last changed, as far as the runs tell.
    pub changed: Timestamp,
    /// Size of all entries.
    pub size_bytes: u64,
    /// What this run added to the repository for it.
    pub added_bytes: u64,
    /// Rows of all tables, where they were counted.
    pub rows: Option<u64>,
    /// What of the database it holds; `None` for all of it. One with a selection is retained, and measured, among those
    /// with the same alone.
    pub selection: Option<Box<Selection>>,
    /// Whether this run took the previous backup as it was.
    pub unchanged: bool,
    /// How far it is proven; `None` where a verify or check found it damaged or it is not ours.
    pub proof: Option<Proof>,
    /// The snapshot's tags that are not ours.
    pub tags: Vec<String>,
    /// Why it can never be restored again: what it held was damaged, and no later backup brought it back. It is listed
    /// so that nobody misses it in silence, is `suspect` and has no proof.
    pub lost: Option<String>,
    /// The snapshot that its snapshot is a rewritten copy of: its backups are found by that id too.
    pub original: Option<String>,
    /// Why its content is suspect: it lost so much against the last good backup that somebody should look. `None` where
    /// it is not, or was accepted. One that is suspect does not count for retention.
    pub suspect: Option<Vec<String>>,
}

impl BackupRecord {
    /// Tells whether it was brought in from a file of another tool: then it says nothing of what the database is now.
    pub fn is_imported(&self) -> bool {
        self.tags.iter().any(|tag| tag == IMPORTED_TAG)
    }
}

/// Which backups of a repository are asked for. A repository may hold hundreds of thousands: what is not asked for is
/// not even taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All.
    All,
    /// Those of a target.
    Target(TargetName),
    /// Those of one database of a target.
    Database(TargetName, DatabaseName),
    /// Those of what was at a place: of the target of that name, and of databases with that connection.
    Place(String),
    /// Those of the snapshots whose ids, or whose originals' ids, begin with these digits.
    Snapshot(String),
}

impl Wanted {
    /// Tells whether a backup is asked for.
    pub fn fits(&self, record: &BackupRecord) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Target(target) => record.target == *target,
            Wanted::Database(target, name) => record.target == *target && record.database == *name,
            Wanted::Place(place) => record.target.as_str() == place || record.connection == *place,
            Wanted::Snapshot(digits) => {
                let ids = [Some(record.snapshot.as_str()), record.original.as_deref()];
                ids.into_iter().flatten().any(|id| id.starts_with(digits))
            }
        }
    }
}

/// A proof record, as it is kept in the repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProofRecord {
    /// The backup.
    pub backup: BackupId,
    /// When it was tried.
    pub time: Timestamp,
    /// How far it was proven; `None` where it was found damaged.
    pub level: Option<ProofLevel>,
    /// What was found, where it was found damaged.
    pub problem: Option<String>,
    /// The packs that were found damaged: their ids. What they hold is stored anew by whoever needs it, until a newer
    /// record of the backup finds it whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged_packs: Vec<String>,
    /// The host that tried.
    pub host: String,
    /// Rows of each table as counted then, by table; empty where nobody counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, u64>,
}

/// That a pack was found damaged, as it is kept in the repository: nothing new relies on it until it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRecord {
    /// The pack's id.
    pub pack: String,
    /// When it was found, or was gone.
    pub time: Timestamp,
    /// Whether it is damaged and still there; false once it is gone.
    pub damaged: bool,
}

/// That a snapshot needs what no pack holds any more, as it is kept in the repository. The next backup of its target
/// brings back what the source still has, and settles it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossRecord {
    /// The snapshot's id.
    pub snapshot: String,
    /// When it was found, or settled.
    pub time: Timestamp,
    /// What was found; `None` once it is settled.
    pub problem: Option<String>,
}

/// A configuration that backups were made by, as it is kept in the repository. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationRecord {
    /// The host on which it lay.
    pub host: String,
    /// Its path there.
    pub file: String,
    /// When it was stored.
    pub time: Timestamp,
    /// Its text.
    pub text: String,
    /// The name that it gives this repository; `None` where it gives none.
    #[serde(default)]
    pub repository: Option<String>,
    /// The key file outside of it by which the repository opened there; `None` where the configuration names one, or none
    /// was used.
    #[serde(default)]
    pub key_file: Option<String>,
}

/// That a backup marked as suspect is as its owner wants it, as it is kept in the repository. It holds for every backup
/// of the same content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptanceRecord {
    /// The backup.
    pub backup: BackupId,
    /// When it was accepted.
    pub time: Timestamp,
    /// The host on which.
    pub host: String,
    /// The user who.
    pub user: String,
}

/// The backup that a database's new content is measured by.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// Its id.
    pub backup: BackupId,
    /// Its consistency point.
    pub time: Timestamp,
    /// The facts of its content.
    pub facts: Facts,
}

/// The newest backup of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastBackup {
    /// Its id.
    pub backup: BackupId,
    /// Its consistency point.
    pub time: Timestamp,
}

/// What the recent runs of a target found: the 20 newest runs of the whole target, fewer where there are very many
/// databases, and the runs of one database between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecentRuns {
    /// When the newest run of the whole target was; `None` where there was none.
    pub full_run: Option<Timestamp>,
    /// The databases that it found, failed ones too, and those of later runs of one.
    pub newest: BTreeSet<DatabaseName>,
    /// The newest backup of each database of all these runs.
    pub backups: BTreeMap<DatabaseName, LastBackup>,
}

/// How far the last check came that read a part of the packs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// When it was made.
    pub time: Timestamp,
    /// On which host.
    pub host: String,
    /// The id of the last pack that it read; the next check reads those behind it.
    pub read_until: String,
}

/// Somebody saw that a copy of a key, kept elsewhere, opens the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmationRecord {
    /// The id of the key.
    pub key: String,
    /// When that was.
    pub time: Timestamp,
    /// On which host.
    pub host: String,
}

/// A lock that lies in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRecord {
    /// Its id.
    pub id: String,
    /// Who holds it; `None` where it cannot be read.
    pub holder: Option<LockHolder>,
    /// Why it no longer counts; `None` where it does, or nobody can tell.
    pub stale: Option<String>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// The host.
    pub host: String,
    /// The user.
    pub user: String,
    /// The process on that host.
    pub pid: u32,
    /// When it was taken or last refreshed.
    pub time: Timestamp,
    /// Whether it lets nobody else in.
    pub exclusive: bool,
}

/// What a repository takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// How many packs are stored.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Bytes of everything that is stored.
    pub all_bytes: u64,
    /// How many different blobs of content there are.
    pub data_blobs: u64,
    /// Bytes of that content, before compression.
    pub data_bytes: u64,
    /// How many different folders there are.
    pub tree_blobs: u64,
    /// Bytes of folders, before compression.
    pub tree_bytes: u64,
    /// Bytes of all these as they are stored, each once.
    pub blob_bytes: u64,
    /// What is free where it lies, where that can be told.
    pub free_bytes: Option<u64>,
}

/// What a new snapshot is to hold.
#[derive(Debug, Clone)]
pub struct SnapshotRequest {
    /// The target.
    pub target: TargetName,
    /// The one database of the target that the run is of; `None` for a run of the whole target. A run of one says
    /// nothing of the others.
    pub only: Option<DatabaseName>,
    /// The plan, where there is one.
    pub plan: Option<String>,
    /// What of each database it holds, where that is not all.
    pub selection: Option<Selection>,
    /// The host that runs it.
    pub host: String,
    /// The user that runs it.
    pub user: String,
    /// Further tags.
    pub tags: Vec<String>,
    /// The moment of the run; of what is brought in from files, the moment that the file shows.
    pub time: Timestamp,
}

/// What became of one database of a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenDatabase {
    /// The backup as a list will show it.
    pub record: BackupRecord,
    /// Bytes that were read of the source.
    pub read_bytes: u64,
    /// How long reading it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// What a snapshot came to.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotReport {
    /// Its id.
    pub snapshot: String,
    /// Its databases, in the order of their names.
    pub databases: Vec<WrittenDatabase>,
    /// Bytes that the run added to the repository, in all.
    pub added_bytes: u64,
}

/// How deep a check looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckDepth {
    /// Structure: everything that a snapshot needs is there.
    Structure,
    /// Every byte too.
    Data,
    /// Every byte of a part of what is stored: those packs that earlier such checks left longest.
    Share {
        /// How much of the bytes: hundredths of a percent, 10,000 for all.
        hundredths: u32,
    },
}

/// How a repository is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealRequest {
    /// How deep to look.
    pub depth: CheckDepth,
    /// Whether to tell only.
    pub dry_run: bool,
    /// Whether what is missing is gone for good, however much it is: else more than a little is taken for a storage
    /// that is away, and refused.
    pub accept_missing: bool,
}

/// Something damaged, and the backups that it affects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Damage {
    /// The object: `pack 3fa1…`, `index …`, `snapshot …`, `tree …`, `blob …`.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// The backups that cannot be restored whole because of it.
    pub backups: Vec<BackupId>,
    /// The ids of the packs that are damaged, as far as they are known.
    #[serde(skip)]
    pub packs: Vec<String>,
}

/// A snapshot that is there and cannot be listed, because what says which backups it holds is damaged. What is null is
/// not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlisted {
    /// Its full id.
    pub snapshot: String,
    /// Whose backups it holds.
    pub target: Option<TargetName>,
    /// Where they were made.
    pub host: Option<String>,
    /// When its run began.
    pub time: Option<Timestamp>,
    /// What is wrong with it.
    pub problem: String,
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// What is damaged.
    pub errors: Vec<Damage>,
    /// What is odd but harmless: packs that no index names, leftovers.
    pub remarks: Vec<String>,
    /// How many snapshots were looked at.
    pub snapshots: u64,
    /// How many packs were looked at.
    pub packs: u64,
    /// How many bytes were read.
    pub read_bytes: u64,
    /// How many packs were read.
    pub read_packs: u64,
    /// Where a part was read: whether it goes on where the check before it ended; else it begins anywhere.
    pub rotating: Option<bool>,
}

/// What is done about a damaged object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealAction {
    /// The object: `pack 3fa1…`, `index …`, `snapshot …`.
    pub object: String,
    /// What is done about it.
    pub action: String,
}

/// What a heal came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealReport {
    /// What was found before anything was changed.
    pub found: CheckReport,
    /// What was done, or would be.
    pub actions: Vec<HealAction>,
    /// The backups that still need what no pack holds: until the next backup of their source brings it back. Of a dry
    /// run those that need what is damaged.
    pub affected: Vec<BackupId>,
    /// The snapshots that are gone, since nobody can read what they said.
    pub removed_snapshots: Vec<String>,
}

/// What became of backups that a heal left unsettled, after a new backup of their target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// Backups whose every byte is there again, and was read back.
    pub healed: Vec<BackupId>,
    /// Backups that are lost: their ids as they are listed now, and why.
    pub lost: Vec<(BackupId, String)>,
}

/// What a verification of one backup came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// What is damaged; empty where all is well.
    pub errors: Vec<Damage>,
    /// Bytes of content that were read and found right.
    pub read_bytes: u64,
}

/// A file of a snapshot that stock restic wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its path in the snapshot, with `/` in front. Never holds `.` or `..` as a part.
    pub path: String,
    /// What it is: `file`, `dir`, `symlink`, or what else restic stored.
    pub kind: String,
    /// Its length.
    pub size_bytes: u64,
    /// Its permission bits.
    pub mode: u32,
    /// When it was modified.
    pub modified: Option<Timestamp>,
    /// Where it points, where it is a symbolic link.
    pub link_target: Option<String>,
}
