//! The objects of a repository by their place in the layout, opened and sealed with its key.
//!
//! Every object but keys and config is named by the SHA-256 of what is stored, and that is compared on each read: a
//! damaged object is an error that names it, never a document. Objects are confirmed after they are put.

use crate::crypto::SealingKey;
use crate::error::{ResticError, ResticErrorKind};
use crate::id::Id;
use crate::pack::{PackBlob, seal_header};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::sync::Arc;
use storage::{Given, ObjectName, ObjectStat, Storage, StorageErrorKind};

/// The level for index files and snapshots, which are small.
const DOCUMENT_LEVEL: i32 = 3;
/// No document is that large; what claims to be is not unpacked.
const DOCUMENT_BYTES_MAX: u64 = 4 << 30;

/// The kinds of objects that are named by their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    Pack,
    Index,
    Snapshot,
    Key,
    Lock,
}

impl ObjectKind {
    pub(crate) fn folder(self) -> &'static str {
        match self {
            ObjectKind::Pack => "data",
            ObjectKind::Index => "index",
            ObjectKind::Snapshot => "snapshots",
            ObjectKind::Key => "keys",
            ObjectKind::Lock => "locks",
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            ObjectKind::Pack => "pack",
            ObjectKind::Index => "index",
            ObjectKind::Snapshot => "snapshot",
            ObjectKind::Key => "key",
            ObjectKind::Lock => "lock",
        }
    }
}

/// A storage and the key to what it holds.
#[derive(Clone)]
pub(crate) struct Vault {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) key: Arc<SealingKey>,
    pub(crate) version: u32,
}

/// Returns the storage's name of an object.
pub(crate) fn object_name(kind: ObjectKind, id: &Id) -> Result<ObjectName, ResticError> {
    let id = id.to_string();
    let name = match kind {
        ObjectKind::Pack => format!("data/{}/{id}", &id[..2]),
        kind => format!("{}/{id}", kind.folder()),
    };
    ObjectName::new(name).map_err(|error| ResticError::storage(kind.word(), error))
}

/// Lists the objects of a kind with their sizes. What lies there under a name that is no id is left alone.
pub(crate) fn list_objects(storage: &dyn Storage, kind: ObjectKind) -> Result<Vec<(Id, u64)>, ResticError> {
    let stats = storage.list(kind.folder()).map_err(|error| {
        ResticError::storage(format!("{} in {}", kind.folder(), storage.location()), error)
    })?;
    let id = |stat: &ObjectStat| {
        let id: Id = stat.name.as_str().rsplit('/').next()?.parse().ok()?;
        // A pack in another folder than its own is one that nobody would find.
        (object_name(kind, &id).ok()? == stat.name).then_some((id, stat.size_bytes))
    };
    Ok(stats.iter().filter_map(id).collect())
}

impl Vault {
    /// Returns how errors name an object.
    pub(crate) fn describe(&self, kind: ObjectKind, id: &Id) -> String {
        format!("{} {id} in {}", kind.word(), self.storage.location())
    }

    pub(crate) fn list(&self, kind: ObjectKind) -> Result<Vec<(Id, u64)>, ResticError> {
        list_objects(&*self.storage, kind)
    }

    /// Reads an object as it is stored; its hash is its name.
    pub(crate) fn load_sealed(&self, kind: ObjectKind, id: &Id) -> Result<Vec<u8>, ResticError> {
        let sealed = self.storage.get(&object_name(kind, id)?).map_err(|error| match error.kind {
            StorageErrorKind::Missing => {
                ResticError::new(ResticErrorKind::NotFound, self.describe(kind, id), "is not there")
                    .with_source(error)
            }
            _ => ResticError::storage(self.describe(kind, id), error),
        })?;
        if Id::of(&sealed) != *id {
            let message = format!("its content is damaged: it has the hash {}", Id::of(&sealed));
            return Err(ResticError::damaged(self.describe(kind, id), message));
        }
        Ok(sealed)
    }

    /// Opens the sealed text of an index file, a snapshot or a lock and returns its JSON.
    pub(crate) fn open_document(
        &self,
        kind: ObjectKind,
        id: &Id,
        sealed: Vec<u8>,
    ) -> Result<Vec<u8>, ResticError> {
        let damaged = |message: &str| ResticError::damaged(self.describe(kind, id), message);
        let text = self.key.open(sealed).map_err(|error| damaged("cannot be opened").with_source(error))?;
        match text.first() {
            Some(b'{' | b'[') => Ok(text),
            Some(2) if self.version > 1 => {
                let unpacked = unpack_document(&text[1..]);
                unpacked.map_err(|error| damaged("cannot be decompressed").with_source(error))
            }
            Some(version) => Err(ResticError::new(
                ResticErrorKind::Unsupported,
                self.describe(kind, id),
                format!("has the unknown encoding {version}"),
            )),
            None => Err(damaged("is empty")),
        }
    }

    /// Seals a JSON document, puts and confirms it, and returns its id.
    pub(crate) fn save_document(&self, kind: ObjectKind, json: &[u8]) -> Result<Id, ResticError> {
        let sealed = if self.version > 1 {
            let mut text = vec![2];
            let packed = zstd::bulk::compress(json, DOCUMENT_LEVEL).map_err(|error| {
                ResticError::new(ResticErrorKind::Failed, kind.word(), "cannot be compressed")
                    .with_source(error)
            })?;
            text.extend_from_slice(&packed);
            self.key.seal(&text)?
        } else {
            self.key.seal(json)?
        };
        let id = Id::of(&sealed);
        self.put_confirmed(kind, &id, vec![Given::all(sealed)])?;
        Ok(id)
    }

    /// Puts and confirms a pack of sealed blobs, and returns its id and size, and the buffer of its body, to be used
    /// again.
    pub(crate) fn save_pack(
        &self,
        body: Given,
        blobs: &[PackBlob],
    ) -> Result<(Id, u64, Vec<u8>), ResticError> {
        let header = seal_header(&self.key, blobs)?;
        let mut hash = Sha256::new();
        hash.update(&body.bytes[..body.used]);
        hash.update(&header);
        let id = Id(hash.finalize().into());
        let size_bytes = (body.used + header.len()) as u64;
        let content = self.put_confirmed(ObjectKind::Pack, &id, vec![body, Given::all(header)])?;
        let body = content.into_iter().next().map(|body| body.bytes).unwrap_or_default();
        Ok((id, size_bytes, body))
    }

    /// Puts a new object and reads it back; returns what it was given. One that is not stored as it was put is removed
    /// again, so that it stands in nobody's way.
    fn put_confirmed(
        &self,
        kind: ObjectKind,
        id: &Id,
        content: Vec<Given>,
    ) -> Result<Vec<Given>, ResticError> {
        let name = object_name(kind, id)?;
        let failed = |error| ResticError::storage(self.describe(kind, id), error);
        let (put, content) = self.storage.put_given(&name, content);
        put.map_err(failed)?;
        let (confirmed, content) = match content.is_empty() {
            true => (self.storage.confirm(&name, &id.0), content),
            false => self.storage.confirm_given(&name, &id.0, content),
        };
        confirmed.map_err(|error| {
            if error.kind == StorageErrorKind::Damaged {
                drop(self.storage.remove(&name));
            }
            failed(error)
        })?;
        Ok(content)
    }

    /// Puts an object back whose sealed content is known by its hash.
    pub(crate) fn put_back(&self, kind: ObjectKind, id: &Id, sealed: &[u8]) -> Result<(), ResticError> {
        self.put_confirmed(kind, id, vec![Given::all(sealed.to_vec())]).map(drop)
    }

    pub(crate) fn remove(&self, kind: ObjectKind, id: &Id) -> Result<(), ResticError> {
        self.storage.remove(&object_name(kind, id)?).map_err(|error| match error.kind {
            StorageErrorKind::Missing => {
                ResticError::new(ResticErrorKind::NotFound, self.describe(kind, id), "is not there")
                    .with_source(error)
            }
            _ => ResticError::storage(self.describe(kind, id), error),
        })
    }
}

fn unpack_document(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut json = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(packed)?;
    decoder.take(DOCUMENT_BYTES_MAX).read_to_end(&mut json)?;
    Ok(json)
}
