//! Fetching blobs that lie side by side in one request.
//!
//! Where a fetched run fails, whole or in part, each of its blobs is tried on its own and in every copy: one damaged
//! blob takes no other with it, and the error names pack and blob.

use crate::blob::open_blob;
use crate::error::ResticError;
use crate::id::{BlobKind, Id};
use crate::index::{BlobLocation, Index};
use crate::repository::Repository;

/// So much plaintext is fetched at once, unless one blob alone is larger.
const RUN_BYTES: u64 = 4 << 20;
/// Reading over a gap of that size is cheaper than asking twice.
const GAP_BYTES: u32 = 64 << 10;

/// A blob and where it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) kind: BlobKind,
    pub(crate) id: Id,
    pub(crate) location: BlobLocation,
}

/// Blobs that lie one behind the other in a pack.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) pieces: Vec<Piece>,
    end: u32,
    plain_bytes: u64,
}

impl Run {
    pub(crate) fn new(piece: Piece) -> Self {
        let location = piece.location;
        Self {
            end: location.offset.saturating_add(location.length),
            plain_bytes: location.plaintext_length(),
            pieces: vec![piece],
        }
    }

    /// Joins blobs, in the order in which they lie, to runs that are fetched at once.
    pub(crate) fn join(pieces: Vec<Piece>) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for piece in pieces {
            if !runs.last_mut().is_some_and(|run| run.extend(piece)) {
                runs.push(Self::new(piece));
            }
        }
        runs
    }

    /// Takes a blob in, if it lies close behind.
    pub(crate) fn extend(&mut self, piece: Piece) -> bool {
        let location = piece.location;
        let close = location.offset.checked_sub(self.end).is_some_and(|gap| gap <= GAP_BYTES);
        let bytes = self.plain_bytes + location.plaintext_length();
        if !close || bytes > RUN_BYTES || self.pieces[0].location.pack != location.pack {
            return false;
        }
        self.end = location.offset.saturating_add(location.length);
        self.plain_bytes = bytes;
        self.pieces.push(piece);
        true
    }

    /// Reads and verifies the blobs; one result for each piece, in order.
    pub(crate) fn read(&self, repository: &Repository, index: &Index) -> Vec<Result<Vec<u8>, ResticError>> {
        let first = self.pieces[0].location;
        let fetched = repository.read_pack_range(&first.pack, first.offset, self.end - first.offset).ok();
        let open = |piece: &Piece| {
            let begin = (piece.location.offset - first.offset) as usize;
            let sealed = fetched.as_ref()?.get(begin..begin + piece.location.length as usize)?.to_vec();
            open_blob(&repository.vault().key, sealed, &piece.id, piece.location.uncompressed_length).ok()
        };
        self.pieces
            .iter()
            .map(|piece| match open(piece) {
                Some(blob) => Ok(blob),
                None => repository.read_blob(index, piece.kind, &piece.id),
            })
            .collect()
    }
}
