//! File operations that write down what they do.

use super::FileOperation;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use storage::FileOperations;

#[derive(Default)]
struct Log {
    operations: Vec<FileOperation>,
    offsets: HashMap<PathBuf, u64>,
}

/// Passes file operations on and records those that succeeded, in order.
pub struct RecordedFiles {
    inner: Arc<dyn FileOperations>,
    log: Mutex<Log>,
}

impl RecordedFiles {
    /// Records what is done through `inner`.
    pub fn new(inner: Arc<dyn FileOperations>) -> Self {
        Self { inner, log: Mutex::default() }
    }

    /// Returns what was recorded so far.
    pub fn operations(&self) -> Vec<FileOperation> {
        self.log().operations.clone()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something and records it as one step, so that the order is that of the disk.
    fn record<T>(
        &self,
        call: impl FnOnce() -> io::Result<T>,
        operation: impl FnOnce(&mut Log) -> FileOperation,
    ) -> io::Result<T> {
        let mut log = self.log();
        let done = call()?;
        let operation = operation(&mut log);
        log.operations.push(operation);
        Ok(done)
    }
}

impl FileOperations for RecordedFiles {
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.record(
            || self.inner.create_new(path, mode),
            |log| {
                log.offsets.insert(path.to_owned(), 0);
                FileOperation::Create { path: path.to_owned() }
            },
        )
    }

    fn write(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.record(
            || self.inner.write(file, path, bytes),
            |log| {
                let position = log.offsets.entry(path.to_owned()).or_default();
                let offset = *position;
                *position += bytes.len() as u64;
                FileOperation::Write { path: path.to_owned(), offset, bytes: bytes.to_vec() }
            },
        )
    }

    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        self.record(|| self.inner.sync_file(file, path), |_| FileOperation::Sync { path: path.to_owned() })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let operation = |_: &mut Log| FileOperation::SyncFolder { path: path.to_owned() };
        self.record(|| self.inner.sync_folder(path), operation)
    }

    fn make_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        let operation = |_: &mut Log| FileOperation::MakeFolder { path: path.to_owned() };
        self.record(|| self.inner.make_folder(path, mode), operation)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let operation = |_: &mut Log| FileOperation::Rename { from: from.to_owned(), to: to.to_owned() };
        self.record(|| self.inner.rename_new(from, to), operation)
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        let operation = |_: &mut Log| FileOperation::Rename { from: from.to_owned(), to: to.to_owned() };
        self.record(|| self.inner.rename_over(from, to), operation)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.record(|| self.inner.remove_file(path), |_| FileOperation::Remove { path: path.to_owned() })
    }
}
