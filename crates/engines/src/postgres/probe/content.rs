//! What of a database's content does not come back as people think: bytes of no encoding, indexes that are not valid
//! and therefore not in a backup, text that is sorted by other rules than its indexes.

use super::Findings;
use crate::postgres::rights::NAMED_MAX;
use crate::postgres::session::Session;
use flow::{Severity, SourceError};

/// Returns the first column of all rows.
pub(super) fn names(session: &mut Session, sql: &str) -> Result<Vec<String>, SourceError> {
    session.query(sql, &[])?.iter().map(|row| session.field(row, 0)).collect()
}

/// Returns the first of many names, and how many more there are.
pub(super) fn few(names: &[String]) -> String {
    let some = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => some,
        more => format!("{some} and {more} more"),
    }
}

pub(super) fn look(session: &mut Session, findings: &mut Findings) -> Result<(), SourceError> {
    let row = session.query_one("SELECT pg_catalog.getdatabaseencoding()::text", &[])?;
    let encoding: String = session.field(&row, 0)?;
    if encoding == "SQL_ASCII" {
        findings.notice(
            "its encoding is SQL_ASCII, so that the server does not know what its bytes mean: a backup keeps them as they are"
                .to_owned(),
            Some("restore it into a database of encoding SQL_ASCII only"),
        );
    }
    invalid_indexes(session, findings)?;
    collations(session, findings)
}

/// `pg_dump` leaves them out where the role is no superuser, and says so where few people look.
pub(super) fn subscriptions(session: &mut Session, findings: &mut Findings) -> Result<(), SourceError> {
    let sql = "SELECT pg_catalog.quote_ident(s.subname) FROM pg_catalog.pg_subscription s
      WHERE s.subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) ORDER BY 1";
    // Older versions show their names to superusers alone.
    let row = session.query_one(
        "SELECT pg_catalog.has_column_privilege('pg_catalog.pg_subscription', 'subname', 'SELECT')
           AND pg_catalog.has_column_privilege('pg_catalog.pg_subscription', 'subdbid', 'SELECT')",
        &[],
    )?;
    if !session.field::<bool>(&row, 0)? {
        return Ok(());
    }
    let names = names(session, sql)?;
    if !names.is_empty() {
        findings.warning(
            format!("subscriptions are not in a backup by a role that is no superuser: {}", few(&names)),
            "note how they are made (CREATE SUBSCRIPTION), or let a superuser back up",
        );
    }
    Ok(())
}

fn invalid_indexes(session: &mut Session, findings: &mut Findings) -> Result<(), SourceError> {
    let sql = "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
      FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready) AND n.nspname !~ '^pg_' ORDER BY 1";
    let indexes = names(session, sql)?;
    for index in indexes.iter().take(NAMED_MAX) {
        findings.add(
            Severity::Warning,
            &format!("index {index}"),
            "is not valid: queries do not use it, and backups do not have it".to_owned(),
            Some(format!("REINDEX INDEX CONCURRENTLY {index} mends it, where nobody builds it just now")),
        );
    }
    if indexes.len() > NAMED_MAX {
        let more = indexes.len() - NAMED_MAX;
        findings
            .warning(format!("{more} more indexes are not valid"), "REINDEX INDEX CONCURRENTLY mends them");
    }
    Ok(())
}

fn collations(session: &mut Session, findings: &mut Findings) -> Result<(), SourceError> {
    if session.version < 150_000 {
        return Ok(());
    }
    let sql = "SELECT d.datcollversion, pg_catalog.pg_database_collation_actual_version(d.oid),
                 pg_catalog.quote_ident(d.datname)
      FROM pg_catalog.pg_database d WHERE d.datname = current_database()
        AND d.datcollversion <> pg_catalog.pg_database_collation_actual_version(d.oid)";
    if let Some(row) = session.query(sql, &[])?.pop() {
        let (made, now, name): (String, String, String) =
            (session.field(&row, 0)?, session.field(&row, 1)?, session.field(&row, 2)?);
        findings.warning(
            format!(
                "it was made with version {made} of its sort order, and the system has {now}: indexes on text may miss rows, \
                 and a restore may find values twice that are to be unique"
            ),
            &format!("REINDEX DATABASE {name}; then ALTER DATABASE {name} REFRESH COLLATION VERSION"),
        );
    }
    Ok(())
}
