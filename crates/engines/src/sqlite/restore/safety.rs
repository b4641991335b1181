//! Safety copies: what restores kept of databases that they replaced, found again and removed.
//!
//! They are told by their names, to the last letter, and by nothing else: the databases in them are never opened. Where a
//! removal is cut short, companions without their database may be left, which nothing takes for one.

use super::files::{COMPANIONS, look, remove_set};
use super::quiesce;
use crate::engine::SafetyCopy;
use crate::sqlite::failure;
use crate::sqlite::holders::{beside, open_here};
use crate::sqlite::record::record_path;
use crate::sqlite::safety_names::SafetyNames;
use crate::sqlite::targets::{self, Look};
use flow::{Context, DatabaseRef, SourceError, SourceErrorKind, TargetRef};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file that bears such a name.
struct Found {
    folder: PathBuf,
    database: String,
    path: PathBuf,
    time: Timestamp,
    is_usual: bool,
}

/// Finds the safety copies of the databases of a target, beside them and in `folders`.
pub(in crate::sqlite) fn find(
    target: &TargetRef,
    folders: &[PathBuf],
    names: &SafetyNames,
    context: &Context,
) -> Result<Vec<SafetyCopy>, SourceError> {
    let connection = Path::new(&target.connection);
    let mut known = None;
    let mut places: BTreeSet<PathBuf> = folders.iter().filter_map(|path| path.canonicalize().ok()).collect();
    if connection.is_dir() {
        places.insert(connection.canonicalize().map_err(|error| failure::io(connection, error))?);
    } else {
        let databases = targets::databases(target, &Look::Each, names, context)?.databases;
        let parents = databases.iter().filter_map(|database| Path::new(&database.connection).parent());
        places.extend(parents.map(Path::to_owned));
        known = Some(databases);
    }
    let mut found = Vec::new();
    for place in &places {
        look_through(place, names, &mut found, context)?;
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let databases = match known {
        Some(databases) => databases,
        None => targets::databases(target, &Look::Each, names, context)?.databases,
    };
    let mut by_path: BTreeMap<&Path, &DatabaseRef> = BTreeMap::new();
    let mut by_name: BTreeMap<&str, Vec<&DatabaseRef>> = BTreeMap::new();
    for database in &databases {
        let path = Path::new(&database.connection);
        by_path.insert(path, database);
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            by_name.entry(name).or_default().push(database);
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let mut copies = Vec::new();
    for found in found {
        let beside = by_path.get(found.folder.join(&found.database).as_path()).copied();
        let elsewhere =
            || by_name.get(found.database.as_str()).filter(|all| all.len() == 1)?.first().copied();
        let Some(database) = beside.or_else(elsewhere) else { continue };
        copies.push(SafetyCopy {
            database: database.clone(),
            size_bytes: size_of(&found.path)?,
            path: found.path.display().to_string(),
            time: found.time,
            // A person may call a copy by another suffix, at that second too: then a record of the restore must say so.
            beside: beside.is_some() && found.is_usual,
            restoring: look(&record_path(Path::new(&database.connection)))?.is_some(),
        });
    }
    Ok(copies)
}

fn look_through(
    folder: &Path,
    names: &SafetyNames,
    found: &mut Vec<Found>,
    context: &Context,
) -> Result<(), SourceError> {
    for entry in std::fs::read_dir(folder).map_err(|error| failure::io(folder, error))? {
        context.cancel.check().map_err(|_| SourceError::cancelled(folder.display().to_string()))?;
        let entry = entry.map_err(|error| failure::io(folder, error))?;
        let name = entry.file_name();
        let Some(known) = name.to_str().and_then(|name| names.read(name)) else { continue };
        // Not a link, a folder, or what else may bear the name.
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let (folder, database) = (folder.to_owned(), known.database.to_owned());
            let (time, is_usual) = (known.time, known.is_usual);
            found.push(Found { folder, database, path: entry.path(), time, is_usual });
        }
    }
    Ok(())
}

fn size_of(path: &Path) -> Result<u64, SourceError> {
    let mut size = 0;
    for suffix in [""].into_iter().chain(COMPANIONS) {
        size += look(&beside(path, suffix))?.map_or(0, |metadata| metadata.len());
    }
    Ok(size)
}

/// Removes a safety copy with its companions. Fails where it is not what it was, or somebody has it open.
pub(in crate::sqlite) fn remove(copy: &SafetyCopy, names: &SafetyNames) -> Result<(), SourceError> {
    let path = Path::new(&copy.path);
    let refuse = |message: &str| SourceError::new(SourceErrorKind::InUse, copy.path.clone(), message);
    let is_one = path.file_name().and_then(|name| name.to_str()).and_then(|name| names.read(name)).is_some();
    let is_file = look(path)?.is_some_and(|metadata| metadata.is_file());
    if !is_one || !is_file || size_of(path)? != copy.size_bytes {
        return Err(refuse("is not the safety copy that was found there"));
    }
    if let Some(holder) = quiesce::users(path).holders.first() {
        return Err(refuse(&format!("is open in {}", holder.name)));
    }
    if open_here(&[path.to_owned()]) {
        return Err(refuse("is open in this process"));
    }
    remove_set(path)
}
