//! Objects that a role which is no superuser gives to their owners: the server lets it do so only where the new owner may make
//! such objects by himself. In the archive rights come after owners, so schemas and their rights are made first, and what an
//! owner lacks then he is given until everything is made.
//!
//! All of it is in the database that the restore makes; a crash leaves it to be dropped with that.

use super::job::Job;
use super::names::quoted;
use crate::postgres::archive::{Entry, TableOfContents};
use crate::postgres::needs;
use crate::postgres::session::Session;
use flow::SourceError;
use std::collections::BTreeSet;

/// What owners were given for the time of the restore: statements that take it back.
#[derive(Debug, Default)]
pub(super) struct Lent(Vec<String>);

/// Returns the roles that the objects of an archive as it is loaded are given to, where the keeper's role needs their rights
/// for that: none for a superuser.
pub(super) fn others(job: &mut Job, toc: &TableOfContents) -> Result<BTreeSet<String>, SourceError> {
    if job.state.request.ownership.no_owner {
        return Ok(BTreeSet::new());
    }
    let mut owners = needs::needs(toc).object_owners;
    let sql = "SELECT rolsuper, rolname::text FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let row = job.keeper.session.query_one(sql, &[])?;
    if job.keeper.session.field(&row, 0)? {
        return Ok(BTreeSet::new());
    }
    owners.remove(&job.keeper.session.field::<String>(&row, 1)?);
    Ok(owners)
}

/// Splits definitions: schemas with their rights, and all else.
pub(super) fn schemas_first(toc: &TableOfContents) -> (TableOfContents, TableOfContents) {
    let is_first = |entry: &Entry| {
        let of_schema = || entry.tag.as_ref().is_some_and(|tag| tag.starts_with(b"SCHEMA "));
        // What is said of the whole archive is needed for both.
        entry.is("SCHEMA") || (entry.is("ACL") && of_schema())
    };
    let about_all =
        |entry: &Entry| ["ENCODING", "STDSTRINGS", "SEARCHPATH"].iter().any(|kind| entry.is(kind));
    let (mut schemas, mut rest) = (toc.clone(), toc.clone());
    schemas.entries.retain(|entry| is_first(entry) || about_all(entry));
    rest.entries.retain(|entry| !is_first(entry));
    (schemas, rest)
}

/// Lets owners make objects in every schema, and in the database, where they may not.
pub(super) fn lend(
    session: &mut Session,
    owners: &BTreeSet<String>,
    database: &str,
) -> Result<Lent, SourceError> {
    let mut lent = Lent::default();
    let names: Vec<&String> = owners.iter().collect();
    let sql = "SELECT 'SCHEMA ' || pg_catalog.quote_ident(n.nspname), pg_catalog.quote_ident(r.rolname)
               FROM pg_catalog.pg_namespace n, pg_catalog.pg_roles r
               WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND r.rolname = ANY ($1::text[])
                 AND r.rolname <> 'pg_database_owner' AND NOT pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE')
               UNION ALL
               SELECT 'DATABASE ' || $2::text, pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles r
               WHERE r.rolname = ANY ($1::text[]) AND r.rolname <> 'pg_database_owner'
                 AND NOT pg_catalog.has_database_privilege(r.oid, current_database()::text, 'CREATE')
               ORDER BY 1, 2";
    for row in session.query(sql, &[&names, &quoted(database)])? {
        let (place, role): (String, String) = (session.field(&row, 0)?, session.field(&row, 1)?);
        session.execute(&format!("GRANT CREATE ON {place} TO {role}"))?;
        lent.0.push(format!("REVOKE CREATE ON {place} FROM {role}"));
    }
    Ok(lent)
}

impl Lent {
    /// Takes it back.
    pub(super) fn take_back(self, session: &mut Session) -> Result<(), SourceError> {
        self.0.iter().try_for_each(|statement| session.execute(statement))
    }
}
