//! The moment that a backup shows: one transaction holds a lock on every table, then takes and exports the snapshot
//! that all others read by.
//!
//! `TRUNCATE` and a rewriting `ALTER TABLE` are not seen by snapshots: whoever reads such a table later finds it empty
//! or new. So the locks come first: a transaction has no snapshot until its first query, and `LOCK TABLE` is none. What
//! was created between the list of tables and the snapshot is locked afterwards, and its file compared with the one that
//! the snapshot knows; where they differ, or a name now means another table, all starts over. Locks are never waited
//! for while others are held: nobody's transaction ends in a deadlock because of them.

use super::catalog::{self, Catalog, Which};
use super::failure;
use super::session::Session;
use flow::{Context, SourceError, SourceErrorKind};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// How often it is tried at least, however short the time.
const ATTEMPTS_MIN: u32 = 3;
const PAUSE_MIN: Duration = Duration::from_millis(30);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// What a snapshot shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moment {
    /// The name by which other sessions take it.
    pub(super) name: String,
    /// The server's clock.
    pub(super) time: Timestamp,
    /// The position in the write-ahead log.
    pub(super) lsn: Option<String>,
    /// The timeline of it.
    pub(super) timeline: Option<i64>,
    /// Which transactions it sees.
    pub(super) transactions: String,
    /// Whether the server is a standby.
    pub(super) on_standby: bool,
    /// The server's version as text.
    pub(super) server_version: String,
    /// The database's encoding.
    pub(super) encoding: String,
    /// The locale by which amounts of money are written.
    pub(super) lc_monetary: String,
    /// The size of the database's files.
    pub(super) database_bytes: u64,
}

/// How long and how often it may be tried.
pub(super) struct Patience {
    deadline: Instant,
    attempts: u32,
    pause: Duration,
}

impl Patience {
    /// Begins with so much time.
    pub(super) fn new(limit: Duration) -> Self {
        Self { deadline: Instant::now() + limit, attempts: 0, pause: PAUSE_MIN }
    }

    /// Pauses before the next attempt. Fails with `error` where there is none.
    pub(super) fn again(&mut self, error: SourceError, context: &Context) -> Result<(), SourceError> {
        self.attempts += 1;
        if self.attempts >= ATTEMPTS_MIN && Instant::now() >= self.deadline {
            return Err(error);
        }
        if context.cancel.wait(self.pause) {
            return Err(SourceError::cancelled(error.object));
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

/// Locks every table that is asked for and takes the snapshot, in a transaction that is left open in `session`.
pub(super) fn take(
    session: &mut Session,
    which: Which,
    object: &str,
    patience: &mut Patience,
    context: &Context,
) -> Result<(Moment, Catalog), SourceError> {
    loop {
        match attempt(session, which, object)? {
            Ok(taken) => return Ok(taken),
            Err(error) => {
                session.execute("ROLLBACK")?;
                let error = blamed(session, error);
                patience.again(error, context)?;
            }
        }
    }
}

/// Tries once. The inner error is one that another attempt may not meet.
fn attempt(
    session: &mut Session,
    which: Which,
    object: &str,
) -> Result<Result<(Moment, Catalog), SourceError>, SourceError> {
    let now = catalog::tables_now(session, which)?;
    session.execute(&session.begin_reading(None))?;
    if let Err(error) = lock(session, now.values().map(String::as_str), object)? {
        return Ok(Err(error));
    }
    let moment = moment(session, object)?;
    let mut found = catalog::read_unsized(session, which)?;
    let ours = locked(session)?;
    let unlocked: Vec<&str> = found
        .tables
        .iter()
        .filter(|table| !ours.contains(&table.oid))
        .map(|table| table.quoted.as_str())
        .collect();
    if !unlocked.is_empty() {
        if let Err(error) = lock(session, unlocked.into_iter(), object)? {
            return Ok(Err(error));
        }
        found = catalog::read_unsized(session, which)?;
        let ours = locked(session)?;
        if let Some(other) = found.tables.iter().find(|table| !ours.contains(&table.oid)) {
            return Ok(Err(changing(object, &other.shown, "was replaced by another")));
        }
    }
    if let Some(rewritten) = found.tables.iter().find(|table| !table.same_file) {
        return Ok(Err(changing(object, &rewritten.shown, "was truncated or rewritten")));
    }
    catalog::read_sizes(session, &mut found)?;
    Ok(Ok((moment, found)))
}

fn changing(object: &str, table: &str, what: &str) -> SourceError {
    let message = format!("table {table} {what} just when the backup began, each time that it was tried");
    SourceError::new(SourceErrorKind::Busy, object, message)
        .with_hint("run the backup at another time, or stop what rewrites the table meanwhile")
}

/// Locks tables against being dropped, truncated or rewritten; waits for nobody.
fn lock<'a>(
    session: &mut Session,
    tables: impl Iterator<Item = &'a str>,
    object: &str,
) -> Result<Result<(), SourceError>, SourceError> {
    let tables: Vec<&str> = tables.collect();
    for some in tables.chunks(500) {
        let names: Vec<String> = some.iter().map(|name| format!("ONLY {name}")).collect();
        let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT", names.join(", "));
        if let Err(error) = session.try_execute(&sql)? {
            let made = failure::server(object, "the tables cannot be locked", &error);
            let passing = [
                &SqlState::LOCK_NOT_AVAILABLE,
                &SqlState::T_R_DEADLOCK_DETECTED,
                &SqlState::UNDEFINED_TABLE,
                &SqlState::INVALID_SCHEMA_NAME,
                &SqlState::WRONG_OBJECT_TYPE,
            ];
            return if failure::is(&error, &passing) { Ok(Err(made)) } else { Err(made) };
        }
    }
    Ok(Ok(()))
}

fn locked(session: &mut Session) -> Result<BTreeSet<u32>, SourceError> {
    let sql = "SELECT l.relation FROM pg_catalog.pg_locks l
               WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND l.granted
                 AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
                 AND l.mode = 'AccessShareLock'";
    session.query(sql, &[])?.iter().map(|row| session.field(row, 0)).collect()
}

fn moment(session: &mut Session, object: &str) -> Result<Moment, SourceError> {
    let transactions =
        if session.version >= 130_000 { "pg_current_snapshot" } else { "txid_current_snapshot" };
    let sql = format!(
        "SELECT pg_catalog.pg_export_snapshot(), (extract(epoch FROM clock_timestamp()) * 1000000)::int8,
           pg_catalog.{transactions}()::text, pg_catalog.pg_is_in_recovery(),
           (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                 ELSE pg_catalog.pg_current_wal_insert_lsn() END)::text,
           current_setting('server_version'), pg_catalog.getdatabaseencoding()::text,
           pg_catalog.pg_database_size(current_database()),
           CASE WHEN pg_catalog.has_function_privilege('pg_catalog.pg_control_checkpoint()', 'EXECUTE')
                THEN (SELECT timeline_id::int8 FROM pg_catalog.pg_control_checkpoint()) END,
           current_setting('lc_monetary')"
    );
    let row = session.query_one(&sql, &[])?;
    let microseconds: i64 = session.field(&row, 1)?;
    let database_bytes: i64 = session.field(&row, 7)?;
    Ok(Moment {
        name: session.field(&row, 0)?,
        time: Timestamp::from_microsecond(microseconds).map_err(|error| {
            SourceError::new(SourceErrorKind::Failed, object, format!("the server's clock: {error}"))
        })?,
        transactions: session.field(&row, 2)?,
        on_standby: session.field(&row, 3)?,
        lsn: session.field(&row, 4)?,
        server_version: session.field(&row, 5)?,
        encoding: session.field(&row, 6)?,
        database_bytes: u64::try_from(database_bytes).unwrap_or(0),
        timeline: session.field(&row, 8)?,
        lc_monetary: session.field(&row, 9)?,
    })
}

/// Says in an error who holds or waits for locks that let nobody else read, where that can be found out.
pub(super) fn blamed(session: &mut Session, mut error: SourceError) -> SourceError {
    if let Ok(who) = exclusive(session)
        && !who.is_empty()
    {
        error.hint = Some(who);
    }
    error
}

fn exclusive(session: &mut Session) -> Result<String, SourceError> {
    let sql = "SELECT l.pid, coalesce(a.usename::text, '?'), coalesce(a.application_name, ''),
                 l.relation::regclass::text, l.granted,
                 array_to_string(pg_catalog.pg_blocking_pids(l.pid), ', ')
               FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
               WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
                 AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
               ORDER BY l.granted DESC, l.pid LIMIT 5";
    let (mut who, mut prepared) = (Vec::new(), false);
    for row in session.query(sql, &[])? {
        let (pid, user, application): (Option<i32>, String, String) =
            (session.field(&row, 0)?, session.field(&row, 1)?, session.field(&row, 2)?);
        let table: Option<String> = session.field(&row, 3)?;
        let application = if application.is_empty() { application } else { format!(" ({application})") };
        let table = table.unwrap_or_else(|| "a table that is gone".to_owned());
        let (granted, blockers): (bool, Option<String>) = (session.field(&row, 4)?, session.field(&row, 5)?);
        let Some(pid) = pid else {
            prepared = true;
            who.push(format!("a prepared transaction holds {table} for itself"));
            continue;
        };
        let blockers = blockers.unwrap_or_default();
        who.push(match granted {
            true => format!("process {pid} of {user}{application} holds {table} for itself"),
            false => format!("process {pid} of {user}{application} waits for {table}, behind {blockers}"),
        });
    }
    if who.is_empty() {
        return Ok(String::new());
    }
    let end = if prepared {
        "pg_prepared_xacts lists prepared transactions, COMMIT PREPARED or ROLLBACK PREPARED ends one"
    } else {
        "wait for it, or end it with pg_terminate_backend"
    };
    Ok(format!("{}; {end}", who.join("; ")))
}
