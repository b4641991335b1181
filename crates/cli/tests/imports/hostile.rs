//! SQL text that is out for more than its own database: refused, named with its line, and without effect.

use crate::seams::{Place, tree};
use crate::{backups, import, imports};
use std::fs;

/// Statements that a dump has no business with, and a word of the refusal.
fn statements(outside: &str) -> Vec<(String, &'static str)> {
    let of = |text: &str, word: &'static str| (text.replace("OUTSIDE", outside), word);
    vec![
        of("ATTACH 'OUTSIDE' AS other;", "ATTACH"),
        of("VACUUM INTO 'OUTSIDE';", "line 3"),
        of("VACUUM;", "line 3"),
        of("SELECT load_extension('OUTSIDE');", "load_extension"),
        of("SELECT writefile('OUTSIDE', 'x');", "line 3"),
        of("SELECT readfile('/etc/passwd');", "line 3"),
        of("PRAGMA temp_store_directory='/tmp';", "temp_store_directory"),
        of("PRAGMA trusted_schema=ON;", "trusted_schema"),
        of("PRAGMA wal_checkpoint;", "wal_checkpoint"),
        of("CREATE VIRTUAL TABLE c USING csv(filename='OUTSIDE');", "csv"),
        of("CREATE VIRTUAL TABLE d USING dbpage;", "dbpage"),
        of("INSERT INTO sqlite_dbpage VALUES (1, zeroblob(4096));", "past it"),
        of("CREATE TEMP TABLE x (id);", "schema"),
        of("PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = 'x';", "schema"),
        of("PRAGMA writable_schema=ON; DELETE FROM sqlite_master;", "schema"),
        of(
            "PRAGMA writable_schema=ON; INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)\
             VALUES('trigger','g','t',0,'CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END');",
            "schema",
        ),
        of(
            "PRAGMA writable_schema=ON; INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)\
             VALUES('table','c','c',0,'CREATE VIRTUAL TABLE c USING csv(filename=''OUTSIDE'')');",
            "schema",
        ),
        of(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) INSERT INTO t SELECT i FROM n;",
            "recursive",
        ),
        of(".shell touch OUTSIDE", ".shell"),
        of(".open OUTSIDE", ".open"),
        of(".output OUTSIDE", ".output"),
        of("/* x */.system touch OUTSIDE\n;", "line 3"),
    ]
}

#[test]
fn what_is_no_part_of_a_dump_is_not_run() {
    let place = Place::new();
    fs::create_dir(place.path("dumps")).unwrap();
    let outside = place.path("outside.db");
    let all = statements(&outside.display().to_string());
    for (index, (statement, _)) in all.iter().enumerate() {
        let text = format!("BEGIN;\nCREATE TABLE t (id);\n{statement}\nCOMMIT;\n");
        fs::write(place.path(&format!("dumps/h{index:02}-20260101.sql")), text).unwrap();
        let free = format!("-- a comment\n\n{statement}\nCREATE TABLE t (id);\n");
        let free =
            if statement.contains(" t ") || statement.contains("schema=ON;") { String::new() } else { free };
        fs::write(place.path(&format!("dumps/f{index:02}-20260101.sql")), free).unwrap();
    }
    let before = tree(&place.path(""));
    let report = import(&place, 20, &["dumps"]);
    for item in imports(&report) {
        let path = item["path"].as_str().unwrap();
        let index: usize = path.rsplit('/').next().unwrap()[1..3].parse().unwrap();
        let (statement, word) = &all[index];
        assert_eq!(item["status"], "failed", "{statement}: {item}");
        let error = &item["error"];
        let text = error.to_string();
        let empty = text.contains("is empty") || text.contains("no SQL that makes");
        assert!(empty || text.contains(word), "{statement}: must say `{word}`: {text}");
        assert!(empty || text.contains("line 3") || word != &"line 3", "{statement}: {text}");
        assert!(error["hint"].is_string(), "{statement}: {text}");
    }
    assert!(!outside.exists());
    assert!(backups(&place).is_empty());
    let after = tree(&place.path(""));
    let touched: Vec<_> = after.iter().filter(|(path, _)| !path.starts_with(place.repository())).collect();
    assert!(
        touched.iter().all(|(path, state)| before.get(*path) == Some(*state)),
        "something else was written"
    );
}
