//! What goes wrong around a database server: programs that are older than it, a repository that is full before its database
//! is in it, backups and dumps of another database system. Nothing is lost, and nothing is left at the server.

use crate::seams::{Place, make_repository};
use crate::space::SmallDisk;
use std::process::Output;
use testkit::Cluster;

fn run(place: &Place, path: &str, arguments: &[&str]) -> Output {
    place.command().env("PATH", path).args(arguments).output().unwrap()
}

fn programs(cluster: &Cluster) -> String {
    format!("{}:/usr/local/bin:/usr/bin:/bin", cluster.programs().display())
}

/// Holds an outcome against the exit code, one error with its object, and a hint.
#[track_caller]
fn assert_refused(output: &Output, code: i32, words: &[&str], hint: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    let told = said.split_once("hint: ").map_or("", |(_, hint)| hint);
    assert!(told.contains(hint), "the hint must hold `{hint}`: {said}");
}

#[test]
fn a_server_that_is_newer_than_the_programs() {
    let cluster = Cluster::start(18);
    let place = Place::new();
    let output = run(&place, "/usr/bin:/bin", &["backup", &cluster.url("postgres")]);
    assert_refused(&output, 20, &["the server is PostgreSQL 18, and the newest pg_dump here is"], "PATH");
    assert!(place.restic_json(&["snapshots"]).as_array().unwrap().is_empty());
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());
}

#[test]
fn a_repository_without_space_for_a_servers_database() {
    let place = Place::without_repository();
    let Some(_disk) = SmallDisk::mount(&place.repository(), "3m") else { return };
    make_repository(&place.repository());
    let cluster = Cluster::start(15);
    cluster.create("small");
    cluster.sql("small", "CREATE TABLE t AS SELECT 1 AS a");
    cluster.create("big");
    // Nothing compresses what chance made.
    cluster.sql(
        "big",
        "CREATE TABLE t AS SELECT i, decode(string_agg(md5(random()::text), ''), 'hex') AS noise
         FROM generate_series(1, 100) AS i, generate_series(1, 4000) AS j GROUP BY i;
         CREATE TABLE more AS SELECT * FROM t",
    );
    let path = programs(&cluster);
    let small = run(&place, &path, &["backup", &cluster.url("small")]);
    assert!(small.status.success(), "{}", String::from_utf8_lossy(&small.stderr));
    let snapshots = place.restic_json(&["snapshots"]);
    let output = run(&place, &path, &["backup", &cluster.url("big")]);
    assert_refused(&output, 1, &["/repo"], "space");
    assert_eq!(place.restic_json(&["snapshots"]), snapshots);
    place.restic(&["check", "--read-data"]);
    let verified = run(&place, &path, &["verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());
}

#[test]
fn backups_and_dumps_of_another_system() {
    let cluster = Cluster::start(15);
    let place = Place::new();
    let path = programs(&cluster);
    cluster.create("erp");
    cluster.sql("erp", "CREATE TABLE t AS SELECT 1 AS a");
    place.machine.database("app.db", 20);
    let app = std::fs::read(place.path("app.db")).unwrap();
    place.backup("app.db");
    let url = cluster.url("erp");
    let done = run(&place, &path, &["backup", &url]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = cluster.text("erp");

    let output = run(&place, &path, &["restore", "app.db@latest", "--target", &url, "--confirm", "erp"]);
    assert_refused(&output, 2, &["a backup of sqlite cannot be restored to"], "target of the same system");
    let latest = format!("{url}@latest");
    let output = run(&place, &path, &["restore", &latest, "--target", "app.db", "--confirm", "app.db"]);
    assert_refused(&output, 2, &["a backup of postgres cannot be restored to"], "target of the same system");
    assert_eq!(std::fs::read(place.path("app.db")).unwrap(), app);
    assert_eq!(cluster.text("erp"), text);

    // A dump of PostgreSQL is no backup of a SQLite database, and one that is cut none at all.
    let out = run(&place, &path, &["export", &latest, "--out", "erp-20260101.dump"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let whole = std::fs::read(place.path("erp-20260101.dump")).unwrap();
    std::fs::write(place.path("cut-20260102.dump"), &whole[..whole.len() / 2]).unwrap();
    let imports: [(&[&str], i32); 2] =
        [(&["import", "erp-20260101.dump", "--target", "app.db"], 2), (&["import", "cut-20260102.dump"], 20)];
    for (arguments, code) in imports {
        let output = run(&place, &path, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(arguments[1]), "{said}");
    }
    let listed = place.json(&["list"]);
    assert_eq!(listed["backups"].as_array().unwrap().len(), 2);
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());
}
