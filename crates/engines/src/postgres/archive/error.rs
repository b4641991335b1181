//! Why an archive cannot be read or written.

use std::io;

/// An archive that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It does not begin as an archive does.
    #[error("is no archive of pg_dump")]
    NotAnArchive,
    /// It is one that this program does not know.
    #[error("{0}")]
    Unsupported(String),
    /// It ends before its end, or says what cannot be.
    #[error("is damaged at byte {at}: {problem}")]
    Damaged {
        /// Where, from its beginning.
        at: u64,
        /// What is wrong there.
        problem: String,
    },
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}
