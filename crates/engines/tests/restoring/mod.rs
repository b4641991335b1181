//! What the restore tests share: a backup made of bytes, real databases, and a look at what a folder holds.

#![allow(dead_code, unreachable_pub)]

use engines::sqlite::SqliteEngine;
use engines::{Engine, Ownership, Restore, RestoreError, RestoreMode, RestoreRequest, RestoreStep, Safety};
use flow::{
    BackupReader, ConsistencyPoint, Context, DatabaseName, DatabaseRef, EngineKind, EntryName, Event, Facts,
    Finding, Layout, MANIFEST_SCHEMA, Manifest, ManifestEntry, ManifestPart, Observer, ReadError,
    ReadErrorKind, ScratchDir, TargetName,
};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub const PART_BYTES: u64 = 256 * 1024;

/// A backup whose one entry is in memory.
pub struct Backup {
    manifest: Manifest,
    bytes: Vec<u8>,
    /// Fails every read that reaches this offset.
    pub broken_at: Option<u64>,
}

impl Backup {
    pub fn of(bytes: Vec<u8>) -> Self {
        let mut parts = Vec::new();
        let mut left = bytes.len() as u64;
        while left > 0 {
            let size_bytes = left.min(PART_BYTES);
            parts.push(ManifestPart { size_bytes, blobs: 1, rows: None, digest: None });
            left -= size_bytes;
        }
        let page_bytes = page_bytes(&bytes);
        let entry = ManifestEntry {
            name: EntryName::new("database.sqlite").unwrap(),
            layout: Layout::Pages { page_bytes, cut_bytes: 65536 },
            size_bytes: bytes.len() as u64,
            parts,
        };
        let facts = Facts {
            engine: EngineKind::Sqlite,
            engine_version: "3".to_owned(),
            form: "image".to_owned(),
            selection: None,
            consistency: ConsistencyPoint { time: jiff::Timestamp::UNIX_EPOCH, position: BTreeMap::new() },
            size_bytes: bytes.len() as u64,
            tables: Vec::new(),
            schema: Vec::new(),
            properties: BTreeMap::new(),
            tools: BTreeMap::new(),
        };
        let manifest = Manifest {
            schema: MANIFEST_SCHEMA.to_owned(),
            target: TargetName::new("shop").unwrap(),
            database: DatabaseName::new("shop").unwrap(),
            connection: "/nowhere".to_owned(),
            facts,
            entries: vec![entry],
            elapsed_ms: 1,
        };
        Self { manifest, bytes, broken_at: None }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn page_bytes(bytes: &[u8]) -> u32 {
    match bytes.get(16..18) {
        Some(&[0, 1]) => 65536,
        Some(two) => u32::from(two[0]) << 8 | u32::from(two[1]),
        None => 4096,
    }
}

impl BackupReader for Backup {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, _entry: &EntryName, range: Range<u64>) -> Result<Box<dyn Read + Send>, ReadError> {
        if self.broken_at.is_some_and(|offset| range.contains(&offset)) {
            return Err(ReadError::new(ReadErrorKind::Damaged, "blob 1234", "its hash does not match"));
        }
        let slice = self.bytes[range.start as usize..range.end as usize].to_vec();
        Ok(Box::new(std::io::Cursor::new(slice)))
    }
}

/// Keeps what the person would have seen.
#[derive(Default)]
pub struct Remarks(pub Mutex<Vec<Finding>>);

impl Observer for Remarks {
    fn event(&self, event: Event) {
        if let Event::Finding(finding) = event {
            self.0.lock().unwrap().push(finding);
        }
    }
}

/// A folder with a target in it, and what a restore into it needs.
pub struct Stage {
    pub folder: tempfile::TempDir,
    pub target: PathBuf,
    pub remarks: Arc<Remarks>,
    pub context: Context,
}

impl Stage {
    pub fn new() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap())
    }

    pub fn in_folder(folder: tempfile::TempDir) -> Self {
        let target = folder.path().canonicalize().unwrap().join("app.db");
        let remarks = Arc::new(Remarks::default());
        let mut context = Context::quiet(ScratchDir::new(folder.path().join("scratch")));
        context.observer = remarks.clone();
        Self { folder, target, remarks, context }
    }

    pub fn request(&self, mode: RestoreMode) -> RestoreRequest {
        RestoreRequest {
            target: self.database(),
            mode,
            safety: Safety::Beside,
            verify: true,
            ownership: Ownership::default(),
            tables: Vec::new(),
            schema_only: false,
            data_only: false,
            backup: "1234abcd".to_owned(),
            repository: "/backups".to_owned(),
            started: "2026-11-21T02:00:00Z".parse().unwrap(),
            host: "host".to_owned(),
        }
    }

    pub fn database(&self) -> DatabaseRef {
        DatabaseRef {
            target: TargetName::new("shop").unwrap(),
            name: DatabaseName::new("shop").unwrap(),
            connection: self.target.to_str().unwrap().to_owned(),
        }
    }

    pub fn begin(&self, request: &RestoreRequest, backup: &Backup) -> Result<Box<dyn Restore>, RestoreError> {
        SqliteEngine::default().begin_restore(request, backup.manifest(), self.context.clone())
    }

    pub fn resume(&self) -> Box<dyn Restore> {
        let mut pending = SqliteEngine::default().pending_restores(&self.database(), &self.context).unwrap();
        assert_eq!(pending.len(), 1, "one restore waits");
        assert!(!pending[0].owner_alive);
        SqliteEngine::default().resume_restore(pending.remove(0), self.context.clone()).unwrap()
    }

    /// Runs a whole restore.
    pub fn restore(&self, request: &RestoreRequest, backup: &Backup) -> Result<(), RestoreError> {
        let mut restore = self.begin(request, backup)?;
        run_from(&mut *restore, backup, None)
    }

    /// Names and nothing else of what lies in the target's folder.
    pub fn names(&self) -> Vec<String> {
        names(self.target.parent().unwrap())
    }

    pub fn safety(&self, suffix: &str) -> PathBuf {
        beside(&self.target, &format!(".safety-20261121T020000Z{suffix}"))
    }

    pub fn findings(&self) -> String {
        self.remarks.0.lock().unwrap().iter().map(|finding| format!("{}\n", finding.message)).collect()
    }
}

/// Runs the steps after `done`.
pub fn run_from(
    restore: &mut dyn Restore,
    backup: &Backup,
    done: Option<RestoreStep>,
) -> Result<(), RestoreError> {
    let steps: Vec<_> =
        restore.steps().iter().copied().filter(|step| done.is_none_or(|done| *step > done)).collect();
    for step in steps {
        restore.run(step, backup)?;
    }
    Ok(())
}

/// Goes on where the record says that a restore was left.
pub fn go_on(restore: &mut dyn Restore, backup: &Backup) -> Result<(), RestoreError> {
    let state = restore.state();
    if !state.completed {
        restore.run(state.step, backup)?;
    }
    run_from(restore, backup, Some(state.step))
}

pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Makes a database of some rows, all of which say `word`, and returns its bytes.
pub fn database(path: &Path, word: &str, rows: u32, journal: &str) {
    let connection = Connection::open(path).unwrap();
    connection.query_row(&format!("PRAGMA journal_mode={journal}"), [], |_| Ok(())).unwrap();
    fill(&connection, word, rows);
}

pub fn fill(connection: &Connection, word: &str, rows: u32) {
    connection
        .execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, word TEXT NOT NULL, pad BLOB);
             CREATE INDEX IF NOT EXISTS note_word ON note (word, id);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO note (word, pad) SELECT '{word}', randomblob(200) FROM n;"
        ))
        .unwrap();
}

pub fn image(word: &str, rows: u32, journal: &str) -> Backup {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.db");
    database(&path, word, rows, journal);
    Backup::of(std::fs::read(&path).unwrap())
}

/// Returns what a database says: its one word and how many rows hold it. Leaves nothing behind.
pub fn content(path: &Path) -> (String, u32) {
    let connection = Connection::open(path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok", "{}", path.display());
    connection
        .query_row("SELECT group_concat(DISTINCT word ORDER BY word), count(*) FROM note", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap()
}

pub fn says(word: &str, rows: u32) -> (String, u32) {
    (word.to_owned(), rows)
}

/// Leaves a database as a crash of its user would: the commits of `word` are in its `-wal` alone.
pub fn with_stale_wal(path: &Path, word: &str, rows: u32) {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live.db");
    database(&live, word, 1, "wal");
    let connection = Connection::open(&live).unwrap();
    connection.query_row("PRAGMA wal_autocheckpoint=0", [], |_| Ok(())).unwrap();
    fill(&connection, word, rows - 1);
    for suffix in ["", "-wal", "-shm"] {
        std::fs::copy(beside(&live, suffix), beside(path, suffix)).unwrap();
    }
}

/// Leaves a database as a crash in the middle of a transaction would: half written, with a hot `-journal`.
pub fn with_hot_journal(path: &Path, word: &str, rows: u32) {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live.db");
    database(&live, word, rows, "delete");
    let connection = Connection::open(&live).unwrap();
    connection
        .execute_batch("PRAGMA cache_size=5; BEGIN; UPDATE note SET word = 'torn', pad = randomblob(100);")
        .unwrap();
    for suffix in ["", "-journal"] {
        std::fs::copy(beside(&live, suffix), beside(path, suffix)).unwrap();
    }
    assert!(std::fs::metadata(beside(path, "-journal")).unwrap().len() > 512);
}
