//! A prune whose storage fails, lies or dies at any call: what is listed can be read, and the next prune goes through.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flow::{Cancel, Secret};
use restic::{
    Cut, Depth, Id, LockKind, LockOptions, LockOwner, OpenOptions, PruneOptions, PruneOutcome, Repository,
    ResticError, ResticErrorKind, plan_prune,
};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use storage::{ObjectName, Storage, StorageErrorKind};
use support::{Dying, PASSWORD, backup, check, noise, read_all};
use testkit::{Fault, FaultyStorage, MemoryStorage, Verb};

const PAGES: Cut = Cut::Fixed { bytes: 4 << 10 };

type Content = Vec<(String, Result<Vec<u8>, String>)>;
type Objects = BTreeMap<ObjectName, Vec<u8>>;

struct Prepared {
    objects: Objects,
    snapshots: Vec<Id>,
    content: BTreeMap<Id, Content>,
}

fn open(storage: Arc<dyn Storage>) -> Arc<Repository> {
    Arc::new(Repository::open(storage, &Secret::new(PASSWORD), OpenOptions::default()).unwrap())
}

fn memory(objects: &Objects) -> Arc<MemoryStorage> {
    let storage = MemoryStorage::new();
    objects.iter().for_each(|(name, content)| storage.put(name, &[content]).unwrap());
    Arc::new(storage)
}

/// Three snapshots that share some pages, and a pack that no index names.
fn prepare() -> Prepared {
    let storage = Arc::new(MemoryStorage::new());
    let options = restic::CreateOptions { derivation_passes: Some(1), ..restic::CreateOptions::default() };
    let repository = Arc::new(Repository::create(storage.clone(), &Secret::new(PASSWORD), options).unwrap());
    let content = noise(80_000, 1);
    let mut snapshots = Vec::new();
    for at in 0..3u64 {
        let file = [&content[..40_000 - at as usize * 8_192], &noise(30_000, at + 2)].concat();
        snapshots.push(backup(&repository, &[("pages", &file, PAGES)]).0);
    }
    let index = Arc::new(repository.load_index().unwrap());
    let content = repository
        .snapshots()
        .unwrap()
        .iter()
        .map(|(id, snapshot)| (*id, read_all(&repository, &index, &snapshot.tree)))
        .collect();
    let leftover = noise(500, 9);
    let name = Id::of(&leftover).to_string();
    storage.put(&ObjectName::new(format!("data/{}/{name}", &name[..2])).unwrap(), &[&leftover]).unwrap();
    Prepared { objects: storage.contents(), snapshots, content }
}

fn prune(repository: &Repository, remove: &[Id]) -> Result<PruneOutcome, ResticError> {
    let owner = LockOwner { host: "host".into(), user: "user".into(), pid: 1, uid: 0, gid: 0 };
    let lock = repository.lock(LockKind::Exclusive, &owner, LockOptions::default())?;
    let options = PruneOptions { pack_bytes: 1 << 20, ..PruneOptions::default() };
    let plan = plan_prune(
        repository,
        &remove.iter().copied().collect::<HashSet<_>>(),
        &options,
        &Cancel::new(),
        &|_| {},
    )?;
    plan.execute(repository, &lock, &Cancel::new(), &|_| {})
}

/// Everything that is listed can be read, the ones to stay are listed, and the next prune leaves nothing behind.
fn judge(storage: &Arc<MemoryStorage>, prepared: &Prepared, what: &str) {
    for lock in storage.list("locks").unwrap() {
        storage.remove(&lock.name).unwrap();
    }
    let repository = open(storage.clone());
    let readable = |repository: &Arc<Repository>| {
        let index = Arc::new(repository.load_index().unwrap());
        for (id, snapshot) in repository.snapshots().unwrap() {
            assert!(read_all(repository, &index, &snapshot.tree) == prepared.content[&id], "{what}: {id}");
        }
        assert_eq!(check(repository, Depth::Data).errors, vec![], "{what}");
    };
    readable(&repository);
    let outcome =
        prune(&repository, &prepared.snapshots[..1]).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(outcome.findings, vec![], "{what}");
    readable(&repository);
    let listed: HashSet<Id> = repository.snapshots().unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(listed, prepared.snapshots[1..].iter().copied().collect(), "{what}");
    assert_eq!(check(&repository, Depth::Data).remarks, Vec::<String>::new(), "{what}");
    let empty = plan_prune(&repository, &HashSet::new(), &PruneOptions::default(), &Cancel::new(), &|_| {});
    assert!(empty.unwrap().is_empty(), "{what}");
}

#[test]
fn each_call_may_fail_or_lie() {
    let prepared = prepare();
    let failing = [Fault::Fail(StorageErrorKind::Failed), Fault::FailAfter];
    let lying = [Fault::StoreNothing, Fault::Cut, Fault::Garble];
    for (verb, faults) in [
        (Verb::Put, &[&failing[..], &lying].concat()[..]),
        (Verb::Get, &[&failing[..], &lying[1..]].concat()),
        (Verb::Stat, &failing),
        (Verb::List, &failing[..1]),
        (Verb::Remove, &failing),
        (Verb::Confirm, &failing),
    ] {
        for fault in faults {
            let mut calls = 0;
            loop {
                let inner = memory(&prepared.objects);
                let storage = Arc::new(FaultyStorage::new(inner.clone()));
                let repository = open(storage.clone());
                storage.plan(verb, "", calls, *fault);
                let result = prune(&repository, &prepared.snapshots[..1]);
                if storage.happened() == 0 {
                    result.unwrap();
                    break;
                }
                storage.heal();
                judge(&inner, &prepared, &format!("{verb:?} {calls} {fault:?} {:?}", result.err()));
                calls += 1;
            }
            assert!(calls > 2, "{verb:?} was asked {calls} times only");
        }
    }
}

#[test]
fn a_kill_after_each_change_leaves_all_that_is_listed() {
    let prepared = prepare();
    let mut changes = 0;
    loop {
        let inner = memory(&prepared.objects);
        let dying = Arc::new(Dying::new(inner.clone()));
        let repository = open(dying.clone());
        dying.left.store(changes, Ordering::SeqCst);
        let result = prune(&repository, &prepared.snapshots[..1]);
        judge(&inner, &prepared, &format!("killed after {changes} changes"));
        if result.is_ok() {
            break;
        }
        changes += 1;
    }
    // Lock, snapshot, a pack, an index, three old ones, packs.
    assert!(changes >= 9, "{changes}");
}

#[test]
fn without_space_what_is_not_needed_at_all_still_goes() {
    let prepared = prepare();
    let inner = memory(&prepared.objects);
    let bytes = |storage: &MemoryStorage| {
        storage.list("data").unwrap().iter().map(|stat| stat.size_bytes).sum::<u64>()
    };
    let before = bytes(&inner);
    let storage = Arc::new(FaultyStorage::new(inner.clone()));
    let repository = open(storage.clone());
    storage.limit_space(9_000);
    let outcome = prune(&repository, &prepared.snapshots[..2]).unwrap();
    assert!(outcome.findings[0].problem.contains("no space"), "{:?}", outcome.findings);
    assert_eq!(outcome.packs_written.count, 0);
    assert!(bytes(&inner) < before - 20_000, "{before} {}", bytes(&inner));
    assert_eq!(check(&open(inner.clone()), Depth::Data).errors, vec![]);
    let lies_full = ResticErrorKind::Storage(StorageErrorKind::Full);
    storage.limit_space(100);
    assert_eq!(prune(&repository, &prepared.snapshots[..2]).unwrap_err().kind, lies_full);
}
