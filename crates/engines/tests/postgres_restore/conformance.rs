//! The promises of every restore, tried on servers of both versions.

use engines::Engine;
use engines::postgres::PostgresEngine;
use flow::{Context, DatabaseName, DatabaseRef, EngineKind, Environment, ScratchDir, TargetName, TargetRef};
use std::sync::Arc;
use testkit::{Cluster, POSTGRES_VERSIONS, RestoreSubject, restore_conformance};

struct Subject<'a> {
    cluster: &'a Cluster,
    folder: tempfile::TempDir,
}

impl<'a> Subject<'a> {
    /// Begins anew on the same server.
    fn new(cluster: &'a Cluster) -> Self {
        let left = cluster.sql(
            "postgres",
            "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')",
        );
        for name in left.lines() {
            cluster.sql("postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
        }
        Self { cluster, folder: tempfile::tempdir().unwrap() }
    }
}

impl RestoreSubject for Subject<'_> {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(PostgresEngine)
    }

    fn target(&self) -> TargetRef {
        TargetRef {
            name: TargetName::new("erp").unwrap(),
            engine: EngineKind::Postgres,
            connection: self.cluster.url("one"),
            secret: None,
            tenants: None,
        }
    }

    fn context(&self) -> Context {
        let mut context = Context::quiet(ScratchDir::new(self.folder.path().join("scratch")));
        let path = format!("{}:/usr/bin:/bin", self.cluster.programs().display());
        context.environment = Environment::new([("PATH".to_owned(), path)]);
        context
    }

    fn name(&self, name: &str) -> DatabaseRef {
        DatabaseRef {
            target: TargetName::new("erp").unwrap(),
            name: DatabaseName::new(name).unwrap(),
            connection: self.cluster.url(name),
        }
    }

    fn make(&self, name: &str, number: u64) -> DatabaseRef {
        if self
            .cluster
            .sql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{name}'"))
            .is_empty()
        {
            self.cluster.create(name);
            self.cluster.sql(
                name,
                "CREATE TABLE number (value int); CREATE TABLE t (id serial PRIMARY KEY, body text);
                 INSERT INTO t (body) SELECT md5(i::text) FROM generate_series(1, 500) AS i;
                 SELECT lo_from_bytea(5, 'bytes')",
            );
        }
        self.cluster.sql(name, &format!("DELETE FROM number; INSERT INTO number VALUES ({number})"));
        self.name(name)
    }

    fn content(&self, database: &DatabaseRef) -> Option<Vec<u8>> {
        let name = database.name.as_str();
        let there =
            self.cluster.sql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{name}'"));
        if there.is_empty() {
            return None;
        }
        let sql = "SELECT (SELECT string_agg(value::text, ',') FROM number), (SELECT count(*) FROM t),
                   (SELECT string_agg(indexname, ',') FROM pg_indexes WHERE tablename = 't'), lo_get(5)";
        Some(self.cluster.sql(name, sql).into_bytes())
    }
}

#[test]
fn the_engine_keeps_the_promises_of_restores() {
    for major in POSTGRES_VERSIONS {
        let cluster = Cluster::start(major);
        restore_conformance(|| Subject::new(&cluster));
        assert_eq!(cluster.sessions_left(), Vec::<String>::new());
    }
}
