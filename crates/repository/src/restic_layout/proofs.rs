//! Proofs outlive the machine that made them: they are kept in small snapshots tagged `backstay-state`.
//!
//! Each holds every record that its writer knew, so several hosts can write: readers take the union of the newest few.
//! Of each backup the newest record counts. A crash in the middle of writing leaves the earlier ones.

use super::failure::repository_error;
use super::opened::ResticRepository;
use super::reader::{Source, as_repository_error};
use super::state::{Proofs, TAG, is_state};
use crate::{ProofRecord, RepositoryError, RepositoryErrorKind};
use flow::{Context, ReadError, ReadErrorKind};
use jiff::Timestamp;
use restic::{BlobKind, Cut, Id, Node, Snapshot, StreamError, Tree};
use std::collections::HashSet;
use std::sync::Arc;

const PATH: &str = "/backstay-state";
const FILE: &str = "proofs.jsonl";

/// How many state snapshots a reader looks at: more than there are hosts that could have written at the same time.
const UNION_MAX: usize = 16;

/// Returns what is known. A state snapshot that cannot be read is passed over: the others say what they know.
pub(super) fn load(repository: &ResticRepository, context: &Context) -> Result<Proofs, RepositoryError> {
    let snapshots = repository.snapshots(context)?;
    let states: Vec<_> =
        snapshots.iter().rev().filter(|(_, snapshot)| is_state(snapshot)).take(UNION_MAX).collect();
    let mut proofs = Proofs::new();
    if states.is_empty() {
        return Ok(proofs);
    }
    let source = repository.source(context)?;
    for (_, snapshot) in states {
        match read(&source, snapshot) {
            Ok(records) => records.into_iter().for_each(|record| add(&mut proofs, record)),
            Err(error) if error.kind == ReadErrorKind::Cancelled => return Err(as_repository_error(error)),
            Err(_) => {}
        }
    }
    Ok(proofs)
}

/// Returns the packs that the newest record of some backup calls damaged.
pub(super) fn damaged_packs(
    repository: &ResticRepository,
    context: &Context,
) -> Result<HashSet<Id>, RepositoryError> {
    let silent = Context { observer: Arc::new(flow::Silent), ..context.clone() };
    let proofs = load(repository, &silent)?;
    let damaged = proofs.values().filter(|record| record.level.is_none());
    Ok(damaged.flat_map(|record| &record.damaged_packs).filter_map(|pack| pack.parse().ok()).collect())
}

fn add(proofs: &mut Proofs, record: ProofRecord) {
    match proofs.get(&record.backup) {
        Some(known) if known.time >= record.time => {}
        _ => drop(proofs.insert(record.backup.clone(), record)),
    }
}

fn read(source: &Source, snapshot: &Snapshot) -> Result<Vec<ProofRecord>, ReadError> {
    let tree = source.read_tree(&snapshot.tree)?;
    let Some(node) = tree.find(FILE) else { return Ok(vec![]) };
    let content = source.read_file(node)?;
    let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()
        .map_err(|error| ReadError::new(ReadErrorKind::Damaged, FILE, error.to_string()).with_source(error))
}

/// Writes all that is known and these. The caller holds a lock.
pub(super) fn append(
    repository: &ResticRepository,
    records: Vec<ProofRecord>,
    context: &Context,
) -> Result<(), RepositoryError> {
    let mut proofs = load(repository, context)?;
    records.into_iter().for_each(|record| add(&mut proofs, record));
    let mut content = Vec::new();
    for record in proofs.values() {
        serde_json::to_writer(&mut content, record)
            .map_err(|error| RepositoryError::new(RepositoryErrorKind::Failed, FILE, error.to_string()))?;
        content.push(b'\n');
    }
    let time = Timestamp::now();
    let blobs = repository.blob_writer(&damaged_packs(repository, context)?, context)?;
    let mut rest = content.as_slice();
    let mut pull = |buffer: &mut [u8]| std::io::Read::read(&mut rest, buffer);
    let stored = blobs.write_stream(&mut pull, &Cut::ContentDefined).map_err(|error| match error {
        StreamError::Read(error) => {
            RepositoryError::new(RepositoryErrorKind::Failed, FILE, error.to_string())
        }
        StreamError::Write(error) => repository_error(error),
    })?;
    let ids = stored.iter().map(|blob| blob.id).collect();
    let tree = Tree { nodes: vec![Node::file(FILE, time, content.len() as u64, ids)] };
    let root = blobs
        .save_blob(BlobKind::Tree, tree.to_blob().map_err(repository_error)?)
        .map_err(repository_error)?;
    blobs.finish().map_err(repository_error)?;
    let mut snapshot = Snapshot::new(time, root.id);
    snapshot.paths = vec![PATH.to_owned()];
    snapshot.hostname = repository.owner_host().to_owned();
    snapshot.username = repository.owner_user().to_owned();
    snapshot.tags = vec![TAG.to_owned()];
    repository.restic().save_snapshot(&snapshot).map_err(repository_error)?;
    repository.forget_index();
    Ok(())
}
