//! Reading thousands of folders at once, in the order in which they lie in their packs: a few large requests instead of
//! one a folder. Nothing is written.

use crate::error::ResticError;
use crate::fetch::{Piece, Run};
use crate::id::{BlobKind, Id};
use crate::index::Index;
use crate::parallel;
use crate::repository::Repository;
use crate::tree::{NodeKind, Tree};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a folder needs: data blobs, and the folders below it. `None` where it cannot be read.
type Needed = Option<(Vec<Id>, Vec<Id>)>;
type Level = HashMap<Id, Needed>;

impl Repository {
    /// Tells of each folder whether it and all below it can be read, and every blob that they need is one that `sound`
    /// names. Each folder is read once, however many need it.
    pub fn folders_are_sound(
        &self,
        index: &Index,
        sound: &Index,
        folders: &[Id],
        threads: usize,
    ) -> Vec<bool> {
        let mut known = Level::new();
        let mut wanted: BTreeSet<Id> = folders.iter().copied().collect();
        while !wanted.is_empty() {
            let level = self.read_level(index, sound, &wanted, threads);
            wanted = level.values().flatten().flat_map(|(_, below)| below).copied().collect();
            known.extend(level);
            wanted.retain(|id| !known.contains_key(id));
        }
        let mut verdicts = BTreeMap::new();
        folders.iter().map(|folder| is_sound(&known, sound, folder, &mut verdicts)).collect()
    }

    fn read_level(&self, index: &Index, sound: &Index, wanted: &BTreeSet<Id>, threads: usize) -> Level {
        let kind = BlobKind::Tree;
        let mut level: Level = wanted.iter().map(|id| (*id, None)).collect();
        let sound = wanted.iter().filter(|id| sound.contains(kind, id));
        let mut pieces: Vec<Piece> =
            sound.filter_map(|id| Some(Piece { kind, id: *id, location: index.find(kind, id)? })).collect();
        pieces.sort_unstable_by_key(|piece| (piece.location.pack, piece.location.offset));
        for (id, needed) in
            parallel::map(&Run::join(pieces), threads, |run| self.read_run(index, run)).concat()
        {
            level.insert(id, needed);
        }
        level
    }

    fn read_run(&self, index: &Index, run: &Run) -> Vec<(Id, Needed)> {
        let needs = |blob: Result<Vec<u8>, ResticError>| {
            let tree = Tree::from_blob(&blob.ok()?).ok()?;
            let (mut data, mut below) = (Vec::new(), Vec::new());
            for node in tree.nodes {
                data.extend(node.content.into_iter().flatten());
                below.extend(node.subtree.filter(|_| node.kind == NodeKind::Dir));
            }
            Some((data, below))
        };
        run.pieces.iter().zip(run.read(self, index)).map(|(piece, blob)| (piece.id, needs(blob))).collect()
    }
}

fn is_sound(known: &Level, sound: &Index, folder: &Id, verdicts: &mut BTreeMap<Id, bool>) -> bool {
    if let Some(verdict) = verdicts.get(folder) {
        return *verdict;
    }
    // Should a folder ever be below itself, it is not sound.
    verdicts.insert(*folder, false);
    let verdict = known.get(folder).and_then(Option::as_ref).is_some_and(|(data, below)| {
        data.iter().all(|id| sound.contains(BlobKind::Data, id))
            && below.iter().all(|below| is_sound(known, sound, below, verdicts))
    });
    verdicts.insert(*folder, verdict);
    verdict
}
