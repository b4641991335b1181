//! Green lights that lie.

use crate::seams::{Place, sql};
use crate::{ids, listed, restored};

/// "Failed pg_dump runs are reported as success and stored as 0 byte backups", and retention then deleted the good one
/// (Skyfay/DBackup#154). The same with a missing file (apecloud/kubeblocks-addons#3008) and months of truncated dumps
/// (k0lter/autopostgresqlbackup#2).
#[test]
fn a_failed_dump_is_no_backup_and_retention_keeps_the_good_one() {
    let place = Place::new();
    let path = place.machine.database("app.db", 500);
    let good = place.backup("app.db");
    let content = std::fs::read(&path).unwrap();

    std::fs::write(&path, &content[..content.len() / 2 + 100]).unwrap();
    assert_eq!(place.run(&["backup", "app.db"]).code, 20, "truncated");
    std::fs::write(&path, [b'x'; 4096]).unwrap();
    assert_eq!(place.run(&["backup", "app.db"]).code, 20, "no database");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(place.run(&["backup", "app.db"]).code, 20, "missing");

    assert_eq!(ids(&place), [good.as_str()]);
    place.done(&["prune", "--keep-last", "1"]);
    place.done(&["prune", "--max-age", "1h"]);
    assert_eq!(ids(&place), [good.as_str()]);
    assert!(restored(&place, &good) == content);
}

/// Months of dumps were truncated, and nobody knew (k0lter/autopostgresqlbackup#2): one that is brought in is whole, or no
/// backup.
#[test]
fn a_truncated_dump_of_another_tool_is_no_backup() {
    let place = Place::new();
    let path = place.machine.database("app.db", 200);
    let text = crate::seams::tool("sqlite3", &[&path.display().to_string(), ".dump"]);
    let line = text.rmatch_indices('\n').nth(1).unwrap().0 + 1;
    for (name, content) in [
        ("app-20260101.sql", &text[..]),
        ("app-20260102.sql", &text[..line]),
        ("app-20260103.sql", &text[..line / 2]),
        ("app-20260104.sql", ""),
    ] {
        place.machine.write(&format!("dumps/{name}"), content);
    }
    let outcome = place.run(&["import", "dumps", "--json"]);
    assert_eq!(outcome.code, 3, "{}", outcome.err);
    for name in ["app-20260102.sql", "app-20260103.sql", "app-20260104.sql"] {
        assert!(
            outcome.err.lines().any(|line| line.starts_with("error: ") && line.contains(name)),
            "{}",
            outcome.err
        );
    }
    let listed = listed(&place);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["time"], "2026-01-01T00:00:00Z");
}

/// A database that became empty is an honest image of nothing: it is told, and takes no good backup's place.
#[test]
fn an_emptied_database_is_no_green_light_and_takes_no_place_in_retention() {
    let place = Place::new();
    let path = place.machine.database("app.db", 500);
    let good = place.backup("app.db");
    let content = std::fs::read(&path).unwrap();
    for _ in 0..3 {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"").unwrap();
        let report = place.json(&["backup", "app.db", "--read-all"]);
        assert_eq!(report["outcome"], "suspect", "{report}");
        assert_eq!(report["suspicions"].as_array().unwrap().len(), 1, "{report}");
    }
    place.done(&["prune", "--keep-last", "1"]);
    assert!(ids(&place).contains(&good), "{:?}", listed(&place));
    assert!(restored(&place, &good) == content);
}

/// Backups reported success while the disk was full (bcgov/backup-container#137): nothing counts that could not be
/// written. Here packs cannot be made at all; that of a full disk is in the table of refusals.
#[test]
fn a_repository_that_cannot_be_written_is_no_green_light() {
    let place = Place::new();
    place.machine.database("app.db", 50);
    // A file in the place of the folder of packs: rights do not bind root.
    let data = place.repository().join("data");
    std::fs::write(&data, b"").unwrap();
    let outcome = place.run(&["backup", "app.db"]);
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    assert!(outcome.err.contains("data") && outcome.err.contains("hint: "), "{}", outcome.err);
    std::fs::remove_file(&data).unwrap();
    assert!(ids(&place).is_empty());
}

/// A failing pipeline was a success, since nobody asked for each exit code (aaronsb/knowledge-graph-system#397).
#[test]
fn a_command_before_a_backup_that_fails_fails_it() {
    let place = Place::without_repository();
    crate::seams::make_repository(&place.repository());
    place.machine.database("app.db", 50);
    place.machine.write(
        "backstay.toml",
        "[targets.app]\nsource = \"app.db\"\n[targets.app.hooks]\nbefore_backup = [\"sh\", \"-c\", \"false | cat; exit 7\"]\n",
    );
    let outcome = place.run(&["backup", "app"]);
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    assert!(outcome.err.contains('7'), "the exit code is told: {}", outcome.err);
    assert!(ids(&place).is_empty());
}

/// Retention was "silently skipped" (backrest 1.14.1), and deletes did nothing or too much (wal-g#641, #1564, #230;
/// pgbackrest#680): what a prune says is what the repository holds afterwards.
#[test]
fn what_retention_says_is_what_is_there() {
    let place = Place::new();
    let path = place.machine.database("app.db", 500);
    for round in 0..4 {
        sql(&path, &format!("INSERT INTO t (text) VALUES ('round {round}')"));
        place.backup("app.db");
    }
    let before = ids(&place);
    let plan = place.json(&["prune", "--keep-last", "2", "--dry-run"]);
    assert_eq!(ids(&place), before, "a dry run removes nothing");
    let report = place.json(&["prune", "--keep-last", "2"]);
    for key in ["kept", "removed"] {
        let of = |report: &serde_json::Value| -> Vec<String> {
            let all = report[key].as_array().unwrap().iter();
            let mut ids: Vec<String> = all.map(|one| one["id"].as_str().unwrap().to_owned()).collect();
            ids.sort();
            ids
        };
        assert_eq!(of(&plan), of(&report), "{key}");
        assert_eq!(of(&report).len(), 2, "{report}");
    }
    assert_eq!(ids(&place), before[2..]);
    assert!(report["freed_bytes"].as_u64().unwrap() > 0, "{report}");
    for id in &before[..2] {
        assert_eq!(place.run(&["restore", id, "--to-new", "./gone.db"]).code, 2);
    }
    place.restic(&["check", "--read-data"]);
    // A rule that is none is refused, never taken for "keep nothing" or "keep all".
    for wrong in [&["prune"][..], &["prune", "--keep-last", "-1"], &["prune", "--max-age", "soon"]] {
        assert_eq!(place.run(wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(ids(&place), before[2..]);
}

/// Success was reported where nothing ran (resticprofile#332 told the contrary, which is as bad).
#[test]
fn nothing_to_back_up_is_no_success_and_success_is_no_failure() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    assert_ne!(place.run(&["backup", "empty"]).code, 0);
    assert_ne!(place.run(&["backup", "./*.nothing"]).code, 0);
    assert_ne!(place.run(&["verify"]).code, 0, "nothing is there to verify");
    place.machine.database("app.db", 50);
    assert_eq!(place.json(&["backup", "app.db"])["outcome"], "complete");
    assert_eq!(place.json(&["backup", "app.db"])["outcome"], "complete", "an unchanged one is no failure");
}
