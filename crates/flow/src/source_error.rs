//! Errors of the database side.

use crate::Cancelled;
use std::error::Error;

/// What kind of thing went wrong at the database. Decides the exit code, nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceErrorKind {
    /// There is no such database.
    Missing,
    /// It is something else, or encrypted.
    NotADatabase,
    /// It cannot be read: rights, a device.
    Unreadable,
    /// Its content is damaged or cut.
    Damaged,
    /// Somebody holds it locked beyond the limit.
    Busy,
    /// A restore target is in use, or another restore of it runs or waits to be finished.
    InUse,
    /// A restore target cannot be written: rights, space, a missing folder.
    Unwritable,
    /// It can be done by this engine in no such way.
    Unsupported,
    /// The request contradicts itself or names what the engine cannot understand.
    Invalid,
    /// A tool or the server failed.
    Failed,
    /// The work was interrupted.
    Cancelled,
}

/// The database side failed: always fatal for the database it names, never a warning.
#[derive(Debug, thiserror::Error)]
#[error("{object}: {message}")]
pub struct SourceError {
    /// What kind of thing went wrong.
    pub kind: SourceErrorKind,
    /// The database, file or table: a path or a URL.
    pub object: String,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The error below, if there is one.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl SourceError {
    /// Makes an error without hint or cause.
    pub fn new(kind: SourceErrorKind, object: impl Into<String>, message: impl Into<String>) -> Self {
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

    /// Makes the error of an interrupted piece of work.
    pub fn cancelled(object: impl Into<String>) -> Self {
        Self::new(SourceErrorKind::Cancelled, object, Cancelled.to_string())
    }
}
