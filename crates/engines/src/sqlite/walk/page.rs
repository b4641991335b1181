//! One page as a b-tree page: its header, cells and free space, held to what SQLite's own check holds them to.
//!
//! Pure functions on bytes. Nothing is taken on trust: each offset is checked before it is followed, and what does not fit
//! together is [`Odd`], never a panic.

use super::Odd;
use crate::sqlite::header::big_endian;

/// How the pages of a database are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) page_bytes: usize,
    pub(super) pages: u32,
    /// Whether pages note who refers to them, so that they can be moved.
    pub(super) has_pointer_map: bool,
}

impl Shape {
    /// Where SQLite's lock bytes are: that page is never used.
    pub(super) fn lock_page(&self) -> u32 {
        (0x4000_0000 / self.page_bytes as u32) + 1
    }

    /// Tells whether a page holds a part of the pointer map.
    pub(super) fn is_map(&self, page: u32) -> bool {
        self.has_pointer_map && page >= 2 && self.map_of(page) == page
    }

    /// Returns the page of the pointer map that has the entry of a page from the second on.
    pub(super) fn map_of(&self, page: u32) -> u32 {
        let group = self.page_bytes as u32 / 5 + 1;
        let map = (page - 2) / group * group + 2;
        if map == self.lock_page() { map + 1 } else { map }
    }

    /// How many bytes of a payload lie in the cell.
    fn local(&self, payload: usize, leaf_table: bool) -> usize {
        let usable = self.page_bytes;
        let least = (usable - 12) * 32 / 255 - 23;
        let most = if leaf_table { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
        if payload <= most {
            return payload;
        }
        let surplus = least + (payload - least) % (usable - 4);
        if surplus <= most { surplus } else { least }
    }
}

/// Kinds of b-tree pages, as their first byte says.
pub(super) const INTERIOR_INDEX: u8 = 2;
pub(super) const INTERIOR_TABLE: u8 = 5;
pub(super) const LEAF_INDEX: u8 = 10;
pub(super) const LEAF_TABLE: u8 = 13;

/// Where the b-tree header of a page begins.
pub(super) fn header_of(page: u32) -> usize {
    if page == 1 { 100 } else { 0 }
}

/// One page, with its header taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page<'a> {
    bytes: &'a [u8],
    header: usize,
    pub(super) leaf: bool,
    pub(super) is_index: bool,
    pub(super) cells: usize,
    content: usize,
    pointers: usize,
}

/// One cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell<'a> {
    /// The row number; 0 in an index.
    pub(super) rowid: i64,
    /// How long the record is.
    pub(super) payload: usize,
    /// What of the record lies in the cell.
    pub(super) local: &'a [u8],
    /// The first page of the rest; 0 where there is none.
    pub(super) overflow: u32,
    at: usize,
    size: usize,
}

impl<'a> Page<'a> {
    /// Takes the header of a page apart.
    pub(super) fn parse(number: u32, bytes: &'a [u8]) -> Result<Self, Odd> {
        let header = header_of(number);
        let kind = *bytes.get(header).ok_or(Odd("a page is cut off"))?;
        let (leaf, is_index) = match kind {
            INTERIOR_INDEX => (false, true),
            INTERIOR_TABLE => (false, false),
            LEAF_INDEX => (true, true),
            LEAF_TABLE => (true, false),
            _ => return Err(Odd("a page is of no known kind")),
        };
        let cells = two(bytes, header + 3);
        let pointers = header + if leaf { 8 } else { 12 };
        let content = match two(bytes, header + 5) {
            0 => 65_536,
            content => content,
        };
        if cells > (bytes.len() - 8) / 6 || content > bytes.len() || content < pointers + 2 * cells {
            return Err(Odd("a page's cells have no room"));
        }
        Ok(Self { bytes, header, leaf, is_index, cells, content, pointers })
    }

    fn pointer(&self, cell: usize) -> Result<usize, Odd> {
        let at = two(self.bytes, self.pointers + 2 * cell);
        if at < self.content || at > self.bytes.len() - 4 {
            return Err(Odd("a cell lies outside of its page's content"));
        }
        Ok(at)
    }

    /// Returns a child of an interior page; the last one comes after all cells.
    pub(super) fn child(&self, place: usize) -> Result<u32, Odd> {
        let at = if place == self.cells { self.header + 8 } else { self.pointer(place)? };
        Ok(big_endian(self.bytes, at))
    }

    /// Takes one cell apart.
    pub(super) fn cell(&self, number: usize, shape: &Shape) -> Result<Cell<'a>, Odd> {
        const CUT: Odd = Odd("a cell is cut off");
        let at = self.pointer(number)?;
        let mut next = if self.leaf { at } else { at + 4 };
        let mut payload = 0;
        if self.leaf || self.is_index {
            let (length, bytes) = varint(self.bytes, next).ok_or(CUT)?;
            payload = usize::try_from(length).ok().filter(|length| *length < 1 << 31).ok_or(CUT)?;
            next += bytes;
        }
        let mut rowid = 0;
        if !self.is_index {
            let (number, bytes) = varint(self.bytes, next).ok_or(CUT)?;
            rowid = number as i64;
            next += bytes;
        }
        let local = shape.local(payload, !self.is_index);
        let mut end = next + local;
        let mut overflow = 0;
        if local < payload {
            overflow = big_endian(self.bytes, end);
            end += 4;
        }
        let size = (end - at).max(4);
        if at + size > self.bytes.len() {
            return Err(CUT);
        }
        let local = self.bytes.get(next..next + local).ok_or(CUT)?;
        if local.first().is_some_and(|header| *header < 2) {
            return Err(Odd("a record's header is too short"));
        }
        Ok(Cell { rowid, payload, local, overflow, at, size })
    }
}

/// Which bytes of a page are in use, to find what is used twice or by nobody.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    words: Vec<u64>,
    covered: usize,
}

impl Coverage {
    /// Begins with a page on which nothing is covered.
    pub(super) fn begin(&mut self, shape: &Shape) {
        self.words.clear();
        self.words.resize(shape.page_bytes / 64, 0);
        self.covered = 0;
    }

    /// Covers a cell.
    pub(super) fn cell(&mut self, cell: &Cell<'_>) -> Result<(), Odd> {
        self.range(cell.at, cell.size)
    }

    fn range(&mut self, at: usize, size: usize) -> Result<(), Odd> {
        const TWICE: Odd = Odd("bytes of a page are used twice");
        let (first, last) = (at / 64, (at + size - 1) / 64);
        let words = self.words.get_mut(first..=last).ok_or(TWICE)?;
        let count = words.len();
        let mut twice = 0;
        for (number, word) in words.iter_mut().enumerate() {
            let mut mask = u64::MAX;
            if number == 0 {
                mask <<= at % 64;
            }
            if number + 1 == count {
                mask &= u64::MAX >> (63 - (at + size - 1) % 64);
            }
            twice |= *word & mask;
            *word |= mask;
        }
        self.covered += size;
        if twice == 0 { Ok(()) } else { Err(TWICE) }
    }

    /// Covers the free blocks of a page whose cells are covered, and compares what is left with what the page says.
    pub(super) fn finish(&mut self, page: &Page<'_>) -> Result<(), Odd> {
        const FREE: Odd = Odd("a page's free space is in disorder");
        let bytes = page.bytes;
        let mut at = two(bytes, page.header + 1);
        while at > 0 {
            if at < page.content || at > bytes.len() - 4 {
                return Err(FREE);
            }
            let (next, size) = (two(bytes, at), two(bytes, at + 2));
            if size < 4 || at + size > bytes.len() || (next > 0 && next < at + size + 4) {
                return Err(FREE);
            }
            self.range(at, size)?;
            at = next;
        }
        let fragments = usize::from(bytes[page.header + 7]);
        if page.content + self.covered + fragments != bytes.len() {
            return Err(FREE);
        }
        Ok(())
    }
}

fn two(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..at + 2) {
        Some([high, low]) => usize::from(*high) << 8 | usize::from(*low),
        _ => 0,
    }
}

/// Reads a number of variable length; `None` beyond the end.
pub(super) fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let first = *bytes.get(at)?;
    if first < 0x80 {
        return Some((u64::from(first), 1));
    }
    let mut value = u64::from(first & 0x7f);
    for length in 2..=8 {
        let byte = *bytes.get(at + length - 1)?;
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, length));
        }
    }
    Some((value << 8 | u64::from(*bytes.get(at + 8)?), 9))
}
