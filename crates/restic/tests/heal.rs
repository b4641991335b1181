//! Healing: what is damaged goes, what is good stays or is saved, and one more backup makes the rest whole.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flow::{Cancel, Secret};
use restic::{
    BlobKind, Cut, Depth, HealOptions, HealOutcome, Id, LockKind, LockOptions, OpenOptions, Repository,
    ResticError, ResticErrorKind, plan_heal,
};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use storage::LocalStorage;
use support::{Dying, PASSWORD, Place, backup, check, noise, owner, read_all, rows};

const PAGES: Cut = Cut::Fixed { bytes: 16 << 10 };

type Content = Vec<(String, Result<Vec<u8>, String>)>;

fn heal(repository: &Repository, depth: Depth) -> Result<HealOutcome, ResticError> {
    let lock = repository.lock(LockKind::Exclusive, &owner(), LockOptions::default())?;
    let plan = plan_heal(repository, &HealOptions::new(depth), &Cancel::new(), &|_| {})?;
    plan.execute(repository, &lock, &Cancel::new())
}

fn contents(repository: &Arc<Repository>) -> BTreeMap<Id, Content> {
    let index = Arc::new(repository.load_index().unwrap());
    let snapshots = repository.snapshots().unwrap();
    snapshots.iter().map(|(id, snapshot)| (*id, read_all(repository, &index, &snapshot.tree))).collect()
}

fn overwrite(path: &Path, content: &[u8]) {
    std::fs::remove_file(path).ok();
    std::fs::write(path, content).unwrap();
}

/// Flipped, cut, emptied, gone.
fn damages(content: &[u8]) -> [Option<Vec<u8>>; 4] {
    let mut flipped = content.to_vec();
    flipped[content.len() / 2] ^= 0x10;
    [Some(flipped), Some(content[..content.len() / 2].to_vec()), Some(Vec::new()), None]
}

fn spoil(path: &Path, damage: &Option<Vec<u8>>) {
    match damage {
        Some(content) => overwrite(path, content),
        None => std::fs::remove_file(path).unwrap(),
    }
}

struct Files {
    shared: Vec<u8>,
    own: Vec<u8>,
}

fn two_snapshots() -> (Place, Arc<Repository>, Files) {
    let (place, repository) = Place::with_our_repository();
    let files = Files { shared: rows(900_000, 1), own: noise(400_000, 2) };
    backup(&repository, &[("shared", &files.shared, Cut::ContentDefined)]);
    backup(&repository, &[("shared", &files.shared, Cut::ContentDefined), ("own", &files.own, PAGES)]);
    (place, repository, files)
}

#[test]
fn a_lost_or_damaged_index_is_no_lost_data() {
    let (place, repository, _) = two_snapshots();
    let good = contents(&repository);
    for at in 0..2 {
        for kind in 0..4 {
            let mut indexes = place.objects("index");
            // The first run healed them into one.
            let path = indexes.remove(at.min(indexes.len() - 1));
            let damage = &damages(&std::fs::read(&path).unwrap())[kind];
            spoil(&path, damage);
            assert_ne!(check(&place.open(), Depth::Structure).errors, vec![]);
            let outcome = heal(&place.open(), Depth::Structure).unwrap();
            assert_eq!((outcome.packs_dropped.len(), outcome.packs_written), (0, 0));
            assert!(contents(&place.open()) == good);
            let after = check(&place.open(), Depth::Data);
            assert_eq!((after.errors, after.remarks), (vec![], vec![]));
            place.restic(&["check", "--read-data"]);
        }
    }
}

#[test]
fn of_a_damaged_pack_only_the_damage_is_lost_and_the_next_backup_brings_it_back() {
    let (place, _, files) = two_snapshots();
    let good = contents(&place.open());
    for pack in 0..4 {
        for kind in 0..4 {
            let (place, repository, _) = two_snapshots();
            let path = place.objects("data").remove(pack);
            spoil(&path, &damages(&std::fs::read(&path).unwrap())[kind]);
            let index = repository.load_index().unwrap();
            let holds_trees = {
                let trees: Vec<Id> =
                    repository.snapshots().unwrap().iter().map(|(_, snapshot)| snapshot.tree).collect();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                trees.iter().any(|tree| index.find(BlobKind::Tree, tree).unwrap().pack.to_string() == name)
            };
            let unreadable_before = unreadable(&place.open());
            heal(&place.open(), Depth::Data).unwrap();
            assert!(!path.exists());
            assert_eq!(unreadable(&place.open()), unreadable_before, "all that was good is saved");
            let repository = place.open();
            backup(
                &repository,
                &[("shared", &files.shared, Cut::ContentDefined), ("own", &files.own, PAGES)],
            );
            let after = contents(&repository);
            if !holds_trees {
                assert!(after.values().flatten().all(|(_, content)| content.is_ok()));
                assert_eq!(check(&repository, Depth::Data).errors, vec![]);
                place.restic(&["check", "--read-data"]);
            }
            let originals: Vec<&Vec<u8>> =
                good.values().flatten().map(|(_, content)| content.as_ref().unwrap()).collect();
            for content in after.values().flatten().filter_map(|(_, content)| content.as_ref().ok()) {
                assert!(originals.contains(&content), "never a wrong content");
            }
            let again =
                plan_heal(&repository, &HealOptions::new(Depth::Data), &Cancel::new(), &|_| {}).unwrap();
            assert!(again.is_empty(), "{:?}", again.actions);
        }
    }
}

/// Data blobs that some readable folder needs and that cannot be read.
fn unreadable(repository: &Arc<Repository>) -> usize {
    let index = repository.load_index().unwrap();
    let mut bad = HashSet::new();
    for (_, snapshot) in repository.snapshots().unwrap() {
        match repository.blobs_of(&index, &snapshot.tree) {
            Ok(blobs) => bad.extend(
                blobs.into_iter().filter(|(kind, id)| repository.read_blob(&index, *kind, id).is_err()),
            ),
            Err(_) => drop(bad.insert((BlobKind::Tree, snapshot.tree))),
        }
    }
    bad.len()
}

#[test]
fn a_damaged_snapshot_goes_unless_a_copy_is_at_hand() {
    for cached in [false, true] {
        for kind in 0..3 {
            let (place, repository, _) = two_snapshots();
            let good = contents(&repository);
            let options = OpenOptions { cache: cached.then(|| place.path("cache")) };
            drop(place.open_with(options.clone()).snapshots().unwrap());
            let path = place.objects("snapshots").remove(0);
            let id: Id = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            spoil(&path, &damages(&std::fs::read(&path).unwrap())[kind]);
            let outcome = heal(&place.open_with(options), Depth::Structure).unwrap();
            assert_eq!(outcome.snapshots_removed, if cached { vec![] } else { vec![id] });
            let mut expected = good;
            expected.retain(|snapshot, _| cached || *snapshot != id);
            assert!(contents(&place.open()) == expected);
            place.restic(&["check", "--read-data"]);
        }
    }
}

#[test]
fn a_storage_that_is_away_is_no_damage() {
    let (place, repository, _) = two_snapshots();
    let objects = place.objects("");
    std::fs::rename(place.repo().join("data"), place.path("away")).unwrap();
    std::fs::create_dir(place.repo().join("data")).unwrap();
    let error = heal(&repository, Depth::Structure).unwrap_err();
    assert_eq!(error.kind, ResticErrorKind::Damaged);
    assert!(error.message.contains("none of its 4 packs is there"), "{error}");
    std::fs::remove_dir(place.repo().join("data")).unwrap();
    std::fs::rename(place.path("away"), place.repo().join("data")).unwrap();
    assert_eq!(place.objects(""), objects);
}

#[test]
fn more_than_a_few_missing_packs_are_not_taken_for_gone() {
    let (place, repository) = Place::with_our_repository();
    for at in 0..4 {
        backup(&repository, &[("own", &noise(50_000, at), PAGES)]);
    }
    let packs = place.objects("data");
    for (at, path) in packs.iter().enumerate().take(3) {
        std::fs::rename(path, place.path(&format!("away-{at}"))).unwrap();
        let plan = |accept_missing| {
            let options = HealOptions { accept_missing, ..HealOptions::new(Depth::Structure) };
            plan_heal(&place.open(), &options, &Cancel::new(), &|_| {}).map(drop)
        };
        assert_eq!(plan(false).is_ok(), at < 2, "{} are missing", at + 1);
        plan(true).unwrap();
    }
    let objects = place.objects("");
    let error = heal(&place.open(), Depth::Structure).unwrap_err();
    assert!(error.message.contains("3 of its 8 packs are not there (--accept-missing"), "{error}");
    assert_eq!(place.objects(""), objects);
}

#[test]
fn a_folder_that_is_a_link_to_nowhere_is_no_lost_pack() {
    let (place, repository, _) = two_snapshots();
    let folder = place.objects("data").remove(0).parent().unwrap().to_owned();
    std::fs::rename(&folder, place.path("away")).unwrap();
    std::os::unix::fs::symlink(place.path("not mounted"), &folder).unwrap();
    let error = heal(&repository, Depth::Structure).unwrap_err();
    assert!(format!("{error:?}").contains("a link to what is not there"), "{error:?}");
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(place.path("away"), &folder).unwrap();
    assert_eq!(check(&repository, Depth::Data).errors, vec![]);
}

#[test]
fn a_copy_that_was_not_read_is_not_relied_on() {
    let (place, repository) = Place::with_our_repository();
    let content = noise(400_000, 5);
    backup(&repository, &[("pages", &content, PAGES)]);
    let first = place.objects("data");
    // Each blob a second time, as by a run that knew of damage in the first pack.
    std::fs::rename(place.repo().join("data"), place.path("aside")).unwrap();
    std::fs::create_dir(place.repo().join("data")).unwrap();
    backup(&repository, &[("pages", &content, PAGES)]);
    for path in &first {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let from = place.path("aside").join(path.strip_prefix(place.repo().join("data")).unwrap());
        std::fs::rename(from, path).unwrap();
    }
    let good = contents(&repository);
    // The two packs lack another blob each: together they have all.
    let index = repository.load_index().unwrap();
    let mut suspects = HashSet::new();
    for (at, page) in [(0, 3), (1, 7)] {
        let blob = Id::of(content.chunks(16 << 10).nth(page).unwrap());
        let name = |id: &Id| place.repo().join("data").join(&id.to_string()[..2]).join(id.to_string());
        let copies: Vec<_> = index.locations(BlobKind::Data, &blob).collect();
        assert_eq!(copies.len(), 2);
        let is_first = |path: &Path| first.iter().any(|known| known == path);
        let copy = copies.iter().find(|copy| is_first(&name(&copy.pack)) == (at == 0)).unwrap();
        let mut bytes = std::fs::read(name(&copy.pack)).unwrap();
        bytes[copy.offset as usize + 40] ^= 1;
        overwrite(&name(&copy.pack), &bytes);
        if at == 0 {
            suspects.insert(copy.pack);
        }
    }
    let options = HealOptions { suspects, ..HealOptions::new(Depth::Structure) };
    let lock = repository.lock(LockKind::Exclusive, &owner(), LockOptions::default()).unwrap();
    let plan = plan_heal(&repository, &options, &Cancel::new(), &|_| {}).unwrap();
    plan.execute(&repository, &lock, &Cancel::new()).unwrap();
    drop(lock);
    assert!(contents(&place.open()) == good, "what one of the two had is gone");
    assert_eq!(check(&place.open(), Depth::Data).errors, vec![]);
    place.restic(&["check", "--read-data"]);
}

#[test]
fn killed_after_any_change_a_heal_goes_on_from_there() {
    let (place, repository, files) = two_snapshots();
    let own: Vec<Id> = files.own.chunks(16 << 10).map(Id::of).collect();
    let index = repository.load_index().unwrap();
    let location = index.find(BlobKind::Data, &own[3]).unwrap();
    let name = location.pack.to_string();
    let pack = place.repo().join("data").join(&name[..2]).join(&name);
    let mut content = std::fs::read(&pack).unwrap();
    content[location.offset as usize + 40] ^= 1;
    overwrite(&pack, &content);
    std::fs::remove_file(place.objects("index").remove(0)).unwrap();
    let whole = place.path("whole");
    let copy = |from: &Path, to: &Path| {
        std::fs::remove_dir_all(to).ok();
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    copy(&place.repo(), &whole);
    let mut changes = 0;
    loop {
        copy(&whole, &place.repo());
        let dying = Arc::new(Dying::new(Arc::new(LocalStorage::open(place.repo()).unwrap())));
        let repository =
            Repository::open(dying.clone(), &Secret::new(PASSWORD), OpenOptions::default()).unwrap();
        dying.left.store(changes, Ordering::SeqCst);
        let done = heal(&repository, Depth::Data).is_ok();
        place.objects("locks").iter().for_each(|path| std::fs::remove_file(path).unwrap());
        heal(&place.open(), Depth::Data).unwrap();
        assert_eq!(unreadable(&place.open()), 1, "killed after {changes} changes");
        let repository = place.open();
        let index = repository.load_index().unwrap();
        let lost = own.iter().filter(|id| repository.read_blob(&index, BlobKind::Data, id).is_err());
        assert_eq!(lost.collect::<Vec<_>>(), [&own[3]]);
        backup(&repository, &[("shared", &files.shared, Cut::ContentDefined), ("own", &files.own, PAGES)]);
        assert_eq!(check(&place.open(), Depth::Data).errors, vec![], "killed after {changes} changes");
        if done {
            break;
        }
        changes += 1;
    }
    place.restic(&["check", "--read-data"]);
    assert!(changes >= 4, "{changes}");
}
