//! Which files a person means by a path, a folder or a pattern. Changes nothing.
//!
//! What is named is meant: where it is no dump, that is an error. In a folder, which is not searched below itself, what
//! neither looks like a dump inside nor has the name of one is passed over and told.

use super::file::{Choice, DumpFile, Found, Likeness, dump_file, is_archive, unreadable};
use super::folder::{self, Kind};
use super::pattern::expand;
use crate::Engines;
use engines::Skipped;
use flow::{SourceError, SourceErrorKind};
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};
use storage::{FileKind, Folder, LocalFolder};

/// Finds the files that paths, folders and patterns (`/srv/dumps/acme-*.sql`) mean. Paths are absolute.
pub fn find(paths: &[PathBuf], choice: &Choice, engines: &Engines) -> Found {
    let mut found = Found::default();
    for path in paths {
        match expand(path) {
            None => add(path, choice, engines, &mut found),
            Some(members) if members.is_empty() => {
                let error =
                    SourceError::new(SourceErrorKind::Missing, path.display().to_string(), "no file fits")
                        .with_hint("look what there is with `ls`; a pattern is written in quotes");
                found.failed.push((path.display().to_string(), error.into()));
            }
            Some(members) => {
                for member in members {
                    pattern_member(&member, choice, engines, &mut found);
                }
            }
        }
    }
    found.files.sort_by(|a, b| (a.time, &a.path).cmp(&(b.time, &b.path)));
    found.files.dedup_by(|a, b| a.path == b.path);
    found.skipped.sort_by(|a, b| a.object.cmp(&b.object));
    found
}

fn add(path: &Path, choice: &Choice, engines: &Engines, found: &mut Found) {
    let folder = LocalFolder::new(path);
    if path.is_dir() && !is_archive(&folder) {
        let listed = folder::list(&folder, choice, engines);
        let taken = listed.and_then(|listed| {
            let none = listed.files.is_empty() && listed.failed.is_empty();
            found.files.extend(listed.files);
            found.skipped.extend(listed.skipped);
            found.failed.extend(listed.failed);
            if none { Err(holds_none(path, choice)) } else { Ok(()) }
        });
        if let Err(error) = taken {
            found.failed.push((path.display().to_string(), error.into()));
        }
        return;
    }
    match one(path, &choice.zone) {
        Ok(file) => found.files.push(file),
        Err(error) => found.failed.push((path.display().to_string(), error.into())),
    }
}

/// Takes what fits a pattern: what belongs to another file or is a link is passed over, as in a folder.
fn pattern_member(path: &Path, choice: &Choice, engines: &Engines, found: &mut Found) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let kind = LocalFolder::of(path).and_then(|(folder, name)| {
        let look = folder.look(&name)?;
        Ok(folder::kind(&folder, &name, &look))
    });
    let reason = match kind {
        Ok(Kind::Folder) => Some("is a folder".to_owned()),
        Ok(kind) => folder::passed_over(&name, kind, engines),
        Err(_) => None,
    };
    match reason {
        Some(reason) => found.skipped.push(Skipped { object: path.display().to_string(), reason }),
        None => add(path, choice, engines, found),
    }
}

fn holds_none(path: &Path, choice: &Choice) -> SourceError {
    let object = path.display().to_string();
    if choice.patterns.is_empty() {
        let hint = "name the folder in which the files lie: folders below it are not looked into";
        return SourceError::new(SourceErrorKind::Missing, object, "holds no dump file").with_hint(hint);
    }
    SourceError::new(SourceErrorKind::Missing, object, "holds no dump file that fits the pattern")
        .with_hint("look what there is with `ls`; a pattern is of names, as in *.sql.gz")
}

fn one(path: &Path, zone: &TimeZone) -> Result<DumpFile, SourceError> {
    let seen =
        LocalFolder::of(path).and_then(|(folder, name)| Ok((folder.look_behind(&name)?, folder, name)));
    let (look, folder, name) = seen.map_err(|error| unreadable(path, error))?;
    if !matches!(look.kind, FileKind::File | FileKind::Folder) {
        let error =
            SourceError::new(SourceErrorKind::NotADatabase, path.display().to_string(), "is no regular file");
        return Err(error.with_hint("name a dump file, or a folder of them"));
    }
    // By the name it was given: a link may have the better one, and what it leads to has the content.
    dump_file(&folder, &name, &look, zone, Likeness::Name)
}
