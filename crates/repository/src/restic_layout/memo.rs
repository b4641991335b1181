//! What was read of snapshots so far. Snapshots never change, so what was read stays right.
//!
//! Lists are long: of each only that it can be read is kept, and where somebody looked for a backup by its id, which
//! folder is whose. Whole lines are kept of the few runs that the next one compares itself with.

use super::lines::Line;
use crate::State;
use flow::{DatabaseName, TargetName};
use jiff::Timestamp;
use restic::{Id, Snapshot};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The lines of a snapshot; `None` for one that stock restic wrote.
pub(super) type Lines = Option<Arc<Vec<Arc<Line>>>>;

/// The folders of a snapshot's databases, by name; `None` for one that stock restic wrote.
pub(super) type Folders = Option<Arc<HashMap<String, Folder>>>;

/// What became of one database of a snapshot.
pub(super) struct Folder {
    pub(super) subtree: Option<Id>,
    /// Why it has none.
    pub(super) error: Option<String>,
    /// Whether it had one, and what it held is lost.
    pub(super) lost: bool,
    /// When the run proved it.
    pub(super) proof_time: Timestamp,
}

/// The backup of a database that a run was given to build on.
#[derive(Clone, Copy)]
pub(super) struct Given {
    pub(super) snapshot: Id,
    pub(super) subtree: Id,
}

/// What the runs of one target by one host were given last.
type GivenOfTarget = HashMap<DatabaseName, Given>;

/// What was read so far.
#[derive(Default)]
pub(super) struct Memo {
    pub(super) snapshots: Mutex<HashMap<Id, Snapshot>>,
    /// Those whose list could be read.
    pub(super) listable: Mutex<HashSet<Id>>,
    pub(super) folders: Mutex<HashMap<Id, Folders>>,
    pub(super) lines: Mutex<HashMap<Id, Lines>>,
    pub(super) sizes: Mutex<HashMap<Id, u64>>,
    /// What the state snapshots of these ids say.
    pub(super) state: Mutex<Option<(Vec<Id>, State)>>,
    given: Mutex<HashMap<(TargetName, String), GivenOfTarget>>,
}

impl Memo {
    /// Keeps what a run was given to build on.
    pub(super) fn give(&self, target: &TargetName, host: &str, given: GivenOfTarget) {
        let key = (target.clone(), host.to_owned());
        self.given.lock().unwrap_or_else(PoisonError::into_inner).insert(key, given);
    }

    /// Takes what the run that begins now was given.
    pub(super) fn take_given(&self, target: &TargetName, host: &str) -> GivenOfTarget {
        let key = (target.clone(), host.to_owned());
        self.given.lock().unwrap_or_else(PoisonError::into_inner).remove(&key).unwrap_or_default()
    }
}
