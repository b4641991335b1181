//! What the tests share: repositories in folders of their own, stock restic as the judge, and made-up content.
//!
//! Each test file uses a part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use flow::Secret;
use jiff::Timestamp;
use restic::{
    BlobKind, BlobWriter, CreateOptions, Cut, Id, Index, Node, OpenOptions, ReadOptions, Repository,
    Snapshot, StoredBlob, Tree, WriterOptions, WriterReport,
};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use storage::{LocalStorage, ObjectName, ObjectStat, Storage, StorageError, StorageErrorKind};

pub const PASSWORD: &str = "geheim";

/// A folder for one test, with a repository in `repo`.
pub struct Place {
    pub folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A repository of ours, with a key that is cheap to derive.
    pub fn with_our_repository() -> (Self, Arc<Repository>) {
        let place = Self::new();
        let storage = Arc::new(LocalStorage::create(place.repo()).unwrap());
        let options = CreateOptions {
            host: "host".into(),
            user: "user".into(),
            cache: None,
            derivation_passes: Some(1),
        };
        let repository = Repository::create(storage, &Secret::new(PASSWORD), options).unwrap();
        (place, Arc::new(repository))
    }

    /// A repository that stock restic made.
    pub fn with_stock_repository(version: u32) -> Self {
        let place = Self::new();
        place.restic(&["init", "--repository-version", &version.to_string()]);
        place
    }

    /// A repository of restic's own test suite.
    pub fn with_test_data(name: &str) -> Self {
        let place = Self::new();
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/restic").join(name);
        let status =
            Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(place.folder.path()).status().unwrap();
        assert!(status.success());
        assert!(place.repo().join("config").exists());
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    pub fn open(&self) -> Arc<Repository> {
        self.open_with(OpenOptions::default())
    }

    pub fn open_with(&self, options: OpenOptions) -> Arc<Repository> {
        let storage = Arc::new(LocalStorage::open(self.repo()).unwrap());
        Arc::new(Repository::open(storage, &Secret::new(PASSWORD), options).unwrap())
    }

    /// Runs stock restic, which must succeed, and returns what it printed.
    pub fn restic(&self, arguments: &[&str]) -> String {
        let output = self.try_restic(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "restic {arguments:?}: {text}{}", lossy(&output.stdout));
        lossy(&output.stdout)
    }

    /// Runs stock restic.
    pub fn try_restic(&self, arguments: &[&str]) -> Output {
        Command::new("restic")
            .args(arguments)
            .arg("--no-cache")
            .arg("-r")
            .arg(self.repo())
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path())
            .output()
            .expect("restic must be installed")
    }

    /// Every object of the repository below a folder.
    pub fn objects(&self, folder: &str) -> Vec<PathBuf> {
        fn walk(path: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    walk(&entry.path(), found);
                } else {
                    found.push(entry.path());
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.repo().join(folder), &mut found);
        found.sort();
        found
    }
}

pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes that nothing compresses, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Rows of text as a database dump has them.
pub fn rows(length: usize, seed: u64) -> Vec<u8> {
    use std::io::Write;
    let mut text = Vec::with_capacity(length + 200);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut row = seed;
    while text.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (customer, cents) = (state % 99_991, (state >> 20) % 500_000);
        let status = ["paid", "open", "sent", "returned"][(state >> 50) as usize % 4];
        let day = (state >> 40) % 28 + 1;
        writeln!(
            text,
            "{row}\t{customer}\t2026-03-{day:02}\t{}.{:02}\t{status}\t\\N",
            cents / 100,
            cents % 100
        )
        .unwrap();
        row += 1;
    }
    text.truncate(length);
    text
}

/// Stores a content with a writer.
pub fn store(writer: &BlobWriter, content: &[u8], cut: &Cut) -> Vec<StoredBlob> {
    let mut rest = content;
    let blobs = writer.write_stream(&mut |buffer: &mut [u8]| Read::read(&mut rest, buffer), cut).unwrap();
    assert_eq!(blobs.iter().map(|blob| blob.length).sum::<u64>(), content.len() as u64);
    blobs
}

/// This process, as the taker of a lock.
pub fn owner() -> restic::LockOwner {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
    restic::LockOwner { host, user: "tester".into(), pid: std::process::id(), uid: 0, gid: 0 }
}

pub fn time() -> Timestamp {
    "2026-03-04T05:06:07.123456789Z".parse().unwrap()
}

/// Stores files as one snapshot and returns its id with what the writer reports.
pub fn backup(repository: &Arc<Repository>, files: &[(&str, &[u8], Cut)]) -> (Id, WriterReport) {
    backup_with(repository, files, WriterOptions::default())
}

pub fn backup_with(
    repository: &Arc<Repository>,
    files: &[(&str, &[u8], Cut)],
    options: WriterOptions,
) -> (Id, WriterReport) {
    let index = Arc::new(repository.load_index_of_stored_packs().unwrap());
    let writer = BlobWriter::begin(repository.clone(), index, options).unwrap();
    let mut tree = Tree::default();
    for (name, content, cut) in files {
        let ids = store(&writer, content, cut).iter().map(|blob| blob.id).collect();
        tree.nodes.push(Node::file(*name, time(), content.len() as u64, ids));
    }
    let folder = writer.save_blob(BlobKind::Tree, tree.to_blob().unwrap()).unwrap().id;
    let root = Tree { nodes: vec![Node::dir("target", time(), folder)] };
    let root = writer.save_blob(BlobKind::Tree, root.to_blob().unwrap()).unwrap().id;
    let report = writer.finish().unwrap();
    let mut snapshot = Snapshot::new(Timestamp::now(), root);
    snapshot.paths = vec!["/target".into()];
    snapshot.hostname = "host".into();
    snapshot.username = "user".into();
    snapshot.tags = vec!["target=shop".into(), "plan=daily".into()];
    (repository.save_snapshot(&snapshot).unwrap(), report)
}

/// Reads a whole file of a tree.
pub fn read_node(repository: &Arc<Repository>, index: &Arc<Index>, node: &Node) -> std::io::Result<Vec<u8>> {
    let blobs: Vec<(Id, u64)> = node
        .content
        .iter()
        .flatten()
        .map(|id| {
            let length = index.find(BlobKind::Data, id).map_or(1, |location| location.plaintext_length());
            (*id, length)
        })
        .collect();
    let total = blobs.iter().map(|(_, length)| length).sum();
    let mut reader =
        restic::stream(repository.clone(), index.clone(), blobs, 0..total, ReadOptions::default())
            .map_err(std::io::Error::other)?;
    let mut content = Vec::new();
    reader.read_to_end(&mut content)?;
    Ok(content)
}

/// Every file below a tree, by path, with its content or why it cannot be read.
pub fn read_all(
    repository: &Arc<Repository>,
    index: &Arc<Index>,
    tree: &Id,
) -> Vec<(String, Result<Vec<u8>, String>)> {
    let mut files = Vec::new();
    let mut open = vec![(String::new(), *tree)];
    while let Some((path, id)) = open.pop() {
        let tree = match repository.read_tree(index, &id) {
            Ok(tree) => tree,
            Err(error) => {
                files.push((format!("{path}/"), Err(error.to_string())));
                continue;
            }
        };
        for node in &tree.nodes {
            let path = format!("{path}/{}", node.name);
            if let Some(subtree) = node.subtree {
                open.push((path, subtree));
            } else if node.kind == restic::NodeKind::File {
                let content = read_node(repository, index, node).map_err(|error| error.to_string());
                files.push((path, content));
            }
        }
    }
    files.sort();
    files
}

/// Checks with nobody watching.
pub fn check(repository: &Repository, depth: restic::Depth) -> restic::CheckOutcome {
    restic::check(repository, depth, &flow::Cancel::new(), &|_| {}).unwrap()
}

/// Lets so many changes happen and is gone then, as after a kill.
pub struct Dying {
    inner: Arc<dyn Storage>,
    pub left: AtomicI64,
}

impl Dying {
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, left: AtomicI64::new(1_000_000) }
    }

    fn pass<T>(&self, cost: i64, call: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
        if self.left.fetch_sub(cost, Ordering::SeqCst) < cost {
            self.left.store(-1_000_000, Ordering::SeqCst);
            return Err(StorageError {
                kind: StorageErrorKind::Failed,
                verb: "reach",
                object: "memory".into(),
                message: "dead".into(),
                source: None,
            });
        }
        call()
    }
}

impl Storage for Dying {
    fn put(&self, name: &ObjectName, content: &[&[u8]]) -> Result<(), StorageError> {
        self.pass(1, || self.inner.put(name, content))
    }
    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.pass(0, || self.inner.get(name))
    }
    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        self.pass(0, || self.inner.get_range(name, range))
    }
    fn stat(&self, name: &ObjectName) -> Result<ObjectStat, StorageError> {
        self.pass(0, || self.inner.stat(name))
    }
    fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, StorageError> {
        self.pass(0, || self.inner.list(folder))
    }
    fn remove(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.pass(1, || self.inner.remove(name))
    }
    fn confirm(&self, name: &ObjectName, sha256: &[u8; 32]) -> Result<(), StorageError> {
        self.pass(0, || self.inner.confirm(name, sha256))
    }
    fn free_bytes(&self) -> Option<u64> {
        None
    }
    fn location(&self) -> String {
        "memory".into()
    }
}
