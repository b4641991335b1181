//! The swap: the old database gets another name, durably, and then the image takes the target's name.
//!
//! The old one is never opened, so this works for one that no longer opens. Until the record says that all of it is
//! kept, nothing of it is touched; from then on every crash leaves either the old one, nothing, or the new one under
//! the target's name, and which it is shows by the inodes that the record holds.

use crate::restore::{RestoreMode, Safety};
use crate::sqlite::holders::beside;
use crate::sqlite::restore::exchange::exchange;
use crate::sqlite::restore::files::{self, Kept, filled_sidecars, folder_of, look, sync_folder};
use crate::sqlite::restore::image;
use crate::sqlite::restore::job::{Job, Mark, Swap};
use crate::sqlite::restore::quiesce;
use flow::{Severity, SourceError, SourceErrorKind, quoted};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the target's name shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// What was there before; or the swap had touched nothing yet, and it is whatever it is.
    Old,
    /// Nothing, in the middle of a swap; or nothing, as before.
    Nothing,
    /// The image.
    New,
    /// A file that somebody else made in the middle of a swap, or after it.
    Foreign,
}

/// Tells how far a swap or a roll-back got.
pub(super) fn position(job: &Job) -> Result<Position, SourceError> {
    let Some(swap) = job.work.swap.as_ref().filter(|swap| swap.kept) else { return Ok(Position::Old) };
    let Some(metadata) = look(job.target())? else { return Ok(Position::Nothing) };
    let inode = Some(metadata.ino());
    if inode == job.work.image_inode && look(&job.place.image)?.is_none() {
        return Ok(Position::New);
    }
    if inode == swap.keep_inode {
        return Ok(Position::Old);
    }
    // A copy was kept: the old inode may be free, and somebody else's by now.
    if inode == swap.old_inode && Some(Mark::of(&metadata)) == swap.old_mark {
        return Ok(Position::Old);
    }
    Ok(Position::Foreign)
}

/// Swaps. Ends with the image under the target's name, or with an error and whatever [`position`] says.
pub(super) fn run(job: &mut Job) -> Result<(), SourceError> {
    job.phase("swapping", None);
    let mut position = position(job)?;
    if position == Position::New {
        return Ok(());
    }
    image::intact(job)?;
    if position == Position::Old {
        quiesce::quiet(job)?;
        keep_old(job)?;
        position = match look(job.target())? {
            Some(_) => Position::Old,
            None => Position::Nothing,
        };
    } else if position == Position::Foreign && job.mode() == RestoreMode::ToNew {
        return Err(appeared(job));
    }
    let incoming = job.place.image.clone();
    if job.mode() == RestoreMode::ToNew {
        // Nothing may be set aside for a new database: whoever took the name meanwhile keeps it.
        if !files::rename_to_free(&incoming, job.target())? {
            return Err(appeared(job));
        }
        return sync_folder(&job.place.folder);
    }
    exchange(job, &incoming, &[], position == Position::Old)?;
    unseen_meanwhile(job)
}

/// Fails where somebody opened the old database between the last look and the swap: they would go on writing to it.
/// None of them has read or written anything, for the lock is still held.
fn unseen_meanwhile(job: &mut Job) -> Result<(), SourceError> {
    let Some(lock) = &job.lock else { return Ok(()) };
    quiesce::left_alone(job, || lock.holders().holders)?;
    job.lock = None;
    Ok(())
}

fn appeared(job: &Job) -> SourceError {
    job.error(SourceErrorKind::InUse, "somebody else has made it since the restore began").with_hint(format!(
        "undo the restore with {}, then name another new database",
        job.command("--rollback")
    ))
}

/// Gives the old database, with the sidecars that hold content, its other name. Recorded before and after.
fn keep_old(job: &mut Job) -> Result<(), SourceError> {
    let_go(job)?;
    let target = job.place.target.clone();
    let old = look(&target)?;
    let sidecars = filled_sidecars(&target)?;
    if job.mode() == RestoreMode::ToNew && (old.is_some() || !sidecars.is_empty()) {
        return Err(appeared(job));
    }
    let mark = look(&job.place.image)?.map(|metadata| Mark::of(&metadata));
    job.work.image_mark = mark;
    job.state.safety_copy = None;
    let mut swap = Swap {
        old_inode: old.as_ref().map(MetadataExt::ino),
        old_mark: old.as_ref().map(Mark::of),
        keep: None,
        keep_inode: None,
        temporary: false,
        copy: None,
        sidecars: sidecars.iter().map(|suffix| (*suffix).to_owned()).collect(),
        kept: true,
    };
    if old.is_none() && sidecars.is_empty() {
        job.work.swap = Some(swap);
        return job.save();
    }
    swap.kept = false;
    let names: Vec<&str> = old.iter().map(|_| "").chain(sidecars).collect();
    let keep = arrange(job, &mut swap, true)?;
    let keep = match keep_under(&target, &keep, &names, swap.copy.is_none() && !swap.temporary)? {
        true => keep,
        // The folder is of this filesystem, yet takes no links from here: a mount of its own.
        false => {
            let keep = arrange(job, &mut swap, false)?;
            keep_under(&target, &keep, &names, false)?;
            keep
        }
    };
    if let Some(copy) = &swap.copy {
        for suffix in &names {
            taken_is_an_error(files::copy(&beside(&target, suffix), &beside(copy, suffix))?, copy)?;
        }
        sync_folder(folder_of(copy))?;
    }
    swap.keep_inode = files::inode(&keep)?;
    swap.kept = true;
    job.work.swap = Some(swap);
    job.save()
}

/// Chooses the names under which the old database is kept, and records them.
fn arrange(job: &mut Job, swap: &mut Swap, may_link: bool) -> Result<PathBuf, SourceError> {
    let safety = job.place.stamped(job.work.safety_suffix.as_str(), job.state.request.started);
    let local = beside(&job.place.target, ".backstay-old");
    let in_folder =
        job.work.safety_folder.as_ref().map(|folder| folder.join(safety.file_name().unwrap_or_default()));
    (swap.temporary, swap.copy) = (false, None);
    let keep = match (&job.state.request.safety, in_folder) {
        (Safety::None, _) => {
            swap.temporary = true;
            files::free_name(&local)?
        }
        (Safety::Folder(_), Some(wanted)) => {
            let wanted = files::free_name(&wanted)?;
            if may_link && same_filesystem(&job.place.folder, folder_of(&wanted))? {
                wanted
            } else {
                swap.temporary = true;
                swap.copy = Some(wanted);
                files::free_name(&local)?
            }
        }
        _ => files::free_name(&safety)?,
    };
    job.state.safety_copy = match (&swap.copy, swap.temporary) {
        (Some(copy), _) => Some(copy.display().to_string()),
        (None, true) => None,
        (None, false) => Some(keep.display().to_string()),
    };
    if swap.old_inode.is_none() {
        // Sidecars without a database are kept, and are none.
        job.state.safety_copy = None;
    }
    swap.keep = Some(keep.clone());
    job.work.swap = Some(swap.clone());
    job.save()?;
    Ok(keep)
}

/// Keeps each file under its other name; false where only links would do (`links_only`: another folder) and there are
/// none.
fn keep_under(target: &Path, keep: &Path, names: &[&str], elsewhere: bool) -> Result<bool, SourceError> {
    let links_only = elsewhere && folder_of(target) != folder_of(keep);
    for suffix in names {
        let (from, to) = (beside(target, suffix), beside(keep, suffix));
        let kept = match links_only {
            true => match files::link(&from, &to)? {
                Some(kept) => kept,
                None => return Ok(false),
            },
            false => files::keep(&from, &to)?,
        };
        taken_is_an_error(kept, &to)?;
    }
    sync_folder(folder_of(keep))?;
    Ok(true)
}

fn taken_is_an_error(kept: Kept, name: &Path) -> Result<(), SourceError> {
    if kept != Kept::Taken {
        return Ok(());
    }
    let message = "somebody else has just made a file of this name, which the safety copy was to have";
    Err(SourceError::new(SourceErrorKind::Unwritable, name.display().to_string(), message)
        .with_hint("run it again"))
}

/// Takes back the other names of an old database that is still in its place: they belong to an attempt before a
/// crash, and the old one may have been written to since. Repeatable: the names are in the record.
pub(super) fn let_go(job: &Job) -> Result<(), SourceError> {
    let Some(swap) = &job.work.swap else { return Ok(()) };
    for base in swap.keep.iter().chain(&swap.copy) {
        // The main file last: as long as its name is there, so is the claim on those of its sidecars.
        for suffix in files::SIDECARS.into_iter().chain([""]) {
            let name = beside(base, suffix);
            files::remove(&beside(&name, ".backstay-partial"))?;
            files::remove(&name)?;
        }
        sync_folder(folder_of(base))?;
    }
    Ok(())
}

/// Accepts the swap: what was kept for the way back only goes.
pub(super) fn accept(job: &Job) -> Result<(), SourceError> {
    if position(job)? != Position::New {
        return Err(job
            .error(SourceErrorKind::Failed, "is no longer the file that was swapped in")
            .with_hint(format!(
                "look what replaced it; {} puts the old database back",
                job.command("--rollback")
            )));
    }
    tell_strays(job);
    tell_owner(job)?;
    let temporary = job.work.swap.as_ref().filter(|swap| swap.temporary);
    let Some(base) = temporary.and_then(|swap| swap.keep.as_ref()) else { return Ok(()) };
    for suffix in files::SIDECARS.into_iter().chain([""]) {
        files::remove(&beside(base, suffix))?;
    }
    sync_folder(folder_of(base))
}

/// Says where sidecars are kept that lay there without their database.
fn tell_strays(job: &Job) {
    let Some(swap) = job.work.swap.as_ref().filter(|swap| swap.old_inode.is_none()) else { return };
    let kept = swap.copy.as_ref().or(swap.keep.as_ref().filter(|_| !swap.temporary));
    for (base, suffix) in
        kept.into_iter().flat_map(|base| swap.sidecars.iter().map(move |suffix| (base, suffix)))
    {
        let message = format!("is the {suffix} that lay beside the target without its database");
        let hint = "remove it when it is not needed".to_owned();
        job.tell(Severity::Notice, &beside(base, suffix), message, Some(hint));
    }
}

/// Says whose the new file is where no old one told whose it should be, and that may matter.
fn tell_owner(job: &Job) -> Result<(), SourceError> {
    let told = job.work.swap.as_ref().is_none_or(|swap| swap.old_inode.is_some());
    if told || job.mode() != RestoreMode::Swap {
        return Ok(());
    }
    let (Some(file), Some(folder)) = (look(job.target())?, look(&job.place.folder)?) else { return Ok(()) };
    let same = (file.uid(), file.gid()) == (folder.uid(), folder.gid());
    if file.uid() == folder.uid() && !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let like = if same { ", as its folder does," } else { "" };
    let message = format!(
        "was made anew, belongs to user {} and group {}{like} and has mode {:04o}",
        file.uid(),
        file.gid(),
        file.mode() & 0o7777
    );
    let shown = |path: &Path| quoted(&path.display().to_string());
    let (target, folder) = (shown(job.target()), shown(&job.place.folder));
    let hint = match same {
        true => format!("if it is another's, `chown USER:GROUP {target}` gives it to them"),
        false => format!("`chown --reference={folder} {target}` gives it to the owner of its folder"),
    };
    job.tell(Severity::Warning, job.target(), message, Some(hint));
    Ok(())
}

/// Tells whether two folders are on one filesystem.
pub(super) fn same_filesystem(one: &Path, other: &Path) -> Result<bool, SourceError> {
    let device = |path: &Path| {
        std::fs::metadata(path)
            .map(|metadata| metadata.dev())
            .map_err(|error| files::failed(path, "looked at", error))
    };
    Ok(device(one)? == device(other)?)
}
