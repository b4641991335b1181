//! `import`, through the binary: dumps that stock tools made become backups of their own times, which stock restic finds
//! whole and stock `sqlite3` finds equal; what is no dump, or no whole one, becomes nothing, and no file is touched.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod forms;
mod hostile;
mod moments;
mod postgres;
mod refused;
#[path = "../seams/mod.rs"]
mod seams;
#[path = "../support/mod.rs"]
mod support;
mod targets;

use seams::{Place, both, tool};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn chinook() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/chinook/chinook.sqlite")
}

/// What stock `sqlite3` writes of a database.
pub(crate) fn dump(path: &Path) -> String {
    tool("sqlite3", &["-readonly", &path.display().to_string(), ".dump"])
}

/// Packs a file as `gzip`, `xz` and the others do, beside it.
pub(crate) fn pack(program: &str, ending: &str, from: &Path, to: &Path) -> PathBuf {
    let output = Command::new(program).arg("-c").arg(from).output().unwrap();
    assert!(output.status.success(), "{}", both(&output));
    let packed = PathBuf::from(format!("{}{ending}", to.display()));
    std::fs::write(&packed, output.stdout).unwrap();
    packed
}

/// The items of a report.
pub(crate) fn imports(report: &Value) -> &Vec<Value> {
    report["imports"].as_array().unwrap()
}

/// Imports, and holds the source folder against what it was.
pub(crate) fn import(place: &Place, code: i32, arguments: &[&str]) -> Value {
    let before = seams::tree(&place.path("dumps"));
    let outcome = place.run(&[&["import"], arguments, &["--json"]].concat());
    assert_eq!(outcome.code, code, "{arguments:?}: {} {}", outcome.out, outcome.err);
    assert_eq!(before, seams::tree(&place.path("dumps")), "{arguments:?} touched the files");
    let scratch = place.machine.root.join("home/.cache/backstay/scratch");
    let left: Vec<_> = std::fs::read_dir(scratch).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{arguments:?} left {left:?}");
    outcome.json()
}

/// How many backups there are.
pub(crate) fn backups(place: &Place) -> Vec<Value> {
    place.json(&["list"])["backups"].as_array().unwrap().clone()
}
