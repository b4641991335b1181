//! A folder of plain files one of whose calls fails: the nth, or that one and all behind it.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use storage::{
    Folder, FolderGuard, Leftover, Listed, LockKind, LockRefused, Look, NewFile, OpenFiles, Removal, Removed,
};

/// Counts calls, and fails the one that is meant.
#[derive(Debug)]
struct Gate {
    calls: AtomicU64,
    fails_at: u64,
    for_good: bool,
}

impl Gate {
    fn pass(&self) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if call == self.fails_at || (self.for_good && call > self.fails_at) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// Passes calls on, but for those that fail. Those of the files that are read and written in it count too.
#[derive(Debug)]
pub struct FaultyFolder {
    inner: Arc<dyn Folder>,
    gate: Arc<Gate>,
}

impl FaultyFolder {
    /// Wraps a folder whose call of that number (0 is the first) fails, and all behind it where it does so for good.
    pub fn new(inner: Arc<dyn Folder>, fails_at: u64, for_good: bool) -> Self {
        Self { inner, gate: Arc::new(Gate { calls: AtomicU64::new(0), fails_at, for_good }) }
    }

    /// Returns how many calls there were.
    pub fn calls(&self) -> u64 {
        self.gate.calls.load(Ordering::SeqCst)
    }

    fn new_file(&self, inner: Box<dyn NewFile>) -> Box<dyn NewFile> {
        Box::new(FaultyNew { inner, gate: Arc::clone(&self.gate) })
    }
}

impl Folder for FaultyFolder {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn location_of(&self, name: &OsStr) -> String {
        self.inner.location_of(name)
    }

    fn local_path(&self) -> Option<&Path> {
        self.inner.local_path()
    }

    fn list(&self) -> io::Result<Vec<Listed>> {
        self.gate.pass().and_then(|()| self.inner.list())
    }

    fn look(&self, name: &OsStr) -> io::Result<Look> {
        self.gate.pass().and_then(|()| self.inner.look(name))
    }

    fn look_behind(&self, name: &OsStr) -> io::Result<Look> {
        self.gate.pass().and_then(|()| self.inner.look_behind(name))
    }

    fn open(&self, name: &OsStr, from: u64) -> io::Result<Box<dyn Read + Send>> {
        self.gate.pass()?;
        Ok(Box::new(FaultyReader(self.inner.open(name, from)?, Arc::clone(&self.gate))))
    }

    fn below(&self, name: &OsStr) -> Box<dyn Folder> {
        Box::new(Self { inner: Arc::from(self.inner.below(name)), gate: Arc::clone(&self.gate) })
    }

    fn create(&self, name: &OsStr) -> io::Result<Box<dyn NewFile>> {
        self.gate.pass()?;
        Ok(self.new_file(self.inner.create(name)?))
    }

    fn leftovers(&self) -> io::Result<Vec<Leftover>> {
        self.gate.pass()?;
        let left = self.inner.leftovers()?.into_iter();
        Ok(left.map(|Leftover { name, file }| Leftover { name, file: self.new_file(file) }).collect())
    }

    fn removal(&self) -> io::Result<Box<dyn Removal>> {
        self.gate.pass()?;
        Ok(Box::new(FaultyRemoval(self.inner.removal()?, Arc::clone(&self.gate))))
    }

    fn try_lock(&self, kind: LockKind) -> Result<FolderGuard, LockRefused> {
        self.gate.pass().map_err(LockRefused::Unreadable)?;
        self.inner.try_lock(kind)
    }

    fn open_files(&self) -> OpenFiles {
        self.inner.open_files()
    }
}

struct FaultyReader(Box<dyn Read + Send>, Arc<Gate>);

impl Read for FaultyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.pass().and_then(|()| self.0.read(buffer))
    }
}

struct FaultyNew {
    inner: Box<dyn NewFile>,
    gate: Arc<Gate>,
}

impl Write for FaultyNew {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.gate.pass() {
            self.inner.write_all(&buffer[..buffer.len() / 2])?;
            return Err(error);
        }
        self.inner.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl NewFile for FaultyNew {
    fn put_front(&mut self, front: &[u8]) -> io::Result<()> {
        self.gate.pass().and_then(|()| self.inner.put_front(front))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.gate.pass().and_then(|()| self.inner.sync())
    }

    fn read_back(&self) -> io::Result<Box<dyn Read + Send>> {
        self.gate.pass()?;
        Ok(Box::new(FaultyReader(self.inner.read_back()?, Arc::clone(&self.gate))))
    }

    fn name(&mut self, name: &OsStr) -> io::Result<bool> {
        self.gate.pass().and_then(|()| self.inner.name(name))
    }

    fn name_over(self: Box<Self>, name: &OsStr) -> io::Result<()> {
        match self.gate.pass() {
            Ok(()) => self.inner.name_over(name),
            Err(error) => {
                self.inner.leave();
                Err(error)
            }
        }
    }

    fn leave(self: Box<Self>) {
        self.inner.leave();
    }
}

struct FaultyRemoval(Box<dyn Removal>, Arc<Gate>);

impl Removal for FaultyRemoval {
    fn remove(&mut self, name: &OsStr, seen: &Look) -> io::Result<Removed> {
        self.1.pass().and_then(|()| self.0.remove(name, seen))
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.1.pass().and_then(|()| self.0.finish())
    }
}
