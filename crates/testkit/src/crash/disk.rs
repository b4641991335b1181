//! A model of a disk below one folder, which knows of every file and every name whether it is durable.
//!
//! It is as strict as POSIX allows: fsync of a file makes its content durable but not its name, fsync of a folder
//! makes the names in it durable but no content, and nothing else makes anything durable.

use super::FileOperation;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// What a power cut takes of that which was never made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Content and names.
    Everything,
    /// Content; all names are as they were last (a file that was renamed without fsync is empty).
    Content,
    /// Names; all content is as it was last.
    Names,
    /// Nothing: the process was killed, the machine went on.
    Nothing,
}

impl Lost {
    /// All of them.
    pub const ALL: [Lost; 4] = [Lost::Everything, Lost::Content, Lost::Names, Lost::Nothing];
}

/// An operation that does not fit what came before it: the recording is incomplete.
#[derive(Debug, PartialEq, Eq)]
pub struct DiskError(pub String);

impl std::fmt::Display for DiskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DiskError {}

type NodeId = usize;
type Names = BTreeMap<String, NodeId>;

#[derive(Debug, Clone)]
enum Node {
    File { now: Vec<u8>, durable: Vec<u8> },
    Folder { now: Names, durable: Names },
}

/// What is on the disk below one folder.
#[derive(Debug, Clone)]
pub struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
}

const ROOT: NodeId = 0;

impl Disk {
    /// Takes a folder as it is; all that is in it counts as durable. Links and devices are passed over.
    pub fn load(root: &Path) -> io::Result<Self> {
        let mut disk = Self { root: root.to_owned(), nodes: Vec::new() };
        disk.load_node(root)?;
        Ok(disk)
    }

    fn load_node(&mut self, path: &Path) -> io::Result<NodeId> {
        let id = self.nodes.len();
        if path.is_dir() {
            self.nodes.push(Node::Folder { now: Names::new(), durable: Names::new() });
            let mut names = Names::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() || kind.is_file() {
                    let child = self.load_node(&entry.path())?;
                    names.insert(entry.file_name().to_string_lossy().into_owned(), child);
                }
            }
            self.nodes[id] = Node::Folder { now: names.clone(), durable: names };
        } else {
            let content = fs::read(path)?;
            self.nodes.push(Node::File { now: content.clone(), durable: content });
        }
        Ok(id)
    }

    /// Says that the folder is known by another path in the operations to come.
    pub fn moved_to(mut self, root: &Path) -> Self {
        self.root = root.to_owned();
        self
    }

    /// Applies an operation. One that is about nothing below the root changes nothing.
    pub fn apply(&mut self, operation: &FileOperation) -> Result<(), DiskError> {
        if *operation == FileOperation::SyncAll {
            self.nodes.iter_mut().for_each(make_durable);
            return Ok(());
        }
        let inside = |path: &&Path| path.starts_with(&self.root);
        let paths = operation.paths();
        match paths.iter().filter(|path| inside(path)).count() {
            0 => return Ok(()),
            count if count < paths.len() => {
                return Err(DiskError(format!("{paths:?}: it crosses the edge of {}", self.root.display())));
            }
            _ => {}
        }
        match operation {
            FileOperation::Create { path } => self.add(path, Node::File { now: vec![], durable: vec![] }),
            FileOperation::MakeFolder { path } => {
                self.add(path, Node::Folder { now: Names::new(), durable: Names::new() })
            }
            FileOperation::Write { path, offset, bytes } => self.write(path, *offset, bytes),
            FileOperation::Truncate { path, size_bytes } => {
                self.content(path)?.resize(position(*size_bytes)?, 0);
                Ok(())
            }
            FileOperation::Sync { path } | FileOperation::SyncFolder { path } => self.sync(path),
            FileOperation::Rename { from, to } => {
                let node = self.take(from)?;
                self.names(to)?.insert(name(to)?, node);
                Ok(())
            }
            FileOperation::Exchange { one, other } => {
                let (first, second) = (self.take(one)?, self.take(other)?);
                self.names(one)?.insert(name(one)?, second);
                self.names(other)?.insert(name(other)?, first);
                Ok(())
            }
            FileOperation::Link { from, to } => {
                let node = self.find(from).ok_or_else(|| unknown(from))?;
                self.names(to)?.insert(name(to)?, node);
                Ok(())
            }
            FileOperation::Remove { path } => self.take(path).map(drop),
            FileOperation::SyncAll => Ok(()),
        }
    }

    /// Tells whether a path is below the folder that this disk is about.
    pub fn covers(&self, path: &Path) -> bool {
        path.starts_with(&self.root)
    }

    /// Tells whether there is a file or folder of that path now.
    pub fn holds(&self, path: &Path) -> bool {
        self.find(path).is_some()
    }

    /// Returns the content of a file as it is now.
    pub fn read(&self, path: &Path) -> Option<&[u8]> {
        match &self.nodes[self.find(path)?] {
            Node::File { now, .. } => Some(now),
            Node::Folder { .. } => None,
        }
    }

    /// Returns the number of the file of that path: the same under each of its names, whatever becomes of them.
    pub fn number(&self, path: &Path) -> Option<usize> {
        self.find(path)
    }

    /// Writes into an empty folder what a power cut now would leave: that takes `lost`. Several names of one file are
    /// names of one file there too. Returns a path of each file by its number.
    pub fn materialise(&self, lost: Lost, into: &Path) -> io::Result<BTreeMap<usize, PathBuf>> {
        let mut made = BTreeMap::new();
        self.materialise_node(ROOT, lost, into, &mut made)?;
        Ok(made)
    }

    #[allow(clippy::disallowed_methods, reason = "a test's own folder")]
    fn materialise_node(
        &self,
        id: NodeId,
        lost: Lost,
        into: &Path,
        made: &mut BTreeMap<usize, PathBuf>,
    ) -> io::Result<()> {
        match &self.nodes[id] {
            Node::File { now, durable } => {
                if let Some(first) = made.get(&id) {
                    return fs::hard_link(first, into);
                }
                made.insert(id, into.to_owned());
                let keep = matches!(lost, Lost::Names | Lost::Nothing);
                fs::write(into, if keep { now } else { durable })
            }
            Node::Folder { now, durable } => {
                fs::create_dir_all(into)?;
                let keep = matches!(lost, Lost::Content | Lost::Nothing);
                for (name, child) in if keep { now } else { durable } {
                    self.materialise_node(*child, lost, &into.join(name), made)?;
                }
                Ok(())
            }
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> Result<(), DiskError> {
        let id = self.nodes.len();
        let names = self.names(path)?;
        if names.insert(name(path)?, id).is_some() {
            return Err(DiskError(format!("{} is made, but it is there", path.display())));
        }
        self.nodes.push(node);
        Ok(())
    }

    fn write(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let start = position(offset)?;
        let content = self.content(path)?;
        let end = start + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, path: &Path) -> Result<(), DiskError> {
        let id = self.find(path).ok_or_else(|| unknown(path))?;
        make_durable(&mut self.nodes[id]);
        Ok(())
    }

    fn content(&mut self, path: &Path) -> Result<&mut Vec<u8>, DiskError> {
        let id = self.find(path).ok_or_else(|| unknown(path))?;
        match &mut self.nodes[id] {
            Node::File { now, .. } => Ok(now),
            Node::Folder { .. } => Err(DiskError(format!("{} is a folder", path.display()))),
        }
    }

    /// Returns the names in the folder that holds a path.
    fn names(&mut self, path: &Path) -> Result<&mut Names, DiskError> {
        let folder = path.parent().and_then(|folder| self.find(folder)).ok_or_else(|| unknown(path))?;
        match &mut self.nodes[folder] {
            Node::Folder { now, .. } => Ok(now),
            Node::File { .. } => Err(DiskError(format!("{} is below a file", path.display()))),
        }
    }

    fn take(&mut self, path: &Path) -> Result<NodeId, DiskError> {
        let name = name(path)?;
        self.names(path)?.remove(&name).ok_or_else(|| unknown(path))
    }

    fn find(&self, path: &Path) -> Option<NodeId> {
        let below = path.strip_prefix(&self.root).ok()?;
        below.components().try_fold(ROOT, |id, component| match (&self.nodes[id], component) {
            (Node::Folder { now, .. }, Component::Normal(name)) => now.get(name.to_str()?).copied(),
            _ => None,
        })
    }
}

fn make_durable(node: &mut Node) {
    match node {
        Node::File { now, durable } => durable.clone_from(now),
        Node::Folder { now, durable } => durable.clone_from(now),
    }
}

fn name(path: &Path) -> Result<String, DiskError> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| DiskError(format!("{} has no name", path.display())))
}

fn position(bytes: u64) -> Result<usize, DiskError> {
    usize::try_from(bytes).map_err(|error| DiskError(error.to_string()))
}

fn unknown(path: &Path) -> DiskError {
    DiskError(format!("{} is used, but nobody made it", path.display()))
}
