//! Which folders are there as a whole: every blob that they need lies in a pack that can be relied on.
//!
//! Loaded anew for whoever asks, since a heal has just changed the index. Changes nothing.

use super::opened::ResticRepository;
use super::reader::Source;
use crate::{RepositoryError, RepositoryErrorKind};
use flow::{Context, ReadError, ReadErrorKind};
use restic::{Id, Index};
use std::collections::HashSet;
use std::sync::Arc;

/// What can be relied on: every pack that is stored and not known to be damaged.
pub(super) struct Whole {
    source: Source,
    sound: Arc<Index>,
}

impl Whole {
    pub(super) fn without(
        repository: &ResticRepository,
        damaged: &HashSet<Id>,
        context: &Context,
    ) -> Result<Self, RepositoryError> {
        repository.forget_index();
        Ok(Self { sound: repository.sound_index(damaged)?, source: repository.source(context)? })
    }

    /// Tells whether every blob of a folder is there.
    pub(super) fn is_whole(&self, repository: &ResticRepository, subtree: &Id) -> bool {
        let folders = std::slice::from_ref(subtree);
        repository.restic().folders_are_sound(&self.source.index, &self.sound, folders, 1) == [true]
    }

    /// Tells whether a part of a folder cannot be read at this moment, which says nothing of what it holds.
    pub(super) fn is_away(&self, subtree: &Id) -> Result<bool, RepositoryError> {
        let (mut seen, mut open) = (HashSet::from([*subtree]), vec![*subtree]);
        while let Some(id) = open.pop() {
            match self.source.read_tree(&id) {
                Ok(tree) => {
                    let below = tree.nodes.into_iter().filter_map(|node| node.subtree);
                    open.extend(below.filter(|id| seen.insert(*id)));
                }
                Err(error) if !is_lost(&error)? => return Ok(true),
                Err(_) => {}
            }
        }
        Ok(false)
    }

    /// Tells whether a blob is there.
    pub(super) fn has(&self, blob: &Id) -> bool {
        self.sound.contains(restic::BlobKind::Data, blob)
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }
}

/// Tells whether what was asked for is gone, and not only away; an error where nobody wants to know any more.
pub(super) fn is_lost(error: &ReadError) -> Result<bool, RepositoryError> {
    match error.kind {
        ReadErrorKind::Cancelled => Err(RepositoryError::new(
            RepositoryErrorKind::Cancelled,
            error.object.clone(),
            error.message.clone(),
        )),
        ReadErrorKind::Storage => Ok(false),
        ReadErrorKind::Missing | ReadErrorKind::Damaged => Ok(true),
    }
}
