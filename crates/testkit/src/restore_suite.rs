//! The conformance suite of [`Restore`] and of the engine's side of it: one check for each promise.

use crate::drain::drain;
use crate::memory_backup::{DamagedBackup, MemoryBackup};
use crate::suite::{Broken, Outcome, demand, ensure, run, text};
use engines::{
    Engine, Ownership, Restore, RestoreError, RestoreMode, RestoreRequest, RestoreState, RestoreStep, Safety,
};
use flow::{
    BackupReader, Context, DatabaseRef, DatabaseRequest, DumpOptions, DumpRequest, SourceErrorKind, TargetRef,
};
use jiff::Timestamp;
use std::sync::Arc;

/// An engine to be tried, with databases that can be made and looked at.
pub trait RestoreSubject {
    /// Returns the engine.
    fn engine(&self) -> Arc<dyn Engine>;

    /// Returns the target that all databases belong to.
    fn target(&self) -> TargetRef;

    /// Returns a new context.
    fn context(&self) -> Context;

    /// Names a database, whether or not it exists.
    fn name(&self, name: &str) -> DatabaseRef;

    /// Makes a database, or changes it, so that its content is that of the number.
    fn make(&self, name: &str, number: u64) -> DatabaseRef;

    /// Returns a database's content as its users see it, in a form that can be compared; `None` where it is not there.
    fn content(&self, database: &DatabaseRef) -> Option<Vec<u8>>;
}

/// Panics unless the engine keeps every promise of a restore.
#[track_caller]
pub fn restore_conformance<S: RestoreSubject>(make: impl Fn() -> S) {
    demand(&broken_restore_promises(make));
}

/// Returns the promises of a restore that the engine does not keep.
pub fn broken_restore_promises<S: RestoreSubject>(make: impl Fn() -> S) -> Vec<Broken> {
    run(
        &make,
        &[
            ("a plan changes nothing", plan_only),
            ("all steps bring the backup's content", all_steps),
            ("a restore is continued after any step", continued),
            ("a roll-back after any step brings the old content", rolled_back),
            ("a roll-back removes what was not there before", rolled_back_new),
            ("a step may be run again", repeated),
            ("a second restore is refused", second),
            ("nothing is left pending at the end", finished),
            ("a restore whose owner lives is not taken over", living),
            ("notes are kept", notes),
            ("to-new refuses what exists", to_new),
            ("a damaged backup is an error and the old content stays", damaged),
            ("each step is recorded", recorded),
        ],
    )
}

fn backup<S: RestoreSubject>(subject: &S, database: &DatabaseRef) -> Result<MemoryBackup, String> {
    let request = DumpRequest {
        target: subject.target(),
        databases: vec![DatabaseRequest { database: database.clone(), previous: None }],
        options: DumpOptions::default(),
    };
    let dump = subject.engine().begin_dump(&request, subject.context()).map_err(text)?;
    let drained = drain(dump, 2);
    let found = drained.databases.get(&database.name).and_then(crate::DrainedDatabase::backup);
    found.ok_or_else(|| format!("the backup failed: {drained:?}"))
}

/// A database whose content was 1 when it was backed up and is 2 now.
struct Scene {
    database: DatabaseRef,
    backup: MemoryBackup,
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
}

fn scene<S: RestoreSubject>(subject: &S) -> Result<Scene, String> {
    let database = subject.make("one", 1);
    let backup = backup(subject, &database)?;
    let new = subject.content(&database);
    subject.make("one", 2);
    let old = subject.content(&database);
    ensure!(old != new, "the subject does not change its databases");
    Ok(Scene { database, backup, old, new })
}

fn request(target: &DatabaseRef, mode: RestoreMode) -> RestoreRequest {
    RestoreRequest {
        target: target.clone(),
        mode,
        safety: Safety::Beside,
        verify: true,
        ownership: Ownership::default(),
        tables: Vec::new(),
        schema_only: false,
        data_only: false,
        backup: "0123abcd".to_owned(),
        repository: "/backups".to_owned(),
        started: Timestamp::from_second(1_790_000_000).unwrap_or_default(),
        host: "host".to_owned(),
    }
}

fn begin<S: RestoreSubject>(subject: &S, scene: &Scene) -> Result<Box<dyn Restore>, RestoreError> {
    let request = request(&scene.database, RestoreMode::Swap);
    subject.engine().begin_restore(&request, scene.backup.manifest(), subject.context())
}

fn pending<S: RestoreSubject>(subject: &S, database: &DatabaseRef) -> Result<Vec<RestoreState>, String> {
    subject.engine().pending_restores(database, &subject.context()).map_err(text)
}

fn run_steps(restore: &mut dyn Restore, steps: &[RestoreStep], backup: &dyn BackupReader) -> Outcome {
    steps.iter().try_for_each(|step| restore.run(*step, backup).map_err(|error| format!("{step:?}: {error}")))
}

fn is_in_use<T>(result: Result<T, RestoreError>) -> bool {
    matches!(result, Err(RestoreError::Database(error)) if error.kind == SourceErrorKind::InUse)
}

fn plan_only<S: RestoreSubject>(subject: &S) -> Outcome {
    let scene = scene(subject)?;
    let restore = begin(subject, &scene).map_err(text)?;
    ensure!(
        restore.steps().is_sorted() && !restore.steps().is_empty(),
        "the steps are {:?}",
        restore.steps()
    );
    drop(restore);
    ensure!(subject.content(&scene.database) == scene.old, "the database changed");
    ensure!(pending(subject, &scene.database)?.is_empty(), "something is pending");
    Ok(())
}

fn all_steps<S: RestoreSubject>(subject: &S) -> Outcome {
    let scene = scene(subject)?;
    let mut restore = begin(subject, &scene).map_err(text)?;
    let steps = restore.steps().to_vec();
    run_steps(&mut *restore, &steps, &scene.backup)?;
    drop(restore);
    ensure!(subject.content(&scene.database) == scene.new, "the content is another");
    Ok(())
}

/// Runs the first `count` steps, gives up, and takes the restore up again.
fn interrupted<S: RestoreSubject>(
    subject: &S,
    scene: &Scene,
    count: usize,
) -> Result<(Box<dyn Restore>, Vec<RestoreStep>), String> {
    let mut restore = begin(subject, scene).map_err(text)?;
    let steps = restore.steps().to_vec();
    run_steps(&mut *restore, &steps[..count], &scene.backup)?;
    drop(restore);
    let state = pending(subject, &scene.database)?.pop().ok_or("nothing is pending")?;
    ensure!(!state.owner_alive, "its owner is said to live");
    let restore = subject.engine().resume_restore(state, subject.context()).map_err(text)?;
    Ok((restore, steps))
}

fn step_count<S: RestoreSubject>(subject: &S) -> Result<usize, String> {
    let scene = scene(subject)?;
    let restore = begin(subject, &scene).map_err(text)?;
    Ok(restore.steps().len())
}

fn continued<S: RestoreSubject>(subject: &S) -> Outcome {
    for count in 1..step_count(subject)? {
        let scene = scene(subject)?;
        let (mut restore, steps) = interrupted(subject, &scene, count)?;
        run_steps(&mut *restore, &steps[count..], &scene.backup)?;
        drop(restore);
        ensure!(subject.content(&scene.database) == scene.new, "after step {count} the content is another");
        ensure!(pending(subject, &scene.database)?.is_empty(), "after step {count} something is pending");
    }
    Ok(())
}

fn rolled_back<S: RestoreSubject>(subject: &S) -> Outcome {
    for count in 1..step_count(subject)? {
        let scene = scene(subject)?;
        let (mut restore, _) = interrupted(subject, &scene, count)?;
        restore.roll_back().map_err(text)?;
        drop(restore);
        ensure!(subject.content(&scene.database) == scene.old, "after step {count} the content is another");
        ensure!(pending(subject, &scene.database)?.is_empty(), "after step {count} something is pending");
    }
    Ok(())
}

fn rolled_back_new<S: RestoreSubject>(subject: &S) -> Outcome {
    let mut scene = scene(subject)?;
    scene.database = subject.name("fresh");
    for count in 1..step_count(subject)? {
        let (mut restore, _) = interrupted(subject, &scene, count)?;
        restore.roll_back().map_err(text)?;
        drop(restore);
        ensure!(subject.content(&scene.database).is_none(), "after step {count} there is a database");
    }
    Ok(())
}

fn repeated<S: RestoreSubject>(subject: &S) -> Outcome {
    let scene = scene(subject)?;
    let mut restore = begin(subject, &scene).map_err(text)?;
    for step in restore.steps().to_vec() {
        let times = if step == RestoreStep::Finish { 1 } else { 2 };
        run_steps(&mut *restore, &vec![step; times], &scene.backup)?;
    }
    drop(restore);
    ensure!(subject.content(&scene.database) == scene.new, "the content is another");
    Ok(())
}

fn second<S: RestoreSubject>(subject: &S) -> Outcome {
    let scene = scene(subject)?;
    let mut restore = begin(subject, &scene).map_err(text)?;
    run_steps(&mut *restore, &[RestoreStep::Preflight], &scene.backup)?;
    ensure!(is_in_use(begin(subject, &scene)), "a second one began beside the first");
    drop(restore);
    ensure!(is_in_use(begin(subject, &scene)), "a second one began over an unfinished one");
    Ok(())
}

fn finished<S: RestoreSubject>(subject: &S) -> Outcome {
    let scene = scene(subject)?;
    let mut restore = begin(subject, &scene).map_err(text)?;
    let steps = restore.steps().to_vec();
    run_steps(&mut *restore, &steps, &scene.backup)?;
    drop(restore);
    let left = pending(subject, &scene.database)?.len();
    ensure!(left == 0, "{left} are pending");
    begin(subject, &scene).map(drop).map_err(text)
}

fn living<S: RestoreSubject>(subject: &S) -> Outcome {
    let scene = scene(subject)?;
    let mut restore = begin(subject, &scene).map_err(text)?;
    run_steps(&mut *restore, &[RestoreStep::Preflight], &scene.backup)?;
    let state = pending(subject, &scene.database)?.pop().ok_or("nothing is pending")?;
    ensure!(state.owner_alive, "its owner is said to be gone");
    ensure!(subject.engine().resume_restore(state, subject.context()).is_err(), "it was taken over");
    Ok(())
}

fn notes<S: RestoreSubject>(subject: &S) -> Outcome {
    let scene = scene(subject)?;
    let mut restore = begin(subject, &scene).map_err(text)?;
    run_steps(&mut *restore, &[RestoreStep::Preflight], &scene.backup)?;
    let told = serde_json::json!({ "stopped": true });
    restore.note(told.clone()).map_err(text)?;
    drop(restore);
    let found = pending(subject, &scene.database)?.pop().map(|state| state.notes);
    ensure!(found == Some(told), "kept is {found:?}");
    Ok(())
}

fn to_new<S: RestoreSubject>(subject: &S) -> Outcome {
    let scene = scene(subject)?;
    let request = request(&scene.database, RestoreMode::ToNew);
    let outcome = subject.engine().begin_restore(&request, scene.backup.manifest(), subject.context());
    let refused = match outcome {
        Err(_) => true,
        Ok(mut restore) => restore.run(RestoreStep::Preflight, &scene.backup).is_err(),
    };
    ensure!(refused, "it was accepted");
    ensure!(subject.content(&scene.database) == scene.old, "the database changed");
    Ok(())
}

fn damaged<S: RestoreSubject>(subject: &S) -> Outcome {
    let scene = scene(subject)?;
    let damaged = DamagedBackup { inner: &scene.backup, intact_bytes: 100 };
    let mut restore = begin(subject, &scene).map_err(text)?;
    let mut failure = None;
    for step in restore.steps().to_vec().into_iter().take_while(|step| *step < RestoreStep::Verify) {
        failure = failure.or_else(|| restore.run(step, &damaged).err());
    }
    ensure!(matches!(failure, Some(RestoreError::Backup(_))), "it gave {failure:?}");
    ensure!(subject.content(&scene.database) == scene.old, "the database changed");
    restore.roll_back().map_err(text)?;
    drop(restore);
    ensure!(pending(subject, &scene.database)?.is_empty(), "something is pending");
    Ok(())
}

fn recorded<S: RestoreSubject>(subject: &S) -> Outcome {
    let scene = scene(subject)?;
    let mut restore = begin(subject, &scene).map_err(text)?;
    for step in restore.steps().to_vec() {
        if step == RestoreStep::Finish {
            break;
        }
        run_steps(&mut *restore, &[step], &scene.backup)?;
        let state = pending(subject, &scene.database)?.pop().ok_or("nothing is recorded")?;
        ensure!(state.step == step && state.completed, "after {step:?} the record says {:?}", state.step);
    }
    Ok(())
}
