//! Whether each index holds the rows of its table, told by reading both from end to end.
//!
//! `integrity_check` looks every row up in every index, all over the file. `quick_check` does the rest of its work; what
//! remains is that an index has exactly one entry for each row, with the row's values, in order, and no value twice where
//! it is unique. So the entries of both sides are summed up by their hashes, and those of the index compared with their
//! neighbours. Only what is beyond doubt is told to be in order: for anything else SQLite itself is asked. Reads only.

use crate::sqlite::schema::quoted;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement};
use xxhash_rust::xxh3::xxh3_128;

/// A table with indexes that can be compared with it.
#[derive(Debug, Clone)]
pub(super) struct Indexed {
    table: String,
    /// The name by which its row numbers are read.
    rowid: &'static str,
    indexes: Vec<Index>,
}

#[derive(Debug, Clone)]
struct Index {
    name: String,
    unique: bool,
    columns: Vec<Column>,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    descending: bool,
}

/// What is to be checked beyond `quick_check`.
#[derive(Debug, Clone, Default)]
pub(super) struct Inventory {
    /// Tables without an index.
    pub(super) plain: Vec<String>,
    /// Tables that are compared with their indexes.
    pub(super) compared: Vec<Indexed>,
    /// Tables that only `integrity_check` can check: their order, expressions or conditions are SQLite's to evaluate.
    pub(super) others: Vec<String>,
}

/// The entries of one index, or what they must be: how many, and the sum of their hashes, in whatever order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    count: u64,
    hashes: u128,
}

impl Sum {
    fn add(&mut self, entry: &[u8]) {
        self.count += 1;
        self.hashes = self.hashes.wrapping_add(xxh3_128(entry));
    }
}

/// Lists the tables; `None` where the whole database is only for SQLite to judge.
pub(super) fn inventory(connection: &Connection) -> rusqlite::Result<Option<Inventory>> {
    let encoding: String = connection.query_row("PRAGMA main.encoding", [], |row| row.get(0))?;
    if encoding != "UTF-8" {
        return Ok(None);
    }
    let mut inventory = Inventory::default();
    let mut tables =
        connection.prepare("SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main'")?;
    let tables = tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    for table in tables {
        let (name, kind, without_rowid): (String, String, bool) = table?;
        match kind.as_str() {
            "view" => {}
            "table" if without_rowid => inventory.others.push(name),
            "table" => match indexed(connection, &name)? {
                Some(indexed) if indexed.indexes.is_empty() => inventory.plain.push(name),
                Some(indexed) => inventory.compared.push(indexed),
                None => inventory.others.push(name),
            },
            _ => return Ok(None),
        }
    }
    Ok(Some(inventory))
}

/// Tells whether that is a table whose rows have numbers.
pub(super) fn is_rowid_table(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let query = "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND NOT wr
        AND name = ?1 COLLATE NOCASE";
    connection.query_row(query, [table], |row| row.get::<_, i64>(0)).map(|count| count == 1)
}

/// Describes a table; `None` where one of its indexes is more than columns in plain order.
fn indexed(connection: &Connection, table: &str) -> rusqlite::Result<Option<Indexed>> {
    let mut columns = connection.prepare("SELECT name, hidden FROM pragma_table_xinfo(?1, 'main')")?;
    let columns: Vec<(String, i64)> =
        columns.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let taken = |name: &str| columns.iter().any(|(column, _)| column.eq_ignore_ascii_case(name));
    let Some(rowid) = ["rowid", "_rowid_", "oid"].into_iter().find(|name| !taken(name)) else {
        return Ok(None);
    };
    let mut list =
        connection.prepare("SELECT name, \"unique\", partial FROM pragma_index_list(?1, 'main')")?;
    let list: Vec<(String, bool, bool)> = list
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    let mut indexes = Vec::new();
    for (name, unique, partial) in list {
        let mut keys =
            connection.prepare("SELECT name, desc, coll FROM pragma_index_xinfo(?1, 'main') WHERE key")?;
        let keys: Vec<(Option<String>, bool, String)> = keys
            .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        let plain = |(name, descending, collation): (Option<String>, bool, String)| {
            let name =
                name.filter(|name| columns.iter().any(|(column, hidden)| column == name && *hidden == 0))?;
            collation.eq_ignore_ascii_case("BINARY").then_some(Column { name, descending })
        };
        match keys.into_iter().map(plain).collect::<Option<Vec<Column>>>() {
            Some(columns) if !partial && !columns.is_empty() => indexes.push(Index { name, unique, columns }),
            _ => return Ok(None),
        }
    }
    Ok(Some(Indexed { table: table.to_owned(), rowid, indexes }))
}

impl Indexed {
    /// Returns the name of the table.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// Returns how many indexes it has.
    pub(super) fn index_count(&self) -> usize {
        self.indexes.len()
    }

    /// Sums up what the entries of each index must be, by the rows.
    pub(super) fn sum_rows(&self, connection: &Connection) -> rusqlite::Result<Vec<Sum>> {
        let columns = self.indexes.iter().flat_map(|index| &index.columns);
        let columns: Vec<String> = columns.map(|column| quoted(&column.name)).collect();
        let (rowid, table) = (self.rowid, quoted(&self.table));
        let query = format!("SELECT {rowid}, {} FROM main.{table} NOT INDEXED", columns.join(", "));
        let mut statement = connection.prepare(&query)?;
        let mut rows = statement.query([])?;
        let mut sums = vec![Sum::default(); self.indexes.len()];
        let mut entry = Vec::new();
        while let Some(row) = rows.next()? {
            let rowid = row.get(0)?;
            let mut at = 1;
            for (index, sum) in self.indexes.iter().zip(&mut sums) {
                entry.clear();
                for column in &index.columns {
                    encode(row.get_ref(at)?, column.descending, &mut entry);
                    at += 1;
                }
                encode_rowid(rowid, &mut entry);
                sum.add(&entry);
            }
        }
        Ok(sums)
    }

    /// Sums up the entries that an index has; `None` where they are not in order, or one is twice where it may not be,
    /// or SQLite would not read them from the index alone.
    pub(super) fn sum_index(&self, connection: &Connection, number: usize) -> rusqlite::Result<Option<Sum>> {
        let Some(index) = self.indexes.get(number) else { return Ok(None) };
        let columns: Vec<String> = index.columns.iter().map(|column| quoted(&column.name)).collect();
        let (rowid, table, name) = (self.rowid, quoted(&self.table), quoted(&index.name));
        let query = format!("SELECT {rowid}, {} FROM main.{table} INDEXED BY {name}", columns.join(", "));
        if !reads_index_alone(connection, &query)? {
            return Ok(None);
        }
        sum_entries(&mut connection.prepare(&query)?, index)
    }
}

fn sum_entries(statement: &mut Statement<'_>, index: &Index) -> rusqlite::Result<Option<Sum>> {
    let mut rows = statement.query([])?;
    let mut sum = Sum::default();
    let (mut before, mut entry) = (Vec::new(), Vec::new());
    let mut key_before = 0;
    while let Some(row) = rows.next()? {
        entry.clear();
        let mut has_null = false;
        for (at, column) in index.columns.iter().enumerate() {
            let value = row.get_ref(at + 1)?;
            has_null |= value == ValueRef::Null;
            encode(value, column.descending, &mut entry);
        }
        let key = entry.len();
        encode_rowid(row.get(0)?, &mut entry);
        if sum.count > 0 {
            let twice = index.unique && !has_null && before[..key_before] == entry[..key];
            if twice || before >= entry {
                return Ok(None);
            }
        }
        sum.add(&entry);
        key_before = key;
        std::mem::swap(&mut before, &mut entry);
    }
    Ok(Some(sum))
}

fn reads_index_alone(connection: &Connection, query: &str) -> rusqlite::Result<bool> {
    let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}"))?;
    let steps: Vec<String> = plan.query_map([], |row| row.get("detail"))?.collect::<Result<_, _>>()?;
    Ok(matches!(&steps[..], [step] if step.starts_with("SCAN") && step.contains("USING COVERING INDEX")))
}

/// Appends a value such that bytes compare as SQLite compares values, and equal values have equal bytes.
fn encode(value: ValueRef<'_>, descending: bool, out: &mut Vec<u8>) {
    let start = out.len();
    match value {
        ValueRef::Null => out.push(0),
        ValueRef::Integer(number) => {
            // What the nearest floating-point number leaves over decides between those that share it.
            let near = number as f64;
            encode_number(near, i128::from(number) - near as i128, out);
        }
        ValueRef::Real(number) => encode_number(number, 0, out),
        ValueRef::Text(bytes) => encode_bytes(2, bytes, out),
        ValueRef::Blob(bytes) => encode_bytes(3, bytes, out),
    }
    if descending {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

fn encode_number(near: f64, rest: i128, out: &mut Vec<u8>) {
    out.push(1);
    // Both zeros are the same.
    let bits = (near + 0.0).to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    out.extend_from_slice(&ordered.to_be_bytes());
    out.extend_from_slice(&((rest as i16) ^ i16::MIN).to_be_bytes());
}

fn encode_bytes(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    let mut rest = bytes;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        out.extend_from_slice(&rest[..zero]);
        out.extend_from_slice(&[0, 1]);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, 0]);
}

fn encode_rowid(rowid: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(rowid ^ i64::MIN).to_be_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Tells whether every index of a database is found to hold its rows; `None` where SQLite has to be asked.
    fn agree(connection: &Connection) -> Option<bool> {
        let inventory = inventory(connection).unwrap()?;
        if !inventory.others.is_empty() {
            return None;
        }
        Some(inventory.compared.iter().all(|table| {
            let wanted = table.sum_rows(connection).unwrap();
            (0..table.index_count())
                .all(|number| table.sum_index(connection, number).unwrap() == Some(wanted[number]))
        }))
    }

    fn shop() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b REAL, c TEXT UNIQUE, d BLOB);
                 CREATE INDEX t_a ON t(a, b DESC);
                 CREATE INDEX t_d ON t(d DESC, id);
                 INSERT INTO t(a, b, c, d) VALUES (NULL, 1, 'x', x'00'), (1, 2.5, 'y', x'0001'), (1.0, -0.0, NULL, NULL),
                   (9007199254740993, 0.0, NULL, 'text'), (9007199254740992.0, 1e300, 'x' || char(0), 7),
                   (-9223372036854775808, -1e-300, 'xa', x'ff'), (9223372036854775807, 3, '', 'tex'), ('1', 4, 'z', 1.5);
                 ALTER TABLE t ADD COLUMN e REAL DEFAULT 5;
                 CREATE INDEX t_e ON t(e);",
            )
            .unwrap();
        connection
    }

    /// Runs a change of which one index learns nothing.
    fn behind_the_back_of(connection: &Connection, index: &str, change: &str) {
        connection
            .execute_batch(&format!(
                "PRAGMA writable_schema = ON;
                 CREATE TEMP TABLE kept AS SELECT * FROM main.sqlite_schema WHERE name = '{index}';
                 DELETE FROM main.sqlite_schema WHERE name = '{index}';
                 PRAGMA writable_schema = RESET;
                 {change};
                 PRAGMA writable_schema = ON;
                 INSERT INTO main.sqlite_schema SELECT * FROM temp.kept;
                 DROP TABLE temp.kept;
                 PRAGMA writable_schema = RESET;"
            ))
            .unwrap();
    }

    #[test]
    fn indexes_that_hold_their_rows_are_found_to_do_so() {
        assert_eq!(agree(&shop()), Some(true), "values of all kinds");
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE n(v); CREATE INDEX n_v ON n(v); CREATE TABLE empty(v UNIQUE);
                 WITH RECURSIVE i(x) AS (SELECT -2000 UNION ALL SELECT x + 1 FROM i WHERE x < 2000)
                 INSERT INTO n SELECT CASE abs(x) % 5 WHEN 0 THEN x / 7.0 WHEN 1 THEN x WHEN 2 THEN 'v' || x
                   WHEN 3 THEN 9007199254740990 + x ELSE 9007199254740990.0 + x END FROM i;",
            )
            .unwrap();
        assert_eq!(agree(&connection), Some(true), "numbers between and beyond each other");
    }

    #[test]
    fn an_index_that_differs_from_its_table_is_never_passed() {
        for (index, change) in [
            ("t_a", "INSERT INTO t(a, b) VALUES (5, 6)"),
            ("t_a", "DELETE FROM t WHERE id = 2"),
            ("t_a", "UPDATE t SET a = 3 WHERE id = 2"),
            ("t_a", "UPDATE t SET b = 2.25 WHERE id = 2"),
            ("t_d", "UPDATE t SET d = x'0002' WHERE id = 2"),
            ("t_e", "UPDATE t SET e = 5.5 WHERE id = 1"),
            ("t_e", "UPDATE t SET id = 100 WHERE id = 1"),
        ] {
            let connection = shop();
            behind_the_back_of(&connection, index, change);
            let sqlite: String =
                connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_ne!(sqlite, "ok", "{change}: the case is one that SQLite finds");
            assert_eq!(agree(&connection), Some(false), "{change} behind the back of {index}");
        }
    }

    #[test]
    fn what_is_twice_or_out_of_order_is_never_passed() {
        let connection = shop();
        connection
            .execute_batch(
                "PRAGMA writable_schema = ON;
                 CREATE INDEX t_twice ON t(e);
                 UPDATE sqlite_schema SET sql = 'CREATE UNIQUE INDEX t_twice ON t(e)' WHERE name = 't_twice';
                 PRAGMA writable_schema = RESET;",
            )
            .unwrap();
        assert_eq!(agree(&connection), Some(false), "a value that is there twice");
        let connection = shop();
        connection
            .execute_batch(
                "PRAGMA writable_schema = ON;
                 CREATE INDEX t_order ON t(id);
                 UPDATE sqlite_schema SET sql = 'CREATE INDEX t_order ON t(id DESC)' WHERE name = 't_order';
                 PRAGMA writable_schema = RESET;",
            )
            .unwrap();
        assert_eq!(agree(&connection), Some(false), "entries in another order");
    }

    #[test]
    fn what_only_sqlite_can_judge_is_left_to_it() {
        for schema in [
            "CREATE TABLE t(a TEXT COLLATE NOCASE UNIQUE)",
            "CREATE TABLE t(a); CREATE INDEX i ON t(a) WHERE a > 1",
            "CREATE TABLE t(a); CREATE INDEX i ON t(a + 1)",
            "CREATE TABLE t(a, b AS (a + 1)); CREATE INDEX i ON t(b)",
            "CREATE TABLE t(a PRIMARY KEY, b UNIQUE) WITHOUT ROWID",
            "CREATE TABLE t(rowid UNIQUE, _rowid_, oid)",
            "CREATE VIRTUAL TABLE t USING fts5(a)",
            "PRAGMA encoding = 'UTF-16le'; CREATE TABLE t(a UNIQUE)",
        ] {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(schema).unwrap();
            assert_eq!(agree(&connection), None, "{schema}");
        }
    }
}
