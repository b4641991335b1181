//! One file operation, as it is recorded.

use std::path::{Path, PathBuf};

/// Something that was done to files. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields say what they are")]
pub enum FileOperation {
    /// A file was made, empty.
    Create { path: PathBuf },
    /// Bytes were written at a position.
    Write { path: PathBuf, offset: u64, bytes: Vec<u8> },
    /// A file was cut or extended with zeros.
    Truncate { path: PathBuf, size_bytes: u64 },
    /// A file's content was made durable.
    Sync { path: PathBuf },
    /// A folder was made.
    MakeFolder { path: PathBuf },
    /// The names in a folder were made durable.
    SyncFolder { path: PathBuf },
    /// A file or folder got another name, in place of what bore it.
    Rename { from: PathBuf, to: PathBuf },
    /// Two names were exchanged.
    Exchange { one: PathBuf, other: PathBuf },
    /// A file got a further name.
    Link { from: PathBuf, to: PathBuf },
    /// A file's name, or an empty folder, was removed.
    Remove { path: PathBuf },
    /// Everything was made durable.
    SyncAll,
}

impl FileOperation {
    /// Returns the paths that it is about.
    pub fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Create { path }
            | Self::Write { path, .. }
            | Self::Truncate { path, .. }
            | Self::Sync { path }
            | Self::MakeFolder { path }
            | Self::SyncFolder { path }
            | Self::Remove { path } => vec![path],
            Self::Rename { from, to } | Self::Link { from, to } => vec![from, to],
            Self::Exchange { one, other } => vec![one, other],
            Self::SyncAll => Vec::new(),
        }
    }
}
