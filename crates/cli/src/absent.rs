//! A repository that is not there: for work that needs none (a roll-back, a look at what would be backed up). Whatever
//! is asked of it fails, and nothing is written.

use flow::{BackupReader, Context, DatabaseName, Previous, TargetName};
use repository::{
    BackupId, BackupRecord, CheckDepth, CheckReport, PruneReport, PruneRequest, RecentRuns, Repository,
    RepositoryError, RepositoryErrorKind, SnapshotRequest, SnapshotWriter, State, StoredFiles, Usage,
    VerifyReport,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The place where a repository would be.
pub(crate) struct Absent(pub(crate) PathBuf);

impl Absent {
    fn refuse<T>(&self) -> Result<T, RepositoryError> {
        Err(RepositoryError::new(RepositoryErrorKind::NotFound, self.location(), "there is no repository"))
    }
}

impl Repository for Absent {
    fn id(&self) -> &str {
        ""
    }

    fn location(&self) -> String {
        self.0.display().to_string()
    }

    fn backups(&self, _: Option<&TargetName>, _: &Context) -> Result<Vec<BackupRecord>, RepositoryError> {
        self.refuse()
    }

    fn open(&self, _: &BackupId, _: &Context) -> Result<Arc<dyn BackupReader>, RepositoryError> {
        self.refuse()
    }

    fn files(&self, _: &str, _: &Context) -> Result<Box<dyn StoredFiles>, RepositoryError> {
        self.refuse()
    }

    fn previous(
        &self,
        _: &TargetName,
        _: &str,
        _: &Context,
    ) -> Result<BTreeMap<DatabaseName, Previous>, RepositoryError> {
        self.refuse()
    }

    fn recent(&self, _: &TargetName, _: &str, _: &Context) -> Result<RecentRuns, RepositoryError> {
        self.refuse()
    }

    fn begin(&self, _: SnapshotRequest, _: &Context) -> Result<Box<dyn SnapshotWriter>, RepositoryError> {
        self.refuse()
    }

    fn verify(&self, _: &BackupId, _: &Context) -> Result<VerifyReport, RepositoryError> {
        self.refuse()
    }

    fn check(&self, _: CheckDepth, _: &Context) -> Result<CheckReport, RepositoryError> {
        self.refuse()
    }

    fn usage(&self, _: &Context) -> Result<Usage, RepositoryError> {
        self.refuse()
    }

    fn prune(&self, _: &PruneRequest, _: &Context) -> Result<PruneReport, RepositoryError> {
        self.refuse()
    }

    fn state(&self, _: &Context) -> Result<State, RepositoryError> {
        self.refuse()
    }

    fn append_state(&self, _: State, _: &Context) -> Result<(), RepositoryError> {
        self.refuse()
    }
}
