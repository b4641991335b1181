//! By what a database is known as unchanged, without opening it: identity, size and times of the file and its `-wal`.
//!
//! The header's change counter is not enough: in WAL mode it does not move with every transaction. The change time
//! (`ctime`) cannot be set back by a program, so `touch -r` hides nothing. Marks are taken before the first byte of
//! content is read; a change during the backup therefore shows at the next one.

use super::failure;
use flow::{Marks, SourceError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// How much older than the look at them times must be to be trusted: filesystems keep them coarsely.
const SETTLED_NS: i128 = 2_000_000_000;

/// What `stat` says of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileMark {
    pub(super) inode: u64,
    pub(super) size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
}

/// The marks of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileMarks {
    path: String,
    dev: u64,
    #[serde(flatten)]
    file: FileMark,
    /// `None` where there is no `-wal`, or an empty one.
    wal: Option<FileMark>,
}

impl FileMark {
    fn of(metadata: &fs::Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            inode: metadata.ino(),
            size: metadata.len(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Looks at a file; `None` where there is none.
    pub(super) fn look(path: &Path) -> Result<Option<Self>, SourceError> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failure::io(path, error)),
        }
    }
}

/// Returns the path of what SQLite keeps beside a database: `-wal`, `-shm`, `-journal`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the marks of the database at this canonical path. Opens nothing.
pub(super) fn take(path: &Path) -> Result<Marks, SourceError> {
    let read_at = Timestamp::now();
    let metadata = fs::metadata(path).map_err(|error| failure::io(path, error))?;
    let wal = FileMark::look(&beside(path, "-wal"))?.filter(|mark| mark.size > 0);
    let marks = FileMarks {
        path: path.display().to_string(),
        dev: metadata.dev(),
        file: FileMark::of(&metadata),
        wal,
    };
    let value = serde_json::to_value(&marks).unwrap_or(serde_json::Value::Null);
    Ok(Marks { read_at, value: value.into() })
}

/// Tells whether nothing has happened to the database between the two looks, and the earlier look came long enough
/// after the last change for file times to tell.
pub(super) fn unchanged(previous: &Marks, now: &Marks) -> bool {
    let Ok(before) = FileMarks::deserialize(&*previous.value) else { return false };
    let Ok(after) = FileMarks::deserialize(&*now.value) else { return false };
    let settled = |time_ns: i64| previous.read_at.as_nanosecond() - i128::from(time_ns) > SETTLED_NS;
    // SQLite as root sets the owner of a `-wal` whenever it opens it, which renews its change time; its frames renew
    // the other one.
    before == after
        && settled(before.file.mtime_ns.max(before.file.ctime_ns))
        && before.wal.is_none_or(|wal| settled(wal.mtime_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(read_second: i64, changed_second: i64, wal_changed: Option<i64>) -> Marks {
        let mark = |second: i64| FileMark {
            inode: 1,
            size: 4096,
            mtime_ns: second * 1_000_000_000,
            ctime_ns: second * 1_000_000_000,
        };
        let value = FileMarks {
            path: "/db".to_owned(),
            dev: 1,
            file: mark(changed_second),
            wal: wal_changed.map(mark),
        };
        let read_at = Timestamp::from_second(read_second).unwrap_or_default();
        Marks { read_at, value: serde_json::to_value(value).unwrap_or_default().into() }
    }

    #[test]
    fn marks_younger_than_two_seconds_count_as_changed() {
        assert!(unchanged(&marks(103, 100, None), &marks(500, 100, None)));
        assert!(!unchanged(&marks(102, 100, None), &marks(500, 100, None)));
        assert!(!unchanged(&marks(99, 100, None), &marks(500, 100, None)));
        assert!(!unchanged(&marks(103, 50, Some(102)), &marks(500, 50, Some(102))));
        assert!(unchanged(&marks(103, 50, Some(100)), &marks(500, 50, Some(100))));
    }

    #[test]
    fn another_time_or_a_new_wal_is_a_change() {
        assert!(!unchanged(&marks(103, 99, None), &marks(500, 100, None)));
        assert!(!unchanged(&marks(103, 99, None), &marks(500, 99, Some(99))));
        let alien = Marks { read_at: Timestamp::now(), value: serde_json::Value::Null.into() };
        assert!(!unchanged(&alien, &alien));
    }
}
