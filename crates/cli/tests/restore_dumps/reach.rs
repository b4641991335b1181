//! Single tables of tar and directory archives, SQL text that is encrypted, that lies in a repository of files, or whose bytes
//! are in no encoding that is known.

use super::clean;
use super::postgres::{CHINOOK, Stage};
use super::support::{Outcome, outcome};

#[test]
fn single_tables_of_tar_and_directory_archives_come_back() {
    let stage = Stage::new(15, CHINOOK);
    let expected = stage.cluster.text("source");
    let target = stage.cluster.url("source");
    let look = "SELECT count(*) || ' ' || sum(track_id) FROM ";
    let before = stage.cluster.sql("source", &format!("{look} playlist_track"));
    for (name, options) in [("all.tar", &["-Ft"][..]), ("folder", &["-Fd"])] {
        let file = stage.dump(name, options).display().to_string();
        stage.cluster.sql("source", "DROP TABLE playlist_track");
        stage.done(&["restore", &file, "--target", &target, "--table", "playlist_track"]);
        assert_eq!(stage.cluster.text("source"), expected, "{name}");
        stage.cluster.sql("source", "DELETE FROM playlist_track WHERE track_id > 100");
        let beside = stage.done(&["restore", &file, "--target", &target, "--table", "public.playlist_track"]);
        assert!(beside.err.contains("playlist_track__restored_"), "{}", beside.err);
        let copy = "SELECT relname FROM pg_class WHERE relname LIKE 'playlist_track\\_\\_restored\\_%' AND relkind = 'r'";
        let copy = stage.cluster.sql("source", copy);
        assert_eq!(stage.cluster.sql("source", &format!("{look} {copy}")), before);
        stage.cluster.sql("source", &format!("DROP TABLE {copy}"));
        let table = ["--table", "playlist_track", "--in-place", "--no-safety", "--yes"];
        stage.done(&[&["restore", &file, "--target", &target], &table[..]].concat());
        assert_eq!(stage.cluster.text("source"), expected, "{name}");
        clean(&stage.machine);
    }
    let refused = stage.run(&["restore", "dumps/all.tar", "--target", &target, "--table", "nothing"]);
    assert!(refused.code == 2 && refused.err.contains("no table nothing"), "{}", refused.err);
}

#[test]
fn text_that_is_encrypted_comes_back_with_the_key_alone() {
    let stage =
        Stage::new(18, "CREATE TABLE t AS SELECT i, 'row ' || i AS text FROM generate_series(1, 500) i");
    let expected = stage.cluster.text("source");
    stage.machine.write("passphrase", "geheim und lang\n");
    let with_key = |arguments: &[&str]| -> Outcome {
        let mut command = stage.machine.command();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", stage.cluster.programs().display());
        command.env("PATH", path).env("BACKSTAY_AGE_PASSPHRASE_FILE", stage.machine.path("passphrase"));
        outcome(command.args(arguments))
    };
    let file = stage.machine.text("dumps/source.sql.gz.age");
    let (source, back) = (stage.cluster.url("source"), stage.cluster.url("back"));
    let made = with_key(&["backup", &source, "--out", &file]);
    assert_eq!(made.code, 0, "{}", made.err);
    let refused = stage.run(&["restore", &file, "--target", &back, "--yes"]);
    assert!(refused.code == 20 && refused.err.contains("BACKSTAY_AGE_PASSPHRASE_FILE"), "{}", refused.err);
    assert_eq!(stage.databases(), "source");
    let done = with_key(&["restore", &file, "--target", &back, "--yes"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(stage.cluster.text("back"), expected);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 20]).unwrap();
    let cut = with_key(&["restore", &file, "--target", &back, "--yes"]);
    assert_eq!(cut.code, 20, "{}", cut.err);
    assert_eq!(stage.cluster.text("back"), expected);
    assert_eq!(stage.databases(), "back source");
    clean(&stage.machine);
}

#[test]
fn text_of_a_repository_of_files_goes_where_it_came_from() {
    let stage =
        Stage::new(15, "CREATE TABLE t AS SELECT i, 'row ' || i AS text FROM generate_series(1, 500) i");
    let expected = stage.cluster.text("source");
    let text = format!(
        "[repositories.dumps]\npath = \"dumps\"\nlayout = \"files\"\n[targets.erp]\nsource = \"{}\"\n\
         [targets.erp.plans.daily]\nform = \"sql.zst\"\n",
        stage.cluster.url("source")
    );
    stage.machine.write("backstay.toml", &text);
    stage.done(&["backup", "erp"]);
    stage.cluster.sql("source", "DELETE FROM t WHERE i > 100");
    let before = stage.cluster.text("source");
    let dry = stage.done(&["restore", "erp@latest", "--dry-run"]);
    assert!(dry.out.contains("source__safety_"), "{}", dry.out);
    stage.done(&["restore", "erp@latest", "--to-new", "look"]);
    assert_eq!(stage.cluster.text("look"), expected);
    assert_eq!(stage.cluster.text("source"), before);
    let report = stage.done(&["restore", "erp@latest", "--confirm", "erp", "--json"]).json();
    assert_eq!(stage.cluster.text("source"), expected);
    assert_eq!(stage.cluster.text(report["safety_copy"].as_str().unwrap()), before);
    assert!(report["backup"].as_str().unwrap().ends_with(".sql.zst"), "{report}");
}

#[test]
fn bytes_in_no_known_encoding_come_back_as_they_are() {
    for (major, options) in [(15, &["--create", "--inserts"][..]), (18, &[])] {
        let stage = Stage::new(major, "CREATE TABLE kept (a int)");
        let sql = "CREATE DATABASE raw ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0";
        stage.cluster.sql("postgres", sql);
        stage.cluster.sql(
            "raw",
            "CREATE TABLE t (id int PRIMARY KEY, name text DEFAULT E'gr\\xfcn\\\\''');
             INSERT INTO t VALUES (1, E'M\\xfcller; ''x'' \\\\ \\xe4'), (2, 'plain'); INSERT INTO t VALUES (3);
             COMMENT ON TABLE t IS E'\\xf6l'; CREATE FUNCTION f() RETURNS text LANGUAGE sql AS E'SELECT ''\\xdf''::text'",
        );
        let file = stage.machine.text("dumps/raw.sql");
        let output =
            stage.cluster.command("pg_dump").args(options).args(["-f", &file, "-d", "raw"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8(std::fs::read(&file).unwrap()).is_err());
        let look = "SELECT string_agg(encode(textsend(name), 'hex'), ' ' ORDER BY id) || ' ' || encode(textsend(f()), 'hex') ||
            ' ' || encode(textsend(obj_description('t'::regclass)), 'hex') ||
            (SELECT encode(textsend(pg_get_expr(adbin, adrelid)), 'hex') FROM pg_attrdef) FROM t";
        let expected = stage.cluster.sql("raw", look);
        assert!(expected.contains("4dfc6c6c6572") && expected.contains("df f66c"), "{expected}");
        // A new database has the encoding that the text says of it, or that of the one whose place it takes.
        if options.is_empty() {
            stage.cluster.sql("postgres", &sql.replace("raw", "back"));
        }
        stage.done(&["restore", &file, "--target", &stage.cluster.url("back"), "--yes"]);
        assert_eq!(stage.cluster.sql("back", look), expected, "{major} {options:?}");
        if options.is_empty() {
            // A database with an encoding takes no such bytes, and is left as it was.
            let refused = stage.run(&["restore", &file, "--target", &stage.cluster.url("source"), "--yes"]);
            assert!(refused.code == 20 && refused.err.contains("line "), "{}", refused.err);
            assert!(refused.err.contains("ENCODING 'SQL_ASCII'"), "{}", refused.err);
        }
        assert_eq!(stage.cluster.sql("source", "SELECT count(*) FROM kept"), "0");
        assert_eq!(stage.databases(), "back raw source");
        clean(&stage.machine);
    }
}
