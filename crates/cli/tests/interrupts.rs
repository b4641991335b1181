//! SIGINT and SIGTERM in the middle of the work: it ends within two seconds with 130 and leaves nothing behind, neither
//! a backup nor a lock nor a restore record, and the target as it was. A second signal ends the program at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "support/crash/mod.rs"]
mod crash;

use crash::content::look;
use crash::{Stage, beside, names};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(2);

/// Makes a database that takes a while.
fn large(path: &Path, megabytes: u32) {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    connection
        .execute_batch(&format!(
            "CREATE TABLE note (id INTEGER PRIMARY KEY, pad BLOB);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {megabytes} * 930)
             INSERT INTO note (pad) SELECT randomblob(1000) FROM n;"
        ))
        .unwrap();
}

fn begin(stage: &Stage, arguments: &[&str]) -> Child {
    stage.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until something can be seen of the work; false where it ended before.
fn wait_for(child: &mut Child, seen: impl Fn() -> bool) -> bool {
    while child.try_wait().unwrap().is_none() {
        if seen() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// Waits for the end, and returns the exit code and how long it took.
fn end(child: Child) -> (Option<i32>, Duration, String) {
    let started = Instant::now();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), started.elapsed(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn assert_interrupted(child: Child, what: &str) {
    let (code, elapsed, err) = end(child);
    assert_eq!(code, Some(130), "{what}: {err}");
    assert!(elapsed < PATIENCE, "{what} took {elapsed:?} to end");
}

fn is_locked(stage: &Stage) -> bool {
    names(&stage.repository().join("locks")).iter().any(|name| !name.ends_with(".tmp"))
}

fn assert_unlocked(stage: &Stage, what: &str) {
    assert_eq!(names(&stage.repository().join("locks")), Vec::<String>::new(), "{what}");
}

#[test]
fn a_backup() {
    for (number, which) in [Signal::SIGINT, Signal::SIGTERM].into_iter().enumerate() {
        let stage = Stage::new();
        large(&stage.target(), 60);
        let before = look(&stage.target());
        let mut child = begin(&stage, &["backup", &stage.target().display().to_string()]);
        assert!(wait_for(&mut child, || is_locked(&stage)));
        std::thread::sleep(Duration::from_millis(200 * number as u64));
        signal(&child, which);
        assert_interrupted(child, &format!("a backup, by {which}"));
        assert_eq!(names(&stage.repository().join("snapshots")), Vec::<String>::new());
        assert_unlocked(&stage, "a backup");
        assert_eq!(look(&stage.target()), before);
        stage.back_up();
    }
}

#[test]
fn a_verify() {
    let stage = Stage::new();
    large(&stage.target(), 60);
    stage.back_up();
    for which in [Signal::SIGINT, Signal::SIGTERM] {
        let snapshots = names(&stage.repository().join("snapshots"));
        let mut child = begin(&stage, &["verify"]);
        assert!(wait_for(&mut child, || is_locked(&stage)));
        signal(&child, which);
        assert_interrupted(child, &format!("a verify, by {which}"));
        assert_eq!(
            names(&stage.repository().join("snapshots")),
            snapshots,
            "it kept a proof of what it had not read"
        );
        assert_unlocked(&stage, "a verify");
    }
}

#[test]
fn a_restore() {
    let stage = Stage::new();
    let target = stage.target();
    large(&target, 60);
    stage.back_up();
    Connection::open(&target).unwrap().execute_batch("DELETE FROM note WHERE id % 2 = 0").unwrap();
    let before = look(&target);
    let bytes = std::fs::read(&target).unwrap();
    let image = beside(&target, ".backstay-image");
    for which in [Signal::SIGINT, Signal::SIGTERM] {
        let latest = format!("{}@latest", target.display());
        let mut child = begin(&stage, &["restore", &latest, "--confirm", "app.db"]);
        assert!(wait_for(&mut child, || image.exists()));
        signal(&child, which);
        assert_interrupted(child, &format!("a restore, by {which}"));
        assert_eq!(names(&stage.work()), ["app.db"]);
        assert!(std::fs::read(&target).unwrap() == bytes);
        assert_unlocked(&stage, "a restore");
    }
    assert_eq!(look(&target), before);
}

#[test]
fn the_second_signal_does_not_wait() {
    let stage = Stage::new();
    let target = stage.target();
    large(&target, 1);
    stage.back_up();
    let bytes = std::fs::read(&target).unwrap();
    let (stopped, starting) = (stage.root.join("stopped"), stage.root.join("starting"));
    let latest = format!("{}@latest", target.display());
    // The way back starts the service again, which takes long: the second signal comes then.
    let stop = format!("touch {}; sleep 30", stopped.display());
    let start = format!("touch {}; exec sleep 3", starting.display());
    let arguments =
        ["restore", &latest, "--confirm", "app.db", "--stop-command", &stop, "--start-command", &start];
    let mut child = begin(&stage, &arguments);
    assert!(wait_for(&mut child, || stopped.exists()));
    signal(&child, Signal::SIGINT);
    assert!(wait_for(&mut child, || starting.exists()), "the service was not started again");
    signal(&child, Signal::SIGINT);
    let started = Instant::now();
    let code = child.wait().unwrap().code();
    assert!(started.elapsed() < Duration::from_millis(500), "it took {:?}", started.elapsed());
    assert_eq!(code, Some(130));
    assert!(std::fs::read(&target).unwrap() == bytes);
    let outcome = stage.run(&["restore", "--rollback", "--target", &target.display().to_string()]);
    assert!(outcome.code == Some(0) || outcome.err.contains("nothing is to be done"), "{}", outcome.err);
    assert!(std::fs::read(&target).unwrap() == bytes);
    assert!(!names(&stage.work()).iter().any(|name| name.contains("backstay")), "{:?}", names(&stage.work()));
}
