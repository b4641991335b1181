//! A look at a database for `doctor`: what would stop or spoil a backup, each with its fix. Changes nothing.

use super::holders::lock_holders;
use super::live::interrupt_on_cancel;
use super::marks::beside;
use super::open::{Opened, OpenedAs, open, regular_file};
use super::pages::Version;
use crate::engine::DatabaseInfo;
use flow::{Context, DatabaseRef, Finding, Severity, SourceError, SourceErrorKind};
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;

/// How long a look waits for a lock: a person waits for it.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How many problems of an integrity check are told one by one.
const PROBLEMS_MAX: usize = 100;

/// Looks at a database. What cannot be opened at all is a finding where a person can mend it, and an error only where
/// there is nothing to look at.
pub(super) fn probe(
    database: &DatabaseRef,
    integrity: bool,
    context: &Context,
) -> Result<DatabaseInfo, SourceError> {
    let path = Path::new(&database.connection);
    let size_bytes = regular_file(path)?.len();
    let mut findings = Findings { object: database.connection.clone(), list: Vec::new() };
    if let Ok(wal) = std::fs::metadata(beside(path, "-wal"))
        && wal.len() > 0
    {
        let holders = lock_holders(path);
        let state = if holders.is_empty() { "left by a program that did not close it" } else { "in use" };
        findings
            .notice(format!("has a -wal of {} bytes, {state}; it is part of the backup", wal.len()), None);
    }
    if std::fs::metadata(beside(path, "-journal")).is_ok_and(|journal| journal.len() > 0) {
        findings.notice("has a -journal: a transaction is under way or was cut short".to_owned(), None);
    }
    match open(path, LOCK_WAIT, context) {
        Ok(opened) => {
            findings.notice(format!("SQLite {} reads it", rusqlite::version()), None);
            look(&opened, integrity, context, &mut findings)?;
        }
        Err(error) if error.kind == SourceErrorKind::Cancelled => return Err(error),
        Err(error) => findings.problem(error.message, error.hint.as_deref()),
    }
    Ok(DatabaseInfo { engine_version: rusqlite::version().to_owned(), size_bytes, findings: findings.list })
}

struct Findings {
    object: String,
    list: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, severity: Severity, message: String, hint: Option<&str>) {
        let (object, hint) = (self.object.clone(), hint.map(str::to_owned));
        self.list.push(Finding { severity, object, message, hint });
    }

    fn notice(&mut self, message: String, hint: Option<&str>) {
        self.add(Severity::Notice, message, hint);
    }

    fn problem(&mut self, message: String, hint: Option<&str>) {
        self.add(Severity::Problem, message, hint);
    }
}

fn look(
    opened: &Opened,
    integrity: bool,
    context: &Context,
    findings: &mut Findings,
) -> Result<(), SourceError> {
    match opened.access {
        OpenedAs::ReadWrite => {}
        OpenedAs::ReadOnly => findings.notice("can be read, not written, by this user".to_owned(), None),
        OpenedAs::Staged => findings.add(
            Severity::Warning,
            "cannot be read in place for lack of rights: each backup copies it to scratch first".to_owned(),
            Some("give this user the right to write to the file and its folder, or run as its owner"),
        ),
    }
    opened.lock(LOCK_WAIT, &context.cancel)?;
    let connection = opened.connection();
    let version = Version::look(connection).map_err(|error| opened.error(error))?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .map_err(|error| opened.error(error))?;
    findings.notice(
        format!("journal mode {mode}, {} pages of {} bytes", version.pages, version.page_bytes),
        None,
    );
    if !version.wal && version.pages > 0 {
        findings.notice(
            "is in rollback mode: a backup keeps its writers out for short moments".to_owned(),
            Some("`PRAGMA journal_mode=WAL` lets backups and writers work at once"),
        );
    }
    if integrity {
        let _interrupt = interrupt_on_cancel(connection, context);
        check_content(opened, findings)?;
    }
    // Closed with the lock: after damage was met, SQLite may not even end the transaction.
    Ok(())
}

/// Asks SQLite to check the whole content. A database can be damaged so badly that a check itself ends with an error:
/// that is a problem found, too.
fn check_content(opened: &Opened, findings: &mut Findings) -> Result<(), SourceError> {
    let connection = opened.connection();
    let damage =
        "restore the newest backup that is proven, or save what is left with `sqlite3 FILE .recover`";
    let before = findings.list.len();
    for (name, check, hint) in [
        ("integrity", integrity as fn(&Connection) -> Checked, damage),
        ("foreign key", foreign_keys, "add the missing row or remove the reference"),
    ] {
        let (lines, ended) = check(connection);
        for line in lines {
            findings.problem(format!("{name} check: {line}"), Some(hint));
        }
        if let Err(error) = ended {
            let text = error.to_string();
            let error = opened.error(error);
            if error.kind == SourceErrorKind::Cancelled {
                return Err(error);
            }
            findings.problem(format!("{name} check: {text}"), Some(damage));
        }
    }
    if findings.list.len() == before {
        findings.notice("its whole content was checked and is sound".to_owned(), None);
    }
    Ok(())
}

/// What a check found, and how it ended.
type Checked = (Vec<String>, rusqlite::Result<()>);

fn integrity(connection: &Connection) -> Checked {
    let mut found = Vec::new();
    let ended =
        connection.prepare(&format!("PRAGMA integrity_check({PROBLEMS_MAX})")).and_then(|mut statement| {
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let line: String = row.get(0)?;
                if line != "ok" {
                    found.push(line);
                }
            }
            Ok(())
        });
    (found, ended)
}

fn foreign_keys(connection: &Connection) -> Checked {
    let mut found = Vec::new();
    let ended = connection.prepare("PRAGMA foreign_key_check").and_then(|mut statement| {
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()?
            && found.len() < PROBLEMS_MAX
        {
            let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
            let which =
                row.get::<_, Option<i64>>(1)?.map_or("a row".to_owned(), |rowid| format!("row {rowid}"));
            found.push(format!("{which} of {table} refers to no row of {parent}"));
        }
        Ok(())
    });
    (found, ended)
}
