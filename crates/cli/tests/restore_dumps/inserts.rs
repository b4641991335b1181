//! Archives whose rows are INSERT statements (`pg_dump -Fc --inserts`): restored whole, by table and as rows alone, with all rows
//! counted; cut and strange ones, which change nothing.

use super::clean;
use super::postgres::{CHINOOK, EVERYTHING, Stage};
use testkit::POSTGRES_VERSIONS;

const FORMS: [(&str, &[&str]); 3] = [
    ("inserts.dump", &["-Fc", "--inserts"]),
    ("named.tar", &["-Ft", "--column-inserts", "--rows-per-insert=7"]),
    ("folder", &["-Fd", "--inserts", "--on-conflict-do-nothing"]),
];

#[test]
fn archives_of_statements_come_back() {
    for major in POSTGRES_VERSIONS {
        let stage = Stage::new(major, EVERYTHING);
        let expected = stage.cluster.text("source");
        let forms = if major == POSTGRES_VERSIONS[0] { &FORMS[..] } else { &FORMS[1..2] };
        for (name, options) in forms {
            let file = stage.dump(name, options).display().to_string();
            let target = stage.cluster.url("back");
            let report = stage.done(&["restore", &file, "--target", &target, "--yes", "--json"]).json();
            assert_eq!(report["verified"], true, "{name}");
            let found = stage.cluster.text("back");
            let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
            assert!(found == expected, "{major} {name}: {differs:?}");
            stage.cluster.sql("postgres", "DROP DATABASE back");
            clean(&stage.machine);
        }
    }
}

#[test]
fn tables_and_rows_of_them_come_back_and_damaged_ones_change_nothing() {
    let stage = Stage::new(15, CHINOOK);
    let expected = stage.cluster.text("source");
    let file = stage.dump("all.dump", &["-Fc", "-Z0", "--inserts"]);
    let shown = file.display().to_string();
    let url = stage.cluster.url("source");
    let count = "SELECT count(*) || ' ' || sum(invoice_line_id) FROM invoice_line";
    let before = stage.cluster.sql("source", count);
    for arguments in [
        &["--data-only", "--table", "invoice_line"][..],
        &["--in-place", "--table", "invoice_line", "--no-safety"],
    ] {
        stage.cluster.sql("source", "DELETE FROM invoice_line");
        stage.done(&[&["restore", &shown, "--target", &url, "--yes"], arguments].concat());
        assert_eq!(stage.cluster.sql("source", count), before, "{arguments:?}");
    }
    stage.cluster.sql("source", "DROP TABLE invoice_line");
    stage.done(&["restore", &shown, "--target", &url, "--table", "invoice_line"]);
    assert_eq!(stage.cluster.text("source"), expected);
    // Statements that no dump has, and a text that does not end, in the room of one that is there.
    let whole = std::fs::read(stage.dump("all.tar", &["-Ft", "--inserts"])).unwrap();
    let from = b"INSERT INTO public.genre VALUES (1, 'Rock');";
    let at = whole.windows(from.len()).position(|part| part == from).unwrap();
    for text in [
        "DELETE FROM public.genre;",
        "INSERT INTO public.genre SELECT 1, 'a';",
        "INSERT INTO t VALUES (now(), 'R');",
        "INSERT INTO t VALUES (1, 'Rock",
    ] {
        let mut bytes = whole.clone();
        bytes[at..at + from.len()].copy_from_slice(format!("{text:<0$}", from.len()).as_bytes());
        let path = stage.machine.path("dumps/strange.dump");
        std::fs::write(&path, bytes).unwrap();
        let refused = stage.run(&["restore", &path.display().to_string(), "--target", &url, "--yes"]);
        assert_eq!(refused.code, 20, "{}", refused.err);
        assert!(refused.err.contains("public.genre") && refused.err.contains("INSERT"), "{}", refused.err);
        clean(&stage.machine);
    }
    assert_eq!(stage.cluster.text("source"), expected);
    assert_eq!(stage.databases(), "source");
}
