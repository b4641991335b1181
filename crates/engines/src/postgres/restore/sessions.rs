//! Who is connected to a database, and the end of that.
//!
//! Sessions are ended by `pg_terminate_backend`: their transactions are rolled back by the server. Only those are ended
//! that the role may end; the others are named.

use crate::postgres::session::Session;
use crate::restore::Holder;
use flow::SourceError;
use std::time::Duration;

/// How often, and with which pause, sessions that are over are looked for.
const LOOKS_MAX: u32 = 30;
const LOOK_PAUSE: Duration = Duration::from_millis(3);

/// Whether the role may end a session of `a`: its own, those of roles that it is a member of, all but superusers' with
/// `pg_signal_backend`.
const MAY_END: &str = "((SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
   OR (a.usesysid IS NOT NULL
       AND NOT coalesce((SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = a.usesysid), false)
       AND (pg_catalog.pg_has_role(a.usesysid, 'MEMBER')
            OR pg_catalog.pg_has_role('pg_signal_backend', 'MEMBER'))))";

/// Somebody who is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connected {
    /// Who it is, since when.
    pub(super) holder: Holder,
    /// Whether we may end it.
    pub(super) may_end: bool,
}

/// Returns who is connected to a database, the server's own workers left out.
pub(super) fn of(session: &mut Session, oid: u32) -> Result<Vec<Connected>, SourceError> {
    let sql = format!(
        "SELECT a.pid, coalesce(a.usename::text, '?'), coalesce(a.application_name, ''),
           coalesce(pg_catalog.host(a.client_addr), ''),
           coalesce(to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), '?'), {MAY_END}
         FROM pg_catalog.pg_stat_activity a
         WHERE a.datid = $1 AND a.pid <> pg_catalog.pg_backend_pid()
           AND coalesce(a.backend_type, '') NOT IN ('autovacuum worker', 'parallel worker')
         ORDER BY a.pid"
    );
    let mut found = Vec::new();
    for row in session.query(&sql, &[&oid])? {
        let (pid, user): (i32, String) = (session.field(&row, 0)?, session.field(&row, 1)?);
        let (program, address): (String, String) = (session.field(&row, 2)?, session.field(&row, 3)?);
        let since: String = session.field(&row, 4)?;
        let mut about: Vec<String> = Vec::new();
        if !program.is_empty() {
            about.push(program);
        }
        if !address.is_empty() {
            about.push(format!("from {address}"));
        }
        about.push(format!("since {since} UTC"));
        let name = format!("session {pid} of {user} ({})", about.join(", "));
        found.push(Connected { holder: Holder { pid: None, name }, may_end: session.field(&row, 5)? });
    }
    Ok(found)
}

/// Waits a moment for sessions of our own that are over: the server needs a little to notice, and a rename that finds one
/// there looks again only after a tenth of a second.
pub(super) fn wait_for_end(session: &mut Session, oid: u32) -> Result<(), SourceError> {
    let sql = "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE datid = $1 LIMIT 1";
    for _ in 0..LOOKS_MAX {
        if session.query(sql, &[&oid])?.is_empty() {
            return Ok(());
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    Ok(())
}

/// Asks all sessions of a database that we may end to end. Does not wait for that.
pub(super) fn end_all(session: &mut Session, oid: u32) -> Result<(), SourceError> {
    let sql = format!(
        "SELECT CASE WHEN {MAY_END} THEN pg_catalog.pg_terminate_backend(a.pid) END
         FROM pg_catalog.pg_stat_activity a WHERE a.datid = $1 AND a.pid <> pg_catalog.pg_backend_pid()"
    );
    session.query(&sql, &[&oid]).map(drop)
}

/// Returns the names of those in a sentence.
pub(super) fn listed(connected: &[&Connected]) -> String {
    let mut names: Vec<&str> =
        connected.iter().take(10).map(|connected| connected.holder.name.as_str()).collect();
    let more = format!("{} more", connected.len().saturating_sub(10));
    if connected.len() > 10 {
        names.push(&more);
    }
    names.join(", ")
}
