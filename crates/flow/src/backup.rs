//! Reading a stored backup.

use crate::{EntryName, Manifest};
use std::error::Error;
use std::io::Read;
use std::ops::Range;

/// One stored backup, open for reading. Any entry, any range, from any number of threads at once.
///
/// Each byte that a reader returns was verified against what was stored; a damaged backup gives an error, never
/// other bytes. An implementation may read ahead.
pub trait BackupReader: Send + Sync {
    /// Returns the manifest.
    fn manifest(&self) -> &Manifest;

    /// Returns a reader of a range of an entry. A range beyond the entry's end is an error. An I/O error of the
    /// returned reader carries a [`ReadError`] as its source.
    fn read(&self, entry: &EntryName, range: Range<u64>) -> Result<Box<dyn Read + Send>, ReadError>;
}

/// What went wrong when a backup was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadErrorKind {
    /// There is no such backup, entry or range.
    Missing,
    /// What is stored is not what was written.
    Damaged,
    /// The storage failed.
    Storage,
    /// The work was interrupted.
    Cancelled,
}

/// A stored backup cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {object}: {message}")]
pub struct ReadError {
    /// What went wrong.
    pub kind: ReadErrorKind,
    /// What could not be read: an entry, a pack, a blob.
    pub object: String,
    /// How it went wrong.
    pub message: String,
    /// The error below, if there is one.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl ReadError {
    /// Makes an error without a cause below it.
    pub fn new(kind: ReadErrorKind, object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, object: object.into(), message: message.into(), source: None }
    }

    /// Adds the error below.
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the read error that an I/O error of a reader carries, or makes one of it.
    pub fn from_io(error: std::io::Error, object: &str) -> Self {
        match error.downcast::<ReadError>() {
            Ok(inner) => inner,
            Err(error) => Self::new(ReadErrorKind::Storage, object, error.to_string()).with_source(error),
        }
    }
}

impl From<ReadError> for std::io::Error {
    fn from(error: ReadError) -> Self {
        std::io::Error::other(error)
    }
}
