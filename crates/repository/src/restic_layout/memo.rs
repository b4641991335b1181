//! What was read of snapshots so far. Snapshots never change, so what was read stays right.

use super::lines::Line;
use restic::{Id, Snapshot};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The lines of a snapshot; `None` for one that stock restic wrote.
pub(super) type Lines = Option<Arc<Vec<Line>>>;

/// What was read so far. Snapshots never change, so what was read stays right.
#[derive(Default)]
pub(super) struct Memo {
    pub(super) snapshots: Mutex<HashMap<Id, Snapshot>>,
    pub(super) lines: Mutex<HashMap<Id, Lines>>,
    pub(super) sizes: Mutex<HashMap<Id, u64>>,
}
