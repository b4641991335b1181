//! The restore record: a small file beside the target that says how far a restore got, and that is the target's lock.
//!
//! Each line is one whole state with the process that wrote it, appended and synced before a step acts; the last whole
//! line counts, so a line that a crash tore is as if it had never been begun. An exclusive `flock` on the file is held
//! for as long as the restore lives and ends with its process, whatever kills it: a record without that lock was left
//! behind. A record without any whole line belongs to a restore that had done nothing yet.

use crate::restore::RestoreState;
use flow::{SourceError, SourceErrorKind, quoted};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Room that is set aside for the lines of a record, so that a full disk does not keep a restore from being undone.
const RESERVED_BYTES: u64 = 128 * 1024;
/// A look at a record holds its lock for a moment; whoever takes it tries again for a little longer than that.
const LOCK_TRIES: u32 = 10;

#[derive(Serialize, Deserialize)]
struct Line {
    pid: u32,
    host: String,
    state: RestoreState,
}

/// What a look at a record shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Look {
    /// The last state; `None` where nothing was done yet. Its `owner_alive` is set.
    pub(crate) state: Option<RestoreState>,
    /// Whether a live process holds it.
    pub(crate) alive: bool,
    /// The process that wrote the last line.
    pub(crate) pid: Option<u32>,
    /// The host of that process.
    pub(crate) host: Option<String>,
}

/// A record that this process holds locked. Dropped, it stays behind without its lock.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    file: File,
    /// Where the whole lines end.
    end: u64,
}

impl Record {
    /// Makes the record, locked, or takes over one whose restore had done nothing. Durable once the first state was
    /// appended. Fails where another restore runs or waits to be finished.
    pub(crate) fn create(path: &Path) -> Result<Self, SourceError> {
        let (file, created) = match open(path, true) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                (open(path, false).map_err(|error| unwritable(path, "opened", error))?, false)
            }
            Err(error) => return Err(unwritable(path, "made", error)),
        };
        let mut record = Self { path: path.to_owned(), file, end: 0 };
        if !record.lock()? {
            return Err(in_use(path, &look(path)?.unwrap_or_else(Look::unknown)));
        }
        let (line, end) = record.last_line()?;
        if let Some(line) = line {
            return Err(in_use(path, &Look::of(line, false)));
        }
        record.cut_at(end)?;
        if created {
            reserve(&record.file);
            if let Err(error) = sync_folder_of(path) {
                std::fs::remove_file(path).ok();
                return Err(error);
            }
        }
        Ok(record)
    }

    /// Takes up a record that was left behind, and returns the state that it holds. Fails while its owner lives, or
    /// where there is none.
    pub(crate) fn take_up(path: &Path) -> Result<(Self, RestoreState), SourceError> {
        let missing = || {
            SourceError::new(
                SourceErrorKind::Missing,
                path.display().to_string(),
                "there is no restore to be finished",
            )
        };
        let file = match open(path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(unwritable(path, "opened", error)),
        };
        let mut record = Self { path: path.to_owned(), file, end: 0 };
        if !record.lock()? {
            return Err(in_use(path, &look(path)?.unwrap_or_else(Look::unknown)));
        }
        let (line, end) = record.last_line()?;
        record.cut_at(end)?;
        Ok((record, line.ok_or_else(missing)?.state))
    }

    /// Appends a state; durable when it returns. After an error the record still shows the state before.
    pub(crate) fn append(&mut self, state: &RestoreState) -> Result<(), SourceError> {
        let line = Line { pid: std::process::id(), host: host_name(), state: state.clone() };
        let mut text = serde_json::to_vec(&line).map_err(|error| {
            SourceError::new(
                SourceErrorKind::Invalid,
                self.path.display().to_string(),
                "the restore cannot be recorded: a path is not UTF-8 text",
            )
            .with_source(error)
        })?;
        text.push(b'\n');
        let written = self
            .file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| self.file.write_all(&text))
            .and_then(|()| self.file.sync_all());
        if let Err(error) = written {
            self.file.set_len(self.end).ok();
            return Err(unwritable(&self.path, "written", error));
        }
        self.end += text.len() as u64;
        if text.len() as u64 == self.end {
            // The first line: what it says must not be lost with the name of the file.
            sync_folder_of(&self.path)?;
        }
        Ok(())
    }

    /// Removes the record, still locked; durable when it returns.
    pub(crate) fn remove(self) -> Result<(), SourceError> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(unwritable(&self.path, "removed", error))
            }
            _ => sync_folder_of(&self.path),
        }
    }

    /// Takes the lock; false where another process holds it, or has just removed the record.
    fn lock(&self) -> Result<bool, SourceError> {
        for attempt in 0..LOCK_TRIES {
            match self.file.try_lock() {
                Ok(()) => {
                    // Its owner may have removed it after we opened it: then we hold a file without a name.
                    let own = self.file.metadata().map_err(|error| unwritable(&self.path, "read", error))?;
                    let named = std::fs::symlink_metadata(&self.path);
                    return Ok(named.is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino())));
                }
                Err(TryLockError::WouldBlock) if attempt + 1 < LOCK_TRIES => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(unwritable(&self.path, "locked", error)),
            }
        }
        Ok(false)
    }

    /// Drops what follows the whole lines. Not done without need: it would give the reserved room back.
    fn cut_at(&mut self, end: u64) -> Result<(), SourceError> {
        self.end = end;
        let cut = self.file.metadata().and_then(|metadata| match metadata.len() > end {
            true => self.file.set_len(end),
            false => Ok(()),
        });
        cut.map_err(|error| unwritable(&self.path, "written", error))
    }

    fn last_line(&mut self) -> Result<(Option<Line>, u64), SourceError> {
        last_line(&mut self.file).map_err(|error| unwritable(&self.path, "read", error))
    }
}

impl Drop for Record {
    /// Gives the lock up by name: a child process that is just being started holds the same open file for a moment.
    fn drop(&mut self) {
        self.file.unlock().ok();
    }
}

impl Look {
    fn of(mut line: Line, alive: bool) -> Self {
        line.state.owner_alive = alive;
        Self { state: Some(line.state), alive, pid: Some(line.pid), host: Some(line.host) }
    }

    fn unknown() -> Self {
        Self { state: None, alive: true, pid: None, host: None }
    }
}

/// What the name of a record adds to that of its database.
pub(crate) const RECORD_ENDING: &str = ".backstay-restore";

/// Returns the path of the record of a database file.
pub(crate) fn record_path(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(RECORD_ENDING);
    PathBuf::from(name)
}

/// Looks at a record without taking it up; `None` where there is none.
pub(crate) fn look(path: &Path) -> Result<Option<Look>, SourceError> {
    let unreadable = |error: std::io::Error| {
        SourceError::new(
            SourceErrorKind::Unreadable,
            path.display().to_string(),
            "the record of an unfinished restore cannot be read",
        )
        .with_hint("run it as the user who began the restore")
        .with_source(error)
    };
    let mut file = match OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let alive = match file.try_lock_shared() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => return Err(unreadable(error)),
    };
    let (line, _) = last_line(&mut file).map_err(unreadable)?;
    Ok(Some(match line {
        Some(line) => Look::of(line, alive),
        None => Look { alive, ..Look::unknown() },
    }))
}

/// Makes the error that names the restore which stands in the way.
pub(crate) fn in_use(path: &Path, look: &Look) -> SourceError {
    let object = path.display().to_string();
    if look.alive {
        let who = match (look.pid, &look.host) {
            (Some(pid), Some(host)) => format!(" by process {pid} on {host}"),
            _ => String::new(),
        };
        return SourceError::new(SourceErrorKind::InUse, object, format!("a restore is running{who}"))
            .with_hint("wait until it has ended");
    }
    let target = look
        .state
        .as_ref()
        .map_or_else(String::new, |state| format!(" --target {}", quoted(&state.request.target.connection)));
    let begun = look
        .state
        .as_ref()
        .map_or_else(String::new, |state| format!(" of {} by {}", state.request.started, state.request.host));
    SourceError::new(SourceErrorKind::InUse, object, format!("a restore{begun} was left unfinished"))
        .with_hint(format!(
            "finish it with `backstay restore --continue{target}`, or undo it with `--rollback` instead"
        ))
}

fn open(path: &Path, new: bool) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(new)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}

/// Reads the last whole line, and where the whole lines end. A record is small: a line a step.
fn last_line(file: &mut File) -> std::io::Result<(Option<Line>, u64)> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut text)?;
    let (mut last, mut end, mut start) = (None, 0, 0);
    while let Some(length) = text[start..].iter().position(|byte| *byte == b'\n') {
        let stop = start + length + 1;
        let Ok(line) = serde_json::from_slice::<Line>(&text[start..stop]) else { break };
        (last, end, start) = (Some(line), stop as u64, stop);
    }
    Ok((last, end))
}

/// Keeps room beyond the end of the file; where the filesystem cannot, a line may later find the disk full.
fn reserve(file: &File) {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, RESERVED_BYTES).ok();
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn sync_folder_of(path: &Path) -> Result<(), SourceError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| unwritable(path, "made durable", error))
}

fn unwritable(path: &Path, verb: &str, error: std::io::Error) -> SourceError {
    let hint = match error.kind() {
        std::io::ErrorKind::StorageFull => "free some space on that filesystem",
        std::io::ErrorKind::ReadOnlyFilesystem => "the filesystem is mounted read-only: mount it for writing",
        std::io::ErrorKind::NotFound => "make the folder first, or name another target",
        _ => "run it as a user who may write to that folder",
    };
    SourceError::new(
        SourceErrorKind::Unwritable,
        path.display().to_string(),
        format!("the restore record cannot be {verb}"),
    )
    .with_hint(hint)
    .with_source(error)
}
