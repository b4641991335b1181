//! 10,000 SQLite files of 100 kB in one folder: first backup, unchanged, and, after 30 runs with a few changes each, the
//! list, the restore of one of them, and a prune.

use super::contender::{Contender, Opens, build};
use super::process::{folder_bytes, measure, median};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DATABASES: usize = 10_000;
const ROUNDS: usize = 3;
const RUNS: usize = 30;
/// What a command may take: so much, and for each blob of the repository.
const MEMORY_BYTES_MAX: u64 = 150_000_000;
const MEMORY_BYTES_A_BLOB: u64 = 100;
/// How many databases change from run to run.
const CHANGED: usize = 20;

pub(super) fn run(root: &Path, folder: &Path) -> Result<(), String> {
    let databases = databases(folder)?;
    let binary = build(root)?;
    let ours = Contender::ours(&binary, Opens::Password, folder.join("backstay"));
    let restic = Contender::restic(folder.join("restic"));
    let mut figures = [(); 2].map(|()| [(); 2].map(|()| Vec::new()));
    let mut memory = [0_u64; 2];
    for round in 0..ROUNDS {
        eprintln!("round {} of {ROUNDS} …", round + 1);
        for (at, contender) in [&ours, &restic].into_iter().enumerate() {
            contender.init()?;
            for figures in &mut figures {
                let taken = contender.backup(&databases)?;
                figures[at].push(taken.seconds);
                memory[at] = memory[at].max(taken.memory_bytes);
            }
        }
    }
    println!(
        "{DATABASES} SQLite files of {:.0} kB, medians of {ROUNDS} rounds, in turn with restic:\n",
        folder_bytes(&databases) as f64 / DATABASES as f64 / 1e3
    );
    println!("| | backstay | restic | ratio | required |\n| --- | --- | --- | --- | --- |");
    let mut missed = Vec::new();
    for ((name, limit), [ours, restic]) in
        [("first backup", 1.0), ("unchanged", 1.2)].into_iter().zip(figures)
    {
        let (ours, restic) = (median(ours), median(restic));
        println!("| {name} | {ours:.2} s | {restic:.2} s | {:.2} | ≤ {limit} |", ours / restic);
        if ours / restic > limit {
            missed.push(name.to_owned());
        }
    }
    let [of_ours, of_restic] = memory.map(|bytes| bytes as f64 / 1e6);
    println!("| memory at most | {of_ours:.0} MB | {of_restic:.0} MB | | ≤ 150 MB |");
    if of_ours > 150.0 {
        missed.push("memory".to_owned());
    }
    missed.extend(after_many_runs(&ours, &databases)?);
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join(", "))) }
}

/// Makes the further runs and measures what a person does then, without a cache.
fn after_many_runs(ours: &Contender<'_>, databases: &Path) -> Result<Vec<String>, String> {
    eprintln!("{RUNS} runs …");
    for number in 2..RUNS {
        let which = (0..CHANGED).map(|change| (number * 37 + change * 331) % DATABASES);
        let script = which.map(|at| {
            format!(
                ".open {}\nUPDATE orders SET total = total + 1 WHERE id = {number};\n",
                path(databases, at).display()
            )
        });
        sqlite3(&script.collect::<String>())?;
        ours.backup(databases)?;
    }
    let one = path(databases, DATABASES / 2);
    let reference = format!("{}@latest", one.display());
    let out = ours.folder.join("restored.db");
    let new = out.display().to_string();
    let restore = ["restore", &reference, "--to-new", &new, "--yes", "--quiet"];
    let dry_run = [&restore[..], &["--dry-run"]].concat();
    let mut missed = Vec::new();
    let memory_max = MEMORY_BYTES_MAX + MEMORY_BYTES_A_BLOB * blobs(ours)?;
    for (name, arguments, limit) in [
        ("list", &["list", "--quiet"][..], 1.5),
        ("restore of one, dry run", &dry_run, 1.5),
        ("one restored", &restore, 1.0),
        ("prune, dry run", &["prune", "--keep-last", "10", "--dry-run", "--quiet"], 10.0),
    ] {
        let mut taken = Vec::new();
        let mut memory = 0;
        for _ in 0..ROUNDS {
            let _ = std::fs::remove_file(&out);
            let _ = std::fs::remove_dir_all(ours.folder.join(".cache"));
            let measured = measure(ours.command().args(arguments))?;
            memory = memory.max(measured.memory_bytes);
            taken.push(measured.seconds);
        }
        let seconds = median(taken);
        println!(
            "| {name}, {RUNS} snapshots | {seconds:.2} s, {:.0} MB | | | ≤ {limit} s |",
            memory as f64 / 1e6
        );
        if seconds > limit {
            missed.push(name.to_owned());
        }
        if memory > memory_max {
            missed.push(format!("memory of {name}"));
        }
    }
    let pruned = measure(ours.command().args(["prune", "--keep-last", "10", "--quiet"]))?;
    let (seconds, memory) = (pruned.seconds, pruned.memory_bytes);
    println!("| prune, {RUNS} snapshots | {seconds:.2} s, {:.0} MB | | | |", memory as f64 / 1e6);
    if memory > memory_max {
        missed.push("memory of prune".to_owned());
    }
    println!("\nmemory is at most {:.0} MB, 100 bytes a blob included", memory_max as f64 / 1e6);
    Ok(missed)
}

/// Returns how many different blobs the repository holds.
fn blobs(ours: &Contender<'_>) -> Result<u64, String> {
    let output = ours.command().args(["stats", "--json"]).output().map_err(|error| error.to_string())?;
    let stats: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    stats["blobs"].as_u64().ok_or_else(|| "stats tells no blobs".to_owned())
}

fn path(databases: &Path, number: usize) -> PathBuf {
    databases.join(format!("tenant-{number:05}.db"))
}

/// Makes the databases where they are not there yet, and returns their folder.
fn databases(folder: &Path) -> Result<PathBuf, String> {
    let databases = folder.join("tenants");
    if databases.exists() {
        return Ok(databases);
    }
    eprintln!("making {} …", databases.display());
    let partial = folder.join("tenants.partial");
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial).map_err(|error| error.to_string())?;
    let script: String = (0..DATABASES).map(|number| one(&path(&partial, number))).collect();
    sqlite3(&script)?;
    std::fs::rename(&partial, &databases).map_err(|error| error.to_string())?;
    Ok(databases)
}

fn one(path: &Path) -> String {
    format!(
        ".open {}
PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;
CREATE TABLE customer(id INTEGER PRIMARY KEY, name TEXT, email TEXT, note TEXT);
CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER, total INTEGER, reference TEXT, text TEXT);
CREATE INDEX orders_customer ON orders(customer);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<300)
INSERT INTO customer SELECT i, 'Customer '||abs(random()%100003), 'user'||abs(random()%1000003)||'@example.org',
  'asked for parcels at '||abs(random()%24)||' o''clock, street '||abs(random()%4000) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<700)
INSERT INTO orders SELECT i, 1+abs(random()%300), abs(random()%100000), hex(randomblob(6)),
  'parcel '||abs(random()%90000)||' to neighbour no. '||abs(random()%400)||', thank you' FROM n;
",
        path.display()
    )
}

/// One process for all: `.open` closes the database before.
fn sqlite3(script: &str) -> Result<(), String> {
    let child = Command::new("sqlite3").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut child = child.map_err(|error| format!("cannot run sqlite3: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes()).map_err(|error| error.to_string())?;
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err("sqlite3 failed".to_owned()) }
}
