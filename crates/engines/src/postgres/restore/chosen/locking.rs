//! The locks of a transaction in the live database: waited for a while, and no longer, since whoever comes later waits behind
//! us. Who holds them is told.

use super::blockers;
use super::stage::{LOCK_TIMEOUT, Stage, listed};
use crate::postgres::failure;
use flow::{SourceError, SourceErrorKind};
use tokio_postgres::error::SqlState;

/// Locks tables until the end of the transaction, all in one go; `oids` are those of which it is told who uses them.
pub(in crate::postgres::restore) fn lock(
    stage: &mut Stage<'_>,
    mut names: Vec<String>,
    mode: &str,
    oids: &[u32],
) -> Result<(), SourceError> {
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    let sql =
        format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; LOCK TABLE {} IN {mode} MODE", names.join(", "));
    let Err(error) = stage.session.try_execute(&sql)? else { return Ok(()) };
    if !failure::is(&error, &[&SqlState::LOCK_NOT_AVAILABLE, &SqlState::T_R_DEADLOCK_DETECTED]) {
        let action = format!("{} cannot be locked", names.join(", "));
        return Err(failure::server(stage.object(), &action, &error));
    }
    stage.session.execute("ROLLBACK")?;
    let users = blockers::users(stage.session, oids)?;
    let by = if users.is_empty() { String::new() } else { format!(" by {}", listed(&users)) };
    let message = format!("{} was in use for {LOCK_TIMEOUT}{by}", names.join(", "));
    Err(stage.error(SourceErrorKind::InUse, message).with_hint(
        "wait until that has ended, or end it (SELECT pg_terminate_backend(PID)), then run it again",
    ))
}
