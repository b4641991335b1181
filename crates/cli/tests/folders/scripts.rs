//! The lines of scripts that `prune FOLDER` replaces: the same files left, the spellings and the settings of folder tools.

use super::*;
use std::time::{Duration, SystemTime};

fn aged(machine: &Machine, now: SystemTime, days: u64) -> String {
    let time = now - Duration::from_secs(days * 86_400 + 3600);
    let date = jiff::Timestamp::try_from(time).unwrap().strftime("%Y%m%d_%H%M%S").to_string();
    let name = format!("acme_{date}.sql.gz");
    let path = packed(machine, &name);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    name
}

#[test]
fn find_mtime_delete_leaves_the_same_files() {
    let (old, ours) = (Machine::new(), Machine::new());
    let now = SystemTime::now();
    for days in [0, 1, 6, 8, 29, 32, 45, 100] {
        assert_eq!(aged(&old, now, days), aged(&ours, now, days));
    }
    let folder = old.text("dumps");
    let status = Command::new("find")
        .args([&folder, "-name", "*.sql.gz", "-mtime", "+30", "-delete"])
        .status()
        .unwrap();
    assert!(status.success());
    prune(&ours, 0, &["--pattern", "*.sql.gz", "--max-age", "30d"]);
    assert_eq!(left(&ours), left(&old));
    assert_eq!(left(&ours).len(), 5);
}

#[test]
fn where_backups_failed_for_weeks_find_takes_the_last_good_one_and_ours_does_not() {
    let (old, ours) = (Machine::new(), Machine::new());
    let now = SystemTime::now();
    for machine in [&old, &ours] {
        aged(machine, now, 40);
        let name = aged(machine, now, 35);
        for days in [1, 2, 3] {
            let broken = aged(machine, now, days);
            std::fs::write(machine.path("dumps").join(broken), b"").unwrap();
        }
        assert!(left(machine).contains(&name));
    }
    let folder = old.text("dumps");
    Command::new("find").args([&folder, "-name", "*.gz", "-mtime", "+30", "-delete"]).status().unwrap();
    assert!(
        names(&old.path("dumps"))
            .iter()
            .all(|name| { std::fs::metadata(old.path("dumps").join(name)).unwrap().len() == 0 })
    );
    let report = prune(&ours, 0, &["--age-days", "30"]);
    let whole = |name: &String| std::fs::metadata(ours.path("dumps").join(name)).unwrap().len() > 0;
    assert_eq!(left(&ours).iter().filter(|name| whole(name)).count(), 1, "{report}");
}

#[test]
fn spellings_and_settings_of_folder_tools_are_read() {
    let machine = Machine::new();
    let fill = || (1..=9).for_each(|day| drop(packed(&machine, &format!("acme-2025060{day}.sql.gz"))));
    fill();
    let report = machine.path("r.json").display().to_string();
    machine.done(&[
        "prune",
        "dumps",
        "--age-days",
        "30",
        "--keep-count",
        "4",
        "--max-size-gb",
        "0.5",
        "--report",
        &report,
    ]);
    assert_eq!(left(&machine).len(), 4);
    let report: Value = serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap();
    assert_eq!(report["removed"].as_array().unwrap().len(), 5);
    fill();
    let settings = |text: &str| machine.write("tools.json", text).display().to_string();
    let file = settings(
        r#"{ "pruning": { "default_age_days": 30, "default_keep_count": 6, "default_max_size_gb": 50 } }"#,
    );
    machine.done(&["prune", "dumps", "--config", &file]);
    assert_eq!(left(&machine).len(), 6);
    // What is given goes before it.
    machine.done(&["prune", "dumps", "--config", &file, "--keep-last", "2"]);
    assert_eq!(left(&machine).len(), 2);
    for (text, says) in [
        (r#"{ "pruning": { "default_days": 30 } }"#, "unknown key"),
        (r#"{ "pruning": { "default_keep_count": 0 } }"#, "out of range"),
        (r#"{ "pruning": { "default_max_size_gb": -1 } }"#, "out of range"),
    ] {
        let outcome = machine.run(&["prune", "dumps", "--config", &settings(text)]);
        assert_eq!(outcome.code, 2, "{text}: {}", outcome.err);
        assert!(
            outcome.err.contains(says) && outcome.err.contains("tools.json:1:"),
            "{text}: {}",
            outcome.err
        );
    }
    let mut command = machine.command();
    command.env("BACKUP_SAFETY_CHECKS", "false").args(["prune", "dumps", "--keep-last", "2"]);
    let outcome = support::outcome(&mut command);
    assert!(outcome.code == 0 && outcome.err.contains("BACKUP_SAFETY_CHECKS"), "{}", outcome.err);
}
