//! Indexes, keys, statistics and foreign keys of a large table, made as soon as its rows are there, by whoever has nothing to load or has
//! just loaded the last of them, while others are still loaded: so no core waits for the last table.
//!
//! Keys come first, one program for all of a table's, since they let nobody else at it; then each index by itself, so that
//! those of one table are made side by side; then the planner's statistics, which an index on an expression takes part in;
//! last what points from one of these tables to another.
//!
//! They are made by `pg_restore`, as all else that follows the rows: it is given a table of contents with nothing else in
//! it. In the one of what is left their places stay, with nothing to be done: what is said of an index is known to follow
//! the rows by standing behind it. A crash leaves a database that is made anew.

use super::archive::rows_file;
use super::programs::Programs;
use super::tables::Filled;
use crate::postgres::archive::{Entry, Section, TableOfContents};
use crate::postgres::session::Session;
use flow::{Cancel, SourceError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Of smaller tables all together are made at the end: a program for each would cost more than it saves.
const SIZE_MIN_BYTES: u64 = 8 << 20;
/// What follows the rows and needs nothing but one table.
const KINDS: [&str; 2] = ["INDEX", "CONSTRAINT"];
/// What a program has to know of the archive before it runs anything.
const SETTINGS: [&str; 3] = ["ENCODING", "STDSTRINGS", "SEARCHPATH"];
const NOTHING: &[u8] = b"-- made as soon as the rows were there\n";

/// How long somebody who has nothing to do waits before looking whether the restore goes on at all.
const WAIT: Duration = Duration::from_millis(100);

/// What can be made early, and what was.
pub(super) struct Early<'a> {
    toc: &'a TableOfContents,
    programs: &'a Programs<'a>,
    tables: &'a [Filled],
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What is to be made for each table.
    wanted: Vec<Wanted>,
    /// How many parts of each table are not loaded yet.
    left: Vec<usize>,
    /// How many parts of all tables are not loaded yet.
    parts: usize,
    waiting: VecDeque<Task>,
    /// How many tasks are under way.
    running: usize,
    pointers: Vec<Pointer>,
    made: BTreeSet<i32>,
    analysed: BTreeSet<u32>,
}

/// The entries of a table that can be made early.
#[derive(Default)]
struct Wanted {
    keys: Vec<i32>,
    indexes: Vec<i32>,
    /// Whether there is more to be made of it before statistics are gathered: those of several columns, other indexes.
    has_more: bool,
    /// How many tasks are not done yet.
    open: usize,
    /// Whether one of them was left for later.
    is_short: bool,
    /// Whether all of it is done, and nobody works on the table.
    is_idle: bool,
}

/// A foreign key.
struct Pointer {
    entry: i32,
    /// The tables that it stands on, of which it lets nobody change one.
    tables: Vec<usize>,
    /// What else it stands on that comes after the rows.
    keys: Vec<i32>,
    is_begun: bool,
}

/// Something that is made by one program or session.
enum Task {
    Keys(usize),
    Index(usize, i32),
    Statistics(usize),
    /// A foreign key, by its place among them.
    Pointer(usize),
}

/// What was made early.
pub(super) struct Made {
    /// What is left to be done after the rows; nothing where that is all.
    pub(super) rest: Option<TableOfContents>,
    /// The tables that have their statistics.
    pub(super) analysed: BTreeSet<u32>,
}

impl<'a> Early<'a> {
    /// Looks for what can be made early.
    pub(super) fn new(toc: &'a TableOfContents, tables: &'a [Filled], programs: &'a Programs<'a>) -> Self {
        let files: Vec<&str> = tables.iter().map(|filled| filled.entry.as_str()).collect();
        let (mut wanted, pointers) = by_table(toc, &files);
        let is_large = |table: &usize| tables.get(*table).is_some_and(|of| of.size_bytes() >= SIZE_MIN_BYTES);
        let pointers: Vec<Pointer> =
            pointers.into_iter().filter(|pointer| pointer.tables.iter().any(is_large)).collect();
        for (number, wanted) in wanted.iter_mut().enumerate().filter(|(number, _)| !is_large(number)) {
            let is_pointed_to = pointers.iter().any(|pointer| pointer.tables.contains(&number));
            // What a large table points to has its keys early too, and nothing else.
            let keys = if is_pointed_to { std::mem::take(&mut wanted.keys) } else { Vec::new() };
            *wanted = Wanted { keys, has_more: true, ..Wanted::default() };
        }
        let left = vec![0; tables.len()];
        let state = State { wanted, left, pointers, ..State::default() };
        Self { toc, programs, tables, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a part is going to be loaded, of a table that gets its rows from nowhere else where one is named.
    pub(super) fn expect(&self, table: Option<usize>) {
        let mut state = self.state();
        state.parts += 1;
        if let Some(left) = table.and_then(|table| state.left.get_mut(table)) {
            *left += 1;
        }
    }

    /// Notes that a part was loaded. After the last of a table there is something to be made.
    pub(super) fn loaded(&self, table: Option<usize>) {
        let mut state = self.state();
        state.parts = state.parts.saturating_sub(1);
        if let Some(table) = table
            && let Some(left) = state.left.get_mut(table)
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.begin(table);
                state.point();
            }
        }
        self.changed.notify_all();
    }

    /// Makes one thing, if there is one to be made now; tells whether there was.
    pub(super) fn make_one(&self, session: &mut Session) -> Result<bool, SourceError> {
        let Some(task) = self.state().next() else { return Ok(false) };
        let made = match &task {
            Task::Keys(table) => {
                let keys = self.state().wanted.get(*table).map(|wanted| wanted.keys.clone());
                self.run(&keys.unwrap_or_default(), session.cancel())
            }
            Task::Index(_, entry) => self.run(&[*entry], session.cancel()),
            Task::Statistics(table) => self.analyse(*table, session).map(|()| true),
            Task::Pointer(number) => {
                let entry = self.state().pointers.get(*number).map(|pointer| pointer.entry);
                self.run(&entry.into_iter().collect::<Vec<_>>(), session.cancel())
            }
        };
        let mut state = self.state();
        state.running -= 1;
        state.done(&task, matches!(made, Ok(true)));
        self.changed.notify_all();
        made.map(|_| true)
    }

    /// Waits for a moment, unless all is loaded and nothing is being made any more; tells whether to go on.
    pub(super) fn wait(&self, cancel: &Cancel) -> bool {
        let state = self.state();
        if cancel.is_cancelled() || (state.parts == 0 && state.running == 0 && state.waiting.is_empty()) {
            return false;
        }
        if state.waiting.is_empty() {
            drop(self.changed.wait_timeout(state, WAIT).unwrap_or_else(PoisonError::into_inner));
        }
        true
    }

    /// Makes entries of the archive. Tells whether they were made: it takes one connection more than loading, and where
    /// the server gives none, there is time later.
    fn run(&self, wanted: &[i32], cancel: &Cancel) -> Result<bool, SourceError> {
        let is_needed =
            |entry: &&Entry| wanted.contains(&entry.dump_id) || SETTINGS.iter().any(|kind| entry.is(kind));
        let entries = self.toc.entries.iter().filter(is_needed).cloned().collect();
        let toc = TableOfContents { header: self.toc.header.clone(), entries };
        match self.programs.try_run(&toc, &["--section=post-data".to_owned()], cancel)? {
            Ok(()) => {}
            Err(ended) if ended.has_not_connected() => return Ok(false),
            Err(ended) => return Err(ended.into_error()),
        }
        self.state().made.extend(wanted);
        Ok(true)
    }

    /// Gathers the statistics of a table. Where that fails it is tried again with those of all tables, which says why.
    fn analyse(&self, table: usize, session: &mut Session) -> Result<(), SourceError> {
        let Some(filled) = self.tables.get(table) else { return Ok(()) };
        if session.try_execute(&format!("ANALYZE {}", filled.table.quoted))?.is_ok() {
            self.state().analysed.insert(filled.table.oid);
        }
        Ok(())
    }

    /// Returns what was made.
    pub(super) fn made(self) -> Made {
        let State { made, analysed, .. } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if made.is_empty() {
            return Made { rest: None, analysed };
        }
        let entries = self.toc.entries.iter().map(|entry| {
            let mut entry = entry.clone();
            if made.contains(&entry.dump_id) {
                entry.definition = Some(NOTHING.to_vec());
            }
            entry
        });
        let rest = TableOfContents { header: self.toc.header.clone(), entries: entries.collect() };
        Made { rest: Some(rest), analysed }
    }
}

impl State {
    fn next(&mut self) -> Option<Task> {
        let task = self.waiting.pop_front()?;
        self.running += 1;
        Some(task)
    }

    /// Begins with a table whose rows are there.
    fn begin(&mut self, table: usize) {
        let Some(wanted) = self.wanted.get_mut(table) else { return };
        if wanted.keys.is_empty() {
            self.go_on(table);
        } else {
            wanted.open = 1;
            self.waiting.push_back(Task::Keys(table));
        }
    }

    /// What follows the keys of a table: its indexes, and behind the last of them its statistics.
    fn go_on(&mut self, table: usize) {
        let Some(wanted) = self.wanted.get_mut(table) else { return };
        wanted.open = wanted.indexes.len();
        self.waiting.extend(wanted.indexes.iter().map(|entry| Task::Index(table, *entry)));
        if wanted.open == 0 {
            self.conclude(table);
        }
    }

    fn conclude(&mut self, table: usize) {
        let Some(wanted) = self.wanted.get_mut(table) else { return };
        if wanted.has_more || wanted.is_short {
            wanted.is_idle = true;
        } else {
            self.waiting.push_back(Task::Statistics(table));
        }
    }

    fn done(&mut self, task: &Task, is_made: bool) {
        match task {
            Task::Keys(table) | Task::Index(table, _) => {
                let Some(wanted) = self.wanted.get_mut(*table) else { return };
                wanted.open = wanted.open.saturating_sub(1);
                wanted.is_short |= !is_made;
                match (task, wanted.open) {
                    (Task::Keys(_), _) => self.go_on(*table),
                    (_, 0) => self.conclude(*table),
                    _ => {}
                }
            }
            Task::Statistics(table) => self.set_idle(&[*table], true),
            Task::Pointer(number) => {
                let tables = self.pointers.get(*number).map(|pointer| pointer.tables.clone());
                self.set_idle(&tables.unwrap_or_default(), true);
            }
        }
        self.point();
    }

    fn set_idle(&mut self, tables: &[usize], is_idle: bool) {
        for table in tables {
            if let Some(wanted) = self.wanted.get_mut(*table) {
                wanted.is_idle = is_idle;
            }
        }
    }

    /// Begins with the foreign keys between tables that are done.
    fn point(&mut self) {
        for number in 0..self.pointers.len() {
            let Some(pointer) = self.pointers.get_mut(number).filter(|pointer| !pointer.is_begun) else {
                continue;
            };
            let is_idle = |table: &usize| self.wanted.get(*table).is_some_and(|wanted| wanted.is_idle);
            if pointer.tables.iter().all(is_idle) && pointer.keys.iter().all(|key| self.made.contains(key)) {
                pointer.is_begun = true;
                let tables = pointer.tables.clone();
                self.waiting.push_back(Task::Pointer(number));
                self.set_idle(&tables, false);
            }
        }
    }
}

/// Returns what can be made early of each table, named by the files of their rows: indexes and keys that stand on nothing
/// else that comes after the rows; and the foreign keys between them.
fn by_table(toc: &TableOfContents, files: &[&str]) -> (Vec<Wanted>, Vec<Pointer>) {
    let of_kind = |kind: &'static str| toc.entries.iter().filter(move |entry| entry.is(kind));
    let tables: BTreeSet<i32> = of_kind("TABLE").map(|entry| entry.dump_id).collect();
    let late = toc.entries.iter().filter(|entry| entry.section == Section::PostData);
    let late: BTreeSet<i32> = late.map(|entry| entry.dump_id).collect();
    let by_file: BTreeMap<&str, usize> =
        files.iter().enumerate().map(|(number, file)| (*file, number)).collect();
    let mut numbers: BTreeMap<i32, usize> = BTreeMap::new();
    for data in &toc.entries {
        let Some(number) = rows_file(data).and_then(|file| by_file.get(file)) else { continue };
        numbers.extend(needs(data).filter(|table| tables.contains(table)).map(|table| (table, *number)));
    }
    let mut wanted: Vec<Wanted> = files.iter().map(|_| Wanted::default()).collect();
    for entry in toc.entries.iter().filter(|entry| KINDS.iter().any(|kind| entry.is(kind))) {
        let on: BTreeSet<i32> = needs(entry).filter(|number| tables.contains(number)).collect();
        let mut on = on.iter();
        // An expression may name the rows of other tables: it waits for all of them.
        let (Some(number), None) = (on.next().and_then(|table| numbers.get(table)), on.next()) else {
            continue;
        };
        let Some(wanted) = wanted.get_mut(*number) else { continue };
        match (needs(entry).any(|number| late.contains(&number)), entry.is("INDEX")) {
            (false, true) => wanted.indexes.push(entry.dump_id),
            (false, false) => wanted.keys.push(entry.dump_id),
            (true, _) => wanted.has_more = true,
        }
    }
    for number in of_kind("STATISTICS").flat_map(needs).filter_map(|table| numbers.get(&table)) {
        wanted.get_mut(*number).into_iter().for_each(|wanted| wanted.has_more = true);
    }
    (wanted, of_kind("FK CONSTRAINT").filter_map(|entry| pointer(entry, &tables, &late, &numbers)).collect())
}

/// Returns a foreign key, where all tables that it names are loaded by themselves.
fn pointer(
    entry: &Entry,
    tables: &BTreeSet<i32>,
    late: &BTreeSet<i32>,
    numbers: &BTreeMap<i32, usize>,
) -> Option<Pointer> {
    let on = needs(entry).filter(|number| tables.contains(number));
    let on: Option<BTreeSet<usize>> = on.map(|table| numbers.get(&table).copied()).collect();
    let keys: Vec<i32> = needs(entry).filter(|number| late.contains(number)).collect();
    // Without a key in the list nothing says which table it points to.
    (!keys.is_empty()).then_some(())?;
    Some(Pointer { entry: entry.dump_id, tables: on?.into_iter().collect(), keys, is_begun: false })
}

fn needs(entry: &Entry) -> impl Iterator<Item = i32> {
    entry.dependencies.iter().filter_map(|number| std::str::from_utf8(number).ok()?.parse().ok())
}
