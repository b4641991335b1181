//! Backups beside programs that write: each is of one moment, and the writers get on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod pull;

use engines::{Engine, sqlite::SqliteEngine};
use flow::{DumpOptions, SourceErrorKind, Step};
use pull::*;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SUM: i64 = 2 * 1000 * 1000;

/// Two tables of accounts, and something larger beside them, spread over the file.
fn bank(folder: &Path, mode: &str, ballast: u32) -> PathBuf {
    let path = folder.join("bank.db");
    let mut connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "journal_mode", mode).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    fill(&connection, "ballast", ballast / 2);
    let transaction = connection.transaction().unwrap();
    for table in ["here", "there"] {
        let sql = format!("CREATE TABLE {table}(id INTEGER PRIMARY KEY, money INT, pad TEXT)");
        transaction.execute_batch(&sql).unwrap();
        for id in 0..1000 {
            let sql = format!("INSERT INTO {table} VALUES (?1, 1000, hex(randomblob(400)))");
            transaction.execute(&sql, [id]).unwrap();
        }
    }
    transaction.commit().unwrap();
    fill(&connection, "ballast", ballast / 2);
    path
}

struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Duration>>,
    transfers: Arc<AtomicU64>,
}

impl Writer {
    /// Moves money as fast as it can; every error is one too many.
    fn start(path: &Path) -> Self {
        let (stop, transfers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted, path) = (stop.clone(), transfers.clone(), path.to_owned());
        let thread = std::thread::spawn(move || {
            let mut connection = Connection::open(path).unwrap();
            connection.busy_timeout(Duration::from_secs(5)).unwrap();
            connection.pragma_update(None, "synchronous", "OFF").unwrap();
            let (mut number, mut longest) = (1u64, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                number =
                    number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let started = Instant::now();
                let transaction =
                    connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
                let (from, to) = ((number >> 33) % 1000, (number >> 45) % 1000);
                transaction.execute("UPDATE here SET money=money-7 WHERE id=?1", [from as i64]).unwrap();
                transaction.execute("UPDATE there SET money=money+7 WHERE id=?1", [to as i64]).unwrap();
                transaction.commit().unwrap();
                longest = longest.max(started.elapsed());
                counted.fetch_add(1, Ordering::Relaxed);
            }
            longest
        });
        Self { stop, thread: Some(thread), transfers }
    }

    fn count(&self) -> u64 {
        self.transfers.load(Ordering::Relaxed)
    }

    fn stop(mut self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().expect("the writer met an error")
    }
}

fn assert_sum(image: &[u8], dumped: &flow::Dumped, folder: &Path) {
    let (connection, path) = open_image(image, folder);
    assert_sound(&connection);
    let sql = "SELECT (SELECT sum(money) FROM here) + (SELECT sum(money) FROM there)";
    let sum: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(sum, SUM, "money was made or lost");
    assert_rows(dumped, &connection);
    std::fs::remove_file(path).unwrap();
}

fn backups_beside_a_writer(mode: &str, ballast: u32, backups: u32) {
    let folder = tempfile::tempdir().unwrap();
    let path = bank(folder.path(), mode, ballast);
    let writer = Writer::start(&path);
    let started = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    let undisturbed = writer.count() as f64 / started.elapsed().as_secs_f64();
    let (started, before) = (Instant::now(), writer.count());
    for _ in 0..backups {
        let (image, dumped) = image_of(&path, &context(folder.path()));
        assert_sum(&image, &dumped, folder.path());
    }
    let rate = (writer.count() - before) as f64 / started.elapsed().as_secs_f64();
    let elapsed = started.elapsed();
    let longest = writer.stop();
    let measured = format!(
        "{mode}: {undisturbed:.0}/s alone, {rate:.0}/s beside, longest wait {longest:?}, all {elapsed:?}"
    );
    assert!(rate > undisturbed / 20.0 && longest < Duration::from_secs(5), "{measured}");
    if let Some(path) = std::env::var_os("DUMP_MEASURED") {
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap()
            .write_all(measured.as_bytes())
            .unwrap();
    }
}

#[test]
fn money_is_neither_made_nor_lost_in_wal_mode() {
    backups_beside_a_writer("WAL", 40_000, 10);
}

#[test]
fn money_is_neither_made_nor_lost_in_rollback_mode() {
    backups_beside_a_writer("DELETE", 40_000, 10);
}

#[test]
fn money_is_neither_made_nor_lost_in_a_larger_database_in_rollback_mode() {
    backups_beside_a_writer("TRUNCATE", 600_000, 2);
}

#[test]
#[ignore = "a measurement: 200 MB, a hundred backups"]
fn a_hundred_backups_in_each_mode() {
    for mode in ["WAL", "DELETE"] {
        backups_beside_a_writer(mode, 1_200_000, 100);
    }
}

#[test]
fn a_database_that_grows_and_shrinks_meanwhile_is_of_one_moment() {
    for mode in ["DELETE", "WAL"] {
        let folder = tempfile::tempdir().unwrap();
        let path = bank(folder.path(), mode, 40_000);
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, file) = (stop.clone(), path.clone());
        let writer = std::thread::spawn(move || {
            let connection = Connection::open(file).unwrap();
            connection.busy_timeout(Duration::from_secs(10)).unwrap();
            connection.pragma_update(None, "synchronous", "OFF").unwrap();
            while !stopped.load(Ordering::Relaxed) {
                fill(&connection, "more", 10_000);
                connection.execute_batch("DELETE FROM more; VACUUM;").unwrap();
            }
        });
        for _ in 0..5 {
            let (image, dumped) = image_of(&path, &context(folder.path()));
            assert_sum(&image, &dumped, folder.path());
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    }
}

#[test]
fn a_database_that_shrinks_below_what_was_given_leaves_neither_gap_nor_surplus() {
    for keep in ["", "CREATE TABLE more AS SELECT * FROM ballast LIMIT 5000;"] {
        let folder = tempfile::tempdir().unwrap();
        let path = bank(folder.path(), "DELETE", 40_000);
        let connection = Connection::open(&path).unwrap();
        let outcomes = pull_alone(&request(&path, None), &context(folder.path()), |step| {
            if step == 5 {
                connection.execute_batch(&format!("{keep} DROP TABLE ballast; VACUUM;")).unwrap();
            }
        });
        let outcome = outcomes.unwrap().pop_first().unwrap().1;
        let dumped = outcome.verdict.unwrap();
        assert!(outcome.image == std::fs::read(&path).unwrap(), "{keep}");
        assert!(dumped.entries.values().all(|(_, parts)| *parts == 5), "{:?}", dumped.entries);
        assert_sum(&outcome.image, &dumped, folder.path());
    }
}

#[test]
fn a_database_that_becomes_wal_meanwhile_is_of_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = bank(folder.path(), "DELETE", 40_000);
    let connection = Connection::open(&path).unwrap();
    let outcomes = pull_alone(&request(&path, None), &context(folder.path()), |step| {
        if step == 2 {
            connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        }
        let sql = "UPDATE here SET money=money-1 WHERE id=7; UPDATE there SET money=money+1 WHERE id=7;";
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {sql} COMMIT;")).unwrap();
    });
    let outcome = outcomes.unwrap().pop_first().unwrap().1;
    assert_sum(&outcome.image, &outcome.verdict.unwrap(), folder.path());
}

#[test]
fn a_lock_held_for_long_is_waited_for_and_then_its_holder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = bank(folder.path(), "DELETE", 100);
    // Another process holds it: locks of our own process would not be told of.
    let mut holder = std::process::Command::new("sqlite3")
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = holder.stdin.take().unwrap();
    input.write_all(b"BEGIN EXCLUSIVE;\n.print locked\n").unwrap();
    holder.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let mut request = request(&path, None);
    request.options = DumpOptions { lock_wait: Duration::from_millis(300), ..DumpOptions::default() };
    let started = Instant::now();
    let outcome = pull(&request, &context(folder.path())).unwrap().pop_first().unwrap().1;
    let error = outcome.verdict.map(|_| ()).unwrap_err();
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(error.kind, SourceErrorKind::Busy);
    let text = error.to_string();
    assert!(text.contains(&holder.id().to_string()) && text.contains("sqlite3"), "{text}");
    assert!(text.contains("bank.db") && error.hint.is_some());
    // Once it is free again within the limit, the backup goes on.
    request.options.lock_wait = Duration::from_secs(30);
    let freed = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        input.write_all(b"COMMIT;\n.quit\n").unwrap();
        holder.wait().unwrap();
    });
    let outcome = pull(&request, &context(folder.path())).unwrap().pop_first().unwrap().1;
    assert!(outcome.verdict.is_ok());
    freed.join().unwrap();
}

/// Closing any descriptor of a file takes this process's locks on it away; nothing of ours may do that.
#[test]
fn a_look_or_a_backup_takes_no_lock_of_this_process_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = bank(folder.path(), "DELETE", 100);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let context = context(folder.path());
    SqliteEngine::default().databases(&target(folder.path()), &context).unwrap();
    SqliteEngine::default().probe(&database(&path), false, &context).unwrap();
    image_of(&path, &context);
    let other = std::process::Command::new("sqlite3").arg(&path).arg("BEGIN IMMEDIATE").output().unwrap();
    assert!(String::from_utf8_lossy(&other.stderr).contains("locked"), "the lock is gone");
    connection.execute_batch("COMMIT").unwrap();
}

#[test]
fn two_backups_of_one_database_at_once_are_both_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = bank(folder.path(), "WAL", 10_000);
    let images: Vec<_> = std::thread::scope(|scope| {
        let work = || image_of(&path, &context(folder.path())).0;
        let workers: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let file = std::fs::read(&path).unwrap();
    assert!(images.iter().all(|image| *image == file));
}

#[test]
fn a_cancellation_wakes_whoever_waits_for_a_lock_or_a_part() {
    let folder = tempfile::tempdir().unwrap();
    let path = bank(folder.path(), "DELETE", 100);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let context = context(folder.path());
    let cancel = context.cancel.clone();
    let waker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        cancel.cancel();
    });
    let started = Instant::now();
    let error = pull(&request(&path, None), &context).map(|_| ()).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(10));
    waker.join().unwrap();
}

#[test]
fn no_verdict_before_the_last_part_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = bank(folder.path(), "WAL", 100);
    let dump = SqliteEngine::default().begin_dump(&request(&path, None), context(folder.path())).unwrap();
    let Some(Step::Part(mut part)) = dump.next().unwrap() else { panic!("no part") };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| dump.next().unwrap());
        std::thread::sleep(Duration::from_millis(300));
        assert!(!other.is_finished(), "the verdict came before the part was read");
        let mut buffer = vec![0; 1 << 20];
        while part.reader.read(&mut buffer).unwrap() > 0 {}
        part.reader.finish().unwrap();
        assert!(matches!(other.join().unwrap(), Some(Step::Done(_, Ok(_)))));
    });
    assert!(dump.next().unwrap().is_none());
    dump.finish().unwrap();
}

#[test]
fn a_part_that_is_dropped_unfinished_fails_its_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = bank(folder.path(), "WAL", 100);
    let dump = SqliteEngine::default().begin_dump(&request(&path, None), context(folder.path())).unwrap();
    let Some(Step::Part(part)) = dump.next().unwrap() else { panic!("no part") };
    drop(part);
    assert!(matches!(dump.next().unwrap(), Some(Step::Done(_, Err(_)))));
    assert!(dump.next().unwrap().is_none());
}

#[test]
fn a_writer_is_kept_out_by_no_part_on_its_way_in_rollback_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = bank(folder.path(), "DELETE", 40_000);
    let dump = SqliteEngine::default().begin_dump(&request(&path, None), context(folder.path())).unwrap();
    let Some(Step::Part(part)) = dump.next().unwrap() else { panic!("no part") };
    let connection = Connection::open(&path).unwrap();
    connection.execute("UPDATE here SET money=money", []).expect("the writer was kept out");
    drop(part);
}

#[test]
fn the_locked_pass_is_announced() {
    let folder = tempfile::tempdir().unwrap();
    let path = bank(folder.path(), "DELETE", 600_000);
    let writer = Writer::start(&path);
    let recorder = Arc::new(Recorder::default());
    let mut context = context(folder.path());
    context.observer = recorder.clone();
    let (image, dumped) = image_of(&path, &context);
    writer.stop();
    assert_sum(&image, &dumped, folder.path());
    let findings = recorder.findings();
    assert!(findings.iter().any(|finding| finding.contains("writers wait")), "{findings:?}");
}
