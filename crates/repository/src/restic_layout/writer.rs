//! Writes a snapshot: parts as they come, then manifests and folders, then the list of databases, then the snapshot.
//!
//! Nothing is visible before the last of these. A crash leaves packs, and an index of most of them, that no snapshot
//! needs; the next run finds their blobs in the index and uses them.

use super::assemble::{self, Assembled, Entries, File, Parts, StoredPart};
use super::failure::repository_error;
use super::known::Known;
use super::lines::{self, Line, LineOutcome};
use super::names;
use super::opened::ResticRepository;
use super::root;
use crate::{
    Baseline, PartError, RepositoryError, RepositoryErrorKind, SnapshotReport, SnapshotRequest,
    SnapshotWriter, WrittenDatabase,
};
use flow::{
    Context, DatabaseName, DatabaseRef, Dumped, EntryName, Event, Layout, OpenPart, PartReader, PartRef,
    SourceError, SourceErrorKind, Unchanged,
};
use jiff::Timestamp;
use restic::{BlobKind, BlobWriter, Cut, Id, LockGuard, Node, Snapshot, StoredBlob, StreamError, TreeWriter};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A database while its parts come in.
#[derive(Default)]
struct Growing {
    entries: Entries,
    read_bytes: u64,
    added_bytes: u64,
    /// The oldest moment at which a blob that it reuses was last read.
    oldest: Option<Timestamp>,
}

/// A database that is settled.
enum Settled {
    Line(Box<Line>),
    Discarded(Box<Line>),
}

pub(super) struct ResticSnapshotWriter {
    repository: Arc<ResticRepository>,
    request: SnapshotRequest,
    context: Context,
    blobs: Option<BlobWriter>,
    lock: Arc<LockGuard>,
    known: Known,
    /// What is stored anew is read back later than this.
    began: Timestamp,
    growing: Mutex<BTreeMap<DatabaseName, Growing>>,
    under_way: UnderWay,
    settled: Mutex<BTreeMap<DatabaseName, Settled>>,
}

impl ResticSnapshotWriter {
    pub(super) fn new(
        repository: Arc<ResticRepository>,
        request: SnapshotRequest,
        context: Context,
        blobs: BlobWriter,
        lock: Arc<LockGuard>,
        known: Known,
    ) -> Self {
        Self {
            repository,
            request,
            context,
            blobs: Some(blobs),
            lock,
            known,
            began: Timestamp::now(),
            growing: Mutex::default(),
            under_way: UnderWay::default(),
            settled: Mutex::default(),
        }
    }

    fn blobs(&self) -> Result<&BlobWriter, RepositoryError> {
        self.blobs.as_ref().ok_or_else(|| {
            RepositoryError::new(
                RepositoryErrorKind::Invalid,
                self.repository.location_text(),
                "is committed already",
            )
        })
    }

    fn invalid(&self, database: &DatabaseRef, message: impl Into<String>) -> RepositoryError {
        RepositoryError::new(RepositoryErrorKind::Invalid, database.to_string(), message)
    }

    /// Reads a part to its end, stores it, and asks the producer for its verdict.
    fn store(
        &self,
        database: &DatabaseRef,
        mut reader: Box<dyn PartReader>,
        layout: Layout,
    ) -> Result<(StoredPart, Vec<StoredBlob>), PartError> {
        let cut = match layout {
            Layout::Pages { cut_bytes, .. } => Cut::Fixed { bytes: cut_bytes },
            Layout::Rows | Layout::Opaque => Cut::ContentDefined,
        };
        let mut read = |buffer: &mut [u8]| {
            if self.context.cancel.is_cancelled() {
                return Err(SourceError::cancelled(database.connection.clone()));
            }
            let count = reader.read(buffer)?;
            self.context.observer.event(Event::Bytes(count as u64));
            Ok(count)
        };
        let stored = self.blobs()?.write_stream(&mut read, &cut).map_err(|error| match error {
            StreamError::Read(error) => PartError::Source(error),
            StreamError::Write(error) => PartError::Write(repository_error(error)),
        })?;
        let facts = reader.finish()?;
        let size_bytes = stored.iter().map(|blob| blob.length).sum();
        if facts.size_bytes != size_bytes {
            return Err(SourceError::new(
                SourceErrorKind::Failed,
                database.connection.clone(),
                format!("a part was to have {} bytes, {size_bytes} came", facts.size_bytes),
            )
            .into());
        }
        let part = StoredPart {
            size_bytes,
            blobs: stored.iter().map(|blob| blob.id).collect(),
            rows: facts.rows,
            digest: facts.digest,
        };
        Ok((part, stored))
    }

    /// Puts a part in its place; the same index again replaces the earlier one.
    fn place(
        &self,
        database: &DatabaseRef,
        entry: &EntryName,
        layout: Layout,
        index: u32,
        part: StoredPart,
        account: impl FnOnce(&mut Growing),
    ) -> Result<(), RepositoryError> {
        let mut growing = lock(&self.growing);
        let database_growing = growing.entry(database.name.clone()).or_default();
        account(database_growing);
        let (first, parts) =
            database_growing.entries.entry(entry.clone()).or_insert_with(|| (layout, Parts::default()));
        if *first != layout {
            return Err(self.invalid(database, format!("the parts of entry {entry} differ in their layout")));
        }
        parts.insert(index, part);
        Ok(())
    }

    /// Returns when the oldest of the blobs that were there before was last read, or `None` where all are new.
    fn oldest_proof(&self, database: &DatabaseRef, stored: &[StoredBlob]) -> Option<Timestamp> {
        let indexed = stored.iter().filter(|blob| blob.indexed);
        indexed.map(|blob| self.known.last_read(&self.repository, &database.name, &blob.id)).min()
    }

    fn settle(&self, database: &DatabaseRef, settled: Settled) -> Result<(), RepositoryError> {
        let before = lock(&self.settled).insert(database.name.clone(), settled);
        if matches!(before, Some(Settled::Line(_))) {
            return Err(self.invalid(database, "it was settled twice"));
        }
        Ok(())
    }

    fn line(&self, database: &DatabaseRef, dumped: &Dumped) -> Line {
        Line {
            schema: lines::SCHEMA.to_owned(),
            target: database.target.clone(),
            database: database.name.clone(),
            connection: database.connection.clone(),
            engine: Some(dumped.facts.engine),
            subtree: None,
            outcome: LineOutcome::Complete,
            error: None,
            time: dumped.facts.consistency.time,
            changed: dumped.facts.consistency.time,
            marks: Some(dumped.marks.clone()),
            size_bytes: 0,
            read_bytes: 0,
            added_bytes: 0,
            rows: dumped.facts.rows(),
            elapsed_ms: dumped.elapsed_ms,
            proof_time: self.began,
            lost: false,
            suspect: None,
            selection: self.request.selection.clone().map(Box::new),
        }
    }

    /// Stores a small file and returns what is in its folder of it, with what it added.
    fn save_file(&self, content: &[u8]) -> Result<(File, u64), RepositoryError> {
        let mut rest = content;
        let mut read = |buffer: &mut [u8]| -> Result<usize, RepositoryError> {
            let count = rest.len().min(buffer.len());
            let (now, later) = rest.split_at(count);
            if let Some(front) = buffer.get_mut(..count) {
                front.copy_from_slice(now);
            }
            rest = later;
            Ok(count)
        };
        let stored =
            self.blobs()?.write_stream(&mut read, &Cut::ContentDefined).map_err(|error| match error {
                StreamError::Read(error) => error,
                StreamError::Write(error) => repository_error(error),
            })?;
        let added = stored.iter().map(|blob| blob.added_bytes).sum();
        let blobs = stored.iter().map(|blob| blob.id).collect();
        Ok((File { size_bytes: content.len() as u64, blobs }, added))
    }

    /// Stores a folder with all below it.
    fn save_tree(&self, assembled: Assembled, time: Timestamp) -> Result<(Id, u64), RepositoryError> {
        let mut added = 0;
        let mut folders = Vec::with_capacity(assembled.folders.len());
        for (name, below) in assembled.folders {
            let (id, more) = self.save_tree(below, time)?;
            added += more;
            folders.push(Node::dir(name, time, id));
        }
        let mut tree = TreeWriter::default();
        let mut folders = folders.into_iter().peekable();
        for (name, file) in assembled.files {
            while let Some(folder) = folders.next_if(|folder| folder.name < name) {
                tree.add(&folder).map_err(repository_error)?;
            }
            tree.add(&Node::file(name, time, file.size_bytes, file.blobs)).map_err(repository_error)?;
        }
        for folder in folders {
            tree.add(&folder).map_err(repository_error)?;
        }
        let stored = self.blobs()?.save_blob(BlobKind::Tree, tree.finish()).map_err(repository_error)?;
        Ok((stored.id, added + stored.added_bytes))
    }

    /// Writes the root folder and returns it.
    fn save_root(&self, lines: &[Line]) -> Result<Id, RepositoryError> {
        let folders = root::folders(lines);
        root::save(self.blobs()?, &self.request.target, self.request.time, lines, folders)
    }

    fn snapshot(&self, root: Id) -> Snapshot {
        let request = &self.request;
        let mut snapshot = Snapshot::new(request.time, root);
        snapshot.paths = vec![format!("/{}", names::encode(request.target.as_str()))];
        snapshot.hostname = request.host.clone();
        snapshot.username = request.user.clone();
        snapshot.tags = vec![names::tag("target", request.target.as_str())];
        snapshot.tags.extend(request.plan.iter().map(|plan| names::tag("plan", plan)));
        snapshot.tags.extend(request.only.iter().map(|only| names::tag(names::ONLY, only.as_str())));
        let selection = request.selection.as_ref();
        snapshot.tags.extend(selection.map(|part| names::tag(names::SELECTION, &part.to_string())));
        snapshot.tags.extend(request.tags.iter().cloned());
        snapshot
    }

    fn report(&self, snapshot: &Id, lines: Vec<Line>, added_bytes: u64) -> SnapshotReport {
        let alone = lines.len() == 1;
        let complete = lines.into_iter().filter(|line| line.outcome == LineOutcome::Complete);
        let databases = complete
            .map(|line| WrittenDatabase {
                read_bytes: line.read_bytes,
                elapsed_ms: line.elapsed_ms,
                record: line.record(snapshot, alone, &self.request.host, self.request.tags.clone()),
            })
            .collect();
        SnapshotReport { snapshot: snapshot.to_string(), databases, added_bytes }
    }
}

/// How many parts of each database are on their way to their place.
#[derive(Default)]
struct UnderWay {
    counts: Mutex<BTreeMap<DatabaseName, usize>>,
    over: Condvar,
}

impl UnderWay {
    /// Notes a part, until what is returned is dropped.
    fn begin(&self, database: &DatabaseRef) -> OnePart<'_> {
        *lock(&self.counts).entry(database.name.clone()).or_default() += 1;
        OnePart { all: self, database: database.name.clone() }
    }

    /// Waits until no part of a database is on its way.
    fn wait(&self, database: &DatabaseRef) {
        let counts = lock(&self.counts);
        let on_its_way = |counts: &mut BTreeMap<DatabaseName, usize>| counts.contains_key(&database.name);
        drop(self.over.wait_while(counts, on_its_way).unwrap_or_else(PoisonError::into_inner));
    }
}

struct OnePart<'a> {
    all: &'a UnderWay,
    database: DatabaseName,
}

impl Drop for OnePart<'_> {
    fn drop(&mut self) {
        let mut counts = lock(&self.all.counts);
        match counts.get_mut(&self.database) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.database)),
        }
        drop(counts);
        self.all.over.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SnapshotWriter for ResticSnapshotWriter {
    fn part(&self, part: OpenPart) -> Result<(), PartError> {
        let OpenPart { database, entry, layout, index, reader } = part;
        let _under_way = self.under_way.begin(&database);
        let (stored, blobs) = self.store(&database, reader, layout)?;
        let oldest = self.oldest_proof(&database, &blobs);
        let size_bytes = stored.size_bytes;
        let added: u64 = blobs.iter().map(|blob| blob.added_bytes).sum();
        self.place(&database, &entry, layout, index, stored, |growing| {
            growing.read_bytes += size_bytes;
            growing.added_bytes += added;
            growing.oldest = growing.oldest.into_iter().chain(oldest).min();
        })?;
        Ok(())
    }

    fn reuse(&self, part: PartRef) -> Result<(), RepositoryError> {
        let database = &part.database;
        let (stored, proof_time) = self.known.previous_part(&self.repository, &part, &self.context)?;
        self.place(database, &part.entry, part.layout, part.index, stored, |growing| {
            growing.oldest = growing.oldest.into_iter().chain([proof_time]).min();
        })
    }

    fn unchanged(&self, database: &DatabaseRef, unchanged: Unchanged) -> Result<(), RepositoryError> {
        let previous = self.known.previous_line(database)?;
        let line = Line {
            target: database.target.clone(),
            connection: database.connection.clone(),
            marks: Some(unchanged.marks),
            // The content is that of the earlier run; this run vouches that it is still the content at this moment.
            time: previous.changed.max(self.request.time),
            read_bytes: 0,
            added_bytes: 0,
            elapsed_ms: unchanged.elapsed_ms,
            proof_time: self.known.proof_time(previous),
            suspect: self.known.suspicion(previous),
            ..previous.clone()
        };
        self.settle(database, Settled::Line(Box::new(line)))
    }

    fn done(&self, database: &DatabaseRef, dumped: Dumped) -> Result<(), RepositoryError> {
        // A part whose reader was finished by another worker may not be in its place yet, however slow the repository is.
        self.under_way.wait(database);
        let growing = lock(&self.growing).remove(&database.name).unwrap_or_default();
        let time = dumped.facts.consistency.time;
        let mut line = self.line(database, &dumped);
        let (mut assembled, manifest) = assemble::assemble(database, dumped, growing.entries)?;
        line.size_bytes = manifest.entries.iter().map(|entry| entry.size_bytes).sum();
        let json = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| self.invalid(database, format!("its manifest cannot be written: {error}")))?;
        // Of very many entries each of these takes much memory.
        drop(manifest);
        let (file, manifest_added) = self.save_file(&json)?;
        drop(json);
        assembled.files.insert(super::reader::MANIFEST_FILE.to_owned(), file);
        let (subtree, tree_added) = self.save_tree(assembled, time)?;
        line.subtree = Some(subtree);
        line.read_bytes = growing.read_bytes;
        line.added_bytes = growing.added_bytes + manifest_added + tree_added;
        line.proof_time = growing.oldest.unwrap_or(self.began).min(self.began);
        self.known.release(&database.name);
        self.settle(database, Settled::Line(Box::new(line)))
    }

    fn baseline(&self, database: &DatabaseRef) -> Result<Option<Baseline>, RepositoryError> {
        self.known.baseline(&self.repository, &self.request, &database.name)
    }

    fn suspect(&self, database: &DatabaseRef, reasons: Vec<String>) -> Result<(), RepositoryError> {
        match lock(&self.settled).get_mut(&database.name) {
            Some(Settled::Line(line)) => {
                line.suspect = Some(reasons).filter(|reasons| !reasons.is_empty());
                Ok(())
            }
            _ => Err(self.invalid(database, "it is said to be suspect, and is not done")),
        }
    }

    fn discard(&self, database: &DatabaseRef, reason: &str) {
        lock(&self.growing).remove(&database.name);
        let line = Line {
            schema: lines::SCHEMA.to_owned(),
            target: self.request.target.clone(),
            database: database.name.clone(),
            connection: database.connection.clone(),
            engine: None,
            subtree: None,
            outcome: LineOutcome::Failed,
            error: Some(reason.to_owned()),
            time: self.request.time,
            changed: self.request.time,
            marks: None,
            size_bytes: 0,
            read_bytes: 0,
            added_bytes: 0,
            rows: None,
            elapsed_ms: 0,
            proof_time: self.began,
            lost: false,
            suspect: None,
            selection: self.request.selection.clone().map(Box::new),
        };
        lock(&self.settled).insert(database.name.clone(), Settled::Discarded(Box::new(line)));
    }

    fn entry_bytes(&self, database: &DatabaseRef, entry: &EntryName) -> u64 {
        let growing = lock(&self.growing);
        let parts = growing.get(&database.name).and_then(|growing| growing.entries.get(entry));
        parts.map_or(0, |(_, parts)| parts.size_bytes())
    }

    fn commit(mut self: Box<Self>) -> Result<SnapshotReport, RepositoryError> {
        let location = self.repository.location_text();
        if let Some(name) = lock(&self.growing).keys().next() {
            let message = format!("parts of {name} were stored and it was neither done nor discarded");
            return Err(RepositoryError::new(RepositoryErrorKind::Invalid, location, message));
        }
        let settled = std::mem::take(&mut *lock(&self.settled));
        if !settled.values().any(|settled| matches!(settled, Settled::Line(_))) {
            return Err(RepositoryError::new(
                RepositoryErrorKind::Invalid,
                location,
                "the snapshot has no database",
            ));
        }
        let lines: Vec<Line> = settled
            .into_values()
            .map(|settled| match settled {
                Settled::Line(line) | Settled::Discarded(line) => *line,
            })
            .collect();
        // The lists of thousands of databases need memory, and packs no more.
        self.blobs()?.release_buffers();
        let root = self.save_root(&lines)?;
        let Some(blobs) = self.blobs.take() else {
            return Err(RepositoryError::new(RepositoryErrorKind::Invalid, location, "is committed already"));
        };
        let written = blobs.finish().map_err(repository_error)?;
        if self.context.cancel.is_cancelled() {
            return Err(RepositoryError::new(RepositoryErrorKind::Cancelled, location, "interrupted"));
        }
        // Had our lock gone, another client might have pruned what this snapshot reuses.
        self.lock.ensure_fresh().map_err(repository_error)?;
        let id = self.repository.restic().save_snapshot(&self.snapshot(root)).map_err(repository_error)?;
        self.repository.forget_index();
        Ok(self.report(&id, lines, written.added_bytes))
    }
}
