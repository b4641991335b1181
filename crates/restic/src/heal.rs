//! Mending a repository as far as it goes: what is good stays or is saved, what is damaged beyond doubt goes, and the
//! index tells the truth again. What no pack holds any more only a new backup can bring back.
//!
//! The order is that of a prune: new packs, index, old index files, damaged packs. A crash at any point leaves nothing
//! worse, and the next run goes on from there.

use crate::check::{CheckOutcome, Depth, check_to_heal};
use crate::error::{ResticError, ResticErrorKind};
use crate::evidence::{Evidence, PackDamage};
use crate::id::{BlobKind, Id};
use crate::index::Index;
use crate::index_file::IndexedPack;
use crate::lock::LockGuard;
use crate::pace::Pace;
use crate::pack::PackBlob;
use crate::reindex::{remove_objects, write_index};
use crate::repack::{Repacker, copy_blobs};
use crate::repository::Repository;
use crate::vault::ObjectKind;
use flow::Cancel;
use std::collections::{BTreeSet, HashSet};

/// So many packs may be missing, or one in so many, before somebody has to say that they are gone.
const MISSING_FEW: usize = 2;
const MISSING_SHARE: usize = 20;

/// The size of packs into which good blobs of damaged ones are copied.
const PACK_BYTES: u32 = 16 << 20;

/// How a heal is planned.
#[derive(Debug, Clone)]
pub struct HealOptions {
    /// How deep to look.
    pub depth: Depth,
    /// Packs that were found damaged before: they are read in full whatever the depth.
    pub suspects: HashSet<Id>,
    /// Whether packs that are missing are gone for good, however many they are.
    pub accept_missing: bool,
}

impl HealOptions {
    /// Looks that deep, suspects nothing, and takes no more than a few packs for gone.
    pub fn new(depth: Depth) -> Self {
        Self { depth, suspects: HashSet::new(), accept_missing: false }
    }
}

/// What is done about an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HealAction {
    /// The object: `pack ID`, `index ID`, `snapshot ID`.
    pub object: String,
    /// What is done about it.
    pub action: String,
}

/// What is damaged, and what will be done about it. Holds about 60 bytes a blob.
pub struct HealPlan {
    /// What a check finds, packs that no index names taken into account.
    pub check: CheckOutcome,
    /// What will be done, sorted by object.
    pub actions: Vec<HealAction>,
    evidence: Evidence,
    index: Index,
    /// The places of the index, pack by pack.
    places: Vec<u32>,
    /// Packs that no index file names, and that hold what is in no other sound pack.
    recovered: HashSet<Id>,
}

impl std::fmt::Debug for HealPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HealPlan").field("actions", &self.actions).finish_non_exhaustive()
    }
}

/// What a heal came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealOutcome {
    /// The packs that are gone, or named by no index any more.
    pub packs_dropped: Vec<Id>,
    /// The snapshots that are gone, since their own objects were damaged.
    pub snapshots_removed: Vec<Id>,
    /// How many packs of blobs that were good in damaged ones were written.
    pub packs_written: u64,
}

/// Checks, and plans what to do; changes nothing. For a plan that is carried out the exclusive lock is taken first.
/// Suspects, packs that no index names, and each copy that is relied on while another one goes are read whatever the
/// depth.
///
/// Refuses where the storage as a whole seems to be away: no pack is there, more than a few are missing and nobody said
/// that they are gone, or most of those that were asked for cannot be read. An index file that the storage does not
/// give is an error too: nobody knows what it says.
pub fn plan_heal(
    repository: &Repository,
    options: &HealOptions,
    cancel: &Cancel,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<HealPlan, ResticError> {
    let mut suspects = options.suspects.clone();
    loop {
        let (check, evidence, index) = check_to_heal(repository, options.depth, &suspects, cancel, progress)?;
        if let Some(error) = evidence.unreadable_index {
            return Err(error);
        }
        refuse_absent(repository, &index, &evidence, options.accept_missing)?;
        let places = index.places_by_pack();
        let mut plan =
            HealPlan { check, actions: Vec::new(), evidence, index, places, recovered: HashSet::new() };
        plan.recovered = plan.packs_to_name();
        let bad = plan.bad_copies(repository, cancel)?;
        if bad.is_empty() {
            plan.actions = plan.list_actions(repository);
            return Ok(plan);
        }
        // What is bad about them as a whole is found out before anything is decided.
        suspects.extend(bad);
        suspects.extend(plan.evidence.packs.keys());
    }
}

fn refuse_absent(
    repository: &Repository,
    index: &Index,
    evidence: &Evidence,
    accept_missing: bool,
) -> Result<(), ResticError> {
    let named = index.packs().len();
    let count = |damage: PackDamage| evidence.packs.values().filter(|found| **found == damage).count();
    let problem = match (named, count(PackDamage::Missing), count(PackDamage::Unreadable)) {
        (1.., missing, _) if missing == named => format!("none of its {named} packs is there"),
        (_, missing, _) if !accept_missing && missing > MISSING_FEW && missing * MISSING_SHARE > named => {
            format!("{missing} of its {named} packs are not there (--accept-missing says that they are gone)")
        }
        (_, _, unreadable) if unreadable > 1 && unreadable * 2 > named => {
            format!("{unreadable} of its {named} packs cannot be read")
        }
        _ => return Ok(()),
    };
    let message = format!("{problem}: is the storage there as a whole? nothing was changed");
    Err(ResticError::new(ResticErrorKind::Damaged, repository.location(), message))
}

impl HealPlan {
    /// Tells whether there is nothing that could be done.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    fn pack_at(&self, place: u32) -> Id {
        self.index.packs()[self.index.at(place as usize).0]
    }

    fn packs(&self) -> impl Iterator<Item = (Id, &[u32])> {
        let groups =
            self.places.chunk_by(|a, b| self.index.at(*a as usize).0 == self.index.at(*b as usize).0);
        groups.map(|places| (self.pack_at(places[0]), places))
    }

    fn blobs(&self, places: &[u32]) -> Vec<PackBlob> {
        places.iter().map(|place| self.index.at(*place as usize).1).collect()
    }

    fn is_sound(&self, pack: &Id) -> bool {
        !self.evidence.packs.contains_key(pack)
    }

    /// Returns the packs that the storage does not give: they stay, and the index goes on naming them.
    pub fn unreadable_packs(&self) -> HashSet<Id> {
        let packs = self.evidence.packs.iter();
        packs.filter(|(_, damage)| **damage == PackDamage::Unreadable).map(|(id, _)| *id).collect()
    }

    fn is_unreadable(&self, pack: &Id) -> bool {
        self.evidence.packs.get(pack) == Some(&PackDamage::Unreadable)
    }

    /// Reads a copy of each blob whose pack goes while that copy is relied on, unless its own pack was read. Returns the
    /// packs whose copies are bad.
    fn bad_copies(&self, repository: &Repository, cancel: &Cancel) -> Result<HashSet<Id>, ResticError> {
        let (mut bad, mut done) = (HashSet::new(), HashSet::new());
        for (pack, places) in self.packs() {
            let is_bad = self.evidence.packs.get(&pack) == Some(&PackDamage::Bad);
            let is_left_over = self.evidence.unnamed.contains(&pack) && !self.recovered.contains(&pack);
            if !is_bad && !is_left_over {
                continue;
            }
            for blob in self.blobs(places) {
                cancel.check().map_err(|_| ResticError::cancelled(repository.location()))?;
                if done.insert((blob.kind, blob.id)) {
                    self.confirm_copy(repository, &blob, &mut bad);
                }
            }
        }
        Ok(bad)
    }

    fn confirm_copy(&self, repository: &Repository, blob: &PackBlob, bad: &mut HashSet<Id>) {
        let copies: Vec<_> = self
            .index
            .locations(blob.kind, &blob.id)
            .filter(|copy| self.is_relied_on(&copy.pack, &self.recovered))
            .collect();
        if copies.iter().any(|copy| self.evidence.read.contains(&copy.pack)) {
            return;
        }
        for copy in copies {
            if repository.read_blob_at(blob.kind, &blob.id, &copy).is_ok() {
                return;
            }
            bad.insert(copy.pack);
        }
    }

    /// Tells whether a pack is sound, and an index is going to name it.
    fn is_relied_on(&self, pack: &Id, recovered: &HashSet<Id>) -> bool {
        let is_named = !self.evidence.unnamed.contains(pack) || recovered.contains(pack);
        is_named && self.is_sound(pack)
    }

    /// Tells whether a sound pack that an index is going to name holds a blob.
    fn is_safe(&self, kind: BlobKind, id: &Id, recovered: &HashSet<Id>) -> bool {
        self.index.locations(kind, id).any(|location| self.is_relied_on(&location.pack, recovered))
    }

    /// Returns the packs that no index file names, that are good, and that hold what no other good pack does.
    fn packs_to_name(&self) -> HashSet<Id> {
        let mut recovered = HashSet::new();
        for (pack, places) in self.packs() {
            if !self.evidence.unnamed.contains(&pack) || !self.is_sound(&pack) {
                continue;
            }
            if self.blobs(places).iter().any(|blob| !self.is_safe(blob.kind, &blob.id, &recovered)) {
                recovered.insert(pack);
            }
        }
        recovered
    }

    /// Returns what of a damaged pack no good one holds.
    fn to_save(&self, places: &[u32]) -> Vec<PackBlob> {
        let mut blobs = self.blobs(places);
        blobs.retain(|blob| !self.is_safe(blob.kind, &blob.id, &self.recovered));
        blobs
    }

    fn must_reindex(&self) -> bool {
        let dropped = |pack: &Id| !self.evidence.unnamed.contains(pack) && !self.is_unreadable(pack);
        let dropped = self.evidence.packs.keys().any(dropped);
        dropped
            || !self.evidence.bad_indexes.is_empty()
            || !self.recovered.is_empty()
            || self.evidence.has_superseded
    }

    fn list_actions(&self, repository: &Repository) -> Vec<HealAction> {
        let mut actions = BTreeSet::new();
        let mut add = |object: String, action: String| actions.insert(HealAction { object, action });
        for id in &self.evidence.bad_indexes {
            add(format!("index {id}"), "is removed; the packs tell what it said".to_owned());
        }
        for id in &self.recovered {
            add(format!("pack {id}"), "is good and in no index: it is named in one again".to_owned());
        }
        for (id, damage) in &self.evidence.packs {
            let action = match damage {
                PackDamage::Missing => "is taken out of the index",
                PackDamage::Bad => "what is good of it is copied, then it is removed",
                PackDamage::Unreadable => {
                    "cannot be read now: what can be read of it is copied, and it stays; once it can be read again, \
                     or its file is removed, a heal goes on"
                }
            };
            add(format!("pack {id}"), action.to_owned());
        }
        for id in &self.evidence.bad_snapshots {
            let action = match repository.cached(ObjectKind::Snapshot, id) {
                Some(_) => "is put back from the copy in the cache of this machine",
                None => "is removed: what it held, nobody can tell",
            };
            add(format!("snapshot {id}"), action.to_owned());
        }
        if actions.is_empty() && self.evidence.has_superseded {
            let action = "files that a newer one replaces are removed".to_owned();
            actions.insert(HealAction { object: "index".to_owned(), action });
        }
        actions.into_iter().collect()
    }

    /// Carries the plan out. The lock is exclusive and was taken before the plan was made. Killed or failed at any
    /// point it can be repeated, and nothing is worse than before.
    pub fn execute(
        self,
        repository: &Repository,
        lock: &LockGuard,
        cancel: &Cancel,
    ) -> Result<HealOutcome, ResticError> {
        let pace = Pace::new(repository, lock, cancel);
        pace.ensure()?;
        let mut outcome = HealOutcome::default();
        if self.must_reindex() || !self.evidence.packs.is_empty() {
            let saved = self.save_blobs(repository, &pace)?;
            outcome.packs_written = saved.len() as u64;
            self.replace_index(repository, &pace, saved)?;
            self.remove_bad_packs(repository, &pace)?;
            let dropped = self.evidence.packs.keys().filter(|pack| !self.is_unreadable(pack));
            outcome.packs_dropped = dropped.copied().collect();
        }
        pace.ensure()?;
        for id in &self.evidence.bad_snapshots {
            let copy = repository.cached(ObjectKind::Snapshot, id);
            remove_objects(repository, ObjectKind::Snapshot, &[(*id, 0)], &|| pace.go_on(), &|_| {})?;
            match copy {
                Some(sealed) => repository.vault().put_back(ObjectKind::Snapshot, id, &sealed)?,
                None => outcome.snapshots_removed.push(*id),
            }
        }
        Ok(outcome)
    }

    /// Copies what is good of the damaged packs.
    fn save_blobs(&self, repository: &Repository, pace: &Pace<'_>) -> Result<Vec<IndexedPack>, ResticError> {
        let repacker = Repacker::new(repository, PACK_BYTES);
        let mut copied = HashSet::new();
        for (pack, places) in self.packs() {
            if matches!(self.evidence.packs.get(&pack), None | Some(PackDamage::Missing)) {
                continue;
            }
            let mut blobs = self.to_save(places);
            blobs.retain(|blob| !copied.contains(&(blob.kind, blob.id)));
            let lost = copy_blobs(repository, &self.index, &pack, &blobs, &repacker, &|_| pace.go_on())?;
            let lost: HashSet<(BlobKind, Id)> = lost.into_iter().map(|blob| (blob.kind, blob.id)).collect();
            let saved = blobs.iter().map(|blob| (blob.kind, blob.id)).filter(|blob| !lost.contains(blob));
            copied.extend(saved);
        }
        repacker.flush()?;
        Ok(repacker.into_written().0)
    }

    fn replace_index(
        &self,
        repository: &Repository,
        pace: &Pace<'_>,
        saved: Vec<IndexedPack>,
    ) -> Result<(), ResticError> {
        if !self.must_reindex() && saved.is_empty() {
            return Ok(());
        }
        let staying = self.packs().filter(|(pack, _)| {
            let is_away = self.is_unreadable(pack) && !self.evidence.unnamed.contains(pack);
            is_away || self.is_relied_on(pack, &self.recovered)
        });
        let staying = staying.map(|(id, places)| IndexedPack { id, blobs: self.blobs(places) });
        let old: Vec<Id> = self.evidence.indexes.iter().map(|(id, _)| *id).collect();
        write_index(repository, staying.chain(saved), &old, &|| pace.ensure())?;
        pace.ensure()?;
        remove_objects(repository, ObjectKind::Index, &self.evidence.indexes, &|| pace.go_on(), &|_| {})
    }

    fn remove_bad_packs(&self, repository: &Repository, pace: &Pace<'_>) -> Result<(), ResticError> {
        let bad = self.evidence.packs.iter().filter(|(_, damage)| **damage == PackDamage::Bad);
        let bad: Vec<(Id, u64)> =
            bad.map(|(id, _)| (*id, self.evidence.stored.get(id).copied().unwrap_or(0))).collect();
        pace.ensure()?;
        remove_objects(repository, ObjectKind::Pack, &bad, &|| pace.go_on(), &|_| {})
    }
}
