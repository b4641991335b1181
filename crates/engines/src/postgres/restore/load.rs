//! Rows and large objects, from the backup straight into the new database, by several sessions at once.
//!
//! A table that is no more than one session's share is truncated and filled in one transaction: its rows come frozen, and,
//! where the server keeps the least log, without any. A larger one is filled by several sessions, part by part. Nobody else
//! uses the database yet, so nothing needs to be durable before all is: a crash begins with an empty one again.

use super::archive;
use super::early::Early;
use super::ground::Ground;
use super::read_back::ReadBack;
use super::tables::Filled;
use crate::postgres::failure;
use crate::postgres::session::Session;
use crate::restore::RestoreError;
use bytes::{Bytes, BytesMut};
use flow::{
    BackupReader, Context, EntryName, Event, ManifestEntry, ReadError, ReadErrorKind, SourceError,
    SourceErrorKind,
};
use std::io::Read;
use std::ops::Range;

/// How much is read and sent at once.
const CHUNK_BYTES: usize = 512 << 10;
/// After so much a `COPY` is ended and another begun: the server tells of a failure at its end only.
pub(super) const COPY_MAX_BYTES: u64 = 128 << 20;
/// How much of a large object is sent at once.
const OBJECT_CHUNK_BYTES: usize = 1 << 20;

/// Rows that are loaded by one session.
struct Part<'a> {
    of: &'a Filled,
    /// Which of the tables that is.
    number: usize,
    range: Range<u64>,
    rows: Option<u64>,
    /// Whether that is all that the table has, and nobody else puts rows into it.
    is_whole: bool,
}

impl Part<'_> {
    fn size_bytes(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }
}

/// Returns how the rows of a table are loaded: at once, or, where that is more than one session's share, in the parts that
/// the backup has.
fn parts(of: &Filled, number: usize, share_bytes: u64) -> Vec<Part<'_>> {
    let part = |range: Range<u64>, rows, is_whole| Part { of, number, range, rows, is_whole };
    if is_own(of) && (of.parts.len() == 1 || of.size_bytes() <= share_bytes) {
        return vec![part(0..of.size_bytes(), of.rows, true)];
    }
    of.parts.iter().map(|(range, rows)| part(range.clone(), *rows, false)).collect()
}

/// Tells whether a table has just the rows that are loaded into it: no other's rows, and none of its own before.
fn is_own(of: &Filled) -> bool {
    of.table.extension.is_none() && of.via.is_none()
}

/// Loads the rows of all tables, and makes the indexes of those that are whole. Who has nothing left to do reads back what
/// is whole, as long as others load.
pub(super) fn rows(
    ground: &Ground,
    tables: &[Filled],
    early: &Early<'_>,
    back: Option<&ReadBack<'_>>,
    backup: &dyn BackupReader,
    context: &Context,
) -> Result<(), RestoreError> {
    let (mut own, mut beside) = (Vec::new(), Vec::new());
    let share_bytes = tables.iter().map(Filled::size_bytes).sum::<u64>() / ground.jobs.max(1) as u64;
    for (number, of) in tables.iter().enumerate() {
        let all = parts(of, number, share_bytes).into_iter();
        let filled = all.filter(|part| part.size_bytes() > 0);
        // Tables of extensions have their foreign keys already: one after the other, in the archive's order.
        if of.table.extension.is_some() { own.extend(filled) } else { beside.extend(filled) }
    }
    beside.sort_by_key(|part| std::cmp::Reverse(part.size_bytes()));
    let load = |session: &mut Session, part: &Part<'_>| load(session, part, ground, backup, context);
    if !own.is_empty() {
        let mut session = ground.session()?;
        session.execute("SET synchronous_commit = off")?;
        own.iter().try_for_each(|part| load(&mut session, part))?;
    }
    let to_be_read = |part: &Part<'_>| back.filter(|_| is_own(part.of));
    let own_table = |part: &Part<'_>| is_own(part.of).then_some(part.number);
    for part in &beside {
        early.expect(own_table(part));
        to_be_read(part).into_iter().for_each(|back| back.expect(part.number));
    }
    let one = |session: &mut Session, part: &Part<'_>| {
        session.execute("SET synchronous_commit = off")?;
        load(session, part)?;
        to_be_read(part).map_or(Ok(()), |back| back.loaded(session, part.number))?;
        early.loaded(own_table(part));
        while early.make_one(session)? {}
        Ok(())
    };
    ground.each_then(&beside, one, |session| {
        let read = |session: &mut Session| back.map_or(Ok(false), |back| back.read_one(session));
        while early.make_one(session)? || read(session)? || early.wait(session.cancel()) {}
        Ok(())
    })
}

fn load(
    session: &mut Session,
    part: &Part<'_>,
    ground: &Ground,
    backup: &dyn BackupReader,
    context: &Context,
) -> Result<(), RestoreError> {
    let shown = part.of.table.shown.as_str();
    let told = |error: &tokio_postgres::Error| {
        failure::server(&ground.object, &format!("the rows of {shown} cannot be loaded"), error)
    };
    let freeze = if part.is_whole { "FREEZE, " } else { "" };
    let encoding = ground.encoding.replace('\'', "''");
    let sql = format!("{} FROM STDIN ({freeze}ENCODING '{encoding}')", part.of.copy());
    session.execute("BEGIN")?;
    if part.is_whole {
        let truncate = format!("TRUNCATE TABLE ONLY {}", part.of.table.quoted);
        session.try_execute(&truncate)?.map_err(|error| told(&error))?;
    }
    let mut copy = session.begin_copy_in(&sql)?.map_err(|error| told(&error))?;
    let mut reader = backup.read(&part.of.entry, part.range.clone())?;
    let (mut left, mut sent, mut rows) = (part.size_bytes(), 0, 0);
    while left > 0 {
        let mut bytes = chunk(&mut *reader, left, CHUNK_BYTES, &part.of.entry)?;
        left -= bytes.len() as u64;
        context.observer.event(Event::Bytes(bytes.len() as u64));
        if sent + bytes.len() as u64 > COPY_MAX_BYTES
            && let Some(end) = memchr::memrchr(b'\n', &bytes)
        {
            let last = bytes.split_to(end + 1);
            session.put_copy(&mut copy, last)?.map_err(|error| told(&error))?;
            rows += session.end_copy(&mut copy)?.map_err(|error| told(&error))?;
            copy = session.begin_copy_in(&sql)?.map_err(|error| told(&error))?;
            sent = 0;
        }
        sent += bytes.len() as u64;
        session.put_copy(&mut copy, bytes)?.map_err(|error| told(&error))?;
    }
    rows += session.end_copy(&mut copy)?.map_err(|error| told(&error))?;
    drop(copy);
    if let Some(expected) = part.rows.filter(|expected| *expected != rows) {
        let message = format!("{rows} rows were loaded into {shown}, and the backup has {expected}");
        return Err(SourceError::new(SourceErrorKind::Damaged, ground.object.clone(), message).into());
    }
    Ok(session.execute("COMMIT")?)
}

/// Reads on, until so much is there or nothing is left to come. An end that comes too early is damage.
pub(super) fn chunk(
    reader: &mut (dyn Read + Send),
    left: u64,
    most: usize,
    entry: &EntryName,
) -> Result<Bytes, ReadError> {
    let size = usize::try_from(left).unwrap_or(usize::MAX).min(most);
    let mut bytes = BytesMut::zeroed(size);
    let mut filled = 0;
    while filled < size {
        match reader.read(&mut bytes[filled..]) {
            Ok(0) => {
                let message = "it ends before its end";
                return Err(ReadError::new(ReadErrorKind::Damaged, entry.as_str(), message));
            }
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadError::from_io(error, entry.as_str())),
        }
    }
    Ok(bytes.freeze())
}

/// Loads the content of all large objects, which are there already.
pub(super) fn objects(
    ground: &Ground,
    backup: &dyn BackupReader,
    context: &Context,
) -> Result<(), RestoreError> {
    let all = archive::large_objects(backup.manifest());
    ground.each(&all, |session, (oid, entry)| {
        session.execute("SET synchronous_commit = off")?;
        object(session, *oid, entry, ground, backup, context)
    })
}

fn object(
    session: &mut Session,
    oid: u32,
    entry: &ManifestEntry,
    ground: &Ground,
    backup: &dyn BackupReader,
    context: &Context,
) -> Result<(), RestoreError> {
    if entry.size_bytes == 0 {
        return Ok(());
    }
    let told = |error: &tokio_postgres::Error| {
        failure::server(&ground.object, &format!("large object {oid} cannot be loaded"), error)
    };
    let mut reader = backup.read(&entry.name, 0..entry.size_bytes)?;
    let mut at = 0u64;
    session.execute("BEGIN")?;
    while at < entry.size_bytes {
        let bytes = chunk(&mut *reader, entry.size_bytes - at, OBJECT_CHUNK_BYTES, &entry.name)?;
        let offset = i64::try_from(at).unwrap_or(i64::MAX);
        at += bytes.len() as u64;
        context.observer.event(Event::Bytes(bytes.len() as u64));
        let put = session.try_query("SELECT pg_catalog.lo_put($1, $2, $3)", &[&oid, &offset, &&bytes[..]])?;
        put.map_err(|error| told(&error))?;
    }
    Ok(session.execute("COMMIT")?)
}
