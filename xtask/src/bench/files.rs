//! Folders of dump files: verifying what gzip and zstd packed beside `gzip -t` and `zstd -t` of one file after another, and a
//! folder of 10,000 dumps that is listed and pruned.

use super::contender::{Contender, Opens, build, warm};
use super::process::{folder_bytes, measure, median};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const FILES: usize = 8;
const FILE_BYTES: u64 = 120_000_000;
const ROUNDS: usize = 5;
const DUMPS: usize = 10_000;
const DATABASES: usize = 20;
const MEMORY_BYTES_MAX: u64 = 150_000_000;

/// A packing: the program, its arguments for packing and for testing, the ending.
struct Packing {
    program: &'static str,
    pack: &'static [&'static str],
    test: &'static [&'static str],
    ending: &'static str,
}

const PACKINGS: [Packing; 2] = [
    Packing { program: "gzip", pack: &["-6"], test: &["-t"], ending: "gz" },
    Packing { program: "zstd", pack: &["-q", "-3", "--rm"], test: &["-q", "-t"], ending: "zst" },
];

pub(super) fn run(root: &Path, folder: &Path) -> Result<(), String> {
    let binary = build(root)?;
    let ours = Contender::ours(&binary, Opens::KeyFile, folder.join("files-home"));
    ours.clear()?;
    let mut missed = verified(&ours, folder)?;
    missed.extend(many(&ours, folder)?);
    let _ = ours.clear();
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join(", "))) }
}

/// Measures verifying, the programs in turn.
fn verified(ours: &Contender<'_>, folder: &Path) -> Result<Vec<String>, String> {
    let folders: Vec<PathBuf> =
        PACKINGS.iter().map(|packing| provide(folder, packing)).collect::<Result<_, _>>()?;
    let mut seconds = [(); 2].map(|()| [(); 2].map(|()| Vec::new()));
    let mut memory_bytes = 0;
    for round in 0..ROUNDS {
        eprintln!("files: round {} of {ROUNDS} …", round + 1);
        for (at, (packing, folder)) in PACKINGS.iter().zip(&folders).enumerate() {
            warm(folder)?;
            let taken = measure(command(ours).args(["verify", "--quiet"]).arg(folder))?;
            memory_bytes = memory_bytes.max(taken.memory_bytes);
            seconds[at][0].push(taken.seconds);
            let began = Instant::now();
            for path in members(folder)? {
                measure(Command::new(packing.program).args(packing.test).arg(path))?;
            }
            seconds[at][1].push(began.elapsed().as_secs_f64());
        }
    }
    let text_mb = (FILES as u64 * FILE_BYTES) as f64 / 1e6;
    println!("{FILES} dumps of SQL text, {text_mb:.0} MB unpacked, medians of {ROUNDS} rounds, in turn:\n");
    println!("| | backstay | stock | ratio | required |\n| --- | --- | --- | --- | --- |");
    let mut missed = Vec::new();
    let [gzip, zstd] = seconds.map(|pair| pair.map(median));
    for (name, ours, stock, limit) in [
        ("gzip, beside `gzip -t`", gzip[0], gzip[1], Some(0.6)),
        ("zstd, beside `gzip -t` of the same", zstd[0], gzip[1], Some(0.6)),
        ("zstd, beside `zstd -t`", zstd[0], zstd[1], None),
    ] {
        let ratio = ours / stock;
        let required = limit.map(|limit| format!("≤ {limit}")).unwrap_or_default();
        println!("| {name} | {ours:.2} s | {stock:.2} s | {ratio:.2} | {required} |");
        missed.extend(limit.filter(|limit| ratio > *limit).map(|_| name.to_owned()));
    }
    println!("| memory at most | {:.0} MB | | | ≤ 150 MB |\n", memory_bytes as f64 / 1e6);
    missed.extend((memory_bytes > MEMORY_BYTES_MAX).then(|| "memory".to_owned()));
    Ok(missed)
}

/// Measures a list and a prune of very many.
fn many(ours: &Contender<'_>, folder: &Path) -> Result<Vec<String>, String> {
    let dumps = folder.join("files-many");
    let path = dumps.display().to_string();
    let mut figures = [(); 2].map(|()| (Vec::new(), 0));
    for round in 0..ROUNDS {
        eprintln!("files: {DUMPS} dumps, round {} of {ROUNDS} …", round + 1);
        scatter(&dumps)?;
        let list = ["list", &path, "--quiet"];
        let prune = ["prune", &path, "--keep-daily", "7", "--keep-weekly", "4", "--quiet"];
        for (at, arguments) in [&list[..], &prune[..]].into_iter().enumerate() {
            let taken = measure(command(ours).args(arguments))?;
            figures[at].0.push(taken.seconds);
            figures[at].1 = figures[at].1.max(taken.memory_bytes);
        }
        let left = members(&dumps)?.len();
        if left >= DUMPS / 10 {
            return Err(format!("the prune left {left} of {DUMPS} dumps"));
        }
    }
    let _ = std::fs::remove_dir_all(&dumps);
    println!("A folder of {DUMPS} dumps of {DATABASES} databases, medians of {ROUNDS} rounds:\n");
    println!("| | backstay | required |\n| --- | --- | --- |");
    let mut missed = Vec::new();
    for ((name, limit), (seconds, memory_bytes)) in
        [("list", 1.0), ("prune, seven daily and four weekly", 2.0)].into_iter().zip(figures)
    {
        let seconds = median(seconds);
        println!("| {name} | {seconds:.2} s, {:.0} MB | ≤ {limit} s |", memory_bytes as f64 / 1e6);
        missed.extend((seconds > limit).then(|| name.to_owned()));
    }
    println!();
    Ok(missed)
}

/// Begins a command line that knows of no repository: a folder is all that it needs.
fn command(ours: &Contender<'_>) -> Command {
    let mut command = ours.command();
    command.env_remove("BACKSTAY_REPOSITORY");
    command
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Returns the files of a folder.
fn members(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(text)?;
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Makes the dumps of a packing where they are not there: half of them as `sqlite3` writes them, half as `pg_dump` does.
fn provide(folder: &Path, packing: &Packing) -> Result<PathBuf, String> {
    let done = folder.join(format!("files-{}", packing.ending));
    if done.is_dir() {
        return Ok(done);
    }
    let partial = folder.join("files-partial");
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial).map_err(text)?;
    for number in 0..FILES {
        let path = partial.join(format!("shop{number}-202601{:02}.sql", number + 1));
        eprintln!("making {} …", path.display());
        let mut out = BufWriter::new(File::create(&path).map_err(text)?);
        if number % 2 == 0 { inserts(&mut out, number as u64) } else { copies(&mut out, number as u64) }
            .and_then(|()| out.flush())
            .map_err(text)?;
        measure(Command::new(packing.program).args(packing.pack).arg(&path))?;
    }
    std::fs::rename(&partial, &done).map_err(text)?;
    eprintln!("{}: {:.0} MB", done.display(), folder_bytes(&done) as f64 / 1e6);
    Ok(done)
}

const CITIES: [&str; 8] = ["Berlin", "Lyon", "Porto", "Zürich", "Gdańsk", "O''Fallon", "Malmö", "Graz"];
const STATES: [&str; 4] = ["delivered", "shipped", "returned", "cancelled"];

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn pick<'a>(&mut self, among: &[&'a str]) -> &'a str {
        among[self.next(among.len() as u64) as usize]
    }
}

fn inserts(out: &mut impl Write, seed: u64) -> std::io::Result<()> {
    let mut numbers = Numbers(seed);
    let mut written = 0;
    out.write_all(
        b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, city TEXT, \
          at TEXT, state TEXT, total REAL, note TEXT);\n",
    )?;
    for id in 1_u64.. {
        if written >= FILE_BYTES {
            break;
        }
        let line = format!(
            "INSERT INTO orders VALUES({id},'customer {}','{}','2025-{:02}-{:02} {:02}:{:02}:00','{}',{}.{:02},'order no. {} of them');\n",
            numbers.next(200_000),
            numbers.pick(&CITIES),
            numbers.next(12) + 1,
            numbers.next(28) + 1,
            numbers.next(24),
            numbers.next(60),
            numbers.pick(&STATES),
            numbers.next(900),
            numbers.next(100),
            numbers.next(1_000_000_000),
        );
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
    }
    out.write_all(b"CREATE INDEX orders_at ON orders (at);\nCOMMIT;\n")
}

fn copies(out: &mut impl Write, seed: u64) -> std::io::Result<()> {
    let mut numbers = Numbers(seed);
    let mut written = 0;
    out.write_all(
        b"--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\nCREATE TABLE public.orders (\n    id integer,\n    \
          customer text,\n    city text,\n    at timestamp,\n    state text,\n    total numeric,\n    note text\n);\n\n\
          COPY public.orders (id, customer, city, at, state, total, note) FROM stdin;\n",
    )?;
    for id in 1_u64.. {
        if written >= FILE_BYTES {
            break;
        }
        let line = format!(
            "{id}\tcustomer {}\t{}\t2025-{:02}-{:02} {:02}:{:02}:00\t{}\t{}.{:02}\torder no. {} of them\n",
            numbers.next(200_000),
            numbers.pick(&CITIES),
            numbers.next(12) + 1,
            numbers.next(28) + 1,
            numbers.next(24),
            numbers.next(60),
            numbers.pick(&STATES),
            numbers.next(900),
            numbers.next(100),
            numbers.next(1_000_000_000),
        );
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
    }
    out.write_all(b"\\.\n\n\n--\n-- PostgreSQL database dump complete\n--\n\n")
}

/// Makes a folder of very many small dumps anew: so many days of each database.
fn scatter(folder: &Path) -> Result<(), String> {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).map_err(text)?;
    let sample = folder.join("sample");
    std::fs::write(
        &sample,
        "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t(x);\nINSERT INTO t VALUES(1);\nCOMMIT;\n",
    )
    .map_err(text)?;
    measure(Command::new("gzip").arg(&sample))?;
    let packed = std::fs::read(folder.join("sample.gz")).map_err(text)?;
    std::fs::remove_file(folder.join("sample.gz")).map_err(text)?;
    for number in 0..DUMPS {
        let (database, day) = (number % DATABASES, number / DATABASES);
        let (year, month, day) = (2020 + day / 336, day / 28 % 12 + 1, day % 28 + 1);
        let name = format!("tenant{database:02}_backup_{year}{month:02}{day:02}_020000.sql.gz");
        std::fs::write(folder.join(name), &packed).map_err(text)?;
    }
    Ok(())
}
