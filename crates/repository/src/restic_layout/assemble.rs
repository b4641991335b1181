//! From the parts of a database to its folder and its manifest.
//!
//! The last look before a backup counts as whole: each entry that the engine declares is there, its parts without gap
//! or surplus, pages cut where they must be cut.

use super::names;
use crate::{RepositoryError, RepositoryErrorKind};
use flow::{
    DatabaseRef, Digest128, Dumped, EntryName, Layout, MANIFEST_SCHEMA, Manifest, ManifestEntry, ManifestPart,
};
use restic::Id;
use std::collections::BTreeMap;

/// A part that is stored.
#[derive(Debug, Clone)]
pub(super) struct StoredPart {
    pub(super) size_bytes: u64,
    pub(super) blobs: Vec<Id>,
    pub(super) rows: Option<u64>,
    pub(super) digest: Option<Digest128>,
}

/// The parts of each entry.
pub(super) type Entries = BTreeMap<EntryName, (Layout, Parts)>;

/// The parts of an entry, by index. Of a database with a million large objects each is an entry of one part: a map for it
/// would take a thousand bytes.
#[derive(Debug, Default)]
pub(super) enum Parts {
    #[default]
    None,
    One(u32, Box<StoredPart>),
    Many(BTreeMap<u32, StoredPart>),
}

impl Parts {
    /// Puts a part in its place, where it replaces an earlier one.
    pub(super) fn insert(&mut self, index: u32, part: StoredPart) {
        *self = match std::mem::take(self) {
            Parts::None => Parts::One(index, Box::new(part)),
            Parts::One(known, _) if known == index => Parts::One(index, Box::new(part)),
            Parts::One(known, first) => Parts::Many(BTreeMap::from([(known, *first), (index, part)])),
            Parts::Many(mut parts) => {
                parts.insert(index, part);
                Parts::Many(parts)
            }
        };
    }

    /// Returns the bytes of all of them.
    pub(super) fn size_bytes(&self) -> u64 {
        match self {
            Parts::None => 0,
            Parts::One(_, part) => part.size_bytes,
            Parts::Many(parts) => parts.values().map(|part| part.size_bytes).sum(),
        }
    }

    /// Returns them in order, and the greatest index.
    fn in_order(self) -> (Vec<StoredPart>, Option<u32>) {
        match self {
            Parts::None => (Vec::new(), None),
            Parts::One(index, part) => (vec![*part], Some(index)),
            Parts::Many(parts) => {
                let last = parts.keys().next_back().copied();
                (parts.into_values().collect(), last)
            }
        }
    }
}

/// A file before its node is written: of a million of them nodes would take much memory.
#[derive(Debug)]
pub(super) struct File {
    pub(super) size_bytes: u64,
    pub(super) blobs: Vec<Id>,
}

/// A folder before it is stored.
#[derive(Default)]
pub(super) struct Assembled {
    /// By name: of a database with a million large objects each name is looked for.
    pub(super) files: BTreeMap<String, File>,
    pub(super) folders: BTreeMap<String, Assembled>,
}

/// Joins the parts. Refuses what does not fit together.
pub(super) fn assemble(
    database: &DatabaseRef,
    dumped: Dumped,
    mut entries: Entries,
) -> Result<(Assembled, Manifest), RepositoryError> {
    let invalid =
        |message: String| RepositoryError::new(RepositoryErrorKind::Invalid, database.to_string(), message);
    let mut folder = Assembled::default();
    let mut manifest = Manifest {
        schema: MANIFEST_SCHEMA.to_owned(),
        target: database.target.clone(),
        database: database.name.clone(),
        connection: database.connection.clone(),
        facts: dumped.facts,
        entries: vec![],
        elapsed_ms: dumped.elapsed_ms,
    };
    for (name, (layout, count)) in dumped.entries {
        let parts = entries.remove(&name).map(|(given, parts)| (given == layout, parts));
        let (same, parts) = parts.unwrap_or((true, Parts::None));
        if !same {
            return Err(invalid(format!("the parts of entry {name} have another layout than was declared")));
        }
        let (parts, last) = parts.in_order();
        // The indices are distinct and sorted: the last one tells of any gap.
        let whole = parts.len() == count as usize && last.is_none_or(|last| last + 1 == count);
        if !whole {
            let given = parts.len();
            return Err(invalid(format!(
                "entry {name} was to have {count} parts, {given} came, or with a gap"
            )));
        }
        check_cuts(layout, &parts).map_err(|problem| invalid(format!("entry {name}: {problem}")))?;
        manifest.entries.push(manifest_entry(&name, layout, &parts));
        add_file(&mut folder, &name, parts).map_err(|problem| invalid(format!("entry {name}: {problem}")))?;
    }
    if let Some(name) = entries.keys().next() {
        return Err(invalid(format!("parts of entry {name} came, which was not declared")));
    }
    Ok((folder, manifest))
}

/// Blobs of pages begin at multiples of the cut in the whole entry, or an unchanged page would not be found again.
fn check_cuts(layout: Layout, parts: &[StoredPart]) -> Result<(), String> {
    let Layout::Pages { page_bytes, cut_bytes } = layout else { return Ok(()) };
    if page_bytes == 0 || cut_bytes == 0 || cut_bytes % page_bytes != 0 {
        return Err(format!("cuts of {cut_bytes} bytes do not go with pages of {page_bytes}"));
    }
    let all_but_last = parts.split_last().map_or(&[][..], |(_, before)| before);
    match all_but_last.iter().position(|part| part.size_bytes % u64::from(cut_bytes) != 0) {
        Some(index) => Err(format!("part {index} does not end at a cut")),
        None => Ok(()),
    }
}

fn manifest_entry(name: &EntryName, layout: Layout, parts: &[StoredPart]) -> ManifestEntry {
    let part = |part: &StoredPart| ManifestPart {
        size_bytes: part.size_bytes,
        blobs: part.blobs.len() as u64,
        rows: part.rows,
        digest: part.digest,
    };
    ManifestEntry {
        name: name.clone(),
        layout,
        size_bytes: parts.iter().map(|part| part.size_bytes).sum(),
        parts: parts.iter().map(part).collect(),
    }
}

fn add_file(folder: &mut Assembled, name: &EntryName, mut parts: Vec<StoredPart>) -> Result<(), String> {
    let size_bytes = parts.iter().map(|part| part.size_bytes).sum();
    let blobs = match parts.as_mut_slice() {
        [one] => std::mem::take(&mut one.blobs),
        _ => parts.into_iter().flat_map(|part| part.blobs).collect(),
    };
    let (above, last) = name.as_str().rsplit_once('/').unwrap_or(("", name.as_str()));
    let mut folder = folder;
    for part in above.split('/').filter(|_| !above.is_empty()) {
        folder = folder.folders.entry(names::encode(part)).or_default();
    }
    let last = names::encode(last);
    let taken = folder.files.contains_key(&last) || folder.folders.contains_key(&last);
    if last.is_empty() || taken || name.as_str() == super::reader::MANIFEST_FILE {
        return Err("its name is taken".to_owned());
    }
    folder.files.insert(last, File { size_bytes, blobs });
    Ok(())
}
