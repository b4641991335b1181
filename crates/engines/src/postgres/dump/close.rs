//! The end of a database's dump, once all rows and large objects were read: sequence values, the table of contents, roles
//! and tablespaces, facts. The locks are let go with the holder's session, after the last of it.

use super::ground::{Ground, tell};
use super::late;
use super::state::{Reading, ReadyPart};
use crate::postgres::archive::{Entry, Section, TableOfContents};
use crate::postgres::catalog::Table;
use crate::postgres::contents;
use crate::postgres::needs::needs;
use crate::postgres::session::Session;
use flow::{
    ConsistencyPoint, Context, Digest128, Dumped, EngineKind, EntryName, Facts, Layout, Marks, SchemaObject,
    SourceError, SourceErrorKind, TableFacts,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// The table of contents of the archive.
pub(in crate::postgres) const TOC_ENTRY: &str = "toc.dat";
/// Roles and tablespaces, as SQL.
pub(in crate::postgres) const GLOBALS_ENTRY: &str = "globals.sql";

/// Ends the dump of a database; `toc` is what `pg_dump` wrote. Returns what is left to be stored, and the facts.
pub(super) fn close(
    reading: Reading,
    toc: TableOfContents,
    started: Instant,
    context: &Context,
) -> Result<(Vec<ReadyPart>, Dumped), SourceError> {
    let Reading { ground, tables, holder, sessions, globals, mut entries, sums, size_bytes, objects, .. } =
        reading;
    let object = ground.object.as_str();
    let failed = |message: String| SourceError::new(SourceErrorKind::Failed, object, message);
    let mut holder = holder.ok_or_else(|| failed("the session that holds the locks is gone".to_owned()))?;
    let mut session = late::session(sessions, &ground, context)?;
    let whole = match ground.streamed {
        true => contents::by_oids(toc),
        false => {
            let sequences = &ground.catalog.sequences;
            let values = late::sequence_values(&mut session, sequences, ground.lock_wait, object)?;
            let with_data: BTreeSet<u32> = tables.iter().map(|table| table.oid).collect();
            contents::complete(toc, &ground.catalog, &with_data, &values).map_err(failed)?
        }
    };
    late::check_names(&mut holder, &mut session, object)?;
    drop(session);
    end(holder)?;
    let mut facts = facts(&ground, &whole, &tables, &sums, size_bytes, objects);
    let mut parts = toc_parts(whole, object)?;
    let globals = globals.ok_or_else(|| "pg_dumpall cannot be run".to_owned());
    let globals = globals.and_then(|globals| globals.finish(ground.lock_wait));
    context.cancel.check().map_err(|_| SourceError::cancelled(object))?;
    let with_globals = globals.is_ok();
    match globals {
        Ok(bytes) => {
            parts.push(ReadyPart { entry: entry_name(GLOBALS_ENTRY, object)?, index: 0, bytes });
        }
        Err(error) => {
            tell(context, object, format!("its roles and tablespaces are not in the backup: {error}"));
        }
    }
    for part in &parts {
        let count = entries.get(&part.entry).map_or(0, |(_, count)| *count);
        entries.insert(part.entry.clone(), (Layout::Opaque, count + 1));
    }
    facts.size_bytes += parts.iter().map(|part| part.bytes.len() as u64).sum::<u64>();
    facts.properties.insert("globals".to_owned(), json!(with_globals));
    let marks = Marks { read_at: ground.moment.time, value: json!({}).into() };
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok((parts, Dumped { facts, marks, entries, elapsed_ms }))
}

/// Ends the transaction that held the locks. A server that went away meanwhile is told here at the latest.
pub(super) fn end(mut holder: Session) -> Result<(), SourceError> {
    holder.execute("COMMIT")
}

pub(super) fn entry_name(name: &str, object: &str) -> Result<EntryName, SourceError> {
    EntryName::new(name).map_err(|error| SourceError::new(SourceErrorKind::Failed, object, error.to_string()))
}

/// The header, which holds the time, is a part of its own: what follows stays the same from backup to backup.
fn toc_parts(whole: TableOfContents, object: &str) -> Result<Vec<ReadyPart>, SourceError> {
    let parts = in_parts(&whole, object)?;
    drop(whole);
    let entry = entry_name(TOC_ENTRY, object)?;
    let ready = |(index, bytes)| ReadyPart { entry: entry.clone(), index, bytes };
    Ok((0..).zip(parts).map(ready).collect())
}

/// Returns a table of contents as the parts in which it is stored.
pub(in crate::postgres) fn in_parts(
    whole: &TableOfContents,
    object: &str,
) -> Result<[Vec<u8>; 2], SourceError> {
    let failed = |error| {
        let message = "the table of contents cannot be written";
        SourceError::new(SourceErrorKind::Failed, object, message).with_source(error)
    };
    let mut rest = Vec::new();
    whole.write(&mut rest).map_err(failed)?;
    let header = usize::try_from(whole.header_bytes().map_err(failed)?).unwrap_or(0);
    let before = rest.drain(..header.min(rest.len())).collect();
    Ok([before, rest])
}

/// Puts together what is known of the content. `sums` are rows and digest of each of the tables.
pub(super) fn facts(
    ground: &Ground,
    toc: &TableOfContents,
    tables: &[Table],
    sums: &[(u64, u128)],
    size_bytes: u64,
    objects: u64,
) -> Facts {
    let moment = &ground.moment;
    let mut position = BTreeMap::from([("transactions".to_owned(), json!(moment.transactions))]);
    if let Some(lsn) = &moment.lsn {
        position.insert("lsn".to_owned(), json!(lsn));
    }
    if let Some(timeline) = moment.timeline {
        position.insert("timeline".to_owned(), json!(timeline));
    }
    let mut table_facts: Vec<TableFacts> = tables
        .iter()
        .zip(sums)
        .map(|(table, (rows, sum))| TableFacts {
            name: table.shown.clone(),
            rows: Some(*rows),
            digest: Some(Digest128(*sum)),
        })
        .collect();
    table_facts.sort_by(|a, b| a.name.cmp(&b.name));
    let shown: BTreeMap<u32, &str> = tables.iter().map(|table| (table.oid, table.shown.as_str())).collect();
    Facts {
        engine: EngineKind::Postgres,
        engine_version: moment.server_version.clone(),
        form: "archive".to_owned(),
        selection: ground.selection.clone(),
        consistency: ConsistencyPoint { time: moment.time, position },
        size_bytes,
        tables: table_facts,
        schema: toc.entries.iter().filter_map(|entry| schema_object(entry, &shown)).collect(),
        properties: BTreeMap::from([
            ("encoding".to_owned(), json!(moment.encoding)),
            ("loaded_via".to_owned(), loaded_via(ground, tables)),
            ("database_bytes".to_owned(), json!(moment.database_bytes)),
            ("large_objects".to_owned(), json!(objects)),
            ("on_standby".to_owned(), json!(moment.on_standby)),
            ("server_major".to_owned(), json!(ground.server_major)),
            ("lc_monetary".to_owned(), json!(moment.lc_monetary)),
            needs(toc).property(),
        ]),
        tools: BTreeMap::from([("pg_dump".to_owned(), ground.pg_dump.version.clone())]),
    }
}

/// Which tables are loaded by another one, by their names: only the rows of all of these together are those of a restore.
fn loaded_via(ground: &Ground, tables: &[Table]) -> serde_json::Value {
    let root = |oid: u32| ground.catalog.tables.iter().find(|table| table.oid == oid);
    let pairs = tables.iter().filter_map(|table| Some((&table.shown, root(table.loaded_via?)?)));
    pairs.map(|(name, root)| (name.clone(), json!(root.shown))).collect::<serde_json::Map<_, _>>().into()
}

/// Of tables the statement is kept too: by it a table is known that got another name. Large objects are counted, not
/// listed: there may be millions.
fn schema_object(entry: &Entry, shown: &BTreeMap<u32, &str>) -> Option<SchemaObject> {
    let text = |bytes: &Option<Vec<u8>>| {
        bytes.as_deref().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    };
    let is_object = entry.is("BLOB") || entry.is("BLOB METADATA");
    if is_object || !matches!(entry.section, Section::PreData | Section::PostData) {
        return None;
    }
    let kind = text(&entry.kind).to_ascii_lowercase();
    let oid = || std::str::from_utf8(entry.oid.as_deref()?).ok()?.parse::<u32>().ok();
    let name = match (kind.as_str(), oid().and_then(|oid| shown.get(&oid))) {
        ("table", Some(shown)) => (*shown).to_owned(),
        _ => match text(&entry.schema) {
            schema if schema.is_empty() => text(&entry.tag),
            schema => format!("{schema}.{}", text(&entry.tag)),
        },
    };
    let sql = (kind == "table").then(|| text(&entry.definition));
    Some(SchemaObject { kind, name, sql })
}
