//! Names, values and sizes that a restore must not stumble over: databases in other encodings, tables in several parts,
//! columns in another order.

use engines::postgres::PostgresEngine;
use engines::{Engine, Ownership, RestoreMode, RestoreRequest, Safety};
use flow::{
    BackupReader, Context, DatabaseName, DatabaseRef, DatabaseRequest, DumpOptions, DumpRequest, EngineKind,
    Environment, ScratchDir, TargetName, TargetRef,
};
use std::path::Path;
use testkit::{Cluster, Drained, DrainedDatabase, MemoryBackup, POSTGRES_VERSIONS, drain};

pub(crate) fn context(cluster: &Cluster, folder: &Path) -> Context {
    let mut context = Context::quiet(ScratchDir::new(folder.join("scratch")));
    let path = format!("{}:/usr/bin:/bin", cluster.programs().display());
    context.environment = Environment::new([("PATH".to_owned(), path)]);
    context
}

pub(crate) fn backup(cluster: &Cluster, name: &str, context: &Context) -> MemoryBackup {
    let drained = drained(&cluster.url(name), name, context);
    let found = drained.databases.values().next().and_then(DrainedDatabase::backup);
    found.unwrap_or_else(|| panic!("{drained:?}"))
}

pub(crate) fn drained(url: &str, name: &str, context: &Context) -> Drained {
    let connection = url.to_owned();
    let target = TargetName::new("erp").unwrap();
    let request = DumpRequest {
        target: TargetRef {
            name: target.clone(),
            engine: EngineKind::Postgres,
            connection: connection.clone(),
            secret: None,
            tenants: None,
        },
        databases: vec![DatabaseRequest {
            database: DatabaseRef { target, name: DatabaseName::new(name).unwrap(), connection },
            previous: None,
        }],
        options: DumpOptions::default(),
    };
    drain(PostgresEngine.begin_dump(&request, context.clone()).unwrap(), 2)
}

#[track_caller]
pub(crate) fn restore(cluster: &Cluster, backup: &MemoryBackup, name: &str, context: &Context) {
    let request = restore_request(&cluster.url(name), name, RestoreMode::ToNew);
    let mut restore = PostgresEngine.begin_restore(&request, backup.manifest(), context.clone()).unwrap();
    for step in restore.steps().to_vec() {
        restore.run(step, backup).unwrap_or_else(|error| panic!("{name}: {step:?}: {error}"));
    }
}

pub(crate) fn restore_request(url: &str, name: &str, mode: RestoreMode) -> RestoreRequest {
    RestoreRequest {
        target: DatabaseRef {
            target: TargetName::new("erp").unwrap(),
            name: DatabaseName::new(name).unwrap(),
            connection: url.to_owned(),
        },
        mode,
        safety: if mode == RestoreMode::ToNew { Safety::None } else { Safety::Beside },
        verify: true,
        ownership: Ownership::default(),
        tables: Vec::new(),
        schema_only: false,
        data_only: false,
        backup: "0123abcd".to_owned(),
        repository: "/backups".to_owned(),
        started: "2026-11-21T02:00:00Z".parse().unwrap(),
        host: "host".to_owned(),
    }
}

#[test]
fn names_and_values_of_any_encoding_come_back() {
    for major in POSTGRES_VERSIONS {
        let cluster = Cluster::start(major);
        let folder = tempfile::tempdir().unwrap();
        let context = context(&cluster, folder.path());
        for (name, encoding) in [("latin", "LATIN1"), ("ascii", "SQL_ASCII"), ("japanese", "EUC_JP")] {
            cluster.sql(
                "postgres",
                &format!(
                    "CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
                ),
            );
            let word = if encoding == "EUC_JP" { "表能" } else { "Größe" };
            let client = if encoding == "SQL_ASCII" { "SQL_ASCII" } else { "UTF8" };
            cluster.sql(
                name,
                &format!(
                    "SET client_encoding = '{client}'; CREATE SCHEMA \"{word}\"; CREATE TABLE \"{word}\".\"{word} 1\" (id serial, \"{word}\" text);
                     INSERT INTO \"{word}\".\"{word} 1\" (\"{word}\") VALUES ('{word}'), ('x');
                     CREATE MATERIALIZED VIEW \"{word}\".mv AS SELECT count(*) FROM \"{word}\".\"{word} 1\";
                     COMMENT ON DATABASE {name} IS '{word}';",
                ),
            );
            if encoding == "SQL_ASCII" {
                // Bytes that are no text in any encoding.
                cluster.sql(
                    name,
                    "CREATE TABLE raw AS SELECT convert_from('\\xff80fe'::bytea, 'SQL_ASCII') AS a",
                );
            }
            let copy = format!("{name}_copy");
            restore(&cluster, &backup(&cluster, name, &context), &copy, &context);
            assert_eq!(cluster.text_in(name, encoding), cluster.text_in(&copy, encoding), "{name}");
            let told = format!(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{copy}'"
            );
            assert_eq!(cluster.sql("postgres", &told), word);
        }
        assert_eq!(cluster.sessions_left(), Vec::<String>::new());
    }
}

#[test]
fn a_large_table_comes_in_parts_and_columns_in_their_order() {
    let cluster = Cluster::start(15);
    let folder = tempfile::tempdir().unwrap();
    let context = context(&cluster, folder.path());
    cluster.create("source");
    // One row a block; a child whose columns a new one has in another order.
    cluster.sql(
        "source",
        "CREATE TABLE big (id int, body text) WITH (fillfactor = 10, autovacuum_enabled = off);
         ALTER TABLE big ALTER body SET STORAGE PLAIN;
         INSERT INTO big SELECT i, repeat('x', 800) FROM generate_series(1, 8500) AS i;
         CREATE TABLE parent (a int); CREATE TABLE child (z text) INHERITS (parent);
         ALTER TABLE parent ADD COLUMN b int; INSERT INTO child VALUES (1, 'z', 2);
         CREATE TABLE empty (a int); CREATE TABLE hole (a int, b int, c int);
         INSERT INTO hole VALUES (1, 2, 3); ALTER TABLE hole DROP COLUMN b;",
    );
    let backup = backup(&cluster, "source", &context);
    assert!(backup.manifest().entries.iter().any(|entry| entry.parts.len() == 2));
    restore(&cluster, &backup, "copy", &context);
    // Not only the order of columns differs: the rows are where they belong.
    let order = |name: &str| {
        cluster.sql(name, "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'child'::regclass AND attnum > 0")
    };
    assert_ne!(order("source"), order("copy"));
    for sql in ["SELECT a, b, z FROM child", "SELECT count(*) FROM empty", "SELECT * FROM hole"] {
        assert_eq!(cluster.sql("source", sql), cluster.sql("copy", sql), "{sql}");
    }
    let sum = "SELECT count(*), sum(hashtext(big::text)::bigint) FROM big";
    assert_eq!(cluster.sql("source", sum), cluster.sql("copy", sum));
    let analyzed = "SELECT count(*) FROM pg_stats WHERE tablename = 'big'";
    assert_eq!(cluster.sql("copy", analyzed), "2");
}
