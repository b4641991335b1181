//! SQLite databases that were copied, encrypted or restored wrongly.

use crate::seams::{Place, sql, tool};
use crate::{listed, restored};
use rusqlite::Connection;

/// The database and its `-wal` were copied one after the other, and the corrupt copy was marked "verified"
/// (neotoma#2075): an image is of one moment, whatever lies in the log.
#[test]
fn an_image_and_its_log_are_of_one_moment() {
    let place = Place::new();
    let path = place.machine.database("app.db", 500);
    let writer = Connection::open(&path).unwrap();
    writer.pragma_update(None, "journal_mode", "WAL").unwrap();
    writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    writer.execute_batch("UPDATE t SET text = text || '!'; DELETE FROM t WHERE id > 400").unwrap();
    assert!(path.with_extension("db-wal").metadata().unwrap().len() > 0);
    let id = place.backup("app.db");
    let image = place.path("image.db");
    std::fs::write(&image, restored(&place, &id)).unwrap();
    let image = image.display().to_string();
    assert_eq!(tool("sqlite3", &[&image, "PRAGMA integrity_check"]).trim(), "ok");
    assert_eq!(tool("sqlite3", &[&image, "SELECT count(*), sum(text LIKE '%!') FROM t"]).trim(), "400|400");
}

/// A restore over a live database left its `-wal` and `-shm`, which corrupted it (arc#635).
#[test]
fn a_restore_leaves_no_log_of_the_old_database() {
    let place = Place::new();
    let path = place.machine.database("app.db", 500);
    place.backup("app.db");
    let original = std::fs::read(&path).unwrap();
    // A log that a crash left: written by a process that never closed it.
    let crashed = place.path("crashed.db");
    std::fs::copy(&path, &crashed).unwrap();
    let writer = Connection::open(&crashed).unwrap();
    writer.pragma_update(None, "journal_mode", "WAL").unwrap();
    writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    writer.execute_batch("DELETE FROM t WHERE id % 2 = 0").unwrap();
    for end in ["", "-wal", "-shm"] {
        std::fs::copy(place.path(&format!("crashed.db{end}")), place.path(&format!("app.db{end}"))).unwrap();
    }
    drop(writer);
    place.done(&["restore", "app.db", "--confirm", "app.db"]);
    assert!(std::fs::read(&path).unwrap() == original);
    let left: Vec<String> = std::fs::read_dir(place.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("app.db-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let text = path.display().to_string();
    assert_eq!(tool("sqlite3", &[&text, "SELECT count(*) FROM t"]).trim(), "500");
}

/// Encryption that was configured was silently ignored (litestream#791): what has no effect is an error.
#[test]
fn a_setting_that_has_no_effect_is_an_error() {
    let place = Place::new();
    place.machine.database("app.db", 50);
    for (wrong, name) in [
        ("[targets.app]\nsource = \"app.db\"\nencryption = \"age\"\n", "encryption"),
        ("[targets.app]\nsource = \"app.db\"\n[targets.app.plans.p]\nencrypt = true\n", "encrypt"),
        ("[repositories.main]\npath = \"repo\"\nkey = \"secret\"\n", "key"),
    ] {
        place.machine.write("backstay.toml", wrong);
        let outcome = place.run(&["backup", "app.db"]);
        assert_eq!(outcome.code, 2, "{wrong}: {}", outcome.err);
        assert!(outcome.err.contains(name) && outcome.err.contains("backstay.toml"), "{}", outcome.err);
    }
    std::fs::remove_file(place.path("backstay.toml")).unwrap();
    assert_eq!(place.run(&["backup", "app.db", "--table", "t"]).code, 2, "an option of another engine");
    assert!(listed(&place).is_empty());
}

/// Restores raced retention, or stopped silently (litestream#1270, #1515, #771): while a backup is read nothing of it
/// is removed, and a restore that cannot end says so.
#[test]
fn a_restore_never_races_retention() {
    let place = Place::new();
    let path = place.machine.database("app.db", 500);
    let old = place.backup("app.db");
    let content = std::fs::read(&path).unwrap();
    sql(&path, "DELETE FROM t");
    sql(&path, "INSERT INTO t (text) VALUES ('later')");
    place.backup("app.db");
    // The start command runs in the middle of the restore: it prunes all but the newest.
    let program = assert_cmd::cargo::cargo_bin!("backstay").display().to_string();
    let log = place.path("prune.log");
    let prune = format!("'{program}' prune --keep-last 1 > '{}' 2>&1; echo exit $? >> '{0}'", log.display());
    let hook =
        format!("BACKSTAY_PASSWORD={} sh -c \"{}\"", crate::seams::PASSWORD, prune.replace('$', "\\$"));
    place.done(&["restore", &old, "--target", "./app.db", "--confirm", "app.db", "--stop-command", &hook]);
    assert!(std::fs::read(&path).unwrap() == content);
    let said = std::fs::read_to_string(log).unwrap();
    assert!(said.ends_with("exit 11\n") || said.ends_with("exit 0\n"), "{said}");
    place.restic(&["check", "--read-data"]);
}
