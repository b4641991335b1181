//! Proves backups that were said to be damaged, and of which everything is there again: by reading it.
//!
//! Returns records and keeps nothing itself: whoever asks keeps them together with what they belong to.

use super::failure::repository_error;
use super::opened::ResticRepository;
use super::reader::Source;
use crate::{BackupId, ProofLevel, ProofRecord, RepositoryError};
use flow::{Context, Event};
use jiff::Timestamp;
use restic::{BlobKind, Id};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// How many threads read and open blobs.
const THREADS: usize = 2;

/// Reads the folders of backups, each blob once, and returns proofs of those whose every byte is right.
pub(super) fn read_back(
    repository: &ResticRepository,
    source: &Source,
    backups: Vec<(BackupId, Id)>,
    context: &Context,
) -> Result<Vec<ProofRecord>, RepositoryError> {
    let time = Timestamp::now();
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
    let bad: HashSet<(BlobKind, Id)> = read.errors.iter().map(|problem| (problem.kind, problem.id)).collect();
    needed.retain(|(_, blobs)| blobs.iter().all(|blob| !bad.contains(blob)));
    let proof = |(backup, _)| ProofRecord {
        backup,
        time,
        level: Some(ProofLevel::Stored),
        problem: None,
        damaged_packs: vec![],
        host: repository.owner_host().to_owned(),
        rows: BTreeMap::new(),
    };
    Ok(needed.into_iter().map(proof).collect())
}
