//! The new database, made beside the target: definitions by `pg_restore`, rows and large objects by our own sessions,
//! then indexes, constraints and all else by `pg_restore` again, in parallel; statistics at the end. Meanwhile the rows are
//! read back, for the comparison that follows. SQL text has its own way (`script`).
//!
//! Triggers, rules of row security and foreign keys come after the rows, so none of them acts on those. Begun again after
//! a crash it makes a new database, which takes the record over from the one before: no moment is without it.

use super::early::{Early, Made};
use super::ground::Ground;
use super::job::Job;
use super::names::quoted;
use super::owners::{self, Lent};
use super::programs::{self, JIT_SINCE, Programs};
use super::read_back::ReadBack;
use super::{archive, load, preflight, scratch, script, statistics, swap, tables};
use crate::postgres::archive::TableOfContents;
use crate::postgres::script::is_script;
use crate::postgres::tools::Access;
use crate::restore::RestoreError;
use flow::{BackupReader, Severity};
use std::panic::resume_unwind;
use std::sync::Arc;

/// Fills the new database.
pub(super) fn run(job: &mut Job, backup: &dyn BackupReader) -> Result<(), RestoreError> {
    let toc = job.toc(backup)?;
    if job.work.loading {
        scratch::make(job, &toc)?;
        job.save()?;
    }
    scratch::drop_earlier(job)?;
    job.work.loading = true;
    job.save()?;
    let name = quoted(&job.work.scratch);
    // Nobody but us before it is whole.
    job.keeper.session.execute(&format!(
        "REVOKE ALL ON DATABASE {name} FROM PUBLIC; ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true CONNECTION LIMIT -1"
    ))?;
    job.phase("loading", Some(job.work.size_bytes));
    let missing = preflight::missing_roles(job, &toc)?;
    let (adapted, left_out) = archive::adapted(&toc, &job.state.request.ownership, &missing);
    let toc = adapted.map_or(toc, Arc::new);
    if is_script(backup.manifest()) {
        return script::fill(job, &toc, &missing, backup);
    }
    if left_out > 0 {
        let roles: Vec<&str> = missing.iter().map(String::as_str).collect();
        let message =
            format!("{left_out} rights were left out, of roles that are not there: {}", roles.join(", "));
        job.tell(Severity::Warning, message, None);
    }
    let ground = Ground::of(job, backup.manifest())?;
    let object = ground.object.clone();
    let mut access = Access::prepare(&ground.settings, ground.reached, &object, &job.context)?;
    // What is durable next is the record that says that all of this is done.
    access.set("synchronous_commit=off");
    let mut session = ground.session()?;
    access.set(&format!("maintenance_work_mem={}kB", programs::memory_kib(&mut session, &ground)?));
    if job.keeper.session.version >= JIT_SINCE {
        // Foreign keys are checked by one large query each, which is not worth compiling.
        access.set("jit=off");
    }
    let programs = Programs::of(job, &access);
    let lent = definitions(job, &toc, &ground, &programs)?;
    job.check_cancel()?;
    let tables = tables::filled(&mut session, &toc, backup.manifest(), &ground)?;
    drop(session);
    let major = job.keeper.session.major();
    let back = job.state.request.verify.then(|| ReadBack::new(&ground, &tables, major));
    let early = Early::new(&toc, &tables, &programs);
    load::rows(&ground, &tables, &early, back.as_ref(), backup, &job.context)?;
    let made_early = early.made();
    load::objects(&ground, backup, &job.context)?;
    let made = std::thread::scope(|scope| {
        let reading = back.as_ref().map(|back| scope.spawn(|| back.run()));
        let made = post_data(job, &toc, &made_early, &ground, (&programs, lent));
        if made.is_err() {
            back.iter().for_each(ReadBack::stop);
        }
        let read = reading.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        made.and(read.unwrap_or(Ok(())))
    });
    made?;
    job.read_back = back.map(ReadBack::into_sums).unwrap_or_default();
    Ok(())
}

/// Makes what rows are loaded into. Returns what owners were given for the time of the restore.
fn definitions(
    job: &mut Job,
    toc: &TableOfContents,
    ground: &Ground,
    programs: &Programs<'_>,
) -> Result<Lent, RestoreError> {
    let sections = ["--section=pre-data", "--section=data"].map(str::to_owned);
    let definitions = archive::without_data(toc);
    let others = owners::others(job, &definitions)?;
    if others.is_empty() {
        programs.run(&definitions, &sections, &job.context.cancel)?;
        return Ok(Lent::default());
    }
    let (schemas, rest) = owners::schemas_first(&definitions);
    programs.run(&schemas, &sections, &job.context.cancel)?;
    let lent = owners::lend(&mut ground.session()?, &others, &ground.settings.database)?;
    programs.run(&rest, &sections, &job.context.cancel)?;
    Ok(lent)
}

/// Makes indexes, constraints and all else that follows the rows, and gathers statistics.
fn post_data(
    job: &mut Job,
    toc: &TableOfContents,
    early: &Made,
    ground: &Ground,
    (programs, lent): (&Programs<'_>, Lent),
) -> Result<(), RestoreError> {
    job.phase("indexing", None);
    let toc = early.rest.as_ref().unwrap_or(toc);
    let sections = ["--section=post-data".to_owned(), format!("--jobs={}", ground.jobs)];
    programs.run(toc, &sections, &job.context.cancel)?;
    let mut session = ground.session()?;
    lent.take_back(&mut session)?;
    job.work.unlogged_since = swap::unlogged(&mut session)?;
    drop(session);
    statistics::gather(job, ground, &early.analysed)
}
