//! Backups into a folder whose disk is full, that may not be written, or that others work in: a file has its name only when
//! it is whole, what was there stays, and what a dead process left goes with the next run.

use super::*;
use rustix::fs::FlockOperation;
use std::os::unix::fs::PermissionsExt;

const CONFIGURATION: &str = "[repositories.dumps]\npath = \"dumps\"\nlayout = \"files\"\n[targets.shop]\nsource = \"shop.db\"\n\
    [targets.shop.plans.daily]\nform = \"db\"\nkeep = { last = 3 }\n";

fn machine() -> Machine {
    let machine = Machine::new();
    machine.write("backstay.toml", CONFIGURATION);
    std::fs::create_dir(machine.path("dumps")).unwrap();
    machine.database("shop.db", 50);
    machine
}

fn dumps(machine: &Machine) -> Vec<String> {
    left(machine).into_iter().filter(|name| !name.ends_with(".json")).collect()
}

/// A small disk in memory at the folder of dumps, gone with the value; `None` where this user may mount none.
struct SmallDisk(PathBuf);

impl SmallDisk {
    #[allow(clippy::print_stderr, reason = "what a run leaves out is to be seen")]
    fn mount(path: PathBuf, size: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path);
        let mounted = nix::unistd::geteuid().is_root() && mount.status().unwrap().success();
        if !mounted {
            eprintln!("left out: no small disk can be mounted here");
        }
        mounted.then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_is_full_leaves_what_was_there_and_no_half_file() {
    let machine = machine();
    let Some(disk) = SmallDisk::mount(machine.path("dumps"), "1m") else { return };
    machine.done(&["backup", "shop"]);
    let before = left(&machine);
    rusqlite::Connection::open(machine.path("shop.db"))
        .unwrap()
        .execute_batch("CREATE TABLE noise AS SELECT randomblob(3000000) AS b")
        .unwrap();
    for form in ["db", "sql", "db.zst", "sql.gz"] {
        machine.write("backstay.toml", &CONFIGURATION.replace("\"db\"", &format!("\"{form}\"")));
        let full = machine.run(&["backup", "shop", "--json"]);
        assert_eq!(full.code, 1, "{form}: {} {}", full.out, full.err);
        let report = full.json();
        assert_eq!(report["outcome"], "failed", "{report}");
        assert!(full.err.contains("No space left on device") && full.err.contains("hint: "), "{}", full.err);
        assert_eq!(left(&machine), before, "{form}");
    }
    // With space it goes on at once.
    drop(disk);
    machine.done(&["backup", "shop"]);
    assert_eq!(dumps(&machine).len(), 1);
}

#[test]
fn a_folder_that_may_not_be_written_is_told_with_its_path() {
    let machine = machine();
    let may = |mode: u32| {
        std::fs::set_permissions(machine.path("dumps"), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    may(0o555);
    // Root may write everywhere: then the disk is one that nobody may write to.
    let disk = if nix::unistd::geteuid().is_root() {
        let Some(disk) = SmallDisk::mount(machine.path("dumps"), "1m") else { return };
        let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).status().unwrap();
        assert!(remounted.success());
        Some(disk)
    } else {
        None
    };
    let refused = machine.run(&["backup", "shop"]);
    assert_eq!(refused.code, 1, "{} {}", refused.out, refused.err);
    assert!(
        refused.err.contains(&machine.text("dumps")) && refused.err.contains("hint: "),
        "{}",
        refused.err
    );
    drop(disk);
    may(0o755);
    machine.done(&["backup", "shop"]);
    std::fs::rename(machine.path("dumps"), machine.path("away")).unwrap();
    let missing = machine.run(&["backup", "shop"]);
    assert_eq!(missing.code, 10, "{}", missing.err);
    assert!(missing.err.contains("mounted?") && !machine.path("dumps").exists(), "{}", missing.err);
}

#[test]
fn what_dead_processes_left_goes_and_what_living_ones_write_stays() {
    let machine = machine();
    let dead = [".shop_backup_shop.db_20260101T000000Z.db.4711.partial", ".x.sql.gz.json.12-3.partial"];
    let living = ".shop_backup_shop.db_20260102T000000Z.db.4712.partial";
    for name in dead.iter().chain(&[living]) {
        std::fs::write(machine.path("dumps").join(name), "half").unwrap();
    }
    let held = std::fs::File::open(machine.path("dumps").join(living)).unwrap();
    rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(machine.done(&["list", "--json"]).json()["backups"].as_array().unwrap().len(), 0);
    machine.done(&["backup", "shop", "--dry-run"]);
    assert_eq!(left(&machine).len(), 3, "a dry run changes nothing");
    machine.done(&["backup", "shop"]);
    let hidden: Vec<String> = left(&machine).into_iter().filter(|name| name.starts_with('.')).collect();
    assert_eq!(hidden, [living]);
    drop(held);
    machine.done(&["backup", "shop"]);
    assert!(!left(&machine).contains(living));
}

#[test]
fn backups_and_prunes_at_once_lose_nothing() {
    let machine = machine();
    for _ in 0..4 {
        let mut runs = Vec::new();
        for arguments in [
            &["backup", "shop", "--json"][..],
            &["backup", "shop", "--json"],
            &["prune", "--repository", "dumps", "--keep-last", "2"],
        ] {
            let mut command = machine.command();
            command.args(arguments);
            runs.push(std::thread::spawn(move || support::outcome(&mut command)));
        }
        let outcomes: Vec<_> = runs.into_iter().map(|run| run.join().unwrap()).collect();
        for made in &outcomes[..2] {
            assert_eq!(made.code, 0, "{} {}", made.out, made.err);
            assert_eq!(made.json()["pruned"]["error"], Value::Null, "{}", made.out);
        }
        // Busy, or the folder was still empty; never half done.
        assert!([0, 11, 20].contains(&outcomes[2].code), "{}", outcomes[2].err);
        for name in dumps(&machine) {
            assert!(machine.path("dumps").join(format!("{name}.json")).exists(), "{name}");
        }
        assert!(left(&machine).iter().all(|name| !name.starts_with('.')), "{:?}", left(&machine));
        machine.done(&["verify", "shop"]);
    }
    machine.done(&["backup", "shop"]);
    assert_eq!(dumps(&machine).len(), 3, "the plan keeps three");
    machine.done(&["verify"]);
}
