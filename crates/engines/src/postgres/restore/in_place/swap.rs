//! The moment at which restored content takes the place of the old, or the other way round.
//!
//! Just before, all tables that will be moved are locked: whoever is in a transaction with them ends that first, so no
//! transaction is half in the old and half in the new. Whoever waits meanwhile finds the new tables by their names.

use super::aside;
use super::ground;
use super::objects;
use super::record::{self, Work};
use crate::postgres::failure;
use crate::postgres::restore::ending::{self, Uncommitted};
use crate::postgres::restore::keeper::Keeper;
use crate::postgres::restore::names::quoted;
use crate::postgres::restore::sessions;
use crate::postgres::session::Session;
use crate::restore::{RestoreState, Safety};
use flow::{Cancel, Context, Event, Finding, Severity, SourceError, SourceErrorKind};
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// How long those are waited for who are in a transaction with the tables.
const WAITING_MAX: Duration = Duration::from_secs(60);
/// How long others wait behind us at most, each time.
const ROUND: &str = "2s";
const PAUSE: Duration = Duration::from_millis(500);

/// Locks the tables of schemas until the end of the transaction.
pub(super) fn lock(session: &mut Session, schemas: &[String], object: &str) -> Result<(), SourceError> {
    let tables = ground::tables(session, schemas)?;
    if tables.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SET LOCAL lock_timeout = '{ROUND}'; LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE",
        tables.join(", ONLY ")
    );
    let started = Instant::now();
    loop {
        session.execute("SAVEPOINT backstay")?;
        let Err(error) = session.try_execute(&sql)? else { return Ok(()) };
        session.execute("ROLLBACK TO SAVEPOINT backstay; RELEASE SAVEPOINT backstay")?;
        let waits = [&SqlState::LOCK_NOT_AVAILABLE, &SqlState::T_R_DEADLOCK_DETECTED];
        if !failure::is(&error, &waits) {
            return Err(failure::server(object, "the old tables cannot be locked", &error));
        }
        if started.elapsed() >= WAITING_MAX {
            return Err(in_use(session, object)?);
        }
        std::thread::sleep(PAUSE);
    }
}

fn in_use(session: &mut Session, object: &str) -> Result<SourceError, SourceError> {
    let sql = "SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()";
    let row = session.query_one(sql, &[])?;
    let oid: u32 = session.field(&row, 0)?;
    let sql = "SELECT DISTINCT l.pid FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation' AND l.granted
                 AND l.database = $1 AND l.pid <> pg_catalog.pg_backend_pid()";
    let mut pids: Vec<i32> = Vec::new();
    for row in session.query(sql, &[&oid])? {
        pids.push(session.field(&row, 0)?);
    }
    let connected = sessions::of(session, oid)?;
    let holding: Vec<&sessions::Connected> = connected
        .iter()
        .filter(|one| pids.iter().any(|pid| one.holder.name.starts_with(&format!("session {pid} "))))
        .collect();
    let seconds = WAITING_MAX.as_secs();
    let message = format!("its tables were in use for {seconds} s by {}", sessions::listed(&holding));
    Ok(SourceError::new(SourceErrorKind::InUse, object, message).with_hint(
        "end those transactions (SELECT pg_terminate_backend(PID)), or let `--stop-command` stop the service, then run it again",
    ))
}

/// Commits the transaction of a restore, with the record of it.
pub(super) fn commit(
    session: &mut Session,
    state: &RestoreState,
    work: &Work,
    object: &str,
    context: &Context,
) -> Result<(), Uncommitted> {
    let old: Vec<String> =
        work.moved.iter().flat_map(|moved| moved.schemas.iter().map(|(_, kept)| kept.clone())).collect();
    lock(session, &old, object)?;
    session.execute(&record::statement(state, work, object)?)?;
    ending::commit(session, object, context)
}

/// Puts the old content back, in one transaction with the end of the record. Returns the schemas that hold what was
/// restored.
pub(super) fn back(
    keeper: &mut Keeper,
    state: &RestoreState,
    work: &Work,
    context: &Context,
) -> Result<Vec<String>, SourceError> {
    let Some(moved) = &work.moved else { return Ok(Vec::new()) };
    let (object, started) = (keeper.object.clone(), state.request.started);
    let calm = Context { cancel: Cancel::new(), ..context.clone() };
    let session = &mut keeper.session;
    session.execute("BEGIN; SET LOCAL client_min_messages = warning")?;
    let done = lock(session, &moved.made, &object).and_then(|()| {
        let aside = aside::move_back(session, moved, started, &object)?;
        objects::put_back(session, moved)?;
        record::remove(session, &work.schema)?;
        Ok(aside)
    });
    match done {
        Ok(aside) => {
            ending::commit(session, &object, &calm).map_err(|uncommitted| uncommitted.error)?;
            Ok(aside)
        }
        Err(error) => {
            session.execute("ROLLBACK").ok();
            Err(error)
        }
    }
}

/// Accepts what was put in place: the record goes, and what was kept where none is wanted.
pub(super) fn accept(
    keeper: &mut Keeper,
    state: &RestoreState,
    work: &Work,
    context: &Context,
) -> Result<(), SourceError> {
    let moved = work.moved.clone().unwrap_or_default();
    if state.request.safety == Safety::None {
        let kept = moved.schemas.iter().map(|(_, kept)| kept).chain(&moved.objects);
        for schema in kept {
            let sql = format!("DROP SCHEMA IF EXISTS {} CASCADE", quoted(schema));
            let done = keeper.session.try_execute(&format!("SET client_min_messages = warning; {sql}"))?;
            if let Err(error) = done {
                let message = format!("the old schema {schema} is still there: {}", failure::text(&error));
                let object = keeper.object.clone();
                context.observer.event(Event::Finding(Finding {
                    severity: Severity::Warning,
                    object,
                    message,
                    hint: Some(sql),
                }));
            }
        }
        for (_, kept) in &moved.publications {
            keeper.session.try_execute(&format!("DROP PUBLICATION IF EXISTS {}", quoted(kept)))?.ok();
        }
        for (_, kept, _) in &moved.triggers {
            keeper.session.try_execute(&format!("DROP EVENT TRIGGER IF EXISTS {}", quoted(kept)))?.ok();
        }
    }
    record::remove(&mut keeper.session, &work.schema)
}
