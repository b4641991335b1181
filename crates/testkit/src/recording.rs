//! A storage that keeps a log of what is asked of it, for assertions such as "the second backup puts no pack".

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use storage::{ObjectName, ObjectStat, Storage, StorageError};

/// What is asked of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// `put`.
    Put,
    /// `get` and `get_range`.
    Get,
    /// `stat`.
    Stat,
    /// `list`.
    List,
    /// `remove`.
    Remove,
    /// `confirm`.
    Confirm,
}

/// One call of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub verb: Verb,
    /// Of which object; of which folder for `list`.
    pub name: String,
    /// Bytes that went in or came out; for `list` the number of objects.
    pub size: u64,
    /// Whether it succeeded.
    pub ok: bool,
}

/// Passes all calls on and writes them down in the order in which they ended.
pub struct RecordingStorage {
    inner: Arc<dyn Storage>,
    calls: Mutex<Vec<Call>>,
}

impl RecordingStorage {
    /// Records the calls of a storage.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, calls: Mutex::default() }
    }

    /// Returns the calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.log().clone()
    }

    /// Returns the calls so far and forgets them.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.log())
    }

    /// Returns the names of which a verb was asked with success, of those that begin with `prefix`, in order.
    pub fn names(&self, verb: Verb, prefix: &str) -> Vec<String> {
        let log = self.log();
        let calls = log.iter().filter(|call| call.ok && call.verb == verb && call.name.starts_with(prefix));
        calls.map(|call| call.name.clone()).collect()
    }

    /// Returns how many bytes a verb moved, of the objects whose names begin with `prefix`.
    pub fn bytes(&self, verb: Verb, prefix: &str) -> u64 {
        let log = self.log();
        let calls = log.iter().filter(|call| call.ok && call.verb == verb && call.name.starts_with(prefix));
        calls.map(|call| call.size).sum()
    }

    /// Asserts that a verb was not asked of any object whose name begins with `prefix`.
    #[track_caller]
    pub fn assert_none(&self, verb: Verb, prefix: &str) {
        let names = self.names(verb, prefix);
        assert!(names.is_empty(), "{verb:?} of {names:?}");
    }

    fn log(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record<T>(
        &self,
        verb: Verb,
        name: &str,
        result: Result<T, StorageError>,
        size: impl FnOnce(&T) -> u64,
    ) -> Result<T, StorageError> {
        let (ok, size) = (result.is_ok(), result.as_ref().map_or(0, size));
        self.log().push(Call { verb, name: name.to_owned(), size, ok });
        result
    }
}

impl Storage for RecordingStorage {
    fn put(&self, name: &ObjectName, content: &[&[u8]]) -> Result<(), StorageError> {
        let size = content.iter().map(|bytes| bytes.len() as u64).sum();
        self.record(Verb::Put, name.as_str(), self.inner.put(name, content), |()| size)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.record(Verb::Get, name.as_str(), self.inner.get(name), |bytes| bytes.len() as u64)
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        let result = self.inner.get_range(name, range);
        self.record(Verb::Get, name.as_str(), result, |bytes| bytes.len() as u64)
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectStat, StorageError> {
        self.record(Verb::Stat, name.as_str(), self.inner.stat(name), |stat| stat.size_bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, StorageError> {
        self.record(Verb::List, folder, self.inner.list(folder), |objects| objects.len() as u64)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.record(Verb::Remove, name.as_str(), self.inner.remove(name), |()| 0)
    }

    fn confirm(&self, name: &ObjectName, sha256: &[u8; 32]) -> Result<(), StorageError> {
        self.record(Verb::Confirm, name.as_str(), self.inner.confirm(name, sha256), |()| 0)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.inner.free_bytes()
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}
