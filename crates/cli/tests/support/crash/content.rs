//! Databases to crash with, and what they say: one digest over every row of every table.

use super::{beside, names};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Makes a database of some rows, all of which say `word`.
pub fn database(path: &Path, word: &str, rows: u32, journal: &str) {
    let connection = Connection::open(path).unwrap();
    connection.query_row(&format!("PRAGMA journal_mode={journal}"), [], |_| Ok(())).unwrap();
    fill(&connection, word, rows);
}

fn fill(connection: &Connection, word: &str, rows: u32) {
    connection
        .execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, word TEXT NOT NULL, pad BLOB);
             CREATE INDEX IF NOT EXISTS note_word ON note (word, id);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO note (word, pad) SELECT '{word}', randomblob(200) FROM n;"
        ))
        .unwrap();
}

/// Leaves a database as a crash of its user would: most commits are in its `-wal` alone.
pub fn with_wal(path: &Path, word: &str, rows: u32) {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live.db");
    database(&live, word, 1, "wal");
    let connection = Connection::open(&live).unwrap();
    connection.query_row("PRAGMA wal_autocheckpoint=0", [], |_| Ok(())).unwrap();
    fill(&connection, word, rows - 1);
    take_set(&live, path);
}

/// Leaves a database as a crash in the middle of a transaction would: half written, with a hot `-journal`.
pub fn with_journal(path: &Path, word: &str, rows: u32) {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live.db");
    database(&live, word, rows, "delete");
    let connection = Connection::open(&live).unwrap();
    connection
        .execute_batch("PRAGMA cache_size=5; BEGIN; UPDATE note SET word = 'torn', pad = randomblob(100);")
        .unwrap();
    take_set(&live, path);
    assert!(std::fs::metadata(beside(path, "-journal")).unwrap().len() > 512);
}

fn take_set(from: &Path, to: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        if beside(from, suffix).exists() {
            std::fs::copy(beside(from, suffix), beside(to, suffix)).unwrap();
        }
    }
}

/// Says what a database holds with whatever lies beside it, by a copy, so that the look itself mends nothing. `None`
/// where there is none.
pub fn look(path: &Path) -> Option<String> {
    path.exists().then(|| {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.db");
        for suffix in ["", "-wal", "-journal"] {
            if beside(path, suffix).exists() {
                std::fs::copy(beside(path, suffix), beside(&copy, suffix)).unwrap();
            }
        }
        digest(&copy)
    })
}

/// Returns the digest of all rows of a sound database.
pub fn digest(path: &Path) -> String {
    let connection = Connection::open(path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok", "{}", path.display());
    let mut statement = connection
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1",
        )
        .unwrap();
    let tables: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut hash = Sha256::new();
    for table in tables {
        hash.update(format!("table {table}\n"));
        let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\" ORDER BY rowid")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                add(&mut hash, row.get_ref(column).unwrap());
            }
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn add(hash: &mut Sha256, value: ValueRef<'_>) {
    let (kind, bytes) = match value {
        ValueRef::Null => (0, Vec::new()),
        ValueRef::Integer(number) => (1, number.to_le_bytes().to_vec()),
        ValueRef::Real(number) => (2, number.to_le_bytes().to_vec()),
        ValueRef::Text(text) => (3, text.to_vec()),
        ValueRef::Blob(bytes) => (4, bytes.to_vec()),
    };
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// The files of a folder, kept with their inodes, to begin again from the same moment.
pub struct Kept {
    folder: std::path::PathBuf,
    shadow: tempfile::TempDir,
    files: Vec<(String, Vec<u8>)>,
}

impl Kept {
    /// Keeps what a folder of files holds now; the shadow is made beside it.
    pub fn of(folder: &Path) -> Self {
        let shadow = tempfile::tempdir_in(folder.parent().unwrap()).unwrap();
        let files: Vec<_> = names(folder)
            .into_iter()
            .map(|name| {
                std::fs::hard_link(folder.join(&name), shadow.path().join(&name)).unwrap();
                let bytes = std::fs::read(folder.join(&name)).unwrap();
                (name, bytes)
            })
            .collect();
        Self { folder: folder.to_owned(), shadow, files }
    }

    /// Puts all of it back: the same names for the same inodes with the same bytes.
    pub fn put_back(&self) {
        super::empty(&self.folder);
        for (name, bytes) in &self.files {
            let path = self.folder.join(name);
            std::fs::hard_link(self.shadow.path().join(name), &path).unwrap();
            if std::fs::read(&path).unwrap() != *bytes {
                std::fs::write(&path, bytes).unwrap();
            }
        }
    }
}
