//! The index in memory: which pack holds which blob, 48 bytes a blob, sorted.
//!
//! Built from index files once and then never changed. What the current run adds is the writer's own knowledge.

use crate::crypto::SEAL_BYTES;
use crate::id::{BlobKind, Id};
use crate::index_file::IndexFile;
use crate::pack::{PackBlob, entry_bytes, overhead_bytes};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Where a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLocation {
    /// The pack that holds it.
    pub pack: Id,
    /// Where it begins in the pack.
    pub offset: u32,
    /// How long it is as stored: sealed, maybe compressed.
    pub length: u32,
    /// The length of its plaintext where it is compressed.
    pub uncompressed_length: Option<u32>,
}

impl BlobLocation {
    /// Returns the length of the blob's plaintext.
    pub fn plaintext_length(&self) -> u64 {
        u64::from(self.uncompressed_length.unwrap_or_else(|| self.length.saturating_sub(SEAL_BYTES as u32)))
    }
}

/// What the index says of blobs, each counted once however often it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexTotals {
    /// How many data blobs.
    pub data_blobs: u64,
    /// Bytes of their plaintext.
    pub data_bytes: u64,
    /// How many tree blobs.
    pub tree_blobs: u64,
    /// Bytes of their plaintext.
    pub tree_bytes: u64,
    /// Bytes of all these blobs as they are stored: compressed and sealed.
    pub stored_bytes: u64,
}

/// The kind is the highest bit of `pack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    id: Id,
    pack: u32,
    offset: u32,
    length: u32,
    uncompressed_length: u32,
}

const TREE_BIT: u32 = 1 << 31;

impl Entry {
    fn kind(&self) -> BlobKind {
        if self.pack & TREE_BIT == 0 { BlobKind::Data } else { BlobKind::Tree }
    }

    fn pack(&self) -> usize {
        (self.pack & !TREE_BIT) as usize
    }
}

/// Which pack holds which blob. About 50 bytes a blob; never changes once loaded.
#[derive(Debug, Clone, Default)]
pub struct Index {
    entries: Vec<Entry>,
    packs: Vec<Id>,
}

impl Index {
    /// Puts index files together. Those that another one supersedes are left out.
    pub(crate) fn build(files: Vec<(Id, IndexFile)>) -> Self {
        let superseded = superseded(&files);
        Self::of(files.into_iter().filter(|(id, _)| !superseded.contains(id)))
    }

    /// Puts all index files together, also those that another one supersedes: other clients go by them for as long as
    /// they are there. Returns the packs that only these name, too.
    pub(crate) fn build_of_all(files: Vec<(Id, IndexFile)>) -> (Self, HashSet<Id>) {
        let superseded = superseded(&files);
        let packs = |replaced: bool| -> HashSet<Id> {
            let files = files.iter().filter(|(id, _)| superseded.contains(id) == replaced);
            files.flat_map(|(_, file)| &file.packs).map(|pack| pack.id).collect()
        };
        let replaced = &packs(true) - &packs(false);
        (Self::of(files.into_iter()), replaced)
    }

    fn of(files: impl Iterator<Item = (Id, IndexFile)>) -> Self {
        let mut numbers = HashMap::new();
        let mut index = Self::default();
        for pack in files.flat_map(|(_, file)| file.packs) {
            let number = *numbers.entry(pack.id).or_insert_with(|| {
                index.packs.push(pack.id);
                (index.packs.len() - 1) as u32
            });
            index.entries.extend(pack.blobs.iter().map(|blob| Entry {
                id: blob.id,
                pack: number | if blob.kind == BlobKind::Tree { TREE_BIT } else { 0 },
                offset: blob.offset,
                length: blob.length,
                uncompressed_length: blob.uncompressed_length,
            }));
        }
        index.entries.sort_unstable();
        index.entries.dedup();
        index.entries.shrink_to_fit();
        index
    }

    /// Returns what of it lies in packs that count, by their ids and sizes; itself where that is everything.
    pub(crate) fn of_packs(self: &Arc<Self>, counts: impl Fn(&Id, u64) -> bool) -> Arc<Self> {
        let mut bytes = vec![pack_bytes(&[]); self.packs.len()];
        for entry in &self.entries {
            bytes[entry.pack()] += u64::from(entry.length) + entry_bytes(entry.uncompressed_length) as u64;
        }
        let mut packs = Vec::new();
        let numbers: Vec<Option<u32>> = std::iter::zip(&self.packs, bytes)
            .map(|(id, bytes)| {
                counts(id, bytes).then(|| {
                    packs.push(*id);
                    (packs.len() - 1) as u32
                })
            })
            .collect();
        if packs.len() == self.packs.len() {
            return Arc::clone(self);
        }
        let renumbered = |entry: &Entry| {
            numbers[entry.pack()].map(|number| Entry { pack: number | (entry.pack & TREE_BIT), ..*entry })
        };
        let mut entries: Vec<Entry> = self.entries.iter().filter_map(renumbered).collect();
        entries.shrink_to_fit();
        Arc::new(Self { entries, packs })
    }

    /// Returns where a blob lies; the first place, where it is stored more than once.
    pub fn find(&self, kind: BlobKind, id: &Id) -> Option<BlobLocation> {
        self.locations(kind, id).next()
    }

    /// Returns all places where a blob lies.
    pub fn locations(&self, kind: BlobKind, id: &Id) -> impl Iterator<Item = BlobLocation> + '_ {
        let id = *id;
        let first = self.entries.partition_point(|entry| entry.id < id);
        self.entries[first..]
            .iter()
            .take_while(move |entry| entry.id == id)
            .filter(move |entry| entry.kind() == kind)
            .map(|entry| self.location(entry))
    }

    /// Tells whether the blob is indexed.
    pub fn contains(&self, kind: BlobKind, id: &Id) -> bool {
        self.find(kind, id).is_some()
    }

    /// Returns the number of indexed blobs, copies included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether nothing is indexed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sums up the blobs, each once.
    pub fn totals(&self) -> IndexTotals {
        let mut totals = IndexTotals::default();
        for same in self.entries.chunk_by(|one, other| one.id == other.id) {
            for kind in [BlobKind::Data, BlobKind::Tree] {
                let Some(entry) = same.iter().find(|entry| entry.kind() == kind) else { continue };
                let bytes = self.location(entry).plaintext_length();
                totals.stored_bytes += u64::from(entry.length);
                match kind {
                    BlobKind::Data => {
                        totals.data_blobs += 1;
                        totals.data_bytes += bytes;
                    }
                    BlobKind::Tree => {
                        totals.tree_blobs += 1;
                        totals.tree_bytes += bytes;
                    }
                }
            }
        }
        totals
    }

    /// Returns the packs that hold indexed blobs.
    pub fn packs(&self) -> &[Id] {
        &self.packs
    }

    /// Returns each pack with its blobs in the order in which they lie in it.
    pub(crate) fn blobs_by_pack(&self) -> Vec<(Id, Vec<PackBlob>)> {
        let mut packs: Vec<(Id, Vec<PackBlob>)> = self.packs.iter().map(|id| (*id, Vec::new())).collect();
        for entry in &self.entries {
            if let Some((_, blobs)) = packs.get_mut(entry.pack()) {
                blobs.push(PackBlob {
                    kind: entry.kind(),
                    id: entry.id,
                    offset: entry.offset,
                    length: entry.length,
                    uncompressed_length: entry.uncompressed_length,
                });
            }
        }
        for (_, blobs) in &mut packs {
            blobs.sort_by_key(|blob| (blob.offset, blob.id));
        }
        packs
    }

    /// Returns the places of all copies of a blob: numbers below [`Index::len`], one behind the other.
    pub(crate) fn places(&self, kind: BlobKind, id: &Id) -> Range<usize> {
        let begin = self.entries.partition_point(|entry| (entry.id, entry.kind()) < (*id, kind));
        let copies = self.entries[begin..].iter().take_while(|entry| entry.id == *id && entry.kind() == kind);
        begin..begin + copies.count()
    }

    /// Returns what lies at a place, and the number of its pack in [`Index::packs`].
    pub(crate) fn at(&self, place: usize) -> (usize, PackBlob) {
        let entry = &self.entries[place];
        let blob = PackBlob {
            kind: entry.kind(),
            id: entry.id,
            offset: entry.offset,
            length: entry.length,
            uncompressed_length: entry.uncompressed_length,
        };
        (entry.pack(), blob)
    }

    /// Returns all places, those of each pack together and in the order in which they lie in it. 4 bytes a blob.
    pub(crate) fn places_by_pack(&self) -> Vec<u32> {
        let mut places: Vec<u32> = (0..self.entries.len() as u32).collect();
        places.sort_unstable_by_key(|place| {
            let entry = &self.entries[*place as usize];
            (entry.pack(), entry.offset, entry.id)
        });
        places
    }

    fn location(&self, entry: &Entry) -> BlobLocation {
        BlobLocation {
            pack: self.packs.get(entry.pack()).copied().unwrap_or(Id([0; 32])),
            offset: entry.offset,
            length: entry.length,
            uncompressed_length: (entry.uncompressed_length != 0).then_some(entry.uncompressed_length),
        }
    }
}

/// Returns the size of a pack that holds exactly these blobs.
pub(crate) fn pack_bytes(blobs: &[PackBlob]) -> u64 {
    blobs.iter().map(|blob| u64::from(blob.length)).sum::<u64>()
        + overhead_bytes(blobs.iter().map(|blob| blob.uncompressed_length))
}

/// Returns the index files that another one replaces. Two that claim to replace each other both stay.
pub(crate) fn superseded(files: &[(Id, IndexFile)]) -> HashSet<Id> {
    let pairs: HashSet<(Id, Id)> =
        files.iter().flat_map(|(by, file)| file.supersedes.iter().map(|old| (*by, *old))).collect();
    pairs.iter().filter(|(by, old)| by != old && !pairs.contains(&(*old, *by))).map(|(_, old)| *old).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index_file::IndexedPack;

    fn blob(kind: BlobKind, name: &str, offset: u32) -> PackBlob {
        PackBlob { kind, id: Id::of(name.as_bytes()), offset, length: 100, uncompressed_length: 0 }
    }

    fn file(name: &str, supersedes: &[&str], packs: &[(&str, &[PackBlob])]) -> (Id, IndexFile) {
        let packs = packs
            .iter()
            .map(|(id, blobs)| IndexedPack { id: Id::of(id.as_bytes()), blobs: blobs.to_vec() })
            .collect();
        let supersedes = supersedes.iter().map(|id| Id::of(id.as_bytes())).collect();
        (Id::of(name.as_bytes()), IndexFile { supersedes, packs })
    }

    #[test]
    fn an_entry_takes_48_bytes() {
        assert_eq!(size_of::<Entry>(), 48);
    }

    #[test]
    fn blobs_are_found_by_kind_in_every_copy() {
        let (data, tree) = (blob(BlobKind::Data, "x", 0), blob(BlobKind::Tree, "x", 7));
        let files = vec![
            file("i", &[], &[("p", &[data]), ("q", &[tree])]),
            file("j", &[], &[("r", &[data]), ("p", &[data])]),
        ];
        let index = Index::build(files);
        let id = Id::of(b"x");
        let packs: Vec<Id> = index.locations(BlobKind::Data, &id).map(|location| location.pack).collect();
        assert_eq!(packs, [Id::of(b"p"), Id::of(b"r")]);
        assert_eq!(index.find(BlobKind::Tree, &id).map(|location| location.offset), Some(7));
        assert!(!index.contains(BlobKind::Data, &Id::of(b"y")));
        assert_eq!(index.len(), 3);
    }

    #[test]
    fn superseded_files_and_packs_that_are_not_stored_do_not_count() {
        let one = blob(BlobKind::Data, "x", 0);
        let two = blob(BlobKind::Data, "y", 0);
        let build = |supersedes_back: &[&str]| {
            let files =
                vec![file("old", supersedes_back, &[("p", &[one])]), file("new", &["old"], &[("q", &[two])])];
            Index::build(files)
        };
        assert!(!build(&[]).contains(BlobKind::Data, &one.id));
        assert!(build(&["new"]).contains(BlobKind::Data, &one.id), "none of a pair is left out");
        let both = Arc::new(Index::build(vec![file("i", &[], &[("p", &[one]), ("q", &[two])])]));
        let stored = both.of_packs(|id, bytes| {
            assert_eq!(bytes, 100 + 37 + 32 + 4);
            *id == Id::of(b"q")
        });
        assert!(!stored.contains(BlobKind::Data, &one.id));
        assert_eq!(stored.find(BlobKind::Data, &two.id).map(|location| location.pack), Some(Id::of(b"q")));
        assert_eq!(stored.packs(), [Id::of(b"q")]);
        assert!(Arc::ptr_eq(&both, &both.of_packs(|_, _| true)), "nothing is copied where all of it counts");
    }
}
