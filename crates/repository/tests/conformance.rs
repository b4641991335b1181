//! The restic layout held to every promise of its seams, by the suites that the fakes pass too.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use flow::Layout;
use repository::restic_layout::ResticLayout;
use repository::{BackupId, Repository};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{Bench, database, dumped, entry, noise, pages, part};
use testkit::{FreshRepository, StoredBackup, reader_conformance, repository_conformance};

#[test]
fn the_restic_layout_keeps_every_promise_of_a_repository() {
    repository_conformance(|| {
        let bench = Bench::new();
        let root = bench.folder.path().to_owned();
        let (again, damaged, hidden) = (root.clone(), root.clone(), root);
        FreshRepository {
            repository: Arc::new(bench.open()),
            reopen: Box::new(move || Arc::new(open(&again)) as Arc<dyn Repository>),
            context: bench.context.clone(),
            damage: Some(Box::new(move |id| damage(&damaged, id))),
            hide: Some(Box::new(move |id| hide(&hidden, id))),
            keep: Box::new(bench),
        }
    });
}

#[test]
fn its_backups_keep_every_promise_of_a_reader() {
    reader_conformance(|| {
        let bench = Bench::new();
        let database = database("/srv/a.db");
        let content = BTreeMap::from([
            (entry("database.sqlite"), noise(1, 5 << 20)),
            (entry("data/rows.txt"), noise(2, 2_000_001)),
            (entry("empty"), vec![]),
        ]);
        let repository = bench.open();
        let writer = repository.begin(bench.request(), &bench.context).unwrap();
        for (index, piece) in content[&entry("database.sqlite")].chunks(1 << 20).enumerate() {
            writer.part(part(&database, "database.sqlite", pages(), index as u32, piece)).unwrap();
        }
        writer
            .part(part(&database, "data/rows.txt", Layout::Rows, 0, &content[&entry("data/rows.txt")]))
            .unwrap();
        let entries = [
            ("database.sqlite", pages(), 5),
            ("data/rows.txt", Layout::Rows, 1),
            ("empty", Layout::Opaque, 0),
        ];
        writer.done(&database, dumped(&entries)).unwrap();
        let report = writer.commit().unwrap();
        let id = report.databases[0].record.id.clone();
        let root = bench.folder.path().to_owned();
        StoredBackup {
            reader: bench.open().open(&id, &bench.context).unwrap(),
            content,
            damage: Some(Box::new(move || damage_data(&root))),
            keep: Box::new(bench),
        }
    });
}

fn open(root: &Path) -> ResticLayout {
    let storage = Arc::new(storage::LocalStorage::open(root.join("repository")).unwrap());
    ResticLayout::open(storage, &flow::Secret::new("geheim"), support::options()).unwrap()
}

/// Flips a bit in every pack of data blobs that the newest backup needs: here, in the largest pack.
fn damage(root: &Path, _id: &BackupId) {
    damage_data(root);
}

/// Flips bits all over the packs that are larger than trees and lists are here.
fn damage_data(root: &Path) {
    let folders = std::fs::read_dir(root.join("repository/data")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let packs: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    let largest = packs.iter().map(|pack| pack.metadata().unwrap().len()).max().unwrap();
    for pack in packs.iter().filter(|pack| pack.metadata().unwrap().len() * 2 > largest) {
        let mut bytes = std::fs::read(pack).unwrap();
        let end = bytes.len() - bytes.len() / 10;
        for at in (0..end).step_by(997) {
            bytes[at] ^= 1;
        }
        std::fs::write(pack, bytes).unwrap();
    }
}

/// Removes the pack with the folders of the run that made a backup.
fn hide(root: &Path, id: &BackupId) {
    let storage = Arc::new(storage::LocalStorage::open(root.join("repository")).unwrap());
    let options = restic::OpenOptions::default();
    let repository = restic::Repository::open(storage, &flow::Secret::new("geheim"), options).unwrap();
    let tree = repository.snapshot(&id.0.parse().unwrap()).unwrap().tree;
    let index = repository.load_index().unwrap();
    let pack = index.find(restic::BlobKind::Tree, &tree).unwrap().pack.to_string();
    std::fs::remove_file(root.join("repository/data").join(&pack[..2]).join(&pack)).unwrap();
}
