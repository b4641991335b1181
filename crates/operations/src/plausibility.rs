//! Whether a database's new content is plausible, measured by the last good backup: an application that emptied its
//! database leaves a file that is as sound as any, and a backup of it that proves nothing is worth nothing.
//!
//! Facts are compared, never bytes. What counts:
//!
//! - **Empty**: every table that had rows has none now, however few they were; or there is no table any more.
//! - **Tables**: one that had rows, or whose rows nobody counted, is gone. One whose definition stands under another name,
//!   with at least half of its rows, was renamed. One without rows may go.
//! - **Rows**: a table that had at least [`ROWS_MEANINGFUL`] has less than half of them, or all tables together.
//!   Smaller tables come and go: sessions, queues, locks.
//! - **Size**, of the pages in use: below half of at least [`SIZE_MEANINGFUL_BYTES`]. Free pages do not count, so that a
//!   VACUUM changes little; where no table lost a row, only below a quarter counts, which no VACUUM reaches: it packs what
//!   is at least a third full. That is how content is noticed that went from within rows.
//!
//! What is unknown on either side is not compared. The bookkeeping tables of full-text and R-tree indexes are left out:
//! they shrink when they are merged.

use flow::{DatabaseRef, Facts, TableFacts};
use repository::{Baseline, RepositoryError, SnapshotWriter};
use std::collections::{BTreeMap, BTreeSet};

/// From how many rows on the loss of more than half of them counts.
const ROWS_MEANINGFUL: u64 = 100;
/// From which size on the loss of more than half of it counts.
const SIZE_MEANINGFUL_BYTES: u64 = 1 << 20;
/// How many tables are named in the reasons; of the others the number.
const TABLES_NAMED: usize = 10;

/// What a virtual table keeps beside its content, by the ends of their names.
const BOOKKEEPING: [&str; 9] =
    ["_data", "_idx", "_docsize", "_config", "_segments", "_segdir", "_stat", "_node", "_parent"];

/// Why a database's content is suspect, and what it was measured by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Suspect {
    /// The last good backup.
    pub(crate) baseline: Baseline,
    /// Sentences without a full stop.
    pub(crate) reasons: Vec<String>,
}

/// Compares the content of a database that was read with the last good backup of it.
pub(crate) fn judge(
    writer: &dyn SnapshotWriter,
    database: &DatabaseRef,
    facts: &Facts,
) -> Result<Option<Suspect>, RepositoryError> {
    let Some(baseline) = writer.baseline(database)? else { return Ok(None) };
    let reasons = reasons(&baseline.facts, facts);
    Ok((!reasons.is_empty()).then_some(Suspect { baseline, reasons }))
}

/// Returns why content is suspect against what was there before; nothing where it is plausible.
pub(crate) fn reasons(before: &Facts, now: &Facts) -> Vec<String> {
    let (old, new) = (counted(before), counted(now));
    let total = |tables: &Tables| tables.values().map(|rows| rows.unwrap_or(0)).sum::<u64>();
    let had = total(&old);
    if now.tables.is_empty() && !before.tables.is_empty() {
        return vec![format!("it has no table any more: it had {}", tables_and_rows(old.len(), had))];
    }
    let all_known = new.values().all(Option::is_some);
    if had > 0 && all_known && total(&new) == 0 {
        return vec![format!("it is empty: it had {}", tables_and_rows(old.len(), had))];
    }
    let mut reasons = lost_tables(before, now, &old, &new);
    reasons.extend(shrunk_tables(&old, &new));
    let others = reasons.len().saturating_sub(TABLES_NAMED);
    if others > 1 {
        reasons.truncate(TABLES_NAMED);
        reasons.push(format!("{others} more tables are gone, or lost more than half of their rows"));
    }
    if let (Some(had), Some(has)) = (sum(&old), sum(&new))
        && lost_half(had, has, ROWS_MEANINGFUL)
    {
        reasons.push(format!("all tables together have {has} rows, and had {had}"));
    }
    reasons.extend(shrunk_size(before, now, &old, &new));
    reasons
}

/// The rows of the tables that count, by name.
type Tables<'a> = BTreeMap<&'a str, Option<u64>>;

fn counted(facts: &Facts) -> Tables<'_> {
    let is_virtual =
        |sql: &str| sql.get(..20).is_some_and(|start| start.eq_ignore_ascii_case("CREATE VIRTUAL TABLE"));
    let virtual_tables: BTreeSet<&str> = facts
        .schema
        .iter()
        .filter(|object| object.sql.as_deref().is_some_and(is_virtual))
        .map(|object| object.name.as_str())
        .collect();
    let bookkeeping = |table: &&TableFacts| {
        BOOKKEEPING
            .iter()
            .any(|end| table.name.strip_suffix(end).is_some_and(|owner| virtual_tables.contains(owner)))
    };
    let tables = facts.tables.iter().filter(|table| !bookkeeping(table));
    tables.map(|table| (table.name.as_str(), table.rows)).collect()
}

fn sum(tables: &Tables<'_>) -> Option<u64> {
    tables.values().copied().sum()
}

fn lost_half(had: u64, has: u64, meaningful: u64) -> bool {
    had >= meaningful && has < had.div_ceil(2)
}

fn tables_and_rows(tables: usize, rows: u64) -> String {
    let noun = |count: u64, one: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    };
    format!("{} with {}", noun(tables as u64, "table"), noun(rows, "row"))
}

/// Names the tables that are gone and were not renamed.
fn lost_tables(before: &Facts, now: &Facts, old: &Tables<'_>, new: &Tables<'_>) -> Vec<String> {
    let mut fresh: Vec<(&str, Option<u64>)> =
        new.iter().filter(|(name, _)| !old.contains_key(*name)).map(|(name, rows)| (*name, *rows)).collect();
    let mut reasons = Vec::new();
    for (name, rows) in old.iter().filter(|(name, rows)| !new.contains_key(*name) && **rows != Some(0)) {
        let same = fresh.iter().position(|(candidate, has)| {
            let kept = match (rows, has) {
                (Some(had), Some(has)) => *has >= had.div_ceil(2),
                _ => true,
            };
            let definition = definition(before, name);
            kept && definition.is_some() && definition == self::definition(now, candidate)
        });
        match (same, rows) {
            (Some(at), _) => drop(fresh.swap_remove(at)),
            (None, Some(rows)) => reasons.push(format!("table {name} is gone: it had {}", in_words(*rows))),
            (None, None) => reasons.push(format!("table {name} is gone")),
        }
    }
    reasons
}

fn in_words(rows: u64) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") }
}

/// Returns what a table is made of, without its name: from the first bracket, or what follows the name of a virtual
/// table, in one line.
fn definition(facts: &Facts, table: &str) -> Option<String> {
    let object = facts.schema.iter().find(|object| object.kind == "table" && object.name == table)?;
    let sql = object.sql.as_deref()?;
    let body = sql.split_once('(')?.1;
    Some(body.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn shrunk_tables(old: &Tables<'_>, new: &Tables<'_>) -> Vec<String> {
    let mut reasons = Vec::new();
    for (name, had) in old {
        if let (Some(had), Some(Some(has))) = (had, new.get(name))
            && lost_half(*had, *has, ROWS_MEANINGFUL)
        {
            reasons.push(match has {
                0 => format!("table {name} is empty: it had {had} rows"),
                has => format!("table {name} has {}, and had {had}", in_words(*has)),
            });
        }
    }
    reasons
}

/// Compares the sizes of what is in use.
fn shrunk_size(before: &Facts, now: &Facts, old: &Tables<'_>, new: &Tables<'_>) -> Option<String> {
    let (had, has) = (used_bytes(before), used_bytes(now));
    let lost_rows = old.iter().any(|(name, had)| match (had, new.get(name)) {
        (Some(had), Some(Some(has))) => has < had,
        _ => true,
    });
    let limit = if lost_rows { had.div_ceil(2) } else { had.div_ceil(4) };
    let shrunk = had >= SIZE_MEANINGFUL_BYTES && has < limit;
    shrunk.then(|| format!("its content takes {has} bytes, and took {had}"))
}

/// Returns the bytes that hold something: free pages do not.
fn used_bytes(facts: &Facts) -> u64 {
    let number = |name: &str| facts.properties.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
    facts.size_bytes.saturating_sub(number("freelist_count").saturating_mul(number("page_bytes")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flow::{ConsistencyPoint, EngineKind, SchemaObject};
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn facts(tables: &[(&str, Option<u64>)], size_bytes: u64, free_pages: u64) -> Facts {
        let schema = |name: &str| SchemaObject {
            kind: "table".to_owned(),
            name: name.to_owned(),
            sql: Some(match name {
                "search" => "CREATE VIRTUAL TABLE search USING fts5(text)".to_owned(),
                _ => format!("CREATE TABLE \"{name}\" (id INTEGER, {} TEXT)", &name[..1]),
            }),
        };
        let table = |name: &str, rows| TableFacts { name: name.to_owned(), rows, digest: None };
        Facts {
            engine: EngineKind::Sqlite,
            engine_version: "3".to_owned(),
            form: "image".to_owned(),
            selection: None,
            consistency: ConsistencyPoint { time: Timestamp::UNIX_EPOCH, position: BTreeMap::new() },
            size_bytes,
            tables: tables
                .iter()
                .filter(|(name, _)| *name != "search")
                .map(|(name, rows)| table(name, *rows))
                .collect(),
            schema: tables.iter().map(|(name, _)| schema(name)).collect(),
            properties: BTreeMap::from([
                ("freelist_count".to_owned(), free_pages.into()),
                ("page_bytes".to_owned(), 4096.into()),
            ]),
            tools: BTreeMap::new(),
        }
    }

    fn rows(tables: &[(&str, u64)]) -> Facts {
        let tables: Vec<_> = tables.iter().map(|(name, rows)| (*name, Some(*rows))).collect();
        facts(&tables, 10 << 20, 0)
    }

    #[track_caller]
    fn assert_reasons(before: &Facts, now: &Facts, expected: &[&str]) {
        assert_eq!(reasons(before, now), expected);
    }

    #[test]
    fn what_became_empty_is_suspect_however_small_it_was() {
        let before = rows(&[("orders", 7), ("people", 1)]);
        assert_reasons(
            &before,
            &rows(&[("orders", 0), ("people", 0)]),
            &["it is empty: it had 2 tables with 8 rows"],
        );
        assert_reasons(&before, &rows(&[]), &["it has no table any more: it had 2 tables with 8 rows"]);
        assert_reasons(&rows(&[("orders", 0)]), &rows(&[("orders", 0)]), &[]);
    }

    #[test]
    fn a_table_that_is_gone_is_named_and_a_renamed_one_is_not() {
        let before = rows(&[("orders", 50), ("people", 9)]);
        assert_reasons(&before, &rows(&[("people", 9)]), &["table orders is gone: it had 50 rows"]);
        assert_reasons(&before, &rows(&[("orders_old", 50), ("people", 9)]), &[]);
        let shrunk = rows(&[("orders_old", 24), ("people", 9)]);
        assert_reasons(&before, &shrunk, &["table orders is gone: it had 50 rows"]);
        let another = rows(&[("invoices", 50), ("people", 9)]);
        assert_reasons(&before, &another, &["table orders is gone: it had 50 rows"]);
        let was_empty = rows(&[("orders", 0), ("people", 9)]);
        assert_reasons(&was_empty, &rows(&[("people", 9)]), &[]);
        let uncounted = facts(&[("orders", None), ("people", Some(9))], 1 << 20, 0);
        assert_reasons(&uncounted, &rows(&[("people", 9)]), &["table orders is gone"]);
    }

    #[test]
    fn more_than_half_of_the_rows_counts_from_a_hundred_on() {
        let before = rows(&[("orders", 200), ("sessions", 10)]);
        assert_reasons(&before, &rows(&[("orders", 105), ("sessions", 0)]), &[]);
        assert_reasons(
            &before,
            &rows(&[("orders", 99), ("sessions", 10)]),
            &["table orders has 99 rows, and had 200"],
        );
        assert_reasons(
            &before,
            &rows(&[("orders", 0), ("sessions", 10)]),
            &["table orders is empty: it had 200 rows", "all tables together have 10 rows, and had 210"],
        );
        let many: Vec<(String, u64)> = (0..5).map(|table| (format!("t{table}"), 90)).collect();
        let of = |rows_of: fn(u64) -> u64| {
            let tables: Vec<(&str, u64)> =
                many.iter().map(|(name, rows)| (name.as_str(), rows_of(*rows))).collect();
            rows(&tables)
        };
        let halved = of(|rows| rows / 3);
        assert_reasons(&of(|rows| rows), &halved, &["all tables together have 150 rows, and had 450"]);
    }

    #[test]
    fn what_nobody_counted_is_not_compared() {
        let before = facts(&[("orders", Some(500)), ("people", None)], 1 << 20, 0);
        let now = facts(&[("orders", None), ("people", Some(0))], 1 << 20, 0);
        assert_reasons(&before, &now, &[]);
        assert_reasons(&now, &before, &[]);
    }

    #[test]
    fn a_vacuum_is_plausible_and_content_gone_from_within_rows_is_not() {
        let tables = [("orders", Some(500))];
        let free = facts(&tables, 40 << 20, 9000);
        assert_reasons(&free, &facts(&tables, (40 << 20) - 9000 * 4096, 0), &[]);
        let full = facts(&tables, 40 << 20, 0);
        assert_reasons(&full, &facts(&tables, 11 << 20, 0), &[]);
        assert_reasons(
            &full,
            &facts(&tables, 9 << 20, 0),
            &["its content takes 9437184 bytes, and took 41943040"],
        );
        let fewer = [("orders", Some(400))];
        assert_eq!(reasons(&full, &facts(&fewer, 19 << 20, 0)).len(), 1);
        assert_reasons(&full, &facts(&fewer, 21 << 20, 0), &[]);
        assert_reasons(&facts(&tables, 900_000, 0), &facts(&tables, 90_000, 0), &[]);
    }

    #[test]
    fn the_bookkeeping_of_a_full_text_index_may_shrink_and_its_content_may_not() {
        let index = |data, content| {
            facts(
                &[("search", None), ("search_content", Some(content)), ("search_data", Some(data))],
                1 << 20,
                0,
            )
        };
        assert_reasons(&index(900, 300), &index(2, 300), &[]);
        assert_eq!(reasons(&index(900, 300), &index(900, 100)).len(), 2);
    }

    #[test]
    fn of_very_many_tables_the_first_are_named() {
        let names: Vec<String> = (0..40).map(|table| format!("table{table:02}")).collect();
        let all: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1000)).collect();
        let found = reasons(&rows(&all), &rows(&all[..30]));
        assert_eq!(found.len(), 10, "{found:?}");
        let found = reasons(&rows(&all), &rows(&all[..5]));
        assert_eq!(found[10], "25 more tables are gone, or lost more than half of their rows");
        assert_eq!(found.len(), 12, "{found:?}");
    }

    fn any_tables() -> impl Strategy<Value = Vec<(String, u64)>> {
        let table = ("[a-z]{3,8}", 0_u64..5000);
        proptest::collection::btree_map(table.0, table.1, 1..8).prop_map(|all| all.into_iter().collect())
    }

    fn of(tables: &[(String, u64)]) -> Facts {
        let tables: Vec<(&str, u64)> = tables.iter().map(|(name, rows)| (name.as_str(), *rows)).collect();
        rows(&tables)
    }

    proptest! {
        #[test]
        fn what_stays_or_grows_is_plausible(before in any_tables(), more in any_tables()) {
            prop_assert_eq!(reasons(&of(&before), &of(&before)), Vec::<String>::new());
            let mut grown: BTreeMap<String, u64> = before.iter().cloned().collect();
            for (name, rows) in more {
                *grown.entry(name).or_insert(0) += rows;
            }
            let grown: Vec<_> = grown.into_iter().collect();
            prop_assert_eq!(reasons(&of(&before), &of(&grown)), Vec::<String>::new());
        }

        #[test]
        fn what_lost_everything_is_suspect(before in any_tables()) {
            let emptied: Vec<_> = before.iter().map(|(name, _)| (name.clone(), 0)).collect();
            let had_rows = before.iter().any(|(_, rows)| *rows > 0);
            prop_assert_eq!(!reasons(&of(&before), &of(&emptied)).is_empty(), had_rows);
            prop_assert!(!reasons(&of(&before), &of(&[])).is_empty());
        }

        #[test]
        fn who_loses_more_is_no_less_suspect(before in any_tables(), kept in 0_u64..100, fewer in 0_u64..100) {
            let keep = |percent: u64| -> Vec<_> {
                before.iter().map(|(name, rows)| (name.clone(), rows * percent / 100)).collect()
            };
            let (more, less) = (keep(kept.max(fewer)), keep(kept.min(fewer)));
            if !reasons(&of(&before), &of(&more)).is_empty() {
                prop_assert!(!reasons(&of(&before), &of(&less)).is_empty());
            }
        }
    }
}
