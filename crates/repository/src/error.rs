//! Errors of the repository's side.

use std::error::Error;

/// What kind of thing went wrong. Decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepositoryErrorKind {
    /// There is no repository at that place (exit code 10).
    NotFound,
    /// There is one already.
    Exists,
    /// It is locked by us or by restic (exit code 11).
    Locked,
    /// No key opens it (exit code 12).
    WrongPassword,
    /// There is no such backup.
    NoBackup,
    /// A reference fits more than one backup.
    Ambiguous,
    /// What is stored is not what was written.
    Damaged,
    /// The disk is full.
    Full,
    /// The rights do not suffice.
    Denied,
    /// What was handed over breaks the seam's promise: a gap among parts, a size that differs.
    Invalid,
    /// The format is of a version that this program cannot use.
    Unsupported,
    /// The work was interrupted.
    Cancelled,
    /// The storage failed otherwise.
    Failed,
}

/// The repository's side failed.
#[derive(Debug, thiserror::Error)]
#[error("{object}: {message}")]
pub struct RepositoryError {
    /// What kind of thing went wrong.
    pub kind: RepositoryErrorKind,
    /// The repository, pack, snapshot or backup, by path, URL or id.
    pub object: String,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The error below, if there is one.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl RepositoryError {
    /// Makes an error without hint or cause.
    pub fn new(kind: RepositoryErrorKind, object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, object: object.into(), message: message.into(), hint: None, source: None }
    }

    /// Adds the next step.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error below.
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
