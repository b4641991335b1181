//! The folder in which an import builds databases: of this process alone, mode 0700, gone with it.
//!
//! A process that is killed leaves its folder. Each holds a lock on its own, which the system takes away from whoever
//! dies; the next import removes every folder whose lock it gets.

use rustix::fs::FlockOperation;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

const PREFIX: &str = "import-";

/// A folder of this process. Dropped, it is removed with all that is in it.
pub(crate) struct ScratchFolder {
    path: PathBuf,
    _lock: File,
    used: u64,
}

impl ScratchFolder {
    /// Removes what dead processes left in `scratch`, and makes a folder there.
    pub(crate) fn make(scratch: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(scratch)?;
        sweep(scratch);
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for attempt in 0..100 {
            let path = scratch.join(format!("{PREFIX}{}-{attempt}", std::process::id()));
            match take(&path) {
                Ok(lock) => return Ok(Self { path, _lock: lock, used: 0 }),
                Err(error)
                    if [io::ErrorKind::AlreadyExists, io::ErrorKind::NotFound].contains(&error.kind()) =>
                {
                    last = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Returns a new, empty folder in it; the one before is removed.
    pub(crate) fn fresh(&mut self) -> io::Result<PathBuf> {
        self.clear()?;
        self.used += 1;
        let path = self.path.join(self.used.to_string());
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(path)
    }

    /// Removes what is in it.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(self.path.join(self.used.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        // Where it cannot be removed, the next import tries again.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Makes the folder and locks it. Whoever swept it away between the two has removed it from under its name.
fn take(path: &Path) -> io::Result<File> {
    DirBuilder::new().mode(0o700).create(path)?;
    let lock = File::open(path)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let (held, named) = (lock.metadata()?, std::fs::metadata(path)?);
    if (held.dev(), held.ino()) == (named.dev(), named.ino()) {
        Ok(lock)
    } else {
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// Removes the folders of processes that are gone. What cannot be looked at or removed stays.
fn sweep(scratch: &Path) {
    for entry in std::fs::read_dir(scratch).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let Ok(folder) = File::open(entry.path()) else { continue };
        if rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_a_dead_process_left_goes_and_what_lives_stays() {
        let folder = tempfile::tempdir().unwrap();
        let dead = folder.path().join("import-1-0");
        std::fs::create_dir_all(dead.join("1")).unwrap();
        std::fs::create_dir(folder.path().join("sqlite-other")).unwrap();
        let mut living = ScratchFolder::make(folder.path()).unwrap();
        assert!(!dead.exists());
        let first = living.fresh().unwrap();
        std::fs::write(first.join("x"), "x").unwrap();
        let other = ScratchFolder::make(folder.path()).unwrap();
        assert!(first.join("x").exists());
        assert_eq!(std::fs::metadata(&other.path).unwrap().permissions().mode() & 0o777, 0o700);
        let second = living.fresh().unwrap();
        assert!(!first.exists() && second.exists());
        drop((living, other));
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["sqlite-other"]);
    }
}
