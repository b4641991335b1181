//! A restore by a user who lacks a right: it stops before anything is written, and says which.
//!
//! Runs itself again as another user, which takes root; passed over otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod restoring;

use engines::{RestoreError, RestoreMode};
use restoring::{Stage, database, image, names};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const JOB: &str = "BACKSTAY_TEST_RESTORE_RIGHTS";
const NOBODY: u32 = 65534;

#[test]
fn child() {
    let Ok(folder) = std::env::var(JOB) else { return };
    let mut stage = Stage::new();
    stage.target = Path::new(&folder).join("app.db");
    let backup = image("new", 5, "delete");
    let Ok(mut restore) = stage.begin(&stage.request(RestoreMode::Swap), &backup) else {
        panic!("it can be planned")
    };
    let text = match restoring::run_from(&mut *restore, &backup, None) {
        Ok(()) => "done".to_owned(),
        Err(RestoreError::Database(error)) => {
            format!("{:?}: {error}; {}", error.kind, error.hint.as_deref().unwrap_or_default())
        }
        Err(error) => error.to_string(),
    };
    restore.roll_back().unwrap();
    println!("<{text}>");
}

/// Restores as nobody, and returns what came of it; `None` where that cannot be tried here.
fn as_nobody(folder: &Path) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(JOB, folder).env("TMPDIR", "/tmp").current_dir("/");
    let output = command.uid(NOBODY).gid(NOBODY).output().ok()?;
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, rest) = text.split_once('<').expect(&text);
    Some(rest.split_once('>').unwrap().0.to_owned())
}

fn folder(mode: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    database(&folder.path().join("app.db"), "old", 5, "delete");
    folder
}

#[test]
fn a_folder_that_may_not_be_written() {
    let folder = folder(0o755);
    let Some(text) = as_nobody(folder.path()) else { return };
    assert!(text.starts_with("Unwritable: ") && text.contains("permission denied"), "{text}");
    assert!(text.contains("run it as a user who may write to"), "{text}");
    assert_eq!(names(folder.path()), ["app.db"]);
}

#[test]
fn an_owner_whose_file_cannot_be_made() {
    let folder = folder(0o777);
    let Some(text) = as_nobody(folder.path()) else { return };
    assert!(text.starts_with("Unwritable: ") && text.contains("belongs to an owner"), "{text}");
    assert_eq!(names(folder.path()), ["app.db"]);
}

#[test]
fn ones_own_database_may_be_replaced_even_if_it_is_read_only() {
    let folder = folder(0o777);
    let path = folder.path().join("app.db");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    if std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).is_err() {
        return;
    }
    let Some(text) = as_nobody(folder.path()) else { return };
    assert_eq!(text, "done");
    assert_eq!(names(folder.path()), ["app.db", "app.db.safety-20261121T020000Z"]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
}
