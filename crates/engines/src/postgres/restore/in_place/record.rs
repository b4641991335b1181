//! The record of a restore in place: the comment of a schema of its own in the target, whose only purpose that is.
//!
//! It is there from before the first change until the restore is accepted or undone. That the restored content took its
//! place is written into it by the very transaction that put it there, so after a crash it tells which one is in place.

use crate::postgres::failure;
use crate::postgres::restore::keeper::Keeper;
use crate::postgres::restore::names::{fitted, is_beside, literal, quoted};
use crate::postgres::session::Session;
use crate::restore::{RestoreRequest, RestoreState};
use flow::{SourceError, SourceErrorKind};
use serde::{Deserialize, Serialize};

const MARK: &str = "backstay restore record: ";
/// What the name of its schema begins with.
const BASE: &str = "backstay";
const WHAT: &str = "restoring";

/// What the record keeps for the way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Work {
    /// The schema that has the record.
    pub(super) schema: String,
    /// Bytes of the backup.
    pub(super) size_bytes: u64,
    /// What took whose place, once it did.
    pub(super) moved: Option<Moved>,
}

/// What was moved aside for the restored content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    /// Schemas: their names, and those under which they are kept.
    pub(super) schemas: Vec<(String, String)>,
    /// The schemas that the restore made.
    pub(super) made: Vec<String>,
    /// Extensions that were moved, with the name of the schema in which they were.
    pub(super) extensions: Vec<(String, String)>,
    /// Publications: their names, and those under which they are kept.
    pub(super) publications: Vec<(String, String)>,
    /// Event triggers likewise, with how they were enabled.
    pub(super) triggers: Vec<(String, String, String)>,
    /// Large objects whose old content is in a table of the schema that keeps it.
    pub(super) objects: Option<String>,
}

/// A record that was found.
pub(super) struct Recorded {
    pub(super) state: RestoreState,
    pub(super) work: Work,
}

/// Returns the name of the schema that a restore's record has.
pub(super) fn schema_of(request: &RestoreRequest) -> String {
    fitted(BASE, &format!("__{WHAT}_{}", request.started.strftime("%Y%m%dt%H%M%Sz")))
}

/// Tells whether a schema is there for a record.
pub(super) fn is_record(schema: &str) -> bool {
    is_beside(schema, BASE, WHAT)
}

/// Returns the statement that writes a record.
pub(super) fn statement(state: &RestoreState, work: &Work, object: &str) -> Result<String, SourceError> {
    let wrong = |error: serde_json::Error| {
        SourceError::new(SourceErrorKind::Invalid, object, "the restore cannot be recorded")
            .with_source(error)
    };
    let mut state = state.clone();
    state.engine = serde_json::to_value(work).map_err(wrong)?;
    let text = serde_json::to_string(&state).map_err(wrong)?;
    Ok(format!("COMMENT ON SCHEMA {} IS {}", quoted(&work.schema), literal(&format!("{MARK}{text}"))))
}

/// Makes the schema with the record.
pub(super) fn make(
    session: &mut Session,
    state: &RestoreState,
    work: &Work,
    object: &str,
) -> Result<(), SourceError> {
    let comment = statement(state, work, object)?;
    let sql = format!("BEGIN; CREATE SCHEMA {}; {comment}; COMMIT", quoted(&work.schema));
    let made = session.try_execute(&sql)?;
    made.map_err(|error| {
        session.execute("ROLLBACK").ok();
        failure::server(object, "the restore cannot be recorded in it", &error)
    })
}

/// Returns the record in the keeper's database, the newest where there are several.
pub(super) fn find(keeper: &mut Keeper) -> Result<Option<Recorded>, SourceError> {
    let sql =
        "SELECT nspname::text, pg_catalog.obj_description(oid, 'pg_namespace') FROM pg_catalog.pg_namespace
               WHERE pg_catalog.obj_description(oid, 'pg_namespace') LIKE $1 ORDER BY nspname";
    let pattern = format!("{MARK}%");
    let mut found = None;
    for row in keeper.session.query(sql, &[&pattern])? {
        let (name, text): (String, String) = (keeper.session.field(&row, 0)?, keeper.session.field(&row, 1)?);
        if !is_record(&name) {
            continue;
        }
        let read = || -> Option<Recorded> {
            let state: RestoreState = serde_json::from_str(text.strip_prefix(MARK)?).ok()?;
            let work: Work = serde_json::from_value(state.engine.clone()).ok()?;
            Some(Recorded { state, work: Work { schema: name.clone(), ..work } })
        };
        found = Some(read().ok_or_else(|| {
            let message = format!("the restore record at its schema {name} cannot be read");
            SourceError::new(SourceErrorKind::Invalid, keeper.object.clone(), message)
                .with_hint("finish the restore with the version that began it")
        })?);
    }
    Ok(found)
}

/// Removes the record.
pub(super) fn remove(session: &mut Session, schema: &str) -> Result<(), SourceError> {
    session.execute(&format!("DROP SCHEMA IF EXISTS {}", quoted(schema)))
}
