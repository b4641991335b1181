//! A pooler that keeps no session is recognised by what it does, before anything is set in connections that are others'.

use crate::fake_pooler::{FakePooler, Mode};
use crate::probing::{assert_found, found};
use crate::pulled::{context, database, dump_into, failure};
use engines::Engine;
use engines::postgres::PostgresEngine;
use flow::Severity;
use testkit::Cluster;

#[test]
fn a_pooler_that_keeps_no_session_is_refused_and_left_as_it_was() {
    let cluster = Cluster::start(15);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    cluster.create("erp");
    cluster.sql("erp", "CREATE TABLE t AS SELECT 1 AS a");
    for (mode, connections, words) in [
        (Mode::Transaction, 1, "gives each transaction another connection"),
        (Mode::Transaction, 3, "gives each transaction another connection"),
        (Mode::Statement, 2, "lets no transaction in"),
    ] {
        let pooler = FakePooler::start(cluster.socket_folder(), mode, connections);
        let problems = found(&pooler.url(), Severity::Problem, false, &context);
        assert_found(&problems, &[words, "connect to the server itself"]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let error = failure(&pooler.url(), &context);
        assert!(error.contains(words), "{error}");
        // A restore needs a lock that its session keeps.
        let error = PostgresEngine.pending_restores(&database(&pooler.url()), &context).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        // Had anything been set, it would be in a connection that is another's now.
        let mut psql = std::process::Command::new(cluster.programs().join("psql"));
        let shown = psql
            .args(["-X", "-A", "-t", "-c", "SHOW search_path", &pooler.url()])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), "\"$user\", public");
    }
}

#[test]
fn a_pooler_that_keeps_sessions_is_as_good_as_the_server() {
    let cluster = Cluster::start(15);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    cluster.create("erp");
    cluster.sql("erp", "CREATE TABLE t AS SELECT 1 AS a");
    let pooler = FakePooler::start(cluster.socket_folder(), Mode::Session, 0);
    assert_eq!(found(&pooler.url(), Severity::Problem, false, &context), Vec::<String>::new());
    let dumped = dump_into(&pooler.url(), 2, &context, &folder.path().join("archive"));
    assert_eq!(dumped.facts.rows(), Some(1));
    let error = failure(&format!("{}&options=-c%20geqo=off", pooler.url()), &context);
    assert!(error.contains("unsupported startup parameter: options"), "{error}");
}
