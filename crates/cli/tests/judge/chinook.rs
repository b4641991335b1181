//! A real database, its tables dropped, brought back: `sqlite3 .dump` and `sqldiff` agree that nothing is missing.

use crate::seams::{Place, sql, tool};
use std::path::{Path, PathBuf};

pub(crate) fn original() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/chinook/chinook.sqlite")
}

pub(crate) fn dump(path: &Path) -> String {
    tool("sqlite3", &["-readonly", &path.display().to_string(), ".dump"])
}

pub(crate) fn assert_equal(path: &Path) {
    let original = original();
    let (ours, theirs) = (dump(path), dump(&original));
    assert!(theirs.len() > 500_000);
    assert!(ours == theirs, "{} differs from the original", path.display());
    let difference = tool("sqldiff", &[&path.display().to_string(), &original.display().to_string()]);
    assert_eq!(difference, "");
    let difference = tool("sqldiff", &[&original.display().to_string(), &path.display().to_string()]);
    assert_eq!(difference, "");
}

#[test]
fn dropped_tables_come_back() {
    let place = Place::new();
    let path = place.path("chinook.db");
    std::fs::copy(original(), &path).unwrap();
    place.backup("chinook.db");
    sql(
        &path,
        "PRAGMA foreign_keys = OFF; DROP TABLE InvoiceLine; DROP TABLE Invoice; DELETE FROM Track; VACUUM",
    );
    assert!(dump(&path) != dump(&original()));
    let lost = std::fs::read(&path).unwrap();
    let report = place.json(&["restore", "chinook.db@latest", "--confirm", "chinook.db"]);
    assert_equal(&path);
    assert_eq!(report["verified"], true);
    let copy = report["safety_copy"].as_str().unwrap();
    assert!(std::fs::read(copy).unwrap() == lost, "the safety copy is what was there");
}

#[test]
fn a_database_in_wal_mode_comes_back_while_its_log_is_full() {
    let place = Place::new();
    let path = place.path("chinook.db");
    std::fs::copy(original(), &path).unwrap();
    sql(&path, "PRAGMA journal_mode = WAL");
    let live = rusqlite::Connection::open(&path).unwrap();
    live.execute_batch("PRAGMA wal_autocheckpoint = 0; CREATE TABLE fresh AS SELECT * FROM Track").unwrap();
    assert!(place.path("chinook.db-wal").metadata().unwrap().len() > 0);
    let wanted = dump(&path);
    place.backup("chinook.db");
    live.execute_batch("DROP TABLE fresh; DELETE FROM InvoiceLine").unwrap();
    drop(live);
    place.done(&["restore", "chinook.db", "--confirm", "chinook.db"]);
    assert!(dump(&path) == wanted);
    assert!(wanted.contains("CREATE TABLE fresh"));
}
