//! By what a snapshot of state is known, and what such snapshots say.

use crate::{BackupId, ProofRecord};
use restic::Snapshot;
use std::collections::BTreeMap;

/// The tag of a snapshot that keeps state.
pub(super) const TAG: &str = "backstay-state";

/// The newest record of each backup.
pub(super) type Proofs = BTreeMap<BackupId, ProofRecord>;

/// Tells whether a snapshot keeps state, and no backup.
pub(super) fn is_state(snapshot: &Snapshot) -> bool {
    snapshot.tags.iter().any(|tag| tag == TAG)
}
