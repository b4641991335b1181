//! Repositories that stock restic wrote: listed, shown, verified, restored file by file, and where they are damaged,
//! the same damage is named.

use crate::seams::{Place, both, contents, sql};
use std::collections::BTreeSet;

/// Two snapshots of a folder by stock restic.
fn written_by_restic(version: &str) -> Place {
    let place = Place::without_repository();
    place.restic(&["init", "--repository-version", version]);
    let path = place.machine.database("data/sub/app.db", 5000);
    place.machine.write("data/notes.txt", "first");
    place.machine.write("data/empty", "");
    place.restic(&["backup", &place.text("data")]);
    sql(&path, "DELETE FROM t WHERE id > 100");
    place.machine.write("data/notes.txt", "second");
    place.restic(&["backup", &place.text("data"), "--tag", "weekly"]);
    place
}

fn restic_ids(place: &Place) -> Vec<String> {
    let snapshots = place.restic_json(&["snapshots"]);
    snapshots.as_array().unwrap().iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

fn assert_restored_like_restic(place: &Place, id: &str) {
    let (ours, theirs) = (format!("ours-{id}"), format!("theirs-{id}"));
    place.done(&["restore", id, "--to-new", &ours]);
    place.restic(&["restore", id, "--target", &place.text(&theirs)]);
    let expected = contents(&place.path(&theirs));
    assert!(!expected.is_empty());
    assert!(contents(&place.path(&ours)) == expected, "{id}");
}

#[test]
fn what_restic_stored_is_listed_shown_verified_and_restored() {
    for version in ["1", "2"] {
        let place = written_by_restic(version);
        let ids = restic_ids(&place);
        let list = place.json(&["list"]);
        let listed: Vec<&str> =
            list["backups"].as_array().unwrap().iter().map(|backup| backup["id"].as_str().unwrap()).collect();
        assert_eq!(listed, ids);
        assert_eq!(list["backups"][0]["engine"], serde_json::Value::Null);
        let shown = place.done(&["show", &ids[1]]);
        assert!(shown.out.contains("/sub/app.db") && shown.out.contains("weekly"), "{}", shown.out);
        let verified = place.json(&["verify", &ids[0], &ids[1]]);
        assert_eq!(verified["summary"]["valid"], 2, "{verified}");
        for id in &ids {
            assert_restored_like_restic(&place, id);
        }
        let whole = place.text("data/sub/app.db");
        place.done(&["restore", &format!("{}:{whole}", ids[1]), "--to-new", "one"]);
        let files = contents(&place.path("one"));
        assert_eq!(files.len(), 1);
        assert!(
            files.values().next().unwrap() == &std::fs::read(place.path("data/sub/app.db")).unwrap(),
            "{files:?}"
        );
        place.done(&["check", "--read-data"]);
        place.restic(&["check", "--read-data"]);
    }
}

#[test]
fn our_backups_and_those_of_restic_live_in_one_repository() {
    let place = written_by_restic("2");
    let path = place.machine.database("own.db", 3000);
    let own = place.backup("own.db");
    assert_eq!(place.json(&["list"])["backups"].as_array().unwrap().len(), 3);
    place.restic(&["check", "--read-data"]);
    place.done(&["restore", &own, "--to-new", "back.db"]);
    assert!(std::fs::read(place.path("back.db")).unwrap() == std::fs::read(&path).unwrap());
    for id in restic_ids(&place).iter().filter(|id| **id != own) {
        assert_restored_like_restic(&place, id);
    }
}

#[test]
fn the_sound_test_repositories_of_restic_restore_whole() {
    for name in ["restic-small-repo.tar.gz", "restic-repo-mixed.tar.gz"] {
        let place = Place::with_test_data(name);
        let ids = restic_ids(&place);
        assert!(!ids.is_empty());
        place.done(&["check", "--read-data"]);
        for id in &ids {
            assert_restored_like_restic(&place, id);
        }
        assert_eq!(place.json(&["verify"])["summary"]["invalid"], 0);
    }
}

/// The ids in a text, shortened to what restic prints.
fn ids_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_hexdigit())
        .filter(|word| word.len() >= 8)
        .map(|word| word[..8].to_owned())
        .collect()
}

/// Checks that we name the objects that stock restic names, and exactly the snapshots that suffer.
fn assert_same_damage(place: &Place, damaged: &[&str], affected: &[&str]) {
    let judged = place.try_restic(&["check"]);
    assert!(!judged.status.success());
    let text = both(&judged);
    for depth in [&["check", "--json"][..], &["check", "--read-data", "--json"][..]] {
        let outcome = place.run(depth);
        assert_eq!(outcome.code, 21, "{depth:?}: {}", outcome.err);
        let report = outcome.json();
        let errors = report["errors"].as_array().unwrap();
        let objects: BTreeSet<String> =
            errors.iter().flat_map(|error| ids_in(error["object"].as_str().unwrap())).collect();
        let expected: BTreeSet<String> = damaged.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!(objects, expected, "{depth:?}");
        assert!(objects.is_subset(&ids_in(&text)), "restic names others: {text}");
        let suffering: BTreeSet<String> = errors
            .iter()
            .flat_map(|error| error["backups"].as_array().unwrap())
            .map(|id| id.as_str().unwrap()[..8].to_owned())
            .collect();
        assert_eq!(suffering, affected.iter().map(|id| (*id).to_owned()).collect(), "{depth:?}");
    }
}

#[test]
fn a_missing_index_is_named_as_restic_names_it_and_the_rest_restores() {
    let place = Place::with_test_data("restic-repo-index-missing.tar.gz");
    assert_same_damage(&place, &["c5897731"], &["6825a5d4"]);
    assert!(!place.try_restic(&["ls", "6825a5d4"]).status.success());
    assert_restored_like_restic(&place, "52197dea");
    let refused = place.run(&["restore", "6825a5d4", "--to-new", "broken"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("c5897731"), "{}", refused.err);
    let verdict = place.run(&["verify", "6825a5d4", "52197dea"]);
    assert_eq!(verdict.code, 21);
    assert!(
        verdict.out.contains("FAIL  6825a5d4") && verdict.out.contains("PASS  52197dea"),
        "{}",
        verdict.out
    );
}

#[test]
fn a_missing_pack_is_named_as_restic_names_it() {
    let place = Place::with_test_data("restic-repo-data-missing.tar.gz");
    assert_same_damage(&place, &["1959b7f2"], &["d6f984f6"]);
    let refused = place.run(&["restore", "d6f984f6", "--to-new", "broken"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("1959b7f2"), "{}", refused.err);
}

#[test]
fn a_pack_of_ours_that_is_lost_affects_what_needs_it_and_nothing_else() {
    let place = Place::new();
    let first = place.machine.database("first.db", 30_000);
    place.machine.database("second.db", 30_000);
    sql(&place.path("second.db"), "UPDATE t SET text = hex(randomblob(20))");
    let kept = place.backup("first.db");
    let before: BTreeSet<_> = contents(&place.path("repo/data")).into_keys().collect();
    let lost = place.backup("second.db");
    let mut packs: Vec<_> =
        contents(&place.path("repo/data")).into_iter().filter(|(path, _)| !before.contains(path)).collect();
    packs.sort_by_key(|(_, content)| content.len());
    let (victim, _) = packs.pop().unwrap();
    std::fs::remove_file(place.path("repo/data").join(&victim)).unwrap();
    let name = victim.file_name().unwrap().to_str().unwrap();
    assert_same_damage(&place, &[&name[..8]], &[&lost[..8]]);
    place.done(&["restore", &kept, "--to-new", "back.db"]);
    assert!(std::fs::read(place.path("back.db")).unwrap() == std::fs::read(&first).unwrap());
    assert_eq!(place.run(&["verify", &lost]).code, 21);
    let refused = place.run(&["restore", &lost, "--to-new", "broken.db"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(!place.path("broken.db").exists());
    // The source is still there: the next backup stores again what is missing, and nothing but the lost one is lost.
    let healed = place.json(&["backup", "second.db", "--read-all"]);
    let healed = healed["backups"][0]["id"].as_str().unwrap();
    place.done(&["restore", healed, "--to-new", "healed.db"]);
    assert!(
        std::fs::read(place.path("healed.db")).unwrap() == std::fs::read(place.path("second.db")).unwrap()
    );
    place.done(&["verify"]);
    place.restic(&["forget", &lost]);
    place.restic(&["rebuild-index"]);
    place.restic(&["check", "--read-data"]);
    place.done(&["check", "--read-data"]);
}
