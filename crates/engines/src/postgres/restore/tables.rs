//! The tables of the database that is being made, each with its rows in the backup.
//!
//! Which rows belong to which table is known by schema and name in the database's own encoding; which columns they have,
//! by the archive: a new table may have its columns in another order.

use super::archive::{entry, rows_file};
use super::ground::Ground;
use crate::postgres::archive::{Entry, TableOfContents};
use crate::postgres::catalog::{self, Table};
use crate::postgres::contents::{TRAILER, VIA_ROOT};
use crate::postgres::session::Session;
use crate::restore::RestoreError;
use flow::{EntryName, Manifest, ManifestEntry, ReadError, ReadErrorKind, SourceError, SourceErrorKind};
use std::collections::BTreeMap;
use std::ops::Range;

const COPY_END: &[u8] = b" FROM stdin;\n";

/// A table with its rows.
pub(super) struct Filled {
    /// The table, with the columns that its rows have.
    pub(super) table: Table,
    /// The partitioned table that its rows are loaded by, where they may belong to another partition now.
    pub(super) via: Option<Table>,
    /// The entry with its rows.
    pub(super) entry: EntryName,
    /// The ranges of rows that may be loaded at once, each with their number where it is known.
    pub(super) parts: Vec<(Range<u64>, Option<u64>)>,
    /// How many rows it must have, where that is known.
    pub(super) rows: Option<u64>,
    /// Their digest, where that is known.
    pub(super) digest: Option<u128>,
}

impl Filled {
    /// Returns the bytes of its rows: the parts lie one behind the other.
    pub(super) fn size_bytes(&self) -> u64 {
        self.parts.last().map_or(0, |(range, _)| range.end)
    }

    /// Returns the beginning of a `COPY` of it.
    pub(super) fn copy(&self) -> String {
        format!("COPY {} {}", self.via.as_ref().unwrap_or(&self.table).quoted, self.table.columns)
    }
}

/// Returns all tables that have rows in the backup, as the catalog of the new database has them, in the archive's order.
pub(super) fn filled(
    session: &mut Session,
    toc: &TableOfContents,
    manifest: &Manifest,
    ground: &Ground,
) -> Result<Vec<Filled>, RestoreError> {
    let found = catalog::read(session, catalog::Which::All)?;
    let roots: BTreeMap<u32, Table> = found
        .tables
        .iter()
        .filter(|table| table.kind == 'p')
        .map(|table| (table.oid, table.clone()))
        .collect();
    let mut tables: BTreeMap<(Vec<u8>, Vec<u8>), Table> = found
        .tables
        .into_iter()
        .map(|table| ((table.names.schema.clone(), table.names.relation.clone()), table))
        .collect();
    let mut filled = Vec::new();
    let mut all_columns = Vec::new();
    for data in toc.entries.iter().filter(|entry| entry.is("TABLE DATA")) {
        let Some(file) = rows_file(data) else { continue };
        let names = (data.schema.clone().unwrap_or_default(), data.tag.clone().unwrap_or_default());
        let Some(table) = tables.remove(&names) else {
            let name = String::from_utf8_lossy(&names.1).into_owned();
            let message = format!("the table {name} of the backup was not made");
            return Err(SourceError::new(SourceErrorKind::Failed, ground.object.clone(), message).into());
        };
        all_columns.push(columns(data, &table.names.quoted, &table.shown, &ground.object)?);
        let via = table.loaded_via.and_then(|oid| roots.get(&oid)).cloned();
        let entry = entry(manifest, file)?;
        let Rows { parts, rows, digest } = rows(entry)?;
        filled.push(Filled { table, via, entry: entry.name.clone(), parts, rows, digest });
    }
    let columns = decoded(session, all_columns, &ground.encoding)?;
    for (filled, columns) in filled.iter_mut().zip(columns) {
        // Rows that name no columns have those of the table, in their order.
        if !columns.is_empty() {
            filled.table.columns = columns;
        }
    }
    Ok(filled)
}

/// Returns the columns of an entry's rows, in brackets; `quoted` is the table's name in statements of ours. Rows that are
/// loaded by the root of their table stand under its name.
pub(super) fn columns(
    data: &Entry,
    quoted: &[u8],
    shown: &str,
    object: &str,
) -> Result<Vec<u8>, SourceError> {
    let root = data.definition.as_deref().and_then(|said| said.strip_prefix(VIA_ROOT)).unwrap_or(quoted);
    let copy = data.copy.as_deref().unwrap_or_default();
    let columns = copy
        .strip_prefix(b"COPY ")
        .and_then(|rest| rest.strip_prefix(root))
        .and_then(|rest| rest.strip_suffix(COPY_END));
    columns.map(|columns| columns.trim_ascii().to_vec()).ok_or_else(|| {
        let message = format!("the archive's statement for the rows of {shown} is not one of ours");
        SourceError::new(SourceErrorKind::Invalid, object, message)
            .with_hint("stock `pg_restore` may load it: `restic restore` writes the archive")
    })
}

/// Where the rows of a table are in an entry, and what they must be.
pub(super) struct Rows {
    /// The ranges that may be loaded at once, each with its number of rows where that is known.
    pub(super) parts: Vec<(Range<u64>, Option<u64>)>,
    /// How many rows there are, where that is known.
    pub(super) rows: Option<u64>,
    /// Their digest, where that is known.
    pub(super) digest: Option<u128>,
}

/// Returns the rows of an entry, without what ends them.
pub(super) fn rows(entry: &ManifestEntry) -> Result<Rows, ReadError> {
    let damaged = |message: &str| ReadError::new(ReadErrorKind::Damaged, entry.name.as_str(), message);
    let sizes: u64 = entry.parts.iter().map(|part| part.size_bytes).sum();
    if sizes != entry.size_bytes {
        return Err(damaged("the parts in its manifest do not add up to its size"));
    }
    let end = entry
        .size_bytes
        .checked_sub(TRAILER.len() as u64)
        .filter(|_| entry.parts.last().is_some_and(|last| last.size_bytes >= TRAILER.len() as u64))
        .ok_or_else(|| damaged("it is too short for a file of rows"))?;
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut rows, mut digest) = (Some(0u64), Some(0u128));
    for part in &entry.parts {
        let stop = start + part.size_bytes;
        parts.push((start..stop.min(end), part.rows));
        rows = rows.zip(part.rows).map(|(sum, rows)| sum + rows);
        digest = digest.zip(part.digest).map(|(sum, digest)| sum.wrapping_add(digest.0));
        start = stop;
    }
    Ok(Rows { parts, rows, digest })
}

/// Returns texts in the database's encoding as our own. The server converts what is no UTF-8.
pub(super) fn decoded(
    session: &mut Session,
    texts: Vec<Vec<u8>>,
    encoding: &str,
) -> Result<Vec<String>, SourceError> {
    let is_plain = ["UTF8", "SQL_ASCII"].contains(&encoding);
    if is_plain || texts.iter().all(|text| text.is_ascii()) {
        return texts
            .into_iter()
            .map(|text| {
                String::from_utf8(text).map_err(|_| {
                    let message =
                        "the archive has names that are no UTF-8, in a database without an encoding";
                    SourceError::new(SourceErrorKind::Unsupported, encoding, message)
                        .with_hint("stock `pg_restore` loads it: `restic restore` writes the archive")
                })
            })
            .collect();
    }
    let sql =
        "SELECT pg_catalog.convert_from(t.bytes, $2) FROM unnest($1::bytea[]) WITH ORDINALITY AS t(bytes, n)
               ORDER BY t.n";
    let rows = session.query(sql, &[&texts, &encoding])?;
    rows.iter().map(|row| session.field(row, 0)).collect()
}
