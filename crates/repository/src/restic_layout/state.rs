//! State outlives the machine that made it: it is kept in small snapshots tagged `backstay-state`, a file a kind.
//!
//! Each holds every record that its writer knew, so several hosts can write: readers take the union of the newest few.
//! Of each subject the newest record counts. Files of later releases are carried along as they are. A crash in the
//! middle of writing leaves the earlier snapshots.

use super::failure::repository_error;
use super::opened::ResticRepository;
use super::reader::{Source, as_repository_error};
use crate::{
    AcceptanceRecord, BackupId, PackRecord, ProofRecord, Records, RepositoryError, RepositoryErrorKind,
    State, StateRecord,
};
use flow::{Context, ReadError, ReadErrorKind};
use jiff::{SignedDuration, Timestamp};
use restic::{BlobKind, BlobWriter, Cut, Id, Node, NodeKind, Snapshot, StreamError, Tree};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, PoisonError};

/// The tag of a snapshot that keeps state.
const TAG: &str = "backstay-state";
const PATH: &str = "/backstay-state";

/// How many state snapshots a reader looks at: more than there are hosts that could have written at the same time.
const UNION_MAX: usize = 16;

/// The files that this release knows, and what of the state each holds.
fn kinds(state: &mut State) -> [(&'static str, &mut dyn Kind); 7] {
    [
        ("accepted.jsonl", &mut state.acceptances),
        ("checks.jsonl", &mut state.checks),
        ("configurations.jsonl", &mut state.configurations),
        ("confirmations.jsonl", &mut state.confirmations),
        ("damaged.jsonl", &mut state.packs),
        ("lost.jsonl", &mut state.losses),
        ("proofs.jsonl", &mut state.proofs),
    ]
}

/// The records of one kind, as lines of JSON.
trait Kind {
    fn add_lines(&mut self, lines: &[&[u8]]) -> Result<(), serde_json::Error>;
    fn lines(&self) -> Result<Vec<Vec<u8>>, serde_json::Error>;
}

impl<T: StateRecord> Kind for Records<T> {
    fn add_lines(&mut self, lines: &[&[u8]]) -> Result<(), serde_json::Error> {
        let records: Vec<T> =
            lines.iter().map(|line| serde_json::from_slice(line)).collect::<Result<_, _>>()?;
        self.extend(records);
        Ok(())
    }

    fn lines(&self) -> Result<Vec<Vec<u8>>, serde_json::Error> {
        self.iter().map(serde_json::to_vec).collect()
    }
}

/// What state snapshots say.
#[derive(Default)]
struct Kept {
    state: State,
    /// The lines of files that this release does not know.
    others: BTreeMap<String, BTreeSet<Vec<u8>>>,
    /// Whether something could not be read.
    passed_over: bool,
}

impl Kept {
    fn pass_over(&mut self, error: ReadError) -> Result<(), RepositoryError> {
        self.passed_over = true;
        pass_over(error)
    }
}

/// Tells whether a snapshot keeps state, and no backup.
pub(super) fn is_state(snapshot: &Snapshot) -> bool {
    snapshot.tags.iter().any(|tag| tag == TAG)
}

/// Returns what is known. A file of state that cannot be read is passed over: the others say what they know.
pub(super) fn load(repository: &ResticRepository, context: &Context) -> Result<State, RepositoryError> {
    let ids: Vec<Id> = newest(&repository.snapshots(context)?).map(|(id, _)| *id).collect();
    let memo = &repository.memo().state;
    if let Some((of, state)) = &*memo.lock().unwrap_or_else(PoisonError::into_inner)
        && *of == ids
    {
        return Ok(state.clone());
    }
    let kept = load_kept(repository, context)?;
    if !kept.passed_over {
        *memo.lock().unwrap_or_else(PoisonError::into_inner) = Some((ids, kept.state.clone()));
    }
    Ok(kept.state)
}

/// Returns the state snapshots that a reader looks at, newest first.
fn newest(snapshots: &[(Id, Snapshot)]) -> impl Iterator<Item = &(Id, Snapshot)> {
    snapshots.iter().rev().filter(|(_, snapshot)| is_state(snapshot)).take(UNION_MAX)
}

/// Returns the packs that are known to be damaged, and not known to be gone.
pub(super) fn damaged_packs(
    repository: &ResticRepository,
    context: &Context,
) -> Result<HashSet<Id>, RepositoryError> {
    let silent = Context { observer: Arc::new(flow::Silent), ..context.clone() };
    Ok(damaged_packs_of(&load(repository, &silent)?))
}

fn damaged_packs_of(state: &State) -> HashSet<Id> {
    let mut known = State { proofs: state.proofs.clone(), packs: state.packs.clone(), ..State::default() };
    keep_packs(&mut known);
    let damaged = known.packs.iter().filter(|record| record.damaged);
    damaged.filter_map(|record| record.pack.parse().ok()).collect()
}

/// What a proof says of packs is kept for itself: it holds although a newer proof finds the backup whole, which then
/// needs them no longer.
fn keep_packs(records: &mut State) {
    let damaged = records.proofs.iter().flat_map(|proof| {
        let record = |pack: &String| PackRecord { pack: pack.clone(), time: proof.time, damaged: true };
        proof.damaged_packs.iter().map(record).collect::<Vec<_>>()
    });
    let damaged: Vec<PackRecord> = damaged.collect();
    records.packs.extend(damaged);
}

fn load_kept(repository: &ResticRepository, context: &Context) -> Result<Kept, RepositoryError> {
    let snapshots = repository.snapshots(context)?;
    let states: Vec<_> = newest(&snapshots).collect();
    let mut kept = Kept::default();
    if states.is_empty() {
        return Ok(kept);
    }
    let source = repository.source(context)?;
    for (_, snapshot) in states {
        match source.read_tree(&snapshot.tree) {
            Ok(tree) => read_files(&mut kept, &source, &tree)?,
            Err(error) => kept.pass_over(error)?,
        }
    }
    Ok(kept)
}

fn read_files(kept: &mut Kept, source: &Source, tree: &Tree) -> Result<(), RepositoryError> {
    for node in tree.nodes.iter().filter(|node| node.kind == NodeKind::File) {
        if let Err(error) = read_one(kept, source, node) {
            kept.pass_over(error)?;
        }
    }
    Ok(())
}

fn pass_over(error: ReadError) -> Result<(), RepositoryError> {
    if error.kind == ReadErrorKind::Cancelled { Err(as_repository_error(error)) } else { Ok(()) }
}

/// Adds the records of a file: all of them, or none where a line cannot be read.
fn add(kept: &mut Kept, name: &str, content: &[u8]) -> Result<(), serde_json::Error> {
    let lines: Vec<&[u8]> = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    match kinds(&mut kept.state).into_iter().find(|(file, _)| *file == name) {
        Some((_, kind)) => kind.add_lines(&lines),
        None => {
            let known = kept.others.entry(name.to_owned()).or_default();
            known.extend(lines.into_iter().map(<[u8]>::to_vec));
            Ok(())
        }
    }
}

/// Returns the files to write, by name; those without a record are left out.
fn files(mut kept: Kept) -> Result<BTreeMap<String, Vec<u8>>, RepositoryError> {
    let mut files = BTreeMap::new();
    for (name, kind) in kinds(&mut kept.state) {
        let lines = kind
            .lines()
            .map_err(|error| RepositoryError::new(RepositoryErrorKind::Failed, name, error.to_string()))?;
        files.insert(name.to_owned(), lines);
    }
    files.extend(kept.others.into_iter().map(|(name, lines)| (name, lines.into_iter().collect())));
    files.retain(|_, lines| !lines.is_empty());
    let joined = |lines: Vec<Vec<u8>>| {
        lines.into_iter().flat_map(|line| line.into_iter().chain([b'\n'])).collect::<Vec<u8>>()
    };
    Ok(files.into_iter().map(|(name, lines)| (name, joined(lines))).collect())
}

/// Writes all that is known and these. The caller holds a lock.
pub(super) fn append(
    repository: &ResticRepository,
    mut records: State,
    context: &Context,
) -> Result<(), RepositoryError> {
    let mut kept = load_kept(repository, context)?;
    keep_packs(&mut records);
    kept.state.say(records);
    write(repository, kept, context)
}

/// Puts all that is known into one snapshot, where there are several, and returns those that it replaces. Those that
/// cannot be read whole stay. What was said of backups that go is said of their heirs too. The caller holds the
/// exclusive lock.
pub(super) fn gather(
    repository: &ResticRepository,
    heirs: &BTreeMap<BackupId, BackupId>,
    context: &Context,
) -> Result<Vec<Id>, RepositoryError> {
    let snapshots = repository.snapshots(context)?;
    let states: Vec<_> = snapshots.iter().filter(|(_, snapshot)| is_state(snapshot)).collect();
    if states.is_empty() {
        return Ok(vec![]);
    }
    let source = repository.source(context)?;
    let (mut kept, mut replaced) = (Kept::default(), Vec::new());
    for (id, snapshot) in states {
        match read_whole(&mut kept, &source, snapshot) {
            Ok(()) => replaced.push(*id),
            Err(error) => pass_over(error)?,
        }
    }
    let before = kept.state.clone();
    hand_on(&mut kept.state, heirs);
    if replaced.len() < 2 && kept.state == before {
        return Ok(vec![]);
    }
    // Of those that are stored one may be away for a moment: what was said of it is still true.
    let stored: HashSet<String> = repository.stored()?.iter().map(Id::to_string).collect();
    kept.state = without_lost(kept.state, &stored);
    write(repository, kept, context)?;
    Ok(replaced)
}

/// Says of the heirs what was said of those that go.
fn hand_on(state: &mut State, heirs: &BTreeMap<BackupId, BackupId>) {
    let heir = |backup: &BackupId| heirs.get(backup).cloned();
    let proofs: Vec<ProofRecord> = state
        .proofs
        .iter()
        .filter_map(|record| Some(ProofRecord { backup: heir(&record.backup)?, ..record.clone() }))
        .collect();
    let acceptances: Vec<AcceptanceRecord> = state
        .acceptances
        .iter()
        .filter_map(|record| Some(AcceptanceRecord { backup: heir(&record.backup)?, ..record.clone() }))
        .collect();
    state.proofs.extend(proofs);
    state.acceptances.extend(acceptances);
}

/// Leaves out what was said of backups that went before this prune: after a crash one that is still there keeps what
/// was said of it. That packs are damaged is told on, since other backups may need them.
fn without_lost(state: State, stored: &HashSet<String>) -> State {
    let is_stored = |backup: &BackupId| stored.contains(backup.snapshot());
    let proofs = state.proofs.into_iter();
    let acceptances = state.acceptances.into_iter();
    State {
        proofs: proofs.filter(|one| is_stored(&one.backup) || !one.damaged_packs.is_empty()).collect(),
        acceptances: acceptances.filter(|one| is_stored(&one.backup)).collect(),
        checks: state.checks,
        configurations: state.configurations,
        confirmations: state.confirmations,
        packs: state.packs,
        losses: state.losses,
    }
}

/// Reads every file of a state snapshot, or fails.
fn read_whole(kept: &mut Kept, source: &Source, snapshot: &Snapshot) -> Result<(), ReadError> {
    for node in source.read_tree(&snapshot.tree)?.nodes.iter().filter(|node| node.kind == NodeKind::File) {
        read_one(kept, source, node)?;
    }
    Ok(())
}

fn read_one(kept: &mut Kept, source: &Source, node: &Node) -> Result<(), ReadError> {
    let content = source.read_file(node)?;
    add(kept, &node.name, &content).map_err(|error| {
        ReadError::new(ReadErrorKind::Damaged, &node.name, error.to_string()).with_source(error)
    })
}

fn write(repository: &ResticRepository, kept: Kept, context: &Context) -> Result<(), RepositoryError> {
    let blobs = repository.blob_writer(&damaged_packs_of(&kept.state), context)?;
    let time = after_all(&repository.snapshots(context)?);
    let mut tree = Tree { nodes: vec![] };
    for (name, content) in files(kept)? {
        let ids = store(&blobs, &name, &content)?;
        tree.nodes.push(Node::file(&name, time, content.len() as u64, ids));
    }
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

/// Returns the time of a new state snapshot: now, or just after the newest there is. Were it older than what a clock wrote
/// that was ahead, it would be beyond those that a reader looks at.
fn after_all(snapshots: &[(Id, Snapshot)]) -> Timestamp {
    let newest = newest(snapshots).map(|(_, snapshot)| snapshot.time).max();
    let next = newest.and_then(|newest| newest.checked_add(SignedDuration::from_nanos(1)).ok());
    next.map_or_else(Timestamp::now, |next| next.max(Timestamp::now()))
}

pub(super) fn store(blobs: &BlobWriter, name: &str, content: &[u8]) -> Result<Vec<Id>, RepositoryError> {
    let mut rest = content;
    let mut pull = |buffer: &mut [u8]| std::io::Read::read(&mut rest, buffer);
    let stored = blobs.write_stream(&mut pull, &Cut::ContentDefined).map_err(|error| match error {
        StreamError::Read(error) => {
            RepositoryError::new(RepositoryErrorKind::Failed, name, error.to_string())
        }
        StreamError::Write(error) => repository_error(error),
    })?;
    Ok(stored.iter().map(|blob| blob.id).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PROOF: &str =
        r#"{"backup":"ab","time":"2026-11-20T02:00:00Z","level":"stored","problem":null,"host":"h"}"#;

    #[test]
    fn files_of_an_earlier_release_are_read_and_those_of_a_later_one_carried_along() {
        let mut kept = Kept::default();
        add(&mut kept, "proofs.jsonl", format!("{PROOF}\n").as_bytes()).unwrap();
        add(&mut kept, "later.jsonl", b"{\"b\":1}\n{\"a\":1}\n").unwrap();
        add(&mut kept, "later.jsonl", b"{\"a\":1}\n").unwrap();
        assert_eq!(kept.state.proofs.iter().count(), 1);
        let written = files(kept).unwrap();
        let names: Vec<&str> = written.keys().map(String::as_str).collect();
        assert_eq!(names, ["later.jsonl", "proofs.jsonl"], "sorted, and without files that would be empty");
        assert_eq!(written["later.jsonl"], b"{\"a\":1}\n{\"b\":1}\n");
        assert_eq!(String::from_utf8_lossy(&written["proofs.jsonl"]), format!("{PROOF}\n"));
    }

    #[test]
    fn a_line_that_cannot_be_read_takes_its_whole_file_along_and_no_other() {
        let mut kept = Kept::default();
        assert!(add(&mut kept, "proofs.jsonl", format!("{PROOF}\n{{\n").as_bytes()).is_err());
        assert!(kept.state.proofs.is_empty());
    }
}
