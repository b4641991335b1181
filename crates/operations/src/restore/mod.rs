//! Restores: plans, asks, runs the engine's steps with hooks and health checks between them, and rolls back by itself
//! where anything fails. After a crash [`resume`] and [`roll_back`] finish what lies beside the target.

mod execute;
mod files;
mod pending;
mod plan;

pub use crate::restored::{RestoreBody, RestorePerformance, StepTime};
pub use files::{FilesBody, FilesOptions, restore_files};
pub use pending::{PendingOptions, resume, roll_back};
pub use plan::{Destination, Planned, RestoreOptions};

use crate::OperationError;
use crate::Services;
use crate::reference::{older, short};
use crate::report::{Outcome, Report};
use crate::unlisted;
use jiff::Timestamp;
use repository::BackupRecord;
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
    let records = services.repository.backups(None, &services.context)?;
    if !options.fallback {
        unlisted::refuse(services, &records, &options.backup)?;
    }
    let mut record = plan::choose(services, &records, options)?;
    plan::tell_suspicion(services, &records, &record);
    let mut confirmed = false;
    loop {
        // One that is known to be damaged too is no way out.
        let sound = |older: &&BackupRecord| older.proof.is_some();
        let next = older(&records, &record).into_iter().find(sound).cloned();
        let attempt = attempt(services, options, &record, started, &mut confirmed, confirm);
        match (attempt, next) {
            (Err(error), Some(next)) if damaged(&error) && options.fallback => {
                plan::tell_fallback(services, &record, &next, &error);
                record = next;
            }
            (Err(error), next) if damaged(&error) => return Err(explain(error, &record, next.as_ref())),
            (outcome, _) => return outcome,
        }
    }
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
                plan::age_between(next, record),
            )
        }
        None => {
            "there is no older backup of it that is whole; `backstay check --read-data` tells what is damaged"
                .to_owned()
        }
    };
    let text = format!("backup {} is damaged", short(&record.id.0));
    OperationError::Repository(
        repository::RepositoryError::new(repository::RepositoryErrorKind::Damaged, text, error.to_string())
            .with_hint(hint)
            .with_source(error),
    )
}
