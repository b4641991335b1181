//! The disk model: what a power cut takes, and that it tells a careful writer from a careless one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::{LocalStorage, ObjectName, Storage, SystemFiles};
use testkit::crash::{Disk, FileOperation as Op, Lost, RecordedFiles, TRACED_CALLS, parse_strace};

fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(below, text)| (format!("{name}/{below}"), text)));
        } else {
            found.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    found
}

fn after(disk: &Disk, lost: Lost) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    disk.materialise(lost, folder.path()).unwrap();
    files(folder.path())
}

fn expect(found: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    let expected = expected.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    assert_eq!(*found, expected);
}

fn at(name: &str) -> PathBuf {
    Path::new("/root").join(name)
}

fn empty_disk() -> Disk {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("old"), "old").unwrap();
    let root = folder.path().to_owned();
    let mut disk = Disk::load(&root).unwrap();
    disk.apply(&Op::Remove { path: root.join("old") }).unwrap();
    disk
}

/// Applies operations written for `/root` to a disk that holds one durable file `old`.
fn replay(operations: &[Op]) -> Disk {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("old"), "old").unwrap();
    let mut disk = Disk::load(folder.path()).unwrap().moved_to(Path::new("/root"));
    for operation in operations {
        disk.apply(operation).unwrap();
    }
    disk
}

fn write(name: &str, text: &str) -> Op {
    Op::Write { path: at(name), offset: 0, bytes: text.as_bytes().to_vec() }
}

#[test]
fn nothing_is_durable_by_itself() {
    let disk = replay(&[Op::Create { path: at("new") }, write("new", "text")]);
    expect(&after(&disk, Lost::Everything), &[("old", "old")]);
    expect(&after(&disk, Lost::Content), &[("new", ""), ("old", "old")]);
    expect(&after(&disk, Lost::Names), &[("old", "old")]);
    expect(&after(&disk, Lost::Nothing), &[("new", "text"), ("old", "old")]);
}

#[test]
fn fsync_of_a_file_keeps_content_and_fsync_of_a_folder_keeps_names() {
    let mut operations = vec![Op::Create { path: at("new") }, write("new", "text")];
    operations.push(Op::Sync { path: at("new") });
    expect(&after(&replay(&operations), Lost::Everything), &[("old", "old")]);
    operations.push(Op::SyncFolder { path: at("") });
    expect(&after(&replay(&operations), Lost::Everything), &[("new", "text"), ("old", "old")]);
    operations.push(write("new", "TEXT"));
    expect(&after(&replay(&operations), Lost::Everything), &[("new", "text"), ("old", "old")]);
}

#[test]
fn a_rename_without_fsync_of_the_file_leaves_an_empty_one() {
    let careless = [
        Op::Create { path: at("temporary") },
        write("temporary", "new"),
        Op::Rename { from: at("temporary"), to: at("old") },
        Op::SyncFolder { path: at("") },
    ];
    expect(&after(&replay(&careless), Lost::Everything), &[("old", "")]);
}

#[test]
fn removal_truncation_links_and_exchange_are_lost_too() {
    let removed = replay(&[Op::Remove { path: at("old") }]);
    expect(&after(&removed, Lost::Everything), &[("old", "old")]);
    expect(&after(&removed, Lost::Nothing), &[]);
    let cut = replay(&[Op::Truncate { path: at("old"), size_bytes: 1 }]);
    expect(&after(&cut, Lost::Everything), &[("old", "old")]);
    expect(&after(&cut, Lost::Names), &[("old", "o")]);
    let linked = replay(&[Op::Link { from: at("old"), to: at("second") }, Op::SyncFolder { path: at("") }]);
    expect(&after(&linked, Lost::Everything), &[("old", "old"), ("second", "old")]);
    let exchanged = replay(&[
        Op::Create { path: at("new") },
        Op::SyncFolder { path: at("") },
        Op::Exchange { one: at("new"), other: at("old") },
    ]);
    expect(&after(&exchanged, Lost::Everything), &[("new", ""), ("old", "old")]);
    expect(&after(&exchanged, Lost::Nothing), &[("new", "old"), ("old", "")]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut disk = empty_disk().moved_to(Path::new("/root"));
    assert!(disk.apply(&Op::Sync { path: at("none") }).is_err());
    assert!(disk.apply(&Op::Create { path: at("no/folder") }).is_err());
    assert!(disk.apply(&Op::Rename { from: at("none"), to: PathBuf::from("/elsewhere") }).is_err());
    assert_eq!(disk.apply(&Op::Create { path: PathBuf::from("/elsewhere") }), Ok(()));
}

/// The promise of the local storage: each cut leaves no object or the whole one, and once `put` returned, the object.
#[test]
fn a_local_put_survives_a_cut_at_any_point() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::load(folder.path()).unwrap();
    let recorded = Arc::new(RecordedFiles::new(Arc::new(SystemFiles)));
    let storage = LocalStorage::open_with(folder.path(), recorded.clone()).unwrap();
    let names = ["data/ab/one", "data/ab/two", "data/cd/three", "config"];
    let mut returned = Vec::new();
    for name in names {
        storage.put(&ObjectName::new(name).unwrap(), &[name.as_bytes(), b" content"]).unwrap();
        returned.push((recorded.operations().len(), name));
    }
    storage.remove(&ObjectName::new("config").unwrap()).unwrap();
    let operations = recorded.operations();
    assert!(operations.len() > 20);
    for (done, operation) in operations.iter().enumerate() {
        disk.apply(operation).unwrap();
        for lost in Lost::ALL {
            let outcome = tempfile::tempdir().unwrap();
            disk.materialise(lost, outcome.path()).unwrap();
            let opened = LocalStorage::open(outcome.path()).unwrap();
            for object in opened.list("").unwrap() {
                let whole = format!("{} content", object.name);
                assert_eq!(opened.get(&object.name).unwrap(), whole.as_bytes(), "{lost:?} at {done}");
            }
            for (_, name) in returned.iter().filter(|(count, name)| *count <= done + 1 && *name != "config") {
                assert!(opened.get(&ObjectName::new(*name).unwrap()).is_ok(), "{name}, {lost:?} at {done}");
            }
        }
    }
    assert_eq!(after(&disk, Lost::Everything).len(), 3, "the removal is durable");
}

/// What a process does to files, seen through strace and applied to the model, is what lies in the folder then.
#[test]
fn a_traced_process_is_followed_to_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("kept"), "before").unwrap();
    let disk = Disk::load(&root).unwrap();
    let trace = folder.path().join("trace");
    let script = "r=$0; mkdir $r/sub; printf 'abc\\0\"d' > $r/sub/one; printf more >> $r/sub/one; \
        cp $r/kept $r/copy; ln $r/copy $r/linked; mv $r/sub/one $r/sub/two; rm $r/linked; \
        truncate -s 3 $r/kept; \
        dd if=$r/sub/two of=$r/copy bs=1 seek=2 conv=notrunc,fsync status=none; sync $r/sub; \
        sqlite3 $r/db.sqlite 'create table t (x); insert into t values (randomblob(9000)); delete from t;'; \
        (printf x > $r/p1; sync $r/p1) & (printf y > $r/p2; rm $r/p2) & wait";
    let status = std::process::Command::new("strace")
        .args(["-f", "-y", "-xx", "-s", "100000000", "-e", &format!("trace={TRACED_CALLS}"), "-o"])
        .arg(&trace)
        .args(["sh", "-c", script])
        .arg(&root)
        .status()
        .expect("strace runs");
    assert!(status.success());
    let operations = parse_strace(&std::fs::read_to_string(&trace).unwrap(), &disk).unwrap();
    let mut after_all = disk.clone();
    for operation in &operations {
        after_all.apply(operation).unwrap();
    }
    let outcome = tempfile::tempdir().unwrap();
    after_all.materialise(Lost::Nothing, outcome.path()).unwrap();
    for name in ["kept", "copy", "sub/two", "db.sqlite", "p1"] {
        let read = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
        assert_eq!(read(&root), read(outcome.path()), "{name}");
    }
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), std::fs::read_dir(outcome.path()).unwrap().count());
    let synced = |name: &str| operations.contains(&Op::Sync { path: root.join(name) });
    assert!(synced("copy") && synced("db.sqlite") && synced("p1") && !synced("kept"));
    assert!(operations.contains(&Op::SyncFolder { path: root.join("sub") }));
}
