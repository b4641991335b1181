//! Repositories that stock restic wrote, of both versions, and what opening one can run into.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flow::Secret;
use restic::{BlobWriter, CreateOptions, Depth, Id, OpenOptions, Repository, ResticErrorKind, WriterOptions};
use std::sync::Arc;
use storage::LocalStorage;
use support::{PASSWORD, Place, check, noise, read_all, rows};

fn reads_a_stock_repository(version: u32) {
    let place = Place::with_stock_repository(version);
    let files = [
        ("big", noise(12 << 20, 4)),
        ("empty", Vec::new()),
        ("rows", rows(5_000_000, 5)),
        ("small", b"small".to_vec()),
    ];
    std::fs::create_dir(place.path("source")).unwrap();
    for (name, content) in &files {
        std::fs::write(place.path("source").join(name), content).unwrap();
    }
    place.restic(&["backup", "source", "--tag", "one,two"]);
    place.restic(&["backup", "source", "--host", "elsewhere"]);

    let repository = place.open();
    assert_eq!(repository.version(), version);
    let snapshots = repository.snapshots().unwrap();
    assert_eq!(snapshots.len(), 2);
    assert_eq!(snapshots[0].1.tags, ["one", "two"]);
    assert_eq!(snapshots[1].1.hostname, "elsewhere");
    let index = Arc::new(repository.load_index().unwrap());
    for (id, snapshot) in &snapshots {
        assert_eq!(repository.resolve_snapshot(&id.short()).unwrap(), *id);
        let read = read_all(&repository, &index, &snapshot.tree);
        let read: Vec<_> = read.into_iter().filter(|(path, _)| path.contains("/source/")).collect();
        assert_eq!(read.len(), files.len());
        for ((path, content), (name, expected)) in read.iter().zip(&files) {
            assert!(path.ends_with(name) && content.as_ref().unwrap() == expected, "{path}");
        }
    }
    let blobs = repository.blobs_of(&index, &snapshots[0].1.tree).unwrap();
    let verified =
        restic::verify_blobs(&repository, &index, &blobs, 2, &flow::Cancel::new(), &|_| {}).unwrap();
    assert!(verified.errors.is_empty());
    assert_eq!(verified.blobs, blobs.len() as u64);
    assert_eq!(check(&repository, Depth::Data).errors, vec![]);
}

#[test]
fn a_stock_repository_of_version_2_is_read() {
    reads_a_stock_repository(2);
}

#[test]
fn a_stock_repository_of_version_1_is_read_and_not_written() {
    reads_a_stock_repository(1);
    let place = Place::with_stock_repository(1);
    let repository = place.open();
    let index = Arc::new(repository.load_index().unwrap());
    let error = BlobWriter::begin(repository, index, WriterOptions::default()).unwrap_err();
    assert_eq!(error.kind, ResticErrorKind::Unsupported);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let open = |path: &std::path::Path, password: &str| {
        let storage = Arc::new(LocalStorage::open(path).unwrap());
        Repository::open(storage, &Secret::new(password), OpenOptions::default()).unwrap_err()
    };
    let (place, _) = Place::with_our_repository();
    assert_eq!(open(&place.repo(), "Geheim").kind, ResticErrorKind::WrongPassword);
    assert!(open(&place.repo(), "Geheim").to_string().starts_with(place.repo().to_str().unwrap()));
    assert_eq!(open(place.folder.path(), PASSWORD).kind, ResticErrorKind::NotFound);

    let storage = Arc::new(LocalStorage::open(place.repo()).unwrap());
    let again = Repository::create(storage, &Secret::new("x"), CreateOptions::default()).unwrap_err();
    assert_eq!(again.kind, ResticErrorKind::Exists);

    let mut config = std::fs::read(place.repo().join("config")).unwrap();
    config[20] ^= 1;
    let file = place.repo().join("config");
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, config).unwrap();
    let error = open(&place.repo(), PASSWORD);
    assert_eq!(error.kind, ResticErrorKind::Damaged);
    assert!(error.object.starts_with("config in "));
}

#[test]
fn any_of_several_passwords_opens() {
    let (place, _) = Place::with_our_repository();
    std::fs::write(place.path("new"), "another").unwrap();
    place.restic(&["key", "add", "--new-password-file", place.path("new").to_str().unwrap()]);
    for password in [PASSWORD, "another"] {
        let storage = Arc::new(LocalStorage::open(place.repo()).unwrap());
        Repository::open(storage, &Secret::new(password), OpenOptions::default()).unwrap();
    }
}

#[test]
fn a_prefix_names_one_snapshot() {
    let place = Place::with_test_data("restic-small-repo.tar.gz");
    let repository = place.open();
    let snapshots = repository.snapshots().unwrap();
    assert!(!snapshots.is_empty());
    let error = repository.resolve_snapshot("zz").unwrap_err();
    assert_eq!(error.kind, ResticErrorKind::NotFound);
    assert_eq!(repository.resolve_snapshot("").unwrap_err().kind, ResticErrorKind::NotFound);
    let unknown = Id::of(b"unknown");
    assert_eq!(repository.snapshot(&unknown).unwrap_err().kind, ResticErrorKind::NotFound);
    assert_eq!(repository.remove_snapshot(&unknown).unwrap_err().kind, ResticErrorKind::NotFound);
    repository.remove_snapshot(&snapshots[0].0).unwrap();
    assert_eq!(repository.snapshots().unwrap().len(), snapshots.len() - 1);
}

#[test]
fn the_cache_may_be_damaged_deleted_or_unwritable() {
    let place = Place::with_stock_repository(2);
    std::fs::write(place.path("file"), rows(1_000_000, 1)).unwrap();
    place.restic(&["backup", "file"]);
    let cache = place.path("cache");
    let load = |cache: &std::path::Path| {
        let repository = place.open_with(OpenOptions { cache: Some(cache.to_owned()) });
        (repository.snapshots().unwrap(), repository.load_index().unwrap().len())
    };
    let expected = load(&place.path("none"));
    assert_eq!(load(&cache), expected);
    let copies = |cache: &std::path::Path| -> Vec<std::path::PathBuf> {
        let repository = std::fs::read_dir(cache).unwrap().next().unwrap().unwrap().path();
        ["index", "snapshots"]
            .iter()
            .flat_map(|folder| std::fs::read_dir(repository.join(folder)).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect()
    };
    assert_eq!(copies(&cache).len(), 2);
    // The copies are used: without the originals, what is listed is still read.
    for (damage, name) in [(0usize, "cut"), (1, "flipped")] {
        for copy in copies(&cache) {
            let mut content = std::fs::read(&copy).unwrap();
            if damage == 0 {
                content.truncate(10);
            } else {
                content[40] ^= 1;
            }
            std::fs::write(&copy, content).unwrap();
        }
        assert_eq!(load(&cache), expected, "{name}");
    }
    assert_eq!(copies(&cache).len(), 2);
    for object in place.objects("index") {
        // An object whose content differs shows that it is the copy that is read.
        std::fs::remove_file(&object).unwrap();
        std::fs::write(&object, b"not read while there is a copy").unwrap();
    }
    assert_eq!(load(&cache), expected);
    std::fs::write(place.path("no folder"), b"").unwrap();
    let repository = place.open_with(OpenOptions { cache: Some(place.path("no folder")) });
    assert_eq!(repository.snapshots().unwrap(), expected.0);
    assert_eq!(repository.load_index().unwrap_err().kind, ResticErrorKind::Damaged);
}
