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
use flow::{Context, Manifest, SourceError, TableFacts};

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
        write_bytes: share(
            manifest.entries.iter().map(|entry| entry.size_bytes).sum(),
            &manifest.facts.tables,
            &request.tables,
        ),
        needed_bytes: needed,
        free_bytes: free_bytes(session, &settings),
        safety_copy: (!safety.is_empty()).then(|| safety.join(", ")),
        holders: users.into_iter().map(|name| Holder { pid: None, name }).collect(),
        ends_holders: false,
        problems,
    })
}

/// Returns about how many bytes of the backup chosen tables are, by their part of the rows: which entry holds which of them
/// is known when the backup is read. Where their rows are not known, that is all of it.
pub(in crate::postgres::restore) fn share(total: u64, tables: &[TableFacts], chosen: &[String]) -> u64 {
    let all: u64 = tables.iter().filter_map(|table| table.rows).sum();
    let is_called = |name: &str, wanted: &str| {
        name == wanted || name.rsplit_once('.').is_some_and(|(_, own)| own == wanted)
    };
    let rows_of = |wanted: &String| {
        let mut found = tables.iter().filter(|table| is_called(&table.name, wanted));
        found.next().and_then(|table| table.rows).filter(|_| found.next().is_none())
    };
    match chosen.iter().map(rows_of).sum::<Option<u64>>() {
        Some(rows) if all > 0 => {
            let part = u128::from(total) * u128::from(rows.min(all)) / u128::from(all);
            u64::try_from(part).unwrap_or(total)
        }
        _ => total,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_tables_are_their_part_of_the_rows() {
        let table = |name: &str, rows| TableFacts { name: name.to_owned(), rows, digest: None };
        let tables = [table("public.a", Some(10)), table("public.b", Some(90)), table("other.b", Some(100))];
        let of = |chosen: &[&str]| {
            let chosen: Vec<String> = chosen.iter().map(|name| (*name).to_owned()).collect();
            share(2000, &tables, &chosen)
        };
        assert_eq!(of(&["a"]), 100);
        assert_eq!(of(&["public.a", "public.b"]), 1000);
        assert_eq!(of(&["b"]), 2000, "which of them is not said");
        assert_eq!(of(&["missing"]), 2000);
        assert_eq!(share(2000, &[table("public.a", None)], &["a".to_owned()]), 2000);
    }
}
