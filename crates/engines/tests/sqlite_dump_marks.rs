//! An unchanged database is not read at all, and no change goes unnoticed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod pull;

use engines::{Engine, sqlite::SqliteEngine};
use flow::{DatabaseName, Dumped, Previous};
use pull::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Makes a database and its first backup, as if that had been taken later than it was: what two seconds of waiting
/// would give.
fn first_backup(folder: &Path, mode: &str) -> (PathBuf, Previous) {
    let path = folder.join("app.db");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "journal_mode", mode).unwrap();
    fill(&connection, "orders", 100);
    drop(connection);
    let (_, dumped) = image_of(&path, &context(folder));
    (path, settled(&dumped))
}

fn settled(dumped: &Dumped) -> Previous {
    let mut previous = previous(dumped);
    previous.marks.read_at += Duration::from_secs(10);
    previous
}

fn second_backup(path: &Path, previous: &Previous) -> Outcome {
    let folder = path.parent().unwrap();
    pull(&request(path, Some(previous.clone())), &context(folder)).unwrap().pop_first().unwrap().1
}

#[test]
fn an_unchanged_database_is_not_opened() {
    for mode in ["DELETE", "WAL"] {
        let folder = tempfile::tempdir().unwrap();
        let (path, previous) = first_backup(folder.path(), mode);
        // Locked against every reader: whoever opens it fails.
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
        let outcome = second_backup(&path, &previous);
        assert_eq!(outcome.unchanged.expect(mode).marks.value, previous.marks.value);
    }
}

#[test]
fn read_all_reads_what_seems_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let (path, previous) = first_backup(folder.path(), "DELETE");
    let mut request = request(&path, Some(previous));
    request.options.read_all = true;
    let outcome = pull(&request, &context(folder.path())).unwrap().pop_first().unwrap().1;
    assert!(outcome.unchanged.is_none() && outcome.verdict.is_ok());
}

#[test]
fn marks_taken_right_after_a_change_prove_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut young) = first_backup(folder.path(), "DELETE");
    young.marks.read_at -= Duration::from_secs(10);
    assert!(second_backup(&path, &young).unchanged.is_none());
}

#[test]
fn a_change_that_keeps_the_size_and_sets_the_time_back_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, previous) = first_backup(folder.path(), "DELETE");
    let reference = folder.path().join("reference");
    let touch = |from: &Path, to: &Path| {
        assert!(Command::new("touch").arg("-r").arg(from).arg(to).status().unwrap().success());
    };
    fs::write(&reference, b"").unwrap();
    touch(&path, &reference);
    let size = fs::metadata(&path).unwrap().len();
    let connection = Connection::open(&path).unwrap();
    connection.execute("UPDATE orders SET amount=1 WHERE id=1", []).unwrap();
    drop(connection);
    touch(&reference, &path);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), size);
    assert_eq!(metadata.modified().unwrap(), fs::metadata(&reference).unwrap().modified().unwrap());
    assert!(second_backup(&path, &previous).unchanged.is_none());
}

#[test]
fn a_commit_that_is_only_in_the_wal_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, previous) = first_backup(folder.path(), "WAL");
    let file = fs::read(&path).unwrap();
    let connection = Connection::open(&path).unwrap();
    connection.execute("UPDATE orders SET amount=1 WHERE id=1", []).unwrap();
    assert!(fs::read(&path).unwrap() == file, "the commit must be in the -wal alone");
    let outcome = second_backup(&path, &previous);
    assert!(outcome.unchanged.is_none());
    // And the next one, in the same -wal, too.
    let previous = settled(&outcome.verdict.unwrap());
    let third = second_backup(&path, &previous);
    assert!(third.unchanged.is_some(), "{:?}", previous.marks);
    connection.execute("UPDATE orders SET amount=2 WHERE id=1", []).unwrap();
    assert!(second_backup(&path, &previous).unchanged.is_none());
}

#[test]
fn a_file_swapped_by_rename_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, previous) = first_backup(folder.path(), "DELETE");
    let other = folder.path().join("other.db");
    assert!(Command::new("cp").arg("-p").arg(&path).arg(&other).status().unwrap().success());
    fs::rename(&other, &path).unwrap();
    assert!(second_backup(&path, &previous).unchanged.is_none());
}

#[test]
fn the_cut_of_the_previous_backup_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (path, previous) = first_backup(folder.path(), "DELETE");
    let connection = Connection::open(&path).unwrap();
    fill(&connection, "orders", 10);
    drop(connection);
    let dumped = second_backup(&path, &previous).verdict.unwrap();
    assert_eq!(dumped.entries.values().next().unwrap().0, previous.manifest().unwrap().entries[0].layout);
}

#[test]
fn in_a_folder_what_is_known_is_not_looked_into_and_what_broke_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (path, known) = first_backup(folder.path(), "DELETE");
    // No database: whoever looks into it passes it over.
    let text = folder.path().join("notes.db");
    fs::write(&text, "these are notes, no database\n").unwrap();
    let target = target(folder.path());
    let context = context(folder.path());
    let names = |previous: &BTreeMap<DatabaseName, Previous>| -> Vec<String> {
        let found = SqliteEngine::default().databases_since(&target, previous, &context).unwrap().databases;
        found.into_iter().map(|database| database.name.to_string()).collect()
    };
    assert_eq!(names(&BTreeMap::new()), ["app.db"]);
    let mut marks = known.marks.clone();
    marks.value = marks_of(&text, &known).into();
    let as_if_known = Previous::of(marks, known.manifest().unwrap());
    let previous = BTreeMap::from([
        (DatabaseName::new("app.db").unwrap(), known.clone()),
        (DatabaseName::new("notes.db").unwrap(), as_if_known),
    ]);
    assert_eq!(names(&previous), ["app.db", "notes.db"], "it was looked into");
    fs::write(&text, "these are other notes\n").unwrap();
    assert_eq!(names(&previous), ["app.db", "notes.db"], "what was backed up fails, and does not vanish");
    assert_eq!(names(&BTreeMap::from([(DatabaseName::new("app.db").unwrap(), known.clone())])), ["app.db"]);

    let app = DatabaseName::new("app.db").unwrap();
    let found = SqliteEngine::default().database(&target, &app, &context).unwrap().unwrap();
    assert_eq!(Path::new(&found.connection), path.canonicalize().unwrap());
    let none = SqliteEngine::default().database(&target, &DatabaseName::new("notes.db").unwrap(), &context);
    assert!(none.map_or(true, |found| found.is_none()));
}

/// The marks of a file, in the form that those of a database have.
fn marks_of(path: &Path, like: &Previous) -> serde_json::Value {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).unwrap();
    let mut value = like.marks.value.as_ref().clone();
    let fields = value.as_object_mut().unwrap();
    fields["path"] = path.canonicalize().unwrap().display().to_string().into();
    fields["inode"] = metadata.ino().into();
    fields["size"] = metadata.len().into();
    fields["mtime_ns"] = (metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec()).into();
    fields["ctime_ns"] = (metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec()).into();
    value
}
