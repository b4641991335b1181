//! Writing into the live target, which its users keep open: SQLite's own backup of the image into it, as one
//! transaction, after a consistent copy of what it held.
//!
//! The target is touched through SQLite alone, for closing a descriptor of it here would drop locks of this process.
//! A crash before the commit leaves the old content to SQLite's own recovery; whether the commit happened shows by
//! comparing the pages. The way back is the same write, with the safety copy.

use crate::restore::Safety;
use crate::sqlite::holders::{beside, lock_holders};
use crate::sqlite::open::Claim;
use crate::sqlite::restore::files::{self, folder_of, look, rename_to_free, sync_folder};
use crate::sqlite::restore::image;
use crate::sqlite::restore::in_place_error::failure;
use crate::sqlite::restore::job::{InPlace, Job};
use crate::sqlite::restore::pages::{self, Comparison};
use crate::sqlite::restore::quiesce;
use crate::sqlite::uri::immutable_uri;
use flow::{Cancel, Event, Severity, SourceError, SourceErrorKind};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long somebody's lock on the target is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
const PAGES_A_STEP: i32 = 256;

/// Opens the live target, and fails where the image could not be written into it.
pub(super) fn open(job: &Job) -> Result<Live, SourceError> {
    let connection = connect(job)?;
    let header = |connection: &Connection| -> rusqlite::Result<(u32, String)> {
        let page_bytes = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        Ok((page_bytes, connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?))
    };
    let (page_bytes, journal) =
        header(&connection).map_err(|error| failure(job, "cannot be opened", error))?;
    if journal == "wal" && page_bytes != job.work.page_bytes && job.work.size_bytes > 0 {
        let message = format!(
            "has pages of {page_bytes} bytes and the backup of {}, which cannot be changed in place in WAL mode",
            job.work.page_bytes
        );
        return Err(job
            .error(SourceErrorKind::Unsupported, message)
            .with_hint("stop its users, then restore without `--in-place`"));
    }
    Ok(connection)
}

fn connect(job: &Job) -> Result<Live, SourceError> {
    // Where there is no such file, SQLite says so.
    let claim = match std::fs::metadata(job.target()) {
        Ok(metadata) => Some(Claim::take(&metadata, job.target(), LOCK_WAIT, &Cancel::new())?),
        Err(_) => None,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(job.target(), flags)
        .and_then(|connection| {
            connection.busy_timeout(Duration::from_secs(5))?;
            // A commit ends with the removal of the journal. Unless that is durable too, a power cut later brings the
            // journal back, and SQLite rolls back by it what the record calls done.
            connection.pragma_update(None, "synchronous", "EXTRA")?;
            connection.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0))?;
            Ok(connection)
        })
        .map_err(|error| failure(job, "cannot be opened", error))?;
    Ok(Live { connection, _claim: claim })
}

/// The open target. Nothing else of this process opens and closes it meanwhile.
pub(super) struct Live {
    // Closed first, then free for others.
    connection: Connection,
    _claim: Option<Claim>,
}

impl Deref for Live {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Live {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// Copies what the target holds, then writes the image into it. Repeated after a crash, it sees what was done.
pub(super) fn run(job: &mut Job) -> Result<(), SourceError> {
    image::intact(job)?;
    let mut target = open(job)?;
    let begun = job.work.in_place.clone().filter(|begun| begun.kept);
    if begun.is_none() {
        keep(job, &target)?;
    } else if matches!(pages::compare(job, &target, &job.place.image)?, Comparison::Equal) {
        return Ok(());
    }
    let before = pages::version(&target).map_err(|error| failure(job, "cannot be read", error))?;
    write(job, &job.place.image, &mut target)?;
    if job.work.size_bytes == 0 {
        return Ok(());
    }
    match pages::compare(job, &target, &job.place.image)? {
        Comparison::Equal => Ok(()),
        Comparison::Different(page) => {
            let now = pages::version(&target).map_err(|error| failure(job, "cannot be read", error))?;
            different(job, page, now != before)
        }
    }
}

fn different(job: &Job, page: u64, written: bool) -> Result<(), SourceError> {
    if written {
        let message =
            "its users have written to it already, so it cannot be compared with the backup any more";
        job.tell(Severity::Notice, job.target(), message.to_owned(), None);
        return Ok(());
    }
    Err(job
        .error(SourceErrorKind::Damaged, format!("page {page} is not what was written"))
        .with_hint("check that disk, then restore again"))
}

/// Makes the safety copy: whole and durable under its name before the record says so.
fn keep(job: &mut Job, target: &Connection) -> Result<(), SourceError> {
    if let Some(begun) = job.work.in_place.take() {
        files::remove(&partial(&begun.keep))?;
        files::remove(&begun.keep)?;
    }
    let safety = job.place.stamped(job.work.safety_suffix.as_str(), job.state.request.started);
    let temporary = job.state.request.safety == Safety::None;
    let wanted = match (&job.work.safety_folder, temporary) {
        (_, true) => beside(job.target(), ".backstay-old"),
        (Some(folder), _) => folder.join(safety.file_name().unwrap_or_default()),
        (None, _) => safety,
    };
    let keep = files::free_name(&wanted)?;
    job.state.safety_copy = (!temporary).then(|| keep.display().to_string());
    job.work.in_place = Some(InPlace { keep: keep.clone(), temporary, kept: false });
    job.save()?;
    copy_content(job, target, &keep)?;
    job.work.in_place = Some(InPlace { keep, temporary, kept: true });
    job.save()
}

fn partial(keep: &Path) -> PathBuf {
    beside(keep, ".backstay-partial")
}

/// Copies the content of the open target, as of one moment, into a new file.
fn copy_content(job: &Job, target: &Connection, to: &Path) -> Result<(), SourceError> {
    job.phase("copying", None);
    let unfinished = partial(to);
    files::remove(&unfinished)?;
    drop(files::create(&unfinished)?);
    let copied = copy_into(job, target, &unfinished).and_then(|()| {
        own_like(job.target(), &unfinished).map_err(|error| files::failed(&unfinished, "written", error))?;
        files::open_read(&unfinished)?
            .sync_all()
            .map_err(|error| files::failed(&unfinished, "written", error))?;
        rename_to_free(&unfinished, to)
    });
    match copied {
        Ok(true) => sync_folder(folder_of(to)),
        Ok(false) => {
            files::remove(&unfinished)?;
            let message =
                "somebody else has just made a file of this name, which the safety copy was to have";
            Err(SourceError::new(SourceErrorKind::Unwritable, to.display().to_string(), message)
                .with_hint("run it again"))
        }
        Err(error) => {
            std::fs::remove_file(&unfinished).ok();
            Err(error)
        }
    }
}

fn copy_into(job: &Job, target: &Connection, file: &Path) -> Result<(), SourceError> {
    let unwritten = |error| failure(job, "cannot be copied", error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = Connection::open_with_flags(file, flags).map_err(unwritten)?;
    copy.pragma_update(None, "synchronous", "OFF").map_err(unwritten)?;
    copy.query_row("PRAGMA journal_mode=OFF", [], |_| Ok(())).map_err(unwritten)?;
    // One read transaction around all steps: the copy shows one moment, whoever writes meanwhile.
    let view = target.unchecked_transaction().map_err(unwritten)?;
    view.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(unwritten)?;
    transfer(job, target, &mut copy)
}

/// Gives the copy the owner and the mode of the target, by name, where the system lets us.
fn own_like(target: &Path, copy: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let like = std::fs::metadata(target)?;
    std::os::unix::fs::chown(copy, Some(like.uid()), Some(like.gid())).ok();
    std::fs::set_permissions(copy, like.permissions())
}

/// Writes the content of a file that nobody uses into the target.
fn write(job: &Job, from: &Path, target: &mut Connection) -> Result<(), SourceError> {
    job.phase("writing into", Some(job.work.size_bytes));
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(immutable_uri(from), flags)
        .map_err(|error| failure(job, "cannot be written into", error))?;
    transfer(job, &source, target)
}

/// Copies all pages as one transaction of the destination. Cancelled or failed before its end, nothing was changed.
fn transfer(job: &Job, from: &Connection, to: &mut Connection) -> Result<(), SourceError> {
    let failed = |error| failure(job, "cannot be written into", error);
    let backup = Backup::new(from, to).map_err(failed)?;
    let mut waiting: Option<Instant> = None;
    let mut left: Option<i32> = None;
    loop {
        job.check_cancel()?;
        let step = backup.step(PAGES_A_STEP).map_err(failed)?;
        match step {
            StepResult::Done => return Ok(()),
            StepResult::Busy | StepResult::Locked => {
                if waiting.get_or_insert_with(Instant::now).elapsed() > LOCK_WAIT {
                    let mut error = quiesce::in_use(job, lock_holders(job.target()));
                    error.hint = Some("let it end its transaction, then run it again".to_owned());
                    return Err(error);
                }
                job.context.cancel.wait(PAUSE);
            }
            _ => {
                waiting = None;
                let now = backup.progress().remaining;
                let done = u64::try_from(left.map_or(PAGES_A_STEP, |left| left - now)).unwrap_or(0);
                job.context.observer.event(Event::Bytes(done * u64::from(job.work.page_bytes)));
                left = Some(now);
            }
        }
    }
}

/// Accepts what was written: the image goes, and the safety copy where none is wanted.
pub(super) fn accept(job: &Job) -> Result<(), SourceError> {
    files::remove(&job.place.image)?;
    sync_folder(&job.place.folder)?;
    match &job.work.in_place {
        Some(begun) if begun.temporary => {
            files::remove(&begun.keep)?;
            sync_folder(folder_of(&begun.keep))
        }
        _ => Ok(()),
    }
}

/// Writes the safety copy into the target, if anything was written there. What its users wrote since then is kept.
pub(super) fn roll_back(job: &mut Job) -> Result<(), SourceError> {
    let Some(begun) = job.work.in_place.clone() else { return Ok(()) };
    if begun.kept {
        if look(&begun.keep)?.is_none() {
            return Err(SourceError::new(
                SourceErrorKind::Missing,
                begun.keep.display().to_string(),
                "the old content is no longer where it was kept, so it cannot be put back",
            )
            .with_hint(format!(
                "look for it, or accept the restored content with {}",
                job.command("--continue")
            )));
        }
        give_back(job, &begun.keep)?;
    }
    files::remove(&partial(&begun.keep))?;
    files::remove(&begun.keep)?;
    sync_folder(folder_of(&begun.keep))
}

fn give_back(job: &Job, keep: &Path) -> Result<(), SourceError> {
    let mut target = connect(job)?;
    if matches!(pages::compare(job, &target, keep)?, Comparison::Equal) {
        return Ok(());
    }
    let image = &job.place.image;
    if look(image)?.is_none() || !matches!(pages::compare(job, &target, image)?, Comparison::Equal) {
        let wanted = job.place.stamped(".backstay-rolled-back", job.state.request.started);
        let name = files::free_name(&wanted)?;
        copy_content(job, &target, &name)?;
        let message = "holds what was written into the restored database before it was rolled back";
        job.tell(
            Severity::Warning,
            &name,
            message.to_owned(),
            Some("remove it when it is not needed".into()),
        );
    }
    let before = pages::version(&target).map_err(|error| failure(job, "cannot be read", error))?;
    write(job, keep, &mut target)?;
    match pages::compare(job, &target, keep)? {
        Comparison::Equal => Ok(()),
        Comparison::Different(page) => {
            let now = pages::version(&target).map_err(|error| failure(job, "cannot be read", error))?;
            different(job, page, now != before)
        }
    }
}
