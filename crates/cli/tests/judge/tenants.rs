//! A folder of hundreds of databases: few files open at a time, the unchanged ones never opened again, and one of them
//! restored without a look into the others. Counted by the system calls of the program.

use crate::seams::{Place, both, sql, tree};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const TENANTS: usize = 500;
/// Fewer than there are databases by far, and as many as a program with a repository open needs.
const OPEN_FILES_MAX: usize = 64;

struct Tenants {
    place: Place,
    folder: PathBuf,
}

impl Tenants {
    fn new() -> Self {
        let place = Place::new();
        let first = place.machine.database("shops/t000.db", 50);
        for number in 1..TENANTS {
            std::fs::copy(&first, first.with_file_name(format!("t{number:03}.db"))).unwrap();
        }
        place.machine.write("backstay.toml", "[targets.shops]\nsource = \"./shops\"\n");
        Self { folder: place.path("shops").canonicalize().unwrap(), place }
    }

    /// Runs the program with few files allowed, and returns which databases it opened.
    fn opened(&self, arguments: &[&str]) -> BTreeSet<PathBuf> {
        let trace = self.place.path("trace");
        let plain = self.place.process(arguments);
        let mut limited = Command::new("/bin/sh");
        limited
            .arg("-c")
            .arg(format!(
                "ulimit -n {OPEN_FILES_MAX}; exec strace -f -qq -e trace=open,openat,openat2 -o \"$@\""
            ))
            .arg("sh")
            .arg(&trace)
            .arg(plain.get_program())
            .args(plain.get_args())
            .env_clear()
            .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(self.place.path(""));
        let output = limited.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", both(&output));
        let trace = std::fs::read_to_string(&trace).unwrap();
        let quoted = trace.lines().filter_map(|line| line.split('"').nth(1));
        let is_database = |path: &&Path| path.extension().is_some_and(|ending| ending == "db");
        let databases = quoted.map(Path::new).filter(|path| path.starts_with(&self.folder));
        databases.filter(is_database).map(Path::to_owned).collect()
    }
}

#[test]
fn of_hundreds_of_databases_only_those_that_changed_or_are_meant_are_opened() {
    let tenants = Tenants::new();
    // Marks younger than two seconds prove nothing.
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(tenants.opened(&["backup", "shops"]).len(), TENANTS);
    assert_eq!(tenants.opened(&["backup", "shops"]), BTreeSet::new(), "nothing has changed");

    let changed = tenants.folder.join("t123.db");
    sql(&changed, "UPDATE t SET text = 'other' WHERE id = 7");
    assert_eq!(tenants.opened(&["backup", "shops"]), BTreeSet::from([changed.clone()]));
    tenants.place.restic(&["check", "--read-data"]);

    let before = tree(&tenants.folder);
    let meant = BTreeSet::from([changed.clone()]);
    let dry_run = tenants.opened(&["restore", "shops/t123.db", "--dry-run"]);
    assert!(dry_run.is_subset(&meant), "{dry_run:?}");
    assert_eq!(tree(&tenants.folder), before, "a dry run changes nothing");
    sql(&changed, "DELETE FROM t");
    let restored = tenants.opened(&["restore", "shops/t123.db", "--confirm", "shops/t123.db", "--no-safety"]);
    assert!(restored.is_subset(&meant), "{restored:?}");
    assert_eq!(tree(&tenants.folder), before, "the one is back and no other was touched");
}

#[test]
fn of_hundreds_of_databases_a_run_tells_in_a_few_lines_which_failed_vanished_and_are_new() {
    let tenants = Tenants::new();
    let place = &tenants.place;
    place.machine.write("backstay.toml", "[targets.shops]\nsource = \"./shops/*.db\"\n");
    std::thread::sleep(Duration::from_millis(2100));
    let first = place.done(&["backup", "shops"]);
    assert_eq!(first.out.lines().count(), 20, "{}", first.out);
    assert!(first.err.contains("480 more") && first.err.contains("Backed up 500 databases"), "{}", first.err);

    sql(&tenants.folder.join("t123.db"), "UPDATE t SET text = 'other' WHERE id = 7");
    std::fs::write(tenants.folder.join("t200.db"), "this is text, no database\n").unwrap();
    std::fs::remove_file(tenants.folder.join("t300.db")).unwrap();
    std::fs::copy(tenants.folder.join("t000.db"), tenants.folder.join("t500.db")).unwrap();
    let outcome = place.run(&["backup", "shops"]);
    assert_eq!(outcome.code, 3, "{}", outcome.err);
    let shown: Vec<&str> = outcome.out.lines().collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown[0].contains("shops/t123.db") && shown[1].contains("shops/t500.db"), "{shown:?}");
    assert!(outcome.err.lines().count() < 12, "{}", outcome.err);
    for told in ["1 new: shops/t500.db", "1 vanished: shops/t300.db", "t200.db", "1 of 500 databases failed"]
    {
        assert!(outcome.err.contains(told), "{told}: {}", outcome.err);
    }

    let report = place.run(&["backup", "shops", "--json"]).json();
    let backups = report["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 500, "each of them");
    let failed: Vec<_> = backups.iter().filter(|backup| !backup["error"].is_null()).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0]["database"], "t200.db");
    assert_eq!(report["vanished"][0]["database"], "t300.db", "{}", report["vanished"]);
    place.restic(&["check"]);
}

#[test]
fn a_file_of_a_folder_that_is_no_database_any_more_has_failed_and_did_not_vanish() {
    let place = Place::new();
    for name in ["shops/a.db", "shops/b.db"] {
        place.machine.database(name, 50);
    }
    place.machine.write("backstay.toml", "[targets.shops]\nsource = \"./shops\"\n");
    place.done(&["backup", "shops"]);
    std::fs::write(place.path("shops/b.db"), vec![0x5a; 8192]).unwrap();
    std::fs::write(place.path("shops/notes.txt"), "this was never one\n").unwrap();
    let outcome = place.run(&["backup", "shops", "--json"]);
    assert_eq!(outcome.code, 3, "{}", outcome.err);
    let report = outcome.json();
    assert_eq!(report["vanished"].as_array().unwrap().len(), 0, "{}", report["vanished"]);
    let failed = |backup: &&serde_json::Value| !backup["error"].is_null();
    let failed: Vec<_> = report["backups"].as_array().unwrap().iter().filter(failed).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0]["database"], "b.db");
    assert_eq!(report["skipped"].as_array().unwrap().len(), 1, "{}", report["skipped"]);
}
