//! What a database says of itself: its schema and its settings. To be read within a read transaction.

use flow::{ConsistencyPoint, EngineKind, Facts, SchemaObject, TableFacts};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
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
    change_counter: u32,
    schema: Schema,
    tables: Vec<TableFacts>,
) -> rusqlite::Result<Facts> {
    let properties = properties(connection, change_counter)?;
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

fn properties(connection: &Connection, change_counter: u32) -> rusqlite::Result<BTreeMap<String, Value>> {
    let mut properties = BTreeMap::from([("change_counter".to_owned(), Value::from(change_counter))]);
    for (name, pragma) in [
        ("page_bytes", "page_size"),
        ("page_count", "page_count"),
        ("freelist_count", "freelist_count"),
        ("schema_version", "schema_version"),
        ("user_version", "user_version"),
        ("application_id", "application_id"),
    ] {
        let value = connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0))?;
        properties.insert(name.to_owned(), Value::from(value));
    }
    for name in ["encoding", "journal_mode"] {
        let value: Option<String> =
            connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).optional()?;
        properties.insert(name.to_owned(), Value::from(value));
    }
    let vacuum = match connection.query_row("PRAGMA auto_vacuum", [], |row| row.get::<_, i64>(0))? {
        0 => "none",
        1 => "full",
        _ => "incremental",
    };
    properties.insert("auto_vacuum".to_owned(), Value::from(vacuum));
    Ok(properties)
}
