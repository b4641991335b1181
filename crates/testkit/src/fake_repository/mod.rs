//! A repository in memory that keeps every promise of the seam, or breaks the one it is told to.
//!
//! For tests of operations without cryptography, and as the subject on which the repository suite is proven.

mod healing;
mod keys;
mod pruning;
mod writer;

use crate::memory_backup::MemoryBackup;
use flow::{BackupReader, Context, DatabaseName, Marks, Previous, TargetName};
use jiff::Timestamp;
use repository::retention::Verdict;
use repository::{
    BackupId, BackupRecord, CheckDepth, CheckReport, Damage, HealReport, HealRequest, Keys, LastBackup,
    PruneReport, PruneRequest, RecentRuns, Repository, RepositoryError, RepositoryErrorKind, Settled,
    SnapshotRequest, SnapshotWriter, State, StateRecord, StoredFiles, Unlisted, Usage, VerifyReport, Wanted,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use writer::FakeWriter;

/// The promise that a [`FakeRepository`] breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named after what goes wrong")]
pub enum RepositoryFlaw {
    VisibleBeforeCommit,
    GarblesContent,
    JoinsInArrivalOrder,
    KeepsFirstOfPart,
    AcceptsGaps,
    AcceptsSurplus,
    AcceptsOtherSizes,
    HidesSourceErrors,
    KeepsDiscarded,
    CommitsUnfinished,
    CommitsNothing,
    ForgetsUnchanged,
    ForgetsChangedTime,
    ReusesByNewPlace,
    KeepsOldMarks,
    AnyHost,
    AnyTarget,
    NewestFirst,
    OpensAnything,
    LosesProofs,
    KeepsOldRecords,
    KeepsRemovedKeys,
    RemovesKeyInUse,
    ReplacesBeforeKept,
    TrustsDamage,
    CountsNothing,
    PlainIds,
    ForgetsSuspicion,
    PrunesNothing,
    PrunesTheNewest,
    CountsImports,
    PrunesWithoutAsking,
    ListsNeighbours,
    PrunesSharedSnapshots,
    PrunesAnyTarget,
    PrunesInDryRun,
    PrunesProofs,
    PrunesUnlisted,
    HidesUnlisted,
    ForgetsWhoseUnlisted,
    ClearsSuspicion,
    IgnoresAcceptance,
    TrustsSuspect,
    ForgetsOthers,
    PartIsWhole,
    SelectionIsWhole,
    HealsInDryRun,
    HealsInSilence,
    NeverSettles,
    LosesInSilence,
    OpensLost,
}

#[derive(Clone)]
struct Stored {
    record: BackupRecord,
    backup: Arc<MemoryBackup>,
    marks: Marks,
    plan: Option<String>,
}

/// Which databases a run was of.
struct Run {
    target: TargetName,
    host: String,
    time: Timestamp,
    only: bool,
    selected: bool,
    databases: BTreeSet<DatabaseName>,
}

#[derive(Default)]
struct Held {
    stored: Vec<Stored>,
    runs: Vec<Run>,
    damaged: BTreeSet<BackupId>,
    hidden: BTreeSet<flow::Text>,
    /// What a heal left to the next backup.
    open: BTreeSet<BackupId>,
    kept: State,
    ring: keys::Ring,
    snapshots: u64,
}

impl Held {
    /// Tells whether a backup of that content was accepted.
    fn accepted(&self, record: &BackupRecord) -> bool {
        let same = |other: &BackupRecord| {
            (&other.target, &other.database, &other.host, other.changed)
                == (&record.target, &record.database, &record.host, record.changed)
        };
        self.kept.acceptances.iter().any(|accepted| {
            let mut stored = self.stored.iter().map(|stored| &stored.record);
            stored.any(|other| other.id == accepted.backup && same(other))
        })
    }
}

struct Shared {
    state: Mutex<Held>,
    flaw: Option<RepositoryFlaw>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, flaw: RepositoryFlaw) -> bool {
        self.flaw == Some(flaw)
    }
}

/// A repository in memory. Clones share it.
#[derive(Clone)]
pub struct FakeRepository(Arc<Shared>);

impl Default for FakeRepository {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeRepository {
    /// Makes an empty one that keeps every promise.
    pub fn new() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), flaw: None }))
    }

    /// Makes an empty one that breaks a promise.
    pub fn flawed(flaw: RepositoryFlaw) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), flaw: Some(flaw) }))
    }

    /// Damages what is stored of a backup.
    pub fn damage(&self, id: &BackupId) {
        self.0.state().damaged.insert(id.clone());
    }

    /// Tells whether a backup holds all of its database.
    fn is_whole(&self, record: &BackupRecord) -> bool {
        record.selection.is_none() || self.0.has(RepositoryFlaw::SelectionIsWhole)
    }

    fn find(&self, id: &BackupId) -> Result<Stored, RepositoryError> {
        let state = self.0.state();
        let found = state.stored.iter().find(|stored| stored.record.id == *id);
        let found =
            found.or_else(|| state.stored.first().filter(|_| self.0.has(RepositoryFlaw::OpensAnything)));
        found.cloned().ok_or_else(|| {
            RepositoryError::new(RepositoryErrorKind::NoBackup, id.to_string(), "there is no such backup")
        })
    }

    fn damages(&self, ids: &[BackupId]) -> Vec<Damage> {
        let state = self.0.state();
        let damaged = ids.iter().filter(|id| state.damaged.contains(id));
        let damaged = damaged.filter(|_| !self.0.has(RepositoryFlaw::TrustsDamage));
        let damage = |id: &BackupId| Damage {
            object: format!("backup {id}"),
            problem: "it is damaged".to_owned(),
            backups: vec![id.clone()],
            packs: vec![],
        };
        damaged.map(damage).collect()
    }
}

impl Repository for FakeRepository {
    fn id(&self) -> &str {
        "fake"
    }

    fn location(&self) -> String {
        "memory:".to_owned()
    }

    fn backups(
        &self,
        target: Option<&TargetName>,
        _context: &Context,
    ) -> Result<Vec<BackupRecord>, RepositoryError> {
        let any = target.is_none() || self.0.has(RepositoryFlaw::AnyTarget);
        let state = self.0.state();
        let listed = state.stored.iter().filter(|stored| !state.hidden.contains(&stored.record.snapshot));
        let wanted = listed.filter(|stored| any || Some(&stored.record.target) == target);
        let mut records: Vec<BackupRecord> = wanted.map(|stored| stored.record.clone()).collect();
        for record in &mut records {
            if state.accepted(record) && !self.0.has(RepositoryFlaw::IgnoresAcceptance) {
                record.suspect = None;
            }
        }
        records.sort_by_key(|record| record.time);
        if self.0.has(RepositoryFlaw::NewestFirst) {
            records.reverse();
        }
        Ok(records)
    }

    fn open(&self, id: &BackupId, _context: &Context) -> Result<Arc<dyn BackupReader>, RepositoryError> {
        let found = self.find(id)?;
        self.refuse_lost(&found)?;
        Ok(found.backup)
    }

    fn files(&self, snapshot: &str, _context: &Context) -> Result<Box<dyn StoredFiles>, RepositoryError> {
        Err(RepositoryError::new(RepositoryErrorKind::NoBackup, snapshot, "stock restic wrote nothing here"))
    }

    fn previous(
        &self,
        target: &TargetName,
        host: &str,
        context: &Context,
    ) -> Result<BTreeMap<DatabaseName, Previous>, RepositoryError> {
        let mut previous = BTreeMap::new();
        let mut records = self.backups(Some(target), context)?;
        let any_host = self.0.has(RepositoryFlaw::AnyHost);
        let last = records.last().map(|record| record.snapshot.clone());
        let forgets = self.0.has(RepositoryFlaw::ForgetsOthers);
        records.retain(|record| !forgets || Some(&record.snapshot) == last.as_ref());
        records.retain(|record| self.is_whole(record));
        for record in records.iter().filter(|record| any_host || record.host == host) {
            let stored = self.find(&record.id)?;
            let manifest = Arc::new(stored.backup.manifest().clone());
            previous.insert(record.database.clone(), Previous::of(stored.marks, manifest));
        }
        Ok(previous)
    }

    fn recent(
        &self,
        target: &TargetName,
        host: &str,
        context: &Context,
    ) -> Result<RecentRuns, RepositoryError> {
        let mut records = self.backups(Some(target), context)?;
        records.retain(|record| self.is_whole(record));
        let state = self.0.state();
        let of_this = |run: &Run| run.target == *target && run.host == host && !run.selected;
        let anywhere = !target.as_str().starts_with('/') && !state.runs.iter().any(of_this);
        let mine = |run: &&Run| run.target == *target && (anywhere || run.host == host) && !run.selected;
        let mut recent = RecentRuns::default();
        for run in state.runs.iter().rev().filter(mine) {
            recent.newest.extend(run.databases.iter().cloned());
            if !run.only || self.0.has(RepositoryFlaw::PartIsWhole) {
                recent.full_run = Some(run.time);
                break;
            }
        }
        for record in records.into_iter().filter(|record| anywhere || record.host == host) {
            let last = LastBackup { backup: record.id, time: record.time };
            recent.backups.insert(record.database, last);
        }
        Ok(recent)
    }

    fn begin(
        &self,
        request: SnapshotRequest,
        _context: &Context,
    ) -> Result<Box<dyn SnapshotWriter>, RepositoryError> {
        Ok(Box::new(FakeWriter::new(self.clone(), request)))
    }

    fn verify(&self, id: &BackupId, _context: &Context) -> Result<VerifyReport, RepositoryError> {
        let size_bytes = self.find(id)?.record.size_bytes;
        let errors = self.damages(std::slice::from_ref(id));
        let read_bytes = if errors.is_empty() { size_bytes } else { 0 };
        Ok(VerifyReport { errors, read_bytes })
    }

    fn check(&self, _depth: CheckDepth, context: &Context) -> Result<CheckReport, RepositoryError> {
        let ids: Vec<BackupId> = self.backups(None, context)?.into_iter().map(|record| record.id).collect();
        let errors = self.damages(&ids);
        Ok(CheckReport { errors, snapshots: self.0.state().snapshots, ..CheckReport::default() })
    }

    fn usage(&self, _context: &Context) -> Result<Usage, RepositoryError> {
        let state = self.0.state();
        let data_bytes = state.stored.iter().map(|stored| stored.record.size_bytes).sum();
        Ok(Usage { data_bytes, all_bytes: data_bytes, ..Usage::default() })
    }

    fn heal(&self, request: &HealRequest, context: &Context) -> Result<HealReport, RepositoryError> {
        self.heal_damaged(request.dry_run, context)
    }

    fn settle(&self, run: &str, _context: &Context) -> Result<Settled, RepositoryError> {
        Ok(self.settle_open(run))
    }

    fn keys(&self) -> Option<&dyn Keys> {
        Some(self)
    }

    fn unlisted(&self, _context: &Context) -> Result<Vec<Unlisted>, RepositoryError> {
        Ok(self.hidden_snapshots())
    }

    fn prune(&self, request: &PruneRequest, _context: &Context) -> Result<PruneReport, RepositoryError> {
        Ok(self.decide_and_remove(request))
    }

    fn prune_if_any(
        &self,
        request: &PruneRequest,
        leaves_space: &dyn Fn(&[Verdict]) -> bool,
        _context: &Context,
    ) -> Result<PruneReport, RepositoryError> {
        let look = PruneRequest { dry_run: true, ..request.clone() };
        let expected = self.decide_and_remove(&look);
        if expected.snapshots == 0 || request.dry_run {
            return Ok(expected);
        }
        if !self.0.has(RepositoryFlaw::PrunesWithoutAsking) {
            leaves_space(&expected.verdicts);
        }
        Ok(self.decide_and_remove(request))
    }

    fn backups_of(&self, wanted: &Wanted, context: &Context) -> Result<Vec<BackupRecord>, RepositoryError> {
        let mut records = self.backups(None, context)?;
        let neighbours = self.0.has(RepositoryFlaw::ListsNeighbours);
        records.retain(|record| wanted.fits(record) || neighbours);
        Ok(records)
    }

    fn state(&self, _context: &Context) -> Result<State, RepositoryError> {
        Ok(self.0.state().kept.clone())
    }

    fn append_state(&self, mut records: State, _context: &Context) -> Result<(), RepositoryError> {
        let mut state = self.0.state();
        if self.0.has(RepositoryFlaw::LosesProofs) {
            state.kept = State::default();
        }
        if self.0.has(RepositoryFlaw::KeepsOldRecords) {
            let known = &state.kept.configurations;
            let new =
                records.configurations.into_iter().filter(|record| known.get(&record.subject()).is_none());
            records.configurations = new.collect();
        }
        state.kept.say(records);
        Ok(())
    }
}

/// When the content of a backup last changed: its run, unless that took the previous backup as it was.
fn changed(previous: Option<&Stored>, unchanged: bool, now: Timestamp) -> Timestamp {
    previous.filter(|_| unchanged).map_or(now, |stored| stored.record.changed)
}
