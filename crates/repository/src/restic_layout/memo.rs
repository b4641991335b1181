//! What was read of snapshots so far. Snapshots never change, so what was read stays right.
//!
//! Lists are long: of each only that it can be read is kept, and where somebody looked for a backup by its id, which
//! folder is whose. Whole lines are kept of the few runs that the next one compares itself with.

use super::lines::Line;
use jiff::Timestamp;
use restic::{Id, Snapshot};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

/// The lines of a snapshot; `None` for one that stock restic wrote.
pub(super) type Lines = Option<Arc<Vec<Line>>>;

/// The folders of a snapshot's databases, by name; `None` for one that stock restic wrote.
pub(super) type Folders = Option<Arc<HashMap<String, Folder>>>;

/// What became of one database of a snapshot.
pub(super) struct Folder {
    pub(super) subtree: Option<Id>,
    /// Why it has none.
    pub(super) error: Option<String>,
    /// When the run proved it.
    pub(super) proof_time: Timestamp,
}

/// What was read so far.
#[derive(Default)]
pub(super) struct Memo {
    pub(super) snapshots: Mutex<HashMap<Id, Snapshot>>,
    /// Those whose list could be read.
    pub(super) listable: Mutex<HashSet<Id>>,
    pub(super) folders: Mutex<HashMap<Id, Folders>>,
    pub(super) lines: Mutex<HashMap<Id, Lines>>,
    pub(super) sizes: Mutex<HashMap<Id, u64>>,
}
