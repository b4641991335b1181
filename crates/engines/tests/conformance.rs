//! SQLite's dumps and restores held to every promise of the seams, by the suites that the fakes pass too: in WAL mode
//! and in rollback mode.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use engines::Engine;
use engines::sqlite::SqliteEngine;
use flow::{
    Context, DatabaseName, DatabaseRef, Dump, DumpRequest, EngineKind, ScratchDir, SourceError, TargetName,
    TargetRef,
};
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use testkit::{DumpSubject, RestoreSubject, dump_conformance, restore_conformance};

struct Sqlite {
    folder: TempDir,
    journal_mode: &'static str,
}

impl Sqlite {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.db"))
    }
}

impl DumpSubject for Sqlite {
    fn target(&self) -> TargetRef {
        TargetRef {
            name: TargetName::new("shops").unwrap(),
            engine: EngineKind::Sqlite,
            connection: self.folder.path().to_str().unwrap().to_owned(),
            secret: None,
            tenants: None,
        }
    }

    fn make(&self, name: &str, size_bytes: u64) -> DatabaseRef {
        let path = self.path(name);
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", self.journal_mode).unwrap();
        connection.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, content BLOB)").unwrap();
        let rows = i64::try_from(size_bytes / 1000).unwrap().max(1);
        connection
            .execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                 INSERT INTO t SELECT i, randomblob(1000) FROM n",
                [rows],
            )
            .unwrap();
        DatabaseRef {
            target: TargetName::new("shops").unwrap(),
            name: DatabaseName::new(format!("{name}.db")).unwrap(),
            connection: path.canonicalize().unwrap().to_str().unwrap().to_owned(),
        }
    }

    fn change(&self, database: &DatabaseRef) {
        let connection = Connection::open(&database.connection).unwrap();
        connection.execute("INSERT INTO t (content) VALUES (randomblob(500))", []).unwrap();
    }

    fn spoil(&self, database: &DatabaseRef) {
        std::fs::write(&database.connection, "no database at all, but a text of some length\n".repeat(200))
            .unwrap();
    }

    fn settle(&self) {
        std::thread::sleep(Duration::from_millis(2100));
    }

    fn begin(&self, request: &DumpRequest, context: Context) -> Result<Box<dyn Dump>, SourceError> {
        SqliteEngine::default().begin_dump(request, context)
    }

    fn context(&self) -> Context {
        Context::quiet(ScratchDir::new(self.folder.path().join("scratch")))
    }

    fn leftovers(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.ends_with(".db") && name != "scratch").collect()
    }
}

#[test]
fn dumps_in_wal_mode_keep_every_promise() {
    dump_conformance(|| Sqlite { folder: tempfile::tempdir().unwrap(), journal_mode: "wal" });
}

#[test]
fn dumps_in_rollback_mode_keep_every_promise() {
    dump_conformance(|| Sqlite { folder: tempfile::tempdir().unwrap(), journal_mode: "delete" });
}

impl RestoreSubject for Sqlite {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(SqliteEngine::default())
    }

    fn target(&self) -> TargetRef {
        DumpSubject::target(self)
    }

    fn context(&self) -> Context {
        DumpSubject::context(self)
    }

    fn name(&self, name: &str) -> DatabaseRef {
        let folder = self.folder.path().canonicalize().unwrap();
        DatabaseRef {
            target: TargetName::new("shops").unwrap(),
            name: DatabaseName::new(format!("{name}.db")).unwrap(),
            connection: folder.join(format!("{name}.db")).to_str().unwrap().to_owned(),
        }
    }

    fn make(&self, name: &str, number: u64) -> DatabaseRef {
        if !self.path(name).exists() {
            DumpSubject::make(self, name, 200_000);
        }
        let connection = Connection::open(self.path(name)).unwrap();
        connection
            .execute_batch("CREATE TABLE IF NOT EXISTS number (value INTEGER); DELETE FROM number")
            .unwrap();
        connection.execute("INSERT INTO number VALUES (?1)", [i64::try_from(number).unwrap()]).unwrap();
        self.name(name)
    }

    fn content(&self, database: &DatabaseRef) -> Option<Vec<u8>> {
        if !std::path::Path::new(&database.connection).exists() {
            return None;
        }
        let connection = Connection::open(&database.connection).unwrap();
        let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        let number = connection.query_row("SELECT value FROM number", [], |row| row.get::<_, i64>(0));
        let rows: i64 = connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        Some(format!("{sound} {:?} {rows}", number.ok()).into_bytes())
    }
}

#[test]
fn restores_in_wal_mode_keep_every_promise() {
    restore_conformance(|| Sqlite { folder: tempfile::tempdir().unwrap(), journal_mode: "wal" });
}

#[test]
fn restores_in_rollback_mode_keep_every_promise() {
    restore_conformance(|| Sqlite { folder: tempfile::tempdir().unwrap(), journal_mode: "delete" });
}
