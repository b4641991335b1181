//! What was loaded, read again and compared with the backup: rows and digest of each table, by several sessions, a large
//! table in ranges; the number of large objects. What was read back while the rest was made, and not written to since, is
//! not read a second time.
//!
//! Reads only, so it may be begun again. Values are read as they were for the backup, so that equal rows are equal bytes.

use super::archive;
use super::ground::Ground;
use super::job::Job;
use super::tables::{self, Filled};
use crate::postgres::digest::{AS_DUMPED, RowDigest};
use crate::postgres::dump::jobs::jobs;
use crate::postgres::failure;
use crate::postgres::session::Session;
use crate::restore::RestoreError;
use flow::{BackupReader, Event, Manifest, Severity, SourceError, SourceErrorKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// From this version on servers write floating-point numbers in another way.
const SHORTEST_FLOATS: u64 = 12;

/// Compares the new database with the backup.
pub(super) fn run(job: &mut Job, backup: &dyn BackupReader) -> Result<(), RestoreError> {
    let toc = job.toc(backup)?;
    let manifest = backup.manifest();
    job.phase("verifying", Some(job.work.size_bytes));
    let ground = Ground::of(job, manifest)?;
    let mut session = ground.session()?;
    let filled = tables::filled(&mut session, &toc, manifest, &ground)?;
    objects(&mut session, manifest, &ground)?;
    let mut known = std::mem::take(&mut job.read_back);
    keep_unwritten(&mut session, &mut known)?;
    let major = session.major();
    let forced = forced(&mut session)?;
    drop(session);
    let by_digest = comparable(manifest, major);
    if !by_digest {
        let why = match as_dumped(manifest) {
            true => "in which time zone and format its values were written, the dump does not say".to_owned(),
            false => format!("version {major} writes numbers in another way"),
        };
        job.tell(Severity::Notice, format!("rows were counted and not compared: {why}"), None);
    }
    let tables: Vec<_> = filled.iter().map(|filled| filled.table.clone()).collect();
    let sum_of = |number: usize| filled.get(number).and_then(|of| known.get(&of.table.oid));
    let (mut parts, _) = jobs(&tables, major);
    parts.retain(|part| sum_of(part.table).is_none());
    let sums: Mutex<Vec<(u64, u128)>> =
        Mutex::new((0..filled.len()).map(|number| sum_of(number).copied().unwrap_or((0, 0))).collect());
    let observer = &job.context.observer;
    ground.each(&parts, |session, part| {
        let Some(of) = filled.get(part.table) else { return Ok(()) };
        let (sql, shown) = (part.sql(&ground.encoding), of.table.shown.as_str());
        let count = |count| observer.event(Event::Bytes(count));
        let is_forced = forced.contains(&of.table.oid);
        if is_forced {
            session
                .execute(&format!("BEGIN; ALTER TABLE {} NO FORCE ROW LEVEL SECURITY", of.table.quoted))?;
        }
        let (rows, digest) = read(session, &sql, shown, &ground.object, count)?;
        if is_forced {
            session.execute("ROLLBACK")?;
        }
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sum) = sums.get_mut(part.table) {
            *sum = (sum.0 + rows, sum.1.wrapping_add(digest));
        }
        Ok(())
    })?;
    let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (shown, [found, expected]) in by_root(&filled, &sums) {
        compare(job, shown, found, expected, by_digest)?;
    }
    Ok(())
}

/// Returns the tables whose policies bind their owner too, where they bind this role: it lifts that while it reads.
pub(super) fn forced(session: &mut Session) -> Result<BTreeSet<u32>, SourceError> {
    let sql = "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND c.relrowsecurity AND c.relforcerowsecurity
               AND NOT (SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user)";
    session.query(sql, &[])?.iter().map(|row| session.field(row, 0)).collect()
}

/// Leaves out the tables that somebody may have written to since they were loaded: those of which the server has not counted
/// just the rows that were read.
fn keep_unwritten(session: &mut Session, sums: &mut BTreeMap<u32, (u64, u128)>) -> Result<(), SourceError> {
    let sql = "SELECT relid, n_tup_ins, n_tup_upd + n_tup_del FROM pg_catalog.pg_stat_all_tables WHERE relid = ANY($1)";
    let oids: Vec<u32> = sums.keys().copied().collect();
    let mut unwritten = BTreeMap::new();
    for row in session.query(sql, &[&oids])? {
        let (oid, inserted, changed): (u32, i64, i64) =
            (session.field(&row, 0)?, session.field(&row, 1)?, session.field(&row, 2)?);
        unwritten.insert(oid, (u64::try_from(inserted).unwrap_or(u64::MAX), changed));
    }
    sums.retain(|oid, (rows, _)| unwritten.get(oid) == Some(&(*rows, 0)));
    Ok(())
}

/// Tells whether the digests of a backup are of rows as a dump of another make held them.
fn as_dumped(manifest: &Manifest) -> bool {
    manifest.facts.properties.get(AS_DUMPED).and_then(serde_json::Value::as_bool) == Some(true)
}

/// Tells whether rows that are read back can be held against the digests of a backup.
pub(super) fn comparable(manifest: &Manifest, major: u32) -> bool {
    if as_dumped(manifest) {
        return false;
    }
    let origin = manifest.facts.properties.get("server_major").and_then(serde_json::Value::as_u64);
    origin.is_none_or(|origin| (origin < SHORTEST_FLOATS) == (u64::from(major) < SHORTEST_FLOATS))
}

/// Rows and digest, as far as they are known.
type Sum = (Option<u64>, Option<u128>);

/// Returns what was found of each table and what the backup has. Partitions that were loaded by their root stand together:
/// which of them has which row may differ.
fn by_root<'a>(filled: &'a [Filled], sums: &[(u64, u128)]) -> Vec<(&'a str, [Sum; 2])> {
    let mut by_name: BTreeMap<&str, [Sum; 2]> = BTreeMap::new();
    for (of, (rows, digest)) in filled.iter().zip(sums) {
        let name = of.via.as_ref().unwrap_or(&of.table).shown.as_str();
        let new = [(Some(*rows), Some(*digest)), (of.rows, of.digest)];
        let both = by_name.entry(name).or_insert([(Some(0), Some(0)); 2]);
        for (sum, new) in both.iter_mut().zip(new) {
            sum.0 = sum.0.zip(new.0).map(|(sum, rows)| sum + rows);
            sum.1 = sum.1.zip(new.1).map(|(sum, digest)| sum.wrapping_add(digest));
        }
    }
    by_name.into_iter().collect()
}

fn compare(job: &Job, shown: &str, found: Sum, expected: Sum, by_digest: bool) -> Result<(), SourceError> {
    let (rows, digest) = (found.0.unwrap_or_default(), found.1.unwrap_or_default());
    let message = match expected {
        (Some(expected), _) if expected != rows => {
            format!("the table {shown} was restored with {rows} rows, and the backup has {expected}")
        }
        (_, Some(expected)) if by_digest && expected != digest => {
            format!("the rows of the table {shown} are not those of the backup")
        }
        _ => return Ok(()),
    };
    Err(job.error(SourceErrorKind::Damaged, message).with_hint(
        "restore again; where it is the same again, tell us, and `--no-verify` restores without the comparison",
    ))
}

/// Reads rows by a `COPY … TO STDOUT` and returns their number and digest; `count` is told of bytes as they come.
pub(super) fn read(
    session: &mut Session,
    sql: &str,
    shown: &str,
    object: &str,
    count: impl Fn(u64),
) -> Result<(u64, u128), SourceError> {
    let told = |error: &tokio_postgres::Error| {
        failure::server(object, &format!("the table {shown} cannot be read back"), error)
    };
    let mut copy = session.begin_copy(sql)?.map_err(|error| told(&error))?;
    let mut digest = RowDigest::default();
    loop {
        let mut taken = 0;
        let over = session.take_copy(&mut copy, |bytes| {
            digest.take(bytes);
            taken += bytes.len() as u64;
            bytes.len()
        })?;
        count(taken);
        if over.map_err(|error| told(&error))? {
            break;
        }
    }
    let (rows, digest) = digest.finish().ok_or_else(|| {
        let message = format!("the table {shown} ended within a row");
        SourceError::new(SourceErrorKind::Failed, object, message)
    })?;
    Ok((rows, digest.0))
}

fn objects(session: &mut Session, manifest: &Manifest, ground: &Ground) -> Result<(), SourceError> {
    let expected = archive::large_objects(manifest).len();
    let row = session.query_one("SELECT count(*) FROM pg_catalog.pg_largeobject_metadata", &[])?;
    let found: i64 = session.field(&row, 0)?;
    if usize::try_from(found).ok() == Some(expected) {
        return Ok(());
    }
    let message = format!("{found} large objects were restored, and the backup has {expected}");
    Err(SourceError::new(SourceErrorKind::Damaged, ground.object.clone(), message))
}
