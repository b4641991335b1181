//! A dump loaded into a database in scratch, with the integrity check passed and every row counted.
//!
//! Nothing but the folder that was given is written; a crash leaves it to whoever made it.

use super::{live, load};
use crate::counting::counted;
use crate::engine::{FactsDepth, LoadRequest, Loaded};
use flow::{Context, DatabaseName, DatabaseRef, Silent, SourceError, SourceErrorKind, TargetName};
use std::sync::Arc;

const DATABASE: &str = "dump";

/// Loads a dump, and looks at what comes of it.
pub(super) fn load(request: LoadRequest<'_>, context: &Context) -> Result<Loaded, SourceError> {
    let object = request.object.to_owned();
    // Remarks on a copy in scratch are nobody's.
    let context = Context { observer: Arc::new(Silent), ..context.clone() };
    let path = load::load(request, &context)?;
    let name = |error: String| SourceError::new(SourceErrorKind::Failed, object.as_str(), error);
    let database = DatabaseRef {
        target: TargetName::new(DATABASE).map_err(|error| name(error.to_string()))?,
        name: DatabaseName::new(DATABASE).map_err(|error| name(error.to_string()))?,
        connection: path.display().to_string(),
    };
    let facts = live::facts(&database, FactsDepth::Counts, &context)
        .map_err(|error| SourceError { object: object.clone(), ..error })?;
    let tables = facts.tables.len() as u64;
    let rows = facts.tables.iter().map(|table| table.rows).sum::<Option<u64>>();
    let counted_rows = rows.map(|rows| format!(", {}", counted(rows, "row", "rows"))).unwrap_or_default();
    Ok(Loaded {
        detail: format!(
            "loaded into SQLite {}: integrity check passed, {}{counted_rows}",
            facts.engine_version,
            counted(tables, "table", "tables")
        ),
        database,
        tables: Some(tables),
        rows,
        context,
        served_by: None,
    })
}
