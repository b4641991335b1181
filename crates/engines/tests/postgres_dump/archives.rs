//! The archive: whatever a database holds, stock `pg_restore` makes it again of what we dumped.

use crate::pulled::{context, dump_into, restore};
use engines::postgres::PostgresEngine;
use engines::{Engine, FactsDepth};
use std::path::Path;
use std::process::Command;
use testkit::{Cluster, POSTGRES_VERSIONS};

const EVERYTHING: &str = include_str!("everything.sql");

/// Makes a database with every kind of object.
fn make_everything(cluster: &Cluster, database: &str) {
    cluster.create(database);
    let roles = format!("\\set role_reader reader_{database}\n\\set role_owner 'the owner {database}'\n");
    cluster.sql(database, &format!("{roles}{EVERYTHING}"));
}

#[track_caller]
fn assert_same(cluster: &Cluster, a: &str, b: &str, folder: &Path) {
    let (left, right) = (cluster.text(a), cluster.text(b));
    if left == right {
        return;
    }
    std::fs::write(folder.join("left.sql"), left).unwrap();
    std::fs::write(folder.join("right.sql"), right).unwrap();
    let output =
        Command::new("diff").arg("-u").args(["left.sql", "right.sql"]).current_dir(folder).output().unwrap();
    let difference = String::from_utf8_lossy(&output.stdout);
    panic!("{}", difference.chars().take(4000).collect::<String>());
}

#[test]
fn every_kind_of_object_comes_back_by_stock_programs() {
    for major in POSTGRES_VERSIONS {
        let cluster = Cluster::start(major);
        let folder = tempfile::tempdir().unwrap();
        let (context, findings) = context(&cluster, folder.path());
        make_everything(&cluster, "source");
        let archive = folder.path().join("archive");
        let dumped = dump_into(&cluster.url("source"), 3, &context, &archive);
        assert_eq!(findings.all(), Vec::<String>::new());
        for (name, options) in [("parallel", &["-j2"][..]), ("serial", &[])] {
            cluster.create(name);
            restore(&cluster, &archive, name, options);
            assert_same(&cluster, "source", name, folder.path());
        }
        let rows = |name: &str| dumped.facts.tables.iter().find(|table| table.name == name).unwrap().rows;
        assert_eq!(rows("shop.people"), Some(1000));
        assert_eq!(rows("shop.no_columns"), Some(5));
        assert_eq!(rows("shop.parent"), Some(1));
        assert_eq!(rows("shop.no_rows"), Some(0));
        let globals = std::fs::read_to_string(archive.join("globals.sql")).unwrap();
        assert!(globals.contains("CREATE ROLE reader_source;"), "{globals}");
        assert!(!std::fs::exists(folder.path().join("scratch/pgpass")).unwrap());
        assert_eq!(cluster.sessions_left(), Vec::<String>::new());
    }
}

#[test]
fn names_and_values_of_any_encoding_come_back() {
    for major in POSTGRES_VERSIONS {
        let cluster = Cluster::start(major);
        let folder = tempfile::tempdir().unwrap();
        let (context, _) = context(&cluster, folder.path());
        for (name, encoding) in [("latin", "LATIN1"), ("ascii", "SQL_ASCII"), ("japanese", "EUC_JP")] {
            let create = |name: &str| {
                format!(
                    "CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
                )
            };
            let copy = format!("{name}_copy");
            cluster.sql("postgres", &create(name));
            cluster.sql("postgres", &create(&copy));
            let word = if encoding == "EUC_JP" { "表能" } else { "Größe" };
            cluster.sql(
                name,
                &format!(
                    "SET client_encoding = '{}'; CREATE SCHEMA \"{word}\"; CREATE TABLE \"{word}\".\"{word} 1\" (id serial, \"{word}\" text);
                     INSERT INTO \"{word}\".\"{word} 1\" (\"{word}\") VALUES ('{word}'), ('x');
                     CREATE MATERIALIZED VIEW \"{word}\".mv AS SELECT count(*) FROM \"{word}\".\"{word} 1\";",
                    if encoding == "SQL_ASCII" { "SQL_ASCII" } else { "UTF8" }
                ),
            );
            if encoding == "SQL_ASCII" {
                // Bytes that are no text in any encoding.
                cluster.sql(
                    name,
                    "CREATE TABLE raw AS SELECT convert_from('\\xff80fe'::bytea, 'SQL_ASCII') AS a",
                );
            }
            let archive = folder.path().join(name);
            let dumped = dump_into(&cluster.url(name), 2, &context, &archive);
            assert_eq!(dumped.facts.properties["encoding"], encoding);
            restore(&cluster, &archive, &copy, &["-j2"]);
            let text = |database: &str| cluster.text_in(database, encoding);
            assert_eq!(text(name), text(&copy), "{name}");
            assert_eq!(cluster.sql(&copy, "SET client_encoding = 'SQL_ASCII'; SELECT count(*) FROM pg_class WHERE relname = 'mv' AND relispopulated"), "1");
        }
        names_that_are_no_text(&cluster, &context);
    }
}

/// What our statements cannot name is told before anything is read, all of it at once.
fn names_that_are_no_text(cluster: &Cluster, context: &flow::Context) {
    cluster.sql(
        "postgres",
        "CREATE DATABASE raw ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    for statement in [
        "CREATE TABLE %I (a int)",
        "CREATE TABLE fine (b int, %I int)",
        "CREATE TYPE mood AS ENUM (%L)",
        "CREATE SCHEMA %I",
        "CREATE SEQUENCE %I.s",
    ] {
        cluster.sql(
            "raw",
            &format!(
                "DO $$ BEGIN EXECUTE format('{statement}', convert_from('\\x4772fc6e', 'SQL_ASCII')); END $$"
            ),
        );
    }
    let error = crate::pulled::failure(&cluster.url("raw"), context);
    for name in [
        "names that are no UTF-8",
        "column public.fine.Gr\u{fffd}n",
        "schema Gr\u{fffd}n",
        "sequence Gr\u{fffd}n.s",
        "table public.Gr\u{fffd}n",
        "value of the type mood.Gr\u{fffd}n",
    ] {
        assert!(error.contains(name), "{name}: {error}");
    }
    let database = crate::pulled::database(&cluster.url("raw"));
    let info = PostgresEngine.probe(&database, false, context).unwrap();
    let told = info.findings.iter().find(|finding| finding.severity == flow::Severity::Problem).unwrap();
    assert!(told.message.contains("table public.Gr\u{fffd}n"), "{told:?}");
    assert!(told.hint.as_ref().unwrap().contains("RENAME"), "{told:?}");
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());
}

#[test]
fn a_large_table_is_read_in_parts_that_join_to_the_whole() {
    let cluster = Cluster::start(15);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    cluster.create("source");
    // One row a block.
    cluster.sql(
        "source",
        "CREATE UNLOGGED TABLE big (id int, body text) WITH (fillfactor = 10, autovacuum_enabled = off);
         ALTER TABLE big ALTER body SET STORAGE PLAIN;
         INSERT INTO big SELECT i, repeat('x', 800) FROM generate_series(1, 8500) AS i;
         CREATE TABLE small AS SELECT 1 AS a;",
    );
    let archive = folder.path().join("archive");
    let dumped = dump_into(&cluster.url("source"), 3, &context, &archive);
    let oid = cluster.sql("source", "SELECT 'big'::regclass::oid");
    let parts = dumped.entries.iter().find(|(name, _)| name.as_str() == format!("{oid}.dat")).unwrap().1.1;
    assert_eq!(parts, 2);
    assert_eq!(dumped.facts.tables[0].rows, Some(8500));
    cluster.create("copy");
    restore(&cluster, &archive, "copy", &["-j2"]);
    let sum = "SELECT count(*), sum(hashtext(big::text)::bigint) FROM big";
    assert_eq!(cluster.sql("source", sum), cluster.sql("copy", sum));
    // The digest is that of the rows, however they were cut.
    let database = crate::pulled::database(&cluster.url("copy"));
    let facts = PostgresEngine.facts(&database, FactsDepth::Digests, &context).unwrap();
    assert_eq!(facts.tables, dumped.facts.tables);
}

#[test]
fn of_an_extensions_tables_the_rows_of_its_user_come_back() {
    let extensions = tempfile::tempdir().unwrap();
    let folder = extensions.path().join("extension");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(
        folder.join("places.control"),
        "default_version = '1'\nrelocatable = false\nschema = public\n",
    )
    .unwrap();
    std::fs::write(
        folder.join("places--1.sql"),
        "CREATE TABLE town (id int PRIMARY KEY, country int, own boolean);
         CREATE TABLE country (id int PRIMARY KEY, own boolean);
         ALTER TABLE town ADD FOREIGN KEY (country) REFERENCES country;
         CREATE TABLE internal (a int); CREATE SEQUENCE numbers;
         INSERT INTO country VALUES (1, false); INSERT INTO town VALUES (1, 1, false); INSERT INTO internal VALUES (1);
         SELECT pg_extension_config_dump('town', 'WHERE own');
         SELECT pg_extension_config_dump('country', 'WHERE own');
         SELECT pg_extension_config_dump('numbers', '');",
    )
    .unwrap();
    std::process::Command::new("chmod").args(["-R", "a+rX"]).arg(extensions.path()).status().unwrap();
    let setting = format!("extension_control_path=$system:{}", extensions.path().display());
    let cluster = Cluster::start_with(18, &[&setting]);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    cluster.create("source");
    cluster.sql(
        "source",
        "CREATE EXTENSION places; INSERT INTO country VALUES (2, true); INSERT INTO town VALUES (2, 2, true), (3, 1, true);
         SELECT nextval('numbers'), nextval('numbers');",
    );
    let archive = folder.path().join("archive");
    let dumped = dump_into(&cluster.url("source"), 2, &context, &archive);
    let rows: Vec<_> = dumped.facts.tables.iter().map(|table| (table.name.as_str(), table.rows)).collect();
    assert_eq!(rows, [("public.country", Some(1)), ("public.town", Some(2))]);
    for (name, options) in [("parallel", &["-j2"][..]), ("serial", &[])] {
        cluster.create(name);
        restore(&cluster, &archive, name, options);
        assert_same(&cluster, "source", name, folder.path());
        assert_eq!(cluster.sql(name, "SELECT count(*) FROM town"), "3");
    }
}
