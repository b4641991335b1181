//! Retention carried out: what goes is decided and removed under one exclusive lock, so that no two prunes with
//! different rules each remove what the other one keeps.
//!
//! Snapshots go first, then the space that nobody needs any more. A crash leaves fewer snapshots, each of them whole,
//! and packs that the next prune removes. What was said of a backup that goes is kept for those with the same folder.

use super::failure::repository_error;
use super::list::Said;
use super::names;
use super::opened::ResticRepository;
use super::state;
use crate::retention::{Candidate, Decision, Origin, Verdict, plan};
use crate::{
    BackupId, BackupRecord, ProofLevel, PruneReport, PruneRequest, RepositoryError, RepositoryErrorKind,
    State, Wanted,
};
use flow::{Context, Event, Finding, Phase, Severity, Text};
use restic::{
    CheckProblem, Id, LockGuard, LockKind, PruneOptions, PrunePlan, PruneStep, ResticError, ResticErrorKind,
    Snapshot, plan_prune,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub(super) fn prune(
    repository: &ResticRepository,
    request: &PruneRequest,
    context: &Context,
) -> Result<PruneReport, RepositoryError> {
    let lock = match request.dry_run {
        true => repository.lock_to_read(LockKind::Shared, context)?,
        false => Some(repository.lock(LockKind::Exclusive)?),
    };
    let decided = Decided::now(repository, request, context)?;
    carry_out(repository, request, decided, lock, context)
}

/// Decides, and takes the exclusive lock only where something goes. All snapshots, and what is said of them, are objects
/// that never change: where the lock finds the same ones, the decision stands.
pub(super) fn prune_if_any(
    repository: &ResticRepository,
    request: &PruneRequest,
    leaves_space: &dyn Fn(&[Verdict]) -> bool,
    context: &Context,
) -> Result<PruneReport, RepositoryError> {
    let look = PruneRequest { dry_run: true, forget_only: true, ..request.clone() };
    let lock = repository.lock_to_read(LockKind::Shared, context)?;
    let mut decided = Decided::now(repository, &look, context)?;
    if decided.decision.snapshots.is_empty() || request.dry_run {
        return carry_out(repository, &look, decided, lock, context);
    }
    drop(lock);
    let lock = repository.lock(LockKind::Exclusive)?;
    if stored(repository)? == decided.stored {
        // What else was written meanwhile does not change what goes, and counts for what is needed.
        repository.forget_index();
    } else {
        decided = Decided::now(repository, request, context)?;
    }
    let forget_only = leaves_space(&decided.decision.verdicts);
    let request = PruneRequest { forget_only, ..request.clone() };
    carry_out(repository, &request, decided, Some(lock), context)
}

/// A decision, and what it stands on.
struct Decided {
    /// The snapshots that there were.
    stored: BTreeSet<Id>,
    snapshots: Vec<(Id, Snapshot)>,
    /// The backups of which others than their runs said something.
    said: HashSet<BackupId>,
    decision: Decision,
    foreign: u64,
    unlisted: u64,
}

impl Decided {
    fn now(
        repository: &ResticRepository,
        request: &PruneRequest,
        context: &Context,
    ) -> Result<Self, RepositoryError> {
        // What others wrote before the lock was ours counts too.
        repository.forget_index();
        phase(context, format!("deciding what goes of {}", repository.location_text()));
        let stored = stored(repository)?;
        let snapshots = repository.snapshots(context)?;
        let known = state::load(repository, context)?;
        let said = repository.said(&known, context)?;
        let (candidates, foreign) = candidates(repository, &snapshots, &said, context)?;
        let decision = plan(&candidates, &request.scopes, request.now);
        let unlisted = repository.unlisted(&Wanted::All, context)?.len() as u64;
        if context.cancel.is_cancelled() {
            return Err(cancelled(repository));
        }
        let said = said_of(&known);
        Ok(Self { stored, snapshots, said, decision, foreign, unlisted })
    }
}

fn said_of(known: &State) -> HashSet<BackupId> {
    let proofs = known.proofs.iter().map(|record| &record.backup);
    proofs.chain(known.acceptances.iter().map(|record| &record.backup)).cloned().collect()
}

fn stored(repository: &ResticRepository) -> Result<BTreeSet<Id>, RepositoryError> {
    Ok(repository.stored()?.into_iter().collect())
}

fn carry_out(
    repository: &ResticRepository,
    request: &PruneRequest,
    decided: Decided,
    lock: Option<Arc<LockGuard>>,
    context: &Context,
) -> Result<PruneReport, RepositoryError> {
    let Decided { snapshots, said, decision, foreign, unlisted, .. } = decided;
    let mut remove: HashSet<Id> =
        decision.snapshots.iter().filter_map(|id| id.as_str().parse().ok()).collect();
    if !request.dry_run {
        let heirs = heirs(repository, &snapshots, &decision, &said, context)?;
        remove.extend(state::gather(repository, &heirs, context)?);
    }
    let snapshots = decision.snapshots.len() as u64;
    let mut report =
        PruneReport { verdicts: decision.verdicts, snapshots, freed_bytes: 0, foreign, unlisted };
    if request.forget_only {
        if let Some(lock) = lock.filter(|_| !request.dry_run) {
            forget(repository, &remove, &lock, context)?;
        }
        return Ok(report);
    }
    let plan = plan_space(repository, &remove, context)?;
    report.freed_bytes = match lock {
        Some(lock) if !request.dry_run => free(repository, plan, &lock, context)?,
        _ => plan.figures.freed_bytes,
    };
    Ok(report)
}

fn phase(context: &Context, name: String) {
    context.observer.event(Event::Phase(Phase { name, total_bytes: None }));
}

fn cancelled(repository: &ResticRepository) -> RepositoryError {
    RepositoryError::new(RepositoryErrorKind::Cancelled, repository.location_text(), "interrupted")
}

/// Returns what retention decides on, our backups, and how many snapshots stock restic wrote, which are not among them.
fn candidates(
    repository: &ResticRepository,
    snapshots: &[(Id, Snapshot)],
    said: &Said,
    context: &Context,
) -> Result<(Vec<Candidate>, u64), RepositoryError> {
    let plans: HashMap<String, Option<Text>> = snapshots
        .iter()
        .map(|(id, snapshot)| (id.to_string(), names::tag_value(&snapshot.tags, "plan").map(Text::from)))
        .collect();
    let origins = Mutex::new(HashSet::new());
    let foreign = AtomicU64::new(0);
    let candidates = repository.backups_as(&Wanted::All, said, context, |record| {
        if record.engine.is_none() {
            foreign.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let plan = plans.get(record.snapshot.as_str()).cloned().flatten();
        Some(candidate(record, plan, &origins))
    })?;
    Ok((candidates, foreign.into_inner()))
}

fn candidate(record: BackupRecord, plan: Option<Text>, origins: &Mutex<HashSet<Arc<Origin>>>) -> Candidate {
    let imported = record.is_imported();
    let origin = Origin {
        target: record.target,
        database: record.database,
        host: record.host,
        connection: record.connection,
        plan,
        selection: record.selection.map(|selection| selection.to_string().into()),
    };
    let mut origins = origins.lock().unwrap_or_else(PoisonError::into_inner);
    let known = origins.get(&origin).map(Arc::clone);
    let origin = known.unwrap_or_else(|| {
        let origin = Arc::new(origin);
        origins.insert(Arc::clone(&origin));
        origin
    });
    Candidate {
        origin,
        alone: record.id.0 == *record.snapshot,
        snapshot: record.snapshot,
        time: record.time,
        size_bytes: record.size_bytes,
        proven: record.proof.is_some_and(|proof| proof.level >= ProofLevel::Stored),
        suspect: record.suspect.is_some(),
        imported,
    }
}

/// Returns, for each backup that goes and of which something was said, the newest one that stays and has the same folder:
/// what was said holds for it. Fails where nobody can tell: nothing went yet, and damage that was found is not forgotten.
fn heirs(
    repository: &ResticRepository,
    snapshots: &[(Id, Snapshot)],
    decision: &Decision,
    said: &HashSet<BackupId>,
    context: &Context,
) -> Result<BTreeMap<BackupId, BackupId>, RepositoryError> {
    let goes = |id: &Id| decision.snapshots.contains(id.to_string().as_str());
    let concerned: HashSet<&str> = said.iter().map(BackupId::snapshot).collect();
    let mut going = Vec::new();
    for (id, snapshot) in snapshots.iter().filter(|(id, _)| goes(id)) {
        if concerned.contains(id.to_string().as_str()) {
            let backups = repository.backups_in(id, snapshot, context)?;
            going.extend(backups.into_iter().filter(|(backup, _)| said.contains(backup)));
        }
    }
    if going.is_empty() {
        return Ok(BTreeMap::new());
    }
    let folders: HashSet<Id> = going.iter().map(|(_, folder)| *folder).collect();
    let mut staying = HashMap::new();
    // The list is in the order of time.
    for (id, snapshot) in snapshots.iter().filter(|(id, _)| !goes(id)) {
        // What cannot be listed is no heir: nobody sees it.
        let backups = match repository.backups_in(id, snapshot, context) {
            Err(error) if error.kind == RepositoryErrorKind::Cancelled => return Err(error),
            backups => backups.unwrap_or_default(),
        };
        let same = backups.into_iter().filter(|(_, folder)| folders.contains(folder));
        staying.extend(same.map(|(backup, folder)| (folder, backup)));
    }
    let heir = |(backup, folder): (BackupId, Id)| Some((backup, staying.get(&folder)?.clone()));
    Ok(going.into_iter().filter_map(heir).collect())
}

/// Removes snapshots, and nothing else.
fn forget(
    repository: &ResticRepository,
    remove: &HashSet<Id>,
    lock: &Arc<LockGuard>,
    context: &Context,
) -> Result<(), RepositoryError> {
    phase(context, format!("removing {} snapshots", remove.len()));
    let mut sorted: Vec<&Id> = remove.iter().collect();
    sorted.sort_unstable();
    for id in sorted {
        if context.cancel.is_cancelled() {
            return Err(cancelled(repository));
        }
        lock.ensure_exclusive().map_err(repository_error)?;
        match repository.restic().remove_snapshot(id) {
            Err(error) if error.kind != ResticErrorKind::NotFound => return Err(repository_error(error)),
            _ => repository.forget_snapshot(id),
        }
    }
    Ok(())
}

fn plan_space(
    repository: &ResticRepository,
    remove: &HashSet<Id>,
    context: &Context,
) -> Result<PrunePlan, RepositoryError> {
    phase(context, "looking for what is needed".to_owned());
    let options = PruneOptions {
        pack_bytes: repository.pack_bytes(),
        distrusted: state::damaged_packs(repository, context)?,
        ..PruneOptions::default()
    };
    let progress = |bytes| context.observer.event(Event::Bytes(bytes));
    plan_prune(repository.restic(), remove, &options, &context.cancel, &progress).map_err(not_known)
}

/// Where nobody can tell what is needed, no space is freed; that backups go needs none of that.
fn not_known(error: ResticError) -> RepositoryError {
    let error = repository_error(error);
    match error.kind {
        RepositoryErrorKind::Damaged => error.with_hint(
            "no space is freed while nobody can tell what is needed: `backstay check` names what is damaged; \
             --forget-only removes the old backups and leaves their space",
        ),
        _ => error,
    }
}

fn free(
    repository: &ResticRepository,
    plan: PrunePlan,
    lock: &Arc<LockGuard>,
    context: &Context,
) -> Result<u64, RepositoryError> {
    if plan.is_empty() {
        tell(&plan.findings, context);
        return Ok(0);
    }
    phase(context, "freeing space".to_owned());
    let progress = |step| match step {
        PruneStep::Read(bytes) | PruneStep::PackRemoved(bytes) => {
            context.observer.event(Event::Bytes(bytes));
        }
        PruneStep::SnapshotRemoved | PruneStep::Indexed => {}
    };
    plan.removed_snapshots().iter().for_each(|id| repository.forget_snapshot(id));
    let outcome = plan.execute(repository.restic(), lock, &context.cancel, &progress);
    repository.forget_index();
    let outcome = outcome.map_err(repository_error)?;
    tell(&outcome.findings, context);
    Ok(outcome.freed_bytes)
}

/// What is missing or damaged stops no prune, and is not passed over in silence.
fn tell(findings: &[CheckProblem], context: &Context) {
    for finding in findings {
        context.observer.event(Event::Finding(Finding {
            severity: Severity::Warning,
            object: finding.object.clone(),
            message: finding.problem.clone(),
            hint: Some(
                "`backstay check` names everything that is damaged, and the backups it affects".to_owned(),
            ),
        }));
    }
}
