//! What the local storage promises beyond the seam: modes, leftovers, folders, kinds of errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use storage::{LocalStorage, ObjectName, Storage, StorageErrorKind, atomic_write};

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn open_makes_nothing_and_create_refuses_what_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a/b");
    assert_eq!(LocalStorage::open(&root).err().unwrap().kind, StorageErrorKind::Missing);
    assert!(!folder.path().join("a").exists());
    let storage = LocalStorage::create(&root).unwrap();
    assert_eq!((mode(&root), mode(&folder.path().join("a"))), (0o700, 0o700));
    LocalStorage::create(&root).unwrap();
    storage.put(&name("config"), &[b"x"]).unwrap();
    assert_eq!(LocalStorage::create(&root).err().unwrap().kind, StorageErrorKind::Exists);
    let file = LocalStorage::open(root.join("config")).err().unwrap();
    assert!(file.to_string().ends_with("/a/b/config: it is no folder"), "{file}");
}

#[test]
fn files_and_folders_are_for_the_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(folder.path()).unwrap();
    storage.put(&name("data/ab/abcd"), &[b"x"]).unwrap();
    assert_eq!(mode(&folder.path().join("data")), 0o700);
    assert_eq!(mode(&folder.path().join("data/ab")), 0o700);
    assert_eq!(mode(&folder.path().join("data/ab/abcd")), 0o600);
}

#[test]
fn leftovers_are_hidden_and_go_when_they_are_old() {
    let folder = tempfile::tempdir().unwrap();
    let (old, young) = (folder.path().join(".backstay-00.tmp"), folder.path().join(".backstay-01.tmp"));
    let other = folder.path().join(".somebody-elses");
    let before = SystemTime::now() - Duration::from_secs(2 * 3600);
    for path in [&old, &other] {
        File::create(path).unwrap().set_modified(before).unwrap();
    }
    File::create(&young).unwrap();
    let storage = LocalStorage::open(folder.path()).unwrap();
    assert!(storage.list("").unwrap().is_empty());
    assert!(old.exists(), "opening and listing change nothing");
    storage.put(&name("config"), &[b"x"]).unwrap();
    assert_eq!((old.exists(), young.exists(), other.exists()), (false, true, true));
    assert_eq!(storage.list("").unwrap().len(), 1);
}

#[test]
fn a_folder_that_vanished_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(folder.path()).unwrap();
    storage.put(&name("data/ab/one"), &[b"x"]).unwrap();
    std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    storage.put(&name("data/ab/two"), &[b"y"]).unwrap();
    assert_eq!(storage.get(&name("data/ab/two")).unwrap(), b"y");
}

#[test]
fn a_root_that_vanished_is_not_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let storage = LocalStorage::create(&root).unwrap();
    assert!(storage.list("data").unwrap().is_empty());
    std::fs::remove_dir(&root).unwrap();
    for list in [storage.list(""), storage.list("data")] {
        assert_eq!(list.unwrap_err().kind, StorageErrorKind::Missing);
    }
    assert_eq!(storage.put(&name("x"), &[b"x"]).unwrap_err().kind, StorageErrorKind::Missing);
}

#[test]
fn a_file_in_the_place_of_a_folder_is_no_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(folder.path()).unwrap();
    std::fs::write(folder.path().join("data"), b"").unwrap();
    let error = storage.put(&name("data/ab/one"), &[b"x"]).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Failed, "{error}");
    assert!(error.to_string().contains("data/ab/one"), "{error}");
}

#[test]
fn atomic_write_replaces_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    atomic_write(&path, b"one", 0o600).unwrap();
    atomic_write(&path, b"two", 0o600).unwrap();
    assert_eq!((std::fs::read(&path).unwrap(), mode(&path)), (b"two".to_vec(), 0o600));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let missing = atomic_write(&folder.path().join("no/key"), b"x", 0o600).unwrap_err();
    assert_eq!(missing.kind, StorageErrorKind::Missing);
    assert!(missing.to_string().contains("no/key"), "{missing}");
}
