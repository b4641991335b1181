//! The times of imported backups: from names, zones and files; and what they mean for retention and for later runs.

use crate::seams::Place;
use crate::{backups, import, imports};
use std::fs;

fn small(place: &Place, name: &str, rows: u32) {
    fs::create_dir_all(place.path("dumps")).unwrap();
    let inserts: String = (0..rows).map(|row| format!("INSERT INTO t VALUES({row});\n")).collect();
    let text = format!("BEGIN;\nCREATE TABLE t(id INTEGER PRIMARY KEY);\n{inserts}COMMIT;\n");
    fs::write(place.path("dumps").join(name), text).unwrap();
}

fn times(report: &serde_json::Value) -> Vec<(String, String)> {
    let text = |item: &serde_json::Value, key: &str| item[key].as_str().unwrap().to_owned();
    imports(report).iter().map(|item| (text(item, "time"), text(item, "time_source"))).collect()
}

#[test]
fn names_are_read_in_the_zone_that_is_said() {
    let place = Place::new();
    for name in ["a-20260105.sql", "a_backup_20260705_120000.sql", "a-20260105T120000Z.sql"] {
        small(&place, name, 1);
    }
    let own = |time: &str| (time.to_owned(), "name".to_owned());
    let report = import(&place, 0, &["dumps", "--dry-run"]);
    let utc = ["2026-01-05T00:00:00Z", "2026-01-05T12:00:00Z", "2026-07-05T12:00:00Z"];
    assert_eq!(times(&report), utc.map(own));
    assert!(
        imports(&report).iter().all(|item| item["status"] == "planned" && item["id"].is_null()),
        "{report}"
    );
    let report = import(&place, 0, &["dumps", "--time-zone", "Europe/Berlin"]);
    let berlin = ["2026-01-04T23:00:00Z", "2026-01-05T12:00:00Z", "2026-07-05T10:00:00Z"];
    assert_eq!(times(&report), berlin.map(own));
    let config = "[targets.a]\nsource = \"a.db\"\n[targets.a.plans.daily]\ntime_zone = \"Asia/Tokyo\"\n";
    fs::write(place.path("backstay.toml"), config).unwrap();
    let report = import(&place, 0, &["dumps", "--target", "a"]);
    assert_eq!(times(&report)[0].0, "2026-01-04T15:00:00Z");
    let wrong = place.run(&["import", "dumps", "--time-zone", "Mars/Base"]);
    assert_eq!(wrong.code, 2, "{}", wrong.err);
}

#[test]
fn a_name_without_a_time_has_that_of_its_file() {
    let place = Place::new();
    small(&place, "app.sql", 1);
    let file = fs::File::options().write(true).open(place.path("dumps/app.sql")).unwrap();
    let modified = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_000_000);
    file.set_modified(modified).unwrap();
    let report = import(&place, 0, &["dumps"]);
    assert_eq!(times(&report), [("2023-11-14T22:13:20.123Z".to_owned(), "modified".to_owned())]);
    assert_eq!(backups(&place)[0]["time"], "2023-11-14T22:13:20.123Z");
    assert_eq!(imports(&import(&place, 0, &["dumps"]))[0]["status"], "known");
}

#[test]
fn what_was_imported_before_is_passed_over() {
    let place = Place::new();
    for day in 1..=3 {
        // The database did not change: the files are alike, the days are not.
        small(&place, &format!("app-2026010{day}.sql"), 5);
    }
    let first = import(&place, 0, &["dumps"]);
    assert!(imports(&first).iter().all(|item| item["status"] == "imported"), "{first}");
    small(&place, "app-20260104.sql", 6);
    fs::rename(place.path("dumps/app-20260102.sql"), place.path("dumps/app_backup_20260102_000000.sql"))
        .unwrap();
    small(&place, "app-20260103.sql", 7);
    let again = import(&place, 0, &["dumps"]);
    let found: Vec<(&str, &str)> = imports(&again)
        .iter()
        .map(|item| {
            (&item["path"].as_str().unwrap()[place.text("dumps/").len()..], item["status"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        found,
        [
            ("app-20260101.sql", "known"),
            ("app_backup_20260102_000000.sql", "known"),
            ("app-20260103.sql", "imported"),
            ("app-20260104.sql", "imported"),
        ]
    );
    assert_eq!(imports(&again)[0]["id"], imports(&first)[0]["id"]);
    assert_eq!(backups(&place).len(), 5);
    let said = place.done(&["import", "dumps"]);
    assert!(said.out.matches("imported before").count() == 4, "{}", said.out);
    assert!(
        said.err.contains("Imported 0 files") && said.err.contains("4 were imported before"),
        "{}",
        said.err
    );
    let quiet = place.done(&["import", "dumps", "--quiet"]);
    assert_eq!(quiet.err, "");
    assert_eq!(backups(&place).len(), 5);
}

#[test]
fn a_dry_run_writes_nothing() {
    let place = Place::without_repository();
    small(&place, "app-20260101.sql", 5);
    let before = crate::seams::tree(&place.machine.root);
    let mut command = place.command();
    command.env_remove("BACKSTAY_REPOSITORY").args(["import", "dumps", "--dry-run"]);
    let outcome = crate::support::outcome(&mut command);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.out.contains("would import") && outcome.out.contains("2026-01-01"), "{}", outcome.out);
    assert_eq!(before, crate::seams::tree(&place.machine.root));
}

#[test]
fn retention_goes_by_the_times_and_later_runs_by_themselves() {
    let place = Place::new();
    let live = place.machine.database("app.db", 300);
    place.backup("app.db");
    crate::seams::sql(&live, "INSERT INTO t VALUES (1000, 'one more')");
    for day in 1..=9 {
        small(&place, &format!("app-2026010{day}.sql"), 450);
    }
    // A larger one is no measure of what the next run finds, wherever its time puts it.
    small(&place, "app-20990101.sql", 900);
    import(&place, 0, &["dumps", "--target", "app.db"]);
    let report = place.json(&["backup", "app.db"]);
    assert_eq!(report["outcome"], "complete", "{report}");
    for key in ["suspicions", "appeared", "vanished"] {
        assert_eq!(report[key], serde_json::json!([]), "{report}");
    }
    assert_eq!(report["backups"][0]["rows"], 301);
    assert_eq!(place.json(&["backup", "app.db"])["backups"][0]["rows"], 301);
    assert_eq!(backups(&place).len(), 13);
    let removed = place.json(&["prune", "--keep-last", "4"]);
    assert_eq!(removed["removed"].as_array().unwrap().len(), 9, "{removed}");
    let left: Vec<String> =
        backups(&place).iter().map(|backup| backup["time"].as_str().unwrap()[..10].to_owned()).collect();
    assert!(!left.iter().any(|time| time.starts_with("2026-01-0")), "{left:?}");
    place.restic(&["check", "--read-data"]);
}
