//! Comparing a live database with an image, page by page, as its own connection sees it.
//!
//! SQLite changes a few fields of the header with every write: those are no content, and are passed over. One read
//! transaction, nothing is changed.

use crate::sqlite::restore::files;
use crate::sqlite::restore::in_place_error::failure;
use crate::sqlite::restore::job::Job;
use flow::SourceError;
use rusqlite::Connection;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

/// Fields of the first page that a write changes by itself: read and write version (the journal mode), change counter
/// and size, schema cookie, and for which change the counter was valid with the library's version.
const VOLATILE: [Range<usize>; 4] = [18..20, 24..32, 40..44, 92..100];
/// Where SQLite's lock bytes are: the page that holds them is never used.
const LOCK_BYTES_START: u64 = 0x4000_0000;

/// What a comparison came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// The same pages.
    Equal,
    /// This page is the first that differs, or that only one of them has.
    Different(u64),
}

/// Returns a number that changes when another connection has written to the database.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0))
}

/// Compares the pages that a connection sees with those of a file that nobody writes to.
pub(super) fn compare(job: &Job, connection: &Connection, image: &Path) -> Result<Comparison, SourceError> {
    let unreadable = |error| failure(job, "cannot be read", error);
    let mut file = std::io::BufReader::with_capacity(1 << 20, files::open_read(image)?);
    let read = |error| files::failed(image, "read", error);
    let page_bytes: u32 =
        connection.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(unreadable)?;
    let lock_page = LOCK_BYTES_START / u64::from(page_bytes) + 1;
    let mut statement = connection
        .prepare("SELECT pgno, data FROM sqlite_dbpage('main') ORDER BY pgno")
        .map_err(unreadable)?;
    let mut rows = statement.query([]).map_err(unreadable)?;
    let mut wanted = vec![0; page_bytes as usize];
    let mut page = 0;
    while let Some(row) = rows.next().map_err(unreadable)? {
        job.check_cancel()?;
        page += 1;
        match file.read_exact(&mut wanted) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Ok(Comparison::Different(page));
            }
            Err(error) => return Err(read(error)),
        }
        let found = row.get_ref(1).and_then(|value| Ok(value.as_blob()?)).map_err(unreadable)?;
        if page != lock_page && !same_page(found, &wanted, page == 1) {
            return Ok(Comparison::Different(page));
        }
    }
    // An empty database has no pages, or one that holds nothing.
    let rest = file.read(&mut wanted).map_err(read)?;
    Ok(if rest == 0 { Comparison::Equal } else { Comparison::Different(page + 1) })
}

fn same_page(found: &[u8], wanted: &[u8], first: bool) -> bool {
    if !first {
        return found == wanted;
    }
    let mut start = 0;
    for field in VOLATILE {
        if found.get(start..field.start) != wanted.get(start..field.start) {
            return false;
        }
        start = field.end;
    }
    found.get(start..) == wanted.get(start..)
}
