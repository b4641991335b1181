//! The folder in which databases are built of dump files: of this process alone, gone with it.
//!
//! A process that is killed leaves its folder. Each holds a lock on its own, which the system takes away from whoever
//! dies; the next one to work there removes every folder of such a name, of this user's, whose lock it gets.

use engines::Engine;
use flow::{Context, SourceError};
use rustix::fs::FlockOperation;
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Nobody else calls a folder so: the place may be any folder that somebody named.
const PREFIX: &str = "backstay-scratch-";
/// A server that was ended may write a last file while its folder is removed.
const REMOVALS: usize = 20;

/// A folder of this process. Dropped, it is removed with all that is in it.
pub(crate) struct ScratchFolder {
    path: PathBuf,
    _lock: File,
    used: u64,
    mode: u32,
}

impl ScratchFolder {
    /// Removes what dead processes left in `scratch`, and makes a folder there.
    pub(crate) fn make(scratch: &Path) -> io::Result<Self> {
        Self::make_with(scratch, 0o700)
    }

    /// The same, through which others may pass who know the names within, and see nothing.
    pub(crate) fn make_passable(scratch: &Path) -> io::Result<Self> {
        Self::make_with(scratch, 0o711)
    }

    fn make_with(scratch: &Path, mode: u32) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for attempt in 0..100 {
            if attempt == 0 {
                sweep(scratch);
            }
            let path = scratch.join(format!("{PREFIX}{}-{attempt}", std::process::id()));
            match provide(scratch, mode).and_then(|()| take(&path, mode)) {
                Ok(lock) => return Ok(Self { path, _lock: lock, used: 0, mode }),
                // Taken, swept by another one before it was locked, or gone with the folder around it.
                Err(error)
                    if [io::ErrorKind::AlreadyExists, io::ErrorKind::NotFound, io::ErrorKind::WouldBlock]
                        .contains(&error.kind()) =>
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
        create(&path, self.mode)?;
        Ok(path)
    }

    /// Removes what is in it.
    pub(crate) fn clear(&self) -> io::Result<()> {
        remove(&self.path.join(self.used.to_string()))
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        // Where it cannot be removed, the next one to work there tries again.
        let _ = remove(&self.path);
    }
}

/// Where a throwaway server is made.
pub(crate) struct TrialPlace {
    pub(crate) path: PathBuf,
    /// Whether it is there for that alone, and is removed once nothing is in it.
    is_extra: bool,
}

impl TrialPlace {
    /// Returns where to load: where somebody said, else where the engine can.
    pub(crate) fn of(engine: &dyn Engine, said: bool, context: &Context) -> Result<Self, SourceError> {
        if said {
            return Ok(Self { path: context.scratch.path().to_owned(), is_extra: false });
        }
        let path = engine.trial_place(context)?;
        let is_extra = path != context.scratch.path();
        Ok(Self { path, is_extra })
    }
}

impl Drop for TrialPlace {
    fn drop(&mut self) {
        if self.is_extra {
            // Others may be at work in it.
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    let mut left = REMOVALS;
    loop {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && left > 0 => left -= 1,
            other => return other,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes the folder in which others are made, where it is not there.
fn provide(scratch: &Path, mode: u32) -> io::Result<()> {
    if scratch.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(scratch)?;
    std::fs::set_permissions(scratch, Permissions::from_mode(mode))
}

/// Makes a folder of just that mode, whatever is masked out of those that this process makes.
fn create(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Makes the folder and locks it. Whoever swept it away between the two has removed it from under its name.
fn take(path: &Path, mode: u32) -> io::Result<File> {
    create(path, mode)?;
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
        let own =
            entry.metadata().is_ok_and(|metadata| metadata.uid() == rustix::process::geteuid().as_raw());
        let Some(folder) = File::open(entry.path()).ok().filter(|_| own) else { continue };
        if rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_dead_process_left_goes_and_what_lives_stays() {
        let folder = tempfile::tempdir().unwrap();
        let dead = folder.path().join("backstay-scratch-1-0");
        std::fs::create_dir_all(dead.join("1")).unwrap();
        std::fs::create_dir(folder.path().join("import-2024-01")).unwrap();
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
        assert_eq!(left, ["import-2024-01"]);
    }

    #[test]
    fn many_at_once_do_not_sweep_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("place");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let mut made = ScratchFolder::make_passable(&place).unwrap();
                        std::fs::write(made.fresh().unwrap().join("x"), "x").unwrap();
                        drop(made);
                        // As whoever made it for this alone does.
                        let _ = std::fs::remove_dir(&place);
                    }
                });
            }
        });
        assert!(!place.exists());
    }
}
