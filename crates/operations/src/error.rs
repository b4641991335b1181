//! Why a verb failed: one side or the other, or the request itself.

use crate::restored::RestoreBody;
use engines::RestoreError;
use flow::{ReadError, ReadErrorKind, SourceError};
use repository::RepositoryError;

/// A verb failed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The database side failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The repository's side failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A stored backup cannot be read.
    #[error(transparent)]
    Backup(#[from] ReadError),
    /// The request names nothing, too much, or what does not fit together.
    #[error("{message}")]
    Usage {
        /// What does not fit.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Something on this machine failed that belongs to neither side: a hook, an output file, a health check.
    #[error("{object}: {message}")]
    Local {
        /// The command, file or URL.
        object: String,
        /// What went wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// The error below, if there is one.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A restore, or the way back from one, failed after it had begun.
    #[error("the restore of {} {end}", attempt.target)]
    Restore {
        /// What was done until then, and whether the target is as it was.
        attempt: Box<RestoreBody>,
        /// How it ended, and which database is in place now.
        end: String,
        /// What to do about it.
        hint: Option<String>,
        /// Why it failed.
        #[source]
        source: Box<OperationError>,
    },
    /// The work was interrupted.
    #[error("interrupted")]
    Cancelled,
}

impl OperationError {
    /// Makes a usage error.
    pub fn usage(message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self::Usage { message: message.into(), hint: hint.into() }
    }

    /// Returns the next step, where one is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Source(error) => error.hint.as_deref(),
            Self::Repository(error) => error.hint.as_deref(),
            Self::Usage { hint, .. } | Self::Local { hint, .. } => hint.as_deref(),
            Self::Restore { hint, source, .. } => hint.as_deref().or_else(|| source.hint()),
            Self::Backup(error) if matches!(error.kind, ReadErrorKind::Damaged | ReadErrorKind::Missing) => {
                Some(
                    "`backstay check --read-data` names everything that is damaged, and the backups it affects",
                )
            }
            Self::Backup(_) | Self::Cancelled => None,
        }
    }
}

impl From<RestoreError> for OperationError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Backup(error) => Self::Backup(error),
            RestoreError::Database(error) => Self::Source(error),
        }
    }
}
