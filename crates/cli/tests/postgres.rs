//! PostgreSQL from end to end, through the program: a database is backed up twice, listed, shown, verified; stock
//! `restic` and stock `pg_restore` make it again without the program.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::{Path, PathBuf};
use support::{Machine, outcome};
use testkit::{Cluster, POSTGRES_VERSIONS};

const EVERYTHING: &str = include_str!("../../engines/tests/postgres_dump/everything.sql");
const CHINOOK: &str = include_str!("../../../testdata/chinook/chinook.postgres.sql");
const CONTENT: &str = "CREATE TABLE people (id serial PRIMARY KEY, name text);
  INSERT INTO people (name) SELECT 'person ' || i FROM generate_series(1, 5000) AS i;
  CREATE TABLE orders (id int, person int REFERENCES people, day date) PARTITION BY RANGE (day);
  CREATE TABLE orders_old PARTITION OF orders FOR VALUES FROM ('2020-01-01') TO ('2026-01-01');
  CREATE TABLE orders_new PARTITION OF orders DEFAULT;
  INSERT INTO orders SELECT i, i, date '2025-01-01' + i FROM generate_series(1, 1000) AS i;
  CREATE MATERIALIZED VIEW days AS SELECT day, count(*) FROM orders GROUP BY day;
  SELECT lo_from_bytea(4711, '\\x00ff0a');";

fn command(machine: &Machine, cluster: &Cluster) -> assert_cmd::Command {
    let mut command = machine.command();
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", cluster.programs().display()));
    command
}

fn done(machine: &Machine, cluster: &Cluster, arguments: &[&str]) -> support::Outcome {
    let outcome = outcome(command(machine, cluster).args(arguments));
    assert_eq!(outcome.code, 0, "{arguments:?}: {} {}", outcome.out, outcome.err);
    outcome
}

/// Restores a snapshot by stock restic and returns the folder with the archive.
fn archive(machine: &Machine, repository: &str, snapshot: &str, into: &str) -> PathBuf {
    let password = machine.write("password", &machine.key());
    let folder = machine.path(into);
    for arguments in
        [&["check", "--read-data"][..], &["restore", snapshot, "--target", folder.to_str().unwrap()]]
    {
        let mut restic = assert_cmd::Command::new("restic");
        restic.args(["--no-cache", "-r", repository, "--password-file"]).arg(&password).args(arguments);
        restic.assert().success();
    }
    let mut open = vec![folder];
    while let Some(folder) = open.pop() {
        if folder.join("toc.dat").is_file() {
            return folder;
        }
        let below = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        open.extend(below.filter(|path| path.is_dir()));
    }
    panic!("there is no archive in the snapshot");
}

#[track_caller]
fn restore(cluster: &Cluster, archive: &Path, into: &str) {
    cluster.create(into);
    let mut command = cluster.command("pg_restore");
    let output = command.args(["-j2", "--exit-on-error", "-d", into]).arg(archive).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", output.status);
}

#[test]
fn a_database_comes_back_by_stock_programs_alone() {
    for major in POSTGRES_VERSIONS {
        let cluster = Cluster::start(major);
        let machine = Machine::new();
        cluster.create("erp");
        cluster.sql("erp", CONTENT);
        let url = cluster.url("erp");
        let repository = machine.text("repository");
        let on = |arguments: &[&str]| {
            done(&machine, &cluster, &[&["--repository", &repository], arguments].concat())
        };
        on(&["init"]);
        let first = on(&["backup", &url, "--json"]).json();
        let item = &first["backups"][0];
        assert_eq!((&item["engine"], &item["database"]), (&"postgres".into(), &"erp".into()));
        assert_eq!((&item["rows"], &item["proof"]), (&6000.into(), &"stored".into()));

        let restored = archive(&machine, &repository, item["id"].as_str().unwrap(), "first");
        restore(&cluster, &restored, "copy");
        assert_eq!(cluster.text("copy"), cluster.text("erp"));

        // What did not change is found again, and what changed comes.
        cluster.sql("erp", "UPDATE people SET name = 'changed' WHERE id = 1");
        let second = on(&["backup", &url, "--json"]).json();
        let added = |report: &serde_json::Value| report["backups"][0]["added_bytes"].as_u64().unwrap();
        assert!(added(&second) < added(&first), "{} {}", added(&second), added(&first));
        let restored = archive(&machine, &repository, "latest", "second");
        restore(&cluster, &restored, "newer");
        assert_eq!(cluster.text("newer"), cluster.text("erp"));

        let listed = on(&["list", &url, "--json"]).json();
        assert_eq!(listed["backups"].as_array().unwrap().len(), 2);
        let shown = on(&["show", &format!("{url}@latest")]).out;
        assert!(shown.contains("public.people") && shown.contains("5,000"), "{shown}");
        assert!(on(&["verify", &format!("{url}@latest")]).out.starts_with("PASS"));
        on(&["doctor", &url]);

        // And whatever else a database may hold.
        cluster.create("everything");
        let roles = "\\set role_reader reader\n\\set role_owner 'the owner'\n";
        cluster.sql("everything", &format!("{roles}{EVERYTHING}"));
        // It makes its database itself.
        cluster.sql("postgres", CHINOOK);
        for name in ["everything", "chinook"] {
            let report = on(&["backup", &cluster.url(name), "--json"]).json();
            let id = report["backups"][0]["id"].as_str().unwrap();
            let copy = format!("{name}_copy");
            restore(&cluster, &archive(&machine, &repository, id, name), &copy);
            assert!(cluster.text(&copy) == cluster.text(name), "{name} of {major} is another one");
        }
    }
}

#[test]
fn values_of_a_hundred_megabytes_come_back() {
    let cluster = Cluster::start(15);
    let machine = Machine::new();
    cluster.create("erp");
    cluster.sql(
        "erp",
        "CREATE TABLE large (id int PRIMARY KEY, raw bytea, body text);
         ALTER TABLE large ALTER raw SET STORAGE EXTERNAL; ALTER TABLE large ALTER body SET STORAGE EXTERNAL;
         INSERT INTO large SELECT 1, decode(repeat(md5('a') || '00ff0a5c', 5000000), 'hex');
         INSERT INTO large SELECT 2, NULL, repeat(E'a line\\\\ with\\ta tab\\n', 5500000);",
    );
    let sizes =
        "SELECT octet_length(raw) >= 100000000, octet_length(body) >= 100000000 FROM large ORDER BY id";
    assert_eq!(cluster.sql("erp", sizes), "t|\n|t");
    let sums = "SELECT id, md5(raw), md5(body) FROM large ORDER BY id";
    let url = cluster.url("erp");
    let repository = machine.text("repository");
    let on =
        |arguments: &[&str]| done(&machine, &cluster, &[&["--repository", &repository], arguments].concat());
    on(&["init"]);
    let report = on(&["backup", &url, "--json"]).json();
    on(&["restore", &format!("{url}@latest"), "--to-new", "ours", "--yes"]);
    let id = report["backups"][0]["id"].as_str().unwrap();
    restore(&cluster, &archive(&machine, &repository, id, "restored"), "stock");
    for copy in ["ours", "stock"] {
        assert_eq!(cluster.sql(copy, sums), cluster.sql("erp", sums), "{copy}");
    }
}

#[test]
fn a_configured_target_has_its_password_file() {
    let cluster = Cluster::start(15);
    let machine = Machine::new();
    cluster.create("erp");
    cluster.sql("erp", "CREATE ROLE anna LOGIN SUPERUSER PASSWORD 'geheim'; CREATE TABLE t AS SELECT 1 AS a");
    let rules = cluster.socket_folder().join("data/pg_hba.conf");
    let others = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("local all anna scram-sha-256\n{others}")).unwrap();
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    let passfile = machine.write("pg pass", "*:*:erp:anna:geheim\n");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&passfile, private).unwrap();
    let source = cluster.url_as("anna", "erp");
    let written = format!(
        "repository = \"r\"\n[repositories.r]\npath = \"repository\"\n[targets.erp]\nsource = \"{source}\"\npassfile = \"pg pass\"\n"
    );
    machine.write("backstay.toml", &written);
    done(&machine, &cluster, &["init", "--repository", "r"]);
    let report = done(&machine, &cluster, &["backup", "erp", "--json"]).json();
    assert_eq!(report["backups"][0]["rows"], 1);
    assert!(!report.to_string().contains("geheim"));

    std::fs::write(&passfile, "*:*:erp:anna:falsch\n").unwrap();
    let refused = outcome(command(&machine, &cluster).args(["backup", "erp"]));
    assert_eq!(refused.code, 20, "{}", refused.err);
    assert!(refused.err.contains("password authentication failed"), "{}", refused.err);
    assert!(!refused.err.contains("falsch"), "{}", refused.err);
    assert_eq!(done(&machine, &cluster, &["list", "--json"]).json()["backups"].as_array().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_done_is_said() {
    let machine = Machine::new();
    let nowhere = format!("postgres:///erp?host={}", machine.root.display());
    let repository = machine.text("repository");
    machine.done(&["--repository", &repository, "init"]);
    let missing = machine.run(&["--repository", &repository, "backup", &nowhere]);
    assert_eq!(missing.code, 20, "{}", missing.err);
    assert!(
        missing.err.contains("cannot connect") && missing.err.contains(".s.PGSQL.5432"),
        "{}",
        missing.err
    );
    for (url, words) in
        [("postgres://u:geheim@db/erp", "holds a password"), ("postgres://db", "names no database")]
    {
        let refused = machine.run(&["--repository", &repository, "backup", url]);
        assert_eq!(refused.code, 2, "{}", refused.err);
        assert!(refused.err.contains(words) && !refused.err.contains("geheim"), "{}", refused.err);
    }
    let refused = machine.run(&["--repository", &repository, "backup", "postgres:///erp?colour=red"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("unknown parameter `colour`"), "{}", refused.err);
}
