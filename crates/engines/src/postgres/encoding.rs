//! Names whose bytes are no UTF-8, which a database of encoding SQL_ASCII may have: our statements are UTF-8 and cannot name
//! them. They are found before anything else is read, so that a backup says so at once, and names all of them.

use super::session::Session;
use flow::{SourceError, SourceErrorKind};

/// What is to be done about them.
pub(super) const HINT: &str = "in psql, with `SET client_encoding = 'SQL_ASCII'`, ALTER … RENAME gives them names that are UTF-8; \
     until then `pg_dump` by itself backs the database up";

/// How many are named.
const NAMED_MAX: usize = 10;

/// Every name that stands in our statements or facts, with what it is of, and its bytes. Plain ASCII is left out.
const NAMES: &str = "SELECT DISTINCT what, bytes FROM (
    SELECT 'schema' AS what, pg_catalog.convert_to(n.nspname::text, 'SQL_ASCII') AS bytes
    FROM pg_catalog.pg_namespace n
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'm' THEN 'materialized view' ELSE 'table' END,
      pg_catalog.convert_to(n.nspname::text || '.' || c.relname::text, 'SQL_ASCII')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'S', 'm')
    UNION ALL
    SELECT 'column', pg_catalog.convert_to(
      n.nspname::text || '.' || c.relname::text || '.' || a.attname::text, 'SQL_ASCII')
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'value of the type', pg_catalog.convert_to(t.typname::text || '.' || e.enumlabel::text, 'SQL_ASCII')
    FROM pg_catalog.pg_enum e JOIN pg_catalog.pg_type t ON t.oid = e.enumtypid
    UNION ALL
    SELECT 'role', pg_catalog.convert_to(r.rolname::text, 'SQL_ASCII')
    FROM pg_catalog.pg_roles r WHERE r.oid IN (SELECT relowner FROM pg_catalog.pg_class)
  ) names WHERE pg_catalog.encode(bytes, 'hex') ~ '^(..)*[89a-f]' ORDER BY what, bytes";

/// Returns the names that are no UTF-8, each with what it is of; what is no text in them is replaced.
pub(super) fn unreadable_names(session: &mut Session) -> Result<Vec<String>, SourceError> {
    let row = session.query_one("SELECT pg_catalog.getdatabaseencoding()::text", &[])?;
    if session.field::<&str>(&row, 0)? != "SQL_ASCII" {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for row in session.query(NAMES, &[])? {
        let (what, bytes): (String, Vec<u8>) = (session.field(&row, 0)?, session.field(&row, 1)?);
        if std::str::from_utf8(&bytes).is_err() {
            found.push(format!("{what} {}", String::from_utf8_lossy(&bytes)));
        }
    }
    Ok(found)
}

/// Says which they are, as the end of a sentence that begins with the database.
pub(super) fn message(names: &[String]) -> String {
    let some = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    let more = match names.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "it is of encoding SQL_ASCII and has names that are no UTF-8, which cannot be backed up: {some}{more}"
    )
}

/// Fails where there are any.
pub(super) fn refuse(session: &mut Session, object: &str) -> Result<(), SourceError> {
    let names = unreadable_names(session)?;
    if names.is_empty() {
        return Ok(());
    }
    Err(SourceError::new(SourceErrorKind::Unsupported, object, message(&names)).with_hint(HINT))
}
