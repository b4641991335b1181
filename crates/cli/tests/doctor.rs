//! `doctor` without a source: everything that is configured, and what is wrong with the repositories before somebody
//! needs them. Each finding is provoked once, and gone once its hint was followed.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

#[path = "seams/mod.rs"]
mod seams;
mod support;

use seams::{PASSWORD, make_repository, tree};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use support::Machine;

const CONFIGURATION: &str = "[repositories.main]\npath = \"repo\"\npassword_file = \"main.key\"\n[targets.erp]\nsource = \"erp.db\"\n";

/// A machine that is well: one target, backed up, its key known to be kept.
fn well() -> Machine {
    let machine = Machine::new();
    make_repository(&machine.path("repo"));
    let key = machine.write("main.key", &format!("{PASSWORD}\n"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    // Large enough that the largest pack is the one of its content.
    machine.database("erp.db", 5000);
    machine.write("backstay.toml", CONFIGURATION);
    machine.done(&["backup", "erp"]);
    machine.write("copy.key", &format!("{PASSWORD}\n"));
    machine.done(&["key", "confirm", "copy.key"]);
    machine
}

fn report(machine: &Machine, code: i32) -> Value {
    let outcome = machine.run(&["doctor", "--json"]);
    assert_eq!(outcome.code, code, "{} {}", outcome.out, outcome.err);
    outcome.json()
}

/// The severities and texts of what was found, but that all of a test is on one disk.
fn found(report: &Value) -> Vec<(String, String)> {
    all_found(report).into_iter().filter(|(_, text)| !text.contains("on the same disk")).collect()
}

fn all_found(report: &Value) -> Vec<(String, String)> {
    let of = |part: &Value| part["findings"].as_array().unwrap().clone();
    let repositories = report["repositories"].as_array().unwrap().iter().flat_map(of);
    let text = |finding: Value| {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        (text("severity"), format!("{}: {} | {}", text("object"), text("message"), text("hint")))
    };
    repositories.chain(of(report)).map(text).collect()
}

fn assert_found(machine: &Machine, code: i32, severity: &str, parts: &[&str]) {
    let found = found(&report(machine, code));
    let fits = |(is, text): &(String, String)| is == severity && parts.iter().all(|part| text.contains(part));
    assert!(found.iter().any(fits), "no {severity} with {parts:?}: {found:?}");
}

fn opened(machine: &Machine) -> restic::Repository {
    let storage = Arc::new(storage::LocalStorage::open(machine.path("repo")).unwrap());
    restic::Repository::open(storage, &flow::Secret::new(PASSWORD), restic::OpenOptions::default()).unwrap()
}

#[test]
fn what_is_well_is_said_so_and_nothing_is_changed() {
    let machine = well();
    let before = tree(&machine.path("repo"));
    let told = report(&machine, 0);
    assert_eq!(found(&told), [], "{told}");
    let one = &told["repositories"][0];
    assert_eq!((one["name"].as_str(), one["writable"].as_bool()), (Some("main"), Some(true)), "{told}");
    assert_eq!((&one["backups"], &one["damaged"], &one["unlisted"]), (&1.into(), &0.into(), &0.into()));
    assert_eq!((&one["locks"], &one["key_confirmed"]), (&0.into(), &true.into()));
    assert!(one["free_bytes"].as_u64().unwrap() > one["needed_bytes"].as_u64().unwrap(), "{told}");
    assert_eq!(one["targets"][0]["target"], "erp");
    assert!((0..60).contains(&one["targets"][0]["age_seconds"].as_i64().unwrap()), "{told}");
    let shown = machine.done(&["doctor"]);
    assert!(shown.out.contains("erp: 1 database, the newest backup of"), "{}", shown.out);
    assert!(shown.err.contains("1 repository and 1 database: nothing stands in the way"), "{}", shown.err);
    assert!(!shown.out.contains("notice:"), "{}", shown.out);
    assert!(machine.done(&["doctor", "--verbose"]).out.contains("notice:"));
    assert_eq!(tree(&machine.path("repo")), before);
    // Of a source as ever: its databases alone.
    assert_eq!(machine.done(&["doctor", "erp", "--json"]).json()["repositories"], Value::Array(vec![]));
}

#[test]
fn one_disk_for_the_database_and_every_repository_is_warned_of() {
    let machine = well();
    let warned = |machine: &Machine| {
        let all = all_found(&report(machine, 0));
        all.into_iter()
            .filter(|(severity, text)| severity == "warning" && text.contains("the same disk as"))
            .count()
    };
    assert_eq!(warned(&machine), 1);
    // Elsewhere: a filesystem in memory, where there is one.
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let device = |path: &std::path::Path| std::os::unix::fs::MetadataExt::dev(&path.metadata().unwrap());
    if device(elsewhere.path()) == device(&machine.path("repo")) {
        return;
    }
    let other = elsewhere.path().join("repo");
    make_repository(&other);
    let second =
        format!("[repositories.other]\npath = \"{}\"\npassword_file = \"main.key\"\n", other.display());
    machine.write("backstay.toml", &format!("{second}{CONFIGURATION}"));
    assert_eq!(warned(&machine), 0);
}

#[test]
fn keys_and_locks_that_need_somebody_are_named() {
    let machine = well();
    let key = machine.path("main.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_found(&machine, 0, "warning", &["main.key", "its mode is 644", "chmod 600"]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let owner = restic::LockOwner {
        host: support::host(),
        user: "olga".to_owned(),
        pid: i32::MAX as u32,
        uid: 1000,
        gid: 1000,
    };
    let kind = restic::LockKind::Exclusive;
    std::mem::forget(opened(&machine).lock(kind, &owner, restic::LockOptions::default()).unwrap());
    assert_found(&machine, 0, "warning", &["lock ", "is stale: its process is gone", "backstay unlock"]);
    machine.done(&["unlock"]);
    assert_eq!(found(&report(&machine, 0)), []);
    let unconfirmed = Machine::new();
    make_repository(&unconfirmed.path("repo"));
    unconfirmed.write("repo.key", &format!("{PASSWORD}\n"));
    unconfirmed.write("backstay.toml", &CONFIGURATION.replace("main.key", "repo.key"));
    unconfirmed.database("erp.db", 1);
    assert_found(&unconfirmed, 0, "warning", &["no copy of a key", "backstay key confirm"]);
    assert_found(&unconfirmed, 0, "warning", &["target erp", "no backup yet", "backstay backup erp"]);
}

#[test]
fn a_repository_that_is_not_to_be_had_is_a_problem_and_the_others_are_looked_at() {
    let machine = well();
    let away = "[repositories.away]\npath = \"/nowhere/at/all\"\n";
    machine.write("backstay.toml", &format!("repository = \"main\"\n{CONFIGURATION}{away}"));
    assert_found(&machine, 21, "problem", &["/nowhere/at/all", "there is no repository", "mounted"]);
    let told = report(&machine, 21);
    assert_eq!(told["error"]["exit_code"], 21);
    assert_eq!(told["repositories"].as_array().unwrap().len(), 2);
    assert_eq!(told["repositories"][0]["repository_id"], Value::Null);
    assert_eq!(told["repositories"][1]["backups"], 1);
    machine.write("backstay.toml", CONFIGURATION);
    machine.write("main.key", "falsch\n");
    assert_found(&machine, 21, "problem", &["opens no key", "BACKSTAY_PASSWORD_FILE"]);
    machine.write("main.key", &format!("{PASSWORD}\n"));
    std::fs::remove_file(machine.path("erp.db")).unwrap();
    assert_found(&machine, 21, "problem", &["target erp", "erp.db"]);
}

#[test]
fn damage_is_named_until_it_is_gone() {
    let machine = well();
    let packs = seams::contents(&machine.path("repo/data"));
    let largest = packs.iter().max_by_key(|(_, content)| content.len()).unwrap().0;
    let pack = machine.path("repo/data").join(largest);
    let whole = std::fs::read(&pack).unwrap();
    let mut broken = whole.clone();
    // The list of the run is in that pack too, at its beginning or end.
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&pack, broken).unwrap();
    assert_eq!(machine.run(&["verify"]).code, 21);
    assert_found(
        &machine,
        21,
        "problem",
        &["erp.db of erp", "its newest backup", "is damaged", "check --read-data"],
    );
    std::fs::write(&pack, whole).unwrap();
    machine.done(&["verify"]);
    assert_eq!(found(&report(&machine, 0)), []);
}
