//! Parts of a database: each holds what `pg_dump` with the same options has, is named in lists, and never stands for the
//! whole.

use crate::seams::Place;
use crate::{assert_same, done, load, make_everything, run};
use testkit::{Cluster, POSTGRES_VERSIONS, sorted_script};

const PARTS: [(&[&str], &str); 7] = [
    (&["--schema-only"], "schema only"),
    (&["--data-only"], "data only"),
    (&["--table", "shop.p*"], "tables shop.p*"),
    (&["--schema", "shop"], "schemas shop"),
    (
        &["--exclude-table-data", "shop.people", "--exclude-table-data", "shop.no*"],
        "without rows of shop.no*, shop.people",
    ),
    (&["--data-only", "--table", "shop.people"], "data only; tables shop.people"),
    (&["--schema-only", "--schema", "\"Odd schema\""], "schema only; schemas \"\\\"Odd schema\\\"\""),
];

#[test]
fn each_part_is_what_pg_dump_has() {
    std::thread::scope(|scope| {
        for major in POSTGRES_VERSIONS {
            scope.spawn(move || parts(major));
        }
    });
}

fn parts(major: u32) {
    let cluster = Cluster::start(major);
    let place = Place::new();
    make_everything(&cluster, "source");
    let url = cluster.url("source");
    let whole = done(&place, &cluster, &["backup", &url, "--json"]).json();
    for (number, (options, words)) in PARTS.iter().enumerate() {
        let expected = cluster.text_with("source", options);
        let backup = [&["backup", &url, "--json"][..], options].concat();
        let report = done(&place, &cluster, &backup).json();
        let item = &report["backups"][0];
        assert_eq!(item["proof"], "stored");
        assert!(
            !item["selection"].is_null() && report["suspicions"].as_array().unwrap().is_empty(),
            "{report}"
        );
        let id = item["id"].as_str().unwrap();
        let stored = format!("part-{number}.sql");
        done(&place, &cluster, &["export", id, "--out", &stored]);
        assert_script(&expected, &place, &stored, major, options);
        let live = format!("live-{number}.sql");
        let file = [&["backup", &url, "--out", &live][..], options].concat();
        done(&place, &cluster, &file);
        assert_script(&expected, &place, &live, major, options);
        let shown = done(&place, &cluster, &["show", id]).out;
        assert!(shown.contains(&format!("part             {words}\n")), "{shown}");
        let listed = done(&place, &cluster, &["list", &url]).out;
        assert!(listed.contains(&format!("({words})")), "{listed}");
    }
    let latest = done(&place, &cluster, &["show", &format!("{url}@latest"), "--json"]).json();
    assert_eq!(latest["backup"]["id"], whole["backups"][0]["id"], "a part stands for the whole");
    assert!(latest["backup"]["selection"].is_null() && latest["manifest"]["facts"]["selection"].is_null());
    // A part is retained by itself: the whole stays.
    let pruned = done(&place, &cluster, &["prune", &url, "--keep-last", "1", "--json"]).json();
    assert_eq!(pruned["removed"], serde_json::json!([]), "{pruned}");
}

#[track_caller]
fn assert_script(expected: &str, place: &Place, file: &str, major: u32, options: &[&str]) {
    let found = std::fs::read(place.path(file)).unwrap();
    assert_same(
        expected,
        &sorted_script(&String::from_utf8_lossy(&found)),
        &format!("{major} {options:?} {file}"),
    );
}

#[test]
fn rows_and_digests_are_those_of_the_whole() {
    let cluster = Cluster::start(15);
    let place = Place::new();
    make_everything(&cluster, "source");
    let url = cluster.url("source");
    let tables = |arguments: &[&str]| {
        let report = done(&place, &cluster, &[&["backup", &url, "--json"][..], arguments].concat()).json();
        let id = report["backups"][0]["id"].as_str().unwrap().to_owned();
        let shown = done(&place, &cluster, &["show", &id, "--json"]).json();
        shown["manifest"]["facts"]["tables"].clone()
    };
    let whole = tables(&[]);
    assert!(whole.as_array().unwrap().len() > 10);
    assert_eq!(whole, tables(&["--data-only"]));
    let without = tables(&["--exclude-table-data", "shop.people"]);
    assert_eq!(without.as_array().unwrap().len() + 1, whole.as_array().unwrap().len());
}

#[test]
fn parts_are_compared_and_kept_among_themselves() {
    let cluster = Cluster::start(15);
    let place = Place::new();
    cluster.create("erp");
    cluster.sql(
        "erp",
        "CREATE TABLE a AS SELECT i FROM generate_series(1, 1000) AS i; CREATE TABLE log (i int)",
    );
    let url = cluster.url("erp");
    let backup = |arguments: &[&str]| {
        done(&place, &cluster, &[&["backup", &url, "--json"][..], arguments].concat()).json()
    };
    let id = |report: &serde_json::Value| report["backups"][0]["id"].as_str().unwrap().to_owned();
    let whole = id(&backup(&[]));
    assert_eq!(backup(&["--table", "log"])["outcome"], "complete");
    assert_eq!(backup(&["--schema-only"])["outcome"], "complete");
    let first = backup(&["--table", "a"]);
    assert_eq!(first["outcome"], "complete");
    cluster.sql("erp", "DELETE FROM a");
    let emptied = backup(&["--table", "a"]);
    assert_eq!(emptied["outcome"], "suspect", "{emptied}");
    assert_eq!(emptied["suspicions"][0]["baseline"], first["backups"][0]["id"]);
    let now = backup(&[]);
    assert_eq!(now["suspicions"][0]["baseline"], whole, "{now}");

    // It never takes the place of the whole.
    let part = id(&emptied);
    for target in [&[][..], &["--target", &url], &["--in-place"]] {
        let restore = [&["restore", &part, "--yes", "--dry-run"][..], target].concat();
        let refused = run(&place, &cluster, &restore);
        assert_eq!(refused.code, 2, "{restore:?}: {}", refused.err);
        assert!(refused.err.contains("holds a part of erp (tables a)"), "{}", refused.err);
    }

    // A slip of the pen is an error, and never an empty backup.
    let refused = run(&place, &cluster, &["backup", &url, "--table", "a", "--table", "orderz"]);
    assert_eq!(refused.code, 20, "{}", refused.err);
    assert!(refused.err.contains("no matching tables were found for pattern \"orderz\""), "{}", refused.err);
    for (arguments, words) in [
        (&["--schema-only", "--data-only"][..], "cannot be used with"),
        (&["--table", "a", "--schema", "public"], "no effect beside tables"),
        (&["--schema-only", "--exclude-table-data", "a"], "no rows can be left out"),
        (&["--table", ""], "a pattern is empty"),
    ] {
        let refused = run(&place, &cluster, &[&["backup", &url][..], arguments].concat());
        assert_eq!(refused.code, 2, "{arguments:?}: {}", refused.err);
        assert!(refused.err.contains(words), "{arguments:?}: {}", refused.err);
    }
}

#[test]
fn a_role_that_may_read_a_part_backs_up_that_part() {
    let cluster = Cluster::start(15);
    let place = Place::new();
    cluster.create("erp");
    cluster.sql(
        "erp",
        "CREATE ROLE poor LOGIN; CREATE TABLE open AS SELECT 1 AS a; GRANT SELECT ON open TO poor;
         CREATE TABLE closed (a int); CREATE SCHEMA hidden; CREATE TABLE hidden.t (a int);",
    );
    let url = cluster.url_as("poor", "erp");
    let report = done(&place, &cluster, &["backup", &url, "--table", "open", "--json"]).json();
    assert_eq!(report["backups"][0]["rows"], 1);
    done(&place, &cluster, &["backup", &url, "--table", "open", "--out", "open.sql"]);
    load(&cluster, &place.path("open.sql"), "copy");
    assert_eq!(cluster.sql("copy", "SELECT a FROM open"), "1");
    let refused = run(&place, &cluster, &["backup", &url, "--table", "closed"]);
    assert_eq!(refused.code, 20, "{}", refused.err);
    assert!(refused.err.contains("permission denied for table closed"), "{}", refused.err);
}

#[test]
fn a_plan_may_be_of_a_part() {
    let cluster = Cluster::start(15);
    let place = Place::without_repository();
    cluster.create("erp");
    cluster.sql("erp", "CREATE TABLE a AS SELECT 1 AS i; CREATE TABLE log AS SELECT 2 AS i");
    let url = cluster.url("erp");
    place.machine.write(
        "backstay.toml",
        &format!(
            "repository = \"r\"\n[repositories.r]\npath = \"repo\"\n[targets.erp]\nsource = \"{url}\"\n\
             [targets.erp.plans.nightly]\nkeep = {{ last = 1 }}\n\
             [targets.erp.plans.hourly]\nexclude_table_data = [\"log\"]\nkeep = {{ last = 1 }}\n"
        ),
    );
    let mut init = command_without(&place, &cluster);
    init.args(["init", "--repository", "r"]).assert().success();
    for _ in 0..2 {
        let mut backup = command_without(&place, &cluster);
        let output = backup.args(["backup", "erp", "--json"]).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows: Vec<_> = report["backups"].as_array().unwrap().iter().map(|item| &item["rows"]).collect();
        assert_eq!(rows, [1, 2], "{report}");
    }
    let output = command_without(&place, &cluster).args(["list", "--json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 2, "each plan keeps its own: {listed}");
}

fn command_without(place: &Place, cluster: &Cluster) -> assert_cmd::Command {
    let mut command = crate::command(place, cluster);
    command.env_remove("BACKSTAY_REPOSITORY");
    command
}
