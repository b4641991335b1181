//! The rules: what stays and what goes of each database, and the reasons that are told.

use super::*;
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn seven_daily_and_four_weekly_of_each_database_stay() {
    let machine = Machine::new();
    for day in 1..=28 {
        packed(&machine, &format!("acme-202506{day:02}.sql.gz"));
        dump(&machine, &format!("bolt_backup_202506{day:02}_120000.sql"), POSTGRES_TEXT.as_bytes());
    }
    let arguments = ["--keep-daily", "7", "--keep-weekly", "4"];
    let told = prune(&machine, 0, &[&arguments[..], &["--dry-run"]].concat());
    assert_eq!(left(&machine).len(), 56, "a dry run removes nothing");
    assert_eq!((&told["dry_run"], &told["outcome"]), (&json!(true), &json!("complete")));
    let report = prune(&machine, 0, &arguments);
    assert_eq!(report["schema"], "backstay.prune/1");
    for list in ["kept", "removed"] {
        assert_eq!(report[list], told[list], "a dry run tells what happens");
    }
    // The seven newest days, and of the four newest weeks the last day: Sundays.
    let days = [8, 15, 22, 23, 24, 25, 26, 27, 28];
    let expected: BTreeSet<String> = days
        .iter()
        .flat_map(|day| {
            [format!("acme-202506{day:02}.sql.gz"), format!("bolt_backup_202506{day:02}_120000.sql")]
        })
        .collect();
    assert_eq!(left(&machine), expected);
    let removed = reasons(&report, "removed");
    assert_eq!(removed.len(), 38);
    assert!(
        removed.contains(&(
            "acme-20250621.sql.gz".to_owned(),
            "beyond 7 daily, not the last of its week".to_owned()
        )),
        "{removed:?}"
    );
    let kept = reasons(&report, "kept");
    assert!(kept.contains(&("acme-20250608.sql.gz".to_owned(), "weekly".to_owned())), "{kept:?}");
    assert!(kept[0].1.contains("newest proven backup"), "{kept:?}");
    let item = report["removed"][0].as_object().unwrap();
    let keys: Vec<&str> = item.keys().map(String::as_str).collect();
    let mut expected = [
        "id",
        "path",
        "target",
        "database",
        "host",
        "connection",
        "plan",
        "time",
        "time_source",
        "size_bytes",
        "reasons",
    ];
    expected.sort_unstable();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!((&item["id"], &item["time_source"]), (&Value::Null, &json!("name")));
    let freed: u64 =
        report["removed"].as_array().unwrap().iter().map(|item| item["size_bytes"].as_u64().unwrap()).sum();
    assert_eq!(report["freed_bytes"], freed);
    // Once more: nothing is left to do.
    let again = prune(&machine, 0, &arguments);
    assert_eq!((again["removed"].as_array().unwrap().len(), &again["freed_bytes"]), (0, &json!(0)));
}

#[test]
fn size_and_number_hold_for_each_database_down_to_the_least() {
    let machine = Machine::new();
    for day in 1..=5 {
        dump(&machine, &format!("a-2025060{day}.sql"), POSTGRES_TEXT.as_bytes());
        dump(&machine, &format!("b-2025060{day}.sql"), POSTGRES_TEXT.as_bytes());
    }
    let two = format!("{}B", POSTGRES_TEXT.len() * 2 + 10);
    let report = prune(&machine, 0, &["--max-size", &two]);
    assert_eq!(
        left(&machine),
        set(&["a-20250604.sql", "a-20250605.sql", "b-20250604.sql", "b-20250605.sql"])
    );
    assert!(reasons(&report, "removed")[0].1.contains("over the size of"), "{report}");
    let report = prune(&machine, 0, &["--max-size", "1B", "--min-keep", "2"]);
    assert_eq!(report["removed"], json!([]));
    prune(&machine, 0, &["--max-count", "1"]);
    assert_eq!(left(&machine), set(&["a-20250605.sql", "b-20250605.sql"]));
    prune(&machine, 0, &["--max-age", "1d"]);
    assert_eq!(left(&machine), set(&["a-20250605.sql", "b-20250605.sql"]), "the newest is never too old");
}

#[test]
fn times_are_read_in_the_zone_that_is_said() {
    let machine = Machine::new();
    // A change of the clock, a leap day, two of one second, and one from the future.
    let names = [
        "a-20251026_0030.sql",
        "a-20251026_0230.sql",
        "a-20251026_0230-2.sql",
        "a-20240229.sql",
        "a-20991231.sql",
    ];
    for name in names {
        dump(&machine, name, POSTGRES_TEXT.as_bytes());
    }
    let time = |report: &Value, name: &str| {
        let all = report["kept"].as_array().unwrap().iter();
        let mut fits = all.filter(|item| item["path"].as_str().unwrap().ends_with(name));
        fits.next().unwrap()["time"].as_str().unwrap().to_owned()
    };
    let told = prune(&machine, 0, &["--keep-last", "9", "--time-zone", "Europe/Berlin", "--dry-run"]);
    assert_eq!(time(&told, "a-20251026_0030.sql"), "2025-10-25T22:30:00Z");
    assert_eq!(time(&told, "a-20251026_0230.sql"), "2025-10-26T00:30:00Z");
    assert_eq!(time(&told, "a-20251026_0230-2.sql"), "2025-10-26T00:30:00Z");
    assert_eq!(time(&told, "a-20240229.sql"), "2024-02-28T23:00:00Z");
    let told = prune(&machine, 0, &["--keep-last", "9", "--dry-run"]);
    assert_eq!(time(&told, "a-20251026_0030.sql"), "2025-10-26T00:30:00Z");
    // What a clock dated ahead takes no place from the newest of now.
    let report = prune(&machine, 0, &["--keep-last", "1"]);
    assert!(left(&machine).contains("a-20991231.sql"));
    assert_eq!(left(&machine).len(), 2, "{report}");
    assert!(
        reasons(&report, "kept").iter().any(|(_, why)| why.contains("not dated in the future")),
        "{report}"
    );
    let bad = machine.run(&["prune", "dumps", "--keep-last", "1", "--time-zone", "Mars/Olympus"]);
    assert_eq!(bad.code, 2, "{}", bad.err);
}

#[test]
fn a_folder_of_ten_thousand_dumps_takes_seconds_at_most() {
    let machine = Machine::new();
    let text = POSTGRES_TEXT.as_bytes();
    for number in 0..10_000_u32 {
        let (day, hour, minute) = (number / 1440 + 1, number / 60 % 24, number % 60);
        dump(&machine, &format!("acme_202506{day:02}_{hour:02}{minute:02}00.sql"), text);
    }
    let began = Instant::now();
    let report = prune(&machine, 0, &["--keep-hourly", "24"]);
    // An optimised program takes a tenth of it.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(report["removed"].as_array().unwrap().len(), 9976);
    assert_eq!(left(&machine).len(), 24);
}
