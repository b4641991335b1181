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
use super::relist::{Folders, Relisted};
use super::whole::Whole;
use super::{names, proving, relist, root, state};
use crate::{AcceptanceRecord, BackupId, PackRecord, ProofRecord, RepositoryError, Settled, State};
use flow::{Context, TargetName};
use jiff::Timestamp;
use restic::{BlobWriter, Id, LockGuard, LockKind, Node, NodeKind, Snapshot, Tree};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
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
    let mut settling = Settling::begin(repository, kept, &lock, &silent)?;
    let open = settling.load_open()?.into_iter().filter(|open| open.is_of(&run)).collect();
    settling.all(open, &lock, |_| Some(run.clone()))
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
    let mut settling = Settling::begin(repository, kept, lock, &silent)?;
    let open = settling.load_open()?;
    let before: BTreeSet<Id> = open.iter().map(|open| open.id).collect();
    // No source was asked since.
    let alone = |open: &Open| {
        let target = names::tag_value(&open.snapshot.tags, "target")?;
        let host = open.snapshot.hostname.clone();
        let part = names::tag_value(&open.snapshot.tags, names::SELECTION);
        let target = TargetName::new(target).ok()?;
        Some(Run { target, host, only: None, part, outcomes: None, before: None })
    };
    settling.all(open, lock, alone)?;
    let left = state::load(repository, &silent)?;
    let is_closed = |id: &Id| left.losses.get(&id.to_string()).is_none_or(|loss| loss.problem.is_none());
    Ok(before.into_iter().filter(is_closed).collect())
}

struct Settling<'a> {
    repository: &'a ResticRepository,
    context: &'a Context,
    whole: Whole,
    damaged: HashSet<Id>,
    kept: State,
    records: State,
    settled: Settled,
    /// Whether packs are stored of which nobody can tell now what they hold: nothing is lost for good before that is
    /// known.
    is_in_doubt: bool,
}

impl<'a> Settling<'a> {
    fn begin(
        repository: &'a ResticRepository,
        kept: State,
        lock: &LockGuard,
        context: &'a Context,
    ) -> Result<Self, RepositoryError> {
        let mut damaged = state::damaged_packs(repository, context)?;
        // What was away when a heal looked may be back.
        let recovery = restic::recover_packs(repository.restic(), &damaged, lock, &context.cancel)
            .map_err(repository_error)?;
        let mut records = State::default();
        for pack in &recovery.good {
            damaged.remove(pack);
            let (pack, time) = (pack.to_string(), Timestamp::now());
            records.packs.add(PackRecord { pack, time, damaged: false });
        }
        let whole = Whole::without(repository, &damaged, context)?;
        let (settled, is_in_doubt) = (Settled::default(), !recovery.in_doubt.is_empty());
        Ok(Self { repository, context, whole, damaged, kept, records, settled, is_in_doubt })
    }

    fn load_open(&mut self) -> Result<Vec<Open>, RepositoryError> {
        load_open(self.repository, &self.kept, &mut self.records, self.context)
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
                    let is_right = self.prove(lines, &BTreeSet::new(), &open.id, &open.id)?;
                    self.records.losses.extend(is_right.then(|| closed(&open.id)));
                }
                (_, Some(run)) if !self.is_in_doubt => self.lose(&run, &open)?,
                _ => {}
            }
        }
        if self.records != State::default() {
            state::append(self.repository, self.records, self.context)?;
        }
        self.repository.forget_index();
        Ok(self.settled)
    }

    /// Of a snapshot's whole backups that were said to be damaged, or that nobody vouches for: reads them, each blob
    /// once, and says that they are right, or what is damaged after all, under the id of their snapshot from now on.
    /// Tells whether all are right.
    fn prove(
        &mut self,
        lines: &[impl Borrow<Line>],
        unproven: &BTreeSet<usize>,
        old: &Id,
        new: &Id,
    ) -> Result<bool, RepositoryError> {
        let alone = lines.len() == 1;
        let is_damaged =
            |line: &Line| self.kept.proofs.get(&line.id(old, alone)).is_some_and(|one| one.level.is_none());
        let to_read = lines
            .iter()
            .map(Borrow::borrow)
            .enumerate()
            .filter(|(at, line)| unproven.contains(at) || is_damaged(line))
            .filter(|(_, line)| line.outcome == LineOutcome::Complete);
        let folders = to_read.filter_map(|(_, line)| Some((line.id(new, alone), line.subtree?))).collect();
        let read = proving::read_back(self.repository, self.whole.source(), folders, self.context)?;
        self.settled.healed.extend(read.right);
        self.records.proofs.extend(read.proofs);
        Ok(read.wrong.is_empty())
    }

    /// Rewrites a snapshot without what is lost, unless a database of it may still come back. Its list and the folders
    /// above those of the databases are made anew.
    fn lose(&mut self, run: &Run, open: &Open) -> Result<(), RepositoryError> {
        let reason = format!("{}; no later backup brought it back", open.problem);
        let Some(relisted) = self.relisted(run, open)? else { return Ok(()) };
        let unproven: BTreeSet<usize> = (0..relisted.len()).filter(|at| relisted[*at].is_unproven).collect();
        let folders: Vec<Option<Id>> = relisted.iter().map(|one| one.folder).collect();
        let mut lines: Vec<Line> = relisted.into_iter().map(|one| one.line).collect();
        let is_broken = |line: &Line| {
            let is_gone = || line.subtree.is_none_or(|tree| !self.whole.is_whole(self.repository, &tree));
            line.outcome == LineOutcome::Complete && is_gone()
        };
        let broken: BTreeSet<usize> = (0..lines.len()).filter(|at| is_broken(&lines[*at])).collect();
        let had_its_chance = |at: &usize| run.had_its_chance(&lines[*at].database, open.since);
        if !broken.iter().all(had_its_chance) || lines.is_empty() {
            return Ok(());
        }
        for folder in broken.iter().filter_map(|at| folders[*at]) {
            if self.whole.is_away(&folder)? {
                return Ok(());
            }
        }
        broken.iter().for_each(|at| lines[*at].lose(&reason));
        let new = match self.written_before(&open.id)? {
            Some(new) => new,
            None => self.write(run, open, &lines, &folders)?,
        };
        self.rename(&open.id, &new);
        self.prove(&lines, &unproven, &open.id, &new)?;
        let alone = lines.len() == 1;
        let lost: Vec<(BackupId, String)> =
            broken.iter().map(|at| (lines[*at].id(&new, alone), reason.clone())).collect();
        // Should the list that tells of it be lost as well, this is what is known.
        let said: Vec<ProofRecord> = lost.iter().map(|(backup, _)| self.said_lost(backup, &reason)).collect();
        self.records.proofs.extend(said);
        // What is said of the new one is kept before the old one goes.
        state::append(self.repository, std::mem::take(&mut self.records), self.context)?;
        self.repository.restic().remove_snapshot(&open.id).map_err(repository_error)?;
        self.repository.forget_snapshot(&open.id);
        self.records.losses.add(closed(&open.id));
        self.settled.lost.extend(lost);
        Ok(())
    }

    fn said_lost(&self, backup: &BackupId, reason: &str) -> ProofRecord {
        ProofRecord {
            backup: backup.clone(),
            time: Timestamp::now(),
            level: None,
            problem: Some(reason.to_owned()),
            damaged_packs: vec![],
            host: self.repository.owner_host().to_owned(),
            rows: BTreeMap::new(),
        }
    }

    /// Returns the lines of a snapshot with the folder that it has of each. `None` where nobody can tell now, or where a
    /// folder of it has no line: it stays as it is, since a copy would hold less.
    fn relisted(&self, run: &Run, open: &Open) -> Result<Option<Vec<Relisted>>, RepositoryError> {
        let Some(lines) = &open.lines else {
            return relist::lines(self.repository, run, open, &self.whole, &self.kept, self.context);
        };
        let mut left = match relist::folders(open, &self.whole)? {
            Folders::Unknown => return Ok(None),
            Folders::Lost => BTreeMap::new(),
            Folders::Known(folders) => folders,
        };
        let relisted = lines.iter().map(|line| {
            // Of what was lost before, the rest is still there.
            let folder = left.remove(&names::encode(line.database.as_str())).filter(|_| line.lost);
            Relisted { line: Line::clone(line), folder: line.subtree.or(folder), is_unproven: false }
        });
        let relisted: Vec<Relisted> = relisted.collect();
        Ok(left.is_empty().then_some(relisted))
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
        let blobs = self.repository.blob_writer(&self.damaged, self.context)?;
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
