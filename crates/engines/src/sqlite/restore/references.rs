//! Whether rows refer to rows that exist, asked once for each value that is referred to instead of once for each row.
//!
//! That needs an index on the side that refers, and a row number on the other. Any other foreign key, and any fault, is
//! for `foreign_key_check` to tell. Reads only.

use super::indexes::is_rowid_table;
use crate::sqlite::schema::quoted;
use crate::sqlite::walk::Reference;
use rusqlite::{Connection, OptionalExtension};

/// What is to be asked about the foreign keys of a database.
#[derive(Debug, Clone, Default)]
pub(super) struct References {
    /// Those that can be asked by values.
    pub(super) queries: Vec<Query>,
    /// Tables whose foreign keys only `foreign_key_check` can check.
    pub(super) others: Vec<String>,
}

/// A foreign key that can be asked by values.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) reference: Reference,
    /// Counts the values which refer to nothing.
    pub(super) sql: String,
}

/// Lists what refers to what.
pub(super) fn references(connection: &Connection) -> rusqlite::Result<References> {
    let mut references = References::default();
    let mut tables =
        connection.prepare("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")?;
    let tables: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for table in tables {
        match queries(connection, &table)? {
            Some(queries) => references.queries.extend(queries),
            None => references.others.push(table),
        }
    }
    Ok(references)
}

/// Returns a query for each foreign key of a table; `None` where one of them cannot be asked so.
fn queries(connection: &Connection, table: &str) -> rusqlite::Result<Option<Vec<Query>>> {
    let mut keys = connection
        .prepare("SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1, 'main')")?;
    let keys: Vec<(i64, String, String, Option<String>)> = keys
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<_, _>>()?;
    let mut queries = Vec::new();
    for (id, parent, child_column, parent_column) in &keys {
        let columns = keys.iter().filter(|(other, ..)| other == id).count();
        let number = row_number(connection, parent)?;
        let index = index_on(connection, table, child_column)?;
        let (1, Some(number), Some(index)) = (columns, number, index) else { return Ok(None) };
        if parent_column.as_ref().is_some_and(|named| !named.eq_ignore_ascii_case(&number)) {
            return Ok(None);
        }
        let reference = Reference { index: index.clone(), parent: parent.clone() };
        let (table, column, index) = (quoted(table), quoted(child_column), quoted(&index));
        let (parent, number) = (quoted(parent), quoted(&number));
        // The parent stands on the left: it is its affinity by which SQLite compares.
        let sql = format!(
            "SELECT count(*) FROM (SELECT DISTINCT {column} AS value FROM main.{table} INDEXED BY {index} \
             WHERE {column} IS NOT NULL) AS child \
             WHERE NOT EXISTS (SELECT 1 FROM main.{parent} AS parent WHERE parent.{number} = child.value)"
        );
        queries.push(Query { reference, sql });
    }
    Ok(Some(queries))
}

/// Returns the column that is another name for a table's row number.
fn row_number(connection: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    if !is_rowid_table(connection, table)? {
        return Ok(None);
    }
    let mut keys =
        connection.prepare("SELECT name, type FROM pragma_table_xinfo(?1, 'main') WHERE pk > 0")?;
    let keys: Vec<(String, String)> =
        keys.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    // A key that has an index of its own (`INTEGER PRIMARY KEY DESC`) is no row number.
    let own_index = connection
        .query_row("SELECT 1 FROM pragma_index_list(?1, 'main') WHERE origin = 'pk'", [table], |_| Ok(()))
        .optional()?;
    Ok(match &keys[..] {
        [(name, kind)] if kind.eq_ignore_ascii_case("INTEGER") && own_index.is_none() => Some(name.clone()),
        _ => None,
    })
}

/// Returns an index of all rows in the plain order of a column.
fn index_on(connection: &Connection, table: &str, column: &str) -> rusqlite::Result<Option<String>> {
    let query = "SELECT list.name FROM pragma_index_list(?1, 'main') AS list, pragma_index_xinfo(list.name, 'main') AS key
        WHERE NOT list.partial AND key.seqno = 0 AND key.name = ?2 COLLATE NOCASE AND key.coll = 'BINARY' COLLATE NOCASE";
    connection.query_row(query, [table, column], |row| row.get(0)).optional()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SCHEMA: &str = "CREATE TABLE customer(id INTEGER PRIMARY KEY, code TEXT UNIQUE);
        CREATE TABLE orders(customer INTEGER REFERENCES customer, any REFERENCES customer(id));
        CREATE INDEX orders_customer ON orders(customer); CREATE INDEX orders_any ON orders(any);
        INSERT INTO customer VALUES (1, 'a'), (2, 'b');
        INSERT INTO orders VALUES (1, '1'), (2, 2.0), (1, NULL), (NULL, 1);";

    fn with(script: &str) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        connection.execute_batch(script).unwrap();
        connection
    }

    fn missing(connection: &Connection) -> i64 {
        let found = references(connection).unwrap();
        let counts = found
            .queries
            .iter()
            .map(|query| connection.query_row(&query.sql, [], |row| row.get::<_, i64>(0)).unwrap());
        counts.sum()
    }

    #[test]
    fn rows_that_refer_to_nothing_are_found_as_sqlite_finds_them() {
        for (change, wanted) in [
            ("", 0),
            ("INSERT INTO orders VALUES (3, NULL)", 1),
            ("INSERT INTO orders VALUES (NULL, 'x')", 1),
            ("INSERT INTO orders VALUES (NULL, 1.5)", 1),
            ("INSERT INTO orders VALUES (3, '2x'), (3, x'31')", 3),
            ("DELETE FROM customer WHERE id = 2", 2),
        ] {
            let connection = with(&format!("{SCHEMA} {change}"));
            assert!(references(&connection).unwrap().others.is_empty(), "all are asked by values");
            assert_eq!(missing(&connection), wanted, "{change}");
            let sqlite: i64 = connection
                .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))
                .unwrap();
            assert_eq!(sqlite > 0, wanted > 0, "{change}: SQLite says the same");
        }
    }

    #[test]
    fn other_foreign_keys_are_left_to_sqlite() {
        for schema in [
            "CREATE TABLE c(a REFERENCES p(id)); CREATE TABLE p(id INTEGER PRIMARY KEY)",
            "CREATE TABLE c(a REFERENCES p(code)); CREATE INDEX i ON c(a); CREATE TABLE p(id INTEGER PRIMARY KEY, code UNIQUE)",
            "CREATE TABLE c(a REFERENCES p); CREATE INDEX i ON c(a) WHERE a > 1; CREATE TABLE p(id INTEGER PRIMARY KEY)",
            "CREATE TABLE c(a REFERENCES p); CREATE INDEX i ON c(a); CREATE TABLE p(id INTEGER PRIMARY KEY DESC)",
            "CREATE TABLE c(a REFERENCES p); CREATE INDEX i ON c(a); CREATE TABLE p(id INT PRIMARY KEY)",
            "CREATE TABLE c(a REFERENCES p); CREATE INDEX i ON c(a); CREATE TABLE p(id INTEGER PRIMARY KEY) WITHOUT ROWID",
            "CREATE TABLE c(a REFERENCES gone); CREATE INDEX i ON c(a)",
            "CREATE TABLE c(a, b, FOREIGN KEY (a, b) REFERENCES p); CREATE INDEX i ON c(a); CREATE TABLE p(a, b, PRIMARY KEY(a, b))",
        ] {
            let found = references(&with(schema)).unwrap();
            assert_eq!((found.queries.len(), found.others), (0, vec!["c".to_owned()]), "{schema}");
        }
    }
}
