//! Opening and creating a repository, and what hangs on it by name: snapshots and the index.
//!
//! Creating writes the key first and the config last: interrupted, it leaves no repository, and a stray key that
//! opens nothing.

use crate::cache::Cache;
use crate::crypto::random;
use crate::cut::cut_seed;
use crate::error::{ResticError, ResticErrorKind};
use crate::id::Id;
use crate::index::{Index, superseded};
use crate::index_file::{self, IndexFile};
use crate::key_file;
use crate::key_search::search_key;
use crate::parallel::{self, REQUESTS};
use crate::polynomial::{is_irreducible, random_irreducible};
use crate::quoting::to_go_json;
use crate::snapshot::Snapshot;
use crate::vault::{ObjectKind, Vault, list_objects, object_name};
use flow::Secret;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use storage::{ObjectName, Storage, StorageErrorKind};

/// How often the index is listed while its files vanish under the reader.
const INDEX_LOOKS: u32 = 5;

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
    /// How many passes of scrypt the key takes; `None`: as many as one processor does in half a second, like restic. Fewer make
    /// a weak password easier to guess.
    pub derivation_passes: Option<u32>,
}

/// An open repository: its key is known. Shared by all threads that work on it.
pub struct Repository {
    config: RepositoryConfig,
    vault: Vault,
    cache: Option<Cache>,
    /// The key that opens it: the one it was opened by, until another takes its place.
    pub(crate) key_in_use: Mutex<Id>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({} at {})", self.config.id.short(), self.location())
    }
}

impl Repository {
    /// Creates a repository of version 2 in an empty storage. Refuses ([`ResticErrorKind::Exists`]) where there is a
    /// `config` or any key. The config is written last: an interrupted creation leaves a key file, and no repository.
    pub fn create(
        storage: Arc<dyn Storage>,
        password: &Secret,
        options: CreateOptions,
    ) -> Result<Self, ResticError> {
        let location = storage.location();
        let exists = || ResticError::new(ResticErrorKind::Exists, &location, "there is a repository already");
        let name = config_name()?;
        match storage.stat(&name) {
            Ok(_) => return Err(exists()),
            Err(error) if error.kind == StorageErrorKind::Missing => {}
            Err(error) => return Err(ResticError::storage(format!("config in {location}"), error)),
        }
        if !list_objects(&*storage, ObjectKind::Key)?.is_empty() {
            return Err(exists());
        }
        let (key, file) =
            key_file::create(password, &options.user, &options.host, options.derivation_passes)?;
        let mut id = [0; 32];
        random(&mut id)?;
        let config = RepositoryConfig { version: 2, id: Id(id), chunker_polynomial: random_irreducible()? };
        let sealed = key.seal(&to_go_json(&config)?)?;
        let put = |name: &ObjectName, content: &[u8]| {
            storage.put(name, &[content]).and_then(|()| storage.confirm(name, &Id::of(content).0))
        };
        let key_id = Id::of(&file);
        let key_name = object_name(ObjectKind::Key, &key_id)?;
        put(&key_name, &file).map_err(|error| ResticError::storage(format!("key in {location}"), error))?;
        put(&name, &sealed).map_err(|error| match error.kind {
            StorageErrorKind::Exists => {
                // Somebody else was faster. Our key opens nothing of theirs, and whoever tried it would be led astray.
                drop(storage.remove(&key_name));
                exists()
            }
            _ => ResticError::storage(format!("config in {location}"), error),
        })?;
        let cache = options.cache.map(|folder| Cache::new(&folder, &config.id));
        let vault = Vault { storage, key: Arc::new(key), version: config.version };
        Ok(Self { config, vault, cache, key_in_use: Mutex::new(key_id) })
    }

    /// Opens a repository. [`ResticErrorKind::NotFound`] where there is no `config`, [`ResticErrorKind::WrongPassword`]
    /// where no key file opens.
    pub fn open(
        storage: Arc<dyn Storage>,
        password: &Secret,
        options: OpenOptions,
    ) -> Result<Self, ResticError> {
        let location = storage.location();
        let object = format!("config in {location}");
        let sealed = storage.get(&config_name()?).map_err(|error| match error.kind {
            StorageErrorKind::Missing => {
                ResticError::new(ResticErrorKind::NotFound, &location, "there is no repository")
                    .with_source(error)
            }
            _ => ResticError::storage(&object, error),
        })?;
        let (key_id, key) = search_key(&*storage, password)?;
        let json = key.open(sealed).map_err(|error| {
            ResticError::damaged(&object, "cannot be opened with the repository's key").with_source(error)
        })?;
        let config: RepositoryConfig = serde_json::from_slice(&json)
            .map_err(|error| ResticError::damaged(&object, "is no configuration").with_source(error))?;
        if !(1..=2).contains(&config.version) {
            let message = format!("has the format version {}, and only 1 and 2 are known", config.version);
            return Err(ResticError::new(ResticErrorKind::Unsupported, object, message));
        }
        if !is_irreducible(config.chunker_polynomial) {
            return Err(ResticError::damaged(object, "has a chunker polynomial that is not irreducible"));
        }
        let cache = options.cache.map(|folder| Cache::new(&folder, &config.id));
        let vault = Vault { storage, key: Arc::new(key), version: config.version };
        Ok(Self { config, vault, cache, key_in_use: Mutex::new(key_id) })
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

    /// Returns the seed of the repository's content-defined cuts, a secret.
    pub fn cut_seed(&self) -> u64 {
        cut_seed(self.config.chunker_polynomial)
    }

    /// Returns the storage below.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.vault.storage
    }

    /// Returns where the repository is, without secrets.
    pub fn location(&self) -> String {
        self.vault.storage.location()
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Loads all snapshots, oldest first. One that cannot be read is an error that names it.
    pub fn snapshots(&self) -> Result<Vec<(Id, Snapshot)>, ResticError> {
        let ids: Vec<Id> = self.vault.list(ObjectKind::Snapshot)?.into_iter().map(|(id, _)| id).collect();
        let loaded = parallel::map(&ids, REQUESTS, |id| self.snapshot(id).map(|snapshot| (*id, snapshot)));
        let mut snapshots = Vec::with_capacity(ids.len());
        for snapshot in loaded {
            match snapshot {
                Ok(snapshot) => snapshots.push(snapshot),
                // Somebody removed it after it was listed.
                Err(error) if error.kind == ResticErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.retain_cached(ObjectKind::Snapshot, &ids);
        snapshots.sort_by_key(|(id, snapshot)| (snapshot.time, *id));
        Ok(snapshots)
    }

    /// Loads one snapshot. [`ResticErrorKind::NotFound`] where there is none of that id.
    pub fn snapshot(&self, id: &Id) -> Result<Snapshot, ResticError> {
        let json = self.load_document(ObjectKind::Snapshot, id)?;
        self.parse_snapshot(id, &json)
    }

    /// Like [`Repository::snapshot`], past the cache.
    pub(crate) fn snapshot_as_stored(&self, id: &Id) -> Result<Snapshot, ResticError> {
        let sealed = self.vault.load_sealed(ObjectKind::Snapshot, id)?;
        self.parse_snapshot(id, &self.vault.open_document(ObjectKind::Snapshot, id, sealed)?)
    }

    fn parse_snapshot(&self, id: &Id, json: &[u8]) -> Result<Snapshot, ResticError> {
        serde_json::from_slice(json).map_err(|error| {
            ResticError::damaged(self.vault.describe(ObjectKind::Snapshot, id), "is no snapshot")
                .with_source(error)
        })
    }

    /// Returns the id of the one snapshot whose id begins with these digits. [`ResticErrorKind::NotFound`] or
    /// [`ResticErrorKind::Ambiguous`] otherwise.
    pub fn resolve_snapshot(&self, prefix: &str) -> Result<Id, ResticError> {
        let object = || format!("snapshot {prefix} in {}", self.location());
        let snapshots = self.vault.list(ObjectKind::Snapshot)?;
        let digits = prefix.to_ascii_lowercase();
        let mut fitting = snapshots
            .iter()
            .map(|(id, _)| *id)
            .filter(|id| !digits.is_empty() && id.to_string().starts_with(&digits));
        match (fitting.next(), fitting.next()) {
            (Some(id), None) => Ok(id),
            (None, _) => Err(ResticError::new(ResticErrorKind::NotFound, object(), "there is none")),
            (Some(a), Some(b)) => {
                let message = format!("fits more than one: {}, {}", a.short(), b.short());
                Err(ResticError::new(ResticErrorKind::Ambiguous, object(), message))
            }
        }
    }

    /// Writes a snapshot; durable and confirmed when it returns. What it refers to must be indexed before.
    pub fn save_snapshot(&self, snapshot: &Snapshot) -> Result<Id, ResticError> {
        self.vault.save_document(ObjectKind::Snapshot, &to_go_json(snapshot)?)
    }

    /// Removes a snapshot; its blobs stay until a prune.
    pub fn remove_snapshot(&self, id: &Id) -> Result<(), ResticError> {
        self.vault.remove(ObjectKind::Snapshot, id)
    }

    /// Loads the index: all that the index files say. One that cannot be read is an error that names it.
    pub fn load_index(&self) -> Result<Index, ResticError> {
        Ok(Index::build(self.index_files()?))
    }

    /// Loads the index and leaves out packs that are not stored, or with another size than they must have: what they
    /// held is stored again by the next backup that has it.
    pub fn load_index_of_stored_packs(&self) -> Result<Index, ResticError> {
        let index = self.of_stored_packs(&Arc::new(self.load_index()?), &HashSet::new())?;
        Ok(Arc::unwrap_or_clone(index))
    }

    /// Leaves out of an index that was loaded before this call what [`Self::load_index_of_stored_packs`] leaves out,
    /// and these packs too: those that are known to be damaged. Who writes by it stores anew what they held.
    pub fn of_stored_packs(
        &self,
        index: &Arc<Index>,
        except: &HashSet<Id>,
    ) -> Result<Arc<Index>, ResticError> {
        // Listed after the index was read: a pack that the index names was stored before that.
        let stored: HashMap<Id, u64> = self.vault.list(ObjectKind::Pack)?.into_iter().collect();
        Ok(index.of_packs(|id, bytes| stored.get(id) == Some(&bytes) && !except.contains(id)))
    }

    /// Loads the index with what superseded files say, too. Returns the packs that only these name.
    pub(crate) fn load_index_of_all_files(&self) -> Result<(Index, HashSet<Id>), ResticError> {
        Ok(Index::build_of_all(self.index_files()?))
    }

    /// Tells whether an index file is still there that another one replaces.
    pub(crate) fn has_superseded_index_files(&self) -> Result<bool, ResticError> {
        let files = self.index_files()?;
        let superseded = superseded(&files);
        Ok(files.iter().any(|(id, _)| superseded.contains(id)))
    }

    fn index_file(&self, id: &Id) -> Result<IndexFile, ResticError> {
        let json = self.load_document(ObjectKind::Index, id)?;
        self.parse_index(id, &json)
    }

    /// Loads one index file, past the cache.
    pub(crate) fn index_file_as_stored(&self, id: &Id) -> Result<IndexFile, ResticError> {
        let sealed = self.vault.load_sealed(ObjectKind::Index, id)?;
        self.parse_index(id, &self.vault.open_document(ObjectKind::Index, id, sealed)?)
    }

    fn parse_index(&self, id: &Id, json: &[u8]) -> Result<IndexFile, ResticError> {
        index_file::from_json(json).map_err(|error| {
            ResticError::damaged(self.vault.describe(ObjectKind::Index, id), "is no index").with_source(error)
        })
    }

    /// Loads all index files. While others prune, one may go before it is read, and another says the same: then they
    /// are listed again.
    fn index_files(&self) -> Result<Vec<(Id, IndexFile)>, ResticError> {
        for _ in 1..INDEX_LOOKS {
            match self.listed_index_files() {
                Err(error) if error.kind == ResticErrorKind::NotFound => {}
                result => return result,
            }
        }
        self.listed_index_files()
    }

    fn listed_index_files(&self) -> Result<Vec<(Id, IndexFile)>, ResticError> {
        let ids: Vec<Id> = self.vault.list(ObjectKind::Index)?.into_iter().map(|(id, _)| id).collect();
        let loaded = parallel::map(&ids, REQUESTS, |id| self.index_file(id).map(|file| (*id, file)));
        let files = loaded.into_iter().collect::<Result<_, _>>()?;
        self.retain_cached(ObjectKind::Index, &ids);
        Ok(files)
    }

    /// Returns the JSON of a document, from the cache where that has a good copy.
    fn load_document(&self, kind: ObjectKind, id: &Id) -> Result<Vec<u8>, ResticError> {
        let cached = self.cache.as_ref().and_then(|cache| cache.get(kind.folder(), id));
        let sealed = match cached {
            Some(sealed) => sealed,
            None => {
                let sealed = self.vault.load_sealed(kind, id)?;
                if let Some(cache) = &self.cache {
                    cache.put(kind.folder(), id, &sealed);
                }
                sealed
            }
        };
        self.vault.open_document(kind, id, sealed)
    }

    /// Returns this machine's copy of a document as it was stored, where there is a good one.
    pub(crate) fn cached(&self, kind: ObjectKind, id: &Id) -> Option<Vec<u8>> {
        self.cache.as_ref().and_then(|cache| cache.get(kind.folder(), id))
    }

    fn retain_cached(&self, kind: ObjectKind, ids: &[Id]) {
        if let Some(cache) = &self.cache {
            cache.retain(kind.folder(), &ids.iter().copied().collect::<HashSet<_>>());
        }
    }
}

fn config_name() -> Result<ObjectName, ResticError> {
    ObjectName::new("config").map_err(|error| ResticError::storage("config", error))
}
