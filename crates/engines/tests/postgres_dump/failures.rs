//! What cannot be backed up is named, with the reason and what mends it; nothing is left behind.

use crate::pulled::{context, database, failure, request};
use engines::postgres::PostgresEngine;
use engines::{Engine, FactsDepth};
use flow::{Environment, Finding, Severity, SourceError, SourceErrorKind, Step};
use std::time::{Duration, Instant};
use testkit::Cluster;

/// Returns the verdict on a database that cannot be backed up.
fn verdict(url: &str, context: &flow::Context) -> SourceError {
    let dump = PostgresEngine.begin_dump(&request(url, 2), context.clone()).unwrap();
    loop {
        match dump.next() {
            Ok(Some(Step::Done(_, verdict))) => return verdict.expect_err("it came out well"),
            Ok(Some(Step::Part(mut part))) => {
                let mut buffer = vec![0; 65_536];
                while matches!(part.reader.read(&mut buffer), Ok(1..)) {}
                let _ = part.reader.finish();
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => return error,
        }
    }
}

#[test]
fn what_is_missing_or_forbidden_is_named() {
    let cluster = Cluster::start(15);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    cluster.create("erp");
    cluster.sql(
        "erp",
        "CREATE ROLE poor LOGIN; CREATE TABLE open (a int); GRANT SELECT ON open TO poor; CREATE TABLE closed (a int);
         CREATE ROLE reader LOGIN IN ROLE pg_read_all_data; CREATE TABLE seen (a int); INSERT INTO seen VALUES (1), (2);
         CREATE SCHEMA hidden; CREATE TABLE hidden.t (a int);",
    );
    let error = verdict(&cluster.url("nothing"), &context);
    assert_eq!(error.kind, SourceErrorKind::Missing);
    assert!(error.to_string().contains("database \"nothing\" does not exist"), "{error}");

    let error = verdict(&cluster.url_as("poor", "erp"), &context);
    assert_eq!(error.kind, SourceErrorKind::Unreadable);
    assert!(
        error.to_string().contains(
            "permission denied for role poor: schema hidden cannot be looked into; tables hidden.t, public.closed, public.seen cannot be read"
        ),
        "{error}"
    );
    let hint = error.hint.unwrap();
    assert!(hint.contains("GRANT SELECT ON hidden.t, public.closed, public.seen TO poor;"), "{hint}");

    let problems = |user: &str| -> Vec<Finding> {
        let database = database(&cluster.url_as(user, "erp"));
        let info = PostgresEngine.probe(&database, false, &context).unwrap();
        info.findings.into_iter().filter(|finding| finding.severity == Severity::Problem).collect()
    };
    let found = problems("poor");
    let told: Vec<_> = found.iter().map(|finding| finding.object.as_str()).collect();
    assert_eq!(told, ["schema hidden", "table hidden.t", "table public.closed", "table public.seen"]);
    assert_eq!(found[2].hint.as_deref(), Some("GRANT SELECT ON public.closed TO poor"));

    // Rows that a policy hides are not left out in silence.
    cluster
        .sql("erp", "ALTER TABLE seen ENABLE ROW LEVEL SECURITY; CREATE POLICY one ON seen USING (a = 1);");
    let error = verdict(&cluster.url_as("reader", "erp"), &context);
    assert!(
        error.to_string().contains("table public.seen may hide rows by a row-level security policy"),
        "{error}"
    );
    let error = PostgresEngine
        .facts(&database(&cluster.url_as("reader", "erp")), FactsDepth::Digests, &context)
        .unwrap_err();
    assert!(error.hint.unwrap().contains("ALTER ROLE … BYPASSRLS"));
    let found = problems("reader");
    assert_eq!(
        found.iter().map(|finding| finding.object.as_str()).collect::<Vec<_>>(),
        ["table public.seen"]
    );
    cluster.sql("erp", "ALTER ROLE reader BYPASSRLS");
    crate::pulled::dump_into(&cluster.url_as("reader", "erp"), 2, &context, &folder.path().join("archive"));

    // A large object is not covered by pg_read_all_data.
    cluster.sql("erp", "SELECT lo_from_bytea(5, 'x')");
    let error = failure(&cluster.url_as("reader", "erp"), &context);
    assert!(error.contains("1 large object cannot be read"), "{error}");
    let found = problems("reader");
    assert!(found[0].message.contains("1 large object cannot be read"), "{found:?}");
    assert!(
        found[0].hint.as_ref().unwrap().starts_with("GRANT SELECT ON LARGE OBJECT 5 TO reader"),
        "{found:?}"
    );
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());
}

#[test]
fn programs_that_are_too_old_are_told_before_anything_is_read() {
    let cluster = Cluster::start(18);
    let folder = tempfile::tempdir().unwrap();
    let (mut context, _) = context(&cluster, folder.path());
    context.environment = Environment::new([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
    let error = verdict(&cluster.url("postgres"), &context);
    assert_eq!(error.kind, SourceErrorKind::Unsupported);
    assert!(
        error.to_string().contains("the server is PostgreSQL 18, and the newest pg_dump here is"),
        "{error}"
    );
    assert!(error.hint.unwrap().contains("postgresql-client-18"));
}

#[test]
fn passwords_come_from_a_file_and_are_not_shown() {
    let cluster = Cluster::start(15);
    let folder = tempfile::tempdir().unwrap();
    let (mut context, _) = context(&cluster, folder.path());
    cluster.create("erp");
    cluster.sql("erp", "CREATE ROLE anna LOGIN SUPERUSER PASSWORD 'hun:ter2'; CREATE TABLE t (a int)");
    let rules = cluster.socket_folder().join("data/pg_hba.conf");
    let others = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("local all anna scram-sha-256\n{others}")).unwrap();
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    let url = cluster.url_as("anna", "erp");
    let error = verdict(&url, &context);
    assert_eq!(error.kind, SourceErrorKind::Unreadable);

    let path = context.environment.get("PATH").unwrap().to_owned();
    let with = |password: &str| {
        let variables = [("PATH".to_owned(), path.clone()), ("PGPASSWORD".to_owned(), password.to_owned())];
        Environment::new(variables)
    };
    context.environment = with("geheim");
    let error = verdict(&url, &context);
    assert!(error.to_string().contains("password authentication failed"), "{error}");
    assert!(!format!("{error:?}").contains("geheim"));
    context.environment = with("hun:ter2");
    let dumped = crate::pulled::dump_into(&url, 2, &context, &folder.path().join("archive"));
    assert!(dumped.entries.keys().any(|entry| entry.as_str() == "toc.dat"));
}

fn make_large(cluster: &Cluster) -> String {
    cluster.create("erp");
    cluster.sql(
        "erp",
        "CREATE TABLE a AS SELECT i, repeat(md5(i::text), 30) AS body FROM generate_series(1, 20000) AS i;
         SELECT lo_from_bytea(5, decode(repeat(md5('x'), 500000), 'hex'));",
    );
    cluster.url("erp")
}

#[test]
fn an_interrupted_dump_ends_its_sessions_and_programs() {
    let cluster = Cluster::start(15);
    let url = make_large(&cluster);
    for held in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let (context, _) = context(&cluster, folder.path());
        let cancel = context.cancel.clone();
        let dump = PostgresEngine.begin_dump(&request(&url, 2), context).unwrap();
        let mut parts = Vec::new();
        for _ in 0..held {
            let Some(Step::Part(mut part)) = dump.next().unwrap() else { panic!("there is no part") };
            part.reader.read(&mut [0; 100]).unwrap();
            parts.push(part);
        }
        let started = Instant::now();
        cancel.cancel();
        if let Some(part) = parts.first_mut() {
            // What came already may still be given, but not the whole.
            let mut buffer = vec![0; 65_536];
            let error = (0..1000).find_map(|_| part.reader.read(&mut buffer).err());
            assert_eq!(error.map(|error| error.kind), Some(SourceErrorKind::Cancelled));
        }
        assert_eq!(dump.next().unwrap_err().kind, SourceErrorKind::Cancelled);
        drop(parts);
        drop(dump);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(cluster.sessions_left(), Vec::<String>::new());
        assert_eq!(std::fs::read_dir(folder.path().join("scratch")).into_iter().flatten().count(), 0);
    }
}

#[test]
fn a_server_that_dies_fails_the_backup() {
    let mut cluster = Cluster::start(15);
    let url = make_large(&cluster);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    let dump = PostgresEngine.begin_dump(&request(&url, 1), context).unwrap();
    let Some(Step::Part(mut part)) = dump.next().unwrap() else { panic!("there is no part") };
    part.reader.read(&mut [0; 100]).unwrap();
    cluster.crash();
    let mut buffer = vec![0; 65_536];
    // What was on the way already may still be whole; the verdict is not.
    while matches!(part.reader.read(&mut buffer), Ok(1..)) {}
    let _ = part.reader.finish();
    let verdict = loop {
        match dump.next().unwrap() {
            Some(Step::Done(_, verdict)) => break verdict,
            Some(Step::Part(mut part)) => {
                while matches!(part.reader.read(&mut buffer), Ok(1..)) {}
                let _ = part.reader.finish();
            }
            other => panic!("{other:?}"),
        }
    };
    let error = verdict.unwrap_err();
    assert!(error.to_string().contains("closed") || error.to_string().contains("server"), "{error}");
}
