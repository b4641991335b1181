//! Being alone with a database file: its lock, and a look at who has the file open.
//!
//! A connection that rests in rollback mode holds no lock; only the list of open files shows it. Somebody who is just
//! passing by is waited for. A crash drops the lock; nothing else was changed.

use crate::restore::{Holder, RestoreMode};
use crate::sqlite::holders::{Holders, beside, file_holders, lock_holders, open_here};
use crate::sqlite::restore::files;
use crate::sqlite::restore::job::Job;
use crate::sqlite::restore::lock::TargetLock;
use flow::{Severity, SourceError, SourceErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long somebody who is just passing by is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Makes sure that nobody uses the target, and keeps it so. Nothing to do where there is no file.
pub(super) fn quiet(job: &mut Job) -> Result<(), SourceError> {
    let target = job.place.target.clone();
    if job.lock.as_ref().map(|lock| lock.holds(&target)).transpose()? == Some(true) {
        return left_alone(job, || users(&target).holders);
    }
    job.lock = None;
    job.lock = alone_with(job, &target)?;
    Ok(())
}

/// Waits until nobody is found any more, and fails where somebody stays. A process that was just begun has what its
/// parent had open until it is a program of its own.
pub(super) fn left_alone(job: &Job, find: impl Fn() -> Vec<Holder>) -> Result<(), SourceError> {
    let started = Instant::now();
    loop {
        let holders = find();
        if holders.is_empty() {
            return Ok(());
        }
        if started.elapsed() >= PATIENCE {
            return Err(in_use(job, holders));
        }
        if job.context.cancel.wait(PAUSE) {
            return Err(SourceError::cancelled(job.object()));
        }
    }
}

/// Returns who uses a database now: by a lock, or by having one of its files open.
pub(super) fn users(target: &Path) -> Holders {
    let mut found = file_holders(&[
        target.to_owned(),
        beside(target, "-wal"),
        beside(target, "-shm"),
        beside(target, "-journal"),
    ]);
    for holder in lock_holders(target) {
        if !found.holders.contains(&holder) {
            found.holders.push(holder);
        }
    }
    found
}

/// Locks a database file once nobody else uses it; `None` where there is no such file.
pub(super) fn alone_with(job: &Job, path: &Path) -> Result<Option<TargetLock>, SourceError> {
    let started = Instant::now();
    loop {
        let Some(metadata) = files::look(path)? else { return Ok(None) };
        if !metadata.is_file() {
            return Err(job
                .error(SourceErrorKind::Unwritable, "is no regular file")
                .with_hint("name a database file as the target"));
        }
        let here = open_here(&[path.to_owned()]);
        let lock = if here { None } else { TargetLock::take(path)? };
        let mut list = users(path);
        if here {
            list.holders.push(Holder { pid: Some(std::process::id()), name: "another run in it".to_owned() });
        }
        if let Some(lock) = lock.filter(|_| list.holders.is_empty()) {
            remark(job, path, &lock, &list);
            return Ok(Some(lock));
        }
        if started.elapsed() >= PATIENCE {
            return Err(in_use(job, list.holders));
        }
        if job.context.cancel.wait(PAUSE) {
            return Err(SourceError::cancelled(job.object()));
        }
    }
}

/// Tells what the look at the users could not see.
fn remark(job: &Job, path: &Path, lock: &TargetLock, list: &Holders) {
    if list.unseen {
        let message = "the processes of other users cannot be looked at, and so not whether they have the database \
                       open";
        job.tell(Severity::Notice, path, message.to_owned(), Some("run it as root".to_owned()));
    }
    if !lock.is_effective() {
        let message = "the filesystem has no locks: only open files show who uses the database";
        job.tell(Severity::Warning, path, message.to_owned(), None);
    }
}

/// Makes the error that names who uses the target.
pub(super) fn in_use(job: &Job, mut holders: Vec<Holder>) -> SourceError {
    holders.dedup();
    let names: Vec<_> = holders
        .iter()
        .map(|holder| match holder.pid {
            Some(pid) => format!("process {pid} ({})", holder.name),
            None => holder.name.clone(),
        })
        .collect();
    let who = match names.is_empty() {
        true => "somebody who cannot be seen from here".to_owned(),
        false => names.join(", "),
    };
    let stop = "stop it, or let `--stop-command` do that";
    // Nobody is told to write in place who does so already, or who is on the way back.
    let hint = match job.mode() == RestoreMode::InPlace || job.state.rolling_back {
        true => stop.to_owned(),
        false => format!("{stop}, or write through it with `--in-place`"),
    };
    job.error(SourceErrorKind::InUse, format!("is in use by {who}")).with_hint(hint)
}
