//! Reading single blobs and folders, each verified against its id.
//!
//! A blob that is stored more than once is read from whichever copy is good.

use crate::crypto::SealingKey;
use crate::error::{ResticError, ResticErrorKind};
use crate::id::{BlobKind, Id};
use crate::index::{BlobLocation, Index};
use crate::repository::Repository;
use crate::tree::{Tree, TreeNeeds};
use crate::vault::{ObjectKind, object_name};
use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use storage::StorageErrorKind;

/// How a blob's content shows itself to be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlobDamage {
    #[error("it cannot be opened")]
    Sealed,
    #[error("it cannot be decompressed")]
    Compressed,
    #[error("its content has another length than the index says")]
    Length,
    #[error("its content has another hash than its id")]
    Hash,
}

/// Opens one blob: authenticated, decompressed where `uncompressed_length` says so, and its hash compared.
pub(crate) fn open_blob(
    key: &SealingKey,
    mut sealed: Vec<u8>,
    id: &Id,
    uncompressed_length: Option<u32>,
) -> Result<Vec<u8>, BlobDamage> {
    let plain = match uncompressed_length {
        None => key.open(sealed).map_err(|_| BlobDamage::Sealed)?,
        Some(length) => {
            let packed = key.open_in_place(&mut sealed).map_err(|_| BlobDamage::Sealed)?;
            let plain = decompress(packed, length as usize).map_err(|_| BlobDamage::Compressed)?;
            if plain.len() != length as usize {
                return Err(BlobDamage::Length);
            }
            plain
        }
    };
    if Id::of(&plain) != *id { Err(BlobDamage::Hash) } else { Ok(plain) }
}

thread_local! {
    /// Making one costs more than unpacking a small blob with it.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn decompress(packed: &[u8], length: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress(packed, length)
    })
}

impl Repository {
    /// Reads a blob: opened, decompressed, and its hash compared with its id.
    pub fn read_blob(&self, index: &Index, kind: BlobKind, id: &Id) -> Result<Vec<u8>, ResticError> {
        let mut problem = None;
        for location in index.locations(kind, id) {
            match self.read_blob_at(kind, id, &location) {
                Ok(blob) => return Ok(blob),
                Err(error) => {
                    problem.get_or_insert(error);
                }
            }
        }
        Err(problem.unwrap_or_else(|| ResticError::missing_blob(kind, id, &self.location())))
    }

    pub(crate) fn read_blob_at(
        &self,
        kind: BlobKind,
        id: &Id,
        location: &BlobLocation,
    ) -> Result<Vec<u8>, ResticError> {
        let sealed =
            self.read_pack_range(&location.pack, location.offset, location.length).map_err(|error| {
                let object = format!("{kind} blob {id}, {}", error.object);
                error.about(object)
            })?;
        open_blob(&self.vault().key, sealed, id, location.uncompressed_length)
            .map_err(|damage| self.damaged_blob(kind, id, &location.pack, damage))
    }

    pub(crate) fn damaged_blob(&self, kind: BlobKind, id: &Id, pack: &Id, damage: BlobDamage) -> ResticError {
        let object = format!("{kind} blob {id}, {}", self.vault().describe(ObjectKind::Pack, pack));
        ResticError::damaged(object, damage.to_string())
    }

    /// Reads a range of a pack. A pack that is not there is [`ResticErrorKind::Missing`], one that is too short
    /// [`ResticErrorKind::Damaged`].
    pub(crate) fn read_pack_range(
        &self,
        pack: &Id,
        offset: u32,
        length: u32,
    ) -> Result<Vec<u8>, ResticError> {
        let object = self.vault().describe(ObjectKind::Pack, pack);
        let name = object_name(ObjectKind::Pack, pack)?;
        let range = u64::from(offset)..u64::from(offset) + u64::from(length);
        let end = range.end;
        let content = self.storage().get_range(&name, range).map_err(|error| match error.kind {
            StorageErrorKind::Missing => {
                ResticError::new(ResticErrorKind::Missing, &object, "the pack is not there")
                    .with_source(error)
            }
            _ => match self.storage().stat(&name) {
                Ok(stat) if stat.size_bytes < end => {
                    ResticError::damaged(&object, "the pack is too short").with_source(error)
                }
                _ => ResticError::storage(&object, error),
            },
        })?;
        if content.len() != length as usize {
            return Err(ResticError::damaged(object, "the pack is too short"));
        }
        Ok(content)
    }

    /// Reads a folder.
    pub fn read_tree(&self, index: &Index, id: &Id) -> Result<Tree, ResticError> {
        let blob = self.read_blob(index, BlobKind::Tree, id)?;
        Tree::from_blob(&blob).map_err(|error| self.no_tree(id, error))
    }

    /// Loads what of other blobs a folder needs.
    pub(crate) fn read_tree_needs(&self, index: &Index, id: &Id) -> Result<TreeNeeds, ResticError> {
        let blob = self.read_blob(index, BlobKind::Tree, id)?;
        TreeNeeds::from_blob(&blob).map_err(|error| self.no_tree(id, error))
    }

    fn no_tree(&self, id: &Id, error: serde_json::Error) -> ResticError {
        ResticError::damaged(format!("tree {id} in {}", self.location()), "is no list of nodes")
            .with_source(error)
    }

    /// Lists each blob, once, that a folder and all below it need, trees included.
    pub fn blobs_of(&self, index: &Index, tree: &Id) -> Result<Vec<(BlobKind, Id)>, ResticError> {
        let mut seen = HashSet::from([(BlobKind::Tree, *tree)]);
        let mut blobs = vec![(BlobKind::Tree, *tree)];
        let mut open = vec![*tree];
        while let Some(id) = open.pop() {
            let needs = self.read_tree_needs(index, &id)?;
            let data = needs.blobs.into_iter().map(|id| (BlobKind::Data, id));
            blobs.extend(data.filter(|blob| seen.insert(*blob)));
            for folder in needs.folders {
                if seen.insert((BlobKind::Tree, folder)) {
                    blobs.push((BlobKind::Tree, folder));
                    open.push(folder);
                }
            }
        }
        Ok(blobs)
    }
}
