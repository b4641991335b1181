//! A dump file: what its name and its metadata say of it, and by what it is taken for one.
//!
//! A look at it, which changes nothing and reads no content.

use super::name;
use super::pattern::Pattern;
use crate::{Engines, OperationError};
use engines::{ExportForm, Skipped};
use flow::{EngineKind, SourceError, SourceErrorKind};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use storage::{FileKind, Folder, Look};

/// From where the moment of a backup is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeSource {
    /// From the name of the file.
    Name,
    /// From the time at which the file was modified last.
    Modified,
}

/// Why something of a folder is taken for a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// Its name ends as those of dumps do, or a pattern says so, or somebody named it.
    Name,
    /// It begins as a dump does.
    Content,
    /// Nothing says so, but it cannot be read or unpacked: it may have been one.
    Unknown,
}

/// A dump file, or a folder that is one dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpFile {
    /// Its absolute path.
    pub path: String,
    /// The database that its name speaks of.
    pub name: String,
    /// The moment that it shows.
    pub time: Timestamp,
    /// From where that is known.
    pub time_source: TimeSource,
    /// Its length; of a folder that of all its files.
    pub size_bytes: u64,
    /// When it was modified last.
    pub modified: Timestamp,
    /// Whether it is a folder: a directory archive of PostgreSQL.
    pub is_folder: bool,
    /// Why it is taken for a dump.
    pub likeness: Likeness,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The files, oldest first.
    pub files: Vec<DumpFile>,
    /// What lies in a folder and is no dump, or was not asked for.
    pub skipped: Vec<Skipped>,
    /// What was named and cannot be taken: the path and why.
    pub failed: Vec<(String, OperationError)>,
}

/// Which files are meant, and how their names are read.
#[derive(Debug, Clone)]
pub struct Choice {
    /// A time without an offset is meant in this zone.
    pub zone: TimeZone,
    /// Where there are any, only what fits one of them is taken from a folder, whatever else its name is.
    pub patterns: Vec<Pattern>,
}

impl DumpFile {
    /// Returns the name that the file bears in its folder.
    pub fn file_name(&self) -> &OsStr {
        Path::new(&self.path).file_name().unwrap_or_default()
    }
}

impl Choice {
    /// Takes everything.
    pub fn all(zone: TimeZone) -> Self {
        Self { zone, patterns: vec![] }
    }
}

/// Returns what a file's name and metadata say.
pub(super) fn dump_file(
    folder: &dyn Folder,
    file_name: &OsStr,
    look: &Look,
    zone: &TimeZone,
    likeness: Likeness,
) -> Result<DumpFile, SourceError> {
    let path = folder.location_of(file_name);
    let is_text = folder.local_path().is_none_or(|path| path.to_str().is_some());
    let Some(file_name) = file_name.to_str().filter(|_| is_text) else {
        return Err(SourceError::new(SourceErrorKind::Unreadable, path, "its name is not valid UTF-8")
            .with_hint("rename the file"));
    };
    let named = name::parse(file_name, zone);
    let modified = Timestamp::try_from(look.modified).map_err(|error| {
        SourceError::new(SourceErrorKind::Unreadable, &path, "has a time that cannot be").with_source(error)
    })?;
    let (time, time_source) = match named.time {
        Some(time) => (time, TimeSource::Name),
        None => (modified, TimeSource::Modified),
    };
    let its_folder =
        || Path::new(&path).parent()?.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = named.database.or_else(its_folder).unwrap_or_else(|| file_name.to_owned());
    let is_folder = look.kind == FileKind::Folder;
    let size_bytes =
        if is_folder { archive_size(&*folder.below(file_name.as_ref())) } else { look.size_bytes };
    Ok(DumpFile { path, name, time, time_source, size_bytes, modified, is_folder, likeness })
}

/// Tells whether a folder is one dump: a directory archive of PostgreSQL.
pub(crate) fn is_archive(folder: &dyn Folder) -> bool {
    let begins = |name: &str| folder.look(name.as_ref()).is_ok_and(|look| look.kind == FileKind::File);
    begins("toc.dat") || begins("toc.dat.gz")
}

/// Returns the length of all files of a directory archive.
fn archive_size(folder: &dyn Folder) -> u64 {
    let files = folder.list().into_iter().flatten().filter_map(|file| file.look.ok());
    files.filter(|look| look.kind == FileKind::File).map(|look| look.size_bytes).sum()
}

/// Tells which engine reads what begins so, and in which form it is; else why none does.
pub(crate) fn recognise(engines: &Engines, head: &[u8]) -> Result<(EngineKind, ExportForm), String> {
    let foreign: [(&[u8], &str); 3] = [
        (b"age-encryption.org/", "encrypted by age"),
        (b"-----BEGIN AGE ENCRYPTED FILE", "encrypted by age"),
        (b"DZV1", "a Neo4j dump"),
    ];
    if let Some((_, what)) = foreign.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(format!("is {what}, which this version does not read"));
    }
    let mut reason = "is no dump of a database".to_owned();
    let mut found = None;
    for engine in engines.iter() {
        match engine.recognise(head) {
            // SQLite takes for its own any SQL that it might run; PostgreSQL what it alone runs.
            Ok(form) if found.is_none() || engine.kind() == EngineKind::Postgres => {
                found = Some((engine.kind(), form));
            }
            Ok(_) => {}
            Err(why) => reason = why.unwrap_or(reason),
        }
    }
    found.ok_or(reason)
}

/// Tells by its first bytes, unpacked, whether a file is a Neo4j dump, of whatever release.
pub(crate) fn is_neo4j(head: &[u8]) -> bool {
    let magics: [&[u8]; 3] = [b"DZV1", b"DGV1", b"zstd\0\0\0\x01"];
    magics.iter().any(|magic| head.starts_with(magic))
}

/// Makes the error of a file that the system does not give.
pub(crate) fn unreadable(path: &Path, error: io::Error) -> SourceError {
    unreadable_at(path.display().to_string(), error)
}

/// As [`unreadable`], of a place that need not be a path.
pub(crate) fn unreadable_at(object: String, error: io::Error) -> SourceError {
    let (kind, message, hint) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            (SourceErrorKind::Missing, "there is no such file", "is it spelt right, and is its disk mounted?")
        }
        io::ErrorKind::PermissionDenied => (
            SourceErrorKind::Unreadable,
            "may not be read by this user",
            "run as a user who may read the file and enter its folder",
        ),
        _ => (SourceErrorKind::Unreadable, "cannot be read", "check the device and the filesystem"),
    };
    SourceError::new(kind, object, message).with_hint(hint).with_source(error)
}
