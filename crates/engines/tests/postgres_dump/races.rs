//! Others who truncate, rewrite, drop and lock tables while a dump begins and runs: a right backup or a clear error,
//! never an empty table.

use crate::pulled::{context, dump_into, failure, request};
use engines::Engine;
use engines::postgres::PostgresEngine;
use flow::Step;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testkit::{Cluster, drain};

/// A session that stays open and takes statements.
pub(crate) struct Other(Child);

impl Other {
    pub(crate) fn open(cluster: &Cluster, database: &str) -> Self {
        let mut command: Command = cluster.command("psql");
        command
            .args(["-X", "-q", "-d", database])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    pub(crate) fn say(&mut self, sql: &str) {
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(sql.as_bytes()).unwrap();
        input.write_all(b"\n").unwrap();
        input.flush().unwrap();
    }

    pub(crate) fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

pub(crate) fn wait_for(cluster: &Cluster, sql: &str) {
    let started = Instant::now();
    while cluster.sql("postgres", sql) != "t" {
        assert!(started.elapsed() < Duration::from_secs(20), "{sql}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn waits(cluster: &Cluster) {
    wait_for(
        cluster,
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock')",
    );
}

fn make(cluster: &Cluster) -> String {
    cluster.create("erp");
    let sql = "CREATE TABLE a AS SELECT i FROM generate_series(1, 1000) AS i;
               CREATE TABLE b AS SELECT i, repeat('x', 1000) AS body FROM generate_series(1, 3000) AS i;";
    cluster.sql("erp", sql);
    cluster.url("erp")
}

#[test]
fn a_table_whose_lock_is_asked_for_by_others_is_read_by_the_session_that_has_it() {
    let cluster = Cluster::start(15);
    let url = make(&cluster);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    let dump = PostgresEngine.begin_dump(&request(&url, 2), context).unwrap();
    // The first part is that of the large table, or the archive has ended: then everything is locked already.
    let Some(Step::Part(mut first)) = dump.next().unwrap() else { panic!("there is no part") };
    let mut truncating = Other::open(&cluster, "erp");
    truncating.say("TRUNCATE a;");
    waits(&cluster);
    let mut buffer = vec![0; 65_536];
    while first.reader.read(&mut buffer).unwrap() > 0 {}
    first.reader.finish().unwrap();
    let drained = drain(dump, 2);
    assert!(drained.error.is_none(), "{:?}", drained.error);
    let found = drained.databases.into_values().next().unwrap();
    let dumped = found.dumped().unwrap_or_else(|| panic!("{:?}", found.verdicts));
    let rows: Vec<_> = dumped.facts.tables.iter().map(|table| (table.name.as_str(), table.rows)).collect();
    assert_eq!(rows, [("public.a", Some(1000)), ("public.b", Some(3000))]);
    truncating.end();
    assert_eq!(cluster.sql("erp", "SELECT count(*) FROM a"), "0");
}

/// Ends what others do even where the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_table_that_is_truncated_all_the_time_is_never_found_empty() {
    let cluster = Cluster::start(15);
    let url = make(&cluster);
    let folder = tempfile::tempdir().unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            let mut other = Other::open(&cluster, "erp");
            while !over.load(Ordering::SeqCst) {
                other.say("BEGIN; TRUNCATE a; INSERT INTO a SELECT generate_series(1, 1000); COMMIT;");
                other.say("ALTER TABLE a ALTER COLUMN i TYPE bigint; ALTER TABLE a ALTER COLUMN i TYPE int;");
                std::thread::sleep(Duration::from_millis(100));
            }
            other.end();
        });
        for number in 0..4 {
            let (context, _) = context(&cluster, folder.path());
            let drained = crate::pulled::dump(&url, 2, &context);
            assert!(drained.error.is_none(), "{:?}", drained.error);
            let found = drained.databases.into_values().next().unwrap();
            match &found.verdicts[0] {
                Ok(dumped) => assert_eq!(dumped.facts.tables[0].rows, Some(1000), "run {number}"),
                Err(error) => {
                    let known = ["lock", "LOCK TABLE", "just when", "with OID"];
                    assert!(known.iter().any(|word| error.contains(word)), "{error}");
                }
            }
        }
    });
    let (context, _) = context(&cluster, folder.path());
    let dumped = dump_into(&url, 2, &context, &folder.path().join("archive"));
    assert_eq!(dumped.facts.rows(), Some(4000));
}

#[test]
fn what_is_dropped_and_made_again_is_there_whole_or_the_backup_says_so() {
    let cluster = Cluster::start(15);
    let url = make(&cluster);
    let folder = tempfile::tempdir().unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            let mut other = Other::open(&cluster, "erp");
            while !over.load(Ordering::SeqCst) {
                other.say("BEGIN; DROP TABLE a; CREATE TABLE a AS SELECT i FROM generate_series(1, 1000) AS i; COMMIT;");
                other.say("CREATE SCHEMA passing; CREATE TABLE passing.t (id serial PRIMARY KEY); DROP SCHEMA passing CASCADE;");
                std::thread::sleep(Duration::from_millis(200));
            }
            other.end();
        });
        for number in 0..4 {
            let (context, _) = context(&cluster, folder.path());
            let drained = crate::pulled::dump(&url, 2, &context);
            assert!(drained.error.is_none(), "{:?}", drained.error);
            let found = drained.databases.into_values().next().unwrap();
            match &found.verdicts[0] {
                Ok(dumped) => {
                    let rows = |name: &str| {
                        dumped
                            .facts
                            .tables
                            .iter()
                            .find(|table| table.name == name)
                            .and_then(|table| table.rows)
                    };
                    assert_eq!(
                        (rows("public.a"), rows("public.b")),
                        (Some(1000), Some(3000)),
                        "run {number}"
                    );
                }
                Err(error) => {
                    let known = [
                        "lock",
                        "LOCK TABLE",
                        "just when",
                        "with OID",
                        "does not exist",
                        "was dropped",
                        "cache lookup",
                    ];
                    assert!(known.iter().any(|word| error.contains(word)), "{error}");
                }
            }
        }
    });
    let (context, _) = context(&cluster, folder.path());
    let archive = folder.path().join("archive");
    assert_eq!(dump_into(&url, 2, &context, &archive).facts.rows(), Some(4000));
    cluster.create("copy");
    crate::pulled::restore(&cluster, &archive, "copy", &["-j2"]);
}

#[test]
fn who_holds_a_table_for_himself_is_named() {
    let cluster = Cluster::start(15);
    let url = make(&cluster);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    let mut other = Other::open(&cluster, "erp");
    other.say("SET application_name = 'nightly job'; BEGIN; LOCK TABLE b IN ACCESS EXCLUSIVE MODE;");
    wait_for(&cluster, "SELECT EXISTS (SELECT FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock')");
    let error = failure(&url, &context);
    assert!(error.contains("could not obtain lock on relation \"public.b\""), "{error}");
    other.say("COMMIT;");
    other.end();
    let dumped = dump_into(&url, 2, &context, &folder.path().join("archive"));
    assert_eq!(dumped.facts.rows(), Some(4000));
}
