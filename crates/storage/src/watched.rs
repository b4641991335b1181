//! A storage whose calls are watched: one that hangs is told of, and an interruption does not wait for it.

use crate::watch::Watch;
use crate::{Given, ObjectName, ObjectStat, Storage, StorageError};
use std::ops::Range;
use std::sync::Arc;

/// Passes calls on, each under a [`Watch`].
pub struct WatchedStorage {
    inner: Arc<dyn Storage>,
    watch: Arc<Watch>,
    location: String,
}

impl WatchedStorage {
    /// Watches the calls of a storage.
    pub fn new(inner: Arc<dyn Storage>, watch: Arc<Watch>) -> Self {
        let location = inner.location();
        Self { inner, watch, location }
    }

    fn run<T: Send + 'static>(
        &self,
        verb: &'static str,
        name: &ObjectName,
        call: impl FnOnce(&dyn Storage, &ObjectName) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let object = format!("{name} in {}", self.location);
        let (inner, name) = (Arc::clone(&self.inner), name.clone());
        self.watch.run(verb, &object, move || call(&*inner, &name))?
    }
}

impl Storage for WatchedStorage {
    fn put(&self, name: &ObjectName, content: &[&[u8]]) -> Result<(), StorageError> {
        let content = vec![Given::all(content.concat())];
        self.put_given(name, content).0
    }

    fn put_given(&self, name: &ObjectName, content: Vec<Given>) -> (Result<(), StorageError>, Vec<Given>) {
        let put = self.run("put", name, move |inner, name| Ok(inner.put_given(name, content)));
        match put {
            Ok((result, content)) => (result, content),
            // The content is lost to the call that hangs.
            Err(error) => (Err(error), Vec::new()),
        }
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.run("get", name, |inner, name| inner.get(name))
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        self.run("get", name, move |inner, name| inner.get_range(name, range))
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectStat, StorageError> {
        self.run("stat", name, |inner, name| inner.stat(name))
    }

    fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, StorageError> {
        let object = match folder {
            "" => self.location.clone(),
            folder => format!("{folder} in {}", self.location),
        };
        let (inner, folder) = (Arc::clone(&self.inner), folder.to_owned());
        self.watch.run("list", &object, move || inner.list(&folder))?
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.run("remove", name, |inner, name| inner.remove(name))
    }

    fn confirm(&self, name: &ObjectName, sha256: &[u8; 32]) -> Result<(), StorageError> {
        let sha256 = *sha256;
        self.run("confirm", name, move |inner, name| inner.confirm(name, &sha256))
    }

    fn confirm_given(
        &self,
        name: &ObjectName,
        sha256: &[u8; 32],
        content: Vec<Given>,
    ) -> (Result<(), StorageError>, Vec<Given>) {
        let sha256 = *sha256;
        let confirmed =
            self.run("confirm", name, move |inner, name| Ok(inner.confirm_given(name, &sha256, content)));
        confirmed.unwrap_or_else(|error| (Err(error), Vec::new()))
    }

    fn free_bytes(&self) -> Option<u64> {
        let inner = Arc::clone(&self.inner);
        self.watch.run("look for the space of", &self.location, move || inner.free_bytes()).ok().flatten()
    }

    fn location(&self) -> String {
        self.location.clone()
    }
}
