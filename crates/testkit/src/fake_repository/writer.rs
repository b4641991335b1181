//! Writing a snapshot of the repository in memory: parts are kept until `commit`, and checked at `done`.

use super::{FakeRepository, RepositoryFlaw as Flaw, Run, Stored, changed};
use crate::memory_backup::MemoryBackup;
use flow::{
    BackupReader, DatabaseName, DatabaseRef, Dumped, EntryName, OpenPart, PartFacts, PartRef, Unchanged,
};
use repository::{
    BackupId, BackupRecord, Baseline, PartError, Proof, ProofLevel, RepositoryError, RepositoryErrorKind,
    SnapshotReport, SnapshotRequest, SnapshotWriter, WrittenDatabase,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Part = (u32, Vec<u8>, PartFacts);

enum Outcome {
    Done(Box<(DatabaseRef, Dumped)>),
    Unchanged(Box<(DatabaseRef, Unchanged)>),
    Discarded,
}

#[derive(Default)]
struct Written {
    /// The parts in the order in which they arrived.
    parts: BTreeMap<EntryName, Vec<Part>>,
    broken: bool,
    outcome: Option<Outcome>,
    suspect: Option<Vec<String>>,
}

type Databases = BTreeMap<DatabaseName, Written>;

pub(super) struct FakeWriter {
    repository: FakeRepository,
    request: SnapshotRequest,
    databases: Mutex<Databases>,
}

fn invalid(object: impl ToString, message: &str) -> RepositoryError {
    RepositoryError::new(RepositoryErrorKind::Invalid, object.to_string(), message)
}

impl FakeWriter {
    pub(super) fn new(repository: FakeRepository, request: SnapshotRequest) -> Self {
        Self { repository, request, databases: Mutex::default() }
    }

    fn databases(&self) -> MutexGuard<'_, Databases> {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.repository.0.has(flaw)
    }

    fn store(&self, database: &DatabaseName, entry: &EntryName, part: Part) {
        let mut databases = self.databases();
        let parts = databases.entry(database.clone()).or_default().parts.entry(entry.clone()).or_default();
        match parts.iter_mut().find(|(index, ..)| *index == part.0) {
            Some(_) if self.has(Flaw::KeepsFirstOfPart) => {}
            Some(place) => *place = part,
            None => parts.push(part),
        }
    }

    /// Tells whether a backup holds the part of its database that this run is of.
    fn same_part(&self, record: &BackupRecord) -> bool {
        record.selection.as_deref() == self.request.selection.as_ref() || self.has(Flaw::SelectionIsWhole)
    }

    fn previous(&self, database: &DatabaseName) -> Result<Stored, RepositoryError> {
        let state = self.repository.0.state();
        let mine = |stored: &&Stored| {
            let record = &stored.record;
            record.target == self.request.target
                && record.database == *database
                && record.host == self.request.host
                && self.same_part(record)
        };
        let found = state.stored.iter().rfind(mine).cloned();
        found.ok_or_else(|| invalid(database, "it has no previous backup"))
    }

    /// Compares what was stored with what the engine told.
    fn check(
        &self,
        written: &Written,
        database: &DatabaseRef,
        dumped: &Dumped,
    ) -> Result<(), RepositoryError> {
        if written.broken && !self.has(Flaw::HidesSourceErrors) {
            return Err(invalid(database, "one of its parts failed"));
        }
        for (entry, (_, count)) in &dumped.entries {
            let parts = written.parts.get(entry).map_or(&[][..], Vec::as_slice);
            let there = |index: u32| parts.iter().any(|(found, ..)| *found == index);
            if !(0..*count).all(there) && !self.has(Flaw::AcceptsGaps) {
                return Err(invalid(database, "a part is missing"));
            }
            if parts.iter().any(|(index, ..)| index >= count) && !self.has(Flaw::AcceptsSurplus) {
                return Err(invalid(database, "there is a part too many"));
            }
        }
        if written.parts.keys().any(|entry| !dumped.entries.contains_key(entry))
            && !self.has(Flaw::AcceptsSurplus)
        {
            return Err(invalid(database, "there is an entry too many"));
        }
        Ok(())
    }

    fn stored(
        &self,
        snapshot: &str,
        written: Written,
        single: bool,
    ) -> Result<Option<Stored>, RepositoryError> {
        let (unchanged, (database, dumped)) = match written.outcome {
            Some(Outcome::Done(outcome)) => (false, *outcome),
            Some(Outcome::Unchanged(outcome)) => (true, self.as_before(*outcome)?),
            _ => return Ok(None),
        };
        let previous = self.previous(&database.name).ok();
        let id = if single || self.has(Flaw::PlainIds) {
            snapshot.to_owned()
        } else {
            format!("{snapshot}:{}", database.name)
        };
        let backup = match (&previous, unchanged && !self.has(Flaw::ForgetsUnchanged)) {
            (Some(previous), true) => (*previous.backup).clone(),
            _ => self.assemble(&database, &dumped, written.parts),
        };
        let inherited = previous.as_ref().filter(|_| unchanged && !self.has(Flaw::ClearsSuspicion));
        let suspect = match inherited {
            Some(previous) => {
                let accepted = self.repository.0.state().accepted(&previous.record);
                previous.record.suspect.clone().filter(|_| !accepted)
            }
            None => written.suspect,
        };
        let time = self.request.time;
        let size_bytes = backup.manifest().entries.iter().map(|entry| entry.size_bytes).sum();
        let keeps_time = unchanged && !self.has(Flaw::ForgetsChangedTime);
        let record = BackupRecord {
            id: BackupId(id),
            snapshot: snapshot.into(),
            target: self.request.target.clone(),
            database: database.name.clone(),
            host: self.request.host.as_str().into(),
            engine: Some(dumped.facts.engine),
            connection: database.connection.as_str().into(),
            time,
            changed: changed(previous.as_ref(), keeps_time, time),
            size_bytes,
            added_bytes: if unchanged { 0 } else { size_bytes },
            rows: dumped.facts.rows(),
            selection: self.request.selection.clone().map(Box::new),
            unchanged,
            proof: Some(Proof { level: ProofLevel::Stored, time }),
            tags: self.request.tags.clone(),
            lost: None,
            original: None,
            suspect,
        };
        let old = previous.filter(|_| self.has(Flaw::KeepsOldMarks)).map(|previous| previous.marks);
        let (marks, plan) = (old.unwrap_or(dumped.marks), self.request.plan.clone());
        Ok(Some(Stored { record, backup: backup.into(), marks, plan }))
    }

    /// Returns what a dump of the same content would have given.
    fn as_before(
        &self,
        (database, unchanged): (DatabaseRef, Unchanged),
    ) -> Result<(DatabaseRef, Dumped), RepositoryError> {
        let facts = self.previous(&database.name)?.backup.manifest().facts.clone();
        let Unchanged { marks, elapsed_ms } = unchanged;
        Ok((database, Dumped { facts, marks, entries: BTreeMap::new(), elapsed_ms }))
    }

    fn assemble(
        &self,
        database: &DatabaseRef,
        dumped: &Dumped,
        parts: BTreeMap<EntryName, Vec<Part>>,
    ) -> MemoryBackup {
        let joined = parts.into_iter().map(|(entry, mut parts)| {
            if !self.has(Flaw::JoinsInArrivalOrder) {
                parts.sort_by_key(|(index, ..)| *index);
            }
            if self.has(Flaw::GarblesContent) {
                parts.iter_mut().filter_map(|part| part.1.last_mut()).for_each(|byte| *byte ^= 1);
            }
            (entry, parts.into_iter().map(|(_, bytes, facts)| (bytes, facts)).collect())
        });
        MemoryBackup::new(database, dumped, &joined.collect())
    }

    fn broken(&self, database: &DatabaseName) {
        self.databases().entry(database.clone()).or_default().broken = true;
    }
}

impl SnapshotWriter for FakeWriter {
    fn part(&self, mut part: OpenPart) -> Result<(), PartError> {
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 65_536]);
        let facts = loop {
            match part.reader.read(&mut buffer) {
                Ok(0) => break part.reader.finish(),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) => break Err(error),
            }
        };
        let name = &part.database.name;
        let facts = match facts {
            Ok(facts) => facts,
            Err(_) if self.has(Flaw::HidesSourceErrors) => PartFacts::default(),
            Err(error) => {
                self.broken(name);
                return Err(error.into());
            }
        };
        if facts.size_bytes != bytes.len() as u64
            && !self.has(Flaw::AcceptsOtherSizes)
            && !self.has(Flaw::HidesSourceErrors)
        {
            self.broken(name);
        }
        self.store(name, &part.entry, (part.index, bytes, facts));
        if self.has(Flaw::VisibleBeforeCommit) {
            let dumped = crate::fake_dump::DatabaseScript {
                database: part.database.clone(),
                acts: Vec::new(),
                fails: None,
                version: 0,
            };
            let outcome = Some(Outcome::Done(Box::new((part.database, dumped.dumped()))));
            let written = Written { outcome, ..Written::default() };
            if let Some(stored) = self.stored("early", written, true)? {
                self.repository.0.state().stored.push(stored);
            }
        }
        Ok(())
    }

    fn reuse(&self, part: PartRef) -> Result<(), RepositoryError> {
        let previous = self.previous(&part.database.name)?;
        let index = if self.has(Flaw::ReusesByNewPlace) { part.index } else { part.previous_index };
        let missing = || invalid(&part.entry, "the previous backup has no such part");
        let entry = previous.backup.manifest().entry(&part.entry).ok_or_else(missing)?;
        let place = entry.parts.get(index as usize).ok_or_else(missing)?;
        let before: u64 = entry.parts[..index as usize].iter().map(|part| part.size_bytes).sum();
        let content = previous.backup.content(&part.entry).ok_or_else(missing)?;
        let bytes = content[before as usize..(before + place.size_bytes) as usize].to_vec();
        let facts = PartFacts { size_bytes: place.size_bytes, rows: place.rows, digest: place.digest };
        self.store(&part.database.name, &part.entry, (part.index, bytes, facts));
        Ok(())
    }

    fn unchanged(&self, database: &DatabaseRef, unchanged: Unchanged) -> Result<(), RepositoryError> {
        self.previous(&database.name)?;
        let mut databases = self.databases();
        let written = databases.entry(database.name.clone()).or_default();
        written.outcome = Some(Outcome::Unchanged(Box::new((database.clone(), unchanged))));
        Ok(())
    }

    fn done(&self, database: &DatabaseRef, dumped: Dumped) -> Result<(), RepositoryError> {
        let mut databases = self.databases();
        let written = databases.entry(database.name.clone()).or_default();
        self.check(written, database, &dumped)?;
        written.outcome = Some(Outcome::Done(Box::new((database.clone(), dumped))));
        Ok(())
    }

    fn baseline(&self, database: &DatabaseRef) -> Result<Option<Baseline>, RepositoryError> {
        let state = self.repository.0.state();
        let of_this =
            |record: &BackupRecord| record.target == self.request.target && record.host == self.request.host;
        let anywhere = !self.request.target.as_str().starts_with('/')
            && !state.stored.iter().any(|stored| of_this(&stored.record));
        let good = |stored: &&Stored| {
            let record = &stored.record;
            let suspect = record.suspect.is_some() && !state.accepted(record);
            record.target == self.request.target
                && record.database == database.name
                && (anywhere || record.host == self.request.host)
                && self.same_part(record)
                && (!suspect || self.has(Flaw::TrustsSuspect))
        };
        let found = state.stored.iter().rfind(good).map(|stored| Baseline {
            backup: stored.record.id.clone(),
            time: stored.record.time,
            facts: stored.backup.manifest().facts.clone(),
        });
        Ok(found)
    }

    fn suspect(&self, database: &DatabaseRef, reasons: Vec<String>) -> Result<(), RepositoryError> {
        let mut databases = self.databases();
        let written = databases.get_mut(&database.name);
        let written = written.filter(|written| matches!(written.outcome, Some(Outcome::Done(_))));
        let written = written.ok_or_else(|| invalid(database, "it is not done"))?;
        let kept = !reasons.is_empty() && !self.has(Flaw::ForgetsSuspicion);
        written.suspect = kept.then_some(reasons);
        Ok(())
    }

    fn discard(&self, database: &DatabaseRef, _reason: &str) {
        if !self.has(Flaw::KeepsDiscarded) {
            let discarded = Written { outcome: Some(Outcome::Discarded), ..Written::default() };
            self.databases().insert(database.name.clone(), discarded);
        }
    }

    fn entry_bytes(&self, database: &DatabaseRef, entry: &EntryName) -> u64 {
        let databases = self.databases();
        let parts = databases.get(&database.name).and_then(|written| written.parts.get(entry));
        let size_bytes = parts.map_or(0, |parts| parts.iter().map(|part| part.1.len() as u64).sum());
        if self.has(Flaw::CountsNothing) { 0 } else { size_bytes }
    }

    fn commit(self: Box<Self>) -> Result<SnapshotReport, RepositoryError> {
        let databases = std::mem::take(&mut *self.databases());
        let open = databases.iter().find(|(_, written)| written.outcome.is_none());
        if let Some((name, _)) = open.filter(|_| !self.has(Flaw::CommitsUnfinished)) {
            return Err(invalid(name, "nobody said what became of it"));
        }
        let kept =
            |written: &&Written| matches!(written.outcome, Some(Outcome::Done(_) | Outcome::Unchanged(_)));
        let count = databases.values().filter(kept).count();
        if count == 0 && !self.has(Flaw::CommitsNothing) {
            return Err(invalid(&self.request.target, "the snapshot holds no database"));
        }
        let snapshot = {
            let mut state = self.repository.0.state();
            state.snapshots += 1;
            format!("{:08x}", state.snapshots)
        };
        let single = databases.len() == 1;
        self.repository.0.state().runs.push(Run {
            target: self.request.target.clone(),
            host: self.request.host.clone(),
            time: self.request.time,
            only: self.request.only.is_some(),
            selected: self.request.selection.is_some(),
            databases: databases.keys().cloned().collect(),
        });
        let mut report = SnapshotReport { snapshot: snapshot.clone(), databases: Vec::new(), added_bytes: 0 };
        for written in databases.into_values() {
            if let Some(stored) = self.stored(&snapshot, written, single)? {
                let (record, read_bytes) = (stored.record.clone(), stored.record.added_bytes);
                report.added_bytes += record.added_bytes;
                report.databases.push(WrittenDatabase { record, read_bytes, elapsed_ms: 1 });
                self.repository.0.state().stored.push(stored);
            }
        }
        Ok(report)
    }
}
