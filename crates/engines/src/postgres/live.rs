//! The facts of a live database, and answers to questions: each in one read-only transaction.

use super::session::Session;
use super::{catalog, digest, failure, pooler, targets};
use crate::engine::{Answer, FactsDepth, Query};
use flow::{
    ConsistencyPoint, Context, DatabaseRef, Digest128, EngineKind, Facts, SchemaObject, SourceError,
    SourceErrorKind, TableFacts,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::Type;

/// Returns the facts of a database from one snapshot of it.
pub(super) fn facts(
    database: &DatabaseRef,
    depth: FactsDepth,
    context: &Context,
) -> Result<Facts, SourceError> {
    let object = database.connection.as_str();
    let settings = targets::settings(object, None, context)?;
    let mut session = pooler::connect_past(&settings, object, &context.cancel)?;
    session.execute(&session.begin_reading(None))?;
    let sql = "SELECT current_setting('server_version'), pg_catalog.getdatabaseencoding()::text,
                 pg_catalog.pg_database_size(current_database())";
    let row = session.query_one(sql, &[])?;
    let (version, encoding, size): (String, String, i64) =
        (session.field(&row, 0)?, session.field(&row, 1)?, session.field(&row, 2)?);
    let time = Timestamp::now();
    let found = catalog::read(&mut session, catalog::Which::All)?;
    let mut tables = Vec::new();
    for table in found.tables.iter().filter(|table| table.kind == 'r') {
        let (rows, digest) = match depth {
            FactsDepth::Schema => (None, None),
            FactsDepth::Counts => (Some(count(&mut session, table)?), None),
            FactsDepth::Digests => {
                let (rows, digest) = digest_of(&mut session, table, &encoding, object)?;
                (Some(rows), Some(digest))
            }
        };
        tables.push(TableFacts { name: table.shown.clone(), rows, digest });
    }
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    let schema = tables
        .iter()
        .map(|table| SchemaObject { kind: "table".to_owned(), name: table.name.clone(), sql: None })
        .collect();
    Ok(Facts {
        engine: EngineKind::Postgres,
        engine_version: version,
        form: "live".to_owned(),
        selection: None,
        consistency: ConsistencyPoint { time, position: BTreeMap::new() },
        size_bytes: u64::try_from(size).unwrap_or(0),
        tables,
        schema,
        properties: BTreeMap::from([("encoding".to_owned(), json!(encoding))]),
        tools: BTreeMap::new(),
    })
}

fn condition(table: &catalog::Table) -> &str {
    table.extension.as_ref().map_or("", |(_, condition)| condition.as_str())
}

fn count(session: &mut Session, table: &catalog::Table) -> Result<u64, SourceError> {
    let sql = format!("SELECT count(*) FROM ONLY {} {}", table.quoted, condition(table));
    let row = session.query_one(&sql, &[])?;
    let count: i64 = session.field(&row, 0)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

fn digest_of(
    session: &mut Session,
    table: &catalog::Table,
    encoding: &str,
    object: &str,
) -> Result<(u64, Digest128), SourceError> {
    let told = |error: &tokio_postgres::Error| {
        failure::server(object, &format!("table {} cannot be read", table.shown), error)
    };
    let encoding = encoding.replace('\'', "''");
    let from = match condition(table) {
        "" => format!("{} {}", table.quoted, table.columns),
        condition => {
            let columns = table.columns.strip_prefix('(').and_then(|columns| columns.strip_suffix(')'));
            format!("(SELECT {} FROM ONLY {} {condition})", columns.unwrap_or(""), table.quoted)
        }
    };
    let sql = format!("COPY {from} TO STDOUT (ENCODING '{encoding}')");
    let mut copy = session.begin_copy(&sql)?.map_err(|error| told(&error))?;
    let mut digest = digest::RowDigest::default();
    loop {
        let over = session.take_copy(&mut copy, |bytes| {
            digest.take(bytes);
            bytes.len()
        })?;
        if over.map_err(|error| told(&error))? {
            break;
        }
    }
    digest.finish().ok_or_else(|| {
        let message = format!("table {} ended within a row", table.shown);
        SourceError::new(SourceErrorKind::Failed, object, message)
    })
}

/// Asks a question, by a cursor: only what returns rows and changes nothing can have one.
pub(super) fn query(database: &DatabaseRef, query: &Query, context: &Context) -> Result<Answer, SourceError> {
    let object = database.connection.as_str();
    let settings = targets::settings(object, None, context)?;
    let mut session = pooler::connect_past(&settings, object, &context.cancel)?;
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; RESET search_path; RESET TimeZone")?;
    let sql = query.sql.trim().trim_end_matches(';');
    let invalid = |error: SourceError| SourceError { kind: SourceErrorKind::Invalid, ..error };
    // Prepared, it is one statement and no more.
    let columns = session.columns(sql).map_err(invalid)?;
    session.execute(&format!("DECLARE backstay NO SCROLL CURSOR FOR {sql}")).map_err(invalid)?;
    let limit = query.rows_max.saturating_add(1);
    let mut rows = Vec::new();
    for message in session.text_query(&format!("FETCH FORWARD {limit} FROM backstay"))? {
        if let SimpleQueryMessage::Row(row) = message {
            let values = columns.iter().enumerate().map(|(at, (_, kind))| value(row.get(at), kind));
            rows.push(values.collect());
        }
    }
    let truncated = rows.len() > query.rows_max;
    rows.truncate(query.rows_max);
    Ok(Answer { columns: columns.into_iter().map(|(name, _)| name).collect(), rows, truncated })
}

fn value(text: Option<&str>, kind: &Type) -> Value {
    let Some(text) = text else { return Value::Null };
    let parsed = match *kind {
        Type::BOOL => Some(Value::Bool(text == "t")),
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => text.parse::<i64>().ok().map(Value::from),
        Type::FLOAT4 | Type::FLOAT8 => {
            text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
        }
        Type::BYTEA => text.strip_prefix("\\x").map(|hex| Value::String(format!("x'{hex}'"))),
        _ => None,
    };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}
