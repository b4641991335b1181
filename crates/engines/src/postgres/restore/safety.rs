//! Safety copies: the databases that swaps renamed away, found again and removed.
//!
//! One is told by the record that the swap left in its comment, which names the database that was replaced and the moment;
//! its own name must say the same. Nothing else is taken for one, whatever it is called. None goes while a restore of its
//! database is unfinished, nor while somebody is connected to it. Removing is one statement: a crash leaves all or nothing.

use super::keeper::Keeper;
use super::names::{self, quoted};
use super::{record, sessions};
use crate::engine::SafetyCopy;
use crate::postgres::connection::with_database;
use crate::postgres::{failure, many, pooler, targets};
use crate::restore::RestoreState;
use flow::{Context, DatabaseRef, SourceError, SourceErrorKind, TargetRef};
use jiff::Timestamp;
use std::collections::BTreeMap;
use tokio_postgres::error::SqlState;

/// What the name of one has in it.
pub(super) const SAFETY: &str = "safety";

/// How many databases of a target are tried for a look at its server.
const ASKED_MAX: usize = 3;

const BEFORE: &str = "what ";
const BETWEEN: &str = " held before the restore of ";
const AFTER: &str = ", kept by backstay";

/// Returns the comment that a swap gives to what it renamed away; `was` is the comment that it had.
pub(super) fn comment(target: &str, started: Timestamp, was: Option<&str>) -> String {
    let was = was.map_or_else(String::new, |was| format!("; its comment was: {was}"));
    format!("{BEFORE}{target}{BETWEEN}{started}{AFTER}{was}")
}

/// Reads such a comment of a database of that name: which database was replaced, and when the restore began.
fn told(name: &str, comment: &str) -> Option<(String, Timestamp)> {
    let rest = comment.strip_prefix(BEFORE)?;
    // A name may hold anything.
    rest.match_indices(BETWEEN).find_map(|(at, between)| {
        let target = rest.get(..at)?;
        let (moment, _) = rest.get(at + between.len()..)?.split_once(AFTER)?;
        let started: Timestamp = moment.parse().ok()?;
        let fits = names::is_beside(name, target, SAFETY) && names::tells(name, started);
        fits.then(|| (target.to_owned(), started))
    })
}

/// Finds the safety copies of the databases of a target, on their server. Any session there sees them.
pub(in crate::postgres) fn find(
    target: &TargetRef,
    context: &Context,
) -> Result<Vec<SafetyCopy>, SourceError> {
    let databases = many::of_target(target, context)?.databases;
    let mut by_name: BTreeMap<String, &DatabaseRef> = BTreeMap::new();
    for database in &databases {
        by_name.insert(targets::settings(&database.connection, Some(target), context)?.database, database);
    }
    let mut copies = Vec::new();
    let all = listed(&databases, target, context)?;
    for one in &all {
        let Some((replaced, time)) = told(&one.name, &one.comment) else { continue };
        let Some(database) = by_name.get(&replaced).copied() else { continue };
        let restoring = all.iter().any(|other| is_of_unfinished(&other.name, &other.comment, &replaced));
        copies.push(SafetyCopy {
            database: database.clone(),
            path: with_database(&database.connection, &one.name),
            time,
            size_bytes: one.size_bytes,
            beside: true,
            restoring,
        });
    }
    Ok(copies)
}

/// A database as the server lists it.
struct Listed {
    name: String,
    comment: String,
    size_bytes: u64,
}

/// Lists the databases of a server, through one of those of the target.
fn listed(
    databases: &[DatabaseRef],
    target: &TargetRef,
    context: &Context,
) -> Result<Vec<Listed>, SourceError> {
    let mut problem = None;
    for database in databases.iter().take(ASKED_MAX) {
        let object = database.connection.as_str();
        let settings = targets::settings(object, Some(target), context)?;
        let mut session = match pooler::connect_past(&settings, object, &context.cancel) {
            Ok(session) => session,
            Err(error) if error.kind == SourceErrorKind::Cancelled => return Err(error),
            Err(error) => {
                problem.get_or_insert(error);
                continue;
            }
        };
        // The size of a database is told to whoever may connect to it.
        let sql = "SELECT d.datname::text, coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), ''),
                     CASE WHEN pg_catalog.strpos(d.datname::text, $1) > 0
                            AND (pg_catalog.has_database_privilege(d.oid, 'CONNECT')
                                 OR pg_catalog.pg_has_role('pg_read_all_stats', 'MEMBER'))
                          THEN pg_catalog.pg_database_size(d.oid) ELSE 0 END
                   FROM pg_catalog.pg_database d ORDER BY d.datname";
        let mut all = Vec::new();
        for row in session.query(sql, &[&SAFETY])? {
            let size: i64 = session.field(&row, 2)?;
            let (name, comment) = (session.field(&row, 0)?, session.field(&row, 1)?);
            all.push(Listed { name, comment, size_bytes: u64::try_from(size).unwrap_or(0) });
        }
        return Ok(all);
    }
    problem.map_or(Ok(Vec::new()), Err)
}

/// Tells whether a database is one that an unfinished restore of `target` makes, or has its record.
fn is_of_unfinished(name: &str, comment: &str, target: &str) -> bool {
    names::is_beside(name, target, record::SCRATCH)
        || record::read(comment).is_some_and(|read| match read {
            Ok(state) => is_of(&state, target),
            // Of whose restore it is nobody can tell.
            Err(_) => true,
        })
}

fn is_of(state: &RestoreState, target: &str) -> bool {
    state.engine.get("target").and_then(serde_json::Value::as_str) == Some(target)
}

/// Removes a safety copy, with the lock of its database, so that no restore begins meanwhile.
pub(in crate::postgres) fn remove(copy: &SafetyCopy, context: &Context) -> Result<(), SourceError> {
    let mut keeper = Keeper::open(&copy.database.connection, context)?;
    if !keeper.lock()? {
        return Err(record::in_use(&mut keeper, None));
    }
    let outcome = remove_locked(copy, &mut keeper, context);
    keeper.unlock();
    outcome
}

fn remove_locked(copy: &SafetyCopy, keeper: &mut Keeper, context: &Context) -> Result<(), SourceError> {
    let error = |kind, message: &str| SourceError::new(kind, copy.path.clone(), message);
    if let Some(left) = record::of_target(keeper)?.last() {
        return Err(record::in_use(keeper, Some(&left.state)));
    }
    let name = targets::settings(&copy.path, None, context)?.database;
    let Some(listed) = keeper.listed(&name)? else {
        return Err(error(SourceErrorKind::Missing, "the safety copy is gone"));
    };
    let same = told(&name, listed.comment.as_deref().unwrap_or_default())
        .is_some_and(|(target, time)| target == keeper.target && time == copy.time);
    if !same || keeper.oid(&keeper.target.clone())?.is_none_or(|oid| oid == listed.oid) {
        return Err(error(SourceErrorKind::Failed, "it is not the safety copy any more that was looked at"));
    }
    let connected = sessions::of(&mut keeper.session, listed.oid)?;
    if !connected.is_empty() {
        let who = sessions::listed(&connected.iter().collect::<Vec<_>>());
        return Err(error(SourceErrorKind::InUse, &format!("the safety copy is in use by {who}")));
    }
    let dropped = keeper.session.try_execute(&format!("DROP DATABASE {}", quoted(&name)))?;
    dropped.map_err(|refused| {
        let made = failure::server(&copy.path, "the safety copy cannot be dropped", &refused);
        match failure::is(&refused, &[&SqlState::OBJECT_IN_USE]) {
            true => SourceError { kind: SourceErrorKind::InUse, ..made },
            false => made,
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_copy_is_told_by_its_comment_and_its_name() {
        let started: Timestamp = "2026-11-21T02:00:00.5Z".parse().unwrap();
        let name = |target: &str| names::beside(target, SAFETY, started);
        for target in ["erp", "a held before the restore of b", "ä b, kept by backstay"] {
            for was in [None, Some("what erp held before the restore of never, kept by backstay")] {
                let comment = comment(target, started, was);
                let found = told(&name(target), &comment);
                assert_eq!(found, Some((target.to_owned(), started)), "{comment}");
                assert_eq!(told(&format!("{}_2", name(target)), &comment), found);
            }
        }
        let of_erp = comment("erp", started, None);
        for other in
            ["erp", "erp2", "erp__safety_20261121t020001z", "er__safety_20261121t020000z", "erp__safety_old"]
        {
            assert_eq!(told(other, &of_erp), None, "{other}");
        }
        for other in
            ["", "mine", "what erp held before", "what erp held before the restore of x, kept by backstay"]
        {
            assert_eq!(told(&name("erp"), other), None, "{other}");
        }
    }
}
