//! A restore beside users of the database: they are found and named, or the restore is written through SQLite and
//! they see it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod restoring;

use engines::{RestoreError, RestoreMode, RestoreStep, Safety};
use flow::SourceErrorKind;
use restoring::{Backup, Stage, beside, content, database, image, names, run_from, says, with_stale_wal};
use rusqlite::Connection;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that has a file open, without any lock; ended when dropped.
struct Holder(Child);

impl Holder {
    fn of(path: &std::path::Path) -> Self {
        let file = std::fs::File::open(path).unwrap();
        Self(Command::new("sleep").arg("60").stdin(Stdio::from(file)).spawn().unwrap())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn refused(result: Result<(), RestoreError>) -> flow::SourceError {
    match result {
        Err(RestoreError::Database(error)) => error,
        other => panic!("the database side should refuse: {other:?}"),
    }
}

#[test]
fn a_process_that_has_the_file_open_is_named() {
    let stage = Stage::new();
    database(&stage.target, "old", 5, "delete");
    let backup = image("new", 5, "delete");
    let holder = Holder::of(&stage.target);
    let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
    assert!(
        restore.plan().holders.iter().any(|user| user.pid == Some(holder.0.id()) && user.name == "sleep")
    );
    let error = refused(run_from(&mut *restore, &backup, None));
    assert_eq!(error.kind, SourceErrorKind::InUse);
    assert!(error.message.contains(&format!("process {} (sleep)", holder.0.id())), "{error}");
    assert!(error.hint.unwrap().contains("--in-place"));
    assert_eq!(content(&stage.target), says("old", 5));
    drop(holder);
    run_from(&mut *restore, &backup, Some(RestoreStep::Verify)).unwrap();
    assert_eq!(content(&stage.target), says("new", 5));
}

#[test]
fn one_who_passes_by_is_waited_for() {
    let stage = Stage::new();
    database(&stage.target, "old", 5, "delete");
    let mut holder = Holder::of(&stage.target);
    let passing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        holder.0.kill().unwrap();
        holder.0.wait().unwrap();
    });
    stage.restore(&stage.request(RestoreMode::Swap), &image("new", 5, "delete")).unwrap();
    passing.join().unwrap();
}

#[test]
fn a_lock_of_sqlite_is_respected_in_both_journal_modes() {
    for (journal, hold) in [("wal", "SELECT * FROM note LIMIT 1"), ("delete", "BEGIN IMMEDIATE")] {
        let stage = Stage::new();
        database(&stage.target, "old", 5, journal);
        // A connection of this very process, whose locks any look at the file by other means would drop.
        let user = Connection::open(&stage.target).unwrap();
        if journal == "wal" {
            user.query_row(hold, [], |_| Ok(())).unwrap();
        } else {
            user.execute_batch(hold).unwrap();
        }
        let error = refused(stage.restore(&stage.request(RestoreMode::Swap), &image("new", 5, "delete")));
        assert_eq!(error.kind, SourceErrorKind::InUse);
        if journal == "delete" {
            let other = Connection::open(&stage.target).unwrap();
            other.busy_timeout(Duration::ZERO).unwrap();
            assert!(other.execute_batch("BEGIN IMMEDIATE").is_err(), "the lock is still held");
        }
        user.close().unwrap();
        let mut restore = stage.resume();
        restoring::go_on(&mut *restore, &image("new", 5, "delete")).unwrap();
        assert_eq!(content(&stage.target), says("new", 5));
    }
}

#[test]
fn the_old_database_stays_locked_until_it_was_replaced() {
    let stage = Stage::new();
    database(&stage.target, "old", 5, "wal");
    let backup = image("new", 5, "delete");
    let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
    let steps = restore.steps().to_vec();
    for step in &steps[..4] {
        restore.run(*step, &backup).unwrap();
    }
    let late = Connection::open(&stage.target).unwrap();
    late.busy_timeout(Duration::ZERO).unwrap();
    assert!(late.query_row("SELECT count(*) FROM note", [], |row| row.get::<_, u32>(0)).is_err());
    drop(late);
    restore.run(RestoreStep::Swap, &backup).unwrap();
    assert_eq!(content(&stage.target), says("new", 5));
}

#[test]
fn a_wait_for_users_can_be_interrupted() {
    let stage = Stage::new();
    database(&stage.target, "old", 5, "delete");
    let _holder = Holder::of(&stage.target);
    let cancel = stage.context.cancel.clone();
    let started = Instant::now();
    let waker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        cancel.cancel();
    });
    let error = refused(stage.restore(&stage.request(RestoreMode::Swap), &image("new", 5, "delete")));
    assert_eq!(error.kind, SourceErrorKind::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(2));
    waker.join().unwrap();
}

#[test]
fn users_who_wrote_after_the_swap_lose_nothing_when_it_is_rolled_back() {
    for journal in ["wal", "delete"] {
        let stage = Stage::new();
        with_stale_wal(&stage.target, "old", 700);
        let backup = image("new", 5, journal);
        let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
        let steps = restore.steps().to_vec();
        for step in &steps[..5] {
            restore.run(*step, &backup).unwrap();
        }
        let user = Connection::open(&stage.target).unwrap();
        restoring::fill(&user, "later", 3);
        let error = refused(restore.roll_back());
        assert_eq!(error.kind, SourceErrorKind::InUse);
        restoring::fill(&user, "later", 1);
        drop(user);
        restore.roll_back().unwrap();
        assert_eq!(names(stage.target.parent().unwrap()).len(), 3, "{:?}", stage.names());
        assert_eq!(content(&stage.target), says("old", 700));
        let kept = beside(&stage.target, ".backstay-rolled-back-20261121T020000Z");
        assert_eq!(content(&kept), says("later,new", 9));
        assert!(stage.findings().contains("before it was rolled back"));
    }
}

#[test]
fn in_place_a_connection_that_stays_open_sees_the_new_content() {
    for (target, journal) in [("wal", "wal"), ("delete", "wal"), ("wal", "delete"), ("delete", "delete")] {
        let stage = Stage::new();
        database(&stage.target, "old", 900, target);
        let user = Connection::open(&stage.target).unwrap();
        let words = |user: &Connection| -> String {
            user.query_row("SELECT group_concat(DISTINCT word) FROM note", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(words(&user), "old");
        let backup = image("new", 4000, journal);
        let mut restore = stage.begin(&stage.request(RestoreMode::InPlace), &backup).unwrap();
        let steps = restore.steps().to_vec();
        for step in &steps[..5] {
            restore.run(*step, &backup).unwrap();
        }
        assert_eq!(words(&user), "new");
        assert_eq!(content(&stage.safety("")), says("old", 900));
        assert!(!stage.findings().contains("cannot be compared"), "{}", stage.findings());
        // The way back, then once more to the end.
        restore.roll_back().unwrap();
        assert_eq!(words(&user), "old");
        assert!(!stage.safety("").exists() && !beside(&stage.target, ".backstay-restore").exists());
        stage.restore(&stage.request(RestoreMode::InPlace), &backup).unwrap();
        assert_eq!(words(&user), "new");
        restoring::fill(&user, "later", 1);
        drop(user);
        assert_eq!(content(&stage.target), says("later,new", 4001));
        assert_eq!(stage.names(), ["app.db", "app.db.safety-20261121T020000Z"]);
    }
}

#[test]
fn in_place_keeps_what_users_wrote_before_a_roll_back() {
    let stage = Stage::new();
    database(&stage.target, "old", 9, "wal");
    let backup = image("new", 40, "wal");
    let mut request = stage.request(RestoreMode::InPlace);
    request.safety = Safety::None;
    let mut restore = stage.begin(&request, &backup).unwrap();
    let steps = restore.steps().to_vec();
    for step in &steps[..5] {
        restore.run(*step, &backup).unwrap();
    }
    let user = Connection::open(&stage.target).unwrap();
    restoring::fill(&user, "later", 3);
    drop(restore);
    let mut restore = stage.resume();
    stage.context.cancel.cancel();
    restore.roll_back().unwrap();
    drop(user);
    assert_eq!(content(&stage.target), says("old", 9));
    assert_eq!(
        content(&beside(&stage.target, ".backstay-rolled-back-20261121T020000Z")),
        says("later,new", 43)
    );
    assert_eq!(stage.names().len(), 2, "{:?}", stage.names());
}

#[test]
fn in_place_continues_after_a_crash_on_either_side_of_the_write() {
    let stage = Stage::new();
    database(&stage.target, "old", 900, "wal");
    let backup = image("new", 40, "wal");
    let record = beside(&stage.target, ".backstay-restore");
    let mut restore = stage.begin(&stage.request(RestoreMode::InPlace), &backup).unwrap();
    let steps = restore.steps().to_vec();
    for step in &steps[..5] {
        restore.run(*step, &backup).unwrap();
    }
    drop(restore);
    // The line that says that the swap was completed is lost: once after the write, once before it.
    let lines: Vec<_> = std::fs::read_to_string(&record).unwrap().lines().map(str::to_owned).collect();
    let before = lines[..lines.len() - 1].join("\n") + "\n";
    for written in [true, false] {
        std::fs::write(&record, &before).unwrap();
        if !written {
            std::fs::copy(stage.safety(""), &stage.target).unwrap();
        }
        let mut restore = stage.resume();
        restore.run(RestoreStep::Swap, &backup).unwrap();
        assert_eq!(content(&stage.target), says("new", 40));
    }
    let mut restore = stage.resume();
    restoring::go_on(&mut *restore, &backup).unwrap();
    assert_eq!(stage.names().len(), 2, "{:?}", stage.names());
}

#[test]
fn in_place_refuses_what_sqlite_cannot_do() {
    let stage = Stage::new();
    let backup = image("new", 40, "wal");
    assert_eq!(
        refused(stage.restore(&stage.request(RestoreMode::InPlace), &backup)).kind,
        SourceErrorKind::Missing
    );
    std::fs::write(&stage.target, vec![0x5a; 5000]).unwrap();
    let error = refused(stage.restore(&stage.request(RestoreMode::InPlace), &backup));
    assert_eq!(error.kind, SourceErrorKind::NotADatabase);
    assert_eq!(stage.names(), ["app.db"]);
    std::fs::remove_file(&stage.target).unwrap();
    Connection::open(&stage.target).unwrap().execute_batch("PRAGMA page_size=1024").unwrap();
    let connection = Connection::open(&stage.target).unwrap();
    connection.execute_batch("PRAGMA page_size=1024; CREATE TABLE t (a)").unwrap();
    connection.query_row("PRAGMA journal_mode=wal", [], |_| Ok(())).unwrap();
    let error = refused(stage.restore(&stage.request(RestoreMode::InPlace), &backup));
    assert_eq!(error.kind, SourceErrorKind::Unsupported, "{error}");
    // In rollback mode the size of the pages follows the backup.
    connection.query_row("PRAGMA journal_mode=delete", [], |_| Ok(())).unwrap();
    stage.restore(&stage.request(RestoreMode::InPlace), &Backup::of(backup.bytes().to_vec())).unwrap();
    drop(connection);
    assert_eq!(content(&stage.target), says("new", 40));
}
