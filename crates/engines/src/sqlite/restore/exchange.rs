//! The exchange of one set of files (a database and its `-wal` or `-journal`) for another under the target's name.
//!
//! Where neither set has a sidecar with content it is one rename, and the name always shows a whole database. Where
//! one has, there is no such rename: then the name shows the old one, nothing, the new one, in this order, each made
//! durable before the next. Never is a database seen without its own sidecar, nor beside that of the other.

use crate::sqlite::holders::beside;
use crate::sqlite::restore::files::{
    self, COMPANIONS, Kept, SIDECARS, filled_sidecars, folder_of, inode, look, remove, rename_over,
    rename_to_free, sync_folder,
};
use crate::sqlite::restore::job::Job;
use crate::sqlite::restore::quiesce;
use flow::{Severity, SourceError, SourceErrorKind};
use std::path::{Path, PathBuf};

/// How often somebody who makes a file under the target's name in the middle of a swap is put aside.
const ASIDE_TRIES: u32 = 5;

/// Puts `incoming` with its sidecars under the target's name. What is there now was kept elsewhere if `replace` says
/// so, and goes; whatever else turns up there is set aside under a name of its own. To be repeated after a crash with
/// `replace` if what was kept is still there.
pub(super) fn exchange(
    job: &Job,
    incoming: &Path,
    sidecars: &[String],
    replace: bool,
) -> Result<(), SourceError> {
    let target = job.target();
    if replace && look(target)?.is_some() {
        if sidecars.is_empty() && filled_sidecars(target)?.is_empty() {
            return exchange_at_once(target, incoming);
        }
        files::remove_set(target)?;
    }
    for _ in 0..ASIDE_TRIES {
        if look(target)?.is_some() {
            set_aside(job)?;
        }
        if enter(target, incoming, sidecars)? {
            return Ok(());
        }
    }
    Err(job
        .error(SourceErrorKind::InUse, "somebody makes it anew again and again")
        .with_hint(format!("stop whoever does, then finish with {}", job.command("--continue"))))
}

fn exchange_at_once(target: &Path, incoming: &Path) -> Result<(), SourceError> {
    drop_companions(target)?;
    rename_over(incoming, target)?;
    sync_both(target, incoming)
}

/// Takes the free name of the target: sidecars first, by a second name each, for SQLite deletes those that it finds
/// beside an empty database. False where the name was taken meanwhile.
fn enter(target: &Path, incoming: &Path, sidecars: &[String]) -> Result<bool, SourceError> {
    drop_companions(target)?;
    for suffix in sidecars {
        let (from, to) = (beside(incoming, suffix), beside(target, suffix));
        if files::keep(&from, &to)? == Kept::Taken {
            return Ok(false);
        }
    }
    if !sidecars.is_empty() {
        sync_folder(folder_of(target))?;
    }
    if !rename_to_free(incoming, target)? {
        return Ok(false);
    }
    sync_both(target, incoming)?;
    for suffix in sidecars {
        remove(&beside(incoming, suffix))?;
    }
    if sidecars.is_empty() { Ok(true) } else { sync_folder(folder_of(incoming)).map(|()| true) }
}

/// Renames what somebody else made under the target's name to a name of its own, once they no longer use it. Sidecars of
/// the old database that lie there still do not go with it.
pub(super) fn set_aside(job: &Job) -> Result<PathBuf, SourceError> {
    let target = job.target();
    let _lock = quiesce::alone_with(job, target)?;
    let name = files::free_name(&job.place.stamped(".backstay-aside", job.state.request.started))?;
    for suffix in SIDECARS {
        let found = beside(target, suffix);
        if look(&found)?.is_some() && !is_of_the_old(job, &found, suffix)? {
            files::keep(&found, &beside(&name, suffix))?;
        }
    }
    sync_folder(&job.place.folder)?;
    if rename_to_free(target, &name)? {
        sync_folder(&job.place.folder)?;
    }
    drop_companions(target)?;
    let message =
        "somebody made this file under the target's name while it was being swapped; it was set aside";
    job.tell(
        Severity::Warning,
        &name,
        message.to_owned(),
        Some("look whether its content is needed".to_owned()),
    );
    Ok(name)
}

fn is_of_the_old(job: &Job, found: &Path, suffix: &str) -> Result<bool, SourceError> {
    let Some(keep) = job.work.swap.as_ref().and_then(|swap| swap.keep.as_ref()) else { return Ok(false) };
    let kept = beside(keep, suffix);
    Ok(look(&kept)?.is_some() && (inode(found)? == inode(&kept)? || files::same_bytes(found, &kept)?))
}

/// Keeps what the target holds now under a second name, with its sidecars. Repeated, it finds that name again.
pub(super) fn keep_changed(job: &Job) -> Result<PathBuf, SourceError> {
    let target = job.target();
    let wanted = job.place.stamped(".backstay-rolled-back", job.state.request.started);
    let name = if inode(&wanted)?.is_some() && inode(&wanted)? == inode(target)? {
        for suffix in SIDECARS {
            remove(&beside(&wanted, suffix))?;
        }
        wanted
    } else {
        files::free_name(&wanted)?
    };
    files::keep(target, &name)?;
    for suffix in filled_sidecars(target)? {
        files::keep(&beside(target, suffix), &beside(&name, suffix))?;
    }
    sync_folder(&job.place.folder)?;
    Ok(name)
}

fn drop_companions(base: &Path) -> Result<(), SourceError> {
    let mut removed = false;
    for suffix in COMPANIONS {
        removed |= remove(&beside(base, suffix))?;
    }
    if removed { sync_folder(folder_of(base)) } else { Ok(()) }
}

fn sync_both(target: &Path, incoming: &Path) -> Result<(), SourceError> {
    sync_folder(folder_of(target))?;
    if folder_of(target) == folder_of(incoming) { Ok(()) } else { sync_folder(folder_of(incoming)) }
}
