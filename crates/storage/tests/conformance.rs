//! The local storage keeps every promise of a storage, and a `put` that fails anywhere leaves no object.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use storage::{FileOperations, LocalStorage, ObjectName, Storage, StorageErrorKind, SystemFiles};
use testkit::{FreshStorage, MemoryStorage, storage_conformance};

#[test]
fn local_storage_keeps_every_promise() {
    storage_conformance(|| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("repository");
        let storage = Arc::new(LocalStorage::create(&root).unwrap());
        FreshStorage::new(storage, folder).reopened_by(move || Arc::new(LocalStorage::open(&root).unwrap()))
    });
}

#[test]
fn memory_storage_keeps_every_promise() {
    storage_conformance(|| FreshStorage::new(Arc::new(MemoryStorage::new()), ()));
}

/// Fails the call of that number, and all after it where the disk is to stay broken.
struct FailingFiles {
    calls: AtomicUsize,
    fails_at: usize,
    for_good: bool,
}

impl FailingFiles {
    fn gate(&self) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if call == self.fails_at || (self.for_good && call > self.fails_at) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }
}

impl FileOperations for FailingFiles {
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.gate().and_then(|()| SystemFiles.create_new(path, mode))
    }
    fn write(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.gate() {
            SystemFiles.write(file, path, &bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        SystemFiles.write(file, path, bytes)
    }
    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        self.gate().and_then(|()| SystemFiles.sync_file(file, path))
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.gate().and_then(|()| SystemFiles.sync_folder(path))
    }
    fn make_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.gate().and_then(|()| SystemFiles.make_folder(path, mode))
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate().and_then(|()| SystemFiles.rename_new(from, to))
    }
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate().and_then(|()| SystemFiles.rename_over(from, to))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.gate().and_then(|()| SystemFiles.remove_file(path))
    }
}

#[test]
fn a_put_that_fails_anywhere_leaves_no_object_or_the_whole_one() {
    let name = ObjectName::new("data/ab/one").unwrap();
    let content: &[&[u8]] = &[b"first half, ", b"second half"];
    for for_good in [false, true] {
        let mut failed = 0;
        for fails_at in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let files = Arc::new(FailingFiles { calls: AtomicUsize::new(0), fails_at, for_good });
            let storage = LocalStorage::open_with(folder.path(), files.clone()).unwrap();
            let result = storage.put(&name, content);
            let listed = LocalStorage::open(folder.path()).unwrap().list("").unwrap();
            match &result {
                Ok(()) => assert_eq!(storage.get(&name).unwrap(), content.concat()),
                Err(error) => {
                    failed += 1;
                    assert_eq!(error.kind, StorageErrorKind::Full, "{error}");
                    // Only a disk that also refuses to take the name back leaves the whole object.
                    assert!(listed.is_empty() || for_good, "call {fails_at} left {listed:?}");
                    if !listed.is_empty() {
                        assert_eq!(storage.get(&name).unwrap(), content.concat());
                    }
                }
            }
            if !for_good {
                // A second try on a disk that works again succeeds, or finds the first one's object.
                let again = storage.put(&name, content);
                assert_eq!(again.is_ok(), result.is_err(), "after call {fails_at}: {again:?}");
            }
            if files.calls.load(Ordering::SeqCst) <= fails_at {
                break;
            }
        }
        assert!(failed >= 9, "only {failed} calls failed");
    }
}

#[test]
fn the_order_of_calls_makes_a_put_durable() {
    use testkit::crash::{FileOperation as Op, RecordedFiles};
    let folder = tempfile::tempdir().unwrap();
    let files = Arc::new(RecordedFiles::new(Arc::new(SystemFiles)));
    let storage = LocalStorage::open_with(folder.path(), files.clone()).unwrap();
    storage.put(&ObjectName::new("data/ab/one").unwrap(), &[b"x"]).unwrap();
    let kinds: Vec<&str> = files
        .operations()
        .iter()
        .map(|operation| match operation {
            Op::MakeFolder { .. } => "make",
            Op::SyncFolder { .. } => "sync folder",
            Op::Create { .. } => "create",
            Op::Write { .. } => "write",
            Op::Sync { .. } => "sync",
            Op::Rename { .. } => "rename",
            _ => "other",
        })
        .collect();
    let expected =
        ["make", "sync folder", "make", "sync folder", "create", "write", "sync", "rename", "sync folder"];
    assert_eq!(kinds, expected);
}
