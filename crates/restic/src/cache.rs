//! Local copies of index files and snapshots, sealed as they are stored and named by their hash.
//!
//! A copy is used only if its hash is its name. So the folder may be shared, deleted, damaged or unwritable at any
//! moment: whatever goes wrong with it means that the storage is asked. A crash leaves at most a temporary file, which
//! the next run removes.

use crate::id::Id;
use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A temporary file this old has lost its writer.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Names the folder of a repository below the common one. Nothing is created before something is kept.
    pub(crate) fn new(folder: &Path, repository: &Id) -> Self {
        Self { folder: folder.join(repository.to_string()) }
    }

    /// Returns a copy, if there is a good one.
    pub(crate) fn get(&self, folder: &str, id: &Id) -> Option<Vec<u8>> {
        let path = self.folder.join(folder).join(id.to_string());
        let content = fs::read(&path).ok()?;
        if Id::of(&content) == *id {
            return Some(content);
        }
        // Not ours to report: the copy is worthless, and the storage has the original.
        drop(fs::remove_file(&path));
        None
    }

    /// Keeps a copy, if possible.
    pub(crate) fn put(&self, folder: &str, id: &Id, content: &[u8]) {
        drop(self.try_put(folder, id, content));
    }

    fn try_put(&self, folder: &str, id: &Id, content: &[u8]) -> std::io::Result<()> {
        let folder = self.folder.join(folder);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix).map_err(|error| std::io::Error::other(error.to_string()))?;
        let temporary = folder.join(format!(".{id}.{}", hex::encode(suffix)));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let written =
            file.write_all(content).and_then(|()| fs::rename(&temporary, folder.join(id.to_string())));
        if written.is_err() {
            drop(fs::remove_file(&temporary));
        }
        written
    }

    /// Removes copies of objects that the storage no longer lists, and what crashed writers left.
    pub(crate) fn retain(&self, folder: &str, listed: &HashSet<Id>) {
        let Ok(entries) = fs::read_dir(self.folder.join(folder)) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let keep = match name.parse::<Id>() {
                Ok(id) => listed.contains(&id),
                Err(_) => !name.starts_with('.') || !is_old(&entry),
            };
            if !keep {
                drop(fs::remove_file(entry.path()));
            }
        }
    }
}

fn is_old(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > LEFTOVER_AGE))
}
