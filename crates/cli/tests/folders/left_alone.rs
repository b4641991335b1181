//! What is never touched: what is no backup, what is in use, what leads elsewhere, and folders that are something else.

use super::*;
use rustix::fs::FlockOperation;
use std::process::Stdio;

#[test]
fn what_is_no_backup_or_is_in_use_stays() {
    let machine = Machine::new();
    for day in 1..=3 {
        packed(&machine, &format!("acme-2025060{day}.sql.gz"));
        machine.database(&format!("dumps/live-2025060{day}.db"), 3);
    }
    let outside = dump(&machine, "../elsewhere/acme-20250101.sql", SQLITE_TEXT.as_bytes());
    std::os::unix::fs::symlink(&outside, machine.path("dumps/acme-20250102.sql")).unwrap();
    for (name, content) in [
        ("README.md", "keep me"),
        ("report-20250601.txt", "a report"),
        ("acme-20250601.log", "a log"),
        ("backup-20250601.sh", "#!/bin/sh\n"),
        (".acme-20250601.sql", SQLITE_TEXT),
        ("acme.sql", SQLITE_TEXT),
        ("acme-20250601.csv", "a,b\n"),
        ("below/acme-20250601.sql", SQLITE_TEXT),
        ("app.db.safety-20250601T020000Z", "SQLite format 3\0"),
        ("live-20250601.db-wal", "log"),
    ] {
        dump(&machine, name, content.as_bytes());
    }
    let open = std::fs::File::open(machine.path("dumps/live-20250602.db")).unwrap();
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(open)).spawn().unwrap();
    let before = left(&machine);
    let report = prune(&machine, 0, &["--keep-last", "1"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let gone: BTreeSet<String> = before.difference(&left(&machine)).cloned().collect();
    assert_eq!(gone, set(&["acme-20250601.sql.gz", "acme-20250602.sql.gz"]), "{report}");
    assert!(outside.exists() && machine.path("dumps/below/acme-20250601.sql").exists());
    let kept = reasons(&report, "kept");
    let why = |name: &str| kept.iter().find(|(kept, _)| kept == name).unwrap().1.clone();
    assert_eq!(why("live-20250601.db"), "live-20250601.db-wal lies beside it: it may be a live database");
    assert!(why("live-20250602.db").starts_with("is open: sleep (process"), "{kept:?}");
    let skipped = report["skipped"].to_string();
    for (name, why) in [
        ("acme-20250102.sql", "is a symbolic link"),
        ("acme.sql", "has no time in its name"),
        ("app.db.safety-20250601T020000Z", "is a safety copy"),
        (".acme-20250601.sql", "is hidden"),
        ("live-20250601.db-wal", "belongs to the database beside it"),
    ] {
        let item = report["skipped"].as_array().unwrap().iter();
        let mut item = item.filter(|item| item["object"].as_str().unwrap().ends_with(&format!("/{name}")));
        let reason = item.next().unwrap_or_else(|| panic!("{name}: {skipped}"))["reason"].to_string();
        assert!(reason.contains(why), "{name}: {reason}");
    }
    // Nobody has it open any more.
    prune(&machine, 0, &["--keep-last", "1"]);
    assert!(!left(&machine).contains("live-20250602.db") && left(&machine).contains("live-20250603.db"));
}

#[test]
fn a_pattern_says_what_is_a_backup_and_what_is_not() {
    let machine = Machine::new();
    for (name, age_days) in
        [("old.db.gz", 9), ("older.db.gz", 20), ("new.db.gz", 1), ("other-20250601.sql", 500)]
    {
        let path = packed(&machine, name);
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(age_days * 86_400);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
    dump(&machine, "notes.txt", b"no dump");
    // Without a time in their names they are databases by themselves, each its newest: they stay.
    let report = prune(&machine, 0, &["--max-age", "7d", "--pattern", "*.gz"]);
    assert_eq!(report["removed"].as_array().unwrap().len(), 0, "{report}");
    let kept = report["kept"].as_array().unwrap();
    assert!(kept.len() == 3 && kept.iter().all(|item| item["time_source"] == "modified"), "{report}");
    for name in ["shop1-20250601.db.gz", "shop1-20250602.db.gz"] {
        packed(&machine, name);
    }
    let report = prune(&machine, 0, &["--keep-last", "1", "--pattern", "*"]);
    assert_eq!(reasons(&report, "removed").len(), 1, "{report}");
    assert!(left(&machine).contains("notes.txt"), "a star makes no dump of it");
    packed(&machine, "shop1-20250601.db.gz");
    let mut command = machine.command();
    command.env("BACKUP_DEFAULT_PATTERN", "other*").args(["prune", "dumps", "--keep-last", "1", "--json"]);
    let outcome = support::outcome(&mut command);
    assert_eq!((outcome.code, &outcome.json()["removed"]), (0, &serde_json::json!([])), "{}", outcome.out);
    let bad = machine.run(&["prune", "dumps", "--keep-last", "1", "--pattern", "../*"]);
    assert_eq!(bad.code, 2, "{}", bad.err);
}

#[test]
fn names_of_every_kind_are_files_like_others() {
    let machine = Machine::new();
    for day in 1..=2 {
        dump(&machine, &format!("a shop\nof mine -2025060{day}.sql"), SQLITE_TEXT.as_bytes());
        dump(&machine, &format!("-rf 2025060{day}.sql"), SQLITE_TEXT.as_bytes());
        dump(&machine, &format!("$(rm x) 2025060{day}.sql"), SQLITE_TEXT.as_bytes());
    }
    let outcome = machine.done(&["prune", "dumps", "--keep-last", "1"]);
    assert!(outcome.out.contains("a shop\\nof mine -20250601.sql"), "{}", outcome.out);
    let expected = ["$(rm x) 20250602.sql", "-rf 20250602.sql", "a shop\nof mine -20250602.sql"];
    assert_eq!(left(&machine), set(&expected));
}

#[test]
fn sources_and_repositories_are_refused() {
    let machine = Machine::new();
    for day in 1..=3 {
        machine.database(&format!("dumps/app-2025060{day}.db"), 3);
    }
    let all = left(&machine);
    let refused = |arguments: &[&str], says: &str| {
        let outcome = machine.run(arguments);
        assert_eq!(outcome.code, 2, "{arguments:?}: {} {}", outcome.out, outcome.err);
        assert!(outcome.err.contains(says), "{arguments:?}: {}", outcome.err);
        assert_eq!(left(&machine), all, "{arguments:?}");
    };
    refused(&["prune", "dumps"], "no rule says what to keep");
    refused(&["prune", "dumps", "--min-keep", "3"], "--min-keep alone is no rule");
    refused(&["prune", "dumps", "--keep-last", "1", "--forget-only"], "--forget-only");
    for source in
        ["dumps", "dumps/*.db", "dumps/app-{tenant}.db", "dumps/app-20250601.db", "*/app-20250601.db"]
    {
        machine.write("backstay.toml", &format!("[targets.shop]\nsource = \"{source}\"\n"));
        refused(&["prune", "dumps", "--keep-last", "1"], "is or contains a configured source");
        refused(&["prune", ".", "--keep-last", "1"], "is or contains a configured source");
    }
    std::fs::remove_file(machine.path("backstay.toml")).unwrap();
    machine.done(&["backup", "dumps/app-20250602.db"]);
    refused(&["prune", "dumps", "--keep-last", "1"], "is or contains a source of backups");
    refused(&["prune", ".", "--keep-last", "1"], "is or contains a source of backups");
    let repository = machine.root.join("home/.local/share/backstay/repository").display().to_string();
    refused(&["prune", &repository, "--keep-last", "1"], "is a repository");
    let missing = machine.run(&["prune", "nowhere", "--keep-last", "1"]);
    assert_ne!(missing.code, 0, "{}", missing.out);
}

#[test]
fn what_was_imported_is_no_source() {
    let machine = Machine::new();
    for day in 1..=3 {
        machine.database(&format!("dumps/app-2025060{day}.db"), 3);
    }
    machine.done(&["import", "dumps"]);
    prune(&machine, 0, &["--keep-last", "1"]);
    assert_eq!(left(&machine), set(&["app-20250603.db"]));
}

#[test]
fn one_prunes_at_a_time_and_nobody_reads_meanwhile() {
    let machine = Machine::new();
    for day in 1..=9 {
        packed(&machine, &format!("acme-2025060{day}.sql.gz"));
    }
    let folder = std::fs::File::open(machine.path("dumps")).unwrap();
    for kind in [FlockOperation::NonBlockingLockShared, FlockOperation::NonBlockingLockExclusive] {
        rustix::fs::flock(&folder, kind).unwrap();
        let outcome = machine.run(&["prune", "dumps", "--keep-last", "1"]);
        assert_eq!(outcome.code, 11, "{}", outcome.err);
        assert!(outcome.err.contains(&machine.text("dumps")), "{}", outcome.err);
        assert_eq!(left(&machine).len(), 9);
        machine.done(&["prune", "dumps", "--keep-last", "1", "--dry-run"]);
    }
    drop(folder);
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let mut command = machine.command();
            command.args(["prune", "dumps", "--keep-last", "3"]);
            std::thread::spawn(move || support::outcome(&mut command))
        })
        .collect();
    let codes: Vec<i32> = runs.into_iter().map(|run| run.join().unwrap().code).collect();
    assert!(codes.contains(&0) && codes.iter().all(|code| [0, 11].contains(code)), "{codes:?}");
    assert_eq!(
        left(&machine),
        set(&["acme-20250607.sql.gz", "acme-20250608.sql.gz", "acme-20250609.sql.gz"])
    );
}
