//! Every form and packing that is read, and what restores give back of it.

use crate::seams::{Place, sql, tool};
use crate::{backups, chinook, dump, import, imports, pack};
use std::fs;

const PROGRAMS: [(&str, &str); 5] =
    [("gzip", ".gz"), ("zstd", ".zst"), ("lz4", ".lz4"), ("xz", ".xz"), ("bzip2", ".bz2")];

fn day(place: &Place, number: usize, ending: &str) -> std::path::PathBuf {
    place.path(&format!("dumps/chinook-202601{number:02}{ending}"))
}

#[test]
fn each_form_and_packing_becomes_the_same_database() {
    let place = Place::new();
    fs::create_dir(place.path("dumps")).unwrap();
    let (image, text) = (place.machine.database("small.db", 400), place.path("small.txt"));
    let wanted = dump(&image);
    fs::write(&text, &wanted).unwrap();
    fs::copy(&image, day(&place, 1, ".db")).unwrap();
    // What a file is, its content says: of half of them the ending lies.
    fs::copy(&text, day(&place, 2, "")).unwrap();
    for (index, (program, ending)) in PROGRAMS.iter().enumerate() {
        pack(program, if index % 2 == 0 { ending } else { ".gz" }, &image, &day(&place, 3 + index, ".db"));
        pack(program, if index % 2 == 0 { ending } else { "" }, &text, &day(&place, 10 + index, ".sql"));
    }
    let report = import(&place, 0, &["dumps"]);
    assert_eq!(imports(&report).len(), 12, "{report}");
    for item in imports(&report) {
        assert_eq!(item["status"], "imported", "{item}");
        assert_eq!(item["database"], "chinook", "{item}");
        assert_eq!(item["time_source"], "name", "{item}");
        assert_eq!(item["proof"], "stored", "{item}");
        let path = item["path"].as_str().unwrap();
        let number: usize = path.split("202601").nth(1).unwrap()[..2].parse().unwrap();
        assert_eq!(item["time"], format!("2026-01-{number:02}T00:00:00Z"), "{item}");
        assert_eq!(item["form"], if number == 2 || number >= 10 { "sql" } else { "image" }, "{item}");
        let packing = match number {
            1 | 2 => "none",
            number => PROGRAMS[(number - 3) % 7].0,
        };
        assert_eq!(item["compression"], packing, "{item}");
        let id = item["id"].as_str().unwrap();
        let out = place.path(&format!("out{number}.db"));
        place.done(&["restore", id, "--to-new", &out.display().to_string()]);
        assert!(dump(&out) == wanted, "{path}");
        if item["form"] == "image" {
            assert!(fs::read(&out).unwrap() == fs::read(&image).unwrap(), "{path}");
        }
    }
    place.restic(&["check", "--read-data"]);
    // Nothing but the database is in a snapshot, at the time of the file.
    let snapshots = place.restic_json(&["snapshots", "--tag", "imported,database=chinook"]);
    assert_eq!(snapshots.as_array().unwrap().len(), 12);
    let first = &snapshots[0];
    assert_eq!(first["time"], "2026-01-01T00:00:00Z");
    let files = place.restic(&["ls", first["id"].as_str().unwrap()]);
    let files = String::from_utf8(files).unwrap();
    let names: Vec<&str> = files.lines().skip(1).map(|line| line.rsplit('/').next().unwrap()).collect();
    assert_eq!(names.len(), 5, "{files}");
    for name in ["databases.jsonl", "manifest.json", "database.sqlite"] {
        assert!(names.contains(&name), "{files}");
    }
    // The images are stored once.
    let added: Vec<u64> = imports(&report).iter().map(|item| item["added_bytes"].as_u64().unwrap()).collect();
    assert!(added[2] < added[0], "{added:?}");
}

#[test]
fn all_that_a_backup_is_good_for_an_imported_one_is_too() {
    let place = Place::new();
    fs::create_dir(place.path("dumps")).unwrap();
    fs::copy(chinook(), day(&place, 1, "_120000.db")).unwrap();
    fs::write(place.path("dumps/text-20260101.sql"), dump(&chinook())).unwrap();
    let report = import(&place, 0, &["dumps"]);
    let image = imports(&report).iter().find(|item| item["form"] == "image").unwrap();
    let (id, digest) = (image["id"].as_str().unwrap(), image["sha256"].as_str().unwrap());
    let sums = tool("sha256sum", &[&day(&place, 1, "_120000.db").display().to_string()]);
    assert!(sums.starts_with(digest), "{sums} {digest}");
    let text = imports(&report).iter().find(|item| item["form"] == "sql").unwrap();
    place.done(&["restore", text["id"].as_str().unwrap(), "--to-new", "text.db"]);
    assert!(dump(&place.path("text.db")) == dump(&chinook()));
    assert_eq!(text["rows"], image["rows"]);
    let listed = backups(&place).into_iter().find(|backup| backup["id"] == id).unwrap();
    assert_eq!(listed["tags"], serde_json::json!(["imported"]));
    assert_eq!(listed["time"], "2026-01-01T12:00:00Z");
    let shown = place.json(&["show", id]);
    let origin = &shown["manifest"]["facts"]["properties"]["imported"];
    assert_eq!(origin["sha256"], digest);
    assert_eq!(origin["path"], day(&place, 1, "_120000.db").display().to_string());
    assert!(!shown.to_string().contains("scratch"), "{shown}");
    assert_eq!(shown["manifest"]["facts"]["consistency"]["time"], "2026-01-01T12:00:00Z");
    place.done(&["verify", id]);
    let source = place.text("dumps/chinook");
    place.done(&["export", &format!("{source}@latest"), "--out", "again.db"]);
    assert!(fs::read(place.path("again.db")).unwrap() == fs::read(chinook()).unwrap());
    // Nobody said where it belongs to: nothing is written to the folder of dumps.
    let refused = place.run(&["restore", &format!("{source}@latest"), "--yes"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("--target") && refused.err.contains("chinook-20260101"), "{}", refused.err);
    place.done(&["restore", id, "--target", "live.db", "--confirm", "live.db"]);
    assert!(dump(&place.path("live.db")) == dump(&chinook()));
}

#[test]
fn text_of_every_make_is_read() {
    let place = Place::new();
    let source = place.path("source.db");
    sql(
        &source,
        "PRAGMA encoding='UTF-16le';
         CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, \"a;b\" TEXT, data BLOB, half REAL AS (id / 2.0));
         INSERT INTO t (\"a;b\", data) VALUES ('it''s; so -- no comment', x'00ff27'), (char(10, 13) || 'x', NULL), ('ü', 1e300);
         CREATE TRIGGER again AFTER INSERT ON t BEGIN UPDATE t SET data = 'END;' WHERE id = -1; SELECT 1; END;
         CREATE VIEW v AS SELECT * FROM t; CREATE INDEX i ON t (lower(\"a;b\"));
         CREATE VIRTUAL TABLE five USING fts5(body); INSERT INTO five VALUES ('the quick; brown'), ('fox');
         CREATE VIRTUAL TABLE four USING fts4(body, tokenize=porter); INSERT INTO four VALUES ('jumps');
         CREATE VIRTUAL TABLE box USING rtree(id, a, b); INSERT INTO box VALUES (1, 2, 3);
         DELETE FROM t WHERE id = 2; ANALYZE;",
    );
    let text = dump(&source);
    assert!(text.contains("writable_schema=ON"), "the dump has indexes of full text");
    fs::create_dir(place.path("dumps")).unwrap();
    let made = [
        ("unix", text.clone()),
        ("bare", text.trim_end().to_owned()),
        ("mark", format!("\u{feff}{text}")),
        ("newer", format!("PRAGMA foreign_keys=OFF;\n.dbconfig defensive off\n{text}")),
        ("after", format!("-- made by hand; at night\n/* ; */ ;{text}\n\n-- the end")),
        ("dos", text.replace('\n', "\r\n")),
    ];
    for (name, text) in &made {
        fs::write(place.path(&format!("dumps/{name}-20260101.sql")), text).unwrap();
    }
    import(&place, 0, &["dumps"]);
    for (name, _) in &made {
        let out = place.path(&format!("{name}.db"));
        let backup = format!("{}@latest", place.text(&format!("dumps/{name}")));
        place.done(&["restore", &backup, "--to-new", &out.display().to_string()]);
        if *name != "dos" {
            assert_eq!(dump(&out), text, "{name}");
        }
        let found = tool(
            "sqlite3",
            &[&out.display().to_string(), "SELECT count(*) FROM five WHERE five MATCH 'fox'"],
        );
        assert_eq!(found.trim(), "1", "{name}");
    }
}

#[test]
fn our_own_exports_come_back() {
    let place = Place::new();
    let path = place.machine.database("app.db", 500);
    sql(&path, "PRAGMA user_version=7; CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES ('y')");
    place.backup("app.db");
    fs::create_dir(place.path("dumps")).unwrap();
    for ending in ["sql.zst", "db.xz"] {
        let out = place.text(&format!("dumps/app_backup_20260203T040506Z.{ending}"));
        place.done(&["export", "app.db@latest", "--out", &out]);
    }
    let report = import(&place, 0, &["dumps", "--target", "app.db"]);
    for item in imports(&report) {
        assert_eq!(item["time"], "2026-02-03T04:05:06Z");
        assert_eq!(item["target"], place.text("app.db"));
        place.done(&["restore", item["id"].as_str().unwrap(), "--to-new", "out.db"]);
        assert_eq!(dump(&place.path("out.db")), dump(&path));
        fs::remove_file(place.path("out.db")).unwrap();
    }
}

#[test]
fn a_log_beside_an_image_is_part_of_it() {
    let place = Place::new();
    fs::create_dir(place.path("dumps")).unwrap();
    let live = place.path("live.db");
    let connection = rusqlite::Connection::open(&live).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE t (id INTEGER); PRAGMA wal_checkpoint(TRUNCATE);
             PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (1), (2), (3)",
        )
        .unwrap();
    for (from, to) in [
        ("live.db", "both-20260101.db"),
        ("live.db-wal", "both-20260101.db-wal"),
        ("live.db", "alone-20260101.db"),
    ] {
        fs::copy(place.path(from), place.path("dumps").join(to)).unwrap();
    }
    drop(connection);
    let report = import(&place, 0, &["dumps"]);
    assert_eq!(report["skipped"].as_array().unwrap().len(), 1, "{report}");
    for (name, rows) in [("both", 3), ("alone", 0)] {
        let item = imports(&report).iter().find(|item| item["database"] == name).unwrap();
        assert_eq!(item["rows"], rows, "{item}");
        let out = place.path(&format!("{name}.db"));
        place.done(&["restore", item["id"].as_str().unwrap(), "--to-new", &out.display().to_string()]);
        assert_eq!(crate::support::count(&out), rows);
    }
}
