//! Restores of PostgreSQL into a database that keeps its name: for roles that may make none, under the eyes of those who
//! use it, with what was there kept in schemas of its own, and killed at random moments.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/crash/mod.rs"]
mod crash;
mod support;

use crash::{Draw, long, seed};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Machine, Outcome, outcome};
use testkit::{Cluster, POSTGRES_VERSIONS, postgres_programs};

const EVERYTHING: &str = include_str!("../../engines/tests/postgres_dump/everything.sql");
const CONTENT: &str = "CREATE TABLE mark (a int); INSERT INTO mark VALUES (1);
  CREATE TABLE items (id int PRIMARY KEY, body text, amount numeric);
  INSERT INTO items SELECT i, repeat(md5(i::text), 4), i / 7.0 FROM generate_series(1, 20000) AS i;
  CREATE INDEX ON items (body);
  CREATE SCHEMA other; CREATE TABLE other.more AS SELECT * FROM items; ALTER TABLE other.more ADD FOREIGN KEY (id) REFERENCES items;
  CREATE VIEW other.marks AS SELECT a, (SELECT count(*) FROM items) AS count FROM mark;";
/// Tells which content a database has, all of it, in one statement.
const LOOK: &str = "SELECT (SELECT string_agg(a::text, ',') FROM mark), (SELECT count(*) FROM items),
  (SELECT count(*) FROM other.more), (SELECT string_agg(a || ' ' || count, ',') FROM other.marks),
  (SELECT count(*) FROM pg_constraint WHERE conrelid = 'other.more'::regclass AND contype = 'f')";
const OLD: &str = "2|20000|20000|2 20000|1";
const NEW: &str = "1|20000|20000|1 20000|1";

struct Stage {
    cluster: Cluster,
    machine: Machine,
    repository: String,
    url: String,
}

impl Stage {
    fn new(major: u32) -> Self {
        let (cluster, machine) = (Cluster::start(major), Machine::new());
        let (repository, url) = (machine.text("repository"), cluster.url("erp"));
        let stage = Self { cluster, machine, repository, url };
        stage.cluster.create("erp");
        stage.done(&["init"]);
        stage
    }

    /// With a backup of one content, and another content in the database.
    fn marked(major: u32) -> Self {
        let stage = Self::new(major);
        stage.sql(CONTENT);
        stage.done(&["backup", &stage.url]);
        stage.sql("UPDATE mark SET a = 2");
        stage.cluster.sql("postgres", "CREATE DATABASE pristine TEMPLATE erp");
        stage
    }

    fn set_up(&self) {
        self.cluster.sql("postgres", "DROP DATABASE erp WITH (FORCE)");
        self.cluster.sql("postgres", "CREATE DATABASE erp TEMPLATE pristine");
    }

    fn prepared(&self, arguments: &[&str]) -> assert_cmd::Command {
        let mut command = self.machine.command();
        let programs = POSTGRES_VERSIONS.map(|major| postgres_programs(major).display().to_string());
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", programs.join(":")));
        command.args(["--repository", &self.repository]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(&mut self.prepared(arguments))
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 0, "{arguments:?}: {} {}", outcome.out, outcome.err);
        outcome
    }

    /// Restores the newest backup in place.
    fn restore(&self, arguments: &[&str]) -> Outcome {
        let latest = format!("{}@latest", self.url);
        self.run(&[&["restore", &latest, "--in-place", "--confirm", "erp"], arguments].concat())
    }

    /// Begins a restore that goes on by itself.
    fn begin(&self, arguments: &[&str]) -> Child {
        let latest = format!("{}@latest", self.url);
        let own = ["restore", &latest, "--in-place", "--confirm", "erp"];
        let prepared = self.prepared(&[&own, arguments].concat());
        let mut command = Command::new(prepared.get_program());
        command.args(prepared.get_args()).env_clear().current_dir(prepared.get_current_dir().unwrap());
        command.envs(prepared.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    #[track_caller]
    fn sql(&self, sql: &str) -> String {
        self.cluster.sql("erp", sql)
    }

    /// The schemas that are there, but for the server's own.
    fn schemas(&self) -> Vec<String> {
        let sql = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1";
        self.sql(sql).lines().map(str::to_owned).collect()
    }

    /// Drops what restores kept.
    fn drop_kept(&self) {
        for schema in
            self.schemas().iter().filter(|name| name.contains("__safety_") || name.contains("__rolled_back_"))
        {
            self.sql(&format!("SET client_min_messages = error; DROP SCHEMA \"{schema}\" CASCADE"));
        }
        for (catalog, column, what) in
            [("pg_publication", "pubname", "PUBLICATION"), ("pg_event_trigger", "evtname", "EVENT TRIGGER")]
        {
            let names = self.sql(&format!("SELECT {column} FROM {catalog} WHERE {column} ~ '__safety_'"));
            names.lines().for_each(|name| drop(self.sql(&format!("DROP {what} \"{name}\""))));
        }
    }

    #[track_caller]
    fn assert_text(&self, expected: &str, at: &str) {
        let found = self.cluster.text("erp");
        if found == expected {
            return;
        }
        std::fs::write(self.machine.path("expected.sql"), expected).unwrap();
        std::fs::write(self.machine.path("found.sql"), found).unwrap();
        let mut diff = Command::new("diff");
        let files = [self.machine.path("expected.sql"), self.machine.path("found.sql")];
        let output = diff.arg("-u").args(files).output().unwrap();
        let text: String = String::from_utf8_lossy(&output.stdout).chars().take(4000).collect();
        panic!("{at}: {text}");
    }
}

#[test]
fn every_kind_of_object_comes_back_into_the_database_that_is_there() {
    for major in POSTGRES_VERSIONS {
        let stage = Stage::new(major);
        let cluster = &stage.cluster;
        stage.sql(&format!("\\set role_reader reader\n\\set role_owner 'the owner'\n{EVERYTHING}"));
        stage.done(&["backup", &stage.url]);
        let before = cluster.text("erp");
        let oid = cluster.sql("postgres", "SELECT oid FROM pg_database WHERE datname = 'erp'");
        let change = "DELETE FROM shop.people WHERE id < 500; DROP TABLE shop.orders CASCADE; CREATE TABLE shop.newer (a int);
             CREATE SCHEMA newer; CREATE TABLE newer.t (a int); ALTER TABLE shop.no_rows ADD COLUMN more hstore;
             SELECT lo_unlink(77), lo_from_bytea(77, 'other');";
        stage.sql(change);
        let changed = cluster.text("erp");
        let dry = stage.restore(&["--dry-run"]);
        assert_eq!(dry.code, 0, "{}", dry.err);
        assert!(
            dry.out.contains("shop to shop__safety_2") && !dry.out.contains("would be refused"),
            "{}",
            dry.out
        );
        stage.assert_text(&changed, &format!("{major}: dry run"));

        // What fails at the end is undone: the old content is there, the restored one beside.
        let failed = stage.restore(&["--health-url", "http://127.0.0.1:1/"]);
        assert_ne!(failed.code, 0, "{}", failed.err);
        assert!(failed.err.contains("was rolled back: the target is as it was"), "{}", failed.err);
        assert!(failed.err.contains("shop__rolled_back_2"), "{}", failed.err);
        stage.drop_kept();
        stage.assert_text(&changed, &format!("{major}: rolled back: {}", failed.err));

        let done = stage.restore(&[]);
        assert_eq!(done.code, 0, "{}", done.err);
        assert!(done.err.contains("compared with the backup"), "{}", done.err);
        assert!(done.err.contains(", newer__safety_2"), "{}", done.err);
        let kept = stage.schemas().into_iter().find(|name| name.starts_with("shop__safety_")).unwrap();
        assert_eq!(stage.sql(&format!("SELECT count(*) FROM \"{kept}\".people")), "501");
        let objects =
            stage.schemas().into_iter().find(|name| name.starts_with("large_objects__safety_")).unwrap();
        let content = format!("SELECT encode(data, 'escape') FROM \"{objects}\".content WHERE object = 77");
        assert_eq!(stage.sql(&content), "other");
        stage.drop_kept();
        stage.assert_text(&before, &format!("{major}: restored: {}", done.err));

        stage.sql(change);
        let done = stage.restore(&["--no-safety"]);
        assert_eq!(done.code, 0, "{}", done.err);
        stage.assert_text(&before, &format!("{major}: without a safety copy"));
        assert_eq!(cluster.sql("postgres", "SELECT oid FROM pg_database WHERE datname = 'erp'"), oid);
        assert_eq!(cluster.sessions_left(), Vec::<String>::new());
    }
}

#[test]
fn a_role_that_may_make_no_database_restores_its_own() {
    for major in POSTGRES_VERSIONS {
        let stage = Stage::new(major);
        let cluster = &stage.cluster;
        cluster.sql(
            "postgres",
            "CREATE ROLE app LOGIN; REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC; GRANT CREATE ON DATABASE erp TO app",
        );
        stage.sql("ALTER SCHEMA public OWNER TO app");
        let url = cluster.url_as("app", "erp");
        cluster.sql("erp", &format!("SET SESSION AUTHORIZATION app; {CONTENT}"));
        stage.done(&["backup", &url]);
        stage.sql("UPDATE mark SET a = 2");
        let latest = format!("{url}@latest");
        let swap = stage.run(&["restore", &latest, "--confirm", "erp"]);
        assert_eq!(swap.code, 20, "{}", swap.err);
        let done = stage.run(&["restore", &latest, "--in-place", "--confirm", "erp"]);
        assert_eq!(done.code, 0, "{}", done.err);
        assert_eq!(stage.sql(LOOK), NEW);
        let kept = stage.schemas().into_iter().find(|name| name.starts_with("public__safety_")).unwrap();
        assert_eq!(stage.sql(&format!("SELECT a FROM \"{kept}\".mark")), "2");
        let none = stage.run(&["restore", "--rollback", "--target", &url]);
        assert_eq!(none.code, 2, "{}", none.err);
        assert!(none.err.contains("no unfinished restore"), "{}", none.err);

        // What the role may not do is said before anything is done.
        stage.sql("CREATE SCHEMA theirs; CREATE EXTENSION hstore SCHEMA public");
        let schemas = stage.schemas();
        let refused = stage.run(&["restore", &latest, "--in-place", "--confirm", "erp"]);
        assert_eq!(refused.code, 20, "{}", refused.err);
        for words in [
            "not the owner of the schema theirs",
            "ALTER SCHEMA \"theirs\" OWNER TO app",
            "the extension hstore",
        ] {
            assert!(refused.err.contains(words), "{words}: {}", refused.err);
        }
        stage.sql("UPDATE pg_extension SET extrelocatable = false WHERE extname = 'hstore'");
        let refused =
            stage.run(&["restore", &latest, "--in-place", "--target", &stage.url, "--confirm", "erp"]);
        assert_eq!(refused.code, 20, "{}", refused.err);
        assert!(
            refused.err.contains("hstore lies in the schema public beside other things"),
            "{}",
            refused.err
        );
        assert_eq!(stage.schemas(), schemas);
    }
}

#[test]
fn whoever_uses_it_sees_the_old_or_the_new_one() {
    let stage = Stage::marked(15);
    let mut reader = stage.cluster.command("psql");
    let loops = format!("{LOOK} \\watch 0.02\n");
    reader
        .args(["-X", "-q", "-A", "-t", "-d", "erp"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut reader = reader.spawn().unwrap();
    std::io::Write::write_all(&mut reader.stdin.take().unwrap(), loops.as_bytes()).unwrap();
    // Somebody is in the middle of a transaction: it ends as it began, in the old content.
    let mut writer = stage.cluster.command("psql");
    let began = "BEGIN; UPDATE mark SET a = 3; SELECT pg_sleep(6); UPDATE mark SET a = a - 1; SELECT count(*) FROM items; COMMIT";
    let mut writer = writer
        .args(["-X", "-q", "-A", "-t", "-d", "erp"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut writer.stdin.take().unwrap(), began.as_bytes()).unwrap();
    let done = stage.restore(&[]);
    assert_eq!(done.code, 0, "{}", done.err);
    let written = writer.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&written.stdout).contains("20000"), "{written:?}");
    assert_eq!(stage.sql(LOOK), NEW);
    std::thread::sleep(Duration::from_millis(300));
    reader.kill().unwrap();
    let seen = reader.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&seen.stdout).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| line.matches('|').count() == 4).collect();
    assert!(lines.contains(&OLD) && lines.contains(&NEW), "{} lines: {:?}", lines.len(), lines.last());
    let whole = &lines[..lines.len() - 1];
    assert!(whole.iter().all(|line| [OLD, NEW].contains(line)), "{whole:?}");
    assert_eq!(String::from_utf8_lossy(&seen.stderr), "");
    let kept = stage.schemas().into_iter().find(|name| name.starts_with("public__safety_")).unwrap();
    assert_eq!(stage.sql(&format!("SELECT a FROM \"{kept}\".mark")), "2");
}

#[derive(Debug, Clone, Copy)]
enum Victim {
    Us,
    Backend,
    Server,
}

fn strike(stage: &mut Stage, victim: Victim, child: &Child) {
    match victim {
        Victim::Us => {
            let _ =
                Command::new("kill").args(["-KILL", &child.id().to_string()]).stderr(Stdio::null()).status();
        }
        Victim::Backend => {
            let sql = "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity
                       WHERE application_name = 'backstay' ORDER BY random() LIMIT 1) AS one";
            stage.cluster.sql("postgres", sql);
        }
        Victim::Server => stage.cluster.restart(|_| ()),
    }
}

/// Waits until the sessions of somebody who was killed are gone.
fn settle(stage: &Stage) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backstay'";
    let started = Instant::now();
    while stage.cluster.sql("postgres", sql) != "0" && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn whatever_is_killed_the_old_or_the_new_content_is_there() {
    let mut stage = Stage::marked(15);
    let mut draw = Draw(seed());
    for arguments in [&[][..], &["--table", "mark", "--table", "items", "--table", "more"]] {
        stage.set_up();
        let started = Instant::now();
        let whole = stage.begin(arguments).wait_with_output().unwrap();
        assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
        let length = started.elapsed();
        assert_eq!(stage.sql(LOOK), NEW);
        let victims = [Victim::Us, Victim::Backend, Victim::Server];
        let (count, mut taken_up) = (if long() { 60 } else { 9 }, 0);
        for (number, victim) in victims.into_iter().cycle().take(count).enumerate() {
            stage.set_up();
            let child = stage.begin(arguments);
            let wait = length.mul_f64(draw.below(1050) as f64 / 1000.0).max(Duration::from_millis(30));
            std::thread::sleep(wait);
            strike(&mut stage, victim, &child);
            let output = child.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            let at = format!(
                "{arguments:?} number {number}: {victim:?} after {} of {} ms, {}: {told}",
                wait.as_millis(),
                length.as_millis(),
                output.status
            );
            settle(&stage);
            let found = stage.sql(LOOK);
            assert!([OLD, NEW].contains(&found.as_str()), "{at}: {found}");
            if output.status.success() {
                assert_eq!(found, NEW, "{at}");
            }
            let way = if number % 2 == 0 { "--continue" } else { "--rollback" };
            let finished = stage.run(&["restore", way, "--target", &stage.url]);
            match finished.code {
                0 => {
                    taken_up += 1;
                    assert!(arguments.is_empty(), "{at}: {}", finished.err);
                    let expected = if way == "--continue" { NEW } else { OLD };
                    assert_eq!(stage.sql(LOOK), expected, "{at}, {way}: {}", finished.err);
                }
                2 => assert!(finished.err.contains("no unfinished restore"), "{at}, {way}: {}", finished.err),
                code => panic!("{at}, {way}: {code} {}", finished.err),
            }
            assert!(
                stage.schemas().iter().all(|name| !name.contains("__restoring_")),
                "{at}: {:?}",
                stage.schemas()
            );
            assert_eq!(stage.cluster.sessions_left(), Vec::<String>::new(), "{at}");
        }
        assert!(taken_up > 0 || !arguments.is_empty(), "nothing was ever left to be taken up");
    }
}
