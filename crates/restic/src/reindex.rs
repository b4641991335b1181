//! Replaces the index: new files that name exactly the packs that are to count, then the old ones go.
//!
//! Only the last new file says that it replaces the old ones, so that a crash in between leaves old and new side by
//! side, and both true; nothing that an old file names may be removed before all old files are gone.

use crate::error::{ResticError, ResticErrorKind};
use crate::id::Id;
use crate::index_file::{INDEX_BLOBS_MAX, IndexedPack, to_json};
use crate::parallel::{self, REQUESTS};
use crate::repository::Repository;
use crate::vault::ObjectKind;

/// Writes index files that name these packs and no others. Each is durable and confirmed. `go_on` is asked before
/// each. Where there is no pack there is no file.
pub(crate) fn write_index(
    repository: &Repository,
    packs: impl Iterator<Item = IndexedPack>,
    replaced: &[Id],
    go_on: &dyn Fn() -> Result<(), ResticError>,
) -> Result<Vec<Id>, ResticError> {
    let mut written = Vec::new();
    let mut batch: Vec<IndexedPack> = Vec::new();
    let mut blobs = 0;
    let mut write = |batch: &[IndexedPack], supersedes: &[Id]| -> Result<(), ResticError> {
        go_on()?;
        written.push(repository.vault().save_document(ObjectKind::Index, &to_json(batch, supersedes)?)?);
        Ok(())
    };
    for pack in packs {
        if !batch.is_empty() && blobs + pack.blobs.len() > INDEX_BLOBS_MAX {
            write(&batch, &[])?;
            batch.clear();
            blobs = 0;
        }
        blobs += pack.blobs.len();
        batch.push(pack);
    }
    if !batch.is_empty() {
        write(&batch, replaced)?;
    }
    Ok(written)
}

/// Removes objects on a few threads; one that is gone already is well. Ends at the first error. `removed` is told of
/// each; `go_on` is asked before each.
pub(crate) fn remove_objects(
    repository: &Repository,
    kind: ObjectKind,
    objects: &[(Id, u64)],
    go_on: &(dyn Fn() -> Result<(), ResticError> + Sync),
    removed: &(dyn Fn(u64) + Sync),
) -> Result<(), ResticError> {
    for batch in objects.chunks(64) {
        let results = parallel::map(batch, REQUESTS, |(id, size_bytes)| {
            go_on()?;
            match repository.vault().remove(kind, id) {
                Err(error) if error.kind != ResticErrorKind::NotFound => Err(error),
                _ => {
                    removed(*size_bytes);
                    Ok(())
                }
            }
        });
        results.into_iter().collect::<Result<(), _>>()?;
    }
    Ok(())
}
