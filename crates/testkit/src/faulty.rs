//! A storage that fails, lies or hangs when told to, by script or by a seed.

use crate::Verb;
use crate::memory::storage_error;
use crate::suite::Random;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use storage::{ObjectName, ObjectStat, Storage, StorageError, StorageErrorKind};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails, and nothing was done.
    Fail(StorageErrorKind),
    /// The call fails, but it was done: the answer got lost.
    FailAfter,
    /// `put` says that it succeeded, and stores nothing.
    StoreNothing,
    /// `put` says that it succeeded, and stores the first half. A `get` gives the first half.
    Cut,
    /// `put` says that it succeeded, and stores other bytes of the same length. A `get` gives such bytes.
    Garble,
    /// The call does not return before [`FaultyStorage::release`], and then does its work.
    Hang,
}

#[derive(Default)]
struct State {
    /// Verb, which call of it from now on (0 is the next), prefix of the name, fault.
    script: Vec<(Verb, u64, String, Fault)>,
    chance: Option<(Random, u64)>,
    space_bytes: Option<u64>,
    hanging: usize,
    released: bool,
    happened: u64,
    struck: Vec<String>,
}

/// Passes calls on unless a fault was planned for them.
pub struct FaultyStorage {
    inner: Arc<dyn Storage>,
    state: Mutex<State>,
    changed: Condvar,
}

impl FaultyStorage {
    /// Wraps a storage; without faults yet.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Plans a fault for the `nth` call (0 is the next one) of a verb on names that begin with `prefix`.
    pub fn plan(&self, verb: Verb, prefix: &str, nth: u64, fault: Fault) {
        self.state().script.push((verb, nth, prefix.to_owned(), fault));
    }

    /// Lets any call fail by chance, once in `one_in` calls, reproducibly by the seed.
    pub fn fail_by_chance(&self, seed: u64, one_in: u64) {
        self.state().chance = Some((Random::new(seed), one_in.max(1)));
    }

    /// Limits the space: a `put` that does not fit any more fails with [`StorageErrorKind::Full`].
    pub fn limit_space(&self, space_bytes: u64) {
        self.state().space_bytes = Some(space_bytes);
    }

    /// Ends all faults that were planned and have not happened yet.
    pub fn heal(&self) {
        let mut state = self.state();
        (state.script, state.chance, state.space_bytes) = (Vec::new(), None, None);
    }

    /// Returns how many faults have happened.
    pub fn happened(&self) -> u64 {
        self.state().happened
    }

    /// Returns the objects that faults have struck, of a listing the folder, in their order.
    pub fn struck(&self) -> Vec<String> {
        self.state().struck.clone()
    }

    /// Waits until no call hangs any more; they are released before.
    pub fn wait_until_none_hangs(&self) {
        let mut state = self.state();
        while state.hanging > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until a call hangs.
    pub fn wait_until_hanging(&self) {
        let mut state = self.state();
        while state.hanging == 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets hanging calls go on, those to come too.
    pub fn release(&self) {
        self.state().released = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the fault that this call meets. A call that hangs does so here.
    fn fault(&self, verb: Verb, name: &str, size_bytes: u64) -> Option<Fault> {
        let mut state = self.state();
        let mut found = None;
        state.script.retain_mut(|(planned, nth, prefix, fault)| {
            if *planned != verb || !name.starts_with(prefix.as_str()) {
                return true;
            }
            if *nth == 0 && found.is_none() {
                found = Some(*fault);
                return false;
            }
            *nth = nth.saturating_sub(1);
            true
        });
        if found.is_none()
            && let Some((random, one_in)) = &mut state.chance
            && random.next_number().is_multiple_of(*one_in)
        {
            found = Some(Fault::Fail(StorageErrorKind::Failed));
        }
        if let Some(left) = state.space_bytes.filter(|_| verb == Verb::Put && found.is_none()) {
            match left.checked_sub(size_bytes) {
                Some(left) => state.space_bytes = Some(left),
                None => found = Some(Fault::Fail(StorageErrorKind::Full)),
            }
        }
        state.happened += u64::from(found.is_some());
        state.struck.extend(found.map(|_| name.to_owned()));
        if found == Some(Fault::Hang) {
            state.hanging += 1;
            self.changed.notify_all();
            while !state.released {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.hanging -= 1;
            self.changed.notify_all();
        }
        found
    }

    /// Calls the storage below, or fails as planned.
    fn pass<T>(
        &self,
        verb: (Verb, &'static str),
        name: &ObjectName,
        call: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        after(self.fault(verb.0, name.as_str(), 0), verb.1, name, call)
    }

    fn read(
        &self,
        name: &ObjectName,
        call: impl FnOnce() -> Result<Vec<u8>, StorageError>,
    ) -> Result<Vec<u8>, StorageError> {
        let fault = self.fault(Verb::Get, name.as_str(), 0);
        let mut content = after(fault, "get", name, call)?;
        spoil(fault, &mut content);
        Ok(content)
    }
}

fn after<T>(
    fault: Option<Fault>,
    verb: &'static str,
    name: &ObjectName,
    call: impl FnOnce() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let planned = |kind| storage_error(kind, verb, name, "a fault was planned");
    match fault {
        Some(Fault::Fail(kind)) => Err(planned(kind)),
        Some(Fault::FailAfter) => call().and_then(|_| Err(planned(StorageErrorKind::Failed))),
        _ => call(),
    }
}

fn spoil(fault: Option<Fault>, content: &mut Vec<u8>) {
    match fault {
        Some(Fault::Cut) => content.truncate(content.len() / 2),
        Some(Fault::Garble) => {
            let middle = content.len() / 2;
            content[middle..].iter_mut().for_each(|byte| *byte ^= 0x41);
        }
        _ => {}
    }
}

impl Storage for FaultyStorage {
    fn put(&self, name: &ObjectName, content: &[&[u8]]) -> Result<(), StorageError> {
        let size_bytes = content.iter().map(|bytes| bytes.len() as u64).sum();
        let fault = self.fault(Verb::Put, name.as_str(), size_bytes);
        if fault == Some(Fault::StoreNothing) {
            return Ok(());
        }
        let mut whole = content.concat();
        spoil(fault, &mut whole);
        after(fault, "put", name, || self.inner.put(name, &[&whole]))
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.read(name, || self.inner.get(name))
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        self.read(name, || self.inner.get_range(name, range))
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectStat, StorageError> {
        self.pass((Verb::Stat, "stat"), name, || self.inner.stat(name))
    }

    fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, StorageError> {
        match self.fault(Verb::List, folder, 0) {
            Some(Fault::Fail(kind)) => Err(StorageError {
                kind,
                verb: "list",
                object: format!("memory:{folder}"),
                message: "a fault was planned".to_owned(),
                source: None,
            }),
            _ => self.inner.list(folder),
        }
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.pass((Verb::Remove, "remove"), name, || self.inner.remove(name))
    }

    fn confirm(&self, name: &ObjectName, sha256: &[u8; 32]) -> Result<(), StorageError> {
        self.pass((Verb::Confirm, "confirm"), name, || self.inner.confirm(name, sha256))
    }

    fn free_bytes(&self) -> Option<u64> {
        self.state().space_bytes.or_else(|| self.inner.free_bytes())
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}
