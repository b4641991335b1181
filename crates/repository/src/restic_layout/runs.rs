//! What earlier runs of a target say about its databases: which there were, and which backup is good enough to measure
//! the next one by.
//!
//! Reads the lines of snapshots, newest first, and no more of them than the answer needs; a manifest only where it is
//! asked for. Changes nothing.

use super::lines::{self, Line, LineOutcome, Only};
use super::list::{Said, damaged_list};
use super::names;
use super::opened::ResticRepository;
use super::reader::as_repository_error;
use crate::{Baseline, IMPORTED_TAG, LastBackup, RecentRuns, RepositoryError};
use flow::{Context, DatabaseName, ReadErrorKind, Selection, TargetName};
use restic::{Id, Snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many full runs are looked at.
const RUNS_MAX: usize = 20;
/// How many lines are read at most before no further run is looked at: of a target with very many databases a few runs
/// must do.
const LINES_MAX: usize = 20_000;

/// The newest complete line of a database, and the snapshot it is of.
pub(super) struct Latest {
    pub(super) snapshot: Id,
    pub(super) alone: bool,
    pub(super) line: Arc<Line>,
}

/// Which runs are meant: a run of a part of its databases says nothing of the whole, nor of another part.
#[derive(Debug, Clone, Copy)]
pub(super) enum Runs<'a> {
    /// All.
    Any,
    /// Those of that part; `None` for those of the whole.
    Of(Option<&'a Selection>),
}

impl ResticRepository {
    /// Returns the runs of a target by a host, newest first. What was imported is none: it says what a database was in
    /// some file, not what a run found.
    pub(super) fn runs(
        &self,
        target: &TargetName,
        host: &str,
        which: Runs<'_>,
        context: &Context,
    ) -> Result<Vec<(Id, Snapshot)>, RepositoryError> {
        let mut snapshots = self.runs_anywhere(target, which, context)?;
        snapshots.retain(|(_, snapshot)| snapshot.hostname == host);
        Ok(snapshots)
    }

    fn runs_anywhere(
        &self,
        target: &TargetName,
        which: Runs<'_>,
        context: &Context,
    ) -> Result<Vec<(Id, Snapshot)>, RepositoryError> {
        let mut snapshots = self.snapshots(context)?;
        let part = match which {
            Runs::Any => None,
            Runs::Of(selection) => Some(selection.map(Selection::to_string)),
        };
        snapshots.retain(|(_, snapshot)| {
            part.as_ref().is_none_or(|part| names::tag_value(&snapshot.tags, names::SELECTION) == *part)
                && !snapshot.tags.iter().any(|tag| tag == IMPORTED_TAG)
                && names::tag_value(&snapshot.tags, "target").as_deref() == Some(target.as_str())
        });
        snapshots.reverse();
        Ok(snapshots)
    }

    /// Returns the runs that the first run of a host is measured by: its own, or, where it has none and the target has a
    /// name of its own, those of whoever backed it up. A container has a new host name each time it is made, and its
    /// target is the same. A target that is a path is another one on another host.
    fn runs_to_compare(
        &self,
        target: &TargetName,
        host: &str,
        which: Runs<'_>,
        context: &Context,
    ) -> Result<Vec<(Id, Snapshot)>, RepositoryError> {
        let runs = self.runs(target, host, which, context)?;
        if runs.is_empty() && !target.as_str().starts_with('/') {
            return self.runs_anywhere(target, which, context);
        }
        Ok(runs)
    }

    /// Returns the newest complete line of each database of a target as this host backed up that part of it, looking back as far
    /// as the databases of the newest full run need. A run of one database alone says nothing of the others.
    pub(super) fn latest(
        &self,
        target: &TargetName,
        host: &str,
        selection: Option<&Selection>,
        context: &Context,
    ) -> Result<BTreeMap<DatabaseName, Latest>, RepositoryError> {
        let mut latest: BTreeMap<DatabaseName, Latest> = BTreeMap::new();
        let mut wanted: Option<Vec<DatabaseName>> = None;
        let mut full_runs = 0;
        for (id, snapshot) in self.runs(target, host, Runs::Of(selection), context)? {
            let only = only(&snapshot);
            if only.as_ref().is_some_and(|only| latest.contains_key(only)) {
                continue;
            }
            full_runs += usize::from(only.is_none());
            if let Ok(Some(lines)) = self.lines(&id, &snapshot, context) {
                let alone = lines.len() == 1;
                for line in lines.iter().filter(|line| line.outcome == LineOutcome::Complete) {
                    let newest = || Latest { snapshot: id, alone, line: line.clone() };
                    latest.entry(line.database.clone()).or_insert_with(newest);
                }
                if only.is_none() {
                    wanted.get_or_insert_with(|| lines.iter().map(|line| line.database.clone()).collect());
                }
            }
            let all_found =
                wanted.as_ref().is_some_and(|wanted| wanted.iter().all(|name| latest.contains_key(name)));
            if all_found || full_runs >= RUNS_MAX {
                break;
            }
        }
        Ok(latest)
    }

    /// Returns the line of a database in one snapshot; `None` where that is not stored any more.
    pub(super) fn line_of_stored(
        &self,
        id: &Id,
        database: &DatabaseName,
        context: &Context,
    ) -> Result<Option<Latest>, RepositoryError> {
        let snapshots = self.snapshots(context)?;
        let Some((_, snapshot)) = snapshots.iter().find(|(stored, _)| stored == id) else { return Ok(None) };
        let line = self.line_of(id, snapshot, database, context)?;
        Ok(line
            .and_then(|(line, lines)| Some(Latest { snapshot: *id, alone: lines == 1, line: line?.into() })))
    }

    /// Returns what the recent runs of a target by a host found.
    pub(super) fn recent(
        &self,
        target: &TargetName,
        host: &str,
        context: &Context,
    ) -> Result<RecentRuns, RepositoryError> {
        let mut recent = RecentRuns::default();
        let (mut full_runs, mut lines_read) = (0, 0);
        for (id, snapshot) in self.runs_to_compare(target, host, Runs::Of(None), context)? {
            let only = only(&snapshot);
            if only.as_ref().is_some_and(|only| recent.backups.contains_key(only)) {
                continue;
            }
            full_runs += usize::from(only.is_none());
            if let Ok(Some(lines)) = self.lines(&id, &snapshot, context) {
                if recent.full_run.is_none() {
                    recent.newest.extend(lines.iter().map(|line| line.database.clone()));
                }
                if only.is_none() {
                    recent.full_run.get_or_insert(snapshot.time);
                }
                let alone = lines.len() == 1;
                for line in lines.iter().filter(|line| line.outcome == LineOutcome::Complete) {
                    let last = || LastBackup { backup: line.id(&id, alone), time: line.time };
                    recent.backups.entry(line.database.clone()).or_insert_with(last);
                }
                lines_read += lines.len();
            }
            if full_runs >= RUNS_MAX || lines_read >= LINES_MAX {
                break;
            }
        }
        Ok(recent)
    }

    /// Returns the newest backup of a database that is not suspect, or was accepted, and can be read. Where the newest
    /// of all is suspect, it is looked for to the beginning: however long a database has been empty, what it was is
    /// remembered.
    pub(super) fn baseline(
        &self,
        (target, host, selection): (&TargetName, &str, Option<&Selection>),
        database: &DatabaseName,
        newest: Option<&Latest>,
        said: &Said,
        context: &Context,
    ) -> Result<Option<Baseline>, RepositoryError> {
        if let Some(newest) = newest
            && said.suspicion(&newest.line).is_none()
            && let Some(baseline) = self.as_baseline(&newest.line, &newest.snapshot, newest.alone, context)?
        {
            return Ok(Some(baseline));
        }
        let (mut full_runs, mut lines_read) = (0, 0);
        for (id, snapshot) in self.runs_to_compare(target, host, Runs::Of(selection), context)? {
            let only = only(&snapshot);
            if only.as_ref().is_some_and(|only| only != database) {
                continue;
            }
            full_runs += usize::from(only.is_none());
            if let Ok(Some((line, lines))) = self.line_of(&id, &snapshot, database, context) {
                let good =
                    |line: &Line| line.outcome == LineOutcome::Complete && said.suspicion(line).is_none();
                if let Some(line) = line.filter(good)
                    && let Some(baseline) = self.as_baseline(&line, &id, lines == 1, context)?
                {
                    return Ok(Some(baseline));
                }
                lines_read += lines;
            }
            if newest.is_none() && (full_runs >= RUNS_MAX || lines_read >= LINES_MAX) {
                break;
            }
        }
        Ok(None)
    }

    /// Returns the line of one database, where a snapshot has it, and how many lines there are.
    fn line_of(
        &self,
        id: &Id,
        snapshot: &Snapshot,
        database: &DatabaseName,
        context: &Context,
    ) -> Result<Option<(Option<Line>, usize)>, RepositoryError> {
        if names::tag_value(&snapshot.tags, "target").is_none() {
            return Ok(None);
        }
        let content = self.source(context)?.read_list(&snapshot.tree).map_err(as_repository_error)?;
        let Some(content) = content else { return Ok(None) };
        let only = Only::new("database", database.as_str());
        let mut lines = lines::read_only(&content, &only).map_err(|error| damaged_list(id, &error))?;
        lines.retain(|line| line.database == *database);
        Ok(Some((lines.pop(), lines::count(&content))))
    }

    /// Reads the facts of a backup; `None` where they cannot be read: an older one has to do.
    fn as_baseline(
        &self,
        line: &Line,
        snapshot: &Id,
        alone: bool,
        context: &Context,
    ) -> Result<Option<Baseline>, RepositoryError> {
        let subtree = self.subtree_of(line)?;
        let source = self.source(context)?;
        let manifest = source.read_tree(&subtree).and_then(|tree| source.read_manifest(&tree));
        match manifest {
            Ok(manifest) => Ok(Some(Baseline {
                backup: line.id(snapshot, alone),
                time: line.time,
                facts: manifest.facts,
            })),
            Err(error) if error.kind == ReadErrorKind::Cancelled => Err(as_repository_error(error)),
            Err(_) => Ok(None),
        }
    }
}

/// Returns the one database that a run was of; `None` for a run of the whole target.
pub(super) fn only(snapshot: &Snapshot) -> Option<DatabaseName> {
    names::tag_value(&snapshot.tags, names::ONLY).and_then(|name| DatabaseName::new(name).ok())
}
