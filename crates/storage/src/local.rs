//! Objects as files below one folder of a local or mounted disk.
//!
//! The name of an object is its path below that folder. Files are made with mode 0600 and folders with 0700. A crash
//! leaves at most hidden temporary files, which no operation shows; the first `put` into a folder removes those that
//! are older than an hour.

use crate::durable::{Taken, parent, remove_leftovers, write_durably};
use crate::read_back::reads_back;
use crate::{
    FileOperations, Given, ObjectName, ObjectStat, Storage, StorageError, StorageErrorKind, SystemFiles,
};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
const READ_BYTES: usize = 1 << 20;

/// Deeper than any layout goes: symbolic links in a circle end here.
const DEPTH_MAX: usize = 16;

/// A [`Storage`] below a folder.
pub struct LocalStorage {
    root: PathBuf,
    files: Arc<dyn FileOperations>,
    /// Folders whose own name this process has made durable. That a folder exists says nothing: another thread, or
    /// one that crashed, may have made it a moment ago.
    durable_folders: Mutex<HashSet<PathBuf>>,
}

impl LocalStorage {
    /// Opens a folder that exists, empty or not. Writes nothing.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StorageError> {
        Self::open_with(path, Arc::new(SystemFiles))
    }

    /// Makes the folder, and those above it that are missing, or takes one that is empty; durable when it returns. A
    /// folder that holds something is refused ([`StorageErrorKind::Exists`]).
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, StorageError> {
        Self::create_with(path, Arc::new(SystemFiles))
    }

    /// Like [`LocalStorage::open`], with other file operations.
    pub fn open_with(path: impl Into<PathBuf>, files: Arc<dyn FileOperations>) -> Result<Self, StorageError> {
        let root = path.into();
        let fail = |error| StorageError::from_io("open", root.display().to_string(), error);
        if !std::fs::metadata(&root).map_err(fail)?.is_dir() {
            return Err(StorageError {
                message: "it is no folder".to_owned(),
                ..fail(io::ErrorKind::NotADirectory.into())
            });
        }
        Ok(Self { root, files, durable_folders: Mutex::default() })
    }

    /// Like [`LocalStorage::create`], with other file operations.
    pub fn create_with(
        path: impl Into<PathBuf>,
        files: Arc<dyn FileOperations>,
    ) -> Result<Self, StorageError> {
        let root = path.into();
        let fail = |error| StorageError::from_io("create", root.display().to_string(), error);
        make_folders(&*files, &root).map_err(fail)?;
        for entry in std::fs::read_dir(&root).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            // The root of a fresh ext4 file system is as good as empty.
            if name != "lost+found" {
                return Err(StorageError {
                    message: format!("the folder is not empty: it holds {}", name.display()),
                    ..fail(io::ErrorKind::AlreadyExists.into())
                });
            }
        }
        Self::open_with(root, files)
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.as_str())
    }

    /// Makes sure that each folder between the root and `path` exists and has a durable name.
    fn prepare_folders(&self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = parent(path).ancestors().take_while(|f| *f != self.root).collect();
        missing.push(&self.root);
        for folder in missing.into_iter().rev() {
            if self.durable_folders().contains(folder) {
                continue;
            }
            if folder != self.root {
                match self.files.make_folder(folder, FOLDER_MODE) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => self.files.sync_folder(parent(folder))?,
                }
            }
            remove_leftovers(&*self.files, folder);
            self.durable_folders().insert(folder.to_owned());
        }
        Ok(())
    }

    fn durable_folders(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.durable_folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, path: &Path, content: &[&[u8]]) -> io::Result<()> {
        self.prepare_folders(path)?;
        write_durably(&*self.files, path, content, FILE_MODE, Taken::Refuse)
    }

    fn walk(&self, folder: &str, depth: usize, found: &mut Vec<ObjectStat>) -> Result<(), StorageError> {
        let path = self.root.join(folder);
        let fail = |path: &Path, error| StorageError::from_io("list", path.display().to_string(), error);
        if depth > DEPTH_MAX {
            return Err(fail(&path, io::Error::other("folders are nested too deeply")));
        }
        let entries = match std::fs::read_dir(&path) {
            // A folder that is missing is empty, but a root that went missing is not: a disk came off.
            Err(error) if depth == 0 && is_missing(&error) && !folder.is_empty() => {
                return std::fs::metadata(&self.root).map(drop).map_err(|error| fail(&self.root, error));
            }
            other => other.map_err(|error| fail(&path, error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| fail(&path, error))?;
            // What cannot be an object's name was never put: temporary files, lost+found, whatever people leave.
            let Some(name) = entry.file_name().to_str().and_then(|name| join(folder, name)) else { continue };
            let status = match std::fs::metadata(entry.path()) {
                Err(error) if is_missing(&error) => match std::fs::symlink_metadata(entry.path()) {
                    // A link to what is not there: a disk came off, and what it holds is not gone.
                    Ok(_) => {
                        let error = io::Error::other("it is a link to what is not there");
                        return Err(fail(&entry.path(), error));
                    }
                    // It was removed after it was listed.
                    Err(_) => continue,
                },
                other => other.map_err(|error| fail(&entry.path(), error))?,
            };
            if status.is_dir() {
                self.walk(name.as_str(), depth + 1, found)?;
            } else if status.is_file() {
                found.push(ObjectStat { name, size_bytes: status.len() });
            }
        }
        Ok(())
    }
}

impl Storage for LocalStorage {
    fn put(&self, name: &ObjectName, content: &[&[u8]]) -> Result<(), StorageError> {
        let path = self.path(name);
        let written = match self.write(&path, content) {
            // Somebody removed a folder that was there a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.durable_folders().clear();
                self.write(&path, content)
            }
            other => other,
        };
        written.map_err(|error| {
            let in_the_way = error.kind() == io::ErrorKind::NotADirectory;
            let made = StorageError::from_io("put", path.display().to_string(), error);
            if !in_the_way {
                return made;
            }
            // Nothing was looked for: something is in the place of a folder that has to be made.
            let message = "what should be its folder is none".to_owned();
            StorageError { kind: StorageErrorKind::Failed, message, ..made }
        })
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        let path = self.path(name);
        read_whole(&path).map_err(|error| StorageError::from_io("get", path.display().to_string(), error))
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        let path = self.path(name);
        let fail = |error| StorageError::from_io("get", path.display().to_string(), error);
        let (file, size_bytes) = open_file(&path).map_err(fail)?;
        let length = range.end.checked_sub(range.start).filter(|_| range.end <= size_bytes);
        let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else {
            return Err(StorageError {
                kind: StorageErrorKind::Damaged,
                verb: "get",
                object: path.display().to_string(),
                message: format!("it has {size_bytes} bytes, not the bytes {} to {}", range.start, range.end),
                source: None,
            });
        };
        let mut content = vec![0; length];
        file.read_exact_at(&mut content, range.start).map_err(fail)?;
        Ok(content)
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectStat, StorageError> {
        let path = self.path(name);
        let size_bytes = std::fs::metadata(&path)
            .and_then(|status| if status.is_file() { Ok(status.len()) } else { Err(no_file()) })
            .map_err(|error| StorageError::from_io("stat", path.display().to_string(), error))?;
        Ok(ObjectStat { name: name.clone(), size_bytes })
    }

    fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, StorageError> {
        if !folder.is_empty() {
            ObjectName::new(folder)?;
        }
        let mut found = Vec::new();
        self.walk(folder, 0, &mut found)?;
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StorageError> {
        let path = self.path(name);
        self.files
            .remove_file(&path)
            .and_then(|()| self.files.sync_folder(parent(&path)))
            .map_err(|error| StorageError::from_io("remove", path.display().to_string(), error))
    }

    fn confirm(&self, name: &ObjectName, sha256: &[u8; 32]) -> Result<(), StorageError> {
        let path = self.path(name);
        let found = hash_uncached(&path)
            .map_err(|error| StorageError::from_io("confirm", path.display().to_string(), error))?;
        if found == *sha256 {
            return Ok(());
        }
        Err(StorageError {
            kind: StorageErrorKind::Damaged,
            verb: "confirm",
            object: path.display().to_string(),
            message: format!(
                "its content has the hash {} instead of {}",
                hex::encode(found),
                hex::encode(sha256)
            ),
            source: None,
        })
    }

    fn confirm_given(
        &self,
        name: &ObjectName,
        sha256: &[u8; 32],
        content: Vec<Given>,
    ) -> (Result<(), StorageError>, Vec<Given>) {
        let path = self.path(name);
        let slices: Vec<&[u8]> = content.iter().map(Given::meant).collect();
        if reads_back(&path, &slices).is_ok_and(|same| same) {
            return (Ok(()), content);
        }
        // What is wrong is told by reading it once more; where that finds nothing, the disk says one thing and another.
        let confirmed = self.confirm(name, sha256).and_then(|()| {
            Err(StorageError {
                kind: StorageErrorKind::Damaged,
                verb: "confirm",
                object: path.display().to_string(),
                message: "its content does not always read back as it was written".to_owned(),
                source: None,
            })
        });
        (confirmed, content)
    }

    fn free_bytes(&self) -> Option<u64> {
        let status = rustix::fs::statvfs(&self.root).ok()?;
        status.f_bavail.checked_mul(status.f_frsize)
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }
}

/// Makes a folder and those above it that are missing, each with a durable name.
fn make_folders(files: &dyn FileOperations, path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = parent(path);
    if above != Path::new(".") {
        make_folders(files, above)?;
    }
    match files.make_folder(path, FOLDER_MODE) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => Err(error),
        _ => files.sync_folder(above),
    }
}

fn join(folder: &str, name: &str) -> Option<ObjectName> {
    ObjectName::new(if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }).ok()
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn no_file() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let status = file.metadata()?;
    if status.is_file() { Ok((file, status.len())) } else { Err(no_file()) }
}

fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let (mut file, size_bytes) = open_file(path)?;
    let mut content = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or(0).saturating_add(1));
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// Hashes a file after asking the kernel to forget what it holds of it in memory, so that the disk answers.
fn hash_uncached(path: &Path) -> io::Result<[u8; 32]> {
    let (mut file, _) = open_file(path)?;
    // Pages that are not written yet cannot be forgotten.
    file.sync_data()?;
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            length => hash.update(&buffer[..length]),
        }
    }
}
