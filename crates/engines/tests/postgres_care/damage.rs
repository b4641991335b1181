//! Damage of a server's files is found, and named by its table.

use crate::probing::{assert_found, found};
use crate::pulled::context;
use flow::Severity;
use std::io::{Seek, SeekFrom, Write};
use testkit::Cluster;

#[test]
fn damaged_pages_are_named() {
    // This version keeps checksums of its pages where nothing else is said.
    let mut cluster = Cluster::start(18);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    cluster.create("erp");
    cluster.sql("erp", "CREATE TABLE t AS SELECT i, md5(i::text) AS body FROM generate_series(1, 5000) AS i; CREATE INDEX by_i ON t (i)");
    let url = cluster.url("erp");
    assert_found(
        &found(&url, Severity::Warning, true, &context),
        &["content was not checked: the extension amcheck is not in it", "CREATE EXTENSION amcheck"],
    );
    cluster.sql("erp", "CREATE EXTENSION amcheck");
    assert_found(&found(&url, Severity::Notice, true, &context), &["checked by pg_amcheck 18", "are sound"]);
    assert_eq!(found(&url, Severity::Problem, true, &context), Vec::<String>::new());

    let file = cluster.sql("erp", "CHECKPOINT; SELECT pg_relation_filepath('t')");
    cluster.restart(|data| {
        let mut table = std::fs::OpenOptions::new().write(true).open(data.join(&file)).unwrap();
        table.seek(SeekFrom::Start(3 * 8192 + 4000)).unwrap();
        table.write_all(&[0xff; 64]).unwrap();
    });
    let problems = found(&url, Severity::Problem, true, &context);
    assert_found(&problems, &["erp", "restore the newest backup that is proven"]);
    assert_found(
        &found(&url, Severity::Warning, false, &context),
        &["failed its checksum", "doctor --integrity"],
    );
}
