//! What default privileges of the live database gave to objects that a restore has just made, taken away again: they get
//! the rights that the backup says, no others. In a new database there is nothing to take away.

use super::items::Item;
use super::names::quoted;
use crate::postgres::session::Session;
use flow::SourceError;

/// Takes away what others were given of an object of the backup, before its own rights are set.
pub(super) fn close(session: &mut Session, item: &Item) -> Result<(), SourceError> {
    match item.kind.as_str() {
        "TABLE" | "VIEW" | "MATERIALIZED VIEW" | "FOREIGN TABLE" | "SEQUENCE" => {
            let kind = if item.is("SEQUENCE") { "SEQUENCE" } else { "TABLE" };
            relation(session, kind, &item.quoted())
        }
        "FUNCTION" | "PROCEDURE" | "AGGREGATE" => {
            let (name, arguments) = item.tag.split_at(item.tag.find('(').unwrap_or(item.tag.len()));
            let shown = format!("{}.{}{arguments}", quoted(&item.schema), quoted(name));
            let word = if session.version >= 110_000 { "ROUTINE" } else { "FUNCTION" };
            open_to_all(
                session,
                "SELECT proacl AS acl, proowner AS owner FROM pg_catalog.pg_proc
                 WHERE oid = pg_catalog.to_regprocedure($1::text)",
                (&shown, &format!("{word} {shown}"), "EXECUTE"),
            )
        }
        "TYPE" | "DOMAIN" => {
            let shown = item.quoted();
            open_to_all(
                session,
                "SELECT typacl AS acl, typowner AS owner FROM pg_catalog.pg_type
                 WHERE oid = pg_catalog.to_regtype($1::text)",
                (&shown, &format!("TYPE {shown}"), "USAGE"),
            )
        }
        "SCHEMA" => {
            let sql = "SELECT nspacl AS acl, nspowner AS owner FROM pg_catalog.pg_namespace WHERE nspname::text = $1";
            let grantees = grantees(session, sql, &item.tag)?;
            revoke(session, &grantees, &format!("SCHEMA {}", quoted(&item.tag)))
        }
        _ => Ok(()),
    }
}

/// Takes away what others were given of a relation; `kind` is `TABLE` or `SEQUENCE`, `name` is for statements.
pub(super) fn relation(session: &mut Session, kind: &str, name: &str) -> Result<(), SourceError> {
    let sql = "SELECT relacl AS acl, relowner AS owner FROM pg_catalog.pg_class
               WHERE oid = pg_catalog.to_regclass($1::text)";
    let grantees = grantees(session, sql, name)?;
    revoke(session, &grantees, &format!("{kind} {name}"))
}

/// The same for what everybody may use unless something else is said.
fn open_to_all(
    session: &mut Session,
    sql: &str,
    (name, object, right): (&str, &str, &str),
) -> Result<(), SourceError> {
    let has_own = format!("SELECT 1 FROM ({sql}) o WHERE o.acl IS NOT NULL");
    if session.query(&has_own, &[&name])?.is_empty() {
        return Ok(());
    }
    let grantees = grantees(session, sql, name)?;
    revoke(session, &grantees, object)?;
    session.execute(&format!("GRANT {right} ON {object} TO PUBLIC"))
}

fn grantees(session: &mut Session, sql: &str, name: &str) -> Result<Vec<String>, SourceError> {
    let sql = format!(
        "SELECT DISTINCT CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END
         FROM ({sql}) o, pg_catalog.aclexplode(o.acl) x WHERE x.grantee <> o.owner"
    );
    let mut found = Vec::new();
    for row in session.query(&sql, &[&name])? {
        let role: Option<String> = session.field(&row, 0)?;
        found.push(role.map_or_else(|| "PUBLIC".to_owned(), |role| quoted(&role)));
    }
    Ok(found)
}

fn revoke(session: &mut Session, grantees: &[String], object: &str) -> Result<(), SourceError> {
    if grantees.is_empty() {
        return Ok(());
    }
    session.execute(&format!("REVOKE ALL ON {object} FROM {}", grantees.join(", ")))
}
