//! What can be known before anything is written: whether the target can be replaced, and whether there is space.
//!
//! Looks only. It is run when the restore is planned, where a lack of space is shown and nothing more, and again when
//! it begins, where it is an error.

use crate::restore::{RestoreMode, RestorePlan, RestoreRequest, RestoreStep, Safety};
use crate::sqlite::holders::beside;
use crate::sqlite::restore::files::{self, filled_sidecars, look};
use crate::sqlite::restore::job::{Job, Place, Work};
use crate::sqlite::restore::swap::same_filesystem;
use flow::{SourceError, SourceErrorKind, quoted};
use std::path::{Path, PathBuf};

/// Room for the record and the names.
const SLACK_BYTES: u64 = 1 << 20;

/// Returns the steps of a restore.
pub(super) fn steps(request: &RestoreRequest) -> Vec<RestoreStep> {
    use RestoreStep::{Beside, Finish, Preflight, Quiesce, Swap, Verify};
    let mut steps = vec![Preflight, Beside, Verify, Quiesce, Swap, Finish];
    steps.retain(|step| request.verify || *step != Verify);
    steps
}

/// Looks at the target, and returns what the restore is going to do. Who uses the target is for the caller to add.
pub(super) fn plan(request: &RestoreRequest, place: &Place, work: &Work) -> Result<RestorePlan, SourceError> {
    fits(request, place)?;
    let old = look(&place.target)?;
    let old_bytes = old.as_ref().map_or(0, std::fs::Metadata::len) + sidecar_bytes(place)?;
    let mut needed_bytes = work.size_bytes + SLACK_BYTES;
    if request.mode == RestoreMode::InPlace {
        // A safety copy beside, the growth, and the journal or log of the one transaction.
        needed_bytes += work.size_bytes.saturating_sub(old_bytes) + work.size_bytes.max(old_bytes);
        if work.safety_folder.is_none() {
            needed_bytes += old_bytes;
        }
    }
    let safety_copy = match (&old, &request.safety) {
        (None, _) | (_, Safety::None) => None,
        _ => Some(safety_name(request, place, work)?.display().to_string()),
    };
    Ok(RestorePlan {
        steps: steps(request),
        actions: actions(request, place, work, old.is_some(), safety_copy.as_deref())?,
        write_bytes: work.size_bytes,
        needed_bytes,
        free_bytes: free_bytes(&place.folder),
        safety_copy,
        holders: Vec::new(),
        ends_holders: false,
        problems: Vec::new(),
    })
}

/// Fails where the target is nothing that this restore could replace, make or write into.
fn fits(request: &RestoreRequest, place: &Place) -> Result<(), SourceError> {
    let object = &request.target.connection;
    let error = |kind, message: &str, hint: String| SourceError::new(kind, object, message).with_hint(hint);
    let old = look(&place.target)?;
    if let Some(metadata) = &old
        && !metadata.is_file()
    {
        let message = if metadata.is_dir() { "is a folder" } else { "is no regular file" };
        let hint = "name the database file, with its folder".to_owned();
        return Err(error(SourceErrorKind::Unwritable, message, hint));
    }
    match (request.mode, &old) {
        (RestoreMode::ToNew, Some(_)) => {
            let hint = "name another new database, or leave `--to-new` out to replace this one".to_owned();
            return Err(error(SourceErrorKind::Unwritable, "exists already", hint));
        }
        (RestoreMode::ToNew, None) => {
            if let Some(suffix) = filled_sidecars(&place.target)?.first() {
                let found = beside(&place.target, suffix).display().to_string();
                let message = "cannot be made: files of another database of this name are in the way";
                return Err(error(
                    SourceErrorKind::Unwritable,
                    message,
                    format!("look at {found} and move it away"),
                ));
            }
        }
        (RestoreMode::InPlace, None) => {
            let hint = "leave `--in-place` out to make it".to_owned();
            return Err(error(SourceErrorKind::Missing, "there is no database to write into", hint));
        }
        _ => {}
    }
    Ok(())
}

/// Fails where the restore would later stop for rights or space.
pub(super) fn check(job: &Job) -> Result<(), SourceError> {
    let place = &job.place;
    writable(&place.folder)?;
    if let Some(free) = job.plan.free_bytes
        && free < job.plan.needed_bytes
    {
        return Err(no_space(&place.folder, job.plan.needed_bytes, free));
    }
    let Some(folder) = &job.work.safety_folder else { return Ok(()) };
    writable(folder)?;
    if job.mode() == RestoreMode::InPlace || !same_filesystem(&place.folder, folder)? {
        let needed = look(&place.target)?.map_or(0, |metadata| metadata.len()) + sidecar_bytes(place)?;
        if let Some(free) = free_bytes(folder).filter(|free| *free < needed) {
            return Err(no_space(folder, needed, free));
        }
    }
    Ok(())
}

/// Fails where a file lies under the image's name that no record accounts for.
pub(super) fn image_is_free(place: &Place) -> Result<(), SourceError> {
    if look(&place.image)?.is_none() {
        return Ok(());
    }
    let message = "lies where the backup is to be written, and no restore record says why";
    Err(SourceError::new(SourceErrorKind::Unwritable, place.image.display().to_string(), message).with_hint(
        format!("remove it with `rm {}` if it is not needed", quoted(&place.image.display().to_string())),
    ))
}

/// Returns the folder of the safety copy, made absolute, for it is recorded.
pub(super) fn safety_folder(request: &RestoreRequest, place: &Place) -> Result<Option<PathBuf>, SourceError> {
    let Safety::Folder(folder) = &request.safety else { return Ok(None) };
    let folder = std::fs::canonicalize(folder).map_err(|error| {
        let path = folder.display();
        SourceError::new(
            SourceErrorKind::Unwritable,
            path.to_string(),
            "there is no such folder for the safety copy",
        )
        .with_hint(format!(
            "make it with `mkdir -p {}`, or name another with `--safety-dir`",
            quoted(&path.to_string())
        ))
        .with_source(error)
    })?;
    if !folder.is_dir() {
        let message = "is no folder, so no safety copy can be kept in it";
        return Err(SourceError::new(SourceErrorKind::Unwritable, folder.display().to_string(), message)
            .with_hint("name a folder with `--safety-dir`"));
    }
    Ok(Some(folder).filter(|folder| *folder != place.folder))
}

fn safety_name(request: &RestoreRequest, place: &Place, work: &Work) -> Result<PathBuf, SourceError> {
    let beside = place.stamped(work.safety_suffix.as_str(), request.started);
    files::free_name(&match &work.safety_folder {
        Some(folder) => folder.join(beside.file_name().unwrap_or_default()),
        None => beside,
    })
}

fn actions(
    request: &RestoreRequest,
    place: &Place,
    work: &Work,
    exists: bool,
    safety_copy: Option<&str>,
) -> Result<Vec<String>, SourceError> {
    let target = place.target.display();
    let mut actions = vec![format!("Write {} bytes to {}.", work.size_bytes, place.image.display())];
    if request.verify {
        actions
            .push("Read it back, compare it with the backup, and check its structure and rows.".to_owned());
    }
    let in_place = request.mode == RestoreMode::InPlace;
    match safety_copy {
        Some(copy) if in_place => actions.push(format!("Copy the database as it is to {copy}.")),
        Some(copy) => {
            let with = match filled_sidecars(&place.target)? {
                list if list.is_empty() => String::new(),
                list => format!(" (with its {})", list.join(" and ")),
            };
            actions.push(format!("Keep the old database as {copy}{with}."));
        }
        None if exists => actions.push("Keep the old database until the restore is accepted.".to_owned()),
        None => {}
    }
    actions.push(match request.mode {
        RestoreMode::InPlace => format!("Write it into {target} in one transaction."),
        _ if exists => format!("Rename it to {target}."),
        _ => format!("Rename it to {target}, which does not exist yet."),
    });
    Ok(actions)
}

fn sidecar_bytes(place: &Place) -> Result<u64, SourceError> {
    let mut sum = 0;
    for suffix in files::SIDECARS {
        sum += look(&beside(&place.target, suffix))?.map_or(0, |metadata| metadata.len());
    }
    Ok(sum)
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let filesystem = rustix::fs::statvfs(folder).ok()?;
    Some(filesystem.f_bavail.saturating_mul(filesystem.f_frsize))
}

fn writable(folder: &Path) -> Result<(), SourceError> {
    use rustix::fs::{Access, AtFlags, CWD};
    rustix::fs::accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(|error| files::failed_in(folder, folder, "written to", error.into()))
}

fn no_space(folder: &Path, needed: u64, free: u64) -> SourceError {
    let message = format!("has {free} bytes free, and the restore needs {needed}");
    SourceError::new(SourceErrorKind::Unwritable, folder.display().to_string(), message)
        .with_hint("free some space there, or restore to another folder with `--target`")
}
