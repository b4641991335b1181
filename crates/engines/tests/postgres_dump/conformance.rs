//! The promises of every dump, tried on servers.

use crate::pulled::{context, target};
use engines::Engine;
use engines::postgres::PostgresEngine;
use flow::{
    Context, DatabaseName, DatabaseRef, Dump, DumpRequest, OpenPart, PartFacts, PartReader, SourceError,
    Step, TargetName, TargetRef,
};
use testkit::{Cluster, DumpSubject, broken_dump_promises};

struct Subject<'a> {
    cluster: &'a Cluster,
    folder: tempfile::TempDir,
}

impl<'a> Subject<'a> {
    /// Begins anew on the same server.
    fn new(cluster: &'a Cluster) -> Self {
        cluster.sql("postgres", "SET client_min_messages = error; UPDATE pg_database SET datallowconn = true WHERE datname = 'two'");
        for name in ["one", "two", "three"] {
            cluster.sql("postgres", &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
        Self { cluster, folder: tempfile::tempdir().unwrap() }
    }

    fn named(&self, name: &str) -> DatabaseRef {
        DatabaseRef {
            target: TargetName::new("erp").unwrap(),
            name: DatabaseName::new(name).unwrap(),
            connection: self.cluster.url(name),
        }
    }
}

impl DumpSubject for Subject<'_> {
    fn target(&self) -> TargetRef {
        target(&self.cluster.url("one"))
    }

    fn make(&self, name: &str, size_bytes: u64) -> DatabaseRef {
        self.cluster.create(name);
        let rows = size_bytes / 1000;
        self.cluster.sql(
            name,
            &format!(
                "CREATE TABLE a (id serial, body text); CREATE TABLE b (LIKE a);
                 INSERT INTO a (body) SELECT repeat(md5(i::text), 30) FROM generate_series(1, {rows}) AS i;
                 INSERT INTO b SELECT * FROM a; SELECT lo_from_bytea(5, 'bytes');"
            ),
        );
        self.named(name)
    }

    fn change(&self, database: &DatabaseRef) {
        self.cluster.sql(database.name.as_str(), "INSERT INTO a (body) VALUES ('more')");
    }

    fn spoil(&self, database: &DatabaseRef) {
        // Nobody may connect to it any more.
        self.cluster.sql(
            "postgres",
            &format!("UPDATE pg_database SET datallowconn = false WHERE datname = '{}'", database.name),
        );
    }

    fn settle(&self) {}

    fn begin(&self, request: &DumpRequest, context: Context) -> Result<Box<dyn Dump>, SourceError> {
        Ok(Box::new(Timeless(PostgresEngine.begin_dump(request, context)?)))
    }

    fn context(&self) -> Context {
        context(self.cluster, self.folder.path()).0
    }

    fn leftovers(&self) -> Vec<String> {
        let mut left = self.cluster.sessions_left();
        let scratch = self.folder.path().join("scratch");
        let files = std::fs::read_dir(scratch).into_iter().flatten().flatten();
        left.extend(files.map(|file| file.path().display().to_string()));
        left
    }
}

/// A dump whose archives tell no time of their making, in which two of the same database differ.
struct Timeless(Box<dyn Dump>);

struct TimelessPart(Box<dyn PartReader>);

impl Dump for Timeless {
    fn next(&self) -> Result<Option<Step>, SourceError> {
        Ok(self.0.next()?.map(|step| match step {
            Step::Part(OpenPart { database, entry, layout, index: 0, reader })
                if entry.as_str() == "toc.dat" =>
            {
                let reader = Box::new(TimelessPart(reader));
                Step::Part(OpenPart { database, entry, layout, index: 0, reader })
            }
            other => other,
        }))
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        self.0.finish()
    }
}

impl PartReader for TimelessPart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let count = self.0.read(buffer)?;
        buffer[..count].fill(0);
        Ok(count)
    }

    fn finish(self: Box<Self>) -> Result<PartFacts, SourceError> {
        self.0.finish()
    }
}

#[test]
fn the_engine_keeps_the_promises_of_dumps() {
    let cluster = Cluster::start(15);
    let broken = broken_dump_promises(|| Subject::new(&cluster));
    // A server has no mark by which an unchanged database is known without being read.
    let broken: Vec<_> =
        broken.iter().filter(|broken| broken.promise != "what did not change is not read").collect();
    assert!(broken.is_empty(), "{broken:?}");
}
