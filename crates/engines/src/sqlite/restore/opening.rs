//! Opening the image, which nobody uses yet, to ask SQLite about it.
//!
//! Read only, without locks, and with nothing left beside it.

use crate::sqlite::uri::immutable_uri;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// How much memory the check may use, whatever the size of the database.
const CACHE_KIB: i64 = 64 << 10;

/// Opens the file with a share of the memory.
pub(super) fn open(path: &Path, shares: usize) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(immutable_uri(path), flags)?;
    // Rows are looked up in the order of others, all over the file: with a small cache each look is a read.
    connection.pragma_update(None, "cache_size", -CACHE_KIB / shares as i64)?;
    Ok(connection)
}
