//! `verify --deep` of PostgreSQL archives: loaded into a server that is started for it and gone afterwards.

use crate::support::{self, Machine, Outcome};
use crate::{check, item, pack, problem, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use testkit::{Cluster, POSTGRES_VERSIONS, postgres_programs};

const SHOP: &str = "
CREATE ROLE \"odd \"\"owner\" LOGIN; CREATE ROLE reader;
CREATE SCHEMA sales AUTHORIZATION \"odd \"\"owner\";
CREATE TABLE sales.orders (id int PRIMARY KEY, total numeric);
ALTER TABLE sales.orders OWNER TO \"odd \"\"owner\";
GRANT SELECT ON sales.orders TO reader;
CREATE POLICY p ON sales.orders TO reader USING (total > 0);
INSERT INTO sales.orders SELECT i, i * 1.5 FROM generate_series(1, 2000) AS i;
CREATE TABLE lines (order_id int REFERENCES sales.orders, line int);
INSERT INTO lines SELECT i, 1 FROM generate_series(1, 500) AS i;
SELECT lo_from_bytea(4711, decode(repeat('00ff', 3000), 'hex'));
";

fn verify(machine: &Machine, major: u32, arguments: &[&str]) -> Outcome {
    let path = format!("{}:/usr/bin:/bin", postgres_programs(major).display());
    support::outcome(machine.command().env("PATH", path).arg("verify").args(arguments))
}

fn dump(cluster: &Cluster, options: &[&str], to: &Path) {
    let output = cluster.command("pg_dump").args(options).arg("-f").arg(to).arg("shop").output().unwrap();
    assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where servers are made: scratch, or, for root, a folder through which the server's user may pass.
fn places(machine: &Machine) -> Vec<PathBuf> {
    let own = format!("backstay-{}", geteuid());
    vec![
        machine.root.join("home/.cache/backstay/scratch"),
        machine.root.join(&own),
        Path::new("/tmp").join(&own),
    ]
}

/// Folders of one process in such a place, by its number.
fn left_of(machine: &Machine, pid: u32) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| path.display().to_string().contains(&format!("backstay-scratch-{pid}-"));
    let entries =
        places(machine).into_iter().flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
    entries.map(|entry| entry.path()).filter(ours).collect()
}

/// Processes that have a folder in their command line.
fn servers_in(folder: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(folder)).count()
}

#[test]
fn each_form_is_loaded_with_owners_and_rights_and_asked() {
    for major in POSTGRES_VERSIONS {
        let machine = Machine::new();
        let dumps = machine.path("dumps");
        fs::create_dir(&dumps).unwrap();
        {
            let cluster = Cluster::start(major);
            cluster.create("shop");
            cluster.sql("shop", SHOP);
            dump(&cluster, &["-Fc"], &dumps.join("shop-20260101.dump"));
            dump(&cluster, &["-Ft"], &dumps.join("shop-20260102.tar"));
            dump(&cluster, &["-Fd"], &dumps.join("shop-20260103"));
            dump(&cluster, &[], &dumps.join("shop-20260104.sql"));
            pack("gzip", ".gz", &dumps.join("shop-20260102.tar"));
            pack("zstd", ".zst", &dumps.join("shop-20260104.sql"));
        }
        let query = [
            "--query",
            "SELECT count(*) FROM sales.orders o JOIN lines ON order_id = o.id",
            "--expect",
            "500",
        ];
        let owner = ["--query", "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'orders'"];
        let arguments =
            [&["dumps", "--deep"], &query[..2], &owner[..], &query[2..], &["--expect", "\"odd \"\"owner\""]];
        let outcome = verify(&machine, major, &[&arguments.concat()[..], &["--json"]].concat());
        assert_eq!(outcome.code, 0, "{major}: {}", text(&outcome));
        let report: Value = outcome.json();
        assert_eq!(report["summary"]["total_files"], 6, "{report}");
        for file in report["files"].as_array().unwrap() {
            let load = check(file, "load")["detail"].as_str().unwrap();
            assert!(load.starts_with(&format!("loaded into PostgreSQL {major}.")), "{load}");
            assert!(load.ends_with(": 2 tables, 2,500 rows"), "{load}");
        }
        crate::nothing_left(&machine);
    }
}

#[test]
fn a_part_that_cannot_stand_alone_fails() {
    let machine = Machine::new();
    let dumps = machine.path("dumps");
    fs::create_dir(&dumps).unwrap();
    {
        let cluster = Cluster::start(15);
        cluster.create("shop");
        cluster.sql("shop", SHOP);
        dump(&cluster, &["-Fc", "-t", "lines"], &dumps.join("shop-20260101.dump"));
    }
    assert_eq!(verify(&machine, 15, &["dumps"]).code, 0);
    let outcome = verify(&machine, 15, &["dumps", "--deep", "--json"]);
    assert_eq!(outcome.code, 21, "{}", text(&outcome));
    let report = outcome.json();
    let why = problem(&report, "shop-20260101.dump");
    assert!(why.starts_with("load: ") && why.contains("sales.orders"), "{why}");
    assert_eq!(item(&report, "shop-20260101.dump")["rows"], 500);
    crate::nothing_left(&machine);
}

#[test]
fn what_cannot_be_tried_here_says_nothing_against_a_dump() {
    let machine = Machine::new();
    machine.write(
        "dumps/erp-20260101.sql",
        "--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\\! true\nCREATE TABLE public.t (a integer);\n\n\
         --\n-- PostgreSQL database dump complete\n--\n\n",
    );
    assert_eq!(verify(&machine, 15, &["dumps"]).code, 0);
    let outcome = verify(&machine, 15, &["dumps", "--deep"]);
    assert_eq!(outcome.code, 20, "{}", text(&outcome));
    assert!(outcome.err.contains("says nothing against") && outcome.err.contains("psql"), "{}", outcome.err);
    let report = verify(&machine, 15, &["dumps", "--deep", "--json"]).json();
    assert_eq!(report["error"]["exit_code"], 20, "{report}");
    assert!(problem(&report, "erp-20260101.sql").starts_with("load: "), "{report}");
    // One that is bad counts more.
    machine.write("dumps/erp-20260102.sql", "");
    assert_eq!(verify(&machine, 15, &["dumps", "--deep"]).code, 21);
}

#[test]
fn a_kill_ends_the_server_and_the_next_run_removes_its_folder() {
    let machine = Machine::new();
    let dumps = machine.path("dumps");
    fs::create_dir(&dumps).unwrap();
    {
        let cluster = Cluster::start(15);
        cluster.create("shop");
        cluster.sql("shop", "CREATE TABLE t AS SELECT 1 AS a");
        dump(&cluster, &["-Fc"], &dumps.join("shop-20260101.dump"));
    }
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("backstay"));
        command.env_clear().env("HOME", machine.root.join("home")).env("PATH", "/usr/bin:/bin");
        command.env("TMPDIR", &machine.root).current_dir(machine.root.join("here"));
        command
            .args(["verify", "dumps", "--query", "SELECT pg_sleep(600)"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let name = format!("backstay-scratch-{}-", child.id());
        let started = Instant::now();
        let asks = || {
            fs::read_dir("/proc").unwrap().flatten().any(|process| {
                // A session that sleeps says so in its title.
                let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).into_owned();
                line.starts_with("postgres: postgres dump ") && line.contains("SELECT")
                    || line.starts_with("postgres: postgres dump ") && line.contains("FETCH")
            })
        };
        while !(servers_in(&name) > 0 && asks()) {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            assert!(started.elapsed() < Duration::from_secs(60), "nothing is asked");
            std::thread::sleep(Duration::from_millis(20));
        }
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let status = child.wait().unwrap();
        let started = Instant::now();
        while servers_in(&name) > 0 {
            assert!(started.elapsed() < Duration::from_secs(20), "the server goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
        let left = left_of(&machine, child.id());
        if signal == Signal::SIGINT {
            assert_eq!((status.code(), left.len()), (Some(130), 0), "{left:?}");
        } else {
            assert_eq!(left.len(), 1, "{left:?}");
            let outcome = verify(&machine, 15, &["dumps", "--deep"]);
            assert_eq!(outcome.code, 0, "{}", text(&outcome));
            assert!(left_of(&machine, child.id()).is_empty());
        }
    }
}
