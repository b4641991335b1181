//! The roles that objects of a backup need, as they are to be called on this server.

use super::archive;
use crate::postgres::archive::TableOfContents;
use crate::postgres::needs;
use crate::postgres::session::Session;
use crate::restore::Ownership;
use flow::{SourceError, SourceErrorKind};
use std::collections::BTreeSet;

/// Returns the backup's table of contents with the roles that it is to have here. Fails where some are missing of those
/// that the chosen items name.
pub(super) fn adapted(
    session: &mut Session,
    toc: &TableOfContents,
    chosen: &BTreeSet<i32>,
    ownership: &Ownership,
    object: &str,
) -> Result<TableOfContents, SourceError> {
    let mut of_them = toc.clone();
    of_them.entries.retain(|entry| chosen.contains(&entry.dump_id));
    let needed = needs::needs(&of_them);
    let mut there = BTreeSet::new();
    for row in session.query("SELECT rolname::text FROM pg_catalog.pg_roles", &[])? {
        there.insert(session.field::<String>(&row, 0)?);
    }
    let missing = &needed.roles(ownership) - &there;
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(String::as_str).collect();
        let message = format!("roles that it needs are not on the server: {}", names.join(", "));
        return Err(SourceError::new(SourceErrorKind::Unwritable, object, message).with_hint(
            "`--no-owner` does without owners and their rights, `--role-map OLD=NEW` takes other roles",
        ));
    }
    let everything = Ownership { no_owner: false, ..ownership.clone() };
    let left_out = &needed.roles(&everything) - &there;
    Ok(archive::adapted(toc, ownership, &left_out).0.unwrap_or_else(|| toc.clone()))
}
