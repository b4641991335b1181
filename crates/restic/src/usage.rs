//! How much is stored, without reading any of it: the sizes of objects by what they are.

use crate::error::ResticError;
use crate::repository::Repository;

/// The objects of a repository, by what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoredBytes {
    /// How many packs.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Bytes of index files.
    pub index_bytes: u64,
    /// Bytes of all objects.
    pub all_bytes: u64,
}

impl Repository {
    /// Sums up the objects.
    pub fn stored_bytes(&self) -> Result<StoredBytes, ResticError> {
        let objects = self
            .storage()
            .list("")
            .map_err(|error| ResticError::storage(format!("objects in {}", self.location()), error))?;
        let mut sums = StoredBytes::default();
        for object in objects {
            sums.all_bytes += object.size_bytes;
            match object.name.as_str().split_once('/') {
                Some(("data", _)) => {
                    sums.packs += 1;
                    sums.pack_bytes += object.size_bytes;
                }
                Some(("index", _)) => sums.index_bytes += object.size_bytes,
                _ => {}
            }
        }
        Ok(sums)
    }
}
