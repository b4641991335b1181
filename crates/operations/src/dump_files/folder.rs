//! A folder of dump files: what of it is a dump, by names and metadata, and by the first bytes only of what has no name
//! that tells. So thousands of files are listed at once, and an unreadable one stops nothing.
//!
//! Not recursive, and no link is followed: what lies elsewhere is none of this folder's files. Changes nothing.

use super::file::{Choice, Found, Likeness, dump_file, is_archive, recognise, unreadable};
use super::lock::LOCK_FILE;
use super::name;
use super::unpack::Unpacked;
use crate::Engines;
use engines::Skipped;
use flow::SourceError;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::path::Path;

/// The ending of the manifest that lies beside a file which we wrote.
pub(crate) const MANIFEST_ENDING: &str = ".json";

/// What a name in a folder leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A directory archive of PostgreSQL.
    Archive,
    Folder,
    Link,
    Other,
}

pub(super) fn kind(metadata: &Metadata, path: &Path) -> Kind {
    let kind = metadata.file_type();
    match () {
        () if kind.is_symlink() => Kind::Link,
        () if kind.is_file() => Kind::File,
        () if kind.is_dir() && is_archive(path) => Kind::Archive,
        () if kind.is_dir() => Kind::Folder,
        () => Kind::Other,
    }
}

/// Lists a folder, in no order. Fails only where the folder itself cannot be read.
pub(crate) fn list(folder: &Path, choice: &Choice, engines: &Engines) -> Result<Found, SourceError> {
    let mut members = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        members.push(entry.map_err(|error| unreadable(folder, error))?);
    }
    let names: HashSet<_> = members.iter().map(std::fs::DirEntry::file_name).collect();
    let mut found = Found::default();
    for entry in members {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // It went since the names were read: whoever prunes or renames is at work.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                let error = unreadable(&path, error);
                found.failed.push((path.display().to_string(), error.into()));
                continue;
            }
        };
        let kind = kind(&metadata, &path);
        let manifest = name.strip_suffix(MANIFEST_ENDING).is_some_and(|of| names.contains(OsStr::new(of)));
        if kind == Kind::Folder || manifest || name == LOCK_FILE {
            continue;
        }
        let taken = match passed_over(&name, kind, engines) {
            Some(reason) => Err(reason),
            None => likeness(&path, &name, kind, choice, engines),
        };
        match taken.map(|likeness| dump_file(&path, &metadata, &choice.zone, likeness)) {
            Err(reason) => found.skipped.push(Skipped { object: path.display().to_string(), reason }),
            Ok(Ok(file)) => found.files.push(file),
            Ok(Err(error)) => found.failed.push((path.display().to_string(), error.into())),
        }
    }
    found.skipped.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(found)
}

/// Tells why something is no dump, whatever it holds.
pub(super) fn passed_over(name: &str, kind: Kind, engines: &Engines) -> Option<String> {
    let reason = match kind {
        Kind::Link => "is a symbolic link",
        Kind::Other | Kind::Folder => "is no regular file",
        _ if LOGS.iter().any(|log| name.ends_with(log)) => "belongs to the database beside it",
        _ if name.starts_with('.') => "is hidden",
        _ if name.contains(".backstay-") => "belongs to a restore",
        _ if engines.iter().any(|engine| engine.is_safety_copy(name)) => "is a safety copy that a restore kept",
        _ => return None,
    };
    Some(reason.to_owned())
}

/// The files that SQLite keeps beside a database that is in use.
pub(crate) const LOGS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Tells why something is taken for a dump; else why not.
fn likeness(
    path: &Path,
    name: &str,
    kind: Kind,
    choice: &Choice,
    engines: &Engines,
) -> Result<Likeness, String> {
    let mut fitting = choice.patterns.iter().filter(|pattern| pattern.matches(name)).peekable();
    if fitting.peek().is_none() && !choice.patterns.is_empty() {
        return Err("does not fit the pattern".to_owned());
    }
    let said = fitting.any(|pattern| pattern.says_the_ending());
    if said || kind == Kind::Archive || name::parse(name, &choice.zone).of_a_dump {
        return Ok(Likeness::Name);
    }
    // What is damaged, or cannot be read, may have been one: it is not passed over.
    let Ok(file) = File::open(path).and_then(Unpacked::begin) else { return Ok(Likeness::Unknown) };
    looks_like_a_dump(engines, &file.head).map(|()| Likeness::Content)
}

/// Tells why what begins so is no dump of any kind.
pub(super) fn looks_like_a_dump(engines: &Engines, head: &[u8]) -> Result<(), String> {
    let magics: [&[u8]; 4] = [b"PGDMP", b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE", b"DZV1"];
    let text = &head[..head.len().min(400)];
    let says = |words: &[u8]| text.windows(words.len()).any(|text| text == words);
    if magics.iter().any(|magic| head.starts_with(magic))
        || says(b"PostgreSQL database dump")
        || says(b"PostgreSQL database cluster dump")
    {
        return Ok(());
    }
    recognise(engines, head).map(drop)
}
