//! Restores that fail after they began: whatever a stop or start command does, there is a way back, and what is said
//! of it, to a person and to a script, is what is so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::{Path, PathBuf};
use support::{Machine, count};

/// Nothing answers there.
const NO_HEALTH: &str = "http://127.0.0.1:1/";

/// A database of 3 rows, whose backup has 50.
fn machine() -> (Machine, PathBuf) {
    let machine = Machine::new();
    let path = machine.database("app.db", 50);
    machine.done(&["backup", "app.db"]);
    rusqlite::Connection::open(&path).unwrap().execute_batch("DELETE FROM t WHERE id > 3").unwrap();
    (machine, path)
}

fn record(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.backstay-restore", path.display()))
}

/// Runs `first` the first time, and `then` from then on.
fn once(machine: &Machine, name: &str, first: &str, then: &str) -> String {
    let mark = machine.root.join(name).display().to_string();
    format!("if test -e {mark}; then {then}; else touch {mark}; {first}\nfi")
}

/// Interrupts the program once it waits for a health check that never passes.
const INTERRUPT: &str = "{ sleep 0.5; kill -INT $PPID; } >/dev/null 2>&1 &";

#[test]
fn a_stop_command_with_nothing_to_stop_does_not_bar_the_way_back() {
    let (machine, path) = machine();
    let stop = once(&machine, "stopped", "true", "exit 1");
    let start = once(&machine, "started", INTERRUPT, "true");
    let failed = machine.run(&[
        "restore",
        "app.db",
        "--confirm",
        "app.db",
        "--json",
        "--stop-command",
        &stop,
        "--start-command",
        &start,
        "--health-url",
        NO_HEALTH,
    ]);
    assert_eq!(failed.code, 130, "{} {}", failed.out, failed.err);
    let report = failed.json();
    assert_eq!(report["rolled_back"], true, "{report}");
    assert_eq!(report["target"], path.display().to_string());
    assert!(report["backup"].is_string() && report["backup_time"].is_string(), "{report}");
    assert!(report["safety_copy"].is_null(), "{report}");
    let steps: Vec<&str> =
        report["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(steps, ["preflight", "beside", "verify", "stop", "quiesce", "swap", "start"]);
    assert!(failed.err.contains("the target is as it was"), "{}", failed.err);
    assert!(failed.err.contains("the stop command"), "{}", failed.err);
    assert_eq!(count(&path), 3);
    assert!(!record(&path).exists());
}

#[test]
fn another_stop_command_opens_the_way_back() {
    let (machine, path) = machine();
    let pid = machine.text("pid");
    let hold = format!(
        "{{ sh -c 'exec 3<{}; echo $$ >{pid}; exec sleep 60' >/dev/null 2>&1 & }}; {INTERRUPT}",
        path.display()
    );
    let stop = once(&machine, "stopped", "true", "exit 1");
    let start = once(&machine, "started", &hold, "true");
    let failed = machine.run(&[
        "restore",
        "app.db",
        "--confirm",
        "app.db",
        "--json",
        "--stop-command",
        &stop,
        "--start-command",
        &start,
        "--health-url",
        NO_HEALTH,
    ]);
    let report = failed.json();
    assert_eq!(report["rolled_back"], false, "{report}");
    let message = report["error"]["message"].as_str().unwrap();
    for said in
        ["could not be rolled back", "is in use by", "the stop command", "the restored database is in place"]
    {
        assert!(message.contains(said), "{said}: {message}");
    }
    assert!(!failed.err.contains("--in-place"), "{}", failed.err);

    let again = machine.run(&["restore", "--rollback", "--target", "app.db"]);
    assert_eq!(again.code, 11, "{}", again.err);
    assert!(again.err.contains("the restored database is in place"), "{}", again.err);

    let kill = format!("kill $(cat {pid})");
    machine.done(&["restore", "--rollback", "--target", "app.db", "--stop-command", &kill]);
    assert_eq!(count(&path), 3);
    assert!(!record(&path).exists());
}

#[test]
fn a_start_command_that_fails_is_told_from_a_way_back_that_fails() {
    let (machine, path) = machine();
    let failed = machine.run(&[
        "restore",
        "app.db",
        "--confirm",
        "app.db",
        "--json",
        "--stop-command",
        "true",
        "--start-command",
        "false",
    ]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    let report = failed.json();
    assert_eq!(report["rolled_back"], true, "{report}");
    let message = report["error"]["message"].as_str().unwrap();
    assert!(message.contains("was rolled back: the target is as it was, but the start command"), "{message}");
    assert_eq!(report["error"]["hint"], "start the service by hand: false");
    assert_eq!(count(&path), 3);
    assert!(!record(&path).exists());
}

#[test]
fn a_refused_restore_says_what_it_would_have_replaced() {
    let (machine, path) = machine();
    let refused = machine.run(&["restore", "app.db", "--confirm", "other.db", "--json"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    let report = refused.json();
    assert_eq!(report["rolled_back"], false);
    assert_eq!(report["target"], path.display().to_string());
    assert!(report["backup"].is_string() && report["backup_time"].is_string(), "{report}");
    assert_eq!(report["steps"], serde_json::json!([]));
}

#[test]
fn an_unfinished_restore_is_told_to_whoever_backs_up_or_examines() {
    let (machine, path) = machine();
    let stop = once(&machine, "stopped", "kill -9 $PPID", "true");
    let killed = machine.run(&["restore", "app.db", "--confirm", "app.db", "--stop-command", &stop]);
    assert_ne!(killed.code, 0);
    assert!(record(&path).exists());
    let command = format!("`backstay restore --rollback --target {}`", path.display());
    let backup = machine.done(&["backup", "app.db"]);
    assert!(backup.err.contains("never finished") && backup.err.contains(&command), "{}", backup.err);
    let doctor = machine.done(&["doctor", "app.db", "--json"]).json();
    let findings = doctor["databases"][0]["findings"].as_array().unwrap();
    let found =
        findings.iter().find(|finding| finding["hint"].as_str().is_some_and(|hint| hint.contains(&command)));
    assert_eq!(found.unwrap()["severity"], "warning", "{doctor}");
    let dry = machine.done(&["restore", "--continue", "--target", "app.db", "--dry-run"]);
    for said in ["would restore to", "Run the stop command: if test", "Put the restored database in place"] {
        assert!(dry.out.contains(said), "{said}: {}", dry.out);
    }
    let dry = machine.done(&[
        "restore",
        "--rollback",
        "--target",
        "app.db",
        "--dry-run",
        "--start-command",
        "echo up",
    ]);
    for said in ["would roll back", "Leave the old database", "Run the start command: echo up"] {
        assert!(dry.out.contains(said), "{said}: {}", dry.out);
    }
    assert!(record(&path).exists());
    machine.done(&["restore", "--rollback", "--target", "app.db"]);
    let backup = machine.done(&["backup", "app.db"]);
    assert!(!backup.err.contains("never finished"), "{}", backup.err);
}

#[test]
fn a_continued_restore_that_fails_says_that_the_old_one_was_put_back() {
    let (machine, path) = machine();
    let start = once(&machine, "started", "kill -9 $PPID", "true");
    let killed = machine.run(&[
        "restore",
        "app.db",
        "--confirm",
        "app.db",
        "--stop-command",
        "true",
        "--start-command",
        &start,
    ]);
    assert_ne!(killed.code, 0);
    assert_eq!(count(&path), 50);
    let failed =
        machine.run(&["restore", "--continue", "--target", "app.db", "--start-command", "echo no; false"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.err.contains("was rolled back: the target is as it was"), "{}", failed.err);
    assert_eq!(count(&path), 3);
}

#[test]
fn a_new_database_that_failed_was_not_made() {
    let (machine, _) = machine();
    let failed = machine.run(&["restore", "app.db", "--to-new", "new.db", "--start-command", "false"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.err.contains("nothing was made"), "{}", failed.err);
    assert!(!machine.path("new.db").exists());
}

#[test]
fn the_plan_names_the_commands_in_their_place() {
    let (machine, _) = machine();
    let plan = machine.done(&[
        "restore",
        "app.db",
        "--dry-run",
        "--stop-command",
        "halt it",
        "--start-command",
        "raise it",
        "--health-url",
        NO_HEALTH,
    ]);
    let at = |text: &str| plan.out.find(text).unwrap_or_else(|| panic!("{text}: {}", plan.out));
    assert!(at("Read it back") < at("Run the stop command: halt it"));
    assert!(at("halt it") < at("Keep the old database"));
    assert!(at("Rename it to") < at("Run the start command: raise it"));
    assert!(at("raise it") < at(NO_HEALTH));
}

#[test]
fn a_lost_database_belongs_to_whom_its_folder_belongs() {
    use std::os::unix::fs::{MetadataExt, chown};
    let (machine, _) = machine();
    let path = machine.database("service/lost.db", 5);
    machine.done(&["backup", "service/lost.db"]);
    // Only root can give a folder away; for everybody else the two owners are one.
    let given = chown(path.parent().unwrap(), Some(4321), Some(4321)).is_ok();
    std::fs::remove_file(&path).unwrap();
    let restored = machine.done(&["restore", "service/lost.db@latest", "--yes"]);
    let (file, folder) = (path.metadata().unwrap(), path.parent().unwrap().metadata().unwrap());
    assert_eq!((file.uid(), file.gid()), (folder.uid(), folder.gid()));
    assert_eq!(file.mode() & 0o7777, 0o600);
    if given {
        assert!(restored.err.contains("belongs to user 4321 and group 4321"), "{}", restored.err);
    }
}

#[test]
fn a_wal_without_its_database_is_no_safety_copy() {
    let (machine, path) = machine();
    let wal = PathBuf::from(format!("{}-wal", path.display()));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&wal, b"left over").unwrap();
    let restored = machine.done(&["restore", "app.db@latest", "--yes", "--json"]);
    assert!(restored.json()["safety_copy"].is_null(), "{}", restored.out);
    let line = restored.err.lines().find(|line| line.contains("without its database"));
    let kept = line.and_then(|line| line.split_whitespace().find(|word| word.contains(".safety-")));
    let kept = kept.unwrap_or_else(|| panic!("{}", restored.err)).trim_end_matches(':');
    assert_eq!(std::fs::read(kept).unwrap(), b"left over");
    assert_eq!(count(&path), 50);
}
