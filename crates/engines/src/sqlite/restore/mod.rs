//! Restoring a SQLite database: the image is written beside the target, verified, and takes its place by rename, or is
//! written into the live target where nothing may be renamed.
//!
//! Whatever is killed and whenever, the target is the old or the new database: each step is recorded beside the target
//! before it acts, and may be run again. Files, all of them in the target's folder: `app.db.backstay-restore` (the
//! record, and the lock), `app.db.backstay-image`, the safety copy, and `app.db.backstay-old` where none is wanted.

mod exchange;
mod files;
mod image;
mod in_place;
mod in_place_error;
mod indexes;
mod integrity;
mod job;
mod lock;
mod opening;
mod pages;
mod passing;
mod preflight;
mod quiesce;
mod references;
mod rollback;
pub(super) mod safety;
mod swap;
mod unbuffered;

use crate::restore::{
    Restore, RestoreError, RestoreMode, RestorePlan, RestoreRequest, RestoreState, RestoreStep, Standing,
};
use crate::sqlite::record::{self, RECORD_ENDING, Record, record_path};
use flow::{
    BackupReader, Context, DatabaseRef, EngineKind, Manifest, SafetySuffix, SourceError, SourceErrorKind,
    quoted,
};
use job::{Job, Place, Work};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// Plans a restore, and changes nothing.
pub(crate) fn begin(
    request: &RestoreRequest,
    manifest: &Manifest,
    safety_suffix: &SafetySuffix,
    context: Context,
) -> Result<Box<dyn Restore>, RestoreError> {
    let object = request.target.connection.clone();
    if manifest.facts.engine != EngineKind::Sqlite {
        let message = format!("cannot hold a backup of {}", manifest.facts.engine);
        return Err(SourceError::new(SourceErrorKind::Invalid, object, message)
            .with_hint("name a target of that database system")
            .into());
    }
    if !request.tables.is_empty() {
        let message = "single tables of a SQLite database are not restored by this version";
        return Err(SourceError::new(SourceErrorKind::Invalid, object, message)
            .with_hint("restore it to a new file with `--to-new`, and copy the rows from there")
            .into());
    }
    if !request.ownership.is_default() {
        let message = "is a file, in which nothing belongs to roles";
        return Err(SourceError::new(SourceErrorKind::Invalid, object, message)
            .with_hint("leave `--no-owner`, `--role-map` and `--create-roles` out")
            .into());
    }
    let (entry, page_bytes) = image::entry(manifest)?;
    let place = Place::of(&object)?;
    if let Some(look) = record::look(&place.record)?
        && (look.alive || look.state.is_some())
    {
        return Err(record::in_use(&place.record, &look).into());
    }
    let work = Work {
        size_bytes: entry.size_bytes,
        page_bytes,
        safety_folder: preflight::safety_folder(request, &place)?,
        safety_suffix: safety_suffix.clone(),
        image_inode: None,
        image_mark: None,
        swap: None,
        in_place: None,
    };
    preflight::image_is_free(&place)?;
    let mut plan = preflight::plan(request, &place, &work)?;
    plan.holders = quiesce::users(&place.target).holders;
    let state = RestoreState::begun(request, &plan);
    Ok(Box::new(SqliteRestore(Job {
        place,
        state,
        work,
        plan,
        context,
        record: None,
        passing: None,
        lock: None,
        over: false,
    })))
}

/// Returns the restore that lies unfinished beside a database, a running one too.
pub(crate) fn pending(database: &DatabaseRef, _context: &Context) -> Result<Vec<RestoreState>, SourceError> {
    let place = match Place::of(&database.connection) {
        Ok(place) => place,
        // Where there is no folder, nothing lies in it.
        Err(error) if error.kind == SourceErrorKind::Unwritable => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let look = record::look(&place.record)?;
    Ok(look
        .and_then(|look| look.state)
        .map(|mut state| {
            // The folder may be mounted elsewhere on this host.
            state.request.target.connection.clone_from(&database.connection);
            state
        })
        .into_iter()
        .collect())
}

/// Returns the databases that may have a record beside them, with one look into each folder. Where a folder cannot be
/// read, that is all in it.
pub(crate) fn beside_which(databases: &[DatabaseRef]) -> Vec<&DatabaseRef> {
    let mut folders: BTreeMap<&Path, Option<HashSet<PathBuf>>> = BTreeMap::new();
    let mut found = Vec::new();
    for database in databases {
        let path = Path::new(&database.connection);
        let folder = files::folder_of(path);
        let records = folders.entry(folder).or_insert_with(|| records_in(folder).ok());
        if records.as_ref().is_none_or(|records| records.contains(&record_path(path))) {
            found.push(database);
        }
    }
    found
}

fn records_in(folder: &Path) -> std::io::Result<HashSet<PathBuf>> {
    let mut records = HashSet::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(RECORD_ENDING) {
            records.insert(path);
        }
    }
    Ok(records)
}

/// Takes up an unfinished restore. What is recorded counts, not what `state` says of its progress.
pub(crate) fn resume(state: RestoreState, context: Context) -> Result<Box<dyn Restore>, RestoreError> {
    let connection = state.request.target.connection.clone();
    let place = Place::of(&connection)?;
    let (record, mut recorded) = Record::take_up(&place.record)?;
    let object = place.record.display().to_string();
    if (recorded.request.started, &recorded.request.backup) != (state.request.started, &state.request.backup)
    {
        let message = "it is another restore that waits to be finished now";
        return Err(SourceError::new(SourceErrorKind::InUse, object, message)
            .with_hint(format!(
                "look again with `backstay restore --continue --target {}`",
                quoted(&connection)
            ))
            .into());
    }
    let work: Work = serde_json::from_value(recorded.engine.clone()).map_err(|error| {
        SourceError::new(
            SourceErrorKind::Invalid,
            object,
            "was written by another version, and cannot be read",
        )
        .with_hint("finish the restore with the version that began it")
        .with_source(error)
    })?;
    recorded.request.target.connection = connection;
    recorded.owner_alive = true;
    let plan = RestorePlan {
        steps: preflight::steps(&recorded.request),
        actions: vec!["Finish the restore that was begun, or undo it.".to_owned()],
        write_bytes: work.size_bytes,
        needed_bytes: if recorded.step <= RestoreStep::Beside { work.size_bytes } else { 0 },
        free_bytes: None,
        safety_copy: recorded.safety_copy.clone(),
        holders: quiesce::users(&place.target).holders,
        ends_holders: false,
        problems: Vec::new(),
    };
    Ok(Box::new(SqliteRestore(Job {
        place,
        state: recorded,
        work,
        plan,
        context,
        record: Some(record),
        passing: None,
        lock: None,
        over: false,
    })))
}

struct SqliteRestore(Job);

impl Restore for SqliteRestore {
    fn plan(&self) -> &RestorePlan {
        &self.0.plan
    }

    fn steps(&self) -> &[RestoreStep] {
        &self.0.plan.steps
    }

    fn run(&mut self, step: RestoreStep, backup: &dyn BackupReader) -> Result<(), RestoreError> {
        let job = &mut self.0;
        is_next(job, step)?;
        job.check_cancel()?;
        if step == RestoreStep::Preflight {
            return Ok(take_target(job)?);
        }
        (job.state.step, job.state.completed) = (step, false);
        job.save()?;
        let in_place = job.mode() == RestoreMode::InPlace;
        match step {
            RestoreStep::Preflight => {}
            RestoreStep::Beside => image::write(job, backup)?,
            RestoreStep::Verify => image::verify(job, backup)?,
            RestoreStep::Quiesce if in_place => in_place::open(job).map(drop)?,
            RestoreStep::Quiesce => quiesce::quiet(job)?,
            RestoreStep::Swap if in_place => in_place::run(job)?,
            RestoreStep::Swap => swap::run(job)?,
            RestoreStep::Finish => return Ok(accept(job)?),
        }
        job.state.completed = true;
        Ok(job.save()?)
    }

    /// Before the preflight there is no record: then the notes are kept for its first line.
    fn note(&mut self, notes: serde_json::Value) -> Result<(), SourceError> {
        self.0.state.notes = notes;
        self.0.save()
    }

    fn state(&self) -> RestoreState {
        self.0.state.clone()
    }

    fn standing(&self) -> Standing {
        let job = &self.0;
        if job.mode() == RestoreMode::InPlace {
            // As long as the old content was not kept, nothing was written.
            let written = job.work.in_place.as_ref().is_some_and(|begun| begun.kept);
            return if written { Standing::Unknown } else { Standing::Old };
        }
        match swap::position(job) {
            Ok(swap::Position::Old) => Standing::Old,
            Ok(swap::Position::New) => Standing::New,
            Ok(swap::Position::Nothing) if rollback::nothing_before(job) => Standing::Old,
            Ok(swap::Position::Nothing) => Standing::Nothing,
            Ok(swap::Position::Foreign) | Err(_) => Standing::Unknown,
        }
    }

    fn roll_back(&mut self) -> Result<(), RestoreError> {
        rollback::run(&mut self.0)
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
    let reached = if job.state.completed { last + 1 } else { last };
    if wanted > reached {
        return refuse("an earlier step of the restore has not been completed");
    }
    if job.state.step >= RestoreStep::Swap && step < job.state.step {
        return refuse("the target was touched already: only the swap can be repeated");
    }
    Ok(())
}

/// The preflight: all checks, then the record, and with it the target.
fn take_target(job: &mut Job) -> Result<(), SourceError> {
    job.phase("looking at", None);
    let holders = std::mem::take(&mut job.plan.holders);
    job.plan = preflight::plan(&job.state.request, &job.place, &job.work)?;
    job.plan.holders = holders;
    preflight::check(job)?;
    if job.record.is_none() {
        preflight::image_is_free(&job.place)?;
        job.record = Some(Record::create(&job.place.record)?);
    }
    (job.state.step, job.state.completed) = (RestoreStep::Preflight, true);
    job.state.safety_copy.clone_from(&job.plan.safety_copy);
    let saved = job.save().and_then(|()| if_in_place(job));
    if saved.is_err()
        && let Some(record) = job.record.take()
    {
        // Nothing else was made: without its record the restore was never begun.
        record.remove().ok();
        job.state.completed = false;
    }
    saved
}

/// Looks early whether SQLite could write into the target.
fn if_in_place(job: &Job) -> Result<(), SourceError> {
    if job.mode() == RestoreMode::InPlace { in_place::open(job).map(drop) } else { Ok(()) }
}

/// The finish: what was kept for the way back goes, and the record after it.
fn accept(job: &mut Job) -> Result<(), SourceError> {
    if job.mode() == RestoreMode::InPlace {
        in_place::accept(job)?;
    } else {
        swap::accept(job)?;
    }
    if let Some(record) = job.record.take() {
        record.remove()?;
    }
    job.state.completed = true;
    job.over = true;
    Ok(())
}
