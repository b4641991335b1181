//! The end of a walk: what only shows once every page was seen.
//!
//! Interior pages are walked, chains of overflow pages and of free pages followed, the pointer map compared with what was
//! found, and every page must have been used exactly once. Free pages and the pointer map are read anew, since nobody
//! could know them when they passed; they are few.

use super::page::{INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE, Shape};
use super::plan::{Content, Plan, Tree, Verdict};
use super::walker::{Chain, Found, Walker};
use super::{Odd, PageWalk, Slot, State, Use};
use crate::sqlite::header::big_endian;
use std::collections::HashSet;

/// Reads one page.
type ReadPage<'a> = dyn FnMut(u32) -> Option<Vec<u8>> + 'a;

const UNREADABLE: Odd = Odd("a page cannot be read");

impl PageWalk {
    /// Ends the walk; `read` returns pages as they were shown. An error where anything at all does not fit: then SQLite
    /// judges the whole database.
    pub(in crate::sqlite) fn finish(self, read: &mut ReadPage<'_>) -> Result<Verdict, Odd> {
        let Self { shape, plan, seed, state } = self;
        let mut state = state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(odd) = state.odd {
            return Err(odd);
        }
        let header = read(1).filter(|first| first.len() >= 100).ok_or(UNREADABLE)?;
        walk_interiors(&mut state, shape, &plan, seed)?;
        follow_chains(&mut state, &shape)?;
        follow_free(&mut state, &shape, &header, read)?;
        let unused = |(number, slot): (u32, &Slot)| {
            slot.use_of == Use::Unknown && number != shape.lock_page() && !shape.is_map(number)
        };
        if (1..).zip(&state.slots).any(unused) {
            return Err(Odd("a page is used for nothing"));
        }
        if shape.has_pointer_map {
            let last_root = plan.trees.iter().map(|tree| tree.root).max();
            if last_root != Some(big_endian(&header, 52)) {
                return Err(Odd("another page than the last root is named so"));
            }
            compare_map(&state, &shape, read)?;
        }
        Ok(verdict(&plan, &mut state.found))
    }
}

/// Walks the interior pages, and makes sure that no page of a tree was left out.
fn walk_interiors(state: &mut State, shape: super::Shape, plan: &Plan, seed: u64) -> Result<(), Odd> {
    let mut walker = Walker::new(shape, plan, seed);
    for number in 1..=shape.pages {
        let Some(slot) = state.slot(number).filter(|slot| matches!(slot.use_of, Use::Root | Use::Child))
        else {
            continue;
        };
        match slot.kind {
            LEAF_INDEX | LEAF_TABLE if slot.walked => {}
            INTERIOR_INDEX | INTERIOR_TABLE => {
                let bytes = state.interiors.get(&number).cloned().ok_or(UNREADABLE)?;
                let task = state.task(number).ok_or(Odd("a page above is unknown"))?;
                walker.page(&task, &bytes)?;
            }
            _ => return Err(Odd("a page of a tree is none, or was not seen")),
        }
    }
    state.join(walker.tally);
    state.odd.map_or(Ok(()), Err)
}

fn follow_chains(state: &mut State, shape: &Shape) -> Result<(), Odd> {
    for Chain { first, pages, owner } in std::mem::take(&mut state.chains) {
        let (mut number, mut before, mut use_of) = (first, owner, Use::ChainHead);
        for _ in 0..pages {
            state.claim(shape, number, Slot { parent: before, use_of, ..Slot::default() })?;
            before = number;
            number = state.slot(number).map_or(0, |slot| slot.next);
            use_of = Use::ChainLink;
        }
        if number != 0 {
            return Err(Odd("a record goes on behind its end"));
        }
    }
    Ok(())
}

fn follow_free(state: &mut State, shape: &Shape, header: &[u8], read: &mut ReadPage<'_>) -> Result<(), Odd> {
    let free = Slot { use_of: Use::Free, ..Slot::default() };
    let (mut trunk, mut left) = (big_endian(header, 32), big_endian(header, 36));
    const COUNT: Odd = Odd("there are more or fewer free pages than noted");
    while trunk != 0 {
        state.claim(shape, trunk, free)?;
        let bytes = read(trunk).filter(|bytes| bytes.len() == shape.page_bytes).ok_or(UNREADABLE)?;
        let count = big_endian(&bytes, 4);
        if count as usize > shape.page_bytes / 4 - 2 {
            return Err(COUNT);
        }
        left = left.checked_sub(count + 1).ok_or(COUNT)?;
        for place in 0..count as usize {
            state.claim(shape, big_endian(&bytes, 8 + 4 * place), free)?;
        }
        trunk = big_endian(&bytes, 0);
    }
    if left == 0 { Ok(()) } else { Err(COUNT) }
}

/// Compares the pointer map with who refers to whom.
fn compare_map(state: &State, shape: &Shape, read: &mut ReadPage<'_>) -> Result<(), Odd> {
    let mut map = (0, Vec::new());
    for (number, slot) in (1..).zip(&state.slots).skip(1) {
        if slot.use_of == Use::Unknown {
            continue;
        }
        let wanted = shape.map_of(number);
        if map.0 != wanted {
            map = (wanted, read(wanted).ok_or(UNREADABLE)?);
        }
        let at = 5 * number.checked_sub(wanted + 1).ok_or(UNREADABLE)? as usize;
        let entry = map.1.get(at..at + 5).ok_or(UNREADABLE)?;
        let (kind, parent) = match slot.use_of {
            Use::Root => (1, 0),
            Use::Free => (2, 0),
            Use::ChainHead => (3, slot.parent),
            Use::ChainLink => (4, slot.parent),
            Use::Child | Use::Unknown => (5, slot.parent),
        };
        if entry[0] != kind || big_endian(entry, 1) != parent {
            return Err(Odd("the pointer map names another page"));
        }
    }
    Ok(())
}

/// Says which tables have the indexes that their rows ask for, and whose references lead to rows.
fn verdict(plan: &Plan, found: &mut [Found]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut sound = HashSet::new();
    for (number, tree) in plan.trees.iter().enumerate() {
        let Content::Rows(rows) = &tree.content else { continue };
        let wanted = &found[number];
        // A table without rows was never given the place for its sums.
        let wanted_of = |place: usize| wanted.sums.get(place).copied().unwrap_or_default();
        let holds = |(place, (index, _)): (usize, &(usize, Vec<usize>))| {
            let entries = &found[*index];
            !entries.doubt && entries.sums.first().copied().unwrap_or_default() == wanted_of(place)
        };
        if !wanted.doubt && rows.indexes.iter().enumerate().all(holds) {
            verdict.tables.insert(tree.name.clone());
            sound.extend(rows.indexes.iter().map(|(index, _)| *index));
        }
    }
    for reference in &plan.references {
        let place = |is_wanted: &dyn Fn(&Tree) -> bool| plan.trees.iter().position(is_wanted);
        let child = place(&|tree| tree.is_index && tree.name == reference.index);
        let parent = place(&|tree| !tree.is_index && tree.name.eq_ignore_ascii_case(&reference.parent));
        let (Some(child), Some(parent)) = (child.filter(|child| sound.contains(child)), parent) else {
            continue;
        };
        let mut referring = std::mem::take(&mut found[child].runs);
        if referring.is_within(&mut found[parent].runs) {
            verdict.references.insert(reference.clone());
        }
        found[child].runs = referring;
    }
    verdict
}
