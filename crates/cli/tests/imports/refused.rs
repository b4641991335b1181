//! What is no dump, or no whole one: named and refused, and the others go on.

use crate::seams::{Place, tool};
use crate::{backups, chinook, dump, import, imports, pack};
use std::fs;
use std::path::Path;

fn write(place: &Place, name: &str, content: impl AsRef<[u8]>) {
    fs::create_dir_all(place.path("dumps")).unwrap();
    fs::write(place.path("dumps").join(name), content).unwrap();
}

#[test]
fn a_dump_that_is_cut_anywhere_is_refused() {
    let place = Place::new();
    let source = place.machine.database("source.db", 30);
    let text = dump(&source);
    let lines: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    let last = lines[lines.len() - 2];
    // At the end of lines, where each statement is whole, and within them; before the first and in the last word.
    let cuts = [
        lines[0],
        lines[1],
        lines[2],
        lines[5],
        lines[20],
        lines[3] + 9,
        lines[10] + 25,
        last,
        last + 3,
        last + 6,
    ];
    for (index, cut) in cuts.iter().enumerate() {
        write(&place, &format!("cut{index}-20260101.sql"), &text[..*cut]);
    }
    write(&place, "whole-20260101.sql", &text[..last + 7]);
    write(&place, "rolled-20260101.sql", format!("{}ROLLBACK; -- due to errors\n", &text[..last]));
    write(&place, "twice-20260101.sql", text.replace("COMMIT;", "/* really */ROLLBACK;"));
    let report = import(&place, 3, &["dumps"]);
    for item in imports(&report) {
        let path = item["path"].as_str().unwrap();
        if path.contains("whole") {
            assert_eq!((&item["status"], &item["rows"]), (&"imported".into(), &30.into()), "{item}");
            continue;
        }
        assert_eq!(item["status"], "failed", "{item}");
        assert_eq!(item["error"]["exit_code"], 20, "{item}");
        let message = item["error"]["message"].as_str().unwrap();
        assert!(message.contains("cut off") || message.contains("ROLLBACK"), "{item}");
        assert!(message.contains(path) && item["error"]["hint"].is_string(), "{item}");
    }
    assert_eq!(backups(&place).len(), 1);
    assert_eq!(place.restic_json(&["snapshots"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_damaged_image_is_refused() {
    let place = Place::new();
    let image = fs::read(chinook()).unwrap();
    let mut flipped = image.clone();
    // The type of a page within a tree.
    flipped[4096 * 100] ^= 0xff;
    write(&place, "flipped-20260101.db", &flipped);
    write(&place, "half-20260101.db", &image[..image.len() / 2]);
    write(&place, "odd-20260101.db", &image[..image.len() - 100]);
    write(&place, "head-20260101.db", &image[..60]);
    let mut zeros = image.clone();
    zeros[..4096].fill(0);
    write(&place, "zeros-20260101.db", &zeros);
    write(&place, "empty-20260101.db", b"");
    let packed = pack("gzip", ".gz", &chinook(), &place.path("dumps/cut-20260101.db"));
    let bytes = fs::read(&packed).unwrap();
    fs::write(&packed, &bytes[..bytes.len() - 4]).unwrap();
    write(&place, "behind-20260101.db.gz", [bytes.as_slice(), b"and more"].concat());
    write(&place, "random-20260101.db.gz", [&bytes[..3], &image[5000..9000]].concat());
    let report = import(&place, 20, &["dumps"]);
    assert_eq!(imports(&report).len(), 9);
    assert_eq!(report["outcome"], "failed");
    for item in imports(&report) {
        assert_eq!(item["status"], "failed", "{item}");
        let message = item["error"]["message"].as_str().unwrap();
        assert!(message.contains(item["path"].as_str().unwrap()) && !message.contains("scratch"), "{item}");
        assert!(!item["error"]["hint"].as_str().unwrap().contains("restore"), "{item}");
    }
    assert!(backups(&place).is_empty());
}

#[test]
fn others_go_on_and_the_exit_code_says_how_many() {
    let place = Place::new();
    fs::create_dir_all(place.path("dumps/below")).unwrap();
    fs::copy(chinook(), place.path("dumps/good-20260101.db")).unwrap();
    fs::copy(chinook(), place.path("dumps/below/deep-20260101.db")).unwrap();
    write(&place, "README.txt", "not a dump");
    write(&place, "bad-20260101.sql", "Dear diary,");
    write(&place, "other-20260101.sql", "--\n-- PostgreSQL database dump\n--\nSET x = 1;\n");
    write(&place, "other-20260101.dump", b"PGDMP\x01\x0e\x00");
    std::os::unix::fs::symlink(chinook(), place.path("dumps/link-20260101.db")).unwrap();
    let report = import(&place, 3, &["dumps", "gone.sql"]);
    assert_eq!(report["outcome"], "incomplete");
    let status = |end: &str| {
        let found = imports(&report).iter().find(|item| item["path"].as_str().unwrap().ends_with(end));
        found.map(|item| item["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(status("good-20260101.db").as_deref(), Some("imported"));
    for end in ["bad-20260101.sql", "other-20260101.sql", "other-20260101.dump", "gone.sql"] {
        assert_eq!(status(end).as_deref(), Some("failed"), "{end}");
    }
    for end in ["README.txt", "link-20260101.db", "below/deep-20260101.db"] {
        assert_eq!(status(end), None, "{end}");
    }
    assert_eq!(report["skipped"].as_array().unwrap().len(), 2, "{report}");
    // One that was named is no such thing as passed over.
    let readme = place.run(&["import", "dumps/README.txt"]);
    assert_eq!(readme.code, 20, "{}", readme.err);
    assert!(readme.err.contains("README.txt") && readme.err.contains("hint: "), "{}", readme.err);
    for (arguments, code) in [
        (["import", "dumps/below/none"], 20),
        (["import", "dumps/bad-20260101.sql"], 20),
        (["import", "dumps/other-20260101.sql"], 20),
    ] {
        let outcome = place.run(&arguments);
        assert_eq!(outcome.code, code, "{arguments:?}: {}", outcome.err);
        assert!(outcome.err.contains(arguments[1].rsplit('/').next().unwrap()), "{}", outcome.err);
    }
    let postgres = place.run(&["import", "dumps/other-20260101.sql"]);
    assert!(postgres.err.contains("PostgreSQL"), "{}", postgres.err);
}

#[test]
fn what_a_killed_import_left_goes_with_the_next() {
    let place = Place::new();
    fs::create_dir(place.path("dumps")).unwrap();
    let mut text = "BEGIN;\nCREATE TABLE t (id INTEGER PRIMARY KEY, x);\n".to_owned();
    for number in 0..60_000 {
        text.push_str(&format!("INSERT INTO t VALUES ({number}, 'row {number}');\n"));
    }
    write(&place, "big-20260101.sql", format!("{text}COMMIT;\n"));
    write(&place, "small-20260101.sql", "BEGIN;CREATE TABLE t(id);COMMIT;");
    let scratch = place.machine.root.join("home/.cache/backstay/scratch");
    let database =
        || tool("find", &[&scratch.display().to_string(), "-name", "database.sqlite", "-size", "+100k"]);
    fs::create_dir_all(&scratch).unwrap();
    let mut process = place.process(&["import", "dumps/big-20260101.sql"]).spawn().unwrap();
    while database().is_empty() {
        assert!(process.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(!database().is_empty(), "it was killed while it built the database");
    assert!(backups(&place).is_empty());
    // This one finds nothing of it, and its own goes too.
    import(&place, 0, &["dumps/small-20260101.sql"]);
    assert_eq!(backups(&place).len(), 1);
    place.restic(&["check", "--read-data"]);
}

#[test]
fn files_that_may_only_be_read_in_folders_that_may_only_be_read_do() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    fs::create_dir(place.path("dumps")).unwrap();
    let path = place.path("dumps/app-20260101.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (id)").unwrap();
    drop(connection);
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&path, 0o400);
    mode(&place.path("dumps"), 0o500);
    import(&place, 0, &["dumps"]);
    mode(&place.path("dumps"), 0o700);
    assert_eq!(backups(&place).len(), 1);
}
