//! The restore record: the comment of the database that the restore makes. It follows that database through every
//! rename, is seen from every host, and is changed in the same transaction as names are.
//!
//! A restore that ended leaves none: the last thing it does is to give the database its own comment.

use super::keeper::Keeper;
use super::names;
use crate::restore::RestoreState;
use flow::{SourceError, SourceErrorKind, quoted};

/// What the comment begins with; JSON follows.
const MARK: &str = "backstay restore record: ";
/// What the name of the database that is being made has in it.
pub(super) const SCRATCH: &str = "restoring";

/// A record, and the database that has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recorded {
    /// That database.
    pub(super) oid: u32,
    /// Its name now.
    pub(super) name: String,
    /// What it says.
    pub(super) state: RestoreState,
}

/// Returns the text of a record.
pub(super) fn text(state: &RestoreState, object: &str) -> Result<String, SourceError> {
    let json = serde_json::to_string(state).map_err(|error| {
        SourceError::new(SourceErrorKind::Invalid, object, "the restore cannot be recorded")
            .with_source(error)
    })?;
    Ok(format!("{MARK}{json}"))
}

/// Reads the comment of a database; `None` where it is no record.
pub(super) fn read(comment: &str) -> Option<Result<RestoreState, serde_json::Error>> {
    comment.strip_prefix(MARK).map(serde_json::from_str)
}

/// Returns the records of restores of the keeper's target, the newest last.
pub(super) fn of_target(keeper: &mut Keeper) -> Result<Vec<Recorded>, SourceError> {
    let sql = "SELECT d.oid, d.datname::text, pg_catalog.shobj_description(d.oid, 'pg_database')
               FROM pg_catalog.pg_database d
               WHERE pg_catalog.starts_with(pg_catalog.shobj_description(d.oid, 'pg_database'), $1) ORDER BY d.oid";
    let before_11 = "SELECT d.oid, d.datname::text, pg_catalog.shobj_description(d.oid, 'pg_database')
               FROM pg_catalog.pg_database d
               WHERE strpos(pg_catalog.shobj_description(d.oid, 'pg_database'), $1) = 1 ORDER BY d.oid";
    let sql = if keeper.session.version >= 110_000 { sql } else { before_11 };
    let mut found = Vec::new();
    for row in keeper.session.query(sql, &[&MARK])? {
        let (oid, name): (u32, String) = (keeper.session.field(&row, 0)?, keeper.session.field(&row, 1)?);
        let comment: String = keeper.session.field(&row, 2)?;
        let Some(read) = read(&comment) else { continue };
        let state = match read {
            Ok(state) => state,
            Err(error) if name == keeper.target || names::is_beside(&name, &keeper.target, SCRATCH) => {
                let message = format!("the restore record at the database {name} cannot be read");
                return Err(SourceError::new(SourceErrorKind::Invalid, keeper.object.clone(), message)
                    .with_hint("finish the restore with the version that began it")
                    .with_source(error));
            }
            Err(_) => continue,
        };
        let target = state.engine.get("target").and_then(serde_json::Value::as_str);
        if target == Some(keeper.target.as_str()) {
            found.push(Recorded { oid, name, state });
        }
    }
    Ok(found)
}

/// Makes the error that names the restore which stands in the way.
pub(super) fn in_use(keeper: &mut Keeper, left: Option<&RestoreState>) -> SourceError {
    let object = keeper.object.clone();
    if let Ok(Some(owner)) = keeper.owner() {
        let message = format!("a restore of it is running ({owner})");
        return SourceError::new(SourceErrorKind::InUse, object, message)
            .with_hint("wait until it has ended");
    }
    let begun = left
        .map_or_else(String::new, |state| format!(" of {} by {}", state.request.started, state.request.host));
    let target = quoted(&object);
    SourceError::new(SourceErrorKind::InUse, object, format!("a restore{begun} was left unfinished")).with_hint(
        format!(
            "finish it with `backstay restore --continue --target {target}`, or undo it with `--rollback` instead"
        ),
    )
}
