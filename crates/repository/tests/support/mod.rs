//! A repository in a folder of its own, and dumps made of bytes.

use flow::{
    ConsistencyPoint, Context, DatabaseName, DatabaseRef, Dumped, EngineKind, EntryName, Facts, Layout,
    Marks, OpenPart, PartFacts, PartReader, ScratchDir, Secret, SourceError, TargetName,
};
use jiff::Timestamp;
use repository::restic_layout::{LockOwner, ResticLayout, ResticOptions};
use repository::{Repository, SnapshotReport, SnapshotRequest};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use storage::LocalStorage;

pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) context: Context,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let context = Context::quiet(ScratchDir::new(folder.path().join("scratch")));
        let storage = Arc::new(LocalStorage::create(folder.path().join("repository")).unwrap());
        ResticLayout::create(storage, &Secret::new("geheim"), options()).unwrap();
        Self { folder, context }
    }

    pub(crate) fn open(&self) -> ResticLayout {
        let storage = Arc::new(LocalStorage::open(self.folder.path().join("repository")).unwrap());
        ResticLayout::open(storage, &Secret::new("geheim"), options()).unwrap()
    }

    pub(crate) fn request(&self) -> SnapshotRequest {
        SnapshotRequest {
            only: None,
            target: target(),
            plan: None,
            selection: None,
            host: "host".to_owned(),
            user: "user".to_owned(),
            tags: vec![],
            time: Timestamp::now(),
        }
    }

    pub(crate) fn back_up(&self, database: &DatabaseRef, content: &[u8]) -> SnapshotReport {
        let repository = self.open();
        let writer = repository.begin(self.request(), &self.context).unwrap();
        writer.part(part(database, "e", pages(), 0, content)).unwrap();
        writer.done(database, dumped(&[("e", pages(), 1)])).unwrap();
        writer.commit().unwrap()
    }

    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(self.folder.path().join("repository/data")).unwrap();
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().path()).collect()
    }

    pub(crate) fn data_bytes(&self) -> u64 {
        self.packs().iter().map(|pack| std::fs::metadata(pack).unwrap().len()).sum()
    }

    /// Runs stock restic and expects it to succeed.
    pub(crate) fn restic(&self, arguments: &[&str]) -> String {
        let output = Command::new("restic")
            .args(["--no-cache", "--repo"])
            .arg(self.folder.path().join("repository"))
            .args(arguments)
            .env("RESTIC_PASSWORD", "geheim")
            .output()
            .expect("stock restic judges this test: `cargo xtask test` installs it");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "restic {arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

pub(crate) fn options() -> ResticOptions {
    let owner = LockOwner {
        host: "host".to_owned(),
        user: "user".to_owned(),
        pid: std::process::id(),
        uid: 0,
        gid: 0,
    };
    // Key derivation is not what these tests are about, and takes half a second each time.
    ResticOptions { derivation_passes: Some(1), ..ResticOptions::new(owner) }
}

pub(crate) fn target() -> TargetName {
    TargetName::new("/srv/shop \"1\".db").unwrap()
}

pub(crate) fn database(path: &str) -> DatabaseRef {
    let name = path.rsplit('/').next().unwrap();
    DatabaseRef { target: target(), name: DatabaseName::new(name).unwrap(), connection: path.to_owned() }
}

pub(crate) fn entry(name: &str) -> EntryName {
    EntryName::new(name).unwrap()
}

pub(crate) fn pages() -> Layout {
    Layout::Pages { page_bytes: 4096, cut_bytes: 65536 }
}

/// Bytes that do not compress, and are the same for the same seed.
pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(size).collect()
}

struct Bytes {
    content: Vec<u8>,
    at: usize,
    told: u64,
}

impl PartReader for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let count = buffer.len().min(self.content.len() - self.at);
        buffer[..count].copy_from_slice(&self.content[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }

    fn finish(self: Box<Self>) -> Result<PartFacts, SourceError> {
        Ok(PartFacts { size_bytes: self.told, rows: None, digest: None })
    }
}

/// A reader that gives these bytes and tells of another number of them.
pub(crate) fn lying(content: &[u8], told: u64) -> Box<dyn PartReader> {
    Box::new(Bytes { content: content.to_vec(), at: 0, told })
}

struct Failing(Option<SourceError>);

impl PartReader for Failing {
    fn read(&mut self, _buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.0.take().map_or(Ok(0), Err)
    }

    fn finish(self: Box<Self>) -> Result<PartFacts, SourceError> {
        Ok(PartFacts::default())
    }
}

/// A reader that fails at once.
pub(crate) fn failing(error: SourceError) -> Box<dyn PartReader> {
    Box::new(Failing(Some(error)))
}

pub(crate) fn part(
    database: &DatabaseRef,
    name: &str,
    layout: Layout,
    index: u32,
    content: &[u8],
) -> OpenPart {
    let reader = lying(content, content.len() as u64);
    OpenPart { database: database.clone(), entry: entry(name), layout, index, reader }
}

pub(crate) fn dumped(entries: &[(&str, Layout, u32)]) -> Dumped {
    let now = Timestamp::now();
    Dumped {
        facts: Facts {
            engine: EngineKind::Sqlite,
            engine_version: "0".to_owned(),
            form: "image".to_owned(),
            selection: None,
            consistency: ConsistencyPoint { time: now, position: BTreeMap::new() },
            size_bytes: 0,
            tables: vec![],
            schema: vec![],
            properties: BTreeMap::new(),
            tools: BTreeMap::new(),
        },
        marks: Marks { read_at: now, value: serde_json::Value::Null.into() },
        entries: entries.iter().map(|(name, layout, count)| (entry(name), (*layout, *count))).collect(),
        elapsed_ms: 1,
    }
}
