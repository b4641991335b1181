//! The locks as they lie there, stale ones too, and their removal.
//!
//! A lock that is refreshed gets another name: what was looked at and found stale is never a fresh one by the time it is
//! removed.

use crate::error::{LockHolder, ResticError, ResticErrorKind};
use crate::id::Id;
use crate::lock::{holder, is_of_dead_process, read};
use crate::repository::Repository;
use crate::vault::ObjectKind;
use std::time::Duration;

/// Why a lock no longer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// Nobody refreshed it in time.
    Old,
    /// Its process was of this host and is gone.
    DeadProcess,
}

/// A lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockFile {
    /// Its id.
    pub id: Id,
    /// Who holds it; `None` where it cannot be read.
    pub holder: Option<LockHolder>,
    /// Why it no longer counts; `None` where it does, or nobody can tell.
    pub stale: Option<Stale>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

impl Repository {
    /// Lists the lock files, as seen from a process of that host; `stale` is the age at which they count no more.
    pub fn lock_files(&self, host: &str, stale: Duration) -> Result<Vec<LockFile>, ResticError> {
        let mut found = Vec::new();
        for (id, size_bytes) in self.vault().list(ObjectKind::Lock)? {
            let mut file = LockFile { id, holder: None, stale: None, problem: None };
            match read(self.vault(), &id, size_bytes) {
                Ok(Some(lock)) => {
                    let holder = holder(id, &lock);
                    if is_of_dead_process(&lock, host) {
                        file.stale = Some(Stale::DeadProcess);
                    } else if holder.age >= stale {
                        file.stale = Some(Stale::Old);
                    }
                    file.holder = Some(holder);
                }
                Ok(None) if size_bytes > 0 => continue,
                Ok(None) => file.problem = Some("is empty".to_owned()),
                Err(error) => file.problem = Some(error.message),
            }
            found.push(file);
        }
        Ok(found)
    }

    /// Removes a lock file, whoever holds it. One that is gone already is no error.
    pub fn remove_lock_file(&self, id: &Id) -> Result<(), ResticError> {
        match self.vault().remove(ObjectKind::Lock, id) {
            Err(error) if error.kind == ResticErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
