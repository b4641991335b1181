//! A whole table of contents.

use super::entry::{DataPlace, Entry};
use super::error::ArchiveError;
use super::header::{ArchiveFormat, ArchiveVersion, Compression, Header};
use super::scalar::{Input, Output};
use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};

/// A table of contents with what stands before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOfContents {
    /// The header.
    pub header: Header,
    /// The entries, in the order in which they are restored.
    pub entries: Vec<Entry>,
}

impl TableOfContents {
    /// Reads one from the beginning of an archive, or from a `toc.dat`. The reader stands behind it then: in a custom
    /// archive at the first block of data.
    pub fn read<R: Read>(reader: R) -> Result<Self, ArchiveError> {
        Self::read_from(&mut Input::new(reader))
    }

    pub(super) fn read_from<R: Read>(input: &mut Input<R>) -> Result<Self, ArchiveError> {
        let header = Header::read(input)?;
        let count = input.number("the number of entries")?;
        let count = u32::try_from(count).map_err(|_| input.damaged(format!("it has {count} entries")))?;
        let (mut entries, mut numbers) = (Vec::new(), HashSet::new());
        for _ in 0..count {
            let entry = Entry::read(input, header.version, header.format)?;
            if entry.dump_id <= 0 || !numbers.insert(entry.dump_id) {
                return Err(input.damaged(format!("the entry number {} cannot be", entry.dump_id)));
            }
            entries.push(entry);
        }
        Ok(Self { header, entries })
    }

    /// Writes it as it is; returns how many bytes it has.
    pub fn write<W: Write>(&self, writer: W) -> Result<u64, ArchiveError> {
        let mut output = Output::new(writer, self.header.int_bytes, self.header.offset_bytes);
        self.header.write(&mut output)?;
        let count = i64::try_from(self.entries.len())
            .map_err(|_| ArchiveError::Unsupported("there are too many entries".to_owned()))?;
        output.integer(count)?;
        for entry in &self.entries {
            entry.write(&mut output, self.header.version)?;
        }
        Ok(output.at)
    }

    /// Returns how many bytes stand before the entries: what differs in each archive of the same database.
    pub fn header_bytes(&self) -> Result<u64, ArchiveError> {
        let mut output = Output::new(std::io::sink(), self.header.int_bytes, self.header.offset_bytes);
        self.header.write(&mut output)?;
        Ok(output.at)
    }

    /// Returns the same table of contents for a folder of plain files: each entry with data gets the file name that
    /// `pg_dump` would give it (`4711.dat`; `blobs.toc` or `blobs_4711.toc` for large objects).
    pub fn for_directory(&self) -> Self {
        self.clone().into_directory()
    }

    /// Turns it into what [`Self::for_directory`] returns: of a database with many large objects a copy is large.
    pub fn into_directory(mut self) -> Self {
        // In the `toc.dat` of a folder pg_dump names the format tar, whose entries look the same.
        self.header.format = ArchiveFormat::Tar;
        self.header.compression = Compression::none(self.header.version);
        let version = self.header.version;
        for entry in &mut self.entries {
            entry.place = DataPlace::File(Some(directory_file(entry, version).into_bytes()));
        }
        self
    }

    /// Returns the name that the data of an entry have in a folder.
    pub fn directory_file(&self, dump_id: i32) -> Option<String> {
        self.entry(dump_id).map(|entry| directory_file(entry, self.header.version))
    }

    /// Returns the same table of contents for a custom archive that is written as a stream: no offset is known.
    pub fn for_stream(&self) -> Self {
        let mut toc = self.clone();
        toc.header.format = ArchiveFormat::Custom;
        toc.header.compression = Compression::none(toc.header.version);
        for entry in &mut toc.entries {
            let state = if entry.had_dumper { 1 } else { 3 };
            entry.place = DataPlace::Offset { state, offset: 0 };
        }
        toc
    }

    /// Returns the same table of contents for a custom archive whose data are at these offsets, by the entries' numbers.
    pub fn with_offsets(&self, offsets: &BTreeMap<i32, u64>) -> Self {
        let mut toc = self.for_stream();
        for entry in toc.entries.iter_mut().filter(|entry| entry.had_dumper) {
            if let Some(offset) = offsets.get(&entry.dump_id) {
                entry.place = DataPlace::Offset { state: 2, offset: *offset };
            }
        }
        toc
    }

    /// Returns the entry of a number.
    pub fn entry(&self, dump_id: i32) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.dump_id == dump_id)
    }

    /// Returns a number that no entry has yet.
    pub fn next_dump_id(&self) -> i32 {
        self.entries.iter().map(|entry| entry.dump_id).max().unwrap_or(0).saturating_add(1)
    }
}

/// Since 1.16 large objects come in groups, each with a list of its own. Where there are no data the name is empty:
/// `pg_restore` crashes on one that is not there.
fn directory_file(entry: &Entry, version: ArchiveVersion) -> String {
    let number = entry.dump_id;
    match (entry.had_dumper, entry.is("BLOBS"), version.is_at_least(16)) {
        (false, _, _) => String::new(),
        (true, false, _) => format!("{number}.dat"),
        (true, true, true) => format!("blobs_{number}.toc"),
        (true, true, false) => "blobs.toc".to_owned(),
    }
}
