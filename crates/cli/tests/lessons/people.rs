//! People, who mean one database and name another, and want to know before they act.

use crate::restored;
use crate::seams::{Place, sql, tree};

/// A backup was restored into production by mistake (frappe/press#878, dbeaver#15068): the name of what is replaced is
/// asked for, and what was there is kept.
#[test]
fn the_name_of_what_is_replaced_is_asked_for_and_what_was_there_is_kept() {
    let place = Place::new();
    let staging = place.machine.database("staging.db", 50);
    let production = place.machine.database("production.db", 500);
    place.backup("staging.db");
    let before = std::fs::read(&production).unwrap();
    let restore = ["restore", "staging.db@latest", "--target", "production.db"];
    assert_eq!(place.run(&restore).code, 2, "nobody answered");
    let wrong = place.run(&[&restore[..], &["--confirm", "staging.db"]].concat());
    assert_eq!(wrong.code, 2, "{}", wrong.err);
    assert!(std::fs::read(&production).unwrap() == before);

    let report = place.json(&[&restore[..], &["--confirm", "production.db"]].concat());
    assert!(std::fs::read(&production).unwrap() == std::fs::read(&staging).unwrap());
    let safety = report["safety_copy"].as_str().unwrap();
    assert!(std::fs::read(safety).unwrap() == before, "{report}");
}

/// A real dry run of a restore was asked for since 2019 (pgbackrest#773).
#[test]
fn a_dry_run_of_a_restore_tells_all_and_touches_nothing() {
    let place = Place::new();
    let path = place.machine.database("app.db", 500);
    place.backup("app.db");
    sql(&path, "DROP TABLE t");
    let before = tree(&place.path(""));
    let dry = place.done(&["restore", "app.db", "--dry-run", "--stop-command", "touch stopped"]);
    assert_eq!(tree(&place.path("")), before);
    for told in ["app.db", "would", "touch stopped", "safety"] {
        assert!(dry.out.contains(told), "{told}: {}", dry.out);
    }
}

/// "Is the restored database identical to the source?" is asked since 2014 (pgbackman#8): block by block, and said.
#[test]
fn a_restored_database_is_identical_and_that_is_said() {
    let place = Place::new();
    let path = place.machine.database("app.db", 500);
    let id = place.backup("app.db");
    assert!(restored(&place, &id) == std::fs::read(&path).unwrap());
    let report = place.json(&["restore", &id, "--target", "./app.db", "--confirm", "app.db"]);
    assert_eq!(report["verified"], true, "{report}");
}

/// "Restore one tenant, leave the others alone" (django-multitenant#229, pgbackrest#2369, #227), and databases that are
/// new since yesterday are backed up too (databasus#142, #430).
#[test]
fn one_tenant_is_restored_and_new_ones_are_backed_up() {
    let place = Place::new();
    for tenant in ["acme", "bolt"] {
        place.machine.database(&format!("shops/{tenant}.db"), 100);
    }
    place.machine.write("backstay.toml", "[targets.shops]\nsource = \"shops/{tenant}.db\"\n");
    place.done(&["backup", "shops"]);
    place.machine.database("shops/corp.db", 30);
    let second = place.json(&["backup", "shops"]);
    assert_eq!(second["backups"].as_array().unwrap().len(), 3, "{second}");
    for tenant in ["acme", "bolt"] {
        sql(&place.path(&format!("shops/{tenant}.db")), "DELETE FROM t");
    }
    place.done(&["restore", "shops/acme", "--confirm", "shops/acme"]);
    assert_eq!(crate::support::count(&place.path("shops/acme.db")), 100);
    assert_eq!(crate::support::count(&place.path("shops/bolt.db")), 0, "nobody asked for that one");
}
