//! Hundreds of databases and several runs: what is asked of the storage grows with the runs that are looked at, never
//! with the databases in them. Counted, not timed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use flow::{DatabaseName, DatabaseRef, Unchanged};
use repository::restic_layout::ResticLayout;
use repository::{BackupId, Repository, Wanted};
use std::sync::Arc;
use storage::LocalStorage;
use support::*;
use testkit::{RecordingStorage, Verb};

const DATABASES: usize = 500;
const RUNS: usize = 5;

struct Many {
    bench: Bench,
    storage: Arc<RecordingStorage>,
}

impl Many {
    /// One run of all databases, then runs in which one of them has changed.
    fn new() -> Self {
        let bench = Bench::new();
        let local = LocalStorage::open(bench.folder.path().join("repository")).unwrap();
        let many = Self { bench, storage: Arc::new(RecordingStorage::new(Arc::new(local))) };
        (0..RUNS).for_each(|run| many.run(run));
        many
    }

    fn open(&self) -> ResticLayout {
        let storage = Arc::clone(&self.storage) as Arc<dyn storage::Storage>;
        let repository = ResticLayout::open(storage, &flow::Secret::new("geheim"), options()).unwrap();
        self.storage.take();
        repository
    }

    fn run(&self, run: usize) {
        let repository = self.open();
        let previous = repository.previous(&target(), "host", &self.bench.context).unwrap();
        assert_eq!(previous.len(), if run == 0 { 0 } else { DATABASES });
        let writer = repository.begin(self.bench.request(), &self.bench.context).unwrap();
        for number in 0..DATABASES {
            let database = tenant(number);
            match previous.get(&database.name).filter(|_| number != run) {
                Some(previous) => {
                    let unchanged = Unchanged { marks: previous.marks.clone(), elapsed_ms: 1 };
                    writer.unchanged(&database, unchanged).unwrap();
                }
                None => {
                    let content = noise((number + run * DATABASES) as u64, 300);
                    writer.part(part(&database, "e", pages(), 0, &content)).unwrap();
                    writer.done(&database, dumped(&[("e", pages(), 1)])).unwrap();
                }
            }
        }
        writer.commit().unwrap();
    }

    /// How often something was read from packs since the last look.
    fn reads(&self) -> usize {
        let calls = self.storage.take();
        calls.iter().filter(|call| call.verb == Verb::Get && call.name.starts_with("data/")).count()
    }
}

fn tenant(number: usize) -> DatabaseRef {
    database(&format!("/srv/shops/tenant-{number:03}.db"))
}

#[test]
fn what_is_read_grows_with_the_runs_and_not_with_the_databases() {
    let many = Many::new();
    let context = &many.bench.context;

    let repository = many.open();
    let previous = repository.previous(&target(), "host", context).unwrap();
    // The folder and the list of the newest run, then all folders in a few requests; no manifest.
    let reads = many.reads();
    assert!((1..=12).contains(&reads), "the previous backups took {reads} reads");
    let name = tenant(7).name;
    assert_eq!(previous[&name].manifest().unwrap().database, name);
    let reads = many.reads();
    assert!((1..=2).contains(&reads), "one manifest took {reads} reads");

    let all = many.open().backups(None, context).unwrap();
    assert_eq!(all.len(), DATABASES * RUNS);
    let reads = many.reads();
    assert!(reads <= 3 * RUNS, "the list took {reads} reads");

    let repository = many.open();
    let wanted = Wanted::Database(target(), name.clone());
    let of_one = repository.backups_of(&wanted, context).unwrap();
    assert_eq!(of_one, all.iter().filter(|record| record.database == name).cloned().collect::<Vec<_>>());
    assert_eq!(of_one.len(), RUNS);
    assert!(repository.unlisted_of(&wanted, context).unwrap().is_empty());
    let backup = repository.open(&of_one.last().unwrap().id, context).unwrap();
    let mut content = Vec::new();
    backup.read(&entry("e"), 0..300).unwrap().read_to_end(&mut content).unwrap();
    assert_eq!(content, noise(7, 300), "it was changed by no later run");
    let reads = many.reads();
    assert!(reads <= 3 * RUNS + 8, "finding and reading one database took {reads} reads");
}

#[test]
fn each_way_to_ask_gives_what_the_whole_list_has_of_it() {
    let many = Many::new();
    let context = &many.bench.context;
    let all = many.open().backups(None, context).unwrap();
    let snapshot = all[0].snapshot.clone();
    for wanted in [
        Wanted::All,
        Wanted::Target(target()),
        Wanted::Target(flow::TargetName::new("another").unwrap()),
        Wanted::Database(target(), tenant(3).name),
        Wanted::Database(target(), DatabaseName::new("tenant-00").unwrap()),
        Wanted::Place(tenant(3).connection),
        Wanted::Place("/srv/shops/tenant-00".to_owned()),
        Wanted::Place(target().as_str().to_owned()),
        Wanted::Snapshot(snapshot[..8].to_owned()),
    ] {
        let expected: Vec<_> = all.iter().filter(|record| wanted.fits(record)).cloned().collect();
        assert_eq!(many.open().backups_of(&wanted, context).unwrap(), expected, "{wanted:?}");
    }
    let gone = BackupId(format!("{snapshot}:tenant-500.db"));
    assert!(many.open().open(&gone, context).is_err());
}
