//! The open repository: what is loaded once, and the locks.

use super::failure::repository_error;
use super::memo::Memo;
use super::reader::Source;
use crate::{RepositoryError, RepositoryErrorKind};
use flow::{Context, Event, Finding, Severity};
use restic::{
    BlobWriter, Id, Index, LockGuard, LockKind, LockOptions, LockOwner, ResticErrorKind, WriterOptions,
};
use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use storage::{ObjectName, StorageErrorKind};

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
    /// How many passes of scrypt the key of a new repository takes; `None`: as many as one processor does in half a second, like
    /// restic. Fewer make a weak password easier to guess.
    pub derivation_passes: Option<u32>,
}

impl ResticOptions {
    /// Level and pack size as measured to be best (docs/performance.md), two workers, no cache.
    pub fn new(owner: LockOwner) -> Self {
        Self { cache: None, owner, level: 2, pack_bytes: 16 << 20, workers: 2, derivation_passes: None }
    }
}

/// An index, and the files that it was loaded from.
struct Loaded {
    index: Arc<Index>,
    files: BTreeSet<ObjectName>,
    /// Whether it holds all that they say, also of packs that are not stored.
    is_whole: bool,
}

/// What the layout's parts share.
pub(super) struct ResticRepository {
    restic: Arc<restic::Repository>,
    options: ResticOptions,
    id: String,
    index: Mutex<Option<Loaded>>,
    /// What of the index a writer may rely on.
    sound: Mutex<Option<Arc<Index>>>,
    memo: Memo,
    /// Whether it was said that there is no lock: once a run is enough.
    told_unlocked: AtomicBool,
}

impl ResticRepository {
    pub(super) fn new(restic: restic::Repository, options: ResticOptions) -> Self {
        let id = restic.id();
        Self {
            restic: Arc::new(restic),
            options,
            id,
            index: Mutex::default(),
            sound: Mutex::default(),
            memo: Memo::default(),
            told_unlocked: AtomicBool::new(false),
        }
    }

    /// Returns the repository's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn restic(&self) -> &restic::Repository {
        &self.restic
    }

    /// Returns what was read of snapshots so far.
    pub(super) fn memo(&self) -> &Memo {
        &self.memo
    }

    pub(super) fn location_text(&self) -> String {
        self.restic.location()
    }

    /// Drops the loaded index: a run has added to it, or something was found damaged.
    pub(super) fn forget_index(&self) {
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.sound.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Drops what was read of a snapshot that goes.
    pub(super) fn forget_snapshot(&self, id: &Id) {
        self.memo.snapshots.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.memo.listable.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.memo.folders.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.memo.lines.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Returns the index, loaded once.
    pub(super) fn index(&self) -> Result<Arc<Index>, RepositoryError> {
        let mut slot = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = slot.as_ref() {
            return Ok(Arc::clone(&loaded.index));
        }
        let files = self.index_files()?;
        let index = Arc::new(self.restic.load_index().map_err(repository_error)?);
        *slot = Some(Loaded { index: Arc::clone(&index), files, is_whole: true });
        Ok(index)
    }

    /// Returns all that the index files say that are stored now; they are read again only where they are others than
    /// those that were loaded.
    fn whole_index(&self) -> Result<(Arc<Index>, BTreeSet<ObjectName>), RepositoryError> {
        let files = self.index_files()?;
        if let Some(loaded) = self.index.lock().unwrap_or_else(PoisonError::into_inner).as_ref()
            && loaded.is_whole
            && loaded.files == files
        {
            return Ok((Arc::clone(&loaded.index), files));
        }
        Ok((Arc::new(self.restic.load_index().map_err(repository_error)?), files))
    }

    /// Drops the loaded index where other files are stored by now: somebody backed up, or pruned. To be asked once a
    /// lock is held: from then on nothing moves.
    pub(super) fn refresh_index(&self) -> Result<(), RepositoryError> {
        let stored = self.index_files()?;
        let is_old = |loaded: &Loaded| loaded.files != stored;
        if self.index.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(is_old) {
            self.forget_index();
        }
        Ok(())
    }

    fn index_files(&self) -> Result<BTreeSet<ObjectName>, RepositoryError> {
        let stored = self.restic.storage().list("index").map_err(|error| {
            let object = format!("index of {}", self.location_text());
            RepositoryError::new(RepositoryErrorKind::Failed, object, error.to_string()).with_source(error)
        })?;
        Ok(stored.into_iter().map(|stat| stat.name).collect())
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
                if !self.told_unlocked.swap(true, Ordering::Relaxed) {
                    context.observer.event(Event::Finding(Finding {
                        severity: Severity::Warning,
                        object: self.location_text(),
                        message: format!("it is read without a lock, since none can be written: {error}"),
                        hint: Some("see that nobody prunes it meanwhile".to_owned()),
                    }));
                }
                Ok(None)
            }
            Err(error) => Err(repository_error(error)),
        }
    }

    /// Begins to write blobs. What the index names and the storage lacks counts as not there, and so does what lies in
    /// a pack that is known to be damaged: it is stored again.
    pub(super) fn blob_writer(
        &self,
        damaged: &HashSet<Id>,
        context: &Context,
    ) -> Result<BlobWriter, RepositoryError> {
        let index = self.load_sound_index(damaged)?;
        let options = WriterOptions {
            level: self.options.level,
            pack_bytes: self.options.pack_bytes,
            workers: self.options.workers,
            cancel: context.cancel.clone(),
            ..WriterOptions::default()
        };
        BlobWriter::begin(Arc::clone(&self.restic), index, options).map_err(repository_error)
    }

    /// Loads what of the index can be relied on: packs that are stored, and not known to be damaged.
    fn load_sound_index(&self, damaged: &HashSet<Id>) -> Result<Arc<Index>, RepositoryError> {
        let (whole, files) = self.whole_index()?;
        let of_stored = |except| self.restic.of_stored_packs(&whole, except).map_err(repository_error);
        let index = of_stored(damaged)?;
        *self.sound.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&index));
        // A damaged pack may hold good blobs too: readers go on to use it.
        let all = if damaged.is_empty() { Arc::clone(&index) } else { of_stored(&HashSet::new())? };
        let loaded = Loaded { is_whole: Arc::ptr_eq(&all, &whole), index: all, files };
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
        Ok(index)
    }

    /// Returns what of the index can be relied on, loaded once.
    pub(super) fn sound_index(&self, damaged: &HashSet<Id>) -> Result<Arc<Index>, RepositoryError> {
        let known = self.sound.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.map_or_else(|| self.load_sound_index(damaged), Ok)
    }

    pub(super) fn derivation_passes(&self) -> Option<u32> {
        self.options.derivation_passes
    }

    /// Returns the size that new packs get.
    pub(super) fn pack_bytes(&self) -> u32 {
        self.options.pack_bytes
    }

    pub(super) fn owner_host(&self) -> &str {
        &self.options.owner.host
    }

    pub(super) fn owner_user(&self) -> &str {
        &self.options.owner.user
    }
}
