//! Repositories that are not there, not ours to open, locked or damaged.

use crate::seams::{Place, contents, sql};
use crate::{Refusal, refuse, refuse_with};

fn place() -> Place {
    let place = Place::new();
    place.machine.database("app.db", 50);
    place.backup("app.db");
    place
}

#[test]
fn places_and_passwords() {
    let place = place();
    place.machine.write("file", "no folder");
    place.machine.write("folder/some.txt", "x");
    place.machine.write("empty.key", "");
    let (file, folder) = (place.text("file"), place.text("folder"));
    for (name, repository, object) in [
        ("no repository", "/nowhere/backups", "/nowhere/backups"),
        ("repository is a file", file.as_str(), "/file"),
        ("repository is some folder", folder.as_str(), "/folder"),
    ] {
        let arguments = ["backup", "app.db", "--repository", repository];
        refuse(
            &place,
            &Refusal { name, arguments: &arguments, code: 10, object, hint: "backstay init --repository" },
        );
    }
    let wrong = |name, code, hint, variable: &'static str, value: String| {
        let refusal = Refusal { name, arguments: &["list"], code, object: "", hint };
        refuse_with(&place, &refusal, |command| {
            command.env_remove("BACKSTAY_PASSWORD").env(variable, value);
        });
    };
    wrong("wrong password", 12, "BACKSTAY_PASSWORD", "BACKSTAY_PASSWORD", "falsch-und-secret".to_owned());
    wrong("no password", 12, "BACKSTAY_PASSWORD_FILE", "UNUSED", String::new());
    wrong("missing password file", 12, "file", "BACKSTAY_PASSWORD_FILE", place.text("none.key"));
    wrong("empty password file", 12, "first line", "BACKSTAY_PASSWORD_FILE", place.text("empty.key"));
    let command = "echo falsch-und-secret; exit 3".to_owned();
    wrong("password command fails", 12, "by hand", "BACKSTAY_PASSWORD_COMMAND", command);
}

#[test]
fn locked_by_somebody_who_lives() {
    let place = place();
    let lock = crate::seams::lock(&place, restic::LockKind::Exclusive);
    sql(&place.path("app.db"), "DELETE FROM t WHERE id > 3");
    for (name, arguments) in [
        ("locked repository", &["backup", "app.db"][..]),
        ("locked repository to check", &["check"]),
        ("locked repository to prune", &["prune", "--keep-last", "1"]),
    ] {
        refuse(&place, &Refusal { name, arguments, code: 11, object: "olga", hint: "backstay unlock" });
    }
    drop(lock);
    place.done(&["backup", "app.db"]);
}

/// Removes the packs that came after `before`.
fn lose_packs(place: &Place, before: &[std::path::PathBuf]) {
    for path in contents(&place.path("repo/data")).into_keys().filter(|path| !before.contains(path)) {
        std::fs::remove_file(place.path("repo/data").join(path)).unwrap();
    }
}

#[test]
fn a_damaged_newest_backup_is_not_passed_over_in_silence() {
    let place = place();
    let before: Vec<_> = contents(&place.path("repo/data")).into_keys().collect();
    sql(&place.path("app.db"), "UPDATE t SET text = hex(randomblob(40))");
    let newest = place.backup("app.db");
    lose_packs(&place, &before);
    let short = &newest[..8];
    for (name, arguments) in [
        ("damaged newest backup", &["restore", "app.db", "--confirm", "app.db"][..]),
        ("damaged newest backup to new", &["restore", "app.db@latest", "--to-new", "new.db"]),
        ("damaged newest backup by id", &["restore", &newest, "--to-new", "new.db"]),
        ("damaged newest backup exported", &["export", "app.db@latest", "--out", "out.db"]),
    ] {
        refuse(&place, &Refusal { name, arguments, code: 1, object: short, hint: "backstay" });
    }
    // A verification keeps what it proved of the others, so that it does write.
    let verified = place.command().arg("verify").output().unwrap();
    let arguments: &[&str] = &["verify"];
    let name = "damaged newest backup verified";
    let refusal = Refusal { name, arguments, code: 21, object: "1 of", hint: "backstay check" };
    crate::judge(&place, &refusal, &verified, "");
    assert!(String::from_utf8_lossy(&verified.stdout).contains(&format!("FAIL  {short}")));
    let taken = place.done(&["restore", "app.db", "--confirm", "app.db", "--fallback"]);
    assert!(taken.err.contains(short), "what was passed over is named: {}", taken.err);
    assert_eq!(crate::support::count(&place.path("app.db")), 50);
    let text: String = rusqlite::Connection::open(place.path("app.db"))
        .unwrap()
        .query_row("SELECT text FROM t WHERE id = 7", [], |row| row.get(0))
        .unwrap();
    assert_eq!(text, "row 7");
}

#[test]
fn a_newest_backup_with_a_hole_names_the_next_older_one() {
    let place = place();
    let path = place.path("app.db");
    sql(
        &path,
        "CREATE TABLE noise (id INTEGER PRIMARY KEY, noise BLOB);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         INSERT INTO noise SELECT i, randomblob(100000) FROM n",
    );
    let known: Vec<_> = contents(&place.path("repo/data")).into_keys().collect();
    place.backup("app.db");
    // One pack of several is lost, one that holds pages alone: the run's list is still there.
    let mut packs = contents(&place.path("repo/data"));
    packs.retain(|path, _| !known.contains(path));
    let hole = packs.into_iter().any(|(path, content)| {
        let path = place.path("repo/data").join(path);
        std::fs::remove_file(&path).unwrap();
        let listed = place.json(&["list"])["backups"].as_array().unwrap().len() == 2;
        let shown = listed && place.run(&["show", "app.db@latest"]).code == 0;
        if !shown {
            std::fs::write(&path, content).unwrap();
        }
        shown
    });
    assert!(hole);
    for (name, arguments, hint) in [
        ("newest backup with a hole", &["restore", "app.db", "--confirm", "app.db"][..], "--fallback"),
        ("newest backup with a hole exported", &["export", "app.db", "--out", "out.db"], "backstay"),
    ] {
        refuse(&place, &Refusal { name, arguments, code: 1, object: "the pack is not there", hint });
    }
    place.done(&["restore", "app.db", "--confirm", "app.db", "--fallback"]);
    assert_eq!(crate::support::count(&path), 50);
    let noise = rusqlite::Connection::open(&path).unwrap().prepare("SELECT 1 FROM noise").is_ok();
    assert!(!noise, "the older backup has no such table");
}
