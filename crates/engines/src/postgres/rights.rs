//! What a role may read of a database, asked of the server table by table, and the statements that give it the rest.
//!
//! A backup reads everything: what is not readable is told before it begins, all of it at once, and not one object a
//! run. Nothing is changed here.

use super::session::Session;
use flow::{Finding, Severity, SourceError, SourceErrorKind};

/// How many objects of a kind are named.
pub(super) const NAMED_MAX: usize = 10;
/// How many objects one list of statements names.
const LISTED_MAX: usize = 30;

/// A role, as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Role {
    /// Its oid.
    pub(super) oid: u32,
    /// Its name for statements.
    pub(super) quoted: String,
    /// Whether nothing is forbidden to it.
    pub(super) superuser: bool,
    /// Whether policies do not apply to it.
    pub(super) bypasses_policies: bool,
    /// Whether it may log in.
    pub(super) may_log_in: bool,
}

/// Finds a role: the one of that name, or the session's own.
pub(super) fn role(session: &mut Session, name: Option<&str>) -> Result<Option<Role>, SourceError> {
    let sql = "SELECT r.oid, pg_catalog.quote_ident(r.rolname), r.rolsuper, r.rolbypassrls, r.rolcanlogin
      FROM pg_catalog.pg_roles r WHERE r.rolname = coalesce($1::text, current_user::text)::name";
    let Some(row) = session.query(sql, &[&name])?.pop() else { return Ok(None) };
    Ok(Some(Role {
        oid: session.field(&row, 0)?,
        quoted: session.field(&row, 1)?,
        superuser: session.field(&row, 2)?,
        bypasses_policies: session.field(&row, 3)?,
        may_log_in: session.field(&row, 4)?,
    }))
}

/// What a role cannot read of a database; names are for statements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Lacking {
    /// The database itself, where it may not be connected to.
    pub(super) database: Option<String>,
    /// Schemas that cannot be looked into.
    pub(super) schemas: Vec<String>,
    /// Tables that cannot be read.
    pub(super) tables: Vec<String>,
    /// Sequences that cannot be read.
    pub(super) sequences: Vec<String>,
    /// Tables whose policies may hide rows.
    pub(super) hidden: Vec<String>,
    /// The first large objects that cannot be read.
    pub(super) large_objects: Vec<u32>,
    /// How many of those there are.
    pub(super) large_object_count: u64,
}

/// The tables and sequences that a backup reads: of extensions those that they name as their user's.
const READ: &str = "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
    AND c.relkind IN ('r', 'p', 'S')
    AND (NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                     AND d.objid = c.oid AND d.deptype = 'e')
         OR EXISTS (SELECT 1 FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))";

/// Asks what a role cannot read.
pub(super) fn lacking(session: &mut Session, role: &Role) -> Result<Lacking, SourceError> {
    let mut lacking = Lacking::default();
    if role.superuser {
        return Ok(lacking);
    }
    let sql = "SELECT pg_catalog.quote_ident(current_database()),
                 pg_catalog.has_database_privilege($1::oid, current_database()::text, 'CONNECT')";
    let row = session.query_one(sql, &[&role.oid])?;
    if !session.field::<bool>(&row, 1)? {
        lacking.database = Some(session.field(&row, 0)?);
    }
    let sql = format!(
        "SELECT DISTINCT pg_catalog.quote_ident(n.nspname) {READ}
         AND NOT pg_catalog.has_schema_privilege($1::oid, n.oid, 'USAGE') ORDER BY 1"
    );
    for row in session.query(&sql, &[&role.oid])? {
        lacking.schemas.push(session.field(&row, 0)?);
    }
    let sql = format!(
        "SELECT * FROM (
           SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name,
             c.relkind = 'S' AS is_sequence,
             coalesce(NOT pg_catalog.has_table_privilege($1::oid, c.oid, 'SELECT'), false) AS closed,
             c.relkind = 'r' AND c.relrowsecurity AND NOT $2
               AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role($1::oid, c.relowner, 'USAGE')) AS hides
           {READ}) f
         WHERE closed OR hides ORDER BY 1"
    );
    for row in session.query(&sql, &[&role.oid, &role.bypasses_policies])? {
        let name: String = session.field(&row, 0)?;
        if session.field(&row, 3)? {
            lacking.hidden.push(name.clone());
        }
        if session.field(&row, 2)? {
            let is_sequence: bool = session.field(&row, 1)?;
            let names = if is_sequence { &mut lacking.sequences } else { &mut lacking.tables };
            names.push(name);
        }
    }
    large_objects(session, role, &mut lacking)?;
    Ok(lacking)
}

/// `pg_read_all_data` does not cover them on most versions.
fn large_objects(session: &mut Session, role: &Role, lacking: &mut Lacking) -> Result<(), SourceError> {
    let row = session.query_one("SELECT current_setting('lo_compat_privileges')", &[])?;
    if session.field::<&str>(&row, 0)? == "on" {
        return Ok(());
    }
    let closed = if session.version >= 180_000 {
        "NOT pg_catalog.has_largeobject_privilege($1::oid, l.oid, 'SELECT')"
    } else {
        "NOT pg_catalog.pg_has_role($1::oid, l.lomowner, 'USAGE')
         AND NOT EXISTS (SELECT 1 FROM pg_catalog.aclexplode(l.lomacl) a WHERE a.privilege_type = 'SELECT'
           AND CASE WHEN a.grantee = 0 THEN true ELSE pg_catalog.pg_has_role($1::oid, a.grantee, 'USAGE') END)"
    };
    let sql = format!(
        "SELECT l.oid, count(*) OVER () FROM pg_catalog.pg_largeobject_metadata l WHERE {closed}
         ORDER BY l.oid LIMIT {NAMED_MAX}"
    );
    for row in session.query(&sql, &[&role.oid])? {
        lacking.large_objects.push(session.field(&row, 0)?);
        let count: i64 = session.field(&row, 1)?;
        lacking.large_object_count = u64::try_from(count).unwrap_or(0);
    }
    Ok(())
}

impl Lacking {
    /// Tells whether everything can be read.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns what is missing, object by object; of many the first ones, then how many more there are.
    pub(super) fn findings(&self, role: &Role, database: &str) -> Vec<Finding> {
        let role = &role.quoted;
        let mut findings = Vec::new();
        let mut problem = |object: String, message: String, hint: String| {
            let severity = Severity::Problem;
            findings.push(Finding { severity, object, message, hint: Some(hint) });
        };
        if let Some(name) = &self.database {
            let hint = format!("GRANT CONNECT ON DATABASE {name} TO {role}");
            problem(format!("database {name}"), "cannot be connected to".to_owned(), hint);
        }
        let mut of_kind = |word: &str, names: &[String], message: &str, grant: &dyn Fn(&str) -> String| {
            for name in names.iter().take(NAMED_MAX) {
                problem(format!("{word} {name}"), message.to_owned(), grant(name));
            }
            if names.len() > NAMED_MAX {
                let more = names.len() - NAMED_MAX;
                let hint = "`backstay role` writes the statements for all of them".to_owned();
                problem(format!("{more} more {word}s"), message.to_owned(), hint);
            }
        };
        of_kind("schema", &self.schemas, "cannot be looked into", &|name| {
            format!("GRANT USAGE ON SCHEMA {name} TO {role}")
        });
        of_kind("table", &self.tables, "cannot be read", &|name| format!("GRANT SELECT ON {name} TO {role}"));
        of_kind("sequence", &self.sequences, "cannot be read", &|name| {
            format!("GRANT SELECT ON SEQUENCE {name} TO {role}")
        });
        of_kind(
            "table",
            &self.hidden,
            "has row security policies that may hide rows from this role",
            &|_| format!("ALTER ROLE {role} BYPASSRLS lets it see all rows of all tables"),
        );
        if self.large_object_count > 0 {
            let hint =
                format!("{}; `backstay role` writes it for all of them", self.large_objects_grant(role));
            problem(database.to_owned(), self.large_objects_message(), hint);
        }
        let statements = self.statements(role);
        if findings.len() > 1 {
            findings.push(Finding {
                severity: Severity::Notice,
                object: database.to_owned(),
                message: format!("all at once: {}", statements.join(" ")),
                hint: None,
            });
        }
        findings
    }

    fn large_objects_message(&self) -> String {
        match self.large_object_count {
            1 => "1 large object cannot be read by this role".to_owned(),
            count => format!("{count} large objects cannot be read by this role"),
        }
    }

    fn large_objects_grant(&self, role: &str) -> String {
        let some: Vec<String> = self.large_objects.iter().map(u32::to_string).collect();
        let more = if self.large_object_count > some.len() as u64 { ", …" } else { "" };
        format!("GRANT SELECT ON LARGE OBJECT {}{more} TO {role}", some.join(", "))
    }

    /// Returns statements that give what is missing, as far as they stay readable.
    fn statements(&self, role: &str) -> Vec<String> {
        let mut statements = Vec::new();
        if let Some(name) = &self.database {
            statements.push(format!("GRANT CONNECT ON DATABASE {name} TO {role};"));
        }
        let mut grant = |what: &str, names: &[String]| {
            if names.is_empty() {
                return;
            }
            let some: Vec<&str> = names.iter().take(LISTED_MAX).map(String::as_str).collect();
            let more = if names.len() > LISTED_MAX { ", …" } else { "" };
            statements.push(format!("GRANT {what} {}{more} TO {role};", some.join(", ")));
        };
        grant("USAGE ON SCHEMA", &self.schemas);
        grant("SELECT ON", &self.tables);
        grant("SELECT ON SEQUENCE", &self.sequences);
        if self.large_object_count > 0 {
            statements.push(format!("{};", self.large_objects_grant(role)));
        }
        if !self.hidden.is_empty() {
            statements.push(format!("ALTER ROLE {role} BYPASSRLS;"));
        }
        statements
    }

    /// Returns the error of a backup that would stumble over what is missing: all of it, as far as it stays readable.
    pub(super) fn error(&self, role: &Role, database: &str) -> SourceError {
        let mut parts = Vec::new();
        let mut part = |noun: &str, names: &[String], verb: &str| {
            if let [first, rest @ ..] = names {
                let some = rest.iter().take(4).fold(first.clone(), |all, name| format!("{all}, {name}"));
                let more = match rest.len().saturating_sub(4) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let noun = if rest.is_empty() { noun.to_owned() } else { format!("{noun}s") };
                parts.push(format!("{noun} {some}{more} {verb}"));
            }
        };
        part("schema", &self.schemas, "cannot be looked into");
        part("table", &self.tables, "cannot be read");
        part("sequence", &self.sequences, "cannot be read");
        part("table", &self.hidden, "may hide rows by a row-level security policy");
        if self.large_object_count > 0 {
            parts.push(self.large_objects_message());
        }
        let message = format!("permission denied for role {}: {}", role.quoted, parts.join("; "));
        SourceError::new(SourceErrorKind::Unreadable, database, message).with_hint(format!(
            "{} Or `backstay role` writes a role that may read everything",
            self.statements(&role.quoted).join(" ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role() -> Role {
        Role {
            oid: 1,
            quoted: "poor".to_owned(),
            superuser: false,
            bypasses_policies: false,
            may_log_in: true,
        }
    }

    #[test]
    fn of_many_objects_the_first_are_named_and_the_rest_counted() {
        let tables: Vec<String> = (0..100).map(|number| format!("public.t{number}")).collect();
        let lacking = Lacking { tables, ..Lacking::default() };
        let findings = lacking.findings(&role(), "erp");
        assert_eq!(findings.len(), NAMED_MAX + 2);
        assert_eq!(findings[NAMED_MAX].object, "90 more tables");
        assert!(findings[NAMED_MAX + 1].message.len() < 600, "{}", findings[NAMED_MAX + 1].message);
        let error = lacking.error(&role(), "erp");
        assert!(error.message.contains("public.t4 and 95 more cannot be read"), "{}", error.message);
        assert!(error.hint.is_some_and(|hint| hint.len() < 600 && hint.contains("public.t29, …")));
    }

    #[test]
    fn one_object_needs_no_list() {
        let lacking = Lacking { hidden: vec!["public.t".to_owned()], ..Lacking::default() };
        assert_eq!(lacking.findings(&role(), "erp").len(), 1);
        assert!(Lacking::default().is_empty() && !lacking.is_empty());
        assert_eq!(lacking.statements("poor"), ["ALTER ROLE poor BYPASSRLS;"]);
    }
}
