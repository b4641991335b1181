//! What a restore of rows alone is going to do, and what would refuse it: asked of the live database by what the backup's
//! manifest says, before the backup is read. Looks only.

use super::places::{self, Found, Wanted};
use super::{keys, objects};
use crate::postgres::restore::chosen::blockers;
use crate::postgres::restore::chosen::planning::share;
use crate::postgres::restore::chosen::stage::named;
use crate::postgres::restore::preflight::free_bytes;
use crate::postgres::script::ScriptFacts;
use crate::postgres::session::Session;
use crate::postgres::statements::names_of;
use crate::postgres::targets;
use crate::restore::{RestorePlan, RestoreRequest, RestoreStep};
use flow::{Context, Manifest, SourceError};

/// How many names a sentence lists.
const LISTED_MAX: usize = 12;

pub(super) fn steps() -> Vec<RestoreStep> {
    vec![RestoreStep::Preflight, RestoreStep::Beside, RestoreStep::Finish]
}

pub(super) fn plan(
    request: &RestoreRequest,
    manifest: &Manifest,
    session: &mut Session,
    context: &Context,
) -> Result<RestorePlan, SourceError> {
    let mut problems = Vec::new();
    let row = session.query_one("SELECT pg_catalog.pg_is_in_recovery()", &[])?;
    if session.field(&row, 0)? {
        problems.push("the server is a standby, which takes no writes; name its primary".to_owned());
    }
    let wanted = wanted(session, manifest, &request.tables)?;
    let found = places::find(session, &wanted)?;
    let inner = keys::inner(session, &found.oids())?;
    let mut all = found.blockers.clone();
    all.extend(inner.iter().filter_map(keys::Inner::blocker));
    if request.tables.is_empty() {
        all.extend(objects::blockers(session, manifest)?);
    }
    problems.extend(all.into_iter().map(|blocker| format!("{}; {}", blocker.message, blocker.hint)));
    let actions = actions(request, session, &found, &inner)?;
    let total = manifest.entries.iter().map(|entry| entry.size_bytes).sum();
    let write_bytes = match request.tables[..] {
        [] => total,
        _ => share(total, &manifest.facts.tables, &request.tables),
    };
    let settings = targets::settings(&request.target.connection, None, context)?;
    Ok(RestorePlan {
        steps: steps(),
        actions,
        write_bytes,
        needed_bytes: write_bytes,
        free_bytes: free_bytes(session, &settings),
        safety_copy: None,
        holders: Vec::new(),
        ends_holders: false,
        problems,
    })
}

/// Returns the tables that the manifest says to have rows, as far as they are meant.
fn wanted(session: &mut Session, manifest: &Manifest, tables: &[String]) -> Result<Vec<Wanted>, SourceError> {
    let meant = |one: &Wanted| tables.is_empty() || tables.iter().any(|name| one.is_called(name));
    if let Some(facts) = ScriptFacts::of(manifest) {
        let one = |(name, rows): (&String, &Option<u64>)| {
            let mut parts = names_of(name);
            let own = parts.pop().unwrap_or_default();
            let columns = facts.columns.get(name).cloned();
            Wanted { schema: parts.pop(), name: own, columns, rows: *rows }
        };
        return Ok(facts.loaded.iter().map(one).filter(meant).collect());
    }
    let mut wanted = Vec::new();
    for table in &manifest.facts.tables {
        // Where a name has a dot in it, the database tells which part of it is the schema.
        let live = named(session, &table.name)?.into_iter().find(|live| live.shown() == table.name);
        let (schema, name) = match &live {
            Some(live) => (live.schema.clone(), live.name.clone()),
            None => {
                let (schema, name) = table.name.split_once('.').unwrap_or(("", &table.name));
                (schema.to_owned(), name.to_owned())
            }
        };
        let one = Wanted { schema: Some(schema), name, columns: None, rows: table.rows };
        if meant(&one) {
            wanted.push(one);
        }
    }
    Ok(wanted)
}

fn actions(
    request: &RestoreRequest,
    session: &mut Session,
    found: &Found,
    inner: &[keys::Inner],
) -> Result<Vec<String>, SourceError> {
    let names: Vec<String> = match request.tables[..] {
        [] => found.live.iter().flatten().map(|live| live.shown()).collect(),
        _ => request.tables.clone(),
    };
    let mut actions = vec![format!(
        "Add the backup's rows to the tables that are there, by one session: {}.",
        listed(&names)
    )];
    let mut filled = Vec::new();
    for live in found.live.iter().flatten().filter(|live| ['r', 'p'].contains(&live.kind)) {
        if !places::is_empty(session, live).unwrap_or(true) {
            filled.push(live.shown());
        }
    }
    filled.dedup();
    if !filled.is_empty() {
        actions.push(format!(
            "Leave the rows that are there already, of {}: where one of the backup's has the same key, nothing is \
             restored at all; where there is no key, rows may be there twice.",
            listed(&filled)
        ));
    }
    let triggers = blockers::triggers(session, &found.oids())?;
    if !triggers.is_empty() {
        let names: Vec<String> =
            triggers.iter().map(|trigger| format!("{} of {}", trigger.name, trigger.table)).collect();
        actions.push(format!("Let their triggers rest meanwhile: {}.", listed(&names)));
    }
    if !inner.is_empty() {
        let names: Vec<String> =
            inner.iter().map(|one| format!("{} of {}", one.key.name, one.key.table)).collect();
        actions.push(format!(
            "Take off the foreign keys between them, and put them back with all rows checked; whoever reads or writes \
             those tables waits until that is done: {}.",
            listed(&names)
        ));
    }
    actions.push("Set sequences forward as far as the backup had them, and none back.".to_owned());
    if request.verify {
        actions.push(
            "Count the rows, and compare those of tables that were empty with the backup, before they are committed."
                .to_owned(),
        );
    }
    actions.push("All of it in one transaction: whatever fails, nothing is changed.".to_owned());
    Ok(actions)
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(LISTED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
