//! Folders as restic stores them: a JSON list of nodes, one blob a folder.
//!
//! Written exactly as restic would write it, so that equal folders are one blob whoever wrote them; read leniently, so
//! that a newer client's fields do no harm. Stock restic restores as many bytes as `size` says: it must be exact.

use crate::error::ResticError;
use crate::id::Id;
use crate::quoting;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Go's bit for a folder in `mode`.
pub const MODE_DIR: u32 = 1 << 31;

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// A file: content and size.
    File,
    /// A folder: a subtree.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Anything else that restic knows (devices, pipes, sockets), by its name in the format.
    #[serde(untagged)]
    Other(String),
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name, as it is: quoted when written, unquoted when read.
    #[serde(with = "quoting::as_go_quotes")]
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: NodeKind,
    /// Permission bits, with Go's bits for the type ([`MODE_DIR`]).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mode: u32,
    /// When its content changed.
    #[serde(default = "epoch")]
    pub mtime: Timestamp,
    /// When it was read.
    #[serde(default = "epoch")]
    pub atime: Timestamp,
    /// When its metadata changed.
    #[serde(default = "epoch")]
    pub ctime: Timestamp,
    /// The owner's number.
    #[serde(default)]
    pub uid: u32,
    /// The group's number.
    #[serde(default)]
    pub gid: u32,
    /// The owner's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The group's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its number in the filesystem, where it had one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub inode: u64,
    /// Its device, where it had hard links.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub device_id: u64,
    /// A file's exact size in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// How many names it had.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub links: u64,
    /// Where a link points.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub linktarget: String,
    /// A file's blobs in order; `None` for everything else.
    #[serde(default)]
    pub content: Option<Vec<Id>>,
    /// A folder's tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtree: Option<Id>,
}

impl Node {
    /// Makes a file, mode 0600, owned by nobody in particular. `size_bytes` must be the sum of its blobs' lengths.
    pub fn file(name: impl Into<String>, time: Timestamp, size_bytes: u64, content: Vec<Id>) -> Self {
        let mut node = Self::new(name.into(), NodeKind::File, time, 0o600);
        node.size = size_bytes;
        node.content = Some(content);
        node
    }

    /// Makes a folder, mode 0700, owned by nobody in particular.
    pub fn dir(name: impl Into<String>, time: Timestamp, subtree: Id) -> Self {
        let mut node = Self::new(name.into(), NodeKind::Dir, time, MODE_DIR | 0o700);
        node.subtree = Some(subtree);
        node
    }

    fn new(name: String, kind: NodeKind, time: Timestamp, mode: u32) -> Self {
        Self {
            name,
            kind,
            mode,
            mtime: time,
            atime: time,
            ctime: time,
            uid: 0,
            gid: 0,
            user: String::new(),
            group: String::new(),
            inode: 0,
            device_id: 0,
            size: 0,
            links: 0,
            linktarget: String::new(),
            content: None,
            subtree: None,
        }
    }
}

/// A folder: its nodes, sorted by name when written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tree {
    /// The nodes.
    pub nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct TreeFile {
    nodes: Option<Vec<Node>>,
}

#[derive(Serialize)]
struct TreeFileRef<'a> {
    nodes: &'a [&'a Node],
}

impl Tree {
    /// Returns the node of that name.
    pub fn find(&self, name: &str) -> Option<&Node> {
        // As stored they are sorted by the bytes of their names; one that somebody put together may not be.
        let by_name = |node: &Node| node.name.as_bytes().cmp(name.as_bytes());
        match self.nodes.binary_search_by(by_name) {
            Ok(at) => self.nodes.get(at),
            Err(_) => self.nodes.iter().find(|node| node.name == name),
        }
    }

    /// Returns the blob that restic stores for this folder: nodes sorted by the bytes of their names, JSON as Go
    /// writes it, one line. Two nodes of one name are refused.
    pub fn to_blob(&self) -> Result<Vec<u8>, ResticError> {
        let mut nodes: Vec<&Node> = self.nodes.iter().collect();
        nodes.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        if let Some(pair) = nodes.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(ResticError::new(
                crate::ResticErrorKind::Failed,
                format!("tree with {:?}", pair[0].name),
                "the name is there twice",
            ));
        }
        let mut json = quoting::to_go_json(&TreeFileRef { nodes: &nodes })?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads a folder's blob.
    pub fn from_blob(blob: &[u8]) -> Result<Self, serde_json::Error> {
        let file: TreeFile = serde_json::from_slice(blob)?;
        Ok(Self { nodes: file.nodes.unwrap_or_default() })
    }
}

/// What of other blobs a folder needs: for walks through folders of thousands of nodes, of which nothing else is wanted.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct TreeNeeds {
    /// The blobs of its files.
    pub(crate) blobs: Vec<Id>,
    /// The folders in it.
    pub(crate) folders: Vec<Id>,
}

#[derive(Deserialize)]
struct NeedsFile {
    nodes: Option<Vec<NodeNeeds>>,
}

#[derive(Deserialize)]
struct NodeNeeds {
    #[serde(rename = "type")]
    kind: NodeKind,
    #[serde(default)]
    content: Option<Vec<Id>>,
    #[serde(default)]
    subtree: Option<Id>,
}

impl TreeNeeds {
    /// Reads them of a folder's blob.
    pub(crate) fn from_blob(blob: &[u8]) -> Result<Self, serde_json::Error> {
        let file: NeedsFile = serde_json::from_slice(blob)?;
        let mut needs = Self::default();
        for node in file.nodes.into_iter().flatten() {
            needs.blobs.extend(node.content.into_iter().flatten());
            needs.folders.extend(node.subtree.filter(|_| node.kind == NodeKind::Dir));
        }
        Ok(needs)
    }
}

/// Writes the blob of a folder node by node, in the order of the bytes of their names: of a million files only the blob is
/// in memory.
#[derive(Debug, Default)]
pub struct TreeWriter {
    json: Vec<u8>,
    last: Option<String>,
}

impl TreeWriter {
    /// Adds a node. One whose name does not come after the last one's is refused.
    pub fn add(&mut self, node: &Node) -> Result<(), ResticError> {
        if self.last.as_deref().is_some_and(|last| last.as_bytes() >= node.name.as_bytes()) {
            return Err(ResticError::new(
                crate::ResticErrorKind::Failed,
                format!("tree with {:?}", node.name),
                "the name is there twice, or not in its place",
            ));
        }
        self.json.extend_from_slice(if self.last.is_none() { BEGINNING } else { b"," });
        quoting::write_go_json(node, &mut self.json)?;
        self.last = Some(node.name.clone());
        Ok(())
    }

    /// Returns what [`Tree::to_blob`] returns of the same nodes.
    pub fn finish(mut self) -> Vec<u8> {
        if self.last.is_none() {
            self.json.extend_from_slice(BEGINNING);
        }
        self.json.extend_from_slice(b"]}\n");
        self.json
    }
}

/// What the nodes of a folder follow.
const BEGINNING: &[u8] = b"{\"nodes\":[";

fn epoch() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn is_zero<N: PartialEq + From<u8>>(number: &N) -> bool {
    *number == N::from(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn node() -> impl Strategy<Value = Node> {
        let ids = proptest::collection::vec(any::<[u8; 32]>().prop_map(Id), 0..4);
        (any::<String>(), any::<bool>(), any::<u64>(), ids, 0i64..4_000_000_000).prop_map(
            |(name, is_file, size, ids, seconds)| {
                let time = Timestamp::from_second(seconds).unwrap();
                if is_file { Node::file(name, time, size, ids) } else { Node::dir(name, time, Id([7; 32])) }
            },
        )
    }

    proptest! {
        #[test]
        fn a_tree_survives_and_has_one_form(nodes in proptest::collection::btree_map(any::<String>(), node(), 0..8)) {
            let nodes: Vec<Node> = nodes.into_iter().map(|(name, node)| Node { name, ..node }).collect();
            let tree = Tree { nodes };
            let mut backwards = tree.clone();
            backwards.nodes.reverse();
            let blob = tree.to_blob().unwrap();
            prop_assert_eq!(&backwards.to_blob().unwrap(), &blob);
            let needs = TreeNeeds::from_blob(&blob).unwrap();
            let mut sorted: Vec<&Node> = tree.nodes.iter().collect();
            sorted.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
            let blobs: Vec<Id> = sorted.iter().flat_map(|node| node.content.iter().flatten()).copied().collect();
            let folders: Vec<Id> = sorted.iter().filter_map(|node| node.subtree).collect();
            prop_assert_eq!(needs, TreeNeeds { blobs, folders });
            let mut writer = TreeWriter::default();
            tree.nodes.iter().for_each(|node| writer.add(node).unwrap());
            prop_assert_eq!(&writer.finish(), &blob);
            prop_assert_eq!(Tree::from_blob(&blob).unwrap(), tree);
        }
    }

    #[test]
    fn a_node_is_written_as_restic_writes_it() {
        let time: Timestamp = "2026-01-02T03:04:05.6Z".parse().unwrap();
        let tree =
            Tree { nodes: vec![Node::dir("d", time, Id([1; 32])), Node::file("a\"b", time, 0, vec![])] };
        let times = r#""mtime":"2026-01-02T03:04:05.6Z","atime":"2026-01-02T03:04:05.6Z","ctime":"2026-01-02T03:04:05.6Z""#;
        let expected = format!(
            concat!(
                r#"{{"nodes":[{{"name":"a\\\"b","type":"file","mode":384,{times},"uid":0,"gid":0,"content":[]}},"#,
                r#"{{"name":"d","type":"dir","mode":2147484096,{times},"uid":0,"gid":0,"content":null,"subtree":"{id}"}}]}}"#,
                "\n"
            ),
            times = times,
            id = Id([1; 32]),
        );
        assert_eq!(String::from_utf8(tree.to_blob().unwrap()).unwrap(), expected);
    }

    #[test]
    fn unknown_fields_are_passed_over_and_two_equal_names_refused() {
        let json =
            br#"{"nodes":[{"name":"f","type":"fifo","new":1,"mtime":"2026-01-02T03:04:05+01:00"}],"x":[]}"#;
        let tree = Tree::from_blob(json).unwrap();
        assert_eq!(tree.find("f").unwrap().kind, NodeKind::Other("fifo".to_owned()));
        let node = tree.nodes[0].clone();
        let mut writer = TreeWriter::default();
        assert!(writer.add(&node).is_ok() && writer.add(&node).is_err());
        assert!(Tree { nodes: vec![node.clone(), node] }.to_blob().is_err());
        assert_eq!(Tree::from_blob(br#"{"nodes":null}"#).unwrap(), Tree::default());
        assert!(Tree::from_blob(b"{}").is_ok() && Tree::from_blob(b"[]").is_err());
    }
}
