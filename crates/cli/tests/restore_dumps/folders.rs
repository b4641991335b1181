//! Folders of dump files: which one is the newest, what happens where that one is damaged, and whose they are.

use super::dump;
use super::support::{Machine, count, fingerprint};

fn folder() -> Machine {
    let machine = Machine::new();
    for (name, rows) in [("acme-20260101.db", 1), ("acme-20260103.db", 3), ("acme-20260102.db", 2)] {
        machine.database(&format!("dumps/{name}"), rows);
    }
    machine.write("dumps/README.txt", "no dump\n");
    machine.database("srv/acme.db", 99);
    machine
}

#[test]
fn the_newest_by_its_name_is_taken() {
    let machine = folder();
    let outcome = machine.done(&["restore", "dumps", "--target", "srv/acme.db", "--yes"]);
    assert!(outcome.err.contains("acme-20260103.db"), "{}", outcome.err);
    assert_eq!(count(&machine.path("srv/acme.db")), 3);
}

#[test]
fn a_damaged_newest_stops_it_and_the_next_one_is_taken_when_asked() {
    let machine = folder();
    machine.write("dumps/acme-20260104.sql", "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE");
    let before = fingerprint(&machine.path("srv"));
    let arguments = ["restore", "dumps", "--target", "srv/acme.db", "--yes"];
    let refused = machine.run(&arguments);
    assert_eq!(refused.code, 20, "{}", refused.err);
    for said in ["acme-20260104.sql", "acme-20260103.db", "24 hours older", "--fallback"] {
        assert!(refused.err.contains(said), "{said}: {}", refused.err);
    }
    assert_eq!(fingerprint(&machine.path("srv")), before);
    let report = machine.done(&[&arguments[..], &["--fallback", "--json"]].concat()).json();
    assert!(report["backup"].as_str().unwrap().ends_with("acme-20260103.db"), "{report}");
    assert_eq!(count(&machine.path("srv/acme.db")), 3);
}

#[test]
fn dumps_of_several_databases_are_told_apart() {
    let machine = folder();
    machine.database("dumps/bolt-20260105.db", 50);
    let refused = machine.run(&["restore", "dumps", "--target", "srv/acme.db", "--yes"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("acme, bolt") && refused.err.contains("--pattern"), "{}", refused.err);
    machine.done(&["restore", "dumps", "--pattern", "acme-*", "--target", "srv/acme.db", "--yes"]);
    assert_eq!(count(&machine.path("srv/acme.db")), 3);
    machine.done(&["restore", "dumps/acme-*01.db", "--target", "srv/acme.db", "--yes"]);
    assert_eq!(count(&machine.path("srv/acme.db")), 1);
    let none = machine.run(&["restore", "dumps", "--pattern", "x*", "--target", "srv/acme.db", "--yes"]);
    assert_eq!(none.code, 20, "{}", none.err);
    let file = ["restore", "dumps/acme-20260101.db", "--pattern", "x*", "--target", "srv/acme.db", "--yes"];
    assert_eq!(machine.run(&file).code, 2);
}

#[test]
fn names_with_blanks_and_newlines_are_names() {
    let machine = Machine::new();
    let source = machine.database("src.db", 4);
    machine.write("dumps/my shop\n20260105.sql", &String::from_utf8(dump(&source)).unwrap());
    machine.done(&["restore", "dumps", "--target", "new.db", "--yes"]);
    assert_eq!(count(&machine.path("new.db")), 4);
}

#[test]
fn a_restore_and_a_prune_keep_out_of_each_others_way() {
    let machine = folder();
    let pruned = machine.path("pruned");
    let prune = format!(
        "cd '{}' && '{}' prune dumps --keep-last 1 > '{}' 2>&1; echo $? >> '{}'",
        machine.path(".").display(),
        assert_cmd::cargo::cargo_bin!("backstay").display(),
        pruned.display(),
        pruned.display(),
    );
    // Between what is written beside the target and the swap, the restore is in the folder.
    let arguments = ["restore", "dumps", "--target", "srv/acme.db", "--yes", "--stop-command", &prune];
    machine.done(&arguments);
    let said = std::fs::read_to_string(pruned).unwrap();
    assert!(said.trim_end().ends_with("11") && said.contains("dumps"), "{said}");
    assert_eq!(super::names(&machine, "dumps").len(), 4);

    let held = std::fs::File::open(machine.path("dumps")).unwrap();
    held.lock().unwrap();
    let refused = machine.run(&["restore", "dumps", "--target", "srv/acme.db", "--yes"]);
    assert_eq!(refused.code, 11, "{}", refused.err);
    assert!(refused.err.contains("pruned"), "{}", refused.err);
}
