//! Rows of each table, counted from the pages as they pass: no second reading, no SQL.
//!
//! Of each page, what kind of b-tree page it would be and how many cells it has are remembered: four bytes. At the
//! end a walk from each table's root adds up its leaves; only interior pages, about one in a few hundred, are read
//! once more. Whatever does not fit together (a cycle, a page of the wrong kind) makes the count unknown, never
//! wrong.

use super::header::big_endian;
use super::pages::PageReader;

/// Databases with more pages are not counted while they pass: 32 MiB of memory.
const COUNTED_PAGES_MAX: u32 = 8 << 20;
const DEPTH_MAX: u32 = 40;

const INTERIOR_INDEX: u8 = 2;
const INTERIOR_TABLE: u8 = 5;
const LEAF_INDEX: u8 = 10;
const LEAF_TABLE: u8 = 13;

/// Counts rows of the pages that it is shown.
#[derive(Debug, Default)]
pub(super) struct RowCounter {
    /// Kind and cells of page `i + 1`: `kind << 16 | cells`.
    seen: Vec<u32>,
    gave_up: bool,
}

impl RowCounter {
    /// Looks at whole pages, the first of them numbered `first`. A page that was shown before is replaced.
    pub(super) fn see(&mut self, first: u32, bytes: &[u8], page_bytes: u32) {
        for (page, bytes) in (first..).zip(bytes.chunks_exact(page_bytes as usize)) {
            if page > COUNTED_PAGES_MAX {
                self.gave_up = true;
                self.seen = Vec::new();
            }
            if self.gave_up {
                return;
            }
            let start = if page == 1 { 100 } else { 0 };
            let cells = u16::from_be_bytes([bytes[start + 3], bytes[start + 4]]);
            let at = page as usize - 1;
            if self.seen.len() <= at {
                self.seen.resize(at + 1, 0);
            }
            self.seen[at] = u32::from(bytes[start]) << 16 | u32::from(cells);
        }
    }

    /// Returns the rows of the table with this root page, reading interior pages anew; `None` where that cannot be
    /// told. To be called within the read transaction whose pages were shown last.
    pub(super) fn rows(&self, root: u32, pages: u32, reader: &mut PageReader<'_>) -> Option<u64> {
        let mut walk = Walk {
            counter: self,
            pages,
            left: pages,
            is_index: matches!(self.page(root, pages)?.0, INTERIOR_INDEX | LEAF_INDEX),
            reader,
        };
        walk.count(root, 0)
    }

    fn page(&self, page: u32, pages: u32) -> Option<(u8, u64)> {
        if page == 0 || page > pages || self.gave_up {
            return None;
        }
        let seen = self.seen.get(page as usize - 1)?;
        Some(((seen >> 16) as u8, u64::from(seen & 0xffff)))
    }
}

struct Walk<'a, 'connection> {
    counter: &'a RowCounter,
    pages: u32,
    left: u32,
    is_index: bool,
    reader: &'a mut PageReader<'connection>,
}

impl Walk<'_, '_> {
    fn count(&mut self, page: u32, depth: u32) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let (kind, cells) = self.counter.page(page, self.pages)?;
        match (kind, self.is_index) {
            (LEAF_TABLE, false) | (LEAF_INDEX, true) => Some(cells),
            (INTERIOR_TABLE, false) | (INTERIOR_INDEX, true) if depth < DEPTH_MAX => {
                // A row of a table without rowid may lie in an interior page, one of another never does.
                let own = if self.is_index { cells } else { 0 };
                let children = self.children(page, cells)?;
                children.into_iter().try_fold(own, |sum, child| Some(sum + self.count(child, depth + 1)?))
            }
            _ => None,
        }
    }

    fn children(&mut self, page: u32, cells: u64) -> Option<Vec<u32>> {
        let mut bytes = Vec::new();
        self.reader.read(page, &mut bytes).ok()?;
        let start = if page == 1 { 100 } else { 0 };
        let cells = usize::try_from(cells).ok()?;
        let mut children = Vec::with_capacity(cells + 1);
        for cell in 0..cells {
            let at = start + 12 + 2 * cell;
            let pointer = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
            children.push(big_endian(&bytes, pointer));
        }
        children.push(big_endian(&bytes, start + 8));
        Some(children)
    }
}
