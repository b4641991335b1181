//! Rights, settings and content, one server for all of them.

use crate::pulled::{context, database, dump_into, request};
use engines::Engine;
use engines::postgres::PostgresEngine;
use flow::{Context, Finding, Severity, Step};
use std::path::Path;
use std::time::Duration;
use testkit::{Cluster, drain};

/// Returns what is found of a severity, as one text a finding.
pub(crate) fn found(url: &str, severity: Severity, integrity: bool, context: &Context) -> Vec<String> {
    let info = PostgresEngine.probe(&database(url), integrity, context).unwrap();
    let of_severity = |finding: &Finding| finding.severity == severity;
    let text = |finding: Finding| {
        format!("{}: {} | {}", finding.object, finding.message, finding.hint.unwrap_or_default())
    };
    info.findings.into_iter().filter(of_severity).map(text).collect()
}

/// Asserts that one of them has all these parts.
#[track_caller]
pub(crate) fn assert_found(found: &[String], parts: &[&str]) {
    let fits = |text: &String| parts.iter().all(|part| text.contains(part));
    assert!(found.iter().any(fits), "nothing with {parts:?}: {found:#?}");
}

const CONTENT: &str =
    "CREATE ROLE poor LOGIN; CREATE SCHEMA \"Other Place\"; CREATE TABLE \"Other Place\".\"T t\" (a serial);
  CREATE TABLE plain (a int); INSERT INTO plain VALUES (1), (2);
  CREATE TABLE guarded (a int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
  CREATE POLICY one ON guarded USING (a = 1); INSERT INTO guarded VALUES (1), (2);
  CREATE INDEX by_a ON plain (a); SELECT lo_from_bytea(7, 'x'), lo_from_bytea(8, 'y');";

#[test]
fn what_is_found_is_gone_once_its_hint_was_followed() {
    let cluster = Cluster::start(15);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    cluster.create("erp");
    cluster.sql("erp", CONTENT);
    let poor = cluster.url_as("poor", "erp");
    let problems = found(&poor, Severity::Problem, false, &context);
    for object in [
        "schema \"Other Place\"",
        "table \"Other Place\".\"T t\"",
        "table public.plain",
        "table public.guarded",
    ] {
        assert_found(&problems, &[&format!("{object}: ")]);
    }
    assert_found(&problems, &["sequence \"Other Place\".\"T t_a_seq\"", "GRANT SELECT ON SEQUENCE"]);
    assert_found(&problems, &["2 large objects cannot be read", "GRANT SELECT ON LARGE OBJECT 7, 8 TO poor"]);

    // The list of all statements mends all of it at once.
    let notices = found(&poor, Severity::Notice, false, &context);
    let all = notices.iter().find_map(|text| text.split_once("all at once: ")).unwrap().1;
    cluster.sql("erp", all.trim_end_matches(" | "));
    assert_eq!(found(&poor, Severity::Problem, false, &context), Vec::<String>::new());
    let dumped = dump_into(&poor, 2, &context, &folder.path().join("archive"));
    assert_eq!(dumped.facts.rows(), Some(4));

    limits(&cluster, &poor, &context);
    outlasts_limits(&cluster, &poor, folder.path());
    content(&cluster, &poor, &context);
}

fn limits(cluster: &Cluster, poor: &str, context: &Context) {
    cluster.sql(
        "erp",
        "ALTER ROLE poor SET statement_timeout = '30s'; ALTER DATABASE erp SET idle_session_timeout = '10min'",
    );
    let notices = found(poor, Severity::Notice, false, context);
    assert_found(&notices, &["statement_timeout is 30 s for this role", "take it back"]);
    assert_found(&notices, &["idle_session_timeout is 10 min"]);
    assert_found(&notices, &["pg_dump 15.", " at /", "reads it"]);

    for (limit, severity) in [(3, Severity::Warning), (1, Severity::Problem)] {
        cluster.sql("erp", &format!("ALTER ROLE poor CONNECTION LIMIT {limit}"));
        let told = found(poor, severity, false, context);
        assert_found(&told, &[&format!("{limit} connections are left (the role's CONNECTION LIMIT)")]);
    }
    cluster.sql("erp", "ALTER ROLE poor CONNECTION LIMIT -1");
    assert_eq!(found(poor, Severity::Warning, false, context), Vec::<String>::new());
}

/// Whoever holds the locks does nothing for longer than the role may be idle, and a statement lasts longer than it may.
fn outlasts_limits(cluster: &Cluster, poor: &str, folder: &Path) {
    cluster.sql(
        "erp",
        "ALTER ROLE poor SET idle_in_transaction_session_timeout = '800ms'; ALTER ROLE poor SET statement_timeout = '800ms'",
    );
    let (context, _) = context(cluster, folder);
    let dump = PostgresEngine.begin_dump(&request(poor, 1), context).unwrap();
    let Some(Step::Part(mut part)) = dump.next().unwrap() else { panic!("there is no part") };
    std::thread::sleep(Duration::from_millis(1600));
    let mut buffer = vec![0; 65_536];
    while part.reader.read(&mut buffer).unwrap() > 0 {}
    part.reader.finish().unwrap();
    let drained = drain(dump, 1);
    assert!(drained.error.is_none(), "{:?}", drained.error);
    let found = drained.databases.into_values().next().unwrap();
    assert!(found.dumped().is_some(), "{:?}", found.verdicts);
    cluster.sql("erp", "ALTER ROLE poor RESET ALL");
}

fn content(cluster: &Cluster, poor: &str, context: &Context) {
    cluster.sql("erp", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_a'::regclass");
    let told = found(poor, Severity::Warning, false, context);
    assert_found(&told, &["index public.by_a", "is not valid", "REINDEX INDEX CONCURRENTLY public.by_a"]);
    cluster.sql("erp", "REINDEX INDEX by_a");
    assert_eq!(found(poor, Severity::Warning, false, context), Vec::<String>::new());
    cluster.sql(
        "erp",
        "CREATE SUBSCRIPTION from_afar CONNECTION 'host=/nowhere dbname=x' PUBLICATION p WITH (connect = false)",
    );
    let told = found(poor, Severity::Warning, false, context);
    assert_found(&told, &["subscriptions are not in a backup", "from_afar"]);
    cluster.sql("postgres", "CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0");
    assert_found(&found(&cluster.url("bytes"), Severity::Notice, false, context), &["SQL_ASCII"]);
}
