//! What was found in an archive while it was read to its end: where the data of each entry lie, how long they are, and how
//! many rows there are; and the backup that this makes.

use super::super::archive::{DataPlace, Entry, TableOfContents};
use super::super::contents::VIA_ROOT;
use super::super::digest::{AS_DUMPED, ArchivedRows};
use super::super::needs;
use super::super::script::is_ambiguous;
use super::damaged;
use super::inserts::Inserts;
use super::place::Place;
use flow::{
    BackupReader, ConsistencyPoint, Context, DatabaseRef, Digest128, EngineKind, EntryName, Event, Facts,
    Layout, MANIFEST_SCHEMA, Manifest, ManifestEntry, ManifestPart, ReadError, ReadErrorKind, SchemaObject,
    SourceError, SourceErrorKind, TableFacts,
};
use jiff::Timestamp;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::ops::Range;
use std::time::Instant;

const TOC_ENTRY: &str = "toc.dat";
const BUFFER_BYTES: usize = 256 << 10;
const COPY_END: &[u8] = b" FROM stdin;\n";

/// What was found in an archive.
pub(super) struct Survey {
    /// Its table of contents as it is.
    toc: TableOfContents,
    object: String,
    began: Instant,
    found: BTreeMap<String, Found>,
    /// The entries whose data were found.
    seen: BTreeSet<i32>,
    /// The columns of rows that are `INSERT` statements, by their entries.
    inserted: BTreeMap<i32, Vec<u8>>,
    standard_strings: bool,
    /// The large objects of the list that is being read.
    list: Vec<u8>,
    objects: u64,
}

struct Found {
    place: Place,
    size_bytes: u64,
    rows: Option<(u64, Digest128)>,
}

impl Survey {
    /// Begins with a table of contents. Fails where rows are `INSERT` statements in an encoding whose letters may hold bytes
    /// that mean something else by themselves.
    pub(super) fn begin(toc: TableOfContents, object: &str) -> Result<Self, SourceError> {
        let encoding = encoding(&toc);
        if let Some(entry) = toc.entries.iter().find(|entry| has_inserts(entry))
            && is_ambiguous(&encoding)
        {
            let message = format!("the rows of {} are INSERT statements in {encoding}", shown(entry));
            return Err(SourceError::new(SourceErrorKind::Unsupported, object, message).with_hint(
                "`pg_restore -d DATABASE` loads it; leave --inserts or --encoding out of the next dump",
            ));
        }
        let plain = |entry: &&Entry| {
            let said = entry.definition.as_deref().unwrap_or_default();
            entry.is("STDSTRINGS") && said.windows(3).any(|word| word == b"off")
        };
        let standard_strings = !toc.entries.iter().any(|entry| plain(&entry));
        Ok(Self {
            inserted: BTreeMap::new(),
            standard_strings,
            toc,
            object: object.to_owned(),
            began: Instant::now(),
            found: BTreeMap::new(),
            seen: BTreeSet::new(),
            list: Vec::new(),
            objects: 0,
        })
    }

    pub(super) fn toc(&self) -> &TableOfContents {
        &self.toc
    }

    /// Returns how the data of an entry are called in the backup.
    fn file(&self, dump_id: i32) -> String {
        self.toc.directory_file(dump_id).unwrap_or_default()
    }

    /// Reads the rows of an entry to their end; `place` is where they can be read again.
    pub(super) fn rows(
        &mut self,
        dump_id: i32,
        data: &mut dyn Read,
        place: Place,
        context: &Context,
    ) -> Result<(), SourceError> {
        let entry = self.toc.entry(dump_id);
        let name = entry.map(shown).unwrap_or_default();
        let is_rows = entry.is_some_and(|entry| entry.is("TABLE DATA"));
        if !self.seen.insert(dump_id) {
            return Err(damaged(&self.object, format!("it has the data of {name} twice")));
        }
        if !is_rows {
            let message = format!("it has data for {name}, which is no table");
            return Err(SourceError::new(SourceErrorKind::Unsupported, self.object.as_str(), message)
                .with_hint("`pg_restore -d DATABASE` may load it"));
        }
        let (mut rows, what) = (ArchivedRows::default(), format!("the data of {name}"));
        let (mut size_bytes, mut place) = (0, place);
        if self.toc.entry(dump_id).is_some_and(has_inserts) {
            let standard_strings = self.standard_strings;
            let mut inserts = Inserts::new(data, standard_strings);
            size_bytes += self.pass(&mut inserts, &what, context, |bytes| rows.take(bytes))?;
            self.inserted.insert(dump_id, inserts.columns());
            place = Place::Inserts { of: Box::new(place), standard_strings };
        } else {
            size_bytes += self.pass(data, &what, context, |bytes| rows.take(bytes))?;
        }
        let sums = rows
            .finish()
            .ok_or_else(|| damaged(&self.object, format!("the rows of {name} do not end as rows end")))?;
        self.found.insert(self.file(dump_id), Found { place, size_bytes, rows: Some(sums) });
        Ok(())
    }

    /// Reads a large object to its end.
    pub(super) fn object(
        &mut self,
        oid: u32,
        data: &mut dyn Read,
        place: Place,
        context: &Context,
    ) -> Result<(), SourceError> {
        let size_bytes = self.pass(data, &format!("the large object {oid}"), context, |_| ())?;
        let file = format!("blob_{oid}.dat");
        self.list.extend_from_slice(format!("{oid} {file}\n").as_bytes());
        self.objects += 1;
        if self.found.insert(file, Found { place, size_bytes, rows: None }).is_some() {
            return Err(damaged(&self.object, format!("it has the large object {oid} twice")));
        }
        Ok(())
    }

    /// Ends a list of large objects.
    pub(super) fn end_objects(&mut self, dump_id: i32) {
        self.seen.insert(dump_id);
        let list = std::mem::take(&mut self.list);
        let size_bytes = list.len() as u64;
        let file = self.file(dump_id);
        self.found.insert(file, Found { place: Place::Memory(list), size_bytes, rows: None });
    }

    fn pass(
        &self,
        data: &mut dyn Read,
        what: &str,
        context: &Context,
        mut take: impl FnMut(&[u8]),
    ) -> Result<u64, SourceError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut size_bytes = 0;
        loop {
            context.cancel.check().map_err(|_| SourceError::cancelled(self.object.as_str()))?;
            match data.read(&mut buffer) {
                Ok(0) => return Ok(size_bytes),
                Ok(count) => {
                    take(&buffer[..count]);
                    size_bytes += count as u64;
                    context.observer.event(Event::Bytes(count as u64));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(super::unread(&self.object, what, error)),
            }
        }
    }

    /// Makes the backup of it. Fails where an entry that is to have data had none.
    pub(super) fn into_backup(
        mut self,
        object: &str,
        database: &DatabaseRef,
    ) -> Result<Archived, SourceError> {
        let has_data = |entry: &&Entry| {
            let none = matches!(&entry.place, DataPlace::Offset { state: 3, .. });
            let no_file =
                matches!(&entry.place, DataPlace::File(name) if name.as_ref().is_none_or(Vec::is_empty));
            entry.had_dumper && !none && !no_file
        };
        let missing =
            self.toc.entries.iter().filter(has_data).find(|entry| !self.seen.contains(&entry.dump_id));
        if let Some(entry) = missing {
            let message = format!("the data of {} are missing: it is cut off", shown(entry));
            return Err(damaged(object, message));
        }
        let facts = self.facts();
        let (seen, inserted) = (&self.seen, &self.inserted);
        let mut toc = self.toc.into_directory();
        for entry in &mut toc.entries {
            if entry.had_dumper && !seen.contains(&entry.dump_id) {
                (entry.had_dumper, entry.place) = (false, DataPlace::File(Some(Vec::new())));
            }
            if entry.is("TABLE DATA") && entry.had_dumper {
                if has_inserts(entry) {
                    let columns = inserted.get(&entry.dump_id).map_or(&b""[..], Vec::as_slice);
                    let root = entry.definition.as_deref().and_then(|said| said.strip_prefix(VIA_ROOT));
                    let into = root.unwrap_or(b"s.t");
                    entry.copy = Some([b"COPY ", into, b" ", columns, COPY_END].concat());
                }
                normalise(entry);
            }
        }
        let mut bytes = Vec::new();
        toc.write(&mut bytes).map_err(|error| super::broken(object, error))?;
        let size_bytes = bytes.len() as u64;
        self.found
            .insert(TOC_ENTRY.to_owned(), Found { place: Place::Memory(bytes), size_bytes, rows: None });
        let mut entries = Vec::with_capacity(self.found.len());
        let mut places = BTreeMap::new();
        for (name, found) in self.found {
            let name = EntryName::new(name).map_err(|error| damaged(object, error.to_string()))?;
            let size_bytes = found.size_bytes;
            let (rows, digest) = found.rows.unzip();
            let part = ManifestPart { size_bytes, blobs: 0, rows, digest };
            let layout = if found.rows.is_some() { Layout::Rows } else { Layout::Opaque };
            entries.push(ManifestEntry { name: name.clone(), layout, size_bytes, parts: vec![part] });
            places.insert(name, found.place);
        }
        let size_bytes = entries.iter().map(|entry| entry.size_bytes).sum();
        let manifest = Manifest {
            schema: MANIFEST_SCHEMA.to_owned(),
            target: database.target.clone(),
            database: database.name.clone(),
            connection: object.to_owned(),
            facts: Facts { size_bytes, ..facts },
            entries,
            elapsed_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Ok(Archived { manifest, places })
    }

    fn facts(&self) -> Facts {
        let header = &self.toc.header;
        let text = |bytes: &Option<Vec<u8>>| {
            bytes.as_deref().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
        };
        let server_version = text(&header.server_version);
        let digits = server_version.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
        let rows = |entry: &Entry| self.found.get(&self.file(entry.dump_id)).and_then(|found| found.rows);
        let mut tables: Vec<TableFacts> = self
            .toc
            .entries
            .iter()
            .filter(|entry| entry.is("TABLE DATA"))
            .map(|entry| {
                let (rows, digest) = rows(entry).unzip();
                TableFacts { name: shown(entry), rows, digest }
            })
            .collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        let mut properties = BTreeMap::from([
            ("encoding".to_owned(), json!(encoding(&self.toc))),
            ("large_objects".to_owned(), json!(self.objects)),
            ("globals".to_owned(), json!(false)),
            (AS_DUMPED.to_owned(), json!(true)),
            needs::needs(&self.toc).property(),
        ]);
        if let Ok(major) = digits.parse::<u32>() {
            properties.insert("server_major".to_owned(), json!(major));
        }
        Facts {
            engine: EngineKind::Postgres,
            engine_version: server_version,
            form: "archive".to_owned(),
            selection: None,
            consistency: ConsistencyPoint { time: Timestamp::now(), position: BTreeMap::new() },
            size_bytes: 0,
            tables,
            schema: self.toc.entries.iter().filter_map(schema_object).collect(),
            properties,
            tools: BTreeMap::from([("pg_dump".to_owned(), text(&header.dump_version))]),
        }
    }
}

/// Returns an entry's object as a list of the schema has it.
fn schema_object(entry: &Entry) -> Option<SchemaObject> {
    use super::super::archive::Section;
    let is_object = entry.is("BLOB") || entry.is("BLOB METADATA");
    if is_object || !matches!(entry.section, Section::PreData | Section::PostData) {
        return None;
    }
    let kind = String::from_utf8_lossy(entry.kind.as_deref().unwrap_or_default()).to_ascii_lowercase();
    let definition = entry.definition.as_deref().map(|text| String::from_utf8_lossy(text).into_owned());
    let sql = definition.filter(|_| kind == "table");
    Some(SchemaObject { kind, name: shown(entry), sql })
}

/// Tells whether the rows of an entry are `INSERT` statements.
fn has_inserts(entry: &Entry) -> bool {
    entry.is("TABLE DATA") && entry.had_dumper && entry.copy.as_deref().unwrap_or_default().is_empty()
}

/// Returns an entry's name as a person writes it.
pub(super) fn shown(entry: &Entry) -> String {
    let text = |bytes: &Option<Vec<u8>>| {
        bytes.as_deref().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    };
    match text(&entry.schema) {
        schema if schema.is_empty() => text(&entry.tag),
        schema => format!("{schema}.{}", text(&entry.tag)),
    }
}

fn encoding(toc: &TableOfContents) -> String {
    let definition = toc.entries.iter().find(|entry| entry.is("ENCODING")).and_then(|entry| {
        std::str::from_utf8(entry.definition.as_deref()?).ok().and_then(|text| text.split('\'').nth(1))
    });
    definition.unwrap_or("UTF8").to_owned()
}

/// Writes the statement for the rows of a table as we write it: names always quoted.
fn normalise(entry: &mut Entry) {
    if entry.definition.as_deref().is_some_and(|said| said.starts_with(VIA_ROOT)) {
        return;
    }
    let Some(rest) = entry.copy.as_deref().and_then(|copy| copy.strip_prefix(b"COPY ")) else { return };
    let Some(columns) = rest.strip_suffix(COPY_END).map(|named| &named[name_bytes(named)..]) else { return };
    let quoted = |name: &Option<Vec<u8>>| {
        let mut text = vec![b'"'];
        for byte in name.iter().flatten() {
            text.extend(std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
        }
        text.push(b'"');
        text
    };
    let copy = [b"COPY ", &quoted(&entry.schema)[..], b".", &quoted(&entry.tag), columns, COPY_END].concat();
    entry.copy = Some(copy);
}

/// Returns how many bytes the name at the beginning has: up to the first blank outside of quotes.
fn name_bytes(text: &[u8]) -> usize {
    let mut within = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'"' => within = !within,
            b' ' if !within => return at,
            _ => {}
        }
    }
    text.len()
}

/// An archive as a backup.
pub(super) struct Archived {
    manifest: Manifest,
    places: BTreeMap<EntryName, Place>,
}

impl Archived {
    /// Returns what it says of itself, and where the data of its entries lie.
    pub(super) fn into_places(self) -> (Manifest, BTreeMap<EntryName, Place>) {
        (self.manifest, self.places)
    }
}

impl BackupReader for Archived {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, entry: &EntryName, range: Range<u64>) -> Result<Box<dyn Read + Send>, ReadError> {
        let refused = |message: &str| ReadError::new(ReadErrorKind::Missing, entry.as_str(), message);
        let known = self.manifest.entry(entry).ok_or_else(|| refused("the dump has no such entry"))?;
        let place = self.places.get(entry).ok_or_else(|| refused("the dump has no such entry"))?;
        if range.start > range.end || range.end > known.size_bytes {
            return Err(refused("the dump ends before that"));
        }
        let failed = |error: io::Error| {
            ReadError::new(ReadErrorKind::Damaged, entry.as_str(), error.to_string()).with_source(error)
        };
        let mut data = place.open().map_err(failed)?;
        io::copy(&mut data.by_ref().take(range.start), &mut io::sink()).map_err(failed)?;
        Ok(Box::new(data.take(range.end - range.start)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_a_blank_outside_of_quotes() {
        assert_eq!(name_bytes(b"public.t (a, b)"), 8);
        assert_eq!(name_bytes(b"public.\"a b\"\"c\" (a)"), 15);
        assert_eq!(name_bytes(b"s.t"), 3);
    }
}
