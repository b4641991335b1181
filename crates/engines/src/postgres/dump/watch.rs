//! Looks after `pg_dump` until its table of contents came: it asks for the definitions of views, for which no lock of ours
//! stands, and would wait for who changes one as long as that takes, with every table locked.
//!
//! What waits so is ended before the server looks for deadlocks (`deadlock_timeout`, a second), so that hardly anybody's
//! transaction ends because of a backup; then all starts over.

use super::stream::ArchiveStream;
use crate::postgres::session::Session;
use crate::postgres::tools::{Ender, Running};
use flow::{SourceError, SourceErrorKind};
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How often it is looked at; one that is found waiting twice for the same is ended.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// For tables `pg_dump` has a limit of its own.
const WAITING: &str = "SELECT coalesce(pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), l.locktype)
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
  LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE NOT l.granted AND a.datname = current_database() AND a.usename = session_user
    AND a.application_name = 'backstay' AND a.pid <> pg_catalog.pg_backend_pid()
    AND coalesce(c.relkind NOT IN ('r', 'p'), true) LIMIT 1";

/// Reads the table of contents of a `pg_dump` that was started. Where none came, the error, and whether another attempt
/// may not meet it.
pub(super) fn begin(
    started: (Running, ChildStdout),
    with_rows: bool,
    holder: &mut Session,
    object: &str,
) -> Result<Result<ArchiveStream, (SourceError, bool)>, SourceError> {
    let ender = started.0.ender();
    let (alive, over) = channel::<()>();
    let (begun, waited) = std::thread::scope(|scope| {
        let watcher = scope.spawn(move || watch(holder, &over, &ender));
        let begun = ArchiveStream::begin(started, with_rows, object);
        drop(alive);
        (begun, watcher.join().unwrap_or_default())
    });
    Ok(match (begun?, waited) {
        (Ok(archive), None) => Ok(archive),
        (_, Some(waited)) => {
            let message = format!("pg_dump had to wait for {waited}, which somebody else is changing");
            Err((SourceError::new(SourceErrorKind::Busy, object, message), true))
        }
        (Err(ended), None) => {
            // A lock that it did not get, or an object that went while it looked at it.
            let passing = ended.mentions(&["LOCK TABLE", "with OID", "cache lookup failed", "deadlock"])
                && !ended.mentions(&["permission denied"]);
            Err((ended.into_error(), passing))
        }
    })
}

fn watch(holder: &mut Session, over: &Receiver<()>, ender: &Ender) -> Option<String> {
    let mut before = None;
    loop {
        match over.recv_timeout(LOOK_AGAIN) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return None,
        }
        // A session that fails here fails at its next statement too, and says why.
        let found = waiting(holder).ok()?;
        if found.is_some() && found == before {
            ender.end();
            return found;
        }
        before = found;
    }
}

fn waiting(holder: &mut Session) -> Result<Option<String>, SourceError> {
    // Within a transaction the server shows activity as it was at the first look.
    holder.query("SELECT pg_catalog.pg_stat_clear_snapshot()", &[])?;
    match holder.query(WAITING, &[])?.first() {
        Some(row) => Ok(Some(holder.field(row, 0)?)),
        None => Ok(None),
    }
}
