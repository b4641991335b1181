//! The table of contents of the directory archive that we make: that of `pg_dump`, with what it was told to leave out
//! put back: the data of every table, the value of every sequence, the filling of materialized views.
//!
//! Entries stand where `pg_dump` has them, for a restore without `-j` follows their order: rows before indexes and
//! constraints, views filled last of all. A file is named after its table's oid, so that it keeps its name from backup to
//! backup.

use super::archive::{DataPlace, Entry, Section, TableOfContents};
use super::catalog::{Catalog, Names, Table};
use std::collections::{BTreeMap, BTreeSet};

/// The oid of `pg_class` and `pg_extension`, the same in every database.
const CLASS: &[u8] = b"1259";
const EXTENSION: &[u8] = b"3079";

/// The kinds of entries that make what others depend on.
const DEFINING: [&str; 4] = ["TABLE", "SEQUENCE", "MATERIALIZED VIEW", "EXTENSION"];

/// What an entry says whose rows are loaded by the root of their table, before its name.
pub(super) const VIA_ROOT: &[u8] = b"-- load via partition root ";

/// What ends the rows in a file.
pub(super) const TRAILER: &[u8] = b"\\.\n\n\n";

/// Returns the name of the file with a table's rows.
pub(super) fn data_file(oid: u32) -> String {
    format!("{oid}.dat")
}

/// The numbers of entries, by catalog and oid.
struct Numbers<'a>(BTreeMap<(&'a [u8], u32), i32>);

impl<'a> Numbers<'a> {
    fn of(toc: &'a TableOfContents) -> Self {
        let number = |entry: &'a Entry| {
            // What else is said of an object has its oid too: comments, rights.
            DEFINING.iter().find(|kind| entry.is(kind))?;
            let oid = std::str::from_utf8(entry.oid.as_deref()?).ok()?.parse().ok()?;
            Some(((entry.table_oid.as_deref()?, oid), entry.dump_id))
        };
        Self(toc.entries.iter().filter_map(number).collect())
    }

    fn get(&self, catalog: &[u8], oid: u32) -> Option<i32> {
        self.0.get(&(catalog, oid)).copied()
    }
}

/// Returns the tables whose rows are to be read. Fails where the archive and the catalog do not agree on which tables
/// there are: then one of them is wrong, and rows would be missing.
pub(super) fn agreed<'a>(toc: &TableOfContents, catalog: &'a Catalog) -> Result<Vec<&'a Table>, String> {
    let tables = |entry: &&Entry| entry.is("TABLE") && entry.table_oid.as_deref() == Some(CLASS);
    let archived: BTreeSet<u32> = toc.entries.iter().filter(tables).filter_map(oid_of).collect();
    let listed: BTreeSet<u32> =
        catalog.tables.iter().filter(|table| table.extension.is_none()).map(|table| table.oid).collect();
    if let Some(oid) = archived.difference(&listed).next() {
        return Err(format!("pg_dump defines a table with the oid {oid}, which the catalog does not list"));
    }
    if let Some(oid) = listed.difference(&archived).next() {
        let name = catalog.tables.iter().find(|table| table.oid == *oid).map_or("?", |table| &table.shown);
        return Err(format!("pg_dump left out the table {name}"));
    }
    Ok(catalog.tables.iter().filter(|table| table.kind == 'r').collect())
}

/// Returns the oid of what an entry is of.
pub(super) fn oid_of(entry: &Entry) -> Option<u32> {
    std::str::from_utf8(entry.oid.as_deref()?).ok()?.parse().ok()
}

/// Returns the tables whose rows `pg_dump` writes itself. Fails where the archive has one that the catalog does not list,
/// for nobody holds that; and, of a `whole` database, where one is left out. `unlogged` tells whether such tables have
/// rows.
pub(super) fn streamed<'a>(
    toc: &TableOfContents,
    catalog: &'a Catalog,
    whole: bool,
    unlogged: bool,
) -> Result<Vec<&'a Table>, String> {
    if whole {
        agreed(toc, catalog)?;
    }
    let listed: BTreeMap<u32, &Table> = catalog.tables.iter().map(|table| (table.oid, table)).collect();
    let mut found = BTreeMap::new();
    for entry in toc.entries.iter().filter(|entry| entry.is("TABLE DATA")) {
        let table = oid_of(entry).and_then(|oid| listed.get(&oid));
        let name = || String::from_utf8_lossy(entry.tag.as_deref().unwrap_or_default()).into_owned();
        let table = table
            .ok_or_else(|| format!("pg_dump reads the table {}, which the catalog does not list", name()))?;
        found.insert(table.oid, *table);
    }
    let needed =
        |table: &&Table| table.kind == 'r' && table.extension.is_none() && (unlogged || !table.unlogged);
    let left_out = catalog.tables.iter().filter(needed).find(|table| !found.contains_key(&table.oid));
    match left_out.filter(|_| whole) {
        Some(table) => Err(format!("pg_dump left out the rows of the table {}", table.shown)),
        None => Ok(found.into_values().collect()),
    }
}

/// Returns the table of contents of an archive whose rows `pg_dump` wrote, for a folder: files are named after oids, as
/// [`complete`] names them.
pub(super) fn by_oids(toc: TableOfContents) -> TableOfContents {
    let mut folder = toc.into_directory();
    for entry in folder.entries.iter_mut().filter(|entry| entry.is("TABLE DATA") && entry.had_dumper) {
        if let Some(oid) = oid_of(entry) {
            entry.place = DataPlace::File(Some(data_file(oid).into_bytes()));
        }
    }
    folder
}

/// Returns the table of contents of the whole archive. `with_data` are the tables whose rows were read, `values` those
/// of the catalog's sequences in their order.
pub(super) fn complete(
    toc: TableOfContents,
    catalog: &Catalog,
    with_data: &BTreeSet<u32>,
    values: &[(i64, bool)],
) -> Result<TableOfContents, String> {
    let numbers = Numbers::of(&toc);
    let mut next = toc.next_dump_id();
    let mut number = || {
        let given = next;
        next = next.saturating_add(1);
        given
    };
    let mut data = Vec::new();
    let mut loaded = BTreeMap::new();
    for table in catalog.tables.iter().filter(|table| with_data.contains(&table.oid)) {
        let above = match &table.extension {
            None => numbers.get(CLASS, table.oid),
            Some((extension, _)) => numbers.get(EXTENSION, *extension),
        };
        let above = above.ok_or_else(|| format!("the archive does not define the table {}", table.shown))?;
        let mut entry = table_data(table, root(table, catalog)?, number(), above);
        let after = table.after.iter().filter_map(|oid| loaded.get(oid));
        entry.dependencies.extend(after.map(|number: &i32| number.to_string().into_bytes()));
        loaded.insert(table.oid, entry.dump_id);
        data.push(entry);
    }
    for (sequence, (value, called)) in catalog.sequences.iter().zip(values) {
        let above = match sequence.extension {
            None => numbers.get(CLASS, sequence.oid),
            Some(extension) => numbers.get(EXTENSION, extension),
        };
        let above =
            above.ok_or_else(|| format!("the archive does not define the sequence {}", sequence.shown))?;
        let mut definition = b"SELECT pg_catalog.setval(".to_vec();
        definition.extend_from_slice(&sequence.names.literal);
        definition.extend_from_slice(format!(", {value}, {called});\n").as_bytes());
        data.push(Entry {
            definition: Some(definition),
            ..blank("SEQUENCE SET", &sequence.names, number(), above)
        });
    }
    let mut filled = BTreeMap::new();
    let mut filling = Vec::new();
    for view in &catalog.views {
        let Some(above) = numbers.get(CLASS, view.oid) else {
            return Err("the archive does not define a materialized view".to_owned());
        };
        let mut entry = blank("MATERIALIZED VIEW DATA", &view.names, number(), above);
        entry.oid = Some(view.oid.to_string().into_bytes());
        entry.section = Section::PostData;
        let after = view.made_from.iter().filter_map(|oid| filled.get(oid));
        entry.dependencies.extend(after.map(|number: &i32| number.to_string().into_bytes()));
        let statement = [&b"REFRESH MATERIALIZED VIEW "[..], &view.names.quoted[..], &b";\n"[..]].concat();
        entry.definition = Some(statement);
        filled.insert(view.oid, entry.dump_id);
        filling.push(entry);
    }
    let mut whole = toc.into_directory();
    let after_definitions = |entry: &Entry| matches!(entry.section, Section::Data | Section::PostData);
    let at = whole.entries.iter().position(after_definitions).unwrap_or(whole.entries.len());
    whole.entries.splice(at..at, data);
    whole.entries.extend(filling);
    Ok(whole)
}

/// Returns the table that a table's rows are loaded by, where that is another one.
fn root<'a>(table: &Table, catalog: &'a Catalog) -> Result<Option<&'a Table>, String> {
    let Some(oid) = table.loaded_via else { return Ok(None) };
    let found = catalog.tables.iter().find(|root| root.oid == oid);
    found
        .map(Some)
        .ok_or_else(|| format!("the catalog does not list the table that {} is a part of", table.shown))
}

/// Rows that go into a root are marked as `pg_dump` marks them: `pg_restore` then empties no partition before it loads.
fn table_data(table: &Table, root: Option<&Table>, number: i32, above: i32) -> Entry {
    let mut entry = blank("TABLE DATA", &table.names, number, above);
    entry.oid = Some(table.oid.to_string().into_bytes());
    entry.had_dumper = true;
    let into = &root.unwrap_or(table).names.quoted;
    entry.copy = Some([&b"COPY "[..], into, b" ", &table.names.columns, b" FROM stdin;\n"].concat());
    entry.definition = root.map(|_| [VIA_ROOT, into].concat());
    entry.place = DataPlace::File(Some(data_file(table.oid).into_bytes()));
    entry
}

fn blank(kind: &str, names: &Names, dump_id: i32, above: i32) -> Entry {
    Entry {
        dump_id,
        had_dumper: false,
        table_oid: Some(b"0".to_vec()),
        oid: Some(b"0".to_vec()),
        tag: Some(names.relation.clone()),
        kind: Some(kind.as_bytes().to_vec()),
        section: Section::Data,
        definition: None,
        drop: None,
        copy: None,
        schema: Some(names.schema.clone()),
        tablespace: None,
        access_method: None,
        relation_kind: 0,
        owner: Some(names.owner.clone()),
        with_oids: Some(b"false".to_vec()),
        dependencies: vec![above.to_string().into_bytes()],
        place: DataPlace::File(Some(Vec::new())),
    }
}
