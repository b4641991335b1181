//! The open repository: what is loaded once, the locks, and the seam's calls.

use super::check;
use super::failure::repository_error;
use super::known::Known;
use super::lines::{Line, LineOutcome};
use super::list::Listing;
use super::proofs;
use super::reader::{ResticBackup, ResticFiles, Source, as_repository_error};
use super::writer::ResticSnapshotWriter;
use crate::{
    BackupId, BackupRecord, CheckDepth, CheckReport, ProofRecord, Repository, RepositoryError,
    RepositoryErrorKind, SnapshotRequest, SnapshotWriter, StoredFiles, VerifyReport,
};
use flow::{BackupReader, Context, DatabaseName, Event, Finding, Previous, Secret, Severity, TargetName};
use restic::{
    BlobWriter, Id, Index, LockGuard, LockKind, LockOptions, LockOwner, ResticErrorKind, WriterOptions,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use storage::{Storage, StorageErrorKind};

/// How a repository of this layout is opened and written.
#[derive(Debug, Clone)]
pub struct ResticOptions {
    /// A folder for copies of index files and snapshots; may be deleted at any moment.
    pub cache: Option<PathBuf>,
    /// Who takes the locks.
    pub owner: LockOwner,
    /// The zstd level.
    pub level: i32,
    /// The size of packs, from 4 to 128 MiB.
    pub pack_bytes: u32,
    /// How many threads compress and seal.
    pub workers: usize,
    /// How many passes of scrypt the key of a new repository takes; `None`: as many as take half a second here, like
    /// restic. Fewer make a weak password easier to guess.
    pub derivation_passes: Option<u32>,
}

impl ResticOptions {
    /// Level and pack size as measured to be best (docs/performance.md), two workers, no cache.
    pub fn new(owner: LockOwner) -> Self {
        Self { cache: None, owner, level: 3, pack_bytes: 16 << 20, workers: 2, derivation_passes: None }
    }
}

/// An open repository of layout `restic`.
pub struct ResticLayout(Arc<ResticRepository>);

/// What the layout's parts share.
pub(super) struct ResticRepository {
    restic: Arc<restic::Repository>,
    options: ResticOptions,
    id: String,
    index: Mutex<Option<Arc<Index>>>,
    listing: Listing,
}

impl ResticLayout {
    /// Creates a repository in an empty storage, opened by that password. Durable when it returns.
    pub fn create(
        storage: Arc<dyn Storage>,
        password: &Secret,
        options: ResticOptions,
    ) -> Result<Self, RepositoryError> {
        let create = restic::CreateOptions {
            host: options.owner.host.clone(),
            user: options.owner.user.clone(),
            cache: options.cache.clone(),
            derivation_passes: options.derivation_passes,
        };
        let restic = restic::Repository::create(storage, password, create).map_err(repository_error)?;
        Ok(Self::over(restic, options))
    }

    /// Opens a repository.
    pub fn open(
        storage: Arc<dyn Storage>,
        password: &Secret,
        options: ResticOptions,
    ) -> Result<Self, RepositoryError> {
        let open = restic::OpenOptions { cache: options.cache.clone() };
        let restic = restic::Repository::open(storage, password, open).map_err(repository_error)?;
        Ok(Self::over(restic, options))
    }

    fn over(restic: restic::Repository, options: ResticOptions) -> Self {
        let id = restic.id();
        Self(Arc::new(ResticRepository {
            restic: Arc::new(restic),
            options,
            id,
            index: Mutex::default(),
            listing: Listing::default(),
        }))
    }
}

impl ResticRepository {
    pub(super) fn restic(&self) -> &restic::Repository {
        &self.restic
    }

    pub(super) fn listing(&self) -> &Listing {
        &self.listing
    }

    pub(super) fn location_text(&self) -> String {
        self.restic.location()
    }

    /// Drops the loaded index: a run has added to it.
    pub(super) fn forget_index(&self) {
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns the index, loaded once.
    pub(super) fn index(&self) -> Result<Arc<Index>, RepositoryError> {
        let mut slot = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = slot.as_ref() {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(self.restic.load_index().map_err(repository_error)?);
        *slot = Some(Arc::clone(&index));
        Ok(index)
    }

    pub(super) fn source(&self, context: &Context) -> Result<Source, RepositoryError> {
        let repository = Arc::clone(&self.restic);
        Ok(Source { repository, index: self.index()?, cancel: context.cancel.clone() })
    }

    pub(super) fn lock(&self, kind: LockKind) -> Result<Arc<LockGuard>, RepositoryError> {
        let lock = self.restic.lock(kind, &self.options.owner, LockOptions::default());
        Ok(Arc::new(lock.map_err(repository_error)?))
    }

    /// Takes a lock for reading. A repository that may only be read, or is full, is read without one, and that is
    /// said: the data must come back from a read-only disk too.
    pub(super) fn lock_to_read(
        &self,
        kind: LockKind,
        context: &Context,
    ) -> Result<Option<Arc<LockGuard>>, RepositoryError> {
        match self.restic.lock(kind, &self.options.owner, LockOptions::default()) {
            Ok(lock) => Ok(Some(Arc::new(lock))),
            Err(error)
                if matches!(
                    error.kind,
                    ResticErrorKind::Storage(StorageErrorKind::Denied | StorageErrorKind::Full)
                ) =>
            {
                context.observer.event(Event::Finding(Finding {
                    severity: Severity::Warning,
                    object: self.location_text(),
                    message: format!("it is read without a lock, since none can be written: {error}"),
                    hint: Some("see that nobody prunes it meanwhile".to_owned()),
                }));
                Ok(None)
            }
            Err(error) => Err(repository_error(error)),
        }
    }

    /// Begins to write blobs. What the index names and the storage lacks counts as not there, and is stored again.
    pub(super) fn blob_writer(&self, context: &Context) -> Result<BlobWriter, RepositoryError> {
        let index = Arc::new(self.restic.load_index_of_stored_packs().map_err(repository_error)?);
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&index));
        let options = WriterOptions {
            level: self.options.level,
            pack_bytes: self.options.pack_bytes,
            workers: self.options.workers,
            cancel: context.cancel.clone(),
            ..WriterOptions::default()
        };
        BlobWriter::begin(Arc::clone(&self.restic), index, options).map_err(repository_error)
    }
}

impl Repository for ResticLayout {
    fn id(&self) -> &str {
        &self.0.id
    }

    fn location(&self) -> String {
        self.0.location_text()
    }

    fn backups(
        &self,
        target: Option<&TargetName>,
        context: &Context,
    ) -> Result<Vec<BackupRecord>, RepositoryError> {
        let listed = self.0.listing.load(&self.0, target, context)?;
        let proofs = proofs::load(&self.0, context)?;
        Ok(listed.records(&self.0.listing.said(&self.0, &proofs, context)?))
    }

    fn open(&self, id: &BackupId, context: &Context) -> Result<Arc<dyn BackupReader>, RepositoryError> {
        let lock = self.0.lock_to_read(LockKind::Shared, context)?;
        let source = self.0.source(context)?;
        let subtree = self.0.listing.find(&self.0, id, context)?;
        Ok(Arc::new(ResticBackup::open(source, &subtree, lock).map_err(as_repository_error)?))
    }

    fn files(&self, snapshot: &str, context: &Context) -> Result<Box<dyn StoredFiles>, RepositoryError> {
        let lock = self.0.lock_to_read(LockKind::Shared, context)?;
        let id = self.0.restic.resolve_snapshot(snapshot).map_err(repository_error)?;
        let root = self.0.restic.snapshot(&id).map_err(repository_error)?.tree;
        let source = self.0.source(context)?;
        Ok(Box::new(ResticFiles::open(source, &root, lock).map_err(as_repository_error)?))
    }

    fn previous(
        &self,
        target: &TargetName,
        host: &str,
        context: &Context,
    ) -> Result<BTreeMap<DatabaseName, Previous>, RepositoryError> {
        let source = self.0.source(context)?;
        let mut previous = BTreeMap::new();
        for (name, line) in self.0.listing.latest(&self.0, target, host, context)? {
            // A previous backup that cannot be read whole is no ground to stand on: the database is read anew.
            if let (Some(subtree), Some(marks)) = (line.subtree, line.marks.clone())
                && let Ok(backup) = ResticBackup::open(source.clone(), &subtree, None)
                && self.0.is_indexed(&source, &subtree)
            {
                let manifest = Arc::new(backup.manifest().clone());
                previous.insert(name, Previous { marks, manifest });
            }
        }
        Ok(previous)
    }

    fn begin(
        &self,
        request: SnapshotRequest,
        context: &Context,
    ) -> Result<Box<dyn SnapshotWriter>, RepositoryError> {
        let lock = self.0.lock(LockKind::Shared)?;
        let blobs = self.0.blob_writer(context)?;
        let known = Known::load(&self.0, &request.target, &request.host, context)?;
        Ok(Box::new(ResticSnapshotWriter::new(
            Arc::clone(&self.0),
            request,
            context.clone(),
            blobs,
            lock,
            known,
        )))
    }

    fn verify(&self, id: &BackupId, context: &Context) -> Result<VerifyReport, RepositoryError> {
        let _lock = self.0.lock_to_read(LockKind::Shared, context)?;
        let subtree = self.0.listing.find(&self.0, id, context)?;
        check::verify(&self.0, id, &subtree, context)
    }

    fn check(&self, depth: CheckDepth, context: &Context) -> Result<CheckReport, RepositoryError> {
        let _lock = self.0.lock_to_read(LockKind::Exclusive, context)?;
        check::check(&self.0, depth, context)
    }

    fn proofs(&self, context: &Context) -> Result<Vec<ProofRecord>, RepositoryError> {
        Ok(proofs::load(&self.0, context)?.into_values().collect())
    }

    fn append_proofs(&self, records: Vec<ProofRecord>, context: &Context) -> Result<(), RepositoryError> {
        let _lock = self.0.lock(LockKind::Shared)?;
        proofs::append(&self.0, records, context)
    }
}

impl ResticRepository {
    /// Tells whether every blob that a folder needs is named by an index and lies in a pack that is stored.
    fn is_indexed(&self, source: &Source, subtree: &Id) -> bool {
        let blobs = self.restic.blobs_of(&source.index, subtree);
        blobs.is_ok_and(|blobs| blobs.iter().all(|(kind, id)| source.index.contains(*kind, id)))
    }

    /// Returns a line's folder, or says that its database failed in that run.
    pub(super) fn subtree_of(&self, line: &Line) -> Result<Id, RepositoryError> {
        let failed = || {
            RepositoryError::new(
                RepositoryErrorKind::NoBackup,
                format!("{} of {}", line.database, line.target),
                format!(
                    "that run did not back it up: {}",
                    line.error.as_deref().unwrap_or("no reason was kept")
                ),
            )
        };
        line.subtree.filter(|_| line.outcome == LineOutcome::Complete).ok_or_else(failed)
    }

    pub(super) fn owner_host(&self) -> &str {
        &self.options.owner.host
    }

    pub(super) fn owner_user(&self) -> &str {
        &self.options.owner.user
    }
}
