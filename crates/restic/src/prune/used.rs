//! Which blobs the snapshots that stay need: their folders are walked, each once, and marked in the index.
//!
//! Two bits a blob are all that is kept. A folder that cannot be read ends it, since nobody knows what lies below.

use crate::error::ResticError;
use crate::id::{BlobKind, Id};
use crate::index::Index;
use crate::parallel::{self, REQUESTS};
use crate::repository::Repository;
use flow::Cancel;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

const USED: u8 = 1;
const NEEDED: u8 = 2;

/// Marks for the places of an index.
pub(crate) struct Marks(Vec<AtomicU8>);

impl Marks {
    pub(crate) fn new(index: &Index) -> Self {
        Self((0..index.len()).map(|_| AtomicU8::new(0)).collect())
    }

    /// Marks all copies of a blob as used; tells whether they were not yet.
    fn mark_used(&self, copies: Range<usize>) -> bool {
        let mut first = false;
        for (at, place) in copies.enumerate() {
            let before = self.0[place].fetch_or(USED, Ordering::Relaxed);
            first |= at == 0 && before & USED == 0;
        }
        first
    }

    pub(crate) fn is_used(&self, place: usize) -> bool {
        self.0[place].load(Ordering::Relaxed) & USED != 0
    }

    /// Marks one copy as the one that is relied on.
    pub(crate) fn mark_needed(&self, place: usize) {
        self.0[place].fetch_or(NEEDED, Ordering::Relaxed);
    }

    pub(crate) fn unmark_needed(&self, place: usize) {
        self.0[place].fetch_and(!NEEDED, Ordering::Relaxed);
    }

    pub(crate) fn is_needed(&self, place: usize) -> bool {
        self.0[place].load(Ordering::Relaxed) & NEEDED != 0
    }
}

/// What a walk found.
#[derive(Default)]
pub(crate) struct Walked {
    /// Data blobs that are needed, and that no index names.
    pub(crate) unnamed: BTreeSet<Id>,
    /// Folders that cannot be read, with the reason.
    pub(crate) lost_trees: Vec<(Id, ResticError)>,
}

/// Marks all that folders and what lies below them need. Goes on where a folder cannot be read. `progress` is told of
/// folders as they are read.
pub(crate) fn mark_used(
    repository: &Repository,
    index: &Index,
    marks: &Marks,
    roots: impl Iterator<Item = Id>,
    cancel: &Cancel,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Walked, ResticError> {
    let mut walked = Walked::default();
    let unnamed = Mutex::new(BTreeSet::new());
    let mut unnamed_trees = BTreeSet::new();
    let mut open: Vec<Id> = Vec::new();
    let visit = |open: &mut Vec<Id>, unnamed_trees: &mut BTreeSet<Id>, id: Id| {
        let copies = index.places(BlobKind::Tree, &id);
        let is_new = if copies.is_empty() { unnamed_trees.insert(id) } else { marks.mark_used(copies) };
        if is_new {
            open.push(id);
        }
    };
    roots.for_each(|root| visit(&mut open, &mut unnamed_trees, root));
    while !open.is_empty() {
        let batch = open.split_off(open.len().saturating_sub(64));
        // Blobs are marked where the folder is read, so that a few large folders at most are in memory.
        let read = parallel::map(&batch, REQUESTS, |id| {
            cancel.check().map_err(|_| ResticError::cancelled(repository.location()))?;
            let needs = repository.read_tree_needs(index, id)?;
            progress(1);
            for blob in &needs.blobs {
                let copies = index.places(BlobKind::Data, blob);
                if copies.is_empty() {
                    unnamed.lock().unwrap_or_else(PoisonError::into_inner).insert(*blob);
                }
                marks.mark_used(copies);
            }
            Ok(needs.folders)
        });
        cancel.check().map_err(|_| ResticError::cancelled(repository.location()))?;
        for (id, subtrees) in batch.into_iter().zip(read) {
            match subtrees {
                Ok(subtrees) => {
                    subtrees.into_iter().for_each(|id| visit(&mut open, &mut unnamed_trees, id));
                }
                Err(error) => walked.lost_trees.push((id, error)),
            }
        }
    }
    walked.unnamed = unnamed.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(walked)
}
