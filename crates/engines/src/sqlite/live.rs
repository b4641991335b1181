//! Questions to a live or scratch database: its facts, and whatever a user's check asks. Read-only by the way the
//! database is opened, by `query_only`, and by refusing statements that are not.

use super::open::{Opened, open};
use super::pages::Version;
use super::schema;
use crate::engine::{Answer, FactsDepth, Query};
use flow::{
    CancelGuard, Context, DatabaseRef, Digest128, DumpOptions, Facts, SourceError, SourceErrorKind,
    TableFacts,
};
use jiff::Timestamp;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection};
use serde_json::Value;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_128;

/// Opens a database for a question, with the usual patience.
fn open_for(database: &DatabaseRef, context: &Context) -> Result<Opened, SourceError> {
    let wait = DumpOptions::default().lock_wait;
    let opened = open(Path::new(&database.connection), wait, context)?;
    opened.lock(wait, &context.cancel)?;
    Ok(opened)
}

/// Makes a cancellation end the statement that runs.
pub(super) fn interrupt_on_cancel(connection: &Connection, context: &Context) -> CancelGuard {
    let handle = connection.get_interrupt_handle();
    context.cancel.on_cancel(move || handle.interrupt())
}

/// Returns the facts of a database, from one read transaction.
pub(super) fn facts(
    database: &DatabaseRef,
    depth: FactsDepth,
    context: &Context,
) -> Result<Facts, SourceError> {
    let opened = open_for(database, context)?;
    let _interrupt = interrupt_on_cancel(opened.connection(), context);
    let read = || -> rusqlite::Result<Facts> {
        let connection = opened.connection();
        let time = Timestamp::now();
        let version = Version::look(connection)?;
        let schema = schema::read(connection)?;
        let mut tables = Vec::with_capacity(schema.tables.len());
        for table in &schema.tables {
            tables.push(table_facts(connection, &table.name, depth)?);
        }
        schema::facts(connection, time, &version, schema, tables)
    };
    let facts = read().map_err(|error| opened.error(error))?;
    opened.unlock()?;
    Ok(facts)
}

fn table_facts(connection: &Connection, name: &str, depth: FactsDepth) -> rusqlite::Result<TableFacts> {
    let table = schema::quoted(name);
    let (rows, digest) = match depth {
        FactsDepth::Schema => (None, None),
        FactsDepth::Counts => {
            let sql = format!("SELECT count(*) FROM {table}");
            let count: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
            (u64::try_from(count).ok(), None)
        }
        FactsDepth::Digests => {
            let (rows, digest) = digest(connection, &table)?;
            (Some(rows), Some(digest))
        }
    };
    Ok(TableFacts { name: name.to_owned(), rows, digest })
}

/// Adds up the hashes of all rows of a table, each over its values with their types.
fn digest(connection: &Connection, table: &str) -> rusqlite::Result<(u64, Digest128)> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {table}"))?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let (mut count, mut sum, mut bytes) = (0u64, 0u128, Vec::new());
    while let Some(row) = rows.next()? {
        bytes.clear();
        for column in 0..columns {
            let (kind, value): (u8, &[u8]) = match row.get_ref(column)? {
                ValueRef::Null => (0, &[]),
                ValueRef::Integer(number) => (1, &number.to_be_bytes()),
                ValueRef::Real(number) => (2, &number.to_bits().to_be_bytes()),
                ValueRef::Text(text) => (3, text),
                ValueRef::Blob(blob) => (4, blob),
            };
            bytes.push(kind);
            bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
            bytes.extend_from_slice(value);
        }
        sum = sum.wrapping_add(xxh3_128(&bytes));
        count += 1;
    }
    Ok((count, Digest128(sum)))
}

/// Asks one question.
pub(super) fn query(database: &DatabaseRef, query: &Query, context: &Context) -> Result<Answer, SourceError> {
    let opened = open_for(database, context)?;
    let _interrupt = interrupt_on_cancel(opened.connection(), context);
    let refused = |message: &str, hint: &str| {
        SourceError::new(SourceErrorKind::Invalid, database.connection.clone(), message).with_hint(hint)
    };
    let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::Unknown) | None => {
            let message = format!("the query does not run: {error}");
            SourceError::new(SourceErrorKind::Invalid, database.connection.clone(), message)
                .with_hint("try it with `sqlite3`")
        }
        _ => opened.error(error),
    };
    let mut batch = Batch::new(opened.connection(), &query.sql);
    let Some(mut statement) = batch.next().map_err(failed)? else {
        return Err(refused("the query is empty", "write one SELECT"));
    };
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(refused("the query is not read-only, or gives no rows", "write one SELECT"));
    }
    if !matches!(batch.next(), Ok(None)) {
        return Err(refused("the query has more than one statement", "write one SELECT"));
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut answer = Answer { columns, rows: Vec::new(), truncated: false };
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        if answer.rows.len() >= query.rows_max {
            answer.truncated = true;
            break;
        }
        let values = (0..answer.columns.len()).map(|column| row.get_ref(column).map(value));
        answer.rows.push(values.collect::<rusqlite::Result<_>>().map_err(failed)?);
    }
    Ok(answer)
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::from(number),
        // JSON knows no infinity.
        ValueRef::Real(number) if !number.is_finite() => Value::from(number.to_string()),
        ValueRef::Real(number) => Value::from(number),
        ValueRef::Text(text) => Value::from(String::from_utf8_lossy(text)),
        ValueRef::Blob(blob) => Value::from(format!("x'{}'", hex::encode(blob))),
    }
}
