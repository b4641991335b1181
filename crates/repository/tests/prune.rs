//! Retention carried out on the restic layout, judged by stock restic: what stays is whole, what goes is gone, and what
//! was said of a backup outlives it where others have the same content.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use flow::{Dumped, Unchanged};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use repository::retention::{PruneScope, PruneSelector, Rules};
use repository::{
    BackupId, ProofRecord, PruneReport, PruneRequest, Repository, RepositoryError, RepositoryErrorKind,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use support::{Bench, database, dumped, noise, pages};

const PATH: &str = "/srv/a.db";

fn keep_last(last: u32) -> PruneRequest {
    let rules = Rules { last, ..Rules::default() };
    let selector = PruneSelector::default();
    PruneRequest {
        scopes: vec![PruneScope { selector, rules, zone: TimeZone::UTC, hold_ages: false }],
        now: Timestamp::now(),
        dry_run: false,
        forget_only: false,
    }
}

fn prune(bench: &Bench, request: &PruneRequest) -> Result<PruneReport, RepositoryError> {
    bench.open().prune(request, &bench.context)
}

/// Backs up content of a seed; half of it is the same each time.
fn back_up(bench: &Bench, seed: u64) -> BackupId {
    let content = [noise(1000, 1 << 20), noise(seed, 1 << 20)].concat();
    bench.back_up(&database(PATH), &content).databases[0].record.id.clone()
}

fn listed(bench: &Bench) -> Vec<BackupId> {
    let records = bench.open().backups(None, &bench.context).unwrap();
    records.into_iter().filter(|record| record.engine.is_some()).map(|record| record.id).collect()
}

fn said(backup: &BackupId) -> ProofRecord {
    ProofRecord {
        backup: backup.clone(),
        time: Timestamp::now(),
        level: None,
        problem: Some("a test".to_owned()),
        damaged_packs: vec![],
        host: "host".to_owned(),
        rows: BTreeMap::new(),
    }
}

/// The files of the repository with their content.
fn files(bench: &Bench) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![bench.folder.path().join("repository")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn what_stays_is_whole_and_the_space_of_the_rest_is_freed() {
    let bench = Bench::new();
    let made: Vec<BackupId> = (1..=5).map(|seed| back_up(&bench, seed)).collect();
    let before = bench.data_bytes();
    let forgotten = prune(&bench, &PruneRequest { forget_only: true, ..keep_last(3) }).unwrap();
    assert_eq!((forgotten.snapshots, forgotten.freed_bytes), (2, 0));
    assert_eq!(bench.data_bytes(), before);
    assert_eq!(listed(&bench), made[2..]);
    let dry = prune(&bench, &PruneRequest { dry_run: true, ..keep_last(2) }).unwrap();
    let report = prune(&bench, &keep_last(2)).unwrap();
    assert_eq!(listed(&bench), made[3..]);
    assert_eq!(report.freed_bytes, before - bench.data_bytes());
    assert!(report.freed_bytes > 3 << 20, "{} bytes freed", report.freed_bytes);
    let off = dry.freed_bytes.abs_diff(report.freed_bytes);
    assert!(off * 20 < report.freed_bytes, "a dry run said {}", dry.freed_bytes);
    bench.restic(&["check", "--read-data"]);
    let gone = bench.open().open(&made[0], &bench.context).map(drop).map_err(|error| error.kind);
    assert_eq!(gone, Err(RepositoryErrorKind::NoBackup));
    for id in &made[3..] {
        assert!(bench.open().verify(id, &bench.context).unwrap().errors.is_empty());
    }
    let again = files(&bench);
    let report = prune(&bench, &keep_last(2)).unwrap();
    assert_eq!((report.snapshots, report.freed_bytes), (0, 0));
    assert!(files(&bench) == again, "where there is nothing to do, nothing changes");
    // The next backup of what went stores it anew.
    back_up(&bench, 1);
    bench.restic(&["check", "--read-data"]);
}

#[test]
fn a_dry_run_leaves_every_byte_as_it_is() {
    let bench = Bench::new();
    let made: Vec<BackupId> = (1..=3).map(|seed| back_up(&bench, seed)).collect();
    bench.open().append_proofs(vec![said(&made[0])], &bench.context).unwrap();
    bench.open().append_proofs(vec![said(&made[1])], &bench.context).unwrap();
    let before = files(&bench);
    let told = prune(&bench, &PruneRequest { dry_run: true, ..keep_last(1) }).unwrap();
    assert!(files(&bench) == before);
    let done = prune(&bench, &keep_last(1)).unwrap();
    assert_eq!(told.verdicts, done.verdicts);
}

#[test]
fn a_prune_waits_for_nobody_and_says_who_is_in_its_way() {
    let bench = Bench::new();
    (1..=3).for_each(|seed| drop(back_up(&bench, seed)));
    let repository = bench.open();
    let writer = repository.begin(bench.request(), &bench.context).unwrap();
    let refused = prune(&bench, &keep_last(1)).unwrap_err();
    assert_eq!(refused.kind, RepositoryErrorKind::Locked);
    let process = format!("process {}", std::process::id());
    assert!(refused.message.contains(&process) && refused.message.contains("on host"), "{refused}");
    assert_eq!(prune(&bench, &PruneRequest { dry_run: true, ..keep_last(1) }).unwrap().snapshots, 2);
    assert_eq!(listed(&bench).len(), 3);
    drop(writer);
    assert_eq!(prune(&bench, &keep_last(1)).unwrap().snapshots, 2);
}

#[test]
fn what_was_said_of_a_backup_holds_for_those_of_the_same_content_after_it_went() {
    let bench = Bench::new();
    let first = back_up(&bench, 1);
    let repository = bench.open();
    let writer = repository.begin(bench.request(), &bench.context).unwrap();
    let Dumped { marks, elapsed_ms, .. } = dumped(&[("e", pages(), 1)]);
    writer.unchanged(&database(PATH), Unchanged { marks, elapsed_ms }).unwrap();
    let second = writer.commit().unwrap().databases[0].record.id.clone();
    for id in [&first, &first, &second] {
        bench.open().append_proofs(vec![said(id)], &bench.context).unwrap();
    }
    // What was said last, of the first one, is what holds.
    let mut newest = said(&first);
    newest.level = Some(repository::ProofLevel::Equal);
    bench.open().append_proofs(vec![newest], &bench.context).unwrap();
    let third = back_up(&bench, 2);
    let level = |id: &BackupId| {
        let records = bench.open().backups(None, &bench.context).unwrap();
        let record = records.into_iter().find(|record| record.id == *id).unwrap();
        record.proof.map(|proof| proof.level)
    };
    assert_eq!(level(&second), Some(repository::ProofLevel::Equal));
    prune(&bench, &keep_last(2)).unwrap();
    assert_eq!(listed(&bench), [second.clone(), third]);
    assert_eq!(level(&second), Some(repository::ProofLevel::Equal));
    let states = bench.restic(&["snapshots", "--tag", "backstay-state", "--json"]);
    assert_eq!(states.matches("\"tree\"").count(), 1, "{states}");
    prune(&bench, &keep_last(1)).unwrap();
    bench.restic(&["check", "--read-data"]);
}

#[test]
fn what_stock_restic_wrote_is_left_alone() {
    let bench = Bench::new();
    let folder = bench.folder.path().join("files");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a"), noise(7, 100_000)).unwrap();
    for _ in 0..2 {
        bench.restic(&["backup", "--host", "host", folder.to_str().unwrap()]);
    }
    (1..=3).for_each(|seed| drop(back_up(&bench, seed)));
    let report = prune(&bench, &keep_last(1)).unwrap();
    assert_eq!((report.snapshots, report.foreign, report.verdicts.len()), (2, 2, 3));
    bench.restic(&["check", "--read-data"]);
    let snapshots = bench.restic(&["snapshots", "--json"]);
    assert_eq!(snapshots.matches("\"tree\"").count(), 3, "{snapshots}");
}

#[test]
fn an_interrupted_prune_says_so_and_the_next_one_goes_on() {
    let bench = Bench::new();
    (1..=3).for_each(|seed| drop(back_up(&bench, seed)));
    let repository = bench.open();
    let mut context = bench.context.clone();
    context.cancel = flow::Cancel::new();
    context.cancel.cancel();
    let error = repository.prune(&keep_last(1), &context).unwrap_err();
    assert_eq!(error.kind, RepositoryErrorKind::Cancelled);
    bench.restic(&["check"]);
    prune(&bench, &keep_last(1)).unwrap();
    assert_eq!(listed(&bench).len(), 1);
}
