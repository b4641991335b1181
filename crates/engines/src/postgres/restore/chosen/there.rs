//! Whether the live database has an object of the backup, by its name. Only looks.

use crate::postgres::restore::items::Item;
use crate::postgres::session::Session;
use flow::SourceError;

/// Tells whether an object is there. Of kinds that nothing is known of it says so: the server complains where it is not.
pub(super) fn there(session: &mut Session, item: &Item) -> Result<bool, SourceError> {
    let sql = match item.kind.as_str() {
        "TABLE" | "VIEW" | "MATERIALIZED VIEW" | "SEQUENCE" | "FOREIGN TABLE" | "INDEX" => {
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                            WHERE n.nspname::text = $1 AND c.relname::text = $2)"
        }
        "TYPE" | "DOMAIN" | "SHELL TYPE" => {
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
                            WHERE n.nspname::text = $1 AND t.typname::text = $2)"
        }
        "COLLATION" => {
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_collation c
                            JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
                            WHERE n.nspname::text = $1 AND c.collname::text = $2)"
        }
        "SCHEMA" => {
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname::text = $2 AND $1::text IS NOT NULL)"
        }
        "EXTENSION" => {
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_extension WHERE extname::text = $2 AND $1::text IS NOT NULL)"
        }
        "FUNCTION" | "PROCEDURE" | "AGGREGATE" => return function(session, item),
        _ => return Ok(true),
    };
    let row = session.query_one(sql, &[&item.schema, &item.tag])?;
    session.field(&row, 0)
}

/// A function is named with the types of its arguments. Where one of those is not there, the function is not either.
fn function(session: &mut Session, item: &Item) -> Result<bool, SourceError> {
    let (name, arguments) = item.tag.split_at(item.tag.find('(').unwrap_or(item.tag.len()));
    let sql = "SELECT pg_catalog.to_regprocedure(pg_catalog.quote_ident($1) || '.' || pg_catalog.quote_ident($2) || $3) IS NOT NULL";
    let found = session.try_query(sql, &[&item.schema, &name, &arguments])?;
    match found.ok().and_then(|rows| rows.into_iter().next()) {
        Some(row) => session.field(&row, 0),
        None => Ok(false),
    }
}
