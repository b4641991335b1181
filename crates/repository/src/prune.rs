//! What a prune is asked for, and what it came to.

use crate::retention::{PruneScope, Verdict};
use jiff::Timestamp;

/// What is to be pruned.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// Rules, and the backups that each is for. What no scope selects is left alone.
    pub scopes: Vec<PruneScope>,
    /// The moment from which ages are counted.
    pub now: Timestamp,
    /// Tells what would be done, and changes nothing.
    pub dry_run: bool,
    /// Removes the backups, and leaves the space that they took for a later prune.
    pub forget_only: bool,
}

/// What a prune came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PruneReport {
    /// What stays and what went (or would go) of the backups that were asked about: by target, database and host,
    /// newest first.
    pub verdicts: Vec<Verdict>,
    /// How many snapshots of backups went, or would go.
    pub snapshots: u64,
    /// By how many bytes the repository became smaller; of a dry run about how many it would.
    pub freed_bytes: u64,
    /// How many snapshots of other programs there are, which are never touched.
    pub foreign: u64,
    /// How many snapshots cannot be listed, which are never touched either.
    pub unlisted: u64,
}
