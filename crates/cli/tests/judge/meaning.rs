//! What a name means: the file that the system finds behind it, a database backup before a snapshot of stock restic, and
//! never "nothing" where something is there and cannot be read.

use crate::seams::{Place, contents, sql};
use crate::support::count;

#[test]
fn a_parent_behind_a_link_is_the_one_that_the_system_finds() {
    let place = Place::new();
    let here = place.machine.database("y.db", 7);
    place.machine.database("source.db", 90);
    let id = place.backup("source.db");
    std::fs::create_dir_all(place.path("real/dir")).unwrap();
    std::os::unix::fs::symlink("real/dir", place.path("ld")).unwrap();
    place.done(&["restore", &id, "--target", "ld/../y.db", "--yes"]);
    assert_eq!(count(&here), 7, "the file of the working folder is another one");
    assert_eq!(count(&place.path("real/y.db")), 90);
    for target in ["none/../y.db", "source.db/../y.db"] {
        let refused = place.run(&["restore", &id, "--target", target, "--yes"]);
        assert_ne!(refused.code, 0, "{target}: {}", refused.err);
        let refused = place.run(&["backup", target]);
        assert_eq!(refused.code, 20, "{target}: {}", refused.err);
    }
    assert_eq!(count(&here), 7);
    let listed = place.json(&["backup", "ld/../y.db"]);
    assert!(listed["backups"][0]["target"].as_str().unwrap().ends_with("real/y.db"), "{listed}");
}

#[test]
fn a_snapshot_of_restic_of_the_same_file_hides_no_database_backup() {
    let place = Place::new();
    let path = place.machine.database("app.db", 50);
    let own = place.backup("app.db");
    place.restic(&["backup", &place.text("app.db")]);
    for name in ["app.db", "app.db@latest", "latest", "app.db@2999-01-01"] {
        assert_eq!(place.json(&["show", name])["backup"]["id"], own.as_str(), "{name}");
    }
    let verified = place.json(&["verify"]);
    assert_eq!(verified["files"].as_array().unwrap().len(), 1);
    assert_eq!(verified["files"][0]["id"], own.as_str());
    sql(&path, "DELETE FROM t");
    place.done(&["restore", "app.db", "--confirm", "app.db"]);
    assert_eq!(count(&path), 50);
}

#[test]
fn one_file_backed_up_in_two_ways_is_one_database_and_its_id_can_be_typed() {
    let place = Place::new();
    place.machine.database("shops/acme.db", 10);
    place.backup("shops/acme.db");
    let newest = place.backup("shops");
    assert_eq!(place.json(&["show", "latest"])["backup"]["id"], newest.as_str());
    place.machine.database("shops/bolt.db", 10);
    place.done(&["backup", "shops"]);
    let list = place.done(&["list"]).out;
    let ids: Vec<&str> = list.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(ids.len(), 4, "{list}");
    assert!(ids.iter().any(|id| id.ends_with(":bolt.db")), "{list}");
    for id in ids {
        place.done(&["show", id]);
    }
}

#[test]
fn what_cannot_be_listed_is_named_and_a_slip_of_the_pen_is_refused() {
    let place = Place::new();
    let path = place.machine.database("app.db", 50);
    place.machine.database("other.db", 50);
    place.done(&["list", "app.db"]);
    let unknown = place.run(&["list", "aap"]);
    assert_eq!(unknown.code, 2, "{}", unknown.err);
    assert!(unknown.err.contains("hint: ") && unknown.err.contains("`aap`"), "{}", unknown.err);
    let id = place.backup("app.db");
    std::fs::remove_file(path).unwrap();
    assert!(place.done(&["list", "app.db"]).out.contains(&id[..8]));
    for index in contents(&place.path("repo/index")).into_keys() {
        std::fs::remove_file(place.path("repo/index").join(index)).unwrap();
    }
    for arguments in [
        &["list"][..],
        &["list", "app.db"],
        &["restore", "app.db", "--to-new", "new.db"],
        &["export", "other.db", "--out", "new.db"],
    ] {
        let refused = place.run(arguments);
        assert_eq!(refused.code, 1, "{arguments:?}: {}", refused.err);
        assert!(refused.err.contains(&id[..8]), "{arguments:?}: {}", refused.err);
        assert!(!refused.err.contains("no backup yet"), "{arguments:?}: {}", refused.err);
    }
    assert!(
        !place.run(&["restore", "app.db", "--to-new", "new.db", "--fallback"]).err.contains("no backup yet")
    );
    assert_eq!(place.done(&["list", "other.db"]).code, 0);
}
