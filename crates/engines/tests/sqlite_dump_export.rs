//! A backup as one plain file: the image as it is, and SQL text that makes an equal database.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod pull;

use engines::{Engine, ExportForm, sqlite::SqliteEngine};
use flow::{BackupReader, EntryName, Manifest, ReadError};
use pull::*;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct Stored {
    manifest: Manifest,
    image: Vec<u8>,
}

impl BackupReader for Stored {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, _: &EntryName, range: Range<u64>) -> Result<Box<dyn Read + Send>, ReadError> {
        let bytes = self.image[range.start as usize..range.end as usize].to_vec();
        Ok(Box::new(std::io::Cursor::new(bytes)))
    }
}

fn exported(path: &Path, form: ExportForm) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let context = context(folder.path());
    let (image, dumped) = image_of(path, &context);
    let manifest = (*previous(&dumped).manifest().unwrap()).clone();
    let mut out = Vec::new();
    let summary =
        SqliteEngine::default().export(&Stored { manifest, image }, form, &mut out, &context).unwrap();
    assert_eq!(summary.size_bytes, out.len() as u64);
    let left = std::fs::read_dir(folder.path().join("scratch")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "scratch was left behind");
    out
}

fn loaded(sql: &[u8], folder: &Path) -> PathBuf {
    let path = folder.join("loaded.db");
    let mut child = Command::new("sqlite3")
        .arg("-bail")
        .arg(&path)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), sql).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

#[test]
fn the_image_is_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    fill(&Connection::open(&path).unwrap(), "orders", 5000);
    assert!(exported(&path, ExportForm::Image) == std::fs::read(&path).unwrap());
}

#[test]
fn sql_text_makes_an_equal_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let connection = Connection::open(&path).unwrap();
    fill(&connection, "orders", 500);
    connection
        .execute_batch(
            "CREATE TABLE \"odd ' name\"(\"a \"\" column\" TEXT, b);
             INSERT INTO \"odd ' name\" VALUES ('it''s' || char(10) || 'two lines', 9e999), ('grün', -9e999);
             INSERT INTO \"odd ' name\" VALUES (CAST(x'6100620a' AS TEXT), x''), (NULL, -0.0), ('x', 1e300);
             CREATE TABLE \"order\"(x); INSERT INTO \"order\" VALUES (9223372036854775807), (0.1);
             CREATE TABLE made(a INT, b INT AS (a * 2) STORED); INSERT INTO made(a) VALUES (1);
             CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, x);
             INSERT INTO counted(x) VALUES (1), (2); DELETE FROM counted WHERE id=2;
             CREATE TABLE pairs(a, b, PRIMARY KEY(a, b)) WITHOUT ROWID; INSERT INTO pairs VALUES (1, 2);
             CREATE INDEX by_x ON counted(x); CREATE VIEW v AS SELECT x FROM counted -- with a remark
             ;
             CREATE TRIGGER after_made AFTER INSERT ON made BEGIN INSERT INTO counted(x) VALUES (new.a); END;
             CREATE VIRTUAL TABLE words USING fts5(body); INSERT INTO words VALUES ('hello world');
             CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1); INSERT INTO boxes VALUES (1, 0, 1);
             PRAGMA user_version=42; PRAGMA application_id=7;",
        )
        .unwrap();
    drop(connection);
    sqlite3(&path, "ANALYZE");
    let sql = exported(&path, ExportForm::Sql);
    let copy = loaded(&sql, folder.path());
    assert_eq!(sqlite3(&copy, ".dump"), sqlite3(&path, ".dump"));
    assert_eq!(
        sqlite3(&copy, "PRAGMA integrity_check; PRAGMA user_version; PRAGMA application_id"),
        "ok\n42\n7\n"
    );
    assert_eq!(sqlite3(&copy, "SELECT rowid FROM words WHERE words MATCH 'world'"), "1\n");
    let difference = Command::new("sqldiff").arg(&path).arg(&copy).output().unwrap();
    assert!(difference.stdout.is_empty(), "{}", String::from_utf8_lossy(&difference.stdout));
}

#[test]
fn sql_text_keeps_the_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "encoding", "UTF-16be").unwrap();
    fill(&connection, "orders", 5);
    drop(connection);
    let copy = loaded(&exported(&path, ExportForm::Sql), folder.path());
    assert_eq!(sqlite3(&copy, "PRAGMA encoding"), "UTF-16be\n");
}
