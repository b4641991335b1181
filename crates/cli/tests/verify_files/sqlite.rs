//! SQLite: images and SQL text as stock `sqlite3` writes them.

use crate::support::Machine;
use crate::{PROGRAMS, check, dump, item, pack, problem, tool, verify};
use std::fs;

#[test]
fn each_form_and_packing_passes() {
    let machine = Machine::new();
    let source = machine.database("source.db", 2000);
    let dumps = machine.path("dumps");
    fs::create_dir(&dumps).unwrap();
    let (image, sql) = (dumps.join("shop-20260101.db"), dumps.join("shop-20260102.sql"));
    tool("sqlite3", &[&source.display().to_string(), &format!(".backup '{}'", image.display())]);
    fs::write(&sql, dump(&source)).unwrap();
    for (program, ending) in PROGRAMS {
        pack(program, ending, &image);
        pack(program, ending, &sql);
    }
    let report = verify(&machine, 0, &["dumps"]);
    assert_eq!(report["schema"], "backstay.verify/1");
    assert_eq!(report["summary"]["total_files"], 12);
    assert_eq!(report["summary"]["all_valid"], true);
    assert!(report["performance"]["bytes_read"].as_u64().unwrap() > 0);
    for file in report["files"].as_array().unwrap() {
        assert_eq!(file["valid"], true, "{file}");
        let path = file["path"].as_str().unwrap();
        let is_text = path.contains(".sql");
        assert_eq!(file["format"], if is_text { "sqlite-sql" } else { "sqlite" }, "{file}");
        assert_eq!(file["engine"], "sqlite");
        let packing =
            PROGRAMS.iter().find(|(_, ending)| path.ends_with(ending)).map_or("none", |(name, _)| name);
        assert_eq!(file["compression"], packing, "{file}");
        assert_eq!(file["tables"], 1, "{file}");
        assert_eq!((file["database"].as_str(), file["time_source"].as_str()), (Some("shop"), Some("name")));
        if is_text {
            assert_eq!(file["rows"], 2000, "{file}");
        }
        let detail = check(file, "format")["detail"].as_str().unwrap();
        assert!(
            detail.contains(if is_text { "closing COMMIT" } else { "integrity check passed" }),
            "{detail}"
        );
    }
}

#[test]
fn a_dump_that_is_cut_anywhere_fails() {
    let machine = Machine::new();
    let source = machine.database("source.db", 30);
    let text = dump(&source);
    fs::create_dir(machine.path("dumps")).unwrap();
    let lines: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    let last = lines[lines.len() - 2];
    let cuts =
        [lines[0], lines[1], lines[2], lines[5], lines[3] + 9, lines[10] + 25, last, last + 3, last + 6];
    for (index, cut) in cuts.iter().enumerate() {
        fs::write(machine.path(&format!("dumps/cut{index}.sql")), &text[..*cut]).unwrap();
    }
    fs::write(machine.path("dumps/whole.sql"), &text).unwrap();
    fs::write(machine.path("dumps/rolled.sql"), format!("{}ROLLBACK; -- due to errors\n", &text[..last]))
        .unwrap();
    let report = verify(&machine, 21, &["dumps"]);
    assert_eq!(report["summary"]["valid"], 1, "{report}");
    for index in 0..cuts.len() {
        let why = problem(&report, &format!("cut{index}.sql"));
        assert!(why.starts_with("format: line") && why.contains("cut off"), "{why}");
    }
    assert!(problem(&report, "rolled.sql").contains("ROLLBACK"));
}

#[test]
fn a_page_that_was_flipped_fails_and_quick_tells_of_itself() {
    let machine = Machine::new();
    let source = machine.database("dumps/whole.db", 20_000);
    let mut bytes = fs::read(&source).unwrap();
    // The type of a page within a tree.
    bytes[4096 * 20] ^= 0xff;
    fs::write(machine.path("dumps/flipped.db"), &bytes).unwrap();
    let packed = pack("gzip", ".gz", &machine.path("dumps/flipped.db"));
    let whole = fs::read(&source).unwrap();
    fs::write(machine.path("dumps/half.db"), &whole[..4096 * 9]).unwrap();
    fs::write(machine.path("dumps/odd.db"), &whole[..whole.len() - 100]).unwrap();
    let report = verify(&machine, 21, &["dumps"]);
    assert_eq!(report["summary"]["invalid"], 4, "{report}");
    for name in ["flipped.db", "half.db", "odd.db"] {
        let why = problem(&report, name);
        assert!(why.starts_with("format: "), "{why}");
    }
    let packed = problem(&report, packed.file_name().unwrap().to_str().unwrap());
    assert!(packed.starts_with("format: "), "{packed}");
    let quick = verify(&machine, 0, &["dumps/whole.db", "--quick"]);
    assert!(check(item(&quick, "whole.db"), "format")["detail"].as_str().unwrap().contains("quick check"));
}

#[test]
fn the_log_beside_an_image_is_read_with_it_and_a_missing_one_is_doubted() {
    let machine = Machine::new();
    fs::create_dir(machine.path("dumps")).unwrap();
    let source = machine.database("source.db", 10);
    let open = rusqlite::Connection::open(&source).unwrap();
    open.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE later (a); INSERT INTO later VALUES (1);")
        .unwrap();
    for (from, to) in [
        ("source.db", "dumps/with.db"),
        ("source.db-wal", "dumps/with.db-wal"),
        ("source.db", "dumps/lone.db"),
    ] {
        fs::copy(machine.path(from), machine.path(to)).unwrap();
    }
    let report = verify(&machine, 0, &["dumps"]);
    let with = item(&report, "with.db");
    assert_eq!((&with["tables"], &with["doubts"]), (&2.into(), &serde_json::json!([])), "{with}");
    let lone = item(&report, "lone.db");
    assert_eq!(lone["tables"], 1, "{lone}");
    assert!(lone["doubts"][0].as_str().unwrap().contains("no -wal lies beside it"), "{lone}");
    // What belongs to a file is none of its own, and a log that is damaged is not passed over.
    assert_eq!(report["summary"]["total_files"], 2);
    let shown = machine.done(&["verify", "dumps/lone.db"]);
    assert!(shown.out.contains("doubtful: it is in WAL mode"), "{}", shown.out);
}
