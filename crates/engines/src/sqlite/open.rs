//! Opening a database without harm: to the database, to whoever uses it, and to what lies beside it.
//!
//! Three traps are dealt with here. A file that this process has open through SQLite must not be opened and closed by
//! other means, or its locks are gone: hence the registry of files in use. Closing the last connection writes a
//! `-wal` back into the database: that is switched off where the `-wal` was there before us. And what cannot be
//! recovered in place, for lack of rights, is copied to scratch together with its `-wal` or `-journal`: the only time
//! a database is staged. The copy goes when it is closed; after a crash it stays in the scratch folder.

use super::failure;
use super::header::{Content, SNIFF_BYTES, classify};
use super::holders::{files_open_here, lock_holders};
use super::marks::beside;
use super::pages::Version;
use super::stage::{Staged, stage};
use super::uri::immutable_uri;
use flow::{Cancel, Context, SourceError, SourceErrorKind};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Access, access};
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How a database came to be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenedAs {
    /// As an application opens it; what a crash left is recovered.
    ReadWrite,
    /// Read-only in place.
    ReadOnly,
    /// As a copy in scratch.
    Staged,
}

/// An open database. Dropped, it is closed and leaves nothing behind that was not there before.
pub(super) struct Opened {
    // The order matters: closed first, then free for others, then removed.
    connection: Connection,
    pub(super) path: PathBuf,
    pub(super) access: OpenedAs,
    /// The state in which it was found when it was opened.
    pub(super) version: Version,
    _claim: Claim,
    _staged: Option<Staged>,
}

/// Files that this process has open through SQLite, by device and inode.
static IN_USE: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// The exclusive use of one file within this process.
pub(super) struct Claim((u64, u64));

impl Claim {
    /// Takes a file unless another piece of work has it.
    fn try_take(metadata: &Metadata) -> Option<Self> {
        let identity = identity(metadata);
        let free = IN_USE.lock().unwrap_or_else(PoisonError::into_inner).insert(identity);
        free.then_some(Self(identity))
    }

    /// Takes a file, and waits for whoever has it.
    pub(super) fn take(
        metadata: &Metadata,
        path: &Path,
        wait: Duration,
        cancel: &Cancel,
    ) -> Result<Self, SourceError> {
        let started = Instant::now();
        loop {
            if let Some(claim) = Self::try_take(metadata) {
                return Ok(claim);
            }
            if cancel.wait(Duration::from_millis(20)) {
                return Err(SourceError::cancelled(path.display().to_string()));
            }
            if started.elapsed() >= wait {
                let message = "is being read by another piece of work of this process";
                return Err(SourceError::new(SourceErrorKind::Busy, path.display().to_string(), message)
                    .with_hint("try again when that is done"));
            }
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Drop for Claim {
    fn drop(&mut self) {
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Returns the metadata of a regular file; says what else it is.
pub(super) fn regular_file(path: &Path) -> Result<Metadata, SourceError> {
    let metadata = std::fs::metadata(path).map_err(|error| failure::io(path, error))?;
    let kind = metadata.file_type();
    let what = if kind.is_file() {
        return Ok(metadata);
    } else if kind.is_dir() {
        "is a folder, not a database file"
    } else if kind.is_fifo() || kind.is_socket() {
        "is a pipe or socket, not a database file"
    } else {
        "is a device, not a database file"
    };
    let error = SourceError::new(SourceErrorKind::NotADatabase, path.display().to_string(), what);
    Err(error.with_hint("name the SQLite file itself; a folder of databases is named as the target"))
}

/// Tells what files are by their first bytes. Thousands of them are looked into, so a look takes few calls.
///
/// Those of a file that this process has open are read through SQLite, which alone can open and close it without taking
/// the locks away that the other connection has on it. Only what SQLite does not take for a database is then opened by
/// other means.
pub(super) struct Sniffer {
    /// The files that this process has open, by whatever part of it.
    open_here: Option<BTreeSet<(u64, u64)>>,
}

impl Sniffer {
    /// Begins a few looks, one soon after the other: what this process has open is found out now.
    pub(super) fn new() -> Self {
        Self { open_here: files_open_here() }
    }

    /// Tells what a regular file is.
    pub(super) fn sniff(&self, path: &Path) -> Result<Content, SourceError> {
        let metadata = regular_file(path)?;
        let claim = Claim::try_take(&metadata);
        self.look_at(path, &metadata, claim.as_ref())
    }

    /// Tells what a file is, of which this piece of work has the claim or nobody does.
    fn look_at(
        &self,
        path: &Path,
        metadata: &Metadata,
        claim: Option<&Claim>,
    ) -> Result<Content, SourceError> {
        if metadata.len() == 0 {
            return Ok(Content::Empty);
        }
        let is_open = self.open_here.as_ref().is_none_or(|open| open.contains(&identity(metadata)));
        if let (false, Some(claim)) = (is_open, claim) {
            return look_into(path, claim);
        }
        if let Ok(bytes) = first_page(path)
            && let content @ Content::Database(_) = classify(&bytes)
        {
            return Ok(content);
        }
        first_bytes(path).map(|bytes| classify(&bytes))
    }
}

/// Tells what a file is that nobody else in this process has open.
fn look_into(path: &Path, claim: &Claim) -> Result<Content, SourceError> {
    let failed = |error| failure::io(path, error);
    let file = File::open(path).map_err(failed)?;
    let bytes = head_of(&file);
    if !file.metadata().is_ok_and(|opened| identity(&opened) == claim.0) {
        // Another file took its name meanwhile. This process may have that one open: never closed, it takes no lock away.
        let _kept = file.into_raw_fd();
    }
    bytes.map(|bytes| classify(&bytes)).map_err(failed)
}

fn head_of(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; SNIFF_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads page 1 as it is in the file, whatever its `-wal` or `-journal` say, without any lock.
fn first_page(path: &Path) -> rusqlite::Result<Vec<u8>> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(immutable_uri(path), flags)?;
    connection.query_row("SELECT data FROM sqlite_dbpage WHERE pgno=1", [], |row| row.get(0))
}

/// Reads the first bytes of a file that is not open as a database.
fn first_bytes(path: &Path) -> Result<Vec<u8>, SourceError> {
    File::open(path).and_then(|file| head_of(&file)).map_err(|error| failure::io(path, error))
}

/// Opens the database at `path` for reading. Waits up to `wait` for locks, in small steps that a cancellation ends.
pub(super) fn open(path: &Path, wait: Duration, context: &Context) -> Result<Opened, SourceError> {
    let opened = open_locked(path, wait, context)?;
    opened.unlock()?;
    Ok(opened)
}

/// Opens the database at `path` as [`open`] does, and holds it: the read transaction of the first look goes on.
pub(super) fn open_locked(path: &Path, wait: Duration, context: &Context) -> Result<Opened, SourceError> {
    let metadata = regular_file(path)?;
    let claim = Claim::take(&metadata, path, wait, &context.cancel)?;
    let may_write = |path: &Path| access(path, Access::WRITE_OK).is_ok();
    let writable = may_write(path) && path.parent().is_some_and(may_write);
    let there = |suffix| beside(path, suffix).exists();
    // Where nothing lies beside it that SQLite would act upon, a look beforehand would tell nothing that SQLite does not;
    // what it is, if it is no database, is told below.
    let at_rest = writable && metadata.len() > 0 && !there("-wal") && !there("-journal");
    if at_rest && let Ok(connected) = connect(path, OpenedAs::ReadWrite, wait, context)? {
        return Ok(Opened::new(path, connected, OpenedAs::ReadWrite, claim, None));
    }
    let wal_mode = match Sniffer::new().look_at(path, &metadata, Some(&claim))? {
        Content::Empty => false,
        Content::Database(header) => header.wal,
        Content::Other { reason, hint } => {
            let kind = if reason.contains("damaged") || reason.contains("cut off") || reason.contains("zeros")
            {
                SourceErrorKind::Damaged
            } else {
                SourceErrorKind::NotADatabase
            };
            return Err(SourceError::new(kind, path.display().to_string(), reason).with_hint(hint));
        }
    };
    // Without rights to write, SQLite could not make (or could make and not remove) what WAL mode needs beside it.
    let in_place = writable || !wal_mode || (there("-wal") && there("-shm"));
    if in_place {
        let way = if writable { OpenedAs::ReadWrite } else { OpenedAs::ReadOnly };
        match connect(path, way, wait, context)? {
            Ok(connected) => return Ok(Opened::new(path, connected, way, claim, None)),
            Err(error) if !failure::needs_recovery_elsewhere(&error) => {
                return Err(explain(path, error));
            }
            Err(_) => {}
        }
    }
    let staged = stage(path, context)?;
    let connected =
        connect(staged.path(), OpenedAs::ReadWrite, wait, context)?.map_err(|error| explain(path, error))?;
    Ok(Opened::new(path, connected, OpenedAs::Staged, claim, Some(staged)))
}

/// Connects, begins a read transaction, and reads the first page, so that whatever is wrong shows now. The inner error
/// is for the caller to find another way; the outer one is final.
fn connect(
    path: &Path,
    way: OpenedAs,
    wait: Duration,
    context: &Context,
) -> Result<rusqlite::Result<(Connection, Version)>, SourceError> {
    let leftover = std::fs::metadata(beside(path, "-wal")).is_ok_and(|wal| wal.len() > 0);
    let access = match way {
        OpenedAs::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
        OpenedAs::ReadWrite | OpenedAs::Staged => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let connection = match Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX) {
        Ok(connection) => connection,
        Err(error) => return Ok(Err(error)),
    };
    let first_look = patiently(path, wait, &context.cancel, || {
        settle(&connection, leftover)?;
        begin_read(&connection)?;
        let version = look(&connection);
        if version.is_err() {
            let _rolled_back = connection.execute_batch("ROLLBACK");
        }
        version
    })?;
    let version = match first_look {
        Ok(version) => version,
        Err(error) => return Ok(Err(error)),
    };
    match missing_bytes(path, &version) {
        None => Ok(Ok((connection, version))),
        Some((expected, length)) => Err(cut_off(path, expected, length)),
    }
}

/// How many pages SQLite keeps of a database that is read from end to end.
const CACHE_PAGES: u32 = 64;

/// Looks at the state of the database within the first read transaction.
fn look(connection: &Connection) -> rusqlite::Result<Version> {
    let version = Version::look(connection)?;
    if version.pages > CACHE_PAGES {
        connection.pragma_update(None, "cache_size", CACHE_PAGES)?;
    }
    Ok(version)
}

/// Tells whether the file is shorter than its pages and no `-wal` makes up for it, as (expected, found): SQLite itself
/// reads the rest of a page that is cut as zeros. To be called within a read transaction.
fn missing_bytes(path: &Path, version: &Version) -> Option<(u64, u64)> {
    let expected = version.length();
    let length = std::fs::metadata(path).map_or(expected, |metadata| metadata.len());
    let has_wal = || std::fs::metadata(beside(path, "-wal")).is_ok_and(|wal| wal.len() > 0);
    (length < expected && !has_wal()).then_some((expected, length))
}

fn cut_off(path: &Path, expected: u64, length: u64) -> SourceError {
    failure::damaged(path, format!("is cut off: its header tells of {expected} bytes, the file has {length}"))
}

/// Sets what holds for every connection of ours to somebody's database.
fn settle(connection: &Connection, keep_wal: bool) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep_wal)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.execute_batch("PRAGMA query_only=ON; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY;")
}

/// Begins a read transaction and takes its lock, or leaves none.
fn begin_read(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN")?;
    let looked = connection
        .prepare_cached("SELECT length(data) FROM sqlite_dbpage WHERE pgno=1")
        .and_then(|mut statement| statement.query([])?.next().map(|_| ()));
    if looked.is_err() {
        let _rolled_back = connection.execute_batch("ROLLBACK");
    }
    looked
}

/// How often a lock is tried for. A program that commits all the time leaves the database free for a fraction of a
/// millisecond between two transactions: whoever looks seldom never finds it so.
const EAGER_PAUSE: Duration = Duration::from_micros(150);
const EAGER_FOR: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// Repeats what meets a lock until it does not, `wait` is over, or the work is cancelled. Errors that are not about
/// locks are the inner result.
pub(super) fn patiently<T>(
    path: &Path,
    wait: Duration,
    cancel: &Cancel,
    mut attempt: impl FnMut() -> rusqlite::Result<T>,
) -> Result<rusqlite::Result<T>, SourceError> {
    let started = Instant::now();
    loop {
        let cancelled = || SourceError::cancelled(path.display().to_string());
        cancel.check().map_err(|_| cancelled())?;
        match attempt() {
            Err(error) if failure::is_busy(&error) => {
                if started.elapsed() >= wait {
                    return Err(busy(path, wait, error));
                }
                let eager = started.elapsed() < EAGER_FOR;
                if cancel.wait(if eager { EAGER_PAUSE } else { PAUSE }) {
                    return Err(cancelled());
                }
            }
            other => return Ok(other),
        }
    }
}

fn busy(path: &Path, wait: Duration, error: rusqlite::Error) -> SourceError {
    // The kernel gives its list of locks in pieces: while others come and go, one of them may be passed over.
    let looks = (0..5).map(|_| lock_holders(path)).find(|holders| !holders.is_empty());
    let names: Vec<String> = looks
        .unwrap_or_default()
        .into_iter()
        .map(|holder| match holder.pid {
            Some(pid) => format!("{} (process {pid})", holder.name),
            None => holder.name,
        })
        .collect();
    let who = if names.is_empty() { "another process".to_owned() } else { names.join(", ") };
    let message = format!("is locked by {who}; waited {} s", wait.as_secs());
    SourceError::new(SourceErrorKind::Busy, path.display().to_string(), message)
        .with_hint("let its long transaction end, or stop it for the backup; WAL mode (`PRAGMA journal_mode=WAL`) lets both work at once")
        .with_source(error)
}

/// Makes the error of a database that does not open, with what the file itself tells.
fn explain(path: &Path, error: rusqlite::Error) -> SourceError {
    let no_pages = error.to_string().contains("sqlite_dbpage");
    if no_pages {
        let message =
            "the SQLite that this program was built with cannot read pages (sqlite_dbpage is missing)";
        return SourceError::new(SourceErrorKind::Failed, path.display().to_string(), message)
            .with_hint("build with LIBSQLITE3_FLAGS=-DSQLITE_ENABLE_DBPAGE_VTAB, as .cargo/config.toml does")
            .with_source(error);
    }
    if matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
    ) && let Ok(bytes) = first_bytes(path)
        && let Content::Database(header) = classify(&bytes)
    {
        let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let expected = u64::from(header.page_count.unwrap_or(0)) * u64::from(header.page_bytes);
        if expected > length {
            return cut_off(path, expected, length).with_source(error);
        }
    }
    failure::sqlite(path, error)
}

impl Opened {
    fn new(
        path: &Path,
        (connection, version): (Connection, Version),
        access: OpenedAs,
        claim: Claim,
        staged: Option<Staged>,
    ) -> Self {
        Self { connection, path: path.to_owned(), access, version, _claim: claim, _staged: staged }
    }

    /// Returns the connection, for reading within [`Self::lock`].
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Begins a read transaction: from now to [`Self::unlock`] the database does not change.
    pub(super) fn lock(&self, wait: Duration, cancel: &Cancel) -> Result<(), SourceError> {
        patiently(&self.path, wait, cancel, || begin_read(&self.connection))?
            .map_err(|error| self.error(error))
    }

    /// Ends the read transaction.
    pub(super) fn unlock(&self) -> Result<(), SourceError> {
        self.connection.execute_batch("COMMIT").map_err(|error| self.error(error))
    }

    /// Makes the source's error of one of SQLite's about this database.
    pub(super) fn error(&self, error: rusqlite::Error) -> SourceError {
        failure::sqlite(&self.path, error)
    }
}
