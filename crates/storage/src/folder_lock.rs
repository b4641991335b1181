//! Locks on folders of this machine: many may read and add, one may remove, and never both.
//!
//! A `flock` on the folder itself, which the system gives up with the process: a crash leaves nothing behind. Where a
//! filesystem locks no folders (network disks do not), a hidden file in it is locked instead, which stays and means
//! nothing by itself.

use crate::folder::{FolderGuard, LockKind, LockRefused};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::path::Path;

/// The file that is locked where the folder itself cannot be.
pub const LOCK_FILE: &str = ".backstay.lock";

pub(crate) fn take(folder: &Path, kind: LockKind) -> Result<FolderGuard, LockRefused> {
    let opened = File::open(folder).map_err(LockRefused::Unreadable)?;
    match lock(&opened, kind) {
        Ok(()) => Ok(FolderGuard::new(opened)),
        Err(Errno::WOULDBLOCK) => Err(LockRefused::Held),
        Err(_) => take_file(folder, kind),
    }
}

/// Locks the file in a folder that cannot be locked itself.
fn take_file(folder: &Path, kind: LockKind) -> Result<FolderGuard, LockRefused> {
    let path = folder.join(LOCK_FILE);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = match (opened, kind) {
        (Ok(file), _) => file,
        // Where not even this can be made, nothing can be removed.
        (Err(_), LockKind::Shared) => return Ok(FolderGuard::new(())),
        (Err(error), LockKind::Exclusive) => return Err(LockRefused::Unsupported(error)),
    };
    match (lock(&file, kind), kind) {
        (Ok(()), _) => Ok(FolderGuard::new(file)),
        (Err(Errno::WOULDBLOCK), _) => Err(LockRefused::Held),
        (Err(_), LockKind::Shared) => Ok(FolderGuard::new(())),
        (Err(error), LockKind::Exclusive) => Err(LockRefused::Unsupported(error.into())),
    }
}

fn lock(file: &File, kind: LockKind) -> Result<(), Errno> {
    let operation = match kind {
        LockKind::Exclusive => FlockOperation::NonBlockingLockExclusive,
        LockKind::Shared => FlockOperation::NonBlockingLockShared,
    };
    rustix::fs::flock(file, operation)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn where_a_folder_cannot_be_locked_a_file_in_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let shared = take_file(folder.path(), LockKind::Shared).unwrap();
        let refused = take_file(folder.path(), LockKind::Exclusive).unwrap_err();
        assert!(matches!(refused, LockRefused::Held));
        drop(shared);
        take_file(folder.path(), LockKind::Exclusive).unwrap();
    }
}
