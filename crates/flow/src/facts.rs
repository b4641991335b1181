//! What is known about a database at the moment of its backup.

use crate::{EngineKind, Selection};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A 128-bit digest of a table's rows that does not depend on their order. Guards against accidents and bugs, not
/// against someone who owns the source.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest128(pub u128);

impl fmt::Debug for Digest128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for Digest128 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Digest128 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Digest128).map_err(serde::de::Error::custom)
    }
}

/// The moment that a backup shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyPoint {
    /// Wall-clock time at the source.
    pub time: Timestamp,
    /// The engine's own position: a change counter, an LSN with timeline and transaction snapshot, a transaction id.
    pub position: BTreeMap<String, serde_json::Value>,
}

/// One table, view or other object of the schema, by the text that makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaObject {
    /// `table`, `index`, `view`, `trigger`, …
    pub kind: String,
    /// Its name, with its schema where the engine has those.
    pub name: String,
    /// The statement that makes it, where it has one.
    pub sql: Option<String>,
}

/// What is known of one table (or label, or relationship type).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFacts {
    /// Its name, with its schema where the engine has those.
    pub name: String,
    /// Rows in the backup's image; `None` until somebody counted them.
    pub rows: Option<u64>,
    /// Digest of all rows; `None` until somebody computed it.
    pub digest: Option<Digest128>,
}

/// The facts taken with a backup. They describe content: an unchanged database keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The database system.
    pub engine: EngineKind,
    /// The version of the server or library that read the database.
    pub engine_version: String,
    /// What kind of copy it is: `image` for SQLite.
    pub form: String,
    /// What of the database it holds; absent where that is all of it. What is not of the selection is not said to be
    /// missing, and a backup with one never stands for the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
    /// The moment that the backup shows.
    pub consistency: ConsistencyPoint,
    /// Size of the database in bytes, as its users would count it.
    pub size_bytes: u64,
    /// Its tables, in the order of their names.
    pub tables: Vec<TableFacts>,
    /// Its schema, in the order in which the engine lists it.
    pub schema: Vec<SchemaObject>,
    /// Whatever else the engine has to say: `page_bytes`, `user_version`, `encoding`, …
    pub properties: BTreeMap<String, serde_json::Value>,
    /// Versions of the tools that took part, by name.
    pub tools: BTreeMap<String, String>,
}

impl Facts {
    /// Returns the rows of all tables together, or `None` where a table was not counted.
    pub fn rows(&self) -> Option<u64> {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// By what an engine knows a database as unchanged. Opaque to everybody else.
///
/// Taken before the first byte is read, so that whatever changes later makes the next look find a difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// When they were read. Marks that were younger than two seconds then count as changed: file times are coarse.
    pub read_at: Timestamp,
    /// The engine's own. Thousands of them are passed around in a run: they are shared.
    #[serde(serialize_with = "write_shared", deserialize_with = "read_shared")]
    pub value: Arc<serde_json::Value>,
}

fn write_shared<S: Serializer>(value: &Arc<serde_json::Value>, serializer: S) -> Result<S::Ok, S::Error> {
    value.serialize(serializer)
}

fn read_shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Arc::new)
}
