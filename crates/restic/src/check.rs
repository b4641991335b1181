//! Checking a whole repository: that everything a snapshot needs is there, or that every byte of it is right.
//!
//! Damage is collected, not returned as an error, and traced to the snapshots that need what is damaged. A blob that
//! is stored twice is lost only when both copies are. Changes nothing.

use crate::check_pack::{PackVerdict, examine_pack, read_header};
use crate::check_share::Share;
use crate::error::{ResticError, ResticErrorKind};
use crate::evidence::{Evidence, PackDamage};
use crate::id::{BlobKind, Id};
use crate::index::{Index, pack_bytes, superseded};
use crate::index_file::{IndexFile, IndexedPack};
use crate::pack::PackBlob;
use crate::parallel::{self, REQUESTS};
use crate::repository::Repository;
use crate::tree::{Node, NodeKind};
use crate::vault::{ObjectKind, object_name};
use flow::Cancel;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

/// Packs that are read at once; each is in memory as a whole.
const PACKS_AT_ONCE: usize = 2;

/// How deep a check looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Everything that a snapshot needs is there.
    Structure,
    /// Every byte is what was written, too.
    Data,
    /// Every byte of a part of the packs is, too.
    Share(Share),
}

/// Something damaged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckProblem {
    /// The object: `pack ID`, `index ID`, `snapshot ID`, `tree ID`, `data blob ID`.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// The snapshots that cannot be restored whole because of it, sorted.
    pub snapshots: Vec<Id>,
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckOutcome {
    /// What is damaged, sorted.
    pub errors: Vec<CheckProblem>,
    /// What is odd but harmless, sorted.
    pub remarks: Vec<String>,
    /// How many snapshots were looked at.
    pub snapshots: u64,
    /// How many packs were looked at.
    pub packs: u64,
    /// How many bytes were read.
    pub read_bytes: u64,
    /// How many packs were read.
    pub read_packs: u64,
    /// The last pack of the part that was read; `None` where no part was asked for, or there is no pack.
    pub read_until: Option<Id>,
}

/// Checks a whole repository. Damage is an outcome; an error is a storage that cannot be listed, or a cancellation.
/// `progress` is told of bytes as they are read, from any thread.
pub fn check(
    repository: &Repository,
    depth: Depth,
    cancel: &Cancel,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<CheckOutcome, ResticError> {
    let read_bytes = AtomicU64::new(0);
    let work = Work { repository, cancel, read_bytes: &read_bytes, progress };
    let mut findings = Findings::default();
    work.check_keys(&mut findings)?;
    let index = Index::build(work.load_index(&mut findings)?);
    work.check_below(&index, depth, &HashSet::new(), &mut findings)?;
    Ok(work.outcome(findings).0)
}

/// Like [`check`], for whoever is going to mend what is found: the index is put together with packs that no index file
/// names, and these are read in full as well as the `suspects`, whatever the depth.
pub(crate) fn check_to_heal(
    repository: &Repository,
    depth: Depth,
    suspects: &HashSet<Id>,
    cancel: &Cancel,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(CheckOutcome, Evidence, Index), ResticError> {
    let read_bytes = AtomicU64::new(0);
    let work = Work { repository, cancel, read_bytes: &read_bytes, progress };
    let mut findings = Findings::default();
    work.check_keys(&mut findings)?;
    let mut files = work.load_index(&mut findings)?;
    let unnamed = work.unnamed_packs(&files, &mut findings)?;
    let mut suspects = suspects.clone();
    suspects.extend(unnamed.iter().map(|pack| pack.id));
    findings.evidence.unnamed = unnamed.iter().map(|pack| pack.id).collect();
    files.push((Id([0; 32]), IndexFile { supersedes: Vec::new(), packs: unnamed }));
    let index = Index::build(files);
    work.check_below(&index, depth, &suspects, &mut findings)?;
    let (outcome, evidence) = work.outcome(findings);
    Ok((outcome, evidence, index))
}

/// What of some snapshots cannot be restored.
pub(crate) struct Traced {
    /// What is damaged, with the snapshots that suffer.
    pub(crate) problems: Vec<CheckProblem>,
    /// The folders that cannot be read, with the snapshots that need them.
    pub(crate) lost_trees: Vec<(Id, Vec<Id>)>,
}

/// Follows damage to snapshots, given with their trees: packs that are known to be bad, blobs that no index names, and
/// folders that cannot be read.
pub(crate) fn trace_damage(
    repository: &Repository,
    index: &Index,
    bad_packs: &[(Id, String)],
    roots: &[(Id, Id)],
    cancel: &Cancel,
) -> Result<Traced, ResticError> {
    let work = Work { repository, cancel, read_bytes: &AtomicU64::new(0), progress: &|_| {} };
    let mut findings = Findings::default();
    let mut bad = Bad::default();
    for (pack, problem) in bad_packs {
        bad.packs.insert(*pack, findings.add(format!("pack {pack}"), || problem.clone()));
    }
    let trees = work.walk_trees(index, &bad, roots.iter().map(|(_, tree)| *tree), &mut findings)?;
    let mut lost_trees: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
    for (snapshot, root) in roots {
        for (id, facts) in trees_below(&trees, root) {
            if facts.is_lost {
                lost_trees.entry(*id).or_default().push(*snapshot);
            }
        }
        for problem in damage_below(&trees, root) {
            findings.problems[problem].snapshots.push(*snapshot);
        }
    }
    let mut problems = findings.problems;
    problems.retain(|problem| !problem.snapshots.is_empty());
    problems.iter_mut().for_each(|problem| problem.snapshots.sort_unstable());
    problems.sort();
    Ok(Traced { problems, lost_trees: lost_trees.into_iter().collect() })
}

/// What was found so far. Problems are referred to by their place.
#[derive(Default)]
struct Findings {
    problems: Vec<CheckProblem>,
    by_object: HashMap<String, usize>,
    remarks: Vec<String>,
    snapshots: u64,
    packs: u64,
    read_packs: u64,
    read_until: Option<Id>,
    evidence: Evidence,
}

impl Findings {
    /// Adds a problem, unless the object has one already; returns its place.
    fn add(&mut self, object: String, problem: impl FnOnce() -> String) -> usize {
        *self.by_object.entry(object.clone()).or_insert_with(|| {
            self.problems.push(CheckProblem { object, problem: problem(), snapshots: Vec::new() });
            self.problems.len() - 1
        })
    }
}

/// What of the packs cannot be used, and the problem that stands for it.
#[derive(Default)]
struct Bad {
    packs: HashMap<Id, usize>,
    blobs: HashMap<(Id, BlobKind, Id), usize>,
}

/// What a folder needs: damage of its own, and the folders below.
#[derive(Default)]
struct TreeFacts {
    damage: BTreeSet<usize>,
    subtrees: Vec<Id>,
    is_lost: bool,
}

struct Work<'a> {
    repository: &'a Repository,
    cancel: &'a Cancel,
    read_bytes: &'a AtomicU64,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Work<'_> {
    fn go_on(&self) -> Result<(), ResticError> {
        self.cancel.check().map_err(|_| ResticError::cancelled(self.repository.location()))
    }

    fn count(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        (self.progress)(bytes as u64);
    }

    /// Looks at packs, snapshots and folders, and traces what is damaged to snapshots.
    fn check_below(
        &self,
        index: &Index,
        depth: Depth,
        suspects: &HashSet<Id>,
        findings: &mut Findings,
    ) -> Result<(), ResticError> {
        let bad = self.check_packs(index, depth, suspects, findings)?;
        let roots = self.load_snapshots(findings)?;
        let trees = self.walk_trees(index, &bad, roots.iter().map(|(_, tree)| *tree), findings)?;
        for (snapshot, root) in &roots {
            for problem in damage_below(&trees, root) {
                findings.problems[problem].snapshots.push(*snapshot);
            }
        }
        Ok(())
    }

    fn outcome(&self, findings: Findings) -> (CheckOutcome, Evidence) {
        let mut outcome = CheckOutcome {
            errors: findings.problems,
            remarks: findings.remarks,
            snapshots: findings.snapshots,
            packs: findings.packs,
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            read_packs: findings.read_packs,
            read_until: findings.read_until,
        };
        outcome.errors.iter_mut().for_each(|problem| problem.snapshots.sort_unstable());
        outcome.errors.sort();
        outcome.remarks.sort();
        (outcome, findings.evidence)
    }

    /// Returns the packs that are stored and named by no index file, as their headers say. One without a header that
    /// can be read is left alone.
    fn unnamed_packs(
        &self,
        files: &[(Id, IndexFile)],
        findings: &mut Findings,
    ) -> Result<Vec<IndexedPack>, ResticError> {
        let replaced = superseded(files);
        let live = files.iter().filter(|(id, _)| !replaced.contains(id));
        let named: HashSet<Id> = live.flat_map(|(_, file)| &file.packs).map(|pack| pack.id).collect();
        let mut unnamed = self.repository.vault().list(ObjectKind::Pack)?;
        unnamed.retain(|(id, _)| !named.contains(id));
        let headers = parallel::map(&unnamed, REQUESTS, |(id, size_bytes)| {
            self.go_on().and_then(|()| read_header(self.repository.vault(), id, *size_bytes))
        });
        self.go_on()?;
        let mut packs = Vec::new();
        for ((id, _), header) in unnamed.into_iter().zip(headers) {
            match header {
                Ok(blobs) => packs.push(IndexedPack { id, blobs }),
                Err(error) => {
                    let why = describe(&error);
                    findings
                        .remarks
                        .push(format!("pack {id} is named by no index, and its header is gone: {why}"));
                }
            }
        }
        Ok(packs)
    }

    fn check_keys(&self, findings: &mut Findings) -> Result<(), ResticError> {
        for (id, _) in self.repository.vault().list(ObjectKind::Key)? {
            if let Err(error) = self.repository.vault().load_sealed(ObjectKind::Key, &id) {
                findings.add(format!("key {id}"), || describe(&error));
            }
        }
        Ok(())
    }

    fn load_index(&self, findings: &mut Findings) -> Result<Vec<(Id, IndexFile)>, ResticError> {
        let listed = self.repository.vault().list(ObjectKind::Index)?;
        findings.evidence.indexes.clone_from(&listed);
        let loaded = parallel::map(&listed, REQUESTS, |(id, _)| {
            self.go_on().and_then(|()| self.repository.index_file_as_stored(id))
        });
        self.go_on()?;
        let mut files = Vec::new();
        for ((id, size_bytes), file) in listed.into_iter().zip(loaded) {
            self.count(size_bytes as usize);
            match file {
                Ok(file) => files.push((id, file)),
                Err(error) => {
                    findings.add(format!("index {id}"), || describe(&error));
                    match error.kind {
                        ResticErrorKind::Damaged => findings.evidence.bad_indexes.push(id),
                        _ => drop(findings.evidence.unreadable_index.get_or_insert(error)),
                    }
                }
            }
        }
        let replaced = superseded(&files);
        findings.evidence.has_superseded = files.iter().any(|(id, _)| replaced.contains(id));
        Ok(files)
    }

    fn check_packs(
        &self,
        index: &Index,
        depth: Depth,
        suspects: &HashSet<Id>,
        findings: &mut Findings,
    ) -> Result<Bad, ResticError> {
        let stored: HashMap<Id, u64> = self.repository.vault().list(ObjectKind::Pack)?.into_iter().collect();
        let mut bad = Bad::default();
        let mut to_read: Vec<(Id, Vec<PackBlob>)> = Vec::new();
        let indexed = index.blobs_by_pack();
        findings.packs = indexed.len() as u64;
        let names: HashSet<Id> = indexed.iter().map(|(id, _)| *id).collect();
        let mut share = HashSet::new();
        if let Depth::Share(wanted) = depth {
            let packs = indexed.iter().filter_map(|(id, _)| Some((*id, *stored.get(id)?)));
            (share, findings.read_until) = wanted.choose(packs.collect())?;
        }
        for (id, blobs) in indexed {
            let object = format!("pack {id}");
            let expected = pack_bytes(&blobs);
            if blobs.windows(2).any(|pair| pair[0].kind != pair[1].kind) {
                findings.remarks.push(format!("pack {id} holds data and trees"));
            }
            match stored.get(&id) {
                None => {
                    let problem = findings.add(object, || "is not stored".to_owned());
                    bad.packs.insert(id, problem);
                    findings.evidence.packs.insert(id, PackDamage::Missing);
                }
                Some(size_bytes) if *size_bytes != expected => {
                    findings.add(object, || format!("has {size_bytes} bytes, and {expected} were expected"));
                    // Which of its blobs are left can only be told by reading it.
                    to_read.push((id, blobs));
                }
                Some(_) if depth == Depth::Data || share.contains(&id) || suspects.contains(&id) => {
                    to_read.push((id, blobs));
                }
                Some(_) => {}
            }
        }
        for id in stored.keys().filter(|id| !names.contains(id)) {
            findings.remarks.push(format!("pack {id} is named by no index"));
        }
        findings.read_packs = to_read.len() as u64;
        self.read_packs(&to_read, findings, &mut bad)?;
        findings.evidence.stored = stored;
        Ok(bad)
    }

    fn read_packs(
        &self,
        packs: &[(Id, Vec<PackBlob>)],
        findings: &mut Findings,
        bad: &mut Bad,
    ) -> Result<(), ResticError> {
        let verdicts = parallel::map(packs, PACKS_AT_ONCE, |(id, blobs)| {
            if self.cancel.is_cancelled() {
                return PackVerdict::default();
            }
            let content = object_name(ObjectKind::Pack, id).and_then(|name| {
                let describe = |error| ResticError::storage(format!("pack {id}"), error);
                self.repository.storage().get(&name).map_err(describe)
            });
            match content {
                Ok(content) => {
                    let verdict = examine_pack(&self.repository.vault().key, id, &content, blobs);
                    self.count(content.len());
                    verdict
                }
                Err(error) => PackVerdict::unreadable(describe(&error), blobs),
            }
        });
        self.go_on()?;
        for ((id, _), verdict) in packs.iter().zip(verdicts) {
            if verdict.is_read {
                findings.evidence.read.insert(*id);
            }
            let Some(problem) = verdict.problem else { continue };
            let damage = if verdict.is_read { PackDamage::Bad } else { PackDamage::Unreadable };
            findings.evidence.packs.insert(*id, damage);
            let place = findings.add(format!("pack {id}"), || problem);
            for (kind, blob) in verdict.bad_blobs {
                bad.blobs.insert((*id, kind, blob), place);
            }
        }
        Ok(())
    }

    /// Returns the snapshots that can be read, with their trees.
    fn load_snapshots(&self, findings: &mut Findings) -> Result<Vec<(Id, Id)>, ResticError> {
        let listed = self.repository.vault().list(ObjectKind::Snapshot)?;
        findings.snapshots = listed.len() as u64;
        let loaded = parallel::map(&listed, REQUESTS, |(id, _)| self.repository.snapshot_as_stored(id));
        let mut roots = Vec::new();
        for ((id, size_bytes), snapshot) in listed.into_iter().zip(loaded) {
            self.count(size_bytes as usize);
            match snapshot {
                Ok(snapshot) => roots.push((id, snapshot.tree)),
                Err(error) => {
                    // Only what shows itself to be damaged by its hash, and no storage that failed.
                    let sealed = self.repository.vault().load_sealed(ObjectKind::Snapshot, &id);
                    if sealed.is_err_and(|error| error.kind == ResticErrorKind::Damaged) {
                        findings.evidence.bad_snapshots.push(id);
                    }
                    let problem = findings.add(format!("snapshot {id}"), || describe(&error));
                    findings.problems[problem].snapshots.push(id);
                }
            }
        }
        Ok(roots)
    }

    /// Reads all folders, level by level, each once.
    fn walk_trees(
        &self,
        index: &Index,
        bad: &Bad,
        roots: impl Iterator<Item = Id>,
        findings: &mut Findings,
    ) -> Result<HashMap<Id, TreeFacts>, ResticError> {
        let mut trees = HashMap::new();
        let mut level: Vec<Id> = roots.collect::<BTreeSet<_>>().into_iter().collect();
        while !level.is_empty() {
            self.go_on()?;
            let mut below = BTreeSet::new();
            for batch in level.chunks(256) {
                self.go_on()?;
                let loaded = parallel::map(batch, REQUESTS, |id| self.repository.read_tree(index, id));
                for (id, tree) in batch.iter().zip(loaded) {
                    let facts = match tree {
                        Ok(tree) => self.examine_tree(id, &tree.nodes, index, bad, findings),
                        Err(error) => lost_tree(id, &error, index, bad, findings),
                    };
                    below.extend(facts.subtrees.iter().copied());
                    trees.insert(*id, facts);
                }
            }
            level = below.into_iter().filter(|id| !trees.contains_key(id)).collect();
        }
        Ok(trees)
    }

    fn examine_tree(
        &self,
        id: &Id,
        nodes: &[Node],
        index: &Index,
        bad: &Bad,
        findings: &mut Findings,
    ) -> TreeFacts {
        let mut facts = TreeFacts::default();
        for node in nodes {
            let wrong = match (&node.kind, &node.content, &node.subtree) {
                (NodeKind::Dir, _, Some(subtree)) => {
                    facts.subtrees.push(*subtree);
                    None
                }
                (NodeKind::Dir, _, None) => Some("has no tree".to_owned()),
                (NodeKind::File, Some(content), _) => {
                    examine_content(node, content, index, bad, findings, &mut facts.damage)
                }
                (NodeKind::File, None, _) => Some("has no list of blobs".to_owned()),
                _ => None,
            };
            if let Some(wrong) = wrong {
                let name = &node.name;
                facts.damage.insert(findings.add(format!("tree {id}"), || format!("{name:?} {wrong}")));
            }
        }
        facts
    }
}

/// Looks for each blob of a file; returns what is wrong with the file itself.
fn examine_content(
    node: &Node,
    content: &[Id],
    index: &Index,
    bad: &Bad,
    findings: &mut Findings,
    damage: &mut BTreeSet<usize>,
) -> Option<String> {
    let mut size_bytes = Some(0u64);
    for blob in content {
        let location = index.find(BlobKind::Data, blob);
        size_bytes = size_bytes.zip(location).map(|(sum, location)| sum + location.plaintext_length());
        damage.extend(lost_blob(BlobKind::Data, blob, index, bad, findings));
    }
    // Where a blob is missing its own problem says enough.
    let sum = size_bytes.filter(|sum| *sum != node.size)?;
    Some(format!("has a size of {} bytes, and its blobs have {sum}", node.size))
}

/// Returns the problems that make a blob unreadable; none where a copy of it is good as far as is known.
fn lost_blob(kind: BlobKind, id: &Id, index: &Index, bad: &Bad, findings: &mut Findings) -> Vec<usize> {
    let mut problems = Vec::new();
    for location in index.locations(kind, id) {
        let problem = bad.packs.get(&location.pack).or_else(|| bad.blobs.get(&(location.pack, kind, *id)));
        match problem {
            Some(problem) => problems.push(*problem),
            None => return Vec::new(),
        }
    }
    if problems.is_empty() {
        problems.push(findings.add(format!("{kind} blob {id}"), || "no index names it".to_owned()));
    }
    problems
}

/// A folder that cannot be read: because of a pack that is known to be bad, or for a reason of its own.
fn lost_tree(id: &Id, error: &ResticError, index: &Index, bad: &Bad, findings: &mut Findings) -> TreeFacts {
    let mut damage: BTreeSet<usize> =
        lost_blob(BlobKind::Tree, id, index, bad, findings).into_iter().collect();
    if damage.is_empty() {
        damage
            .insert(findings.add(format!("tree {id}"), || format!("{}: {}", error.object, describe(error))));
    }
    TreeFacts { damage, subtrees: Vec::new(), is_lost: true }
}

/// Returns a folder and all below it, each once.
fn trees_below<'a>(trees: &'a HashMap<Id, TreeFacts>, root: &Id) -> Vec<(&'a Id, &'a TreeFacts)> {
    let mut below = Vec::new();
    let mut seen = HashSet::from([*root]);
    let mut open = vec![*root];
    while let Some((id, facts)) = open.pop().and_then(|id| trees.get_key_value(&id)) {
        below.push((id, facts));
        open.extend(facts.subtrees.iter().filter(|id| seen.insert(**id)));
    }
    below
}

fn damage_below(trees: &HashMap<Id, TreeFacts>, root: &Id) -> BTreeSet<usize> {
    trees_below(trees, root).into_iter().flat_map(|(_, facts)| facts.damage.iter().copied()).collect()
}

fn describe(error: &ResticError) -> String {
    match error.source() {
        Some(source) => format!("{}: {source}", error.message),
        None => error.message.clone(),
    }
}
