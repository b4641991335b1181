//! Which databases a target has, what is passed over, and what is said of a file that is none.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod pull;

use engines::sqlite::{DiscoverLimits, SqliteEngine, discover};
use engines::{Engine, Enumeration, Query};
use flow::{DatabaseRequest, DumpOptions, DumpRequest, SourceError, SourceErrorKind};
use pull::*;
use std::fs;
use std::path::Path;

fn small(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fill(&Connection::open(path).unwrap(), "orders", 20);
}

fn found(connection: impl AsRef<Path>) -> Result<Enumeration, SourceError> {
    SqliteEngine::default().databases(&target(connection), &context(Path::new("/nonexistent")))
}

fn names(enumeration: &Enumeration) -> Vec<&str> {
    enumeration.databases.iter().map(|database| database.name.as_str()).collect()
}

#[test]
fn a_file_and_a_link_to_it_are_the_same_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("app.db");
    small(&path);
    std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
    for given in [path.clone(), folder.path().join("link")] {
        let enumeration = found(&given).unwrap();
        assert_eq!(names(&enumeration), ["app.db"]);
        assert_eq!(enumeration.databases[0].connection, path.to_str().unwrap());
    }
}

#[test]
fn a_folder_gives_its_databases_and_tells_what_it_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    small(&path("b.db"));
    small(&path("a.sqlite"));
    small(&path("below/c.db"));
    fs::write(path("new.db"), b"").unwrap();
    for name in ["a.sqlite.safety-20261121T020000Z", "x.backstay-restore", "b.db-wal", "notes.txt", ".lock"] {
        fs::write(path(name), if name == ".lock" { "" } else { "text" }).unwrap();
    }
    std::os::unix::fs::symlink(path("b.db"), path("link.db")).unwrap();
    let enumeration = found(folder.path()).unwrap();
    assert_eq!(names(&enumeration), ["a.sqlite", "b.db", "new.db"]);
    let skipped: Vec<_> =
        enumeration.skipped.iter().map(|s| s.object.rsplit('/').next().unwrap().to_owned()).collect();
    let expected = [
        ".lock",
        "a.sqlite.safety-20261121T020000Z",
        "b.db-wal",
        "link.db",
        "notes.txt",
        "x.backstay-restore",
    ];
    assert_eq!(skipped, expected);
    assert!(enumeration.skipped.iter().all(|skipped| !skipped.reason.is_empty()));
}

#[test]
fn globs_and_templates_name_their_databases() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    small(&path("acme/shop.db"));
    small(&path("zeta/shop.db"));
    fs::create_dir(path("empty")).unwrap();
    assert_eq!(names(&found(path("*/shop.db")).unwrap()), ["acme/shop.db", "zeta/shop.db"]);
    assert_eq!(names(&found(path("acme/*.db")).unwrap()), ["shop.db"]);
    assert_eq!(names(&found(path("**/*.db")).unwrap()), ["acme/shop.db", "zeta/shop.db"]);
    let tenants = found(path("{tenant}/shop.db")).unwrap();
    assert_eq!(names(&tenants), ["acme", "zeta"]);
    assert_eq!(tenants.skipped.len(), 1);
    small(&path("flat/shop-one.db"));
    assert_eq!(names(&found(path("flat/shop-{tenant}.db")).unwrap()), ["one"]);
    for nothing in ["*/nothing.db", "nothing.db", "none/*.db", "{tenant}/nothing.db"] {
        let error = found(path(nothing)).unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Missing, "{error}");
        assert!(error.hint.is_some());
    }
    assert_eq!(found(path("{tenant}/{tenant}.db")).unwrap_err().kind, SourceErrorKind::Invalid);
}

#[test]
fn a_name_that_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    small(&folder.path().join("app.db"));
    let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"odd\xff.db"));
    fs::copy(folder.path().join("app.db"), odd).unwrap();
    let error = found(folder.path()).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Invalid);
    assert!(error.to_string().contains("UTF-8"), "{error}");
}

#[test]
fn one_that_fails_takes_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..40 {
        small(&folder.path().join(format!("tenant-{number:02}.db")));
    }
    fs::write(folder.path().join("tenant-07.db"), "no database").unwrap();
    let pattern = folder.path().join("tenant-*.db");
    let databases = found(&pattern).unwrap().databases;
    assert_eq!(databases.len(), 40);
    let databases = databases.into_iter().map(|database| DatabaseRequest { database, previous: None });
    let request = DumpRequest {
        target: target(&pattern),
        databases: databases.collect(),
        options: DumpOptions::default(),
    };
    let outcomes = pull(&request, &context(folder.path())).unwrap();
    assert_eq!(outcomes.len(), 40);
    for (name, outcome) in outcomes {
        assert_eq!(outcome.verdict.is_err(), name == "tenant-07.db");
    }
}

#[test]
fn what_is_no_database_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let context = context(folder.path());
    small(&path);
    let good = fs::read(&path).unwrap();
    let noise: Vec<u8> =
        (0..64u32).flat_map(|n| xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes()).to_le_bytes()).collect();
    let mut malformed = good.clone();
    malformed[100..200].fill(0xff);
    let cases: [(&str, &[u8], SourceErrorKind, &str); 6] = [
        ("text", b"PRAGMA foreign_keys=OFF;\n", SourceErrorKind::NotADatabase, "text file"),
        ("encrypted", &noise, SourceErrorKind::NotADatabase, "encrypted"),
        ("cut off", &good[..4096 + 100], SourceErrorKind::Damaged, "cut off"),
        ("cut in the header", &good[..60], SourceErrorKind::Damaged, "cut off"),
        ("zeros", &[0; 8192], SourceErrorKind::Damaged, "zeros"),
        ("malformed", &malformed, SourceErrorKind::Damaged, "damaged"),
    ];
    for (name, bytes, kind, word) in cases {
        fs::write(&path, bytes).unwrap();
        let error = failure_of(&path, &context);
        assert_eq!(error.kind, kind, "{name}: {error}");
        assert!(error.to_string().contains(word), "{name}: {error}");
        assert!(error.to_string().contains("app.db") && error.hint.is_some(), "{name}: {error}");
        assert!(fs::read(&path).unwrap() == bytes, "{name}: the file was touched");
    }
    assert_eq!(failure_of(folder.path(), &context).kind, SourceErrorKind::NotADatabase);
    assert_eq!(failure_of(&folder.path().join("none.db"), &context).kind, SourceErrorKind::Missing);
}

#[test]
fn databases_are_discovered() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    small(&path("srv/one.db"));
    small(&path("srv/deep/er/two"));
    small(&path(".hidden/three.db"));
    fs::write(path("srv/readme"), "text").unwrap();
    let found = discover(&[folder.path().to_owned()], DiscoverLimits::default());
    assert_eq!(found, [path("srv/deep/er/two"), path("srv/one.db")]);
    let limits = DiscoverLimits { databases: 1, ..DiscoverLimits::default() };
    assert_eq!(discover(&[folder.path().to_owned()], limits).len(), 1);
}

#[test]
fn a_look_tells_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA foreign_keys=OFF; CREATE TABLE parent(id INTEGER PRIMARY KEY); CREATE TABLE child(p REFERENCES parent(id));
             INSERT INTO child VALUES (7);",
        )
        .unwrap();
    fill(&connection, "orders", 5000);
    drop(connection);
    let context = context(folder.path());
    let look = |integrity| SqliteEngine::default().probe(&database(&path), integrity, &context).unwrap();
    let problems = |integrity| {
        let findings = look(integrity).findings.into_iter();
        findings.filter(|f| f.severity == flow::Severity::Problem).map(|f| f.message).collect::<Vec<_>>()
    };
    assert_eq!(look(false).size_bytes, fs::metadata(&path).unwrap().len());
    assert!(problems(false).is_empty());
    assert!(problems(true).iter().any(|problem| problem.contains("child")), "{:?}", problems(true));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 8192 * 4096;
    bytes[middle..middle + 200].fill(0xee);
    fs::write(&path, bytes).unwrap();
    assert!(problems(true).iter().any(|problem| problem.contains("integrity")), "{:?}", problems(true));
    assert!(SqliteEngine::default().probe(&database(folder.path().join("none")), false, &context).is_err());
}

#[test]
fn questions_are_answered_and_commands_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    small(&path);
    let before = fs::read(&path).unwrap();
    let ask = |sql: &str| {
        let query = Query { sql: sql.to_owned(), rows_max: 3 };
        SqliteEngine::default().query(&database(&path), &query, &context(folder.path()))
    };
    let answer = ask("SELECT id, word, x'ff00' AS blob, NULL FROM orders ORDER BY id").unwrap();
    assert_eq!(answer.columns[..3], ["id", "word", "blob"]);
    assert_eq!(answer.rows[0], [1.into(), "word 1".into(), "x'ff00'".into(), serde_json::Value::Null]);
    assert!(answer.truncated && answer.rows.len() == 3);
    for refused in [
        "DELETE FROM orders",
        "SELECT 1; DELETE FROM orders",
        "PRAGMA query_only=0",
        "PRAGMA user_version=3",
        "PRAGMA journal_mode=WAL",
        "ATTACH '/tmp/other.db' AS other",
        "DELETE FROM orders RETURNING id",
        "VACUUM",
        "BEGIN",
        "",
        "SELECT FROM",
    ] {
        assert_eq!(ask(refused).unwrap_err().kind, SourceErrorKind::Invalid, "{refused}");
    }
    assert!(fs::read(&path).unwrap() == before);
}
