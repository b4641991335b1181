//! Others who put something else in the place of what a dump reads, or whose data have another place after a restore:
//! what was read is what was there, or the backup says so.

use crate::pulled::{context, dump_into, request, restore};
use engines::Engine;
use engines::postgres::PostgresEngine;
use flow::{Context, Dump, Step};
use testkit::{Cluster, drain};

/// Begins a dump and pulls its first part, so that everything is locked that is going to be; lets somebody do something,
/// and returns what became of the dump.
fn dump_meanwhile(
    cluster: &Cluster,
    database: &str,
    context: &Context,
    meanwhile: impl FnOnce(),
) -> Result<flow::Dumped, String> {
    let dump: Box<dyn Dump> =
        PostgresEngine.begin_dump(&request(&cluster.url(database), 1), context.clone()).unwrap();
    let Some(Step::Part(mut first)) = dump.next().unwrap() else { panic!("there is no part") };
    meanwhile();
    let mut buffer = vec![0; 65_536];
    while matches!(first.reader.read(&mut buffer), Ok(1..)) {}
    let _ = first.reader.finish();
    let drained = drain(dump, 1);
    drained.databases.into_values().next().unwrap().verdicts.into_iter().next().unwrap()
}

#[test]
fn what_stands_in_for_another_is_not_read() {
    let cluster = Cluster::start(15);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    a_view_in_a_sequences_place(&cluster, &context);
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());
}

/// Its function would run with the rights of whoever backs up.
fn a_view_in_a_sequences_place(cluster: &Cluster, context: &Context) {
    cluster.create("hostile");
    cluster.sql("hostile", "CREATE SEQUENCE s; CREATE TABLE t AS SELECT 1 AS a");
    let proof = cluster.socket_folder().join("data/proof");
    let error = dump_meanwhile(cluster, "hostile", context, || {
        cluster.sql(
            "hostile",
            &format!(
                "CREATE FUNCTION spy() RETURNS bigint LANGUAGE plpgsql AS $$
                 BEGIN EXECUTE $c$COPY (SELECT 1) TO '{}'$c$; RETURN 1; END $$;
                 DROP SEQUENCE s; CREATE VIEW s AS SELECT spy() AS last_value, true AS is_called;",
                proof.display()
            ),
        );
    })
    .unwrap_err();
    assert!(!proof.exists(), "a function of the user ran with the rights of the backup");
    assert!(error.contains("sequence"), "{error}");
}

#[test]
fn partitions_by_the_hash_of_an_enum_come_back() {
    let cluster = Cluster::start(15);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    cluster.create("source");
    let parts: String = (0..4)
        .map(|rest| {
            format!("CREATE TABLE h{rest} PARTITION OF h FOR VALUES WITH (MODULUS 4, REMAINDER {rest});")
        })
        .collect();
    cluster.sql(
        "source",
        &format!(
            "CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h');
             CREATE TABLE h (i int, m mood, PRIMARY KEY (i, m)) PARTITION BY HASH (m); {parts}
             INSERT INTO h SELECT i, (enum_range(NULL::mood))[1 + i % 8] FROM generate_series(1, 800) AS i"
        ),
    );
    let archive = folder.path().join("archive");
    let dumped = dump_into(&cluster.url("source"), 2, &context, &archive);
    assert_eq!(dumped.facts.rows(), Some(800));
    assert_eq!(dumped.facts.properties["loaded_via"]["public.h2"], "public.h");
    let rows = "SELECT count(*), md5(string_agg(h::text, ',' ORDER BY i)) FROM h";
    for (name, options) in [("parallel", &["-j2"][..]), ("serial", &[])] {
        cluster.create(name);
        restore(&cluster, &archive, name, options);
        assert_eq!(cluster.sql(name, rows), cluster.sql("source", rows));
    }
}
