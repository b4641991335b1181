//! What is there moved aside, and back again: renames only, whatever the size, within a transaction.
//!
//! Objects know each other by number and not by name, so what is moved goes on working as it is, and comes back whole.

use super::ground;
use super::record::Moved;
use crate::postgres::failure;
use crate::postgres::restore::names::{beside, fitted, quoted};
use crate::postgres::session::Session;
use flow::{SourceError, SourceErrorKind};
use jiff::Timestamp;

/// Runs a statement of which nothing is said but what it does.
pub(super) fn run(session: &mut Session, sql: &str, object: &str) -> Result<(), SourceError> {
    session.try_execute(sql)?.map_err(|error| {
        let made = failure::server(object, "what is there cannot be moved aside", &error);
        let kind =
            if made.kind == SourceErrorKind::Unreadable { SourceErrorKind::Unwritable } else { made.kind };
        SourceError { kind, hint: None, ..made }
    })
}

/// Returns a name that is not among those that are taken.
fn free(wanted: &str, taken: &[String]) -> String {
    let mut name = wanted.to_owned();
    for number in 2..100 {
        if !taken.contains(&name) {
            return name;
        }
        name = fitted(wanted, &format!("_{number}"));
    }
    name
}

/// Returns the names of all schemas.
fn taken(session: &mut Session) -> Result<Vec<String>, SourceError> {
    ground::names(session, "SELECT nspname::text FROM pg_catalog.pg_namespace")
}

/// Moves everything aside that is in the way, and returns what went where.
pub(super) fn move_away(
    session: &mut Session,
    started: Timestamp,
    what: &str,
    object: &str,
) -> Result<Moved, SourceError> {
    let mut moved = Moved::default();
    for (name, enabled) in ground::event_triggers(session)? {
        let kept = beside(&name, what, started);
        let sql = format!(
            "ALTER EVENT TRIGGER {0} DISABLE; ALTER EVENT TRIGGER {0} RENAME TO {1}",
            quoted(&name),
            quoted(&kept)
        );
        run(session, &sql, object)?;
        moved.triggers.push((name, kept, enabled));
    }
    for name in ground::publications(session)? {
        let kept = beside(&name, what, started);
        run(session, &format!("ALTER PUBLICATION {} RENAME TO {}", quoted(&name), quoted(&kept)), object)?;
        moved.publications.push((name, kept));
    }
    let taken = taken(session)?;
    for schema in ground::schemas(session)? {
        let kept = free(&beside(&schema.name, what, started), &taken);
        run(session, &format!("ALTER SCHEMA {} RENAME TO {}", quoted(&schema.name), quoted(&kept)), object)?;
        moved.schemas.push((schema.name, kept));
    }
    Ok(moved)
}

/// Puts an extension into another schema.
pub(super) fn move_extension(
    session: &mut Session,
    extension: &str,
    schema: &str,
    object: &str,
) -> Result<(), SourceError> {
    run(session, &format!("ALTER EXTENSION {} SET SCHEMA {}", quoted(extension), quoted(schema)), object)
}

/// Puts back what was moved; what has its names now gets others. Returns the schemas that were restored, under their new
/// names.
pub(super) fn move_back(
    session: &mut Session,
    moved: &Moved,
    started: Timestamp,
    object: &str,
) -> Result<Vec<String>, SourceError> {
    let now = taken(session)?;
    let mut aside = Vec::new();
    for name in moved.made.iter().filter(|name| now.contains(name)) {
        let kept = free(&beside(name, "rolled_back", started), &now);
        run(session, &format!("ALTER SCHEMA {} RENAME TO {}", quoted(name), quoted(&kept)), object)?;
        aside.push(kept);
    }
    for (name, kept) in &moved.schemas {
        if !now.contains(kept) {
            let message = format!("the old schema {name}, kept as {kept}, is gone, so it cannot be put back");
            return Err(SourceError::new(SourceErrorKind::Missing, object, message)
                .with_hint("accept the restored one with `backstay restore --continue`"));
        }
        run(session, &format!("ALTER SCHEMA {} RENAME TO {}", quoted(kept), quoted(name)), object)?;
    }
    for (extension, schema) in &moved.extensions {
        move_extension(session, extension, schema, object)?;
    }
    let publications = ground::publications(session)?;
    for (name, kept) in moved.publications.iter().filter(|(_, kept)| publications.contains(kept)) {
        if publications.contains(name) {
            run(session, &format!("DROP PUBLICATION {}", quoted(name)), object)?;
        }
        run(session, &format!("ALTER PUBLICATION {} RENAME TO {}", quoted(kept), quoted(name)), object)?;
    }
    let triggers = ground::event_triggers(session)?;
    let is_there = |wanted: &String| triggers.iter().any(|(name, _)| name == wanted);
    for (name, kept, enabled) in moved.triggers.iter().filter(|(_, kept, _)| is_there(kept)) {
        if is_there(name) {
            run(session, &format!("DROP EVENT TRIGGER {}", quoted(name)), object)?;
        }
        let mode = match enabled.as_str() {
            "D" => "DISABLE",
            "R" => "ENABLE REPLICA",
            "A" => "ENABLE ALWAYS",
            _ => "ENABLE",
        };
        let sql = format!(
            "ALTER EVENT TRIGGER {} RENAME TO {1}; ALTER EVENT TRIGGER {1} {mode}",
            quoted(kept),
            quoted(name)
        );
        run(session, &sql, object)?;
    }
    Ok(aside)
}
