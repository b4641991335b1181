//! A place that keeps backups: [`Repository`], with a layout behind it. It knows entries, parts and manifests, and no
//! database system.

mod error;
mod repository;

pub use error::{RepositoryError, RepositoryErrorKind};
pub use repository::{
    BackupId, BackupRecord, CheckDepth, CheckReport, Damage, PartError, Proof, ProofLevel, ProofRecord,
    Repository, SnapshotReport, SnapshotRequest, SnapshotWriter, StoredFile, StoredFiles, VerifyReport,
    WrittenDatabase,
};
