//! An unchanged database is not read at all, and no change goes unnoticed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod pull;

use flow::{Dumped, Previous};
use pull::*;
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
        assert!(outcome.unchanged, "{mode}");
        let dumped = outcome.verdict.unwrap();
        assert_eq!(dumped.facts, previous.manifest.facts);
        assert_eq!(dumped.marks.value, previous.marks.value);
        assert_eq!(
            dumped.entries.values().next().unwrap().1 as usize,
            previous.manifest.entries[0].parts.len()
        );
    }
}

#[test]
fn read_all_reads_what_seems_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let (path, previous) = first_backup(folder.path(), "DELETE");
    let mut request = request(&path, Some(previous));
    request.options.read_all = true;
    let outcome = pull(&request, &context(folder.path())).unwrap().pop_first().unwrap().1;
    assert!(!outcome.unchanged && outcome.verdict.is_ok());
}

#[test]
fn marks_taken_right_after_a_change_prove_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut young) = first_backup(folder.path(), "DELETE");
    young.marks.read_at -= Duration::from_secs(10);
    assert!(!second_backup(&path, &young).unchanged);
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
    assert!(!second_backup(&path, &previous).unchanged);
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
    assert!(!outcome.unchanged);
    // And the next one, in the same -wal, too.
    let previous = settled(&outcome.verdict.unwrap());
    let third = second_backup(&path, &previous);
    assert!(third.unchanged, "{:?} {:?}", previous.marks, third.verdict.unwrap().marks);
    connection.execute("UPDATE orders SET amount=2 WHERE id=1", []).unwrap();
    assert!(!second_backup(&path, &previous).unchanged);
}

#[test]
fn a_file_swapped_by_rename_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, previous) = first_backup(folder.path(), "DELETE");
    let other = folder.path().join("other.db");
    assert!(Command::new("cp").arg("-p").arg(&path).arg(&other).status().unwrap().success());
    fs::rename(&other, &path).unwrap();
    assert!(!second_backup(&path, &previous).unchanged);
}

#[test]
fn the_cut_of_the_previous_backup_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (path, previous) = first_backup(folder.path(), "DELETE");
    let connection = Connection::open(&path).unwrap();
    fill(&connection, "orders", 10);
    drop(connection);
    let dumped = second_backup(&path, &previous).verdict.unwrap();
    assert_eq!(dumped.entries.values().next().unwrap().0, previous.manifest.entries[0].layout);
}
