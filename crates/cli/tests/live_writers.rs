//! Backups beside a program that moves money between two tables as fast as it can: each backup is sound and holds the
//! sum, the program meets no error, and it goes on at a good part of its rate.
//!
//! By default 40 MB and 5 backups in each mode; with `BACKSTAY_LONG=1` 200 MB and 100. Only the long run, of a release
//! build (`BACKSTAY_PROGRAM`), asserts the rates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "support/crash/mod.rs"]
mod crash;

use crash::{Stage, long};
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const ACCOUNTS: i64 = 1000;
const SUM: i64 = 2 * ACCOUNTS * 1000;
/// A backup beside the writer that takes longer has starved.
const SLOWEST: Duration = Duration::from_secs(60);

/// Makes two tables of accounts in the middle of something larger.
fn bank(path: &Path, mode: &str, megabytes: u32) {
    let mut connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", mode).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    connection.execute_batch("CREATE TABLE ballast (id INTEGER PRIMARY KEY, pad BLOB)").unwrap();
    let ballast = |connection: &Connection| {
        connection
            .execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                 INSERT INTO ballast (pad) SELECT randomblob(1000) FROM n",
                [megabytes * 460],
            )
            .unwrap();
    };
    ballast(&connection);
    let transaction = connection.transaction().unwrap();
    for table in ["here", "there"] {
        let sql = format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY, money INTEGER, pad TEXT)");
        transaction.execute_batch(&sql).unwrap();
        for id in 0..ACCOUNTS {
            let sql = format!("INSERT INTO {table} VALUES (?1, 1000, hex(randomblob(100)))");
            transaction.execute(&sql, [id]).unwrap();
        }
    }
    transaction.commit().unwrap();
    ballast(&connection);
    if mode == "WAL" {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }
}

/// The program that moves money, durably as SQLite does by default.
struct Writer {
    stop: Arc<AtomicBool>,
    transfers: Arc<AtomicU64>,
    /// The longest transfer since it was last asked for, in microseconds.
    longest: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(path: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (transfers, longest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted, slowest, path) =
            (stop.clone(), transfers.clone(), longest.clone(), path.to_owned());
        let thread = std::thread::spawn(move || {
            let mut connection = Connection::open(path).unwrap();
            connection.busy_timeout(Duration::from_secs(5)).unwrap();
            let mut draw = crash::Draw(1);
            while !stopped.load(Ordering::Relaxed) {
                let started = Instant::now();
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
                let (from, to) = (draw.below(ACCOUNTS as usize) as i64, draw.below(ACCOUNTS as usize) as i64);
                transaction.execute("UPDATE here SET money = money - 7 WHERE id = ?1", [from]).unwrap();
                transaction.execute("UPDATE there SET money = money + 7 WHERE id = ?1", [to]).unwrap();
                transaction.commit().unwrap();
                slowest.fetch_max(started.elapsed().as_micros() as u64, Ordering::Relaxed);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, transfers, longest, thread }
    }

    fn count(&self) -> u64 {
        self.transfers.load(Ordering::Relaxed)
    }

    fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.swap(0, Ordering::Relaxed))
    }

    fn rate(&self, over: Duration) -> f64 {
        let (before, started) = (self.count(), Instant::now());
        std::thread::sleep(over);
        (self.count() - before) as f64 / started.elapsed().as_secs_f64()
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer met an error");
    }
}

/// What the backups cost the writer.
struct Measured {
    alone: f64,
    beside: f64,
    /// The longest transfer beside a backup that announced no locked pass.
    longest: Duration,
    longest_announced: Duration,
    announced: u32,
}

fn back_up_beside_a_writer(stage: &Stage, backups: u32) -> Measured {
    let writer = Writer::start(&stage.target());
    let settle = if long() { 3 } else { 1 };
    std::thread::sleep(Duration::from_millis(300));
    let mut alone = writer.rate(Duration::from_secs(settle));
    let (mut longest, mut longest_announced, mut announced) = (Duration::ZERO, Duration::ZERO, 0);
    let (mut moved, mut elapsed) = (0, Duration::ZERO);
    for _ in 0..backups {
        writer.longest();
        let (before, started) = (writer.count(), Instant::now());
        let outcome = stage.back_up();
        let took = started.elapsed();
        assert!(took < SLOWEST, "the writer kept a backup waiting: it took {took:?}");
        moved += writer.count() - before;
        elapsed += took;
        if outcome.err.contains("wait while it is read once under a lock") {
            announced += 1;
            longest_announced = longest_announced.max(writer.longest());
        } else {
            longest = longest.max(writer.longest());
        }
    }
    alone = (alone + writer.rate(Duration::from_secs(settle))) / 2.0;
    writer.end();
    let beside = moved as f64 / elapsed.as_secs_f64();
    Measured { alone, beside, longest, longest_announced, announced }
}

/// Restores each backup to a new file: sound, and the sum is there.
fn assert_sums(stage: &Stage, backups: u32) {
    let list = stage.done(&["list", "--json"]).json();
    let list = list["backups"].as_array().unwrap().clone();
    assert_eq!(list.len(), backups as usize);
    for backup in list {
        let folder = tempfile::tempdir_in(&stage.root).unwrap();
        let path = folder.path().join("restored.db");
        let id = backup["id"].as_str().unwrap();
        stage.done(&["restore", id, "--to-new", &path.display().to_string()]);
        let connection = Connection::open(&path).unwrap();
        let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok", "{id}");
        let sql = "SELECT (SELECT sum(money) FROM here) + (SELECT sum(money) FROM there)";
        let sum: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(sum, SUM, "{id}: money was made or lost");
    }
}

fn run(mode: &str, least: f64) {
    let (megabytes, backups) = if long() { (200, 100) } else { (40, 5) };
    let stage = Stage::new();
    bank(&stage.target(), mode, megabytes);
    let measured = back_up_beside_a_writer(&stage, backups);
    let share = measured.beside / measured.alone;
    println!(
        "{mode}, {megabytes} MB, {backups} backups: {:.0}/s alone, {:.0}/s beside ({:.0} %), longest transfer {:?}; {} \
         announced a locked pass, longest transfer then {:?}",
        measured.alone,
        measured.beside,
        share * 100.0,
        measured.longest,
        measured.announced,
        measured.longest_announced
    );
    assert_sums(&stage, backups);
    let (least, stall) = if long() { (least, 1) } else { (least / 10.0, 4) };
    assert!(share >= least, "the writer kept {:.1} % of its rate", share * 100.0);
    assert!(measured.longest < Duration::from_secs(stall), "a transfer took {:?}", measured.longest);
    assert!(measured.longest_announced < Duration::from_secs(5), "{:?}", measured.longest_announced);
}

#[test]
fn in_wal_mode() {
    run("WAL", 0.5);
}

#[test]
fn in_rollback_mode() {
    run("DELETE", 0.2);
}
