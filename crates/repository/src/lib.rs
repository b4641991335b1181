//! A place that keeps backups: [`Repository`], with a layout behind it. It knows entries, parts and manifests, and no
//! database system.

mod error;
mod keys;
mod prune;
mod record;
mod repository;
pub mod restic_layout;
pub mod retention;
mod state;

pub use error::{RepositoryError, RepositoryErrorKind};
pub use keys::{KeyRecord, Keys};
pub use prune::{PruneReport, PruneRequest};
pub use record::{
    AcceptanceRecord, BackupId, BackupRecord, Baseline, CheckDepth, CheckRecord, CheckReport,
    ConfigurationRecord, ConfirmationRecord, Damage, HealAction, HealReport, HealRequest, IMPORTED_TAG,
    LastBackup, LockHolder, LockRecord, LossRecord, PackRecord, Proof, ProofLevel, ProofRecord, RecentRuns,
    Settled, SnapshotReport, SnapshotRequest, StoredFile, Unlisted, Usage, VerifyReport, Wanted,
    WrittenDatabase,
};
pub use repository::{PartError, Repository, SnapshotWriter, StoredFiles};
pub use state::{Records, State, StateRecord};
