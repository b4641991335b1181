//! Care of a repository: locks that nobody holds go, and the sums are those of stock restic.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

#[path = "seams/mod.rs"]
mod seams;
mod support;

use seams::{PASSWORD, Place, sql};
use std::sync::Arc;

fn opened(place: &Place) -> restic::Repository {
    let storage = Arc::new(storage::LocalStorage::open(place.repository()).unwrap());
    restic::Repository::open(storage, &flow::Secret::new(PASSWORD), restic::OpenOptions::default()).unwrap()
}

/// Leaves a lock of a process.
fn leave_lock(repository: &restic::Repository, host: &str, pid: u32) {
    let owner =
        restic::LockOwner { host: host.to_owned(), user: "olga".to_owned(), pid, uid: 1000, gid: 1000 };
    let guard = repository.lock(restic::LockKind::Shared, &owner, restic::LockOptions::default()).unwrap();
    std::mem::forget(guard);
}

/// No process ever has this number.
const DEAD: u32 = i32::MAX as u32;

#[test]
fn stale_locks_go_and_those_that_stay_are_named() {
    let place = Place::new();
    let repository = opened(&place);
    leave_lock(&repository, &support::host(), std::process::id());
    leave_lock(&repository, "elsewhere", 7);
    leave_lock(&repository, &support::host(), DEAD);
    // What a client leaves that crashed in the middle of writing one.
    std::fs::write(place.repository().join("locks").join("ab".repeat(32)), "").unwrap();

    let told = place.json(&["unlock", "--dry-run"]);
    assert_eq!(told["removed"].as_array().unwrap().len(), 1, "{told}");
    let again = place.json(&["unlock", "--dry-run"]);
    assert_eq!(again["removed"][0]["id"], told["removed"][0]["id"], "a dry run removes nothing");
    let report = place.json(&["unlock"]);
    assert_eq!(report["removed"][0]["id"], told["removed"][0]["id"]);
    assert_eq!(report["removed"][0]["reason"], "its process is gone");
    let mut left: Vec<(Option<&str>, Option<&str>)> = report["left"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lock| (lock["host"].as_str(), lock["reason"].as_str()))
        .collect();
    left.sort();
    let host = support::host();
    let mut expected =
        vec![(None, Some("it is empty")), (Some("elsewhere"), None), (Some(host.as_str()), None)];
    expected.sort();
    assert_eq!(left, expected);
    let shown = place.done(&["unlock"]);
    assert!(shown.out.contains("process 7 of olga on elsewhere"), "{}", shown.out);
    assert_eq!(place.run(&["check"]).code, 11, "the locks that are left count");

    let all = place.json(&["unlock", "--remove-all"]);
    assert_eq!((all["removed"].as_array().unwrap().len(), all["left"].as_array().unwrap().len()), (3, 0));
    place.done(&["check"]);
    place.restic(&["check"]);
    assert!(place.done(&["unlock"]).err.contains("There is no lock"));
}

/// The packs of a repository.
fn packs(place: &Place) -> Vec<std::path::PathBuf> {
    seams::contents(&place.repository().join("data")).into_keys().collect()
}

#[test]
fn checks_of_a_share_read_everything_in_time() {
    let place = Place::new();
    for number in 0..6 {
        place.machine.database(&format!("{number}.db"), 2000 + number);
        place.backup(&format!("{number}.db"));
    }
    let first = place.json(&["check", "--read-data=20%"]);
    assert_eq!((&first["selection"], &first["read_data_percent"]), (&"random".into(), &20.0.into()));
    let read = first["packs_read"].as_u64().unwrap();
    assert!(read > 0 && read < packs(&place).len() as u64, "{first}");
    assert_eq!(place.json(&["check", "--read-data=20%"])["selection"], "rotating");
    assert_eq!(place.json(&["check"])["read_data_percent"], serde_json::Value::Null);
    let all = place.json(&["check", "--read-data"]);
    assert_eq!((&all["selection"], &all["packs_read"]), (&"all".into(), &all["packs"]));

    // A bit that flips in any pack is found by the checks of one round, whichever pack that is.
    let pack = place.repository().join("data").join(&packs(&place)[3]);
    let mut content = std::fs::read(&pack).unwrap();
    content[10] ^= 1;
    std::fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&pack, content).unwrap();
    let found = (0..6).filter(|_| place.run(&["check", "--read-data=20%"]).code == 21).count();
    assert!(found > 0, "a round of checks passed over a damaged pack");
}

#[test]
fn a_share_that_is_none_is_a_wrong_use() {
    let place = Place::new();
    for wrong in ["0%", "101%", "5", "-1%", "five%", "%", "1/7", "0.001%", "1e1%", "100.01%", "99999999999%"]
    {
        let refused = place.run(&["check", &format!("--read-data={wrong}")]);
        assert_eq!((refused.code, refused.err.contains("percentage")), (2, true), "{wrong}: {}", refused.err);
    }
    for right in ["100%", "0.01%", "12.5%"] {
        place.done(&["check", &format!("--read-data={right}")]);
    }
}

#[test]
fn an_old_lock_is_stale_wherever_its_process_is() {
    let place = Place::new();
    let repository = opened(&place);
    leave_lock(&repository, "elsewhere", 7);
    let stale = |after| repository.lock_files("here", after).unwrap()[0].stale;
    assert_eq!(stale(std::time::Duration::from_secs(60)), None);
    assert_eq!(stale(std::time::Duration::ZERO), Some(restic::Stale::Old));
}

#[test]
fn the_sums_are_those_of_stock_restic() {
    let place = Place::new();
    place.machine.database("app.db", 30_000);
    place.machine.database("other.db", 100);
    place.backup("app.db");
    sql(&place.path("app.db"), "UPDATE t SET text = 'changed' WHERE id = 7");
    place.backup("app.db");
    place.backup("other.db");
    let stats = place.json(&["stats"]);
    let raw = place.restic_json(&["stats", "--mode", "raw-data"]);
    assert_eq!(stats["blobs"], raw["total_blob_count"], "{stats} {raw}");
    let list = place.json(&["list"]);
    let backups = list["backups"].as_array().unwrap();
    let logical: u64 = backups.iter().map(|backup| backup["size_bytes"].as_u64().unwrap()).sum();
    assert_eq!(stats["logical_bytes"], logical);
    assert_eq!(
        (&stats["backups"], &stats["databases"], &stats["snapshots"]),
        (&3.into(), &2.into(), &3.into())
    );
    let stored: u64 = seams::contents(&place.repository()).values().map(|content| content.len() as u64).sum();
    assert_eq!(stats["stored_bytes"], stored);
    let packs = seams::contents(&place.repository().join("data"));
    assert_eq!(stats["packs"], packs.len());
    assert_eq!(stats["pack_bytes"], packs.values().map(Vec::len).sum::<usize>());
    assert!(stats["deduplication_ratio"].as_f64().unwrap() > 1.0, "{stats}");
    assert!(stats["compression_ratio"].as_f64().unwrap() > 1.0, "{stats}");
    let targets = stats["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 2);
    assert_eq!((&targets[0]["backups"], &targets[0]["databases"]), (&2.into(), &1.into()));
    let shown = place.done(&["stats"]).out;
    assert!(shown.contains("app.db") && shown.contains("deduplication"), "{shown}");
    let empty = Place::new();
    assert!(empty.json(&["stats"])["deduplication_ratio"].is_null());
    empty.done(&["stats"]);
}
