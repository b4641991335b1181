//! The one way in which this project writes a file that must survive: a temporary file in the same folder, fsync,
//! rename, fsync of the folder.
//!
//! A crash leaves the old state or the new one, and perhaps a hidden temporary file, which [`is_temporary`] knows
//! by its name and [`remove_leftovers`] removes once it is old.

use crate::{FileOperations, StorageError, StorageErrorKind, SystemFiles};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const PREFIX: &str = ".backstay-";
const SUFFIX: &str = ".tmp";

/// Younger ones may belong to a writer that is at work.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// What happens when the name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The write fails and the old content stays.
    Refuse,
    /// The new content replaces the old.
    Replace,
}

/// Replaces a file's content, or makes the file, with that mode. When it returns `Ok`, the new content is durable;
/// when it fails or the process dies, the file has its old content or the new one, whole. The folder must exist. A
/// symbolic link of that name is replaced, not followed.
pub fn atomic_write(path: &Path, content: &[u8], mode: u32) -> Result<(), StorageError> {
    write_durably(&SystemFiles, path, &[content], mode, Taken::Replace)
        .map_err(|error| StorageError::from_io("write", path.display().to_string(), error))
}

/// Makes a file with that content and mode, durably; fails with [`StorageErrorKind::Exists`] where the name is taken, and
/// leaves what bears it as it is. The folder must exist.
pub fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), StorageError> {
    write_durably(&SystemFiles, path, &[content], mode, Taken::Refuse)
        .map_err(|error| StorageError::from_io("write", path.display().to_string(), error))
}

/// Writes a file durably. Where it fails, what it made is removed again as far as possible.
pub(crate) fn write_durably(
    files: &dyn FileOperations,
    path: &Path,
    content: &[&[u8]],
    mode: u32,
    taken: Taken,
) -> io::Result<()> {
    let folder = parent(path);
    let temporary = folder.join(temporary_name()?);
    let placed = fill(files, &temporary, content, mode).and_then(|()| match taken {
        Taken::Refuse => files.rename_new(&temporary, path),
        Taken::Replace => files.rename_over(&temporary, path),
    });
    if let Err(error) = placed {
        let _ = files.remove_file(&temporary);
        return Err(error);
    }
    files.sync_folder(folder).inspect_err(|_| {
        // Not proven durable: leaving the name would make a second try believe that it is.
        if taken == Taken::Refuse {
            let _ = files.remove_file(path);
        }
    })
}

/// Returns the folder that holds a path.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Tells whether a file name is that of a temporary file of ours.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Removes what interrupted writes left in a folder an hour ago or earlier. Failures are of no consequence.
pub(crate) fn remove_leftovers(files: &dyn FileOperations, folder: &Path) {
    let Ok(found) = std::fs::read_dir(folder) else { return };
    for entry in found.flatten() {
        let old = || -> Option<bool> {
            let changed = entry.metadata().ok()?.modified().ok()?;
            Some(SystemTime::now().duration_since(changed).ok()? >= LEFTOVER_AGE)
        };
        if entry.file_name().to_str().is_some_and(is_temporary) && old() == Some(true) {
            let _ = files.remove_file(&entry.path());
        }
    }
}

fn fill(files: &dyn FileOperations, path: &Path, content: &[&[u8]], mode: u32) -> io::Result<()> {
    let mut file = files.create_new(path, mode)?;
    for bytes in content {
        files.write(&mut file, path, bytes)?;
    }
    files.sync_file(&file, path)
}

fn temporary_name() -> io::Result<PathBuf> {
    let mut random = [0; 12];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(PathBuf::from(format!("{PREFIX}{}{SUFFIX}", hex::encode(random))))
}

impl StorageError {
    /// Makes the error of a file operation.
    pub(crate) fn from_io(verb: &'static str, object: String, error: io::Error) -> Self {
        use io::ErrorKind as Io;
        let (kind, message) = match error.kind() {
            Io::NotFound | Io::NotADirectory | Io::IsADirectory => {
                (StorageErrorKind::Missing, "there is no such file".to_owned())
            }
            Io::AlreadyExists => (StorageErrorKind::Exists, "it exists already".to_owned()),
            Io::PermissionDenied => (StorageErrorKind::Denied, "permission denied".to_owned()),
            Io::ReadOnlyFilesystem => (StorageErrorKind::Denied, "the file system is read-only".to_owned()),
            Io::StorageFull => (StorageErrorKind::Full, "no space is left".to_owned()),
            Io::QuotaExceeded => (StorageErrorKind::Full, "the quota is used up".to_owned()),
            _ => (StorageErrorKind::Failed, "the file system failed".to_owned()),
        };
        Self { kind, verb, object, message, source: Some(Box::new(error)) }
    }
}
