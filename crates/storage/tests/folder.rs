//! A local folder and one in memory keep every promise of a folder of plain files, and the suite sees one that does not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use storage::{
    Folder, FolderGuard, Leftover, Listed, LocalFolder, LockKind, LockRefused, Look, NewFile, OpenFiles,
    Removal, Removed,
};
use testkit::{FreshFolder, MemoryFolder, assert_caught, broken_folder_promises, folder_conformance};

#[test]
fn a_local_folder_keeps_every_promise() {
    folder_conformance(|| {
        let folder = tempfile::tempdir().unwrap();
        FreshFolder::new(Arc::new(LocalFolder::new(folder.path())), folder)
    });
}

#[test]
fn a_folder_in_memory_keeps_every_promise() {
    folder_conformance(|| FreshFolder::new(Arc::new(MemoryFolder::new()), ()));
}

/// Removes whatever bears the name, gives no lock that holds, and leaves nothing to who comes next.
#[derive(Debug)]
struct Careless(MemoryFolder);

struct CarelessRemoval(MemoryFolder, Box<dyn Removal>);

impl Removal for CarelessRemoval {
    fn remove(&mut self, name: &OsStr, _seen: &Look) -> io::Result<Removed> {
        match self.0.look(name) {
            Ok(now) => self.1.remove(name, &now),
            Err(_) => Ok(Removed::Missing),
        }
    }
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.1.finish()
    }
}

impl Folder for Careless {
    fn location(&self) -> String {
        self.0.location()
    }
    fn location_of(&self, name: &OsStr) -> String {
        self.0.location_of(name)
    }
    fn local_path(&self) -> Option<&Path> {
        None
    }
    fn list(&self) -> io::Result<Vec<Listed>> {
        self.0.list()
    }
    fn look(&self, name: &OsStr) -> io::Result<Look> {
        self.0.look(name)
    }
    fn open(&self, name: &OsStr, _from: u64) -> io::Result<Box<dyn Read + Send>> {
        self.0.open(name, 0)
    }
    fn below(&self, _name: &OsStr) -> Box<dyn Folder> {
        Box::new(self.0.clone())
    }
    fn create(&self, name: &OsStr) -> io::Result<Box<dyn NewFile>> {
        self.0.create(name)
    }
    fn leftovers(&self) -> io::Result<Vec<Leftover>> {
        Ok(vec![])
    }
    fn removal(&self) -> io::Result<Box<dyn Removal>> {
        Ok(Box::new(CarelessRemoval(self.0.clone(), self.0.removal()?)))
    }
    fn try_lock(&self, _kind: LockKind) -> Result<FolderGuard, LockRefused> {
        Ok(FolderGuard::new(()))
    }
    fn open_files(&self) -> OpenFiles {
        OpenFiles::default()
    }
}

#[test]
fn a_careless_folder_is_caught() {
    let broken = broken_folder_promises(|| FreshFolder::new(Arc::new(Careless(MemoryFolder::new())), ()));
    for promise in [
        "remove leaves what is not what was seen",
        "one may remove while none reads",
        "what is left is taken over by one",
        "open begins where it is told to",
        "a folder in it is another one",
    ] {
        assert_caught(&broken, promise);
    }
    assert_eq!(broken.len(), 6, "{broken:?}");
}
