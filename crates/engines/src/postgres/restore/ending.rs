//! The end of a transaction that everything depends on: where the connection is lost just then, the server is asked what
//! became of it, so that nobody is told of a failure that was a success, or the other way round.

use crate::postgres::failure;
use crate::postgres::session::{self, Session};
use crate::postgres::targets;
use flow::{Cancel, Context, SourceError, SourceErrorKind};
use std::time::{Duration, Instant};

/// How long a server that was restarted is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(250);

/// A transaction that was not committed, or of which nobody tells.
pub(super) struct Uncommitted {
    /// What went wrong.
    pub(super) error: SourceError,
    /// Whether it is known that nothing was committed.
    pub(super) known: bool,
}

impl From<SourceError> for Uncommitted {
    fn from(error: SourceError) -> Self {
        Self { error, known: true }
    }
}

/// Commits the transaction of a session that has written something.
pub(super) fn commit(session: &mut Session, object: &str, context: &Context) -> Result<(), Uncommitted> {
    let row = session.query_one("SELECT pg_catalog.txid_current()", &[])?;
    let number: i64 = session.field(&row, 0)?;
    let error = match session.try_execute("COMMIT") {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error,
        // Asked to stop when the commit was under way already.
        Err(cancelled) => {
            return match outcome(number, object, context) {
                Some(true) => Ok(()),
                told => Err(Uncommitted { error: cancelled, known: told.is_some() }),
            };
        }
    };
    if error.as_db_error().is_some_and(|said| !said.code().code().starts_with("57P")) {
        return Err(failure::server(object, "the transaction cannot be committed", &error).into());
    }
    match outcome(number, object, context) {
        Some(true) => Ok(()),
        Some(false) => Err(failure::server(object, "the transaction was not committed", &error).into()),
        None => {
            let message =
                "the connection was lost at the commit, and the server does not tell what became of it";
            let error = SourceError::new(SourceErrorKind::Failed, object, message)
                .with_hint("connect to it and look: all of the restore is there, or nothing of it")
                .with_source(error);
            Err(Uncommitted { error, known: false })
        }
    }
}

/// Asks what became of a transaction; `None` where nobody tells.
fn outcome(number: i64, object: &str, context: &Context) -> Option<bool> {
    let calm = Context { cancel: Cancel::new(), ..context.clone() };
    let settings = targets::settings(object, None, &calm).ok()?;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Ok(mut session) = session::connect(&settings, None, object, &calm.cancel) {
            let asked = session.query_one("SELECT pg_catalog.txid_status($1)", &[&number]);
            let status = asked.and_then(|row| session.field::<Option<String>>(&row, 0));
            match status.ok().flatten().as_deref() {
                Some("committed") => return Some(true),
                Some("aborted") => return Some(false),
                _ => {}
            }
        }
        std::thread::sleep(PAUSE);
    }
    None
}
