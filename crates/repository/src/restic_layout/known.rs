//! What a run knows of earlier ones: the previous line of each database, and when a blob was last read back.
//!
//! A blob that is reused counts from the time its pack was last read. The previous backup of the same database says
//! when its own blobs were; a blob that came from anywhere else counts from the oldest proof in the repository.

use super::assemble::StoredPart;
use super::lines::Line;
use super::list::Said;
use super::opened::ResticRepository;
use super::reader::{MANIFEST_FILE, as_repository_error};
use super::runs::Latest;
use super::state;
use crate::{Baseline, RepositoryError, RepositoryErrorKind, SnapshotRequest};
use flow::{Context, DatabaseName, DatabaseRef, PartRef, TargetName};
use jiff::Timestamp;
use restic::{BlobKind, Id};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub(super) struct Known {
    latest: BTreeMap<DatabaseName, Latest>,
    /// Databases whose backup that the run was given to build on was removed before the run held its lock.
    gone: BTreeSet<DatabaseName>,
    said: Said,
    context: Context,
    blobs: Mutex<BTreeMap<DatabaseName, Arc<HashSet<Id>>>>,
    oldest: OnceLock<Timestamp>,
}

impl Known {
    /// Loads what earlier runs of this host left of what a request is of.
    pub(super) fn load(
        repository: &ResticRepository,
        request: &SnapshotRequest,
        context: &Context,
    ) -> Result<Self, RepositoryError> {
        let SnapshotRequest { target, host, selection, .. } = request;
        let mut latest = repository.latest(target, host, selection.as_ref(), context)?;
        let gone = match selection {
            None => build_on_given(repository, (target, host), &mut latest, context)?,
            Some(_) => BTreeSet::new(),
        };
        let said = repository.said(&state::load(repository, context)?, context)?;
        let (blobs, oldest) = (Mutex::default(), OnceLock::new());
        Ok(Self { latest, gone, said, context: context.clone(), blobs, oldest })
    }

    /// Returns the previous line of a database, or says that it has none.
    pub(super) fn previous_line(&self, database: &DatabaseRef) -> Result<&Line, RepositoryError> {
        if self.gone.contains(&database.name) {
            let message = "the backup that this run was to build on was removed before it began";
            return Err(RepositoryError::new(RepositoryErrorKind::Failed, database.to_string(), message)
                .with_hint("run the backup again: it reads the database anew"));
        }
        self.line(&database.name).ok_or_else(|| {
            let message = "it is said to build on a previous backup, and has none";
            RepositoryError::new(RepositoryErrorKind::Invalid, database.to_string(), message)
        })
    }

    /// Returns the previous line of a database.
    pub(super) fn line(&self, database: &DatabaseName) -> Option<&Line> {
        self.latest.get(database).map(|latest| &*latest.line)
    }

    /// Returns why the previous backup of a database is suspect, unless that was accepted.
    pub(super) fn suspicion(&self, line: &Line) -> Option<Vec<String>> {
        self.said.suspicion(line)
    }

    /// Returns the backup that a database's new content is measured by.
    pub(super) fn baseline(
        &self,
        repository: &ResticRepository,
        request: &SnapshotRequest,
        database: &DatabaseName,
    ) -> Result<Option<Baseline>, RepositoryError> {
        let of = (&request.target, request.host.as_str(), request.selection.as_ref());
        repository.baseline(of, database, self.latest.get(database), &self.said, &self.context)
    }

    /// Returns when a line's backup was last proven: by its own run, or by a later verify. A backup that a verify
    /// found damaged is no proof of anything: its blobs count from its own run still.
    pub(super) fn proof_time(&self, line: &Line) -> Timestamp {
        self.said.proof(line.subtree, line.proof_time).map_or(line.proof_time, |proof| proof.time)
    }

    /// Returns when a blob that was there before this run was last read back.
    pub(super) fn last_read(
        &self,
        repository: &ResticRepository,
        database: &DatabaseName,
        id: &Id,
    ) -> Timestamp {
        match self.line(database) {
            Some(line) if self.blobs_of(repository, line).contains(id) => self.proof_time(line),
            _ => self.oldest(repository),
        }
    }

    /// Forgets what was loaded for a database: it is settled.
    pub(super) fn release(&self, database: &DatabaseName) {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).remove(database);
    }

    fn blobs_of(&self, repository: &ResticRepository, line: &Line) -> Arc<HashSet<Id>> {
        let mut loaded = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = loaded.entry(line.database.clone()).or_insert_with(|| {
            let blobs = line.subtree.and_then(|subtree| {
                let index = repository.index().ok()?;
                repository.restic().blobs_of(&index, &subtree).ok()
            });
            let data = blobs.unwrap_or_default().into_iter().filter(|(kind, _)| *kind == BlobKind::Data);
            Arc::new(data.map(|(_, id)| id).collect())
        });
        Arc::clone(slot)
    }

    /// The oldest proof of all backups: no stored blob that a backup needs was read before it.
    fn oldest(&self, repository: &ResticRepository) -> Timestamp {
        *self.oldest.get_or_init(|| {
            let oldest = repository.oldest_proof(&self.said, &self.context);
            // An interrupted run's packs, without any backup yet, were confirmed before their index was written; when,
            // nobody knows.
            oldest.ok().flatten().unwrap_or(Timestamp::UNIX_EPOCH)
        })
    }

    /// Returns a part of the previous backup as it is stored, and when it was last proven.
    pub(super) fn previous_part(
        &self,
        repository: &ResticRepository,
        part: &PartRef,
        context: &Context,
    ) -> Result<(StoredPart, Timestamp), RepositoryError> {
        let missing = |what: &str| {
            RepositoryError::new(RepositoryErrorKind::Invalid, part.database.to_string(), what.to_owned())
        };
        let line = self.previous_line(&part.database)?;
        let subtree = repository.subtree_of(line)?;
        let source = repository.source(context)?;
        let tree = source.read_tree(&subtree).map_err(as_repository_error)?;
        let manifest = source.read_manifest(&tree).map_err(as_repository_error)?;
        let entry =
            manifest.entry(&part.entry).ok_or_else(|| missing("the previous backup has no such entry"))?;
        let known = usize::try_from(part.previous_index)
            .ok()
            .and_then(|index| Some((index, entry.parts.get(index)?)));
        let (index, known) = known.ok_or_else(|| missing("the previous backup has no such part"))?;
        let before: u64 = entry.parts.iter().take(index).map(|part| part.blobs).sum();
        let node = source.entry_node(&tree, &part.entry).map_err(as_repository_error)?;
        let content = node.content.unwrap_or_default();
        let range = usize::try_from(before).ok().zip(usize::try_from(before + known.blobs).ok());
        let blobs = range.and_then(|(from, to)| content.get(from..to)).ok_or_else(|| {
            RepositoryError::new(
                RepositoryErrorKind::Damaged,
                format!("{MANIFEST_FILE} of {}", part.database),
                "its parts do not fit its entry",
            )
        })?;
        let stored = StoredPart {
            size_bytes: known.size_bytes,
            blobs: blobs.to_vec(),
            rows: known.rows,
            digest: known.digest,
        };
        Ok((stored, self.proof_time(line)))
    }
}

/// Puts in the place of the newest lines those that the run was given before it held its lock: what it finds unchanged
/// is so since then, whatever another run has stored meanwhile. Returns the databases of which that line is gone.
fn build_on_given(
    repository: &ResticRepository,
    (target, host): (&TargetName, &str),
    latest: &mut BTreeMap<DatabaseName, Latest>,
    context: &Context,
) -> Result<BTreeSet<DatabaseName>, RepositoryError> {
    let mut gone = BTreeSet::new();
    for (database, given) in repository.memo().take_given(target, host) {
        if latest.get(&database).is_some_and(|latest| latest.line.subtree == Some(given.subtree)) {
            continue;
        }
        match repository.line_of_stored(&given.snapshot, &database, context)? {
            Some(line) => drop(latest.insert(database, line)),
            None => drop(gone.insert(database)),
        }
    }
    Ok(gone)
}
