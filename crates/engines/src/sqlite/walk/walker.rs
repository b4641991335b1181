//! Looks at one page after another: its form, the order of what it holds, and what its rows say the indexes hold.
//!
//! Each thread has a walker of its own. What pages say together is collected in a [`Tally`], in whatever order they
//! come; only the neighbours of a page in its tree are needed, and those are in the pages above it.

use super::Odd;
use super::page::{Cell, Coverage, Page, Shape};
use super::plan::{Content, Entries, Plan, Rows, Tree};
use super::record::{Collation, Field, REAL, TEXT, Value, fields, may_be_number, values};
use super::runs::Runs;
use foldhash::quality::FixedState;
use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

/// The entries of one index, or what they must be: how many, and the sum of their hashes, in whatever order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    count: u64,
    hashes: u128,
}

impl Sum {
    fn add(&mut self, hash: u64) {
        self.count += 1;
        self.hashes = self.hashes.wrapping_add(u128::from(hash));
    }

    fn join(&mut self, other: Self) {
        self.count += other.count;
        self.hashes = self.hashes.wrapping_add(other.hashes);
    }
}

/// What is known of one tree.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// What the rows say of each index; of an index, what its own entries are.
    pub(super) sums: Vec<Sum>,
    /// Whether its content is for SQLite to judge.
    pub(super) doubt: bool,
    /// Of a table that is referred to: its rows. Of an index that refers: what to.
    pub(super) runs: Runs,
}

impl Found {
    /// Takes in what was found on other pages of the tree.
    pub(super) fn join(&mut self, other: Self) {
        self.doubt |= other.doubt;
        self.runs.join(other.runs);
        if self.sums.is_empty() {
            self.sums = other.sums;
        } else {
            self.sums.iter_mut().zip(other.sums).for_each(|(sum, other)| sum.join(other));
        }
    }
}

/// A record that goes on in overflow pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    pub(super) first: u32,
    pub(super) pages: u32,
    /// The page that refers to it.
    pub(super) owner: u32,
}

/// What some pages came to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) trees: Vec<(u16, Found)>,
    pub(super) chains: Vec<Chain>,
}

impl Tally {
    fn of(&mut self, tree: u16) -> &mut Found {
        let at = match self.trees.iter().position(|(known, _)| *known == tree) {
            Some(at) => at,
            None => {
                self.trees.push((tree, Found::default()));
                self.trees.len() - 1
            }
        };
        &mut self.trees[at].1
    }
}

/// A cell in a page above.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) page: u32,
    pub(super) bytes: Arc<[u8]>,
    pub(super) cell: usize,
}

impl Bound {
    fn cell(&self, shape: &Shape) -> Result<Cell<'_>, Odd> {
        Page::parse(self.page, &self.bytes)?.cell(self.cell, shape)
    }
}

/// One page that is to be walked, and what stands before and behind it in its tree.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) page: u32,
    pub(super) tree: u16,
    pub(super) lower: Option<Bound>,
    pub(super) upper: Option<Bound>,
}

/// Walks pages, and keeps what it needs again.
pub(super) struct Walker<'a> {
    shape: Shape,
    plan: &'a Plan,
    hashing: FixedState,
    coverage: Coverage,
    fields: Vec<Field>,
    pub(super) tally: Tally,
}

impl<'a> Walker<'a> {
    pub(super) fn new(shape: Shape, plan: &'a Plan, seed: u64) -> Self {
        Self {
            shape,
            plan,
            hashing: FixedState::with_seed(seed),
            coverage: Coverage::default(),
            fields: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Walks one page.
    pub(super) fn page(&mut self, task: &Task, bytes: &[u8]) -> Result<(), Odd> {
        let page = Page::parse(task.page, bytes)?;
        let tree = &self.plan.trees[usize::from(task.tree)];
        if page.is_index != tree.is_index {
            return Err(Odd("a table has a page of an index, or an index one of a table"));
        }
        self.coverage.begin(&self.shape);
        let mut found = std::mem::take(self.tally.of(task.tree));
        let walked = match (&tree.content, tree.is_index) {
            (Content::Entries(entries), true) => self.entries(task, &page, tree, entries, &mut found),
            (Content::Rows(rows), false) => self.rows(task, &page, tree, Some(rows), &mut found),
            (_, false) => self.rows(task, &page, tree, None, &mut found),
            (_, true) => self.form(task, &page),
        };
        *self.tally.of(task.tree) = found;
        walked?;
        self.coverage.finish(&page)
    }

    fn cell<'p>(&mut self, task: &Task, page: &Page<'p>, number: usize) -> Result<Cell<'p>, Odd> {
        let cell = page.cell(number, &self.shape)?;
        self.coverage.cell(&cell)?;
        if cell.local.len() < cell.payload {
            let room = self.shape.page_bytes - 4;
            let pages = (cell.payload - cell.local.len()).div_ceil(room) as u32;
            self.tally.chains.push(Chain { first: cell.overflow, pages, owner: task.page });
        }
        Ok(cell)
    }

    fn form(&mut self, task: &Task, page: &Page<'_>) -> Result<(), Odd> {
        (0..page.cells).try_for_each(|number| self.cell(task, page, number).map(drop))
    }

    fn rows(
        &mut self,
        task: &Task,
        page: &Page<'_>,
        tree: &Tree,
        rows: Option<&Rows>,
        found: &mut Found,
    ) -> Result<(), Odd> {
        const ORDER: Odd = Odd("row numbers are out of order");
        if let Some(rows) = rows
            && found.sums.is_empty()
        {
            found.sums = vec![Sum::default(); rows.indexes.len()];
        }
        let mut before =
            task.lower.as_ref().map(|bound| bound.cell(&self.shape)).transpose()?.map(|cell| cell.rowid);
        for number in 0..page.cells {
            let cell = self.cell(task, page, number)?;
            if before.is_some_and(|before| before >= cell.rowid) {
                return Err(ORDER);
            }
            before = Some(cell.rowid);
            if !page.leaf {
                continue;
            }
            if tree.refers {
                found.runs.add(cell.rowid);
            }
            if let Some(rows) = rows
                && !found.doubt
            {
                found.doubt = !self.row(rows, &cell, &mut found.sums)?;
            }
        }
        let last =
            task.upper.as_ref().map(|bound| bound.cell(&self.shape)).transpose()?.map(|cell| cell.rowid);
        if last.is_some_and(|last| before.is_some_and(|before| before > last)) { Err(ORDER) } else { Ok(()) }
    }

    /// Holds a row to its columns, and adds what it says of the indexes; `false` where SQLite has to be asked.
    fn row(&mut self, rows: &Rows, cell: &Cell<'_>, sums: &mut [Sum]) -> Result<bool, Odd> {
        if !fields(cell.local, cell.payload, &mut self.fields)? || self.fields.len() > rows.columns.len() {
            return Ok(false);
        }
        for (place, column) in rows.columns.iter().enumerate() {
            if rows.alias == Some(place) {
                continue;
            }
            let Some(field) = self.fields.get(place) else {
                if column.absent_is_null && column.classes & super::record::NULL != 0 {
                    continue;
                }
                return Ok(false);
            };
            let class = field.class();
            if column.classes & class == 0 {
                return Ok(false);
            }
            let looked_at = (class == TEXT && column.is_numeric)
                || (class == REAL && column.classes & super::record::NULL == 0);
            if looked_at {
                match field.value(cell.local) {
                    Some(Value::Text(text)) if !may_be_number(text) => {}
                    Some(Value::Integer(_) | Value::Real(_)) => {}
                    _ => return Ok(false),
                }
            }
        }
        for ((_, columns), sum) in rows.indexes.iter().zip(sums) {
            let mut hasher = self.hashing.build_hasher();
            for column in columns {
                let value = match self.fields.get(*column) {
                    _ if rows.alias == Some(*column) => Some(Value::Integer(cell.rowid)),
                    Some(field) => field.value(cell.local),
                    None => Some(Value::Null),
                };
                let Some(value) = value else { return Ok(false) };
                value.hash(&mut hasher);
            }
            Value::Integer(cell.rowid).hash(&mut hasher);
            sum.add(hasher.finish());
        }
        Ok(true)
    }

    fn entries(
        &mut self,
        task: &Task,
        page: &Page<'_>,
        tree: &Tree,
        plan: &Entries,
        found: &mut Found,
    ) -> Result<(), Odd> {
        if found.sums.is_empty() {
            found.sums = vec![Sum::default()];
        }
        let lower = task.lower.as_ref().map(|bound| bound.cell(&self.shape)).transpose()?;
        let (mut before, mut this) = (Vec::new(), Vec::new());
        let mut has_before = false;
        if let Some(cell) = &lower {
            found.doubt |= !entry(cell, plan, &mut before)?;
            has_before = true;
        }
        for number in 0..page.cells {
            let cell = self.cell(task, page, number)?;
            if found.doubt {
                continue;
            }
            if !entry(&cell, plan, &mut this)? || (has_before && !follows(&before, &this, plan)) {
                found.doubt = true;
                continue;
            }
            if tree.refers {
                match this.first() {
                    Some(Value::Integer(number)) => found.runs.add(*number),
                    Some(Value::Null) => {}
                    _ => found.runs.give_up(),
                }
            }
            let mut hasher = self.hashing.build_hasher();
            this.iter().for_each(|value| value.hash(&mut hasher));
            found.sums[0].add(hasher.finish());
            std::mem::swap(&mut before, &mut this);
            has_before = true;
        }
        let upper = task.upper.as_ref().map(|bound| bound.cell(&self.shape)).transpose()?;
        if let Some(cell) = &upper
            && !found.doubt
            && has_before
        {
            found.doubt |= !entry(cell, plan, &mut this)? || !follows(&before, &this, plan);
        }
        Ok(())
    }
}

/// Takes the record of an index entry apart; `false` where it is not all in the page, or no entry of this index.
fn entry<'a>(cell: &Cell<'a>, plan: &Entries, out: &mut Vec<Value<'a>>) -> Result<bool, Odd> {
    Ok(values(cell.local, cell.payload, out)? && out.len() == plan.keys.len() + 1)
}

/// Tells whether an entry may stand right behind another one.
fn follows(before: &[Value<'_>], this: &[Value<'_>], plan: &Entries) -> bool {
    let mut has_null = false;
    for (place, (left, right)) in before.iter().zip(this).enumerate() {
        let key = plan.keys.get(place);
        if key.is_none() && plan.unique && !has_null {
            return false;
        }
        has_null |= matches!(left, Value::Null);
        let order = left.compare(right, key.map_or(Collation::Binary, |key| key.collation));
        let order = if key.is_some_and(|key| key.descending) { order.reverse() } else { order };
        match order {
            Ordering::Less => return true,
            Ordering::Greater => return false,
            Ordering::Equal => {}
        }
    }
    false
}
