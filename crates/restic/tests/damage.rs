//! Damage of every kind, to every kind of object: it is found, named and traced to the snapshots that suffer, and no
//! read ever returns other bytes than were stored.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flow::{Cancel, Secret};
use restic::{BlobKind, CheckOutcome, Cut, Depth, Id, OpenOptions, Repository, ResticErrorKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use storage::LocalStorage;
use support::{PASSWORD, Place, backup, check, lossy, noise, read_all, rows};

type Files = BTreeMap<Id, Vec<(String, Result<Vec<u8>, String>)>>;

fn all_files(repository: &Arc<Repository>) -> Files {
    let index = Arc::new(repository.load_index().unwrap());
    let snapshots = repository.snapshots().unwrap();
    snapshots.iter().map(|(id, snapshot)| (*id, read_all(repository, &index, &snapshot.tree))).collect()
}

/// The snapshots that a check says are affected.
fn affected(outcome: &CheckOutcome) -> BTreeSet<Id> {
    outcome.errors.iter().flat_map(|problem| problem.snapshots.iter().copied()).collect()
}

fn overwrite(path: &Path, content: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, content).unwrap();
}

/// Three snapshots; the first two share a file.
fn three_snapshots() -> (Place, Files) {
    let (place, repository) = Place::with_our_repository();
    let (shared, own, last) = (rows(900_000, 1), noise(400_000, 2), rows(300_000, 3));
    let pages = Cut::Fixed { bytes: 16 << 10 };
    backup(&repository, &[("shared", &shared, Cut::ContentDefined)]);
    backup(&repository, &[("shared", &shared, Cut::ContentDefined), ("own", &own, pages)]);
    backup(&repository, &[("last", &last, pages)]);
    assert_eq!(check(&repository, Depth::Data).errors, vec![]);
    let files = all_files(&repository);
    assert_eq!(files.len(), 3);
    (place, files)
}

/// Opens, checks and reads after a damage. Returns what the check found; every file that can still be read is right,
/// and those snapshots that cannot be read whole are exactly the ones that the check names.
fn examine(place: &Place, good: &Files) -> Result<CheckOutcome, ResticErrorKind> {
    let storage = Arc::new(LocalStorage::open(place.repo()).unwrap());
    let opened = Repository::open(storage, &Secret::new(PASSWORD), OpenOptions::default());
    let repository = Arc::new(opened.map_err(|error| error.kind)?);
    let outcome = check(&repository, Depth::Data);
    let mut suffering = BTreeSet::new();
    match (repository.load_index(), repository.snapshots()) {
        (Ok(index), Ok(snapshots)) => {
            let index = Arc::new(index);
            for (id, snapshot) in snapshots {
                let read = read_all(&repository, &index, &snapshot.tree);
                for (path, content) in &read {
                    let stored = good[&id].iter().find(|(name, _)| name == path);
                    match (content, stored) {
                        (Ok(content), Some((_, stored))) => assert!(stored.as_ref() == Ok(content), "{path}"),
                        (Ok(_), None) => panic!("{path} was never stored"),
                        (Err(error), _) => {
                            assert!(error.contains("blob") || error.contains("tree"), "{error}")
                        }
                    }
                }
                if read != good[&id] {
                    suffering.insert(id);
                }
            }
            assert_eq!(affected(&outcome), suffering, "{:?}", outcome.errors);
        }
        (Err(error), _) | (_, Err(error)) => assert_eq!(error.kind, ResticErrorKind::Damaged),
    }
    Ok(outcome)
}

#[test]
fn damage_to_packs_is_found_and_traced() {
    let (place, good) = three_snapshots();
    for object in place.objects("data") {
        let name = format!("pack {}", object.file_name().unwrap().to_str().unwrap());
        let content = std::fs::read(&object).unwrap();
        let length = content.len();
        for at in [0, length / 3, length / 2, length - 60, length - 1] {
            let mut damaged = content.clone();
            damaged[at] ^= 0x10;
            overwrite(&object, &damaged);
            let outcome = examine(&place, &good).unwrap();
            assert_eq!(outcome.errors.len(), 1, "{:?}", outcome.errors);
            assert_eq!(outcome.errors[0].object, name);
        }
        for left in [0, 1, length / 2, length - 1] {
            overwrite(&object, &content[..left]);
            for depth in [Depth::Structure, Depth::Data] {
                let outcome = check(&place.open(), depth);
                assert_eq!(outcome.errors[0].object, name, "{depth:?} must see a cut");
            }
            examine(&place, &good).unwrap();
        }
        std::fs::remove_file(&object).unwrap();
        let outcome = examine(&place, &good).unwrap();
        assert_eq!((outcome.errors[0].object.as_str(), outcome.errors.len()), (name.as_str(), 1));
        assert!(!outcome.errors[0].snapshots.is_empty());
        assert_eq!(check(&place.open(), Depth::Structure).errors, outcome.errors);
        std::fs::write(&object, &content).unwrap();
    }
    assert_eq!(examine(&place, &good).unwrap().errors, vec![]);
}

#[test]
fn damage_to_documents_and_keys_is_found() {
    let (place, good) = three_snapshots();
    for (folder, word) in [("index", "index"), ("snapshots", "snapshot"), ("keys", "key")] {
        for object in place.objects(folder) {
            let name = format!("{word} {}", object.file_name().unwrap().to_str().unwrap());
            let content = std::fs::read(&object).unwrap();
            for at in [0, content.len() / 2, content.len() - 1] {
                let mut damaged = content.clone();
                damaged[at] ^= 0x01;
                overwrite(&object, &damaged);
                match examine(&place, &good) {
                    Ok(outcome) => assert!(outcome.errors.iter().any(|problem| problem.object == name)),
                    Err(kind) => assert_eq!((word, kind), ("key", ResticErrorKind::Damaged)),
                }
            }
            overwrite(&object, &content[..content.len() / 2]);
            assert!(examine(&place, &good).map_or(word == "key", |outcome| !outcome.errors.is_empty()));
            std::fs::remove_file(&object).unwrap();
            match word {
                "index" => {
                    let outcome = examine(&place, &good).unwrap();
                    assert!(outcome.errors.iter().all(|problem| problem.object.contains(" blob ")));
                    assert!(!outcome.errors.is_empty());
                    assert!(outcome.remarks.iter().any(|remark| remark.ends_with("is named by no index")));
                }
                // That it was there, nothing else tells.
                "snapshot" => assert_eq!(examine(&place, &good).unwrap().snapshots, 2),
                _ => assert_eq!(examine(&place, &good).unwrap_err(), ResticErrorKind::Damaged),
            }
            std::fs::write(&object, &content).unwrap();
        }
    }
    assert_eq!(examine(&place, &good).unwrap().errors, vec![]);
}

#[test]
fn a_pack_under_the_name_of_another_is_not_taken_for_it() {
    let (place, good) = three_snapshots();
    let packs = place.objects("data");
    let contents: Vec<Vec<u8>> = packs.iter().map(|path| std::fs::read(path).unwrap()).collect();
    overwrite(&packs[0], &contents[1]);
    overwrite(&packs[1], &contents[0]);
    let outcome = examine(&place, &good).unwrap();
    assert_eq!(outcome.errors.len(), 2);
}

#[test]
fn an_authentic_document_under_another_name_is_not_taken_for_it() {
    let (place, _) = three_snapshots();
    for (folder, word) in [("snapshots", "snapshot"), ("index", "index")] {
        let objects = place.objects(folder);
        let first = std::fs::read(&objects[0]).unwrap();
        overwrite(&objects[0], &std::fs::read(&objects[1]).unwrap());
        let repository = place.open();
        let error = match word {
            "index" => repository.load_index().unwrap_err(),
            _ => repository.snapshots().unwrap_err(),
        };
        let name = format!("{word} {}", objects[0].file_name().unwrap().to_str().unwrap());
        assert_eq!(error.kind, ResticErrorKind::Damaged);
        assert!(error.object.starts_with(&name));
        let outcome = check(&repository, Depth::Structure);
        assert!(outcome.errors.iter().any(|problem| problem.object == name));
        overwrite(&objects[0], &first);
    }
}

#[test]
fn an_authentic_blob_in_the_place_of_another_is_not_taken_for_it() {
    let (place, repository) = Place::with_our_repository();
    let pages = [noise(4096, 1), noise(4096, 2)].concat();
    backup(&repository, &[("pages", &pages, Cut::Fixed { bytes: 4096 })]);
    let good = all_files(&repository);
    let index = repository.load_index().unwrap();
    let [a, b] = [0, 4096].map(|at| {
        let location = index.find(BlobKind::Data, &Id::of(&pages[at..at + 4096])).unwrap();
        (location.pack, location.offset as usize..(location.offset + location.length) as usize)
    });
    assert_eq!((a.0, a.1.len()), (b.0, b.1.len()));
    let pack = a.0.to_string();
    let path = place.repo().join("data").join(&pack[..2]).join(&pack);
    let content = std::fs::read(&path).unwrap();
    let mut swapped = content.clone();
    swapped[a.1.clone()].copy_from_slice(&content[b.1.clone()]);
    swapped[b.1].copy_from_slice(&content[a.1]);
    overwrite(&path, &swapped);
    assert_eq!(examine(&place, &good).unwrap().errors.len(), 1);
    let error = repository.read_blob(&index, BlobKind::Data, &Id::of(&pages[..4096])).unwrap_err();
    assert_eq!(error.kind, ResticErrorKind::Damaged);
}

#[test]
fn a_damaged_key_of_somebody_else_is_found() {
    let (place, _) = Place::with_our_repository();
    let ours = place.objects("keys").remove(0);
    std::fs::write(place.path("new"), "another").unwrap();
    place.restic(&["key", "add", "--new-password-file", place.path("new").to_str().unwrap()]);
    let theirs = place.objects("keys").into_iter().find(|path| *path != ours).unwrap();
    let mut content = std::fs::read(&theirs).unwrap();
    let at = content.len() - 30;
    content[at] = if content[at] == b'A' { b'B' } else { b'A' };
    overwrite(&theirs, &content);
    let outcome = check(&place.open(), Depth::Structure);
    let name = format!("key {}", theirs.file_name().unwrap().to_str().unwrap());
    assert_eq!(outcome.errors.iter().map(|problem| &problem.object).collect::<Vec<_>>(), [&name]);
}

#[test]
fn what_is_missing_or_damaged_is_stored_again_by_the_next_backup() {
    let (place, good) = three_snapshots();
    let shared = good.values().next().unwrap()[0].1.clone().unwrap();
    for object in place.objects("data") {
        let content = std::fs::read(&object).unwrap();
        overwrite(&object, &content[..content.len() - 1]);
    }
    let repository = place.open();
    let (id, report) = backup(&repository, &[("shared", &shared, Cut::ContentDefined)]);
    assert!(report.packs.len() >= 2);
    let index = Arc::new(repository.load_index().unwrap());
    let snapshot = repository.snapshot(&id).unwrap();
    assert!(read_all(&repository, &index, &snapshot.tree)[0].1.as_ref() == Ok(&shared));
    let outcome = check(&repository, Depth::Data);
    assert!(!affected(&outcome).contains(&id), "the second copy counts");
}

#[test]
fn a_verification_names_the_blobs_that_are_bad() {
    let (place, _) = three_snapshots();
    let repository = place.open();
    let index = repository.load_index().unwrap();
    let (_, snapshot) = repository.snapshots().unwrap().remove(1);
    let mut blobs = repository.blobs_of(&index, &snapshot.tree).unwrap();
    let victim = blobs.iter().filter(|(kind, _)| *kind == BlobKind::Data).nth(5).copied().unwrap();
    let location = index.find(victim.0, &victim.1).unwrap();
    let pack = location.pack.to_string();
    let path = place.repo().join("data").join(&pack[..2]).join(&pack);
    let mut content = std::fs::read(&path).unwrap();
    content[location.offset as usize + 20] ^= 1;
    overwrite(&path, &content);
    let unknown = Id::of(b"unknown");
    blobs.push((BlobKind::Data, unknown));
    blobs.push(victim);
    let outcome = restic::verify_blobs(&repository, &index, &blobs, 2, &Cancel::new(), &|_| {}).unwrap();
    let found: BTreeSet<Id> = outcome.errors.iter().map(|problem| problem.id).collect();
    assert_eq!(found, BTreeSet::from([victim.1, unknown]));
    assert_eq!(outcome.blobs as usize, blobs.len() - 3);
    let damaged = outcome.errors.iter().find(|problem| problem.id == victim.1).unwrap();
    assert_eq!((damaged.pack, damaged.error.kind.clone()), (Some(location.pack), ResticErrorKind::Damaged));
    assert!(damaged.error.to_string().contains(&pack), "{}", damaged.error);
    let cancelled = Cancel::new();
    cancelled.cancel();
    let error = restic::verify_blobs(&repository, &index, &blobs, 2, &cancelled, &|_| {}).unwrap_err();
    assert_eq!(error.kind, ResticErrorKind::Cancelled);
}

/// The ids in a text that fit an object of the repository or are named by our check.
fn ids(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_hexdigit())
        .filter(|word| word.len() >= 8)
        .map(|word| word[..8].to_owned())
        .collect()
}

#[test]
fn the_test_repositories_of_restic_have_the_damage_that_restic_finds() {
    for (name, damaged) in [
        ("restic-small-repo.tar.gz", false),
        ("restic-repo-mixed.tar.gz", false),
        ("restic-repo-index-missing.tar.gz", true),
        ("restic-repo-data-missing.tar.gz", true),
    ] {
        let place = Place::with_test_data(name);
        let repository = place.open();
        let outcome = check(&repository, Depth::Data);
        // Without --read-data: on a missing pack stock restic tries again for most of a minute.
        let stock = place.try_restic(&["check"]);
        let said = lossy(&stock.stdout) + &lossy(&stock.stderr);
        assert_eq!(!stock.status.success(), damaged, "{name}: {said}");
        assert_eq!(!outcome.errors.is_empty(), damaged, "{name}: {:?}", outcome.errors);
        // Both name the same objects.
        let ours: BTreeSet<String> = outcome.errors.iter().flat_map(|problem| ids(&problem.object)).collect();
        assert!(ours.is_subset(&ids(&said)), "{name}: {:?}\n{said}", outcome.errors);
        // The snapshots that are not named restore, the others do not.
        let affected = affected(&outcome);
        assert_eq!(affected.is_empty(), !damaged, "{name}");
        for (id, files) in all_files(&repository) {
            let whole = files.iter().all(|(_, content)| content.is_ok());
            assert_eq!(whole, !affected.contains(&id), "{name} {id}");
        }
    }
}
