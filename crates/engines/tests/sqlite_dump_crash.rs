//! What a crash left beside a database is part of it: a `-wal` with commits, a hot `-journal` with the way back. And
//! whoever may not write gets the same backup.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod pull;

use pull::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes a database as a crash leaves it in WAL mode: 10 rows in the file, 5 more in its `-wal` alone.
fn crashed_wal(folder: &Path) -> PathBuf {
    let live = folder.join("live.db");
    let connection = Connection::open(&live).unwrap();
    connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;").unwrap();
    fill(&connection, "orders", 10);
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    fill(&connection, "orders", 5);
    let path = folder.join("app.db");
    fs::copy(&live, &path).unwrap();
    fs::copy(folder.join("live.db-wal"), folder.join("app.db-wal")).unwrap();
    drop(connection);
    path
}

/// Makes a database as a crash leaves it in rollback mode: in the middle of a transaction whose pages are already in
/// the file.
fn crashed_journal(folder: &Path) -> (PathBuf, Vec<u8>) {
    let live = folder.join("live.db");
    let connection = Connection::open(&live).unwrap();
    fill(&connection, "orders", 5000);
    let before = fs::read(&live).unwrap();
    connection
        .execute_batch("PRAGMA cache_size=2; PRAGMA cache_spill=1; BEGIN; UPDATE orders SET word='torn'")
        .unwrap();
    let path = folder.join("app.db");
    fs::copy(&live, &path).unwrap();
    fs::copy(folder.join("live.db-journal"), folder.join("app.db-journal")).unwrap();
    connection.execute_batch("ROLLBACK").unwrap();
    assert!(fs::read(&path).unwrap() != before, "the transaction must have reached the file");
    (path, before)
}

fn count(image: &[u8], folder: &Path, sql: &str) -> i64 {
    let (connection, _) = open_image(image, folder);
    assert_sound(&connection);
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn commits_that_are_only_in_a_wal_left_by_a_crash_are_in_the_backup_and_stay_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = crashed_wal(folder.path());
    let (file, wal) = (fs::read(&path).unwrap(), fs::read(folder.path().join("app.db-wal")).unwrap());
    let (image, dumped) = image_of(&path, &context(folder.path()));
    assert_eq!(count(&image, folder.path(), "SELECT count(*) FROM orders"), 15);
    assert_eq!(dumped.facts.rows(), Some(15));
    // Closing must not write it back: the source is as it was.
    assert!(fs::read(&path).unwrap() == file && fs::read(folder.path().join("app.db-wal")).unwrap() == wal);
}

#[test]
fn a_hot_journal_is_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, before) = crashed_journal(folder.path());
    let (image, _) = image_of(&path, &context(folder.path()));
    assert_eq!(count(&image, folder.path(), "SELECT count(*) FROM orders WHERE word='torn'"), 0);
    assert_eq!(image.len(), before.len());
}

#[test]
fn a_wal_in_use_by_an_open_program_is_in_the_backup() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;").unwrap();
    fill(&connection, "orders", 300);
    let (image, dumped) = image_of(&path, &context(folder.path()));
    assert_eq!(dumped.facts.rows(), Some(300));
    assert_eq!(count(&image, folder.path(), "SELECT count(*) FROM orders"), 300);
    fill(&connection, "orders", 1);
    assert!(folder.path().join("app.db-wal").exists());
}

/// Runs one test of this binary as another user; `false` where that is not possible.
fn as_another_user(test: &str, path: &Path, scratch: &Path) -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    fs::create_dir_all(scratch).unwrap();
    std::os::unix::fs::chown(scratch, Some(65534), Some(65534)).unwrap();
    // The test binary itself may lie where another user may not look.
    let binary = scratch.join("tests");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&binary)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("DUMP_PATH", path)
        .env("DUMP_SCRATCH", scratch)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    true
}

fn given() -> (PathBuf, PathBuf) {
    (std::env::var_os("DUMP_PATH").unwrap().into(), std::env::var_os("DUMP_SCRATCH").unwrap().into())
}

#[test]
#[ignore = "run as another user by the tests below"]
fn part_dump_to_scratch() {
    let (path, scratch) = given();
    let (image, _) = image_of(&path, &context(&scratch));
    fs::write(scratch.join("image"), image).unwrap();
    let left = fs::read_dir(scratch.join("scratch")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a staged copy was left behind");
}

#[test]
#[ignore = "run as another user by the tests below"]
fn part_fails_unreadable() {
    let (path, scratch) = given();
    let error = failure_of(&path, &context(&scratch));
    assert_eq!(error.kind, flow::SourceErrorKind::Unreadable, "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()) && error.hint.is_some());
}

/// Lets another user in, but not write.
fn read_only(folder: &Path, files: &[&str]) {
    for file in files {
        fs::set_permissions(folder.join(file), fs::Permissions::from_mode(0o444)).unwrap();
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).unwrap();
}

fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (data, scratch) = (folder.path().join("data"), folder.path().join("other"));
    fs::create_dir(&data).unwrap();
    (folder, data, scratch)
}

#[test]
fn a_read_only_folder_with_a_wal_loses_no_commit() {
    let (_folder, data, scratch) = folders();
    let path = crashed_wal(&data);
    read_only(&data, &["app.db", "app.db-wal"]);
    if as_another_user("part_dump_to_scratch", &path, &scratch) {
        let image = fs::read(scratch.join("image")).unwrap();
        assert_eq!(count(&image, &scratch, "SELECT count(*) FROM orders"), 15);
        assert!(!data.join("app.db-shm").exists());
    }
}

#[test]
fn a_read_only_folder_with_a_hot_journal_is_rolled_back_in_scratch() {
    let (_folder, data, scratch) = folders();
    let (path, _) = crashed_journal(&data);
    let torn = fs::read(&path).unwrap();
    read_only(&data, &["app.db", "app.db-journal"]);
    if as_another_user("part_dump_to_scratch", &path, &scratch) {
        let image = fs::read(scratch.join("image")).unwrap();
        assert_eq!(count(&image, &scratch, "SELECT count(*) FROM orders WHERE word='torn'"), 0);
        assert!(fs::read(&path).unwrap() == torn, "the source was touched");
    }
}

#[test]
fn read_only_files_of_both_modes() {
    for mode in ["DELETE", "WAL"] {
        let (_folder, data, scratch) = folders();
        let path = data.join("app.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", mode).unwrap();
        fill(&connection, "orders", 100);
        drop(connection);
        read_only(&data, &["app.db"]);
        if as_another_user("part_dump_to_scratch", &path, &scratch) {
            assert!(fs::read(scratch.join("image")).unwrap() == fs::read(&path).unwrap());
        }
    }
}

#[test]
fn a_file_that_may_not_be_read_says_so() {
    let (_folder, data, scratch) = folders();
    let path = data.join("app.db");
    fill(&Connection::open(&path).unwrap(), "orders", 1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    as_another_user("part_fails_unreadable", &path, &scratch);
}

#[test]
fn what_root_makes_beside_a_database_does_not_lock_its_owner_out() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_folder, data, _) = folders();
    let path = crashed_wal(&data);
    for file in ["app.db", "app.db-wal"] {
        std::os::unix::fs::chown(data.join(file), Some(65534), Some(65534)).unwrap();
    }
    image_of(&path, &context(&data));
    let shm = fs::metadata(data.join("app.db-shm"));
    assert!(shm.is_err() || shm.unwrap().uid() == 65534);
}
