//! The journal: what it keeps, and that losing it does no harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use jiff::Timestamp;
use journal::{Journal, Outcome, RunEnd, RunStart, Step};
use serde_json::json;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn start(command: &str) -> RunStart {
    RunStart {
        command: command.to_owned(),
        target: Some("shops".to_owned()),
        started: "2026-11-01T02:00:00.5Z".parse().unwrap(),
    }
}

fn end(outcome: Outcome) -> RunEnd {
    let finished = "2026-11-01T02:03:00Z".parse().unwrap();
    RunEnd { finished, outcome, report: json!({ "schema": "x", "databases": [1, 2] }) }
}

fn fresh(path: &Path) -> Journal {
    let (journal, findings) = Journal::open(path).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    journal
}

#[test]
fn runs_come_back_as_they_were_recorded_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/journal.db");
    let journal = fresh(&path);
    let first = journal.begin_run(&start("backup")).unwrap();
    journal.finish_run(first, &end(Outcome::Incomplete)).unwrap();
    journal.begin_run(&start("verify")).unwrap();
    drop(journal);
    let journal = fresh(&path);
    let runs = journal.recent(10).unwrap();
    assert_eq!(runs.len(), 2);
    assert_eq!((&runs[0].start, &runs[0].end), (&start("verify"), &None));
    assert_eq!((&runs[1].start, &runs[1].end), (&start("backup"), &Some(end(Outcome::Incomplete))));
    assert_eq!(journal.recent(1).unwrap().len(), 1);
    assert_eq!(journal.last("backup", Outcome::Incomplete).unwrap().unwrap().id, first);
    assert_eq!(journal.last("backup", Outcome::Done).unwrap(), None);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn steps_of_a_restore_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let journal = fresh(&folder.path().join("journal.db"));
    let step = |restore: &str, name: &str, ended: bool| Step {
        restore: restore.to_owned(),
        target: "/srv/shop.db".to_owned(),
        step: name.to_owned(),
        started: Timestamp::UNIX_EPOCH,
        finished: ended.then_some(Timestamp::UNIX_EPOCH),
        outcome: ended.then_some(Outcome::Failed),
    };
    let steps = [step("a", "beside", true), step("b", "verify", true), step("a", "swap", false)];
    for step in &steps {
        journal.restore_step(step).unwrap();
    }
    assert_eq!(journal.steps("a").unwrap(), [steps[0].clone(), steps[2].clone()]);
}

#[test]
fn a_journal_that_is_no_database_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    std::fs::write(&path, "x".repeat(5000)).unwrap();
    std::fs::write(folder.path().join("journal.db-journal"), "old").unwrap();
    let (journal, findings) = Journal::open(&path).unwrap();
    assert_eq!(findings.len(), 1);
    assert!(findings[0].message.contains("was damaged"), "{findings:?}");
    journal.begin_run(&start("backup")).unwrap();
    let names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let aside = names.iter().find(|name| name.contains(".damaged-") && !name.ends_with("-journal")).unwrap();
    assert_eq!(std::fs::read(folder.path().join(aside)).unwrap().len(), 5000);
    assert!(!names.contains(&"journal.db-journal".to_owned()), "{names:?}");
    drop(journal);
    assert_eq!(fresh(&path).recent(9).unwrap().len(), 1);
}

#[test]
fn a_page_that_is_damaged_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = fresh(&path);
    for _ in 0..200 {
        let id = journal.begin_run(&start("backup")).unwrap();
        journal.finish_run(id, &end(Outcome::Done)).unwrap();
    }
    drop(journal);
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(4096)).unwrap();
    file.write_all(&[0x5a; 4096]).unwrap();
    drop(file);
    let (journal, findings) = Journal::open(&path).unwrap();
    assert_eq!((findings.len(), journal.recent(9).unwrap().len()), (1, 0));
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Journal::open(&path).unwrap_err();
    assert!(error.to_string().contains("another program's"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let newer = folder.path().join("newer.db");
    drop(fresh(&newer));
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let error = Journal::open(&newer).unwrap_err();
    assert!(error.to_string().contains("format version 9"), "{error}");
    assert!(newer.exists());
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_with_the_path() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let path = folder.path().join("file/journal.db");
    let error = Journal::open(&path).unwrap_err();
    assert!(error.finding().object.contains("file/journal.db"), "{error}");
}

#[test]
fn many_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let journal = fresh(&path);
                for _ in 0..5 {
                    let id = journal.begin_run(&start("backup")).unwrap();
                    journal.finish_run(id, &end(Outcome::Done)).unwrap();
                }
            });
        }
    });
    let runs = fresh(&path).recent(100).unwrap();
    assert_eq!(runs.len(), 40);
    assert!(runs.iter().all(|run| run.end.is_some()));
}

#[test]
fn many_that_find_it_damaged_at_once_begin_one_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    std::fs::write(&path, "x".repeat(5000)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| Journal::open(&path).unwrap().0.begin_run(&start("backup")).unwrap());
        }
    });
    assert_eq!(fresh(&path).recent(100).unwrap().len(), 8);
}

#[test]
fn old_runs_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = fresh(&path);
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
             INSERT INTO run (command, started) SELECT 'list', '2026-01-01T00:00:00Z' FROM n",
        )
        .unwrap();
    journal.begin_run(&start("backup")).unwrap();
    assert_eq!(journal.recent(5000).unwrap().len(), 1000);
}
