//! A storage in memory: the plain model that others are compared with. Gone with the process.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use storage::{ObjectName, ObjectStat, Storage, StorageError, StorageErrorKind};

/// Objects in memory.
#[derive(Debug, Default)]
pub struct MemoryStorage(Mutex<BTreeMap<ObjectName, Vec<u8>>>);

impl MemoryStorage {
    /// Makes an empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the content of an object behind everybody's back; false where there is none of that name.
    pub fn tamper(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.objects().get_mut(name).map(change).is_some()
    }

    /// Returns a copy of all objects.
    pub fn contents(&self) -> BTreeMap<ObjectName, Vec<u8>> {
        self.objects().clone()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn storage_error(
    kind: StorageErrorKind,
    verb: &'static str,
    name: &ObjectName,
    message: &str,
) -> StorageError {
    let object = format!("memory:{name}");
    StorageError { kind, verb, object, message: message.to_owned(), source: None }
}

fn missing(verb: &'static str, name: &ObjectName) -> StorageError {
    storage_error(StorageErrorKind::Missing, verb, name, "there is no such object")
}

impl Storage for MemoryStorage {
    fn put(&self, name: &ObjectName, content: &[&[u8]]) -> Result<(), StorageError> {
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Err(storage_error(StorageErrorKind::Exists, "put", name, "it exists already"));
        }
        objects.insert(name.clone(), content.concat());
        Ok(())
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.objects().get(name).cloned().ok_or_else(|| missing("get", name))
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        let content = self.get(name)?;
        let bound = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
        content.get(bound(range.start)..bound(range.end)).map(<[u8]>::to_vec).ok_or_else(|| {
            storage_error(StorageErrorKind::Damaged, "get", name, "it is shorter than that range")
        })
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectStat, StorageError> {
        let objects = self.objects();
        let content = objects.get(name).ok_or_else(|| missing("stat", name))?;
        Ok(ObjectStat { name: name.clone(), size_bytes: content.len() as u64 })
    }

    fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, StorageError> {
        if !folder.is_empty() {
            ObjectName::new(folder)?;
        }
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let objects = self.objects();
        let within = objects.iter().filter(|(name, _)| name.as_str().starts_with(&prefix));
        Ok(within
            .map(|(name, content)| ObjectStat { name: name.clone(), size_bytes: content.len() as u64 })
            .collect())
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.objects().remove(name).map(drop).ok_or_else(|| missing("remove", name))
    }

    fn confirm(&self, name: &ObjectName, sha256: &[u8; 32]) -> Result<(), StorageError> {
        let objects = self.objects();
        let content = objects.get(name).ok_or_else(|| missing("confirm", name))?;
        if <[u8; 32]>::from(Sha256::digest(content)) == *sha256 {
            return Ok(());
        }
        Err(storage_error(StorageErrorKind::Damaged, "confirm", name, "its content has another hash"))
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn location(&self) -> String {
        "memory:".to_owned()
    }
}
