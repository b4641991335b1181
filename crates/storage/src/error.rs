//! Errors of a storage.

use std::error::Error;

/// What kind of thing went wrong at a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageErrorKind {
    /// There is no such object.
    Missing,
    /// There is such an object already.
    Exists,
    /// The rights do not suffice.
    Denied,
    /// No space is left.
    Full,
    /// The content is not what was put.
    Damaged,
    /// The name cannot be an object's.
    InvalidName,
    /// The work was interrupted before there was an answer: whether the call is done cannot be told.
    Interrupted,
    /// Anything else.
    Failed,
}

/// A storage operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {object}: {message}")]
pub struct StorageError {
    /// What kind of thing went wrong.
    pub kind: StorageErrorKind,
    /// What was tried: `put`, `get`, `stat`, `list`, `remove`, `confirm`; `open` and
    /// `create` of a place; `write` of a file; `name`; `look for the space of` a place.
    pub verb: &'static str,
    /// The object's full path or URL.
    pub object: String,
    /// What went wrong.
    pub message: String,
    /// The error below, if there is one.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}
