//! Where a dump lies that is read: a name in a folder, whatever kind of folder that is.
//!
//! Opened for reading and nothing else. What only reads files of this machine, as SQLite does, asks for its path.

use super::beside::{Expected, expected};
use super::file::unreadable_at;
use super::lock::FolderLock;
use super::unpack::Unpacked;
use crate::AgeKeys;
use engines::Again;
use flow::{SourceError, SourceErrorKind};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::{Folder, LocalFolder, Look};

/// Where a dump lies.
#[derive(Debug, Clone)]
pub(crate) struct DumpSource {
    folder: Arc<dyn Folder>,
    name: OsString,
}

impl DumpSource {
    /// Takes a name in a folder.
    pub(crate) fn new(folder: Arc<dyn Folder>, name: &OsStr) -> Self {
        Self { folder, name: name.to_owned() }
    }

    /// Takes a file of this machine, or a folder that is one dump.
    pub(crate) fn of(path: &Path) -> Result<Self, SourceError> {
        let place = LocalFolder::of(path);
        let (folder, name) = place.map_err(|error| unreadable_at(path.display().to_string(), error))?;
        Ok(Self { folder: Arc::new(folder), name })
    }

    /// Returns how people call it.
    pub(crate) fn object(&self) -> String {
        self.folder.location_of(&self.name)
    }

    /// Looks at it; of a link, at what it leads to.
    pub(crate) fn look(&self) -> Result<Look, SourceError> {
        self.folder.look_behind(&self.name).map_err(|error| unreadable_at(self.object(), error))
    }

    /// Opens it, from its first byte on.
    pub(crate) fn open(&self) -> Result<Box<dyn Read + Send>, SourceError> {
        self.folder.open(&self.name, 0).map_err(|error| unreadable_at(self.object(), error))
    }

    /// Returns where it lies on this machine, if it does.
    pub(crate) fn local_path(&self) -> Option<PathBuf> {
        self.folder.local_path().map(|folder| folder.join(&self.name))
    }

    /// Returns where a dump lies that is a folder; only of this machine such a one is read.
    pub(crate) fn local_folder(&self) -> Result<PathBuf, SourceError> {
        self.local_path().ok_or_else(|| {
            let message = "is a folder that does not lie on this machine";
            SourceError::new(SourceErrorKind::Unsupported, self.object(), message)
                .with_hint("copy it here, and name the copy")
        })
    }

    /// Returns a file of a dump that is a folder.
    pub(crate) fn member(&self, name: &str) -> Self {
        Self { folder: Arc::from(self.folder.below(&self.name)), name: name.into() }
    }

    /// Returns the digest that it must have; `None` where nothing beside it says one.
    pub(crate) fn expected(&self) -> Option<Expected> {
        expected(&*self.folder, &self.name)
    }

    /// Locks its folder against those who remove. `None` where it cannot be locked: then nobody else can lock it either.
    pub(crate) fn lock(&self) -> Result<Option<FolderLock>, SourceError> {
        match FolderLock::shared(&*self.folder) {
            Err(error) if error.kind == SourceErrorKind::InUse => Err(error),
            other => Ok(other.ok()),
        }
    }

    /// Returns what gives its unpacked bytes once more.
    pub(crate) fn again(&self, keys: &AgeKeys) -> Again {
        let (source, keys) = (self.clone(), keys.clone());
        Arc::new(move || {
            let file = source.folder.open(&source.name, 0)?;
            Ok(Unpacked::begin_with(file, &keys)?.into_bytes())
        })
    }
}
