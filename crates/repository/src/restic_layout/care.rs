//! What somebody who looks after a repository asks: who locks it, and what it takes up. Reads sizes and the index, no
//! content.

use super::failure::repository_error;
use super::opened::ResticRepository;
use crate::{LockHolder, LockRecord, RepositoryError, RepositoryErrorKind, Usage};
use restic::{Id, LockFile, LockOptions, Stale};

/// Lists the locks, as this host sees them.
pub(super) fn locks(repository: &ResticRepository) -> Result<Vec<LockRecord>, RepositoryError> {
    let record = |file: LockFile| LockRecord {
        id: file.id.to_string(),
        holder: file.holder.map(|holder| LockHolder {
            host: holder.host,
            user: holder.user,
            pid: holder.pid,
            time: holder.time,
            exclusive: holder.exclusive,
        }),
        stale: file.stale.map(|stale| match stale {
            Stale::Old => "nobody refreshed it for 30 minutes".to_owned(),
            Stale::DeadProcess => "its process is gone".to_owned(),
        }),
        problem: file.problem,
    };
    let stale = LockOptions::default().stale;
    let files = repository.restic().lock_files(repository.owner_host(), stale).map_err(repository_error)?;
    Ok(files.into_iter().map(record).collect())
}

/// Removes a lock.
pub(super) fn remove_lock(repository: &ResticRepository, id: &str) -> Result<(), RepositoryError> {
    let parsed: Id = id.parse().map_err(|_| {
        RepositoryError::new(RepositoryErrorKind::Invalid, format!("lock {id}"), "that is no id of a lock")
    })?;
    repository.restic().remove_lock_file(&parsed).map_err(repository_error)
}

/// Sums up what is stored.
pub(super) fn usage(repository: &ResticRepository) -> Result<Usage, RepositoryError> {
    let stored = repository.restic().stored_bytes().map_err(repository_error)?;
    let totals = repository.index()?.totals();
    Ok(Usage {
        packs: stored.packs,
        pack_bytes: stored.pack_bytes,
        index_bytes: stored.index_bytes,
        all_bytes: stored.all_bytes,
        data_blobs: totals.data_blobs,
        data_bytes: totals.data_bytes,
        tree_blobs: totals.tree_blobs,
        tree_bytes: totals.tree_bytes,
        blob_bytes: totals.stored_bytes,
        free_bytes: repository.restic().storage().free_bytes(),
    })
}
