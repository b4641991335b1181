//! A folder of plain files in memory: the plain model that others are compared with, and as far from a disk as a bucket is.
//! Gone with the process.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Cursor, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use storage::{
    FileKind, Folder, FolderGuard, Leftover, Listed, LockKind, LockRefused, Look, NewFile, OpenFiles,
    Removal, Removed,
};

#[derive(Debug, Clone)]
struct Stored {
    content: Arc<Vec<u8>>,
    modified: SystemTime,
    version: u64,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<OsString, Stored>,
    left: Vec<(OsString, Vec<u8>)>,
    versions: u64,
    readers: usize,
    is_alone: bool,
}

impl State {
    fn put(&mut self, name: &OsStr, content: Vec<u8>) {
        self.versions += 1;
        let stored =
            Stored { content: Arc::new(content), modified: SystemTime::now(), version: self.versions };
        self.files.insert(name.to_owned(), stored);
    }
}

/// Files in memory. Clones are the same folder.
#[derive(Debug, Clone, Default)]
pub struct MemoryFolder(Arc<Mutex<State>>);

impl MemoryFolder {
    /// Makes an empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a file there, as another tool would.
    pub fn put(&self, name: &str, content: &[u8]) {
        self.state().put(name.as_ref(), content.to_vec());
    }

    /// Makes another folder with the same files.
    pub fn fork(&self) -> Self {
        let state = self.state();
        let (files, versions) = (state.files.clone(), state.versions);
        Self(Arc::new(Mutex::new(State { files, versions, ..State::default() })))
    }

    /// Returns a copy of all files.
    pub fn contents(&self) -> BTreeMap<OsString, Vec<u8>> {
        self.state().files.iter().map(|(name, file)| (name.clone(), file.content.to_vec())).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_at(file: &Stored) -> Look {
    Look {
        kind: FileKind::File,
        size_bytes: file.content.len() as u64,
        modified: file.modified,
        inode: None,
        version: Some(file.version.to_string()),
        has_other_names: false,
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Folder for MemoryFolder {
    fn location(&self) -> String {
        "memory:".to_owned()
    }

    fn location_of(&self, name: &OsStr) -> String {
        format!("memory:/{}", name.display())
    }

    fn local_path(&self) -> Option<&Path> {
        None
    }

    fn list(&self) -> io::Result<Vec<Listed>> {
        let state = self.state();
        let listed =
            state.files.iter().map(|(name, file)| Listed { name: name.clone(), look: Ok(look_at(file)) });
        Ok(listed.collect())
    }

    fn look(&self, name: &OsStr) -> io::Result<Look> {
        self.state().files.get(name).map(look_at).ok_or_else(missing)
    }

    fn open(&self, name: &OsStr, from: u64) -> io::Result<Box<dyn Read + Send>> {
        let content = self.state().files.get(name).ok_or_else(missing)?.content.to_vec();
        let mut reader = Cursor::new(content);
        reader.set_position(from);
        Ok(Box::new(reader))
    }

    fn below(&self, _name: &OsStr) -> Box<dyn Folder> {
        Box::new(Self::new())
    }

    fn create(&self, name: &OsStr) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(MemoryNew { folder: self.clone(), wanted: name.to_owned(), content: Some(vec![]) }))
    }

    fn leftovers(&self) -> io::Result<Vec<Leftover>> {
        let left = std::mem::take(&mut self.state().left);
        let taken = left.into_iter().map(|(name, content)| {
            let file = MemoryNew { folder: self.clone(), wanted: name.clone(), content: Some(content) };
            Leftover { name, file: Box::new(file) }
        });
        Ok(taken.collect())
    }

    fn removal(&self) -> io::Result<Box<dyn Removal>> {
        Ok(Box::new(MemoryRemoval(self.clone())))
    }

    fn try_lock(&self, kind: LockKind) -> Result<FolderGuard, LockRefused> {
        let mut state = self.state();
        if state.is_alone || (kind == LockKind::Exclusive && state.readers > 0) {
            return Err(LockRefused::Held);
        }
        match kind {
            LockKind::Exclusive => state.is_alone = true,
            LockKind::Shared => state.readers += 1,
        }
        Ok(FolderGuard::new(Held(self.clone(), kind)))
    }

    fn open_files(&self) -> OpenFiles {
        OpenFiles::default()
    }
}

struct Held(MemoryFolder, LockKind);

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.0.state();
        match self.1 {
            LockKind::Exclusive => state.is_alone = false,
            LockKind::Shared => state.readers -= 1,
        }
    }
}

struct MemoryNew {
    folder: MemoryFolder,
    wanted: OsString,
    content: Option<Vec<u8>>,
}

impl MemoryNew {
    fn content(&mut self) -> io::Result<&mut Vec<u8>> {
        self.content.as_mut().ok_or_else(|| io::Error::other("it has its name already"))
    }
}

impl Write for MemoryNew {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.content()?.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for MemoryNew {
    fn put_front(&mut self, front: &[u8]) -> io::Result<()> {
        let content = self.content()?;
        let length = front.len().min(content.len());
        content[..length].copy_from_slice(&front[..length]);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.content().map(drop)
    }

    fn read_back(&self) -> io::Result<Box<dyn Read + Send>> {
        let content = self.content.clone().ok_or_else(missing)?;
        Ok(Box::new(Cursor::new(content)))
    }

    fn name(&mut self, name: &OsStr) -> io::Result<bool> {
        let content = self.content()?.clone();
        let mut state = self.folder.state();
        if state.files.contains_key(name) {
            return Ok(false);
        }
        state.put(name, content);
        Ok(true)
    }

    fn name_over(mut self: Box<Self>, name: &OsStr) -> io::Result<()> {
        let content = self.content.take().ok_or_else(missing)?;
        self.folder.state().put(name, content);
        Ok(())
    }

    fn leave(mut self: Box<Self>) {
        if let Some(content) = self.content.take() {
            self.folder.state().left.push((self.wanted.clone(), content));
        }
    }
}

struct MemoryRemoval(MemoryFolder);

impl Removal for MemoryRemoval {
    fn remove(&mut self, name: &OsStr, seen: &Look) -> io::Result<Removed> {
        let mut state = self.0.state();
        match state.files.get(name) {
            None => Ok(Removed::Missing),
            Some(file) if !seen.is_same(&look_at(file)) => Ok(Removed::Changed),
            Some(_) => {
                state.files.remove(name);
                Ok(Removed::Done)
            }
        }
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}
