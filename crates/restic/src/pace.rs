//! Work under an exclusive lock that takes a while: cancelled within moments, and ended where the lock is lost.

use crate::error::ResticError;
use crate::lock::LockGuard;
use crate::repository::Repository;
use flow::Cancel;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the lock is looked at while something goes on.
const LOCK_LOOK: Duration = Duration::from_secs(2);

/// Whether the work may go on: asked often, it looks at the lock now and then.
pub(crate) struct Pace<'a> {
    lock: &'a LockGuard,
    cancel: &'a Cancel,
    location: String,
    looked: Mutex<Instant>,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(repository: &Repository, lock: &'a LockGuard, cancel: &'a Cancel) -> Self {
        Self { lock, cancel, location: repository.location(), looked: Mutex::new(Instant::now()) }
    }

    /// Before something that cannot be taken back.
    pub(crate) fn ensure(&self) -> Result<(), ResticError> {
        self.cancel.check().map_err(|_| ResticError::cancelled(&self.location))?;
        self.lock.ensure_exclusive()?;
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(())
    }

    pub(crate) fn go_on(&self) -> Result<(), ResticError> {
        let is_due = self.looked.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > LOCK_LOOK;
        if is_due {
            return self.ensure();
        }
        self.cancel.check().map_err(|_| ResticError::cancelled(&self.location))
    }
}
