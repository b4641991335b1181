//! The restic layout keeps every promise of a repository.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use flow::{Context, ScratchDir, Secret};
use repository::restic_layout::{LockOwner, ResticLayout, ResticOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::LocalStorage;
use testkit::{FreshRepository, repository_conformance};

fn options() -> ResticOptions {
    let (host, user) = ("host".to_owned(), "tester".to_owned());
    ResticOptions::new(LockOwner { host, user, pid: std::process::id(), uid: 0, gid: 0 })
}

fn packs(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { packs(&path) } else { vec![path] }).collect()
}

/// Flips a byte in the middle of the largest pack, which holds the content.
fn damage(root: &Path) {
    let largest = packs(&root.join("data")).into_iter().max_by_key(|path| path.metadata().unwrap().len());
    let path = largest.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn the_restic_layout_keeps_every_promise() {
    repository_conformance(|| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("repository");
        let password = Secret::new("correct horse");
        let storage = Arc::new(LocalStorage::create(&root).unwrap());
        let layout = ResticLayout::create(storage, &password, options()).unwrap();
        let again = root.clone();
        FreshRepository {
            repository: Arc::new(layout),
            reopen: Box::new(move || {
                let storage = Arc::new(LocalStorage::open(&again).unwrap());
                Arc::new(ResticLayout::open(storage, &password, options()).unwrap())
            }),
            context: Context::quiet(ScratchDir::new(folder.path().join("scratch"))),
            damage: Some(Box::new(move |_| damage(&root))),
            keep: Box::new(folder),
        }
    });
}
