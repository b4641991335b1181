//! Reading pages through the connection that holds the lock, by the virtual table `sqlite_dbpage`.
//!
//! One lookup a page with a kept statement, the page borrowed from SQLite and copied once into the part's buffer. A
//! range over page numbers would be a scan of the whole table each time.

use super::header::Header;
use rusqlite::{CachedStatement, Connection};
use std::time::Instant;

/// The state of a database under a lock, by what tells two states apart in rollback mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) page_bytes: u32,
    pub(super) pages: u32,
    pub(super) change_counter: u32,
    /// In WAL mode the counter says nothing, but a read transaction hinders nobody.
    pub(super) wal: bool,
}

impl Version {
    /// Looks at the database; to be called within a read transaction.
    pub(super) fn look(connection: &Connection) -> rusqlite::Result<Self> {
        let number = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, u32>(0));
        let pages = number("PRAGMA page_count")?;
        let mut statement = connection.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno=1")?;
        let mut rows = statement.query([])?;
        let header = match rows.next()? {
            Some(row) => Header::parse(row.get_ref(0)?.as_blob()?),
            None => None,
        };
        Ok(match header {
            Some(Header { page_bytes, change_counter, wal, .. }) => {
                Self { page_bytes, pages, change_counter, wal }
            }
            None => Self { page_bytes: number("PRAGMA page_size")?, pages, change_counter: 0, wal: false },
        })
    }

    /// Returns the length of the image.
    pub(super) fn length(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.page_bytes)
    }
}

/// Reads pages one after another.
pub(super) struct PageReader<'connection>(CachedStatement<'connection>);

impl<'connection> PageReader<'connection> {
    /// Makes a reader; the statement is kept by the connection for the next one.
    pub(super) fn new(connection: &'connection Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno=?1").map(Self)
    }

    /// Appends one page to `out`.
    pub(super) fn read(&mut self, page: u32, out: &mut Vec<u8>) -> rusqlite::Result<()> {
        self.0.raw_bind_parameter(1, page)?;
        let mut rows = self.0.raw_query();
        match rows.next()? {
            Some(row) => out.extend_from_slice(row.get_ref(0)?.as_blob()?),
            None => return Err(rusqlite::Error::QueryReturnedNoRows),
        }
        Ok(())
    }

    /// Appends the pages from `first` to `last`, both included, until `deadline`; returns the first that was not read.
    pub(super) fn read_until(
        &mut self,
        first: u32,
        last: u32,
        deadline: Option<Instant>,
        out: &mut Vec<u8>,
    ) -> rusqlite::Result<u32> {
        for page in first..=last {
            self.read(page, out)?;
            // A look at the clock every 16 pages costs nothing and still keeps the limit.
            if page % 16 == 0 && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(page + 1);
            }
        }
        Ok(last + 1)
    }
}
