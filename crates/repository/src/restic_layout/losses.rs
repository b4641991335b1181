//! What a heal left open: snapshots that need what no pack holds, and the run by which they are measured now.
//!
//! Reads the records of the state and the lists of the snapshots; changes nothing.

use super::lines::{Line, LineOutcome};
use super::opened::ResticRepository;
use super::runs::Runs;
use super::{names, runs};
use crate::{LossRecord, RepositoryError, RepositoryErrorKind, State};
use flow::{Context, DatabaseName, TargetName};
use jiff::Timestamp;
use restic::{Id, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the run backed up.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) target: TargetName,
    pub(super) host: String,
    pub(super) only: Option<DatabaseName>,
    /// What part of its databases it was of, as its tag says it; `None` for the whole.
    pub(super) part: Option<String>,
    /// `None` where nothing was backed up since.
    pub(super) outcomes: Option<BTreeMap<DatabaseName, LineOutcome>>,
    /// When the run before it was that was not of one database alone, and the databases that it found.
    pub(super) before: Option<(Timestamp, BTreeSet<DatabaseName>)>,
}

impl Run {
    /// Tells whether a database had its chance since: it was backed up, or two runs in turn did not find it any more. What
    /// one run did not find may be away for a moment.
    pub(super) fn had_its_chance(&self, database: &DatabaseName, since: Timestamp) -> bool {
        let was_gone_before =
            || self.before.as_ref().is_some_and(|(time, found)| *time > since && !found.contains(database));
        match self.outcomes.as_ref().map(|outcomes| outcomes.get(database)) {
            Some(Some(outcome)) => *outcome == LineOutcome::Complete,
            Some(None) => self.only.is_none() && was_gone_before(),
            None => false,
        }
    }
}

/// A snapshot that a heal left open.
pub(super) struct Open {
    pub(super) id: Id,
    pub(super) snapshot: Snapshot,
    /// `None` where the list itself is lost.
    pub(super) lines: Option<Arc<Vec<Arc<Line>>>>,
    pub(super) problem: String,
    /// When that was found.
    pub(super) since: Timestamp,
}

impl Open {
    pub(super) fn is_of(&self, run: &Run) -> bool {
        let tag = |key| names::tag_value(&self.snapshot.tags, key);
        // A run of a part brings nothing of the whole back.
        tag("target").as_deref() == Some(run.target.as_str())
            && self.snapshot.hostname == run.host
            && tag(names::SELECTION) == run.part
    }
}

pub(super) fn is_open(kept: &State) -> bool {
    kept.losses.iter().any(|loss| loss.problem.is_some())
}

pub(super) fn load_run(
    repository: &ResticRepository,
    run: &str,
    context: &Context,
) -> Result<Option<Run>, RepositoryError> {
    let snapshots = repository.snapshots(context)?;
    let Some((id, snapshot)) = snapshots.into_iter().find(|(id, _)| id.to_string() == run) else {
        return Ok(None);
    };
    let target = names::tag_value(&snapshot.tags, "target").and_then(|name| TargetName::new(name).ok());
    let (Some(target), Some(lines)) = (target, repository.lines(&id, &snapshot, context)?) else {
        return Ok(None);
    };
    let outcomes = lines.iter().map(|line| (line.database.clone(), line.outcome)).collect();
    let (only, part) = (runs::only(&snapshot), names::tag_value(&snapshot.tags, names::SELECTION));
    let before = run_before(repository, &target, (&id, &snapshot), context)?;
    Ok(Some(Run { target, only, part, host: snapshot.hostname, outcomes: Some(outcomes), before }))
}

/// Returns what the run before this one found that was of the same part, and not of one database alone.
fn run_before(
    repository: &ResticRepository,
    target: &TargetName,
    (run, snapshot): (&Id, &Snapshot),
    context: &Context,
) -> Result<Option<(Timestamp, BTreeSet<DatabaseName>)>, RepositoryError> {
    let runs = repository.runs(target, &snapshot.hostname, Runs::Any, context)?.into_iter();
    let mut before = runs.skip_while(|(id, _)| id != run).skip(1);
    let part = |snapshot: &Snapshot| names::tag_value(&snapshot.tags, names::SELECTION);
    let is_alike = |other: &Snapshot| runs::only(other).is_none() && part(other) == part(snapshot);
    let Some((id, before)) = before.find(|(_, other)| is_alike(other)) else {
        return Ok(None);
    };
    let lines = match repository.lines(&id, &before, context) {
        Err(error) if error.kind == RepositoryErrorKind::Cancelled => return Err(error),
        lines => lines.ok().flatten(),
    };
    Ok(lines.map(|lines| (before.time, lines.iter().map(|line| line.database.clone()).collect())))
}

/// Returns the open snapshots. What is open of a snapshot that is gone is settled.
pub(super) fn load_open(
    repository: &ResticRepository,
    kept: &State,
    records: &mut State,
    context: &Context,
) -> Result<Vec<Open>, RepositoryError> {
    let snapshots: BTreeMap<Id, Snapshot> = repository.snapshots(context)?.into_iter().collect();
    let mut open = Vec::new();
    for loss in kept.losses.iter() {
        let (Some(problem), Ok(id)) = (loss.problem.clone(), loss.snapshot.parse::<Id>()) else { continue };
        let Some(snapshot) = snapshots.get(&id) else {
            records.losses.add(closed(&id));
            continue;
        };
        let lines = match repository.lines(&id, snapshot, context) {
            Err(error) if error.kind == RepositoryErrorKind::Cancelled => return Err(error),
            // It is not lost but away: what it says will be known again.
            Err(error) if error.kind != RepositoryErrorKind::Damaged => continue,
            lines => lines.ok().flatten(),
        };
        open.push(Open { id, snapshot: snapshot.clone(), lines, problem, since: loss.time });
    }
    Ok(open)
}

pub(super) fn closed(snapshot: &Id) -> LossRecord {
    LossRecord { snapshot: snapshot.to_string(), time: Timestamp::now(), problem: None }
}
