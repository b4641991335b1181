//! SQLite's own checks of the image, before it takes anybody's place.
//!
//! The image's blocks are those of the backup, so what `integrity_check` finds was so in the source: the restore
//! stops, for somebody must decide. A violated foreign key is content, which SQLite lets anybody write: a warning. The
//! image is read only and changed by none of it; nothing is left beside it.

use crate::restore::RestoreError;
use crate::sqlite::restore::job::Job;
use crate::sqlite::uri::immutable_uri;
use flow::{Severity, SourceError, SourceErrorKind};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::Path;

/// How many of the problems are told in full.
const PROBLEMS_MAX: usize = 5;
/// How much memory the check may use, whatever the size of the database.
const CACHE_KIB: i64 = 64 << 10;
/// How many violations of foreign keys are counted.
const VIOLATIONS_MAX: usize = 1000;

/// Checks a database file that nobody uses.
pub(super) fn check(job: &Job, path: &Path) -> Result<(), RestoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(immutable_uri(path), flags).map_err(|error| damaged(path, &error))?;
    // Indexes are looked up in the order of the rows, all over the file: with a small cache each look is a read.
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(|error| damaged(path, &error))?;
    let interrupt = connection.get_interrupt_handle();
    let _guard = job.context.cancel.on_cancel(move || interrupt.interrupt());
    job.phase("checking", None);
    let problems = match problems_by(&connection, "integrity_check") {
        Err(error) if is_about_the_program(&error) => {
            // Its indexes use collations or functions that only its program has; the structure can be checked still.
            remark(job, path, "integrity_check", &error);
            problems_by(&connection, "quick_check")
        }
        result => result,
    };
    match problems {
        Ok(problems) if problems.is_empty() => {}
        Ok(problems) => return Err(found(path, &problems).into()),
        Err(error) if is_about_the_program(&error) => remark(job, path, "quick_check", &error),
        Err(error) => return Err(failure(job, path, error).into()),
    }
    match violations(&connection) {
        Ok((0, _)) => {}
        Ok((count, table)) => {
            let count = if count >= VIOLATIONS_MAX { format!("at least {count}") } else { count.to_string() };
            let message =
                format!("{count} rows, the first of table {table}, refer to rows that do not exist");
            let hint = "they were so when the backup was taken; list them with `PRAGMA foreign_key_check`";
            job.tell(Severity::Warning, job.target(), message, Some(hint.to_owned()));
        }
        Err(error) if is_about_the_program(&error) => remark(job, path, "foreign_key_check", &error),
        Err(error) => return Err(failure(job, path, error).into()),
    }
    Ok(())
}

fn problems_by(connection: &Connection, pragma: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA {pragma}({})", PROBLEMS_MAX + 1))?;
    let mut rows = statement.query([])?;
    let mut problems = Vec::new();
    while let Some(row) = rows.next()? {
        let problem: String = row.get(0)?;
        if problem != "ok" {
            problems.push(problem);
        }
    }
    Ok(problems)
}

fn violations(connection: &Connection) -> rusqlite::Result<(usize, String)> {
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    let (mut count, mut first) = (0, String::new());
    while let Some(row) = rows.next()? {
        if count == 0 {
            first = row.get(0)?;
        }
        count += 1;
        if count >= VIOLATIONS_MAX {
            break;
        }
    }
    Ok((count, first))
}

/// Tells whether a check could not be run for want of something that only the database's own program has: a
/// collation, a function, a module.
fn is_about_the_program(error: &rusqlite::Error) -> bool {
    let code = match error {
        rusqlite::Error::SqliteFailure(inner, _) => inner.extended_code,
        rusqlite::Error::SqlInputError { error, .. } => error.extended_code,
        _ => return false,
    };
    code & 0xff == rusqlite::ffi::SQLITE_ERROR
}

fn remark(job: &Job, path: &Path, pragma: &str, error: &rusqlite::Error) {
    let message = format!("{pragma} cannot be run on it here: {error}");
    let hint = "run it in the program that the database belongs to, after the restore";
    job.tell(Severity::Warning, path, message, Some(hint.to_owned()));
}

fn found(path: &Path, problems: &[String]) -> SourceError {
    let mut list = problems.iter().take(PROBLEMS_MAX).cloned().collect::<Vec<_>>().join("; ");
    if problems.len() > PROBLEMS_MAX {
        list.push_str("; and more");
    }
    SourceError::new(
        SourceErrorKind::Damaged,
        path.display().to_string(),
        format!("the source was damaged already when it was backed up: {list}"),
    )
    .with_hint("restore an older backup, or this one as it is with `--no-verify`")
}

fn damaged(path: &Path, error: &rusqlite::Error) -> SourceError {
    found(path, &[error.to_string()])
}

fn failure(job: &Job, path: &Path, error: rusqlite::Error) -> SourceError {
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => SourceError::cancelled(job.object()),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(path, &error),
        _ => SourceError::new(SourceErrorKind::Failed, path.display().to_string(), "cannot be checked")
            .with_hint("look at the cause; `--no-verify` restores without the checks")
            .with_source(error),
    }
}
