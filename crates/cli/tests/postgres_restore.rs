//! Restores of PostgreSQL through the program: everything comes back, beside and over a live database; what stands in the
//! way is said before anything changes; what belongs to a database stays with its name.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::{Child, Stdio};
use support::{Machine, Outcome, outcome};
use testkit::{Cluster, POSTGRES_VERSIONS, postgres_programs};

const EVERYTHING: &str = include_str!("../../engines/tests/postgres_dump/everything.sql");
const CHINOOK: &str = include_str!("../../../testdata/chinook/chinook.postgres.sql");

/// A server, and a repository beside it.
struct Stage {
    cluster: Cluster,
    machine: Machine,
    repository: String,
}

impl Stage {
    fn new(major: u32) -> Self {
        let (cluster, machine) = (Cluster::start(major), Machine::new());
        let repository = machine.text("repository");
        let stage = Self { cluster, machine, repository };
        stage.done(&["init"]);
        stage
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.machine.command();
        let programs = POSTGRES_VERSIONS.map(|major| postgres_programs(major).display().to_string());
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", programs.join(":")));
        outcome(command.args(["--repository", &self.repository]).args(arguments))
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 0, "{arguments:?}: {} {}", outcome.out, outcome.err);
        outcome
    }

    fn url(&self, name: &str) -> String {
        self.cluster.url(name)
    }

    /// The databases that are there, but for the server's own.
    fn databases(&self) -> Vec<String> {
        let sql = "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1') ORDER BY 1";
        self.cluster.sql("postgres", sql).lines().map(str::to_owned).collect()
    }

    /// What belongs to a database and is in no dump of its content.
    fn properties(&self, name: &str) -> String {
        self.cluster.sql(
            "postgres",
            &format!(
                "SELECT pg_get_userbyid(datdba), datconnlimit, datistemplate, datallowconn, shobj_description(d.oid, 'pg_database'),
                   (SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM unnest(coalesce(datacl, acldefault('d', datdba))) x),
                   (SELECT string_agg(setrole::regrole::text || setconfig::text, ' ' ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid)
                 FROM pg_database d WHERE datname = '{name}'"
            ),
        )
    }
}

/// Somebody who stays connected.
struct Guest(Child);

impl Guest {
    fn in_database(cluster: &Cluster, name: &str) -> Self {
        let mut command = cluster.command("psql");
        command
            .args(["-X", "-d", name, "-c", "SELECT pg_sleep(600)"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let guest = Self(command.spawn().unwrap());
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND query LIKE '%pg_sleep%'"
        );
        while cluster.sql("postgres", &sql) == "0" {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        guest
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[track_caller]
fn assert_same(stage: &Stage, left: &str, right: &str) {
    if left != right {
        std::fs::write(stage.machine.path("left.sql"), left).unwrap();
        std::fs::write(stage.machine.path("right.sql"), right).unwrap();
        let mut diff = std::process::Command::new("diff");
        let output =
            diff.arg("-u").args([stage.machine.path("left.sql"), stage.machine.path("right.sql")]).output();
        panic!("{}", String::from_utf8_lossy(&output.unwrap().stdout).chars().take(4000).collect::<String>());
    }
}

#[test]
fn every_kind_of_object_comes_back_beside_and_over_the_live_one() {
    for major in POSTGRES_VERSIONS {
        let stage = Stage::new(major);
        let cluster = &stage.cluster;
        cluster.create("erp");
        cluster.sql("erp", &format!("\\set role_reader reader\n\\set role_owner 'the owner'\n{EVERYTHING}"));
        cluster.sql(
            "postgres",
            "ALTER DATABASE erp OWNER TO \"the owner\"; ALTER DATABASE erp CONNECTION LIMIT 30;
             REVOKE CONNECT ON DATABASE erp FROM PUBLIC; GRANT CONNECT ON DATABASE erp TO reader;
             ALTER DATABASE erp SET search_path = \"$user\", shop, \"Odd schema\";
             ALTER ROLE reader IN DATABASE erp SET work_mem = '7MB'",
        );
        let (text, properties) = (cluster.text("erp"), stage.properties("erp"));
        let url = stage.url("erp");
        stage.done(&["backup", &url]);

        let latest = format!("{url}@latest");
        let report = stage.done(&["restore", &latest, "--to-new", "the copy", "--json"]).json();
        assert_eq!((&report["verified"], &report["safety_copy"]), (&true.into(), &serde_json::Value::Null));
        assert_same(&stage, &text, &cluster.text("the copy"));
        assert_eq!(stage.properties("the copy"), properties);

        cluster.sql("erp", "DROP TABLE shop.egg CASCADE; DELETE FROM shop.numbers; SELECT lo_unlink(77)");
        let changed = cluster.text("erp");
        let guest = Guest::in_database(cluster, "erp");
        let refused = stage.run(&["restore", &latest, "--yes"]);
        assert_eq!(refused.code, 11, "{}", refused.err);
        assert!(refused.err.contains("of postgres (psql, since"), "{}", refused.err);
        let report = stage.done(&["restore", &latest, "--confirm", "erp", "--json"]).json();
        drop(guest);
        assert_same(&stage, &text, &cluster.text("erp"));
        assert_eq!(stage.properties("erp"), properties);
        let safety = report["safety_copy"].as_str().unwrap();
        assert!(safety.starts_with("erp__safety_2"), "{safety}");
        assert_same(&stage, &changed, &cluster.text(safety));
        assert!(stage.properties(safety).contains("kept by backstay"), "{}", stage.properties(safety));
        assert_eq!(stage.databases(), ["erp", safety, "the copy"]);
        assert_eq!(cluster.sessions_left(), Vec::<String>::new());
        let nothing = stage.run(&["restore", "--continue", "--target", &url]);
        assert_eq!(nothing.code, 2, "{}", nothing.err);
    }
}

#[test]
fn a_sample_database_comes_back_and_nothing_is_kept_where_nothing_was() {
    let stage = Stage::new(18);
    let cluster = &stage.cluster;
    // It makes its database itself.
    cluster.sql("postgres", CHINOOK);
    let url = stage.url("chinook");
    stage.done(&["backup", &url]);
    // An empty database that somebody has prepared keeps its rights; what it held is nothing to keep.
    cluster.sql("postgres", "CREATE ROLE app; CREATE DATABASE prepared OWNER app CONNECTION LIMIT 5; COMMENT ON DATABASE prepared IS 'mine'");
    let properties = stage.properties("prepared");
    let latest = format!("{url}@latest");
    let dry =
        stage.done(&["restore", &latest, "--target", &stage.url("prepared"), "--dry-run", "--json"]).json();
    assert_eq!(
        (&dry["refusals"], &dry["plan"]["problems"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    assert_eq!(dry["safety_copy"], serde_json::Value::Null);
    assert_eq!(stage.databases(), ["chinook", "prepared"]);
    stage.done(&["restore", &latest, "--target", &stage.url("prepared"), "--confirm", "prepared"]);
    assert_same(&stage, &cluster.text("chinook"), &cluster.text("prepared"));
    assert_eq!(stage.properties("prepared"), properties);
    assert_eq!(stage.databases(), ["chinook", "prepared"]);

    // Gone altogether, it comes back to where it was; and without a copy, where none is wanted.
    cluster.sql("postgres", "DROP DATABASE chinook");
    stage.done(&["restore", &latest, "--confirm", "chinook"]);
    assert_same(&stage, &cluster.text("chinook"), &cluster.text("prepared"));
    stage.done(&["restore", &latest, "--confirm", "chinook", "--no-safety", "--no-verify"]);
    assert_same(&stage, &cluster.text("chinook"), &cluster.text("prepared"));
    assert_eq!(stage.databases(), ["chinook", "prepared"]);
    let taken = stage.run(&["restore", &latest, "--to-new", "prepared"]);
    assert_eq!(taken.code, 20, "{}", taken.err);
    assert!(taken.err.contains("exists already"), "{}", taken.err);
}

#[test]
fn what_another_server_lacks_is_named_at_once() {
    let stage = Stage::new(15);
    stage.cluster.sql(
        "postgres",
        "CREATE ROLE owner LOGIN; CREATE ROLE \"The reader\"; CREATE DATABASE erp OWNER owner",
    );
    stage.cluster.sql(
        "erp",
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1); ALTER TABLE t OWNER TO owner; GRANT SELECT ON t TO \"The reader\"",
    );
    stage.done(&["backup", &stage.url("erp")]);
    let other = Cluster::start(18);
    let url = other.url("erp");
    let latest = format!("{}@latest", stage.url("erp"));
    let restore = |more: &[&str]| {
        stage.run(&[&["restore", &latest, "--target", &url, "--confirm", "erp"], more].concat())
    };
    let dry = restore(&["--dry-run"]);
    assert_eq!(dry.code, 0);
    assert!(dry.out.contains("would be refused: roles that the backup names are not"), "{}", dry.out);
    let refused = restore(&[]);
    assert_eq!(refused.code, 20, "{}", refused.err);
    assert!(
        refused.err.contains("The reader, owner") && refused.err.contains("--create-roles"),
        "{}",
        refused.err
    );
    let databases = || other.sql("postgres", "SELECT count(*) FROM pg_database");
    assert_eq!(databases(), "3");

    let owner = || other.sql("erp", "SELECT tableowner FROM pg_tables WHERE tablename = 't'");
    let done = restore(&["--no-owner"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("rights were left out"), "{}", done.err);
    assert_eq!(owner(), "postgres");
    other.sql("postgres", "CREATE ROLE \"New\"");
    let done = restore(&["--role-map", "owner=New", "--role-map", "The reader=New", "--no-safety"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(owner(), "New");
    let done = restore(&["--create-roles", "--no-safety"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(owner(), "owner");
    assert_eq!(other.sql("erp", "SELECT has_table_privilege('The reader', 't', 'SELECT')"), "t");
    assert_eq!(other.sql("erp", "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'owner'"), "t");

    other.sql("postgres", "CREATE ROLE weak LOGIN");
    let weak = other.url_as("weak", "erp");
    let refused = stage.run(&["restore", &latest, "--target", &weak, "--confirm", "erp"]);
    assert_eq!(refused.code, 20, "{}", refused.err);
    assert!(refused.err.contains("ALTER ROLE weak CREATEDB"), "{}", refused.err);
}

#[test]
fn a_restore_that_fails_leaves_the_old_database_and_the_service_up() {
    let stage = Stage::new(15);
    let cluster = &stage.cluster;
    cluster.create("erp");
    cluster.sql("erp", "CREATE TABLE t AS SELECT 1 AS a; COMMENT ON DATABASE erp IS 'ours'");
    let url = stage.url("erp");
    stage.done(&["backup", &url]);
    cluster.sql("erp", "UPDATE t SET a = 2");
    let log = stage.machine.text("log");
    let (stop, start) = (format!("echo stop >> {log}"), format!("echo start >> {log}"));
    let latest = format!("{url}@latest");
    let failed = stage.run(&[
        "restore",
        &latest,
        "--confirm",
        "erp",
        "--stop-command",
        &stop,
        "--start-command",
        &start,
        "--health-url",
        "http://127.0.0.1:1/",
    ]);
    assert_ne!(failed.code, 0);
    assert!(failed.err.contains("was rolled back: the target is as it was"), "{}", failed.err);
    assert_eq!(cluster.sql("erp", "SELECT a FROM t"), "2");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "stop\nstart\nstop\nstart\n");
    assert!(stage.properties("erp").contains("|ours|"), "{}", stage.properties("erp"));
    assert_eq!(stage.databases(), ["erp"]);
    let folder = stage.run(&["restore", &latest, "--safety-dir", "/tmp", "--confirm", "erp"]);
    assert_eq!(folder.code, 2, "{}", folder.err);
}

#[test]
fn an_old_safety_copy_goes_behind_a_newer_proven_backup() {
    let stage = Stage::new(15);
    let cluster = &stage.cluster;
    cluster.create("erp");
    cluster.sql("erp", "CREATE TABLE t AS SELECT 1 AS a");
    let url = stage.url("erp");
    stage.machine.write(
        "backstay.toml",
        &format!(
            "[repositories.main]\npath = \"repository\"\n[targets.erp]\nsource = \"{url}\"\n[targets.erp.plans.nightly]\nkeep = {{ last = 5 }}\n"
        ),
    );
    stage.done(&["backup", "erp"]);
    let restored = || {
        let report = stage.done(&["restore", "erp@latest", "--confirm", "erp", "--json"]).json();
        report["safety_copy"].as_str().unwrap().to_owned()
    };
    let (old, young) = (restored(), restored());
    cluster.sql(
        "postgres",
        &format!(
            "ALTER DATABASE {old} RENAME TO erp__safety_20260101t020000z;
             COMMENT ON DATABASE erp__safety_20260101t020000z IS 'what erp held before the restore of 2026-01-01T02:00:00Z, kept by backstay'"
        ),
    );
    let (old, told) =
        (stage.url("erp__safety_20260101t020000z"), |report: &serde_json::Value, list: &str| {
            let items = report[list].as_array().unwrap().iter().filter(|item| item["id"].is_null());
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            items.map(|item| (text(&item["path"]), text(&item["reasons"][0]))).collect::<Vec<_>>()
        });
    let dry = stage.done(&["prune", "erp", "--dry-run", "--json"]).json();
    assert_eq!(told(&dry, "removed"), [(old.clone(), "older than 7 days".to_owned())], "{dry}");
    assert_eq!(told(&dry, "kept"), [(stage.url(&young), "not older than 7 days".to_owned())], "{dry}");
    assert_eq!(stage.databases().len(), 3);
    stage.done(&["prune", "erp"]);
    assert_eq!(stage.databases(), ["erp".to_owned(), young]);
    assert_eq!(told(&stage.done(&["prune", "erp", "--json"]).json(), "removed"), []);
    assert_eq!(cluster.sql("erp", "SELECT a FROM t"), "1");
}

#[test]
fn a_table_comes_back_beside_the_live_one() {
    let stage = Stage::new(15);
    let cluster = &stage.cluster;
    cluster.create("erp");
    cluster.sql(
        "erp",
        "CREATE SCHEMA \"My shop\"; CREATE TABLE \"My shop\".orders (id serial PRIMARY KEY, body text, \"A b\" int CHECK (\"A b\" > 0));
         INSERT INTO \"My shop\".orders (body, \"A b\") SELECT 'order ' || i, i FROM generate_series(1, 1000) AS i;
         ALTER TABLE \"My shop\".orders ALTER body SET STORAGE EXTERNAL;
         CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent); CREATE TABLE other (a int);",
    );
    let url = stage.url("erp");
    stage.done(&["backup", &url]);
    let rows = "SELECT count(*), sum(hashtext(o::text)::bigint) FROM";
    let before = cluster.sql("erp", &format!("{rows} \"My shop\".orders o"));
    cluster.sql("erp", "DELETE FROM \"My shop\".orders WHERE id % 2 = 0; DROP TABLE other");
    let live = cluster.text("erp");
    let latest = format!("{url}@latest");
    let dry = stage.done(&["restore", &latest, "--table", "My shop.orders", "--dry-run"]);
    assert!(dry.out.contains("My shop.orders__restored_2"), "{}", dry.out);
    assert_same(&stage, &live, &cluster.text("erp"));
    let done = stage.done(&["restore", &latest, "--table", "My shop.orders"]);
    assert!(
        done.err.contains("the backup's My shop.orders is there as \"My shop\".\"orders__restored_2"),
        "{}",
        done.err
    );
    let made = cluster.sql("erp", "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE tablename LIKE '%\\_\\_restored\\_%' ORDER BY 1");
    assert_eq!(made.lines().count(), 1, "{made:?}");
    assert_eq!(cluster.sql("erp", &format!("{rows} {made} o")), before);
    cluster.sql("erp", &format!("DROP TABLE {made}"));
    assert_same(&stage, &live, &cluster.text("erp"));

    for (table, words) in [("nowhere", "the backup has no table nowhere"), ("child", "inherits columns")] {
        let refused = stage.run(&["restore", &latest, "--table", table]);
        assert_eq!(refused.code, 2, "{}", refused.err);
        assert!(refused.err.contains(words), "{}", refused.err);
    }
    assert_same(&stage, &live, &cluster.text("erp"));
    assert_eq!(stage.databases(), ["erp"]);
}
