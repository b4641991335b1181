//! What a restore is going to do, before anything changes.

use super::{Hooks, RestoreBody, RestorePerformance};
use crate::hooks;
use crate::reference::{Reference, older, resolve_one, short, to_the_second};
use crate::{OperationError, Services};
use engines::{Ownership, Restore, RestoreMode, RestorePlan, RestoreRequest, Safety};
use flow::{BackupReader, DatabaseRef, EngineKind, Event, Finding, Severity};
use jiff::Timestamp;
use repository::{BackupId, BackupRecord, RepositoryError, RepositoryErrorKind};
use std::sync::Arc;

/// Where a restore goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Where the backup came from.
    Origin,
    /// Another database, which need not exist.
    Target(DatabaseRef, EngineKind),
    /// A new one by that name, in the terms of its engine: a path for SQLite. Must not exist.
    New(String),
}

/// What to restore, where to, and how.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The backup.
    pub backup: Reference,
    /// Where it goes.
    pub destination: Destination,
    /// Writes through the database system instead of renaming.
    pub in_place: bool,
    /// What becomes of the old database.
    pub safety: Safety,
    /// Whether what was written is compared and checked.
    pub verify: bool,
    /// To whom it belongs, where the database system has owners.
    pub ownership: Ownership,
    /// Only these tables, beside the live ones.
    pub tables: Vec<String>,
    /// Definitions without rows.
    pub schema_only: bool,
    /// Rows without definitions, added to tables that are there.
    pub data_only: bool,
    /// Commands and checks around the swap.
    pub hooks: Hooks,
    /// Takes the next older backup where this one is damaged.
    pub fallback: bool,
    /// Tells what would happen, and changes nothing.
    pub dry_run: bool,
}

/// A restore that is ready to run.
pub struct Planned {
    /// The backup: its id, or the path of a dump file.
    pub backup_id: BackupId,
    /// What messages call it.
    pub shown: String,
    /// The moment that it shows.
    pub time: Timestamp,
    /// The database that it goes to.
    pub target: DatabaseRef,
    /// What the engine is going to do.
    pub plan: RestorePlan,
    /// How long it is estimated to take, in milliseconds.
    pub estimated_ms: u64,
    pub(super) restore: Box<dyn Restore>,
    pub(super) backup: Arc<dyn BackupReader>,
    pub(super) hooks: Hooks,
    pub(super) verify: bool,
}

/// Returns the backup that is meant. It must be one of a database.
pub(super) fn choose(
    services: &Services,
    records: &[BackupRecord],
    options: &RestoreOptions,
) -> Result<BackupRecord, OperationError> {
    let record = resolve_one(records, &options.backup, &services.host)?;
    if record.engine.is_none() {
        let id = short(&record.id.0);
        return Err(OperationError::usage(
            format!("{id} was stored by restic and holds files, no database"),
            format!("`backstay restore {id} --to-new FOLDER` writes its files"),
        ));
    }
    refuse_part_for_whole(&record, options)?;
    Ok(record)
}

/// What a part of a database leaves out would be gone where it takes the place of the whole.
fn refuse_part_for_whole(record: &BackupRecord, options: &RestoreOptions) -> Result<(), OperationError> {
    let Some(part) = &record.selection else { return Ok(()) };
    let replaces = !matches!(options.destination, Destination::New(_)) && options.tables.is_empty();
    if !replaces || options.data_only {
        return Ok(());
    }
    let id = short(&record.id.0);
    Err(OperationError::usage(
        format!("{id} holds a part of {} ({part}), and would take the place of the whole", record.database),
        format!(
            "`backstay restore {id} --to-new NAME` restores it beside, `--data-only` adds its rows to the tables that are \
             there; `backstay list` shows backups of the whole"
        ),
    ))
}

/// A backup that a verify found damaged is not tried: its proof says so.
pub(super) fn refuse_known_damage(services: &Services, record: &BackupRecord) -> Result<(), OperationError> {
    if record.proof.is_some() {
        return Ok(());
    }
    if let Some(reason) = &record.lost {
        let object = format!("backup {}", short(&record.id.0));
        let message = format!("what it held is lost: {reason}");
        return Err(RepositoryError::new(RepositoryErrorKind::Damaged, object, message).into());
    }
    let proofs = services.repository.proofs(&services.context)?;
    let newest = proofs.iter().filter(|proof| proof.backup == record.id).max_by_key(|proof| proof.time);
    match newest.and_then(|proof| proof.problem.clone()) {
        Some(problem) => Err(RepositoryError::new(
            RepositoryErrorKind::Damaged,
            format!("backup {}", short(&record.id.0)),
            format!("it was found damaged: {problem}"),
        )
        .into()),
        None => Ok(()),
    }
}

pub(super) fn plan(
    services: &Services,
    options: &RestoreOptions,
    record: &BackupRecord,
) -> Result<Planned, OperationError> {
    let kind = record.engine.unwrap_or(EngineKind::Sqlite);
    let origin = DatabaseRef {
        target: record.target.clone(),
        name: record.database.clone(),
        connection: record.connection.to_string(),
    };
    let (target, mode) = match &options.destination {
        Destination::Origin => {
            (origin, if options.in_place { RestoreMode::InPlace } else { RestoreMode::Swap })
        }
        Destination::Target(target, engine) if *engine == kind => {
            (target.clone(), if options.in_place { RestoreMode::InPlace } else { RestoreMode::Swap })
        }
        Destination::Target(target, engine) => {
            return Err(OperationError::usage(
                format!("a backup of {kind} cannot be restored to {target}, which is {engine}"),
                "name a target of the same system".to_owned(),
            ));
        }
        Destination::New(connection) => {
            (DatabaseRef { connection: connection.clone(), ..origin }, RestoreMode::ToNew)
        }
    };
    let backup = services.repository.open(&record.id, &services.context)?;
    let request = RestoreRequest {
        target,
        mode,
        safety: options.safety.clone(),
        verify: options.verify,
        ownership: options.ownership.clone(),
        tables: options.tables.clone(),
        schema_only: options.schema_only,
        data_only: options.data_only,
        backup: record.id.0.clone(),
        repository: services.repository.location(),
        started: Timestamp::now(),
        host: services.host.clone(),
    };
    let subject = Subject { shown: short(&record.id.0).to_owned(), time: record.time };
    plan_request(services, request, (kind, subject), backup, &options.hooks)
}

/// What is restored, as it is shown.
pub(super) struct Subject {
    pub(super) shown: String,
    pub(super) time: Timestamp,
}

/// Has the engine plan what is asked for.
pub(super) fn plan_request(
    services: &Services,
    request: RestoreRequest,
    (kind, subject): (EngineKind, Subject),
    backup: Arc<dyn BackupReader>,
    hooks: &Hooks,
) -> Result<Planned, OperationError> {
    if request.schema_only && kind != EngineKind::Postgres {
        return Err(OperationError::usage(
            format!("`--schema-only` has no effect on a backup of {kind}, which is restored as a whole"),
            "leave it out".to_owned(),
        ));
    }
    if request.data_only && kind != EngineKind::Postgres {
        return Err(OperationError::usage(
            format!("`--data-only` cannot be had of a backup of {kind}, which is restored as a whole"),
            "restore it beside by `--to-new PATH`, then take rows over: ATTACH 'PATH' AS old; INSERT INTO t SELECT * FROM \
             old.t"
                .to_owned(),
        ));
    }
    let engine = services.engines.get(kind)?;
    let restore = engine.begin_restore(&request, backup.manifest(), services.context.clone())?;
    let mut plan = restore.plan().clone();
    name_hooks(&mut plan.actions, hooks, request.verify);
    let estimated_ms = estimate(services, &plan, kind, request.verify);
    Ok(Planned {
        backup_id: BackupId(request.backup),
        shown: subject.shown,
        time: subject.time,
        target: request.target,
        plan,
        estimated_ms,
        restore,
        backup,
        hooks: hooks.clone(),
        verify: request.verify,
    })
}

/// Puts the commands and the health check where they run: the first after what is written beside the target was
/// checked, the others at the end.
fn name_hooks(actions: &mut Vec<String>, hooks: &Hooks, verify: bool) {
    if let Some(stop) = &hooks.stop {
        let beside = (1 + usize::from(verify)).min(actions.len());
        actions.insert(beside, format!("Run the stop command: {}", hooks::shown(stop)));
    }
    actions.extend(start_actions(hooks));
}

/// Returns what comes after the swap.
pub(super) fn start_actions(hooks: &Hooks) -> Vec<String> {
    let start = hooks.start.as_ref().map(|start| format!("Run the start command: {}", hooks::shown(start)));
    let health = hooks.health_url.as_ref().map(|url| format!("Wait until {url} answers with success."));
    start.into_iter().chain(health).collect()
}

/// Estimates by the rate of this machine's last restore of that kind, or by a cautious one where there was none: a server
/// parses rows and makes indexes, where a file is written as it is.
fn estimate(services: &Services, plan: &RestorePlan, kind: EngineKind, verify: bool) -> u64 {
    let cautious: u64 = if kind == EngineKind::Sqlite { 150_000_000 } else { 25_000_000 };
    let rate = crate::journaling::restore_rate(services, kind).unwrap_or(match verify {
        true => cautious,
        false => cautious * 2,
    });
    100 + plan.write_bytes.saturating_mul(1000) / rate.max(1)
}

/// The report of a dry run: what would happen, space and time.
pub(super) fn dry_run(planned: &Planned) -> RestoreBody {
    RestoreBody {
        backup: Some(planned.backup_id.clone()),
        backup_time: Some(planned.time),
        target: planned.target.connection.clone(),
        safety_copy: planned.plan.safety_copy.clone(),
        verified: false,
        rolled_back: false,
        steps: vec![],
        performance: RestorePerformance::default(),
        plan: Some(planned.plan.clone()),
        estimated_ms: Some(planned.estimated_ms),
        refusals: refusals(&planned.plan, planned.restore.state().request.mode, &planned.hooks),
        dry_run: true,
    }
}

/// Returns how much older one moment is than another.
pub(super) fn age_between(older: Timestamp, newer: Timestamp) -> String {
    let minutes = (newer.as_second() - older.as_second()) / 60;
    match minutes {
        ..120 => format!("{minutes} min"),
        120..2880 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}

/// Says aloud that a backup is suspect, and which one before it is not. It is no reason to refuse: a person may want to
/// have what there is now.
pub(super) fn tell_suspicion(services: &Services, records: &[BackupRecord], record: &BackupRecord) {
    let Some(reasons) = &record.suspect else { return };
    let good = |older: &&BackupRecord| older.suspect.is_none() && older.proof.is_some();
    let hint = match older(records, record).into_iter().find(good) {
        Some(good) => format!(
            "the newest before it that is not suspect is {} of {}, {} older: restore that one unless this loss was meant",
            short(&good.id.0),
            to_the_second(good.time),
            age_between(good.time, record.time),
        ),
        None => "there is no backup before it that is not suspect".to_owned(),
    };
    services.context.observer.event(Event::Finding(Finding {
        severity: Severity::Warning,
        object: format!("backup {}", short(&record.id.0)),
        message: format!("IT IS SUSPECT: {}", reasons.join("; ")),
        hint: Some(hint),
    }));
}

/// Tells what would refuse the restore if it were run now: what a person mends before the real one.
pub(super) fn refusals(plan: &RestorePlan, mode: RestoreMode, hooks: &Hooks) -> Vec<String> {
    let mut refusals = plan.problems.clone();
    if mode == RestoreMode::Swap && !plan.ends_holders && hooks.stop.is_none() && !plan.holders.is_empty() {
        let holders: Vec<String> = plan
            .holders
            .iter()
            .map(|holder| match holder.pid {
                Some(pid) => format!("process {pid} ({})", holder.name),
                None => holder.name.clone(),
            })
            .collect();
        refusals.push(format!(
            "the target is in use by {}; stop it, or let `--stop-command` do that, or write through it with \
             `--in-place`",
            holders.join(", ")
        ));
    }
    if let Some(free) = plan.free_bytes.filter(|free| *free < plan.needed_bytes) {
        refusals.push(format!(
            "{free} bytes are free where the target is, and {} are needed; free some space, or restore to another \
             folder with `--target`",
            plan.needed_bytes
        ));
    }
    refusals
}

/// Says aloud that an older backup is taken.
pub(super) fn tell_fallback(
    services: &Services,
    from: &BackupRecord,
    to: &BackupRecord,
    error: &OperationError,
) {
    services.context.observer.event(Event::Finding(Finding {
        severity: Severity::Warning,
        object: format!("backup {}", short(&from.id.0)),
        message: format!("{error}; taking {} of {} instead", short(&to.id.0), to.time),
        hint: None,
    }));
}
