//! Who works in a folder of dump files: many may read and add, one may remove, and never both.
//!
//! What holds the lock dies with its process: a crash leaves nothing behind.

use super::file::unreadable_at;
use flow::{Cancel, SourceError, SourceErrorKind};
use std::time::{Duration, Instant};
use storage::{Folder, FolderGuard, LockKind, LockRefused};

const TRIED_EVERY: Duration = Duration::from_millis(50);

/// A lock on a folder of dump files, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct FolderLock {
    _held: FolderGuard,
}

impl FolderLock {
    /// Locks a folder against those who remove: for whoever reads its files or adds one. Fails as
    /// [`SourceErrorKind::InUse`] while it is pruned.
    pub fn shared(folder: &dyn Folder) -> Result<Self, SourceError> {
        Self::take(folder, LockKind::Shared)
    }

    /// Like [`FolderLock::shared`], and waits so long for a prune to end.
    pub fn shared_within(folder: &dyn Folder, wait: Duration, cancel: &Cancel) -> Result<Self, SourceError> {
        Self::within(wait, cancel, || Self::shared(folder))
    }

    /// Locks a folder against everybody: for whoever removes files. Fails as [`SourceErrorKind::InUse`] while a restore,
    /// a verification, a backup or another prune works in it.
    pub fn exclusive(folder: &dyn Folder) -> Result<Self, SourceError> {
        Self::take(folder, LockKind::Exclusive)
    }

    /// Like [`FolderLock::exclusive`], and waits so long for the others to end.
    pub fn exclusive_within(
        folder: &dyn Folder,
        wait: Duration,
        cancel: &Cancel,
    ) -> Result<Self, SourceError> {
        Self::within(wait, cancel, || Self::exclusive(folder))
    }

    fn within(
        wait: Duration,
        cancel: &Cancel,
        take: impl Fn() -> Result<Self, SourceError>,
    ) -> Result<Self, SourceError> {
        let until = Instant::now() + wait;
        loop {
            match take() {
                Err(error) if error.kind == SourceErrorKind::InUse && Instant::now() < until => {
                    if cancel.wait(TRIED_EVERY) {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
    }

    fn take(folder: &dyn Folder, kind: LockKind) -> Result<Self, SourceError> {
        folder.try_lock(kind).map(|held| Self { _held: held }).map_err(|refused| match refused {
            LockRefused::Held => in_use(folder, kind),
            LockRefused::Unreadable(error) => unreadable_at(folder.location(), error),
            LockRefused::Unsupported(error) => SourceError::new(
                SourceErrorKind::Failed,
                folder.location(),
                "cannot be locked",
            )
            .with_hint(
                "the folder lies where nothing can be locked; prune it on the machine whose disk it is",
            )
            .with_source(error),
        })
    }
}

fn in_use(folder: &dyn Folder, kind: LockKind) -> SourceError {
    let (message, hint) = match kind {
        LockKind::Exclusive => (
            "is in use: a restore, a verification, a backup or another prune works in this folder",
            "try again when that has ended; `fuser -v` on the folder shows which process it is",
        ),
        LockKind::Shared => {
            ("is being pruned at this moment", "try again in a moment: a prune takes seconds")
        }
    };
    SourceError::new(SourceErrorKind::InUse, folder.location(), message).with_hint(hint)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use storage::LocalFolder;

    #[test]
    fn many_may_read_and_one_may_remove() {
        let directory = tempfile::tempdir().unwrap();
        let folder = LocalFolder::new(directory.path());
        let refused = |taken: Result<FolderLock, SourceError>| {
            let error = taken.unwrap_err();
            assert_eq!(error.kind, SourceErrorKind::InUse);
            assert_eq!(error.object, directory.path().display().to_string());
        };
        let first = FolderLock::shared(&folder).unwrap();
        let second = FolderLock::shared(&folder).unwrap();
        refused(FolderLock::exclusive(&folder));
        drop(first);
        refused(FolderLock::exclusive(&folder));
        drop(second);
        let alone = FolderLock::exclusive(&folder).unwrap();
        refused(FolderLock::shared(&folder));
        refused(FolderLock::shared_within(&folder, Duration::from_millis(120), &Cancel::new()));
        refused(FolderLock::exclusive(&folder));
        drop(alone);
        FolderLock::shared(&folder).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let missing = FolderLock::shared(&LocalFolder::new(directory.path().join("none"))).unwrap_err();
        assert_eq!(missing.kind, SourceErrorKind::Missing);
    }
}
