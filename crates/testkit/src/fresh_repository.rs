//! What the suites of repositories try: an empty repository, and the ways in which they look at it and hurt it.

use flow::Context;
use repository::{BackupId, Repository};
use std::any::Any;
use std::sync::Arc;

/// Damages what is stored of a backup.
pub type DamageBackup = dyn Fn(&BackupId);

/// An empty repository to be tried.
pub struct FreshRepository {
    /// The repository.
    pub repository: Arc<dyn Repository>,
    /// How the same place is opened a second time.
    pub reopen: Box<dyn Fn() -> Arc<dyn Repository>>,
    /// A context for the calls.
    pub context: Context,
    /// Damages what is stored of a backup, where the place can be damaged.
    pub damage: Option<Box<DamageBackup>>,
    /// Makes unreadable what says which databases the snapshot of a backup holds, where the place can be damaged.
    pub hide: Option<Box<DamageBackup>>,
    /// What must not be dropped before the repository.
    pub keep: Box<dyn Any>,
}
