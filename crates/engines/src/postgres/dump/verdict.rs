//! The first failure of a database: it ends all that is still read of it, and is what every part then says.

use flow::{Cancel, CancelGuard, SourceError, SourceErrorKind};
use std::sync::{Arc, OnceLock};

#[derive(Clone, Default)]
pub(super) struct Verdict {
    reason: Arc<OnceLock<Reason>>,
    /// What all work on the database listens to: programs and statements that somebody waits for end with it.
    ended: Cancel,
}

struct Reason {
    kind: SourceErrorKind,
    object: String,
    message: String,
    hint: Option<String>,
}

impl Verdict {
    /// Returns what is cancelled by the first failure.
    pub(super) fn ended(&self) -> Cancel {
        self.ended.clone()
    }

    /// Lets an interruption of everything end this database too, as long as the guard lives.
    pub(super) fn ends_with(&self, all: &Cancel) -> CancelGuard {
        let ended = self.ended.clone();
        all.on_cancel(move || ended.cancel())
    }

    /// Notes a failure, and ends whatever is still read; only the first counts.
    pub(super) fn fail(&self, error: &SourceError) {
        let mut message = error.message.clone();
        let mut below = std::error::Error::source(error);
        while let Some(cause) = below {
            message = format!("{message}: {cause}");
            below = cause.source();
        }
        let _ = self.reason.set(Reason {
            kind: error.kind,
            object: error.object.clone(),
            message,
            hint: error.hint.clone(),
        });
        // Not before the reason stands: what ends now says that it was cancelled.
        self.ended.cancel();
    }

    /// Tells whether it failed.
    pub(super) fn failed(&self) -> bool {
        self.reason.get().is_some()
    }

    /// Returns the failure.
    pub(super) fn error(&self) -> Option<SourceError> {
        let reason = self.reason.get()?;
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
