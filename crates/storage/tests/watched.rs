//! Calls that hang are told of by their object, and an interruption ends whoever waits for them; everything else is as
//! without the watch.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use flow::{Cancel, Event, Observer, Stall};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use storage::{ObjectName, Storage, StorageError, StorageErrorKind, Watch, WatchOptions, WatchedStorage};
use testkit::{Fault, FaultyStorage, FreshStorage, MemoryStorage, Verb, storage_conformance};

#[derive(Default)]
struct Told(Mutex<Vec<Stall>>);

impl Observer for Told {
    fn event(&self, event: Event) {
        if let Event::Stall(stall) = event {
            self.0.lock().unwrap().push(stall);
        }
    }
}

impl Told {
    fn stalls(&self) -> Vec<Stall> {
        self.0.lock().unwrap().clone()
    }

    fn wait_for(&self, count: usize) {
        let began = Instant::now();
        while self.stalls().len() < count {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", self.stalls());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

const SOON: WatchOptions = WatchOptions {
    stalled_after: Duration::from_millis(40),
    patience: Duration::from_millis(200),
    last_patience: Duration::from_millis(50),
};

struct Bench {
    faulty: Arc<FaultyStorage>,
    watched: Arc<WatchedStorage>,
    told: Arc<Told>,
    cancel: Cancel,
}

fn bench() -> Bench {
    let faulty = Arc::new(FaultyStorage::new(Arc::new(MemoryStorage::new())));
    let (told, cancel) = (Arc::new(Told::default()), Cancel::new());
    let watch = Arc::new(Watch::new(cancel.clone(), told.clone(), SOON));
    let watched = Arc::new(WatchedStorage::new(faulty.clone(), watch));
    Bench { faulty, watched, told, cancel }
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

type Ask = fn(&dyn Storage) -> Result<(), StorageError>;

/// Each verb, and how it is asked for.
const ASKED: [(Verb, &str, Ask); 6] = [
    (Verb::Put, "put", |storage| storage.put(&name("data/new"), &[b"new"])),
    (Verb::Get, "get", |storage| storage.get(&name("data/old")).map(drop)),
    (Verb::Stat, "stat", |storage| storage.stat(&name("data/old")).map(drop)),
    (Verb::List, "list", |storage| storage.list("data").map(drop)),
    (Verb::Confirm, "confirm", |storage| storage.confirm(&name("data/old"), &[0; 32])),
    (Verb::Remove, "remove", |storage| storage.remove(&name("data/old"))),
];

#[test]
fn a_watched_storage_keeps_every_promise() {
    storage_conformance(|| FreshStorage::new(bench().watched, ()));
}

#[test]
fn a_call_that_hangs_is_told_of_rarely_and_when_it_goes_on() {
    for (verb, word, ask) in ASKED {
        let bench = bench();
        bench.watched.put(&name("data/old"), &[b"old"]).unwrap();
        bench.faulty.plan(verb, "data", 0, Fault::Hang);
        let watched = bench.watched.clone();
        let caller = std::thread::spawn(move || ask(&*watched));
        bench.told.wait_for(3);
        bench.faulty.release();
        let outcome = caller.join().unwrap();
        assert!(outcome.is_ok() || verb == Verb::Confirm, "{outcome:?}");
        let stalls = bench.told.stalls();
        assert!(
            stalls.iter().all(|stall| stall.verb == word && stall.object.starts_with("data")),
            "{stalls:?}"
        );
        assert!(stalls.iter().all(|stall| stall.object.contains(" in ")), "{stalls:?}");
        let (last, earlier) = stalls.split_last().unwrap();
        assert!(last.over && earlier.iter().all(|stall| !stall.over), "{stalls:?}");
        // Again after twice the time.
        let apart = earlier.windows(2).all(|pair| pair[1].waited >= pair[0].waited * 3 / 2);
        assert!(apart, "{stalls:?}");
    }
}

#[test]
fn an_interruption_ends_whoever_waits_for_a_call_that_hangs() {
    for (verb, _, ask) in ASKED {
        let bench = bench();
        bench.watched.put(&name("data/old"), &[b"old"]).unwrap();
        bench.faulty.plan(verb, "data", 0, Fault::Hang);
        let watched = bench.watched.clone();
        let caller = std::thread::spawn(move || ask(&*watched));
        bench.faulty.wait_until_hanging();
        let began = Instant::now();
        bench.cancel.cancel();
        let error = caller.join().unwrap().unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Interrupted, "{error}");
        assert!(error.to_string().contains("data"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(2), "{verb:?} took {:?}", began.elapsed());
        // What still works is still done: a lock is removed on the way out.
        bench.watched.put(&name("locks/one"), &[b"lock"]).unwrap();
        bench.watched.remove(&name("locks/one")).unwrap();
        bench.faulty.release();
    }
}

#[test]
fn calls_that_answer_are_not_told_of_and_threads_are_used_again() {
    let told = Arc::new(Told::default());
    let watch = Watch::new(Cancel::new(), told.clone(), SOON);
    let threads: HashSet<_> =
        (0..500).map(|_| watch.run("get", "anything", || std::thread::current().id()).unwrap()).collect();
    assert!(threads.len() < 3, "{} threads", threads.len());
    assert!(!threads.contains(&std::thread::current().id()));
    assert_eq!(told.stalls(), []);
}
