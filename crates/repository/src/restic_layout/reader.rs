//! Reads one backup: its manifest, and any range of any entry.
//!
//! The content of an entry is a list of blobs in its node; the index gives their lengths. Each blob is verified as it
//! is opened, so what a reader returns is what was stored, or an error.

use super::failure::read_error;
use super::{lines, names};
use crate::{RepositoryError, RepositoryErrorKind, StoredFile, StoredFiles};
use flow::{BackupReader, Cancel, EntryName, MANIFEST_SCHEMA, Manifest, ReadError, ReadErrorKind};
use restic::{BlobKind, Id, Index, Node, NodeKind, ReadOptions, Repository, Tree};
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// The manifest's name in a database's folder.
pub(super) const MANIFEST_FILE: &str = "manifest.json";

/// How many threads read ahead.
const THREADS: usize = 2;

/// A file whose blobs were looked up: some fifty bytes a blob.
struct LaidOut {
    name: String,
    blobs: Vec<(Id, u64)>,
    starts: Vec<u64>,
    total: u64,
}

/// What reading needs.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) repository: Arc<Repository>,
    pub(super) index: Arc<Index>,
    pub(super) cancel: Cancel,
}

impl Source {
    /// Returns the content of a node with the lengths of its blobs.
    fn blobs(&self, node: &Node) -> Result<Vec<(Id, u64)>, ReadError> {
        let content = node.content.as_deref().unwrap_or_default();
        let length = |id: &Id| {
            let location = self.index.find(BlobKind::Data, id).ok_or_else(|| {
                ReadError::new(
                    ReadErrorKind::Damaged,
                    format!("data blob {id} in {}", self.repository.location()),
                    "no index names it",
                )
            })?;
            Ok((*id, location.plaintext_length()))
        };
        content.iter().map(length).collect()
    }

    /// Looks up a file: its blobs with where each begins, and that they make up its size.
    fn laid_out(&self, node: &Node) -> Result<LaidOut, ReadError> {
        let blobs = self.blobs(node)?;
        let mut starts = Vec::with_capacity(blobs.len());
        let mut total: u64 = 0;
        for (_, length) in &blobs {
            starts.push(total);
            total += length;
        }
        if total != node.size {
            return Err(ReadError::new(
                ReadErrorKind::Damaged,
                format!("file {} in {}", node.name, self.repository.location()),
                format!("its blobs have {total} bytes, its node says {}", node.size),
            ));
        }
        Ok(LaidOut { name: node.name.clone(), blobs, starts, total })
    }

    /// Returns a reader of a range of a file.
    fn stream(
        &self,
        file: &LaidOut,
        range: Range<u64>,
        threads: usize,
    ) -> Result<Box<dyn Read + Send>, ReadError> {
        if range.start > range.end || range.end > file.total {
            return Err(ReadError::new(
                ReadErrorKind::Missing,
                format!("bytes {} to {} of {}", range.start, range.end, file.name),
                format!("it has {} bytes", file.total),
            ));
        }
        // Only the blobs that the range touches: a large file is read in hundreds of ranges.
        let first = file.starts.partition_point(|start| *start <= range.start).saturating_sub(1);
        let end = file.starts.partition_point(|start| *start < range.end).max(first);
        let skipped = file.starts.get(first).copied().unwrap_or(0);
        let (blobs, range) = match range.is_empty() {
            true => (vec![], 0..0),
            false => {
                let blobs = file.blobs.get(first..end).unwrap_or_default().to_vec();
                (blobs, range.start - skipped..range.end - skipped)
            }
        };
        let options = ReadOptions { threads, cancel: self.cancel.clone() };
        let stream =
            restic::stream(Arc::clone(&self.repository), Arc::clone(&self.index), blobs, range, options)
                .map_err(read_error)?;
        Ok(Box::new(Translated { stream, name: file.name.clone() }))
    }

    /// Returns the whole of a small file.
    pub(super) fn read_file(&self, node: &Node) -> Result<Vec<u8>, ReadError> {
        let mut stream = self.stream(&self.laid_out(node)?, 0..node.size, 1)?;
        // What the index says of its blobs adds up to the size: it is no lie that takes the memory.
        let mut content = Vec::with_capacity(usize::try_from(node.size).unwrap_or(0));
        stream.read_to_end(&mut content).map_err(|error| ReadError::from_io(error, &node.name))?;
        Ok(content)
    }

    pub(super) fn read_tree(&self, id: &Id) -> Result<Tree, ReadError> {
        self.repository.read_tree(&self.index, id).map_err(read_error)
    }

    /// Returns the list in a snapshot's root folder; `None` where there is no such file: it is not ours.
    pub(super) fn read_list(&self, root: &Id) -> Result<Option<Vec<u8>>, ReadError> {
        let tree = self.read_tree(root)?;
        tree.find(lines::FILE).map(|node| self.read_file(node)).transpose()
    }

    /// Returns the manifest in a database's folder.
    pub(super) fn read_manifest(&self, tree: &Tree) -> Result<Manifest, ReadError> {
        let object = format!("{MANIFEST_FILE} in {}", self.repository.location());
        let node = tree
            .find(MANIFEST_FILE)
            .ok_or_else(|| ReadError::new(ReadErrorKind::Damaged, object.clone(), "it is not there"))?;
        let content = self.read_file(node)?;
        let manifest: Manifest = serde_json::from_slice(&content).map_err(|error| {
            ReadError::new(ReadErrorKind::Damaged, object.clone(), error.to_string()).with_source(error)
        })?;
        if manifest.schema != MANIFEST_SCHEMA {
            let message = format!("its schema is {}, this version reads {MANIFEST_SCHEMA}", manifest.schema);
            return Err(ReadError::new(ReadErrorKind::Storage, object, message));
        }
        Ok(manifest)
    }

    /// Returns the node of an entry, whose name's slashes are folders.
    pub(super) fn entry_node(&self, tree: &Tree, entry: &EntryName) -> Result<Node, ReadError> {
        let missing = || {
            ReadError::new(
                ReadErrorKind::Missing,
                format!("entry {entry} in {}", self.repository.location()),
                "the backup has no such entry",
            )
        };
        let mut parts = entry.as_str().split('/').map(names::encode).peekable();
        let mut folder = None;
        while let Some(part) = parts.next() {
            let node = folder.as_ref().unwrap_or(tree).find(&part).ok_or_else(missing)?;
            match (&node.kind, node.subtree, parts.peek()) {
                (NodeKind::File, _, None) => return Ok(node.clone()),
                (NodeKind::Dir, Some(below), Some(_)) => folder = Some(self.read_tree(&below)?),
                _ => return Err(missing()),
            }
        }
        Err(missing())
    }
}

/// Carries the format's error as the seam's.
struct Translated {
    stream: Box<dyn Read + Send>,
    name: String,
}

impl Read for Translated {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer).map_err(|error| {
            if error.kind() == std::io::ErrorKind::Interrupted {
                return error;
            }
            match error.downcast::<restic::ResticError>() {
                Ok(error) => read_error(error).into(),
                Err(error) => ReadError::from_io(error, &self.name).into(),
            }
        })
    }
}

/// One stored backup of ours. Holds its lock for as long as it is open.
pub(super) struct ResticBackup {
    source: Source,
    tree: Tree,
    manifest: Manifest,
    /// The entry that was read last: each read is of a part of one.
    last: Mutex<Option<(EntryName, Arc<LaidOut>)>>,
    _lock: Option<Arc<restic::LockGuard>>,
}

impl ResticBackup {
    pub(super) fn open(
        source: Source,
        subtree: &Id,
        lock: Option<Arc<restic::LockGuard>>,
    ) -> Result<Self, ReadError> {
        let tree = source.read_tree(subtree)?;
        let manifest = source.read_manifest(&tree)?;
        Ok(Self { source, tree, manifest, last: Mutex::default(), _lock: lock })
    }

    pub(super) fn into_manifest(self) -> Manifest {
        self.manifest
    }
}

impl BackupReader for ResticBackup {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, entry: &EntryName, range: Range<u64>) -> Result<Box<dyn Read + Send>, ReadError> {
        let file = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            match last.as_ref().filter(|(name, _)| name == entry) {
                Some((_, file)) => Arc::clone(file),
                None => {
                    let node = self.source.entry_node(&self.tree, entry)?;
                    let file = Arc::new(self.source.laid_out(&node)?);
                    *last = Some((entry.clone(), Arc::clone(&file)));
                    file
                }
            }
        };
        self.source.stream(&file, range, THREADS)
    }
}

/// The files of a snapshot, for those that stock restic wrote.
pub(super) struct ResticFiles {
    source: Source,
    files: Vec<StoredFile>,
    nodes: Vec<Node>,
    _lock: Option<Arc<restic::LockGuard>>,
}

impl ResticFiles {
    pub(super) fn open(
        source: Source,
        root: &Id,
        lock: Option<Arc<restic::LockGuard>>,
    ) -> Result<Self, ReadError> {
        let mut files = Self { source, files: vec![], nodes: vec![], _lock: lock };
        files.walk(root, "", 0)?;
        Ok(files)
    }

    fn walk(&mut self, tree: &Id, above: &str, depth: usize) -> Result<(), ReadError> {
        const DEPTH_MAX: usize = 1000;
        if depth > DEPTH_MAX {
            return Err(ReadError::new(ReadErrorKind::Damaged, format!("tree {tree}"), "it is too deep"));
        }
        for node in self.source.read_tree(tree)?.nodes {
            // A name that leads elsewhere is damage or an attack; it must never become a path.
            if node.name.contains('/') || matches!(node.name.as_str(), "" | "." | "..") {
                let message = format!("it holds the name {:?}", node.name);
                return Err(ReadError::new(ReadErrorKind::Damaged, format!("tree {tree}"), message));
            }
            let path = format!("{above}/{}", node.name);
            let kind = match &node.kind {
                NodeKind::File => "file",
                NodeKind::Dir => "dir",
                NodeKind::Symlink => "symlink",
                NodeKind::Other(kind) => kind,
            };
            self.files.push(StoredFile {
                path: path.clone(),
                kind: kind.to_owned(),
                size_bytes: node.size,
                mode: node.mode & 0o7777,
                modified: Some(node.mtime),
                link_target: Some(node.linktarget.clone()).filter(|target| !target.is_empty()),
            });
            let below = node.subtree.filter(|_| node.kind == NodeKind::Dir);
            self.nodes.push(node);
            if let Some(below) = below {
                self.walk(&below, &path, depth + 1)?;
            }
        }
        Ok(())
    }
}

impl StoredFiles for ResticFiles {
    fn files(&self) -> &[StoredFile] {
        &self.files
    }

    fn read(&self, index: usize) -> Result<Box<dyn Read + Send>, ReadError> {
        let node = self.nodes.get(index).ok_or_else(|| {
            ReadError::new(ReadErrorKind::Missing, format!("file {index}"), "the snapshot has no such file")
        })?;
        self.source.stream(&self.source.laid_out(node)?, 0..node.size, THREADS)
    }
}

/// A damaged list or manifest is damage of the repository, whoever asked.
pub(super) fn as_repository_error(error: ReadError) -> RepositoryError {
    let kind = match error.kind {
        ReadErrorKind::Cancelled => RepositoryErrorKind::Cancelled,
        ReadErrorKind::Storage => RepositoryErrorKind::Failed,
        ReadErrorKind::Missing | ReadErrorKind::Damaged => RepositoryErrorKind::Damaged,
    };
    let made = RepositoryError::new(kind, error.object.clone(), error.message.clone());
    match kind {
        RepositoryErrorKind::Damaged => made
            .with_hint(
                "`backstay check --read-data` names everything that is damaged, and the backups it affects",
            )
            .with_source(error),
        _ => match error.source {
            Some(below) => made.with_source(below),
            None => made,
        },
    }
}
