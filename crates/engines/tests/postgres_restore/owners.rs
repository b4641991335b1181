//! Restores by a role that is no superuser: it may make databases and owns the one that it restores. What it may not do is
//! said before anything is made.

use crate::encodings::{context, drained, restore_request};
use engines::postgres::PostgresEngine;
use engines::{Engine, RestoreMode, RestoreRequest};
use flow::{BackupReader, Context};
use testkit::{Cluster, DrainedDatabase, MemoryBackup, POSTGRES_VERSIONS};

/// What an owner of a database makes in it without anybody's help.
const CONTENT: &str = "SET SESSION AUTHORIZATION keeper;
  CREATE EXTENSION hstore; COMMENT ON EXTENSION hstore IS 'ours';
  CREATE SCHEMA shop; CREATE TYPE shop.mood AS ENUM ('sad', 'ok'); CREATE DOMAIN shop.positive AS int CHECK (VALUE > 0);
  CREATE TABLE shop.people (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, mood shop.mood, age shop.positive, more hstore);
  INSERT INTO shop.people (name, mood, age, more) SELECT 'person ' || i, 'ok', i, hstore('k', i::text) FROM generate_series(1, 2000) AS i;
  CREATE TABLE shop.orders (id int PRIMARY KEY, person int REFERENCES shop.people) PARTITION BY RANGE (id);
  CREATE TABLE shop.orders_1 PARTITION OF shop.orders FOR VALUES FROM (0) TO (100);
  INSERT INTO shop.orders SELECT i, i FROM generate_series(1, 99) AS i;
  CREATE VIEW shop.names AS SELECT name FROM shop.people;
  CREATE MATERIALIZED VIEW shop.ages AS SELECT age, count(*) FROM shop.people GROUP BY age;
  CREATE FUNCTION shop.twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
  CREATE FUNCTION shop.audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no trigger fires in a restore'; END $$;
  CREATE TRIGGER audited BEFORE INSERT ON shop.people FOR EACH ROW EXECUTE FUNCTION shop.audit();
  CREATE TABLE shop.guarded AS SELECT i AS a FROM generate_series(1, 50) AS i;
  ALTER TABLE shop.guarded ENABLE ROW LEVEL SECURITY; ALTER TABLE shop.guarded FORCE ROW LEVEL SECURITY;
  CREATE POLICY one ON shop.guarded USING (a = 1);
  GRANT USAGE, CREATE ON SCHEMA shop TO colleague; CREATE TABLE shop.of_another AS SELECT 1 AS a; ALTER TABLE shop.of_another OWNER TO colleague;
  GRANT SELECT ON shop.people TO colleague; ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO colleague;
  CREATE PUBLICATION p FOR TABLE shop.people; CREATE STATISTICS shop.s ON id, age FROM shop.people;
  COMMENT ON TABLE shop.people IS 'who'; COMMENT ON DATABASE shop IS 'the shop';
  SELECT lo_from_bytea(7, 'bytes'); SELECT lo_from_bytea(8, 'more'); ALTER LARGE OBJECT 8 OWNER TO colleague;";

fn backup(cluster: &Cluster, name: &str, context: &Context) -> MemoryBackup {
    // By a superuser: no policy hides anything from the backup.
    let drained = drained(&cluster.url(name), name, context);
    drained
        .databases
        .values()
        .next()
        .and_then(DrainedDatabase::backup)
        .unwrap_or_else(|| panic!("{drained:?}"))
}

#[track_caller]
fn run(request: &RestoreRequest, backup: &MemoryBackup, context: &Context) {
    let mut restore = PostgresEngine.begin_restore(request, backup.manifest(), context.clone()).unwrap();
    assert_eq!(restore.plan().problems, Vec::<String>::new());
    for step in restore.steps().to_vec() {
        restore.run(step, backup).unwrap_or_else(|error| panic!("{step:?}: {error}"));
    }
}

#[test]
fn an_owner_who_may_make_databases_restores_his_own() {
    for major in POSTGRES_VERSIONS {
        let cluster = Cluster::start(major);
        let folder = tempfile::tempdir().unwrap();
        let context = context(&cluster, folder.path());
        cluster.sql(
            "postgres",
            "CREATE ROLE colleague; CREATE ROLE keeper LOGIN CREATEDB IN ROLE colleague; CREATE DATABASE shop OWNER keeper",
        );
        cluster.sql("shop", CONTENT);
        let text = cluster.text("shop");
        let backup = backup(&cluster, "shop", &context);
        cluster.sql("shop", "DELETE FROM shop.orders; DROP VIEW shop.names");
        let changed = cluster.text("shop");

        let url = cluster.url_as("keeper", "shop");
        run(&restore_request(&url, "shop", RestoreMode::Swap), &backup, &context);
        assert_eq!(cluster.text("shop"), text, "{major}");
        assert_eq!(cluster.text("shop__safety_20261121t020000z"), changed);
        let owner = "SELECT pg_get_userbyid(datdba), shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop'";
        assert_eq!(cluster.sql("postgres", owner), "keeper|the shop");
        run(&restore_request(&cluster.url_as("keeper", "new"), "new", RestoreMode::ToNew), &backup, &context);
        assert_eq!(cluster.text("new"), text, "{major}");
        what_he_may_not_do_is_said(&cluster, &context);
        assert_eq!(cluster.sessions_left(), Vec::<String>::new());
    }
}

fn what_he_may_not_do_is_said(cluster: &Cluster, context: &Context) {
    cluster.sql(
        "shop",
        "CREATE FUNCTION shop.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
         CREATE EVENT TRIGGER ddl ON ddl_command_start EXECUTE FUNCTION shop.on_ddl();
         CREATE EXTENSION pageinspect; CREATE TABLE shop.of_the_boss (a int)",
    );
    let backup = backup(cluster, "shop", context);
    let databases = || cluster.sql("postgres", "SELECT string_agg(datname, ' ' ORDER BY 1) FROM pg_database");
    let before = databases();
    let request = restore_request(&cluster.url_as("keeper", "other"), "other", RestoreMode::ToNew);
    let mut restore = PostgresEngine.begin_restore(&request, backup.manifest(), context.clone()).unwrap();
    let told = restore.plan().problems.join("\n");
    let first = restore.steps()[0];
    let error = restore.run(first, &backup).unwrap_err().to_string();
    drop(restore);
    for words in [
        "only a superuser may make: event trigger ddl",
        "may be made by a superuser only: pageinspect",
        "the role keeper cannot give objects to their owners in the backup: postgres",
    ] {
        assert!(told.contains(words), "{words}: {told}");
        assert!(error.contains(words), "{words}: {error}");
    }
    assert_eq!(databases(), before);
}
