//! Reading blobs back to prove that they are stored: each once, in the order in which they lie.

use crate::error::ResticError;
use crate::fetch::{Piece, Run};
use crate::id::{BlobKind, Id};
use crate::index::Index;
use crate::parallel;
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
    let mut wanted = blobs.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let mut outcome = VerifyOutcome::default();
    let mut pieces = Vec::with_capacity(wanted.len());
    for (kind, id) in wanted {
        match index.find(kind, &id) {
            Some(location) => pieces.push(Piece { kind, id, location }),
            None => {
                let error = ResticError::missing_blob(kind, &id, &repository.location());
                outcome.errors.push(BlobProblem { kind, id, pack: None, error });
            }
        }
    }
    pieces.sort_unstable_by_key(|piece| (piece.location.pack, piece.location.offset));
    let runs = Run::join(pieces);
    let read = parallel::map(&runs, threads.max(1), |run| {
        if cancel.is_cancelled() {
            return VerifyOutcome::default();
        }
        let outcome = verify_run(repository, index, run);
        progress(outcome.read_bytes);
        outcome
    });
    if cancel.is_cancelled() {
        return Err(ResticError::cancelled(repository.location()));
    }
    for part in read {
        outcome.errors.extend(part.errors);
        outcome.blobs += part.blobs;
        outcome.read_bytes += part.read_bytes;
    }
    outcome.errors.sort_by_key(|problem| (problem.kind, problem.id));
    Ok(outcome)
}

fn verify_run(repository: &Repository, index: &Index, run: &Run) -> VerifyOutcome {
    let mut outcome = VerifyOutcome::default();
    for (piece, blob) in run.pieces.iter().zip(run.read(repository, index)) {
        match blob {
            Ok(blob) => {
                outcome.blobs += 1;
                outcome.read_bytes += blob.len() as u64;
            }
            Err(error) => {
                let Piece { kind, id, location } = *piece;
                outcome.errors.push(BlobProblem { kind, id, pack: Some(location.pack), error });
            }
        }
    }
    outcome
}
