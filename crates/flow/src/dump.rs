//! Taking a backup: an engine gives, workers pull.

use crate::{
    DatabaseRef, Digest128, EntryName, Facts, Layout, Manifest, Marks, ReadError, Selection, SourceError,
    TargetRef,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What to back up, and how. Holds nothing that only one host could resolve but the connections themselves.
#[derive(Debug, Clone)]
pub struct DumpRequest {
    /// The target.
    pub target: TargetRef,
    /// Which of its databases, each with what is known of its previous backup.
    pub databases: Vec<DatabaseRequest>,
    /// How.
    pub options: DumpOptions,
}

/// One database of a request.
#[derive(Debug, Clone)]
pub struct DatabaseRequest {
    /// The database.
    pub database: DatabaseRef,
    /// Its previous backup of the same request, whose every blob is known to be indexed.
    pub previous: Option<Previous>,
}

/// What is known of a database's previous backup. A target may have thousands of them, most of them unchanged: its
/// manifest is read when somebody asks for it.
#[derive(Clone)]
pub struct Previous {
    /// The marks that it left.
    pub marks: Marks,
    manifest: Arc<LoadManifest>,
}

type LoadManifest = dyn Fn() -> Result<Arc<Manifest>, ReadError> + Send + Sync;

impl Previous {
    /// Takes marks, and how the manifest is read.
    pub fn new(
        marks: Marks,
        manifest: impl Fn() -> Result<Arc<Manifest>, ReadError> + Send + Sync + 'static,
    ) -> Self {
        Self { marks, manifest: Arc::new(manifest) }
    }

    /// Takes marks, and a manifest that is there already.
    pub fn of(marks: Marks, manifest: Arc<Manifest>) -> Self {
        Self::new(marks, move || Ok(Arc::clone(&manifest)))
    }

    /// Reads its manifest, for cuts, part boundaries and part facts; anew with each call. One that cannot be read is
    /// no reason to fail: the database is read as if it had no previous backup.
    pub fn manifest(&self) -> Result<Arc<Manifest>, ReadError> {
        (self.manifest)()
    }
}

impl fmt::Debug for Previous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Previous").field("marks", &self.marks).finish_non_exhaustive()
    }
}

/// How a dump is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpOptions {
    /// Reads what seems unchanged too.
    pub read_all: bool,
    /// How many parts may be open at once. Never changes what is stored.
    pub jobs: usize,
    /// How long to wait for a lock that somebody else holds.
    pub lock_wait: Duration,
    /// What of each database is read; `None` for all of it. An engine that has no such selections refuses.
    pub selection: Option<Selection>,
}

impl Default for DumpOptions {
    fn default() -> Self {
        Self { read_all: false, jobs: 2, lock_wait: Duration::from_secs(60), selection: None }
    }
}

/// A running dump. Work is pulled: any worker asks for the next piece; a sequential source blocks until it has one,
/// and wakes on cancel. A worker finishes its part before it asks again. The engine decides order and connection
/// limits. Dropping a dump ends its children and its locks, and leaves nothing behind.
pub trait Dump: Send + Sync {
    /// Returns the next piece of work, or `None` when there is none left for anybody. Every database of the request
    /// gets exactly one [`Step::Done`] or [`Step::Unchanged`], after all of its parts were given **and** read to their
    /// end; a `Done` is not returned while a part of its database is still open elsewhere.
    fn next(&self) -> Result<Option<Step>, SourceError>;

    /// Gives the verdict on the source as a whole. Nothing may be kept of a dump whose `finish` failed.
    fn finish(self: Box<Self>) -> Result<(), SourceError>;
}

/// One piece of a dump.
#[allow(clippy::large_enum_variant, reason = "one at a time, and passed on at once")]
pub enum Step {
    /// A part to be read and stored. The same database, entry and index again replaces the earlier one.
    Part(OpenPart),
    /// This part of the previous backup is taken as it is: its blobs and its facts.
    Reuse(PartRef),
    /// The whole previous backup of this database is taken as it is.
    Unchanged(DatabaseRef, Unchanged),
    /// The verdict on one database. One that fails takes no other with it.
    Done(DatabaseRef, Result<Dumped, SourceError>),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Part(part) => write!(f, "Part({}, {}, {})", part.database, part.entry, part.index),
            Step::Reuse(part) => f.debug_tuple("Reuse").field(part).finish(),
            Step::Unchanged(database, _) => f.debug_tuple("Unchanged").field(database).finish(),
            Step::Done(database, verdict) => write!(f, "Done({database}, {})", verdict.is_ok()),
        }
    }
}

/// A database that shows itself as its previous backup left it.
#[derive(Debug, Clone, PartialEq)]
pub struct Unchanged {
    /// By what the next run knows it as unchanged: fresh marks.
    pub marks: Marks,
    /// How long the look at it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// A part that is ready to be read.
pub struct OpenPart {
    /// The database it belongs to.
    pub database: DatabaseRef,
    /// The entry it belongs to.
    pub entry: EntryName,
    /// The layout of that entry; the same for all its parts.
    pub layout: Layout,
    /// Its place among the parts of the entry, from 0 without gaps.
    pub index: u32,
    /// Its bytes.
    pub reader: Box<dyn PartReader>,
}

/// A part of the previous backup, taken as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRef {
    /// The database it belongs to.
    pub database: DatabaseRef,
    /// The entry it belongs to, by the same name in both backups.
    pub entry: EntryName,
    /// The layout of that entry.
    pub layout: Layout,
    /// Its place in this backup.
    pub index: u32,
    /// Its place in the previous backup.
    pub previous_index: u32,
}

/// The bytes of one part. Dropped unfinished, its database failed.
pub trait PartReader: Send {
    /// Fills the front of `buffer` and returns how much; 0 at the end of the part.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError>;

    /// Gives the producer's verdict on the part. A stream that ended is not a stream that succeeded.
    fn finish(self: Box<Self>) -> Result<PartFacts, SourceError>;
}

/// What is known of a part once it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartFacts {
    /// How many bytes the producer gave; the consumer compares.
    pub size_bytes: u64,
    /// Rows in it, where the engine counts them.
    pub rows: Option<u64>,
    /// Digest of its rows, where the engine computes it.
    pub digest: Option<Digest128>,
}

/// The outcome of one database's dump.
#[derive(Debug, Clone, PartialEq)]
pub struct Dumped {
    /// The facts of its content.
    pub facts: Facts,
    /// By what the next run knows it as unchanged.
    pub marks: Marks,
    /// Its entries with their layouts and numbers of parts: the repository refuses a gap or a surplus.
    pub entries: BTreeMap<EntryName, (Layout, u32)>,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}
