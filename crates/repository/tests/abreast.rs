//! Several at work in one repository: what one of them read before it held its lock is not taken for what is there now.
//! Others back up, prune and remove snapshots in between.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use flow::{BackupReader, Context, Event, Observer, Unchanged};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use repository::restic_layout::ResticLayout;
use repository::retention::{PruneScope, PruneSelector, Rules};
use repository::{BackupId, PruneRequest, Repository, RepositoryErrorKind, SnapshotWriter};
use std::io::Read;
use std::sync::{Arc, Mutex};
use storage::{LocalStorage, StorageErrorKind};
use support::{Bench, database, entry, noise, pages, target};
use testkit::{Fault, FaultyStorage, Verb};

const PATH: &str = "/srv/a.db";

/// Backs up content of a seed; half of it is the same each time.
fn back_up(bench: &Bench, seed: u64) -> (BackupId, Vec<u8>) {
    let content = [noise(1000, 1 << 20), noise(seed, 1 << 20)].concat();
    let report = bench.back_up(&database(PATH), &content);
    (report.databases[0].record.id.clone(), content)
}

/// Another process lets go all but the newest, and frees the space.
fn prune(bench: &Bench) {
    let rules = Rules { last: 1, ..Rules::default() };
    let selector = PruneSelector::default();
    let request = PruneRequest {
        scopes: vec![PruneScope { selector, rules, zone: TimeZone::UTC, hold_ages: false }],
        now: Timestamp::now(),
        dry_run: false,
        forget_only: false,
    };
    let report = bench.open().prune(&request, &bench.context).unwrap();
    assert!(report.freed_bytes > 0);
}

fn content(reader: &dyn BackupReader) -> Vec<u8> {
    let mut content = Vec::new();
    let size_bytes = reader.manifest().entry(&entry("e")).unwrap().size_bytes;
    reader.read(&entry("e"), 0..size_bytes).unwrap().read_to_end(&mut content).unwrap();
    content
}

fn unchanged() -> Unchanged {
    Unchanged { marks: support::dumped(&[("e", pages(), 1)]).marks, elapsed_ms: 1 }
}

/// Begins a run that was given what the repository had before `meanwhile`.
fn begin(bench: &Bench, meanwhile: impl FnOnce()) -> (ResticLayout, Box<dyn SnapshotWriter>) {
    let repository = bench.open();
    assert_eq!(repository.previous(&target(), "host", &bench.context).unwrap().len(), 1);
    meanwhile();
    let writer = repository.begin(bench.request(), &bench.context).unwrap();
    (repository, writer)
}

#[test]
fn what_is_unchanged_is_so_since_the_backup_that_the_run_was_given() {
    let bench = Bench::new();
    let (_, before) = back_up(&bench, 1);
    let (repository, writer) = begin(&bench, || drop(back_up(&bench, 2)));
    writer.unchanged(&database(PATH), unchanged()).unwrap();
    let id = writer.commit().unwrap().databases[0].record.id.clone();
    assert!(
        content(&*repository.open(&id, &bench.context).unwrap()) == before,
        "it is the other run's content"
    );
    bench.restic(&["check", "--read-data"]);
}

#[test]
fn a_run_does_not_build_on_a_backup_that_was_removed() {
    let bench = Bench::new();
    back_up(&bench, 1);
    let (newest, _) = back_up(&bench, 2);
    let (_, writer) = begin(&bench, || drop(bench.restic(&["forget", "--prune", &newest.0])));
    let error = writer.unchanged(&database(PATH), unchanged()).unwrap_err();
    assert_eq!(error.kind, RepositoryErrorKind::Failed, "{error}");
    assert!(error.message.contains("was removed") && error.hint.is_some(), "{error}");
    drop(writer);
    assert_eq!(bench.open().backups(None, &bench.context).unwrap().len(), 1);
}

#[test]
fn a_backup_is_read_where_it_lies_now_and_one_that_is_gone_is_said_to_be() {
    let bench = Bench::new();
    let (old, _) = back_up(&bench, 1);
    let (newest, expected) = back_up(&bench, 2);
    let repository = bench.open();
    assert_eq!(repository.backups(None, &bench.context).unwrap().len(), 2);
    prune(&bench);
    assert!(content(&*repository.open(&newest, &bench.context).unwrap()) == expected);
    assert!(repository.verify(&newest, &bench.context).unwrap().errors.is_empty());
    let gone = repository.open(&old, &bench.context).map(drop).unwrap_err();
    assert_eq!(gone.kind, RepositoryErrorKind::NoBackup, "{gone}");
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: Event) {
        if let Event::Finding(finding) = event {
            self.0.lock().unwrap().push(format!("{}: {}", finding.object, finding.message));
        }
    }
}

#[test]
fn a_list_follows_a_prune_that_comes_in_between() {
    let bench = Bench::new();
    back_up(&bench, 1);
    let told = Arc::new(Told::default());
    let context = Context { observer: told.clone(), ..bench.context.clone() };
    let repository = bench.open();
    assert_eq!(repository.backups(None, &context).unwrap().len(), 1);
    let (newest, _) = back_up(&bench, 2);
    prune(&bench);
    let listed = repository.backups(None, &context).unwrap();
    assert_eq!(listed.into_iter().map(|record| record.id).collect::<Vec<_>>(), [newest]);
    assert!(repository.unlisted(&context).unwrap().is_empty());
    assert_eq!(*told.0.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn a_snapshot_that_goes_while_it_is_listed_is_no_damage() {
    let bench = Bench::new();
    back_up(&bench, 1);
    let (newest, _) = back_up(&bench, 2);
    let storage = Arc::new(LocalStorage::open(bench.folder.path().join("repository")).unwrap());
    let faulty = Arc::new(FaultyStorage::new(storage));
    let repository =
        ResticLayout::open(faulty.clone(), &flow::Secret::new("geheim"), support::options()).unwrap();
    let told = Arc::new(Told::default());
    let context = Context { observer: told.clone(), ..bench.context.clone() };
    let name = format!("snapshots/{newest}");
    for _ in 0..3 {
        faulty.plan(Verb::Get, &name, 0, Fault::Fail(StorageErrorKind::Missing));
    }
    assert_eq!(repository.backups(None, &context).unwrap().len(), 1);
    assert!(repository.unlisted(&context).unwrap().is_empty());
    assert_eq!(faulty.happened(), 3);
    assert_eq!(*told.0.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn an_index_file_that_goes_while_it_is_read_is_no_damage() {
    let bench = Bench::new();
    let (id, expected) = back_up(&bench, 1);
    let storage = Arc::new(LocalStorage::open(bench.folder.path().join("repository")).unwrap());
    let faulty = Arc::new(FaultyStorage::new(storage));
    let repository =
        ResticLayout::open(faulty.clone(), &flow::Secret::new("geheim"), support::options()).unwrap();
    faulty.plan(Verb::Get, "index/", 0, Fault::Fail(StorageErrorKind::Missing));
    assert!(content(&*repository.open(&id, &bench.context).unwrap()) == expected);
    assert_eq!(faulty.happened(), 1);
}

/// A part whose producer says that it is whole, and lets another worker give the verdict before its own goes on.
struct Overtaken(std::sync::mpsc::Sender<()>, u64);

impl flow::PartReader for Overtaken {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, flow::SourceError> {
        let count = buffer.len().min(usize::try_from(self.1).unwrap());
        buffer[..count].fill(7);
        self.1 -= count as u64;
        Ok(count)
    }

    fn finish(self: Box<Self>) -> Result<flow::PartFacts, flow::SourceError> {
        self.0.send(()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok(flow::PartFacts { size_bytes: 5000, rows: None, digest: None })
    }
}

#[test]
fn a_verdict_waits_for_parts_that_are_not_in_their_place_yet() {
    let bench = Bench::new();
    let repository = bench.open();
    let writer = repository.begin(bench.request(), &bench.context).unwrap();
    let (sender, whole) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let reader = Box::new(Overtaken(sender, 5000));
            let layout = flow::Layout::Opaque;
            let part =
                flow::OpenPart { database: database(PATH), entry: entry("e"), layout, index: 0, reader };
            writer.part(part).unwrap();
        });
        whole.recv().unwrap();
        writer.done(&database(PATH), support::dumped(&[("e", flow::Layout::Opaque, 1)])).unwrap();
    });
    writer.commit().unwrap();
}
