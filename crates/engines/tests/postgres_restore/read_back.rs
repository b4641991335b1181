//! Rows are read back while the rest of a database is made; what is written to after that is read again.

use crate::encodings::{backup, context, restore_request};
use engines::postgres::PostgresEngine;
use engines::{Engine, RestoreError, RestoreMode, RestoreStep};
use flow::{BackupReader, SourceErrorKind};
use testkit::{Cluster, POSTGRES_VERSIONS};

/// A view that is filled after the rows were loaded, and changes one of them on its way, but in the source.
const SLY: &str = "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000);
  CREATE FUNCTION sly() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
    IF current_database() <> 'source' THEN UPDATE public.t SET a = 8 WHERE a = 7; END IF; RETURN 1;
  END $$;
  CREATE MATERIALIZED VIEW v AS SELECT public.sly();";

#[test]
fn rows_that_change_after_they_were_read_back_are_read_again() {
    for major in POSTGRES_VERSIONS {
        let cluster = Cluster::start(major);
        let folder = tempfile::tempdir().unwrap();
        let context = context(&cluster, folder.path());
        cluster.create("source");
        cluster.sql("source", SLY);
        let backup = backup(&cluster, "source", &context);
        let request = restore_request(&cluster.url("copy"), "copy", RestoreMode::ToNew);
        let mut restore = PostgresEngine.begin_restore(&request, backup.manifest(), context.clone()).unwrap();
        let steps = restore.steps().to_vec();
        let before = steps.iter().take_while(|step| **step != RestoreStep::Verify);
        before.for_each(|step| restore.run(*step, &backup).unwrap());
        match restore.run(RestoreStep::Verify, &backup) {
            Err(RestoreError::Database(error)) => {
                assert_eq!(error.kind, SourceErrorKind::Damaged);
                assert!(error.message.contains("public.t are not those of the backup"), "{error}");
            }
            other => panic!("{major}: {other:?}"),
        }
        restore.roll_back().unwrap();
    }
}
