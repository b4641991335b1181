//! Restoring a PostgreSQL database: made and filled beside the target, verified, swapped in by one transaction.
//!
//! Whatever is killed and whenever, the target is the old or the new database. All that is durable is at the server: a
//! database `erp__restoring_…` whose comment is the restore record, later the safety copy `erp__safety_…`; an advisory
//! lock tells whether the restore still runs. So it is continued or undone from any host that reaches the server.

mod archive;
mod beside;
mod chosen;
mod closing;
mod definitions;
mod early;
mod ending;
mod fill;
mod ground;
mod in_place;
mod items;
mod job;
mod keeper;
mod limits;
mod load;
mod names;
mod owners;
mod preflight;
mod problem;
mod programs;
mod properties;
mod read_back;
mod record;
mod roles;
mod rollback;
mod rows_only;
pub(super) mod safety;
mod scratch;
mod script;
mod sessions;
mod statistics;
mod swap;
mod tables;
mod verify;

use crate::postgres::script::{ScriptFacts, is_script};
use crate::restore::{
    Restore, RestoreError, RestoreMode, RestorePlan, RestoreRequest, RestoreState, RestoreStep, Safety,
    Standing,
};
use definitions::Definitions;
use flow::{
    BackupReader, Cancel, Context, DatabaseRef, EngineKind, Manifest, SourceError, SourceErrorKind, quoted,
};
use job::{Job, Work};
use keeper::Keeper;
use std::collections::BTreeMap;
use swap::Position;

/// Plans a restore, and changes nothing.
pub(super) fn begin(
    request: &RestoreRequest,
    manifest: &Manifest,
    context: Context,
) -> Result<Box<dyn Restore>, RestoreError> {
    let object = request.target.connection.clone();
    let refuse = |message: String, hint: &str| {
        Err(SourceError::new(SourceErrorKind::Invalid, object.clone(), message).with_hint(hint).into())
    };
    if manifest.facts.engine != EngineKind::Postgres {
        let message = format!("cannot hold a backup of {}", manifest.facts.engine);
        return refuse(message, "name a target of that database system");
    }
    if matches!(request.safety, Safety::Folder(_)) {
        let message = "its safety copy stays at the server, and cannot be kept in a folder".to_owned();
        return refuse(message, "leave `--safety-dir` out");
    }
    if request.data_only {
        return rows_only::begin(request, manifest, context);
    }
    rows_only::refuse_alone(manifest)?;
    refuse_of_script(request, manifest)?;
    if !request.tables.is_empty() {
        return chosen::begin(request, manifest, context);
    }
    if request.mode == RestoreMode::InPlace {
        return in_place::begin(request, manifest, context);
    }
    let mut keeper = Keeper::open(&object, &context)?;
    let found = record::of_target(&mut keeper)?;
    if !found.is_empty() || keeper.owner()?.is_some() {
        return Err(record::in_use(&mut keeper, found.last().map(|found| &found.state)).into());
    }
    let definitions = request.schema_only.then(|| definitions::without_data(manifest));
    let plan = preflight::plan(request, definitions.as_ref().unwrap_or(manifest), &mut keeper, &context)?;
    let work = Work {
        target: keeper.target.clone(),
        scratch: String::new(),
        scratch_oid: 0,
        loading: false,
        unlogged_since: None,
        size_bytes: plan.write_bytes,
        swap: None,
    };
    let state = RestoreState::begun(request, &plan);
    let job = Job {
        state,
        work,
        plan,
        context,
        keeper,
        recorded: false,
        toc: None,
        read_back: BTreeMap::new(),
        over: false,
    };
    Ok(Box::new(PostgresRestore(job)))
}

/// SQL text makes all of its database, in another one beside.
fn refuse_of_script(request: &RestoreRequest, manifest: &Manifest) -> Result<(), SourceError> {
    let asked = [
        ("--table", !request.tables.is_empty()),
        ("--in-place", request.mode == RestoreMode::InPlace),
        ("--schema-only", request.schema_only),
    ];
    let Some((option, _)) = asked.iter().find(|(_, asked)| *asked).filter(|_| is_script(manifest)) else {
        return Ok(());
    };
    let message = format!("SQL text is restored as a whole and by a swap: `{option}` cannot be had of it");
    let hint = "restore it to a new database first and take the table from there, or use an archive, as `pg_dump -Fc` \
                writes it; `--data-only` adds rows of chosen tables to those that are there";
    let object = request.target.connection.as_str();
    Err(SourceError::new(SourceErrorKind::Invalid, object, message).with_hint(hint))
}

/// Returns the restores that lie unfinished beside a database, a running one too.
pub(super) fn pending(database: &DatabaseRef, context: &Context) -> Result<Vec<RestoreState>, SourceError> {
    if let Some(state) = in_place::pending(database, context)? {
        return Ok(vec![state]);
    }
    let mut keeper = match Keeper::open(&database.connection, context) {
        // Where there is nothing else to connect to, nothing was made beside.
        Err(error) if error.kind == SourceErrorKind::Unreadable => {
            Keeper::inside(&database.connection, context)?
        }
        other => other?,
    };
    let found = record::of_target(&mut keeper)?;
    let alive = !found.is_empty() && keeper.owner()?.is_some();
    let newest = found.into_iter().last().map(|found| {
        let mut state = found.state;
        state.owner_alive = alive;
        // Another host may reach the server in another way.
        state.request.target.connection.clone_from(&database.connection);
        state
    });
    Ok(newest.into_iter().collect())
}

/// Takes up an unfinished restore. What is recorded counts, not what `state` says of its progress.
pub(super) fn resume(state: RestoreState, context: Context) -> Result<Box<dyn Restore>, RestoreError> {
    if let Some(restore) = in_place::resume(&state, &context)? {
        return Ok(restore);
    }
    let connection = state.request.target.connection.clone();
    let mut keeper = Keeper::open(&connection, &context)?;
    if !keeper.lock()? {
        return Err(record::in_use(&mut keeper, Some(&state)).into());
    }
    let mut found = record::of_target(&mut keeper)?;
    let Some(recorded) = found.pop() else {
        let message = "there is no restore to be finished";
        return Err(SourceError::new(SourceErrorKind::Missing, connection, message).into());
    };
    let mut own = recorded.state;
    if (own.request.started, &own.request.backup) != (state.request.started, &state.request.backup) {
        let message = "it is another restore that waits to be finished now";
        let hint = format!("look again with `backstay restore --continue --target {}`", quoted(&connection));
        return Err(SourceError::new(SourceErrorKind::InUse, connection, message).with_hint(hint).into());
    }
    let mut work: Work = serde_json::from_value(own.engine.clone()).map_err(|error| {
        let message = "its restore record was written by another version, and cannot be read";
        SourceError::new(SourceErrorKind::Invalid, connection.clone(), message)
            .with_hint("finish the restore with the version that began it")
            .with_source(error)
    })?;
    // Of an attempt that was begun anew the newest database counts.
    if work.scratch_oid != recorded.oid {
        (work.scratch_oid, work.scratch, work.loading) = (recorded.oid, recorded.name, true);
    }
    own.request.target.connection = connection;
    own.owner_alive = true;
    let target = keeper.oid(&work.target)?.filter(|oid| *oid != work.scratch_oid);
    let connected = match target {
        Some(oid) => sessions::of(&mut keeper.session, oid)?,
        None => Vec::new(),
    };
    let plan = RestorePlan {
        holders: connected.into_iter().map(|one| one.holder).collect(),
        ends_holders: true,
        ..RestorePlan::to_be_finished(
            preflight::steps(&own.request),
            work.size_bytes,
            own.safety_copy.clone(),
        )
    };
    let job = Job {
        state: own,
        work,
        plan,
        context,
        keeper,
        recorded: true,
        toc: None,
        read_back: BTreeMap::new(),
        over: false,
    };
    Ok(Box::new(PostgresRestore(job)))
}

struct PostgresRestore(Job);

impl Restore for PostgresRestore {
    fn plan(&self) -> &RestorePlan {
        &self.0.plan
    }

    fn steps(&self) -> &[RestoreStep] {
        &self.0.plan.steps
    }

    fn run(&mut self, step: RestoreStep, backup: &dyn BackupReader) -> Result<(), RestoreError> {
        let job = &mut self.0;
        let definitions = match job.state.request.schema_only {
            true => Some(Definitions::of(backup)?),
            false => None,
        };
        let backup = definitions.as_ref().map_or(backup, |definitions| definitions as &dyn BackupReader);
        is_next(job, step)?;
        job.check_cancel()?;
        if step == RestoreStep::Preflight {
            return preflight::run(job, backup);
        }
        (job.state.step, job.state.completed) = (step, false);
        job.save()?;
        match step {
            RestoreStep::Preflight => {}
            RestoreStep::Beside => beside::run(job, backup)?,
            RestoreStep::Verify => match ScriptFacts::of(backup.manifest()) {
                Some(facts) => script::verify(job, &facts, backup)?,
                None => verify::run(job, backup)?,
            },
            RestoreStep::Quiesce => swap::quiesce(job)?,
            RestoreStep::Swap => swap::run(job, backup)?,
            RestoreStep::Finish => {
                swap::accept(job)?;
                (job.state.completed, job.over) = (true, true);
                return Ok(());
            }
        }
        job.state.completed = true;
        Ok(job.save()?)
    }

    /// Before the preflight there is no record: then the notes are kept for its first state.
    fn note(&mut self, notes: serde_json::Value) -> Result<(), SourceError> {
        self.0.state.notes = notes;
        self.0.save()
    }

    fn state(&self) -> RestoreState {
        self.0.state.clone()
    }

    fn standing(&self) -> Standing {
        let job = &self.0;
        let calm = Context { cancel: Cancel::new(), ..job.context.clone() };
        let position = Keeper::open(&job.keeper.object, &calm)
            .and_then(|mut keeper| swap::position(&mut keeper, &job.work));
        match position {
            Ok(Position::Old) => Standing::Old,
            Ok(Position::New) => Standing::New,
            Ok(Position::Nothing) => Standing::Nothing,
            Ok(Position::Foreign) | Err(_) => Standing::Unknown,
        }
    }

    fn roll_back(&mut self) -> Result<(), RestoreError> {
        Ok(rollback::run(&mut self.0)?)
    }
}

/// Fails unless `step` may be run now: the one that was begun last, the one after it, or, as long as the target was
/// not touched, an earlier one.
fn is_next(job: &Job, step: RestoreStep) -> Result<(), SourceError> {
    let refuse = |message: &str| {
        Err(job
            .error(SourceErrorKind::Invalid, message)
            .with_hint(format!("undo the restore with {}", job.command("--rollback"))))
    };
    if job.over {
        return Err(job.error(SourceErrorKind::Invalid, "the restore is over"));
    }
    if job.state.rolling_back {
        return refuse("the restore is being rolled back, and cannot go on");
    }
    let place = |step| job.plan.steps.iter().position(|known| *known == step);
    let (Some(wanted), Some(last)) = (place(step), place(job.state.step)) else {
        return refuse("the restore has no such step");
    };
    if wanted > if job.state.completed { last + 1 } else { last } {
        return refuse("an earlier step of the restore has not been completed");
    }
    if job.state.step >= RestoreStep::Swap && step < job.state.step {
        return refuse("the target was touched already: only the swap can be repeated");
    }
    Ok(())
}
