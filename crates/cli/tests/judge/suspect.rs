//! Backups whose content lost too much: marked, told, not counted as a measure, and accepted by their owner.

use crate::seams::{Place, sql, tree};
use serde_json::Value;

fn backup(place: &Place, source: &str) -> Value {
    place.json(&["backup", source])
}

fn suspicion(report: &Value) -> &Value {
    assert_eq!(report["outcome"], "suspect", "{report}");
    assert_eq!(report["suspicions"].as_array().unwrap().len(), 1, "{report}");
    &report["suspicions"][0]
}

fn no_suspicion(report: &Value) {
    assert_eq!((&report["outcome"], &report["suspicions"]), (&"complete".into(), &Value::Array(vec![])));
}

/// The marks of a list, oldest first.
fn marks(place: &Place) -> Vec<bool> {
    let list = place.json(&["list"]);
    list["backups"].as_array().unwrap().iter().map(|backup| !backup["suspect"].is_null()).collect()
}

#[test]
fn an_emptied_database_stays_suspect_until_it_is_accepted() {
    let place = Place::new();
    let path = place.machine.database("app.db", 300);
    let first = backup(&place, "app.db");
    no_suspicion(&first);
    sql(&path, "DELETE FROM t");
    let text = place.done(&["backup", "app.db"]);
    let id = place.json(&["list"])["backups"][1]["id"].as_str().unwrap().to_owned();
    for part in
        ["is suspect", "it is empty", "300 rows", &format!("backstay accept {}", &id[..8]), "retention"]
    {
        assert!(text.err.contains(part), "no {part:?}: {}", text.err);
    }
    assert!(text.err.contains(&first["backups"][0]["id"].as_str().unwrap()[..8]), "{}", text.err);
    assert!(place.done(&["list"]).out.contains("SUSPECT"));
    assert!(place.done(&["show", &id]).out.contains("it is empty"));

    // Unchanged, and changed a little: still measured by the last good one.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    suspicion(&backup(&place, "app.db"));
    let again = backup(&place, "app.db");
    assert_eq!(again["backups"][0]["unchanged"], true, "{again}");
    let again = suspicion(&again);
    assert_eq!((&again["database"], &again["baseline"]), (&"app.db".into(), &Value::Null));
    sql(&path, "INSERT INTO t(text) VALUES ('one')");
    let third = backup(&place, "app.db");
    let found = suspicion(&third);
    assert_eq!(found["baseline"], first["backups"][0]["id"], "{found}");
    assert!(found["reasons"].to_string().contains("1 row"), "{found}");
    assert_eq!(marks(&place), [false, true, true, true, true]);

    // Accepting: a dry run changes nothing; then it counts, is a measure, and may be said twice.
    let before = tree(&place.repository());
    let dry = place.json(&["accept", "latest", "--dry-run"]);
    assert_eq!((&dry["backups"][0]["accepted"], &dry["dry_run"]), (&true.into(), &true.into()));
    assert_eq!(tree(&place.repository()), before);
    let accepted = place.json(&["accept", "app.db@latest"]);
    assert_eq!(accepted["schema"], "backstay.accept/1");
    assert_eq!(accepted["backups"][0]["accepted"], true, "{accepted}");
    assert_eq!(marks(&place), [false, true, true, true, false]);
    no_suspicion(&backup(&place, "app.db"));
    sql(&path, "INSERT INTO t(text) VALUES ('two')");
    no_suspicion(&backup(&place, "app.db"));
    let twice = place.json(&["accept", "app.db@latest~1"]);
    assert_eq!(twice["backups"][0]["accepted"], false, "{twice}");
    assert!(place.done(&["accept", "latest"]).out.contains("nothing to accept"));

    // The unchanged one holds what the one before it holds: one acceptance is enough.
    place.done(&["accept", "app.db@latest~3"]);
    assert_eq!(marks(&place)[..4], [false, true, false, false]);
    place.done(&["accept", &id]);
    assert!(!marks(&place).contains(&true));
    place.restic(&["check", "--read-data"]);
}

#[test]
fn a_lost_table_is_suspect_and_an_unchanged_or_vacuumed_database_is_not() {
    let place = Place::new();
    let path = place.machine.database("app.db", 300);
    sql(
        &path,
        "CREATE TABLE fat(body); INSERT INTO fat VALUES (randomblob(5000000)); CREATE TABLE few(a); INSERT INTO few VALUES (1);",
    );
    no_suspicion(&backup(&place, "app.db"));
    sql(&path, "PRAGMA journal_mode=WAL; UPDATE t SET text='x'; ");
    no_suspicion(&backup(&place, "app.db"));
    sql(&path, "PRAGMA wal_checkpoint(TRUNCATE); VACUUM; DELETE FROM few;");
    no_suspicion(&backup(&place, "app.db"));
    sql(&path, "UPDATE fat SET body=NULL; VACUUM;");
    let report = backup(&place, "app.db");
    assert!(suspicion(&report)["reasons"][0].as_str().unwrap().starts_with("its content takes"), "{report}");
    sql(&path, "ALTER TABLE t RENAME TO u; UPDATE fat SET body=randomblob(5000000);");
    no_suspicion(&backup(&place, "app.db"));
    sql(&path, "DROP TABLE u");
    let report = backup(&place, "app.db");
    assert_eq!(suspicion(&report)["reasons"][0], "table u is gone: it had 300 rows");
}

#[test]
fn a_restore_of_a_suspect_backup_names_the_good_one_before_it() {
    let place = Place::new();
    let path = place.machine.database("app.db", 300);
    let good = backup(&place, "app.db")["backups"][0]["id"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        sql(&path, "DELETE FROM t; CREATE TABLE IF NOT EXISTS more(a); INSERT INTO more VALUES (1);");
        suspicion(&backup(&place, "app.db"));
    }
    for extra in [&["--dry-run"][..], &["--to-new", "out.db"]] {
        let outcome = place.done(&[&["restore", "app.db@latest"], extra].concat());
        assert!(outcome.err.contains("IT IS SUSPECT"), "{}", outcome.err);
        assert!(outcome.err.contains(&good[..8]), "{}", outcome.err);
    }
    let outcome = place.done(&["restore", &good, "--dry-run"]);
    assert!(!outcome.err.contains("SUSPECT"), "{}", outcome.err);
    let verified = place.done(&["verify"]);
    assert!(
        verified.out.contains("PASS") && verified.out.contains("its content is suspect"),
        "{}",
        verified.out
    );
}

/// Three tenants of a configured target.
fn tenants() -> Place {
    let place = Place::new();
    for name in ["acme", "bolt", "cord"] {
        place.machine.database(&format!("shops/{name}.db"), 300);
    }
    place.machine.write("backstay.toml", "[targets.shops]\nsource = \"shops/{tenant}.db\"\n");
    place
}

fn told(report: &Value, key: &str) -> Vec<String> {
    let items = report[key].as_array().unwrap();
    items.iter().map(|item| item["database"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn new_and_vanished_tenants_are_told() {
    let place = tenants();
    let report = backup(&place, "shops");
    assert_eq!((told(&report, "appeared"), told(&report, "vanished")), (vec![], vec![]), "the first run");
    let last = report["backups"][0]["id"].clone();
    place.machine.database("shops/dove.db", 5);
    std::fs::remove_file(place.path("shops/acme.db")).unwrap();
    let report = backup(&place, "shops");
    assert_eq!(told(&report, "appeared"), ["dove"]);
    assert_eq!(
        (told(&report, "vanished"), &report["vanished"][0]["backup"]),
        (vec!["acme".to_owned()], &last)
    );
    let text = place.done(&["backup", "shops"]);
    assert!(text.err.contains("1 vanished: shops/acme (last backup"), "it is told again: {}", text.err);
    assert!(!text.err.contains("1 new"), "{}", text.err);

    // Back again: neither new nor gone.
    place.machine.database("shops/acme.db", 300);
    let report = backup(&place, "shops");
    assert_eq!((told(&report, "appeared"), told(&report, "vanished")), (vec![], vec![]));

    // Gone for long: no news any more.
    std::fs::remove_file(place.path("shops/acme.db")).unwrap();
    for run in 0..22 {
        let gone = told(&backup(&place, "shops"), "vanished");
        assert_eq!(gone.len(), usize::from(run < 20), "run {run}: {gone:?}");
    }
}

#[test]
fn a_backup_of_one_tenant_says_nothing_of_the_others() {
    let place = tenants();
    std::thread::sleep(std::time::Duration::from_millis(2100));
    backup(&place, "shops");
    sql(&place.path("shops/acme.db"), "INSERT INTO t(text) VALUES ('x')");
    for _ in 0..3 {
        let one = backup(&place, "shops/acme");
        assert_eq!(one["backups"].as_array().unwrap().len(), 1);
        assert_eq!((told(&one, "appeared"), told(&one, "vanished")), (vec![], vec![]));
    }
    sql(&place.path("shops/cord.db"), "DELETE FROM t WHERE id > 10");
    let all = backup(&place, "shops");
    assert_eq!((told(&all, "appeared"), told(&all, "vanished")), (vec![], vec![]), "{all}");
    assert_eq!(all["backups"][1]["unchanged"], true, "the previous backup of bolt is found: {all}");
    assert_eq!(suspicion(&all)["database"], "cord");
    // The tag by which that is known is no tag of a person's, and cannot be given.
    assert_eq!(all["backups"][0]["id"].as_str().unwrap().split(':').nth(1), Some("acme"));
    let list = place.json(&["list"]);
    assert!(list["backups"].as_array().unwrap().iter().all(|backup| backup["tags"] == Value::Array(vec![])));
    assert_eq!(place.run(&["backup", "shops", "--tag", "database=acme"]).code, 2);
}
