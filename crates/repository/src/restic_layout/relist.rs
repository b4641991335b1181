//! The list of a snapshot whose own is lost, put together from what else is known: its folders tell which backups it
//! holds, other lists of the same target and the folders' own manifests tell what those are. Reads alone.
//!
//! Every folder gets its line. What may only be away for a moment, or is of a later release, is never taken for lost:
//! then there is no list. Where the folders themselves are lost only the names are told, and that they are lost: a
//! person misses them knowingly.

use super::lines::{self, Line, LineOutcome};
use super::losses::{Open, Run};
use super::names;
use super::opened::ResticRepository;
use super::runs::{Runs, only};
use super::whole::{Whole, is_lost};
use crate::{ProofRecord, RepositoryError, RepositoryErrorKind, State};
use flow::{Context, DatabaseName, Manifest, ReadError, ReadErrorKind, TargetName};
use jiff::Timestamp;
use restic::{Id, Tree};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The line of a database, made anew.
pub(super) struct Relisted {
    pub(super) line: Line,
    /// What the snapshot has of it.
    pub(super) folder: Option<Id>,
    /// Whether nobody else vouches for it: it has to be read.
    pub(super) is_unproven: bool,
}

/// The folders of a snapshot's databases, by the names of their nodes.
pub(super) enum Folders {
    Known(BTreeMap<String, Id>),
    /// They cannot be read any more.
    Lost,
    /// They cannot be read now.
    Unknown,
}

/// Returns the lines, in the order of the databases' names; `None` where nobody can tell now. Those without a folder
/// are of backups that are lost.
pub(super) fn lines(
    repository: &ResticRepository,
    run: &Run,
    open: &Open,
    whole: &Whole,
    kept: &State,
    context: &Context,
) -> Result<Option<Vec<Relisted>>, RepositoryError> {
    let near = near(repository, run, open, context)?;
    let mut found: BTreeMap<DatabaseName, Relisted> = BTreeMap::new();
    match folders(open, whole)? {
        Folders::Unknown => return Ok(None),
        Folders::Lost => {
            let nearest = near.first().map(|lines| lines.to_vec()).unwrap_or_default();
            let only = only(&open.snapshot);
            let meant = nearest.iter().filter(|line| only.as_ref().is_none_or(|only| line.database == *only));
            let lost = |line: &Arc<Line>| Relisted {
                line: of_run(line, open, None),
                folder: None,
                is_unproven: false,
            };
            found.extend(meant.map(|line| (line.database.clone(), lost(line))));
        }
        Folders::Known(folders) => {
            let mut known: HashMap<String, Vec<Arc<Line>>> =
                folders.keys().map(|name| (name.clone(), Vec::new())).collect();
            for line in near.iter().flat_map(|lines| lines.iter()) {
                let lines = known.get_mut(&names::encode(line.database.as_str()));
                lines.into_iter().for_each(|lines| lines.push(Arc::clone(line)));
            }
            let relist = Relist { repository, run, open, whole, known };
            for (name, folder) in folders {
                let Some(relisted) = relist.folder(&name, folder)? else { return Ok(None) };
                found.insert(relisted.line.database.clone(), relisted);
            }
            for (database, problem) in without_folder(kept, &open.id) {
                let mut told = near.iter().flat_map(|lines| lines.iter());
                let mut line = match told.find(|line| line.database == database) {
                    Some(line) => of_run(line, open, None),
                    None => blank(run.target.clone(), database.clone(), open),
                };
                line.lose(problem);
                found.entry(database).or_insert(Relisted { line, folder: None, is_unproven: false });
            }
        }
    }
    Ok(Some(found.into_values().collect()))
}

/// Returns the databases of a snapshot that are known to be damaged, and why: of one that is lost there may be no folder.
fn without_folder<'a>(kept: &'a State, id: &Id) -> Vec<(DatabaseName, &'a str)> {
    let snapshot = format!("{id}:");
    let said = kept.proofs.iter().filter(|proof| proof.level.is_none());
    let database = |proof: &'a ProofRecord| {
        let name = DatabaseName::new(proof.backup.0.strip_prefix(&snapshot)?).ok()?;
        Some((name, proof.problem.as_deref().unwrap_or("it was found damaged")))
    };
    said.filter_map(database).collect()
}

/// Returns the lists of the same target, the nearest in time first.
fn near(
    repository: &ResticRepository,
    run: &Run,
    open: &Open,
    context: &Context,
) -> Result<Vec<Arc<Vec<Arc<Line>>>>, RepositoryError> {
    let seconds = |time: Timestamp| (time.as_second() - open.snapshot.time.as_second()).abs();
    let mut runs = repository.runs(&run.target, &run.host, Runs::Any, context)?;
    runs.sort_by_key(|(_, snapshot)| seconds(snapshot.time));
    let mut near = Vec::new();
    for (id, snapshot) in runs {
        match repository.lines(&id, &snapshot, context) {
            Err(error) if error.kind == RepositoryErrorKind::Cancelled => return Err(error),
            lines => near.extend(lines.ok().flatten()),
        }
    }
    Ok(near)
}

/// Returns the folders of a snapshot's databases.
pub(super) fn folders(open: &Open, whole: &Whole) -> Result<Folders, RepositoryError> {
    let read = |id: &Id| -> Result<Result<Tree, Folders>, RepositoryError> {
        match whole.source().read_tree(id) {
            Ok(tree) => Ok(Ok(tree)),
            Err(error) if is_lost(&error)? => Ok(Err(Folders::Lost)),
            Err(_) => Ok(Err(Folders::Unknown)),
        }
    };
    let root = match read(&open.snapshot.tree)? {
        Ok(root) => root,
        Err(folders) => return Ok(folders),
    };
    let target = names::tag_value(&open.snapshot.tags, "target").map(|target| names::encode(&target));
    let node = root.nodes.iter().find(|node| Some(&node.name) == target.as_ref());
    let Some(below) = node.and_then(|node| node.subtree) else { return Ok(Folders::Unknown) };
    Ok(match read(&below)? {
        Ok(tree) => {
            let nodes = tree.nodes.into_iter();
            Folders::Known(nodes.filter_map(|node| Some((node.name, node.subtree?))).collect())
        }
        Err(folders) => folders,
    })
}

/// What there is to make lines of.
struct Relist<'a> {
    repository: &'a ResticRepository,
    run: &'a Run,
    open: &'a Open,
    whole: &'a Whole,
    /// What other lists say of each folder's database, the nearest in time first.
    known: HashMap<String, Vec<Arc<Line>>>,
}

impl Relist<'_> {
    /// Returns the line of a folder; `None` where nobody can tell now.
    fn folder(&self, name: &str, folder: Id) -> Result<Option<Relisted>, RepositoryError> {
        let known = self.known.get(name).map_or(&[][..], Vec::as_slice);
        // The very same folder: an unchanged database.
        if let Some(line) = known.iter().find(|line| line.subtree == Some(folder)) {
            let line = of_run(line, self.open, Some(folder));
            return Ok(Some(Relisted { line, folder: Some(folder), is_unproven: false }));
        }
        let (tree, manifest) = match self.manifest(&folder) {
            Ok(found) => found,
            Err(error) if !is_lost(&error)? => return Ok(None),
            Err(_) => {
                let was_complete = |line: &&Arc<Line>| line.outcome == LineOutcome::Complete;
                let line = match known.iter().find(was_complete).or(known.first()) {
                    Some(line) => Some(of_run(line, self.open, Some(folder))),
                    None => self.unknown(name).map(|line| Line { subtree: Some(folder), ..line }),
                };
                // Whole but for its manifest: what an earlier loss left of it.
                let is_rest = self.whole.is_whole(self.repository, &folder);
                return Ok(line.map(|line| made(line, folder, is_rest)));
            }
        };
        if manifest.target != self.run.target || names::encode(manifest.database.as_str()) != name {
            return Ok(None);
        }
        let is_rest = match self.lacks_an_entry(&tree, &manifest) {
            Ok(lacks) => lacks,
            Err(error) if !is_lost(&error)? => return Ok(None),
            // A folder of it is lost: it is not whole.
            Err(_) => false,
        };
        Ok(Some(made(self.of_manifest(manifest, folder), folder, is_rest)))
    }

    fn manifest(&self, folder: &Id) -> Result<(Tree, Manifest), ReadError> {
        let tree = self.whole.source().read_tree(folder)?;
        let manifest = self.whole.source().read_manifest(&tree)?;
        Ok((tree, manifest))
    }

    /// Tells whether the manifest names what the folder does not have: it is what an earlier loss left.
    fn lacks_an_entry(&self, tree: &Tree, manifest: &Manifest) -> Result<bool, ReadError> {
        for entry in &manifest.entries {
            match self.whole.source().entry_node(tree, &entry.name) {
                Ok(node) if node.size == entry.size_bytes => {}
                Err(error) if error.kind != ReadErrorKind::Missing => return Err(error),
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// What the folder says of itself.
    fn of_manifest(&self, manifest: Manifest, folder: Id) -> Line {
        let time = manifest.facts.consistency.time;
        Line {
            connection: manifest.connection,
            engine: Some(manifest.facts.engine),
            subtree: Some(folder),
            time,
            changed: time,
            size_bytes: manifest.entries.iter().map(|entry| entry.size_bytes).sum(),
            rows: manifest.facts.rows(),
            selection: manifest.facts.selection.map(Box::new),
            elapsed_ms: manifest.elapsed_ms,
            proof_time: time,
            ..blank(manifest.target, manifest.database, self.open)
        }
    }

    /// A database of which only the name of its folder is known.
    fn unknown(&self, name: &str) -> Option<Line> {
        let name = DatabaseName::new(names::decode(name)).or_else(|_| DatabaseName::new(name)).ok()?;
        Some(blank(self.run.target.clone(), name, self.open))
    }
}

/// A line for a folder. Of a rest nothing can be restored, and the reason was in the list that is lost.
fn made(mut line: Line, folder: Id, is_rest: bool) -> Relisted {
    if is_rest {
        line.lose("it was lost before the list of its snapshot was");
    }
    Relisted { line, folder: Some(folder), is_unproven: true }
}

fn blank(target: TargetName, database: DatabaseName, open: &Open) -> Line {
    Line {
        schema: lines::SCHEMA.to_owned(),
        target,
        database,
        connection: String::new(),
        engine: None,
        subtree: None,
        outcome: LineOutcome::Complete,
        error: None,
        time: open.snapshot.time,
        changed: open.snapshot.time,
        marks: None,
        size_bytes: 0,
        read_bytes: 0,
        added_bytes: 0,
        rows: None,
        elapsed_ms: 0,
        proof_time: open.snapshot.time,
        lost: false,
        suspect: None,
        selection: None,
    }
}

/// Makes the line of another run the one of this run, as far as is known.
fn of_run(line: &Line, open: &Open, subtree: Option<Id>) -> Line {
    let time = open.snapshot.time;
    let is_known = subtree.is_some() && subtree == line.subtree;
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
