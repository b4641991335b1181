//! A restore killed at each of its file-changing system calls, by number: at that moment the target is the old or the
//! new database or absent, never a mixture, and both ways on reach their end. Needs `strace`; passes over without it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod restoring;

use engines::sqlite::SqliteEngine;
use engines::{Engine, RestoreMode, RestoreStep};
use restoring::{
    Backup, Stage, beside, content, database, go_on, image, says, with_hot_journal, with_stale_wal,
};
use std::path::Path;
use std::process::{Command, Stdio};

const CALLS: [&str; 12] = [
    "write",
    "pwrite64",
    "fsync",
    "rename",
    "renameat2",
    "unlink",
    "link",
    "linkat",
    "ftruncate",
    "fallocate",
    "fchmod",
    "flock",
];
const OLD_ROWS: u32 = 600;
const NEW_ROWS: u32 = 40;
const JOB: &str = "BACKSTAY_TEST_RESTORE_JOB";

/// Runs in a process of its own, to be killed: `restore`, `continue`, `rollback`, or `change` (the way there and back),
/// then the folder.
#[test]
fn child() {
    let Ok(job) = std::env::var(JOB) else { return };
    let (verb, folder) = job.split_once(' ').unwrap();
    let mut stage = Stage::new();
    stage.target = Path::new(folder).join("app.db");
    let backup = Backup::of(std::fs::read(Path::new(folder).join("image")).unwrap());
    match verb {
        "restore" => stage.restore(&stage.request(RestoreMode::Swap), &backup).unwrap(),
        "back" => {
            let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
            for step in restore.steps().to_vec().into_iter().filter(|step| *step < RestoreStep::Finish) {
                restore.run(step, &backup).unwrap();
            }
            restore.roll_back().unwrap();
        }
        _ => {
            for state in SqliteEngine::default().pending_restores(&stage.database(), &stage.context).unwrap()
            {
                let mut restore =
                    SqliteEngine::default().resume_restore(state, stage.context.clone()).unwrap();
                match verb {
                    "continue" if !restore.state().rolling_back => go_on(&mut *restore, &backup).unwrap(),
                    _ => restore.roll_back().unwrap(),
                }
            }
        }
    }
}

fn run(verb: &str, folder: &Path, inject: Option<(&str, u32)>) -> bool {
    let own = std::env::current_exe().unwrap();
    let mut command = match inject {
        None => Command::new(&own),
        Some((call, number)) => {
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qqq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"]);
            strace.arg(format!("inject={call}:signal=KILL:when={number}")).arg(&own);
            strace
        }
    };
    command.args(["--exact", "child", "--test-threads=1"]).env(JOB, format!("{verb} {}", folder.display()));
    // What a killed process leaves behind goes with this.
    let scratch = tempfile::tempdir().unwrap();
    command.env("TMPDIR", scratch.path());
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

/// Looks at what the target's name shows, in a copy, so that the look itself mends nothing.
fn look(target: &Path) -> Option<(String, u32)> {
    target.exists().then(|| {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.db");
        for suffix in ["", "-wal", "-journal"] {
            if beside(target, suffix).exists() {
                std::fs::copy(beside(target, suffix), beside(&copy, suffix)).unwrap();
            }
        }
        content(&copy)
    })
}

fn killed_everywhere(verb: &str, old: fn(&Path, &str, u32), has_gap: bool) {
    if Command::new("strace").arg("-V").output().is_err() {
        return;
    }
    let backup = image("new", NEW_ROWS, "wal");
    let (mut kills, mut absent) = (0, 0);
    for call in CALLS {
        // Between two writes the names are the same: there one way on is tried, and the other after the next.
        let both = ["fsync", "rename", "renameat2", "unlink", "link", "linkat"].contains(&call);
        let ways = (1..200).flat_map(|number| [(number, "continue"), (number, "rollback")]);
        for (number, onward) in ways.filter(|(number, way)| both || (*way == "continue") == (number % 2 == 0))
        {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().canonicalize().unwrap().join("app.db");
            old(&target, "old", OLD_ROWS);
            std::fs::write(folder.path().join("image"), backup.bytes()).unwrap();
            if run(verb, folder.path(), Some((call, number))) {
                break;
            }
            kills += 1;
            let at = format!(
                "{verb} killed at {call} {number}, then {onward}: {:?}",
                restoring::names(folder.path())
            );
            let seen = look(&target);
            absent += u32::from(seen.is_none());
            assert!(
                seen.as_ref()
                    .is_none_or(|seen| *seen == says("old", OLD_ROWS) || *seen == says("new", NEW_ROWS)),
                "{at}"
            );
            let record = beside(&target, ".backstay-restore").metadata();
            let over = record.is_err() && seen == Some(says("new", NEW_ROWS));
            if record.is_ok_and(|record| record.len() == 0) {
                // It had not begun: nothing is to be finished, and the next one takes the record over.
                assert_eq!(seen, Some(says("old", OLD_ROWS)), "{at}");
                assert!(run("back", folder.path(), None), "{at}");
            } else {
                assert!(run(onward, folder.path(), None), "{at}");
            }
            let names = restoring::names(folder.path());
            assert!(!names.iter().any(|name| name.contains("backstay")), "{at}: {names:?}");
            let seen = look(&target).expect(&at);
            if (over || onward == "continue") && seen == says("new", NEW_ROWS) {
                assert_eq!(
                    look(&beside(&target, ".safety-20261121T020000Z")),
                    Some(says("old", OLD_ROWS)),
                    "{at}"
                );
            } else {
                assert_eq!(seen, says("old", OLD_ROWS), "{at}");
                assert!(!names.iter().any(|name| name.contains("safety")), "{at}: {names:?}");
            }
        }
    }
    assert!(kills > 60, "only {kills} kills");
    assert_eq!(absent > 0, has_gap, "the target's name was free {absent} times");
}

fn clean(path: &Path, word: &str, rows: u32) {
    database(path, word, rows, "delete");
}

#[test]
fn swapping_a_closed_database() {
    killed_everywhere("restore", clean, false);
}

#[test]
fn swapping_a_database_with_a_stale_wal() {
    killed_everywhere("restore", with_stale_wal, true);
}

#[test]
fn rolling_back_to_a_database_with_a_hot_journal() {
    killed_everywhere("back", with_hot_journal, true);
}
