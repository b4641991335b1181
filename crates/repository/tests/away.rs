//! What the storage does not give for a moment is never taken for lost: a heal, the next run and a prune leave it, and
//! once it is back everything is as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use flow::{Context, ScratchDir, Secret};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use repository::restic_layout::ResticLayout;
use repository::retention::{PruneScope, PruneSelector, Rules};
use repository::{
    BackupId, CheckDepth, HealReport, HealRequest, ProofRecord, PruneRequest, Repository, Settled,
    SnapshotRequest, State,
};
use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use storage::{ObjectName, ObjectStat, Storage, StorageError, StorageErrorKind};
use support::{database, dumped, entry, noise, pages, part, target};
use testkit::MemoryStorage;

const PATH: &str = "/srv/a.db";

/// A storage that lists some objects and does not give them.
struct Flaky {
    inner: MemoryStorage,
    away: Mutex<HashSet<ObjectName>>,
}

impl Flaky {
    fn ask(&self, name: &ObjectName) -> Result<(), StorageError> {
        if !self.away.lock().unwrap().contains(name) {
            return Ok(());
        }
        Err(StorageError {
            kind: StorageErrorKind::Failed,
            verb: "get",
            object: name.to_string(),
            message: "input/output error".into(),
            source: None,
        })
    }
}

impl Storage for Flaky {
    fn put(&self, name: &ObjectName, content: &[&[u8]]) -> Result<(), StorageError> {
        self.inner.put(name, content)
    }
    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.ask(name)?;
        self.inner.get(name)
    }
    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        self.ask(name)?;
        self.inner.get_range(name, range)
    }
    fn stat(&self, name: &ObjectName) -> Result<ObjectStat, StorageError> {
        self.inner.stat(name)
    }
    fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, StorageError> {
        self.inner.list(folder)
    }
    fn remove(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.inner.remove(name)
    }
    fn confirm(&self, name: &ObjectName, sha256: &[u8; 32]) -> Result<(), StorageError> {
        self.inner.confirm(name, sha256)
    }
    fn free_bytes(&self) -> Option<u64> {
        None
    }
    fn location(&self) -> String {
        "memory".into()
    }
}

struct Stage {
    storage: Arc<Flaky>,
    context: Context,
}

impl Stage {
    fn new() -> Self {
        let storage = Arc::new(Flaky { inner: MemoryStorage::new(), away: Mutex::default() });
        ResticLayout::create(storage.clone(), &Secret::new("geheim"), support::options()).unwrap();
        Self { storage, context: Context::quiet(ScratchDir::new("/nonexistent")) }
    }

    fn open(&self) -> ResticLayout {
        ResticLayout::open(self.storage.clone(), &Secret::new("geheim"), support::options()).unwrap()
    }

    /// Stores content that shares nothing with that of another seed, and settles what is open.
    fn run(&self, seed: u64) -> (BackupId, Settled) {
        let repository = self.open();
        let request = SnapshotRequest {
            only: None,
            target: target(),
            plan: None,
            selection: None,
            host: "host".to_owned(),
            user: "user".to_owned(),
            tags: vec![],
            time: Timestamp::now(),
        };
        let writer = repository.begin(request, &self.context).unwrap();
        writer.part(part(&database(PATH), "e", pages(), 0, &content(seed))).unwrap();
        writer.done(&database(PATH), dumped(&[("e", pages(), 1)])).unwrap();
        let report = writer.commit().unwrap();
        let settled = self.open().settle(&report.snapshot, &self.context).unwrap();
        (report.databases[0].record.id.clone(), settled)
    }

    fn heal(&self, depth: CheckDepth) -> HealReport {
        let request = HealRequest { depth, dry_run: false, accept_missing: false };
        self.open().heal(&request, &self.context).unwrap()
    }

    fn prune(&self, forget_only: bool) {
        let rules = Rules { last: 100, ..Rules::default() };
        let selector = PruneSelector::default();
        let request = PruneRequest {
            scopes: vec![PruneScope { selector, rules, zone: TimeZone::UTC, hold_ages: false }],
            now: Timestamp::now(),
            dry_run: false,
            forget_only,
        };
        // Where nobody can tell what is needed it refuses, and that is well.
        drop(self.open().prune(&request, &self.context));
    }

    fn largest_pack(&self) -> ObjectName {
        let packs = self.storage.inner.list("data").unwrap();
        packs.into_iter().max_by_key(|stat| stat.size_bytes).unwrap().name
    }

    fn lost(&self) -> Vec<BackupId> {
        let records = self.open().backups(None, &self.context).unwrap();
        records.into_iter().filter(|record| record.lost.is_some()).map(|record| record.id).collect()
    }

    fn assert_whole(&self, id: &BackupId, seed: u64) {
        let reader = self.open().open(id, &self.context).unwrap();
        let mut read = Vec::new();
        let length = content(seed).len() as u64;
        reader.read(&entry("e"), 0..length).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == content(seed));
        // It holds its lock.
        drop(reader);
        let records = self.open().backups(None, &self.context).unwrap();
        assert!(records.iter().all(|record| record.lost.is_none() && record.proof.is_some()), "{records:?}");
        let found = self.open().check(CheckDepth::Data, &self.context).unwrap();
        assert_eq!(found.errors, vec![]);
    }
}

fn content(seed: u64) -> Vec<u8> {
    noise(seed, 200_000)
}

#[test]
fn a_pack_that_cannot_be_read_for_a_moment_keeps_its_backups() {
    for depth in [CheckDepth::Data, CheckDepth::Structure] {
        let stage = Stage::new();
        let (first, _) = stage.run(1);
        let pack = stage.largest_pack();
        let (second, _) = stage.run(2);
        stage.storage.away.lock().unwrap().insert(pack.clone());
        let healed = stage.heal(depth);
        if depth == CheckDepth::Data {
            assert_eq!(healed.affected, vec![first.clone()], "{healed:?}");
            assert!(healed.actions.iter().any(|one| one.action.contains("cannot be read now")), "{healed:?}");
        }
        let (_, settled) = stage.run(3);
        assert_eq!(settled.lost, vec![], "{depth:?}");
        stage.prune(false);
        assert_eq!(stage.lost(), vec![]);
        assert!(stage.storage.inner.stat(&pack).is_ok(), "{depth:?}: the pack is gone");

        stage.storage.away.lock().unwrap().clear();
        let (_, settled) = stage.run(4);
        let expected = if depth == CheckDepth::Data { vec![first.clone()] } else { vec![] };
        assert_eq!(settled, Settled { healed: expected, lost: vec![] });
        stage.assert_whole(&first, 1);
        stage.assert_whole(&second, 2);
        assert_eq!(stage.heal(depth).actions, vec![]);
        stage.prune(false);
        stage.assert_whole(&first, 1);
    }
}

#[test]
fn what_is_still_away_is_asked_for_again_by_the_next_heal() {
    let stage = Stage::new();
    let (first, _) = stage.run(1);
    let pack = stage.largest_pack();
    stage.run(2);
    stage.storage.away.lock().unwrap().insert(pack);
    for _ in 0..2 {
        assert_eq!(stage.heal(CheckDepth::Data).affected, vec![first.clone()]);
        // It is known by now, and read whatever the depth.
        assert_eq!(stage.heal(CheckDepth::Structure).affected, vec![first.clone()]);
    }
    stage.storage.away.lock().unwrap().clear();
    assert_eq!(stage.heal(CheckDepth::Structure).affected, vec![]);
    stage.assert_whole(&first, 1);
}

#[test]
fn a_pack_that_was_missing_for_a_moment_comes_back() {
    let stage = Stage::new();
    let (first, _) = stage.run(1);
    let pack = stage.largest_pack();
    stage.run(2);
    let held = stage.storage.inner.get(&pack).unwrap();
    stage.storage.inner.remove(&pack).unwrap();
    assert_eq!(stage.heal(CheckDepth::Structure).affected, vec![first.clone()]);
    stage.storage.inner.put(&pack, &[&held]).unwrap();
    stage.prune(false);
    assert!(stage.storage.inner.stat(&pack).is_ok(), "the only copy of what is needed");
    let (_, settled) = stage.run(3);
    assert_eq!(settled, Settled { healed: vec![first.clone()], lost: vec![] });
    stage.assert_whole(&first, 1);
    assert_eq!(stage.heal(CheckDepth::Structure).actions, vec![]);
}

#[test]
fn what_is_missing_for_good_is_lost_after_the_next_run() {
    let stage = Stage::new();
    let (first, _) = stage.run(1);
    let pack = stage.largest_pack();
    stage.run(2);
    stage.storage.inner.remove(&pack).unwrap();
    assert_eq!(stage.heal(CheckDepth::Structure).affected, [first]);
    let (_, settled) = stage.run(3);
    assert_eq!(settled.lost.len(), 1);
    assert_eq!(stage.lost().len(), 1);
}

#[test]
fn what_goes_missing_after_a_heal_is_no_loss_before_the_next_one() {
    let stage = Stage::new();
    let (first, _) = stage.run(1);
    let pack = stage.largest_pack();
    let (second, _) = stage.run(2);
    stage.storage.inner.remove(&pack).unwrap();
    assert_eq!(stage.heal(CheckDepth::Structure).affected, [first]);
    let pack = stage.largest_pack();
    let held = stage.storage.inner.get(&pack).unwrap();
    stage.storage.inner.remove(&pack).unwrap();
    let (_, settled) = stage.run(3);
    assert_eq!(settled, Settled::default());
    stage.storage.inner.put(&pack, &[&held]).unwrap();
    let (_, settled) = stage.run(4);
    assert_eq!(settled.lost.len(), 1);
    let reader = stage.open().open(&second, &stage.context).unwrap();
    let mut read = Vec::new();
    reader.read(&entry("e"), 0..200_000).unwrap().read_to_end(&mut read).unwrap();
    assert!(read == content(2));
}

#[test]
fn a_snapshot_that_cannot_be_read_for_a_moment_keeps_what_was_said_of_it() {
    let stage = Stage::new();
    let (first, _) = stage.run(1);
    stage.run(2);
    let said = |problem: &str| ProofRecord {
        backup: first.clone(),
        time: Timestamp::now(),
        level: None,
        problem: Some(problem.to_owned()),
        damaged_packs: vec![],
        host: "host".to_owned(),
        rows: BTreeMap::new(),
    };
    // A prune puts them into one.
    for problem in ["once", "twice"] {
        let records = State { proofs: [said(problem)].into_iter().collect(), ..State::default() };
        stage.open().append_state(records, &stage.context).unwrap();
    }
    let name = ObjectName::new(format!("snapshots/{first}")).unwrap();
    stage.storage.away.lock().unwrap().insert(name);
    stage.prune(true);
    stage.storage.away.lock().unwrap().clear();
    let state = stage.open().state(&stage.context).unwrap();
    let proof = state.proofs.get(&first).expect("what was said of it is gone");
    assert_eq!(proof.problem.as_deref(), Some("twice"));
}
