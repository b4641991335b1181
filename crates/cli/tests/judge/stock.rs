//! Stock restic on a repository of ours: it finds nothing wrong, and brings every version back byte for byte.

use crate::seams::{Place, contents, sql};
use std::path::Path;

fn restored(place: &Place, snapshot: &str, out: &str) -> Vec<u8> {
    place.restic(&["restore", snapshot, "--target", &place.text(out)]);
    let files = contents(&place.path(out));
    let ending = Path::new("app.db/database.sqlite");
    let mut found = files.into_iter().filter(|(path, _)| path.ends_with(ending));
    let (_, content) = found.next().unwrap();
    assert!(found.next().is_none());
    content
}

#[test]
fn restic_reads_the_first_and_the_second_backup() {
    let place = Place::new();
    let path = place.machine.database("app.db", 40_000);
    let first = place.backup("app.db");
    place.restic(&["check", "--read-data"]);
    let before = std::fs::read(&path).unwrap();
    sql(&path, "UPDATE t SET text = 'changed' WHERE id % 1000 = 0; DELETE FROM t WHERE id > 39000");
    let second = place.backup("app.db");
    let after = std::fs::read(&path).unwrap();
    place.restic(&["check", "--read-data"]);
    assert!(before != after);
    assert!(restored(&place, &first, "one") == before);
    assert!(restored(&place, &second, "two") == after);

    let snapshots = place.restic_json(&["snapshots"]);
    let ids: Vec<&str> =
        snapshots.as_array().unwrap().iter().map(|snapshot| snapshot["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [first.as_str(), second.as_str()]);
    assert_eq!(snapshots[0]["tags"][0], format!("target={}", path.display()));

    let listing = String::from_utf8(place.restic(&["ls", "latest"])).unwrap();
    let stored = listing.lines().find(|line| line.ends_with("/app.db/database.sqlite")).unwrap();
    assert!(listing.contains("/databases.jsonl") && listing.contains("/app.db/manifest.json"));
    assert!(place.restic(&["dump", &first, stored]) == before);
    assert!(place.restic(&["dump", "latest", stored]) == after);
    let lines = String::from_utf8(place.restic(&["dump", "latest", "/databases.jsonl"])).unwrap();
    assert!(lines.contains("\"backstay.database/1\""), "{lines}");
    let stats = place.restic_json(&["stats", "latest"]);
    assert!(stats["total_size"].as_u64().unwrap() > after.len() as u64, "{stats}");
    assert_eq!(stats["total_file_count"], 5, "{stats}");
}

#[test]
fn restic_may_remove_a_snapshot_of_ours_and_the_rest_stays_whole() {
    let place = Place::new();
    let path = place.machine.database("app.db", 20_000);
    let first = place.backup("app.db");
    sql(&path, "DELETE FROM t WHERE id > 100; VACUUM");
    let second = place.backup("app.db");
    place.restic(&["forget", &first, "--prune"]);
    place.restic(&["check", "--read-data"]);
    let list = place.json(&["list"]);
    assert_eq!(list["backups"].as_array().unwrap().len(), 1);
    place.done(&["check", "--read-data"]);
    place.done(&["verify"]);
    place.done(&["restore", &second, "--to-new", "back.db"]);
    assert!(std::fs::read(place.path("back.db")).unwrap() == std::fs::read(&path).unwrap());
    // What restic removed is missed by nobody: the same content goes in again.
    sql(&path, "INSERT INTO t SELECT 1000 + id, text FROM t");
    place.backup("app.db");
    place.restic(&["check", "--read-data"]);
}
