//! The record of what was done: runs and the steps of restores, in an embedded SQLite database.
//!
//! A cache. Nothing that a restore or a proof needs is kept here alone, so it may be lost, damaged or unwritable
//! without harm: whoever calls shows its errors as remarks and goes on. A crash leaves a run without an end.

mod error;
mod open;
mod record;

pub use error::JournalError;
pub use record::{Outcome, Run, RunEnd, RunId, RunStart, Step};

use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The journal of one user on one host. Several threads and processes may use it at once; a call waits for another's
/// write for at most five seconds.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl Journal {
    /// Returns the path of the journal's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, what: &'static str) -> impl FnOnce(rusqlite::Error) -> JournalError + '_ {
        move |error| JournalError::new(&self.path, what).with_source(error)
    }
}
