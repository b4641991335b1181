//! Proves backups that were said to be damaged, and of which everything is there again: by reading it.
//!
//! Returns records and keeps nothing itself: whoever asks keeps them together with what they belong to.

use super::check;
use super::failure::repository_error;
use super::opened::ResticRepository;
use super::reader::Source;
use crate::{BackupId, ProofLevel, ProofRecord, RepositoryError};
use flow::{Context, Event};
use jiff::Timestamp;
use restic::{BlobKind, BlobProblem, Id, Index};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many threads read and open blobs.
const THREADS: usize = 2;

/// What came of reading backups.
#[derive(Default)]
pub(super) struct ReadBack {
    /// That backups are right, or damaged after all. To be kept.
    pub(super) proofs: Vec<ProofRecord>,
    /// The backups that were read and are right.
    pub(super) right: Vec<BackupId>,
    /// Those of which something could not be read.
    pub(super) wrong: Vec<BackupId>,
}

/// Reads the folders of backups, each blob once. What can be read in no place is damage, with the packs that should hold
/// it; of what the storage did not give only that the backup is not proven.
pub(super) fn read_back(
    repository: &ResticRepository,
    source: &Source,
    backups: Vec<(BackupId, Id)>,
    context: &Context,
) -> Result<ReadBack, RepositoryError> {
    let (restic, index) = (repository.restic(), &source.index);
    let mut needed = Vec::new();
    for (backup, folder) in backups {
        needed.push((backup, restic.blobs_of(index, &folder).map_err(repository_error)?));
    }
    let union: BTreeSet<(BlobKind, Id)> = needed.iter().flat_map(|(_, blobs)| blobs).copied().collect();
    let union: Vec<(BlobKind, Id)> = union.into_iter().collect();
    let progress = |bytes| context.observer.event(Event::Bytes(bytes));
    let read = restic::verify_blobs(restic, index, &union, THREADS, &context.cancel, &progress)
        .map_err(repository_error)?;
    let bad: HashMap<(BlobKind, Id), &BlobProblem> =
        read.errors.iter().map(|problem| ((problem.kind, problem.id), problem)).collect();
    let mut read_back = ReadBack::default();
    for (backup, blobs) in needed {
        let problems: Vec<&BlobProblem> = blobs.iter().filter_map(|blob| bad.get(blob).copied()).collect();
        let damage: Vec<&BlobProblem> =
            problems.iter().copied().filter(|problem| check::is_damage(&problem.error)).collect();
        if problems.is_empty() || !damage.is_empty() {
            read_back.proofs.push(proof(repository, index, &backup, &damage));
        }
        if problems.is_empty() { read_back.right.push(backup) } else { read_back.wrong.push(backup) }
    }
    Ok(read_back)
}

/// Says what reading a backup showed.
fn proof(
    repository: &ResticRepository,
    index: &Index,
    backup: &BackupId,
    damage: &[&BlobProblem],
) -> ProofRecord {
    let problem = |one: &&BlobProblem| format!("{} blob {}: {}", one.kind, one.id, one.error.message);
    let packs = damage.iter().flat_map(|one| check::packs_of(index, one.kind, &one.id));
    ProofRecord {
        backup: backup.clone(),
        time: Timestamp::now(),
        level: damage.is_empty().then_some(ProofLevel::Stored),
        problem: damage.first().map(problem),
        damaged_packs: packs.collect::<BTreeSet<_>>().into_iter().collect(),
        host: repository.owner_host().to_owned(),
        rows: BTreeMap::new(),
    }
}
