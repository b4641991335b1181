//! The first failure of a database: it ends all that is still read of it, and is what every part then says.

use flow::{SourceError, SourceErrorKind};
use std::sync::{Arc, OnceLock};

#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<OnceLock<Reason>>);

struct Reason {
    kind: SourceErrorKind,
    object: String,
    message: String,
    hint: Option<String>,
}

impl Verdict {
    /// Notes a failure; only the first counts.
    pub(super) fn fail(&self, error: &SourceError) {
        let mut message = error.message.clone();
        let mut below = std::error::Error::source(error);
        while let Some(cause) = below {
            message = format!("{message}: {cause}");
            below = cause.source();
        }
        let _ = self.0.set(Reason {
            kind: error.kind,
            object: error.object.clone(),
            message,
            hint: error.hint.clone(),
        });
    }

    /// Tells whether it failed.
    pub(super) fn failed(&self) -> bool {
        self.0.get().is_some()
    }

    /// Returns the failure.
    pub(super) fn error(&self) -> Option<SourceError> {
        let reason = self.0.get()?;
        let error = SourceError::new(reason.kind, reason.object.clone(), reason.message.clone());
        Some(match &reason.hint {
            Some(hint) => error.with_hint(hint.clone()),
            None => error,
        })
    }

    /// Fails where the database did.
    pub(super) fn check(&self) -> Result<(), SourceError> {
        self.error().map_or(Ok(()), Err)
    }
}
