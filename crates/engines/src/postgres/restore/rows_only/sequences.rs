//! The values of sequences: set forward as far as the backup had them, and never back, since numbers that were given out since
//! may stand elsewhere.
//!
//! No transaction takes back what is set. So it is done last of all, just before the commit.

use crate::postgres::failure;
use crate::postgres::restore::chosen::blockers::Blocker;
use crate::postgres::restore::names::literal;
use crate::postgres::session::Session;
use flow::SourceError;

/// What a sequence had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    /// The sequence; `None` where it is not there.
    pub(super) oid: Option<u32>,
    /// Its name as a person writes it.
    pub(super) shown: String,
    pub(super) value: i64,
    /// Whether the value was given out.
    pub(super) called: bool,
}

/// Returns what keeps sequences from being set.
pub(super) fn blockers(session: &mut Session, values: &[Value]) -> Result<Vec<Blocker>, SourceError> {
    let oids: Vec<u32> = values.iter().filter_map(|value| value.oid).collect();
    let sql = "SELECT c.oid::regclass::text, pg_catalog.pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_class c
               WHERE c.oid = ANY($1) AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')
                 AND NOT (pg_catalog.has_sequence_privilege(c.oid, 'UPDATE')
                          AND pg_catalog.has_sequence_privilege(c.oid, 'SELECT')) ORDER BY 1";
    let mut found = Vec::new();
    for row in session.query(sql, &[&oids])? {
        let (name, owner): (String, String) = (session.field(&row, 0)?, session.field(&row, 1)?);
        found.push(Blocker {
            message: format!("the role may not set the sequence {name}"),
            hint: format!("connect as {owner}, or GRANT SELECT, UPDATE ON SEQUENCE {name}"),
        });
    }
    Ok(found)
}

/// Sets sequences forward.
pub(super) fn advance(session: &mut Session, values: &[Value], object: &str) -> Result<(), SourceError> {
    for one in values {
        let Some(oid) = one.oid else { continue };
        let sql = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1 AND c.relkind = 'S'";
        let rows = session.query(sql, &[&oid])?;
        let Some(row) = rows.first() else { continue };
        let name: String = session.field(row, 0)?;
        let sql = format!(
            "SELECT CASE WHEN s.seqincrement > 0 THEN q.last_value < $1 ELSE q.last_value > $1 END
               OR (q.last_value = $1 AND $2 AND NOT q.is_called)
             FROM {name} q, pg_catalog.pg_sequence s WHERE s.seqrelid = $3"
        );
        let row = session.query_one(&sql, &[&one.value, &one.called, &oid])?;
        if session.field(&row, 0)? {
            let (name, value, called) = (literal(&name), one.value, one.called);
            let set = format!("SELECT pg_catalog.setval({name}, {value}, {called})");
            session.try_execute(&set)?.map_err(|error| {
                failure::server(object, &format!("the sequence {} cannot be set", one.shown), &error)
            })?;
        }
    }
    Ok(())
}
