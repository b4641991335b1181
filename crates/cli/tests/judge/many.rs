//! Several databases as one target, and the names by which a person means one of their backups.

use crate::seams::{Place, sql, tree};
use serde_json::Value;

/// Two databases, and a file that is none.
fn three_files() -> Place {
    let place = Place::new();
    place.machine.database("shops/acme.db", 300);
    place.machine.database("shops/bolt.db", 200);
    place.machine.write("shops/notes.db", "these are notes, no database\n");
    place
}

fn ids(report: &Value) -> Vec<String> {
    let backups = report["backups"].as_array().unwrap();
    backups.iter().filter_map(|backup| backup["id"].as_str()).map(str::to_owned).collect()
}

fn rows(place: &Place, name: &str) -> u32 {
    crate::support::count(&place.path(name))
}

#[test]
fn a_folder_is_one_snapshot_and_passes_over_what_is_no_database() {
    let place = three_files();
    let report = place.json(&["backup", "shops"]);
    assert_eq!(report["outcome"], "complete");
    let found = ids(&report);
    assert_eq!(found.len(), 2);
    let snapshot = found[0].split_once(':').unwrap().0;
    assert_eq!(found, [format!("{snapshot}:acme.db"), format!("{snapshot}:bolt.db")]);
    let skipped = report["skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 1, "{report}");
    assert!(skipped[0]["object"].as_str().unwrap().ends_with("/notes.db"), "{report}");
    let listing = String::from_utf8(place.restic(&["ls", snapshot])).unwrap();
    for name in ["acme.db", "bolt.db"] {
        assert!(listing.contains(&format!("/{name}/database.sqlite")), "{listing}");
        assert!(listing.contains(&format!("/{name}/manifest.json")), "{listing}");
    }
    assert_eq!(place.restic_json(&["snapshots"]).as_array().unwrap().len(), 1);
    place.restic(&["check", "--read-data"]);
}

#[test]
fn in_a_glob_what_is_no_database_is_named_and_the_others_are_kept() {
    let place = three_files();
    let outcome = place.run(&["backup", "shops/*.db", "--json"]);
    assert_eq!(outcome.code, 3, "{}", outcome.err);
    let report = outcome.json();
    assert_eq!((&report["outcome"], &report["error"]["exit_code"]), (&"incomplete".into(), &3.into()));
    assert_eq!(ids(&report).len(), 2);
    let failed = &report["backups"][2];
    assert_eq!(failed["database"], "notes.db");
    assert!(failed["error"]["message"].as_str().unwrap().contains("notes.db"), "{failed}");
    assert_eq!(failed["error"]["exit_code"], 20, "{failed}");
    assert!(outcome.err.contains("notes.db") && outcome.err.contains("1 of 3 databases failed"));
    place.restic(&["check", "--read-data"]);
    let list = place.json(&["list"]);
    assert_eq!(ids(&list).len(), 2, "a database that failed has no backup: {list}");
    // The next run: the same two, the failed one is there again once it is a database.
    std::fs::remove_file(place.path("shops/notes.db")).unwrap();
    place.machine.database("shops/notes.db", 5);
    let report = place.json(&["backup", "shops/*.db"]);
    let unchanged: Vec<&Value> =
        report["backups"].as_array().unwrap().iter().map(|backup| &backup["unchanged"]).collect();
    assert_eq!(unchanged.len(), 3);
    assert_eq!(unchanged[2], false);
}

#[test]
fn the_last_error_is_the_exit_code_where_all_failed() {
    let place = Place::new();
    place.machine.write("shops/a.db", "text");
    place.machine.write("shops/b.db", "text");
    let outcome = place.run(&["backup", "shops/*.db", "--json"]);
    assert_eq!(outcome.code, 20, "{}", outcome.err);
    assert_eq!(outcome.json()["outcome"], "failed");
}

#[test]
fn one_of_many_is_named_by_id_by_path_and_by_configured_name() {
    let place = three_files();
    place.machine.write("backstay.toml", "[targets.chain]\nsource = \"shops/{tenant}.db\"\n");
    std::fs::remove_file(place.path("shops/notes.db")).unwrap();
    let found = ids(&place.json(&["backup", "chain"]));
    assert_eq!(found.len(), 2, "{found:?}");
    sql(&place.path("shops/acme.db"), "DELETE FROM t WHERE id > 7");
    let second = ids(&place.json(&["backup", "chain"]));

    // Each way to say it, to a place of its own.
    let short = format!("{}:acme", &found[0][..8]);
    let path = place.text("shops/acme.db");
    for (number, (text, expected)) in [
        (found[0].as_str(), 300),
        (short.as_str(), 300),
        (second[0].as_str(), 7),
        ("chain/acme", 7),
        ("chain/acme@latest", 7),
        ("chain/acme@latest~1", 300),
        ("chain/bolt@latest", 200),
        ("shops/acme.db@latest", 7),
        ("shops/acme.db@latest~1", 300),
        (&format!("{path}@latest"), 7),
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("out{number}.db");
        place.done(&["restore", text, "--to-new", &out]);
        assert_eq!(rows(&place, &out), expected, "{text}");
    }
    let before = tree(&place.path("shops"));
    for text in ["chain", "chain@latest", "latest", &found[0][..8]] {
        let outcome = place.run(&["restore", text, "--confirm", "chain"]);
        assert_eq!(outcome.code, 2, "{text}: {}", outcome.err);
        for id in ["acme", "bolt"] {
            assert!(outcome.err.contains(id), "{text}: both are listed: {}", outcome.err);
        }
    }
    assert_eq!(tree(&place.path("shops")), before);
    let verified = place.json(&["verify", "chain"]);
    assert_eq!(verified["summary"]["total_files"], 2);

    // And back to where it came from, by the name that is typed.
    place.done(&["restore", "chain/acme@latest~1", "--confirm", "chain/acme"]);
    assert_eq!((rows(&place, "shops/acme.db"), rows(&place, "shops/bolt.db")), (300, 200));
}

#[test]
fn a_time_names_the_newest_backup_at_or_before_it() {
    let place = Place::new();
    let path = place.machine.database("app.db", 30);
    let report = place.json(&["backup", "app.db"]);
    let first = report["backups"][0]["time"].as_str().unwrap().to_owned();
    std::thread::sleep(std::time::Duration::from_millis(20));
    sql(&path, "DELETE FROM t WHERE id > 3");
    place.backup("app.db");
    place.done(&["restore", &format!("app.db@{first}"), "--to-new", "then.db"]);
    assert_eq!(rows(&place, "then.db"), 30);
    let chosen = place.done(&["restore", "app.db@2999-01-01", "--to-new", "now.db"]);
    assert_eq!(rows(&place, "now.db"), 3);
    assert!(chosen.err.contains("before the time asked for"), "{}", chosen.err);
    let early = place.run(&["restore", "app.db@2001-01-01T00:00", "--to-new", "never.db"]);
    assert_eq!(early.code, 2, "{}", early.err);
    assert!(!place.path("never.db").exists());
}

#[test]
fn a_file_backed_up_by_several_ways_has_one_newest_backup() {
    let place = three_files();
    place.done(&["backup", "shops"]);
    sql(&place.path("shops/acme.db"), "DELETE FROM t WHERE id > 9");
    place.done(&["backup", "shops/acme.db"]);
    for (text, expected) in
        [("shops/acme.db@latest", 9), ("shops/acme.db", 9), ("shops/acme.db@latest~1", 300)]
    {
        let out = format!("out-{expected}-{}.db", text.len());
        place.done(&["restore", text, "--to-new", &out]);
        assert_eq!(rows(&place, &out), expected, "{text}");
    }
}
