//! What SQLite says of a live target, as an error with its next step.
//!
//! Nothing is done here: a failed call has changed nothing, or SQLite's own recovery undoes it.

use crate::sqlite::holders::lock_holders;
use crate::sqlite::restore::job::Job;
use crate::sqlite::restore::quiesce;
use flow::{SourceError, SourceErrorKind};
use rusqlite::ErrorCode;

/// Makes the error of a call of SQLite on the target.
pub(super) fn failure(job: &Job, what: &str, error: rusqlite::Error) -> SourceError {
    let (kind, message, hint) = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => (
            SourceErrorKind::NotADatabase,
            "cannot be written into in place: SQLite cannot open what it holds".to_owned(),
            "restore without `--in-place`, which does not open the old one",
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let mut error = quiesce::in_use(job, lock_holders(job.target()));
            error.hint = Some("let it end its transaction, then run it again".to_owned());
            return error;
        }
        Some(ErrorCode::OperationInterrupted) => return SourceError::cancelled(job.object()),
        Some(ErrorCode::DiskFull) => (
            SourceErrorKind::Unwritable,
            format!("{what}: no space left on the filesystem"),
            "free some space there, then run it again",
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => (
            SourceErrorKind::Unwritable,
            format!("{what} in place: it may not be written"),
            "run it as the owner of the database",
        ),
        _ => (SourceErrorKind::Failed, what.to_owned(), "look at the cause, then run it again"),
    };
    job.error(kind, message).with_hint(hint).with_source(error)
}
