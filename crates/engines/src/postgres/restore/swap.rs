//! The swap: the target gets another name and the new database takes its name, in one transaction with everything that
//! belongs to a database and not to its content. Whoever connects meanwhile waits a moment and finds one of the two.
//!
//! Renaming needs that nobody is connected. The server lets nobody in as long as it waits for those who are, so while
//! the transaction waits they are ended by another session. A crash before the commit leaves the old database as it was.

use super::job::{Job, Old, Swap};
use super::keeper::Keeper;
use super::names::{beside, quoted};
use super::properties::{self, Properties};
use super::{preflight, record, safety, scratch, sessions};
use crate::postgres::failure;
use crate::postgres::session::{self, Session};
use crate::restore::{RestoreError, RestoreMode, Safety};
use flow::{BackupReader, Cancel, Severity, SourceError, SourceErrorKind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// How long those who are connected may take to end.
const ENDING_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// What the target's name shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// What was there before, or nothing where nothing was.
    Old,
    /// Nothing, where something was.
    Nothing,
    /// The new database.
    New,
    /// A database that is neither.
    Foreign,
}

/// Tells which database is in place.
pub(super) fn position(keeper: &mut Keeper, job_work: &super::job::Work) -> Result<Position, SourceError> {
    let now = keeper.oid(&job_work.target)?;
    if now.is_some() && now == Some(job_work.scratch_oid) {
        return Ok(Position::New);
    }
    let Some(swap) = &job_work.swap else { return Ok(Position::Old) };
    Ok(match (now, swap.old.as_ref().map(|old| old.oid)) {
        (now, old) if now == old => Position::Old,
        (None, Some(_)) => Position::Nothing,
        _ => Position::Foreign,
    })
}

/// Looks whether those who are connected can be ended. Ends nobody yet.
pub(super) fn quiesce(job: &mut Job) -> Result<(), SourceError> {
    let target = job.work.target.clone();
    let Some(oid) = job.keeper.oid(&target)?.filter(|oid| *oid != job.work.scratch_oid) else {
        return Ok(());
    };
    let connected = sessions::of(&mut job.keeper.session, oid)?;
    let stay: Vec<&sessions::Connected> = connected.iter().filter(|one| !one.may_end).collect();
    if !stay.is_empty() {
        let message = format!("is in use by {}, which this role may not end", sessions::listed(&stay));
        return Err(job.error(SourceErrorKind::InUse, message).with_hint(
            "end them, or let `--stop-command` do that, or grant the role pg_signal_backend (superusers are ended by superusers)",
        ));
    }
    preflight::no_prepared_transactions(job)
}

/// Swaps. Ends with the new database under the target's name, or with an error and the old one there.
pub(super) fn run(job: &mut Job, backup: &dyn BackupReader) -> Result<(), RestoreError> {
    job.phase("swapping", None);
    if position(&mut job.keeper, &job.work)? == Position::New {
        return Ok(());
    }
    let target = job.work.target.clone();
    let old = job.keeper.listed(&target)?;
    if job.mode() == RestoreMode::ToNew && old.is_some() {
        let message = "somebody else has made it since the restore began";
        let hint =
            format!("undo the restore with {}, then name another new database", job.command("--rollback"));
        return Err(job.error(SourceErrorKind::InUse, message).with_hint(hint).into());
    }
    still_filled(job)?;
    quiesce(job)?;
    let toc = job.toc(backup)?;
    let made = match &old {
        Some(old) => properties::of_old(&mut job.keeper, old.oid, old.comment.as_deref(), &target)?,
        None => {
            let missing = preflight::missing_roles(job, &toc)?;
            let ownership = job.state.request.ownership.clone();
            let encoding = scratch::encoding_of(&toc);
            let session = &mut job.keeper.session;
            properties::of_archive(session, &toc, &encoding, (&ownership, &missing), &target)?
        }
    };
    let started = job.state.request.started;
    let was_empty = old.is_some() && preflight::holds_nothing(&job.keeper, &target, &job.context);
    let temporary = was_empty || job.state.request.safety == Safety::None;
    let what = if temporary { "replaced" } else { safety::SAFETY };
    let keep = job.keeper.free_name(&beside(&target, what, started))?;
    let old = old.map(|old| Old { oid: old.oid, comment: old.comment, keep, temporary, was_empty });
    job.state.safety_copy = old.as_ref().filter(|old| !old.temporary).map(|old| old.keep.clone());
    job.work.swap = Some(Swap { old, comment: made.comment.clone(), written: None });
    job.save()?;
    let watched = job.work.swap.as_ref().and_then(|swap| swap.old.as_ref()).map(|old| old.oid);
    sessions::wait_for_end(&mut job.keeper.session, job.work.scratch_oid)?;
    alone(job, watched, |job| renames(job, &made))?;
    Ok(())
}

/// Returns since when the server runs, where the session's database has unlogged tables.
pub(super) fn unlogged(session: &mut Session) -> Result<Option<String>, SourceError> {
    let sql = "SELECT pg_catalog.pg_postmaster_start_time()::text
               WHERE EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE relkind = 'r' AND relpersistence = 'u')";
    let rows = session.query(sql, &[])?;
    rows.first().map(|row| session.field(row, 0)).transpose()
}

/// Fails where the server was started anew since unlogged tables were filled: a crash of it empties them.
fn still_filled(job: &mut Job) -> Result<(), SourceError> {
    let Some(since) = job.work.unlogged_since.clone() else { return Ok(()) };
    let row = job.keeper.session.query_one("SELECT pg_catalog.pg_postmaster_start_time()::text", &[])?;
    let now: String = job.keeper.session.field(&row, 0)?;
    if now == since {
        return Ok(());
    }
    let message =
        "the server was started anew since the backup was loaded, and may have emptied unlogged tables";
    let hint = format!("undo the restore with {}, then begin it again", job.command("--rollback"));
    Err(job.error(SourceErrorKind::Failed, message).with_hint(hint))
}

/// Runs a transaction that renames databases, again and again until those who are connected to `watched` have ended.
pub(super) fn alone(
    job: &mut Job,
    watched: Option<u32>,
    transaction: impl Fn(&mut Job) -> Result<Result<(), tokio_postgres::Error>, SourceError>,
) -> Result<(), SourceError> {
    let (alive, over) = channel::<()>();
    let there = crate::postgres::connection::Settings {
        database: maintenance(&mut job.keeper)?,
        ..job.keeper.settings.clone()
    };
    let (reached, object) = (job.keeper.session.reached, job.keeper.object.clone());
    std::thread::scope(|scope| {
        if let Some(oid) = watched {
            let (there, object) = (&there, object.as_str());
            scope.spawn(move || {
                let Ok(mut ender) = session::connect(there, Some(reached), object, &Cancel::new()) else {
                    return;
                };
                while sessions::end_all(&mut ender, oid).is_ok()
                    && matches!(over.recv_timeout(PAUSE), Err(RecvTimeoutError::Timeout))
                {}
            });
        }
        let outcome = until_alone(job, watched, transaction);
        drop(alive);
        outcome
    })
}

fn maintenance(keeper: &mut Keeper) -> Result<String, SourceError> {
    let row = keeper.session.query_one("SELECT current_database()::text", &[])?;
    keeper.session.field(&row, 0)
}

fn until_alone(
    job: &mut Job,
    watched: Option<u32>,
    transaction: impl Fn(&mut Job) -> Result<Result<(), tokio_postgres::Error>, SourceError>,
) -> Result<(), SourceError> {
    let started = Instant::now();
    loop {
        job.keeper.session.execute("BEGIN")?;
        let done = match transaction(job) {
            Ok(Ok(())) => return job.keeper.session.execute("COMMIT"),
            other => other,
        };
        let undone = job.keeper.session.execute("ROLLBACK");
        let Err(error) = done? else { continue };
        undone?;
        let in_use = failure::is(&error, &[&SqlState::OBJECT_IN_USE]);
        if in_use && started.elapsed() < ENDING_MAX {
            continue;
        }
        if in_use && let Some(oid) = watched {
            let connected = sessions::of(&mut job.keeper.session, oid)?;
            let all: Vec<&sessions::Connected> = connected.iter().collect();
            let who = match all.is_empty() {
                true => failure::text(&error),
                false => sessions::listed(&all),
            };
            let message = format!("is still in use by {who}");
            return Err(job
                .error(SourceErrorKind::InUse, message)
                .with_hint("stop it, or let `--stop-command` do that"));
        }
        return Err(failure::server(&job.keeper.object, "the databases cannot be renamed", &error));
    }
}

fn rename(
    session: &mut Session,
    from: &str,
    to: &str,
) -> Result<Result<(), tokio_postgres::Error>, SourceError> {
    session.try_execute(&format!("ALTER DATABASE {} RENAME TO {}", quoted(from), quoted(to)))
}

/// The transaction of the swap.
fn renames(job: &mut Job, made: &Properties) -> Result<Result<(), tokio_postgres::Error>, SourceError> {
    let Some(mut swap) = job.work.swap.clone() else { return Ok(Ok(())) };
    let (target, made_as) = (job.work.target.clone(), job.work.scratch.clone());
    if let Some(old) = &swap.old
        && let Err(error) = rename(&mut job.keeper.session, &target, &old.keep)?
    {
        return Ok(Err(error));
    }
    if let Err(error) = rename(&mut job.keeper.session, &made_as, &target)? {
        return Ok(Err(error));
    }
    for statement in &made.statements {
        give(job, statement)?;
    }
    if let Some(old) = &swap.old {
        let text = safety::comment(&target, job.state.request.started, old.comment.as_deref());
        job.keeper.comment(&old.keep, Some(&text))?;
    }
    swap.written = written(&mut job.keeper.session, job.work.scratch_oid)?;
    job.work.swap = Some(swap);
    job.save()?;
    Ok(Ok(()))
}

/// Gives the new database what the old one had. What the role may not give is told, and does not end the restore.
fn give(job: &mut Job, statement: &str) -> Result<(), SourceError> {
    job.keeper.session.execute("SAVEPOINT backstay")?;
    match job.keeper.session.try_execute(statement)? {
        Ok(()) => job.keeper.session.execute("RELEASE SAVEPOINT backstay"),
        Err(error) if failure::is(&error, &[&SqlState::INSUFFICIENT_PRIVILEGE]) => {
            job.keeper.session.execute("ROLLBACK TO SAVEPOINT backstay")?;
            let message = format!("could not be given to it: {}", failure::text(&error));
            job.tell(Severity::Warning, message, Some(format!("as a superuser: {statement}")));
            Ok(())
        }
        Err(error) => Err(failure::server(&job.keeper.object, "its properties cannot be set", &error)),
    }
}

/// Returns how many rows have been written into a database, as the server counts them.
pub(super) fn written(session: &mut Session, oid: u32) -> Result<Option<i64>, SourceError> {
    let sql =
        "SELECT tup_inserted + tup_updated + tup_deleted FROM pg_catalog.pg_stat_database WHERE datid = $1";
    session.query("SELECT pg_catalog.pg_stat_clear_snapshot()", &[])?;
    let rows = session.query(sql, &[&oid])?;
    rows.first().map(|row| session.field(row, 0)).transpose().map(Option::flatten)
}

/// Drops the old database, unless it was to go because it held nothing, and holds something now.
fn drop_old(job: &mut Job, old: &Old) -> Result<(), SourceError> {
    let Some(name) = job.keeper.name(old.oid)? else { return Ok(()) };
    if !old.was_empty || preflight::holds_nothing(&job.keeper, &name, &job.context) {
        return job.keeper.drop_database(old.oid);
    }
    let message =
        format!("the database that it replaced held nothing at first; now it does, and is kept as {name}");
    job.tell(Severity::Warning, message, Some("drop it when it is not needed".to_owned()));
    Ok(())
}

/// Accepts the swap: what was kept for the way back only goes, and the record gives way to the database's own comment.
pub(super) fn accept(job: &mut Job) -> Result<(), SourceError> {
    if position(&mut job.keeper, &job.work)? != Position::New {
        let message = "is no longer the database that was swapped in";
        return Err(job.error(SourceErrorKind::Failed, message).with_hint(format!(
            "look what replaced it; {} puts the old database back",
            job.command("--rollback")
        )));
    }
    let swap = job.work.swap.clone();
    if let Some(old) = swap.as_ref().and_then(|swap| swap.old.as_ref()).filter(|old| old.temporary) {
        drop_old(job, old)?;
    }
    let comment = swap.and_then(|swap| swap.comment).unwrap_or_else(|| "NULL".to_owned());
    let target = quoted(&job.work.target);
    job.keeper.session.execute(&format!("COMMENT ON DATABASE {target} IS {comment}"))?;
    job.recorded = false;
    for left in record::of_target(&mut job.keeper)? {
        if left.state.request.started == job.state.request.started && left.oid != job.work.scratch_oid {
            job.keeper.drop_database(left.oid)?;
        }
    }
    job.keeper.unlock();
    Ok(())
}
