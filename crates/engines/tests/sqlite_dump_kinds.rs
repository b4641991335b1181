//! Every kind of database comes out as it is: the image of an idle database is the file, byte for byte, and the rows
//! counted from its pages are those that SQL counts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod pull;

use engines::{Engine, FactsDepth, sqlite::SqliteEngine};
use pull::*;
use std::path::Path;

fn made(folder: &Path, before: &str, content: &str) -> std::path::PathBuf {
    let path = folder.join("app.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(before).unwrap();
    connection.execute_batch(content).unwrap();
    fill(&connection, "orders", 2000);
    drop(connection);
    path
}

fn assert_round_trip(before: &str, content: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), before, content);
    let files = || -> std::collections::BTreeSet<_> {
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    let files_before = files();
    let (image, dumped) = image_of(&path, &context(folder.path()));
    assert!(image == std::fs::read(&path).unwrap(), "not byte-identical: {before} {content}");
    assert_eq!(files(), files_before, "left behind");
    let (connection, _) = open_image(&image, folder.path());
    assert_sound(&connection);
    assert_rows(&dumped, &connection);
    let live =
        SqliteEngine::default().facts(&database(&path), FactsDepth::Counts, &context(folder.path())).unwrap();
    assert_eq!(live.tables, dumped.facts.tables);
    assert_eq!(live.properties, dumped.facts.properties);
    assert_eq!(live.schema, dumped.facts.schema);
}

#[test]
fn the_linked_sqlite_is_past_the_wal_reset_bug_and_can_read_pages() {
    assert!(rusqlite::version_number() > 3_051_002, "{}", rusqlite::version());
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch("CREATE TABLE t(x)").unwrap();
    let pages: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_dbpage", [], |row| row.get(0)).unwrap();
    assert_eq!(pages, 2);
}

#[test]
fn all_page_sizes_in_both_modes() {
    for page_bytes in [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536] {
        for mode in ["DELETE", "WAL"] {
            assert_round_trip(&format!("PRAGMA page_size={page_bytes}; PRAGMA journal_mode={mode};"), "");
        }
    }
}

#[test]
fn other_journal_modes() {
    for mode in ["TRUNCATE", "MEMORY", "OFF"] {
        assert_round_trip(&format!("PRAGMA journal_mode={mode};"), "");
    }
}

#[test]
fn utf_16_and_auto_vacuum() {
    assert_round_trip("PRAGMA encoding='UTF-16le'; PRAGMA auto_vacuum=FULL;", "");
    assert_round_trip("PRAGMA encoding='UTF-16be'; PRAGMA auto_vacuum=INCREMENTAL;", "");
}

#[test]
fn all_kinds_of_tables() {
    let content = "
        CREATE TABLE pairs(a TEXT, b INT, pad TEXT, PRIMARY KEY(a, b)) WITHOUT ROWID;
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<30000)
          INSERT INTO pairs SELECT 'key ' || (i * 7919 % 30011), i, hex(randomblob(30)) FROM n;
        DELETE FROM pairs WHERE b % 3 = 0;
        CREATE TABLE strict_one(id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
        INSERT INTO strict_one VALUES (1, 'one');
        CREATE TABLE made(a INT, b INT AS (a * 2) STORED, c INT AS (a + 1) VIRTUAL);
        INSERT INTO made(a) VALUES (1), (2), (3);
        CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, x);
        INSERT INTO counted(x) VALUES (zeroblob(200000)), (2);
        CREATE TABLE no_rows(x);
        CREATE TABLE \"odd \"\" name\"(x);
        INSERT INTO \"odd \"\" name\" VALUES (1);
        CREATE INDEX by_x ON counted(x);
        CREATE VIEW v AS SELECT * FROM counted;
        CREATE VIRTUAL TABLE words USING fts5(body);
        INSERT INTO words VALUES ('hello world'), ('good night');
        CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1, y0, y1);
        INSERT INTO boxes VALUES (1, 0, 1, 0, 1);
        PRAGMA user_version=42; PRAGMA application_id=7; ANALYZE;";
    assert_round_trip("", content);
    assert_round_trip("PRAGMA journal_mode=WAL; PRAGMA page_size=1024;", content);
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), "", content);
    let (_, dumped) = image_of(&path, &context(folder.path()));
    let rows = |name: &str| dumped.facts.tables.iter().find(|t| t.name == name).and_then(|t| t.rows);
    assert_eq!(rows("pairs"), Some(20_000));
    assert_eq!(rows("made"), Some(3));
    assert_eq!(rows("words"), None, "a virtual table has no rows of its own");
    assert_eq!(rows("words_content"), Some(2));
    assert_eq!(dumped.facts.properties["user_version"], 42);
    assert_eq!(dumped.facts.properties["application_id"], 7);
    assert!(dumped.facts.schema.iter().any(|object| object.kind == "view" && object.name == "v"));
}

#[test]
fn a_database_of_many_parts() {
    for mode in ["DELETE", "WAL"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", mode).unwrap();
        fill(&connection, "orders", 150_000);
        drop(connection);
        let (image, dumped) = image_of(&path, &context(folder.path()));
        assert!(dumped.entries.values().all(|(_, parts)| *parts > 2), "{:?}", dumped.entries);
        assert!(image == std::fs::read(&path).unwrap());
        assert_eq!(dumped.facts.rows(), Some(150_000));
    }
}

#[test]
fn a_file_without_bytes_is_an_empty_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.db");
    std::fs::write(&path, b"").unwrap();
    let (image, dumped) = image_of(&path, &context(folder.path()));
    assert!(image.is_empty());
    assert_eq!(dumped.facts.size_bytes, 0);
    assert_eq!(dumped.entries.values().next().map(|(_, parts)| *parts), Some(0));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}
