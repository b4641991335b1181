//! A table that is no longer there, brought back under its own name with all that belonged to it: columns, defaults,
//! sequences with their values, rows, indexes, constraints, triggers, policies, owner, rights, comments, partitions.
//!
//! What others had because of it went with it, by `DROP … CASCADE`: foreign keys that point to it, views, publications.
//! That is brought back as far as it is missing; what cannot be is told with its statement and takes nothing else along.

use super::contents::Contents;
use super::stage::{Stage, listed, relation};
use super::there::there;
use crate::postgres::failure;
use crate::postgres::restore::closing;
use crate::postgres::restore::fill::Place;
use crate::postgres::restore::items::Item;
use crate::postgres::session::Session;
use crate::postgres::statements::statements;
use crate::restore::RestoreError;
use flow::{Severity, SourceError, SourceErrorKind};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::error::SqlState;

/// What belongs to a table and comes with it, or nothing does.
const BELONGING: [&str; 16] = [
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "DEFAULT",
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "TABLE ATTACH",
    "STATISTICS",
    "RULE",
    "TRIGGER",
    "POLICY",
    "ROW SECURITY",
    "COMMENT",
    "ACL",
];
/// Those of them whose name in the archive begins with the table's.
const BY_NAME: [&str; 7] =
    ["DEFAULT", "CONSTRAINT", "CHECK CONSTRAINT", "RULE", "TRIGGER", "POLICY", "ROW SECURITY"];
/// What is passed over: statistics are gathered anew, subscriptions never made.
const PASSED_OVER: [&str; 4] = ["STATISTICS DATA", "SUBSCRIPTION", "SUBSCRIPTION TABLE", "TABLE DATA"];
/// What a table may need that is no relation: made where it is missing.
const NEEDED: [&str; 10] = [
    "SCHEMA",
    "TYPE",
    "SHELL TYPE",
    "DOMAIN",
    "COLLATION",
    "EXTENSION",
    "FUNCTION",
    "PROCEDURE",
    "AGGREGATE",
    "SEQUENCE",
];
/// What is said of an object and is there where the object is.
const SAID: [&str; 8] =
    ["COMMENT", "ACL", "SECURITY LABEL", "INDEX", "TRIGGER", "RULE", "MATERIALIZED VIEW DATA", "CONSTRAINT"];

/// What is to be made.
pub(super) struct Selection {
    /// The tables, with rows.
    tables: BTreeSet<i32>,
    /// What must come, the tables too.
    own: BTreeSet<i32>,
    /// What comes where it can.
    others: BTreeSet<i32>,
}

impl Selection {
    /// Returns the numbers of all of it.
    pub(super) fn all(&self) -> BTreeSet<i32> {
        &self.own | &self.others
    }
}

/// Finds what is to be made for tables that are not there. Only looks.
pub(super) fn select(
    session: &mut Session,
    contents: &Contents,
    roots: &[&Item],
    object: &str,
) -> Result<Selection, SourceError> {
    let mut tables = BTreeSet::new();
    for root in roots {
        tables.insert(root.id);
        for partition in contents.partitions(root) {
            if relation(session, &partition.schema, &partition.tag)?.is_some() {
                let message = format!(
                    "{} is gone, but its partition {} is still there, as a table by itself",
                    root.name(),
                    partition.name()
                );
                return Err(SourceError::new(SourceErrorKind::Unwritable, object, message)
                    .with_hint("give that one another name (ALTER TABLE … RENAME TO …), then run it again"));
            }
            tables.insert(partition.id);
        }
    }
    let mut taken = tables.clone();
    let mut standing: BTreeMap<i32, bool> = BTreeMap::new();
    loop {
        let before = taken.len();
        for item in &contents.items {
            let depends = item.dependencies.iter().any(|id| taken.contains(id));
            if !depends || taken.contains(&item.id) || PASSED_OVER.contains(&item.kind.as_str()) {
                continue;
            }
            if item.is("TABLE") {
                let stands = match standing.get(&item.id) {
                    Some(stands) => *stands,
                    None => there(session, item)?,
                };
                standing.insert(item.id, stands);
                if stands {
                    continue;
                }
                tables.insert(item.id);
            }
            if item.is("SEQUENCE OWNED BY") {
                taken.extend(item.dependencies.iter().filter(|id| is_sequence(contents, **id)));
            }
            taken.insert(item.id);
        }
        if taken.len() == before {
            break;
        }
    }
    let mut own = belonging(contents, &tables, &taken);
    needed(session, contents, &mut own)?;
    let others = taken.difference(&own).copied().collect();
    Ok(Selection { tables, own, others })
}

fn is_sequence(contents: &Contents, id: i32) -> bool {
    contents.get(id).is_some_and(|item| item.is("SEQUENCE"))
}

/// Returns those of what hangs on tables that are parts of them.
fn belonging(contents: &Contents, tables: &BTreeSet<i32>, taken: &BTreeSet<i32>) -> BTreeSet<i32> {
    let of_tables: Vec<&Item> = tables.iter().filter_map(|id| contents.get(*id)).collect();
    let mut own = tables.clone();
    loop {
        let before = own.len();
        for item in contents.items.iter().filter(|item| taken.contains(&item.id)) {
            let kind = item.kind.as_str();
            let by_name = !BY_NAME.contains(&kind) || of_tables.iter().any(|table| item.is_on(table));
            let hangs = item.dependencies.iter().any(|id| own.contains(id));
            if !BELONGING.contains(&kind) || !by_name || !hangs {
                continue;
            }
            if item.is("SEQUENCE OWNED BY") {
                own.extend(item.dependencies.iter().filter(|id| is_sequence(contents, **id)));
            }
            own.insert(item.id);
        }
        if own.len() == before {
            return own;
        }
    }
}

/// Adds what the tables need and the database does not have: schemas, types, functions.
fn needed(session: &mut Session, contents: &Contents, own: &mut BTreeSet<i32>) -> Result<(), SourceError> {
    let mut looked = BTreeSet::new();
    let mut waiting: Vec<i32> = own.iter().copied().collect();
    let schemas: BTreeSet<&str> =
        own.iter().filter_map(|id| contents.get(*id)).map(|item| item.schema.as_str()).collect();
    let of_them = |item: &&Item| item.is("SCHEMA") && schemas.contains(item.tag.as_str());
    let mut candidates: Vec<i32> = contents.items.iter().filter(of_them).map(|item| item.id).collect();
    let mut missing = BTreeSet::new();
    loop {
        while let Some(id) = waiting.pop() {
            candidates
                .extend(contents.get(id).into_iter().flat_map(|item| item.dependencies.iter().copied()));
        }
        for id in std::mem::take(&mut candidates) {
            let Some(item) = contents.get(id).filter(|item| NEEDED.contains(&item.kind.as_str())) else {
                continue;
            };
            if !own.contains(&id) && looked.insert(id) && !there(session, item)? {
                missing.insert(id);
                waiting.push(id);
            }
        }
        if waiting.is_empty() {
            break;
        }
    }
    let said = |item: &&Item| {
        ["COMMENT", "ACL", "SEQUENCE SET"].contains(&item.kind.as_str())
            && item.dependencies.iter().any(|id| missing.contains(id))
    };
    own.extend(contents.items.iter().filter(said).map(|item| item.id));
    own.extend(missing);
    Ok(())
}

/// What became of what others had.
#[derive(Default)]
struct Others {
    /// What came back.
    back: Vec<String>,
    /// The numbers of what is there already.
    present: BTreeSet<i32>,
    /// The numbers of what could not be made.
    left: BTreeSet<i32>,
}

/// Makes it, in the transaction that is open.
pub(super) fn make(stage: &mut Stage<'_>, selection: &Selection) -> Result<(), RestoreError> {
    let contents = stage.contents;
    let all = selection.all();
    let depends_on = |item: &Item, kind: &str| {
        item.dependencies.iter().filter_map(|id| contents.get(*id)).any(|below| below.is(kind))
    };
    let is_inside = |item: &Item| {
        let tables =
            item.dependencies.iter().filter(|id| contents.get(**id).is_some_and(|item| item.is("TABLE")));
        tables.into_iter().all(|id| selection.tables.contains(id))
    };
    let pass = |item: &Item| match item.kind.as_str() {
        "ACL" => 1,
        "FK CONSTRAINT" => 2,
        // The indexes that a table there has are made for a new partition too, unless those are there already.
        "TABLE ATTACH" if !is_inside(item) => 2,
        "INDEX ATTACH" if !item.dependencies.iter().all(|id| all.contains(id)) => 3,
        "MATERIALIZED VIEW DATA" => 3,
        // How a trigger acts that a partition has from its table: it has it once it is attached.
        "TRIGGER" if !item.definition.trim_start().starts_with("CREATE") => 3,
        "COMMENT" if depends_on(item, "FK CONSTRAINT") => 3,
        _ => 0,
    };
    let mut rows: Vec<(String, u64)> = Vec::new();
    let mut others = Others::default();
    for number in 0..4 {
        for item in contents.items.iter().filter(|item| pass(item) == number) {
            if item.has_rows() {
                rows.extend(fill(stage, selection, item)?);
            } else if selection.own.contains(&item.id) {
                let sql = item.sql(stage.request.ownership.no_owner);
                stage.must(&sql, &item.shown())?;
                closing::close(stage.session, item)?;
            } else if all.contains(&item.id) {
                other(stage, item, &mut others)?;
            }
        }
    }
    for (table, _) in &rows {
        stage.analyze(table)?;
    }
    tell(stage, selection, &rows, &others);
    Ok(())
}

/// Loads rows, where they are of one of the tables. Returns the table and how many there are.
fn fill(
    stage: &mut Stage<'_>,
    selection: &Selection,
    data: &Item,
) -> Result<Option<(String, u64)>, RestoreError> {
    let is_its = |item: &&Item| item.is("TABLE") && item.schema == data.schema && item.tag == data.tag;
    let table = stage.contents.items.iter().find(is_its).filter(|table| selection.tables.contains(&table.id));
    let (Some(table), Some(file)) = (table, &data.file) else { return Ok(None) };
    let columns = columns(stage, data)?;
    let quoted = data.quoted();
    let by_root = data.root();
    let place = Place {
        quoted: by_root.unwrap_or(&quoted),
        shown: &table.name(),
        columns,
        freeze: by_root.is_none(),
        alone: by_root.is_none(),
    };
    let count = stage.filling.rows(stage.session, &place, file)?;
    Ok(Some((quoted, count)))
}

/// Returns the columns of an item's rows.
pub(super) fn columns<'a>(stage: &Stage<'_>, data: &'a Item) -> Result<&'a str, SourceError> {
    data.columns().ok_or_else(|| {
        let message = format!("the archive's statement for the rows of {} is not one of ours", data.name());
        stage
            .error(SourceErrorKind::Invalid, message)
            .with_hint("stock `pg_restore` may load it: `restic restore` writes the archive")
    })
}

/// Makes what others had, where it is missing and can be made.
fn other(stage: &mut Stage<'_>, item: &Item, others: &mut Others) -> Result<(), SourceError> {
    let hangs_on = |ids: &BTreeSet<i32>| item.dependencies.iter().any(|id| ids.contains(id));
    if SAID.contains(&item.kind.as_str()) && hangs_on(&others.present) {
        return Ok(());
    }
    let statement = item.definition.trim().to_owned();
    let leave = |stage: &mut Stage<'_>, others: &mut Others, why: String| {
        others.left.insert(item.id);
        let message = format!("{} could not be put back: {why}", item.shown());
        stage.tell(Severity::Warning, message, Some(format!("where it is wanted: {statement}")));
    };
    if hangs_on(&others.left) {
        leave(stage, others, "what it depends on is not there".to_owned());
        return Ok(());
    }
    if item.is("DEFAULT") {
        leave(stage, others, "another default may have been set since".to_owned());
        return Ok(());
    }
    let Err(error) = stage.may(&item.sql(stage.request.ownership.no_owner))? else {
        closing::close(stage.session, item)?;
        if !SAID.contains(&item.kind.as_str()) {
            others.back.push(item.shown());
        }
        return Ok(());
    };
    let there = [
        &SqlState::DUPLICATE_OBJECT,
        &SqlState::DUPLICATE_TABLE,
        &SqlState::DUPLICATE_FUNCTION,
        &SqlState::DUPLICATE_SCHEMA,
    ];
    if failure::is(&error, &there) {
        others.present.insert(item.id);
        return Ok(());
    }
    if failure::is(&error, &[&SqlState::FOREIGN_KEY_VIOLATION]) && unchecked(stage, item)? {
        let first = first_statement(item);
        let (table, name) = (
            first.split_whitespace().nth(3).unwrap_or_default().to_owned(),
            crate::postgres::statements::name_after(first, "CONSTRAINT").unwrap_or_default(),
        );
        let message = format!(
            "{} holds for new rows only: some that are there do not fit it ({})",
            item.shown(),
            failure::text(&error)
        );
        let name = crate::postgres::statements::quoted(&name);
        let hint = format!("mend those rows, then: ALTER TABLE {table} VALIDATE CONSTRAINT {name}");
        stage.tell(Severity::Warning, message, Some(hint));
        return Ok(());
    }
    leave(stage, others, failure::text(&error));
    Ok(())
}

fn first_statement(item: &Item) -> &str {
    statements(&item.definition).first().copied().unwrap_or_default()
}

/// Makes a foreign key that does not look at the rows that are there. Tells whether that could be done.
fn unchecked(stage: &mut Stage<'_>, item: &Item) -> Result<bool, SourceError> {
    let first = first_statement(item);
    if first.is_empty() || first.ends_with("NOT VALID") {
        return Ok(false);
    }
    Ok(stage.may(&format!("{first} NOT VALID"))?.is_ok())
}

fn tell(stage: &mut Stage<'_>, selection: &Selection, rows: &[(String, u64)], others: &Others) {
    let contents = stage.contents;
    for table in selection.tables.iter().filter_map(|id| contents.get(*id)) {
        let count = rows.iter().find(|(name, _)| *name == table.quoted()).map(|(_, count)| *count);
        let with = count.map_or_else(|| ", partitioned".to_owned(), |count| format!(", with {count} rows"));
        let message =
            format!("the table {} is there again{with}, and with all that belonged to it", table.name());
        stage.tell(Severity::Notice, message, None);
    }
    if !others.back.is_empty() {
        let message = format!("with it came back {}", listed(&others.back));
        stage.tell(Severity::Notice, message, None);
    }
}
