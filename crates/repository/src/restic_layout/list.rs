//! Which backups there are: of each snapshot its list of databases, read once.
//!
//! A snapshot that cannot be read hides no other: it is named in a remark and passed over.

use super::failure::repository_error;
use super::lines::{Line, LineOutcome};
use super::memo::Lines;
use super::names;
use super::opened::ResticRepository;
use super::state;
use crate::{
    BackupId, BackupRecord, Proof, ProofLevel, RepositoryError, RepositoryErrorKind, State, Unlisted,
};
use flow::{Context, DatabaseName, Event, Finding, Severity, TargetName};
use jiff::Timestamp;
use restic::{Id, NodeKind, ResticErrorKind, Snapshot};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

/// One snapshot with its lines.
pub(super) struct Listed {
    pub(super) id: Id,
    pub(super) snapshot: Snapshot,
    pub(super) lines: Lines,
    size_bytes: u64,
}

/// What the newest verification said of each folder: when, and how far it was proven; `None` for damaged. It holds for
/// each backup that has the same folder: they are the same blobs. So does an acceptance.
#[derive(Default)]
pub(super) struct Said {
    proofs: HashMap<Id, (Timestamp, Option<ProofLevel>)>,
    accepted: HashSet<Id>,
}

impl Said {
    /// The run's own proof, unless a later verification says more, or found damage.
    pub(super) fn proof(&self, line: &Line) -> Option<Proof> {
        let own = Proof { level: ProofLevel::Stored, time: line.proof_time };
        match line.subtree.and_then(|subtree| self.proofs.get(&subtree)) {
            Some((time, level)) if *time >= line.proof_time => {
                level.map(|level| Proof { level: level.max(own.level), time: *time })
            }
            _ => Some(own),
        }
    }

    /// Why a backup is suspect, unless somebody accepted what it holds.
    pub(super) fn suspicion(&self, line: &Line) -> Option<Vec<String>> {
        let accepted = line.subtree.is_some_and(|subtree| self.accepted.contains(&subtree));
        line.suspect.clone().filter(|_| !accepted)
    }
}

/// The snapshots of a listing, oldest first.
pub(super) struct ListedSnapshots(pub(super) Vec<Listed>);

impl ResticRepository {
    /// Returns the ids of the stored snapshots.
    fn stored(&self) -> Result<Vec<Id>, RepositoryError> {
        let stored = self.restic().storage().list("snapshots").map_err(|error| {
            let object = format!("snapshots of {}", self.location_text());
            RepositoryError::new(RepositoryErrorKind::Failed, object, error.to_string()).with_source(error)
        })?;
        let id = |name: &str| name.rsplit('/').next().and_then(|name| name.parse::<Id>().ok());
        Ok(stored.iter().filter_map(|object| id(object.name.as_str())).collect())
    }

    /// Returns the snapshots that [`Self::listed`] has to leave out.
    pub(super) fn unlisted(&self, context: &Context) -> Result<Vec<Unlisted>, RepositoryError> {
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
                Some(snapshot) if state::is_state(snapshot) => {}
                Some(snapshot) => match self.lines(&id, snapshot, &silent) {
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
                // One that is gone by now was removed by somebody, which is no damage.
                None => match self.restic().snapshot(&id) {
                    Err(error) if error.kind != ResticErrorKind::Missing => {
                        unlisted.push(left_out(error.to_string()));
                    }
                    _ => {}
                },
            }
        }
        Ok(unlisted)
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

    /// Loads the snapshots of backups, of one target or of all.
    pub(super) fn listed(
        &self,
        target: Option<&TargetName>,
        context: &Context,
    ) -> Result<ListedSnapshots, RepositoryError> {
        let mut listed = Vec::new();
        for (id, snapshot) in self.snapshots(context)? {
            let of_target = names::tag_value(&snapshot.tags, "target");
            let wanted = target.is_none_or(|target| of_target.as_deref() == Some(target.as_str()));
            if state::is_state(&snapshot) || !wanted {
                continue;
            }
            match self.lines(&id, &snapshot, context) {
                Ok(lines) => {
                    let size_bytes = match lines {
                        Some(_) => 0,
                        None => self.size(&snapshot.tree, context),
                    };
                    listed.push(Listed { id, snapshot, lines, size_bytes });
                }
                Err(error) if error.kind == RepositoryErrorKind::Cancelled => return Err(error),
                Err(error) => remark(context, &format!("snapshot {id}"), &error.to_string()),
            }
        }
        Ok(ListedSnapshots(listed))
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
        let lines = if names::tag_value(&snapshot.tags, "target").is_some() {
            let source = self.source(context)?;
            source.read_lines(&snapshot.tree).map_err(super::reader::as_repository_error)?.map(Arc::new)
        } else {
            None
        };
        self.memo().lines.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, lines.clone());
        Ok(lines)
    }

    /// Sums up the files of a folder. A folder that cannot be read counts as empty: its damage is told elsewhere.
    fn size(&self, tree: &Id, context: &Context) -> u64 {
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
        let of = |line: &Line| Ok((self.subtree_of(line)?, Some(line.proof_time)));
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
        match (self.lines(&parsed, &snapshot, context)?, database) {
            (None, _) => Ok((snapshot.tree, None)),
            (Some(lines), None) if lines.len() == 1 => lines.first().map_or_else(|| Err(none()), of),
            (Some(lines), Some(database)) => {
                of(lines.iter().find(|line| line.database.as_str() == database).ok_or_else(none)?)
            }
            (Some(_), None) => Err(none()),
        }
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
        let failed = || {
            RepositoryError::new(
                RepositoryErrorKind::NoBackup,
                format!("{} of {}", line.database, line.target),
                format!(
                    "that run did not back it up: {}",
                    line.error.as_deref().unwrap_or("no reason was kept")
                ),
            )
        };
        line.subtree.filter(|_| line.outcome == LineOutcome::Complete).ok_or_else(failed)
    }
}

impl ListedSnapshots {
    /// Returns the records, with what later verifications said.
    pub(super) fn records(&self, said: &Said) -> Vec<BackupRecord> {
        let mut records = Vec::new();
        for listed in &self.0 {
            let Some(lines) = &listed.lines else {
                records.extend(foreign(listed, said));
                continue;
            };
            let tags: Vec<String> = foreign_tags(&listed.snapshot);
            for line in lines.iter().filter(|line| line.outcome == LineOutcome::Complete) {
                let alone = lines.len() == 1;
                let mut record = line.record(&listed.id, alone, &listed.snapshot.hostname, tags.clone());
                record.proof = said.proof(line);
                record.suspect = said.suspicion(line);
                records.push(record);
            }
        }
        records.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
        records
    }

    /// Returns the ids of the backups of a snapshot, with their folders.
    pub(super) fn backups_of(&self, snapshot: &Id) -> Vec<(BackupId, Id)> {
        let Some(listed) = self.0.iter().find(|listed| listed.id == *snapshot) else { return vec![] };
        match &listed.lines {
            None => vec![(BackupId(snapshot.to_string()), listed.snapshot.tree)],
            Some(lines) => {
                let id = |line: &Line| line.record(snapshot, lines.len() == 1, "", vec![]).id;
                lines.iter().filter_map(|line| Some((id(line), line.subtree?))).collect()
            }
        }
    }
}

fn foreign_tags(snapshot: &Snapshot) -> Vec<String> {
    let ours = |tag: &String| {
        tag.split_once('=').is_some_and(|(key, _)| ["target", "plan", names::ONLY].contains(&key))
    };
    snapshot.tags.iter().filter(|tag| !ours(tag)).cloned().collect()
}

/// A snapshot that stock restic wrote, as one backup of files.
fn foreign(listed: &Listed, said: &Said) -> Option<BackupRecord> {
    let snapshot = &listed.snapshot;
    let id = BackupId(listed.id.to_string());
    let paths = if snapshot.paths.is_empty() { "files".to_owned() } else { snapshot.paths.join(", ") };
    let last = paths.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("files").to_owned();
    let proof = said
        .proofs
        .get(&snapshot.tree)
        .and_then(|(time, level)| Some(Proof { level: (*level)?, time: *time }));
    // JSON can hold a NUL where no path can: such a snapshot is nobody's, and not listed.
    let (target, database) = (TargetName::new(paths.clone()).ok()?, DatabaseName::new(last).ok()?);
    Some(BackupRecord {
        snapshot: listed.id.to_string(),
        id,
        target,
        database,
        host: snapshot.hostname.clone(),
        engine: None,
        connection: paths,
        time: snapshot.time,
        changed: snapshot.time,
        size_bytes: listed.size_bytes,
        added_bytes: 0,
        rows: None,
        unchanged: false,
        proof,
        tags: snapshot.tags.clone(),
        suspect: None,
    })
}

fn remark(context: &Context, object: &str, message: &str) {
    context.observer.event(Event::Finding(Finding {
        severity: Severity::Warning,
        object: object.to_owned(),
        message: format!("it cannot be listed: {message}"),
        hint: Some("`backstay check` names what is damaged".to_owned()),
    }));
}
