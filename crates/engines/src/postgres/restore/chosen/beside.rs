//! A table of the backup made beside the live one, under another name: columns, rows, plain defaults, not-null and check
//! constraints, primary key, unique and exclusion constraints, indexes, comments.
//!
//! Nothing of the live table is touched, and nothing depends on the copy or acts on it: what would tie it to others
//! (foreign keys, triggers, rules, policies, rights, sequences) is left out and told with the statements for it.

use super::own::columns;
use super::stage::{Stage, listed};
use crate::postgres::restore::closing;
use crate::postgres::restore::fill::Place;
use crate::postgres::restore::items::Item;
use crate::postgres::restore::names::{fitted, quoted};
use crate::postgres::statements::{
    after_word, before_word, name_after, renamed_after, statements, with_relation,
};
use crate::restore::{RestoreError, RestoreRequest};
use flow::{Severity, SourceError, SourceErrorKind};

/// What is made for the copy too.
const MADE: [&str; 3] = ["CONSTRAINT", "CHECK CONSTRAINT", "INDEX"];
/// What is left out and named.
const LEFT_OUT: [&str; 9] = [
    "FK CONSTRAINT",
    "TRIGGER",
    "RULE",
    "POLICY",
    "ROW SECURITY",
    "DEFAULT",
    "SEQUENCE",
    "STATISTICS",
    "ACL",
];

/// Returns what the name of a copy ends with.
pub(super) fn ending(request: &RestoreRequest) -> String {
    format!("__restored_{}", request.started.strftime("%Y%m%dt%H%M%Sz"))
}

/// Makes the copy, in the transaction that is open.
pub(super) fn make(stage: &mut Stage<'_>, table: &Item) -> Result<(), RestoreError> {
    let ending = ending(stage.request);
    let new = fitted(&table.tag, &ending);
    let shown = format!("{}.{}", quoted(&table.schema), quoted(&new));
    define(stage, table, &new)?;
    closing::relation(stage.session, "TABLE", &shown)?;
    let rows = fill(stage, table, &shown)?;
    let contents = stage.contents;
    let on_it = |item: &&Item| item.dependencies.contains(&table.id);
    let mut left = Vec::new();
    for item in contents.items.iter().filter(on_it) {
        let kind = item.kind.as_str();
        let is_its = kind == "INDEX" || item.is_on(table);
        if MADE.contains(&kind) && is_its {
            if let Some(sql) = renamed(item, table, &new, &ending) {
                stage.must(&sql, &item.shown())?;
            }
        } else if item.is("COMMENT") {
            comment(stage, item, table, &new)?;
        } else if LEFT_OUT.contains(&kind) && (is_its || ["SEQUENCE", "STATISTICS", "ACL"].contains(&kind)) {
            left.push(item);
        }
    }
    stage.analyze(&shown)?;
    let message = format!("the backup's {} is there as {shown}, with {rows} rows", table.name());
    stage.tell(Severity::Notice, message, Some(format!("DROP TABLE {shown} when it is not needed any more")));
    tell_left(stage, &left, table, (&new, &shown));
    Ok(())
}

fn define(stage: &mut Stage<'_>, table: &Item, new: &str) -> Result<(), SourceError> {
    for statement in statements(&table.definition) {
        let is_part = after_word(statement, "PARTITION").is_some_and(|rest| rest.starts_with("OF"));
        if after_word(statement, "INHERITS").is_some() || is_part {
            let message = format!("{} inherits columns from another table", table.name());
            return Err(stage.error(SourceErrorKind::Invalid, message).with_hint(
                "`--in-place` replaces its rows; `--to-new` restores the database beside, to look at it there",
            ));
        }
        let statement = if table.is_partitioned() { before_word(statement, "PARTITION") } else { statement };
        let statement = with_relation(statement, &table.schema, &table.tag, new);
        stage.must(&statement, &format!("the table {}.{new}", table.schema))?;
    }
    Ok(())
}

/// Loads the rows, of a partitioned table those of all partitions.
fn fill(stage: &mut Stage<'_>, table: &Item, shown: &str) -> Result<u64, RestoreError> {
    let filled = stage.contents.filled(table, stage.object())?;
    let mut rows = 0;
    for (_, data) in &filled {
        let Some(file) = &data.file else { continue };
        let place = Place {
            quoted: shown,
            shown,
            columns: columns(stage, data)?,
            freeze: true,
            alone: filled.len() == 1,
        };
        rows += stage.filling.rows(stage.session, &place, file)?;
    }
    Ok(rows)
}

/// Returns the statement for the copy, under a name that nothing else has.
fn renamed(item: &Item, table: &Item, new: &str, ending: &str) -> Option<String> {
    // More of them tie the index to its table: by which one rows are known to others, or sorted.
    let first = statements(&item.definition).first().copied()?;
    let statement = with_relation(first, &table.schema, &table.tag, new);
    let word = if item.is("INDEX") { "INDEX" } else { "CONSTRAINT" };
    if item.is("CHECK CONSTRAINT") {
        return Some(statement);
    }
    let name = name_after(&statement, word)?;
    renamed_after(&statement, word, &fitted(&name, ending))
}

/// Comments of the table and of its columns are its own.
fn comment(stage: &mut Stage<'_>, item: &Item, table: &Item, new: &str) -> Result<(), SourceError> {
    for statement in statements(&item.definition) {
        let about = after_word(statement, "ON").unwrap_or_default();
        if about.starts_with("TABLE ") || about.starts_with("COLUMN ") {
            let statement = with_relation(statement, &table.schema, &table.tag, new);
            stage.must(&statement, &item.shown())?;
        }
    }
    Ok(())
}

fn tell_left(stage: &mut Stage<'_>, left: &[&Item], table: &Item, (new, shown): (&str, &str)) {
    if left.is_empty() {
        return;
    }
    let names: Vec<String> = left.iter().map(|item| item.shown()).collect();
    let wanted: Vec<String> = left
        .iter()
        .filter(|item| !["SEQUENCE", "STATISTICS"].contains(&item.kind.as_str()))
        .flat_map(|item| statements(&item.definition))
        .map(|statement| with_relation(statement, &table.schema, &table.tag, new))
        .map(|statement| statement.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let hint = match wanted[..] {
        [] => None,
        _ => Some(format!("what of it is wanted for the copy: {};", wanted.join("; "))),
    };
    let message = format!("{shown} stands by itself, without {}", listed(&names));
    stage.tell(Severity::Notice, message, hint);
}
