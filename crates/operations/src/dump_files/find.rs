//! Which files are dumps, and what their names and times say. Reads the beginning of each file, and changes nothing.
//!
//! What is named is meant: where it is no dump, that is an error. In a folder, which is not searched below itself, what
//! neither looks like a dump inside nor has the name of one is passed over and told.

use super::name;
use super::unpack::Unpacked;
use crate::{Engines, OperationError};
use engines::{ExportForm, Skipped};
use flow::{EngineKind, SourceError, SourceErrorKind};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// From where the moment of a backup is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeSource {
    /// From the name of the file.
    Name,
    /// From the time at which the file was modified last.
    Modified,
}

/// A dump file.
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
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The files, oldest first.
    pub files: Vec<DumpFile>,
    /// What lies in a folder and is no dump.
    pub skipped: Vec<Skipped>,
    /// What was named and cannot be taken: the path and why.
    pub failed: Vec<(String, OperationError)>,
}

/// Finds the files. Paths are absolute; a time without an offset is meant in `zone`.
pub fn find(paths: &[PathBuf], zone: &TimeZone, engines: &Engines) -> Found {
    let mut found = Found::default();
    for path in paths {
        let taken = if path.is_dir() {
            folder(path, zone, engines, &mut found)
        } else {
            one(path, zone).map(|file| found.files.push(file))
        };
        if let Err(error) = taken {
            found.failed.push((path.display().to_string(), error.into()));
        }
    }
    found.files.sort_by(|a, b| (a.time, &a.path).cmp(&(b.time, &b.path)));
    found.files.dedup_by(|a, b| a.path == b.path);
    found.skipped.sort_by(|a, b| a.object.cmp(&b.object));
    found
}

fn folder(path: &Path, zone: &TimeZone, engines: &Engines, found: &mut Found) -> Result<(), SourceError> {
    let before = found.files.len() + found.failed.len();
    for entry in std::fs::read_dir(path).map_err(|error| unreadable(path, error))? {
        let entry = entry.map_err(|error| unreadable(path, error))?;
        let member = entry.path();
        let kind = entry.file_type().map_err(|error| unreadable(&member, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let reason = if kind.is_dir() {
            continue;
        } else if kind.is_symlink() {
            Some("is a symbolic link".to_owned())
        } else if !kind.is_file() {
            Some("is no regular file".to_owned())
        } else if ["-wal", "-shm", "-journal"].iter().any(|suffix| name.ends_with(suffix)) {
            Some("belongs to the database beside it".to_owned())
        } else if name.starts_with('.') {
            Some("is hidden".to_owned())
        } else if name::is_of_a_dump(&name) {
            None
        } else {
            // What is damaged, or cannot be read, may have been one: it is not passed over.
            File::open(&member)
                .and_then(Unpacked::begin)
                .ok()
                .and_then(|file| recognise(engines, &file.head).err())
        };
        match reason {
            Some(reason) => found.skipped.push(Skipped { object: member.display().to_string(), reason }),
            None => match one(&member, zone) {
                Ok(file) => found.files.push(file),
                Err(error) => found.failed.push((member.display().to_string(), error.into())),
            },
        }
    }
    if found.files.len() + found.failed.len() == before {
        return Err(SourceError::new(
            SourceErrorKind::Missing,
            path.display().to_string(),
            "holds no dump file",
        )
        .with_hint("name the folder in which the files lie: folders below it are not looked into"));
    }
    Ok(())
}

fn one(path: &Path, zone: &TimeZone) -> Result<DumpFile, SourceError> {
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if !metadata.is_file() {
        let error =
            SourceError::new(SourceErrorKind::NotADatabase, path.display().to_string(), "is no regular file");
        return Err(error.with_hint("name a dump file, or a folder of them"));
    }
    // By the name it was given: a link may have the better one, and what it leads to has the content.
    let not_utf8 = || {
        SourceError::new(
            SourceErrorKind::Unreadable,
            path.display().to_string(),
            "its name is not valid UTF-8",
        )
        .with_hint("rename the file")
    };
    let text = path.to_str().ok_or_else(not_utf8)?;
    let file_name = path.file_name().and_then(|name| name.to_str()).ok_or_else(not_utf8)?;
    let named = name::parse(file_name, zone);
    let (time, time_source) = match named.time {
        Some(time) => (time, TimeSource::Name),
        None => {
            let modified = metadata.modified().map_err(|error| unreadable(path, error))?;
            let time = Timestamp::try_from(modified).map_err(|error| {
                SourceError::new(SourceErrorKind::Unreadable, text, "has a time that cannot be")
                    .with_source(error)
            })?;
            (time, TimeSource::Modified)
        }
    };
    let folder = || path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let name = named.database.or_else(folder).unwrap_or_else(|| file_name.to_owned());
    Ok(DumpFile { path: text.to_owned(), name, time, time_source })
}

/// Tells which engine reads what begins so, and in which form it is; else why none does.
pub(crate) fn recognise(engines: &Engines, head: &[u8]) -> Result<(EngineKind, ExportForm), String> {
    let foreign: [(&[u8], &str); 4] = [
        (b"PGDMP", "a PostgreSQL archive"),
        (b"age-encryption.org/", "encrypted by age"),
        (b"-----BEGIN AGE ENCRYPTED FILE", "encrypted by age"),
        (b"DZV1", "a Neo4j dump"),
    ];
    if let Some((_, what)) = foreign.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(format!("is {what}, which this version does not import"));
    }
    let beginning = &head[..head.len().min(400)];
    if beginning.windows(24).any(|text| text == b"PostgreSQL database dump") {
        return Err("is a PostgreSQL dump, which this version does not import".to_owned());
    }
    let mut reason = "is no dump of a database".to_owned();
    for engine in engines.iter() {
        match engine.recognise(head) {
            Ok(form) => return Ok((engine.kind(), form)),
            Err(why) => reason = why.unwrap_or(reason),
        }
    }
    Err(reason)
}

/// Makes the error of a file that the system does not give.
pub(crate) fn unreadable(path: &Path, error: io::Error) -> SourceError {
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
    SourceError::new(kind, path.display().to_string(), message).with_hint(hint).with_source(error)
}
