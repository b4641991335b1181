//! Backups of a PostgreSQL database that never rests, and backups that are killed: what spans several tables holds in each
//! of them, and of each there is the whole or nothing. Judged by stock `restic` and `pg_restore`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use support::Machine;
use testkit::Cluster;

fn program(machine: &Machine, cluster: &Cluster, repository: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("backstay"));
    command
        .env_clear()
        .envs(testkit::counters())
        .env("HOME", machine.root.join("home"))
        .env("TMPDIR", &machine.root);
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", cluster.programs().display()));
    command.args(["--repository", repository]).args(arguments).stdin(Stdio::null());
    command
}

fn json(machine: &Machine, cluster: &Cluster, repository: &str, arguments: &[&str]) -> Value {
    let output = program(machine, cluster, repository, arguments).arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Restores a snapshot by stock programs into a new database.
fn restore(machine: &Machine, cluster: &Cluster, repository: &str, snapshot: &str, into: &str) {
    let password = machine.write("password", &machine.key());
    let folder = machine.path(into);
    let mut restic = assert_cmd::Command::new("restic");
    restic.args(["--no-cache", "-r", repository, "--password-file"]).arg(&password);
    restic.args(["restore", snapshot, "--target"]).arg(&folder).assert().success();
    let archive = archive(&folder).expect("there is no archive in the snapshot");
    cluster.create(into);
    let mut pg_restore = cluster.command("pg_restore");
    let output = pg_restore.args(["-j2", "--exit-on-error", "-d", into]).arg(archive).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", output.status);
    std::fs::remove_dir_all(folder).unwrap();
}

fn archive(folder: &Path) -> Option<PathBuf> {
    if folder.join("toc.dat").is_file() {
        return Some(folder.to_owned());
    }
    let below = std::fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path());
    below.filter(|path| path.is_dir()).find_map(|path| archive(&path))
}

fn long() -> bool {
    std::env::var_os("BACKSTAY_LONG").is_some()
}

/// Ended with the test, whatever becomes of that.
struct Load(Child);

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_spans_tables_holds_in_every_backup_of_a_database_under_load() {
    let cluster = Cluster::start(15);
    let machine = Machine::new();
    cluster.create("bank");
    let made = cluster.command("pgbench").args(["-i", "-q", "-s", "2", "bank"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let repository = machine.text("repository");
    let url = cluster.url("bank");
    assert!(program(&machine, &cluster, &repository, &["init"]).status().unwrap().success());
    let mut load = cluster.command("pgbench");
    load.args(["-n", "-c", "4", "-j", "2", "-T", "3600", "bank"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut load = Load(load.spawn().unwrap());
    let mut transactions = Vec::new();
    for number in 0..if long() { 30 } else { 5 } {
        let report = json(&machine, &cluster, &repository, &["backup", &url]);
        let into = format!("copy{number}");
        let id = report["backups"][0]["id"].as_str().unwrap();
        // By stock programs and by our own in turn.
        if number % 2 == 0 {
            restore(&machine, &cluster, &repository, id, &into);
        } else {
            json(&machine, &cluster, &repository, &["restore", id, "--to-new", &into, "--yes"]);
        }
        let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
            (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)";
        let sums = cluster.sql(&into, sums);
        let sums: Vec<&str> = sums.split('|').collect();
        assert!(sums.iter().all(|sum| *sum == sums[0]), "backup {number}: {sums:?}");
        let count = cluster.sql(&into, "SELECT count(*) FROM pgbench_history");
        transactions.push(count.parse::<u64>().unwrap());
        cluster.sql("postgres", &format!("DROP DATABASE {into}"));
    }
    assert!(load.0.try_wait().unwrap().is_none(), "nothing was changed meanwhile");
    assert!(transactions.windows(2).all(|two| two[0] < two[1]), "{transactions:?}");
}

/// What happens to a backup that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    OurProcess,
    PgDump,
    Backend,
    Server,
}

const BLOWS: [Blow; 4] = [Blow::OurProcess, Blow::PgDump, Blow::Backend, Blow::Server];

/// Returns the processes of that name which a process began.
fn children(parent: u32, name: &str) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((before, after)) = stat.rsplit_once(')') else { return false };
        let parent_of = after.split_whitespace().nth(1).and_then(|number| number.parse::<u32>().ok());
        before.ends_with(&format!("({name}")) && parent_of == Some(parent)
    };
    numbers.filter(is_child).collect()
}

fn kill(pid: u32) {
    let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
}

fn strike(blow: Blow, running: &mut Child, cluster: &mut Cluster) {
    match blow {
        Blow::OurProcess => running.kill().unwrap(),
        Blow::PgDump => children(running.id(), "pg_dump").into_iter().for_each(kill),
        Blow::Backend => {
            let sql =
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backstay'
                       ORDER BY random() LIMIT 1";
            cluster.sql("postgres", sql);
        }
        Blow::Server => cluster.restart(|_| {}),
    }
}

#[test]
fn of_a_killed_backup_there_is_the_whole_or_nothing() {
    let mut cluster = Cluster::start(15);
    let machine = Machine::new();
    cluster.create("erp");
    cluster.sql(
        "erp",
        "CREATE TABLE a AS SELECT i, md5(i::text) AS body FROM generate_series(1, 150000) AS i;
         CREATE TABLE b AS SELECT i, repeat(md5(i::text), 40) AS body FROM generate_series(1, 10000) AS i;
         ALTER TABLE a ADD PRIMARY KEY (i); SELECT lo_from_bytea(7, decode(repeat('ab', 100000), 'hex'));",
    );
    let text = cluster.text("erp");
    let url = cluster.url("erp");
    let repository = machine.text("repository");
    assert!(program(&machine, &cluster, &repository, &["init"]).status().unwrap().success());
    let began = Instant::now();
    json(&machine, &cluster, &repository, &["backup", &url]);
    let usual = began.elapsed();

    let mut known = 1;
    for round in 0..if long() { 60_u32 } else { 8 } {
        let blow = BLOWS[round as usize % BLOWS.len()];
        // Spread over the length of a backup, in another order for each kind of blow.
        let share = f64::from((round * 37 + round / 4 * 13) % 100) / 100.0;
        let mut backup = program(&machine, &cluster, &repository, &["backup", &url]);
        let mut running = backup.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(usual.mul_f64(share));
        strike(blow, &mut running, &mut cluster);
        let output = running.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let listed = json(&machine, &cluster, &repository, &["list"]);
        let now = listed["backups"].as_array().unwrap().len();
        match output.status.code() {
            Some(0) => assert_eq!(now, known + 1, "{blow:?} at {share}"),
            Some(20) => {
                assert_eq!(now, known, "{blow:?} at {share}: {said}");
                assert!(said.contains("error: "), "{blow:?} at {share}: {said}");
            }
            // Whoever is killed says nothing.
            None if blow == Blow::OurProcess => assert!(now - known <= 1, "{share}"),
            other => panic!("{blow:?} at {share}: {other:?} {said}"),
        }
        known = now;
        assert_eq!(cluster.sessions_left(), Vec::<String>::new(), "{blow:?} at {share}");
    }

    // Each that there is has all of it: the same rows and digests, by the same blobs.
    let listed = json(&machine, &cluster, &repository, &["list"]);
    let backups = listed["backups"].as_array().unwrap();
    let manifests: Vec<Value> = backups
        .iter()
        .map(|backup| {
            let shown = json(&machine, &cluster, &repository, &["show", backup["id"].as_str().unwrap()]);
            shown["manifest"]["facts"]["tables"].clone()
        })
        .collect();
    assert!(manifests[0].as_array().is_some_and(|tables| tables.len() == 2), "{manifests:?}");
    assert!(manifests.iter().all(|manifest| *manifest == manifests[0]));
    let password = machine.write("password", &machine.key());
    let mut restic = assert_cmd::Command::new("restic");
    restic.args(["--no-cache", "-r", &repository, "--password-file"]).arg(&password);
    restic.args(["check", "--read-data"]).assert().success();
    restore(&machine, &cluster, &repository, "latest", "copy");
    assert_eq!(cluster.text("copy"), text);
}
