//! A backup that is killed in the middle: the repository stays valid, and what was indexed is used by the next run.

use crate::seams::{Place, both, sql};
use nix::sys::signal::Signal;
use std::path::Path;
use std::time::{Duration, Instant};

/// When the process is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Locked,
    Packs(usize),
    Indexed,
}

/// Counts the objects in a folder: what is still being written has another name.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().len() == 64).count()
}

fn packs(repository: &Path) -> usize {
    let folders = std::fs::read_dir(repository.join("data")).into_iter().flatten().flatten();
    folders.map(|folder| files(&folder.path())).sum()
}

/// Runs a backup until a moment and kills it. Tells whether it was still at work.
fn kill_at(place: &Place, moment: Moment) -> bool {
    let repository = place.repository();
    let (packs_before, indexes) = (packs(&repository), files(&repository.join("index")));
    let mut child = place.process(&["backup", "big.db", "--jobs", "2"]).spawn().unwrap();
    let begun = Instant::now();
    loop {
        let reached = match moment {
            Moment::Locked => files(&repository.join("locks")) > 0,
            Moment::Packs(number) => packs(&repository) >= packs_before + number,
            Moment::Indexed => files(&repository.join("index")) > indexes,
        };
        if reached || child.try_wait().unwrap().is_some() || begun.elapsed() > Duration::from_secs(60) {
            break;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    // A process that has ended already stays a zombie until it is waited for: the signal finds nobody else.
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    child.wait().unwrap().code().is_none()
}

fn judged_valid(place: &Place, moment: Moment) {
    place.restic(&["unlock"]);
    let checked = place.try_restic(&["check", "--read-data"]);
    assert!(checked.status.success(), "{moment:?}: {}", both(&checked));
    assert!(both(&checked).contains("no errors were found"), "{moment:?}: {}", both(&checked));
}

#[test]
fn a_killed_backup_leaves_a_valid_repository_and_its_indexed_packs_are_used() {
    let place = Place::new();
    let path = place.path("big.db");
    sql(
        &path,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT, noise BLOB);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
         INSERT INTO t SELECT i, 'row ' || i, randomblob(1900) FROM n",
    );
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(size > 95 << 20, "{size}");
    for moment in [Moment::Locked, Moment::Packs(1), Moment::Packs(3)] {
        assert!(kill_at(&place, moment), "{moment:?}: the backup was through before it was killed");
        judged_valid(&place, moment);
        assert_eq!(files(&place.repository().join("snapshots")), 0);
    }
    // Not unlocked in between: a dead process's lock of this host stands in nobody's way.
    let mut hit = false;
    for _ in 0..5 {
        hit = kill_at(&place, Moment::Indexed) && files(&place.repository().join("snapshots")) == 0;
        if hit {
            break;
        }
        place.restic(&["unlock"]);
        for folder in ["index", "snapshots"] {
            let _ = std::fs::remove_dir_all(place.repository().join(folder));
            std::fs::create_dir(place.repository().join(folder)).unwrap();
        }
    }
    assert!(hit, "the moment between index and snapshot was never hit");
    let report = place.json(&["backup", "big.db"]);
    let added = report["backups"][0]["added_bytes"].as_u64().unwrap();
    assert!(added < size / 4, "the packs of the killed run were not used: {added} bytes are new");
    assert_eq!(report["backups"][0]["proof"], "stored");
    judged_valid(&place, Moment::Indexed);
    place.done(&["check", "--read-data"]);
    let id = report["backups"][0]["id"].as_str().unwrap();
    let listing = String::from_utf8(place.restic(&["ls", id])).unwrap();
    let stored = listing.lines().find(|line| line.ends_with("database.sqlite")).unwrap();
    assert!(place.restic(&["dump", id, stored]) == std::fs::read(&path).unwrap());
    let again = place.json(&["backup", "big.db"]);
    assert_eq!(again["backups"][0]["unchanged"], true);
}
