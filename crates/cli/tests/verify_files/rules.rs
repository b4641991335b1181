//! Which files are meant, what they must keep to, and what a run says and returns.

use crate::support::{Machine, fingerprint};
use crate::{item, problem, text, verify};
use jiff::{SignedDuration, Timestamp};
use std::fs;

/// A name of so many hours ago.
pub(crate) fn aged(prefix: &str, hours: i64) -> String {
    let time = Timestamp::now() - SignedDuration::from_hours(hours);
    format!("{prefix}-{}.db", time.strftime("%Y%m%dT%H%M%SZ"))
}

#[test]
fn size_and_age_are_limited() {
    let machine = Machine::new();
    let (young, old) = (aged("app", 20), aged("app", 30));
    machine.database(&format!("dumps/{young}"), 5);
    machine.database(&format!("dumps/{old}"), 5);
    let report = verify(&machine, 21, &["dumps", "--max-age", "25h"]);
    assert!(problem(&report, &old).contains("older than 25 hours"), "{report}");
    assert_eq!(item(&report, &young)["valid"], true);
    let age = item(&report, &young)["age_seconds"].as_i64().unwrap();
    assert!((71_990..72_100).contains(&age), "{age}");
    verify(&machine, 0, &["dumps", "--max-age", "25h", "--latest"]);
    verify(&machine, 0, &["dumps", "--max-age", "2d"]);
    for (options, code) in [
        (&["--min-size", "1kB"][..], 0),
        (&["--min-size", "1MB"], 21),
        (&["--max-size", "1MB"], 0),
        (&["--max-size", "1kB"], 21),
        // The spellings of folder tools.
        (&["--max-age-days", "7", "--min-size-mb", "0.001", "--max-size-gb", "10"], 0),
        (&["--max-age-hours", "25"], 21),
        (&["--min-size-mb", "1"], 21),
        (&["--max-age-days", "1"], 21),
        (&["--min-size-mb", "0"], 0),
    ] {
        verify(&machine, code, &[&["dumps"], options].concat());
    }
}

#[test]
fn the_time_of_a_name_is_meant_in_the_zone() {
    let machine = Machine::new();
    machine.database("dumps/app_20260105_120000.db", 5);
    let report = verify(&machine, 0, &["dumps", "--time-zone", "Europe/Berlin"]);
    assert_eq!(item(&report, "app_20260105_120000.db")["time"], "2026-01-05T11:00:00Z");
    machine.database("dumps/untimed.db", 5);
    let report = verify(&machine, 0, &["dumps/untimed.db"]);
    assert_eq!(item(&report, "untimed.db")["time_source"], "modified");
    assert_eq!(machine.run(&["verify", "dumps", "--time-zone", "Mars"]).code, 2);
}

#[test]
fn folders_patterns_and_the_newest() {
    let machine = Machine::new();
    for name in ["acme-20260101.db", "acme-20260103.db", "other-20260102.db"] {
        machine.database(&format!("dumps/{name}"), 5);
    }
    machine.write("dumps/readme.txt", "nothing");
    machine.write("dumps/broken-20250101.sql.gz", "nothing");
    let names = |report: &serde_json::Value| {
        let files = report["files"].as_array().unwrap().iter();
        files
            .map(|file| file["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&verify(&machine, 21, &["dumps"])).len(), 4);
    let fitting = verify(&machine, 0, &["dumps", "--pattern", "acme-*.db"]);
    assert_eq!(names(&fitting), ["acme-20260101.db", "acme-20260103.db"]);
    assert_eq!(names(&verify(&machine, 0, &["dumps/acme-*.db", "--latest"])), ["acme-20260103.db"]);
    let several = ["dumps/acme-20260101.db", "dumps/acme-20260103.db", "dumps/other-20260102.db", "--latest"];
    assert_eq!(names(&verify(&machine, 0, &several)), ["acme-20260103.db"]);
    let twice = verify(&machine, 0, &["dumps", "dumps/*.db", "--pattern", "*.db", "--pattern", "*.sqlite"]);
    assert_eq!(names(&twice).len(), 3);
    // One that is named and is not there fails beside others.
    let report = verify(&machine, 21, &["dumps/acme-20260101.db", "dumps/gone.db"]);
    assert!(problem(&report, "gone.db").contains("no such file"), "{report}");
}

#[test]
fn what_is_not_there_is_an_error() {
    let machine = Machine::new();
    fs::create_dir(machine.path("empty")).unwrap();
    machine.database("dumps/app-20260101.db", 5);
    for (arguments, code, words) in [
        (&["./gone.db"][..], 20, "no such file"),
        (&["./gone/"], 20, "no such file"),
        (&["dumps/*.gz"], 20, "no file fits"),
        (&["empty"], 20, "holds no dump file"),
        (&["dumps", "--pattern", "*.gz"], 20, "dump"),
        (&["dumps", "--pattern", "["], 2, "pattern"),
        (&["dumps", "--max-age", "7"], 2, "no span of time"),
        (&["dumps", "--min-size", "7"], 2, "7"),
        (&["dumps", "--min-size", "1MB", "--min-size-mb", "1"], 2, "cannot be used with"),
        (&["--latest"], 2, "--latest is for dump files"),
        (&["dumps/app-20260101.db", "dumps/app-20260101.db@latest"], 2, "verify them apart"),
    ] {
        let outcome = machine.run(&[&["verify"], arguments].concat());
        assert_eq!(outcome.code, code, "{arguments:?}: {}", text(&outcome));
        assert!(outcome.err.contains(words), "{arguments:?}: {}", outcome.err);
        let outcome = machine.run(&[&["verify"], arguments, &["--json"]].concat());
        assert_eq!(outcome.json()["error"]["exit_code"], code, "{arguments:?}");
    }
}

#[test]
fn a_run_says_pass_or_fail_a_file_and_writes_its_report() {
    let machine = Machine::new();
    machine.database("dumps/app-20260101.db", 5);
    machine.write("dumps/app-20260102.db", "");
    let before = fingerprint(&machine.path("dumps"));
    let outcome = machine.run(&["verify", "dumps", "--report", "r.json"]);
    assert_eq!(outcome.code, 21, "{}", text(&outcome));
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert!(
        lines[0].starts_with("PASS  ") && lines[0].contains("app-20260101.db  sqlite  8.0 KiB"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("FAIL  ") && lines[2].trim() == "size: is empty", "{lines:?}");
    assert!(outcome.err.contains("1 of 2 files failed") && outcome.err.contains("hint: "), "{}", outcome.err);
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(machine.path("r.json")).unwrap()).unwrap();
    assert_eq!(
        report["summary"],
        serde_json::json!({"total_files": 2, "valid": 1, "invalid": 1, "all_valid": false})
    );
    assert_eq!(report["outcome"], "failed");
    for key in [
        "path",
        "valid",
        "size_bytes",
        "age_seconds",
        "time_source",
        "format",
        "compression",
        "checks",
        "error",
    ] {
        for file in report["files"].as_array().unwrap() {
            assert!(file.as_object().unwrap().contains_key(key), "{key} is not in {file}");
        }
    }
    let quiet = machine.run(&["verify", "dumps/app-20260101.db", "--quiet"]);
    assert_eq!((quiet.code, quiet.err.as_str()), (0, ""), "{}", text(&quiet));
    let planned = machine.done(&["verify", "dumps", "--dry-run"]);
    assert_eq!(planned.out.matches("would verify").count(), 2, "{}", planned.out);
    assert_eq!(before, fingerprint(&machine.path("dumps")));
}

#[test]
fn a_file_that_may_not_be_read_fails() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::getuid().is_root() {
        return;
    }
    let machine = Machine::new();
    let path = machine.database("dumps/app-20260101.db", 5);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let outcome = machine.run(&["verify", "dumps"]);
    assert_eq!(outcome.code, 21, "{}", text(&outcome));
}

#[test]
fn scratch_is_where_it_is_said() {
    let machine = Machine::new();
    let path = machine.database("dumps/app-20260101.db", 50);
    crate::pack("gzip", ".gz", &path);
    fs::create_dir(machine.path("work")).unwrap();
    for place in ["work", "new"] {
        verify(&machine, 0, &["dumps", "--scratch", &machine.text(place)]);
    }
    assert_eq!(fs::read_dir(machine.path("work")).unwrap().count(), 0);
    assert!(!machine.path("new").exists());
    machine.write("file", "");
    let outcome = machine.run(&["verify", "dumps", "--scratch", &machine.text("file/below")]);
    assert_eq!(outcome.code, 21, "{}", text(&outcome));
    assert!(outcome.out.contains("scratch space cannot be used"), "{}", outcome.out);
}
