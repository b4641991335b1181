//! SQLite's errors as errors of the source: one place that decides what kind of failure a result code is, and what
//! a person can do about it.

use flow::{SourceError, SourceErrorKind, quoted};
use rusqlite::{Error, ErrorCode, ffi};
use std::io;
use std::path::Path;

/// Tells whether somebody else holds a lock that may go away by itself.
pub(super) fn is_busy(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Tells whether the database cannot be read where it is, for lack of rights to write beside it: its `-wal` or hot
/// `-journal` would have to be recovered first.
pub(super) fn needs_recovery_elsewhere(error: &Error) -> bool {
    let Error::SqliteFailure(code, _) = error else { return false };
    matches!(code.code, ErrorCode::ReadOnly | ErrorCode::CannotOpen)
}

/// Makes the source's error of one of SQLite's.
pub(super) fn sqlite(path: &Path, error: Error) -> SourceError {
    let object = path.display().to_string();
    let make = |kind, message: &str, hint: Option<&str>| {
        let made = SourceError::new(kind, object.clone(), message);
        match hint {
            Some(hint) => made.with_hint(hint),
            None => made,
        }
    };
    let extended = error.sqlite_error().map_or(0, |code| code.extended_code);
    let made = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            make(SourceErrorKind::Busy, "the database is locked", Some("try again when its writer is done"))
        }
        Some(ErrorCode::DatabaseCorrupt) => damaged(path, "its content is damaged"),
        _ if extended == ffi::SQLITE_IOERR_SHORT_READ => damaged(path, "the file is cut off"),
        Some(ErrorCode::NotADatabase) => make(
            SourceErrorKind::NotADatabase,
            "is encrypted, or not a SQLite database",
            Some("check the path; an encrypted database has to be decrypted by its own tools first"),
        ),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => make(
            SourceErrorKind::Unreadable,
            "cannot be opened",
            Some("check the rights of the file, of its -wal and -journal, and of its folder"),
        ),
        Some(ErrorCode::SystemIoFailure) => make(
            SourceErrorKind::Unreadable,
            "cannot be read: the device or filesystem reports an error",
            Some("look at the kernel's log (dmesg) for errors of the disk"),
        ),
        Some(ErrorCode::OperationInterrupted) => return SourceError::cancelled(object),
        _ => make(SourceErrorKind::Failed, "SQLite reports an error", None),
    };
    made.with_source(error)
}

/// Makes the error of a damaged database.
pub(super) fn damaged(path: &Path, message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Damaged, path.display().to_string(), message)
        .with_hint("restore the newest backup; what is left can be looked at with `sqlite3 FILE .recover`")
}

/// Makes the error of a file that the system does not give.
pub(super) fn io(path: &Path, error: io::Error) -> SourceError {
    let object = path.display().to_string();
    let (kind, message, hint) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            (SourceErrorKind::Missing, "there is no such file", spelling(path))
        }
        io::ErrorKind::PermissionDenied => (
            SourceErrorKind::Unreadable,
            "may not be read by this user",
            "run as the owner of the database, or give this user the right to read the file and enter its folder"
                .to_owned(),
        ),
        _ => (SourceErrorKind::Unreadable, "cannot be read", "check the device and the filesystem".to_owned()),
    };
    SourceError::new(kind, object, message).with_hint(hint).with_source(error)
}

/// Makes the error of a dump whose bytes do not come: the decoder's words are the cause.
pub(super) fn dump(object: &str, error: io::Error) -> SourceError {
    let (kind, message) = match error.kind() {
        io::ErrorKind::UnexpectedEof => (SourceErrorKind::Damaged, "is cut off: it ends too early"),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            (SourceErrorKind::Damaged, "cannot be unpacked: it is damaged")
        }
        _ => (SourceErrorKind::Unreadable, "cannot be read"),
    };
    SourceError::new(kind, object, message).with_hint("take another dump file").with_source(error)
}

/// Tells where to look for a file that is not there: in the nearest folder that is.
fn spelling(path: &Path) -> String {
    let folder = path.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let list = quoted(&folder.display().to_string());
    format!("is it spelt right, and is its disk mounted? `ls -l {list}` shows what is there")
}
