//! Freeing space: what no snapshot that stays needs goes, in a plan that is made first and then carried out.
//!
//! The plan changes nothing. What it cannot know it does not guess: a folder that cannot be read refuses it. Carried
//! out under an exclusive lock, in an order in which a crash at any point leaves every listed snapshot readable, and
//! leftovers that the next prune removes.

mod copies;
mod execute;
mod fates;
mod used;

pub use execute::{PruneOutcome, PruneStep};

use crate::check::{CheckProblem, Traced, trace_damage};
use crate::error::{ResticError, ResticErrorKind};
use crate::id::Id;
use crate::index::Index;
use crate::index_file::INDEX_BLOBS_MAX;
use crate::pack::overhead_bytes;
use crate::parallel::{self, REQUESTS};
use crate::repository::Repository;
use crate::vault::ObjectKind;
use fates::{Fate, PackFacts, choose_copies, copies_end, decide, pack_facts};
use flow::Cancel;
use std::collections::{HashMap, HashSet};
use used::{Marks, Walked, mark_used};

/// So many index files more than are necessary are left as they are.
const INDEX_FILES_SPARE: usize = 16;
/// So many snapshots are named in an error.
const SNAPSHOTS_NAMED: usize = 8;

/// How many bytes that nobody needs may stay, so that less is written anew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// Any: only packs of which nothing is needed go.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of all bytes that stay, as restic counts them.
    Percent(f64),
}

/// How a prune is planned.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// How much waste stays; 5 % by default.
    pub max_unused: MaxUnused,
    /// The size that new packs get.
    pub pack_bytes: u32,
    /// From so many packs of one kind on that are smaller than an eighth of `pack_bytes`, they are put together.
    pub small_packs: usize,
    /// Packs that are known to be damaged: another copy is preferred to theirs.
    pub distrusted: HashSet<Id>,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            max_unused: MaxUnused::Percent(5.0),
            pack_bytes: 16 << 20,
            small_packs: 10,
            distrusted: HashSet::new(),
        }
    }
}

/// How many of something, and their bytes as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes as stored.
    pub size_bytes: u64,
}

impl Amount {
    fn add(&mut self, size_bytes: u64) {
        self.count += 1;
        self.size_bytes += size_bytes;
    }
}

/// What a plan comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PruneFigures {
    /// Snapshots that stay.
    pub snapshots_kept: u64,
    /// Snapshots that go.
    pub snapshots_removed: u64,
    /// Blobs that are needed, each counted once.
    pub used_blobs: Amount,
    /// Further copies of blobs that are needed.
    pub duplicate_blobs: Amount,
    /// Blobs that nobody needs.
    pub unused_blobs: Amount,
    /// Packs that stay as they are.
    pub packs_kept: Amount,
    /// Packs that go, since nothing of them is needed.
    pub packs_removed: Amount,
    /// Packs of which a part is written anew before they go.
    pub packs_repacked: Amount,
    /// Packs that no index names, left by runs that were interrupted: they go. None where something that is needed is
    /// missing: then they may hold it, and stay.
    pub packs_unnamed: Amount,
    /// Packs that are not stored, though an index names them and something of them is needed.
    pub packs_missing: u64,
    /// Bytes that are written anew, about.
    pub rewritten_bytes: u64,
    /// Bytes that nobody needs in packs that stay.
    pub unused_bytes_left: u64,
    /// Bytes of packs that are freed in the end, less what is written anew; about.
    pub freed_bytes: u64,
}

/// What a prune will do. Holds about 60 bytes a blob.
pub struct PrunePlan {
    /// What it comes to.
    pub figures: PruneFigures,
    /// What is missing or damaged beyond doubt, with the snapshots that stay and need it. Nothing of it is removed.
    pub findings: Vec<CheckProblem>,
    /// The snapshots that go, sorted.
    remove: Vec<Id>,
    /// The snapshots and index files that there were, sorted: a plan holds for these alone.
    snapshots: Vec<Id>,
    indexes: Vec<(Id, u64)>,
    must_reindex: bool,
    index: Index,
    marks: Marks,
    /// The places of the index, pack by pack.
    places: Vec<u32>,
    packs: Vec<PackFacts>,
    fates: Vec<Fate>,
    /// Packs that stay, whatever else is found.
    pinned: HashSet<usize>,
    unnamed: Vec<(Id, u64)>,
    pack_bytes: u32,
}

impl std::fmt::Debug for PrunePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrunePlan").field("figures", &self.figures).finish_non_exhaustive()
    }
}

impl PrunePlan {
    /// Packs that no index names may hold what is missing: they stay. Returns what is to be told of that.
    fn keep_unnamed(&mut self) -> Option<CheckProblem> {
        let count = std::mem::take(&mut self.unnamed).len();
        (count > 0).then(|| CheckProblem {
            object: format!("{count} packs that no index names"),
            problem: "are left, since they may hold what is missing: `check --heal` looks into them"
                .to_owned(),
            snapshots: Vec::new(),
        })
    }

    /// Returns the snapshots that go, sorted.
    pub fn removed_snapshots(&self) -> &[Id] {
        &self.remove
    }

    /// Tells whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let stays = |fate: &Fate| matches!(fate, Fate::Keep | Fate::Missing);
        self.remove.is_empty()
            && self.unnamed.is_empty()
            && !self.must_reindex
            && self.fates.iter().all(stays)
    }
}

/// Plans a prune without these snapshots; changes nothing. For a plan that is carried out the exclusive lock is taken
/// first. `progress` is told of folders as they are read, from any thread.
///
/// [`ResticErrorKind::Damaged`] where an index file, a snapshot that stays or one of its folders cannot be read: then
/// nobody knows what is needed. Data that is missing is no error but one of the plan's findings. Packs without any
/// snapshot are an error too: that none is needed looks the same as a folder that is away.
pub fn plan_prune(
    repository: &Repository,
    remove: &HashSet<Id>,
    options: &PruneOptions,
    cancel: &Cancel,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<PrunePlan, ResticError> {
    let stored: HashMap<Id, u64> = repository.vault().list(ObjectKind::Pack)?.into_iter().collect();
    let mut indexes = repository.vault().list(ObjectKind::Index)?;
    indexes.sort_unstable();
    let (index, replaced) = repository.load_index_of_all_files()?;
    let snapshots = sorted_snapshots(repository)?;
    refuse_unlisted(repository, &snapshots, stored.len())?;
    let (remove, stay): (Vec<Id>, Vec<Id>) = snapshots.iter().partition(|id| remove.contains(id));
    let roots = load_roots(repository, &stay, cancel)?;
    let marks = Marks::new(&index);
    let walked = mark_used(repository, &index, &marks, roots.iter().map(|root| root.1), cancel, progress)?;
    refuse_lost_trees(repository, &index, &walked, &roots, cancel)?;
    let places = index.places_by_pack();
    let mut packs = pack_facts(&index, &places, &stored, &replaced, options);
    choose_copies(&index, &marks, &mut packs);
    let fates = decide(&packs, options);
    let findings = findings(repository, &index, &packs, &fates, &walked, &roots, cancel)?;
    let named: HashSet<&Id> = index.packs().iter().collect();
    let mut unnamed: Vec<(Id, u64)> = stored.iter().map(|(id, bytes)| (*id, *bytes)).collect();
    unnamed.retain(|(id, _)| !named.contains(id));
    unnamed.sort_unstable();
    let must_reindex = must_reindex(&index, &indexes, &fates, repository)?;
    let mut plan = PrunePlan {
        figures: PruneFigures::default(),
        findings,
        remove,
        snapshots,
        indexes,
        must_reindex,
        index,
        marks,
        places,
        packs,
        fates,
        pinned: HashSet::new(),
        unnamed,
        pack_bytes: options.pack_bytes,
    };
    let is_in_doubt = |pack: &PackFacts| pack.is_distrusted && pack.needed_blobs > 0;
    if !plan.findings.is_empty() || plan.packs.iter().any(is_in_doubt) {
        let told = plan.keep_unnamed();
        plan.findings.extend(told);
    }
    plan.figures = figures(&plan);
    Ok(plan)
}

fn refuse_unlisted(repository: &Repository, snapshots: &[Id], packs: usize) -> Result<(), ResticError> {
    if !snapshots.is_empty() || packs == 0 {
        return Ok(());
    }
    let message = format!(
        "no backup is listed, and {packs} packs are stored: nothing is removed. Where the folder `snapshots` is away, \
         bring it back; what an interrupted first backup left goes once a backup is listed"
    );
    Err(ResticError::new(ResticErrorKind::Failed, repository.location(), message))
}

fn sorted_snapshots(repository: &Repository) -> Result<Vec<Id>, ResticError> {
    let listed = repository.vault().list(ObjectKind::Snapshot)?;
    let mut ids: Vec<Id> = listed.into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Returns each snapshot with its tree.
fn load_roots(
    repository: &Repository,
    snapshots: &[Id],
    cancel: &Cancel,
) -> Result<Vec<(Id, Id)>, ResticError> {
    let roots = parallel::map(snapshots, REQUESTS, |id| {
        cancel.check().map_err(|_| ResticError::cancelled(repository.location()))?;
        repository.snapshot(id).map(|snapshot| (*id, snapshot.tree))
    });
    roots.into_iter().collect()
}

fn refuse_lost_trees(
    repository: &Repository,
    index: &Index,
    walked: &Walked,
    roots: &[(Id, Id)],
    cancel: &Cancel,
) -> Result<(), ResticError> {
    let Some((tree, error)) = walked.lost_trees.first() else { return Ok(()) };
    let traced = trace_damage(repository, index, &[], roots, cancel)?;
    let needing = traced.lost_trees.iter().find(|(id, _)| id == tree).map_or(&[][..], |(_, ids)| ids);
    let mut names: Vec<String> = needing.iter().take(SNAPSHOTS_NAMED).map(Id::short).collect();
    if needing.len() > SNAPSHOTS_NAMED {
        names.push(format!("{} more", needing.len() - SNAPSHOTS_NAMED));
    }
    let message = format!(
        "cannot be read, so that nobody knows what the backups with it need (snapshots {}); nothing is removed",
        names.join(", ")
    );
    let kind = match &error.kind {
        ResticErrorKind::Missing | ResticErrorKind::Damaged => ResticErrorKind::Damaged,
        kind => kind.clone(),
    };
    let object = format!("folder {tree} in {}", repository.location());
    Err(ResticError::new(kind, object, message).with_source(error.clone()))
}

/// Tells what is missing, where anything is.
fn findings(
    repository: &Repository,
    index: &Index,
    packs: &[PackFacts],
    fates: &[Fate],
    walked: &Walked,
    roots: &[(Id, Id)],
    cancel: &Cancel,
) -> Result<Vec<CheckProblem>, ResticError> {
    let mut bad = Vec::new();
    for (pack, fate) in packs.iter().zip(fates).filter(|(pack, _)| pack.needed_blobs > 0) {
        match pack.stored_bytes {
            None => bad.push((pack.id, "is not stored".to_owned())),
            Some(bytes) if bytes != pack.expected_bytes && *fate == Fate::Keep => {
                let problem = format!("has {bytes} bytes, and {} were expected", pack.expected_bytes);
                bad.push((pack.id, problem));
            }
            Some(_) => {}
        }
    }
    if bad.is_empty() && walked.unnamed.is_empty() {
        return Ok(Vec::new());
    }
    let Traced { problems, .. } = trace_damage(repository, index, &bad, roots, cancel)?;
    Ok(problems)
}

fn must_reindex(
    index: &Index,
    indexes: &[(Id, u64)],
    fates: &[Fate],
    repository: &Repository,
) -> Result<bool, ResticError> {
    if fates.iter().any(|fate| !matches!(fate, Fate::Keep | Fate::Missing)) {
        return Ok(true);
    }
    if indexes.len() > index.len() / INDEX_BLOBS_MAX * 2 + INDEX_FILES_SPARE {
        return Ok(true);
    }
    // Left by a run that was interrupted between writing new files and removing the old ones.
    repository.has_superseded_index_files()
}

fn figures(plan: &PrunePlan) -> PruneFigures {
    let mut figures = PruneFigures {
        snapshots_kept: (plan.snapshots.len() - plan.remove.len()) as u64,
        snapshots_removed: plan.remove.len() as u64,
        ..PruneFigures::default()
    };
    count_blobs(plan, &mut figures);
    let mut freed = 0;
    for (pack, fate) in plan.packs.iter().zip(&plan.fates) {
        let bytes = pack.stored_bytes.unwrap_or(0);
        match fate {
            Fate::Keep => {
                figures.packs_kept.add(bytes);
                figures.unused_bytes_left += pack.unused_bytes();
            }
            Fate::Remove => figures.packs_removed.add(bytes),
            Fate::Repack => {
                figures.packs_repacked.add(bytes);
                figures.rewritten_bytes += pack.needed_bytes;
            }
            Fate::Missing => figures.packs_missing += 1,
            Fate::Forget => {}
        }
        if matches!(fate, Fate::Remove | Fate::Repack) {
            freed += bytes;
        }
    }
    for (_, bytes) in &plan.unnamed {
        figures.packs_unnamed.add(*bytes);
        freed += bytes;
    }
    if figures.rewritten_bytes > 0 {
        let packs = figures.rewritten_bytes / u64::from(plan.pack_bytes).max(1) + 1;
        figures.rewritten_bytes += packs * overhead_bytes(std::iter::empty());
    }
    figures.freed_bytes = freed.saturating_sub(figures.rewritten_bytes);
    figures
}

fn count_blobs(plan: &PrunePlan, figures: &mut PruneFigures) {
    let mut begin = 0;
    while begin < plan.index.len() {
        let end = copies_end(&plan.index, begin);
        let mut counted = false;
        for place in begin..end {
            let (pack, blob) = plan.index.at(place);
            let length = u64::from(blob.length);
            if !plan.marks.is_used(place) {
                if plan.packs[pack].stored_bytes.is_some() {
                    figures.unused_blobs.add(length);
                }
            } else if plan.marks.is_needed(place) && !counted {
                counted = true;
                figures.used_blobs.add(length);
            } else if plan.packs[pack].stored_bytes.is_some() {
                figures.duplicate_blobs.add(length);
            }
        }
        begin = end;
    }
}
