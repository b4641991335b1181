//! The seam below repositories: names, and what can be done with the objects that bear them.

use crate::StorageError;
use std::fmt;
use std::ops::Range;

/// The name of an object: one or more parts of `[A-Za-z0-9._-]`, with `/` between them; no part is `.` or `..`, none
/// begins with a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

impl ObjectName {
    /// Takes a name.
    pub fn new(name: impl Into<String>) -> Result<Self, StorageError> {
        let name = name.into();
        let fits = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if name.split('/').all(fits) {
            return Ok(Self(name));
        }
        Err(StorageError {
            kind: crate::StorageErrorKind::InvalidName,
            verb: "name",
            object: name,
            message: "the name of an object has only letters, digits, dots, dashes and slashes".to_owned(),
            source: None,
        })
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a storage knows of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectStat {
    /// Its name.
    pub name: ObjectName,
    /// Its length.
    pub size_bytes: u64,
}

/// Bytes that are given away for the length of a call, so that the call need not copy them: the front of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The buffer.
    pub bytes: Vec<u8>,
    /// How many bytes of it are meant.
    pub used: usize,
}

impl Given {
    /// Returns the bytes that are meant.
    pub fn meant(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or(&self.bytes)
    }

    /// Gives a whole buffer.
    pub fn all(bytes: Vec<u8>) -> Self {
        let used = bytes.len();
        Self { bytes, used }
    }
}

/// A place for write-once objects. Every operation names the object in its error.
pub trait Storage: Send + Sync {
    /// Puts a new object, the concatenation of `content`. When it returns `Ok`, the object is whole and durable; when
    /// it fails or the process dies, there is no object of that name, or the whole one. An existing name is refused
    /// ([`crate::StorageErrorKind::Exists`]) and keeps its content.
    fn put(&self, name: &ObjectName, content: &[&[u8]]) -> Result<(), StorageError>;

    /// As [`Storage::put`], of content that comes back with the outcome. It may be lost where the call fails.
    fn put_given(&self, name: &ObjectName, content: Vec<Given>) -> (Result<(), StorageError>, Vec<Given>) {
        let slices: Vec<&[u8]> = content.iter().map(Given::meant).collect();
        (self.put(name, &slices), content)
    }

    /// Returns a whole object.
    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError>;

    /// Returns a range of an object. A range beyond its end is an error
    /// ([`crate::StorageErrorKind::Damaged`]), never fewer bytes.
    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StorageError>;

    /// Returns what is known of an object.
    fn stat(&self, name: &ObjectName) -> Result<ObjectStat, StorageError>;

    /// Lists the objects whose names begin with `folder/`, in folders below it too, in the order of their names. An
    /// empty `folder` lists all. A folder that does not exist is empty. What an interrupted `put` left is not listed.
    fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, StorageError>;

    /// Removes an object; durable when it returns. Removing what is not there is an error
    /// ([`crate::StorageErrorKind::Missing`]).
    fn remove(&self, name: &ObjectName) -> Result<(), StorageError>;

    /// Proves that an object is stored as it was put: reads it back, past caches where that is possible, and compares
    /// its SHA-256 ([`crate::StorageErrorKind::Damaged`] where it differs). A storage that verified a checksum of its
    /// own on `put` may answer from that.
    fn confirm(&self, name: &ObjectName, sha256: &[u8; 32]) -> Result<(), StorageError>;

    /// As [`Storage::confirm`], of content that is still at hand and comes back with the outcome: what is read back may be
    /// compared with it, which costs less than a hash. It may be lost where the call fails.
    fn confirm_given(
        &self,
        name: &ObjectName,
        sha256: &[u8; 32],
        content: Vec<Given>,
    ) -> (Result<(), StorageError>, Vec<Given>) {
        (self.confirm(name, sha256), content)
    }

    /// Returns free bytes where the objects go, where that can be told.
    fn free_bytes(&self) -> Option<u64>;

    /// Returns the place as a path or URL without secrets.
    fn location(&self) -> String;
}
