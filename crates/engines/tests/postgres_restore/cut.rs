//! Archives that are cut short, as a broken disk or a broken pipe leaves them: none becomes a database, the old one stays,
//! and nothing is left beside it.

use crate::encodings::{context, drained, restore_request};
use engines::postgres::PostgresEngine;
use engines::{Engine, RestoreMode};
use flow::{BackupReader, EntryName};
use testkit::{Cluster, Drained};

/// Cuts an entry to half its length, so that nothing but its content tells.
fn cut(drained: &mut Drained, entry: &EntryName) {
    let found = drained.databases.values_mut().next().unwrap();
    for (_, bytes, facts) in found.parts.get_mut(entry).unwrap().values_mut() {
        bytes.truncate(bytes.len() / 2);
        facts.size_bytes = bytes.len() as u64;
    }
}

#[test]
fn a_truncated_archive_is_never_restored() {
    let cluster = Cluster::start(15);
    let folder = tempfile::tempdir().unwrap();
    let context = context(&cluster, folder.path());
    cluster.create("erp");
    cluster.sql(
        "erp",
        "CREATE TABLE t AS SELECT i, md5(i::text) AS body FROM generate_series(1, 999) AS i; CREATE INDEX ON t (body);
         SELECT lo_from_bytea(7, decode(repeat('00ff', 2000), 'hex'))",
    );
    let url = cluster.url("erp");
    let entries: Vec<EntryName> =
        drained(&url, "erp", &context).databases.values().next().unwrap().parts.keys().cloned().collect();
    // Where a large object ends only the repository's own sums tell.
    let content = entries.iter().filter(|entry| {
        let name = entry.as_str();
        name == "toc.dat" || (name.ends_with(".dat") && !name.starts_with("blob"))
    });
    let databases = || cluster.sql("postgres", "SELECT string_agg(datname, ' ' ORDER BY 1) FROM pg_database");
    let (before, text) = (databases(), cluster.text("erp"));
    let mut tried = 0;
    for entry in content {
        let mut drained = drained(&url, "erp", &context);
        cut(&mut drained, entry);
        let backup = drained.databases.values().next().unwrap().backup().unwrap();
        let request = restore_request(&url, "erp", RestoreMode::Swap);
        let mut restore = PostgresEngine.begin_restore(&request, backup.manifest(), context.clone()).unwrap();
        let steps = restore.steps().to_vec();
        let failed = steps.into_iter().find_map(|step| restore.run(step, &backup).err());
        let error = failed.unwrap_or_else(|| panic!("{entry} was taken")).to_string();
        assert!(!error.is_empty() && !error.contains("panicked"), "{entry}: {error}");
        restore.roll_back().unwrap();
        drop(restore);
        assert_eq!(databases(), before, "{entry}: {error}");
        assert_eq!(cluster.text("erp"), text, "{entry}: {error}");
        tried += 1;
    }
    assert_eq!(tried, 2, "{entries:?}");
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());
}
