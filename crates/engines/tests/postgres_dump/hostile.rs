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
    let cluster = Cluster::start_with(15, &["max_prepared_transactions=2"]);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    a_view_in_a_sequences_place(&cluster, &context);
    names_that_are_swapped(&cluster, &context);
    a_sequence_that_is_changed_in_an_open_transaction(&cluster, &context);
    a_view_that_is_changed_in_an_open_transaction(&cluster, &context);
    a_prepared_transaction(&cluster, &context);
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

/// Neither schemas nor types nor sequences have locks of ours.
fn names_that_are_swapped(cluster: &Cluster, context: &Context) {
    let swaps = [
        (
            "ALTER SCHEMA blue RENAME TO passing; ALTER SCHEMA green RENAME TO blue; ALTER SCHEMA passing RENAME TO green;",
            "was renamed",
        ),
        ("ALTER TYPE blue.mood RENAME VALUE 'sad' TO 'blue';", "value of the type mood"),
        (
            "ALTER SEQUENCE blue.s RENAME TO p; ALTER SEQUENCE blue.q RENAME TO s; ALTER SEQUENCE blue.p RENAME TO q;",
            "sequence",
        ),
    ];
    for (number, (swap, told)) in swaps.into_iter().enumerate() {
        let database = format!("swapped{number}");
        cluster.create(&database);
        cluster.sql(
            &database,
            "CREATE SCHEMA blue; CREATE SCHEMA green; CREATE TYPE blue.mood AS ENUM ('sad');
             CREATE TABLE blue.large AS SELECT i, repeat('x', 1000) AS body FROM generate_series(1, 3000) AS i;
             CREATE TABLE blue.t AS SELECT 1 AS i; CREATE TABLE green.t AS SELECT 2 AS i; CREATE TABLE green.large AS SELECT 3 AS i, '' AS body;
             CREATE SEQUENCE blue.s; CREATE SEQUENCE blue.q;",
        );
        let error =
            dump_meanwhile(cluster, &database, context, || drop(cluster.sql(&database, swap))).unwrap_err();
        assert!(error.contains(told) && error.contains("while the backup ran"), "{swap}: {error}");
    }
}

/// Who holds a sequence is not ended because of a backup, and not waited for without an end.
fn a_sequence_that_is_changed_in_an_open_transaction(cluster: &Cluster, context: &Context) {
    cluster.create("changing");
    cluster.sql("changing", "CREATE SEQUENCE s; CREATE TABLE t AS SELECT 1 AS a; CREATE ROLE somebody");
    let mut other = crate::races::Other::open(cluster, "changing");
    let error = dump_meanwhile(cluster, "changing", context, || {
        other.say("BEGIN; ALTER SEQUENCE s OWNER TO somebody; SELECT pg_sleep(2); DROP TABLE t; COMMIT;");
        crate::races::wait_for(
            cluster,
            "SELECT EXISTS (SELECT FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock')",
        );
    })
    .unwrap_err();
    assert!(error.contains("sequence public.s cannot be read"), "{error}");
    other.end();
    assert_eq!(cluster.sql("changing", "SELECT count(*) FROM pg_class WHERE relname = 't'"), "0");
}

/// `pg_dump` would wait for it without an end.
fn a_view_that_is_changed_in_an_open_transaction(cluster: &Cluster, context: &Context) {
    cluster.create("viewed");
    cluster.sql("viewed", "CREATE TABLE t AS SELECT 1 AS a; CREATE VIEW v AS SELECT a FROM t");
    let mut other = crate::races::Other::open(cluster, "viewed");
    other.say("BEGIN; ALTER VIEW v OWNER TO somebody;");
    crate::races::wait_for(
        cluster,
        "SELECT EXISTS (SELECT FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock')",
    );
    let error = crate::pulled::failure(&cluster.url("viewed"), context);
    assert!(error.contains("pg_dump had to wait for public.v"), "{error}");
    other.end();
}

/// It has no process.
fn a_prepared_transaction(cluster: &Cluster, context: &Context) {
    cluster.create("prepared");
    cluster.sql("prepared", "CREATE TABLE t AS SELECT 1 AS a");
    cluster.sql("prepared", "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'p'");
    let error = crate::pulled::failure(&cluster.url("prepared"), context);
    assert!(error.contains("could not obtain lock on relation \"public.t\""), "{error}");
    cluster.sql("prepared", "ROLLBACK PREPARED 'p'");
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
