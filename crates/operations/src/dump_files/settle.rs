//! What runs left that are gone: hidden files, and the manifest of one that got its name and not its manifest.
//!
//! Such a manifest is put beside the file if that is the very one that it tells of, by its length and its SHA-256; all else
//! goes. A crash leaves it for the next run. Nothing here is an error: whatever fails is left as it is.

use super::folder::MANIFEST_ENDING;
use super::manifest::FileManifest;
use super::sound::digest;
use flow::{Context, Event, Phase};
use std::ffi::{OsStr, OsString};
use std::io;
use storage::{FileKind, Folder, Leftover};

/// What becomes of what was left.
enum Fate {
    /// It is the manifest of a file that has its name.
    Name,
    /// Nobody needs it.
    Remove,
    /// That cannot be told now.
    Leave,
}

/// Settles what was left in a folder, which the caller has locked.
pub(crate) fn settle(folder: &dyn Folder, context: &Context) {
    for left in folder.leftovers().unwrap_or_default() {
        match fate(folder, &left, context) {
            Fate::Name => {
                // Where that fails it is left, and the next run tries again.
                let _ = left.file.name_over(&left.name);
            }
            Fate::Leave => left.file.leave(),
            Fate::Remove => {}
        }
    }
}

fn fate(folder: &dyn Folder, left: &Leftover, context: &Context) -> Fate {
    let Some(file) = left.name.to_str().and_then(|name| name.strip_suffix(MANIFEST_ENDING)) else {
        return Fate::Remove;
    };
    let Ok(written) = left.file.read_back() else { return Fate::Leave };
    // What was not whole yet is of a file that has no name.
    let Some(manifest) = FileManifest::read(written, OsStr::new(file)) else { return Fate::Remove };
    let name = OsString::from(file);
    match folder.look(&name) {
        Ok(look) if look.kind == FileKind::File && look.size_bytes == manifest.file_bytes => {}
        Ok(_) => return Fate::Remove,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Fate::Remove,
        Err(_) => return Fate::Leave,
    }
    if FileManifest::beside(folder, &name).is_some_and(|beside| beside.sha256 == manifest.sha256) {
        return Fate::Remove;
    }
    let phase = format!("looking at {}, whose backup was cut short", folder.location_of(&name));
    context.observer.event(Event::Phase(Phase { name: phase, total_bytes: None }));
    match digest(folder, &name, context) {
        Ok(Some(found)) if found == manifest.sha256 => Fate::Name,
        Ok(Some(_)) => Fate::Remove,
        Ok(None) | Err(_) => Fate::Leave,
    }
}
