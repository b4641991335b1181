//! Verifies one backup, and checks the whole repository: what is damaged, and which backups that affects.

use super::failure::repository_error;
use super::opened::ResticRepository;
use super::state;
use crate::{
    BackupId, CheckDepth, CheckRecord, CheckReport, Damage, RepositoryError, RepositoryErrorKind, State,
    VerifyReport,
};
use flow::{Context, Event};
use jiff::Timestamp;
use restic::{BlobKind, BlobProblem, CheckProblem, Depth, Id, Index, ResticError, ResticErrorKind, Share};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// How many threads read and open blobs.
const THREADS: usize = 2;

/// Reads everything that a folder needs and compares it with its hashes.
pub(super) fn verify(
    repository: &ResticRepository,
    id: &BackupId,
    subtree: &Id,
    context: &Context,
) -> Result<VerifyReport, RepositoryError> {
    let index = repository.index()?;
    let blobs = match repository.restic().blobs_of(&index, subtree) {
        Ok(blobs) => blobs,
        Err(error) if is_damage(&error) => {
            let packs = packs_of_lost_trees(repository, &index, subtree);
            let (object, problem) = (error.object, error.message);
            let damage = Damage { object, problem, backups: vec![id.clone()], packs };
            return Ok(VerifyReport { errors: vec![damage], read_bytes: 0 });
        }
        Err(error) => return Err(repository_error(error)),
    };
    let progress = |bytes| context.observer.event(Event::Bytes(bytes));
    let found =
        restic::verify_blobs(repository.restic(), &index, &blobs, THREADS, &context.cancel, &progress)
            .map_err(repository_error)?;
    Ok(VerifyReport { errors: by_object(found.errors, &index, id), read_bytes: found.read_bytes })
}

pub(super) fn is_damage(error: &ResticError) -> bool {
    matches!(error.kind, ResticErrorKind::Damaged | ResticErrorKind::Missing)
}

/// Returns the packs that hold a folder which cannot be read: every copy of it is damaged.
fn packs_of_lost_trees(repository: &ResticRepository, index: &Index, root: &Id) -> Vec<String> {
    let (mut seen, mut open, mut packs) = (BTreeSet::from([*root]), vec![*root], BTreeSet::new());
    while let Some(id) = open.pop() {
        match repository.restic().read_tree(index, &id) {
            Ok(tree) => {
                let below = tree.nodes.into_iter().filter_map(|node| node.subtree);
                open.extend(below.filter(|id| seen.insert(*id)));
            }
            Err(error) if is_damage(&error) => packs.extend(packs_of(index, BlobKind::Tree, &id)),
            Err(_) => {}
        }
    }
    packs.into_iter().collect()
}

pub(super) fn packs_of(index: &Index, kind: BlobKind, id: &Id) -> impl Iterator<Item = String> {
    index.locations(kind, id).map(|location| location.pack.to_string())
}

/// One line for each pack, however many blobs of it are concerned.
fn by_object(problems: Vec<BlobProblem>, index: &Index, backup: &BackupId) -> Vec<Damage> {
    let mut objects: BTreeMap<String, (Vec<String>, BTreeSet<String>)> = BTreeMap::new();
    for problem in problems {
        let object = match problem.pack {
            Some(pack) => format!("pack {pack}"),
            None => format!("{} blob {}", problem.kind, problem.id),
        };
        let (problems, packs) = objects.entry(object).or_default();
        problems.push(describe(&problem.error));
        // No copy of the blob could be read. A storage that failed says nothing of its packs.
        if is_damage(&problem.error) {
            packs.extend(packs_of(index, problem.kind, &problem.id));
        }
    }
    let damage = |(object, (problems, packs)): (String, (Vec<String>, BTreeSet<String>))| {
        let first = problems.first().cloned().unwrap_or_default();
        let problem = match problems.len() {
            1 => first,
            count => {
                format!("{count} blobs that the backup needs cannot be read from it; the first: {first}")
            }
        };
        Damage { object, problem, backups: vec![backup.clone()], packs: packs.into_iter().collect() }
    };
    objects.into_iter().map(damage).collect()
}

fn describe(error: &ResticError) -> String {
    match std::error::Error::source(error) {
        Some(below) => format!("{}: {below}", error.message),
        None => error.message.clone(),
    }
}

pub(super) fn check(
    repository: &ResticRepository,
    depth: CheckDepth,
    may_write: bool,
    context: &Context,
) -> Result<CheckReport, RepositoryError> {
    let rotating = is_rotating(repository, depth, context);
    let depth = self::depth(repository, depth, context);
    let progress = |bytes| context.observer.event(Event::Bytes(bytes));
    let found =
        restic::check(repository.restic(), depth, &context.cancel, &progress).map_err(repository_error)?;
    let mut remarks = found.remarks;
    if let (Some(last), true) = (found.read_until, may_write) {
        let kept = keep_read_until(repository, &last, context);
        remarks.extend(kept.err().map(|error| format!("how far this check came cannot be kept: {error}")));
    }
    let affected = if found.errors.is_empty() {
        None
    } else {
        Some(Affected::load(repository, &found.errors, context)?)
    };
    let errors = found.errors.iter().map(|problem| damage(repository, affected.as_ref(), problem));
    Ok(CheckReport {
        errors: errors.collect(),
        remarks,
        snapshots: found.snapshots,
        packs: found.packs,
        read_bytes: found.read_bytes,
        read_packs: found.read_packs,
        rotating,
    })
}

/// Returns how deep to look; a share begins where the check before it ended.
pub(super) fn depth(repository: &ResticRepository, depth: CheckDepth, context: &Context) -> Depth {
    match depth {
        CheckDepth::Structure => Depth::Structure,
        CheckDepth::Data => Depth::Data,
        CheckDepth::Share { hundredths } => {
            Depth::Share(Share { hundredths, after: read_until(repository, context) })
        }
    }
}

/// Tells of a share whether it is known where the check before it ended.
pub(super) fn is_rotating(
    repository: &ResticRepository,
    depth: CheckDepth,
    context: &Context,
) -> Option<bool> {
    matches!(depth, CheckDepth::Share { .. }).then(|| read_until(repository, context).is_some())
}

/// Tells which backups a problem affects. Where nothing can be listed, the snapshots stand for theirs.
pub(super) fn damage(
    repository: &ResticRepository,
    affected: Option<&Affected>,
    problem: &CheckProblem,
) -> Damage {
    let snapshots = || problem.snapshots.iter().map(|id| BackupId(id.to_string())).collect();
    let backups = affected.map_or_else(snapshots, |affected| affected.backups(problem));
    let packs = damaged_packs(repository, &problem.object);
    Damage { object: problem.object.clone(), problem: problem.problem.clone(), backups, packs }
}

/// Returns the last pack that the check of a part before this one read, where that is known.
fn read_until(repository: &ResticRepository, context: &Context) -> Option<Id> {
    let silent = Context { observer: std::sync::Arc::new(flow::Silent), ..context.clone() };
    let state = state::load(repository, &silent).ok()?;
    state.checks.get(&())?.read_until.parse().ok()
}

/// Keeps it, under the lock of the check.
fn keep_read_until(
    repository: &ResticRepository,
    last: &Id,
    context: &Context,
) -> Result<(), RepositoryError> {
    let record = CheckRecord {
        time: Timestamp::now(),
        host: repository.owner_host().to_owned(),
        read_until: last.to_string(),
    };
    let records = State { checks: [record].into_iter().collect(), ..State::default() };
    state::append(repository, records, context)
}

/// Returns the packs that a damaged object is, or lies in. Of a folder that cannot be read, every copy is damaged.
fn damaged_packs(repository: &ResticRepository, object: &str) -> Vec<String> {
    match object.split_once(' ') {
        Some(("pack", id)) => vec![id.to_owned()],
        Some(("tree", id)) => match (repository.index(), id.parse()) {
            (Ok(index), Ok(id)) => packs_of(&index, BlobKind::Tree, &id).collect(),
            _ => vec![],
        },
        _ => vec![],
    }
}

/// Tells which databases of an affected snapshot need a damaged object. Each folder is walked once, however many objects are
/// damaged and however many snapshots have it.
pub(super) struct Affected {
    snapshots: HashMap<Id, Concerned>,
}

/// What of the damaged objects a snapshot's databases need.
enum Concerned {
    /// It holds no backup.
    State,
    /// Its list cannot be read: it is affected as a whole.
    Whole,
    /// Its backups, each with what it needs of the damaged objects; of one that cannot be walked everything.
    Backups(Vec<(BackupId, Option<Arc<HashSet<Id>>>)>),
}

impl Affected {
    /// Looks at the snapshots that these problems affect.
    pub(super) fn load(
        repository: &ResticRepository,
        problems: &[CheckProblem],
        context: &Context,
    ) -> Result<Self, RepositoryError> {
        let silent = Context { observer: Arc::new(flow::Silent), ..context.clone() };
        let named: HashSet<Id> = problems.iter().filter_map(|problem| id_in(&problem.object)).collect();
        let concerned: HashSet<&Id> = problems.iter().flat_map(|problem| &problem.snapshots).collect();
        let mut walked: HashMap<Id, Option<Arc<HashSet<Id>>>> = HashMap::new();
        let mut snapshots = HashMap::new();
        for (id, snapshot) in repository.snapshots(&silent)?.iter().filter(|(id, _)| concerned.contains(id)) {
            context.cancel.check().map_err(|_| cancelled(repository))?;
            if state::is_state(snapshot) {
                snapshots.insert(*id, Concerned::State);
                continue;
            }
            let backups = repository.backups_in(id, snapshot, &silent).unwrap_or_default();
            let found = match backups.is_empty() {
                true => Concerned::Whole,
                false => Concerned::Backups(
                    backups
                        .into_iter()
                        .map(|(backup, tree)| {
                            let needed = walked.entry(tree);
                            (backup, needed.or_insert_with(|| needed_of(repository, &tree, &named)).clone())
                        })
                        .collect(),
                ),
            };
            snapshots.insert(*id, found);
        }
        Ok(Self { snapshots })
    }

    fn backups(&self, problem: &CheckProblem) -> Vec<BackupId> {
        let object = id_in(&problem.object);
        let mut affected = BTreeSet::new();
        for id in &problem.snapshots {
            let backups = match self.snapshots.get(id) {
                Some(Concerned::State) => continue,
                Some(Concerned::Backups(backups)) => backups,
                Some(Concerned::Whole) | None => {
                    affected.insert(BackupId(id.to_string()));
                    continue;
                }
            };
            let alone = backups.len() == 1;
            let needs = |needed: &Option<Arc<HashSet<Id>>>| match (needed, &object) {
                (Some(needed), Some(object)) => needed.contains(object),
                _ => true,
            };
            let needing: Vec<_> = backups.iter().filter(|(_, needed)| alone || needs(needed)).collect();
            match needing.is_empty() {
                // The snapshot's own list or root is concerned: all of it.
                true => affected.extend(backups.iter().map(|(id, _)| id.clone())),
                false => affected.extend(needing.into_iter().map(|(id, _)| id.clone())),
            }
        }
        affected.into_iter().collect()
    }
}

fn id_in(object: &str) -> Option<Id> {
    object.rsplit(' ').next()?.parse().ok()
}

/// Returns which of these objects a folder needs; `None` where it cannot be walked: then it needs all of them, as far as
/// anybody can tell. A blob that no index names is needed under its own name.
fn needed_of(repository: &ResticRepository, tree: &Id, named: &HashSet<Id>) -> Option<Arc<HashSet<Id>>> {
    let index = repository.index().ok()?;
    let blobs = repository.restic().blobs_of(&index, tree).ok()?;
    let packs = blobs.iter().filter_map(|(kind, id)| Some(index.find(*kind, id)?.pack));
    let needed = blobs.iter().map(|(_, id)| *id).chain(packs).filter(|id| named.contains(id));
    Some(Arc::new(needed.collect()))
}

fn cancelled(repository: &ResticRepository) -> RepositoryError {
    RepositoryError::new(RepositoryErrorKind::Cancelled, repository.location_text(), "interrupted")
}
