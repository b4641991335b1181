//! Opening the journal: making it, knowing it again, and starting anew where it is damaged.
//!
//! A crash while it is made leaves an empty file or a whole schema. A damaged file is renamed, never removed; whoever
//! is at it holds a lock on the folder, so that no second process renames what the first has just made.

use crate::{Journal, JournalError};
use flow::{Finding, Severity};
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use rustix::fs::FlockOperation;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// `Bkst`: whose file it is, for `file(1)` and for us.
const APPLICATION_ID: i32 = 0x426b_7374;
const SCHEMA_VERSION: i32 = 1;
const LOCK_WAIT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    command TEXT NOT NULL,
    target TEXT,
    started TEXT NOT NULL,
    finished TEXT,
    outcome TEXT,
    report TEXT
) STRICT;
CREATE TABLE restore_step (
    id INTEGER PRIMARY KEY,
    restore TEXT NOT NULL,
    target TEXT NOT NULL,
    step TEXT NOT NULL,
    started TEXT NOT NULL,
    finished TEXT,
    outcome TEXT
) STRICT;
CREATE INDEX restore_step_restore ON restore_step (restore, id);
";

/// Why a file is not used as a journal.
enum Refusal {
    /// Its content is damaged, or no database at all.
    Damaged(rusqlite::Error),
    /// It must stay as it is.
    Other(JournalError),
}

impl Journal {
    /// Opens the journal at `path`, or makes it (mode 0600, its folder 0700). A damaged one is moved aside and a new
    /// one begun, which the finding says. Another program's database is refused and left alone, and so is a journal
    /// of a newer version.
    pub fn open(path: impl Into<PathBuf>) -> Result<(Self, Vec<Finding>), JournalError> {
        let path = path.into();
        let attempt = lock_folder(&path, FlockOperation::LockShared).and_then(|_lock| connect(&path));
        match attempt {
            Ok(connection) => Ok((Self { path, connection: Mutex::new(connection) }, Vec::new())),
            Err(Refusal::Other(error)) => Err(error),
            Err(Refusal::Damaged(_)) => replace(path),
        }
    }
}

/// Moves a damaged journal aside and begins a new one, unless another process has done so meanwhile.
fn replace(path: PathBuf) -> Result<(Journal, Vec<Finding>), JournalError> {
    let fail = |error: io::Error| {
        JournalError::new(&path, "is damaged and cannot be moved aside").with_source(error)
    };
    let _lock = match lock_folder(&path, FlockOperation::LockExclusive) {
        Ok(lock) => lock,
        Err(Refusal::Other(error)) => return Err(error),
        Err(Refusal::Damaged(error)) => {
            return Err(JournalError::new(&path, "cannot be made").with_source(error));
        }
    };
    let damage = match connect(&path) {
        Ok(connection) => return Ok((Journal { path, connection: Mutex::new(connection) }, Vec::new())),
        Err(Refusal::Other(error)) => return Err(error),
        Err(Refusal::Damaged(damage)) => damage,
    };
    let aside = move_aside(&path).map_err(fail)?;
    let connection = connect(&path).map_err(|refusal| match refusal {
        Refusal::Other(error) => error,
        Refusal::Damaged(error) => JournalError::new(&path, "cannot be made").with_source(error),
    })?;
    let finding = Finding {
        severity: Severity::Warning,
        object: path.display().to_string(),
        message: format!("the journal was damaged ({damage}); a new one was begun"),
        hint: Some(format!("the damaged one is kept as {}", aside.display())),
    };
    Ok((Journal { path, connection: Mutex::new(connection) }, vec![finding]))
}

/// Locks the journal's folder, made where it is not there: shared by those who open a journal, so that nobody moves it
/// aside meanwhile. Given back when dropped.
fn lock_folder(path: &Path, kind: FlockOperation) -> Result<File, Refusal> {
    let fail =
        |error: io::Error| Refusal::Other(JournalError::new(path, "cannot be made").with_source(error));
    DirBuilder::new().recursive(true).mode(0o700).create(parent(path)).map_err(fail)?;
    let folder = File::open(parent(path)).map_err(fail)?;
    rustix::fs::flock(&folder, kind).map_err(|error| fail(error.into()))?;
    Ok(folder)
}

#[allow(clippy::disallowed_methods, reason = "a cache: renamed, not rewritten, and lost without harm")]
fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let stamp = Timestamp::now().as_millisecond();
    let aside = with_suffix(path, &format!(".damaged-{stamp}"));
    // What belongs to the old file goes first: it would be rolled into the new one, and once the name is free another
    // process may begin the new one, with a journal of its own.
    for suffix in ["-journal", "-wal", "-shm"] {
        match std::fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn connect(path: &Path) -> Result<Connection, Refusal> {
    make_file(path)
        .map_err(|error| Refusal::Other(JournalError::new(path, "cannot be made").with_source(error)))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let prepared = Connection::open_with_flags(path, flags).and_then(|mut connection| {
        connection.busy_timeout(LOCK_WAIT)?;
        // The default rollback journal: works on network file systems too. Losing the last run to a power cut is no
        // harm, a damaged file is.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let problem = check(&mut connection)?;
        Ok((connection, problem))
    });
    match prepared {
        Ok((connection, None)) => Ok(connection),
        Ok((_, Some(problem))) => Err(Refusal::Other(JournalError::new(path, problem))),
        Err(error) if is_damage(&error) => Err(Refusal::Damaged(error)),
        Err(error) => Err(Refusal::Other(JournalError::new(path, "cannot be opened").with_source(error))),
    }
}

/// Makes the file, for SQLite would make it with other rights. Never opens one that exists: closing it again would
/// drop the locks that another thread's connection holds.
#[allow(clippy::disallowed_methods, reason = "an empty file for SQLite to fill")]
fn make_file(path: &Path) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes the schema where the file is empty; tells why the file is not ours to use.
fn check(connection: &mut Connection) -> Result<Option<String>, rusqlite::Error> {
    if version(connection)? == 0 {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let objects: i64 =
            transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        // Another process may have made the schema while this one waited.
        if version(&transaction)? == 0 {
            if objects > 0 {
                return Ok(Some("is another program's database".to_owned()));
            }
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        transaction.commit()?;
    }
    let id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if id != APPLICATION_ID {
        return Ok(Some("is another program's database".to_owned()));
    }
    let found = version(connection)?;
    if found != SCHEMA_VERSION {
        return Ok(Some(format!(
            "has the format version {found}; this program knows version {SCHEMA_VERSION}"
        )));
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(None);
    }
    let damage = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(damage, Some(verdict)))
}

fn version(connection: &Connection) -> Result<i32, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
