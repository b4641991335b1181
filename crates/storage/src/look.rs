//! What is known of a file without reading it, and whether two looks saw the same one. Looks only.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A file.
    File,
    /// A folder, or what begins the names of others.
    Folder,
    /// A link, whatever it leads to.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

/// What is known of a file without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What it is.
    pub kind: FileKind,
    /// Its length.
    pub size_bytes: u64,
    /// When its content was changed last.
    pub modified: SystemTime,
    /// Device and inode, where it is a file of this machine.
    pub inode: Option<(u64, u64)>,
    /// What the place itself calls this content, where it does.
    pub version: Option<String>,
    /// Whether the content has another name too, so that removing this one frees nothing.
    pub has_other_names: bool,
}

impl Look {
    /// Tells whether two looks saw the same file with the same content.
    pub fn is_same(&self, other: &Self) -> bool {
        let seen = |look: &Self| (look.kind, look.size_bytes, look.modified, look.inode);
        seen(self) == seen(other) && self.version == other.version
    }
}

/// Returns what the system says of a file.
pub(crate) fn look_at(metadata: &Metadata) -> io::Result<Look> {
    let kind = match metadata.file_type() {
        kind if kind.is_symlink() => FileKind::Link,
        kind if kind.is_file() => FileKind::File,
        kind if kind.is_dir() => FileKind::Folder,
        _ => FileKind::Other,
    };
    Ok(Look {
        kind,
        size_bytes: metadata.len(),
        modified: metadata.modified()?,
        inode: Some((metadata.dev(), metadata.ino())),
        version: None,
        has_other_names: kind != FileKind::Folder && metadata.nlink() > 1,
    })
}
