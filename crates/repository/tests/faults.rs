//! Each call of the storage under a backup, a prune and a restore fails, lies, hangs or finds no space, in turn. An
//! error names the object; what is listed afterwards is whole and reads back to its own content; the next run goes
//! through. A call that hangs is told of, and an interruption ends the run all the same.
//!
//! By default each call meets one of the faults, and each third one hangs; with `BACKSTAY_LONG=1` each call meets all.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use flow::{Cancel, Context, Event, Observer, ScratchDir, Secret};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use repository::restic_layout::{ResticLayout, ResticOptions};
use repository::retention::{PruneScope, PruneSelector, Rules};
use repository::{BackupId, CheckDepth, PartError, PruneRequest, Repository, SnapshotRequest};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use storage::{ObjectName, Storage, StorageErrorKind, Watch, WatchOptions, WatchedStorage};
use support::{database, dumped, entry, noise, pages, part, target};
use testkit::{Fault, FaultyStorage, MemoryStorage, Verb};

const PATH: &str = "/srv/a.db";
/// What a run that goes wrong would store, and what the next one does.
const NEW: u64 = 50;
const NEXT: u64 = 60;
const FAILING: [Fault; 2] = [Fault::Fail(StorageErrorKind::Failed), Fault::FailAfter];
const FULL: Fault = Fault::Fail(StorageErrorKind::Full);
const SOON: WatchOptions = WatchOptions {
    stalled_after: Duration::from_millis(25),
    patience: Duration::from_millis(60),
    last_patience: Duration::from_millis(15),
};

type Objects = BTreeMap<ObjectName, Vec<u8>>;
type Work = fn(&ResticLayout, &Context, &Prepared) -> Result<(), String>;

/// What is worked on: a backup, a prune, a restore.
const WORKS: [(&str, Work); 3] = [("backup", back_up_new), ("prune", prune_two), ("restore", restore_all)];

/// A repository with a history.
struct Prepared {
    objects: Objects,
    contents: BTreeMap<BackupId, Vec<u8>>,
}

fn content(seed: u64) -> Vec<u8> {
    [noise(1000, 100_000), noise(seed, 70_000)].concat()
}

/// Whether every call meets every fault.
fn long() -> bool {
    std::env::var_os("BACKSTAY_LONG").is_some()
}

fn options() -> ResticOptions {
    ResticOptions { pack_bytes: 4 << 20, ..support::options() }
}

fn context() -> Context {
    Context::quiet(ScratchDir::new("/nonexistent"))
}

fn open(storage: Arc<dyn Storage>) -> ResticLayout {
    ResticLayout::open(storage, &Secret::new("geheim"), options()).unwrap()
}

fn memory(objects: &Objects) -> Arc<MemoryStorage> {
    let storage = MemoryStorage::new();
    objects.iter().for_each(|(name, content)| storage.put(name, &[content]).unwrap());
    Arc::new(storage)
}

fn prepare() -> Prepared {
    let storage = Arc::new(MemoryStorage::new());
    ResticLayout::create(storage.clone(), &Secret::new("geheim"), options()).unwrap();
    let mut contents = BTreeMap::new();
    for seed in 1..=3 {
        contents.insert(back_up(&open(storage.clone()), &context(), seed).unwrap(), content(seed));
    }
    Prepared { objects: storage.contents(), contents }
}

/// What an error says, with all that is below it.
fn told(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", told(source)),
        None => error.to_string(),
    }
}

fn back_up(repository: &ResticLayout, context: &Context, seed: u64) -> Result<BackupId, String> {
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
    repository.previous(&target(), "host", context).map_err(|error| told(&error))?;
    let writer = repository.begin(request, context).map_err(|error| told(&error))?;
    writer.part(part(&database(PATH), "e", pages(), 0, &content(seed))).map_err(|error| match error {
        PartError::Write(error) => told(&error),
        PartError::Source(error) => told(&error),
    })?;
    writer.done(&database(PATH), dumped(&[("e", pages(), 1)])).map_err(|error| told(&error))?;
    let report = writer.commit().map_err(|error| told(&error))?;
    Ok(report.databases[0].record.id.clone())
}

fn back_up_new(repository: &ResticLayout, context: &Context, _: &Prepared) -> Result<(), String> {
    back_up(repository, context, NEW).map(drop)
}

fn prune(repository: &ResticLayout, context: &Context, last: u32) -> Result<(), String> {
    let rules = Rules { last, ..Rules::default() };
    let selector = PruneSelector::default();
    let request = PruneRequest {
        scopes: vec![PruneScope { selector, rules, zone: TimeZone::UTC, hold_ages: false }],
        now: Timestamp::now(),
        dry_run: false,
        forget_only: false,
    };
    repository.prune(&request, context).map(drop).map_err(|error| told(&error))
}

fn prune_two(repository: &ResticLayout, context: &Context, _: &Prepared) -> Result<(), String> {
    prune(repository, context, 1)
}

fn read(repository: &ResticLayout, context: &Context, id: &BackupId) -> Result<Vec<u8>, String> {
    let reader = repository.open(id, context).map_err(|error| told(&error))?;
    let size_bytes = reader.manifest().entry(&entry("e")).unwrap().size_bytes;
    let mut content = Vec::new();
    let mut stream = reader.read(&entry("e"), 0..size_bytes).map_err(|error| told(&error))?;
    stream.read_to_end(&mut content).map_err(|error| told(&error))?;
    Ok(content)
}

/// Whatever the storage does, no other content than its own comes out of a backup.
fn restore_all(repository: &ResticLayout, context: &Context, prepared: &Prepared) -> Result<(), String> {
    for (id, expected) in &prepared.contents {
        let content = read(repository, context, id)?;
        assert!(content == *expected, "another content was given for {id}");
    }
    Ok(())
}

/// On sound storage: what is listed is whole, and backup and prune go through; by default each third time.
fn judge(storage: &Arc<MemoryStorage>, prepared: &Prepared, number: u64, what: &str) -> Vec<BackupId> {
    for lock in storage.list("locks").unwrap() {
        storage.remove(&lock.name).unwrap();
    }
    let (repository, context) = (open(storage.clone()), context());
    let checked = repository.check(CheckDepth::Data, &context).unwrap();
    assert!(checked.errors.is_empty(), "{what}: {:?}", checked.errors);
    assert!(repository.unlisted(&context).unwrap().is_empty(), "{what}");
    let listed = repository.backups(None, &context).unwrap();
    let listed: Vec<BackupId> = listed.into_iter().map(|record| record.id).collect();
    assert!(!listed.is_empty(), "{what}");
    for id in &listed {
        let expected = prepared.contents.get(id).cloned().unwrap_or_else(|| content(NEW));
        assert!(read(&repository, &context, id).unwrap() == expected, "{what}: {id} has another content");
    }
    if !long() && !number.is_multiple_of(3) {
        return listed;
    }
    let next = back_up(&repository, &context, NEXT);
    let next = next.unwrap_or_else(|error| panic!("{what}: the next backup: {error}"));
    prune(&repository, &context, 1).unwrap_or_else(|error| panic!("{what}: prune: {error}"));
    assert!(read(&repository, &context, &next).unwrap() == content(NEXT), "{what}");
    listed
}

/// Whether a message names an object: a folder, or something in it by its own name.
fn names(message: &str, object: &str) -> bool {
    message.contains(object.rsplit('/').next().unwrap())
}

/// Lets each call of a verb meet a fault, one after the other; returns how many calls there are.
fn each_call(name: &str, work: Work, verb: Verb, faults: &[Fault], prepared: &Prepared) -> u64 {
    let mut number = 0;
    loop {
        let fault = faults[number as usize % faults.len()];
        let inner = memory(&prepared.objects);
        let faulty = Arc::new(FaultyStorage::new(inner.clone()));
        let repository = open(faulty.clone());
        faulty.plan(verb, "", number, fault);
        let result = work(&repository, &context(), prepared);
        drop(repository);
        let struck = faulty.struck();
        faulty.heal();
        let what = format!("{name}, {verb:?} {number} {fault:?} of {struck:?}: {:?}", result.as_ref().err());
        if struck.is_empty() {
            result.unwrap_or_else(|error| panic!("{what}: {error}"));
            return number;
        }
        if let Err(message) = &result {
            assert!(names(message, &struck[0]), "it names no object: {what}");
        }
        let listed = judge(&inner, prepared, number, &what);
        let is_new = listed.iter().any(|id| !prepared.contents.contains_key(id));
        assert!(name != "backup" || is_new || result.is_err(), "it says that it is backed up: {what}");
        number += 1;
    }
}

#[test]
fn each_call_may_fail_or_lie() {
    let prepared = prepare();
    let denied = Fault::Fail(StorageErrorKind::Denied);
    let lying = [Fault::StoreNothing, Fault::Cut, Fault::Garble];
    for (name, work) in WORKS {
        for (verb, faults, least) in [
            (Verb::Put, &[&FAILING[..], &lying, &[FULL, denied]].concat()[..], 1),
            (Verb::Get, &[&FAILING[..], &lying[1..]].concat(), 4),
            (Verb::Stat, &FAILING, 0),
            (Verb::List, &FAILING[..1], 2),
            (Verb::Remove, &FAILING, 1),
            (Verb::Confirm, &FAILING, 1),
        ] {
            for shift in 0..if long() { faults.len() } else { 1 } {
                let faults = [&faults[shift..], &faults[..shift]].concat();
                let calls = each_call(name, work, verb, &faults, &prepared);
                assert!(calls >= least, "{name} asks {verb:?} {calls} times only");
            }
        }
    }
}

#[test]
fn space_that_runs_out_is_said_and_loses_nothing() {
    let prepared = prepare();
    for (name, work) in WORKS {
        let mut failed = 0;
        for space_bytes in [0, 150, 1_000, 40_000, 71_000, 72_500, 200_000, 2_000_000] {
            let inner = memory(&prepared.objects);
            let faulty = Arc::new(FaultyStorage::new(inner.clone()));
            let repository = open(faulty.clone());
            faulty.limit_space(space_bytes);
            let result = work(&repository, &context(), &prepared);
            drop(repository);
            let what = format!("{name} with {space_bytes} bytes: {:?}", result.as_ref().err());
            if let Err(message) = &result {
                failed += 1;
                assert!(message.contains("memory:") && message.contains("planned"), "{what}");
                assert!(faulty.struck().iter().any(|object| names(message, object)), "{what}");
            }
            judge(&inner, &prepared, 0, &what);
        }
        assert!(failed > 0 || name == "restore", "{name} always had space");
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: Event) {
        if let Event::Stall(stall) = event {
            self.0.lock().unwrap().push(format!("{} of {}", stall.verb, stall.object));
        }
    }
}

/// Lets one call hang, waits until that is told, interrupts, and waits for the end. `false` where no call hung.
fn hang(name: &str, work: Work, verb: Verb, number: u64, prepared: &Arc<Prepared>) -> bool {
    let inner = memory(&prepared.objects);
    let faulty = Arc::new(FaultyStorage::new(inner.clone()));
    let (observer, cancel) = (Arc::new(Told::default()), Cancel::new());
    let watch = Arc::new(Watch::new(cancel.clone(), observer.clone(), SOON));
    let repository = open(Arc::new(WatchedStorage::new(faulty.clone(), watch)));
    let context = Context { observer: observer.clone(), cancel: cancel.clone(), ..context() };
    faulty.plan(verb, "", number, Fault::Hang);
    let shared = prepared.clone();
    let worker = std::thread::spawn(move || {
        let result = work(&repository, &context, &shared);
        drop(repository);
        result
    });
    let began = Instant::now();
    // On a busy machine other calls may be told of too.
    let is_told = || {
        let stalls = observer.0.lock().unwrap();
        faulty.struck().iter().any(|object| stalls.iter().any(|stall| names(stall, object)))
    };
    while !is_told() {
        if worker.is_finished() && faulty.happened() == 0 {
            worker.join().unwrap().unwrap();
            return false;
        }
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{name}, {verb:?} {number} of {:?} hangs, told is {:?}",
            faulty.struck(),
            observer.0.lock().unwrap()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    let what = format!("{name}, {verb:?} {number} hangs, of {:?}", faulty.struck());
    let interrupted = Instant::now();
    cancel.cancel();
    let result = worker.join().unwrap();
    let elapsed = interrupted.elapsed();
    assert!(elapsed < Duration::from_secs(2), "it took {elapsed:?}: {what}");
    faulty.heal();
    faulty.release();
    faulty.wait_until_none_hangs();
    // The call itself goes on by now, and takes a moment.
    std::thread::sleep(Duration::from_millis(5));
    judge(&inner, prepared, number, &format!("{what}: {result:?}"));
    true
}

#[test]
fn each_call_that_hangs_is_told_of_and_an_interruption_ends_the_run() {
    let prepared = Arc::new(prepare());
    for (name, work) in WORKS {
        let mut hung = 0;
        for verb in [Verb::Put, Verb::Get, Verb::Stat, Verb::List, Verb::Remove, Verb::Confirm] {
            let numbers = (0..).step_by(if long() { 1 } else { 3 });
            hung += numbers.take_while(|number| hang(name, work, verb, *number, &prepared)).count();
        }
        assert!(hung > 5, "{name}: {hung} calls hung");
    }
}
