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

#[test]
fn tenants_are_those_that_a_table_names() {
    let cluster = Cluster::start(15);
    let place = Place::without_repository();
    cluster.create("control");
    cluster.sql(
        "control",
        "CREATE TABLE customers (slug text, active boolean DEFAULT true);
         INSERT INTO customers VALUES ('acme', true), ('bolt', true), ('acme', true), ('old', false), ('gone', true)",
    );
    for name in ["shop_acme", "shop_bolt", "shop_old", "shop_unknown"] {
        cluster.create(name);
        cluster.sql(name, "CREATE TABLE t AS SELECT 1 AS i");
    }
    let configure = |source: &str, sql: &str| {
        let tenants = format!("tenants = {{ database = \"control\", sql = \"{sql}\" }}");
        place.machine.write(
            "backstay.toml",
            &format!("repository = \"r\"\n[repositories.r]\npath = \"repo\"\n[targets.shops]\nsource = \"{source}\"\n{tenants}\n"),
        );
    };
    let program = |code: i32, arguments: &[&str]| {
        let mut command = crate::command(&place, &cluster);
        command.env_remove("BACKSTAY_REPOSITORY").args(arguments);
        let outcome = crate::outcome(&mut command);
        assert_eq!(outcome.code, code, "{arguments:?}: {}", outcome.err);
        outcome
    };
    let names = |report: &serde_json::Value| -> Vec<String> {
        let items = report["backups"].as_array().unwrap().iter();
        items.map(|item| item["database"].as_str().unwrap().to_owned()).collect()
    };
    let url = cluster.url("shop_{tenant}");
    configure(&url, "SELECT slug FROM customers WHERE active");
    program(0, &["init", "--repository", "r"]);
    // A tenant without a database is told, and takes no other with it.
    let report = program(3, &["backup", "shops", "--json"]).json();
    assert_eq!(names(&report), ["acme", "bolt", "gone"]);
    let message = report["backups"][2]["error"]["message"].as_str().unwrap();
    assert!(message.contains("database \"shop_gone\" does not exist"), "{message}");
    cluster.sql("control", "DELETE FROM customers WHERE slug IN ('gone', 'bolt')");
    let report = program(0, &["backup", "shops", "--json"]).json();
    assert_eq!(names(&report), ["acme"]);
    assert_eq!(report["vanished"][0]["database"], "bolt", "{report}");
    program(0, &["backup", "shops/acme"]);

    // The question changes nothing, and one that cannot be asked is told.
    for (sql, words) in [
        ("DELETE FROM customers RETURNING slug", "who the tenants are cannot be asked"),
        ("SELECT nothing FROM customers", "column \\\"nothing\\\" does not exist"),
        ("SELECT NULL::text", "returned a row without a name"),
        ("SELECT slug FROM customers WHERE false", "returned none"),
    ] {
        configure(&url, sql);
        let mut command = crate::command(&place, &cluster);
        let outcome = crate::outcome(command.env_remove("BACKSTAY_REPOSITORY").args(["backup", "shops"]));
        assert!([2, 20].contains(&outcome.code), "{sql}: {}", outcome.err);
        assert!(outcome.err.contains(&words.replace('\\', "")), "{sql}: {}", outcome.err);
    }
    assert_eq!(cluster.sql("control", "SELECT count(*) FROM customers"), "3");
    configure(&cluster.url("shop_*"), "SELECT slug FROM customers");
    let refused = program(2, &["backup", "shops"]);
    assert!(refused.err.contains("targets.shops.tenants"), "{}", refused.err);
}
