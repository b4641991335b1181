//! Restores that lie unfinished beside a database: whoever backs it up or examines it is told, for what it holds may be
//! half of what was meant. Only looks.

use engines::Engine;
use flow::{Context, DatabaseRef, Finding, Severity, quoted};

/// Returns what is to be said of the restore that lies beside a database, where there is one. A record that cannot be
/// read is for the restore to report.
pub(crate) fn finding(engine: &dyn Engine, database: &DatabaseRef, context: &Context) -> Option<Finding> {
    let state = engine.pending_restores(database, context).ok()?.into_iter().next()?;
    let target = &database.connection;
    let word = quoted(target);
    if state.owner_alive {
        return Some(Finding {
            severity: Severity::Notice,
            object: target.clone(),
            message: "is being restored at this moment".to_owned(),
            hint: None,
        });
    }
    let undo = format!("`backstay restore --rollback --target {word}` undoes it");
    let hint = match state.rolling_back {
        true => undo,
        false => format!("`backstay restore --continue --target {word}` finishes it, {undo}"),
    };
    Some(Finding {
        severity: Severity::Warning,
        object: target.clone(),
        message: "a restore of it was begun and never finished".to_owned(),
        hint: Some(hint),
    })
}
