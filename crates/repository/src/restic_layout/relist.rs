//! The list of a snapshot whose own is lost, put together from what else is known: its folders tell which backups it
//! holds, other lists of the same target tell what those are. Reads alone.
//!
//! A folder that another list names is that backup, whole or not. Of what has no such folder only the name is told, and
//! that it is lost: a person misses it knowingly.

use super::lines::{Line, LineOutcome};
use super::losses::{Open, Run};
use super::memo::Lines;
use super::names;
use super::opened::ResticRepository;
use super::runs::{Runs, only};
use super::whole::Whole;
use crate::{RepositoryError, RepositoryErrorKind};
use flow::{Context, DatabaseName};
use jiff::Timestamp;
use restic::Id;
use std::collections::BTreeMap;

/// Returns the lines, in the order of the databases' names. Those without a folder are of backups that are lost.
pub(super) fn lines(
    repository: &ResticRepository,
    run: &Run,
    open: &Open,
    whole: &Whole,
    context: &Context,
) -> Result<Vec<Line>, RepositoryError> {
    let seconds = |time: Timestamp| (time.as_second() - open.snapshot.time.as_second()).abs();
    let mut runs = repository.runs(&run.target, &run.host, Runs::Any, context)?;
    runs.sort_by_key(|(_, snapshot)| seconds(snapshot.time));
    let mut near: Vec<Lines> = Vec::new();
    for (id, snapshot) in runs {
        match repository.lines(&id, &snapshot, context) {
            Err(error) if error.kind == RepositoryErrorKind::Cancelled => return Err(error),
            lines => near.push(lines.ok().flatten()),
        }
    }
    let folders = folders(run, open, whole);
    let mut found: BTreeMap<DatabaseName, Line> = BTreeMap::new();
    let lines = near.iter().flatten().flat_map(|lines| lines.iter());
    for line in lines {
        let folder = folders.as_ref().map(|folders| folders.get(&names::encode(line.database.as_str())));
        match (folder, line.subtree) {
            // The very same folder: an unchanged database.
            (Some(Some(folder)), Some(subtree)) if *folder == subtree => {
                let known = found.get(&line.database).is_some_and(|known| known.subtree.is_some());
                if !known {
                    found.insert(line.database.clone(), of_run(line, open, Some(subtree)));
                }
            }
            (Some(Some(_)), _) => {
                found.entry(line.database.clone()).or_insert_with(|| of_run(line, open, None));
            }
            // It was not in that run.
            (Some(None), _) => {}
            // Nobody knows what was in it: the nearest run has to do.
            (None, _) => {}
        }
    }
    if folders.is_none() {
        let nearest = near.into_iter().flatten().next().unwrap_or_default();
        let only = only(&open.snapshot);
        let meant = nearest.iter().filter(|line| only.as_ref().is_none_or(|only| line.database == *only));
        found.extend(meant.map(|line| (line.database.clone(), of_run(line, open, None))));
    }
    Ok(found.into_values().collect())
}

/// Returns the folders of the snapshot's databases by the names of their nodes; `None` where they cannot be read.
fn folders(run: &Run, open: &Open, whole: &Whole) -> Option<BTreeMap<String, Id>> {
    let root = whole.source().read_tree(&open.snapshot.tree).ok()?;
    let target = names::encode(run.target.as_str());
    let target = root.nodes.iter().find(|node| node.name == target)?.subtree?;
    let databases = whole.source().read_tree(&target).ok()?;
    Some(databases.nodes.into_iter().filter_map(|node| Some((node.name, node.subtree?))).collect())
}

/// Makes the line of another run the one of this run, as far as is known.
fn of_run(line: &Line, open: &Open, subtree: Option<Id>) -> Line {
    let time = open.snapshot.time;
    let is_known = subtree.is_some();
    Line {
        subtree,
        outcome: LineOutcome::Complete,
        error: None,
        lost: false,
        time,
        changed: if is_known { line.changed.min(time) } else { time },
        marks: line.marks.clone().filter(|_| is_known),
        size_bytes: if is_known { line.size_bytes } else { 0 },
        read_bytes: 0,
        added_bytes: 0,
        rows: line.rows.filter(|_| is_known),
        elapsed_ms: 0,
        proof_time: if is_known { line.proof_time.min(time) } else { time },
        suspect: line.suspect.clone().filter(|_| is_known),
        ..line.clone()
    }
}
