//! Indexes and keys of a large table, made as soon as its rows are there, by whoever loaded the last of them, while others
//! are still loaded: so no core waits for the last table.
//!
//! They are made by `pg_restore`, as all else that follows the rows: it is given a table of contents with nothing else in
//! it. In the one of what is left their places stay, with nothing to be done: what is said of an index is known to follow
//! the rows by standing behind it. A crash leaves a database that is made anew.

use super::archive::rows_file;
use super::programs::Programs;
use super::tables::Filled;
use crate::postgres::archive::{Entry, Section, TableOfContents};
use flow::{Cancel, SourceError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Of smaller tables all together are made at the end: a program for each would cost more than it saves.
const SIZE_MIN_BYTES: u64 = 8 << 20;
/// What follows the rows and needs nothing but one table.
const KINDS: [&str; 2] = ["INDEX", "CONSTRAINT"];
/// What a program has to know of the archive before it runs anything.
const SETTINGS: [&str; 3] = ["ENCODING", "STDSTRINGS", "SEARCHPATH"];
const NOTHING: &[u8] = b"-- made as soon as the rows were there\n";

/// What can be made early, and what was.
pub(super) struct Early<'a> {
    toc: &'a TableOfContents,
    programs: &'a Programs<'a>,
    /// The numbers of the entries that are to be made for each table.
    wanted: Vec<Vec<i32>>,
    /// How many parts of each table are not loaded yet.
    left: Vec<AtomicUsize>,
    made: Mutex<BTreeSet<i32>>,
}

impl<'a> Early<'a> {
    /// Looks for what can be made early.
    pub(super) fn new(toc: &'a TableOfContents, tables: &[Filled], programs: &'a Programs<'a>) -> Self {
        let mut of_table = of_tables(toc);
        let wanted = tables.iter().map(|filled| match filled.size_bytes() {
            SIZE_MIN_BYTES.. => of_table.remove(filled.entry.as_str()).unwrap_or_default(),
            _ => Vec::new(),
        });
        Self {
            toc,
            programs,
            wanted: wanted.collect(),
            left: tables.iter().map(|_| AtomicUsize::new(0)).collect(),
            made: Mutex::default(),
        }
    }

    /// Notes that a part of a table is going to be loaded.
    pub(super) fn expect(&self, table: usize) {
        if let Some(left) = self.left.get(table) {
            left.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that a part of a table was loaded. After the last of them makes what the table needs.
    pub(super) fn loaded(&self, table: usize, cancel: &Cancel) -> Result<(), SourceError> {
        let is_last = self.left.get(table).is_some_and(|left| left.fetch_sub(1, Ordering::AcqRel) == 1);
        let Some(wanted) = self.wanted.get(table).filter(|wanted| is_last && !wanted.is_empty()) else {
            return Ok(());
        };
        let is_needed =
            |entry: &&Entry| wanted.contains(&entry.dump_id) || SETTINGS.iter().any(|kind| entry.is(kind));
        let entries = self.toc.entries.iter().filter(is_needed).cloned().collect();
        let toc = TableOfContents { header: self.toc.header.clone(), entries };
        match self.programs.try_run(&toc, &["--section=post-data".to_owned()], cancel)? {
            Ok(()) => {}
            // It is one connection more than loading takes: where the server gives none, there is time later.
            Err(ended) if ended.has_not_connected() => return Ok(()),
            Err(ended) => return Err(ended.into_error()),
        }
        self.made.lock().unwrap_or_else(PoisonError::into_inner).extend(wanted);
        Ok(())
    }

    /// Returns what is left to be done after the rows; nothing where that is all.
    pub(super) fn rest(self) -> Option<TableOfContents> {
        let made = self.made.into_inner().unwrap_or_else(PoisonError::into_inner);
        if made.is_empty() {
            return None;
        }
        let entries = self.toc.entries.iter().map(|entry| {
            let mut entry = entry.clone();
            if made.contains(&entry.dump_id) {
                entry.definition = Some(NOTHING.to_vec());
            }
            entry
        });
        Some(TableOfContents { header: self.toc.header.clone(), entries: entries.collect() })
    }
}

/// Returns the indexes and keys of each table whose rows are in a file, by the name of that file: those that stand on
/// nothing else that comes after the rows.
fn of_tables(toc: &TableOfContents) -> BTreeMap<String, Vec<i32>> {
    let tables: BTreeSet<i32> =
        toc.entries.iter().filter(|entry| entry.is("TABLE")).map(|entry| entry.dump_id).collect();
    let late: BTreeSet<i32> = toc
        .entries
        .iter()
        .filter(|entry| entry.section == Section::PostData)
        .map(|entry| entry.dump_id)
        .collect();
    let mut files: BTreeMap<i32, &str> = BTreeMap::new();
    for data in &toc.entries {
        let Some(file) = rows_file(data) else { continue };
        files.extend(needs(data).filter(|number| tables.contains(number)).map(|number| (number, file)));
    }
    let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for entry in toc.entries.iter().filter(|entry| KINDS.iter().any(|kind| entry.is(kind))) {
        let on: BTreeSet<i32> = needs(entry).filter(|number| tables.contains(number)).collect();
        let mut on = on.into_iter();
        // An expression may name the rows of other tables: it waits for all of them.
        let (Some(table), None) = (on.next(), on.next()) else { continue };
        if let Some(file) = files.get(&table).filter(|_| !needs(entry).any(|number| late.contains(&number))) {
            found.entry((*file).to_owned()).or_default().push(entry.dump_id);
        }
    }
    found
}

fn needs(entry: &Entry) -> impl Iterator<Item = i32> {
    entry.dependencies.iter().filter_map(|number| std::str::from_utf8(number).ok()?.parse().ok())
}
