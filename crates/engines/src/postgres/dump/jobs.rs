//! Which rows are read by one `COPY`: a whole table, or a fixed range of its blocks. The ranges depend on the table
//! alone, never on how many workers there are, so that what did not change is found again by the next backup.

use crate::postgres::catalog::Table;
use std::fmt::Write as _;

/// How many blocks a part has: 64 MiB of the usual size. So a large table keeps all workers busy to its end, and of a
/// database that is just one table there is something for each of them.
pub(in crate::postgres) const PART_BLOCKS: u64 = 8192;
/// The oldest server that finds a range of blocks without reading the whole table.
const RANGES_SINCE_MAJOR: u32 = 14;

/// One `COPY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::postgres) struct Job {
    /// Which of the tables.
    pub(in crate::postgres) table: usize,
    /// Its place among the parts of that table.
    pub(in crate::postgres) index: u32,
    /// Whether it is the last of them.
    pub(in crate::postgres) last: bool,
    /// How many blocks it reads, by which large ones come first.
    pub(in crate::postgres) blocks: u64,
    /// The statement, without the encoding.
    sql: String,
}

impl Job {
    /// Returns the statement. `encoding` is the database's own.
    pub(in crate::postgres) fn sql(&self, encoding: &str) -> String {
        format!("{} TO STDOUT (ENCODING '{}')", self.sql, encoding.replace('\'', "''"))
    }
}

/// Returns the jobs for all tables, the largest first, with the number of parts of each table.
pub(in crate::postgres) fn jobs(tables: &[Table], server_major: u32) -> (Vec<Job>, Vec<u32>) {
    let (mut jobs, mut counts) = (Vec::new(), Vec::new());
    for (number, table) in tables.iter().enumerate() {
        let condition = table.extension.as_ref().map_or("", |(_, condition)| condition.as_str());
        let in_ranges = server_major >= RANGES_SINCE_MAJOR && table.is_heap && condition.is_empty();
        let count = if in_ranges { table.blocks.div_ceil(PART_BLOCKS).max(1) } else { 1 };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        counts.push(count);
        for index in 0..count {
            let last = index + 1 == count;
            let sql = match (count, condition) {
                (1, "") => format!("COPY {} {}", table.quoted, table.columns),
                (1, condition) => {
                    format!("COPY (SELECT {} FROM ONLY {} {condition})", bare(table), table.quoted)
                }
                _ => range(table, u64::from(index), last),
            };
            let left = table.blocks.saturating_sub(u64::from(index) * PART_BLOCKS);
            let blocks = if count == 1 { table.blocks } else { left.min(PART_BLOCKS) };
            jobs.push(Job { table: number, index, last, blocks, sql });
        }
    }
    jobs.sort_by_key(|job| std::cmp::Reverse(job.blocks));
    (jobs, counts)
}

fn bare(table: &Table) -> &str {
    let inside = table.columns.strip_prefix('(').and_then(|columns| columns.strip_suffix(')'));
    inside.unwrap_or("")
}

fn range(table: &Table, index: u64, last: bool) -> String {
    let first = index * PART_BLOCKS;
    let mut sql =
        format!("COPY (SELECT {} FROM ONLY {} WHERE ctid >= '({first},0)'", bare(table), table.quoted);
    if !last {
        // Writing to a string cannot fail.
        let _ = write!(sql, " AND ctid < '({},0)'", first + PART_BLOCKS);
    }
    sql.push(')');
    sql
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::postgres::catalog::Names;

    fn table(blocks: u64) -> Table {
        let names = Names {
            schema: vec![],
            relation: vec![],
            owner: vec![],
            quoted: vec![],
            literal: vec![],
            columns: vec![],
        };
        Table {
            oid: 1,
            kind: 'r',
            shown: "s.t".to_owned(),
            quoted: "\"s\".\"t\"".to_owned(),
            columns: "(\"a)\", \"(b\")".to_owned(),
            blocks,
            is_heap: true,
            unlogged: false,
            same_file: true,
            extension: None,
            after: std::collections::BTreeSet::new(),
            loaded_via: None,
            names,
        }
    }

    #[test]
    fn ranges_cover_every_block_once() {
        let (jobs, counts) = jobs(&[table(0), table(PART_BLOCKS), table(2 * PART_BLOCKS + 1)], 15);
        assert_eq!(counts, [1, 1, 3]);
        let parts: Vec<&str> = jobs.iter().filter(|job| job.table == 2).map(|job| job.sql.as_str()).collect();
        assert_eq!(
            parts,
            [
                r#"COPY (SELECT "a)", "(b" FROM ONLY "s"."t" WHERE ctid >= '(0,0)' AND ctid < '(8192,0)')"#,
                r#"COPY (SELECT "a)", "(b" FROM ONLY "s"."t" WHERE ctid >= '(8192,0)' AND ctid < '(16384,0)')"#,
                r#"COPY (SELECT "a)", "(b" FROM ONLY "s"."t" WHERE ctid >= '(16384,0)')"#,
            ]
        );
        assert_eq!(
            jobs.last().unwrap().sql("UTF8"),
            r#"COPY "s"."t" ("a)", "(b") TO STDOUT (ENCODING 'UTF8')"#
        );
        assert_eq!(jobs[0].blocks, PART_BLOCKS);
    }

    #[test]
    fn old_servers_and_conditions_read_a_table_at_once() {
        assert_eq!(jobs(&[table(9 * PART_BLOCKS)], 13).1, [1]);
        let conditional = Table { extension: Some((1, "WHERE a > 1".to_owned())), ..table(9 * PART_BLOCKS) };
        let (jobs, counts) = jobs(&[conditional], 15);
        assert_eq!(counts, [1]);
        assert_eq!(jobs[0].sql, r#"COPY (SELECT "a)", "(b" FROM ONLY "s"."t" WHERE a > 1)"#);
    }
}
