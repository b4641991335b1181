//! An archive that was read to its end, given as a dump of ours: its table of contents, and the data of each entry, read once
//! more where they lie and held against what the first reading found.
//!
//! Nothing is written. A file that changed in between fails the dump, and whoever stores it keeps nothing of it.

use super::super::archive::{Entry, Section, TableOfContents};
use super::super::digest::ArchivedRows;
use super::super::dump::{TOC_ENTRY, in_parts};
use super::super::given::{Given, GivenPart};
use super::place::Place;
use super::survey::Archived;
use super::{broken, unread};
use flow::{
    Content, Context, DatabaseRef, Dump, Dumped, EntryName, Layout, Manifest, Marks, OpenPart, PartFacts,
    PartReader, Selection, SourceError, SourceErrorKind, Step,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// An archive as a dump.
pub(super) struct Conversion {
    object: String,
    database: DatabaseRef,
    waiting: Mutex<Waiting>,
    given: Arc<Given>,
    context: Context,
}

/// What was not given yet.
struct Waiting {
    pieces: VecDeque<Piece>,
    /// The verdict, until it was given.
    dumped: Option<Dumped>,
}

/// A part: where its data lie, and what they must be.
struct Piece {
    entry: EntryName,
    layout: Layout,
    index: u32,
    place: Place,
    expected: PartFacts,
}

impl Conversion {
    /// Takes an archive that is whole.
    pub(super) fn begin(
        archived: Archived,
        database: &DatabaseRef,
        object: &str,
        context: &Context,
    ) -> Result<Self, SourceError> {
        let (manifest, mut places) = archived.into_places();
        if places.values().any(|place| matches!(place, Place::Inserts { .. })) {
            // A backup of an archive has the bytes of its rows, and these would be others.
            let message = "its rows are INSERT statements";
            return Err(SourceError::new(SourceErrorKind::Unsupported, object, message).with_hint(
                "`pg_restore -f FILE.sql` makes SQL text of it, which can be used here; leave --inserts out of the next dump",
            ));
        }
        let Manifest { mut facts, entries: listed, elapsed_ms, .. } = manifest;
        let (mut entries, mut pieces) = (BTreeMap::new(), Vec::with_capacity(listed.len() + 1));
        for entry in listed {
            let Some(place) = places.remove(&entry.name) else { continue };
            let (name, layout) = (entry.name, entry.layout);
            if name.as_str() == TOC_ENTRY {
                let toc = table_of_contents(&place, object)?;
                facts.selection = selection(&toc);
                for (index, bytes) in (0..).zip(in_parts(&toc, object)?) {
                    let expected = PartFacts { size_bytes: bytes.len() as u64, ..PartFacts::default() };
                    let (entry, place) = (name.clone(), Place::Memory(bytes));
                    pieces.push(Piece { entry, layout, index, place, expected });
                }
                entries.insert(name, (layout, 2));
                continue;
            }
            let part = entry.parts.first();
            let expected = PartFacts {
                size_bytes: entry.size_bytes,
                rows: part.and_then(|part| part.rows),
                digest: part.and_then(|part| part.digest),
            };
            pieces.push(Piece { entry: name.clone(), layout, index: 0, place, expected });
            entries.insert(name, (layout, 1));
        }
        // As they lie, so that the file is read in one direction.
        pieces.sort_by_key(|piece| piece.place.begins_at());
        // By a file nothing is known as unchanged.
        let marks = Marks { read_at: Timestamp::now(), value: serde_json::Value::Null.into() };
        let dumped = Some(Dumped { facts, marks, entries, elapsed_ms });
        Ok(Self {
            object: object.to_owned(),
            database: database.clone(),
            waiting: Mutex::new(Waiting { pieces: pieces.into(), dumped }),
            given: Arc::default(),
            context: context.clone(),
        })
    }

    /// Returns what of a database it holds, as far as it tells.
    pub(super) fn selection(&self) -> Option<Selection> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.dumped.as_ref().and_then(|dumped| dumped.facts.selection.clone())
    }
}

fn table_of_contents(place: &Place, object: &str) -> Result<TableOfContents, SourceError> {
    let mut bytes = place.open().map_err(|error| unread(object, "its table of contents", error))?;
    TableOfContents::read(&mut bytes).map_err(|error| broken(object, error))
}

/// Tells whether an archive holds rows alone, or definitions alone.
fn selection(toc: &TableOfContents) -> Option<Selection> {
    let has_rows = |entry: &Entry| {
        // The rows of a partitioned table are those of its partitions.
        let definition = String::from_utf8_lossy(entry.definition.as_deref().unwrap_or_default());
        entry.is("TABLE") && !definition.contains("\nPARTITION BY ")
    };
    let any = |is: &dyn Fn(&Entry) -> bool| toc.entries.iter().any(is);
    let is_table = |entry: &Entry| entry.is("TABLE");
    let content = if any(&|entry| entry.is("TABLE DATA")) && !any(&is_table) {
        Content::Data
    } else if any(&has_rows) && !any(&|entry| entry.section == Section::Data) {
        Content::Schema
    } else {
        return None;
    };
    Some(Selection { content, tables: vec![], schemas: vec![], exclude_table_data: vec![] })
}

impl Dump for Conversion {
    fn next(&self) -> Result<Option<Step>, SourceError> {
        self.context.cancel.check().map_err(|_| SourceError::cancelled(self.object.as_str()))?;
        let next = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if self.given.failed() {
                waiting.pieces.clear();
            }
            // Known as out before anybody may find that nothing is left.
            waiting.pieces.pop_front().map(|piece| (piece, self.given.begin()))
        };
        if let Some((Piece { entry, layout, index, place, expected }, ticket)) = next {
            let what = entry.to_string();
            let reader = match place.open() {
                Ok(bytes) => {
                    let rows = expected.rows.map(|_| ArchivedRows::default());
                    let (object, found) = (self.object.clone(), 0);
                    Box::new(Reading { bytes, object, what, expected, rows, found })
                }
                Err(error) => {
                    let error = unread(&self.object, &what, error);
                    ticket.fail(&error);
                    return Err(error);
                }
            };
            let reader = Box::new(GivenPart::new(reader, ticket));
            let database = self.database.clone();
            return Ok(Some(Step::Part(OpenPart { database, entry, layout, index, reader })));
        }
        let failure = self.given.wait(&self.context.cancel, &self.object)?;
        let dumped = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).dumped.take();
        let verdict = dumped.map(|dumped| failure.map_or(Ok(dumped), Err));
        Ok(verdict.map(|verdict| Step::Done(self.database.clone(), verdict)))
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.dumped.is_none() {
            return Ok(());
        }
        let message = "was not read to its end";
        Err(SourceError::new(SourceErrorKind::Failed, self.object.as_str(), message))
    }
}

/// The data of an entry, read again.
struct Reading {
    bytes: Box<dyn Read + Send>,
    object: String,
    what: String,
    expected: PartFacts,
    rows: Option<ArchivedRows>,
    found: u64,
}

impl PartReader for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        loop {
            match self.bytes.read(buffer) {
                Ok(count) => {
                    self.found += count as u64;
                    if let Some(rows) = &mut self.rows {
                        rows.take(&buffer[..count]);
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(unread(&self.object, &self.what, error)),
            }
        }
    }

    fn finish(mut self: Box<Self>) -> Result<PartFacts, SourceError> {
        let (rows, digest) = self.rows.take().and_then(ArchivedRows::finish).unzip();
        let found = PartFacts { size_bytes: self.found, rows, digest };
        if found == self.expected {
            return Ok(found);
        }
        let message = format!("{} is not what it was when it was read first", self.what);
        Err(SourceError::new(SourceErrorKind::Busy, self.object.as_str(), message)
            .with_hint("the file changed meanwhile: take it again when it is finished"))
    }
}
