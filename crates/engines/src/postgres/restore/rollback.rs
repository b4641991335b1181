//! The way back: the old database under its name again, or nothing where nothing was, and what the restore made dropped.
//!
//! It begins wherever the restore was left, tells by oids what the target's name shows, and may be repeated after a crash
//! in the middle of it. What users have written into the new database meanwhile is kept under a name of its own.

use super::job::Job;
use super::names::{beside, quoted};
use super::record;
use super::swap::{self, Position, position};
use flow::{Cancel, Severity, SourceError, SourceErrorKind};

/// Undoes the restore and removes its record.
pub(super) fn run(job: &mut Job) -> Result<(), SourceError> {
    if job.over || !job.recorded {
        job.keeper.unlock();
        return Ok(());
    }
    job.phase("rolling back", None);
    // Whoever interrupted the restore wants the way back, not half of it.
    job.context.cancel = Cancel::new();
    let context = job.context.clone();
    job.keeper.revive(&context)?;
    let mut ours = false;
    for recorded in record::of_target(&mut job.keeper)? {
        ours |= recorded.oid == job.work.scratch_oid;
    }
    let position = position(&mut job.keeper, &job.work)?;
    if ours {
        job.state.rolling_back = true;
        job.save()?;
    }
    match position {
        Position::Old => {}
        Position::New => give_back(job)?,
        Position::Nothing => put_old_back(job)?,
        Position::Foreign => {
            let message = "is neither the old nor the restored database: somebody else has made it since";
            return Err(job
                .error(SourceErrorKind::Failed, message)
                .with_hint("rename that one, then roll back again"));
        }
    }
    remove(job)?;
    job.keeper.unlock();
    job.over = true;
    job.recorded = false;
    job.state.safety_copy = None;
    Ok(())
}

/// Swaps back, in one transaction.
fn give_back(job: &mut Job) -> Result<(), SourceError> {
    let old = job.work.swap.as_ref().and_then(|swap| swap.old.clone());
    let kept = match &old {
        Some(old) => job.keeper.name(old.oid)?,
        None => None,
    };
    if let (Some(old), None) = (&old, &kept) {
        let message = format!("the old database, kept as {}, is gone, so it cannot be put back", old.keep);
        return Err(job
            .error(SourceErrorKind::Missing, message)
            .with_hint(format!("accept the restored one with {}", job.command("--continue"))));
    }
    let (target, new) = (job.work.target.clone(), job.work.scratch_oid);
    let aside = job.keeper.free_name(&beside(&target, record::SCRATCH, job.state.request.started))?;
    job.work.scratch.clone_from(&aside);
    swap::alone(job, Some(new), |job| {
        let rename =
            |from: &str, to: &str| format!("ALTER DATABASE {} RENAME TO {}", quoted(from), quoted(to));
        if let Err(error) = job.keeper.session.try_execute(&rename(&target, &aside))? {
            return Ok(Err(error));
        }
        if let (Some(old), Some(kept)) = (&old, &kept) {
            if let Err(error) = job.keeper.session.try_execute(&rename(kept, &target))? {
                return Ok(Err(error));
            }
            job.keeper.comment(&target, old.comment.as_deref())?;
        }
        job.save()?;
        Ok(Ok(()))
    })
}

/// Gives the old database its name where somebody took that away.
fn put_old_back(job: &mut Job) -> Result<(), SourceError> {
    let Some(old) = job.work.swap.as_ref().and_then(|swap| swap.old.clone()) else { return Ok(()) };
    let target = job.work.target.clone();
    match job.keeper.name(old.oid)? {
        Some(kept) => {
            job.keeper.session.execute(&format!(
                "ALTER DATABASE {} RENAME TO {}",
                quoted(&kept),
                quoted(&target)
            ))?;
            job.keeper.comment(&target, old.comment.as_deref())
        }
        None => {
            Err(job
                .error(SourceErrorKind::Missing, format!("the old database, kept as {}, is gone", old.keep)))
        }
    }
}

/// Drops what the restore made, unless it was in place and somebody wrote into it there.
fn remove(job: &mut Job) -> Result<(), SourceError> {
    let started = job.state.request.started;
    let new = job.work.scratch_oid;
    let before = job.work.swap.as_ref().and_then(|swap| swap.written);
    let now = swap::written(&mut job.keeper.session, new)?;
    if before.is_some() && before != now && job.keeper.name(new)?.is_some() {
        let name = job.keeper.free_name(&beside(&job.work.target, "rolled_back", started))?;
        let scratch = job.keeper.name(new)?.unwrap_or_default();
        job.keeper.session.execute(&format!(
            "BEGIN; ALTER DATABASE {} RENAME TO {name}; COMMENT ON DATABASE {name} IS NULL; COMMIT",
            quoted(&scratch),
            name = quoted(&name)
        ))?;
        let message =
            format!("{name} holds what was written into the restored database before it was rolled back");
        job.tell(Severity::Warning, message, Some("drop it when it is not needed".to_owned()));
    }
    for recorded in record::of_target(&mut job.keeper)? {
        if recorded.state.request.started == started && recorded.name != job.work.target {
            job.keeper.drop_database(recorded.oid)?;
        }
    }
    Ok(())
}
