//! `restore … --data-only`: rows of every form of dump and of stored backups, added to tables that are there; what stands in
//! the way is named before, and whatever fails leaves the target as it was.

use super::postgres::{EVERYTHING, Stage};
use super::support::{Outcome, outcome};
use super::{clean, pack};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use testkit::POSTGRES_VERSIONS;

/// Tables in a circle of keys, with triggers that would tell, sequences of both kinds, partitions, and one without a key.
const SHOP: &str = "
CREATE SCHEMA sales;
CREATE TABLE sales.log (what text);
CREATE FUNCTION sales.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO sales.log VALUES ('fired'); RETURN NEW; END $$;
CREATE TABLE sales.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number serial, \"B b\" text,
  doubled bigint GENERATED ALWAYS AS (number * 2) STORED, last_item int, before bigint REFERENCES sales.orders);
CREATE TABLE sales.items (id int PRIMARY KEY, \"order\" bigint NOT NULL REFERENCES sales.orders);
INSERT INTO sales.orders (\"B b\") SELECT E'tab\\t ''' || i FROM generate_series(1, 500) i;
INSERT INTO sales.items SELECT i, 1 + i % 500 FROM generate_series(1, 900) i;
UPDATE sales.orders SET last_item = id, before = 501 - id;
ALTER TABLE sales.orders ADD CONSTRAINT last FOREIGN KEY (last_item) REFERENCES sales.items;
COMMENT ON CONSTRAINT last ON sales.orders IS 'the last; one';
CREATE TABLE sales.events (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE sales.events_2025 PARTITION OF sales.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE sales.events_rest PARTITION OF sales.events DEFAULT;
INSERT INTO sales.events SELECT i, date '2025-06-01' + i FROM generate_series(1, 400) AS i;
CREATE TABLE sales.seen (id int, day date, FOREIGN KEY (id, day) REFERENCES sales.events);
INSERT INTO sales.seen SELECT * FROM sales.events LIMIT 30;
CREATE MATERIALIZED VIEW sales.sums AS SELECT count(*) FROM sales.items;
CREATE TRIGGER noted AFTER INSERT ON sales.orders FOR EACH ROW EXECUTE FUNCTION sales.note();
CREATE TRIGGER noted AFTER INSERT ON sales.events FOR EACH ROW EXECUTE FUNCTION sales.note();
ALTER TABLE sales.orders ENABLE ALWAYS TRIGGER noted;
";

const EMPTY: &str =
    "TRUNCATE sales.orders, sales.items, sales.events, sales.seen, sales.log RESTART IDENTITY";

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Long texts that must be the same: of those that are not, what one has and the other lacks.
#[track_caller]
fn assert_same(found: &str, expected: &str, what: &str) {
    let lines = |one: &str, other: &str| -> Vec<String> {
        let known: BTreeSet<&str> = other.lines().collect();
        one.lines().filter(|line| !known.contains(line)).take(10).map(str::to_owned).collect()
    };
    let differ = (lines(found, expected), lines(expected, found));
    assert!(found == expected, "{what}: {differ:?}");
}

impl Stage {
    fn add(&self, file: &str, target: &str, more: &[&str]) -> Outcome {
        let url = self.cluster.url(target);
        self.run(&[&["restore", file, "--target", &url, "--data-only", "--yes"], more].concat())
    }

    #[track_caller]
    fn added(&self, file: &str, target: &str, more: &[&str]) -> Outcome {
        let outcome = self.add(file, target, more);
        assert_eq!(outcome.code, 0, "{file} {more:?}: {} {}", outcome.out, outcome.err);
        clean(&self.machine);
        outcome
    }

    /// Rows that are refused by an error that says so, with nothing changed.
    #[track_caller]
    fn kept_out(&self, file: &str, target: &str, more: &[&str], (code, says): (i32, &[&str])) {
        let before = self.cluster.text(target);
        let refused = self.add(file, target, more);
        assert_eq!(refused.code, code, "{file} {more:?}: {} {}", refused.out, refused.err);
        for text in says {
            assert!(refused.err.contains(text), "{text}: {}", refused.err);
        }
        assert_eq!(self.cluster.text(target), before, "{file} {more:?}");
        clean(&self.machine);
    }
}

#[test]
fn rows_of_every_dump_come_into_the_tables_that_are_there() {
    for major in POSTGRES_VERSIONS {
        let stage = Stage::new(major, EVERYTHING);
        // Rows that break what was never checked cannot come where it is.
        stage.cluster.sql(
            "source",
            "ALTER TABLE shop.rules DROP CONSTRAINT not_valid, DROP CONSTRAINT parent_not_valid",
        );
        let expected = stage.cluster.text("source");
        let mut files = vec![
            stage.dump("all.dump", &["-Fc"]),
            stage.dump("whole.sql", &["--create"]),
            stage.dump("inserts.sql", &["--data-only", "--column-inserts", "--rows-per-insert=7"]),
        ];
        if major == POSTGRES_VERSIONS[0] {
            files.push(stage.dump("rows.sql", &["--data-only", "--disable-triggers"]));
            files.push(stage.dump("folder", &["-Fd"]));
            files.push(stage.dump("rows.tar", &["-Ft", "--data-only"]));
            files.push(pack("gzip", ".gz", &files[3]));
            files.push(pack("zstd", ".zst", &files[0]));
        }
        let definitions = shown(&files[0]);
        let url = stage.cluster.url("empty");
        stage.done(&["restore", &definitions, "--target", &url, "--schema-only", "--yes"]);
        for file in files {
            stage.cluster.sql("postgres", "CREATE DATABASE back TEMPLATE empty");
            let report = stage.added(&shown(&file), "back", &["--json"]).json();
            assert_eq!((&report["verified"], &report["safety_copy"]), (&true.into(), &().into()), "{file:?}");
            stage.cluster.sql(
                "back",
                "REFRESH MATERIALIZED VIEW shop.sums; REFRESH MATERIALIZED VIEW shop.a_sum_of_sums;
                 ALTER DATABASE back SET work_mem = '5MB'; COMMENT ON DATABASE back IS 'the whole of it'",
            );
            assert_same(&stage.cluster.text("back"), &expected, &format!("{major} {file:?}"));
            stage.cluster.sql("postgres", "DROP DATABASE back");
        }
        assert_eq!(stage.databases(), "empty source");
    }
}

#[test]
fn circles_of_keys_come_and_triggers_rest() {
    let stage = Stage::new(15, SHOP);
    let whole = stage.cluster.text("source");
    let files = ["all.dump", "all.tar", "whole.sql", "inserts.sql"].map(|name| {
        let options: &[&str] = match name {
            "all.dump" => &["-Fc"],
            "all.tar" => &["-Ft", "--data-only"],
            "whole.sql" => &[],
            _ => &["--inserts", "--data-only"],
        };
        shown(&stage.dump(name, options))
    });
    for file in &files {
        stage.cluster.sql("source", EMPTY);
        let done = stage.added(file, "source", &[]);
        assert!(
            done.err.contains("REFRESH MATERIALIZED VIEW") && done.err.contains("rows were added"),
            "{}",
            done.err
        );
        assert_eq!(stage.cluster.text("source"), whole, "{file}");
    }
    // What is there stays, and sequences never go back.
    stage.cluster.sql(
        "source",
        &format!(
            "{EMPTY}; SELECT setval('sales.orders_number_seq', 7000); INSERT INTO sales.log VALUES ('mine');
                  INSERT INTO sales.orders OVERRIDING SYSTEM VALUE VALUES (900, 1, 'mine')"
        ),
    );
    let dry = stage.done(&[
        "restore",
        &files[0],
        "--target",
        &stage.cluster.url("source"),
        "--data-only",
        "--dry-run",
    ]);
    for says in ["sales.orders, sales.log", "noted of", "last of sales.orders", "one transaction"] {
        assert!(dry.out.contains(says) || says.starts_with("sales.orders,"), "{says}: {}", dry.out);
    }
    assert!(dry.out.contains("Leave the rows that are there already"), "{}", dry.out);
    stage.added(&files[0], "source", &[]);
    let look =
        "SELECT (SELECT count(*) FROM sales.orders) || ' ' || (SELECT count(*) FROM sales.log) || ' ' ||
                nextval('sales.orders_number_seq') || ' ' || nextval('sales.orders_id_seq')";
    assert_eq!(stage.cluster.sql("source", look), "501 2 7001 501");
    // The same again: each row is there already.
    for file in &files {
        stage.kept_out(file, "source", &[], (20, &["duplicate key", "--table TABLE --in-place"]));
    }
}

#[test]
fn chosen_tables_get_their_rows() {
    let stage = Stage::new(18, SHOP);
    let files = [("all.dump", &["-Fc"][..]), ("rows.dump", &["-Fc", "--data-only"]), ("whole.sql", &[])];
    let files = files.map(|(name, options)| shown(&stage.dump(name, options)));
    let counts =
        "SELECT concat_ws(' ', (SELECT count(*) FROM sales.orders), (SELECT count(*) FROM sales.items),
                  (SELECT count(*) FROM sales.events), nextval('sales.orders_number_seq'))";
    for file in &files {
        stage.cluster.sql("source", EMPTY);
        let tables = ["--table", "sales.orders", "--table", "items"];
        stage.added(file, "source", &tables);
        assert_eq!(stage.cluster.sql("source", counts), "500 900 0 501", "{file}");
        // What it points to is there now.
        stage.cluster.sql("source", "DELETE FROM sales.seen; ALTER SEQUENCE sales.orders_number_seq RESTART");
        let partitions = ["--table", "sales.events_2025", "--table", "sales.events_rest"];
        let whole: &[&str] = if file.ends_with("all.dump") { &["--table", "events"] } else { &partitions };
        stage.added(file, "source", whole);
        assert_eq!(stage.cluster.sql("source", counts), "500 900 400 1", "{file}");
        stage.kept_out(file, "source", &["--table", "nothing"], (2, &["nothing"]));
        stage.cluster.sql("source", EMPTY);
        stage.kept_out(file, "source", &["--table", "seen"], (20, &["foreign key", "name that table too"]));
    }
}

#[test]
fn what_stands_in_the_way_is_named_before() {
    let stage = Stage::new(15, SHOP);
    let archive = shown(&stage.dump("all.dump", &["-Fc"]));
    let text = shown(&stage.dump("rows.sql", &["--data-only"]));
    stage.cluster.sql("source", EMPTY);
    stage.cluster.sql("postgres", "CREATE ROLE clerk LOGIN; CREATE DATABASE other TEMPLATE source");
    stage.cluster.sql(
        "other",
        "DROP TABLE sales.seen, sales.events; ALTER TABLE sales.items ADD COLUMN needed int NOT NULL;
         ALTER TABLE sales.orders RENAME COLUMN \"B b\" TO c",
    );
    let all: &[&str] =
        &["sales.events_2025, sales.events_rest, sales.seen", "needed", "B b", "--schema-only"];
    for file in [&archive, &text] {
        stage.kept_out(file, "other", &[], (20, all));
        let target = stage.cluster.url("other");
        let dry = stage.done(&["restore", file, "--target", &target, "--data-only", "--dry-run"]);
        assert!(
            dry.out.contains("would be refused: tables that its rows are for are not there"),
            "{}",
            dry.out
        );
    }
    let before = stage.cluster.text("source");
    let target = stage.cluster.url_as("clerk", "source");
    stage.cluster.sql(
        "source",
        "GRANT USAGE ON SCHEMA sales TO clerk; GRANT INSERT ON ALL TABLES IN SCHEMA sales TO clerk",
    );
    let refused = stage.run(&["restore", &archive, "--target", &target, "--data-only", "--yes"]);
    assert!(refused.code == 20 && refused.err.contains("clerk is not the owner"), "{}", refused.err);
    stage.cluster.sql(
        "source",
        "REVOKE ALL ON SCHEMA sales FROM clerk; REVOKE ALL ON ALL TABLES IN SCHEMA sales FROM clerk",
    );
    assert_eq!(stage.cluster.text("source"), before);
    // No database, no tables, no rows, no such system, and what has no effect.
    let refused = stage.add(&archive, "nowhere", &[]);
    assert!(refused.code == 20 && refused.err.contains("--schema-only"), "{}", refused.err);
    let definitions = shown(&stage.dump("definitions.dump", &["-Fc", "--schema-only"]));
    stage.kept_out(&definitions, "source", &[], (2, &["has no rows"]));
    for option in [
        &["--schema-only"][..],
        &["--in-place"],
        &["--no-safety"],
        &["--no-owner"],
        &["--stop-command", "true"],
    ] {
        let refused = stage.add(&archive, "source", option);
        assert!(refused.code == 2 && refused.err.contains(option[0]), "{option:?}: {}", refused.err);
    }
    let image = stage.machine.database("app.db", 5);
    let refused = stage.run(&["restore", &shown(&image), "--target", "new.db", "--data-only", "--yes"]);
    assert!(refused.code == 2 && refused.err.contains("ATTACH"), "{}", refused.err);
    // Without a word and without a terminal nothing is written.
    let refused = stage.run(&["restore", &archive, "--target", &stage.cluster.url("source"), "--data-only"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    // A dump of rows alone needs the option, and says so.
    for (name, options) in [("rows.sql", &["--data-only"][..]), ("rows.dump", &["-Fc", "--data-only"])] {
        let file = shown(&stage.dump(name, options));
        let refused = stage.run(&["restore", &file, "--target", &stage.cluster.url("new"), "--yes"]);
        assert!(refused.code == 20 && refused.err.contains("`--data-only` adds"), "{}", refused.err);
    }
    assert_eq!(stage.cluster.text("source"), before);
}

#[test]
fn rows_that_cannot_be_told_from_the_rest_are_refused() {
    let stage = Stage::new(
        15,
        "CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    );
    let plain = std::fs::read_to_string(stage.dump("plain.sql", &[])).unwrap();
    stage.cluster.sql("source", "TRUNCATE t");
    let write = |name: &str, text: String| {
        let path = stage.machine.path("dumps").join(name);
        std::fs::write(&path, text).unwrap();
        shown(&path)
    };
    let (head, rest) = plain.split_once("ALTER TABLE ONLY public.t\n").unwrap();
    for statement in
        ["UPDATE public.t SET name = 'hidden';", "SELECT public.f();", "DO $$ BEGIN END $$;", "ROLLBACK;"]
    {
        let line = format!("line {}:", head.lines().count() + 1);
        let file = write("more.sql", format!("{head}{statement}\nALTER TABLE ONLY public.t\n{rest}"));
        stage.kept_out(&file, "source", &[], (20, &[&line, "cannot be told"]));
    }
    // A row that does not fit, and one that comes twice.
    for (from, to, says) in [("2\tb", "x\tb", "invalid input syntax"), ("2\tb", "1\tb", "duplicate key")] {
        let file = write("bad.sql", plain.replace(from, to));
        stage.kept_out(&file, "source", &[], (20, &[says, "line "]));
    }
    // Names without a schema, a transaction around it, and a rule that swallows rows.
    let file = write("hand.sql", "SET client_encoding = 'UTF8';\nBEGIN;\nINSERT INTO t (id, name) VALUES (5, 'five'), (6, 'six');\nCOMMIT;\n".to_owned());
    stage.cluster.sql("source", "CREATE RULE gone AS ON INSERT TO t WHERE NEW.id = 6 DO INSTEAD NOTHING");
    stage.kept_out(&file, "source", &[], (20, &["1 more rows than before", "--no-verify"]));
    stage.cluster.sql("source", "DROP RULE gone ON t");
    stage.added(&file, "source", &[]);
    assert_eq!(stage.cluster.sql("source", "SELECT string_agg(name, ' ' ORDER BY id) FROM t"), "five six");
}

/// Kills a restore of rows while it loads.
fn killed(stage: &Stage, file: &str) {
    let url = stage.cluster.url("source");
    let binary = stage.machine.command().get_program().to_owned();
    let mut command = Command::new(binary);
    command.args(["restore", file, "--target", &url, "--data-only", "--yes", "--quiet"]);
    command.env("HOME", stage.machine.root.join("home")).current_dir(stage.machine.path(""));
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    let loading = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY \"public\".\"big\"%' AND state = 'active'";
    while stage.cluster.sql("postgres", loading) != "1" {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_killed_one_leaves_nothing_and_stored_backups_and_folders_serve_as_well() {
    let stage = Stage::new(
        18,
        "CREATE TABLE mark (a int); CREATE TABLE big (id int PRIMARY KEY, text text);
         INSERT INTO big SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 60000) g",
    );
    let (url, repository) = (stage.cluster.url("source"), stage.machine.text("repository"));
    let file = shown(&stage.dump("source-20260105.dump", &["-Fc"]));
    stage.machine.write("passphrase", "geheim und lang\n");
    let sealed = stage.machine.text("dumps/rows.sql.gz.age");
    let with_key = |arguments: &[&str]| {
        let mut command = stage.machine.command();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", stage.cluster.programs().display());
        command.env("PATH", path).env("BACKSTAY_AGE_PASSPHRASE_FILE", stage.machine.path("passphrase"));
        let outcome = outcome(command.args(arguments));
        assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.err);
    };
    with_key(&["backup", &url, "--data-only", "--out", &sealed]);
    stage.done(&["init", "--repository", &repository]);
    stage.done(&["backup", &url, "--repository", &repository]);
    let part = stage.done(&["backup", &url, "--repository", &repository, "--data-only", "--json"]).json();
    let part = part["backups"][0]["id"].as_str().unwrap().to_owned();
    let count = "SELECT count(*) || ' ' || coalesce(sum(id), 0) FROM big";
    let whole = stage.cluster.sql("source", count);
    stage.cluster.sql("source", "TRUNCATE big");
    killed(&stage, &file);
    assert_eq!(stage.cluster.sql("source", count), "0 0");
    let refused = stage.run(&["restore", "--continue", "--target", &url]);
    assert!(refused.code == 2 && refused.err.contains("no unfinished restore"), "{}", refused.err);
    let latest = format!("{url}@latest");
    let text = format!(
        "[repositories.dumps]\npath = \"dumps\"\nlayout = \"files\"\n[targets.source]\nsource = \"{url}\"\n"
    );
    let restores: [&dyn Fn() -> Outcome; 4] = [
        &|| stage.added(&file, "source", &[]),
        &|| stage.done(&["restore", &latest, "--repository", &repository, "--data-only", "--yes"]),
        &|| {
            stage.done(&[
                "restore",
                &part,
                "--repository",
                &repository,
                "--data-only",
                "--yes",
                "--table",
                "big",
            ])
        },
        &|| {
            stage.machine.write("backstay.toml", &text);
            stage.done(&["restore", "source@latest", "--data-only", "--confirm", "source"])
        },
    ];
    for (number, restore) in restores.iter().enumerate() {
        restore();
        assert_eq!(stage.cluster.sql("source", count), whole, "{number}");
        stage.cluster.sql("source", "TRUNCATE big");
    }
    std::fs::remove_file(stage.machine.path("backstay.toml")).unwrap();
    with_key(&["restore", &sealed, "--target", &url, "--data-only", "--yes"]);
    assert_eq!(stage.cluster.sql("source", count), whole);
    // A part that would take the place of the whole says how its rows come.
    let refused = stage.run(&["restore", &part, "--repository", &repository, "--yes"]);
    assert!(refused.code == 2 && refused.err.contains("`--data-only` adds its rows"), "{}", refused.err);
}
