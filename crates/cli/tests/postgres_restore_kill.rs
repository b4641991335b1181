//! Restores of PostgreSQL killed at random moments: our process, its `pg_restore`, a backend of either, the server. At
//! that moment the old or the new database is under the name; then `--continue` and `--rollback` reach their end, and
//! nothing is left but what is to be kept.
//!
//! By default a seeded sample; more of it with `BACKSTAY_LONG=1`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "support/crash/mod.rs"]
mod crash;
mod support;

use crash::{Draw, long, seed};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Machine, Outcome};
use testkit::Cluster;

const CONTENT: &str = "CREATE TABLE mark (a int); INSERT INTO mark VALUES (1);
  CREATE TABLE items (id int PRIMARY KEY, body text, amount numeric);
  INSERT INTO items SELECT i, repeat(md5(i::text), 4), i / 7.0 FROM generate_series(1, 30000) AS i;
  CREATE INDEX ON items (body); CREATE INDEX ON items (amount);
  CREATE TABLE more AS SELECT * FROM items; ALTER TABLE more ADD FOREIGN KEY (id) REFERENCES items;
  SELECT lo_from_bytea(7, decode(repeat('00ff', 100000), 'hex'));";
/// Tells which content a database has, all of it.
const LOOK: &str = "SELECT (SELECT string_agg(a::text, ',') FROM mark), (SELECT count(*) FROM items),
  (SELECT count(*) FROM more), (SELECT count(*) FROM pg_constraint WHERE conrelid = 'more'::regclass),
  length(lo_get(7)), (SELECT count(*) FROM pg_indexes WHERE tablename = 'items')";
const OLD: &str = "2|30000|30000|1|200000|3";
const NEW: &str = "1|30000|30000|1|200000|3";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Us,
    Program,
    Backend,
    Server,
}

struct Stage {
    cluster: Cluster,
    machine: Machine,
    repository: String,
    url: String,
}

impl Stage {
    fn new() -> Self {
        let (cluster, machine) = (Cluster::start(15), Machine::new());
        let (repository, url) = (machine.text("repository"), cluster.url("erp"));
        let stage = Self { cluster, machine, repository, url };
        stage.cluster.create("erp");
        stage.cluster.sql("erp", CONTENT);
        assert_eq!(stage.run(&["init"]).code, 0);
        let backup = stage.run(&["backup", &stage.url]);
        assert_eq!(backup.code, 0, "{}", backup.err);
        stage.cluster.sql("erp", "UPDATE mark SET a = 2");
        stage.cluster.sql("postgres", "CREATE DATABASE pristine TEMPLATE erp");
        stage
    }

    /// Puts the old database in place again, and nothing beside it.
    fn set_up(&self) {
        for name in self.databases() {
            if name != "pristine" {
                self.cluster.sql("postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
            }
        }
        self.cluster.sql("postgres", "CREATE DATABASE erp TEMPLATE pristine");
    }

    fn databases(&self) -> Vec<String> {
        let sql = "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1') ORDER BY 1";
        self.cluster.sql("postgres", sql).lines().map(str::to_owned).collect()
    }

    fn prepared(&self, arguments: &[&str]) -> assert_cmd::Command {
        let mut command = self.machine.command();
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.cluster.programs().display()));
        command.args(["--repository", &self.repository]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        support::outcome(&mut self.prepared(arguments))
    }

    /// Begins the restore that is to be killed.
    fn begin(&self) -> Child {
        let prepared = self.prepared(&["restore", &format!("{}@latest", self.url), "--confirm", "erp"]);
        let mut command = Command::new(prepared.get_program());
        command.args(prepared.get_args()).env_clear().current_dir(prepared.get_current_dir().unwrap());
        command.envs(prepared.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    #[track_caller]
    fn look(&self, at: &str) -> String {
        let found = self.cluster.sql("erp", LOOK);
        assert!([OLD, NEW].contains(&found.as_str()), "{at}: {found}");
        found
    }

    /// Nothing lies beside the target but safety copies, each whole.
    #[track_caller]
    fn assert_clean(&self, at: &str) {
        for name in self.databases() {
            let known = ["erp", "pristine"].contains(&name.as_str());
            assert!(known || name.starts_with("erp__safety_"), "{at}: {name} is left");
            assert_eq!(
                self.cluster.sql(&name, LOOK),
                if name == "erp" { self.look(at) } else { OLD.to_owned() }
            );
        }
        let comment = "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = 'erp'";
        assert_eq!(self.cluster.sql("postgres", comment), "", "{at}");
    }
}

fn kill(pid: u32) {
    let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Finds the `pg_restore`s that a process began.
fn programs_of(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(status) = std::fs::read_to_string(process.path().join("status")) else { continue };
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        if field("PPid:") == Some(&pid.to_string()) && field("Name:") == Some("pg_restore") {
            found.extend(process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
    }
    found
}

fn strike(stage: &mut Stage, victim: Victim, child: &Child) {
    match victim {
        Victim::Us => kill(child.id()),
        Victim::Program => programs_of(child.id()).into_iter().for_each(kill),
        Victim::Backend => {
            let sql = "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity
                       WHERE application_name IN ('backstay', 'pg_restore') ORDER BY random() LIMIT 1) AS one";
            stage.cluster.sql("postgres", sql);
        }
        Victim::Server => stage.cluster.restart(|_| ()),
    }
}

#[test]
fn whatever_is_killed_the_old_or_the_new_one_is_there() {
    let mut stage = Stage::new();
    let mut draw = Draw(seed());
    stage.set_up();
    let started = Instant::now();
    let mut whole = stage.begin();
    assert!(whole.wait().unwrap().success());
    let length = started.elapsed();
    assert_eq!(stage.look("after a whole restore"), NEW);
    stage.assert_clean("after a whole restore");

    let victims = [Victim::Us, Victim::Server, Victim::Us, Victim::Program, Victim::Us, Victim::Backend];
    let count = if long() { 60 } else { 12 };
    let mut taken_up = 0;
    for (number, victim) in victims.into_iter().cycle().take(count).enumerate() {
        stage.set_up();
        let child = stage.begin();
        let wait = length.mul_f64(draw.below(1050) as f64 / 1000.0).max(Duration::from_millis(30));
        std::thread::sleep(wait);
        let at =
            format!("number {number}: {victim:?} after {} of {} ms", wait.as_millis(), length.as_millis());
        strike(&mut stage, victim, &child);
        let output = child.wait_with_output().map(|output| (output.status, output.stderr)).unwrap();
        let told = String::from_utf8_lossy(&output.1).into_owned();
        let at = format!("{at}, {}: {told}", output.0);
        let found = stage.look(&at);
        if output.0.success() {
            assert_eq!(found, NEW, "{at}");
        }
        let way = if number % 4 < 2 { "--continue" } else { "--rollback" };
        let finished = stage.run(&["restore", way, "--target", &stage.url]);
        match finished.code {
            0 => {
                taken_up += 1;
                let expected = if way == "--continue" { NEW } else { OLD };
                assert_eq!(stage.look(&at), expected, "{at}, {way}: {}", finished.err);
            }
            2 => assert!(finished.err.contains("no unfinished restore"), "{at}, {way}: {}", finished.err),
            code => panic!("{at}, {way}: {code} {}", finished.err),
        }
        // The server goes on making a database for a program that is gone: this waits for its end.
        stage.cluster.sessions_left();
        // A database that was made and not recorded goes with the next restore.
        let latest = format!("{}@latest", stage.url);
        if stage.databases().iter().any(|name| name.contains("__restoring_")) {
            let again = stage.run(&["restore", &latest, "--confirm", "erp"]);
            assert_eq!(again.code, 0, "{at}: {}", again.err);
        }
        stage.assert_clean(&at);
    }
    println!("{taken_up} of {count} were taken up");
    assert!(taken_up > 0, "nothing was ever left to be taken up");
}

#[test]
fn a_restore_that_runs_is_left_alone() {
    let stage = Stage::new();
    stage.set_up();
    let mut child = stage.begin();
    let record = "SELECT count(*) FROM pg_database WHERE datname LIKE 'erp\\_\\_restoring%' AND datallowconn";
    while stage.cluster.sql("postgres", record) == "0" {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
    }
    for arguments in [&["--continue", "--target", &stage.url][..], &["--rollback", "--target", &stage.url]] {
        let refused = stage.run(&[&["restore"], arguments].concat());
        assert_eq!(refused.code, 11, "{}", refused.err);
        assert!(refused.err.contains("still runs"), "{}", refused.err);
    }
    let second = stage.run(&["restore", &format!("{}@latest", stage.url), "--confirm", "erp"]);
    assert_eq!(second.code, 11, "{}", second.err);
    assert!(second.err.contains("a restore of it is running"), "{}", second.err);
    // An interruption leaves the old database, and nothing else.
    let pid = child.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(stage.databases(), ["erp", "pristine"]);
    assert_eq!(stage.cluster.sql("erp", LOOK), OLD);
    assert_eq!(stage.cluster.sessions_left(), Vec::<String>::new());
}
