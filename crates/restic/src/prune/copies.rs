//! Blobs that are stored twice: before one copy goes, the one that stays is read.
//!
//! Where it is bad, another one takes its place, and its pack is written anew without it. Only reads.

use super::PrunePlan;
use super::fates::{Fate, copies_end};
use crate::error::ResticError;
use crate::repack::Unreadable;
use crate::repository::Repository;
use std::collections::HashSet;
use std::ops::Range;

impl PrunePlan {
    /// Reads each copy that is relied on while another one goes with its pack. Returns what can be read in no place:
    /// all packs that should hold it stay. `go_on` is asked before each.
    pub(super) fn confirm_copies(
        &mut self,
        repository: &Repository,
        go_on: &dyn Fn() -> Result<(), ResticError>,
    ) -> Result<Vec<Unreadable>, ResticError> {
        let mut lost = Vec::new();
        let mut done = HashSet::new();
        loop {
            // A pack that has to go for a bad copy leaves copies of its other blobs alone in turn.
            let copies = self.lonely_copies(&done);
            if copies.is_empty() {
                return Ok(lost);
            }
            for copies in copies {
                go_on()?;
                done.insert(copies.start);
                lost.extend(self.confirm_copy(repository, copies));
            }
        }
    }

    /// Returns the copies of those blobs that are relied on in a pack that stays, while another copy goes.
    fn lonely_copies(&self, done: &HashSet<usize>) -> Vec<Range<usize>> {
        let mut lonely = Vec::new();
        let mut begin = 0;
        while begin < self.index.len() {
            let end = copies_end(&self.index, begin);
            if end - begin > 1 && self.marks.is_used(begin) && !done.contains(&begin) {
                let fate = |place: usize| self.fates[self.pack_at(place as u32)];
                let stays =
                    (begin..end).any(|place| self.marks.is_needed(place) && fate(place) == Fate::Keep);
                let goes = (begin..end).any(|place| matches!(fate(place), Fate::Remove | Fate::Repack));
                if stays && goes {
                    lonely.push(begin..end);
                }
            }
            begin = end;
        }
        lonely
    }

    fn confirm_copy(&mut self, repository: &Repository, copies: Range<usize>) -> Option<Unreadable> {
        let (_, blob) = self.index.at(copies.start);
        let locations: Vec<_> = copies.clone().zip(self.index.locations(blob.kind, &blob.id)).collect();
        let mut bad = Vec::new();
        let mut problem = None;
        let (mut ordered, others): (Vec<_>, Vec<_>) =
            locations.into_iter().partition(|(place, _)| self.marks.is_needed(*place));
        ordered.extend(others);
        for (place, location) in ordered {
            match repository.read_blob_at(blob.kind, &blob.id, &location) {
                Ok(_) => {
                    self.rely_on(place, &bad);
                    return None;
                }
                Err(error) => {
                    problem.get_or_insert(error);
                    bad.push(place);
                }
            }
        }
        let error = problem?;
        copies.for_each(|place| self.keep_pack_of(place));
        Some(Unreadable { kind: blob.kind, id: blob.id, error })
    }

    /// One copy was read and is good, others are bad: their packs are written anew without them.
    fn rely_on(&mut self, place: usize, bad: &[usize]) {
        self.marks.mark_needed(place);
        let pack = self.pack_at(place as u32);
        if self.fates[pack] == Fate::Remove {
            self.fates[pack] = Fate::Repack;
        }
        for place in bad {
            self.marks.unmark_needed(*place);
            let pack = self.pack_at(*place as u32);
            if self.fates[pack] == Fate::Keep && !self.pinned.contains(&pack) {
                self.fates[pack] = Fate::Repack;
                self.must_reindex = true;
            }
        }
    }

    /// Something of its pack can be read nowhere: it stays, come what may.
    pub(super) fn keep_pack_of(&mut self, place: usize) {
        let pack = self.pack_at(place as u32);
        if self.packs[pack].stored_bytes.is_some() {
            self.fates[pack] = Fate::Keep;
            self.pinned.insert(pack);
        }
    }
}
