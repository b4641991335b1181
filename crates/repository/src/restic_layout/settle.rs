//! After a heal and a new backup: what is whole again, and what is lost for good.
//!
//! A backup that still lacks something although its database was backed up since is lost: no source has it any more.
//! Its snapshot is rewritten: the line says so, what is whole of its folder stays, other databases stay as they are. The
//! new snapshot is written before the old one goes, and the matter is closed after that; killed in between, both are
//! there, and the next run goes on with the one that is written already.

use super::failure::repository_error;
use super::lines::{Line, LineOutcome};
use super::losses::{Open, Run, closed, is_open, load_open, load_run};
use super::opened::ResticRepository;
use super::whole::Whole;
use super::{names, proving, relist, root, state};
use crate::{AcceptanceRecord, BackupId, ProofRecord, RepositoryError, Settled, State};
use flow::{Context, TargetName};
use restic::{BlobWriter, Id, LockGuard, LockKind, Node, NodeKind, Snapshot, Tree};
use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn settle(
    repository: &ResticRepository,
    run: &str,
    context: &Context,
) -> Result<Settled, RepositoryError> {
    let silent = Context { observer: Arc::new(flow::Silent), ..context.clone() };
    if !is_open(&state::load(repository, &silent)?) {
        return Ok(Settled::default());
    }
    let lock = repository.lock(LockKind::Exclusive)?;
    repository.forget_index();
    let kept = state::load(repository, &silent)?;
    let Some(run) = load_run(repository, run, &silent)? else { return Ok(Settled::default()) };
    let mut records = State::default();
    let open = load_open(repository, &kept, &mut records, &silent)?;
    let open = open.into_iter().filter(|open| open.is_of(&run)).collect();
    Settling::begin(repository, kept, records, &silent)?.all(open, &lock, |_| Some(run.clone()))
}

/// Right after a heal: snapshots that lack nothing but their own list or folders are rewritten at once, no source is
/// needed for that. Returns the ids that they had.
pub(super) fn mend(
    repository: &ResticRepository,
    lock: &LockGuard,
    context: &Context,
) -> Result<BTreeSet<Id>, RepositoryError> {
    let silent = Context { observer: Arc::new(flow::Silent), ..context.clone() };
    let kept = state::load(repository, &silent)?;
    if !is_open(&kept) {
        return Ok(BTreeSet::new());
    }
    let mut records = State::default();
    let open = load_open(repository, &kept, &mut records, &silent)?;
    let before: BTreeSet<Id> = open.iter().map(|open| open.id).collect();
    let alone = |open: &Open| {
        let target = names::tag_value(&open.snapshot.tags, "target")?;
        let host = open.snapshot.hostname.clone();
        let part = names::tag_value(&open.snapshot.tags, names::SELECTION);
        Some(Run { target: TargetName::new(target).ok()?, host, only: None, part, outcomes: None })
    };
    Settling::begin(repository, kept, records, &silent)?.all(open, lock, alone)?;
    let left = state::load(repository, &silent)?;
    let is_closed = |id: &Id| left.losses.get(&id.to_string()).is_none_or(|loss| loss.problem.is_none());
    Ok(before.into_iter().filter(is_closed).collect())
}

struct Settling<'a> {
    repository: &'a ResticRepository,
    context: &'a Context,
    whole: Whole,
    kept: State,
    records: State,
    settled: Settled,
}

impl<'a> Settling<'a> {
    fn begin(
        repository: &'a ResticRepository,
        kept: State,
        records: State,
        context: &'a Context,
    ) -> Result<Self, RepositoryError> {
        let damaged = state::damaged_packs(repository, context)?;
        let whole = Whole::without(repository, &damaged, context)?;
        Ok(Self { repository, context, whole, kept, records, settled: Settled::default() })
    }

    /// Settles snapshots, each by the run that it is measured by.
    fn all(
        mut self,
        open: Vec<Open>,
        lock: &LockGuard,
        run: impl Fn(&Open) -> Option<Run>,
    ) -> Result<Settled, RepositoryError> {
        for open in open {
            lock.ensure_fresh().map_err(repository_error)?;
            match (&open.lines, run(&open)) {
                (Some(lines), _) if self.whole.is_whole(self.repository, &open.snapshot.tree) => {
                    self.prove(lines, &open.id, &open.id)?;
                    self.records.losses.add(closed(&open.id));
                }
                (_, Some(run)) => self.lose(&run, &open)?,
                (_, None) => {}
            }
        }
        if self.records != State::default() {
            state::append(self.repository, self.records, self.context)?;
        }
        self.repository.forget_index();
        Ok(self.settled)
    }

    /// Of a snapshot's whole backups that were said to be damaged: reads them, each blob once, and says that they are
    /// right, under the id of their snapshot from now on.
    fn prove(&mut self, lines: &[impl Borrow<Line>], old: &Id, new: &Id) -> Result<(), RepositoryError> {
        let alone = lines.len() == 1;
        let is_damaged =
            |line: &&Line| self.kept.proofs.get(&line.id(old, alone)).is_some_and(|one| one.level.is_none());
        let damaged = lines
            .iter()
            .map(Borrow::borrow)
            .filter(is_damaged)
            .filter(|line| line.outcome == LineOutcome::Complete);
        let folders = damaged.filter_map(|line| Some((line.id(new, alone), line.subtree?))).collect();
        let proofs = proving::read_back(self.repository, self.whole.source(), folders, self.context)?;
        self.settled.healed.extend(proofs.iter().map(|proof| proof.backup.clone()));
        self.records.proofs.extend(proofs);
        Ok(())
    }

    /// Rewrites a snapshot without what is lost, unless a database of it may still come back. Its list and the folders
    /// above those of the databases are made anew.
    fn lose(&mut self, run: &Run, open: &Open) -> Result<(), RepositoryError> {
        let reason = format!("{}; no later backup brought it back", open.problem);
        let mut lines = match &open.lines {
            Some(lines) => lines.iter().map(|line| Line::clone(line)).collect(),
            None => relist::lines(self.repository, run, open, &self.whole, self.context)?,
        };
        let is_broken = |line: &Line| {
            let is_gone = || line.subtree.is_none_or(|tree| !self.whole.is_whole(self.repository, &tree));
            line.outcome == LineOutcome::Complete && is_gone()
        };
        let broken: BTreeSet<usize> = (0..lines.len()).filter(|at| is_broken(&lines[*at])).collect();
        if broken.iter().any(|at| !run.had_its_chance(&lines[*at].database)) || lines.is_empty() {
            return Ok(());
        }
        let folders: Vec<Option<Id>> = lines.iter().map(|line| line.subtree).collect();
        broken.iter().for_each(|at| lines[*at].lose(&reason));
        let new = match self.written_before(&open.id)? {
            Some(new) => new,
            None => self.write(run, open, &lines, &folders)?,
        };
        self.rename(&open.id, &new);
        self.prove(&lines, &open.id, &new)?;
        // What is said of the new one is kept before the old one goes.
        state::append(self.repository, std::mem::take(&mut self.records), self.context)?;
        self.repository.restic().remove_snapshot(&open.id).map_err(repository_error)?;
        self.repository.forget_snapshot(&open.id);
        self.records.losses.add(closed(&open.id));
        let alone = lines.len() == 1;
        let lost = broken.iter().map(|at| (lines[*at].id(&new, alone), reason.clone()));
        self.settled.lost.extend(lost);
        Ok(())
    }

    /// Returns the rewritten copy of a snapshot, where an interrupted run left one.
    fn written_before(&self, old: &Id) -> Result<Option<Id>, RepositoryError> {
        let snapshots = self.repository.snapshots(self.context)?;
        let copy = snapshots.iter().find(|(id, snapshot)| {
            snapshot.original == Some(*old)
                && self.whole.is_whole(self.repository, &snapshot.tree)
                && id != old
        });
        Ok(copy.map(|(id, _)| *id))
    }

    fn write(
        &self,
        run: &Run,
        open: &Open,
        lines: &[Line],
        folders: &[Option<Id>],
    ) -> Result<Id, RepositoryError> {
        let damaged = state::damaged_packs(self.repository, self.context)?;
        let blobs = self.repository.blob_writer(&damaged, self.context)?;
        let mut nodes = Vec::new();
        for (line, folder) in lines.iter().zip(folders) {
            let folder = match folder {
                Some(folder) if line.lost => self.rest_of(&blobs, folder)?,
                folder => *folder,
            };
            nodes.extend(folder.map(|folder| root::folder(line, folder)));
        }
        let tree = root::save(&blobs, &run.target, open.snapshot.time, lines, nodes)?;
        blobs.finish().map_err(repository_error)?;
        let new = Snapshot { tree, original: Some(open.id), ..open.snapshot.clone() };
        self.repository.restic().save_snapshot(&new).map_err(repository_error)
    }

    /// Stores what of a folder is whole; `None` where nothing is.
    fn rest_of(&self, blobs: &BlobWriter, tree: &Id) -> Result<Option<Id>, RepositoryError> {
        let Ok(folder) = self.whole.source().read_tree(tree) else { return Ok(None) };
        let mut nodes: Vec<Node> = Vec::new();
        for mut node in folder.nodes {
            match (&node.kind, node.subtree) {
                (NodeKind::Dir, Some(below)) => {
                    let Some(rest) = self.rest_of(blobs, &below)? else { continue };
                    node.subtree = Some(rest);
                }
                (NodeKind::File, _) if !node.content.iter().flatten().all(|id| self.whole.has(id)) => {
                    continue;
                }
                _ => {}
            }
            nodes.push(node);
        }
        if nodes.is_empty() { Ok(None) } else { root::save_tree(blobs, Tree { nodes }).map(Some) }
    }

    /// What was said of the old snapshot's backups holds for those of the new one.
    fn rename(&mut self, old: &Id, new: &Id) {
        let old = old.to_string();
        let renamed = |id: &BackupId| id.0.strip_prefix(&old).map(|rest| BackupId(format!("{new}{rest}")));
        for proof in self.kept.proofs.iter() {
            if let Some(backup) = renamed(&proof.backup) {
                self.records.proofs.add(ProofRecord { backup, ..proof.clone() });
            }
        }
        for accepted in self.kept.acceptances.iter() {
            if let Some(backup) = renamed(&accepted.backup) {
                self.records.acceptances.add(AcceptanceRecord { backup, ..accepted.clone() });
            }
        }
    }
}
