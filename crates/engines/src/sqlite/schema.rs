//! What a database says of itself: its schema and its settings. To be read within a read transaction.

use super::header::big_endian;
use super::pages::{PageReader, Version};
use flow::{ConsistencyPoint, EngineKind, Facts, SchemaObject, TableFacts};
use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeMap;

/// One table that holds rows of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) root: u32,
}

/// The schema of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Schema {
    /// Every object, in the order of the schema table.
    pub(super) objects: Vec<SchemaObject>,
    /// The tables whose rows count: users' and virtual tables' shadow tables, in the order of their names. Virtual
    /// tables have no rows of their own, and `sqlite_…` tables are SQLite's.
    pub(super) tables: Vec<Table>,
}

/// Reads the schema.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Schema> {
    let mut schema = Schema::default();
    let mut statement = connection.prepare("SELECT type, name, rootpage, sql FROM sqlite_schema")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let kind: String = row.get(0)?;
        let name: String = row.get(1)?;
        let root = row.get::<_, Option<u32>>(2)?.unwrap_or(0);
        if kind == "table" && root > 0 && !name.to_ascii_lowercase().starts_with("sqlite_") {
            schema.tables.push(Table { name: name.clone(), root });
        }
        schema.objects.push(SchemaObject { kind, name, sql: row.get(3)? });
    }
    schema.tables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(schema)
}

/// Returns a name as SQL takes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Collects the facts of a database whose tables were counted by `rows`.
pub(super) fn facts(
    connection: &Connection,
    time: Timestamp,
    version: &Version,
    schema: Schema,
    tables: Vec<TableFacts>,
) -> rusqlite::Result<Facts> {
    let mut first = Vec::new();
    if version.pages > 0 {
        PageReader::new(connection)?.read(1, &mut first)?;
    }
    let properties = properties(version, &first);
    let number = |name: &str| properties.get(name).and_then(Value::as_u64).unwrap_or(0);
    let size_bytes = number("page_bytes") * number("page_count");
    let position = ["change_counter", "schema_version", "page_count"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), properties.get(name)?.clone())))
        .collect();
    Ok(Facts {
        engine: EngineKind::Sqlite,
        engine_version: rusqlite::version().to_owned(),
        form: "image".to_owned(),
        selection: None,
        consistency: ConsistencyPoint { time, position },
        size_bytes,
        tables,
        schema: schema.objects,
        properties,
        tools: BTreeMap::new(),
    })
}

/// Returns the settings of a database as its pragmas would tell them, from its first page: of thousands of small
/// databases each statement counts.
fn properties(version: &Version, first: &[u8]) -> BTreeMap<String, Value> {
    // SQLite shows what is kept in the header as signed numbers.
    let number = |at: usize| Value::from(big_endian(first, at).cast_signed());
    let encoding = match big_endian(first, 56) & 3 {
        2 => "UTF-16le",
        3 => "UTF-16be",
        _ => "UTF-8",
    };
    let vacuum = match (big_endian(first, 52), big_endian(first, 64)) {
        (0, _) => "none",
        (_, 0) => "full",
        _ => "incremental",
    };
    let properties = [
        ("change_counter", Value::from(version.change_counter)),
        ("page_bytes", Value::from(version.page_bytes)),
        ("page_count", Value::from(version.pages)),
        ("freelist_count", number(36)),
        ("schema_version", number(40)),
        ("user_version", number(60)),
        ("application_id", number(68)),
        ("encoding", Value::from(encoding)),
        ("journal_mode", Value::from(if version.wal { "wal" } else { "delete" })),
        ("auto_vacuum", Value::from(vacuum)),
    ];
    properties.map(|(name, value)| (name.to_owned(), value)).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn asked(connection: &Connection, pragma: &str) -> Value {
        connection
            .query_row(&format!("PRAGMA {pragma}"), [], |row| {
                Ok(match row.get_ref(0)? {
                    rusqlite::types::ValueRef::Integer(number) => Value::from(number),
                    other => Value::from(other.as_str()?),
                })
            })
            .unwrap()
    }

    #[test]
    fn settings_are_what_pragmas_tell() {
        let folder = tempfile::tempdir().unwrap();
        let vacuums = ["none", "full", "incremental"];
        for (number, script) in [
            "",
            "CREATE TABLE t(a)",
            "PRAGMA page_size=65536; PRAGMA auto_vacuum=FULL; CREATE TABLE t(a); PRAGMA user_version=-7",
            "PRAGMA page_size=512; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA encoding='UTF-16le'; CREATE TABLE t(a)",
            "PRAGMA encoding='UTF-16be'; CREATE TABLE t(a); PRAGMA application_id=-2147483648",
            "PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(99999)); DROP TABLE t",
            "CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(99999)); DROP TABLE t; PRAGMA journal_mode=TRUNCATE",
        ]
        .into_iter()
        .enumerate()
        {
            let connection = Connection::open(folder.path().join(format!("{number}.db"))).unwrap();
            connection.execute_batch(script).unwrap();
            drop(connection);
            let connection = Connection::open(folder.path().join(format!("{number}.db"))).unwrap();
            connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema").unwrap();
            let version = Version::look(&connection).unwrap();
            let facts = facts(&connection, Timestamp::now(), &version, Schema::default(), vec![]).unwrap();
            for (name, pragma) in [("page_bytes", "page_size")].into_iter().chain(
                [
                    "page_count",
                    "freelist_count",
                    "schema_version",
                    "user_version",
                    "application_id",
                    "encoding",
                    "journal_mode",
                ]
                .map(|name| (name, name)),
            ) {
                assert_eq!(facts.properties[name], asked(&connection, pragma), "{script}: {name}");
            }
            let vacuum = asked(&connection, "auto_vacuum").as_u64().unwrap();
            assert_eq!(facts.properties["auto_vacuum"], vacuums[vacuum as usize], "{script}");
        }
    }
}
