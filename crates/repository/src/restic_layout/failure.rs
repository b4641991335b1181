//! From the format's errors to the seam's.

use crate::{RepositoryError, RepositoryErrorKind};
use flow::{ReadError, ReadErrorKind};
use restic::{ResticError, ResticErrorKind};
use storage::StorageErrorKind;

/// Returns the seam's error for one of the format.
pub(super) fn repository_error(error: ResticError) -> RepositoryError {
    let (kind, hint) = match &error.kind {
        ResticErrorKind::NotFound => (
            RepositoryErrorKind::NotFound,
            Some(
                "`backstay init --repository PATH` makes one; or is the disk it lies on not mounted?"
                    .to_owned(),
            ),
        ),
        ResticErrorKind::Exists => (RepositoryErrorKind::Exists, None),
        ResticErrorKind::WrongPassword => (
            RepositoryErrorKind::WrongPassword,
            Some(
                "give the key file by BACKSTAY_PASSWORD_FILE, or the password by BACKSTAY_PASSWORD"
                    .to_owned(),
            ),
        ),
        ResticErrorKind::Locked(holder) => (
            RepositoryErrorKind::Locked,
            Some(format!(
                "wait until process {} on {} is done; if it is gone, `backstay unlock` removes what it left",
                holder.pid, holder.host
            )),
        ),
        ResticErrorKind::LockLost => (
            RepositoryErrorKind::Locked,
            Some("run the backup again: what it stored is used by the next run".to_owned()),
        ),
        ResticErrorKind::Damaged | ResticErrorKind::Missing => (
            RepositoryErrorKind::Damaged,
            Some(
                "`backstay check --read-data` names everything that is damaged, and the backups it affects"
                    .to_owned(),
            ),
        ),
        ResticErrorKind::Ambiguous => (RepositoryErrorKind::Ambiguous, None),
        ResticErrorKind::Unsupported => (RepositoryErrorKind::Unsupported, None),
        ResticErrorKind::Storage(kind) => storage_kind(*kind),
        ResticErrorKind::Cancelled => (RepositoryErrorKind::Cancelled, None),
        _ => (RepositoryErrorKind::Failed, None),
    };
    let made = RepositoryError::new(kind, error.object.clone(), error.message.clone());
    let made = if let Some(hint) = hint { made.with_hint(hint) } else { made };
    match std::error::Error::source(&error) {
        Some(below) => made.with_source(below.to_string()),
        None => made,
    }
}

fn storage_kind(kind: StorageErrorKind) -> (RepositoryErrorKind, Option<String>) {
    match kind {
        StorageErrorKind::Missing => (RepositoryErrorKind::Damaged, None),
        StorageErrorKind::Full => (
            RepositoryErrorKind::Full,
            Some(
                "free space where the repository lies; what is stored so far is used by the next run"
                    .to_owned(),
            ),
        ),
        StorageErrorKind::Denied => (
            RepositoryErrorKind::Denied,
            Some(
                "run as the user who owns the repository, or give this one the right to read and write there"
                    .to_owned(),
            ),
        ),
        StorageErrorKind::Damaged => (RepositoryErrorKind::Damaged, None),
        _ => (
            RepositoryErrorKind::Failed,
            Some(
                "see that the disk where the repository lies is mounted and in order, and run it again: what is \
                 stored so far is used"
                    .to_owned(),
            ),
        ),
    }
}

/// Returns the seam's error of reading for one of the format.
pub(super) fn read_error(error: ResticError) -> ReadError {
    let kind = match &error.kind {
        ResticErrorKind::Cancelled => ReadErrorKind::Cancelled,
        ResticErrorKind::Damaged | ResticErrorKind::Missing | ResticErrorKind::NotFound => {
            ReadErrorKind::Damaged
        }
        ResticErrorKind::Storage(StorageErrorKind::Missing) => ReadErrorKind::Damaged,
        _ => ReadErrorKind::Storage,
    };
    ReadError::new(kind, error.object.clone(), error.message.clone()).with_source(error)
}
