//! What a role that is no superuser cannot restore, told before anything is made: objects that only a superuser may make,
//! extensions that only a superuser may install, owners that it cannot give objects to. A superuser may do all of it.
//!
//! Looks only. What the server still refuses while the database is made ends the restore with the server's words, and the
//! old database stays.

use super::keeper::Keeper;
use super::problem::{Problem, listed, problem};
use crate::postgres::needs::Needs;
use crate::restore::Ownership;
use flow::{Manifest, SourceError};
use std::collections::BTreeSet;

/// Kinds of objects that only a superuser may make, as an archive calls them.
const FOR_SUPERUSERS: [&str; 8] = [
    "access method",
    "event trigger",
    "foreign data wrapper",
    "operator class",
    "operator family",
    "procedural language",
    "text search parser",
    "text search template",
];
/// Since when extensions may be made by whoever may make something in the database, where they are marked so.
const TRUSTED_SINCE: i32 = 130_000;
/// Since when a member of a role may have been kept from giving it something.
const SET_SINCE: i32 = 160_000;

/// Returns what stands in the way of the keeper's role.
pub(super) fn found(
    keeper: &mut Keeper,
    manifest: &Manifest,
    needs: &Needs,
    ownership: &Ownership,
) -> Result<Vec<Problem>, SourceError> {
    let sql = "SELECT rolsuper, pg_catalog.quote_ident(rolname) FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let row = keeper.session.query_one(sql, &[])?;
    if keeper.session.field(&row, 0)? {
        return Ok(Vec::new());
    }
    let role: String = keeper.session.field(&row, 1)?;
    let mut found = Vec::new();
    let objects = for_superusers(manifest);
    if !objects.is_empty() {
        found.push(problem(
            format!("the backup holds what only a superuser may make: {}", listed(&objects)),
            "restore it as a superuser",
        ));
    }
    let extensions: Vec<&String> = needs.extensions.iter().collect();
    let sql = match keeper.session.version >= TRUSTED_SINCE {
        true => {
            "SELECT DISTINCT v.name::text FROM pg_catalog.pg_available_extension_versions v
             JOIN pg_catalog.pg_available_extensions e ON e.name = v.name AND e.default_version = v.version
             WHERE v.superuser AND NOT v.trusted AND v.name = ANY ($1)"
        }
        false => {
            "SELECT DISTINCT v.name::text FROM pg_catalog.pg_available_extension_versions v
             JOIN pg_catalog.pg_available_extensions e ON e.name = v.name AND e.default_version = v.version
             WHERE v.superuser AND v.name = ANY ($1)"
        }
    };
    let forbidden = names(keeper, sql, &extensions)?;
    if !forbidden.is_empty() {
        found.push(problem(
            format!("extensions of the backup may be made by a superuser only: {}", listed(&forbidden)),
            "restore it as a superuser",
        ));
    }
    let owners = needs.given_to(ownership);
    let owners: Vec<&String> = owners.iter().collect();
    let right = if keeper.session.version >= SET_SINCE { "SET" } else { "MEMBER" };
    let sql = format!(
        "SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ($1::text[])
           AND r.rolname <> 'pg_database_owner' AND NOT pg_catalog.pg_has_role(r.oid, '{right}')"
    );
    let others = names(keeper, &sql, &owners)?;
    if !others.is_empty() {
        found.push(problem(
            format!("the role {role} cannot give objects to their owners in the backup: {}", listed(&others)),
            format!("GRANT those roles TO {role}; or `--no-owner` lets all belong to {role}, and `--role-map OLD=NEW` to others"),
        ));
    }
    Ok(found)
}

fn for_superusers(manifest: &Manifest) -> BTreeSet<String> {
    let objects = manifest.facts.schema.iter();
    let only = objects.filter(|object| FOR_SUPERUSERS.contains(&object.kind.as_str()));
    only.map(|object| format!("{} {}", object.kind, object.name)).collect()
}

fn names(keeper: &mut Keeper, sql: &str, of: &[&String]) -> Result<BTreeSet<String>, SourceError> {
    if of.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = keeper.session.query(sql, &[&of])?;
    rows.iter().map(|row| keeper.session.field(row, 0)).collect()
}
