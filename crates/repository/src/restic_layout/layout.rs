//! The seam's calls on an open repository.

use super::care;
use super::check;
use super::failure::repository_error;
use super::heal;
use super::known::Known;
use super::memo::Given;
use super::opened::{ResticOptions, ResticRepository};
use super::prune;
use super::reader::{ResticBackup, ResticFiles, as_repository_error};
use super::settle;
use super::state;
use super::writer::ResticSnapshotWriter;
use crate::retention::Verdict;
use crate::{
    BackupId, BackupRecord, CheckDepth, CheckReport, HealReport, HealRequest, Keys, LockRecord, PruneReport,
    PruneRequest, RecentRuns, Repository, RepositoryError, Settled, SnapshotRequest, SnapshotWriter, State,
    StoredFiles, Unlisted, Usage, VerifyReport, Wanted,
};
use flow::{BackupReader, Context, DatabaseName, Previous, Secret, TargetName};
use restic::{Id, LockKind};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use storage::Storage;

/// How many threads read folders.
const THREADS: usize = 2;

/// An open repository of layout `restic`.
pub struct ResticLayout(Arc<ResticRepository>);

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
        Self(Arc::new(ResticRepository::new(restic, options)))
    }
}

impl Repository for ResticLayout {
    fn id(&self) -> &str {
        self.0.id()
    }

    fn location(&self) -> String {
        self.0.location_text()
    }

    fn backups(
        &self,
        target: Option<&TargetName>,
        context: &Context,
    ) -> Result<Vec<BackupRecord>, RepositoryError> {
        self.backups_of(&target.map_or(Wanted::All, |target| Wanted::Target(target.clone())), context)
    }

    fn backups_of(&self, wanted: &Wanted, context: &Context) -> Result<Vec<BackupRecord>, RepositoryError> {
        self.0.backups(wanted, &self.0.said(&state::load(&self.0, context)?, context)?, context)
    }

    fn each_backup(
        &self,
        wanted: &Wanted,
        context: &Context,
        take: &mut dyn FnMut(BackupRecord),
    ) -> Result<(), RepositoryError> {
        self.0.each_backup(wanted, &self.0.said(&state::load(&self.0, context)?, context)?, context, take)
    }

    fn unlisted(&self, context: &Context) -> Result<Vec<Unlisted>, RepositoryError> {
        self.0.unlisted(&Wanted::All, context)
    }

    fn unlisted_of(&self, wanted: &Wanted, context: &Context) -> Result<Vec<Unlisted>, RepositoryError> {
        self.0.unlisted(wanted, context)
    }

    fn open(&self, id: &BackupId, context: &Context) -> Result<Arc<dyn BackupReader>, RepositoryError> {
        let lock = self.0.lock_to_read(LockKind::Shared, context)?;
        let subtree = self.0.find_stored(id, context)?;
        let source = self.0.source(context)?;
        Ok(Arc::new(ResticBackup::open(source, &subtree, lock).map_err(as_repository_error)?))
    }

    fn files(&self, snapshot: &str, context: &Context) -> Result<Box<dyn StoredFiles>, RepositoryError> {
        let lock = self.0.lock_to_read(LockKind::Shared, context)?;
        let id = self.0.restic().resolve_snapshot(snapshot).map_err(repository_error)?;
        let root = self.0.restic().snapshot(&id).map_err(repository_error)?.tree;
        self.0.refresh_index()?;
        let source = self.0.source(context)?;
        Ok(Box::new(ResticFiles::open(source, &root, lock).map_err(as_repository_error)?))
    }

    fn previous(
        &self,
        target: &TargetName,
        host: &str,
        context: &Context,
    ) -> Result<BTreeMap<DatabaseName, Previous>, RepositoryError> {
        let sound = self.0.sound_index(&state::damaged_packs(&self.0, context)?)?;
        let source = self.0.source(context)?;
        let known = self.0.latest(target, host, None, context)?.into_iter();
        let known = known.filter_map(|(name, known)| {
            Some((name, known.snapshot, known.line.marks.clone()?, known.line.subtree?))
        });
        let known: Vec<_> = known.collect();
        let folders: Vec<Id> = known.iter().map(|(_, _, _, subtree)| *subtree).collect();
        let verdicts = self.0.restic().folders_are_sound(&source.index, &sound, &folders, THREADS);
        let (mut previous, mut given) = (BTreeMap::new(), HashMap::new());
        for ((name, snapshot, marks, subtree), is_sound) in known.into_iter().zip(verdicts) {
            // A previous backup that is not there whole is no ground to stand on: the database is read anew.
            if is_sound {
                let source = source.clone();
                let manifest = move || {
                    let backup = ResticBackup::open(source.clone(), &subtree, None)?;
                    Ok(Arc::new(backup.into_manifest()))
                };
                given.insert(name.clone(), Given { snapshot, subtree });
                previous.insert(name, Previous::new(marks, manifest));
            }
        }
        self.0.memo().give(target, host, given);
        Ok(previous)
    }

    fn recent(
        &self,
        target: &TargetName,
        host: &str,
        context: &Context,
    ) -> Result<RecentRuns, RepositoryError> {
        self.0.recent(target, host, context)
    }

    fn begin(
        &self,
        request: SnapshotRequest,
        context: &Context,
    ) -> Result<Box<dyn SnapshotWriter>, RepositoryError> {
        let lock = self.0.lock(LockKind::Shared)?;
        let blobs = self.0.blob_writer(&state::damaged_packs(&self.0, context)?, context)?;
        let known = Known::load(&self.0, &request, context)?;
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
        let subtree = self.0.find_stored(id, context)?;
        check::verify(&self.0, id, &subtree, context)
    }

    fn check(&self, depth: CheckDepth, context: &Context) -> Result<CheckReport, RepositoryError> {
        let lock = self.0.lock_to_read(LockKind::Exclusive, context)?;
        check::check(&self.0, depth, lock.is_some(), context)
    }

    fn locks(&self) -> Result<Vec<LockRecord>, RepositoryError> {
        care::locks(&self.0)
    }

    fn remove_lock(&self, id: &str) -> Result<(), RepositoryError> {
        care::remove_lock(&self.0, id)
    }

    fn usage(&self, _context: &Context) -> Result<Usage, RepositoryError> {
        care::usage(&self.0)
    }

    fn keys(&self) -> Option<&dyn Keys> {
        Some(&*self.0)
    }

    fn prune(&self, request: &PruneRequest, context: &Context) -> Result<PruneReport, RepositoryError> {
        prune::prune(&self.0, request, context)
    }

    fn prune_if_any(
        &self,
        request: &PruneRequest,
        leaves_space: &dyn Fn(&[Verdict]) -> bool,
        context: &Context,
    ) -> Result<PruneReport, RepositoryError> {
        prune::prune_if_any(&self.0, request, leaves_space, context)
    }

    fn heal(&self, request: &HealRequest, context: &Context) -> Result<HealReport, RepositoryError> {
        heal::heal(&self.0, request, context)
    }

    fn settle(&self, run: &str, context: &Context) -> Result<Settled, RepositoryError> {
        settle::settle(&self.0, run, context)
    }

    fn state(&self, context: &Context) -> Result<State, RepositoryError> {
        state::load(&self.0, context)
    }

    fn append_state(&self, records: State, context: &Context) -> Result<(), RepositoryError> {
        let _lock = self.0.lock(LockKind::Shared)?;
        state::append(&self.0, records, context)
    }
}
