//! Safety copies on a server: told by the record that a swap left, and removed one by one; whatever only looks like one
//! stays.

use crate::encodings::{context, drained, restore_request};
use engines::postgres::PostgresEngine;
use engines::{Engine, RestoreMode, RestoreStep, SafetyCopy};
use flow::{BackupReader, Context, EngineKind, SourceErrorKind, TargetName, TargetRef};
use std::process::Stdio;
use testkit::{Cluster, MemoryBackup};

struct Stage {
    cluster: Cluster,
    context: Context,
    backup: MemoryBackup,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let cluster = Cluster::start(15);
        let folder = tempfile::tempdir().unwrap();
        let context = context(&cluster, folder.path());
        cluster.create("erp");
        cluster.sql("erp", "CREATE TABLE t AS SELECT 1 AS a; COMMENT ON DATABASE erp IS 'our books'");
        let drained = drained(&cluster.url("erp"), "erp", &context);
        let backup = drained.databases.values().next().unwrap().backup().unwrap();
        Self { cluster, context, backup, _folder: folder }
    }

    /// Restores up to that step.
    fn restore(&self, started: &str, last: RestoreStep) {
        let mut request = restore_request(&self.cluster.url("erp"), "erp", RestoreMode::Swap);
        request.started = started.parse().unwrap();
        let manifest = self.backup.manifest();
        let mut restore = PostgresEngine.begin_restore(&request, manifest, self.context.clone()).unwrap();
        for step in restore.steps().to_vec().into_iter().filter(|step| *step <= last) {
            restore.run(step, &self.backup).unwrap();
        }
    }

    fn found(&self, database: &str) -> Vec<SafetyCopy> {
        let target = TargetRef {
            name: TargetName::new("books").unwrap(),
            engine: EngineKind::Postgres,
            connection: self.cluster.url(database),
            secret: None,
            tenants: None,
        };
        PostgresEngine.safety_copies(&target, &[], &self.context).unwrap()
    }

    fn remove(&self, copy: &SafetyCopy) -> Result<(), flow::SourceError> {
        PostgresEngine.remove_safety_copy(copy, &self.context)
    }

    fn databases(&self) -> String {
        let sql =
            "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'erp%'";
        self.cluster.sql("postgres", sql)
    }
}

#[test]
fn a_copy_is_known_by_its_record_and_goes_alone() {
    let stage = Stage::new();
    let cluster = &stage.cluster;
    stage.restore("2026-01-05T02:00:00.25Z", RestoreStep::Finish);
    let copies = stage.found("erp");
    let [copy] = copies.as_slice() else { panic!("{copies:?}") };
    assert_eq!(copy.path, cluster.url("erp__safety_20260105t020000z"));
    assert_eq!(copy.time, "2026-01-05T02:00:00.25Z".parse().unwrap());
    assert!(copy.beside && !copy.restoring && copy.size_bytes > 1_000_000, "{copy:?}");
    assert_eq!(stage.found("erp*").len(), 1);
    assert_eq!(stage.found("postgres"), []);

    // Names and comments alone make none.
    let comment = "what erp held before the restore of 2026-01-04T02:00:00Z, kept by backstay";
    cluster.sql(
        "postgres",
        &format!(
            "CREATE DATABASE erp__safety_20260104t020000z; CREATE DATABASE erp_mine; CREATE DATABASE erp2__safety_20260104t020000z;
             COMMENT ON DATABASE erp_mine IS '{comment}'; COMMENT ON DATABASE erp2__safety_20260104t020000z IS '{comment}'"
        ),
    );
    assert_eq!(stage.found("erp"), copies);

    // Nobody who looks at one loses it under his eyes.
    let mut guest = cluster.command("psql");
    guest.args(["-X", "-d", "erp__safety_20260105t020000z", "-c", "SELECT pg_sleep(600)"]);
    let mut guest = guest.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let there =
        "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'erp__safety%' AND query LIKE '%pg_sleep%'";
    while cluster.sql("postgres", there) == "0" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let refused = stage.remove(copy).unwrap_err();
    assert_eq!(refused.kind, SourceErrorKind::InUse);
    assert!(refused.to_string().contains("in use by session"), "{refused}");
    cluster.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()");
    guest.wait().unwrap();
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());

    // What is another one by now stays.
    let other = SafetyCopy { time: "2026-01-05T02:00:01Z".parse().unwrap(), ..copy.clone() };
    assert_eq!(stage.remove(&other).unwrap_err().kind, SourceErrorKind::Failed);
    cluster.sql("postgres", "CREATE ROLE poor LOGIN");
    let mut of_poor = copy.clone();
    of_poor.database.connection = cluster.url_as("poor", "erp");
    assert!(stage.remove(&of_poor).unwrap_err().to_string().contains("must be owner"));
    assert!(stage.databases().contains("erp__safety_20260105t020000z"));

    stage.remove(copy).unwrap();
    assert_eq!(stage.databases(), "erp erp2__safety_20260104t020000z erp__safety_20260104t020000z erp_mine");
    assert_eq!(stage.remove(copy).unwrap_err().kind, SourceErrorKind::Missing);
    assert_eq!(stage.found("erp"), []);
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());
}

#[test]
fn a_copy_stays_while_its_restore_is_unfinished() {
    let stage = Stage::new();
    stage.restore("2026-01-05T02:00:00Z", RestoreStep::Finish);
    stage.restore("2026-01-06T02:00:00Z", RestoreStep::Swap);
    let copies = stage.found("erp");
    assert_eq!(copies.len(), 2);
    for copy in &copies {
        assert!(copy.restoring, "{copy:?}");
        let refused = stage.remove(copy).unwrap_err();
        assert_eq!(refused.kind, SourceErrorKind::InUse);
        assert!(refused.to_string().contains("was left unfinished"), "{refused}");
    }
    // Undone, the old one has its own comment again, and is no copy any more.
    let pending = PostgresEngine.pending_restores(&copies[0].database, &stage.context).unwrap().remove(0);
    PostgresEngine.resume_restore(pending, stage.context.clone()).unwrap().roll_back().unwrap();
    let left = stage.found("erp");
    assert_eq!(left.len(), 1);
    assert!(!left[0].restoring, "{left:?}");
    stage.restore("2026-01-07T02:00:00Z", RestoreStep::Beside);
    assert!(stage.found("erp").iter().all(|copy| copy.restoring));
}
