//! A backup without its data, for a restore of definitions alone: its table of contents without what brings rows, values of
//! sequences and large objects, and its list of roles.
//!
//! It is made of the backup at each step, so what goes on after a crash sees the same.

use super::archive::{self, GLOBALS, TOC};
use crate::postgres::archive::Entry;
use crate::restore::RestoreError;
use flow::{BackupReader, EntryName, Manifest, ReadError, ReadErrorKind};
use std::io::{Cursor, Read};
use std::ops::Range;

/// Kinds of entries that are data, or are of what only data have.
const DATA: [&str; 8] = [
    "TABLE DATA",
    "SEQUENCE SET",
    "MATERIALIZED VIEW DATA",
    "BLOB",
    "BLOBS",
    "BLOB METADATA",
    "BLOB COMMENTS",
    "STATISTICS DATA",
];

/// A backup without its data.
pub(super) struct Definitions<'a> {
    backup: &'a dyn BackupReader,
    manifest: Manifest,
    toc: Vec<u8>,
}

impl<'a> Definitions<'a> {
    /// Leaves out the data of a backup.
    pub(super) fn of(backup: &'a dyn BackupReader) -> Result<Self, RestoreError> {
        let mut contents = archive::read(backup)?;
        contents.entries.retain(|entry| !is_data(entry));
        let mut toc = Vec::new();
        let unwritten =
            |error: &dyn std::fmt::Display| ReadError::new(ReadErrorKind::Damaged, TOC, error.to_string());
        contents.write(&mut toc).map_err(|error| unwritten(&error))?;
        let mut manifest = without_data(backup.manifest());
        for entry in manifest.entries.iter_mut().filter(|entry| entry.name.as_str() == TOC) {
            entry.size_bytes = toc.len() as u64;
            entry.parts.truncate(1);
            entry.parts.iter_mut().for_each(|part| part.size_bytes = toc.len() as u64);
        }
        Ok(Self { backup, manifest, toc })
    }
}

/// Returns a manifest without the entries that hold data.
pub(super) fn without_data(manifest: &Manifest) -> Manifest {
    let mut manifest = manifest.clone();
    manifest.entries.retain(|entry| [TOC, GLOBALS].contains(&entry.name.as_str()));
    manifest
}

fn is_data(entry: &Entry) -> bool {
    let of_object = entry.tag.as_ref().is_some_and(|tag| tag.starts_with(b"LARGE OBJECT"));
    let about = ["ACL", "COMMENT", "SECURITY LABEL"].iter().any(|kind| entry.is(kind));
    (of_object && about) || DATA.iter().any(|kind| entry.is(kind))
}

impl BackupReader for Definitions<'_> {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, entry: &EntryName, range: Range<u64>) -> Result<Box<dyn Read + Send>, ReadError> {
        if entry.as_str() != TOC {
            return self.backup.read(entry, range);
        }
        let mut data = Cursor::new(self.toc.clone());
        data.set_position(range.start);
        Ok(Box::new(data.take(range.end.saturating_sub(range.start))))
    }
}
