//! A dump that another tool made, as a database in scratch: an image is copied with the log that lies beside it, SQL text
//! is run statement by statement.
//!
//! What was made is checked as a whole before it is given: what another tool left may be damaged, however well it opens.
//! The file itself is read and nothing else: SQLite is never let near it. A crash leaves files in the scratch folder.

use super::failure;
use super::header::{Content, classify};
use super::live::interrupt_on_cancel;
use super::load_text;
use super::marks::beside;
use super::open::open;
use super::stage::{COMPANIONS, copy, look, unwritable};
use super::statements::first_word;
use crate::engine::{ExportForm, LoadRequest};
use flow::{Context, Event, Finding, Severity, SourceError, SourceErrorKind};
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOCK_WAIT: Duration = Duration::from_secs(5);

/// By what a SQL dump begins, after blanks and comments.
const FIRST_WORDS: [&str; 9] =
    ["PRAGMA", "BEGIN", "CREATE", "INSERT", "REPLACE", "DROP", "DELETE", "ANALYZE", "SAVEPOINT"];

/// Tells by its first bytes which form of dump a file is, or why it is none.
pub(super) fn recognise(head: &[u8]) -> Result<ExportForm, String> {
    match classify(head) {
        Content::Database(_) => Ok(ExportForm::Image),
        Content::Empty => Err("is empty".to_owned()),
        Content::Other { reason, .. } => match first_word(head) {
            Some(word) if FIRST_WORDS.contains(&word.as_str()) => Ok(ExportForm::Sql),
            _ if reason.contains("text") => {
                Err("is text, but no SQL that makes a SQLite database".to_owned())
            }
            _ => Err(reason.to_owned()),
        },
    }
}

/// Makes a sound database of a dump in scratch and returns where it is.
pub(super) fn load(request: LoadRequest<'_>, context: &Context) -> Result<PathBuf, SourceError> {
    let database = request.folder.join("database.sqlite");
    let object = request.object;
    match request.form {
        ExportForm::Image => copy_image(request, &database, context)?,
        ExportForm::Sql => load_text::run(request, &database, context)?,
        ExportForm::Custom | ExportForm::Tar => {
            let message = "SQLite has no dumps of this form";
            return Err(SourceError::new(SourceErrorKind::Unsupported, object, message));
        }
    }
    // What is wrong is told of the file, not of its copy.
    check(&database, context).map_err(|error| {
        let hint = match error.kind {
            SourceErrorKind::Damaged => Some("take another dump file".to_owned()),
            _ => error.hint,
        };
        SourceError { object: object.to_owned(), hint, ..error }
    })?;
    Ok(database)
}

/// Copies an image, and the log without which it would be another database.
pub(super) fn copy_image(
    request: LoadRequest<'_>,
    database: &Path,
    context: &Context,
) -> Result<(), SourceError> {
    let before = request.file.map(look).transpose()?;
    let mut image = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(database)
        .map_err(|error| unwritable(database, error))?;
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        context.cancel.check().map_err(|_| SourceError::cancelled(request.object))?;
        let read = request.dump.read(&mut buffer).map_err(|error| failure::dump(request.object, error))?;
        if read == 0 {
            break;
        }
        let bytes = &buffer[..read];
        // What is all zeros takes no space.
        let written = if bytes.iter().all(|byte| *byte == 0) {
            image.seek(SeekFrom::Current(read as i64)).map(drop)
        } else {
            image.write_all(bytes)
        };
        written.map_err(|error| unwritable(database, error))?;
        length += read as u64;
    }
    image.set_len(length).map_err(|error| unwritable(database, error))?;
    drop(image);
    let Some(file) = request.file else { return Ok(()) };
    for suffix in COMPANIONS {
        let log = beside(file, suffix);
        if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
            copy(&log, &beside(database, suffix), context)?;
            context.observer.event(Event::Finding(Finding {
                severity: Severity::Notice,
                object: request.object.to_owned(),
                message: format!("is taken together with {}, which lies beside it", log.display()),
                hint: None,
            }));
        }
    }
    if before != Some(look(file)?) {
        let message = "changes while it is read: it is still being written, or a database in use";
        return Err(SourceError::new(SourceErrorKind::Busy, request.object, message)
            .with_hint("import it when it is finished; a live database is backed up by `backstay backup`"));
    }
    Ok(())
}

/// Has the whole content checked.
fn check(database: &Path, context: &Context) -> Result<(), SourceError> {
    let opened = open(database, LOCK_WAIT, context)?;
    opened.lock(LOCK_WAIT, &context.cancel)?;
    let connection = opened.connection();
    let _interrupt = interrupt_on_cancel(connection, context);
    let found: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| opened.error(error))?;
    match found.as_str() {
        "ok" => Ok(()),
        problem => Err(failure::damaged(database, format!("integrity check: {problem}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_by_its_first_statement() {
        assert_eq!(recognise(b"BEGIN;\n"), Ok(ExportForm::Sql));
        assert!(recognise(b"Dear diary,\n").is_err());
        assert!(recognise(b"").is_err());
    }
}
