//! A role for backups: the statements that let it read everything of a database and change nothing, run where that is
//! asked for, and the question whether it can.
//!
//! The statements run in one transaction: all or none. Run again they change nothing. None of them holds a password, nor
//! says how the role logs in: that is for whoever owns the server.

use super::rights::{self, Role};
use super::session::Session;
use super::{failure, pooler, targets};
use crate::engine::{RoleAction, RoleReport, RoleRequest};
use flow::{Context, Finding, Severity, SourceError, SourceErrorKind};

/// The name of the role where nobody gives one.
const NAME: &str = "backstay";
/// The oldest server with a role that reads all tables.
const READS_ALL_SINCE: i32 = 140_000;
/// The oldest server that grants large objects to come.
const OBJECTS_TO_COME_SINCE: i32 = 180_000;
/// What quotes the bodies of `DO`.
const BODY: &str = "$backstay$";

/// Does what is asked for.
pub(super) fn run(request: &RoleRequest, context: &Context) -> Result<RoleReport, SourceError> {
    let object = request.database.connection.as_str();
    let settings = targets::settings(object, None, context)?;
    let mut session = pooler::connect_past(&settings, object, &context.cancel)?;
    let name = match &request.role {
        Some(name) => name.clone(),
        None => default_name(&mut session)?,
    };
    if name.contains(BODY) || name.is_empty() || name.contains('\0') {
        return Err(SourceError::new(SourceErrorKind::Invalid, object, "that is no name for a role"));
    }
    let known = rights::role(&mut session, Some(&name))?;
    let mut report = RoleReport {
        role: name,
        exists: known.is_some(),
        statements: vec![],
        applied: false,
        findings: vec![],
    };
    if request.action == RoleAction::Check {
        report.findings = check(&mut session, &report.role, object)?;
        return Ok(report);
    }
    if known.as_ref().is_some_and(|role| role.superuser) {
        report.findings.push(remark(
            Severity::Warning,
            &report.role,
            "is a superuser, which may do anything already",
            Some("name another role by --role: a backup needs to read only"),
        ));
    }
    Plan { session: &mut session, report: &mut report, by_object: request.object_by_object }.make()?;
    if request.action == RoleAction::Apply {
        apply(&mut session, &report, object)?;
        report.applied = true;
        report.findings.extend(check(&mut session, &report.role, object)?);
    }
    Ok(report)
}

/// Whoever backs up: the role that the connection names, unless it may do anything.
fn default_name(session: &mut Session) -> Result<String, SourceError> {
    let sql = "SELECT rolname::text, rolsuper OR rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let row = session.query_one(sql, &[])?;
    let may_make_roles: bool = session.field(&row, 1)?;
    if may_make_roles { Ok(NAME.to_owned()) } else { session.field(&row, 0) }
}

fn remark(severity: Severity, role: &str, message: &str, hint: Option<&str>) -> Finding {
    let (object, hint) = (format!("role {role}"), hint.map(str::to_owned));
    Finding { severity, object, message: message.to_owned(), hint }
}

/// Asks the server what the role cannot do.
fn check(session: &mut Session, name: &str, object: &str) -> Result<Vec<Finding>, SourceError> {
    let Some(role) = rights::role(session, Some(name))? else {
        let hint = "`backstay role --apply` makes it";
        return Ok(vec![remark(Severity::Problem, name, "there is none", Some(hint))]);
    };
    let lacking = rights::lacking(session, &role)?;
    let mut findings = lacking.findings(&role, object);
    if !role.may_log_in {
        let hint = format!("ALTER ROLE {} LOGIN", role.quoted);
        findings.push(remark(Severity::Problem, name, "may not log in", Some(&hint)));
    }
    if !role.superuser {
        findings.extend(restoring(session, &role, name)?);
    }
    Ok(findings)
}

/// Of a role that may make databases, tells whether it may restore this one; a role for backups need not.
fn restoring(session: &mut Session, role: &Role, name: &str) -> Result<Option<Finding>, SourceError> {
    let sql = "SELECT r.rolcreatedb, pg_catalog.pg_has_role(r.oid, d.datdba, 'USAGE'),
                 pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(d.datdba)),
                 pg_catalog.pg_has_role(r.oid, 'pg_signal_backend', 'MEMBER')
               FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
               WHERE r.oid = $1 AND d.datname = current_database()";
    let row = session.query_one(sql, &[&role.oid])?;
    if !session.field::<bool>(&row, 0)? {
        return Ok(None);
    }
    let (owns, ends): (bool, bool) = (session.field(&row, 1)?, session.field(&row, 3)?);
    let (owner, role): (String, &str) = (session.field(&row, 2)?, &role.quoted);
    Ok(Some(match (owns, ends) {
        (false, _) => {
            let hint = format!("GRANT {owner} TO {role} lets it restore over this one");
            remark(Severity::Notice, name, "may restore to new databases only", Some(&hint))
        }
        (true, false) => {
            let hint =
                format!("GRANT pg_signal_backend TO {role} lets it end the sessions of others for that");
            remark(Severity::Notice, name, "may restore it too, once nobody else is connected", Some(&hint))
        }
        (true, true) => remark(Severity::Notice, name, "may restore it too", None),
    }))
}

fn apply(session: &mut Session, report: &RoleReport, object: &str) -> Result<(), SourceError> {
    let script = format!("BEGIN; {}; COMMIT", report.statements.join("; "));
    let Err(error) = session.try_execute(&script)? else { return Ok(()) };
    let _ = session.try_execute("ROLLBACK")?;
    let made = failure::server(object, "the role was not made, and nothing was changed", &error);
    match error.code().map(tokio_postgres::error::SqlState::code) {
        Some("42501") => Err(SourceError {
            hint: Some(format!(
                "connect as a superuser for this (postgres://postgres@…), and name the role by --role {}",
                flow::quoted(&report.role)
            )),
            ..made
        }),
        Some("25006") => Err(SourceError {
            hint: Some("on a standby nothing can be changed: name the primary".to_owned()),
            ..made
        }),
        _ => Err(made),
    }
}

/// Puts the statements together.
struct Plan<'a> {
    session: &'a mut Session,
    report: &'a mut RoleReport,
    by_object: bool,
}

impl Plan<'_> {
    fn make(&mut self) -> Result<(), SourceError> {
        let sql = "SELECT pg_catalog.quote_ident($1::text), pg_catalog.quote_literal($1::text),
                     pg_catalog.quote_ident(current_database())";
        let row = self.session.query_one(sql, &[&self.report.role])?;
        let (role, literal, database): (String, String, String) =
            (self.session.field(&row, 0)?, self.session.field(&row, 1)?, self.session.field(&row, 2)?);
        self.report.statements.push(format!(
            "DO {BODY}BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {literal}) \
             THEN CREATE ROLE {role} LOGIN; END IF; END{BODY}"
        ));
        self.report.statements.push(format!("GRANT CONNECT ON DATABASE {database} TO {role}"));
        if self.session.version >= READS_ALL_SINCE && !self.by_object {
            self.report.statements.push(format!("GRANT pg_read_all_data TO {role}"));
            self.remark(
                Severity::Notice,
                "reads the tables of every database of the server that it may connect to (pg_read_all_data)",
                Some("--explicit-grants lets it read the tables of this database alone"),
            );
        } else {
            self.tables(&role)?;
        }
        self.large_objects(&role, &literal)?;
        self.policies(&role)
    }

    fn remark(&mut self, severity: Severity, message: &str, hint: Option<&str>) {
        let made = remark(severity, &self.report.role, message, hint);
        self.report.findings.push(made);
    }

    fn names(&mut self, sql: &str) -> Result<Vec<(String, String)>, SourceError> {
        let rows = self.session.query(sql, &[])?;
        rows.iter().map(|row| Ok((self.session.field(row, 0)?, self.session.field(row, 1)?))).collect()
    }

    /// Schema by schema: what is there, and what its owners will make.
    fn tables(&mut self, role: &str) -> Result<(), SourceError> {
        let sql = "SELECT DISTINCT pg_catalog.quote_ident(n.nspname), pg_catalog.quote_ident(o.rolname)
          FROM pg_catalog.pg_namespace n
          LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'S')
          JOIN pg_catalog.pg_roles o ON o.oid = c.relowner OR o.oid = n.nspowner
          WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2";
        let mut last = String::new();
        for (schema, owner) in self.names(sql)? {
            let statements = &mut self.report.statements;
            if schema != last {
                statements.push(format!("GRANT USAGE ON SCHEMA {schema} TO {role}"));
                statements.push(format!("GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"));
                statements.push(format!("GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}"));
                last.clone_from(&schema);
            }
            // Nobody sets what the system's own role is to grant by default but itself.
            if owner.starts_with("pg_") {
                continue;
            }
            for kind in ["TABLES", "SEQUENCES"] {
                statements.push(format!(
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT ON {kind} TO {role}"
                ));
            }
        }
        self.remark(
            Severity::Notice,
            "will read the tables that the owners of today's make in today's schemas; a new schema, or the tables of a new owner, need it to be run again",
            Some("`backstay role --check` tells, and each backup looks before it begins"),
        );
        Ok(())
    }

    fn large_objects(&mut self, role: &str, literal: &str) -> Result<(), SourceError> {
        let sql = "SELECT DISTINCT pg_catalog.quote_ident(o.rolname), ''
          FROM pg_catalog.pg_largeobject_metadata l JOIN pg_catalog.pg_roles o ON o.oid = l.lomowner ORDER BY 1";
        let owners = self.names(sql)?;
        if owners.is_empty() {
            return Ok(());
        }
        self.report.statements.push(format!(
            "DO {BODY}DECLARE large oid; BEGIN FOR large IN SELECT oid FROM pg_catalog.pg_largeobject_metadata LOOP \
             EXECUTE pg_catalog.format('GRANT SELECT ON LARGE OBJECT %s TO %I', large, {literal}); END LOOP; END{BODY}"
        ));
        if self.session.version >= OBJECTS_TO_COME_SINCE {
            for (owner, _) in owners {
                self.report.statements.push(format!(
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON LARGE OBJECTS TO {role}"
                ));
            }
            return Ok(());
        }
        self.remark(
            Severity::Warning,
            "reads the large objects of today; those that are made later need it to be run again, for no right covers them",
            Some("run `backstay role --apply` again, by a timer if need be, or let the owner of the large objects back up"),
        );
        Ok(())
    }

    fn policies(&mut self, role: &str) -> Result<(), SourceError> {
        let sql = "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), ''
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relrowsecurity AND c.relkind = 'r' ORDER BY 1";
        let tables = self.names(sql)?;
        let Some((first, _)) = tables.first() else { return Ok(()) };
        let which = match tables.len() {
            1 => first.clone(),
            count => format!("{first} and {} more", count - 1),
        };
        self.report.statements.push(format!("ALTER ROLE {role} BYPASSRLS"));
        self.remark(
            Severity::Warning,
            &format!(
                "sees all rows of every table that it may read, in all databases of the server, whatever policies say (BYPASSRLS): {which} would be backed up in part without"
            ),
            Some("guard its password as you guard the data"),
        );
        Ok(())
    }
}
