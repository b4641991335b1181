//! Pruning, with stock restic as the judge: what stays is whole, what goes is gone, and the space is free.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flow::{Cancel, Secret};
use restic::{
    Cut, Depth, HealOptions, Id, LockKind, LockOptions, LockOwner, MaxUnused, OpenOptions, PruneOptions,
    PruneOutcome, PruneStep, Repository, ResticError, ResticErrorKind, WriterOptions, plan_heal, plan_prune,
};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use storage::{LocalStorage, Storage};
use support::{Dying, PASSWORD, Place, backup, backup_with, check, lossy, noise, owner, read_all, rows};

const PAGES: Cut = Cut::Fixed { bytes: 16 << 10 };

fn options() -> PruneOptions {
    PruneOptions { pack_bytes: 1 << 20, ..PruneOptions::default() }
}

fn prune(
    repository: &Repository,
    remove: &[Id],
    options: &PruneOptions,
) -> Result<(restic::PruneFigures, PruneOutcome), ResticError> {
    let lock = repository.lock(LockKind::Exclusive, &owner(), LockOptions::default())?;
    let remove: HashSet<Id> = remove.iter().copied().collect();
    let plan = plan_prune(repository, &remove, options, &Cancel::new(), &|_| {})?;
    let figures = plan.figures;
    Ok((figures, plan.execute(repository, &lock, &Cancel::new(), &|_| {})?))
}

type Contents = BTreeMap<Id, Vec<(String, Result<Vec<u8>, String>)>>;

fn contents(repository: &Arc<Repository>) -> Contents {
    let index = Arc::new(repository.load_index().unwrap());
    let snapshots = repository.snapshots().unwrap();
    snapshots.iter().map(|(id, snapshot)| (*id, read_all(repository, &index, &snapshot.tree))).collect()
}

fn packs_bytes(place: &Place) -> u64 {
    place.objects("data").iter().map(|path| path.metadata().unwrap().len()).sum()
}

fn small_packs() -> WriterOptions {
    WriterOptions { pack_bytes: 1 << 20, ..WriterOptions::default() }
}

/// Changes every `every`-th page.
fn changed(content: &[u8], every: usize, seed: u64) -> Vec<u8> {
    let mut content = content.to_vec();
    for (at, page) in content.chunks_mut(16 << 10).enumerate() {
        if at % every == 0 {
            let length = page.len();
            page.copy_from_slice(&noise(length, seed * 1000 + at as u64));
        }
    }
    content
}

/// Four snapshots that share much and each hold something of their own.
fn four_snapshots(repository: &Arc<Repository>) -> Vec<Id> {
    let mut content = noise(4 << 20, 1);
    (0..4)
        .map(|at| {
            content = changed(&content, 3 + at, at as u64 + 2);
            let own = rows(400_000, at as u64);
            let files: [(&str, &[u8], Cut); 2] =
                [("pages", &content, PAGES), ("rows", &own, Cut::ContentDefined)];
            backup_with(repository, &files, small_packs()).0
        })
        .collect()
}

/// All that stays is as it was, for us and for stock restic, and nothing more could be freed.
fn judge(place: &Place, before: &Contents, removed: &[Id]) {
    let repository = place.open();
    let after = contents(&repository);
    let mut expected = before.clone();
    expected.retain(|id, _| !removed.contains(id));
    assert!(after == expected, "{:?} stay, {:?} should", after.keys(), expected.keys());
    let outcome = check(&repository, Depth::Data);
    assert_eq!((outcome.errors, outcome.remarks), (vec![], vec![]));
    place.restic(&["check", "--read-data"]);
    for (id, files) in &expected {
        let target = place.path(&format!("restored-{}", id.short()));
        place.restic(&["restore", &id.to_string(), "--target", target.to_str().unwrap()]);
        for (path, content) in files {
            let restored = std::fs::read(target.join(&path[1..])).unwrap();
            assert!(&restored == content.as_ref().unwrap(), "{id} {path}");
        }
    }
    let said = place.restic(&["prune", "--dry-run"]);
    let line = said.lines().find(|line| line.starts_with("total prune:")).unwrap_or_else(|| panic!("{said}"));
    let count = |line: &str| -> u64 {
        let numbers = line.split(':').nth(1).unwrap().split_whitespace().next().unwrap();
        numbers.parse().unwrap()
    };
    let remaining = said.lines().find(|line| line.starts_with("remaining:")).unwrap();
    // It puts small packs together sooner than we do, and what is unused in those goes then.
    assert!(count(line) * 50 <= count(remaining), "stock restic would prune more: {said}");
}

#[test]
fn space_is_freed_and_what_stays_is_whole() {
    let (place, repository) = Place::with_our_repository();
    let snapshots = four_snapshots(&repository);
    let before = contents(&repository);
    let bytes_before = packs_bytes(&place);
    let remove = [snapshots[0], snapshots[2]];
    let (figures, outcome) = prune(&repository, &remove, &options()).unwrap();
    assert_eq!(outcome.findings, vec![]);
    let mut removed = outcome.snapshots_removed.clone();
    removed.sort_by_key(|id| snapshots.iter().position(|snapshot| snapshot == id));
    assert_eq!(removed, remove);
    let freed = bytes_before - packs_bytes(&place);
    assert_eq!(freed, outcome.freed_bytes);
    assert!(freed > 1 << 20, "{freed}");
    let told = figures.freed_bytes as f64 / freed as f64;
    assert!((0.99..1.01).contains(&told), "{} told, {freed} freed", figures.freed_bytes);
    assert!(figures.packs_repacked.count > 0 && figures.packs_kept.count > 0, "{figures:?}");
    assert_eq!((figures.snapshots_kept, figures.snapshots_removed), (2, 2));
    judge(&place, &before, &remove);
    let again = plan_prune(&repository, &HashSet::new(), &options(), &Cancel::new(), &|_| {}).unwrap();
    assert!(again.is_empty(), "{:?}", again.figures);
}

#[test]
fn a_plan_changes_nothing_and_bounds_the_waste_that_stays() {
    let (place, repository) = Place::with_our_repository();
    let snapshots = four_snapshots(&repository);
    let before = place.objects("");
    let remove = HashSet::from([snapshots[0], snapshots[1], snapshots[2]]);
    let plan = |max_unused| {
        let options = PruneOptions { max_unused, ..options() };
        plan_prune(&repository, &remove, &options, &Cancel::new(), &|_| {}).unwrap().figures
    };
    let (all, some, none) =
        (plan(MaxUnused::Bytes(0)), plan(MaxUnused::Percent(5.0)), plan(MaxUnused::Unlimited));
    assert_eq!(place.objects(""), before);
    assert_eq!(all.unused_bytes_left, 0);
    assert!(some.unused_bytes_left as f64 <= 0.0527 * some.used_blobs.size_bytes as f64, "{some:?}");
    assert!(none.unused_bytes_left > some.unused_bytes_left);
    assert_eq!((none.packs_repacked.count, none.rewritten_bytes), (0, 0));
    assert!(all.freed_bytes >= some.freed_bytes && some.freed_bytes > none.freed_bytes);
    assert_eq!(all.used_blobs, none.used_blobs);
}

#[test]
fn what_stock_restic_wrote_is_pruned_in_either_version() {
    for version in [1, 2] {
        let place = Place::with_stock_repository(version);
        std::fs::create_dir_all(place.path("source/sub")).unwrap();
        let mut content = noise(5 << 20, 7);
        for at in 0..4u64 {
            content = changed(&content, 5, at + 50);
            std::fs::write(place.path("source/large"), &content).unwrap();
            std::fs::write(place.path("source/sub/rows"), rows(3_000_000, at)).unwrap();
            std::fs::write(place.path(&format!("source/sub/small-{at}")), rows(900, at)).unwrap();
            place.restic(&["backup", "source"]);
        }
        let repository = place.open();
        let before = contents(&repository);
        let snapshots: Vec<Id> = repository.snapshots().unwrap().into_iter().map(|(id, _)| id).collect();
        let bytes_before = packs_bytes(&place);
        let remove = [snapshots[1], snapshots[0]];
        let (_, outcome) = prune(&repository, &remove, &options()).unwrap();
        assert_eq!(bytes_before - packs_bytes(&place), outcome.freed_bytes);
        assert!(outcome.freed_bytes > 500_000, "version {version}: {outcome:?}");
        assert!(outcome.packs_written.count > 0);
        judge(&place, &before, &remove);
        // Whoever comes next can go on writing.
        place.restic(&["backup", "source"]);
        place.restic(&["check", "--read-data"]);
    }
}

#[test]
fn nothing_is_left_of_a_repository_without_snapshots() {
    let (place, repository) = Place::with_our_repository();
    let snapshots = four_snapshots(&repository);
    prune(&repository, &snapshots, &options()).unwrap();
    for folder in ["data", "index", "snapshots", "locks"] {
        assert_eq!(place.objects(folder), Vec::<std::path::PathBuf>::new());
    }
    place.restic(&["check", "--read-data"]);
}

#[test]
fn leftovers_of_interrupted_runs_go_and_many_small_packs_become_few() {
    let (place, repository) = Place::with_our_repository();
    for at in 0..12 {
        backup(&repository, &[("rows", &rows(20_000, at), Cut::ContentDefined)]);
    }
    let before = contents(&repository);
    let (indexes, packs) = (place.objects("index"), place.objects("data"));
    let (lost, _) = backup(&repository, &[("rows", &rows(20_000, 99), Cut::ContentDefined)]);
    repository.remove_snapshot(&lost).unwrap();
    for index in place.objects("index").iter().filter(|path| !indexes.contains(path)) {
        std::fs::remove_file(index).unwrap();
    }
    let leftovers = place.objects("data").len() - packs.len();
    let (figures, _) = prune(&repository, &[], &options()).unwrap();
    assert_eq!(figures.packs_unnamed.count as usize, leftovers);
    assert_eq!((place.objects("data").len(), place.objects("index").len()), (2, 1));
    judge(&place, &before, &[]);
}

fn flip(path: &Path, at: usize) {
    let mut content = std::fs::read(path).unwrap();
    content[at] ^= 0x10;
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn of_two_copies_a_good_one_stays() {
    let (place, repository) = Place::with_our_repository();
    let content = noise(600_000, 5);
    let files: [(&str, &[u8], Cut); 1] = [("pages", &content, PAGES)];
    backup(&repository, &files);
    let first = place.objects("data");
    let aside = place.path("aside");
    std::fs::rename(place.repo().join("data"), &aside).unwrap();
    std::fs::create_dir(place.repo().join("data")).unwrap();
    backup(&repository, &files);
    let second = place.objects("data");
    for path in &first {
        let from = aside.join(path.strip_prefix(place.repo().join("data")).unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::rename(from, path).unwrap();
    }
    let before = contents(&repository);
    let whole = place.path("whole");
    let copy = |from: &Path, to: &Path| {
        std::fs::remove_dir_all(to).ok();
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    copy(&place.repo(), &whole);
    for damaged in [vec![], first, second] {
        copy(&whole, &place.repo());
        damaged.iter().for_each(|path| flip(path, 5000.min(path.metadata().unwrap().len() as usize / 3)));
        let (figures, outcome) = prune(&place.open(), &[], &options()).unwrap();
        assert_eq!(outcome.findings, vec![]);
        assert!(figures.duplicate_blobs.count >= figures.used_blobs.count);
        assert!(packs_bytes(&place) < 700_000);
        judge(&place, &before, &[]);
    }
}

#[test]
fn a_folder_that_cannot_be_read_refuses() {
    let (place, repository) = Place::with_our_repository();
    let (first, _) = backup(&repository, &[("a", &noise(100_000, 1), PAGES)]);
    let packs = place.objects("data");
    let (second, _) = backup(&repository, &[("b", &noise(100_000, 2), PAGES)]);
    let index = repository.load_index().unwrap();
    let tree = repository.snapshot(&second).unwrap().tree;
    let pack = index.find(restic::BlobKind::Tree, &tree).unwrap().pack.to_string();
    let path = place.repo().join("data").join(&pack[..2]).join(&pack);
    assert!(!packs.contains(&path));
    flip(&path, 20);
    flip(&path, path.metadata().unwrap().len() as usize / 2);
    let objects = place.objects("");
    for remove in [&[][..], &[first]] {
        let error = prune(&repository, remove, &options()).unwrap_err();
        assert_eq!(error.kind, ResticErrorKind::Damaged);
        assert!(error.object.starts_with("folder "), "{error}");
        assert!(error.message.contains(&second.short()), "{error}");
        assert!(!error.message.contains(&first.short()), "{error}");
        assert_eq!(place.objects(""), objects);
    }
    // Without the snapshot that needs it, it is no longer in the way.
    let before = contents(&repository);
    prune(&repository, &[second], &options()).unwrap();
    judge(&place, &before, &[second]);
}

#[test]
fn data_that_is_missing_is_told_and_nothing_gets_worse() {
    let (place, repository) = Place::with_our_repository();
    let snapshots = four_snapshots(&repository);
    let index = repository.load_index().unwrap();
    let tree = repository.snapshot(&snapshots[3]).unwrap().tree;
    let blobs = repository.blobs_of(&index, &tree).unwrap();
    let (kind, blob) = blobs.iter().rfind(|(kind, _)| *kind == restic::BlobKind::Data).unwrap();
    let pack = index.find(*kind, blob).unwrap().pack;
    let name = pack.to_string();
    let path = place.repo().join("data").join(&name[..2]).join(&name);
    let aside = place.path("aside");
    std::fs::rename(&path, &aside).unwrap();
    let before = contents(&repository);
    let bytes = packs_bytes(&place);
    let (figures, outcome) = prune(&repository, &snapshots[..2], &options()).unwrap();
    assert_eq!(figures.packs_missing, 1);
    assert_eq!(outcome.findings.len(), 1, "{:?}", outcome.findings);
    assert_eq!(outcome.findings[0].object, format!("pack {pack}"));
    assert!(outcome.findings[0].snapshots.contains(&snapshots[3]));
    assert!(packs_bytes(&place) < bytes, "space is freed all the same");
    let after = contents(&place.open());
    assert!(after[&snapshots[3]].iter().any(|(_, content)| content.is_err()));
    assert!(after.iter().all(|(id, files)| files == &before[id]));
    // Should the pack come back, it counts again.
    std::fs::rename(&aside, &path).unwrap();
    place.restic(&["check", "--read-data"]);
}

#[test]
fn a_pack_with_a_damaged_blob_is_left_as_it_is() {
    let (place, repository) = Place::with_our_repository();
    let content = noise(900_000, 3);
    let (first, _) = backup(&repository, &[("pages", &content, PAGES)]);
    let (second, _) = backup(&repository, &[("pages", &content[..500_000], PAGES)]);
    let index = repository.load_index().unwrap();
    let location = index.find(restic::BlobKind::Data, &Id::of(&content[..16 << 10])).unwrap();
    let name = location.pack.to_string();
    let path = place.repo().join("data").join(&name[..2]).join(&name);
    flip(&path, location.offset as usize + 100);
    let before = contents(&repository);
    let (figures, outcome) = prune(&repository, &[first], &options()).unwrap();
    assert_eq!(figures.packs_repacked.count, 1, "{figures:?}");
    assert_eq!(outcome.findings.len(), 1, "{:?}", outcome.findings);
    assert_eq!(outcome.findings[0].object, format!("pack {name}"));
    assert!(path.exists());
    let after = contents(&place.open());
    assert!(after[&second] == before[&second]);
    assert!(after[&second].iter().all(|(_, content)| content.is_err()));
}

fn pack_of(place: &Place, repository: &Repository, blob: &[u8]) -> std::path::PathBuf {
    let index = repository.load_index().unwrap();
    let name = index.find(restic::BlobKind::Data, &Id::of(blob)).unwrap().pack.to_string();
    place.repo().join("data").join(&name[..2]).join(&name)
}

#[test]
fn packs_that_no_index_names_stay_while_something_is_missing() {
    let (place, repository) = Place::with_our_repository();
    let content = noise(300_000, 1);
    backup(&repository, &[("pages", &content, PAGES)]);
    let before = contents(&repository);
    let pack = pack_of(&place, &repository, &content[..16 << 10]);
    // Away for a moment, in which somebody mends the index.
    std::fs::rename(&pack, place.path("aside")).unwrap();
    place.restic(&["rebuild-index"]);
    std::fs::rename(place.path("aside"), &pack).unwrap();
    let (figures, outcome) = prune(&place.open(), &[], &options()).unwrap();
    assert!(pack.exists(), "the only copy of what is needed");
    assert_eq!(figures.packs_unnamed.count, 0);
    let told = |problem: &restic::CheckProblem| problem.problem.contains("check --heal");
    assert!(outcome.findings.iter().any(told), "{:?}", outcome.findings);
    let lock = repository.lock(LockKind::Exclusive, &owner(), LockOptions::default()).unwrap();
    let plan = plan_heal(&repository, &HealOptions::new(Depth::Structure), &Cancel::new(), &|_| {}).unwrap();
    plan.execute(&repository, &lock, &Cancel::new()).unwrap();
    drop(lock);
    judge(&place, &before, &[]);
}

#[test]
fn what_others_rely_on_by_a_replaced_index_file_stays() {
    let (place, _) = Place::with_our_repository();
    std::fs::create_dir(place.path("source")).unwrap();
    std::fs::write(place.path("source/one"), noise(700_000, 1)).unwrap();
    std::fs::write(place.path("source/two"), noise(700_000, 2)).unwrap();
    place.restic(&["backup", "source/one"]);
    place.restic(&["backup", "source/two"]);
    let snapshots = place.open().snapshots().unwrap();
    let dying = Arc::new(Dying::new(Arc::new(LocalStorage::open(place.repo()).unwrap())));
    let storage: Arc<dyn Storage> = dying.clone();
    let dead = Repository::open(storage, &Secret::new(PASSWORD), OpenOptions::default()).unwrap();
    // The lock, the snapshot, the new index: killed before the old index files go.
    dying.left.store(3, std::sync::atomic::Ordering::SeqCst);
    prune(&dead, &[snapshots[0].0], &options()).unwrap_err();
    place.objects("locks").iter().for_each(|path| std::fs::remove_file(path).unwrap());
    assert_eq!((place.objects("snapshots").len(), place.objects("index").len()), (1, 3));
    // Its folder is new, and what the file holds lies in the pack that was to go.
    std::fs::write(place.path("source/one"), noise(700_000, 1)).unwrap();
    place.restic(&["backup", "source/one"]);
    let before = contents(&place.open());
    let (_, outcome) = prune(&place.open(), &[], &options()).unwrap();
    assert_eq!(outcome.findings, vec![]);
    let content = std::fs::read(place.path("source/one")).unwrap();
    let read = contents(&place.open());
    assert!(read.values().flatten().any(|(_, found)| found.as_ref() == Ok(&content)), "its content is gone");
    assert_eq!(before.len(), read.len());
    judge(&place, &read, &[]);
}

#[test]
fn packs_without_any_snapshot_are_left_alone() {
    let (place, repository) = Place::with_our_repository();
    backup(&repository, &[("a", &noise(100_000, 1), PAGES)]);
    std::fs::rename(place.repo().join("snapshots"), place.path("aside")).unwrap();
    let before = place.objects("");
    let error = prune(&place.open(), &[], &options()).unwrap_err();
    assert!(error.message.contains("no backup is listed"), "{error}");
    assert_eq!(place.objects(""), before);
    std::fs::rename(place.path("aside"), place.repo().join("snapshots")).unwrap();
    place.restic(&["check", "--read-data"]);
}

#[test]
fn a_lock_that_no_longer_holds_refuses_before_anything_goes() {
    let (place, repository) = Place::with_our_repository();
    let snapshots = four_snapshots(&repository);
    let remove = HashSet::from([snapshots[0]]);
    let cancel = Cancel::new();
    let objects = |place: &Place| [place.objects("data"), place.objects("index"), place.objects("snapshots")];
    let before = objects(&place);
    let plan = || plan_prune(&repository, &remove, &options(), &cancel, &|_| {}).unwrap();

    let lock = repository.lock(LockKind::Exclusive, &owner(), LockOptions::default()).unwrap();
    place.objects("locks").iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let error = plan().execute(&repository, &lock, &cancel, &|_| {}).unwrap_err();
    assert_eq!(error.kind, ResticErrorKind::LockLost);
    drop(lock);

    let slow = LockOptions { refresh: Duration::from_secs(3600), stale: Duration::from_millis(100) };
    let lock = repository.lock(LockKind::Exclusive, &owner(), slow).unwrap();
    std::thread::sleep(Duration::from_millis(150));
    let error = plan().execute(&repository, &lock, &cancel, &|_| {}).unwrap_err();
    assert_eq!(error.kind, ResticErrorKind::LockLost);
    drop(lock);

    let lock = repository.lock(LockKind::Shared, &owner(), LockOptions::default()).unwrap();
    let error = plan().execute(&repository, &lock, &cancel, &|_| {}).unwrap_err();
    assert!(error.message.contains("exclusive"), "{error}");
    drop(lock);
    assert_eq!(objects(&place), before);

    let plan = plan();
    let (later, _) = backup(&repository, &[("rows", &rows(20_000, 99), Cut::ContentDefined)]);
    let lock = repository.lock(LockKind::Exclusive, &owner(), LockOptions::default()).unwrap();
    let before = objects(&place);
    let error = plan.execute(&repository, &lock, &cancel, &|_| {}).unwrap_err();
    assert!(error.message.contains("changed after"), "{error}");
    assert_eq!(objects(&place), before);
    assert!(repository.snapshot(&later).is_ok());
}

#[test]
fn a_lock_that_is_lost_on_the_way_ends_it_before_the_packs_go() {
    let (place, repository) = Place::with_our_repository();
    let snapshots = four_snapshots(&repository);
    let before = contents(&repository);
    let lock = repository.lock(LockKind::Exclusive, &owner(), LockOptions::default()).unwrap();
    let remove = HashSet::from([snapshots[0]]);
    let plan = plan_prune(&repository, &remove, &options(), &Cancel::new(), &|_| {}).unwrap();
    let packs = place.objects("data");
    let error = plan
        .execute(&repository, &lock, &Cancel::new(), &|step| {
            if step == PruneStep::Indexed {
                place.objects("locks").iter().for_each(|path| std::fs::remove_file(path).unwrap());
            }
        })
        .unwrap_err();
    assert_eq!(error.kind, ResticErrorKind::LockLost);
    assert!(packs.iter().all(|path| path.exists()));
    drop(lock);
    prune(&repository, &[], &options()).unwrap();
    judge(&place, &before, &[snapshots[0]]);
}

#[test]
fn stock_restic_and_we_keep_each_other_out() {
    let (place, repository) = Place::with_our_repository();
    let snapshots = four_snapshots(&repository);
    let lock = repository.lock(LockKind::Exclusive, &owner(), LockOptions::default()).unwrap();
    for arguments in [&["prune"][..], &["forget", "--prune", "latest"], &["check"], &["backup", "."]] {
        let output = place.try_restic(arguments);
        assert!(!output.status.success());
        assert!(lossy(&output.stderr).contains("already locked exclusively"), "{}", lossy(&output.stderr));
    }
    drop(lock);
    // As a prune of stock restic on another machine has it.
    let elsewhere = LockOwner { host: "elsewhere".into(), ..owner() };
    let lock = repository.lock(LockKind::Exclusive, &elsewhere, LockOptions::default()).unwrap();
    let error = prune(&repository, &snapshots, &options()).unwrap_err();
    assert!(matches!(error.kind, ResticErrorKind::Locked(_)), "{error}");
    assert_eq!(repository.snapshots().unwrap().len(), 4);
    drop(lock);
}

#[test]
fn an_interrupt_ends_it_at_a_point_where_all_is_sound() {
    for at in [0, 1, 2, 3, 5, 8] {
        let (place, repository) = Place::with_our_repository();
        let snapshots = four_snapshots(&repository);
        let before = contents(&repository);
        let lock = repository.lock(LockKind::Exclusive, &owner(), LockOptions::default()).unwrap();
        let remove = HashSet::from([snapshots[0], snapshots[2]]);
        let plan = plan_prune(&repository, &remove, &options(), &Cancel::new(), &|_| {}).unwrap();
        let cancel = Cancel::new();
        let steps = std::sync::atomic::AtomicU32::new(0);
        let result = plan.execute(&repository, &lock, &cancel, &|_| {
            if steps.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == at {
                cancel.cancel();
            }
        });
        assert_eq!(result.unwrap_err().kind, ResticErrorKind::Cancelled);
        drop(lock);
        let outcome = check(&place.open(), Depth::Data);
        assert_eq!(outcome.errors, vec![]);
        prune(&repository, &snapshots[..1], &options()).unwrap();
        let after = contents(&place.open());
        assert!(after.iter().all(|(id, files)| files == &before[id]));
        assert!(after.contains_key(&snapshots[1]) && after.contains_key(&snapshots[3]));
    }
}
