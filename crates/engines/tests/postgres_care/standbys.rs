//! What is different on a standby is said before a backup of it stumbles.

use crate::probing::{assert_found, found};
use crate::pulled::{context, dump_into};
use flow::Severity;
use std::time::{Duration, Instant};
use testkit::Cluster;

#[test]
fn conflicts_and_unlogged_tables_of_a_standby_are_explained() {
    let primary = Cluster::start(15);
    primary.create("erp");
    primary.sql("erp", "CREATE TABLE t AS SELECT 1 AS a; CREATE UNLOGGED TABLE quick AS SELECT 2 AS a");
    let standby = primary.standby(&[]);
    let started = Instant::now();
    let there = "SELECT count(*) FROM pg_database WHERE datname = 'erp'";
    while standby.sql("postgres", there) != "1" {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    }
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&standby, folder.path());
    let url = standby.url("erp");
    let told = found(&url, Severity::Warning, false, &context);
    assert_found(&told, &["more than 30 s", "conflict with recovery", "hot_standby_feedback = on"]);
    assert_found(&told, &["unlogged tables have no rows on a standby", "public.quick"]);
    assert_eq!(found(&url, Severity::Problem, false, &context), Vec::<String>::new());
    let dumped = dump_into(&url, 2, &context, &folder.path().join("archive"));
    assert_eq!(dumped.facts.rows(), Some(1));

    standby.sql("postgres", "ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf()");
    let started = Instant::now();
    while standby.sql("postgres", "SHOW hot_standby_feedback") != "on" {
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    let told = found(&url, Severity::Warning, false, &context);
    assert!(!told.iter().any(|text| text.contains("conflict")), "{told:?}");
    assert_found(
        &found(&url, Severity::Notice, false, &context),
        &["hot_standby_feedback", "TRUNCATE or DROP"],
    );
}
