//! What is found damaged is never relied on again: the next backup stores it anew, and old backups come back with it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::PathBuf;
use support::{Machine, fingerprint};

/// The folder with the packs of the machine's repository.
fn packs(machine: &Machine) -> Vec<PathBuf> {
    let files = fingerprint(&machine.root);
    files
        .into_keys()
        .filter(|path| path.components().any(|part| part.as_os_str() == "data"))
        .filter(|path| path.file_name().is_some_and(|name| name.len() == 64))
        .collect()
}

/// Flips bytes in the middle of the largest pack, which holds content.
fn damage_largest(machine: &Machine) {
    let largest = packs(machine).into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut content = std::fs::read(&largest).unwrap();
    let middle = content.len() / 2;
    content[middle..middle + 16].iter_mut().for_each(|byte| *byte ^= 0x5a);
    let mut rights = largest.metadata().unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o600);
    std::fs::set_permissions(&largest, rights).unwrap();
    std::fs::write(&largest, content).unwrap();
}

fn newest_id(machine: &Machine) -> String {
    let list = machine.done(&["list", "--json"]).json();
    list["backups"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned()
}

fn proofs(machine: &Machine) -> Vec<bool> {
    let list = machine.done(&["list", "--json"]).json();
    list["backups"].as_array().unwrap().iter().map(|backup| !backup["proof"].is_null()).collect()
}

fn restored(machine: &Machine, id: &str, name: &str) -> Vec<u8> {
    machine.done(&["restore", id, "--to-new", &format!("./{name}")]);
    std::fs::read(machine.path(name)).unwrap()
}

#[test]
fn a_damaged_blob_is_stored_anew_by_the_next_backup() {
    let machine = Machine::new();
    let path = machine.database("app.db", 20_000);
    machine.done(&["backup", "app.db"]);
    let original = std::fs::read(&path).unwrap();
    let first = newest_id(&machine);
    damage_largest(&machine);
    assert_eq!(machine.run(&["verify"]).code, 21);

    let again = machine.done(&["backup", "app.db", "--json"]).json();
    assert_eq!(again["backups"][0]["unchanged"], false, "{again}");
    assert!(again["backups"][0]["added_bytes"].as_u64().unwrap() > 10_000, "{again}");
    machine.done(&["verify"]);
    let second = newest_id(&machine);
    assert_ne!(first, second);
    assert_eq!(restored(&machine, &second, "second.db"), original);
    machine.done(&["verify", &first]);
    assert_eq!(restored(&machine, &first, "first.db"), original);
    assert_eq!(proofs(&machine), [true, true]);
    let third = machine.done(&["backup", "app.db", "--json"]).json();
    assert!(third["backups"][0]["added_bytes"].as_u64().unwrap() < 10_000, "{third}");
}

#[test]
fn what_a_check_finds_marks_every_backup_and_no_damaged_one_is_offered() {
    let machine = Machine::new();
    let path = machine.database("app.db", 20_000);
    machine.done(&["backup", "app.db"]);
    let original = std::fs::read(&path).unwrap();
    machine.done(&["backup", "app.db", "--read-all"]);
    damage_largest(&machine);
    assert_eq!(proofs(&machine), [true, true], "nobody has looked yet");

    assert_eq!(machine.run(&["check", "--read-data"]).code, 21);
    assert_eq!(proofs(&machine), [false, false]);
    let refused = machine.run(&["restore", "app.db", "--yes", "--fallback"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("no older backup of it that is whole"), "{}", refused.err);

    machine.done(&["backup", "app.db"]);
    machine.done(&["verify"]);
    assert_eq!(restored(&machine, &newest_id(&machine), "new.db"), original);
}
