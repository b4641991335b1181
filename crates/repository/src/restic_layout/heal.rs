//! Heals a repository: mends what can be mended, then remembers which snapshots still need what no pack holds.
//!
//! The remembering comes last: killed before it, the next heal finds the same snapshots again.

use super::check::{self, Affected};
use super::failure::repository_error;
use super::opened::ResticRepository;
use super::proving::ReadBack;
use super::whole::Whole;
use super::{proving, settle, state};
use crate::{
    BackupId, CheckDepth, CheckRecord, CheckReport, HealAction, HealReport, HealRequest, LossRecord,
    PackRecord, ProofRecord, RepositoryError, RepositoryErrorKind, State,
};
use flow::{Context, Event};
use jiff::Timestamp;
use restic::{CheckProblem, Depth, HealOptions, HealPlan, Id, LockGuard, LockKind, Snapshot};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

pub(super) fn heal(
    repository: &ResticRepository,
    request: &HealRequest,
    context: &Context,
) -> Result<HealReport, RepositoryError> {
    let HealRequest { depth, dry_run, accept_missing } = *request;
    let options = |suspects: &HashSet<Id>| HealOptions {
        depth: check::depth(repository, depth, context),
        suspects: suspects.clone(),
        accept_missing,
    };
    if dry_run {
        let _lock = repository.lock_to_read(LockKind::Exclusive, context)?;
        let plan = plan(repository, &options(&known_damage(repository, context)?), context)?;
        let mut report = report(repository, &plan, depth, context);
        let needing = report.found.errors.iter().flat_map(|damage| damage.backups.clone());
        report.affected = needing.collect::<BTreeSet<_>>().into_iter().collect();
        return Ok(report);
    }
    let lock = repository.lock(LockKind::Exclusive)?;
    // What others wrote before the lock was ours counts too.
    repository.forget_index();
    let suspects = known_damage(repository, context)?;
    let first = plan(repository, &options(&suspects), context)?;
    let mut report = report(repository, &first, depth, context);
    let mut healed = Healed { reasons: reasons(&first.check.errors), ..Healed::default() };
    healed.read_until = first.check.read_until;
    healed.unreadable = first.unreadable_packs();
    carry_out(repository, first, &lock, &mut report, context)?;
    // With a damaged index nobody could read which packs were found damaged before: now that can be done.
    let later: HashSet<Id> = known_damage(repository, context)?.difference(&suspects).copied().collect();
    if !later.is_empty() {
        let options = HealOptions { depth: Depth::Structure, ..options(&later) };
        let second = plan(repository, &options, context)?;
        report.actions.extend(second.actions.iter().map(action));
        healed.reasons.extend(reasons(&second.check.errors));
        healed.unreadable.extend(second.unreadable_packs());
        carry_out(repository, second, &lock, &mut report, context)?;
    }
    // Those that were only said to be damaged were read, and are good.
    healed.settled_packs = suspects.into_iter().chain(later).collect();
    healed.settled_packs.retain(|pack| !healed.unreadable.contains(pack));
    lock.ensure_fresh().map_err(repository_error)?;
    remember(repository, healed, &mut report, context)?;
    let mended: BTreeSet<String> =
        settle::mend(repository, &lock, context)?.iter().map(Id::to_string).collect();
    report.affected.retain(|id| !mended.contains(id.snapshot()));
    Ok(report)
}

/// What a heal found out, beside what is in its report.
#[derive(Default)]
struct Healed {
    /// Packs that were said to be damaged: by now they are gone, or known to be good.
    settled_packs: HashSet<Id>,
    /// Packs that the storage does not give at this moment: nobody relies on them until they were read.
    unreadable: HashSet<Id>,
    /// What was wrong, for each snapshot that needed it.
    reasons: BTreeMap<Id, String>,
    /// How far a check of a share came.
    read_until: Option<Id>,
}

fn carry_out(
    repository: &ResticRepository,
    plan: HealPlan,
    lock: &LockGuard,
    report: &mut HealReport,
    context: &Context,
) -> Result<(), RepositoryError> {
    let outcome = plan.execute(repository.restic(), lock, &context.cancel);
    repository.forget_index();
    let outcome = outcome.map_err(repository_error)?;
    report.removed_snapshots.extend(outcome.snapshots_removed.iter().map(Id::to_string));
    outcome.snapshots_removed.iter().for_each(|id| repository.forget_snapshot(id));
    Ok(())
}

/// Returns the packs that are known to be damaged; none where nobody can tell.
fn known_damage(repository: &ResticRepository, context: &Context) -> Result<HashSet<Id>, RepositoryError> {
    match state::damaged_packs(repository, context) {
        Err(error) if error.kind == RepositoryErrorKind::Damaged => Ok(HashSet::new()),
        known => known,
    }
}

fn plan(
    repository: &ResticRepository,
    options: &HealOptions,
    context: &Context,
) -> Result<HealPlan, RepositoryError> {
    let progress = |bytes| context.observer.event(Event::Bytes(bytes));
    restic::plan_heal(repository.restic(), options, &context.cancel, &progress).map_err(repository_error)
}

fn action(action: &restic::HealAction) -> HealAction {
    HealAction { object: action.object.clone(), action: action.action.clone() }
}

fn reasons(problems: &[CheckProblem]) -> BTreeMap<Id, String> {
    let mut reasons = BTreeMap::new();
    for problem in problems {
        for snapshot in &problem.snapshots {
            let reason = || format!("{} {}", problem.object, problem.problem);
            reasons.entry(*snapshot).or_insert_with(reason);
        }
    }
    reasons
}

/// Tells what was found, with the backups that need it as they were before anything is changed.
fn report(
    repository: &ResticRepository,
    plan: &HealPlan,
    depth: CheckDepth,
    context: &Context,
) -> HealReport {
    let found = &plan.check;
    let affected = Affected::load(repository, &found.errors, context).ok();
    let errors = found.errors.iter().map(|problem| check::damage(repository, affected.as_ref(), problem));
    HealReport {
        found: CheckReport {
            errors: errors.collect(),
            remarks: found.remarks.clone(),
            snapshots: found.snapshots,
            packs: found.packs,
            read_bytes: found.read_bytes,
            read_packs: found.read_packs,
            rotating: check::is_rotating(repository, depth, context),
        },
        actions: plan.actions.iter().map(action).collect(),
        affected: vec![],
        removed_snapshots: vec![],
    }
}

/// Finds the snapshots that still lack something, and keeps that. State that cannot be read any more is written anew,
/// as far as it is known.
fn remember(
    repository: &ResticRepository,
    healed: Healed,
    report: &mut HealReport,
    context: &Context,
) -> Result<(), RepositoryError> {
    let after = restic::check(repository.restic(), Depth::Structure, &context.cancel, &|_| {})
        .map_err(repository_error)?;
    let mut broken = reasons(&after.errors);
    for (snapshot, reason) in &mut broken {
        if let Some(first) = healed.reasons.get(snapshot) {
            reason.clone_from(first);
        }
    }
    let silent = Context { observer: Arc::new(flow::Silent), ..context.clone() };
    let kept = state::load(repository, &silent)?;
    let time = Timestamp::now();
    let mut records = State::default();
    let said = |pack: &Id, damaged: bool| PackRecord { pack: pack.to_string(), time, damaged };
    records.packs.extend(healed.settled_packs.iter().map(|pack| said(pack, false)));
    records.packs.extend(healed.unreadable.iter().map(|pack| said(pack, true)));
    records.checks.extend(healed.read_until.map(|last| CheckRecord {
        time,
        host: repository.owner_host().to_owned(),
        read_until: last.to_string(),
    }));
    let whole = Whole::without(repository, &healed.unreadable, &silent)?;
    let (mut broken_states, mut affected) = (Vec::new(), BTreeSet::new());
    for (id, snapshot) in repository.snapshots(&silent)? {
        let is_away = || !healed.unreadable.is_empty() && !whole.is_whole(repository, &snapshot.tree);
        let problem = broken.get(&id).or_else(|| healed.reasons.get(&id).filter(|_| is_away()));
        let Some(problem) = problem else { continue };
        if state::is_state(&snapshot) {
            // What cannot be read at this moment may say what nobody else does.
            broken_states.extend(healed.unreadable.is_empty().then_some(id));
            continue;
        }
        let lacking = lacking(repository, (&id, &snapshot), &whole, &silent)?;
        if lacking.is_ours {
            records.losses.add(LossRecord { snapshot: id.to_string(), time, problem: Some(problem.clone()) });
        }
        let unsaid = |backup: &&BackupId| kept.proofs.get(backup).is_none_or(|proof| proof.level.is_some());
        let damaged =
            lacking.broken.iter().filter(unsaid).map(|backup| damaged(backup, time, problem, repository));
        records.proofs.extend(damaged);
        affected.extend(lacking.broken);
        affected.extend(lacking.others);
    }
    let read = prove(repository, &kept, &whole, context)?;
    affected.extend(read.wrong);
    report.affected = affected.into_iter().collect();
    records.losses = without_known(records.losses, &kept);
    records.proofs.extend(read.proofs);
    if records != State::default() || !broken_states.is_empty() {
        state::append(repository, records, context)?;
    }
    for id in broken_states {
        repository.restic().remove_snapshot(&id).map_err(repository_error)?;
        repository.forget_snapshot(&id);
    }
    Ok(())
}

/// Which backups of a snapshot need what is not there.
struct Lacking {
    /// Whether the snapshot is ours.
    is_ours: bool,
    /// Those that lack something themselves.
    broken: Vec<BackupId>,
    /// All, where it is only the snapshot's own list that is lost, or a folder above those of its databases.
    others: Vec<BackupId>,
}

fn lacking(
    repository: &ResticRepository,
    (id, snapshot): (&Id, &Snapshot),
    whole: &Whole,
    context: &Context,
) -> Result<Lacking, RepositoryError> {
    let is_ours = match repository.folders(id, snapshot, context) {
        Err(error) if error.kind == RepositoryErrorKind::Cancelled => return Err(error),
        Ok(Some(_)) => true,
        // Where its list is lost, so are the names of what it held.
        folders => {
            let broken = vec![BackupId(id.to_string())];
            return Ok(Lacking { is_ours: folders.is_err(), broken, others: vec![] });
        }
    };
    let mut others = repository.backups_in(id, snapshot, context)?;
    let mut broken: Vec<BackupId> = Vec::new();
    for (backup, folder) in &others {
        if !whole.is_whole(repository, folder) {
            broken.push(backup.clone());
        }
    }
    others.retain(|_| broken.is_empty());
    Ok(Lacking { is_ours, broken, others: others.into_iter().map(|(backup, _)| backup).collect() })
}

/// Reads the backups that were said to be damaged, and of which everything is there.
fn prove(
    repository: &ResticRepository,
    kept: &State,
    whole: &Whole,
    context: &Context,
) -> Result<ReadBack, RepositoryError> {
    let silent = Context { observer: Arc::new(flow::Silent), ..context.clone() };
    let said = kept.proofs.iter().filter(|proof| proof.level.is_none());
    let folder = |proof: &ProofRecord| repository.find_backup(&proof.backup, &silent).ok();
    let folders = said.filter_map(|proof| Some((proof.backup.clone(), folder(proof)?)));
    let there = folders.filter(|(_, folder)| whole.is_whole(repository, folder)).collect();
    proving::read_back(repository, whole.source(), there, context)
}

/// Leaves out what is open already.
fn without_known(losses: crate::Records<LossRecord>, kept: &State) -> crate::Records<LossRecord> {
    let is_new = |loss: &LossRecord| kept.losses.get(&loss.snapshot).is_none_or(|old| old.problem.is_none());
    losses.into_iter().filter(is_new).collect()
}

fn damaged(backup: &BackupId, time: Timestamp, problem: &str, repository: &ResticRepository) -> ProofRecord {
    ProofRecord {
        backup: backup.clone(),
        time,
        level: None,
        problem: Some(problem.to_owned()),
        damaged_packs: vec![],
        host: repository.owner_host().to_owned(),
        rows: BTreeMap::new(),
    }
}
