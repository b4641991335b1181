//! `check --heal` through the binary, with stock restic as judge: what the source still has comes back, what is lost is
//! listed and refused, and what only the index forgot was never lost.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

#[path = "seams/mod.rs"]
mod seams;
mod support;

use restic::BlobKind;
use seams::{PASSWORD, Place, contents, sql, tree};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn opened(place: &Place) -> restic::Repository {
    let storage = Arc::new(storage::LocalStorage::open(place.repository()).unwrap());
    restic::Repository::open(storage, &flow::Secret::new(PASSWORD), restic::OpenOptions::default()).unwrap()
}

fn pack_path(place: &Place, id: &str) -> PathBuf {
    place.repository().join("data").join(&id[..2]).join(id)
}

/// Writes over an object, which nothing of ours ever does.
fn overwrite(path: &Path, content: &[u8]) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(path, content).unwrap();
}

fn flip(path: &Path) {
    let mut content = std::fs::read(path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    overwrite(path, &content);
}

fn files(place: &Place, folder: &str) -> Vec<PathBuf> {
    let root = place.repository().join(folder);
    contents(&root).into_keys().map(|path| root.join(path)).collect()
}

fn largest(place: &Place) -> PathBuf {
    files(place, "data").into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

/// The ways in which a pack is hurt.
fn hurt(path: &Path, way: usize) {
    match way {
        0 => flip(path),
        1 => std::fs::remove_file(path).unwrap(),
        2 => overwrite(path, b""),
        _ => {
            let content = std::fs::read(path).unwrap();
            overwrite(path, &content[..content.len() / 2]);
        }
    }
}

fn listed(place: &Place) -> Vec<Value> {
    place.json(&["list"])["backups"].as_array().unwrap().clone()
}

fn strings(list: &Value) -> Vec<String> {
    let text = |one: &Value| one.as_str().or_else(|| one["id"].as_str()).unwrap().to_owned();
    list.as_array().unwrap().iter().map(text).collect()
}

fn restored(place: &Place, id: &str, name: &str) -> Vec<u8> {
    place.done(&["restore", id, "--to-new", &format!("./{name}")]);
    let content = std::fs::read(place.path(name)).unwrap();
    std::fs::remove_file(place.path(name)).unwrap();
    content
}

/// Heals what has lost something, and returns the report.
fn heal_with_loss(place: &Place, arguments: &[&str]) -> Value {
    let outcome = place.run(&[arguments, &["--json"]].concat());
    assert_eq!(outcome.code, 21, "{arguments:?}: {} {}", outcome.out, outcome.err);
    outcome.json()
}

#[test]
fn what_the_source_still_has_comes_back_with_the_next_backup() {
    for way in 0..4 {
        let place = Place::new();
        let path = place.machine.database("app.db", 20_000);
        let first = place.backup("app.db");
        sql(&path, "INSERT INTO t VALUES (50000, 'a later row')");
        let second = place.backup("app.db");
        let original = std::fs::read(&path).unwrap();
        hurt(&largest(&place), way);

        let before = tree(&place.repository());
        let told = heal_with_loss(&place, &["check", "--heal", "--read-data", "--dry-run"]);
        assert_eq!(tree(&place.repository()), before, "a dry run changes nothing");
        assert!(!told["errors"].as_array().unwrap().is_empty(), "{told}");
        let healed = heal_with_loss(&place, &["check", "--heal", "--read-data"]);
        assert_eq!(healed["actions"], told["actions"]);
        assert!(strings(&healed["affected"]).contains(&second), "{healed}");
        let found = healed["errors"][0]["object"].as_str().unwrap();
        assert!(found.starts_with("pack "), "{healed}");
        assert!(strings(&healed["errors"][0]["backups"]).contains(&first), "{healed}");
        assert!(listed(&place).iter().any(|backup| backup["proof"].is_null()), "somebody should know");
        let refused = place.run(&["restore", "app.db", "--to-new", "./no.db"]);
        assert_eq!(refused.code, 1, "{}", refused.err);

        let report = place.json(&["backup", "app.db"]);
        assert!(strings(&report["healed"]).contains(&second), "way {way}: {report}");
        place.restic(&["check", "--read-data"]);
        place.done(&["check", "--read-data"]);
        assert_eq!(restored(&place, &second, "second.db"), original);
        let again = place.json(&["check", "--heal", "--read-data"]);
        assert_eq!((&again["actions"], &again["outcome"]), (&Value::Array(vec![]), &"complete".into()));
        // Of the first backup every page came back but those that changed since.
        let first_now = listed(&place)[0].clone();
        match first_now["lost"].is_null() {
            true => assert!(!restored(&place, first_now["id"].as_str().unwrap(), "first.db").is_empty()),
            false => assert_eq!(place.run(&["restore", &first, "--to-new", "./first.db"]).code, 1),
        }
        assert_eq!(listed(&place).len(), 3);
    }
}

#[test]
fn what_is_lost_is_listed_and_refused_and_nothing_takes_it_in_silence() {
    let place = Place::new();
    let path = place.machine.database("app.db", 20_000);
    let first = place.backup("app.db");
    sql(&path, "DROP TABLE t; VACUUM; CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)");
    std::fs::remove_file(largest(&place)).unwrap();
    let healed = heal_with_loss(&place, &["check", "--heal"]);
    assert_eq!(strings(&healed["affected"]), [first.as_str()]);
    assert_eq!(strings(&healed["errors"][0]["backups"]), [first.as_str()]);

    let report = place.json(&["backup", "app.db", "--read-all"]);
    assert_eq!(report["lost"].as_array().unwrap().len(), 1, "{report}");
    let list = listed(&place);
    assert_eq!(list.len(), 2);
    let lost = &list[0];
    assert_eq!(lost["id"], report["lost"][0]["id"]);
    assert!(lost["lost"].as_str().unwrap().contains("no later backup brought it back"), "{lost}");
    assert!(lost["proof"].is_null());
    assert!(place.done(&["list"]).out.contains("LOST"));
    place.restic(&["check", "--read-data"]);
    place.done(&["check", "--read-data"]);
    // It is found by the id that was known before, too.
    for id in [first.as_str(), lost["id"].as_str().unwrap(), "app.db@latest~1"] {
        for arguments in [&["restore", id, "--to-new", "./no.db"][..], &["export", id, "--out", "no.sql"]] {
            let refused = place.run(arguments);
            assert_eq!(refused.code, 1, "{arguments:?}: {}", refused.err);
            assert!(refused.err.contains("lost"), "{arguments:?}: {}", refused.err);
        }
        let verdict = place.run(&["verify", id]);
        assert_eq!(
            (verdict.code, verdict.out.contains("FAIL")),
            (21, true),
            "{} {}",
            verdict.out,
            verdict.err
        );
        assert!(place.done(&["show", id]).out.contains("no later backup brought it back"));
    }
    assert!(!place.path("no.db").exists() && !place.path("no.sql").exists());
    place.done(&["verify"]);
    let count = place.done(&["restore", "app.db", "--to-new", "./now.db"]);
    assert_eq!(support::count(&place.path("now.db")), 0, "{}", count.err);
    // No rule counts it as proven: it goes behind the newer one, never in its place.
    let pruned = place.json(&["prune", "--keep-last", "1"]);
    assert_eq!(strings(&pruned["removed"]), [lost["id"].as_str().unwrap().to_owned()], "{pruned}");
    place.restic(&["check", "--read-data"]);
}

#[test]
fn where_the_newest_backup_is_lost_no_older_one_is_taken_for_it() {
    let place = Place::new();
    place.machine.database("shops/one.db", 100);
    place.machine.database("shops/two.db", 100);
    place.machine.write("backstay.toml", "[targets.shops]\nsource = \"shops/{tenant}.db\"\n");
    let made = place.json(&["backup", "shops"]);
    assert_eq!(made["backups"].as_array().unwrap().len(), 2, "{made}");
    // What was written this moment does not count as unchanged.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    place.done(&["backup", "shops"]);
    let older = listed(&place).iter().rfind(|one| one["database"] == "one").unwrap()["id"].clone();
    let before: Vec<PathBuf> = files(&place, "data");
    sql(&place.path("shops/one.db"), "INSERT INTO t SELECT id + 1000, hex(randomblob(500)) FROM t");
    place.done(&["backup", "shops"]);
    let newer: Vec<PathBuf> =
        files(&place, "data").into_iter().filter(|path| !before.contains(path)).collect();
    let data = newer.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    std::fs::remove_file(data).unwrap();
    std::fs::remove_file(place.path("shops/one.db")).unwrap();
    heal_with_loss(&place, &["check", "--heal"]);
    let lost = |list: &[Value]| list.iter().filter(|one| !one["lost"].is_null()).count();
    // What one run does not find may be away for a moment; what two do not find is gone.
    place.done(&["backup", "shops"]);
    assert_eq!(lost(&listed(&place)), 0);
    place.done(&["backup", "shops"]);
    assert_eq!(lost(&listed(&place)), 1);
    place.restic(&["check", "--read-data"]);

    let refused = place.run(&["restore", "shops/one@latest", "--to-new", "./one.db"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    let short: String = older.as_str().unwrap().chars().take(8).collect();
    assert!(refused.err.contains("is lost") && refused.err.contains(&short), "{}", refused.err);
    assert_eq!(place.run(&["export", "shops/one", "--out", "one.sql"]).code, 1);
    assert_eq!(place.run(&["verify", "shops/one"]).code, 21);
    place.done(&["restore", "shops/one@latest", "--to-new", "./one.db", "--fallback"]);
    assert_eq!(support::count(&place.path("one.db")), 100);
    // The other database of the same runs is as it was.
    place.done(&["restore", "shops/two@latest", "--to-new", "./two.db"]);
    assert_eq!(support::count(&place.path("two.db")), 100);
    let twos: Vec<Value> = listed(&place).into_iter().filter(|one| one["database"] == "two").collect();
    assert!(twos.len() == 5 && twos.iter().all(|one| one["lost"].is_null()), "{twos:?}");

    // Should the list that says so be lost as well, what is left of the one is no backup, and the other one still is.
    let snapshot = listed(&place).iter().find(|one| !one["lost"].is_null()).unwrap()["id"].clone();
    damage_list(&place, snapshot.as_str().unwrap().split(':').next().unwrap());
    let healed = place.json(&["check", "--heal", "--read-data"]);
    assert_eq!(healed["affected"], Value::Array(vec![]), "{healed}");
    let list = listed(&place);
    assert_eq!((list.len(), lost(&list)), (8, 1), "{list:?}");
    assert_eq!(place.run(&["restore", "shops/one@latest", "--to-new", "./none.db"]).code, 1);
    place.restic(&["check", "--read-data"]);
}

/// Damages the list of a snapshot, and nothing else.
fn damage_list(place: &Place, snapshot: &str) {
    let repository = opened(place);
    let index = repository.load_index().unwrap();
    let root = repository.snapshot(&snapshot.parse().unwrap()).unwrap().tree;
    let root = repository.read_tree(&index, &root).unwrap();
    let list = root.nodes.iter().find(|node| node.name == "databases.jsonl").unwrap();
    let location = index.find(BlobKind::Data, &list.content.as_ref().unwrap()[0]).unwrap();
    let path = pack_path(place, &location.pack.to_string());
    let mut content = std::fs::read(&path).unwrap();
    content[location.offset as usize + 20] ^= 1;
    overwrite(&path, &content);
}

#[test]
fn a_lost_list_loses_no_backup_that_only_it_named() {
    let place = Place::new();
    place.machine.database("shops/one.db", 100);
    place.machine.database("shops/two.db", 100);
    place.machine.write("backstay.toml", "[targets.shops]\nsource = \"shops/{tenant}.db\"\n");
    // What was written this moment does not count as unchanged.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    place.done(&["backup", "shops"]);
    place.done(&["backup", "shops"]);
    let path = place.machine.database("shops/three.db", 3000);
    place.done(&["backup", "shops"]);
    let original = std::fs::read(&path).unwrap();
    let only = listed(&place).into_iter().find(|one| one["database"] == "three").unwrap();
    damage_list(&place, only["id"].as_str().unwrap().split(':').next().unwrap());
    let healed = place.json(&["check", "--heal", "--read-data"]);
    assert_eq!(healed["affected"], Value::Array(vec![]), "{healed}");
    let list = listed(&place);
    assert_eq!(list.len(), 7, "{list:?}");
    assert!(list.iter().all(|one| one["lost"].is_null() && !one["proof"].is_null()), "{list:?}");
    let again = list.iter().find(|one| one["database"] == "three").expect("its only backup");
    for field in ["connection", "engine", "rows", "size_bytes", "time"] {
        assert_eq!(again[field], only[field], "{field}");
    }
    place.done(&["prune", "--keep-last", "10"]);
    assert_eq!(restored(&place, again["id"].as_str().unwrap(), "three-again.db"), original);
    place.restic(&["check", "--read-data"]);
}

#[test]
fn what_a_heal_reads_and_finds_damaged_is_told() {
    let place = Place::new();
    let path = place.machine.database("app.db", 20_000);
    place.backup("app.db");
    let shared = largest(&place);
    let before = files(&place, "data");
    sql(&path, "INSERT INTO t SELECT id + 50000, hex(randomblob(200)) FROM t");
    let second = place.backup("app.db");
    let own = files(&place, "data").into_iter().filter(|path| !before.contains(path));
    flip(&own.max_by_key(|path| path.metadata().unwrap().len()).unwrap());
    assert_eq!(place.run(&["check", "--read-data"]).code, 21);
    // The damage is known, and what was lost by it is stored anew; then what both share is damaged.
    place.backup("app.db");
    flip(&shared);
    let healed = heal_with_loss(&place, &["check", "--heal"]);
    assert!(strings(&healed["affected"]).contains(&second), "{healed}");
    assert!(listed(&place).iter().any(|one| one["id"] == second.as_str() && one["proof"].is_null()));
}

#[test]
fn a_lost_list_of_one_database_loses_nothing() {
    let place = Place::new();
    let path = place.machine.database("app.db", 3000);
    let first = place.backup("app.db");
    let original = std::fs::read(&path).unwrap();
    sql(&path, "DELETE FROM t WHERE id % 2 = 0");
    place.backup("app.db");
    damage_list(&place, &first);
    place.json(&["check", "--heal", "--read-data"]);
    let report = place.json(&["backup", "app.db"]);
    assert_eq!(report["lost"], Value::Array(vec![]), "{report}");
    let list = listed(&place);
    assert!(list.len() == 3 && list.iter().all(|one| one["lost"].is_null()), "{list:?}");
    assert_eq!(restored(&place, &first, "first.db"), original);
    place.restic(&["check", "--read-data"]);
}

#[test]
fn a_lost_or_damaged_index_is_no_lost_data() {
    for way in 0..4 {
        let place = Place::new();
        let path = place.machine.database("app.db", 3000);
        let first = place.backup("app.db");
        let original = std::fs::read(&path).unwrap();
        sql(&path, "DELETE FROM t WHERE id % 2 = 0");
        let second = place.backup("app.db");
        let changed = std::fs::read(&path).unwrap();
        hurt(&files(&place, "index")[0], way);
        assert_eq!(place.run(&["check"]).code, 21);
        let healed = place.json(&["check", "--heal"]);
        assert_eq!(healed["affected"], Value::Array(vec![]), "{healed}");
        assert!(!healed["actions"].as_array().unwrap().is_empty(), "{healed}");
        place.restic(&["check", "--read-data"]);
        place.done(&["check", "--read-data"]);
        assert_eq!(restored(&place, &first, "first.db"), original, "way {way}");
        assert_eq!(restored(&place, &second, "second.db"), changed, "way {way}");
        place.done(&["backup", "app.db"]);
    }
}

/// The pack that holds the root of a snapshot, or the folder of its database.
fn tree_pack(place: &Place, snapshot: &str) -> PathBuf {
    let repository = opened(place);
    let index = repository.load_index().unwrap();
    let tree = repository.snapshot(&snapshot.parse().unwrap()).unwrap().tree;
    pack_path(place, &index.find(BlobKind::Tree, &tree).unwrap().pack.to_string())
}

#[test]
fn damaged_folders_lose_their_backups_and_no_other() {
    for way in 0..4 {
        let place = Place::new();
        let path = place.machine.database("app.db", 3000);
        let first = place.backup("app.db");
        let original = std::fs::read(&path).unwrap();
        sql(&path, "DELETE FROM t WHERE id % 2 = 0");
        let second = place.backup("app.db");
        hurt(&tree_pack(&place, &second), way);
        let outcome = place.run(&["check", "--heal", "--read-data", "--json"]);
        let affected = strings(&outcome.json()["affected"]);
        // Of the folders of a run only that of the database holds what nobody else knows.
        assert_eq!(outcome.code, if affected.is_empty() { 0 } else { 21 }, "{} {}", outcome.out, outcome.err);
        if affected.is_empty() {
            place.restic(&["check", "--read-data"]);
            assert!(listed(&place).iter().all(|one| !one["proof"].is_null()));
        }
        let report = place.json(&["backup", "app.db"]);
        place.restic(&["check", "--read-data"]);
        place.done(&["check", "--read-data"]);
        let list = listed(&place);
        assert_eq!(list.len(), 3, "way {way}: {list:?}");
        let lost: Vec<&Value> = list.iter().filter(|one| !one["lost"].is_null()).collect();
        assert!(lost.len() <= 1, "{lost:?}");
        assert_eq!(lost.len(), report["lost"].as_array().unwrap().len());
        assert_eq!(restored(&place, &first, "first.db"), original, "way {way}");
        place.done(&["restore", "app.db", "--to-new", "./now.db"]);
        assert_eq!(std::fs::read(place.path("now.db")).unwrap(), std::fs::read(&path).unwrap());
    }
}

#[test]
fn a_list_that_is_lost_is_put_together_again_where_the_backups_are_whole() {
    let place = Place::new();
    let path = place.machine.database("app.db", 3000);
    // What was written this moment does not count as unchanged.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    place.backup("app.db");
    let before = files(&place, "data");
    let second = place.backup("app.db");
    // An unchanged database: beside the folders there is nothing new but the list.
    let roots = tree_pack(&place, &second);
    let new =
        files(&place, "data").into_iter().find(|path| !before.contains(path) && *path != roots).unwrap();
    std::fs::remove_file(new).unwrap();
    let healed = place.json(&["check", "--heal"]);
    assert_eq!(healed["affected"], Value::Array(vec![]), "{healed}");
    place.restic(&["check", "--read-data"]);
    let list = listed(&place);
    assert_eq!(list.len(), 2);
    assert!(list.iter().all(|one| one["lost"].is_null() && !one["proof"].is_null()), "{list:?}");
    assert_eq!(restored(&place, &second, "second.db"), std::fs::read(&path).unwrap());
}

#[test]
fn a_damaged_snapshot_is_put_back_from_the_cache_or_said_to_be_gone() {
    for cached in [true, false] {
        let place = Place::new();
        let path = place.machine.database("app.db", 300);
        let first = place.backup("app.db");
        let second = place.backup("app.db");
        flip(&place.repository().join("snapshots").join(&second));
        assert_eq!(place.run(&["check"]).code, 21);
        if !cached {
            std::fs::remove_dir_all(place.machine.root.join("home/.cache")).unwrap();
        }
        let outcome = place.run(&["check", "--heal", "--json"]);
        assert_eq!(outcome.code, if cached { 0 } else { 21 }, "{} {}", outcome.out, outcome.err);
        let gone = if cached { vec![] } else { vec![second.clone()] };
        assert_eq!(strings(&outcome.json()["removed_snapshots"]), gone);
        place.restic(&["check", "--read-data"]);
        let ids: Vec<String> = strings(&Value::Array(listed(&place)));
        assert_eq!(ids, if cached { vec![first.clone(), second] } else { vec![first.clone()] });
        assert_eq!(restored(&place, &first, "first.db"), std::fs::read(&path).unwrap());
    }
}

#[test]
fn a_pack_that_was_found_damaged_is_never_trusted_again() {
    let place = Place::new();
    let path = place.machine.database("app.db", 20_000);
    let first = place.backup("app.db");
    let original = std::fs::read(&path).unwrap();
    flip(&largest(&place));
    assert_eq!(place.run(&["verify"]).code, 21);
    let before = files(&place, "data");
    place.backup("app.db");
    // By the new copies the first backup is whole again, and its proof says so.
    place.done(&["verify", &first]);
    let copies = files(&place, "data").into_iter().filter(|path| !before.contains(path));
    let copies = copies.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    std::fs::remove_file(copies).unwrap();
    let third = place.backup("app.db");
    assert_eq!(restored(&place, &third, "third.db"), original, "it relied on the damaged pack");
    place.done(&["verify", &third]);
    // A prune never keeps the damaged copy for the good one.
    place.run(&["check", "--heal", "--read-data"]);
    place.backup("app.db");
    place.done(&["prune", "--keep-last", "2"]);
    place.restic(&["check", "--read-data"]);
}

#[test]
fn a_prune_removes_nothing_while_no_backup_is_listed() {
    let place = Place::new();
    place.machine.database("app.db", 300);
    place.backup("app.db");
    std::fs::rename(place.repository().join("snapshots"), place.path("away")).unwrap();
    let before = tree(&place.repository().join("data"));
    for arguments in [&["prune", "--keep-last", "1"][..], &["prune", "--keep-last", "1", "--dry-run"]] {
        let refused = place.run(arguments);
        assert_eq!(refused.code, 1, "{arguments:?}: {} {}", refused.out, refused.err);
        assert!(refused.err.contains("no backup is listed"), "{}", refused.err);
        assert_eq!(tree(&place.repository().join("data")), before);
    }
    std::fs::rename(place.path("away"), place.repository().join("snapshots")).unwrap();
    place.done(&["prune", "--keep-last", "1"]);
    place.restic(&["check", "--read-data"]);
}

#[test]
fn a_heal_refuses_beside_others_and_where_the_storage_is_away() {
    let place = Place::new();
    place.machine.database("app.db", 300);
    place.backup("app.db");
    let lock = seams::lock(&place, restic::LockKind::Shared);
    assert_eq!(place.run(&["check", "--heal"]).code, 11);
    drop(lock);
    std::fs::rename(place.repository().join("data"), place.path("away")).unwrap();
    std::fs::create_dir(place.repository().join("data")).unwrap();
    let before = tree(&place.repository());
    let refused = place.run(&["check", "--heal"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("is the storage there as a whole?"), "{}", refused.err);
    assert_eq!(tree(&place.repository()), before);
    assert_eq!(place.run(&["check", "--dry-run"]).code, 2, "there is nothing that a check would change");
}
