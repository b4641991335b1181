//! Backups and parts in memory, and the facts that fakes claim.

use flow::{
    BackupReader, ConsistencyPoint, DatabaseRef, Dumped, EngineKind, EntryName, Facts, Layout,
    MANIFEST_SCHEMA, Manifest, ManifestEntry, ManifestPart, Marks, PartFacts, PartReader, ReadError,
    ReadErrorKind, SourceError, SourceErrorKind,
};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

/// The facts of a database that exists in a test only.
pub fn fake_facts(size_bytes: u64) -> Facts {
    Facts {
        engine: EngineKind::Sqlite,
        engine_version: "3.0.0".to_owned(),
        form: "image".to_owned(),
        selection: None,
        consistency: ConsistencyPoint { time: Timestamp::UNIX_EPOCH, position: BTreeMap::new() },
        size_bytes,
        tables: Vec::new(),
        schema: Vec::new(),
        properties: BTreeMap::new(),
        tools: BTreeMap::new(),
    }
}

/// Marks that hold one number.
pub fn fake_marks(version: u64) -> Marks {
    Marks { read_at: Timestamp::UNIX_EPOCH, value: serde_json::Value::from(version).into() }
}

/// A part of bytes in memory, given in pieces of odd length; it may end with an error or tell another size.
#[derive(Debug, Clone, Default)]
pub struct MemoryPart {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where reading fails, if it is to.
    pub fails_at: Option<usize>,
    /// How many bytes more than it gave it claims to have given.
    pub surplus_bytes: u64,
    position: usize,
}

impl MemoryPart {
    /// Gives these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), ..Self::default() }
    }

    /// Fails instead of giving the byte at that position (or the end).
    pub fn failing_at(mut self, position: usize) -> Self {
        self.fails_at = Some(position);
        self
    }

    /// Claims to have given more than it gave.
    pub fn claiming_more(mut self, surplus_bytes: u64) -> Self {
        self.surplus_bytes = surplus_bytes;
        self
    }

    /// Returns whether all of it was read.
    pub fn at_end(&self) -> bool {
        self.position == self.bytes.len()
    }
}

impl PartReader for MemoryPart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let end = self.fails_at.unwrap_or(self.bytes.len()).min(self.bytes.len());
        let count = buffer.len().min(end - self.position).min(7919);
        if count == 0 && self.fails_at.is_some() && !buffer.is_empty() {
            return Err(SourceError::new(SourceErrorKind::Failed, "a part", "the source was told to fail"));
        }
        buffer[..count].copy_from_slice(&self.bytes[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }

    fn finish(self: Box<Self>) -> Result<PartFacts, SourceError> {
        if !self.at_end() || self.fails_at.is_some() {
            return Err(SourceError::new(SourceErrorKind::Failed, "a part", "the source did not end well"));
        }
        let size_bytes = self.bytes.len() as u64 + self.surplus_bytes;
        Ok(PartFacts { size_bytes, rows: None, digest: None })
    }
}

/// A backup in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryBackup {
    manifest: Manifest,
    entries: BTreeMap<EntryName, Vec<u8>>,
}

impl MemoryBackup {
    /// Makes a backup of a database from the parts of its entries.
    pub fn new(
        database: &DatabaseRef,
        dumped: &Dumped,
        parts: &BTreeMap<EntryName, Vec<(Vec<u8>, PartFacts)>>,
    ) -> Self {
        let mut manifest = Manifest {
            schema: MANIFEST_SCHEMA.to_owned(),
            target: database.target.clone(),
            database: database.name.clone(),
            connection: database.connection.clone(),
            facts: dumped.facts.clone(),
            entries: Vec::new(),
            elapsed_ms: dumped.elapsed_ms,
        };
        let mut entries = BTreeMap::new();
        for (name, parts) in parts {
            let layout = dumped.entries.get(name).map_or(Layout::Opaque, |(layout, _)| *layout);
            let content: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
            let parts = parts.iter().map(|(bytes, facts)| ManifestPart {
                size_bytes: bytes.len() as u64,
                blobs: u64::from(!bytes.is_empty()),
                rows: facts.rows,
                digest: facts.digest,
            });
            manifest.entries.push(ManifestEntry {
                name: name.clone(),
                layout,
                size_bytes: content.len() as u64,
                parts: parts.collect(),
            });
            entries.insert(name.clone(), content);
        }
        Self { manifest, entries }
    }

    /// Returns an entry's content.
    pub fn content(&self, entry: &EntryName) -> Option<&[u8]> {
        self.entries.get(entry).map(Vec::as_slice)
    }

    /// Returns all entries.
    pub fn entries(&self) -> &BTreeMap<EntryName, Vec<u8>> {
        &self.entries
    }
}

impl BackupReader for MemoryBackup {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, entry: &EntryName, range: Range<u64>) -> Result<Box<dyn Read + Send>, ReadError> {
        let missing = |message: &str| ReadError::new(ReadErrorKind::Missing, entry.as_str(), message);
        let content = self.entries.get(entry).ok_or_else(|| missing("there is no such entry"))?;
        let bound = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
        let part = content.get(bound(range.start)..bound(range.end));
        let part = part.ok_or_else(|| missing("the entry is shorter than that range"))?.to_vec();
        Ok(Box::new(std::io::Cursor::new(part)))
    }
}

/// A backup that gives a read error of the kind `Damaged` from a position of any entry on.
pub struct DamagedBackup<'a> {
    /// The backup below.
    pub inner: &'a dyn BackupReader,
    /// How many bytes of an entry are still right.
    pub intact_bytes: u64,
}

impl BackupReader for DamagedBackup<'_> {
    fn manifest(&self) -> &Manifest {
        self.inner.manifest()
    }

    fn read(&self, entry: &EntryName, range: Range<u64>) -> Result<Box<dyn Read + Send>, ReadError> {
        if range.end <= self.intact_bytes {
            return self.inner.read(entry, range);
        }
        let intact = self.inner.read(entry, range.start..range.start.max(self.intact_bytes))?;
        Ok(Box::new(intact.chain(DamagedEnd(entry.as_str().to_owned()))))
    }
}

struct DamagedEnd(String);

impl Read for DamagedEnd {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(ReadError::new(ReadErrorKind::Damaged, self.0.as_str(), "a blob is damaged").into())
    }
}
