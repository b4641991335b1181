//! What becomes of each pack: it stays, goes, or is written anew without what nobody needs.
//!
//! Pure: figures in, decisions out.

use super::used::Marks;
use super::{MaxUnused, PruneOptions};
use crate::id::{BlobKind, Id};
use crate::index::{Index, pack_bytes};
use crate::pack::{entry_bytes, overhead_bytes};
use std::collections::{HashMap, HashSet};

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays as it is.
    Keep,
    /// Nothing in it is needed, or all of it lies elsewhere too.
    Remove,
    /// What is needed of it is written anew, then it goes.
    Repack,
    /// It is not stored, and something of it is needed: the index goes on naming it, in case it comes back.
    Missing,
    /// It is not stored, and nobody needs it.
    Forget,
}

/// What is known of a pack that an index names.
#[derive(Debug, Clone)]
pub(crate) struct PackFacts {
    pub(crate) id: Id,
    /// `None` where it is not stored.
    pub(crate) stored_bytes: Option<u64>,
    /// What its blobs add up to.
    pub(crate) expected_bytes: u64,
    pub(crate) is_distrusted: bool,
    /// Whether only index files name it that others replace: a prune or a heal was interrupted.
    pub(crate) is_replaced: bool,
    pub(crate) blobs: u32,
    pub(crate) needed_blobs: u32,
    /// Of the blobs that are needed, with their entries in the header.
    pub(crate) needed_bytes: u64,
    /// Whether it holds data, whether it holds folders.
    pub(crate) kinds: [bool; 2],
}

/// How far a copy is relied on: by where it lies.
const MISSING: u8 = 0;
const WRONG_SIZE: u8 = 1;
const DISTRUSTED: u8 = 2;
const REPLACED: u8 = 3;
const SOUND: u8 = 4;

impl PackFacts {
    fn rank(&self) -> u8 {
        match self.stored_bytes {
            None => MISSING,
            Some(bytes) if bytes != self.expected_bytes => WRONG_SIZE,
            Some(_) if self.is_distrusted => DISTRUSTED,
            Some(_) if self.is_replaced => REPLACED,
            Some(_) => SOUND,
        }
    }

    /// Bytes that nobody needs.
    pub(crate) fn unused_bytes(&self) -> u64 {
        let overhead = overhead_bytes(std::iter::empty());
        self.expected_bytes.saturating_sub(self.needed_bytes + overhead)
    }
}

/// Returns what is known of each pack of the index, with nothing needed yet.
pub(crate) fn pack_facts(
    index: &Index,
    places: &[u32],
    stored: &HashMap<Id, u64>,
    replaced: &HashSet<Id>,
    options: &PruneOptions,
) -> Vec<PackFacts> {
    let mut packs: Vec<PackFacts> = index
        .packs()
        .iter()
        .map(|id| PackFacts {
            id: *id,
            stored_bytes: stored.get(id).copied(),
            expected_bytes: pack_bytes(&[]),
            is_distrusted: options.distrusted.contains(id),
            is_replaced: replaced.contains(id),
            blobs: 0,
            needed_blobs: 0,
            needed_bytes: 0,
            kinds: [false; 2],
        })
        .collect();
    for place in places {
        let (pack, blob) = index.at(*place as usize);
        packs[pack].blobs += 1;
        packs[pack].expected_bytes += u64::from(blob.length) + entry_bytes(blob.uncompressed_length) as u64;
        packs[pack].kinds[blob.kind as usize] = true;
    }
    packs
}

/// Returns the end of the copies of the blob that lies at a place.
pub(crate) fn copies_end(index: &Index, begin: usize) -> usize {
    let (_, first) = index.at(begin);
    let same = |place: &usize| {
        let (_, blob) = index.at(*place);
        (blob.kind, blob.id) == (first.kind, first.id)
    };
    begin + (begin..index.len()).take_while(same).count()
}

/// Chooses of each used blob the copy that is relied on: one in a sound pack, and among those the one in whose pack
/// most is needed anyway. Where no pack is beyond doubt every copy stays.
pub(crate) fn choose_copies(index: &Index, marks: &Marks, packs: &mut [PackFacts]) {
    let mut several = Vec::new();
    let mut begin = 0;
    while begin < index.len() {
        let end = copies_end(index, begin);
        if marks.is_used(begin) {
            let rank = |place: &usize| packs[index.at(*place).0].rank();
            let best = (begin..end).map(|place| rank(&place)).max().unwrap_or(MISSING);
            let lowest = if best == DISTRUSTED { WRONG_SIZE } else { best };
            let candidates: Vec<usize> = (begin..end).filter(|place| rank(place) >= lowest).collect();
            if best == SOUND && candidates.len() > 1 {
                several.push(candidates);
            } else {
                candidates.into_iter().for_each(|place| need(index, marks, packs, place));
            }
        }
        begin = end;
    }
    for candidates in several {
        let needed = |place: &usize| packs[index.at(*place).0].needed_bytes;
        // The first of equals, so that the same repository has the same plan.
        let best = candidates.iter().copied().rev().max_by_key(needed);
        best.into_iter().for_each(|place| need(index, marks, packs, place));
    }
}

fn need(index: &Index, marks: &Marks, packs: &mut [PackFacts], place: usize) {
    let (pack, blob) = index.at(place);
    marks.mark_needed(place);
    packs[pack].needed_blobs += 1;
    packs[pack].needed_bytes += u64::from(blob.length) + entry_bytes(blob.uncompressed_length) as u64;
}

/// Decides. The worst waste is repacked first, folders before data, until what is left is within the bound.
pub(crate) fn decide(packs: &[PackFacts], options: &PruneOptions) -> Vec<Fate> {
    let mut fates: Vec<Fate> = packs.iter().map(certain_fate).collect();
    let kept =
        |fates: &[Fate]| -> Vec<usize> { (0..packs.len()).filter(|at| fates[*at] == Fate::Keep).collect() };
    let mut wasteful: Vec<usize> = kept(&fates);
    wasteful.retain(|at| packs[*at].needed_blobs < packs[*at].blobs && packs[*at].rank() >= DISTRUSTED);
    let waste = |at: &usize| packs[*at].unused_bytes() as f64 / packs[*at].expected_bytes.max(1) as f64;
    wasteful.sort_by(|a, b| {
        let folders = |at: &usize| packs[*at].kinds[BlobKind::Tree as usize];
        folders(b).cmp(&folders(a)).then(waste(b).total_cmp(&waste(a))).then(a.cmp(b))
    });
    let needed: u64 = packs.iter().map(|pack| pack.needed_bytes).sum();
    let bound = match options.max_unused {
        MaxUnused::Unlimited => u64::MAX,
        MaxUnused::Bytes(bytes) => bytes,
        MaxUnused::Percent(percent) if percent >= 100.0 => u64::MAX,
        MaxUnused::Percent(percent) => (percent.max(0.0) / (100.0 - percent.max(0.0)) * needed as f64) as u64,
    };
    let mut left: u64 = wasteful.iter().map(|at| packs[*at].unused_bytes()).sum();
    for at in wasteful {
        if left <= bound {
            break;
        }
        left -= packs[at].unused_bytes();
        fates[at] = Fate::Repack;
    }
    for kinds in [[true, false], [false, true]] {
        let mut small = kept(&fates);
        small.retain(|at| {
            let pack = &packs[*at];
            pack.kinds == kinds
                && pack.rank() == SOUND
                && pack.expected_bytes < u64::from(options.pack_bytes) / 8
        });
        if small.len() >= options.small_packs.max(2) {
            small.into_iter().for_each(|at| fates[at] = Fate::Repack);
        }
    }
    fates
}

fn certain_fate(pack: &PackFacts) -> Fate {
    match (pack.stored_bytes, pack.needed_blobs) {
        (None, 0) => Fate::Forget,
        (None, _) => Fate::Missing,
        (Some(_), 0) => Fate::Remove,
        (Some(_), _) => Fate::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(name: &str, needed: u32, kinds: [bool; 2]) -> PackFacts {
        PackFacts {
            id: Id::of(name.as_bytes()),
            stored_bytes: Some(10 << 20),
            expected_bytes: 10 << 20,
            is_distrusted: false,
            is_replaced: false,
            blobs: 10,
            needed_blobs: needed,
            needed_bytes: u64::from(needed) * ((10 << 20) - 36) / 10,
            kinds,
        }
    }

    const DATA: [bool; 2] = [true, false];
    const TREE: [bool; 2] = [false, true];

    fn fates(packs: &[PackFacts], max_unused: MaxUnused) -> Vec<Fate> {
        decide(packs, &PruneOptions { max_unused, ..PruneOptions::default() })
    }

    #[test]
    fn the_worst_waste_goes_first_until_the_rest_is_within_the_bound() {
        let packs = [pack("a", 9, DATA), pack("b", 2, DATA), pack("c", 10, DATA), pack("d", 0, DATA)];
        use Fate::{Keep, Remove, Repack};
        assert_eq!(fates(&packs, MaxUnused::Percent(5.0)), [Keep, Repack, Keep, Remove]);
        assert_eq!(fates(&packs, MaxUnused::Bytes(0)), [Repack, Repack, Keep, Remove]);
        assert_eq!(fates(&packs, MaxUnused::Unlimited), [Keep, Keep, Keep, Remove]);
        assert_eq!(fates(&packs, MaxUnused::Percent(100.0)), [Keep, Keep, Keep, Remove]);
    }

    #[test]
    fn folders_go_before_data_and_a_pack_of_wrong_size_is_left_alone() {
        let mut packs = [pack("a", 2, DATA), pack("b", 5, TREE), pack("c", 5, DATA)];
        let bound = packs[0].unused_bytes() + packs[2].unused_bytes();
        assert_eq!(fates(&packs, MaxUnused::Bytes(bound)), [Fate::Keep, Fate::Repack, Fate::Keep]);
        packs[1].stored_bytes = Some(7);
        packs[2].stored_bytes = None;
        assert_eq!(fates(&packs, MaxUnused::Bytes(0)), [Fate::Repack, Fate::Keep, Fate::Missing]);
        packs[2].needed_blobs = 0;
        assert_eq!(fates(&packs, MaxUnused::Bytes(0))[2], Fate::Forget);
    }

    #[test]
    fn small_packs_are_put_together_once_they_are_many() {
        let small = |at: u32| {
            let size_bytes = 1000 + u64::from(at);
            let pack = pack(&at.to_string(), 10, DATA);
            PackFacts { stored_bytes: Some(size_bytes), expected_bytes: size_bytes, ..pack }
        };
        let packs: Vec<PackFacts> = (0..10).map(small).collect();
        assert!(fates(&packs, MaxUnused::Percent(5.0)).iter().all(|fate| *fate == Fate::Repack));
        assert!(fates(&packs[1..], MaxUnused::Percent(5.0)).iter().all(|fate| *fate == Fate::Keep));
    }
}
