//! Carries a plan out: snapshots, new packs, index, old packs, in this order.
//!
//! Nothing that is needed is removed before its copy is stored, confirmed and named. Killed at any point, what is
//! listed can be read, and what is left over (packs that no index names, index files that a newer one replaces) is
//! removed by the next prune.

use super::fates::Fate;
use super::{Amount, PrunePlan, sorted_snapshots};
use crate::check::CheckProblem;
use crate::error::{ResticError, ResticErrorKind};
use crate::id::Id;
use crate::index_file::IndexedPack;
use crate::lock::LockGuard;
use crate::pace::Pace;
use crate::pack::PackBlob;
use crate::parallel;
use crate::reindex::{remove_objects, write_index};
use crate::repack::{Repacker, Unreadable, copy_blobs};
use crate::repository::Repository;
use crate::vault::ObjectKind;
use flow::Cancel;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use storage::StorageErrorKind;

/// Packs that are read at once.
const PACKS_AT_ONCE: usize = 2;

/// What a prune has just done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneStep {
    /// A snapshot was removed.
    SnapshotRemoved,
    /// So many bytes were read to be written anew.
    Read(u64),
    /// The new index is in place.
    Indexed,
    /// A pack of so many bytes was removed.
    PackRemoved(u64),
}

/// What a prune came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PruneOutcome {
    /// The snapshots that were removed.
    pub snapshots_removed: Vec<Id>,
    /// Packs that were removed.
    pub packs_removed: Amount,
    /// Packs that were written.
    pub packs_written: Amount,
    /// Bytes of packs that there are less now.
    pub freed_bytes: u64,
    /// What is missing or damaged: the plan's findings, and packs that were to be written anew and were left as they
    /// are, because something of them cannot be read or because there was no space.
    pub findings: Vec<CheckProblem>,
}

impl PrunePlan {
    /// Carries the plan out. The lock is exclusive and was taken before the plan was made; a plan of a repository
    /// that changed since is refused ([`ResticErrorKind::Failed`]) and nothing is changed. A cancellation ends it at
    /// a point where all that is listed can be read. `progress` is told from any thread.
    pub fn execute(
        mut self,
        repository: &Repository,
        lock: &LockGuard,
        cancel: &Cancel,
        progress: &(dyn Fn(PruneStep) + Sync),
    ) -> Result<PruneOutcome, ResticError> {
        let pace = Pace::new(repository, lock, cancel);
        pace.ensure()?;
        self.refuse_changed(repository)?;
        let mut outcome =
            PruneOutcome { findings: std::mem::take(&mut self.findings), ..PruneOutcome::default() };
        let snapshots: Vec<(Id, u64)> = self.remove.iter().map(|id| (*id, 0)).collect();
        remove_objects(repository, ObjectKind::Snapshot, &snapshots, &|| pace.go_on(), &|_| {
            progress(PruneStep::SnapshotRemoved);
        })?;
        outcome.snapshots_removed = std::mem::take(&mut self.remove);
        let (new, new_bytes) = self.repack(repository, &pace, progress, &mut outcome.findings)?;
        outcome.packs_written = Amount { count: new.len() as u64, size_bytes: new_bytes };
        if self.must_reindex || !new.is_empty() {
            self.reindex(repository, &pace, new)?;
            progress(PruneStep::Indexed);
        }
        let removed = Mutex::new(Amount::default());
        pace.ensure()?;
        remove_objects(repository, ObjectKind::Pack, &self.packs_to_remove(), &|| pace.go_on(), &|bytes| {
            removed.lock().unwrap_or_else(PoisonError::into_inner).add(bytes);
            progress(PruneStep::PackRemoved(bytes));
        })?;
        outcome.packs_removed = removed.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.freed_bytes = outcome.packs_removed.size_bytes.saturating_sub(new_bytes);
        Ok(outcome)
    }

    fn refuse_changed(&self, repository: &Repository) -> Result<(), ResticError> {
        let mut indexes = repository.vault().list(ObjectKind::Index)?;
        indexes.sort_unstable();
        if sorted_snapshots(repository)? == self.snapshots && indexes == self.indexes {
            return Ok(());
        }
        let message = "the repository was changed after the prune was planned; nothing was removed";
        Err(ResticError::new(ResticErrorKind::Failed, repository.location(), message))
    }

    /// Writes anew what is needed of the packs that go. Packs of which something cannot be read stay.
    fn repack(
        &mut self,
        repository: &Repository,
        pace: &Pace<'_>,
        progress: &(dyn Fn(PruneStep) + Sync),
        findings: &mut Vec<CheckProblem>,
    ) -> Result<(Vec<IndexedPack>, u64), ResticError> {
        let lost = self.confirm_copies(repository, &|| pace.go_on())?;
        let repacker = Repacker::new(repository, self.pack_bytes);
        let unreadable = self.copy(repository, pace, progress, &repacker);
        match unreadable.and_then(|unreadable| repacker.flush().map(|()| unreadable)) {
            Ok(mut unreadable) => {
                unreadable.extend(lost);
                self.keep_unreadable(unreadable, findings);
                Ok(repacker.into_written())
            }
            Err(error) if error.kind == ResticErrorKind::Storage(StorageErrorKind::Full) => {
                // To free space there must be a way without space.
                repacker.discard();
                self.keep_all(&error, findings);
                Ok((Vec::new(), 0))
            }
            Err(error) => Err(error),
        }
    }

    fn copy(
        &self,
        repository: &Repository,
        pace: &Pace<'_>,
        progress: &(dyn Fn(PruneStep) + Sync),
        repacker: &Repacker<'_>,
    ) -> Result<Vec<Unreadable>, ResticError> {
        let read = |bytes: u64| {
            pace.go_on()?;
            progress(PruneStep::Read(bytes));
            Ok(())
        };
        let to_copy: Vec<&[u32]> =
            self.places.chunk_by(|a, b| self.pack_at(*a) == self.pack_at(*b)).collect();
        let results = parallel::map(&to_copy, PACKS_AT_ONCE, |places| {
            let pack = self.pack_at(places[0]);
            if self.fates[pack] != Fate::Repack {
                return Ok(Vec::new());
            }
            let needed = places.iter().filter(|place| self.marks.is_needed(**place as usize));
            let blobs: Vec<PackBlob> = needed.map(|place| self.index.at(*place as usize).1).collect();
            copy_blobs(repository, &self.index, &self.packs[pack].id, &blobs, repacker, &read)
        });
        let mut unreadable = Vec::new();
        for result in results {
            unreadable.extend(result?);
        }
        Ok(unreadable)
    }

    /// A blob that can be read nowhere: all packs that should hold it stay as they are.
    fn keep_unreadable(&mut self, unreadable: Vec<Unreadable>, findings: &mut Vec<CheckProblem>) {
        let mut problems: BTreeMap<Id, String> = BTreeMap::new();
        if !unreadable.is_empty() {
            findings.extend(self.keep_unnamed());
        }
        for blob in unreadable {
            for place in self.index.places(blob.kind, &blob.id) {
                let pack = self.pack_at(place as u32);
                if self.packs[pack].stored_bytes.is_none() {
                    continue;
                }
                self.fates[pack] = Fate::Keep;
                let tell =
                    || format!("is left as it is: {} blob {}: {}", blob.kind, blob.id, blob.error.message);
                problems.entry(self.packs[pack].id).or_insert_with(tell);
            }
        }
        let told = problems.into_iter();
        findings.extend(told.map(|(pack, problem)| CheckProblem {
            object: format!("pack {pack}"),
            problem,
            snapshots: Vec::new(),
        }));
    }

    /// There is no room to write anew: what can be removed without that is.
    fn keep_all(&mut self, error: &ResticError, findings: &mut Vec<CheckProblem>) {
        for at in 0..self.index.len() {
            let pack = self.pack_at(at as u32);
            let has_used = self.marks.is_used(at) && self.packs[pack].stored_bytes.is_some();
            if has_used || self.fates[pack] == Fate::Repack {
                self.fates[pack] = Fate::Keep;
            }
        }
        findings.push(CheckProblem {
            object: error.object.clone(),
            problem:
                "there is no space to write packs anew: only those of which nothing is needed are removed"
                    .to_owned(),
            snapshots: Vec::new(),
        });
    }

    /// Replaces the index by one of the packs that stay.
    fn reindex(
        &self,
        repository: &Repository,
        pace: &Pace<'_>,
        new: Vec<IndexedPack>,
    ) -> Result<(), ResticError> {
        let old: Vec<Id> = self.indexes.iter().map(|(id, _)| *id).collect();
        let groups = self.places.chunk_by(|a, b| self.pack_at(*a) == self.pack_at(*b));
        let staying =
            groups.filter(|places| matches!(self.fates[self.pack_at(places[0])], Fate::Keep | Fate::Missing));
        let staying = staying.map(|places| IndexedPack {
            id: self.packs[self.pack_at(places[0])].id,
            blobs: places.iter().map(|place| self.index.at(*place as usize).1).collect(),
        });
        write_index(repository, staying.chain(new), &old, &|| pace.ensure())?;
        pace.ensure()?;
        remove_objects(repository, ObjectKind::Index, &self.indexes, &|| pace.go_on(), &|_| {})
    }

    fn packs_to_remove(&self) -> Vec<(Id, u64)> {
        let named = self.packs.iter().zip(&self.fates);
        let go = named.filter(|(_, fate)| matches!(fate, Fate::Remove | Fate::Repack));
        let go = go.filter_map(|(pack, _)| pack.stored_bytes.map(|bytes| (pack.id, bytes)));
        go.chain(self.unnamed.iter().copied()).collect()
    }

    pub(super) fn pack_at(&self, place: u32) -> usize {
        self.index.at(place as usize).0
    }
}
