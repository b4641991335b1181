//! A folder of dump files: what of it is a dump, by names and metadata, and by the first bytes only of what has no name
//! that tells. So thousands of files are listed at once, and an unreadable one stops nothing.
//!
//! Not recursive, and no link is followed: what lies elsewhere is none of this folder's files. Changes nothing.

use super::file::{Choice, Found, Likeness, dump_file, is_archive, recognise, unreadable_at};
use super::name;
use super::unpack::Unpacked;
use crate::Engines;
use engines::Skipped;
use flow::SourceError;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use storage::{FileKind, Folder, LOCK_FILE, Look};

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

pub(super) fn kind(folder: &dyn Folder, name: &OsStr, look: &Look) -> Kind {
    match look.kind {
        FileKind::Link => Kind::Link,
        FileKind::File => Kind::File,
        FileKind::Folder if is_archive(&*folder.below(name)) => Kind::Archive,
        FileKind::Folder => Kind::Folder,
        FileKind::Other => Kind::Other,
    }
}

/// Lists a folder, in no order. Fails only where the folder itself cannot be read.
pub(crate) fn list(folder: &dyn Folder, choice: &Choice, engines: &Engines) -> Result<Found, SourceError> {
    let members = folder.list().map_err(|error| unreadable_at(folder.location(), error))?;
    let names: HashSet<&OsStr> = members.iter().map(|member| member.name.as_os_str()).collect();
    let mut found = Found::default();
    for member in &members {
        let object = || folder.location_of(&member.name);
        let look = match &member.look {
            Ok(look) => look,
            Err(error) => {
                let same =
                    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
                found.failed.push((object(), unreadable_at(object(), same).into()));
                continue;
            }
        };
        let name = member.name.to_string_lossy();
        let kind = kind(folder, &member.name, look);
        let manifest = name.strip_suffix(MANIFEST_ENDING).is_some_and(|of| names.contains(OsStr::new(of)));
        if kind == Kind::Folder || manifest || name == LOCK_FILE {
            continue;
        }
        let taken = match passed_over(&name, kind, engines) {
            Some(reason) => Err(reason),
            None => likeness(folder, &name, kind, choice, engines),
        };
        match taken.map(|likeness| dump_file(folder, &member.name, look, &choice.zone, likeness)) {
            Err(reason) => found.skipped.push(Skipped { object: object(), reason }),
            Ok(Ok(file)) => found.files.push(file),
            Ok(Err(error)) => found.failed.push((object(), error.into())),
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
        _ if engines.iter().any(|engine| engine.is_safety_copy(name)) => {
            "is a safety copy that a restore kept"
        }
        _ => return None,
    };
    Some(reason.to_owned())
}

/// The files that SQLite keeps beside a database that is in use.
pub(crate) const LOGS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Tells why something is taken for a dump; else why not.
fn likeness(
    folder: &dyn Folder,
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
    let Ok(file) = folder.open(name.as_ref(), 0).and_then(Unpacked::begin) else {
        return Ok(Likeness::Unknown);
    };
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
