//! A look at a database before its backup: whether the programs fit the server, whether the role may read everything,
//! whether a policy hides rows from it. What a backup would stumble over is named with what mends it.

use super::session::{self, Session};
use super::{targets, tools};
use crate::engine::DatabaseInfo;
use flow::{Context, DatabaseRef, Finding, Severity, SourceError};

/// How many objects of a kind are named.
const NAMED_MAX: usize = 10;

/// The tables and sequences that a backup reads, with what is needed to ask about rights.
const READ: &str = "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
    AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                    AND d.objid = c.oid AND d.deptype = 'e')";
const NAME: &str = "pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)";

/// Looks at a database.
pub(super) fn probe(
    database: &DatabaseRef,
    integrity: bool,
    context: &Context,
) -> Result<DatabaseInfo, SourceError> {
    let object = database.connection.as_str();
    let settings = targets::settings(object, None, context)?;
    let mut session = session::connect(&settings, None, object, &context.cancel)?;
    let sql = "SELECT current_setting('server_version'), pg_catalog.pg_database_size(current_database())";
    let row = session.query_one(sql, &[])?;
    let (engine_version, size): (String, i64) = (session.field(&row, 0)?, session.field(&row, 1)?);
    let mut findings = Vec::new();
    if let Err(error) = tools::find("pg_dump", session.major(), object, context) {
        findings.push(Finding {
            severity: Severity::Problem,
            object: object.to_owned(),
            message: error.message,
            hint: error.hint,
        });
    }
    rights(&mut session, &mut findings)?;
    policies(&mut session, &mut findings)?;
    large_objects(&mut session, object, &mut findings)?;
    if integrity {
        findings.push(Finding {
            severity: Severity::Warning,
            object: object.to_owned(),
            message: "its content was not checked: this version does not do that for PostgreSQL".to_owned(),
            hint: Some("`pg_amcheck` checks tables and indexes, `pg_checksums` the files".to_owned()),
        });
    }
    Ok(DatabaseInfo { engine_version, size_bytes: u64::try_from(size).unwrap_or(0), findings })
}

fn names(session: &mut Session, sql: &str) -> Result<Vec<String>, SourceError> {
    session.query(sql, &[])?.iter().map(|row| session.field(row, 0)).collect()
}

fn listed(mut objects: Vec<String>) -> impl Iterator<Item = String> {
    let more = objects.len().saturating_sub(NAMED_MAX);
    objects.truncate(NAMED_MAX);
    objects.into_iter().chain((more > 0).then(|| format!("{more} more")))
}

fn rights(session: &mut Session, findings: &mut Vec<Finding>) -> Result<(), SourceError> {
    let sql = format!(
        "SELECT DISTINCT pg_catalog.quote_ident(n.nspname) {READ} AND c.relkind IN ('r', 'p', 'S')
         AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') ORDER BY 1"
    );
    let role = names(session, "SELECT pg_catalog.quote_ident(current_user)")?.pop().unwrap_or_default();
    let problem = |object: String, message: &str, hint: String| Finding {
        severity: Severity::Problem,
        object,
        message: message.to_owned(),
        hint: Some(hint),
    };
    for schema in listed(names(session, &sql)?) {
        let hint = format!("GRANT USAGE ON SCHEMA {schema} TO {role}");
        findings.push(problem(format!("schema {schema}"), "cannot be looked into", hint));
    }
    for (kinds, word) in [("'r', 'p'", "table"), ("'S'", "sequence")] {
        let grant = if word == "table" { "" } else { "SEQUENCE " };
        let sql = format!(
            "SELECT {NAME} {READ} AND c.relkind IN ({kinds})
             AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') ORDER BY 1"
        );
        for name in listed(names(session, &sql)?) {
            let hint = format!("GRANT SELECT ON {grant}{name} TO {role}");
            findings.push(problem(format!("{word} {name}"), "cannot be read", hint));
        }
    }
    Ok(())
}

fn policies(session: &mut Session, findings: &mut Vec<Finding>) -> Result<(), SourceError> {
    let sql = format!(
        "SELECT {NAME} {READ} AND c.relkind IN ('r', 'p') AND c.relrowsecurity
         AND NOT (SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user)
         AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')) ORDER BY 1"
    );
    for name in listed(names(session, &sql)?) {
        findings.push(Finding {
            severity: Severity::Problem,
            object: format!("table {name}"),
            message: "has row security policies that may hide rows from this role".to_owned(),
            hint: Some("ALTER ROLE … BYPASSRLS lets the role see all rows of all tables".to_owned()),
        });
    }
    Ok(())
}

fn large_objects(
    session: &mut Session,
    object: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), SourceError> {
    let sql = "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata l
      WHERE NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
        AND NOT pg_catalog.pg_has_role(l.lomowner, 'USAGE')
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.aclexplode(l.lomacl) a WHERE a.privilege_type = 'SELECT'
          AND CASE WHEN a.grantee = 0 THEN true ELSE pg_catalog.pg_has_role(a.grantee, 'USAGE') END)";
    let row = session.query_one(sql, &[])?;
    let count: i64 = session.field(&row, 0)?;
    if count > 0 {
        findings.push(Finding {
            severity: Severity::Problem,
            object: object.to_owned(),
            message: format!("{count} large objects cannot be read by this role"),
            hint: Some("GRANT SELECT ON LARGE OBJECT … TO the role, for each of them".to_owned()),
        });
    }
    Ok(())
}
