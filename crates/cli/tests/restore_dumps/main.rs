//! `restore FILE|FOLDER --target …`, through the binary: dumps that stock tools made come back byte for byte or row for row, a
//! damaged one leaves the target as it was, and an older one is never taken in silence.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod by_hand;
mod folders;
mod inserts;
mod postgres;
mod reach;
mod rows;
mod sqlite;
#[path = "../support/mod.rs"]
mod support;
mod text;

use std::path::{Path, PathBuf};
use std::process::Command;
use support::Machine;

/// What a stock tool writes to standard output.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Packs a file as `gzip -c` and the others do; returns the path of what they made.
pub(crate) fn pack(program: &str, ending: &str, from: &Path) -> PathBuf {
    let packed = PathBuf::from(format!("{}{ending}", from.display()));
    std::fs::write(&packed, tool(program, &["-c", &from.display().to_string()])).unwrap();
    packed
}

/// What stock `sqlite3` writes of a database.
pub(crate) fn dump(path: &Path) -> Vec<u8> {
    tool("sqlite3", &["-readonly", &path.display().to_string(), ".dump"])
}

/// The names of the files in the folder of a test, without scratch and home.
pub(crate) fn names(machine: &Machine, folder: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(machine.path(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Nothing is left in scratch, whatever happened.
pub(crate) fn clean(machine: &Machine) {
    let scratch = machine.root.join("home/.cache/backstay/scratch");
    let left: Vec<_> = std::fs::read_dir(scratch).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}
