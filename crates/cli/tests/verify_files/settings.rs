//! What tools for folders of dump files are told by variables and by their JSON configuration.

use crate::rules::aged;
use crate::support::{self, Machine, Outcome};
use crate::{item, problem, text, verify};

fn with(machine: &Machine, variables: &[(&str, &str)], arguments: &[&str]) -> Outcome {
    support::outcome(machine.command().envs(variables.iter().copied()).args(arguments))
}

#[test]
fn variables_and_the_section_stand_for_options_of_verify() {
    let machine = Machine::new();
    let name = aged("app", 30);
    machine.database(&format!("dumps/{name}"), 5);
    machine.write("dumps/other-20260101.sql.gz", "no backup");
    let pattern = ("BACKUP_DEFAULT_PATTERN", "*.db");
    for (variables, arguments, code) in [
        (&[pattern][..], &["verify", "dumps"][..], 0),
        (&[], &["verify", "dumps"], 21),
        (&[pattern], &["verify", "dumps", "--pattern", "*.gz"], 21),
        (&[pattern, ("BACKUP_MAX_AGE_DAYS", "1")], &["verify", "dumps"], 21),
        (&[pattern, ("BACKUP_MAX_AGE_DAYS", "1")], &["verify", "dumps", "--max-age-days", "7"], 0),
        (&[pattern, ("BACKUP_MIN_SIZE_MB", "1")], &["verify", "dumps"], 21),
        (&[pattern, ("BACKUP_MIN_SIZE_MB", "1")], &["verify", "dumps", "--min-size-mb", "0"], 0),
        (&[pattern, ("BACKUP_MIN_SIZE_MB", "0"), ("BACKUP_MAX_SIZE_GB", "10")], &["verify", "dumps"], 0),
        (&[pattern, ("BACKUP_MAX_SIZE_GB", "0.000001")], &["verify", "dumps"], 21),
        (&[pattern, ("BACKUP_MAX_AGE_DAYS", "soon")], &["verify", "dumps"], 2),
        (&[pattern, ("BACKUP_MIN_SIZE_MB", "much")], &["verify", "dumps"], 2),
        (&[("BACKUP_DEFAULT_PATTERN", "[")], &["verify", "dumps"], 2),
    ] {
        let outcome = with(&machine, variables, arguments);
        assert_eq!(outcome.code, code, "{variables:?} {arguments:?}: {}", text(&outcome));
    }
    let settings = r#"{ "validation": { "max_age_days": 1, "min_size_mb": 0.001, "max_size_gb": 10,
        "file_patterns": ["*.db", "*.db.gz", "*.sqlite", "*.sqlite.gz"] } }"#;
    machine.write("tools.json", settings);
    let report = verify(&machine, 21, &["dumps", "--config", "tools.json"]);
    assert_eq!(report["summary"]["total_files"], 1, "{report}");
    assert!(problem(&report, &name).contains("older than 1 day"), "{report}");
    verify(&machine, 0, &["dumps", "--config", "tools.json", "--max-age", "2d"]);
    // A variable stands before the section.
    let by_variable =
        with(&machine, &[("BACKUP_MAX_AGE_DAYS", "2")], &["verify", "dumps", "--config", "tools.json"]);
    assert_eq!(by_variable.code, 0, "{}", text(&by_variable));
    // What is named is meant, whatever patterns say.
    let named = machine.run(&["verify", "dumps/other-20260101.sql.gz", "--config", "tools.json"]);
    assert_eq!(named.code, 21, "{}", text(&named));
    let toml = "[validation]\nmin_size_mb = 1\n";
    machine.write("tools.toml", toml);
    let report = verify(&machine, 21, &["dumps", "--pattern", "*.db", "--config", "tools.toml"]);
    assert!(item(&report, &name)["error"].as_str().unwrap().contains("fewer than the 1048576"), "{report}");
}

#[test]
fn the_pattern_of_the_variable_is_that_of_a_restore_too() {
    let machine = Machine::new();
    machine.database("dumps/app-20260101.db", 5);
    machine.database("dumps/app-20260102.sqlite", 7);
    let arguments = ["restore", "dumps", "--target", "srv/app.db", "--yes"];
    std::fs::create_dir(machine.path("srv")).unwrap();
    let outcome = with(&machine, &[("BACKUP_DEFAULT_PATTERN", "*.db")], &arguments);
    assert_eq!(outcome.code, 0, "{}", text(&outcome));
    assert_eq!(support::count(&machine.path("srv/app.db")), 5);
    let named = ["restore", "dumps/app-20260102.sqlite", "--target", "srv/app.db", "--yes"];
    let outcome = with(&machine, &[("BACKUP_DEFAULT_PATTERN", "*.db")], &named);
    assert_eq!(outcome.code, 0, "{}", text(&outcome));
    assert_eq!(support::count(&machine.path("srv/app.db")), 7);
}

/// The whole example of such a configuration.
const TOOLS: &str = r#"{ "validation":  { "max_age_days": 30, "min_size_mb": 0, "max_size_gb": 10,
                  "file_patterns": ["*.db", "*.db.gz", "*.sqlite", "*.sqlite.gz"] },
  "pruning":     { "default_age_days": 30, "default_keep_count": 20, "default_max_size_gb": 50 },
  "restoration": { "verify_integrity": true, "create_safety_backup": true, "safety_backup_suffix": ".safety" },
  "logging":     { "level": "INFO", "format": "%(asctime)s - %(levelname)s - %(message)s" } }"#;

#[test]
fn lines_look_as_the_section_says() {
    let machine = Machine::new();
    let name = aged("app", 30);
    machine.database(&format!("dumps/{name}"), 5);
    machine.write("dumps/readme.txt", "nothing");
    machine.write("tools.json", TOOLS);
    let outcome = machine.done(&["verify", "dumps", "--config", "tools.json"]);
    let time = |line: &str| line.as_bytes().get(19) == Some(&b',') && line.starts_with("20");
    assert!(outcome.err.lines().all(time), "{}", outcome.err);
    assert!(outcome.err.contains(" - INFO - Verified 1 file "), "{}", outcome.err);
    assert!(outcome.out.starts_with("PASS  "), "{}", outcome.out);
    let outcome = machine.run(&["verify", "gone/*.db", "--config", "tools.json"]);
    assert_eq!(outcome.code, 20, "{}", text(&outcome));
    assert!(outcome.err.lines().all(time), "{}", outcome.err);
    assert!(outcome.err.contains(" - ERROR - ") && !outcome.err.contains("error:"), "{}", outcome.err);

    let level = |level: &str| with(&machine, &[("BACKUP_LOG_LEVEL", level)], &["verify", "dumps"]).err;
    assert!(level("debug").contains("readme.txt") && level("INFO").contains("Verified 1 file"));
    assert_eq!(level("WARNING"), "");
    let both = [("BACKUP_LOG_LEVEL", "WARNING"), ("BACKUP_SAFETY_CHECKS", "false")];
    let warned = with(&machine, &both, &["verify", "dumps"]).err;
    assert!(warned.starts_with("warning: BACKUP_SAFETY_CHECKS"), "{warned}");
    let both = [("BACKUP_LOG_LEVEL", "ERROR"), ("BACKUP_SAFETY_CHECKS", "false")];
    assert_eq!(with(&machine, &both, &["verify", "dumps"]).err, "");
    // What the command line says stands before it.
    let verbose = with(&machine, &[("BACKUP_LOG_LEVEL", "ERROR")], &["verify", "dumps", "--verbose"]).err;
    assert!(verbose.contains("readme.txt"), "{verbose}");

    let format = [("BACKUP_LOG_FORMAT", "<%(levelname)-8s> %(message)s")];
    let outcome = with(&machine, &format, &["verify", "dumps", "--config", "tools.json"]);
    assert!(outcome.err.starts_with("<INFO    > "), "{}", outcome.err);
    let format = [("BACKUP_LOG_FORMAT", "backup: %(message)s")];
    let outcome = with(&machine, &format, &["verify", "gone.db"]);
    assert!(outcome.err.starts_with("backup: error: "), "{}", outcome.err);
    for (variable, value) in [
        ("BACKUP_LOG_LEVEL", "loud"),
        ("BACKUP_LOG_FORMAT", "%(thread)s %(message)s"),
        ("BACKUP_SAFETY_CHECKS", "perhaps"),
    ] {
        let outcome = with(&machine, &[(variable, value)], &["verify", "dumps"]);
        assert_eq!(outcome.code, 2, "{variable}: {}", text(&outcome));
        assert!(outcome.err.contains(variable), "{}", outcome.err);
    }
}

#[test]
fn checks_that_shall_be_left_out_are_warned_of_on_each_run() {
    let machine = Machine::new();
    machine.database("dumps/app-20260101.db", 5);
    for arguments in [
        &["verify", "dumps"][..],
        &["verify", "dumps", "--quiet"],
        &["prune", "dumps", "--keep-last", "2"],
        &["list", "dumps"],
        &["backup", "dumps/app-20260101.db", "--out", "copy.db"],
        &["restore", "dumps/app-20260101.db", "--target", "new.db", "--yes"],
    ] {
        let outcome = with(&machine, &[("BACKUP_SAFETY_CHECKS", "False")], arguments);
        assert_eq!(outcome.code, 0, "{arguments:?}: {}", text(&outcome));
        assert_eq!(outcome.err.matches("BACKUP_SAFETY_CHECKS").count(), 1, "{arguments:?}: {}", outcome.err);
        let _ = std::fs::remove_file(machine.path("new.db"));
        let outcome = with(&machine, &[("BACKUP_SAFETY_CHECKS", "true")], &["verify", "dumps"]);
        assert!(!outcome.err.contains("BACKUP_SAFETY_CHECKS"), "{}", outcome.err);
    }
}
