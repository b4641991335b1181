//! Stub.
use crate::error::{ResticError, ResticErrorKind};
use crate::repository::Repository;
use std::time::Duration;

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
    /// The age at which a lock is ignored. Every client of a repository must think the same: only for tests.
    pub stale: Duration,
}

impl Default for LockOptions {
    fn default() -> Self {
        Self { refresh: Duration::from_secs(5 * 60), stale: Duration::from_secs(30 * 60) }
    }
}

/// A lock that we hold. Refreshed by a thread of its own; removed when dropped.
pub struct LockGuard {}

impl LockGuard {
    /// Fails ([`ResticErrorKind::LockLost`]) where the lock was removed by somebody, or was stale for a moment: then
    /// another client may have pruned what we rely on.
    pub fn ensure_fresh(&self) -> Result<(), ResticError> {
        Err(ResticError::new(ResticErrorKind::Unsupported, "stub", "stub"))
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
        let _ = (kind, owner, options);
        Err(ResticError::new(ResticErrorKind::Unsupported, "stub", "stub"))
    }
}
