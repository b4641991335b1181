//! Copies sealed blobs into new packs, each verified as it is read.
//!
//! Blobs are copied as they are sealed, so that nothing is compressed again and a repository of either version gets
//! packs of its own kind. New packs are put and confirmed, and named by no index yet: a crash leaves packs that the
//! next prune removes.

use crate::blob::open_blob;
use crate::error::ResticError;
use crate::id::{BlobKind, Id};
use crate::index::{BlobLocation, Index};
use crate::index_file::IndexedPack;
use crate::pack::{PACK_BLOBS_MAX, PackBlob};
use crate::repository::Repository;
use crate::vault::{ObjectKind, Vault};
use std::sync::{Mutex, MutexGuard, PoisonError};
use storage::Given;

/// So much is fetched at once, unless one blob alone is larger.
const RUN_BYTES: u32 = 4 << 20;
/// Reading over a gap of that size is cheaper than asking twice.
const GAP_BYTES: u32 = 64 << 10;

/// A pack that is being filled.
#[derive(Default)]
struct OpenPack {
    bytes: Vec<u8>,
    blobs: Vec<PackBlob>,
}

#[derive(Default)]
struct State {
    open: [OpenPack; 2],
    written: Vec<IndexedPack>,
    written_bytes: u64,
}

/// Fills new packs; shared by the threads that read. Two packs are in memory, and one for each thread that stores.
pub(crate) struct Repacker<'a> {
    vault: &'a Vault,
    pack_bytes: usize,
    state: Mutex<State>,
}

impl<'a> Repacker<'a> {
    pub(crate) fn new(repository: &'a Repository, pack_bytes: u32) -> Self {
        Self { vault: repository.vault(), pack_bytes: pack_bytes as usize, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a sealed blob that was verified; its `offset` is that of its old place.
    pub(crate) fn add(&self, blob: &PackBlob, sealed: &[u8]) -> Result<(), ResticError> {
        let full = {
            let mut state = self.state();
            let pack = &mut state.open[blob.kind as usize];
            let full = (pack.bytes.len() + sealed.len() > self.pack_bytes && !pack.blobs.is_empty())
                || pack.blobs.len() >= PACK_BLOBS_MAX;
            let full = full.then(|| std::mem::take(pack));
            let offset = pack.bytes.len() as u32;
            pack.bytes.extend_from_slice(sealed);
            pack.blobs.push(PackBlob { offset, ..*blob });
            full
        };
        full.map_or(Ok(()), |pack| self.store(pack))
    }

    fn store(&self, pack: OpenPack) -> Result<(), ResticError> {
        if pack.blobs.is_empty() {
            return Ok(());
        }
        let (id, size_bytes, _) = self.vault.save_pack(Given::all(pack.bytes), &pack.blobs)?;
        let mut blobs = pack.blobs;
        blobs.shrink_to_fit();
        let mut state = self.state();
        state.written_bytes += size_bytes;
        state.written.push(IndexedPack { id, blobs });
        Ok(())
    }

    /// Stores what is left. From now on all that was added is durable and confirmed.
    pub(crate) fn flush(&self) -> Result<(), ResticError> {
        let open = std::mem::take(&mut self.state().open);
        open.into_iter().try_for_each(|pack| self.store(pack))
    }

    /// Returns the packs that were written, and their bytes. What was not flushed is lost.
    pub(crate) fn into_written(self) -> (Vec<IndexedPack>, u64) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.written, state.written_bytes)
    }

    /// Removes what was written again, as far as that is possible: named by no index, it does no harm either.
    pub(crate) fn discard(self) {
        for pack in self.into_written_ids() {
            drop(pack.0.remove(ObjectKind::Pack, &pack.1));
        }
    }

    fn into_written_ids(self) -> Vec<(&'a Vault, Id)> {
        let vault = self.vault;
        self.into_written().0.into_iter().map(|pack| (vault, pack.id)).collect()
    }
}

/// A blob that can be read nowhere.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) kind: BlobKind,
    pub(crate) id: Id,
    pub(crate) error: ResticError,
}

/// Copies blobs of one pack, given in the order in which they lie. A blob that cannot be read from it is taken from
/// another copy, where there is one; those that can be read nowhere are returned. An error is one of writing.
pub(crate) fn copy_blobs(
    repository: &Repository,
    index: &Index,
    pack: &Id,
    blobs: &[PackBlob],
    repacker: &Repacker<'_>,
    read: &dyn Fn(u64) -> Result<(), ResticError>,
) -> Result<Vec<Unreadable>, ResticError> {
    let mut unreadable = Vec::new();
    for run in runs(blobs) {
        let begin = run[0].offset;
        let end = run.iter().map(end_of).max().unwrap_or(begin);
        read(u64::from(end - begin))?;
        let fetched = repository.read_pack_range(pack, begin, end - begin).ok();
        for blob in run {
            let at = (blob.offset - begin) as usize;
            let sealed = fetched.as_ref().and_then(|bytes| bytes.get(at..at + blob.length as usize));
            match sealed.filter(|sealed| is_good(repository, blob, sealed)) {
                Some(sealed) => repacker.add(blob, sealed)?,
                None => match read_sealed(repository, index, blob.kind, &blob.id) {
                    Ok((blob, sealed)) => repacker.add(&blob, &sealed)?,
                    Err(error) => unreadable.push(Unreadable { kind: blob.kind, id: blob.id, error }),
                },
            }
        }
    }
    Ok(unreadable)
}

fn end_of(blob: &PackBlob) -> u32 {
    blob.offset.saturating_add(blob.length)
}

/// Splits blobs into those that are fetched together.
fn runs(blobs: &[PackBlob]) -> Vec<&[PackBlob]> {
    let mut runs = Vec::new();
    let mut begin = 0;
    for at in 1..=blobs.len() {
        let ends = blobs.get(at).is_none_or(|blob| {
            let gap = blob.offset.saturating_sub(end_of(&blobs[at - 1]));
            gap > GAP_BYTES || end_of(blob).saturating_sub(blobs[begin].offset) > RUN_BYTES
        });
        if ends {
            runs.push(&blobs[begin..at]);
            begin = at;
        }
    }
    runs
}

fn is_good(repository: &Repository, blob: &PackBlob, sealed: &[u8]) -> bool {
    let length = (blob.uncompressed_length != 0).then_some(blob.uncompressed_length);
    open_blob(&repository.vault().key, sealed.to_vec(), &blob.id, length).is_ok()
}

/// Reads a blob as it is sealed from whichever copy is good.
pub(crate) fn read_sealed(
    repository: &Repository,
    index: &Index,
    kind: BlobKind,
    id: &Id,
) -> Result<(PackBlob, Vec<u8>), ResticError> {
    let mut problem = None;
    for location in index.locations(kind, id) {
        match read_sealed_at(repository, kind, id, &location) {
            Ok(sealed) => {
                let uncompressed_length = location.uncompressed_length.unwrap_or(0);
                let (offset, length) = (location.offset, location.length);
                return Ok((PackBlob { kind, id: *id, offset, length, uncompressed_length }, sealed));
            }
            Err(error) => drop(problem.get_or_insert(error)),
        }
    }
    Err(problem.unwrap_or_else(|| ResticError::missing_blob(kind, id, &repository.location())))
}

fn read_sealed_at(
    repository: &Repository,
    kind: BlobKind,
    id: &Id,
    location: &BlobLocation,
) -> Result<Vec<u8>, ResticError> {
    let sealed = repository.read_pack_range(&location.pack, location.offset, location.length)?;
    open_blob(&repository.vault().key, sealed.clone(), id, location.uncompressed_length)
        .map_err(|damage| repository.damaged_blob(kind, id, &location.pack, damage))?;
    Ok(sealed)
}
