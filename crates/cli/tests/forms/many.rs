//! Many databases of one server as one target: found by a pattern, each a backup of its own, and one that fails takes no
//! other with it.

use crate::seams::Place;
use crate::{done, load, run};
use testkit::Cluster;

#[test]
fn the_databases_that_fit_a_pattern_are_one_target() {
    let cluster = Cluster::start(15);
    let place = Place::new();
    for (name, rows) in
        [("shop_acme", 1), ("shop_b c", 2), ("other", 3), ("shop_x__safety_20261121t020000z", 4)]
    {
        cluster.create(name);
        cluster.sql(name, &format!("CREATE TABLE t AS SELECT generate_series(1, {rows}) AS i"));
    }
    let url = cluster.url("shop_*");
    let backup = |code: i32| {
        let outcome = run(&place, &cluster, &["backup", &url, "--json"]);
        assert_eq!(outcome.code, code, "{}", outcome.err);
        outcome.json()
    };
    let report = backup(0);
    let found: Vec<_> =
        report["backups"].as_array().unwrap().iter().map(|item| (&item["database"], &item["rows"])).collect();
    let expected = [("shop_acme", 1), ("shop_b c", 2)].map(|(name, rows)| (name.into(), rows.into()));
    assert_eq!(
        found,
        expected.each_ref().map(|(name, rows): &(serde_json::Value, serde_json::Value)| (name, rows))
    );
    assert!(report["skipped"][0]["object"].as_str().unwrap().contains("__safety_"), "{report}");
    let id = report["backups"][1]["id"].as_str().unwrap();
    assert!(id.ends_with(":shop_b c"), "{id}");
    done(&place, &cluster, &["export", id, "--out", "one.dump"]);
    load(&cluster, &place.path("one.dump"), "copy");
    assert_eq!(cluster.sql("copy", "SELECT count(*) FROM t"), "2");

    // One that cannot be read fails by itself.
    cluster.sql(
        "postgres",
        "ALTER DATABASE shop_acme CONNECTION LIMIT 0; CREATE ROLE poor LOGIN IN ROLE pg_read_all_data",
    );
    let poor = cluster.url_as("poor", "shop_*");
    let outcome = run(&place, &cluster, &["backup", &poor, "--json"]);
    assert_eq!(outcome.code, 3, "{}", outcome.err);
    let report = outcome.json();
    assert_eq!(report["outcome"], "incomplete");
    assert!(
        report["backups"][0]["error"]["message"].as_str().unwrap().contains("too many connections"),
        "{report}"
    );
    assert_eq!(report["backups"][1]["rows"], 2);
    cluster.sql("postgres", "ALTER DATABASE shop_acme CONNECTION LIMIT -1; DROP DATABASE \"shop_b c\"");
    cluster.create("shop_new");
    let report = backup(0);
    assert_eq!(report["appeared"][0]["database"], "shop_new", "{report}");
    assert_eq!(report["vanished"][0]["database"], "shop_b c", "{report}");
    let refused = run(&place, &cluster, &["backup", &cluster.url("nothing_*")]);
    assert_eq!(refused.code, 20, "{}", refused.err);
    assert!(refused.err.contains("no database of the server fits the pattern"), "{}", refused.err);
    let refused = run(&place, &cluster, &["backup", &url, "--out", "x.sql"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
}

#[test]
fn tenants_are_named_by_what_the_template_leaves_open() {
    let cluster = Cluster::start(15);
    let place = Place::without_repository();
    for name in ["shop_acme", "shop_bolt"] {
        cluster.create(name);
        cluster.sql(name, "CREATE TABLE t AS SELECT 1 AS i");
    }
    let url = cluster.url("shop_{tenant}");
    place.machine.write(
        "backstay.toml",
        &format!(
            "repository = \"r\"\n[repositories.r]\npath = \"repo\"\n[targets.shops]\nsource = \"{url}\"\n"
        ),
    );
    let program = |arguments: &[&str]| {
        let mut command = crate::command(&place, &cluster);
        command.env_remove("BACKSTAY_REPOSITORY").args(arguments);
        let outcome = crate::outcome(&mut command);
        assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.err);
        outcome
    };
    program(&["init", "--repository", "r"]);
    let report = program(&["backup", "shops", "--json"]).json();
    let names: Vec<_> = report["backups"].as_array().unwrap().iter().map(|item| &item["database"]).collect();
    assert_eq!(names, ["acme", "bolt"]);
    let listed = program(&["list", "shops"]).out;
    assert!(listed.contains("shops/acme") && listed.contains("shops/bolt"), "{listed}");
    let one = program(&["backup", "shops/bolt", "--json"]).json();
    assert_eq!(one["backups"].as_array().unwrap().len(), 1);
    program(&["backup", "shops/bolt", "--out", "bolt.sql"]);
    load(&cluster, &place.path("bolt.sql"), "copy");
    assert_eq!(cluster.sql("copy", "SELECT i FROM t"), "1");
    program(&["verify", "shops"]);
}
