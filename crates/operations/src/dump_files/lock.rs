//! Who works in a folder of dump files: many may read and add, one may remove, and never both.
//!
//! A `flock` on the folder itself, which the system gives up with the process: a crash leaves nothing behind. Where a
//! filesystem locks no folders (network disks do not), a hidden file in it is locked instead, which stays and means
//! nothing by itself.

use super::file::unreadable;
use flow::{Cancel, SourceError, SourceErrorKind};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

/// The file that is locked where the folder itself cannot be.
pub(super) const LOCK_FILE: &str = ".backstay.lock";
const TRIED_EVERY: Duration = Duration::from_millis(50);

/// A lock on a folder of dump files, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct FolderLock {
    /// `None` where nothing there can be locked, and nobody could remove anything either.
    _held: Option<File>,
}

impl FolderLock {
    /// Locks a folder against those who remove: for whoever reads its files or adds one. Fails as
    /// [`SourceErrorKind::InUse`] while it is pruned.
    pub fn shared(folder: &Path) -> Result<Self, SourceError> {
        Self::take(folder, false)
    }

    /// Like [`FolderLock::shared`], and waits so long for a prune to end.
    pub fn shared_within(folder: &Path, wait: Duration, cancel: &Cancel) -> Result<Self, SourceError> {
        Self::within(wait, cancel, || Self::shared(folder))
    }

    /// Locks the folder in which a file lies, as [`FolderLock::shared`] does. `None` where it cannot be locked: then nobody
    /// else can lock it either.
    pub(crate) fn beside(file: &Path) -> Result<Option<Self>, SourceError> {
        match file.parent().map(Self::shared) {
            Some(Err(error)) if error.kind == SourceErrorKind::InUse => Err(error),
            other => Ok(other.and_then(Result::ok)),
        }
    }

    /// Locks a folder against everybody: for whoever removes files. Fails as [`SourceErrorKind::InUse`] while a restore,
    /// a verification, a backup or another prune works in it.
    pub fn exclusive(folder: &Path) -> Result<Self, SourceError> {
        Self::take(folder, true)
    }

    /// Like [`FolderLock::exclusive`], and waits so long for the others to end.
    pub fn exclusive_within(folder: &Path, wait: Duration, cancel: &Cancel) -> Result<Self, SourceError> {
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

    fn take(folder: &Path, alone: bool) -> Result<Self, SourceError> {
        let opened = File::open(folder).map_err(|error| unreadable(folder, error))?;
        match lock(&opened, alone) {
            Ok(()) => Ok(Self { _held: Some(opened) }),
            Err(Errno::WOULDBLOCK) => Err(in_use(folder, alone)),
            Err(_) => Self::take_file(folder, alone),
        }
    }

    /// Locks the file in a folder that cannot be locked itself.
    fn take_file(folder: &Path, alone: bool) -> Result<Self, SourceError> {
        let path = folder.join(LOCK_FILE);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let failed = |error: std::io::Error| {
            SourceError::new(SourceErrorKind::Failed, folder.display().to_string(), "cannot be locked")
                .with_hint(
                    "the folder lies where nothing can be locked; prune it on the machine whose disk it is",
                )
                .with_source(error)
        };
        let file = match opened {
            Ok(file) => file,
            // Where not even this can be made, nothing can be removed.
            Err(_) if !alone => return Ok(Self { _held: None }),
            Err(error) => return Err(failed(error)),
        };
        match lock(&file, alone) {
            Ok(()) => Ok(Self { _held: Some(file) }),
            Err(Errno::WOULDBLOCK) => Err(in_use(folder, alone)),
            Err(_) if !alone => Ok(Self { _held: None }),
            Err(error) => Err(failed(error.into())),
        }
    }
}

fn lock(file: &File, alone: bool) -> Result<(), Errno> {
    let kind = match alone {
        true => FlockOperation::NonBlockingLockExclusive,
        false => FlockOperation::NonBlockingLockShared,
    };
    rustix::fs::flock(file, kind)
}

fn in_use(folder: &Path, alone: bool) -> SourceError {
    let (message, hint) = match alone {
        true => (
            "is in use: a restore, a verification, a backup or another prune works in this folder",
            "try again when that has ended; `fuser -v` on the folder shows which process it is",
        ),
        false => ("is being pruned at this moment", "try again in a moment: a prune takes seconds"),
    };
    SourceError::new(SourceErrorKind::InUse, folder.display().to_string(), message).with_hint(hint)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn many_may_read_and_one_may_remove() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |taken: Result<FolderLock, SourceError>| {
            let error = taken.unwrap_err();
            assert_eq!(error.kind, SourceErrorKind::InUse);
            assert_eq!(error.object, folder.path().display().to_string());
        };
        let first = FolderLock::shared(folder.path()).unwrap();
        let second = FolderLock::shared(folder.path()).unwrap();
        refused(FolderLock::exclusive(folder.path()));
        drop(first);
        refused(FolderLock::exclusive(folder.path()));
        drop(second);
        let alone = FolderLock::exclusive(folder.path()).unwrap();
        refused(FolderLock::shared(folder.path()));
        refused(FolderLock::shared_within(folder.path(), Duration::from_millis(120), &Cancel::new()));
        refused(FolderLock::exclusive(folder.path()));
        drop(alone);
        FolderLock::shared(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let missing = FolderLock::shared(&folder.path().join("none")).unwrap_err();
        assert_eq!(missing.kind, SourceErrorKind::Missing);
    }

    #[test]
    fn where_a_folder_cannot_be_locked_a_file_in_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let shared = FolderLock::take_file(folder.path(), false).unwrap();
        assert_eq!(FolderLock::take_file(folder.path(), true).unwrap_err().kind, SourceErrorKind::InUse);
        drop(shared);
        FolderLock::take_file(folder.path(), true).unwrap();
    }
}
