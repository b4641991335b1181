//! Stub.
use crate::error::ResticError;
use crate::id::{BlobKind, Id};
use crate::index::Index;
use crate::repository::Repository;
use flow::Cancel;

/// A blob that cannot be read as it was written.
#[derive(Debug, Clone)]
pub struct BlobProblem {
    /// Its kind.
    pub kind: BlobKind,
    /// Its id.
    pub id: Id,
    /// The pack that should hold it, where an index names one.
    pub pack: Option<Id>,
    /// What is wrong.
    pub error: ResticError,
}

/// What a verification of blobs came to.
#[derive(Debug, Clone, Default)]
pub struct VerifyOutcome {
    /// The blobs that cannot be read, sorted by id.
    pub errors: Vec<BlobProblem>,
    /// How many blobs were read and found right.
    pub blobs: u64,
    /// Bytes of plaintext that were read and found right.
    pub read_bytes: u64,
}

/// Reads and verifies each blob once, in the order in which they lie in their packs, on several threads. `progress`
/// is told of plaintext bytes as they are verified, from any thread. A storage that fails for a pack counts as a
/// problem of its blobs; an error is a cancellation.
pub fn verify_blobs(
    repository: &Repository,
    index: &Index,
    blobs: &[(BlobKind, Id)],
    threads: usize,
    cancel: &Cancel,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<VerifyOutcome, ResticError> {
    let _ = (repository, index, blobs, threads, cancel, progress);
    Ok(VerifyOutcome::default())
}
