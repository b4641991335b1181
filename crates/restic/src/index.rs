//! Stub.
use crate::id::{BlobKind, Id};

/// Where a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLocation {
    /// The pack that holds it.
    pub pack: Id,
    /// Where it begins in the pack.
    pub offset: u32,
    /// How long it is as stored: sealed, maybe compressed.
    pub length: u32,
    /// The length of its plaintext where it is compressed.
    pub uncompressed_length: Option<u32>,
}

impl BlobLocation {
    /// Returns the length of the blob's plaintext.
    pub fn plaintext_length(&self) -> u64 {
        u64::from(self.uncompressed_length.unwrap_or_else(|| self.length.saturating_sub(32)))
    }
}

/// Which pack holds which blob. At most about 100 bytes a blob; never changes once loaded.
#[derive(Debug, Default)]
pub struct Index {
    blobs: Vec<()>,
}

impl Index {
    /// Returns where a blob lies; the first place, where it is stored more than once.
    pub fn find(&self, kind: BlobKind, id: &Id) -> Option<BlobLocation> {
        let _ = (kind, id);
        None
    }

    /// Tells whether the blob is indexed.
    pub fn contains(&self, kind: BlobKind, id: &Id) -> bool {
        self.find(kind, id).is_some()
    }

    /// Returns the number of indexed blobs, copies included.
    pub fn len(&self) -> usize {
        self.blobs.len()
    }

    /// Tells whether nothing is indexed.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }
}
