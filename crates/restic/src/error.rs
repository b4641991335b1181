//! Errors of a restic repository: what went wrong, with which object, and where.
//!
//! They can be cloned, because an error that ends a pipeline is returned from every call into it.

use crate::id::{BlobKind, Id};
use jiff::Timestamp;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use storage::{StorageError, StorageErrorKind};

/// Who holds a lock that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// The lock file.
    pub lock: Id,
    /// Its host.
    pub host: String,
    /// Its user.
    pub user: String,
    /// Its process on that host.
    pub pid: u32,
    /// When it was taken or last refreshed.
    pub time: Timestamp,
    /// How old it was when it was looked at.
    pub age: Duration,
    /// Whether it lets nobody else in.
    pub exclusive: bool,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.exclusive { "exclusively " } else { "" };
        let age = self.age.as_secs();
        write!(
            f,
            "locked {kind}by process {} of {} on {}, {}m {:02}s ago (lock {})",
            self.pid,
            self.user,
            self.host,
            age / 60,
            age % 60,
            self.lock.short()
        )
    }
}

/// What kind of thing went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResticErrorKind {
    /// There is no repository at that place, or no object of that name in it.
    NotFound,
    /// There is a repository at that place already.
    Exists,
    /// No key opens it.
    WrongPassword,
    /// Somebody else holds a lock that does not go with ours.
    Locked(Box<LockHolder>),
    /// Our own lock was removed or became stale: what we rely on may have been pruned.
    LockLost,
    /// What is stored is not what was written.
    Damaged,
    /// No index names a blob, or the pack that should hold it is not there.
    Missing,
    /// More than one snapshot fits.
    Ambiguous,
    /// The format, or what is asked for, is beyond this program.
    Unsupported,
    /// The storage failed.
    Storage(StorageErrorKind),
    /// The work was interrupted.
    Cancelled,
    /// What was handed over cannot be stored, or the machine failed us (no randomness, no thread).
    Failed,
}

/// Work on a restic repository failed.
#[derive(Debug, Clone)]
pub struct ResticError {
    /// What kind of thing went wrong.
    pub kind: ResticErrorKind,
    /// The object: `pack 3fa1… in /srv/backup`, or the repository's location.
    pub object: String,
    /// What went wrong.
    pub message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ResticError {
    /// Makes an error without a cause below it.
    pub fn new(kind: ResticErrorKind, object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, object: object.into(), message: message.into(), source: None }
    }

    /// Adds the error below.
    pub fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Returns the same error about a more exact object.
    pub(crate) fn about(mut self, object: String) -> Self {
        self.object = object;
        self
    }

    pub(crate) fn damaged(object: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ResticErrorKind::Damaged, object, message)
    }

    pub(crate) fn cancelled(object: impl Into<String>) -> Self {
        Self::new(ResticErrorKind::Cancelled, object, "interrupted")
    }

    pub(crate) fn missing_blob(kind: BlobKind, id: &Id, location: &str) -> Self {
        Self::new(ResticErrorKind::Missing, format!("{kind} blob {id} in {location}"), "no index names it")
    }

    /// Wraps a storage's error under the name that the object has in the format.
    pub(crate) fn storage(object: impl Into<String>, error: StorageError) -> Self {
        let kind = match error.kind {
            StorageErrorKind::Damaged => ResticErrorKind::Damaged,
            StorageErrorKind::Interrupted => ResticErrorKind::Cancelled,
            kind => ResticErrorKind::Storage(kind),
        };
        Self { kind, object: object.into(), message: "the storage failed".to_owned(), source: None }
            .with_source(error)
    }
}

impl fmt::Display for ResticError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.message)
    }
}

impl Error for ResticError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
