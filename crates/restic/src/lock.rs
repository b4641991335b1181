//! Locks that restic understands, so that a client's prune and our backup keep out of each other's way.
//!
//! A lock is a small file: written, then looked for others, refreshed by writing a new one before the old one is
//! removed. After a crash it stays until it is stale: thirty minutes old, or of a process of this host that is gone.
//! Whoever passes over a stale one that is in the way removes it first: clocks differ, and an owner that lives after all
//! sees that its lock is gone before it relies on it.

use crate::error::{LockHolder, ResticError, ResticErrorKind};
use crate::id::Id;
use crate::quoting::to_go_json;
use crate::repository::Repository;
use crate::vault::{ObjectKind, Vault, object_name};
use flow::Cancel;
use jiff::Timestamp;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use storage::StorageErrorKind;

/// What a lock lets others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Others may read and add.
    Shared,
    /// Nobody else may do anything.
    Exclusive,
}

/// Who takes a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockOwner {
    /// The host.
    pub host: String,
    /// The user.
    pub user: String,
    /// The process on that host.
    pub pid: u32,
    /// The user's number.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
}

/// How often a lock is refreshed and when it counts as stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockOptions {
    /// Between two refreshes.
    pub refresh: Duration,
    /// The age at which a lock counts no more. Every client of a repository must think the same: only for tests.
    pub stale: Duration,
}

impl Default for LockOptions {
    fn default() -> Self {
        Self { refresh: Duration::from_secs(5 * 60), stale: Duration::from_secs(30 * 60) }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct LockJson {
    time: Timestamp,
    exclusive: bool,
    hostname: String,
    username: String,
    pid: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    uid: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    gid: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What is known of our own lock.
struct Held {
    id: Id,
    time: Timestamp,
    /// Why it no longer protects anything; once lost it stays lost.
    lost: Option<String>,
}

struct Lock {
    vault: Vault,
    kind: LockKind,
    owner: LockOwner,
    options: LockOptions,
    held: Mutex<Held>,
}

/// A lock that we hold. Refreshed by a thread of its own; removed when dropped.
#[must_use = "dropping it removes the lock"]
pub struct LockGuard {
    lock: Arc<Lock>,
    stop: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockGuard({:?} by {})", self.lock.kind, self.lock.owner.pid)
    }
}

impl LockGuard {
    /// Fails ([`ResticErrorKind::LockLost`]) where the lock was removed by somebody, or was stale for a moment: then
    /// another client may have pruned what we rely on.
    pub fn ensure_fresh(&self) -> Result<(), ResticError> {
        self.lock.ensure_fresh()
    }

    /// Fails unless this lock keeps everybody else out, and still does.
    pub fn ensure_exclusive(&self) -> Result<(), ResticError> {
        if self.lock.kind == LockKind::Exclusive {
            return self.ensure_fresh();
        }
        let object = self.lock.vault.storage.location();
        Err(ResticError::new(
            ResticErrorKind::Failed,
            object,
            "our lock is shared, and an exclusive one is needed",
        ))
    }

    /// Returns the id of the lock file as it is now.
    pub fn id(&self) -> Id {
        self.lock.held().id
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        let held = self.lock.held();
        // Where it cannot be removed it becomes stale, and its owner's process is gone sooner still.
        drop(self.lock.vault.remove(ObjectKind::Lock, &held.id));
    }
}

impl Repository {
    /// Takes a lock that restic understands, or fails with [`ResticErrorKind::Locked`] naming who stands in the way.
    /// Of two that try at once, at most one gets an exclusive lock; both may fail.
    pub fn lock(
        &self,
        kind: LockKind,
        owner: &LockOwner,
        options: LockOptions,
    ) -> Result<LockGuard, ResticError> {
        let vault = self.vault().clone();
        refuse_conflict(&vault, kind, owner, &options, None)?;
        let time = Timestamp::now();
        let id = write(&vault, kind, owner, time)?;
        let held = Mutex::new(Held { id, time, lost: None });
        let lock = Arc::new(Lock { vault, kind, owner: owner.clone(), options, held });
        let mut guard = LockGuard { lock: lock.clone(), stop: Cancel::new(), thread: None };
        // Whoever wrote a lock before ours is seen now; whoever writes one later sees ours.
        refuse_conflict(&lock.vault, kind, owner, &options, Some(id))?;
        let stop = guard.stop.clone();
        let thread = std::thread::Builder::new()
            .name("lock-refresh".to_owned())
            .spawn(move || lock.keep_fresh(&stop))
            .map_err(|error| {
                ResticError::new(
                    ResticErrorKind::Failed,
                    self.location(),
                    "no thread can be started for the lock",
                )
                .with_source(error)
            })?;
        guard.thread = Some(thread);
        Ok(guard)
    }

    /// Lists the locks that count at this moment, stale ones left out.
    pub fn locks(&self, host: &str) -> Result<Vec<LockHolder>, ResticError> {
        let stale = LockOptions::default().stale;
        let mut holders = Vec::new();
        for (id, size_bytes) in self.vault().list(ObjectKind::Lock)? {
            let Some(lock) = read(self.vault(), &id, size_bytes)? else { continue };
            if !is_stale(&lock, host, stale) {
                holders.push(holder(id, &lock));
            }
        }
        Ok(holders)
    }
}

impl Lock {
    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refreshes until stopped. A refresh that fails is tried again soon.
    fn keep_fresh(&self, stop: &Cancel) {
        let mut wait = self.options.refresh;
        while !stop.wait(wait) {
            wait = match self.refresh() {
                Ok(()) => self.options.refresh,
                Err(error) if error.kind == ResticErrorKind::LockLost => return,
                Err(_) => self.options.refresh / 5,
            };
        }
    }

    fn refresh(&self) -> Result<(), ResticError> {
        // Held throughout, so that nobody sees the moment between two lock files.
        let mut held = self.held();
        self.examine(&mut held)?;
        let time = Timestamp::now();
        let id = write(&self.vault, self.kind, &self.owner, time)?;
        let old = std::mem::replace(&mut *held, Held { id, time, lost: None }).id;
        match self.vault.remove(ObjectKind::Lock, &old) {
            Err(error) if error.kind == ResticErrorKind::NotFound => Err(self.lose(&mut held, "was removed")),
            // The old file stays behind and is as good as stale; the new one holds.
            _ => Ok(()),
        }
    }

    fn ensure_fresh(&self) -> Result<(), ResticError> {
        // Close to its end it is refreshed first: what relies on it takes a moment too, and clocks differ.
        let is_old = age(self.held().time) >= self.options.stale * 3 / 4;
        if is_old { self.refresh() } else { self.examine(&mut self.held()) }
    }

    fn examine(&self, held: &mut Held) -> Result<(), ResticError> {
        if let Some(reason) = held.lost.clone() {
            return Err(self.lose(held, &reason));
        }
        if age(held.time) >= self.options.stale {
            return Err(self.lose(held, "was not refreshed in time and went stale"));
        }
        match self.vault.storage.stat(&object_name(ObjectKind::Lock, &held.id)?) {
            Ok(_) => Ok(()),
            Err(error) if error.kind == StorageErrorKind::Missing => Err(self.lose(held, "was removed")),
            Err(error) => Err(ResticError::storage(self.vault.describe(ObjectKind::Lock, &held.id), error)),
        }
    }

    fn lose(&self, held: &mut Held, reason: &str) -> ResticError {
        held.lost = Some(reason.to_owned());
        let object = self.vault.describe(ObjectKind::Lock, &held.id);
        ResticError::new(ResticErrorKind::LockLost, object, format!("our own lock {reason}"))
    }
}

fn write(vault: &Vault, kind: LockKind, owner: &LockOwner, time: Timestamp) -> Result<Id, ResticError> {
    let json = to_go_json(&LockJson {
        time,
        exclusive: kind == LockKind::Exclusive,
        hostname: owner.host.clone(),
        username: owner.user.clone(),
        pid: owner.pid,
        uid: owner.uid,
        gid: owner.gid,
    })?;
    vault.save_document(ObjectKind::Lock, &json)
}

/// Reads a lock. `None` where it is gone by now, or empty: what a client that crashed may leave.
pub(crate) fn read(vault: &Vault, id: &Id, size_bytes: u64) -> Result<Option<LockJson>, ResticError> {
    if size_bytes == 0 {
        return Ok(None);
    }
    let sealed = match vault.load_sealed(ObjectKind::Lock, id) {
        Ok(sealed) => sealed,
        Err(error) if error.kind == ResticErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let json = vault.open_document(ObjectKind::Lock, id, sealed)?;
    serde_json::from_slice(&json).map(Some).map_err(|error| {
        ResticError::damaged(vault.describe(ObjectKind::Lock, id), "is no lock").with_source(error)
    })
}

fn refuse_conflict(
    vault: &Vault,
    kind: LockKind,
    owner: &LockOwner,
    options: &LockOptions,
    ours: Option<Id>,
) -> Result<(), ResticError> {
    let is_in_the_way = |lock: &LockJson| kind == LockKind::Exclusive || lock.exclusive;
    for (id, size_bytes) in vault.list(ObjectKind::Lock)? {
        if ours == Some(id) {
            continue;
        }
        let Some(lock) = read(vault, &id, size_bytes)? else { continue };
        if is_stale(&lock, &owner.host, options.stale) {
            pass_over(vault, &id, is_in_the_way(&lock), is_of_dead_process(&lock, &owner.host))?;
            continue;
        }
        if is_in_the_way(&lock) {
            let holder = holder(id, &lock);
            let message = holder.to_string();
            let kind = ResticErrorKind::Locked(Box::new(holder));
            return Err(ResticError::new(kind, vault.storage.location(), message));
        }
    }
    Ok(())
}

/// Passes over a stale lock. One that was in the way has to be gone before anybody goes on: should its owner live, with
/// a clock that is behind ours, it must notice.
fn pass_over(vault: &Vault, id: &Id, was_in_the_way: bool, is_of_dead: bool) -> Result<(), ResticError> {
    if !was_in_the_way && !is_of_dead {
        return Ok(());
    }
    match vault.remove(ObjectKind::Lock, id) {
        // Of a process that is gone it is only tidiness: whoever comes next ignores it as well.
        Err(error) if !is_of_dead && error.kind != ResticErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn holder(id: Id, lock: &LockJson) -> LockHolder {
    LockHolder {
        lock: id,
        host: lock.hostname.clone(),
        user: lock.username.clone(),
        pid: lock.pid,
        time: lock.time,
        age: age(lock.time),
        exclusive: lock.exclusive,
    }
}

fn is_stale(lock: &LockJson, host: &str, stale: Duration) -> bool {
    age(lock.time) >= stale || is_of_dead_process(lock, host)
}

pub(crate) fn is_of_dead_process(lock: &LockJson, host: &str) -> bool {
    let pid = i32::try_from(lock.pid).ok().and_then(Pid::from_raw);
    lock.hostname == host && pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// A time in the future, as of a clock that is ahead of ours, is of age 0.
fn age(time: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(time)).unwrap_or_default()
}
