//! The rows of one table, from the backup into a table of the transaction that is open, read back and compared there.
//!
//! Nothing of it can be seen by others before that transaction is committed; a crash before leaves nothing.

use super::archive::entry;
use super::load::{COPY_MAX_BYTES, chunk};
use super::tables::rows;
use super::verify;
use crate::postgres::failure;
use crate::postgres::session::Session;
use crate::restore::RestoreError;
use flow::{BackupReader, Context, Event, SourceError, SourceErrorKind};
use tokio_postgres::error::SqlState;

const CHUNK_BYTES: usize = 512 << 10;
/// What mends rows that collide with those that are there.
pub(super) const COLLIDES: &str = "such rows are there already: name the tables that lack theirs by \
     `--table`; of a backup or an archive, `--table TABLE --in-place` replaces the rows of a table and keeps a copy";
/// What mends rows that point to others which are nowhere.
pub(super) const POINTS_NOWHERE: &str =
    "the rows that it points to must be there before, or come with it: name that table too";

/// How rows are filled in.
pub(super) struct Filling<'a> {
    pub(super) backup: &'a dyn BackupReader,
    pub(super) context: &'a Context,
    /// The encoding of the backup's texts.
    pub(super) encoding: &'a str,
    /// What errors call the database.
    pub(super) object: &'a str,
    /// Whether rows are read back and compared.
    pub(super) verify: bool,
    /// Whether rows are added to those that are there.
    pub(super) adds: bool,
}

/// The table that is filled.
pub(super) struct Place<'a> {
    /// Its name for statements.
    pub(super) quoted: &'a str,
    /// Its name as a person writes it.
    pub(super) shown: &'a str,
    /// The columns, in brackets.
    pub(super) columns: &'a str,
    /// Whether it was made or emptied by this transaction, so that its rows need not be looked at again.
    pub(super) freeze: bool,
    /// Whether it holds these rows alone, so that they can be read back.
    pub(super) alone: bool,
}

impl Filling<'_> {
    /// Loads the rows of a file and returns how many there are. Fails unless they are those of the backup.
    pub(super) fn rows(
        &self,
        session: &mut Session,
        place: &Place<'_>,
        file: &str,
    ) -> Result<u64, RestoreError> {
        let entry = entry(self.backup.manifest(), file)?;
        let rows = rows(entry)?;
        let copy = format!("COPY {} {}", place.quoted, place.columns);
        let encoding = self.encoding.replace('\'', "''");
        let freeze = if place.freeze { "FREEZE, " } else { "" };
        let sql = format!("{copy} FROM STDIN ({freeze}ENCODING '{encoding}')");
        let mut loaded = 0;
        for (range, _) in &rows.parts {
            loaded += self.range(session, place.shown, &sql, (range.clone(), entry))?;
        }
        let mut found = (loaded, rows.digest.unwrap_or_default());
        let major = session.major();
        if self.verify && place.alone && verify::comparable(self.backup.manifest(), major) {
            let sql = format!("{copy} TO STDOUT (ENCODING '{encoding}')");
            found = verify::read(session, &sql, place.shown, self.object, |_| ())?;
        }
        let differs = rows.rows.is_some_and(|rows| rows != found.0)
            || rows.digest.is_some_and(|digest| digest != found.1);
        if differs {
            let message = format!("the rows of {} are not those of the backup", place.shown);
            return Err(SourceError::new(SourceErrorKind::Damaged, self.object, message)
                .with_hint(
                    "the columns may have other types than at the time of the backup: compare the table's definition",
                )
                .into());
        }
        Ok(loaded)
    }

    fn range(
        &self,
        session: &mut Session,
        shown: &str,
        sql: &str,
        (range, entry): (std::ops::Range<u64>, &flow::ManifestEntry),
    ) -> Result<u64, RestoreError> {
        let told = |error: &tokio_postgres::Error| {
            let made = failure::server(self.object, &format!("the rows of {shown} cannot be loaded"), error);
            let collides = [&SqlState::UNIQUE_VIOLATION, &SqlState::EXCLUSION_VIOLATION];
            match failure::is(error, &[&SqlState::FOREIGN_KEY_VIOLATION]) {
                true if self.adds => made.with_hint(POINTS_NOWHERE),
                true => made.with_hint("restore the table that it points to as well, by another `--table`"),
                false if self.adds && failure::is(error, &collides) => made.with_hint(COLLIDES),
                false => made,
            }
        };
        let mut left = range.end.saturating_sub(range.start);
        if left == 0 {
            return Ok(0);
        }
        let mut reader = self.backup.read(&entry.name, range)?;
        let mut sink = session.begin_copy_in(sql)?.map_err(|error| told(&error))?;
        let (mut sent, mut loaded) = (0, 0);
        while left > 0 {
            let mut bytes = chunk(&mut *reader, left, CHUNK_BYTES, &entry.name)?;
            left -= bytes.len() as u64;
            self.context.observer.event(Event::Bytes(bytes.len() as u64));
            // The server tells of a failure at the end of a COPY only.
            if sent + bytes.len() as u64 > COPY_MAX_BYTES
                && let Some(end) = memchr::memrchr(b'\n', &bytes)
            {
                let last = bytes.split_to(end + 1);
                session.put_copy(&mut sink, last)?.map_err(|error| told(&error))?;
                loaded += session.end_copy(&mut sink)?.map_err(|error| told(&error))?;
                sink = session.begin_copy_in(sql)?.map_err(|error| told(&error))?;
                sent = 0;
            }
            sent += bytes.len() as u64;
            session.put_copy(&mut sink, bytes)?.map_err(|error| told(&error))?;
        }
        loaded += session.end_copy(&mut sink)?.map_err(|error| told(&error))?;
        Ok(loaded)
    }
}
