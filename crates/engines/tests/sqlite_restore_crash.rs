//! A restore that was left behind: after any step it can be continued and rolled back, by the record alone.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod restoring;

use engines::sqlite::SqliteEngine;
use engines::{Engine, RestoreError, RestoreMode, RestoreStep, Safety};
use flow::{ReadErrorKind, SourceErrorKind};
use restoring::{
    Stage, beside, content, database, go_on, image, run_from, says, with_hot_journal, with_stale_wal,
};
use std::io::Write;
use std::path::Path;

type Old = fn(&Path, &str, u32);

fn clean(path: &Path, word: &str, rows: u32) {
    database(path, word, rows, "delete");
}

/// The states that a database may be in when a restore begins.
const OLD: [Old; 3] = [clean, with_stale_wal, with_hot_journal];

#[test]
fn after_each_step_it_can_be_rolled_back_by_another_process() {
    let backup = image("new", 100, "wal");
    for old in OLD {
        for last in 0..5 {
            let stage = Stage::new();
            old(&stage.target, "old", 3000);
            let before = stage.names();
            let bytes = std::fs::read(&stage.target).unwrap();
            let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
            for step in restore.steps().to_vec().into_iter().take(last + 1) {
                restore.run(step, &backup).unwrap();
            }
            drop(restore);
            let mut restore = stage.resume();
            restore.roll_back().unwrap();
            assert!(restore.run(RestoreStep::Swap, &backup).is_err(), "it is over");
            restore.roll_back().unwrap();
            let names: Vec<_> = before.into_iter().filter(|name| !name.ends_with("-shm")).collect();
            assert_eq!(
                stage.names().into_iter().filter(|name| !name.ends_with("-shm")).collect::<Vec<_>>(),
                names
            );
            assert!(std::fs::read(&stage.target).unwrap() == bytes);
            assert_eq!(content(&stage.target), says("old", 3000));
            assert!(
                SqliteEngine::default()
                    .pending_restores(&stage.database(), &stage.context)
                    .unwrap()
                    .is_empty()
            );
        }
    }
}

#[test]
fn after_each_step_it_can_be_continued_by_another_process() {
    let backup = image("new", 100, "wal");
    for old in OLD {
        for last in 0..5 {
            for completed in [true, false] {
                let stage = Stage::new();
                old(&stage.target, "old", 3000);
                let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
                for step in restore.steps().to_vec().into_iter().take(last + 1) {
                    restore.run(step, &backup).unwrap();
                }
                restore.note(serde_json::json!({"stopped": true})).unwrap();
                drop(restore);
                if !completed {
                    forget_last_lines(&stage, 2);
                }
                if !beside(&stage.target, ".backstay-restore").metadata().is_ok_and(|record| record.len() > 0)
                {
                    continue;
                }
                let mut restore = stage.resume();
                assert_eq!(restore.state().notes.is_null(), !completed);
                go_on(&mut *restore, &backup).unwrap();
                assert_eq!(content(&stage.target), says("new", 100));
                assert_eq!(content(&stage.safety("")), says("old", 3000));
                assert!(!beside(&stage.target, ".backstay-restore").exists());
            }
        }
    }
}

/// Takes the record back to before its last lines: as if the process had died between the act and the next line.
fn forget_last_lines(stage: &Stage, count: usize) {
    let record = beside(&stage.target, ".backstay-restore");
    let text = std::fs::read_to_string(&record).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let kept: String =
        lines[..lines.len().saturating_sub(count)].iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&record, kept).unwrap();
}

#[test]
fn a_torn_line_is_as_if_it_had_not_been_begun() {
    let stage = Stage::new();
    clean(&stage.target, "old", 5);
    let backup = image("new", 5, "delete");
    let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
    for step in [RestoreStep::Preflight, RestoreStep::Beside] {
        restore.run(step, &backup).unwrap();
    }
    drop(restore);
    let path = beside(&stage.target, ".backstay-restore");
    let mut record = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    record.write_all(br#"{"pid":1,"host":"h","state":{"request""#).unwrap();
    for _ in 0..2 {
        let restore = stage.resume();
        assert_eq!((restore.state().step, restore.state().completed), (RestoreStep::Beside, true));
    }
    let mut restore = stage.resume();
    go_on(&mut *restore, &backup).unwrap();
    assert_eq!(content(&stage.target), says("new", 5));
}

#[test]
fn only_one_restore_at_a_time_and_what_was_left_is_named() {
    let stage = Stage::new();
    clean(&stage.target, "old", 5);
    let backup = image("new", 5, "delete");
    let request = stage.request(RestoreMode::Swap);
    let mut first = stage.begin(&request, &backup).unwrap();
    let mut second = stage.begin(&request, &backup).unwrap();
    first.run(RestoreStep::Preflight, &backup).unwrap();
    for error in [
        second.run(RestoreStep::Preflight, &backup).unwrap_err(),
        stage.begin(&request, &backup).err().unwrap(),
    ] {
        let RestoreError::Database(error) = error else { panic!("{error}") };
        assert_eq!(error.kind, SourceErrorKind::InUse);
        assert!(error.message.contains(&format!("by process {}", std::process::id())), "{error}");
    }
    let pending = SqliteEngine::default().pending_restores(&stage.database(), &stage.context).unwrap();
    assert!(pending[0].owner_alive);
    let error =
        SqliteEngine::default().resume_restore(pending[0].clone(), stage.context.clone()).err().unwrap();
    assert!(error.to_string().contains("is running"), "{error}");
    drop(first);
    let Some(RestoreError::Database(error)) = stage.begin(&request, &backup).err() else { panic!() };
    let hint = error.hint.unwrap();
    assert!(hint.contains("--continue") && hint.contains("--rollback"), "{hint}");
    stage.resume().roll_back().unwrap();
    stage.restore(&request, &backup).unwrap();
}

#[test]
fn steps_keep_their_order() {
    let stage = Stage::new();
    let backup = image("new", 5, "delete");
    let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
    assert!(restore.run(RestoreStep::Beside, &backup).is_err());
    restore.run(RestoreStep::Preflight, &backup).unwrap();
    assert!(restore.run(RestoreStep::Swap, &backup).is_err());
    restore.run(RestoreStep::Beside, &backup).unwrap();
    restore.run(RestoreStep::Beside, &backup).unwrap();
    run_from(&mut *restore, &backup, Some(RestoreStep::Beside)).unwrap();
    assert!(restore.run(RestoreStep::Finish, &backup).is_err());
}

#[test]
fn a_file_made_in_the_gap_of_a_swap_is_set_aside() {
    let stage = Stage::new();
    with_stale_wal(&stage.target, "old", 500);
    let backup = image("new", 100, "wal");
    let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
    for step in restore.steps().to_vec().into_iter().take(5) {
        restore.run(step, &backup).unwrap();
    }
    drop(restore);
    // As after a crash in the gap: the image still beside, the target's name free, and an application takes it.
    forget_last_lines(&stage, 1);
    let image = beside(&stage.target, ".backstay-image");
    for back in [false, true] {
        std::fs::rename(&stage.target, &image).unwrap();
        clean(&stage.target, "theirs", 7);
        // The crash came before the old -wal went: it belongs to neither.
        std::fs::hard_link(stage.safety("-wal"), beside(&stage.target, "-wal")).unwrap();
        let mut restore = stage.resume();
        if back {
            restore.roll_back().unwrap();
            assert_eq!(content(&stage.target), says("old", 500));
        } else {
            restore.run(RestoreStep::Swap, &backup).unwrap();
            assert!(std::fs::read(&stage.target).unwrap() == backup.bytes());
            forget_last_lines(&stage, 1);
        }
        let aside = if back {
            "app.db.backstay-aside-20261121T020000Z-2"
        } else {
            "app.db.backstay-aside-20261121T020000Z"
        };
        assert_eq!(content(&stage.target.with_file_name(aside)), says("theirs", 7));
    }
}

#[test]
fn a_failed_read_of_the_backup_leaves_the_target_as_it_was() {
    let stage = Stage::new();
    clean(&stage.target, "old", 5);
    let mut backup = image("new", 9000, "delete");
    backup.broken_at = Some(700_000);
    let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
    let Err(RestoreError::Backup(error)) = run_from(&mut *restore, &backup, None) else { panic!() };
    assert_eq!(error.kind, ReadErrorKind::Damaged);
    assert_eq!(stage.names(), ["app.db", "app.db.backstay-restore"]);
    restore.roll_back().unwrap();
    assert_eq!(stage.names(), ["app.db"]);
}

#[test]
fn a_cancelled_restore_is_rolled_back_to_nothing() {
    let stage = Stage::new();
    clean(&stage.target, "old", 5);
    let backup = image("new", 9000, "delete");
    let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
    restore.run(RestoreStep::Preflight, &backup).unwrap();
    restore.run(RestoreStep::Beside, &backup).unwrap();
    stage.context.cancel.cancel();
    assert!(restore.run(RestoreStep::Verify, &backup).is_err());
    restore.roll_back().unwrap();
    assert_eq!(stage.names(), ["app.db"]);
}

/// A small filesystem of its own, where that may be mounted.
struct Small(tempfile::TempDir);

impl Small {
    fn new(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "backstay-test"])
            .arg(folder.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(self.0.path()).output().ok();
    }
}

#[test]
fn a_full_disk_leaves_the_target_as_it_was() {
    let Some(small) = Small::new("6m") else { return };
    let stage = Stage::in_folder(tempfile::tempdir_in(small.0.path()).unwrap());
    clean(&stage.target, "old", 5000);
    let old = std::fs::read(&stage.target).unwrap();
    let request = stage.request(RestoreMode::Swap);
    // Known before: nothing is begun.
    let backup = image("new", 30_000, "delete");
    let mut restore = stage.begin(&request, &backup).unwrap();
    assert!(restore.plan().free_bytes.unwrap() < restore.plan().needed_bytes);
    let Err(RestoreError::Database(error)) = restore.run(RestoreStep::Preflight, &backup) else { panic!() };
    assert_eq!(error.kind, SourceErrorKind::Unwritable);
    assert!(error.message.contains("bytes free"), "{error}");
    assert_eq!(stage.names(), ["app.db"]);

    // Found out while writing, and with not a byte left for the record.
    let backup = image("new", 8000, "delete");
    let mut restore = stage.begin(&request, &backup).unwrap();
    restore.run(RestoreStep::Preflight, &backup).unwrap();
    let filler = stage.folder.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let Err(RestoreError::Database(error)) = restore.run(RestoreStep::Beside, &backup) else { panic!() };
    assert_eq!(error.kind, SourceErrorKind::Unwritable);
    assert!(error.message.contains("no space left"), "{error}");
    restore.roll_back().unwrap();
    std::fs::remove_file(filler).unwrap();
    assert_eq!(stage.names(), ["app.db"]);
    assert!(std::fs::read(&stage.target).unwrap() == old);
}

#[test]
fn a_safety_folder_that_is_full_stops_it_before_anything_is_touched() {
    let Some(small) = Small::new("200k") else { return };
    let stage = Stage::new();
    clean(&stage.target, "old", 5000);
    let mut request = stage.request(RestoreMode::Swap);
    request.safety = Safety::Folder(small.0.path().to_owned());
    let backup = image("new", 10, "delete");
    let mut restore = stage.begin(&request, &backup).unwrap();
    assert!(restore.run(RestoreStep::Preflight, &backup).is_err());
    assert_eq!(stage.names(), ["app.db"]);
    // One that fills up after the preflight.
    let holder = Small::new("20m").unwrap();
    request.safety = Safety::Folder(holder.0.path().to_owned());
    let mut restore = stage.begin(&request, &backup).unwrap();
    for step in restore.steps().to_vec().into_iter().take(4) {
        restore.run(step, &backup).unwrap();
    }
    let mut file = std::fs::File::create(holder.0.path().join("filler")).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let Err(RestoreError::Database(error)) = restore.run(RestoreStep::Swap, &backup) else { panic!() };
    assert!(error.message.contains("no space left"), "{error}");
    restore.roll_back().unwrap();
    assert_eq!(stage.names(), ["app.db"]);
    assert_eq!(restoring::names(holder.0.path()), ["filler"]);
    assert_eq!(content(&stage.target), says("old", 5000));
}
