//! The scripts that run by themselves, with our commands in them, run by a shell: when all is well they are silent, and each
//! raises its alarm when it must.

use super::*;
use jiff::{SignedDuration, Timestamp};
use std::fs;
use std::os::unix::fs::symlink;

/// Runs a script in the folder of the machine, with the program on its path.
fn run(machine: &Machine, script: &str, arguments: &[&str]) -> (i32, String) {
    let bin = machine.root.join("bin");
    if fs::create_dir(&bin).is_ok() {
        symlink(assert_cmd::cargo::cargo_bin!("backstay"), bin.join("backstay")).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old_lines/scripts").join(script);
    let output = Command::new("sh")
        .arg(path)
        .args(arguments)
        .env_clear()
        .envs(testkit::counters())
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()))
        .env("HOME", machine.root.join("home"))
        .env("TZ", "UTC")
        .env("TMPDIR", &machine.root)
        .current_dir(machine.path("."))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

fn alerts(machine: &Machine) -> String {
    let text = fs::read_to_string(machine.path("alerts")).unwrap_or_default();
    let _ = fs::remove_file(machine.path("alerts"));
    text
}

fn ago(hours: i64) -> String {
    (Timestamp::now() - SignedDuration::from_hours(hours)).strftime("%Y%m%d_%H%M%S").to_string()
}

#[test]
fn a_daily_validation_alerts_by_exit_code_and_report() {
    let machine = Machine::new();
    machine.database(&format!("dumps/app_{}.db", ago(30)), 5);
    machine.database(&format!("dumps/app_{}.db", ago(2)), 5);
    let daily = || run(&machine, "daily-validation.sh", &["dumps", "r.json"]);
    assert_eq!((daily(), alerts(&machine)), ((0, String::new()), String::new()));
    machine.database(&format!("dumps/old_{}.db", ago(24 * 8)), 5);
    machine.write(&format!("dumps/app_{}.sql.gz", ago(1)), "no gzip");
    assert_eq!(daily().0, 1);
    let told = alerts(&machine);
    assert!(told.starts_with("dumps of dumps: exit 21, 2 of 4 bad\n"), "{told}");
    assert!(told.contains("older than 7 days") && told.contains("is not packed so"), "{told}");
    // The disk is not mounted: an empty folder is no success.
    fs::remove_dir_all(machine.path("dumps")).unwrap();
    fs::create_dir(machine.path("dumps")).unwrap();
    assert_eq!(daily().0, 1);
    assert!(alerts(&machine).starts_with("dumps of dumps: exit 20, none of no bad"));
}

#[test]
fn a_weekly_prune_by_age_count_and_size_reports() {
    let machine = Machine::new();
    for days in [1, 2, 3, 10, 20, 29, 31, 40, 60, 90] {
        machine.database(&format!("dumps/app_{}.db", ago(days * 24)), 5);
    }
    assert_eq!(run(&machine, "weekly-prune.sh", &["dumps", "pruned.json"]), (0, String::new()));
    let mail = || fs::read_to_string(machine.path("mail")).unwrap();
    // Six are young enough, and the number says that five stay anyway.
    assert_eq!(mail(), format!("removed 4, kept 6, freed {} bytes\n", 4 * 8192));
    // 8192 bytes each: three fit into 0.000025 GiB.
    assert_eq!(run(&machine, "weekly-prune.sh", &["dumps", "pruned.json", "0.000025"]).0, 0);
    assert_eq!(mail().lines().last().unwrap(), format!("removed 3, kept 3, freed {} bytes", 3 * 8192));
    let left = names(&machine.path("dumps"));
    assert_eq!(left.len(), 3, "{left:?}");
    // Nothing to do is no error; a folder that is not there is one.
    assert_eq!(run(&machine, "weekly-prune.sh", &["dumps", "pruned.json"]).0, 0);
    assert_ne!(run(&machine, "weekly-prune.sh", &["gone", "pruned.json"]).0, 0);
}

#[test]
fn a_health_monitor_tells_each_database_apart() {
    let machine = Machine::new();
    machine.database(&format!("dumps/acme-{}.db", ago(20)), 5);
    machine.database(&format!("dumps/bolt-{}.db", ago(26)), 5);
    machine.database(&format!("dumps/corp-{}.db", ago(30)), 5);
    machine.write(&format!("dumps/corp-{}.db", ago(1)), "");
    let (code, said) = run(&machine, "health-monitor.sh", &["dumps", "acme", "bolt", "corp", "gone"]);
    assert_eq!((code, said.as_str()), (2, "OK acme\nCRITICAL bolt\nCRITICAL corp\nCRITICAL gone\n"));
    assert_eq!(run(&machine, "health-monitor.sh", &["dumps", "acme"]), (0, "OK acme\n".to_owned()));
}

#[test]
fn a_nightly_run_backs_up_the_tenants_of_an_env_file() {
    let machine = Machine::new();
    fs::create_dir(machine.path("dumps")).unwrap();
    for tenant in ["acme", "bolt", "corp"] {
        machine.database(&format!("tenants/{tenant}.db"), 3);
    }
    machine.write(
        "backstay.toml",
        "[repositories.dumps]\npath = \"dumps\"\nlayout = \"files\"\nnames = \"{database}-{timestamp}.{ext}\"\n\
         [targets.shops]\nsource = \"tenants/{tenant}.db\"\ntenants = { file = \"tenants.env\" }\n\
         [targets.shops.plans.nightly]\nform = \"sql.gz\"\nkeep = { last = 2 }\n",
    );
    machine.write("tenants.env", "TENANTS=\"acme bolt\"\n");
    let nightly = || run(&machine, "nightly-tenants.sh", &[]);
    assert_eq!((nightly(), alerts(&machine)), ((0, String::new()), String::new()));
    let dumps = || {
        let names = names(&machine.path("dumps"));
        names.into_iter().filter(|name| name.ends_with(".sql.gz")).collect::<Vec<_>>()
    };
    assert_eq!(dumps().len(), 2);
    // A new tenant is taken along; one without a database takes nobody with it.
    machine.write("tenants.env", "TENANTS=\"acme corp gone\"\n");
    assert_eq!(nightly().0, 3);
    assert_eq!(alerts(&machine), "tenant gone has no backup\n");
    let made = dumps();
    assert_eq!(made.iter().filter(|name| name.starts_with("corp-")).count(), 1, "{made:?}");
    assert_eq!(made.iter().filter(|name| name.starts_with("acme-")).count(), 2, "{made:?}");
    let newest = made.iter().rfind(|name| name.starts_with("corp-")).unwrap();
    assert_eq!(code(&machine, &format!("gunzip -c dumps/{newest} | sqlite3 back.db")), 0);
    assert_eq!(content(&machine.path("back.db")), content(&machine.path("tenants/corp.db")));
}

#[test]
fn a_weekly_verification_loads_the_newest_dump_of_each_tenant() {
    let machine = Machine::new();
    let text = content(&machine.database("source.db", 40));
    for (tenant, day) in [("acme", 1), ("acme", 2), ("bolt", 1), ("bolt", 2)] {
        machine.write(&format!("dumps/{tenant}-2026010{day}.sql"), &text);
    }
    let weekly = |tenants: &[&str]| run(&machine, "weekly-verify.sh", &[&["dumps"], tenants].concat());
    assert_eq!((weekly(&["acme", "bolt"]), alerts(&machine)), ((0, String::new()), String::new()));
    let report = fs::read_to_string(machine.path("verify-acme.json")).unwrap();
    assert!(report.contains("acme-20260102.sql") && !report.contains("acme-20260101.sql"), "{report}");
    assert!(report.contains("loaded into SQLite") && report.contains("1 table, 40 rows"), "{report}");
    assert!(!machine.path("verify-tmp.db").exists());
    // The newest of one reads well and makes no database; an older one does not help.
    machine.write("dumps/bolt-20260103.sql", &text.replace("VALUES(2,", "VALUES(1,"));
    assert_eq!(weekly(&["acme", "bolt", "gone"]).0, 1);
    let told = alerts(&machine);
    assert!(
        told.starts_with("bolt: load: ") && told.contains("UNIQUE") && told.contains("\ngone: "),
        "{told}"
    );
    assert!(!machine.path("verify-tmp.db").exists());
}

#[test]
fn an_emergency_restore_stops_keeps_and_starts() {
    let machine = Machine::new();
    machine.database("dumps/app-20260101.db", 5);
    machine.database("dumps/app-20260102.db", 7);
    machine.database("srv/app.db", 99);
    fs::create_dir(machine.path("safe")).unwrap();
    assert_eq!(run(&machine, "emergency-restore.sh", &["safe"]), (0, String::new()));
    assert_eq!(support::count(&machine.path("srv/app.db")), 7);
    assert_eq!(fs::read_to_string(machine.path("service")).unwrap(), "stop\nstart\n");
    let kept = names(&machine.path("safe"));
    assert_eq!(support::count(&machine.path("safe").join(&kept[0])), 99, "{kept:?}");
    // A newest dump that is worth nothing stops it before anything is stopped.
    machine.write("dumps/app-20260103.db", "");
    fs::remove_file(machine.path("service")).unwrap();
    let (code, said) = run(&machine, "emergency-restore.sh", &["safe"]);
    assert_eq!(code, 20, "{said}");
    assert!(said.contains("app-20260102.db") && !machine.path("service").exists(), "{said}");
    assert_eq!(support::count(&machine.path("srv/app.db")), 7);
}
