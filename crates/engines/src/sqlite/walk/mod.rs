//! Checking a database by its pages as they pass, in whatever order: no second reading, no SQL.
//!
//! Pages are shown twice: when they are written ([`PageWalk::see`]), to learn how the trees hang together, and when they
//! are read back ([`PageWalk::walk`]), to look at what they hold. At the end every page must be used exactly once, every
//! tree be in order, and every index hold what the rows of its table say. It finds nothing out about faults: what is odd,
//! or not understood, is for SQLite's own check to judge, so that nothing passes here that would not pass there.

mod finish;
mod page;
mod plan;
mod record;
mod runs;
mod schema_pages;
mod walker;

#[cfg(test)]
mod tests;

pub(super) use plan::{Plan, Reference, Verdict};
pub(super) use schema_pages::schema_pages;

use super::header::{Header, big_endian};
use page::{INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE, Page, Shape, header_of};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use walker::{Bound, Chain, Found, Tally, Task, Walker};

/// Databases with more pages are not walked: 64 MiB of memory.
const PAGES_MAX: u32 = 3 << 20;
/// So much of interior pages is kept at most.
const INTERIOR_BYTES_MAX: usize = 32 << 20;
/// So many records that go on in other pages are followed at most.
const CHAINS_MAX: usize = 2 << 20;
/// So many pages are read ahead at most.
const AHEAD_MAX: usize = 2000;
/// Between pages that have to be read again so many bytes are passed over rather than read.
const GAP_BYTES: u64 = 64 << 10;
/// No tree of SQLite is deeper.
const DEPTH_MAX: u8 = 20;

/// Something does not fit together. It says why for whoever debugs; what is wrong is told by SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Odd(&'static str);

/// What is known of a page.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// The page above it, or the one before it in a chain.
    parent: u32,
    /// The first four bytes, which name the next page of a chain.
    next: u32,
    tree: u16,
    /// Its place among the children of its parent.
    child: u16,
    /// The kind of b-tree page that it would be.
    kind: u8,
    depth: u8,
    use_of: Use,
    seen: bool,
    walked: bool,
}

/// What a page is used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Use {
    #[default]
    Unknown,
    Root,
    Child,
    ChainHead,
    ChainLink,
    Free,
}

/// What is known of all pages together.
struct State {
    slots: Vec<Slot>,
    interiors: HashMap<u32, Arc<[u8]>>,
    interior_bytes: usize,
    found: Vec<Found>,
    chains: Vec<Chain>,
    leaf_depth: Vec<Option<u8>>,
    odd: Option<Odd>,
}

/// A walk over all pages of a database, shared by the threads that show it pages.
pub(super) struct PageWalk {
    shape: Shape,
    plan: Plan,
    seed: u64,
    state: Mutex<State>,
}

/// Returns the shape of a database by its first page; `None` where it is an unusual one.
fn shape(first: &[u8], size_bytes: u64) -> Option<Shape> {
    let header = Header::parse(first)?;
    let pages = u32::try_from(size_bytes / u64::from(header.page_bytes)).ok()?;
    let versions = matches!(first[18..20], [1 | 2, 1 | 2]);
    let usual = first[20..24] == [0, 64, 32, 32] && versions && first.len() >= header.page_bytes as usize;
    let whole = header.page_count == Some(pages) && size_bytes.is_multiple_of(u64::from(header.page_bytes));
    let has_pointer_map = big_endian(first, 52) != 0;
    let map_is_meant = has_pointer_map || big_endian(first, 64) == 0;
    (usual && whole && map_is_meant && pages <= PAGES_MAX).then_some(Shape {
        page_bytes: header.page_bytes as usize,
        pages,
        has_pointer_map,
    })
}

impl PageWalk {
    /// Begins a walk; `None` where the database is one for SQLite alone. `first` is its first page.
    pub(super) fn begin(plan: Plan, first: &[u8], size_bytes: u64) -> Option<Self> {
        let shape = shape(first, size_bytes)?;
        let mut state = State {
            slots: vec![Slot::default(); shape.pages as usize],
            interiors: HashMap::new(),
            interior_bytes: 0,
            found: vec![Found::default(); plan.trees.len()],
            chains: Vec::new(),
            leaf_depth: vec![None; plan.trees.len()],
            odd: None,
        };
        for (number, tree) in plan.trees.iter().enumerate() {
            let root = Slot { tree: number as u16, use_of: Use::Root, ..Slot::default() };
            state.claim(&shape, tree.root, root).ok()?;
        }
        let seed = RandomState::new().hash_one(0);
        Some(Self { shape, plan, seed, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether nothing can come of it any more.
    #[cfg(test)]
    fn is_over(&self) -> bool {
        self.state().odd.is_some()
    }

    /// Returns the number of the first page; `None` where these are no whole pages.
    fn first_page(&self, offset: u64, bytes: &[u8]) -> Option<u32> {
        let size = self.shape.page_bytes as u64;
        let whole = offset.is_multiple_of(size) && (bytes.len() as u64).is_multiple_of(size);
        let first = u32::try_from(offset / size + 1).ok().filter(|_| whole)?;
        let count = (bytes.len() as u64 / size) as u32;
        (first.checked_add(count)? <= self.shape.pages + 1).then_some(first)
    }

    /// Looks at pages from an offset of the file on, to learn which refer to which.
    pub(super) fn see(&self, offset: u64, bytes: &[u8]) {
        let Some(first) = self.first_page(offset, bytes) else {
            return self.state().give_up(Odd("pages came in pieces"));
        };
        let pages = || (first..).zip(bytes.chunks_exact(self.shape.page_bytes));
        let is_interior =
            |page, bytes: &[u8]| matches!(bytes[header_of(page)], INTERIOR_INDEX | INTERIOR_TABLE);
        let interiors: Vec<(u32, Arc<[u8]>)> = pages()
            .filter(|(page, bytes)| is_interior(*page, bytes))
            .map(|(page, bytes)| (page, Arc::from(bytes)))
            .collect();
        let mut state = self.state();
        if state.odd.is_some() {
            return;
        }
        let mut known = Vec::new();
        for (page, bytes) in interiors {
            if state.slot(page).is_some_and(|slot| slot.seen) {
                // Shown ahead of the others: it is the same, or nothing is certain.
                if state.interiors.get(&page).is_none_or(|before| *before != bytes) {
                    return state.give_up(Odd("a page changed"));
                }
                continue;
            }
            state.interior_bytes += bytes.len();
            state.interiors.insert(page, bytes);
            if state.slot(page).is_some_and(|slot| matches!(slot.use_of, Use::Root | Use::Child)) {
                known.push(page);
            }
        }
        for (page, bytes) in pages() {
            if let Some(slot) = state.slots.get_mut(page as usize - 1) {
                slot.kind = bytes[header_of(page)];
                slot.next = big_endian(bytes, 0);
                slot.seen = true;
            }
        }
        if state.interior_bytes > INTERIOR_BYTES_MAX {
            return state.give_up(Odd("there are too many interior pages"));
        }
        if let Err(odd) = state.descend(&self.shape, known) {
            state.give_up(odd);
        }
    }

    /// Walks the leaves among the pages from an offset of the file on whose place in a tree is known by now.
    pub(super) fn walk(&self, offset: u64, bytes: &[u8]) {
        let Some(first) = self.first_page(offset, bytes) else {
            return self.state().give_up(Odd("pages came in pieces"));
        };
        let tasks: Vec<Task> = {
            let mut state = self.state();
            let count = (bytes.len() / self.shape.page_bytes) as u32;
            if state.odd.is_some() {
                return;
            }
            (first..first + count).filter_map(|page| state.leaf_task(page)).collect()
        };
        let mut walker = Walker::new(self.shape, &self.plan, self.seed);
        let mut odd = None;
        for task in &tasks {
            let at = (task.page - first) as usize * self.shape.page_bytes;
            let walked = walker.page(task, &bytes[at..at + self.shape.page_bytes]);
            odd = odd.or(walked.err());
        }
        let mut state = self.state();
        if let Some(odd) = odd {
            return state.give_up(odd);
        }
        state.join(walker.tally);
    }

    /// Looks ahead at the pages high up in the trees, which `read` returns: without them the place of most leaves would only
    /// be known once all has passed, since the upper pages of a tree that grew lie far behind its first leaves.
    pub(super) fn look_ahead(&self, read: &mut dyn FnMut(u32) -> Option<Vec<u8>>) {
        let mut left = AHEAD_MAX;
        for tree in &self.plan.trees {
            if self.see_upper(tree.root, &mut left, read).is_none() {
                return;
            }
        }
    }

    /// Shows the pages of a tree to [`PageWalk::see`] that are above those above its leaves; `None` at the end of what may
    /// be read, or where something is odd.
    fn see_upper(
        &self,
        root: u32,
        left: &mut usize,
        read: &mut dyn FnMut(u32) -> Option<Vec<u8>>,
    ) -> Option<()> {
        let mut interior = |number: u32, left: &mut usize| {
            *left = left.checked_sub(1)?;
            let bytes = read(number).filter(|bytes| bytes.len() == self.shape.page_bytes)?;
            let page = Page::parse(number, &bytes).ok()?;
            let children: Option<Vec<u32>> =
                if page.leaf { None } else { (0..=page.cells).map(|place| page.child(place).ok()).collect() };
            Some((bytes, children.unwrap_or_default()))
        };
        let mut levels = 0;
        let mut number = root;
        while let Some(first) = interior(number, left)?.1.first() {
            levels += 1;
            number = *first;
            if levels > usize::from(DEPTH_MAX) {
                return None;
            }
        }
        let mut level = vec![root];
        for _ in 1..levels {
            let mut below = Vec::new();
            for number in level {
                let (bytes, children) = interior(number, left)?;
                self.see(u64::from(number - 1) * self.shape.page_bytes as u64, &bytes);
                below.extend(children);
            }
            level = below;
        }
        Some(())
    }

    /// Returns the leaves whose place in a tree was not known when they were shown, as ranges of the file of at most
    /// `range_bytes`: they have to be shown again.
    pub(super) fn left(&self, range_bytes: u64) -> Vec<std::ops::Range<u64>> {
        let state = self.state();
        let size = self.shape.page_bytes as u64;
        let mut ranges: Vec<std::ops::Range<u64>> = Vec::new();
        for (number, slot) in (0u64..).zip(&state.slots) {
            if !slot.is_leaf_to_walk() {
                continue;
            }
            let (start, end) = (number * size, (number + 1) * size);
            match ranges.last_mut() {
                Some(range) if end - range.start <= range_bytes && start - range.end <= GAP_BYTES => {
                    range.end = end
                }
                _ => ranges.push(start..end),
            }
        }
        ranges
    }
}

impl Slot {
    fn is_leaf_to_walk(&self) -> bool {
        let is_leaf = matches!(self.kind, LEAF_INDEX | LEAF_TABLE);
        matches!(self.use_of, Use::Root | Use::Child) && is_leaf && !self.walked
    }
}

impl State {
    fn give_up(&mut self, odd: Odd) {
        self.odd.get_or_insert(odd);
        self.interiors = HashMap::new();
    }

    fn slot(&self, page: u32) -> Option<Slot> {
        self.slots.get((page as usize).checked_sub(1)?).copied()
    }

    /// Notes what a page is used for: once, and never again.
    fn claim(&mut self, shape: &Shape, page: u32, claim: Slot) -> Result<(), Odd> {
        let forbidden = page == shape.lock_page() || shape.is_map(page);
        let slot = (page as usize).checked_sub(1).and_then(|at| self.slots.get_mut(at));
        let slot = slot.filter(|_| !forbidden).ok_or(Odd("a page is referred to that is none"))?;
        if slot.use_of != Use::Unknown {
            return Err(Odd("a page is referred to twice"));
        }
        *slot = Slot { kind: slot.kind, next: slot.next, seen: slot.seen, walked: slot.walked, ..claim };
        Ok(())
    }

    /// Follows interior pages down, as far as they are known.
    fn descend(&mut self, shape: &Shape, mut open: Vec<u32>) -> Result<(), Odd> {
        while let Some(number) = open.pop() {
            let Some(bytes) = self.interiors.get(&number).cloned() else { continue };
            let Some(slot) = self.slot(number) else { continue };
            let page = Page::parse(number, &bytes)?;
            if page.leaf || slot.depth >= DEPTH_MAX {
                return Err(Odd("a tree is too deep"));
            }
            for place in 0..=page.cells {
                let child = page.child(place)?;
                let claim = Slot {
                    parent: number,
                    tree: slot.tree,
                    child: u16::try_from(place).map_err(|_| Odd("a page has too many children"))?,
                    depth: slot.depth + 1,
                    use_of: Use::Child,
                    ..Slot::default()
                };
                self.claim(shape, child, claim)?;
                if self.interiors.contains_key(&child) {
                    open.push(child);
                }
            }
        }
        Ok(())
    }

    /// Returns what is to be done with a page, if it is a leaf that was not walked and whose place is known.
    fn leaf_task(&mut self, page: u32) -> Option<Task> {
        let slot = self.slot(page).filter(Slot::is_leaf_to_walk)?;
        let depth = self.leaf_depth.get_mut(usize::from(slot.tree))?.get_or_insert(slot.depth);
        if *depth != slot.depth {
            self.give_up(Odd("the leaves of a tree are not all as deep"));
            return None;
        }
        let task = self.task(page)?;
        self.slots[page as usize - 1].walked = true;
        Some(task)
    }

    /// Returns a page of a tree with what stands before and behind it.
    fn task(&self, page: u32) -> Option<Task> {
        let slot = self.slot(page)?;
        let mut task = Task { page, tree: slot.tree, lower: None, upper: None };
        let mut below = slot;
        while below.use_of == Use::Child && (task.lower.is_none() || task.upper.is_none()) {
            let above = self.interiors.get(&below.parent)?;
            let bound = |cell: usize| Bound { page: below.parent, bytes: above.clone(), cell };
            let place = usize::from(below.child);
            if task.lower.is_none() && place > 0 {
                task.lower = Some(bound(place - 1));
            }
            if task.upper.is_none() && place < Page::parse(below.parent, above).ok()?.cells {
                task.upper = Some(bound(place));
            }
            below = self.slot(below.parent)?;
        }
        Some(task)
    }

    fn join(&mut self, tally: Tally) {
        for (tree, found) in tally.trees {
            if let Some(known) = self.found.get_mut(usize::from(tree)) {
                known.join(found);
            }
        }
        self.chains.extend(tally.chains);
        if self.chains.len() > CHAINS_MAX {
            self.give_up(Odd("there are too many long records"));
        }
    }
}
