//! `verify --deep`: what passed is loaded into scratch and asked, what cannot be loaded fails, and nothing is left of it: not
//! after a failure, not after an interruption, and after a kill only until the next run.

use crate::support::Machine;
use crate::{check, dump, item, nothing_left, pack, problem, text, verify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A question that is never answered.
const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

#[test]
fn each_form_of_sqlite_is_loaded_and_counted() {
    let machine = Machine::new();
    let image = machine.database("dumps/app-20260101.db", 50);
    pack("gzip", ".gz", &image);
    let script = machine.write("dumps/app-20260102.sql", &dump(&image));
    pack("zstd", ".zst", &script);
    let report = verify(&machine, 0, &["dumps", "--deep"]);
    assert_eq!(report["summary"]["total_files"], 4, "{report}");
    for file in report["files"].as_array().unwrap() {
        let load = check(file, "load")["detail"].as_str().unwrap();
        assert!(
            load.starts_with("loaded into SQLite 3.") && load.contains("integrity check passed"),
            "{load}"
        );
        assert!(load.ends_with(", 1 table, 50 rows"), "{load}");
        assert_eq!((&file["tables"], &file["rows"]), (&1.into(), &50.into()), "{file}");
    }
    let shallow = verify(&machine, 0, &["dumps"]);
    assert!(!shallow.to_string().contains("\"load\""), "{shallow}");
}

/// Reads well, statement by statement; no database comes of it.
#[test]
fn a_script_that_is_complete_and_cannot_be_loaded_fails() {
    let machine = Machine::new();
    machine.write(
        "dumps/twice-20260101.sql",
        "BEGIN TRANSACTION;\nCREATE TABLE t (id INTEGER PRIMARY KEY);\nINSERT INTO t VALUES(1);\n\
         INSERT INTO t VALUES(1);\nCOMMIT;\n",
    );
    verify(&machine, 0, &["dumps"]);
    let report = verify(&machine, 21, &["dumps", "--deep"]);
    let why = problem(&report, "twice-20260101.sql");
    assert!(why.starts_with("load: ") && why.contains("UNIQUE"), "{why}");
    // What fails before is not loaded.
    machine.write("dumps/cut-20260102.sql", "BEGIN TRANSACTION;\nCREATE TABLE t (id INTEGER");
    let report = verify(&machine, 21, &["dumps/cut-20260102.sql", "--deep"]);
    assert!(!report.to_string().contains("\"load\""), "{report}");
}

#[test]
fn questions_are_asked_and_answers_held_against_expectations() {
    let machine = Machine::new();
    machine.database("dumps/app-20260101.db", 50);
    machine.write("dumps/empty-20260102.sql", "BEGIN;\nCREATE TABLE t (id INTEGER);\nCOMMIT;\n");
    let full = "dumps/app-20260101.db";
    let rows = ["--query", "SELECT count(*) FROM t"];
    for (expectations, code) in [
        (&[][..], 0),
        (&["--expect", "> 0"], 0),
        (&["--expect", "50"], 0),
        (&["--expect", "1..49"], 21),
        (&["--expect", "no rows"], 21),
        (&["--expect", "-5"], 21),
    ] {
        verify(&machine, code, &[&[full], &rows[..], expectations].concat());
    }
    let report = verify(&machine, 21, &["dumps", "--deep", rows[0], rows[1]]);
    assert_eq!(item(&report, "app-20260101.db")["valid"], true, "{report}");
    let why = problem(&report, "empty-20260102.sql");
    assert!(why.contains("SELECT count(*) FROM t: 0, expected a value that is not null"), "{why}");
    let two = ["--query", "SELECT max(id) FROM t", "--query", "SELECT text FROM t WHERE id > 50"];
    let report =
        verify(&machine, 0, &[&[full], &two[..], &["--expect", ">= 50", "--expect", "no rows"]].concat());
    let asked: Vec<_> = item(&report, "app-20260101.db")["checks"].as_array().unwrap().iter().collect();
    assert_eq!(asked.iter().filter(|check| check["name"] == "query").count(), 2, "{report}");
    for (sql, words) in [
        ("SELECT count(*) FROM missing", "no such table"),
        ("DELETE FROM t", "not read-only"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("ATTACH '/etc/passwd' AS x", "not read-only"),
    ] {
        let report = verify(&machine, 21, &[full, "--query", sql]);
        assert!(problem(&report, "app-20260101.db").contains(words), "{sql}: {report}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let machine = Machine::new();
    let path = machine.database("dumps/app-20260101.db", 5);
    machine.write("there", "");
    for (arguments, words) in [
        (&["dumps", "--expect", "> 0"][..], "--query"),
        (
            &["dumps", "--query", "SELECT 1", "--query", "SELECT 2", "--expect", "1"],
            "one --expect for each --query",
        ),
        (&["dumps", "--query", "SELECT 1", "--expect", ">"], "'> 0'"),
        (&["dumps", "--deep", "--quick"], "--quick"),
        (&["dumps", "--deep", "--scratch", "there"], "no folder"),
        (&["dumps", "--sqlite-tmp", "there"], "no folder"),
        (&["--deep"], "--deep is for dump files"),
    ] {
        let outcome = machine.run(&[&["verify"], arguments].concat());
        assert_eq!(outcome.code, 2, "{arguments:?}: {}", text(&outcome));
        assert!(outcome.err.contains(words), "{arguments:?}: {}", outcome.err);
    }
    assert!(path.exists() && fs::read(machine.path("there")).unwrap().is_empty());
}

#[test]
fn the_place_is_the_one_that_was_named_and_is_gone_afterwards() {
    let machine = Machine::new();
    machine.database("dumps/app-20260101.db", 50);
    machine.write("kept/import-2024-01/file", "somebody's");
    for option in [&["--deep", "--scratch", "new.db"][..], &["--sqlite-tmp", "new.db"]] {
        let report = verify(&machine, 0, &[&["dumps"], option].concat());
        assert!(report.to_string().contains("loaded into SQLite"), "{report}");
        assert!(!machine.path("new.db").exists(), "{option:?}");
    }
    verify(&machine, 0, &["dumps", "--deep", "--scratch", "kept"]);
    assert_eq!(fs::read_dir(machine.path("kept")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(machine.path("kept/import-2024-01/file")).unwrap(), "somebody's");
    // An endless question shows where the database is meanwhile.
    let mut child = begin(&machine, &["dumps", "--scratch", "new.db", "--query", ENDLESS]);
    assert!(wait_for(&mut child, || in_scratch(&machine.path("new.db"))), "nothing is loaded there");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!machine.path("new.db").exists());
}

fn begin(machine: &Machine, arguments: &[&str]) -> Child {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("backstay"));
    command.env_clear().env("HOME", machine.root.join("home")).env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
    command.env("TMPDIR", &machine.root).current_dir(machine.root.join("here"));
    command.arg("verify").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn wait_for(child: &mut Child, seen: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() && started.elapsed() < Duration::from_secs(60) {
        if seen() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Whether a database of some rows lies in a scratch folder.
fn in_scratch(place: &std::path::Path) -> bool {
    let folders = fs::read_dir(place).into_iter().flatten().flatten();
    folders.into_iter().any(|folder| {
        let database = folder.path().join("1/database.sqlite");
        database.metadata().is_ok_and(|metadata| metadata.len() > 0)
    })
}

#[test]
fn an_interruption_leaves_nothing_and_a_kill_what_the_next_run_removes() {
    let machine = Machine::new();
    machine.database("dumps/app-20260101.db", 50);
    let scratch = machine.root.join("home/.cache/backstay/scratch");
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut child = begin(&machine, &["dumps", "--query", ENDLESS]);
        assert!(wait_for(&mut child, || in_scratch(&scratch)));
        std::thread::sleep(Duration::from_millis(100));
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let (started, status) = (Instant::now(), child.wait().unwrap());
        assert!(started.elapsed() < Duration::from_secs(2));
        if signal == Signal::SIGINT {
            assert_eq!(status.code(), Some(130));
            nothing_left(&machine);
        }
    }
    assert!(in_scratch(&scratch));
    verify(&machine, 0, &["dumps", "--deep"]);
}
