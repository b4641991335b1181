//! What a restore of chosen tables is going to do, and what would refuse it: asked of the live database, before the
//! backup is read. Looks only.

use super::beside::ending;
use super::blockers;
use super::stage::{Live, named};
use crate::postgres::restore::names::{beside, fitted};
use crate::postgres::restore::preflight::free_bytes;
use crate::postgres::session::Session;
use crate::postgres::targets;
use crate::restore::{Holder, RestoreMode, RestorePlan, RestoreRequest, RestoreStep, Safety};
use flow::{Context, Manifest, SourceError};

pub(super) fn plan(
    request: &RestoreRequest,
    manifest: &Manifest,
    session: &mut Session,
    context: &Context,
) -> Result<RestorePlan, SourceError> {
    let in_place = request.mode == RestoreMode::InPlace;
    let (mut actions, mut problems) = (Vec::new(), Vec::new());
    let row = session.query_one("SELECT pg_catalog.pg_is_in_recovery()", &[])?;
    if session.field(&row, 0)? {
        problems.push("the server is a standby, which takes no writes; name its primary".to_owned());
    }
    let mut replaced: Vec<Live> = Vec::new();
    for table in &request.tables {
        match named(session, table)?.into_iter().next() {
            None => actions.push(format!(
                "Make the table {table} again under its own name, which nothing has now: columns, rows, sequences, \
                 indexes, constraints, triggers, owner and rights, and what is missing of the foreign keys and views \
                 that depended on it."
            )),
            Some(live) if in_place => replaced.push(live),
            Some(live) => actions.push(format!(
                "Make the table {}.{} of the backup's {table}, with its indexes, beside what is there.",
                live.schema,
                fitted(&live.name, &ending(request)),
            )),
        }
    }
    let mut safety = Vec::new();
    for live in &replaced {
        let found = blockers::of(session, live)?;
        problems.extend(found.into_iter().map(|blocker| format!("{}; {}", blocker.message, blocker.hint)));
        if request.safety != Safety::None {
            safety.push(format!("{}.{}", live.schema, beside(&live.name, "safety", request.started)));
        }
    }
    if !replaced.is_empty() {
        actions.extend(replacing(session, &replaced, &safety)?);
    }
    if request.verify {
        actions.push(
            "Read the rows back, and compare them with the backup, before they are committed.".to_owned(),
        );
    }
    actions.push("All of it in one transaction: whatever fails, nothing is changed.".to_owned());
    let oids: Vec<u32> = replaced.iter().map(|live| live.oid).collect();
    let users = if oids.is_empty() { Vec::new() } else { blockers::users(session, &oids)? };
    // As much as the tables have for their new rows, and, where they are kept, for the old ones.
    let size = blockers::size_bytes(session, &oids)?;
    let needed = size.saturating_mul(if safety.is_empty() { 1 } else { 2 });
    let settings = targets::settings(&request.target.connection, None, context)?;
    Ok(RestorePlan {
        steps: vec![RestoreStep::Preflight, RestoreStep::Beside, RestoreStep::Finish],
        actions,
        write_bytes: manifest.entries.iter().map(|entry| entry.size_bytes).sum(),
        needed_bytes: needed,
        free_bytes: free_bytes(session, &settings),
        safety_copy: (!safety.is_empty()).then(|| safety.join(", ")),
        holders: users.into_iter().map(|name| Holder { pid: None, name }).collect(),
        ends_holders: false,
        problems,
    })
}

/// Tells what becomes of tables whose rows are replaced.
fn replacing(session: &mut Session, tables: &[Live], safety: &[String]) -> Result<Vec<String>, SourceError> {
    let mut actions = Vec::new();
    for (table, copy) in tables.iter().zip(safety) {
        actions.push(format!("Copy what {} holds to {copy}.", table.shown()));
    }
    let names: Vec<String> = tables.iter().map(Live::shown).collect();
    actions.push(format!(
        "Empty {}, and fill it with the rows of the backup; whoever reads or writes it waits until that is done.",
        names.join(", ")
    ));
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let keys = blockers::keys(session, &oids)?;
    if !keys.is_empty() {
        let keys: Vec<String> = keys.iter().map(|key| format!("{} of {}", key.name, key.table)).collect();
        actions.push(format!(
            "Take off the foreign keys that point to it, and put them back with all rows checked: {}.",
            keys.join(", ")
        ));
    }
    let triggers = blockers::triggers(session, &oids)?;
    if !triggers.is_empty() {
        let names: Vec<&str> = triggers.iter().map(|trigger| trigger.name.as_str()).collect();
        actions.push(format!("Let its triggers rest meanwhile: {}.", names.join(", ")));
    }
    Ok(actions)
}
