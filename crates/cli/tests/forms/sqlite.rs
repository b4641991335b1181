//! Plain files of SQLite databases, beside whoever writes to them: the file is what a backup would have held.

use crate::seams::Place;
use crate::{names, unpacked};
use std::path::Path;
use std::process::{Command, Stdio};

fn dump(database: &Path) -> String {
    let output = Command::new("sqlite3").arg(database).arg(".dump").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_database_is_written_in_every_form_of_its_own() {
    let place = Place::without_repository();
    let source = place.machine.database("app.db", 5000);
    let connection = rusqlite::Connection::open(&source).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.execute_batch("BEGIN; INSERT INTO t VALUES (9999, 'committed'); COMMIT").unwrap();
    let expected = dump(&source);
    for (number, name) in ["a.db", "b.db.zst", "c.sql", "d.sql.gz", "e.sqlite.xz"].iter().enumerate() {
        let report = place.machine.done(&["backup", "app.db", "--out", name, "--json"]).json();
        let item = &report["backups"][0];
        assert_eq!((&item["rows"], &item["database"]), (&5001.into(), &"app.db".into()), "{report}");
        assert_eq!(report["file"]["path"], place.text(name));
        let content = unpacked(&place.path(name));
        assert_eq!(report["file"]["size_bytes"], content.len());
        let loaded = place.machine.root.join(format!("loaded-{number}.db"));
        if name.contains(".sql.") || name.ends_with(".sql") {
            let text = place.machine.root.join("text.sql");
            std::fs::write(&text, &content).unwrap();
            let input = Stdio::from(std::fs::File::open(&text).unwrap());
            let status = Command::new("sqlite3").arg("-bail").arg(&loaded).stdin(input).status().unwrap();
            assert!(status.success(), "{name}");
        } else {
            std::fs::write(&loaded, &content).unwrap();
        }
        assert_eq!(dump(&loaded), expected, "{name}");
    }
    let stream = place.machine.command().args(["backup", "app.db", "--out", "-"]).output().unwrap();
    assert!(stream.status.success() && stream.stdout.starts_with(b"SQLite format 3\0"));
    let scratch: Vec<String> =
        names(&place.machine.root).into_iter().filter(|name| name.starts_with("sqlite-")).collect();
    assert_eq!(scratch, Vec::<String>::new());
}

#[test]
fn what_a_sqlite_database_cannot_be_is_refused() {
    let place = Place::without_repository();
    place.machine.database("app.db", 5);
    place.machine.database("other.db", 5);
    let before = names(&place.path(""));
    for (arguments, words) in [
        (&["backup", "app.db", "--out", "x.dump"][..], "no form .dump"),
        (&["backup", "app.db", "--out", "x.tar.gz"], "no form .tar"),
        (
            &["backup", "app.db", "--schema-only"],
            "a part of a SQLite database cannot be backed up (schema only)",
        ),
        (&["backup", "app.db", "--table", "t", "--out", "x.sql"], "a part of a SQLite database"),
        (&["backup", "*.db", "--out", "x.db"], "has 2 databases, and one goes into a file"),
    ] {
        let refused = place.machine.run(arguments);
        assert_eq!(refused.code, 2, "{arguments:?}: {}", refused.err);
        assert!(refused.err.contains(words), "{arguments:?}: {}", refused.err);
        assert_eq!(names(&place.path("")), before);
    }
    let missing = place.machine.run(&["backup", "gone.db", "--out", "x.db"]);
    assert_eq!(missing.code, 20, "{}", missing.err);
    assert_eq!(names(&place.path("")), before);
}
