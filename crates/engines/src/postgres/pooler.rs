//! A pooler between us and the server that gives each transaction another of its connections (PgBouncer with
//! `pool_mode = transaction`, and its kin). What a session sets then stays behind in connections of others: a
//! `search_path` of a backup would be an application's. So it is found out before anything is set.
//!
//! It is told by what it does, not by its name: a session whose transactions run in several server processes, or in one
//! that another session uses too, is none. Nothing is changed, and nothing is left behind.

use super::connection::Settings;
use super::failure;
use super::session::{self, Session};
use flow::{Cancel, SourceError, SourceErrorKind};
use tokio_postgres::SimpleQueryMessage;

/// How often it is looked at: a pooler may give the same connection twice by chance.
const ROUNDS: usize = 5;
/// Behind a name there may be several servers, and small numbers of processes are alike on all of them: the moment of the
/// beginning tells them apart.
const PROCESS: &str = "SELECT pid::text || ' ' || extract(epoch FROM backend_start)::text
  FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()";

/// What is to be done about it.
pub(super) const HINT: &str = "connect to the server itself (its own port, most often 5432), or to a pool with \
     pool_mode = session";

/// How a pooler shares its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shared {
    /// Each transaction may have another one.
    ByTransaction,
    /// Each statement may, and no transaction is let in.
    ByStatement,
}

impl Shared {
    /// Says what is so, as the end of a sentence that begins with the database.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::ByTransaction => {
                "a pooler stands before the server that gives each transaction another connection: a backup needs one that stays, and its settings would stay behind with those of others"
            }
            Self::ByStatement => {
                "a pooler stands before the server that lets no transaction in: a backup is one long transaction"
            }
        }
    }
}

/// Connects to the server itself, ready for use. Fails where a pooler that keeps no session stands before it.
pub(super) fn connect_past(
    settings: &Settings,
    object: &str,
    cancel: &Cancel,
) -> Result<Session, SourceError> {
    let mut session = session::connect_plain(settings, None, object, cancel)?;
    if let Some(shared) = look(&mut session, settings, object, cancel)? {
        return Err(SourceError::new(SourceErrorKind::Unsupported, object, shared.message()).with_hint(HINT));
    }
    session.prepare()?;
    Ok(session)
}

/// Tells whether a pooler shares the connection behind a session that has set nothing yet. Where no second connection is
/// to be had nobody can tell, and none is assumed.
pub(super) fn look(
    session: &mut Session,
    settings: &Settings,
    object: &str,
    cancel: &Cancel,
) -> Result<Option<Shared>, SourceError> {
    let ours = process(session, object)?;
    let mut other = match session::connect_plain(settings, Some(session.reached), object, cancel) {
        Ok(other) => other,
        Err(error) if error.kind == SourceErrorKind::Cancelled => return Err(error),
        Err(_) => return Ok(None),
    };
    let mut before: Option<String> = None;
    for _ in 0..ROUNDS {
        if let Err(error) = other.try_text_query("BEGIN")? {
            return match failure::text(&error).contains("transaction blocks not allowed") {
                true => Ok(Some(Shared::ByStatement)),
                false => Err(failure::server(object, "", &error)),
            };
        }
        // The pooler is free to give it the connection that we had a moment ago, and holds it as long as its transaction
        // lasts: then there is nothing to ask it through.
        let theirs = process(&mut other, object)?;
        let moved = before.as_ref().is_some_and(|before| *before != theirs);
        let shared = theirs == ours || moved || process(session, object)? != ours;
        before = Some(theirs);
        let _ = other.try_text_query("ROLLBACK")?;
        if shared {
            return Ok(Some(Shared::ByTransaction));
        }
    }
    Ok(None)
}

/// Returns which of the server's processes answers.
fn process(session: &mut Session, object: &str) -> Result<String, SourceError> {
    let answer = session
        .try_text_query(PROCESS)?
        .map_err(|error| failure::server(object, "cannot connect", &error))?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    row.ok_or_else(|| SourceError::new(SourceErrorKind::Failed, object, "the server gave no answer"))
}
