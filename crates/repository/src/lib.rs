//! A place that keeps backups: [`Repository`], with a layout behind it. It knows entries, parts and manifests, and no
//! database system.

mod error;
mod record;
mod repository;
pub mod restic_layout;
pub mod retention;
mod state;

pub use error::{RepositoryError, RepositoryErrorKind};
pub use record::{
    BackupId, BackupRecord, CheckDepth, CheckReport, ConfigurationRecord, Damage, Proof, ProofLevel,
    ProofRecord, SnapshotReport, SnapshotRequest, StoredFile, Unlisted, VerifyReport, WrittenDatabase,
};
pub use repository::{PartError, Repository, SnapshotWriter, StoredFiles};
pub use state::{Records, State, StateRecord};
