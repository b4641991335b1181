//! Which folders are there as a whole: every blob that they need lies in a pack that can be relied on.
//!
//! Loaded anew for whoever asks, since a heal has just changed the index. Changes nothing.

use super::opened::ResticRepository;
use super::reader::Source;
use crate::RepositoryError;
use flow::Context;
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

    /// Tells whether a blob is there.
    pub(super) fn has(&self, blob: &Id) -> bool {
        self.sound.contains(restic::BlobKind::Data, blob)
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }
}
