//! Backs up targets: one snapshot a run of a target, each database its own subtree and manifest.
//!
//! A database that fails is named and takes no other with it. Nothing is visible before the snapshot is written, and
//! that is written only after every source gave its verdict and every byte was confirmed; after a crash the next run
//! uses what was stored and indexed.

use crate::hooks::{self, Hook};
use crate::journaling;
use crate::plain_file::WrittenFile;
use crate::plausibility::{self, Suspect};
use crate::report::{ErrorReport, Outcome, Report};
use crate::settle::{self, AfterHeal, LostBackup};
use crate::tenants::{self, Appeared, Vanished};
use crate::{Configuration, OperationError, Pruned, Retention, Services, kept_configuration};
use crate::{plan_retention, unfinished};
use engines::Skipped;
use flow::{
    DatabaseName, DatabaseRef, DatabaseRequest, Dump, DumpOptions, DumpRequest, EngineKind, Event, Phase,
    Selection, Severity, SourceError, SourceErrorKind, Step, TargetName, TargetRef,
};
use jiff::Timestamp;
use repository::{BackupId, PartError, Proof, ProofLevel, SnapshotRequest, SnapshotWriter};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// One target to back up.
#[derive(Debug, Clone)]
pub struct BackupTarget {
    /// The target.
    pub target: TargetRef,
    /// The plan, where there is one.
    pub plan: Option<String>,
    /// Only this one of its databases.
    pub only: Option<DatabaseName>,
    /// Only these, where a list names them: one of them that is not there fails by itself.
    pub among: Option<BTreeSet<DatabaseName>>,
    /// Only this part of each of them.
    pub selection: Option<Selection>,
    /// A command to run before, as program and arguments; its failure is the target's.
    pub before: Option<Vec<String>>,
    /// A command to run after, also where the backup failed.
    pub after: Option<Vec<String>>,
    /// Tags for the snapshot, beside ours.
    pub tags: Vec<String>,
    /// What its plan keeps, where the run is to remove the rest.
    pub retention: Option<Retention>,
}

/// What to back up, and how.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// The targets, one after the other.
    pub targets: Vec<BackupTarget>,
    /// How the databases are read.
    pub dump: DumpOptions,
    /// Tells what would be backed up, and reads and writes nothing.
    pub dry_run: bool,
    /// The configuration that the run was made by, to be kept beside the backups. It holds no secret.
    pub configuration: Option<Configuration>,
}

/// What became of one database.
#[derive(Debug, Clone, Serialize)]
pub struct BackupItem {
    /// The backup's id; null where it failed.
    pub id: Option<BackupId>,
    /// The file, where it went into a folder of dump files; null elsewhere.
    pub path: Option<String>,
    /// The target.
    pub target: TargetName,
    /// The database; null where the whole target failed.
    pub database: Option<DatabaseName>,
    /// The engine.
    pub engine: EngineKind,
    /// The consistency point.
    pub time: Option<Timestamp>,
    /// Size of the database's entries.
    pub size_bytes: Option<u64>,
    /// Bytes that were read of it.
    pub read_bytes: Option<u64>,
    /// Bytes that it added to the repository.
    pub added_bytes: Option<u64>,
    /// Rows of all its tables.
    pub rows: Option<u64>,
    /// What of the database it holds; null for all of it.
    pub selection: Option<Selection>,
    /// Whether it had not changed and was not read.
    pub unchanged: Option<bool>,
    /// How far it is proven.
    pub proof: Option<ProofLevel>,
    /// As of when.
    pub proof_time: Option<Timestamp>,
    /// How long it took.
    pub elapsed_ms: Option<u64>,
    /// Why it failed.
    pub error: Option<ErrorReport>,
}

impl BackupItem {
    /// Of a target, and nothing known of it yet.
    pub(crate) fn of(target: &TargetRef) -> Self {
        Self {
            id: None,
            path: None,
            target: target.name.clone(),
            database: None,
            engine: target.engine,
            time: None,
            size_bytes: None,
            read_bytes: None,
            added_bytes: None,
            rows: None,
            selection: None,
            unchanged: None,
            proof: None,
            proof_time: None,
            elapsed_ms: None,
            error: None,
        }
    }
}

/// A backup that looks wrong. It is whole, and does not count for retention until somebody accepts it.
#[derive(Debug, Clone, Serialize)]
pub struct Suspicion {
    /// The backup.
    pub backup: BackupId,
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: DatabaseName,
    /// What it lost, as sentences without a full stop.
    pub reasons: Vec<String>,
    /// The last good backup, which it was measured by; null where it has not changed since it was found suspect.
    pub baseline: Option<BackupId>,
    /// The consistency point of that one.
    pub baseline_time: Option<Timestamp>,
}

/// The report's own part.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BackupBody {
    /// One for each database, in the order of targets and names.
    pub backups: Vec<BackupItem>,
    /// Backups that look wrong.
    pub suspicions: Vec<Suspicion>,
    /// Databases that the previous run of the whole target did not find.
    pub appeared: Vec<Appeared>,
    /// Databases that recent runs of the whole target found, and this one did not.
    pub vanished: Vec<Vanished>,
    /// What retention removed; null where the run had none.
    pub pruned: Option<Pruned>,
    /// Earlier backups that were damaged, and that this run made whole again.
    pub healed: Vec<BackupId>,
    /// Earlier backups that were damaged, and that nobody can bring back any more.
    pub lost: Vec<LostBackup>,
    /// What lay beside the databases and is none.
    pub skipped: Vec<Skipped>,
    /// The plain file that was written instead of into a repository; null where none was.
    pub file: Option<WrittenFile>,
    /// Whether nothing was done but telling.
    pub dry_run: bool,
}

/// What a run came to: the report, and the first error, which decides the exit code where all failed.
#[derive(Debug)]
pub struct BackupResult {
    /// The report.
    pub report: Report<BackupBody>,
    /// The errors of the databases that failed, in the order of the report's items that have one.
    pub errors: Vec<OperationError>,
}

/// Backs up. An error of the repository's side, or an interruption, ends the run; errors of the database side are in
/// the result, one for each database that failed.
pub fn run(services: &Services, options: &BackupOptions) -> Result<BackupResult, OperationError> {
    let started = Timestamp::now();
    if options.dry_run {
        return all_targets(services, options, started);
    }
    let names: Vec<&str> = options.targets.iter().map(|target| target.target.name.as_str()).collect();
    let recorded = journaling::begin(services, "backup", Some(names.join(", ")), started);
    let outcome = all_targets(services, options, started);
    if let (Some(configuration), Ok(result)) = (&options.configuration, &outcome)
        && result.report.body.backups.iter().any(|item| item.id.is_some())
    {
        kept_configuration::keep(services, configuration);
    }
    match &outcome {
        Ok(result) => {
            journaling::finish(services, &recorded, Ok(&result.report.with(abridged(&result.report.body))))
        }
        Err(error) => journaling::finish::<BackupBody>(services, &recorded, Err(error)),
    }
    outcome
}

/// Returns what the journal keeps of a run: of very many databases those that failed, then those that changed.
fn abridged(body: &BackupBody) -> BackupBody {
    let kept = journaling::ITEMS_KEPT;
    let failed = body.backups.iter().filter(|item| item.error.is_some());
    let changed = body.backups.iter().filter(|item| item.error.is_none() && item.unchanged != Some(true));
    let unchanged = body.backups.iter().filter(|item| item.error.is_none() && item.unchanged == Some(true));
    BackupBody {
        backups: failed.chain(changed).chain(unchanged).take(kept).cloned().collect(),
        suspicions: body.suspicions.iter().take(kept).cloned().collect(),
        appeared: body.appeared.iter().take(kept).cloned().collect(),
        vanished: body.vanished.iter().take(kept).cloned().collect(),
        pruned: body.pruned.clone(),
        healed: body.healed.iter().take(kept).cloned().collect(),
        lost: body.lost.iter().take(kept).cloned().collect(),
        skipped: body.skipped.iter().take(kept).cloned().collect(),
        file: body.file.clone(),
        dry_run: body.dry_run,
    }
}

/// By how much a backup steps back where others want the processor too.
const NICENESS: i32 = 5;

/// Runs `work` on a thread that lets the programs go first which write to the databases. The threads that it begins
/// inherit that; hooks, which may start a service for good, do not. Where the system refuses, the work is as good.
pub(crate) fn stepping_back<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let _niceness = rustix::process::nice(NICENESS);
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn all_targets(
    services: &Services,
    options: &BackupOptions,
    started: Timestamp,
) -> Result<BackupResult, OperationError> {
    let mut body = BackupBody { dry_run: options.dry_run, ..BackupBody::default() };
    let mut errors = Vec::new();
    for target in &options.targets {
        let before = body.backups.len();
        let attempt = hooks::around(
            Hook::new("before_backup", target.before.as_deref(), &target.target.name, target.only.as_ref()),
            Hook::new("after_backup", target.after.as_deref(), &target.target.name, target.only.as_ref()),
            options.dry_run,
            services,
            || stepping_back(|| back_up_target(services, target, options, &mut body, &mut errors)),
        );
        match attempt {
            Ok(()) => retain(services, target, options, before, &mut body),
            Err(error @ (OperationError::Source(_) | OperationError::Local { .. })) if !cancelled(&error) => {
                body.backups.push(failed_item(&target.target, None, &error));
                errors.push(error);
            }
            Err(error) => return Err(error),
        }
    }
    let outcome = match (errors.len(), body.backups.len()) {
        (0, _) if !body.suspicions.is_empty() => Outcome::Suspect,
        (0, _) => Outcome::Complete,
        (failed, all) if failed >= all => Outcome::Failed,
        _ => Outcome::Incomplete,
    };
    let mut report = Report::new("backup", started, outcome, body);
    if outcome == Outcome::Failed {
        report.error = errors.first().map(ErrorReport::from);
    }
    Ok(BackupResult { report, errors })
}

/// Lets go what the plan does not keep, once the target is backed up. Where all of it failed, nothing goes. One database
/// that failed, or is gone, is held to the rules as it is: they keep the newest good backup of each.
fn retain(
    services: &Services,
    target: &BackupTarget,
    options: &BackupOptions,
    before: usize,
    body: &mut BackupBody,
) {
    let (Some(retention), Some(plan), false) = (&target.retention, &target.plan, options.dry_run) else {
        return;
    };
    let items = body.backups.get(before..).unwrap_or_default();
    if !items.iter().any(|item| item.id.is_some()) {
        return;
    }
    let made = plan_retention::Made { target: &target.target.name, plan, only: target.only.as_ref() };
    let pruned = plan_retention::apply(services, retention, made);
    body.pruned.get_or_insert_default().add(pruned);
}

fn cancelled(error: &OperationError) -> bool {
    matches!(error, OperationError::Cancelled)
        || matches!(error, OperationError::Source(error) if error.kind == SourceErrorKind::Cancelled)
}

fn back_up_target(
    services: &Services,
    target: &BackupTarget,
    options: &BackupOptions,
    body: &mut BackupBody,
    errors: &mut Vec<OperationError>,
) -> Result<(), OperationError> {
    let context = &services.context;
    let engine = services.engines.of(&target.target)?;
    // A part builds on nothing: an engine's marks are of whole databases.
    let is_whole = target.selection.is_none();
    let previous = match options.dry_run || !is_whole {
        true => BTreeMap::new(),
        false => services.repository.previous(&target.target.name, &services.host, context)?,
    };
    let found = engine.databases_since(&target.target, &previous, context)?;
    body.skipped.extend(found.skipped);
    let mut databases = found.databases;
    tenants::keep_only(&target.target.name, target.only.as_ref(), &mut databases)?;
    for (name, error) in tenants::keep_named(&target.target.name, target.among.as_ref(), &mut databases)? {
        body.backups.push(failed_item(&target.target, Some(name), &error));
        errors.push(error);
    }
    tell_unfinished(services, engine, &databases);
    if options.dry_run {
        return dry_run(services, target, &databases, body);
    }
    if target.only.is_none() && is_whole {
        let recent = services.repository.recent(&target.target.name, &services.host, context)?;
        let (appeared, vanished) = tenants::compare(&target.target.name, &databases, recent);
        body.appeared.extend(appeared);
        body.vanished.extend(vanished);
    }
    let dump = DumpOptions { selection: target.selection.clone(), ..options.dump.clone() };
    let mut request = DumpRequest { target: target.target.clone(), databases: vec![], options: dump };
    for database in &databases {
        let previous = previous.get(&database.name).cloned();
        request.databases.push(DatabaseRequest { database: database.clone(), previous });
    }
    let writer = services.repository.begin(
        SnapshotRequest {
            target: target.target.name.clone(),
            only: target.only.clone(),
            plan: target.plan.clone(),
            selection: target.selection.clone(),
            host: services.host.clone(),
            user: services.user.clone(),
            tags: target.tags.clone(),
            time: Timestamp::now(),
        },
        context,
    )?;
    let name = match databases.as_slice() {
        [one] => format!("backing up {}", one.connection),
        many => format!("backing up {} databases of {}", many.len(), target.target.name),
    };
    context
        .observer
        .event(Event::Phase(Phase { name, total_bytes: total_bytes(engine, &databases, services) }));
    let dump = engine.begin_dump(&request, context.clone())?;
    let verdicts = pump(services, dump.as_ref(), writer.as_ref(), options.dump.jobs.max(1))?;
    dump.finish()?;
    conclude(services, target, verdicts, writer, body, errors)
}

/// Says which databases an unfinished restore lies beside: what is backed up of them may not be what was meant.
fn tell_unfinished(services: &Services, engine: &dyn engines::Engine, databases: &[DatabaseRef]) {
    for database in engine.with_restores(databases) {
        if let Some(finding) = unfinished::finding(engine, database, &services.context) {
            services.context.observer.event(Event::Finding(finding));
        }
    }
}

/// Sizes are asked only where that is cheap: of a few databases.
fn total_bytes(engine: &dyn engines::Engine, databases: &[DatabaseRef], services: &Services) -> Option<u64> {
    if databases.len() > 64 {
        return None;
    }
    databases.iter().map(|database| engine.size_bytes(database, &services.context).ok()).sum()
}

fn dry_run(
    services: &Services,
    target: &BackupTarget,
    databases: &[DatabaseRef],
    body: &mut BackupBody,
) -> Result<(), OperationError> {
    let engine = services.engines.of(&target.target)?;
    for database in databases {
        let info = engine.probe(database, false, &services.context)?;
        for finding in info.findings {
            if finding.severity != Severity::Notice {
                services.context.observer.event(Event::Finding(finding));
            }
        }
        body.backups.push(BackupItem {
            database: Some(database.name.clone()),
            size_bytes: Some(info.size_bytes),
            selection: target.selection.clone(),
            ..BackupItem::of(&target.target)
        });
    }
    Ok(())
}

/// What became of each database; of one that was read, why it is suspect.
type Verdicts = BTreeMap<DatabaseName, Result<Option<Suspect>, SourceError>>;

/// Pulls the dump with several workers until it is empty. A repository error ends it; source errors are verdicts.
fn pump(
    services: &Services,
    dump: &dyn Dump,
    writer: &dyn SnapshotWriter,
    workers: usize,
) -> Result<Verdicts, OperationError> {
    let verdicts = Mutex::new(Verdicts::new());
    let fatal: Mutex<Option<OperationError>> = Mutex::new(None);
    let stop = |error: OperationError| {
        let mut slot = fatal.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(error);
    };
    let stopped = || fatal.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while !stopped() {
                    if services.context.cancel.is_cancelled() {
                        return stop(OperationError::Cancelled);
                    }
                    match dump.next() {
                        Ok(Some(step)) => {
                            if let Err(error) = take_step(services, step, writer, &verdicts) {
                                return stop(error);
                            }
                        }
                        Ok(None) => return,
                        Err(error) => return stop(error.into()),
                    }
                }
            });
        }
    });
    if let Some(error) = fatal.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(if services.context.cancel.is_cancelled() { OperationError::Cancelled } else { error });
    }
    Ok(verdicts.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn take_step(
    services: &Services,
    step: Step,
    writer: &dyn SnapshotWriter,
    verdicts: &Mutex<Verdicts>,
) -> Result<(), OperationError> {
    let settle = |database: DatabaseRef, verdict: Result<Option<Suspect>, SourceError>| {
        services.context.observer.event(Event::Database(database.clone()));
        let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        // The first failure of a database stands, whatever is said of it later.
        if !matches!(verdicts.get(&database.name), Some(Err(_))) {
            verdicts.insert(database.name, verdict);
        }
    };
    match step {
        Step::Part(part) => {
            let database = part.database.clone();
            match writer.part(part) {
                Ok(()) => {}
                Err(PartError::Source(error)) if error.kind == SourceErrorKind::Cancelled => {
                    return Err(OperationError::Cancelled);
                }
                Err(PartError::Source(error)) => settle(database, Err(error)),
                Err(PartError::Write(error)) => return Err(error.into()),
            }
        }
        Step::Reuse(part) => writer.reuse(part)?,
        Step::Unchanged(database, unchanged) => {
            writer.unchanged(&database, unchanged)?;
            settle(database, Ok(None));
        }
        Step::Done(database, Ok(dumped)) => {
            let failed = matches!(
                verdicts.lock().unwrap_or_else(PoisonError::into_inner).get(&database.name),
                Some(Err(_))
            );
            let mut suspect = None;
            if !failed {
                suspect = plausibility::judge(writer, &database, &dumped.facts)?;
                writer.done(&database, dumped)?;
                if let Some(suspect) = &suspect {
                    writer.suspect(&database, suspect.reasons.clone())?;
                }
            }
            settle(database, Ok(suspect));
        }
        Step::Done(_, Err(error)) if error.kind == SourceErrorKind::Cancelled => {
            return Err(OperationError::Cancelled);
        }
        Step::Done(database, Err(error)) => settle(database, Err(error)),
    }
    Ok(())
}

/// Writes the snapshot where at least one database is whole, and fills in the report.
fn conclude(
    services: &Services,
    target: &BackupTarget,
    verdicts: Verdicts,
    writer: Box<dyn SnapshotWriter>,
    body: &mut BackupBody,
    errors: &mut Vec<OperationError>,
) -> Result<(), OperationError> {
    let (mut failed, mut whole) = (BTreeMap::new(), BTreeMap::new());
    for (name, verdict) in verdicts {
        match verdict {
            Ok(suspect) => drop(whole.insert(name, suspect)),
            Err(error) => {
                let database = DatabaseRef {
                    target: target.target.name.clone(),
                    name: name.clone(),
                    connection: error.object.clone(),
                };
                writer.discard(&database, &error.to_string());
                failed.insert(name, OperationError::from(error));
            }
        }
    }
    let mut items: BTreeMap<DatabaseName, BackupItem> = BTreeMap::new();
    if !whole.is_empty() {
        services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        let report = writer.commit()?;
        let AfterHeal { healed, lost } = settle::after(services, &report.snapshot);
        body.healed.extend(healed);
        body.lost.extend(lost);
        for written in report.databases {
            let record = written.record;
            if let Some(reasons) = &record.suspect {
                let measured = whole.remove(&record.database).flatten().map(|suspect| suspect.baseline);
                body.suspicions.push(Suspicion {
                    backup: record.id.clone(),
                    target: record.target.clone(),
                    database: record.database.clone(),
                    reasons: reasons.clone(),
                    baseline: measured.as_ref().map(|baseline| baseline.backup.clone()),
                    baseline_time: measured.map(|baseline| baseline.time),
                });
            }
            items.insert(
                record.database.clone(),
                BackupItem {
                    id: Some(record.id),
                    database: Some(record.database),
                    time: Some(record.time),
                    size_bytes: Some(record.size_bytes),
                    read_bytes: Some(written.read_bytes),
                    added_bytes: Some(record.added_bytes),
                    rows: record.rows,
                    selection: record.selection.map(|selection| *selection),
                    unchanged: Some(record.unchanged),
                    proof: record.proof.map(|proof: Proof| proof.level),
                    proof_time: record.proof.map(|proof: Proof| proof.time),
                    elapsed_ms: Some(written.elapsed_ms),
                    ..BackupItem::of(&target.target)
                },
            );
        }
    }
    for (name, error) in failed {
        items.insert(name.clone(), failed_item(&target.target, Some(name), &error));
        errors.push(error);
    }
    body.backups.extend(items.into_values());
    Ok(())
}

fn failed_item(target: &TargetRef, database: Option<DatabaseName>, error: &OperationError) -> BackupItem {
    BackupItem { database, error: Some(ErrorReport::from(error)), ..BackupItem::of(target) }
}
