//! A database as SQL text, statement for statement what `sqlite3 DATABASE .dump` writes, streamed row by row.
//!
//! Beyond that it sets what `.dump` leaves out and a program may depend on: encoding, `user_version` and
//! `application_id`, where they are not the default.

use super::schema::quoted;
use flow::Cancel;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use std::io::{self, Write};

/// The dump ended early: on one side or the other.
#[derive(Debug)]
pub(super) enum DumpError {
    Sqlite(rusqlite::Error),
    Output(io::Error),
    Cancelled,
}

impl From<rusqlite::Error> for DumpError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<io::Error> for DumpError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Writes the whole database.
pub(super) fn write(connection: &Connection, out: &mut dyn Write, cancel: &Cancel) -> Result<(), DumpError> {
    writeln!(out, "PRAGMA foreign_keys=OFF;")?;
    let encoding: String = connection.query_row("PRAGMA encoding", [], |row| row.get(0))?;
    if encoding != "UTF-8" {
        writeln!(out, "PRAGMA encoding='{encoding}';")?;
    }
    writeln!(out, "BEGIN TRANSACTION;")?;
    for pragma in ["application_id", "user_version"] {
        let value: i64 = connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))?;
        if value != 0 {
            writeln!(out, "PRAGMA {pragma}={value};")?;
        }
    }
    let tables = objects(
        connection,
        "SELECT name, sql FROM sqlite_schema WHERE type='table' AND sql NOT NULL \
         ORDER BY tbl_name='sqlite_sequence', rowid",
    )?;
    let mut schema_is_writable = false;
    for (name, sql) in &tables {
        write_table(connection, name, sql, &mut schema_is_writable, out, cancel)?;
    }
    let others = objects(
        connection,
        "SELECT name, sql FROM sqlite_schema WHERE type IN ('index','trigger','view') AND sql NOT NULL \
         ORDER BY type='trigger', rowid",
    )?;
    for (_, sql) in &others {
        writeln!(out, "{};", terminated(sql))?;
    }
    if schema_is_writable {
        writeln!(out, "PRAGMA writable_schema=OFF;")?;
    }
    writeln!(out, "COMMIT;")?;
    Ok(())
}

fn objects(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Ends a comment that would swallow what follows.
fn terminated(sql: &str) -> String {
    if sql.rsplit('\n').next().is_some_and(|line| line.contains("--")) || sql.contains("/*") {
        format!("{sql}\n")
    } else {
        sql.to_owned()
    }
}

fn write_table(
    connection: &Connection,
    name: &str,
    sql: &str,
    schema_is_writable: &mut bool,
    out: &mut dyn Write,
    cancel: &Cancel,
) -> Result<(), DumpError> {
    let is_virtual = sql.get(..20).is_some_and(|start| start.eq_ignore_ascii_case("CREATE VIRTUAL TABLE"));
    match name {
        "sqlite_sequence" => writeln!(out, "DELETE FROM sqlite_sequence;")?,
        "sqlite_stat1" => writeln!(out, "ANALYZE sqlite_schema;")?,
        // Samples of other builds of SQLite (`sqlite_stat4`) among them: not every one can load those.
        _ if name.starts_with("sqlite_") => return Ok(()),
        _ if is_virtual => {
            if !*schema_is_writable {
                writeln!(out, "PRAGMA writable_schema=ON;")?;
                *schema_is_writable = true;
            }
            let (name, sql) = (literal(name), literal(sql));
            writeln!(
                out,
                "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table',{name},{name},0,{sql});"
            )?;
            return Ok(());
        }
        _ if sql.get(..13).is_some_and(|start| start.eq_ignore_ascii_case("CREATE TABLE "))
            && name_is_shadow(name, sql) =>
        {
            writeln!(out, "CREATE TABLE IF NOT EXISTS {};", terminated(&sql[13..]))?;
        }
        _ => writeln!(out, "{};", terminated(sql))?,
    }
    write_rows(connection, name, out, cancel)
}

/// Tells whether a table's statement has its name in quotes, as SQLite itself writes those of shadow tables.
fn name_is_shadow(name: &str, sql: &str) -> bool {
    let rest = &sql[13..];
    rest.starts_with(&literal(name)) || rest.starts_with(&quoted(name))
}

fn write_rows(
    connection: &Connection,
    name: &str,
    out: &mut dyn Write,
    cancel: &Cancel,
) -> Result<(), DumpError> {
    // Generated columns cannot be inserted; table_info leaves them out.
    let mut columns = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let columns: Vec<String> =
        columns.query_map([name], |row| row.get::<_, String>(0))?.collect::<Result<_, _>>()?;
    let list: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    let table = quoted(name);
    let mut statement = connection.prepare(&format!("SELECT {} FROM {table}", list.join(",")))?;
    let mut rows = statement.query([])?;
    let mut count = 0u32;
    while let Some(row) = rows.next()? {
        count = count.wrapping_add(1);
        if count.is_multiple_of(1024) && cancel.is_cancelled() {
            return Err(DumpError::Cancelled);
        }
        write!(out, "INSERT INTO {} VALUES(", bare(name))?;
        write_values(row, columns.len(), out)?;
        writeln!(out, ");")?;
    }
    Ok(())
}

/// Returns a name without quotes where it needs none for certain.
fn bare(name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        // Any keyword of SQL is letters alone; a name with a digit or an underscore is none.
        && name.contains(|c: char| c == '_' || c.is_ascii_digit());
    if plain { name.to_owned() } else { quoted(name) }
}

fn write_values(row: &Row<'_>, columns: usize, out: &mut dyn Write) -> Result<(), DumpError> {
    for column in 0..columns {
        if column > 0 {
            write!(out, ",")?;
        }
        match row.get_ref(column)? {
            ValueRef::Null => write!(out, "NULL")?,
            ValueRef::Integer(number) => write!(out, "{number}")?,
            ValueRef::Real(number) if number.is_infinite() => {
                write!(out, "{}1e999", if number < 0.0 { "-" } else { "" })?;
            }
            ValueRef::Real(number) => write!(out, "{number:?}")?,
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) if !text.contains('\0') => out.write_all(literal(text).as_bytes())?,
                _ => write!(out, "CAST(x'{}' AS TEXT)", hex::encode(text))?,
            },
            ValueRef::Blob(blob) => write!(out, "X'{}'", hex::encode(blob))?,
        }
    }
    Ok(())
}

/// Returns text as SQL takes it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
