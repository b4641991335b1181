//! The lines and scripts that people have for folders of dumps, beside ours: the same files, the same exit codes, the same
//! content, and where the old ones lie, ours do not.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod commands;
mod lies;
mod scripts;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Output};
use support::Machine;

/// Runs a line of a shell script as its author would, and returns what came of it.
pub(crate) fn shell(machine: &Machine, line: &str) -> Output {
    Command::new("sh")
        .args(["-c", line])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", machine.root.join("home"))
        .env("TZ", "UTC")
        .current_dir(machine.path("."))
        .output()
        .unwrap()
}

/// The exit code of such a line.
pub(crate) fn code(machine: &Machine, line: &str) -> i32 {
    shell(machine, line).status.code().unwrap()
}

/// What stock `sqlite3` says that a database holds.
pub(crate) fn content(path: &Path) -> String {
    let output = Command::new("sqlite3").arg("-readonly").arg(path).arg(".dump").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The names in a folder, in order.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
