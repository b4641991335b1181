//! Safety copies of restores: a prune removes those that are old and stand behind a newer proven backup, and whatever
//! else lies there stays to the byte.

use crate::seams::{Place, sql};
use crate::support::fingerprint;
use serde_json::Value;
use std::path::PathBuf;

const OLD: &str = "safety-20260101T020000Z";

/// A folder of two tenants, of which the second was never backed up, with a plan.
fn shops(restore: &str) -> Place {
    let place = Place::new();
    place.machine.database("shops/acme.db", 300);
    let configuration = format!(
        "[repositories.main]\npath = \"repo\"\n[targets.shops]\nsource = \"shops/{{tenant}}.db\"\nrestore = {{ {restore} }}\n[targets.shops.plans.nightly]\nkeep = {{ last = 5 }}\n"
    );
    place.machine.write("backstay.toml", &configuration);
    place.done(&["backup", "shops"]);
    place.machine.database("shops/bolt.db", 30);
    place
}

/// Restores one and makes what it kept look old; returns where that is.
fn old_copy(place: &Place, stamp: &str) -> PathBuf {
    let report = place.json(&["restore", "shops/acme@latest", "--yes"]);
    let kept = PathBuf::from(report["safety_copy"].as_str().unwrap());
    let old = kept.with_file_name(format!("acme.db.{stamp}"));
    std::fs::rename(kept, &old).unwrap();
    std::fs::write(format!("{}-wal", old.display()), "what was not yet written back").unwrap();
    old
}

fn told<'a>(report: &'a Value, list: &str) -> Vec<(&'a str, &'a str)> {
    let items = report[list].as_array().unwrap().iter().filter(|item| item["id"].is_null());
    items.map(|item| (item["path"].as_str().unwrap(), item["reasons"][0].as_str().unwrap())).collect()
}

#[test]
fn an_old_safety_copy_goes_behind_a_newer_proven_backup_and_nothing_else_does() {
    let place = shops("stop = [\"true\"]");
    let old = old_copy(&place, OLD);
    let young = place.json(&["restore", "shops/acme@latest", "--yes"])["safety_copy"].clone();
    for name in [
        "shops/acme.db.safety-20260101T020000",
        "shops/acme.db.safety-20260101T020000Z.bak",
        "shops/other.db.safety-20260101T020000Z",
        "shops/bolt.db.safety-20260101T020000Z",
    ] {
        place.machine.write(name, "somebody's");
    }
    std::fs::create_dir(place.path("shops/acme.db.safety-20260102T020000Z")).unwrap();
    std::os::unix::fs::symlink("acme.db", place.path("shops/acme.db.safety-20260103T020000Z")).unwrap();
    let before = fingerprint(&place.path("shops"));

    let shown = place.json(&["prune", "shops", "--dry-run"]);
    assert_eq!(told(&shown, "removed"), [(old.to_str().unwrap(), "older than 7 days")], "{shown}");
    let kept = told(&shown, "kept");
    let bolt = place.text("shops/bolt.db.safety-20260101T020000Z");
    let expected = [
        (young.as_str().unwrap(), "not older than 7 days"),
        (bolt.as_str(), "no newer backup of its database is proven"),
    ];
    assert_eq!(kept, expected, "{shown}");
    assert_eq!(fingerprint(&place.path("shops")), before);

    let report = place.json(&["prune", "shops"]);
    assert_eq!(told(&report, "removed").len(), 1, "{report}");
    let item = report["removed"].as_array().unwrap().last().unwrap();
    assert!(item["size_bytes"].as_u64().unwrap() > 4096 && item["target"] == "shops", "{item}");
    let mut expected = before;
    expected.remove(&old);
    expected.remove(&PathBuf::from(format!("{}-wal", old.display())));
    assert_eq!(fingerprint(&place.path("shops")), expected);
    assert!(told(&place.json(&["prune", "shops"]), "removed").is_empty());
}

#[test]
fn a_safety_copy_stays_while_its_database_is_not_in_order() {
    let place = shops("safety_keep = \"2d\"");
    let old = old_copy(&place, OLD);
    let acme = place.path("shops/acme.db");
    let whole = std::fs::read(&acme).unwrap();
    let kept_because = |why: &str| {
        let report = place.json(&["prune", "shops"]);
        let kept = told(&report, "kept");
        assert!(kept.len() == 1 && kept[0].1.contains(why), "{why}: {report}");
        assert!(old.exists());
    };
    std::fs::write(&acme, [&whole[..4096], &[7; 4096]].concat()).unwrap();
    kept_because("its database does not open");
    // What is suspect stands behind nothing: the backups before it are older than this one is made to look.
    std::fs::write(&acme, &whole).unwrap();
    let holder = std::fs::File::open(&old).unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").stdin(holder).spawn().unwrap();
    kept_because("is open in");
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::write(acme.with_file_name("acme.db.backstay-restore"), "not a record").unwrap();
    kept_because("a restore of its database");
    std::fs::remove_file(acme.with_file_name("acme.db.backstay-restore")).unwrap();
    // The backup of a plan does what a prune does.
    let report = place.json(&["backup", "shops"]);
    assert_eq!(report["pruned"]["safety_copies"], 1, "{report}");
    assert!(!old.exists());
}

#[test]
fn a_newer_backup_that_is_suspect_lets_no_safety_copy_go() {
    let place = shops("safety_keep = \"1h\"");
    sql(&place.path("shops/acme.db"), "DELETE FROM t");
    assert_eq!(place.json(&["backup", "shops/acme"])["outcome"], "suspect");
    // Between the good backup and the suspect one.
    let list = place.json(&["list", "shops/acme"]);
    let times: Vec<jiff::Timestamp> = list["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["time"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(times.len(), 2);
    let suspect_only = place.machine.write("shops/acme.db.safety-20260101T020000Z", "what was there");
    let report = place.json(&["prune", "shops", "--dry-run"]);
    assert_eq!(told(&report, "removed").len(), 1, "the good one is newer: {report}");
    // The good one goes out of sight; only the suspect one is left.
    let list = place.json(&["list", "shops/acme"]);
    let good = list["backups"][0]["id"].as_str().unwrap().split(':').next().unwrap().to_owned();
    place.restic(&["forget", &good]);
    let report = place.json(&["prune", "shops", "--dry-run"]);
    assert_eq!(told(&report, "kept")[0].1, "no newer backup of its database is proven", "{report}");
    assert!(suspect_only.exists());
}

#[test]
fn an_import_lets_no_safety_copy_go() {
    let place = shops("safety_keep = \"1h\"");
    let copy = place.machine.write(&format!("shops/acme.db.{OLD}"), "what was there");
    let list = place.json(&["list", "shops/acme"]);
    let made = list["backups"][0]["id"].as_str().unwrap().split(':').next().unwrap().to_owned();
    place.restic(&["forget", &made]);
    place.machine.database("dumps/acme-20260301.db", 300);
    place.done(&["import", &place.text("dumps"), "--target", "shops"]);
    let list = place.json(&["list", "shops/acme"]);
    assert_eq!(list["backups"][0]["tags"][0], "imported", "{list}");
    let report = place.json(&["prune", "shops", "--dry-run"]);
    assert_eq!(told(&report, "kept")[0].1, "no newer backup of its database is proven", "{report}");
    assert!(copy.exists());
}

#[test]
fn safety_copies_in_a_folder_go_only_where_a_record_says_whose_they_are() {
    let place = shops("safety_dir = \"kept\"");
    std::fs::create_dir(place.path("kept")).unwrap();
    let old = old_copy(&place, OLD);
    assert_eq!(old.parent().unwrap(), place.path("kept"));
    let report = place.json(&["prune", "shops"]);
    assert_eq!(
        told(&report, "kept")[0].1,
        "no record of a restore tells of which database it is",
        "{report}"
    );
    // The journal as it would be had the restore been then.
    let journal = place.machine.root.join("home/.local/state/backstay/journal.db");
    sql(
        &journal,
        &format!(
            "UPDATE run SET report = json_set(report, '$.safety_copy', '{}') WHERE command = 'restore'",
            old.display()
        ),
    );
    let report = place.json(&["prune", "shops"]);
    assert_eq!(told(&report, "removed").len(), 1, "{report}");
    assert!(!old.exists());
}

#[test]
fn forever_keeps_them() {
    let place = shops("safety_keep = \"forever\"");
    let old = old_copy(&place, OLD);
    let report = place.json(&["prune", "shops"]);
    assert!(told(&report, "removed").is_empty() && told(&report, "kept").is_empty(), "{report}");
    assert!(old.exists());
}

#[test]
fn copies_of_another_suffix_go_only_where_a_record_says_whose_they_are() {
    let place = shops("safety_keep = \"7d\"");
    let configuration = std::fs::read_to_string(place.path("backstay.toml")).unwrap();
    let configuration = format!("{configuration}[restoration]\nsafety_backup_suffix = \".old\"\n");
    place.machine.write("backstay.toml", &configuration);
    let old = old_copy(&place, "old-20260101T020000Z");
    // One that a person made, who likes the same names.
    place.machine.write("shops/acme.db.old-20260102T020000Z", "somebody's");
    let report = place.json(&["prune", "shops"]);
    let reasons: Vec<&str> = told(&report, "kept").into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["no record of a restore tells of which database it is"; 2], "{report}");
    // The journal as it would be had the restore been then.
    let journal = place.machine.root.join("home/.local/state/backstay/journal.db");
    let path = old.display();
    sql(
        &journal,
        &format!(
            "UPDATE run SET report = json_set(report, '$.safety_copy', '{path}') WHERE command = 'restore'"
        ),
    );
    let report = place.json(&["prune", "shops"]);
    assert_eq!(told(&report, "removed").len(), 1, "{report}");
    assert_eq!(told(&report, "kept").len(), 1, "{report}");
    assert!(!old.exists() && place.path("shops/acme.db.old-20260102T020000Z").exists());
}
