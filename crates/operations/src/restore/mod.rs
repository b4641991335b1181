//! Restores: plans, asks, runs the engine's steps with hooks and health checks between them, and rolls back by itself
//! where anything fails; from backups of a repository, or from dump files of any tool. After a crash [`resume`] and [`roll_back`] finish what lies beside the target.

pub(crate) mod dump_file;
mod execute;
mod files;
mod pending;
mod plan;

pub use crate::restored::{RestoreBody, RestorePerformance, StepTime};
pub use dump_file::{DumpRestoreOptions, is_of_dump_file, resume_dump, run_dump};
pub use files::{FilesBody, FilesOptions, restore_files};
pub use pending::{PendingOptions, resume, roll_back};
pub use plan::{Destination, Planned, RestoreOptions};

use crate::OperationError;
use crate::Services;
use crate::reference::{older, short};
use crate::report::{Outcome, Report};
use crate::{candidates, unlisted};
use jiff::Timestamp;
use repository::{BackupRecord, Wanted};
use serde::{Deserialize, Serialize};

/// What operations keep in the restore record, so that a crash after the stop hook does not leave a service down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// Stops whoever uses the target, as program and arguments.
    pub stop: Option<Vec<String>>,
    /// Starts it again.
    pub start: Option<Vec<String>>,
    /// Must answer with success once it was started.
    pub health_url: Option<String>,
    /// Whether the stop command was begun: then the start command is owed, whatever happens.
    pub stop_begun: bool,
    /// Whether the start command was run to its end since.
    pub started: bool,
}

/// Restores a database. `confirm` is shown the plan before anything changes, and may refuse by its error. Where the
/// backup turns out to be damaged it stops, names the next older one, and takes that only where `fallback` says so.
pub fn run(
    services: &Services,
    options: &RestoreOptions,
    confirm: &mut dyn FnMut(&Planned) -> Result<(), OperationError>,
) -> Result<Report<RestoreBody>, OperationError> {
    let started = Timestamp::now();
    let records = candidates::load(services, &options.backup)?;
    if !options.fallback {
        unlisted::refuse(services, &records, &options.backup)?;
    }
    let mut record = plan::choose(services, &records, options)?;
    if record.suspect.is_some() {
        plan::tell_suspicion(services, &of_the_same(services, &record)?, &record);
    }
    let mut confirmed = false;
    loop {
        let error = match attempt(services, options, &record, started, &mut confirmed, confirm) {
            Err(error) if damaged(&error) => error,
            outcome => return outcome,
        };
        match next_older(services, &record) {
            Some(next) if options.fallback => {
                plan::tell_fallback(services, &record, &next, &error);
                record = next;
            }
            next => return Err(explain(error, &record, next.as_ref())),
        }
    }
}

/// Returns the next older backup of the same database. One that is known to be damaged too is no way out.
fn next_older(services: &Services, record: &BackupRecord) -> Option<BackupRecord> {
    let records = of_the_same(services, record).ok()?;
    older(&records, record).into_iter().find(|older| older.proof.is_some()).cloned()
}

/// Returns the backups of the same database.
fn of_the_same(services: &Services, record: &BackupRecord) -> Result<Vec<BackupRecord>, OperationError> {
    let wanted = Wanted::Database(record.target.clone(), record.database.clone());
    Ok(services.repository.backups_of(&wanted, &services.context)?)
}

fn attempt(
    services: &Services,
    options: &RestoreOptions,
    record: &BackupRecord,
    started: Timestamp,
    confirmed: &mut bool,
    confirm: &mut dyn FnMut(&Planned) -> Result<(), OperationError>,
) -> Result<Report<RestoreBody>, OperationError> {
    plan::refuse_known_damage(services, record)?;
    let planned = plan::plan(services, options, record)?;
    if options.dry_run {
        return Ok(Report::new("restore", started, Outcome::Complete, plan::dry_run(&planned)));
    }
    if !*confirmed {
        confirm(&planned)?;
        *confirmed = true;
    }
    execute::execute(services, planned, started)
}

fn damaged(error: &OperationError) -> bool {
    match error {
        OperationError::Backup(error) => {
            matches!(error.kind, flow::ReadErrorKind::Damaged | flow::ReadErrorKind::Missing)
        }
        OperationError::Repository(error) => error.kind == repository::RepositoryErrorKind::Damaged,
        OperationError::Restore { source, attempt, .. } if attempt.rolled_back => damaged(source),
        _ => false,
    }
}

/// Names the next older backup and its age: never taken in silence.
fn explain(error: OperationError, record: &BackupRecord, next: Option<&BackupRecord>) -> OperationError {
    let hint = match next {
        Some(next) => {
            format!(
                "the next older backup is {} of {}, {} older; `--fallback` accepts it",
                short(&next.id.0),
                next.time,
                plan::age_between(next.time, record.time),
            )
        }
        None => {
            "there is no older backup of it that is whole; `backstay check --read-data` tells what is damaged"
                .to_owned()
        }
    };
    let state = if record.lost.is_some() { "lost" } else { "damaged" };
    let text = format!("backup {} is {state}", short(&record.id.0));
    OperationError::Repository(
        repository::RepositoryError::new(repository::RepositoryErrorKind::Damaged, text, error.to_string())
            .with_hint(hint)
            .with_source(error),
    )
}
