//! Dry runs of everything: not a file of the databases, the repository, the target or the home is made or changed.

use crate::seams::{Place, make_repository, sql, tree};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything of the machine but the cache, which may come and go at any moment, and what a killed process left (its
/// lock, the journal's journal), which whoever comes next cleans up.
fn everything(place: &Place) -> BTreeMap<PathBuf, String> {
    let cache = place.machine.root.join("home/.cache");
    let mut found = tree(&place.machine.root);
    let locks = place.repository().join("locks");
    found.retain(|path, _| {
        !path.starts_with(&cache) && !path.ends_with("journal.db-journal") && path.parent() != Some(&locks)
    });
    found
}

fn assert_changes_nothing(place: &Place, arguments: &[&str]) {
    let before = everything(place);
    let outcome = place.run(&[arguments, &["--dry-run"]].concat());
    assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.err);
    let after = everything(place);
    let new: Vec<_> = after.iter().filter(|(path, state)| before.get(*path) != Some(state)).collect();
    assert!(new.is_empty(), "{arguments:?} changed {new:?}");
    let gone: Vec<_> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    assert!(gone.is_empty(), "{arguments:?} removed {gone:?}");
}

#[test]
fn a_dry_run_of_anything_changes_nothing() {
    let place = Place::new();
    let path = place.machine.database("app.db", 500);
    place.machine.database("shops/a.db", 5);
    std::fs::create_dir(place.path("safe")).unwrap();
    assert_changes_nothing(&place, &["backup", "app.db"]);
    assert_changes_nothing(&place, &["backup", "shops", "shops/*.db"]);
    let id = place.backup("app.db");
    sql(&path, "DELETE FROM t");
    for arguments in [
        &["backup", "app.db"][..],
        &["backup", "app.db", "--read-all"],
        &["verify"],
        &["verify", &id],
        &["restore", "app.db"],
        &["restore", "app.db", "--in-place"],
        &["restore", "app.db", "--safety-dir", "safe"],
        &["restore", "app.db@latest", "--target", "shops/a.db", "--stop-command", "touch stopped"],
        &["restore", "app.db", "--to-new", "new.db"],
        &["export", "app.db", "--out", "out.sql.gz"],
        &["prune", "--keep-last", "1"],
        &["prune", "app.db", "--max-size", "1B", "--forget-only"],
    ] {
        assert_changes_nothing(&place, arguments);
        assert_changes_nothing(&place, &[arguments, &["--json"]].concat());
    }
}

#[test]
fn a_dry_run_makes_no_default_repository_and_no_key() {
    let place = Place::without_repository();
    place.machine.database("app.db", 500);
    let before = everything(&place);
    for arguments in [&["backup", "app.db", "--dry-run"][..], &["init", ".", "--dry-run"]] {
        let outcome = place.machine.run(arguments);
        assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.err);
    }
    assert_eq!(everything(&place), before);
}

#[test]
fn a_dry_run_beside_an_unfinished_restore_changes_nothing() {
    let place = Place::new();
    let path = place.machine.database("app.db", 500);
    place.backup("app.db");
    sql(&path, "DELETE FROM t WHERE id > 3");
    let killed = place.run(&["restore", "app.db", "--confirm", "app.db", "--stop-command", "kill -9 $PPID"]);
    assert_ne!(killed.code, 0);
    assert!(place.path("app.db.backstay-restore").exists());
    assert_changes_nothing(&place, &["restore", "--continue", "--target", "app.db"]);
    assert_changes_nothing(&place, &["restore", "--rollback", "--target", "app.db"]);
    place.done(&["restore", "--rollback", "--target", "app.db"]);
    assert_eq!(crate::support::count(&path), 3);
}

#[test]
fn a_dry_run_of_restic_files_changes_nothing() {
    let place = Place::without_repository();
    make_repository(&place.repository());
    place.machine.write("data/a.txt", "hello");
    place.restic(&["backup", &place.text("data")]);
    let id = place.json(&["list"])["backups"][0]["id"].as_str().unwrap().to_owned();
    assert_changes_nothing(&place, &["restore", &id, "--to-new", "out"]);
}
