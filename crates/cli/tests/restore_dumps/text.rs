//! SQL text that stock `pg_dump` of two versions wrote, in every form and packing: restored, and then dumped again as the same
//! text; cut, hostile and failing ones, which change nothing.

use super::postgres::{CHINOOK, EVERYTHING, Stage};
use super::{clean, pack};
use std::path::{Path, PathBuf};
use testkit::POSTGRES_VERSIONS;

const FORMS: [(&str, &[&str]); 6] = [
    ("plain.sql", &[]),
    ("created.sql", &["--create"]),
    ("cleaned.sql", &["--create", "--clean", "--if-exists"]),
    ("dropping.sql", &["--clean"]),
    ("inserts.sql", &["--inserts"]),
    ("named-inserts.sql", &["--column-inserts", "--rows-per-insert=3", "--quote-all-identifiers"]),
];
const PACKINGS: [(&str, &str); 5] =
    [("gzip", ".gz"), ("zstd", ".zst"), ("lz4", ".lz4"), ("xz", ".xz"), ("bzip2", ".bz2")];

fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl Stage {
    fn write(&self, name: &str, text: &[u8]) -> String {
        let path = self.machine.path("dumps").join(name);
        std::fs::write(&path, text).unwrap();
        shown(&path)
    }

    /// A restore that is refused, by an error that says so.
    #[track_caller]
    fn refused(&self, file: &str, target: &str, code: i32, says: &[&str]) -> String {
        let refused = self.run(&["restore", file, "--target", &self.cluster.url(target), "--yes"]);
        assert_eq!(refused.code, code, "{file}: {} {}", refused.out, refused.err);
        for text in says {
            assert!(refused.err.contains(text), "{text}: {}", refused.err);
        }
        clean(&self.machine);
        refused.err
    }
}

#[test]
fn every_text_that_stock_pg_dump_writes_comes_back() {
    for major in POSTGRES_VERSIONS {
        let stage = Stage::new(major, EVERYTHING);
        let expected = stage.cluster.text("source");
        let definitions = stage.cluster.text_with("source", &["--schema-only"]);
        let mut files: Vec<PathBuf> = FORMS.iter().map(|(name, options)| stage.dump(name, options)).collect();
        files.push(stage.dump("definitions.sql", &["--schema-only"]));
        let packings = if major == POSTGRES_VERSIONS[0] { &PACKINGS[..] } else { &PACKINGS[..1] };
        let plain = files[0].clone();
        files.extend(packings.iter().map(|(program, ending)| pack(program, ending, &plain)));
        if major != POSTGRES_VERSIONS[0] {
            // Of the others what differs between versions: settings, locales, the key around it.
            files = [1, 3, 4, 7].map(|number: usize| files[number].clone()).to_vec();
        }
        for (number, file) in files.iter().enumerate() {
            let name = format!("back_{number}");
            let target = stage.cluster.url(&name);
            let report =
                stage.done(&["restore", &shown(file), "--target", &target, "--yes", "--json"]).json();
            assert_eq!(report["verified"], true, "{file:?}");
            if file.ends_with("definitions.sql") {
                let found = stage.cluster.text_with(&name, &["--schema-only"]);
                assert_eq!(found, definitions, "{major} {file:?}");
            } else {
                assert_eq!(stage.cluster.text(&name), expected, "{major} {file:?}");
            }
            stage.cluster.sql("postgres", &format!("DROP DATABASE {name}"));
            clean(&stage.machine);
        }
        assert_eq!(stage.databases(), "source");
        assert_eq!(stage.cluster.text("source"), expected);
    }
}

#[test]
fn text_of_one_version_comes_back_on_the_other() {
    let stages = POSTGRES_VERSIONS.map(|major| Stage::new(major, CHINOOK));
    let rows =
        "SELECT (SELECT count(*) FROM playlist_track) || ' ' || (SELECT sum(unit_price) FROM invoice_line)";
    for (from, to) in [(0, 1), (1, 0)] {
        let file = stages[from].dump("chinook.sql", &["--create"]);
        let file = pack("gzip", ".gz", &file);
        stages[to].done(&["restore", &shown(&file), "--target", &stages[to].cluster.url("new"), "--yes"]);
        assert_eq!(stages[to].cluster.sql("new", rows), stages[from].cluster.sql("source", rows));
        assert_eq!(stages[to].databases(), "new source");
    }
}

#[test]
fn a_live_database_is_replaced_by_text_and_kept() {
    let stage = Stage::new(18, CHINOOK);
    let file = pack("gzip", ".gz", &stage.dump("source-20260105.sql", &[]));
    std::fs::remove_file(stage.machine.path("dumps/source-20260105.sql")).unwrap();
    let expected = stage.cluster.text("source");
    stage.cluster.sql(
        "source",
        "DROP TABLE playlist_track; DELETE FROM invoice_line; COMMENT ON DATABASE source IS 'it'",
    );
    let target = stage.cluster.url("source");
    let before = stage.cluster.text("source");
    let dry = stage.done(&["restore", &shown(&file), "--target", &target, "--dry-run"]);
    assert!(dry.out.contains("source__safety_") && dry.out.contains("Count the rows"), "{}", dry.out);
    for option in [&["--table", "playlist_track"][..], &["--in-place"], &["--schema-only"]] {
        let file = shown(&file);
        let arguments = [&["restore", &file, "--target", &target, "--yes"], option].concat();
        let refused = stage.run(&arguments);
        assert_eq!(refused.code, 2, "{option:?}: {}", refused.err);
        assert!(refused.err.contains("SQL text") && refused.err.contains(option[0]), "{}", refused.err);
    }
    assert_eq!(stage.cluster.text("source"), before);
    // A check after the swap that fails brings the old one back.
    let url = "http://127.0.0.1:9/";
    let undone = stage.run(&["restore", &shown(&file), "--target", &target, "--yes", "--health-url", url]);
    assert_ne!(undone.code, 0);
    assert_eq!(stage.cluster.text("source"), before);
    assert_eq!(stage.databases(), "source");
    let folder = stage.machine.text("dumps");
    let report = stage.done(&["restore", &folder, "--target", &target, "--yes", "--json"]).json();
    assert_eq!(report["backup"], shown(&file));
    let copy = report["safety_copy"].as_str().unwrap().to_owned();
    assert_eq!(stage.cluster.text("source"), expected);
    assert_eq!(stage.cluster.sql(&copy, "SELECT count(*) FROM invoice_line"), "0");
    let comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'source'";
    assert_eq!(stage.cluster.sql("postgres", comment), "it");
}

#[test]
fn text_that_is_not_whole_changes_nothing() {
    let stage = Stage::new(15, CHINOOK);
    let before = stage.cluster.text("source");
    let whole = std::fs::read(stage.dump("whole.sql", &[])).unwrap();
    let inserts = std::fs::read(stage.dump("inserts.sql", &["--inserts"])).unwrap();
    let packed = std::fs::read(pack("gzip", ".gz", &stage.machine.path("dumps/whole.sql"))).unwrap();
    let end = |bytes: &[u8], mark: &[u8]| bytes.windows(mark.len()).rposition(|part| part == mark).unwrap();
    let copy = end(&whole, b"\n\\.\n");
    let closing = end(&whole, b"-- PostgreSQL database dump complete");
    let cases = [
        ("rows.sql", whole[..copy - 200].to_vec(), "rows of a table"),
        ("marker.sql", whole[..copy + 1].to_vec(), "rows of a table"),
        ("statement.sql", inserts[..inserts.len() / 2].to_vec(), "cut off"),
        ("closing.sql", whole[..closing].to_vec(), "closing line"),
        ("half.sql.gz", packed[..packed.len() / 2].to_vec(), "half.sql.gz"),
        ("end.sql.gz", packed[..packed.len() - 5].to_vec(), "end.sql.gz"),
        ("garbage.sql.gz", [&packed[..], b"more"].concat(), "garbage.sql.gz"),
        (
            "lost.sql",
            String::from_utf8(whole.clone()).unwrap().replacen('\t', " ", 1).into_bytes(),
            "columns",
        ),
    ];
    for (name, bytes, says) in cases {
        let file = stage.write(name, &bytes);
        stage.refused(&file, "source", 20, &[says, name]);
    }
    stage.cluster.create("nothing");
    let path = stage.machine.path("dumps/empty.sql");
    let mut command = stage.cluster.command("pg_dump");
    assert!(command.arg("-f").arg(&path).args(["-d", "nothing"]).status().unwrap().success());
    stage.refused(&shown(&path), "source", 20, &["makes nothing at all"]);
    assert_eq!(stage.cluster.text("source"), before);
    assert_eq!(stage.databases(), "nothing source");
}

#[test]
fn what_reaches_beyond_the_database_is_not_run() {
    let stage = Stage::new(15, "CREATE TABLE t AS SELECT 1 AS id");
    let before = stage.cluster.text("source");
    let text = std::fs::read_to_string(stage.dump("t.sql", &["--create"])).unwrap();
    let canary = stage.machine.text("canary");
    let lines = [
        (format!("\\! touch {canary}"), "`\\!`"),
        (format!("\\o {canary}"), "`\\o`"),
        ("\\i /etc/passwd".to_owned(), "`\\i`"),
        (format!("\\copy t TO '{canary}'"), "`\\copy`"),
        ("SELECT 1 \\gexec".to_owned(), "`\\gexec`"),
        ("\\connect postgres".to_owned(), "`\\connect`"),
        (format!("COPY public.t TO PROGRAM 'touch {canary}';"), "reaches beyond"),
        ("COPY public.t FROM '/etc/passwd';".to_owned(), "reaches beyond"),
        ("DROP DATABASE postgres;".to_owned(), "reaches beyond"),
        (
            "CREATE ROLE boss SUPERUSER PASSWORD 'hidden';".to_owned(),
            "CREATE ROLE boss SUPERUSER PASSWORD '…'",
        ),
        ("ALTER SYSTEM SET work_mem = '1MB';".to_owned(), "ALTER SYSTEM"),
        ("GRANT pg_monitor TO reader;".to_owned(), "reaches beyond"),
    ];
    let (head, rest) = text.split_once("CREATE TABLE").unwrap();
    for (line, says) in lines {
        let file = stage.write("bad.sql", format!("{head}{line}\nCREATE TABLE{rest}").as_bytes());
        let number = format!("line {}:", head.lines().count() + 1);
        let error = stage.refused(&file, "source", 20, &[says, &number]);
        assert!(!error.contains("hidden"), "{error}");
    }
    let mut command = stage.cluster.command("pg_dumpall");
    let all = command.output().unwrap();
    assert!(all.status.success());
    let file = stage.write("all.sql", &all.stdout);
    stage.refused(&file, "source", 20, &["pg_dumpall", "psql -X -f"]);
    let rows = stage.dump("rows.sql", &["--data-only"]);
    stage.refused(&shown(&rows), "source", 20, &["no definitions"]);
    assert!(!Path::new(&canary).exists());
    assert_eq!(stage.cluster.text("source"), before);
    assert_eq!(stage.databases(), "source");
}

#[test]
fn a_statement_that_fails_is_named_and_nothing_is_changed() {
    let stage = Stage::new(
        18,
        "CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t VALUES (1, 'hidden'), (2, 'b')",
    );
    let before = stage.cluster.text("source");
    let plain = std::fs::read_to_string(stage.dump("plain.sql", &[])).unwrap();
    let inserts = std::fs::read_to_string(stage.dump("inserts.sql", &["--inserts"])).unwrap();
    let line = |text: &str, of: &str| text.lines().position(|line| line.starts_with(of)).unwrap() + 1;
    // A value that does not fit, in the second of the rows.
    let bad = plain.replace("2\tb", "x\tb");
    let at = format!("line {}:", line(&bad, "x\tb"));
    let file = stage.write("row.sql", bad.as_bytes());
    stage.refused(&file, "source", 20, &[&at, "COPY public.t", "invalid input syntax"]);
    // The same row twice: the key that follows finds it.
    let bad = plain.replace("2\tb", "1\tb");
    let file = stage.write("key.sql", bad.as_bytes());
    let error = stage.refused(
        &file,
        "source",
        20,
        &["`ALTER TABLE ONLY public.t ADD CONSTRAINT", "the target is as it was"],
    );
    assert!(!error.contains("hidden"), "{error}");
    let bad = inserts.replace("VALUES (2, 'b')", "VALUES ('hidden', 'b')");
    let at = format!(
        "line {}: `INSERT INTO public.t VALUES …`",
        line(&bad, "INSERT INTO public.t VALUES ('hidden'")
    );
    let file = stage.write("insert.sql", bad.as_bytes());
    stage.refused(&file, "source", 20, &[&at]);
    let bad = plain.replace(
        "CREATE TABLE public.t (",
        "CREATE TABLE public.t (\n    color public.colour DEFAULT 'hidden',",
    );
    let file = stage.write("type.sql", bad.as_bytes());
    let error = stage.refused(
        &file,
        "source",
        20,
        &["CREATE TABLE public.t ( color public.colour DEFAULT '…'", "does not exist"],
    );
    assert!(!error.contains("hidden"), "{error}");
    assert_eq!(stage.cluster.text("source"), before);
    assert_eq!(stage.databases(), "source");
}

#[test]
fn roles_are_mapped_or_left_out() {
    let script = "CREATE ROLE shopkeeper; CREATE ROLE clerk; CREATE SCHEMA shop AUTHORIZATION shopkeeper;
        CREATE TABLE shop.t AS SELECT 1 AS id; ALTER TABLE shop.t OWNER TO shopkeeper; GRANT SELECT ON shop.t TO clerk";
    let stage = Stage::new(15, script);
    let file = stage.dump("t.sql", &["--create"]);
    let set = stage.dump("set.sql", &["--use-set-session-authorization"]);
    stage.cluster.sql("postgres", "ALTER ROLE shopkeeper RENAME TO keeper; ALTER ROLE clerk RENAME TO other");
    let file = shown(&file);
    stage.refused(&file, "new", 20, &["clerk", "shopkeeper", "--role-map"]);
    let target = stage.cluster.url("new");
    let mapped = ["--role-map", "shopkeeper=keeper", "--role-map", "clerk=other", "--yes"];
    let owner =
        "SELECT pg_get_userbyid(relowner) || array_to_string(relacl, ',') FROM pg_class WHERE relname = 't'";
    for file in [&file, &shown(&set)] {
        stage.done(&[&["restore", file, "--target", &target], &mapped[..]].concat());
        assert_eq!(stage.cluster.sql("new", owner), "keeperkeeper=arwdDxt/keeper,other=r/keeper", "{file}");
        stage.cluster.sql("postgres", "DROP DATABASE new");
    }
    let done = stage.done(&["restore", &file, "--target", &target, "--no-owner", "--yes"]);
    assert!(done.err.contains("rights were left out"), "{}", done.err);
    assert_eq!(
        stage.cluster.sql("new", "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 't'"),
        "postgres"
    );
    // Who is no superuser gives objects to roles that it is a member of.
    stage
        .cluster
        .sql("postgres", "DROP DATABASE new; CREATE ROLE maker LOGIN CREATEDB; GRANT keeper, other TO maker");
    let target = stage.cluster.url_as("maker", "new");
    stage.done(&[&["restore", &file, "--target", &target], &mapped[..]].concat());
    assert_eq!(stage.cluster.sql("new", owner), "keeperkeeper=arwdDxt/keeper,other=r/keeper");
}

#[test]
fn other_encodings_and_old_strings_come_back() {
    let stage = Stage::new(
        15,
        "CREATE TABLE \"Größe\" (\"Füße\" text DEFAULT 'ä\\b''c'); INSERT INTO \"Größe\" VALUES ('é\\n'), (E'a\\tb')",
    );
    stage.cluster.sql("postgres", "CREATE DATABASE latin ENCODING LATIN1 LOCALE 'C' TEMPLATE template0");
    let expected = stage.cluster.text("source");
    for (name, options) in
        [("rows", &["--encoding=LATIN1"][..]), ("inserts", &["--encoding=LATIN1", "--inserts"])]
    {
        let file = shown(&stage.dump(&format!("{name}.sql"), options));
        stage.done(&["restore", &file, "--target", &stage.cluster.url("back"), "--yes"]);
        assert_eq!(stage.cluster.text("back"), expected, "{name}");
        stage.cluster.sql("postgres", "DROP DATABASE back");
        // A database keeps its encoding.
        stage.done(&["restore", &file, "--target", &stage.cluster.url("latin"), "--yes", "--no-safety"]);
        assert_eq!(stage.cluster.text("latin"), expected, "{name}");
        assert_eq!(stage.cluster.sql("latin", "SHOW server_encoding"), "LATIN1");
    }
    let mut text = std::fs::read_to_string(stage.dump("old.sql", &["--inserts"])).unwrap();
    text = text.replace("SET standard_conforming_strings = on;", "SET standard_conforming_strings = off;");
    text = text.replace("('é\\n')", "('é\\\\n;\\'')");
    let file = stage.write("old.sql", text.as_bytes());
    stage.done(&["restore", &file, "--target", &stage.cluster.url("back"), "--yes"]);
    let rows = stage.cluster.sql("back", "SELECT string_agg(\"Füße\", '|' ORDER BY 1) FROM \"Größe\"");
    assert!(rows.contains("é\\n;'"), "{rows}");
}

#[test]
fn a_killed_restore_of_text_goes_on_or_is_undone() {
    let script = "CREATE TABLE mark AS SELECT 1 AS a; CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 30) AS text FROM generate_series(1, 60000) g";
    let stage = Stage::new(15, script);
    let file = shown(&pack("gzip", ".gz", &stage.dump("big.sql", &[])));
    stage.cluster.sql("source", "UPDATE mark SET a = 2; TRUNCATE big");
    let target = stage.cluster.url("source");
    let look = "SELECT (SELECT a FROM mark) || ' ' || (SELECT count(*) FROM big)";
    for (verb, expected) in [("--rollback", "2 0"), ("--continue", "1 60000")] {
        let binary = stage.machine.command().get_program().to_owned();
        let mut command = std::process::Command::new(binary);
        command.args(["restore", &file, "--target", &target, "--yes", "--quiet"]);
        command.env("HOME", stage.machine.root.join("home")).current_dir(stage.machine.path(""));
        let mut child = command.stdin(std::process::Stdio::null()).spawn().unwrap();
        let loading = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY public.big%' AND datname <> 'source'";
        while stage.cluster.sql("postgres", loading) != "1" {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(stage.cluster.sql("source", look), "2 0");
        // Another file under the same name is not gone on with.
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, [&whole[..], &whole[..]].concat()).unwrap();
        let refused = stage.run(&["restore", "--continue", "--target", &target]);
        assert_eq!(refused.code, 20, "{}", refused.err);
        assert!(refused.err.contains("is not the file any more"), "{}", refused.err);
        std::fs::write(&file, whole).unwrap();
        stage.done(&["restore", verb, "--target", &target]);
        assert_eq!(stage.cluster.sql("source", look), expected);
    }
    assert!(stage.databases().starts_with("source source__safety_"), "{}", stage.databases());
}

#[test]
fn definitions_alone_come_back_of_archives() {
    for major in POSTGRES_VERSIONS {
        let stage = Stage::new(major, EVERYTHING);
        let expected = stage.cluster.text_with("source", &["--schema-only"]);
        for (name, options) in [("all.dump", &["-Fc"][..]), ("all.tar", &["-Ft"]), ("folder", &["-Fd"])] {
            let file = shown(&stage.dump(name, options));
            let target = stage.cluster.url("back");
            stage.done(&["restore", &file, "--target", &target, "--schema-only", "--yes"]);
            assert_eq!(stage.cluster.text_with("back", &["--schema-only"]), expected, "{major} {name}");
            let left =
                "SELECT (SELECT count(*) FROM shop.people) + (SELECT count(*) FROM pg_largeobject_metadata)";
            assert_eq!(stage.cluster.sql("back", left), "0", "{major} {name}");
            stage.cluster.sql("postgres", "DROP DATABASE back");
            clean(&stage.machine);
        }
    }
}

#[test]
fn many_rows_pass() {
    let script = "CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 30) AS text FROM generate_series(1, 200000) g";
    let stage = Stage::new(18, script);
    let file = stage.dump("big.sql", &[]);
    // More than one COPY may be given at once.
    assert!(std::fs::metadata(&file).unwrap().len() > 180 << 20);
    stage.done(&["restore", &shown(&file), "--target", &stage.cluster.url("big"), "--yes"]);
    assert_eq!(stage.cluster.sql("big", "SELECT count(*) || ' ' || sum(id) FROM big"), "200000 20000100000");
}
