//! The seam between operations and a layout.

use crate::RepositoryError;
use flow::{
    BackupReader, Context, DatabaseName, DatabaseRef, Dumped, EngineKind, EntryName, OpenPart, PartRef,
    Previous, ReadError, SourceError, TargetName,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::sync::Arc;

/// The id of a backup: its snapshot's where that holds one database, else `SNAPSHOT:DATABASE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackupId(pub String);

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
    pub snapshot: String,
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: DatabaseName,
    /// The host whose run it was.
    pub host: String,
    /// The engine; `None` for files that stock restic stored.
    pub engine: Option<EngineKind>,
    /// Where the database was.
    pub connection: String,
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
    /// Whether this run took the previous backup as it was.
    pub unchanged: bool,
    /// How far it is proven; `None` where a verify found it damaged or it is not ours.
    pub proof: Option<Proof>,
    /// The snapshot's tags that are not ours.
    pub tags: Vec<String>,
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
    /// The host that tried.
    pub host: String,
    /// Rows of each table as counted then, by table; empty where nobody counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, u64>,
}

/// What a new snapshot is to hold.
#[derive(Debug, Clone)]
pub struct SnapshotRequest {
    /// The target.
    pub target: TargetName,
    /// The plan, where there is one.
    pub plan: Option<String>,
    /// The host that runs it.
    pub host: String,
    /// The user that runs it.
    pub user: String,
    /// Further tags.
    pub tags: Vec<String>,
    /// The moment of the run.
    pub time: Timestamp,
}

/// A part could not be stored: one side or the other failed.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// The source failed: fatal for that database.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The repository failed: fatal for the run.
    #[error(transparent)]
    Write(#[from] RepositoryError),
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

/// The files of a snapshot that stock restic wrote.
pub trait StoredFiles: Send + Sync {
    /// Returns the files, folders before what is in them.
    fn files(&self) -> &[StoredFile];

    /// Returns a reader of the content of the file of that index. Verified as [`BackupReader::read`] is.
    fn read(&self, index: usize) -> Result<Box<dyn Read + Send>, ReadError>;
}

/// A place that keeps backups, open.
pub trait Repository: Send + Sync {
    /// Returns the repository's own id.
    fn id(&self) -> &str;

    /// Returns where it is, without secrets.
    fn location(&self) -> String;

    /// Lists the backups, oldest first, of one target or of all. Those of failed databases are not listed.
    fn backups(
        &self,
        target: Option<&TargetName>,
        context: &Context,
    ) -> Result<Vec<BackupRecord>, RepositoryError>;

    /// Opens a backup by its full id.
    fn open(&self, id: &BackupId, context: &Context) -> Result<Arc<dyn BackupReader>, RepositoryError>;

    /// Opens the files of any snapshot, by its full id: for those that stock restic wrote.
    fn files(&self, snapshot: &str, context: &Context) -> Result<Box<dyn StoredFiles>, RepositoryError>;

    /// Returns what is known of the previous backup of each database of a target taken by this host, where its every
    /// blob is indexed.
    fn previous(
        &self,
        target: &TargetName,
        host: &str,
        context: &Context,
    ) -> Result<BTreeMap<DatabaseName, Previous>, RepositoryError>;

    /// Begins a snapshot. Nothing is visible before its `commit`.
    fn begin(
        &self,
        request: SnapshotRequest,
        context: &Context,
    ) -> Result<Box<dyn SnapshotWriter>, RepositoryError>;

    /// Reads a backup's every byte back and compares it.
    fn verify(&self, id: &BackupId, context: &Context) -> Result<VerifyReport, RepositoryError>;

    /// Checks the repository as a whole.
    fn check(&self, depth: CheckDepth, context: &Context) -> Result<CheckReport, RepositoryError>;

    /// Returns the proof records of all writers.
    fn proofs(&self, context: &Context) -> Result<Vec<ProofRecord>, RepositoryError>;

    /// Adds proof records; durable when it returns.
    fn append_proofs(&self, records: Vec<ProofRecord>, context: &Context) -> Result<(), RepositoryError>;
}

/// A snapshot being written. All calls may come from any thread. Dropped, nothing of it becomes visible; blobs that
/// were stored and indexed are used by the next run.
pub trait SnapshotWriter: Send + Sync {
    /// Stores a part. Returns once all of it is cut and hashed; a source error leaves the database without it.
    fn part(&self, part: OpenPart) -> Result<(), PartError>;

    /// Takes a part of the previous backup as it is.
    fn reuse(&self, part: PartRef) -> Result<(), RepositoryError>;

    /// Takes the whole previous backup of a database as it is.
    fn unchanged(&self, database: &DatabaseRef, dumped: Dumped) -> Result<(), RepositoryError>;

    /// Closes a database: every entry's parts must be there, without gap or surplus, with the sizes that their
    /// producers told.
    fn done(&self, database: &DatabaseRef, dumped: Dumped) -> Result<(), RepositoryError>;

    /// Forgets what was stored of a database, with the reason that the snapshot keeps of it.
    fn discard(&self, database: &DatabaseRef, reason: &str);

    /// Returns the size so far of an entry of a database, for progress.
    fn entry_bytes(&self, database: &DatabaseRef, entry: &EntryName) -> u64;

    /// Makes all durable, confirms what was written, and writes the snapshot. Databases that were neither done nor
    /// unchanged nor discarded make it fail. A snapshot without any database is refused.
    fn commit(self: Box<Self>) -> Result<SnapshotReport, RepositoryError>;
}
