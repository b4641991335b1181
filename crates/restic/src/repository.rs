//! Stub.
use crate::error::{ResticError, ResticErrorKind};
use crate::id::{BlobKind, Id};
use crate::index::Index;
use crate::snapshot::Snapshot;
use crate::tree::Tree;
use flow::Secret;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use storage::Storage;

/// The `config` object of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryConfig {
    /// The format's version: 1 or 2.
    pub version: u32,
    /// The repository's id.
    pub id: Id,
    /// An irreducible polynomial of degree 53. Restic cuts by it; we derive the seed of our cuts from it.
    #[serde(with = "hex_polynomial")]
    pub chunker_polynomial: u64,
}

mod hex_polynomial {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(super) fn serialize<S: Serializer>(polynomial: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{polynomial:x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

/// How a repository is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// A folder for copies of index files and snapshots. It may be shared by repositories, deleted at any moment,
    /// damaged or unwritable: that costs time, nothing else.
    pub cache: Option<PathBuf>,
}

/// How a repository is created.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// The host, as the key file names it.
    pub host: String,
    /// The user, as the key file names it.
    pub user: String,
    /// As in [`OpenOptions`].
    pub cache: Option<PathBuf>,
}

/// An open repository: its key is known. Cheap to share.
pub struct Repository {
    config: RepositoryConfig,
    storage: Arc<dyn Storage>,
}

fn stub<T>() -> Result<T, ResticError> {
    Err(ResticError::new(ResticErrorKind::Unsupported, "stub", "stub"))
}

impl Repository {
    /// Creates a repository of version 2 in an empty storage. Refuses ([`ResticErrorKind::Exists`]) where there is a
    /// `config` or any key. The config is written last: an interrupted creation leaves a key file, and no repository.
    pub fn create(
        storage: Arc<dyn Storage>,
        password: &Secret,
        options: CreateOptions,
    ) -> Result<Self, ResticError> {
        let _ = (storage, password, options);
        stub()
    }

    /// Opens a repository. [`ResticErrorKind::NotFound`] where there is no `config`, [`ResticErrorKind::WrongPassword`]
    /// where no key file opens.
    pub fn open(
        storage: Arc<dyn Storage>,
        password: &Secret,
        options: OpenOptions,
    ) -> Result<Self, ResticError> {
        let _ = (storage, password, options);
        stub()
    }

    /// Returns the repository's id as 64 hexadecimal digits.
    pub fn id(&self) -> String {
        self.config.id.to_string()
    }

    /// Returns the format's version.
    pub fn version(&self) -> u32 {
        self.config.version
    }

    /// Returns the config.
    pub fn config(&self) -> &RepositoryConfig {
        &self.config
    }

    /// Returns the storage below.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Returns where the repository is, without secrets.
    pub fn location(&self) -> String {
        self.storage.location()
    }

    /// Loads all snapshots, oldest first. One that cannot be read is an error that names it.
    pub fn snapshots(&self) -> Result<Vec<(Id, Snapshot)>, ResticError> {
        stub()
    }

    /// Loads one snapshot.
    pub fn snapshot(&self, id: &Id) -> Result<Snapshot, ResticError> {
        let _ = id;
        stub()
    }

    /// Returns the id of the one snapshot whose id begins with these digits. [`ResticErrorKind::NotFound`] or
    /// [`ResticErrorKind::Ambiguous`] otherwise.
    pub fn resolve_snapshot(&self, prefix: &str) -> Result<Id, ResticError> {
        let _ = prefix;
        stub()
    }

    /// Writes a snapshot; durable and confirmed when it returns. What it refers to must be indexed before.
    pub fn save_snapshot(&self, snapshot: &Snapshot) -> Result<Id, ResticError> {
        let _ = snapshot;
        stub()
    }

    /// Removes a snapshot; its blobs stay until a prune.
    pub fn remove_snapshot(&self, id: &Id) -> Result<(), ResticError> {
        let _ = id;
        stub()
    }

    /// Loads the index: all that the index files say.
    pub fn load_index(&self) -> Result<Index, ResticError> {
        stub()
    }

    /// Loads the index and leaves out packs that are not stored, or with another size than they must have: what they
    /// held is stored again by the next backup that has it.
    pub fn load_index_of_stored_packs(&self) -> Result<Index, ResticError> {
        stub()
    }

    /// Reads a blob: opened, decompressed, and its hash compared with its id.
    pub fn read_blob(&self, index: &Index, kind: BlobKind, id: &Id) -> Result<Vec<u8>, ResticError> {
        let _ = (index, kind, id);
        stub()
    }

    /// Reads a folder.
    pub fn read_tree(&self, index: &Index, id: &Id) -> Result<Tree, ResticError> {
        let _ = (index, id);
        stub()
    }

    /// Lists each blob, once, that a folder and all below it need, trees included.
    pub fn blobs_of(&self, index: &Index, tree: &Id) -> Result<Vec<(BlobKind, Id)>, ResticError> {
        let _ = (index, tree);
        stub()
    }
}
