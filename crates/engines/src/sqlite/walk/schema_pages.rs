//! The pages that hold a database's schema, found before anything else of it is known.
//!
//! With them alone SQLite can say what the trees of the database are: the rest of the file may still be missing.

use super::Odd;
use super::page::{Page, Shape};
use super::shape;
use crate::sqlite::header::big_endian;
use std::collections::BTreeMap;

/// Schemas with more pages are not read ahead.
const PAGES_MAX: usize = 2048;

/// Returns the pages of the schema's table by their numbers, overflow pages too; `None` where they cannot be found.
/// `first` is the first page, and `read` returns any other.
pub(in crate::sqlite) fn schema_pages(
    first: &[u8],
    size_bytes: u64,
    read: &mut dyn FnMut(u32) -> Option<Vec<u8>>,
) -> Option<BTreeMap<u32, Vec<u8>>> {
    let shape = shape(first, size_bytes)?;
    let mut pages = BTreeMap::from([(1, first.get(..shape.page_bytes)?.to_vec())]);
    let mut open = vec![1];
    while let Some(number) = open.pop() {
        let bytes = pages.get(&number)?.clone();
        let (children, chains) = followed(number, &bytes, &shape).ok()?;
        for child in children {
            take(child, &mut pages, &shape, read)?;
            open.push(child);
        }
        for mut next in chains {
            while next != 0 {
                take(next, &mut pages, &shape, read)?;
                next = big_endian(pages.get(&next)?, 0);
            }
        }
    }
    Some(pages)
}

/// Returns the children of a page, and where its long records go on.
fn followed(number: u32, bytes: &[u8], shape: &Shape) -> Result<(Vec<u32>, Vec<u32>), Odd> {
    let page = Page::parse(number, bytes)?;
    if page.is_index {
        return Err(Odd("the schema is no table"));
    }
    if !page.leaf {
        let children = (0..=page.cells).map(|place| page.child(place)).collect::<Result<_, _>>()?;
        return Ok((children, Vec::new()));
    }
    let overflow = |cell| page.cell(cell, shape).map(|cell| cell.overflow);
    let chains = (0..page.cells).map(overflow).collect::<Result<Vec<u32>, Odd>>()?;
    Ok((Vec::new(), chains.into_iter().filter(|first| *first != 0).collect()))
}

/// Reads a page that was not read before.
fn take(
    number: u32,
    pages: &mut BTreeMap<u32, Vec<u8>>,
    shape: &Shape,
    read: &mut dyn FnMut(u32) -> Option<Vec<u8>>,
) -> Option<()> {
    if number < 2 || number > shape.pages || pages.contains_key(&number) || pages.len() >= PAGES_MAX {
        return None;
    }
    let bytes = read(number).filter(|bytes| bytes.len() == shape.page_bytes)?;
    pages.insert(number, bytes);
    Some(())
}
