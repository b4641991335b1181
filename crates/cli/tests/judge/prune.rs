//! Retention through the binary: what stays restores to its own content, what goes is refused, and stock restic finds
//! the repository whole after each step.

use crate::seams::{Place, sql};
use serde_json::Value;
use std::collections::BTreeMap;

fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

fn listed(place: &Place) -> Vec<String> {
    ids(&place.json(&["list"])["backups"])
}

/// Backs up so many states of `app.db` and returns each id with its content, oldest first.
fn states(place: &Place, count: u32) -> Vec<(String, Vec<u8>)> {
    let path = place.machine.database("app.db", 5_000);
    let state = |number: u32| {
        sql(&path, &format!("UPDATE t SET text = hex(randomblob(40)) WHERE id % 7 = {}", number % 7));
        (place.backup("app.db"), std::fs::read(&path).unwrap())
    };
    (0..count).map(state).collect()
}

#[test]
fn what_stays_restores_and_what_goes_is_refused() {
    let place = Place::new();
    let states = states(&place, 6);
    let report = place.json(&["prune", "app.db", "--keep-last", "2"]);
    assert_eq!(report["outcome"], "complete");
    assert_eq!(ids(&report["removed"]).len(), 4);
    assert!(report["freed_bytes"].as_u64().unwrap() > 100_000, "{report}");
    let reasons: Vec<&str> =
        report["kept"].as_array().unwrap().iter().map(|item| item["reasons"][0].as_str().unwrap()).collect();
    assert_eq!(reasons, ["last", "last"]);
    place.restic(&["check", "--read-data"]);
    assert_eq!(listed(&place), [states[4].0.clone(), states[5].0.clone()]);
    for (number, (id, content)) in states.iter().enumerate() {
        let name = format!("{number}.db");
        let outcome = place.run(&["restore", id, "--to-new", &name]);
        if number < 4 {
            assert_eq!(outcome.code, 2, "{}", outcome.err);
            assert!(outcome.err.contains("names no backup of this repository"), "{}", outcome.err);
        } else {
            assert_eq!(outcome.code, 0, "{}", outcome.err);
            assert!(std::fs::read(place.path(&name)).unwrap() == *content, "{number}");
        }
    }
    place.done(&["backup", "app.db"]);
    place.restic(&["check", "--read-data"]);
}

#[test]
fn forget_only_leaves_the_space_to_the_next_prune() {
    let place = Place::new();
    states(&place, 3);
    let told = place.done(&["prune", "--max-count", "1", "--forget-only"]);
    assert!(told.err.contains("Removed 2 backups, kept 1 backup"), "{}", told.err);
    assert!(told.out.contains("remove   beyond the last 1"), "{}", told.out);
    place.restic(&["check", "--read-data"]);
    let freed = place.json(&["prune", "--keep-count", "1"]);
    assert!(ids(&freed["removed"]).is_empty() && freed["freed_bytes"].as_u64().unwrap() > 0, "{freed}");
    place.restic(&["check", "--read-data"]);
}

#[test]
fn rules_that_would_remove_everything_leave_the_newest_proven_backup() {
    let place = Place::new();
    let states = states(&place, 3);
    let packs = |place: &Place| -> BTreeMap<_, _> {
        crate::seams::contents(&place.repository().join("data")).into_iter().collect()
    };
    let before = packs(&place);
    let path = place.path("app.db");
    sql(&path, "UPDATE t SET text = hex(randomblob(40))");
    let newest = place.backup("app.db");
    let new = packs(&place).into_iter().filter(|(path, _)| !before.contains_key(path));
    let (pack, mut content) = new.max_by_key(|(_, content)| content.len()).unwrap();
    content[500] ^= 1;
    std::fs::write(place.repository().join("data").join(pack), content).unwrap();
    assert_eq!(place.run(&["verify", "app.db@latest"]).code, 21);
    for rules in
        [&["--max-size", "1B"][..], &["--keep-last", "1"], &["--keep-within", "1h", "--keep-last", "1"]]
    {
        place.done(&[&["prune", "--forget-only"], rules].concat());
        let left = listed(&place);
        assert!(left.contains(&states[2].0), "{rules:?}: {left:?}");
        assert!(left.contains(&newest), "nothing newer is proven to stand for it: {rules:?}");
    }
    place.done(&["restore", &states[2].0, "--to-new", "back.db"]);
    assert!(std::fs::read(place.path("back.db")).unwrap() == states[2].1);
}

const SHOPS: &str = "[repositories.main]\npath = \"repo\"\n[targets.shops]\nsource = \"shops/{tenant}.db\"\n";

#[test]
fn a_tenant_that_vanished_keeps_its_last_good_backup_and_with_it_its_snapshot() {
    let place = Place::new();
    place.machine.write("backstay.toml", SHOPS);
    for name in ["acme", "bolt"] {
        place.machine.database(&format!("shops/{name}.db"), 50);
    }
    place.done(&["backup", "shops"]);
    place.done(&["backup", "shops"]);
    std::fs::remove_file(place.path("shops/bolt.db")).unwrap();
    place.done(&["backup", "shops"]);
    place.done(&["backup", "shops"]);
    let report = place.json(&["prune", "shops", "--keep-last", "1"]);
    assert_eq!(report["snapshots"], 2, "{report}");
    let names = |list: &Value| -> Vec<(String, String)> {
        let text =
            |item: &Value| item["reasons"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
        let items = list.as_array().unwrap().iter();
        items.map(|item| (item["database"].as_str().unwrap().to_owned(), text(item))).collect()
    };
    let expected = [
        ("acme", "newest proven backup"),
        ("acme", "shares its snapshot with shops/bolt"),
        ("bolt", "newest proven backup"),
    ];
    assert_eq!(names(&report["kept"]), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    place.restic(&["check", "--read-data"]);
    place.done(&["restore", "shops/bolt", "--to-new", "bolt.db"]);
    place.done(&["restore", "shops/acme", "--to-new", "acme.db"]);
    // One tenant alone: what the others have of its snapshots stays, and so does all of those.
    let alone = place.json(&["prune", "shops/acme", "--keep-last", "1"]);
    assert!(ids(&alone["removed"]).is_empty(), "{alone}");
}

#[test]
fn a_plan_removes_what_it_does_not_keep_and_nothing_else() {
    let place = Place::new();
    let plans = "[targets.app.plans.often]\nkeep = { last = 2 }\n[targets.app.plans.rare]\n";
    let config = format!("[repositories.main]\npath = \"repo\"\n[targets.app]\nsource = \"app.db\"\n{plans}");
    let path = place.machine.database("app.db", 500);
    for _ in 0..3 {
        sql(&path, "UPDATE t SET text = hex(randomblob(20)) WHERE id % 5 = 0");
        place.done(&["backup", "app.db"]);
    }
    place.machine.write("backstay.toml", &config);
    for run in 0..4 {
        sql(&path, "UPDATE t SET text = hex(randomblob(20)) WHERE id % 5 = 0");
        let report = place.json(&["backup", "app"]);
        assert_eq!(report["pruned"]["backups"], u32::from(run >= 2), "{report}");
    }
    // Three without a plan, two of the plan that keeps two, four of the one that keeps everything.
    assert_eq!(listed(&place).len(), 3 + 2 + 4);
    let kept = place.json(&["backup", "app", "--no-prune"]);
    assert_eq!(kept["pruned"], Value::Null);
    assert_eq!(listed(&place).len(), 3 + 3 + 5);
    place.restic(&["check", "--read-data"]);
    let dry = place.json(&["prune", "--dry-run"]);
    assert_eq!(ids(&dry["removed"]).len(), 1, "{dry}");
    assert!(dry["kept"].as_array().unwrap().iter().all(|item| item["plan"] == "often"), "{dry}");
    let done = place.json(&["prune", "app"]);
    assert_eq!(ids(&done["removed"]), ids(&dry["removed"]));
    assert_eq!(listed(&place).len(), 3 + 2 + 5);
    place.restic(&["check", "--read-data"]);
    place.done(&["verify"]);
}

#[test]
fn a_plan_that_cannot_prune_fails_no_backup() {
    let place = Place::new();
    let config = "[repositories.main]\npath = \"repo\"\n[targets.app]\nsource = \"app.db\"\n\
                  [targets.app.plans.often.keep]\nlast = 1\n";
    place.machine.write("backstay.toml", config);
    let path = place.machine.database("app.db", 500);
    place.done(&["backup", "app"]);
    sql(&path, "DELETE FROM t WHERE id > 450");
    let lock = crate::seams::lock(&place, restic::LockKind::Shared);
    let outcome = place.done(&["backup", "app"]);
    assert!(outcome.err.contains("old backups were not removed"), "{}", outcome.err);
    assert!(outcome.err.contains("olga") && outcome.err.contains("tries again"), "{}", outcome.err);
    assert_eq!(listed(&place).len(), 2);
    drop(lock);
    sql(&path, "DELETE FROM t WHERE id > 400");
    assert_eq!(place.json(&["backup", "app"])["pruned"]["backups"], 2);
    assert_eq!(listed(&place).len(), 1);
    // Where the database fails, everything stays.
    std::fs::write(&path, "no database").unwrap();
    assert_ne!(place.run(&["backup", "app"]).code, 0);
    assert_eq!(listed(&place).len(), 1);
}

#[test]
fn a_tenant_that_fails_again_and_again_keeps_its_last_good_backup_and_no_more() {
    let place = Place::new();
    let config = |last: u32| {
        format!(
            "[repositories.main]\npath = \"repo\"\n[targets.shops]\nsource = \"shops/{{tenant}}.db\"\n\
             [targets.shops.plans.often]\nkeep = {{ last = {last} }}\n"
        )
    };
    place.machine.write("backstay.toml", &config(3));
    let acme = place.machine.database("shops/acme.db", 300);
    let bolt = place.machine.database("shops/bolt.db", 300);
    for _ in 0..3 {
        sql(&acme, "UPDATE t SET text = hex(randomblob(20)) WHERE id % 5 = 0");
        place.done(&["backup", "shops"]);
    }
    std::fs::write(&bolt, "no database, and longer than a header would be").unwrap();
    // While the rules are the same, nothing of it goes: it has no more than they keep.
    assert_eq!(place.run(&["backup", "shops"]).code, 3);
    let of = |name: &str| {
        let list = place.json(&["list", name]);
        list["backups"].as_array().unwrap().len()
    };
    assert_eq!((of("shops/bolt"), of("shops/acme")), (3, 4), "snapshots that keep the one keep the other");
    place.machine.write("backstay.toml", &config(1));
    assert_eq!(place.run(&["backup", "shops"]).code, 3);
    assert_eq!((of("shops/bolt"), of("shops/acme")), (1, 2));
    place.done(&["restore", "shops/bolt", "--to-new", "bolt.db"]);
}

#[test]
fn where_nobody_can_tell_what_is_needed_the_hint_says_what_helps() {
    let place = Place::new();
    let path = place.machine.database("app.db", 500);
    let packs = || {
        crate::seams::contents(&place.path("repo/data"))
            .into_keys()
            .collect::<std::collections::BTreeSet<_>>()
    };
    for _ in 0..2 {
        sql(&path, "UPDATE t SET text = hex(randomblob(20)) WHERE id % 5 = 0");
        place.done(&["backup", "app.db"]);
    }
    let before = packs();
    sql(&path, "UPDATE t SET text = hex(randomblob(20)) WHERE id % 5 = 0");
    place.done(&["backup", "app.db"]);
    for pack in packs().difference(&before) {
        std::fs::remove_file(place.path("repo/data").join(pack)).unwrap();
    }
    let refused = place.run(&["prune", "--keep-last", "1"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("--forget-only"), "{}", refused.err);
    assert_eq!(listed(&place).len(), 2);
    place.done(&["prune", "--keep-last", "1", "--forget-only"]);
    assert_eq!(listed(&place).len(), 1);
}

#[test]
fn without_a_rule_or_a_source_that_is_known_nothing_happens() {
    let place = Place::new();
    let states = states(&place, 2);
    std::fs::create_dir(place.path("dumps")).unwrap();
    for (arguments, hint) in [
        (&["prune"][..], "try backstay prune --keep-daily 7 --keep-weekly 4 --dry-run"),
        (&["prune", "app.db"], "try backstay prune app.db --keep-daily 7 --keep-weekly 4 --dry-run"),
        (&["prune", "--min-keep", "3"], "backstay prune --keep-daily 7 --min-keep 3 --dry-run"),
        (&["prune", "other.db", "--keep-last", "1"], "`backstay list` shows what there is"),
        (&["prune", "dumps"], "try backstay prune"),
        (&["prune", "repo", "--age-days", "30"], "it is a repository: backstay prune --repository"),
        (&["prune", "--keep-last", "0"], ""),
        (&["prune", "--max-age", "30"], ""),
        (&["prune", "--max-size", "10"], ""),
        (&["prune", "--age-days", "3", "--max-age", "3d"], ""),
    ] {
        let outcome = place.run(arguments);
        assert_eq!(outcome.code, 2, "{arguments:?}: {}", outcome.err);
        assert!(outcome.err.contains(hint), "{arguments:?}: {}", outcome.err);
    }
    let empty = place.run(&["prune", "dumps", "--age-days", "30"]);
    assert_eq!(empty.code, 20, "{}", empty.err);
    assert!(empty.err.contains("holds no file that is a backup by its name"), "{}", empty.err);
    // The hint can be run as it is.
    place.done(&["prune", "--keep-daily", "7", "--keep-weekly", "4", "--dry-run"]);
    place.done(&["prune", "--age-days", "30", "--max-size-gb", "0.5", "--min-keep", "1"]);
    assert_eq!(listed(&place), [states[0].0.clone(), states[1].0.clone()]);
}
