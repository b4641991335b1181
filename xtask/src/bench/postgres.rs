//! A PostgreSQL database of 1.5 GB, in four tables and in one: first backup, unchanged, restored, each in turn with what
//! people use today: `pg_dump` into a folder with two jobs, through zstd, into restic, and `pg_restore` with two jobs.
//!
//! The server is the same for all, its databases are in its cache or the system's as far as they fit, and nothing changes
//! while it is measured. `bench postgres=100` takes databases of about 100 MB.

use super::contender::{Contender, Opens, build};
use super::postgres_server::Server;
use super::process::{Taken, folder_bytes, measure, median};
use std::path::{Path, PathBuf};
use std::process::Command;

const ROUNDS: usize = 3;
const MEGABYTES: u64 = 1500;

/// What ours is compared with: what is run, and what ours may take of its time.
struct Comparison {
    name: &'static str,
    required: f64,
    goal: f64,
}

const FIRST: [Comparison; 3] = [
    Comparison { name: "pg_dump -Fd -j2", required: 0.6, goal: 0.4 },
    Comparison { name: "pg_dump -Fc -Z0, zstd -1 -T2", required: 0.9, goal: 0.7 },
    Comparison { name: "pg_dump -Fc -Z0, restic backup --stdin", required: 0.6, goal: 0.45 },
];
const AGAIN: Comparison = Comparison { name: "the same into restic, again", required: 0.85, goal: 0.6 };
const RESTORED: Comparison = Comparison { name: "pg_restore -j2", required: 1.0, goal: 0.75 };

/// Seconds, a value a round.
#[derive(Default)]
struct Figures {
    first: Vec<f64>,
    again: Vec<f64>,
    one: Vec<f64>,
    restored: Vec<f64>,
    not_read_back: Vec<f64>,
    others: [Vec<f64>; 3],
    restic_again: Vec<f64>,
    pg_restored: Vec<f64>,
    memory: u64,
    added_share: f64,
}

pub(super) fn run(root: &Path, folder: &Path, size: Option<&str>) -> Result<(), String> {
    let megabytes = match size {
        None => MEGABYTES,
        Some(text) => text.parse().map_err(|_| format!("`{text}` is no number of megabytes"))?,
    };
    for program in ["zstd", "restic"] {
        crate::tools::find(program).ok_or_else(|| format!("{program} is not installed"))?;
    }
    // A folder that the server's own user reaches.
    let place = std::env::temp_dir().join(format!("backstay-bench-postgres-{megabytes}"));
    let server = Server::start(&place)?;
    server.provide("four", &four_tables(megabytes))?;
    server.provide("one", &one_table(megabytes))?;
    let program = build(root)?;
    let work = folder.join("postgres");
    let bench = Bench {
        server,
        ours: Contender::ours(&program, Opens::KeyFile, work.join("backstay")),
        restic: Contender::restic(work.join("restic")),
        work,
    };
    let mut figures = Figures::default();
    for round in 0..ROUNDS {
        eprintln!("postgres: round {} of {ROUNDS} …", round + 1);
        bench.round(&mut figures)?;
    }
    bench.print(&figures)
}

struct Bench<'a> {
    server: Server,
    ours: Contender<'a>,
    restic: Contender<'a>,
    work: PathBuf,
}

impl Bench<'_> {
    fn ours(&self, arguments: &[&str], figures: &mut Figures) -> Result<f64, String> {
        let mut command = self.ours.command();
        let taken = measure(self.server.reach(command.args(arguments)))?;
        figures.memory = figures.memory.max(taken.memory_bytes);
        Ok(taken.seconds)
    }

    fn shell(&self, script: &str) -> Result<Taken, String> {
        let mut command = self.restic.command();
        let script = format!("set -o pipefail; {script}");
        command.env("WORK", &self.work);
        // The shell of `command` is restic: what it has in its environment is what is needed.
        let mut shell = Command::new("bash");
        shell.args(["-c", &script]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        measure(self.server.reach(&mut shell))
    }

    fn round(&self, figures: &mut Figures) -> Result<(), String> {
        let four = self.server.url("four");
        self.ours.init()?;
        let taken = self.ours(&["backup", &four, "--quiet"], figures)?;
        figures.first.push(taken);
        let before = folder_bytes(&self.ours.repository()) as f64;
        let taken = self.ours(&["backup", &four, "--quiet"], figures)?;
        figures.again.push(taken);
        figures.added_share = (folder_bytes(&self.ours.repository()) as f64 - before) / before;

        let folder = self.work.join("dump");
        let _ = std::fs::remove_dir_all(&folder);
        figures.others[0].push(self.shell("pg_dump -Fd -j2 -f \"$WORK/dump\" four")?.seconds);
        figures.others[1]
            .push(self.shell("pg_dump -Fc -Z0 four | zstd -q -1 -T2 -f -o \"$WORK/four.zst\"")?.seconds);
        self.restic.init()?;
        let pipe = "pg_dump -Fc -Z0 four | restic backup -q --stdin --stdin-filename four.dump";
        figures.others[2].push(self.shell(pipe)?.seconds);
        figures.restic_again.push(self.shell(pipe)?.seconds);

        for database in ["restored", "stock"] {
            self.server.sql("postgres", &format!("DROP DATABASE IF EXISTS {database}"))?;
        }
        let taken = self.restore(&four, &[], figures)?;
        figures.restored.push(taken);
        let taken = self.restore(&four, &["--no-verify"], figures)?;
        figures.not_read_back.push(taken);
        self.server.sql("postgres", "CREATE DATABASE stock")?;
        figures.pg_restored.push(self.shell("pg_restore -j2 -d stock \"$WORK/dump\"")?.seconds);
        self.server.sql("postgres", "DROP DATABASE stock; CHECKPOINT")?;

        self.ours.init()?;
        let one = self.server.url("one");
        let taken = self.ours(&["backup", &one, "--quiet"], figures)?;
        figures.one.push(taken);
        Ok(())
    }

    /// Restores to a new database, which is dropped then.
    fn restore(&self, source: &str, options: &[&str], figures: &mut Figures) -> Result<f64, String> {
        let newest = format!("{source}@latest");
        let mut arguments = vec!["restore", &newest, "--to-new", "restored", "--yes", "--quiet"];
        arguments.extend(options);
        let taken = self.ours(&arguments, figures)?;
        self.server.sql("postgres", "DROP DATABASE restored; CHECKPOINT")?;
        Ok(taken)
    }

    fn print(&self, figures: &Figures) -> Result<(), String> {
        let bytes = |database: &str| -> Result<f64, String> {
            let size = self.server.sql("postgres", &format!("SELECT pg_database_size('{database}')"))?;
            size.parse().map_err(|_| format!("the size of {database} is {size}"))
        };
        let (four, one) = (bytes("four")?, bytes("one")?);
        println!(
            "A database of {:.2} GB in four tables, medians of {ROUNDS} rounds, in turn:\n\n\
             | | seconds | ours of it | required | goal |\n| --- | --- | --- | --- | --- |",
            four / 1e9
        );
        let first = median(figures.first.clone());
        let mut missed = Vec::new();
        let mut compare = |ours: f64, theirs: &[f64], with: &Comparison| {
            let theirs = median(theirs.to_vec());
            let share = ours / theirs;
            println!("| {} | {theirs:.2} | {share:.2} | ≤ {} | ≤ {} |", with.name, with.required, with.goal);
            if share > with.required {
                missed.push(with.name.to_owned());
            }
        };
        println!("| **backstay backup, first** | {first:.2} | | | |");
        for (with, theirs) in FIRST.iter().zip(&figures.others) {
            compare(first, theirs, with);
        }
        let again = median(figures.again.clone());
        println!("| **backstay backup, again** | {again:.2} | | | |");
        compare(again, &figures.restic_again, &AGAIN);
        let restored = median(figures.restored.clone());
        println!("| **backstay restore**, compared with the backup | {restored:.2} | | | |");
        compare(restored, &figures.pg_restored, &RESTORED);
        let (taken, theirs) = (median(figures.not_read_back.clone()), median(figures.pg_restored.clone()));
        println!(
            "| **backstay restore --no-verify** | {taken:.2} | {:.2} of {} | | |",
            taken / theirs,
            RESTORED.name
        );
        // Of the same total: by the byte, for the two are not of the very same size.
        let one_table = median(figures.one.clone());
        let per_byte = (one_table / one) / (first / four);
        println!("| **backstay backup, one table** of {:.2} GB | {one_table:.2} | | | |", one / 1e9);
        println!("| by the byte, beside four tables | | {per_byte:.2} | ≤ 1.1 | |");
        println!("| added by the second backup | | {:.4} | < 0.01 | |", figures.added_share);
        println!("| memory at most | | {:.0} MB | ≤ 200 MB | |\n", figures.memory as f64 / 1e6);
        for (name, is_missed) in [
            ("one table", per_byte > 1.1),
            ("added", figures.added_share >= 0.01),
            ("memory", figures.memory > 200_000_000),
        ] {
            if is_missed {
                missed.push(name.to_owned());
            }
        }
        if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join(", "))) }
    }
}

const EVENTS: &str =
    "CREATE TABLE events (id bigint, at timestamptz NOT NULL, kind text NOT NULL, payload jsonb NOT NULL);";

fn events(rows: u64) -> String {
    format!(
        "INSERT INTO events SELECT i, timestamptz '2024-01-01' + i * interval '7 seconds',
           (ARRAY['login','view','basket','order','logout'])[1 + i % 5],
           jsonb_build_object('session', md5((i / 9)::text), 'page', '/shop/' || i % 997, 'ms', i::bigint * 7919 % 4001,
             'agent', (ARRAY['Firefox','Chrome','Safari'])[1 + i % 3] || '/' || i % 131, 'tags', jsonb_build_array(i % 7, i % 11))
         FROM generate_series(1, {rows}) AS i;
         ALTER TABLE events ADD PRIMARY KEY (id); CREATE INDEX events_at ON events (at);"
    )
}

fn one_table(megabytes: u64) -> String {
    format!("{EVENTS}{}", events(megabytes * 3200))
}

fn four_tables(megabytes: u64) -> String {
    let (customers, orders, lines) = (megabytes * 700, megabytes * 1300, megabytes * 2400);
    format!(
        "{EVENTS}
CREATE TABLE customers (id int, name text NOT NULL, email text NOT NULL, address text NOT NULL, profile jsonb NOT NULL);
CREATE TABLE orders (id int, customer_id int NOT NULL, created_at timestamptz NOT NULL, status text NOT NULL,
  total numeric(12,2) NOT NULL, tax numeric(12,2) NOT NULL, note text);
CREATE TABLE lines (order_id int NOT NULL, line int NOT NULL, sku text NOT NULL, quantity numeric NOT NULL, price numeric(10,2) NOT NULL);
INSERT INTO customers SELECT i, 'Customer ' || md5(i::text), 'user' || i::bigint * 104729 % 1000003 || '@example.org',
  i % 400 || ' ' || md5((i % 5000)::text) || ' Street, ' || (ARRAY['Berlin','Lyon','Porto','Graz'])[1 + i % 4],
  jsonb_build_object('since', 2010 + i % 15, 'newsletter', i % 3 = 0, 'score', i * 31 % 1009) FROM generate_series(1, {customers}) AS i;
INSERT INTO orders SELECT i, 1 + (i::bigint * 7919 % {customers})::int, timestamptz '2022-01-01' + i * interval '41 seconds',
  (ARRAY['paid','packed','shipped','delivered'])[1 + i % 4], (i::bigint * 37 % 100000) / 100.0, (i::bigint * 7 % 19000) / 100.0,
  CASE WHEN i % 3 = 0 THEN 'please leave with neighbour no. ' || i % 400 END FROM generate_series(1, {orders}) AS i;
INSERT INTO lines SELECT 1 + i / 2, 1 + i % 2, upper(substr(md5((i % 9000)::text), 1, 10)), 1 + i % 5,
  (i::bigint * 113 % 90000) / 100.0 FROM generate_series(1, {lines}) AS i;
ALTER TABLE customers ADD PRIMARY KEY (id);
ALTER TABLE orders ADD PRIMARY KEY (id);
ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers;
CREATE INDEX orders_customer ON orders (customer_id);
CREATE INDEX lines_order ON lines (order_id);
{}",
        events(megabytes * 900)
    )
}
