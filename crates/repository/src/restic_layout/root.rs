//! The root of a snapshot: the list of its databases, and the folder with theirs.

use super::failure::repository_error;
use super::lines::{self, Line};
use super::{names, state};
use crate::{RepositoryError, RepositoryErrorKind};
use flow::TargetName;
use jiff::Timestamp;
use restic::{BlobKind, BlobWriter, Id, Node, Tree};

/// Returns the nodes of the databases' folders.
pub(super) fn folders(lines: &[Line]) -> Vec<Node> {
    lines.iter().filter_map(|line| Some(folder(line, line.subtree?))).collect()
}

/// Returns the node of a database's folder.
pub(super) fn folder(line: &Line, subtree: Id) -> Node {
    Node::dir(names::encode(line.database.as_str()), line.changed, subtree)
}

/// Writes the list and the folders above those of the databases, and returns the root.
pub(super) fn save(
    blobs: &BlobWriter,
    target: &TargetName,
    time: Timestamp,
    lines: &[Line],
    folders: Vec<Node>,
) -> Result<Id, RepositoryError> {
    let content = lines::write(lines)
        .map_err(|error| RepositoryError::new(RepositoryErrorKind::Failed, lines::FILE, error.to_string()))?;
    let list =
        Node::file(lines::FILE, time, content.len() as u64, state::store(blobs, lines::FILE, &content)?);
    let databases = save_tree(blobs, Tree { nodes: folders })?;
    let folder = Node::dir(names::encode(target.as_str()), time, databases);
    save_tree(blobs, Tree { nodes: vec![list, folder] })
}

/// Stores a folder.
pub(super) fn save_tree(blobs: &BlobWriter, tree: Tree) -> Result<Id, RepositoryError> {
    let blob = tree.to_blob().map_err(repository_error)?;
    Ok(blobs.save_blob(BlobKind::Tree, blob).map_err(repository_error)?.id)
}
