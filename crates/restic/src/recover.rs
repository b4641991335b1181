//! Before anything is said to be lost: packs that are stored, and that nobody relies on, are looked at again. One that
//! was away while a heal looked, or could not be read then, may be back, and good.
//!
//! Adds to the index and removes nothing: a crash leaves what was there, or one index file more.

use crate::check_pack::{examine_pack, read_header};
use crate::error::{ResticError, ResticErrorKind};
use crate::id::Id;
use crate::index::Index;
use crate::index_file::IndexedPack;
use crate::lock::LockGuard;
use crate::pace::Pace;
use crate::pack::PackBlob;
use crate::reindex::write_index;
use crate::repository::Repository;
use crate::vault::{ObjectKind, object_name};
use flow::Cancel;
use std::collections::{HashMap, HashSet};

/// What came of looking.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Packs that no index named, and that are good: now an index names them. Durable.
    pub named: Vec<Id>,
    /// Packs that were said to be damaged, and are good.
    pub good: Vec<Id>,
    /// Packs that are stored and cannot be read, or hold something good beside what is damaged, and packs that an index
    /// names and that are not stored: only a heal tells what of them is left.
    pub in_doubt: Vec<Id>,
}

/// Looks at packs that are said to be damaged and are stored, and at those that no index names and that hold what no
/// other pack does. The lock is exclusive.
pub fn recover_packs(
    repository: &Repository,
    damaged: &HashSet<Id>,
    lock: &LockGuard,
    cancel: &Cancel,
) -> Result<Recovery, ResticError> {
    let pace = Pace::new(repository, lock, cancel);
    let index = repository.load_index()?;
    let stored: HashMap<Id, u64> = repository.vault().list(ObjectKind::Pack)?.into_iter().collect();
    // A heal would have taken them out of the index: they went since, and may come back.
    let missing = index.packs().iter().filter(|id| !stored.contains_key(id)).copied().collect();
    let mut recovery = Recovery { in_doubt: missing, ..Recovery::default() };
    if damaged.iter().any(|id| stored.contains_key(id)) {
        for (id, blobs) in index.blobs_by_pack() {
            if !damaged.contains(&id) || !stored.contains_key(&id) {
                continue;
            }
            pace.go_on()?;
            let is_good = is_good(repository, &id, &blobs);
            if is_good { recovery.good.push(id) } else { recovery.in_doubt.push(id) }
        }
    }
    let named: HashSet<&Id> = index.packs().iter().collect();
    let relied_on =
        |id: &Id| stored.contains_key(id) && (!damaged.contains(id) || recovery.good.contains(id));
    let mut to_name = Vec::new();
    let mut in_doubt = Vec::new();
    for (id, size_bytes) in stored.iter().filter(|(id, _)| !named.contains(id)) {
        pace.go_on()?;
        match read_header(repository.vault(), id, *size_bytes) {
            Ok(blobs) if is_known(&index, &blobs, &relied_on) => {}
            Ok(blobs) if is_good(repository, id, &blobs) => to_name.push(IndexedPack { id: *id, blobs }),
            // Whatever it was, nobody can tell what it held.
            Err(error) if error.kind == ResticErrorKind::Damaged => {}
            _ => in_doubt.push(*id),
        }
    }
    recovery.in_doubt.extend(in_doubt);
    recovery.named = to_name.iter().map(|pack| pack.id).collect();
    write_index(repository, to_name.into_iter(), &[], &|| pace.ensure())?;
    Ok(recovery)
}

/// Tells whether each of these blobs lies in a pack that counts.
fn is_known(index: &Index, blobs: &[PackBlob], relied_on: &dyn Fn(&Id) -> bool) -> bool {
    blobs.iter().all(|blob| index.locations(blob.kind, &blob.id).any(|location| relied_on(&location.pack)))
}

fn is_good(repository: &Repository, id: &Id, blobs: &[PackBlob]) -> bool {
    let content =
        object_name(ObjectKind::Pack, id).ok().and_then(|name| repository.storage().get(&name).ok());
    content.is_some_and(|content| {
        let verdict = examine_pack(&repository.vault().key, id, &content, blobs);
        verdict.is_read && verdict.problem.is_none()
    })
}
