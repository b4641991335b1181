//! SQL text as a database in scratch, statement by statement, with no more than one of them in memory.
//!
//! The text is not trusted: [`super::load_rights`] says what it may do. Nor is it believed to be whole: it must end with
//! a statement that ends, outside of a transaction. The database is lost as a whole where anything fails, so that it is
//! written without a journal and without syncs.

use super::failure;
use super::load_rights::Rights;
use super::statements::{Piece, Statements};
use crate::engine::LoadRequest;
use flow::{Context, Event, Finding, Severity, SourceError, SourceErrorKind};
use rusqlite::config::DbConfig;
use rusqlite::hooks::AuthContext;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// What is left of the scratch disk for others.
const RESERVED_BYTES: u64 = 32 << 20;
const PAGE_BYTES: u64 = 4096;
const ANOTHER: &str = "take another dump file; `sqlite3 NEW.db < FILE` shows what the shell says of it";

/// Runs the text of a dump on a new database, and finds out whether it is whole.
pub(super) fn run(request: LoadRequest<'_>, database: &Path, context: &Context) -> Result<(), SourceError> {
    let object = request.object;
    let broken = |line: u64, message: &str| {
        SourceError::new(SourceErrorKind::Damaged, object, format!("line {line}: {message}"))
            .with_hint(ANOTHER)
    };
    let mut reader = BufReader::with_capacity(1 << 18, request.dump);
    skip_mark(&mut reader).map_err(|error| failure::dump(object, error))?;
    let mut statements = Statements::new(reader);
    let rights = Rights::default();
    let connection = connect(database, &rights, context).map_err(|error| failure::sqlite(database, error))?;
    let (mut count, mut bracketed, mut by_shell) = (0_u64, false, false);
    loop {
        let piece = statements.next().map_err(|error| failure::dump(object, error))?;
        let line = statements.began();
        let text = match piece {
            None => break,
            Some(Piece::Rest(_)) => {
                return Err(broken(line, "the text ends within a statement: it is cut off"));
            }
            Some(Piece::Command(text)) if text == b".dbconfig defensive off" => continue,
            Some(Piece::Command(text)) => {
                let command: String = String::from_utf8_lossy(&text).chars().take(40).collect();
                return Err(not_of_a_dump(object, line, &format!("`{command}`")));
            }
            Some(Piece::Statement(text)) => text,
        };
        if text == b";" {
            continue;
        }
        let text = std::str::from_utf8(&text)
            .ok()
            .filter(|text| !text.contains('\0'))
            .ok_or_else(|| broken(line, "it is not text in UTF-8"))?;
        rights.expect(text);
        step(&connection, text).map_err(|error| explain(object, line, error, &rights))?;
        by_shell |= count == 0 && text.eq_ignore_ascii_case("PRAGMA foreign_keys=OFF;");
        bracketed |= !connection.is_autocommit();
        count += 1;
    }
    // Each is how a dump looks that ended early: cut between two statements, or before the first.
    if !connection.is_autocommit() {
        return Err(broken(statements.began(), "its transaction is never committed: it is cut off"));
    }
    if count == 0 || (by_shell && !bracketed) {
        return Err(broken(statements.began(), "it ends before its first table: it is cut off"));
    }
    if !bracketed {
        tell_unbracketed(object, context);
    }
    connection.close().map_err(|(_, error)| failure::sqlite(database, error))
}

/// A byte order mark is no part of the text.
fn skip_mark<R: Read>(reader: &mut BufReader<R>) -> std::io::Result<()> {
    if reader.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    Ok(())
}

fn connect(database: &Path, rights: &Rights, context: &Context) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let mut connection = Connection::open_with_flags(database, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.execute_batch(
        "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536; PRAGMA temp_store=MEMORY;",
    )?;
    if let Some(free) = database.parent().and_then(free_bytes) {
        let pages = free.saturating_sub(RESERVED_BYTES) / PAGE_BYTES;
        connection.execute_batch(&format!("PRAGMA max_page_count={}", pages.clamp(16, 0xffff_fffe)))?;
    }
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    let cancel = context.cancel.clone();
    connection.progress_handler(20_000, Some(move || cancel.is_cancelled()))?;
    let rights = rights.clone();
    connection.authorizer(Some(move |asked: AuthContext<'_>| rights.judge(&asked)))?;
    Ok(connection)
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let space = rustix::fs::statvfs(folder).ok()?;
    Some(space.f_bavail.saturating_mul(space.f_frsize))
}

fn step(connection: &Connection, text: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(text)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

fn not_of_a_dump(object: &str, line: u64, what: &str) -> SourceError {
    let message = format!("line {line}: {what} is no part of a dump, and was not run");
    SourceError::new(SourceErrorKind::Unsupported, object, message)
        .with_hint("load the file by hand where you trust it, and back up the database that it makes")
}

fn explain(object: &str, line: u64, error: rusqlite::Error, rights: &Rights) -> SourceError {
    match rights.take_refused() {
        Some(what) if what == "ROLLBACK" => {
            let message = format!("line {line}: the dump ends with ROLLBACK: it was broken off by an error");
            return SourceError::new(SourceErrorKind::Damaged, object, message).with_hint(ANOTHER);
        }
        Some(what) => return not_of_a_dump(object, line, &what),
        None => {}
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => SourceError::cancelled(object),
        Some(ErrorCode::DiskFull) => {
            SourceError::new(SourceErrorKind::Failed, object, "scratch space is full while it is loaded")
                .with_hint("make room there, or name another folder by --scratch")
                .with_source(error)
        }
        _ => SourceError::new(SourceErrorKind::Damaged, object, format!("line {line}: {error}"))
            .with_hint(ANOTHER),
    }
}

/// Of a text without a transaction nobody can tell whether it was cut between two statements.
fn tell_unbracketed(object: &str, context: &Context) {
    context.observer.event(Event::Finding(Finding {
        severity: Severity::Warning,
        object: object.to_owned(),
        message: "its statements are in no transaction: whether it is whole cannot be told".to_owned(),
        hint: Some("compare its tables with what you expect: `backstay show BACKUP`".to_owned()),
    }));
}
