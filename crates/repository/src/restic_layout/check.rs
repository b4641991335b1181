//! Verifies one backup, and checks the whole repository: what is damaged, and which backups that affects.

use super::failure::repository_error;
use super::list::ListedSnapshots;
use super::opened::ResticRepository;
use crate::{BackupId, CheckDepth, CheckReport, Damage, RepositoryError, VerifyReport};
use flow::{Context, Event};
use restic::{BlobProblem, CheckProblem, Depth, Id, ResticError, ResticErrorKind};
use std::collections::{BTreeMap, BTreeSet};

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
            let damage = Damage { object: error.object, problem: error.message, backups: vec![id.clone()] };
            return Ok(VerifyReport { errors: vec![damage], read_bytes: 0 });
        }
        Err(error) => return Err(repository_error(error)),
    };
    let progress = |bytes| context.observer.event(Event::Bytes(bytes));
    let found =
        restic::verify_blobs(repository.restic(), &index, &blobs, THREADS, &context.cancel, &progress)
            .map_err(repository_error)?;
    Ok(VerifyReport { errors: by_object(found.errors, id), read_bytes: found.read_bytes })
}

fn is_damage(error: &ResticError) -> bool {
    matches!(error.kind, ResticErrorKind::Damaged | ResticErrorKind::Missing)
}

/// One line for each pack, however many blobs of it are concerned.
fn by_object(problems: Vec<BlobProblem>, backup: &BackupId) -> Vec<Damage> {
    let mut objects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for problem in problems {
        let object = match problem.pack {
            Some(pack) => format!("pack {pack}"),
            None => format!("{} blob {}", problem.kind, problem.id),
        };
        objects.entry(object).or_default().push(describe(&problem.error));
    }
    let damage = |(object, problems): (String, Vec<String>)| {
        let first = problems.first().cloned().unwrap_or_default();
        let problem = match problems.len() {
            1 => first,
            count => {
                format!("{count} blobs that the backup needs cannot be read from it; the first: {first}")
            }
        };
        Damage { object, problem, backups: vec![backup.clone()] }
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
    context: &Context,
) -> Result<CheckReport, RepositoryError> {
    let depth = match depth {
        CheckDepth::Structure => Depth::Structure,
        CheckDepth::Data => Depth::Data,
    };
    let progress = |bytes| context.observer.event(Event::Bytes(bytes));
    let found =
        restic::check(repository.restic(), depth, &context.cancel, &progress).map_err(repository_error)?;
    let affected = if found.errors.is_empty() { None } else { Some(Affected::load(repository, context)?) };
    let errors = found.errors.into_iter().map(|problem| {
        let backups =
            affected.as_ref().map_or_else(Vec::new, |affected| affected.backups(repository, &problem));
        Damage { object: problem.object, problem: problem.problem, backups }
    });
    Ok(CheckReport {
        errors: errors.collect(),
        remarks: found.remarks,
        snapshots: found.snapshots,
        packs: found.packs,
        read_bytes: found.read_bytes,
    })
}

/// Tells which databases of an affected snapshot need a damaged object.
struct Affected {
    listed: ListedSnapshots,
}

impl Affected {
    fn load(repository: &ResticRepository, context: &Context) -> Result<Self, RepositoryError> {
        let silent = Context { observer: std::sync::Arc::new(flow::Silent), ..context.clone() };
        Ok(Self { listed: repository.listed(None, &silent)? })
    }

    fn backups(&self, repository: &ResticRepository, problem: &CheckProblem) -> Vec<BackupId> {
        let mut affected = BTreeSet::new();
        for snapshot in &problem.snapshots {
            let backups = self.listed.backups_of(snapshot);
            if backups.is_empty() {
                // It cannot even be listed: it is affected as a whole.
                affected.insert(BackupId(snapshot.to_string()));
            }
            let alone = backups.len() == 1;
            let needing =
                backups.iter().filter(|(_, tree)| alone || needs(repository, tree, &problem.object));
            let before = affected.len();
            affected.extend(needing.map(|(id, _)| id.clone()));
            if affected.len() == before {
                // The snapshot's own list or root is concerned: all of it.
                affected.extend(backups.into_iter().map(|(id, _)| id));
            }
        }
        affected.into_iter().collect()
    }
}

/// Tells whether a folder needs an object. What cannot be walked needs it, as far as anybody can tell.
fn needs(repository: &ResticRepository, tree: &Id, object: &str) -> bool {
    let Ok(index) = repository.index() else { return true };
    let Ok(blobs) = repository.restic().blobs_of(&index, tree) else { return true };
    let name = object.rsplit(' ').next().unwrap_or_default();
    let Ok(named) = name.parse::<Id>() else { return true };
    blobs
        .iter()
        .any(|(kind, id)| *id == named || index.find(*kind, id).is_none_or(|location| location.pack == named))
}
