//! A SQLite dump that is read to its end: an image by SQLite's own check, SQL text statement by statement.
//!
//! An image with nothing beside it is checked where it lies, by a connection that takes no lock and makes no file; one
//! with a log, and one that was packed, is copied to scratch first. A crash leaves that copy in the scratch folder.

use super::failure;
use super::header::Header;
use super::live::interrupt_on_cancel;
use super::load::copy_image;
use super::marks::beside;
use super::open::open;
use super::read_text;
use super::stage::{COMPANIONS, look};
use super::uri::immutable_uri;
use crate::counting::counted;
use crate::engine::{ExamineRequest, Examined};
use crate::engine::{ExportForm, LoadRequest};
use flow::{Context, SourceError, SourceErrorKind};
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const LOCK_WAIT: Duration = Duration::from_secs(5);
const TABLES: &str =
    "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
const OBJECTS: &str = "SELECT count(*) FROM sqlite_schema";

/// Reads a dump to its end.
pub(super) fn examine(request: ExamineRequest<'_>, context: &Context) -> Result<Examined, SourceError> {
    let object = request.object;
    let examined = match request.form {
        ExportForm::Image => image(request, context),
        ExportForm::Sql => read_text::examine(request, context),
        ExportForm::Custom | ExportForm::Tar => {
            let message = "SQLite has no dumps of this form";
            Err(SourceError::new(SourceErrorKind::Unsupported, object, message))
        }
    };
    // What is wrong is told of the file, not of a copy of it.
    examined.map_err(|error| {
        let hint = match error.kind {
            SourceErrorKind::Damaged | SourceErrorKind::NotADatabase => {
                Some("take another dump file".to_owned())
            }
            _ => error.hint,
        };
        SourceError { object: object.to_owned(), hint, ..error }
    })
}

fn image(request: ExamineRequest<'_>, context: &Context) -> Result<Examined, SourceError> {
    if let Some(file) = request.file
        && !COMPANIONS.iter().any(|suffix| has_content(&beside(file, suffix)))
    {
        return in_place(file, request.quick, context);
    }
    let (object, file, quick) = (request.object, request.file, request.quick);
    let folder = (request.folder)()?;
    let database = folder.join("database.sqlite");
    let load = LoadRequest {
        object,
        form: ExportForm::Image,
        dump: request.dump,
        file,
        folder: folder.as_path(),
        again: None,
    };
    copy_image(load, &database, context)?;
    let mut examined = {
        let opened = open(&database, LOCK_WAIT, context)?;
        opened.lock(LOCK_WAIT, &context.cancel)?;
        check(opened.connection(), &database, quick, context)?
    };
    match file {
        Some(_) => examined.detail.push_str(", with the log beside it"),
        None => doubt_log(&database, &mut examined)?,
    }
    Ok(examined)
}

fn has_content(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}

fn in_place(file: &Path, quick: bool, context: &Context) -> Result<Examined, SourceError> {
    let before = look(file)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let mut examined = {
        let connection = Connection::open_with_flags(immutable_uri(file), flags)
            .map_err(|error| failure::sqlite(file, error))?;
        check(&connection, file, quick, context)
    };
    if before != look(file)? {
        let message = "changes while it is read: it is still being written, or a database in use";
        return Err(SourceError::new(SourceErrorKind::Busy, file.display().to_string(), message)
            .with_hint("verify it when it is finished"));
    }
    if let Ok(examined) = &mut examined {
        doubt_log(file, examined)?;
    }
    examined
}

/// Has the content checked, and counts tables.
fn check(
    connection: &Connection,
    database: &Path,
    quick: bool,
    context: &Context,
) -> Result<Examined, SourceError> {
    let _interrupt = interrupt_on_cancel(connection, context);
    let failed = |error| failure::sqlite(database, error);
    connection.execute_batch("PRAGMA cache_size=-32768; PRAGMA trusted_schema=OFF;").map_err(failed)?;
    let (statement, name) = if quick {
        ("PRAGMA quick_check(1)", "quick check")
    } else {
        ("PRAGMA integrity_check(1)", "integrity check")
    };
    let found: String = connection.query_row(statement, [], |row| row.get(0)).map_err(failed)?;
    if found != "ok" {
        return Err(failure::damaged(database, format!("{name}: {}", found.replace('\n', " "))));
    }
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let tables = u64::try_from(number(TABLES)?).unwrap_or(0);
    Ok(Examined {
        detail: format!("{name} passed, {}", counted(tables, "table", "tables")),
        tables: Some(tables),
        rows: None,
        is_empty: number(OBJECTS)? == 0,
        doubts: vec![],
    })
}

/// Of a database in WAL mode the newest rows may be in a log that is not there; of a file that is longer than its header
/// says, something else wrote the rest.
fn doubt_log(database: &Path, examined: &mut Examined) -> Result<(), SourceError> {
    let file = File::open(database).map_err(|error| failure::io(database, error))?;
    let mut bytes = [0; 100];
    if file.read_exact_at(&mut bytes, 0).is_err() {
        return Ok(());
    }
    let Some(header) = Header::parse(&bytes) else { return Ok(()) };
    if header.wal {
        examined.doubts.push(
            "it is in WAL mode and no -wal lies beside it: where it was copied by cp or rsync, the newest rows may be \
             missing; what `.backup` or `VACUUM INTO` made is whole"
                .to_owned(),
        );
    }
    let length = file.metadata().map_err(|error| failure::io(database, error))?.len();
    if let Some(pages) = header.page_count
        && length > u64::from(pages) * u64::from(header.page_bytes)
    {
        let more = length - u64::from(pages) * u64::from(header.page_bytes);
        examined.doubts.push(format!("it has {} more than its header says", counted(more, "byte", "bytes")));
    }
    Ok(())
}
