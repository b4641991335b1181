//! A restore by rename: what takes the target's place, what becomes of the old database, and of its `-wal`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod restoring;

use engines::{RestoreError, RestoreMode, RestoreStep, Safety};
use flow::{Severity, SourceErrorKind};
use restoring::{Stage, beside, content, database, image, says, with_hot_journal, with_stale_wal};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn source_error(error: RestoreError) -> flow::SourceError {
    match error {
        RestoreError::Database(error) => error,
        RestoreError::Backup(error) => panic!("the backup is not at fault: {error}"),
    }
}

#[test]
fn the_image_takes_the_place_and_the_old_one_is_kept() {
    let stage = Stage::new();
    database(&stage.target, "old", 50, "delete");
    std::fs::set_permissions(&stage.target, std::fs::Permissions::from_mode(0o640)).unwrap();
    let old = std::fs::read(&stage.target).unwrap();
    let backup = image("new", 9000, "delete");
    stage.restore(&stage.request(RestoreMode::Swap), &backup).unwrap();
    assert!(std::fs::read(&stage.target).unwrap() == backup.bytes());
    assert!(std::fs::read(stage.safety("")).unwrap() == old);
    assert_eq!(std::fs::metadata(&stage.target).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(stage.names(), ["app.db", "app.db.safety-20261121T020000Z"]);
    assert_eq!(content(&stage.target), says("new", 9000));
}

#[test]
fn a_plan_changes_nothing_and_tells_the_names() {
    let stage = Stage::new();
    database(&stage.target, "old", 5, "delete");
    let backup = image("new", 50, "delete");
    let restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
    assert_eq!(stage.names(), ["app.db"]);
    assert_eq!(restore.plan().safety_copy.as_deref(), stage.safety("").to_str());
    assert_eq!(restore.plan().write_bytes, backup.bytes().len() as u64);
    assert!(restore.plan().free_bytes.unwrap() > 0);
    assert_eq!(restore.steps().len(), 6);
}

#[test]
fn a_missing_target_is_made_with_its_owner_alone_to_read_it() {
    for mode in [RestoreMode::Swap, RestoreMode::ToNew] {
        let stage = Stage::new();
        stage.restore(&stage.request(mode), &image("new", 20, "wal")).unwrap();
        assert_eq!(stage.names(), ["app.db"]);
        assert_eq!(std::fs::metadata(&stage.target).unwrap().mode() & 0o777, 0o600);
        assert_eq!(content(&stage.target), says("new", 20));
    }
}

#[test]
fn a_new_database_replaces_nothing() {
    let stage = Stage::new();
    database(&stage.target, "old", 5, "delete");
    let error =
        source_error(stage.restore(&stage.request(RestoreMode::ToNew), &image("new", 5, "wal")).unwrap_err());
    assert_eq!(error.kind, SourceErrorKind::Unwritable);
    std::fs::remove_file(&stage.target).unwrap();
    std::fs::write(beside(&stage.target, "-wal"), "something").unwrap();
    let error =
        source_error(stage.restore(&stage.request(RestoreMode::ToNew), &image("new", 5, "wal")).unwrap_err());
    assert_eq!(error.kind, SourceErrorKind::Unwritable);
    assert_eq!(stage.names(), ["app.db-wal"]);
    std::fs::remove_file(beside(&stage.target, "-wal")).unwrap();

    // One that appears while the image is written is not touched either.
    let backup = image("new", 5, "wal");
    let mut restore = stage.begin(&stage.request(RestoreMode::ToNew), &backup).unwrap();
    for step in [RestoreStep::Preflight, RestoreStep::Beside, RestoreStep::Verify, RestoreStep::Quiesce] {
        restore.run(step, &backup).unwrap();
    }
    database(&stage.target, "theirs", 5, "delete");
    assert!(restore.run(RestoreStep::Swap, &backup).is_err());
    restore.roll_back().unwrap();
    assert_eq!(stage.names(), ["app.db"]);
    assert_eq!(content(&stage.target), says("theirs", 5));
}

#[test]
fn a_stale_wal_is_never_read_into_the_restored_database() {
    let stage = Stage::new();
    with_stale_wal(&stage.target, "old", 4000);
    let wal = std::fs::read(beside(&stage.target, "-wal")).unwrap();
    assert!(wal.len() > 100_000);
    stage.restore(&stage.request(RestoreMode::Swap), &image("new", 10_000, "wal")).unwrap();
    assert_eq!(
        stage.names(),
        ["app.db", "app.db.safety-20261121T020000Z", "app.db.safety-20261121T020000Z-wal"]
    );
    assert!(std::fs::read(stage.safety("-wal")).unwrap() == wal);
    assert_eq!(content(&stage.target), says("new", 10_000));
    assert_eq!(content(&stage.safety("")), says("old", 4000));
}

#[test]
fn a_hot_journal_stays_with_the_database_that_it_belongs_to() {
    let stage = Stage::new();
    with_hot_journal(&stage.target, "old", 3000);
    stage.restore(&stage.request(RestoreMode::Swap), &image("new", 100, "delete")).unwrap();
    assert_eq!(content(&stage.target), says("new", 100));
    assert_eq!(content(&stage.safety("")), says("old", 3000));
}

#[test]
fn sidecars_of_a_lost_database_are_kept_and_not_applied() {
    let stage = Stage::new();
    with_stale_wal(&stage.target, "old", 4000);
    std::fs::remove_file(&stage.target).unwrap();
    let wal = std::fs::read(beside(&stage.target, "-wal")).unwrap();
    let backup = image("new", 100, "wal");
    let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
    let steps = restore.steps().to_vec();
    for step in &steps[..5] {
        restore.run(*step, &backup).unwrap();
    }
    assert!(std::fs::read(stage.safety("-wal")).unwrap() == wal);
    restore.roll_back().unwrap();
    assert!(std::fs::read(beside(&stage.target, "-wal")).unwrap() == wal);
    assert!(!stage.target.exists());
    stage.restore(&stage.request(RestoreMode::Swap), &backup).unwrap();
    assert_eq!(content(&stage.target), says("new", 100));
}

#[test]
fn a_database_that_no_longer_opens_is_kept_byte_for_byte() {
    let stage = Stage::new();
    let garbage: Vec<u8> = (0..70_000u32).map(|number| ((number * 7919) >> 3) as u8).collect();
    std::fs::write(&stage.target, &garbage).unwrap();
    stage.restore(&stage.request(RestoreMode::Swap), &image("new", 100, "delete")).unwrap();
    assert!(std::fs::read(stage.safety("")).unwrap() == garbage);
    assert_eq!(content(&stage.target), says("new", 100));
}

#[test]
fn owner_and_mode_of_the_old_one_stay() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let stage = Stage::new();
    database(&stage.target, "old", 5, "delete");
    std::os::unix::fs::chown(&stage.target, Some(4321), Some(1234)).unwrap();
    std::fs::set_permissions(&stage.target, std::fs::Permissions::from_mode(0o664)).unwrap();
    stage.restore(&stage.request(RestoreMode::Swap), &image("new", 5, "delete")).unwrap();
    for path in [stage.target.clone(), stage.safety("")] {
        let found = std::fs::metadata(path).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (4321, 1234, 0o664));
    }
}

#[test]
fn a_link_stays_a_link_to_the_restored_file() {
    let stage = Stage::new();
    let real = stage.folder.path().canonicalize().unwrap().join("real");
    std::fs::create_dir(&real).unwrap();
    database(&real.join("data.db"), "old", 5, "delete");
    std::os::unix::fs::symlink("real/data.db", &stage.target).unwrap();
    stage.restore(&stage.request(RestoreMode::Swap), &image("new", 5, "delete")).unwrap();
    assert!(stage.target.is_symlink());
    assert_eq!(content(&stage.target), says("new", 5));
    assert_eq!(restoring::names(&real), ["data.db", "data.db.safety-20261121T020000Z"]);
}

#[test]
fn a_taken_safety_name_is_left_alone() {
    let stage = Stage::new();
    database(&stage.target, "old", 5, "delete");
    std::fs::write(stage.safety("-wal"), "not ours").unwrap();
    stage.restore(&stage.request(RestoreMode::Swap), &image("new", 5, "delete")).unwrap();
    assert_eq!(content(&stage.safety("-2")), says("old", 5));
    assert_eq!(std::fs::read(stage.safety("-wal")).unwrap(), b"not ours");
}

#[test]
fn no_safety_copy_is_kept_where_none_is_wanted_but_until_the_end_it_is() {
    let stage = Stage::new();
    with_stale_wal(&stage.target, "old", 200);
    let backup = image("new", 5, "delete");
    let mut request = stage.request(RestoreMode::Swap);
    request.safety = Safety::None;
    let mut restore = stage.begin(&request, &backup).unwrap();
    let steps = restore.steps().to_vec();
    for step in &steps[..5] {
        restore.run(*step, &backup).unwrap();
    }
    assert_eq!(restore.state().safety_copy, None);
    restore.roll_back().unwrap();
    assert_eq!(content(&stage.target), says("old", 200));
    stage.restore(&request, &backup).unwrap();
    assert_eq!(stage.names(), ["app.db"]);
    assert_eq!(content(&stage.target), says("new", 5));
}

#[test]
fn the_safety_copy_goes_to_the_folder_of_choice_on_any_filesystem() {
    for elsewhere in ["/dev/shm", "/var/tmp"] {
        let Ok(folder) = tempfile::tempdir_in(elsewhere) else { continue };
        let stage = Stage::new();
        with_stale_wal(&stage.target, "old", 300);
        let (old, wal) =
            (std::fs::read(&stage.target).unwrap(), std::fs::read(beside(&stage.target, "-wal")).unwrap());
        let backup = image("new", 5, "delete");
        let mut request = stage.request(RestoreMode::Swap);
        request.safety = Safety::Folder(folder.path().to_owned());
        let mut restore = stage.begin(&request, &backup).unwrap();
        let steps = restore.steps().to_vec();
        for step in &steps[..5] {
            restore.run(*step, &backup).unwrap();
        }
        let copy = folder.path().join("app.db.safety-20261121T020000Z");
        assert_eq!(restore.state().safety_copy.as_deref(), copy.to_str());
        assert!(std::fs::read(&copy).unwrap() == old && std::fs::read(beside(&copy, "-wal")).unwrap() == wal);
        restore.roll_back().unwrap();
        assert_eq!(restoring::names(folder.path()), [""; 0]);
        assert_eq!(stage.names(), ["app.db", "app.db-wal"]);
        assert!(std::fs::read(&stage.target).unwrap() == old);
        stage.restore(&request, &backup).unwrap();
        assert_eq!(stage.names(), ["app.db"]);
        assert_eq!(content(&copy), says("old", 300));
    }
}

#[test]
fn a_safety_copy_bears_the_suffix_that_its_restore_began_with() {
    for mode in [RestoreMode::Swap, RestoreMode::InPlace] {
        let stage = Stage::new();
        database(&stage.target, "old", 300, "delete");
        let taken = beside(&stage.target, ".old-20261121T020000Z");
        std::fs::write(&taken, "somebody's").unwrap();
        let copy = beside(&stage.target, ".old-20261121T020000Z-2");
        let backup = image("new", 5, "delete");
        let request = stage.request(mode);
        let with_suffix = || {
            let engine = engines::sqlite::SqliteEngine::new(flow::SafetySuffix::new(".old").unwrap());
            let manifest = flow::BackupReader::manifest(&backup);
            engines::Engine::begin_restore(&engine, &request, manifest, stage.context.clone()).unwrap()
        };
        // Before and after the copy is made, whoever takes it up has another suffix in mind.
        for done in [3, 5] {
            let mut restore = with_suffix();
            let steps = restore.steps().to_vec();
            for step in &steps[..done] {
                restore.run(*step, &backup).unwrap();
            }
            drop(restore);
            stage.resume().roll_back().unwrap();
            assert_eq!(stage.names(), ["app.db", "app.db.old-20261121T020000Z"], "{mode:?}");
            assert_eq!(content(&stage.target), says("old", 300));
        }
        let mut restore = with_suffix();
        let steps = restore.steps().to_vec();
        for step in &steps[..3] {
            restore.run(*step, &backup).unwrap();
        }
        drop(restore);
        restoring::go_on(&mut *stage.resume(), &backup).unwrap();
        assert_eq!(content(&copy), says("old", 300));
        assert_eq!(content(&stage.target), says("new", 5));
        assert_eq!(std::fs::read(&taken).unwrap(), b"somebody's");
    }
}

#[test]
fn an_empty_database_is_restored_as_one() {
    let stage = Stage::new();
    database(&stage.target, "old", 5, "delete");
    stage.restore(&stage.request(RestoreMode::Swap), &restoring::Backup::of(Vec::new())).unwrap();
    assert_eq!(std::fs::metadata(&stage.target).unwrap().len(), 0);
}

#[test]
fn a_source_that_was_damaged_is_named_and_restored_only_when_told_to() {
    let stage = Stage::new();
    database(&stage.target, "old", 5, "delete");
    let mut bytes = image("new", 3000, "delete").bytes().to_vec();
    let middle = bytes.len() / 4096 / 2 * 4096;
    bytes[middle..middle + 4096].fill(0x5a);
    let backup = restoring::Backup::of(bytes);
    let mut request = stage.request(RestoreMode::Swap);
    let mut restore = stage.begin(&request, &backup).unwrap();
    let error = source_error(restoring::run_from(&mut *restore, &backup, None).unwrap_err());
    assert_eq!(error.kind, SourceErrorKind::Damaged);
    assert!(error.message.contains("damaged already"), "{error}");
    restore.roll_back().unwrap();
    drop(restore);
    assert_eq!(stage.names(), ["app.db"]);
    request.verify = false;
    stage.restore(&request, &backup).unwrap();
    assert!(std::fs::read(&stage.target).unwrap() == backup.bytes());
}

#[test]
fn an_image_that_does_not_read_back_is_refused() {
    let stage = Stage::new();
    database(&stage.target, "old", 5, "delete");
    let backup = image("new", 9000, "delete");
    for forget in [false, true] {
        let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
        restore.run(RestoreStep::Preflight, &backup).unwrap();
        restore.run(RestoreStep::Beside, &backup).unwrap();
        let image = beside(&stage.target, ".backstay-image");
        let file = std::fs::OpenOptions::new().write(true).open(&image).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"?", 300_000).unwrap();
        if forget {
            drop(restore);
            restore = stage.resume();
        }
        let error = source_error(restore.run(RestoreStep::Verify, &backup).unwrap_err());
        assert_eq!(error.kind, SourceErrorKind::Damaged);
        assert!(error.message.contains("262144"), "{error}");
        restore.roll_back().unwrap();
    }
    assert_eq!(stage.names(), ["app.db"]);
}

/// Large enough to be read back while it is written.
fn large() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = OFF; CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent, v TEXT);
             CREATE TABLE parent (id INTEGER PRIMARY KEY); INSERT INTO parent VALUES (1), (2), (3);
             WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 40000)
               INSERT INTO child SELECT x * 7919 % 40009, x % 3 + 1, hex(randomblob(300)) FROM i;
             CREATE INDEX child_v ON child(v); CREATE INDEX child_parent ON child(parent);",
        )
        .unwrap();
    drop(connection);
    std::fs::read(&path).unwrap()
}

#[test]
fn a_large_image_is_checked_while_it_is_written() {
    let sound = large();
    assert!(sound.len() > 20 << 20);
    let stage = Stage::new();
    let backup = restoring::Backup::of(sound.clone());
    let mut restore = stage.begin(&stage.request(RestoreMode::Swap), &backup).unwrap();
    restore.run(RestoreStep::Preflight, &backup).unwrap();
    restore.run(RestoreStep::Beside, &backup).unwrap();
    let file =
        std::fs::OpenOptions::new().write(true).open(beside(&stage.target, ".backstay-image")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"?", 300_000).unwrap();
    let error = source_error(restore.run(RestoreStep::Verify, &backup).unwrap_err());
    assert!(error.message.contains("do not read back"), "what changes it afterwards is found: {error}");
    restore.roll_back().unwrap();
    drop(restore);
    stage.restore(&stage.request(RestoreMode::Swap), &backup).unwrap();
    assert!(std::fs::read(&stage.target).unwrap() == sound);
    // A letter of a value, in the table or in its index: both are sound pages, and no longer agree.
    let mut damaged = sound;
    let at = damaged.len() / 2 + 2000;
    damaged[at] = if damaged[at] == b'7' { b'8' } else { b'7' };
    let backup = restoring::Backup::of(damaged);
    let error = source_error(stage.restore(&stage.request(RestoreMode::Swap), &backup).unwrap_err());
    assert!(error.message.contains("damaged already") && error.message.contains("child_v"), "{error}");
}

#[test]
fn violated_foreign_keys_and_unknown_collations_are_remarks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE);
             CREATE INDEX parent_name ON parent (name);
             CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES parent);
             INSERT INTO parent VALUES (1, 'a'); PRAGMA foreign_keys=OFF; INSERT INTO child VALUES (1, 7);
             -- As in a database whose program brings a collation of its own.
             PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'app_order');",
        )
        .unwrap();
    drop(connection);
    let stage = Stage::new();
    let backup = restoring::Backup::of(std::fs::read(&path).unwrap());
    stage.restore(&stage.request(RestoreMode::Swap), &backup).unwrap();
    let remarks = stage.remarks.0.lock().unwrap();
    assert!(remarks.iter().all(|remark| remark.severity <= Severity::Warning));
    let texts: Vec<_> = remarks.iter().map(|remark| remark.message.as_str()).collect();
    assert!(texts.iter().any(|text| text.contains("app_order")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("first of table child")), "{texts:?}");
}

#[test]
fn what_cannot_be_a_target_is_refused_with_nothing_changed() {
    let stage = Stage::new();
    let backup = image("new", 5, "delete");
    std::fs::create_dir(&stage.target).unwrap();
    let error = source_error(stage.restore(&stage.request(RestoreMode::Swap), &backup).unwrap_err());
    assert_eq!((error.kind, error.message.as_str()), (SourceErrorKind::Unwritable, "is a folder"));
    let mut request = stage.request(RestoreMode::Swap);
    request.target.connection = stage.folder.path().join("none/app.db").to_str().unwrap().to_owned();
    let error = source_error(stage.restore(&request, &backup).unwrap_err());
    assert_eq!(error.kind, SourceErrorKind::Unwritable);
    assert!(error.hint.unwrap().contains("mkdir -p"));
    request = stage.request(RestoreMode::Swap);
    std::fs::remove_dir(&stage.target).unwrap();
    request.safety = Safety::Folder(stage.folder.path().join("none"));
    assert!(stage.restore(&request, &backup).is_err());
    assert_eq!(stage.names(), [""; 0]);
}
