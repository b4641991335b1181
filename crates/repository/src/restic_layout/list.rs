//! Which backups there are: of each snapshot its list of databases, a few at a time.
//!
//! A snapshot that cannot be read hides no other: it is named in a remark and passed over.

use super::failure::repository_error;
use super::lines::{self, Line, LineOutcome, ListedLine, Only};
use super::memo::{Folder, Folders, Lines};
use super::names;
use super::opened::ResticRepository;
use super::reader::as_repository_error;
use super::state;
use crate::{
    BackupId, BackupRecord, Proof, ProofLevel, RepositoryError, RepositoryErrorKind, State, Unlisted, Wanted,
};
use flow::{Context, DatabaseName, Event, Finding, ReadError, ReadErrorKind, Severity, TargetName};
use jiff::Timestamp;
use restic::{Id, NodeKind, ResticErrorKind, Snapshot};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use storage::{ObjectName, StorageErrorKind};

/// How many lists are kept in full, with their marks.
const LISTS_KEPT: usize = 2;

/// What the newest verification said of each folder: when, and how far it was proven; `None` for damaged. It holds for
/// each backup that has the same folder: they are the same blobs. So does an acceptance.
#[derive(Default)]
pub(super) struct Said {
    pub(super) proofs: HashMap<Id, (Timestamp, Option<ProofLevel>)>,
    accepted: HashSet<Id>,
}

impl Said {
    /// The run's own proof, unless a later verification says more, or found damage.
    pub(super) fn proof(&self, subtree: Option<Id>, proof_time: Timestamp) -> Option<Proof> {
        let own = Proof { level: ProofLevel::Stored, time: proof_time };
        match subtree.and_then(|subtree| self.proofs.get(&subtree)) {
            Some((time, level)) if *time >= proof_time => {
                level.map(|level| Proof { level: level.max(own.level), time: *time })
            }
            _ => Some(own),
        }
    }

    /// Why a backup is suspect, unless somebody accepted what it holds.
    pub(super) fn suspicion(&self, line: &Line) -> Option<Vec<String>> {
        line.suspect.clone().filter(|_| !self.accepts(line.subtree))
    }

    pub(super) fn accepts(&self, subtree: Option<Id>) -> bool {
        subtree.is_some_and(|subtree| self.accepted.contains(&subtree))
    }
}

impl ResticRepository {
    /// Returns the ids of the stored snapshots.
    pub(super) fn stored(&self) -> Result<Vec<Id>, RepositoryError> {
        let stored = self.restic().storage().list("snapshots").map_err(|error| {
            let object = format!("snapshots of {}", self.location_text());
            RepositoryError::new(RepositoryErrorKind::Failed, object, error.to_string()).with_source(error)
        })?;
        let id = |name: &str| name.rsplit('/').next().and_then(|name| name.parse::<Id>().ok());
        Ok(stored.iter().filter_map(|object| id(object.name.as_str())).collect())
    }

    /// Returns the snapshots that [`Self::backups`] has to leave out, of those that may hold what is asked for.
    pub(super) fn unlisted(
        &self,
        wanted: &Wanted,
        context: &Context,
    ) -> Result<Vec<Unlisted>, RepositoryError> {
        let silent = Context { observer: Arc::new(flow::Silent), ..context.clone() };
        let readable: HashMap<Id, Snapshot> = self.snapshots(&silent)?.into_iter().collect();
        let mut unlisted = Vec::new();
        for id in self.stored()? {
            let left_out = |problem: String| Unlisted {
                snapshot: id.to_string(),
                target: None,
                host: None,
                time: None,
                problem,
            };
            match readable.get(&id) {
                Some(snapshot) if state::is_state(snapshot) || !may_hold(wanted, &id, snapshot) => {}
                Some(snapshot) => match self.settled(&id, || self.look(&id, snapshot, &silent)) {
                    Ok(_) => {}
                    Err(error) if error.kind == RepositoryErrorKind::Cancelled => return Err(error),
                    Err(error) => unlisted.push(Unlisted {
                        target: names::tag_value(&snapshot.tags, "target")
                            .and_then(|name| TargetName::new(name).ok()),
                        host: Some(snapshot.hostname.clone()),
                        time: Some(snapshot.time),
                        ..left_out(error.to_string())
                    }),
                },
                None if matches!(wanted, Wanted::Snapshot(digits) if !id.to_string().starts_with(digits)) => {
                }
                // One that is gone by now was removed by somebody, which is no damage.
                None => match self.restic().snapshot(&id) {
                    Err(error) if error.kind != ResticErrorKind::NotFound => {
                        unlisted.push(left_out(error.to_string()));
                    }
                    _ => {}
                },
            }
        }
        Ok(unlisted)
    }

    /// Reads something of a snapshot while others may prune: what cannot be read is looked for once more, since it may
    /// lie elsewhere by now. `None` where the snapshot was removed.
    pub(super) fn settled<R>(
        &self,
        id: &Id,
        read: impl Fn() -> Result<R, RepositoryError>,
    ) -> Result<Option<R>, RepositoryError> {
        match read() {
            Err(error) if error.kind != RepositoryErrorKind::Cancelled => {}
            result => return result.map(Some),
        }
        if !self.is_stored(id) {
            return Ok(None);
        }
        self.refresh_index()?;
        match read() {
            Err(_) if !self.is_stored(id) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Tells whether a snapshot is there; where that cannot be told, it is taken to be.
    fn is_stored(&self, id: &Id) -> bool {
        let stat =
            ObjectName::new(format!("snapshots/{id}")).and_then(|name| self.restic().storage().stat(&name));
        !matches!(stat, Err(error) if error.kind == StorageErrorKind::Missing)
    }

    /// Fails where a snapshot's list cannot be read.
    fn look(&self, id: &Id, snapshot: &Snapshot, context: &Context) -> Result<(), RepositoryError> {
        if self.memo().listable.lock().unwrap_or_else(PoisonError::into_inner).contains(id) {
            return Ok(());
        }
        self.scan(id, snapshot, None, context, |_, _| Ok(())).map(drop)
    }

    /// Loads all snapshots that can be read, oldest first, state snapshots too.
    pub(super) fn snapshots(&self, context: &Context) -> Result<Vec<(Id, Snapshot)>, RepositoryError> {
        let mut known = self.memo().snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for id in self.stored()? {
            let snapshot = match known.get(&id) {
                Some(snapshot) => snapshot.clone(),
                None => match self.restic().snapshot(&id) {
                    Ok(snapshot) => known.entry(id).or_insert(snapshot).clone(),
                    // Somebody removed it since the names were listed.
                    Err(error) if error.kind == ResticErrorKind::NotFound => continue,
                    Err(error) => {
                        remark(context, &format!("snapshot {id}"), &error.to_string());
                        continue;
                    }
                },
            };
            found.push((id, snapshot));
        }
        found.sort_by_key(|(id, snapshot)| (snapshot.time, *id));
        Ok(found)
    }

    /// Shows each line of a snapshot's list, with how many there are; tells whether the snapshot is ours.
    pub(super) fn scan(
        &self,
        id: &Id,
        snapshot: &Snapshot,
        only: Option<&Only>,
        context: &Context,
        mut take: impl FnMut(usize, ListedLine<'_>) -> Result<(), RepositoryError>,
    ) -> Result<bool, RepositoryError> {
        let content = match names::tag_value(&snapshot.tags, "target") {
            Some(_) => self.source(context)?.read_list(&snapshot.tree).map_err(as_repository_error)?,
            None => None,
        };
        if let Some(content) = &content {
            let lines = lines::count(content);
            lines::scan(content, only, |line| take(lines, line).map_err(Stopped::Taking)).map_err(
                |stopped| match stopped {
                    Stopped::Taking(error) => error,
                    Stopped::Reading(error) => damaged_list(id, &error),
                },
            )?;
        }
        self.memo().listable.lock().unwrap_or_else(PoisonError::into_inner).insert(*id);
        Ok(content.is_some())
    }

    /// Returns the folders of a snapshot's databases.
    pub(super) fn folders(
        &self,
        id: &Id,
        snapshot: &Snapshot,
        context: &Context,
    ) -> Result<Folders, RepositoryError> {
        if let Some(folders) = self.memo().folders.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(folders.clone());
        }
        let mut folders = HashMap::new();
        let is_ours = self.scan(id, snapshot, None, context, |_, line| {
            let subtree = line.subtree.filter(|_| line.outcome == LineOutcome::Complete);
            let error = line.error.map(|error| error.into_owned());
            let folder = Folder { subtree, error, lost: line.lost, proof_time: line.proof_time };
            folders.insert(line.database.into_owned(), folder);
            Ok(())
        })?;
        let folders = is_ours.then(|| Arc::new(folders));
        self.memo().folders.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, folders.clone());
        Ok(folders)
    }

    pub(super) fn lines(
        &self,
        id: &Id,
        snapshot: &Snapshot,
        context: &Context,
    ) -> Result<Lines, RepositoryError> {
        if let Some(lines) = self.memo().lines.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(lines.clone());
        }
        let content = match names::tag_value(&snapshot.tags, "target") {
            Some(_) => self.source(context)?.read_list(&snapshot.tree).map_err(as_repository_error)?,
            None => None,
        };
        let lines = content.map(|content| lines::read(&content)).transpose();
        let lines = lines.map_err(|error| damaged_list(id, &error))?;
        let lines = lines.map(|lines| Arc::new(lines.into_iter().map(Arc::new).collect()));
        let mut kept = self.memo().lines.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= LISTS_KEPT {
            kept.clear();
        }
        kept.insert(*id, lines.clone());
        Ok(lines)
    }

    /// Sums up the files of a folder. A folder that cannot be read counts as empty: its damage is told elsewhere.
    pub(super) fn size(&self, tree: &Id, context: &Context) -> u64 {
        if let Some(size) = self.memo().sizes.lock().unwrap_or_else(PoisonError::into_inner).get(tree) {
            return *size;
        }
        let Ok(source) = self.source(context) else { return 0 };
        let Ok(nodes) = source.read_tree(tree) else { return 0 };
        let sum = nodes.nodes.iter().map(|node| match (&node.kind, node.subtree) {
            (NodeKind::Dir, Some(below)) => self.size(&below, context),
            (NodeKind::File, _) => node.size,
            _ => 0,
        });
        let size = sum.sum();
        self.memo().sizes.lock().unwrap_or_else(PoisonError::into_inner).insert(*tree, size);
        size
    }

    /// Returns the folder of a backup that is to be read now, by its full id: not of one that somebody removed since it
    /// was listed. The caller holds a lock, where one can be had.
    pub(super) fn find_stored(&self, id: &BackupId, context: &Context) -> Result<Id, RepositoryError> {
        if id.snapshot().parse().is_ok_and(|snapshot| !self.is_stored(&snapshot)) {
            let message = format!("{} holds no such backup", self.location_text());
            return Err(RepositoryError::new(RepositoryErrorKind::NoBackup, format!("backup {id}"), message));
        }
        self.refresh_index()?;
        self.find_backup(id, context)
    }

    /// Returns the folder of a backup, by its full id.
    pub(super) fn find_backup(&self, id: &BackupId, context: &Context) -> Result<Id, RepositoryError> {
        Ok(self.find_written(id, context)?.0)
    }

    /// Returns the folder of a backup, by its full id, and when its run proved it, where it is ours.
    fn find_written(
        &self,
        id: &BackupId,
        context: &Context,
    ) -> Result<(Id, Option<Timestamp>), RepositoryError> {
        let (snapshot_id, database) = match id.0.split_once(':') {
            Some((snapshot, database)) => (snapshot, Some(database)),
            None => (id.0.as_str(), None),
        };
        let none = || {
            RepositoryError::new(
                RepositoryErrorKind::NoBackup,
                format!("backup {id}"),
                format!("{} holds no such backup", self.location_text()),
            )
        };
        let parsed: Id = snapshot_id.parse().map_err(|_| none())?;
        let known =
            self.memo().snapshots.lock().unwrap_or_else(PoisonError::into_inner).get(&parsed).cloned();
        let snapshot = match known {
            Some(snapshot) => snapshot,
            None => self.restic().snapshot(&parsed).map_err(|error| match error.kind {
                ResticErrorKind::NotFound => none(),
                _ => repository_error(error),
            })?,
        };
        let Some(folders) = self.folders(&parsed, &snapshot, context)? else {
            return Ok((snapshot.tree, None));
        };
        let found = match database {
            Some(name) => folders.get_key_value(name),
            None if folders.len() == 1 => folders.iter().next(),
            None => None,
        };
        let (name, folder) = found.ok_or_else(none)?;
        let subtree =
            folder.subtree.ok_or_else(|| failed_then(name, folder.error.as_deref(), folder.lost))?;
        Ok((subtree, Some(folder.proof_time)))
    }

    /// Returns what verifications, and whoever accepted what was suspect, said of folders.
    pub(super) fn said(&self, state: &State, context: &Context) -> Result<Said, RepositoryError> {
        let mut said = Said::default();
        if state.proofs.is_empty() && state.acceptances.is_empty() {
            return Ok(said);
        }
        self.snapshots(context)?;
        for record in state.proofs.iter() {
            // A backup that is gone, or cannot be listed, has nothing to be said of.
            if let Ok((subtree, written)) = self.find_written(&record.backup, context) {
                // Nothing is said of a backup before it is there: a clock that is behind hides no damage.
                let time = written.map_or(record.time, |written| record.time.max(written));
                let slot = said.proofs.entry(subtree).or_insert((time, record.level));
                if time > slot.0 {
                    *slot = (time, record.level);
                }
            }
        }
        for record in state.acceptances.iter() {
            said.accepted.extend(self.find_backup(&record.backup, context));
        }
        Ok(said)
    }

    /// Returns a line's folder, or says that its database failed in that run.
    pub(super) fn subtree_of(&self, line: &Line) -> Result<Id, RepositoryError> {
        let failed = || failed_then(line.database.as_str(), line.error.as_deref(), line.lost);
        line.subtree.filter(|_| line.outcome == LineOutcome::Complete).ok_or_else(failed)
    }

    /// Returns the ids of the backups of a snapshot, with their folders. Keeps nothing of it.
    pub(super) fn backups_in(
        &self,
        id: &Id,
        snapshot: &Snapshot,
        context: &Context,
    ) -> Result<Vec<(BackupId, Id)>, RepositoryError> {
        if state::is_state(snapshot) {
            return Ok(vec![]);
        }
        let text = id.to_string();
        let mut backups = Vec::new();
        let is_ours = self.scan(id, snapshot, None, context, |lines, line| {
            let subtree = line.subtree.filter(|_| line.outcome == LineOutcome::Complete);
            backups.extend(subtree.map(|folder| (BackupId::of(&text, lines == 1, &line.database), folder)));
            Ok(())
        })?;
        Ok(if is_ours { backups } else { vec![(BackupId(text), snapshot.tree)] })
    }
}

/// What ended the reading of a list.
enum Stopped {
    Reading(serde_json::Error),
    Taking(RepositoryError),
}

impl From<serde_json::Error> for Stopped {
    fn from(error: serde_json::Error) -> Self {
        Stopped::Reading(error)
    }
}

/// Tells whether a snapshot may hold what is asked for, before its list is read.
pub(super) fn may_hold(wanted: &Wanted, id: &Id, snapshot: &Snapshot) -> bool {
    match wanted {
        Wanted::All | Wanted::Place(_) => true,
        // Files that stock restic stored are of the target that their paths name.
        Wanted::Target(target) | Wanted::Database(target, _) => {
            match names::tag_value(&snapshot.tags, "target") {
                Some(name) => name == target.as_str(),
                None => paths(snapshot) == target.as_str(),
            }
        }
        Wanted::Snapshot(digits) => {
            let ids = [Some(id), snapshot.original.as_ref()];
            ids.into_iter().flatten().any(|id| id.to_string().starts_with(digits))
        }
    }
}

/// Summing up the files of a snapshot takes a walk through all its folders.
pub(super) fn may_hold_files(wanted: &Wanted, snapshot: &Snapshot) -> bool {
    !matches!(wanted, Wanted::Place(place) if *place != paths(snapshot))
}

fn paths(snapshot: &Snapshot) -> String {
    if snapshot.paths.is_empty() { "files".to_owned() } else { snapshot.paths.join(", ") }
}

pub(super) fn damaged_list(id: &Id, problem: &dyn std::error::Error) -> RepositoryError {
    as_repository_error(ReadError::new(
        ReadErrorKind::Damaged,
        format!("{} of snapshot {}", lines::FILE, id.short()),
        problem.to_string(),
    ))
}

fn failed_then(database: &str, error: Option<&str>, lost: bool) -> RepositoryError {
    let (kind, what) = match lost {
        true => (RepositoryErrorKind::Damaged, "what it held is lost"),
        false => (RepositoryErrorKind::NoBackup, "that run did not back it up"),
    };
    let message = format!("{what}: {}", error.unwrap_or("no reason was kept"));
    RepositoryError::new(kind, database, message)
}

pub(super) fn foreign_tags(snapshot: &Snapshot) -> Vec<String> {
    let ours = |tag: &String| {
        tag.split_once('=')
            .is_some_and(|(key, _)| ["target", "plan", names::ONLY, names::SELECTION].contains(&key))
    };
    snapshot.tags.iter().filter(|tag| !ours(tag)).cloned().collect()
}

/// A snapshot that stock restic wrote, as one backup of files.
pub(super) fn foreign(id: &Id, snapshot: &Snapshot, size_bytes: u64, said: &Said) -> Option<BackupRecord> {
    let paths = paths(snapshot);
    let last = paths.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("files").to_owned();
    let proof = said
        .proofs
        .get(&snapshot.tree)
        .and_then(|(time, level)| Some(Proof { level: (*level)?, time: *time }));
    // JSON can hold a NUL where no path can: such a snapshot is nobody's, and not listed.
    let (target, database) = (TargetName::new(paths.clone()).ok()?, DatabaseName::new(last).ok()?);
    Some(BackupRecord {
        id: BackupId(id.to_string()),
        snapshot: id.to_string().into(),
        target,
        database,
        host: snapshot.hostname.as_str().into(),
        engine: None,
        connection: paths.into(),
        time: snapshot.time,
        changed: snapshot.time,
        size_bytes,
        added_bytes: 0,
        rows: None,
        selection: None,
        unchanged: false,
        proof,
        tags: snapshot.tags.clone(),
        lost: None,
        original: snapshot.original.as_ref().map(Id::to_string),
        suspect: None,
    })
}

pub(super) fn remark(context: &Context, object: &str, message: &str) {
    context.observer.event(Event::Finding(Finding {
        severity: Severity::Warning,
        object: object.to_owned(),
        message: format!("it cannot be listed: {message}"),
        hint: Some("`backstay check` names what is damaged".to_owned()),
    }));
}
