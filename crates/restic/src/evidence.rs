//! What a check saw of the objects themselves, for whoever mends what it found: which of them are damaged, and which the
//! storage only failed to give. Values alone; nothing is changed here.

use crate::error::ResticError;
use crate::id::Id;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What is wrong with a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PackDamage {
    /// It is not stored.
    Missing,
    /// It was read in full, and is not what was written.
    Bad,
    /// The storage does not give it.
    Unreadable,
}

/// What a check saw of the objects themselves.
#[derive(Default)]
pub(crate) struct Evidence {
    /// All index files, those that cannot be read among them.
    pub(crate) indexes: Vec<(Id, u64)>,
    /// The index files that are damaged.
    pub(crate) bad_indexes: Vec<Id>,
    /// Whether an index file is still there that another one replaces.
    pub(crate) has_superseded: bool,
    /// An index file that the storage does not give: what it says is not known.
    pub(crate) unreadable_index: Option<ResticError>,
    /// All packs that are stored, with their sizes.
    pub(crate) stored: HashMap<Id, u64>,
    /// Packs that no index file names, and that have a header.
    pub(crate) unnamed: HashSet<Id>,
    /// The packs that were read in full.
    pub(crate) read: HashSet<Id>,
    /// The packs that cannot be relied on.
    pub(crate) packs: BTreeMap<Id, PackDamage>,
    /// The snapshots whose content is not what was written.
    pub(crate) bad_snapshots: Vec<Id>,
}
