//! Folders of dump files of any tool, through the binary: what `prune FOLDER` removes, what it never touches, and what it
//! refuses; each beside the line of a script that it replaces.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod faults;
mod left_alone;
mod postgres;
mod repository;
mod restoring;
mod rules;
mod scripts;
#[path = "../support/mod.rs"]
mod support;
mod worthless;

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::Machine;

/// What `sqlite3 FILE .dump` writes.
pub(crate) const SQLITE_TEXT: &str =
    "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t(x);\nINSERT INTO t VALUES(1);\nCOMMIT;\n";
/// What `pg_dump` writes, in short.
pub(crate) const POSTGRES_TEXT: &str = "--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\
    CREATE TABLE public.t (x integer);\n\n--\n-- PostgreSQL database dump complete\n--\n\n";

/// A file in the folder of dumps.
pub(crate) fn dump(machine: &Machine, name: &str, content: &[u8]) -> PathBuf {
    let path = machine.path("dumps").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

/// SQL text, packed by stock `gzip`.
pub(crate) fn packed(machine: &Machine, name: &str) -> PathBuf {
    let path = dump(machine, name, b"");
    std::fs::write(&path, gzip(SQLITE_TEXT.as_bytes())).unwrap();
    path
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, content).unwrap();
    let output = Command::new("gzip").arg("-c").arg(&plain).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// The names that the folder of dumps holds.
pub(crate) fn left(machine: &Machine) -> BTreeSet<String> {
    names(&machine.path("dumps"))
}

pub(crate) fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    entries.map(|name| name.to_string_lossy().into_owned()).collect()
}

pub(crate) fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Prunes the folder of dumps, and returns the report.
pub(crate) fn prune(machine: &Machine, code: i32, arguments: &[&str]) -> Value {
    let outcome = machine.run(&[&["prune", "dumps", "--json"], arguments].concat());
    assert_eq!(outcome.code, code, "{arguments:?}: {} {}", outcome.out, outcome.err);
    outcome.json()
}

/// The names and reasons of a list of a report.
pub(crate) fn reasons(report: &Value, list: &str) -> Vec<(String, String)> {
    let item = |item: &Value| {
        let path = Path::new(item["path"].as_str().unwrap());
        let reasons: Vec<&str> =
            item["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap()).collect();
        (path.file_name().unwrap().to_string_lossy().into_owned(), reasons.join(", "))
    };
    report[list].as_array().unwrap().iter().map(item).collect()
}
