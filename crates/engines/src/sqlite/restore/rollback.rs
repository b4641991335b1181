//! The way back: the old database under its name again, with the sidecars that it had, or nothing where there was
//! nothing.
//!
//! It begins wherever the restore was left, tells by inodes what the target's name shows, and may be repeated after a
//! crash in the middle of it. What users have written into the new database meanwhile is kept under a name of its own.

use crate::restore::{RestoreError, RestoreMode, RestoreStep};
use crate::sqlite::holders::beside;
use crate::sqlite::restore::exchange::{exchange, keep_changed, set_aside};
use crate::sqlite::restore::files::{self, filled_sidecars, look, rename_to_free, sync_folder};
use crate::sqlite::restore::in_place;
use crate::sqlite::restore::job::{Job, Mark};
use crate::sqlite::restore::quiesce;
use crate::sqlite::restore::swap::{self, Position, position};
use flow::{Cancel, Severity, SourceError, SourceErrorKind};

/// Undoes the restore and removes its record.
pub(super) fn run(job: &mut Job) -> Result<(), RestoreError> {
    if job.over || job.record.is_none() {
        return Ok(());
    }
    job.phase("rolling back", None);
    // Whoever interrupted the restore wants the way back, not half of it.
    job.context.cancel = Cancel::new();
    begin(job)?;
    if job.mode() == RestoreMode::InPlace {
        in_place::roll_back(job)?;
    } else {
        let untouched = position(job)? == Position::Old;
        give_back(job)?;
        job.lock = None;
        if untouched || !nothing_before(job) {
            swap::let_go(job)?;
        }
    }
    remove_image(job)?;
    if let Some(record) = job.record.take() {
        record.remove()?;
    }
    job.over = true;
    job.state.safety_copy = None;
    Ok(())
}

/// Records that the way back was taken. A disk that is full by our own image is made room on first.
fn begin(job: &mut Job) -> Result<(), SourceError> {
    job.state.rolling_back = true;
    if job.state.step < RestoreStep::Swap {
        // Nothing but the image was made: without it the record is as good as before.
        remove_image(job)?;
        job.save().ok();
        return Ok(());
    }
    job.save()
}

fn give_back(job: &mut Job) -> Result<(), SourceError> {
    match position(job)? {
        Position::Old => return Ok(()),
        Position::Nothing => {}
        Position::New => {
            job.lock = None;
            quiesce::quiet(job)?;
            let now = look(job.target())?.map(|metadata| Mark::of(&metadata));
            if now != job.work.image_mark || !filled_sidecars(job.target())?.is_empty() {
                let name = keep_changed(job)?;
                let message = "holds what was written into the restored database before it was rolled back";
                job.tell(
                    Severity::Warning,
                    &name,
                    message.to_owned(),
                    Some("remove it when it is not needed".into()),
                );
            }
        }
        Position::Foreign if nothing_before(job) => return put_sidecars_back(job),
        Position::Foreign => drop(set_aside(job)?),
    }
    let new = position(job)? == Position::New;
    let (keep, sidecars) = match &job.work.swap {
        Some(swap) if swap.old_inode.is_some() => (swap.keep.clone(), swap.sidecars.clone()),
        _ => (None, Vec::new()),
    };
    let Some(keep) = keep else {
        files::remove_set(job.target())?;
        return put_sidecars_back(job);
    };
    if look(&keep)?.is_none() {
        return Err(SourceError::new(
            SourceErrorKind::Missing,
            keep.display().to_string(),
            "the old database is no longer where it was kept, so it cannot be put back",
        )
        .with_hint(format!("look for it, or accept the restored one with {}", job.command("--continue"))));
    }
    exchange(job, &keep, &sidecars, new)
}

/// Tells whether the target's name was free before.
pub(super) fn nothing_before(job: &Job) -> bool {
    job.work.swap.as_ref().is_none_or(|swap| swap.old_inode.is_none())
}

/// Gives sidecars that lay there without a database their names again, where those are free.
fn put_sidecars_back(job: &Job) -> Result<(), SourceError> {
    let Some((swap, keep)) = job.work.swap.as_ref().and_then(|swap| Some((swap, swap.keep.as_ref()?))) else {
        return Ok(());
    };
    for suffix in &swap.sidecars {
        let kept = beside(keep, suffix);
        if look(&kept)?.is_some() && look(job.target())?.is_none() {
            rename_to_free(&kept, &beside(job.target(), suffix))?;
        }
    }
    sync_folder(files::folder_of(keep))?;
    sync_folder(&job.place.folder)
}

fn remove_image(job: &Job) -> Result<(), SourceError> {
    if files::remove(&job.place.image)? { sync_folder(&job.place.folder) } else { Ok(()) }
}
