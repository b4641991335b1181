//! `verify` of dump files, through the binary: what stock tools wrote passes in every form and packing, what is damaged, cut,
//! empty, old or no dump fails with its reason, and no file is touched.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod archives;
mod deep;
mod deep_postgres;
mod encrypted;
mod lies;
mod memory;
mod neo4j;
mod rules;
mod settings;
mod sqlite;
#[path = "../support/mod.rs"]
mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Machine, Outcome, fingerprint};

/// The programs that pack, and their endings.
pub(crate) const PROGRAMS: [(&str, &str); 5] =
    [("gzip", ".gz"), ("zstd", ".zst"), ("lz4", ".lz4"), ("xz", ".xz"), ("bzip2", ".bz2")];

/// What a stock program prints.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Packs a file as `gzip`, `xz` and the others do, beside it.
pub(crate) fn pack(program: &str, ending: &str, from: &Path) -> PathBuf {
    let packed = PathBuf::from(format!("{}{ending}", from.display()));
    std::fs::write(&packed, tool(program, &["-c", &from.display().to_string()])).unwrap();
    packed
}

/// What stock `sqlite3` writes of a database.
pub(crate) fn dump(path: &Path) -> String {
    String::from_utf8(tool("sqlite3", &["-readonly", &path.display().to_string(), ".dump"])).unwrap()
}

/// Verifies, and holds the folder `dumps` against what it was and scratch against being empty.
pub(crate) fn verify(machine: &Machine, code: i32, arguments: &[&str]) -> Value {
    let before = fingerprint(&machine.path("dumps"));
    let outcome = machine.run(&[&["verify"], arguments, &["--json"]].concat());
    assert_eq!(outcome.code, code, "{arguments:?}: {} {}", outcome.out, outcome.err);
    assert_eq!(before, fingerprint(&machine.path("dumps")), "{arguments:?} touched the files");
    nothing_left(machine);
    outcome.json()
}

/// Scratch is empty.
pub(crate) fn nothing_left(machine: &Machine) {
    let scratch = machine.root.join("home/.cache/backstay/scratch");
    let left: Vec<_> = std::fs::read_dir(scratch).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "left {left:?}");
}

/// The items of a report, by the names of the files.
pub(crate) fn item<'a>(report: &'a Value, name: &str) -> &'a Value {
    let files = report["files"].as_array().unwrap();
    let found = files.iter().find(|item| item["path"].as_str().unwrap().ends_with(&format!("/{name}")));
    found.unwrap_or_else(|| panic!("{name} is not in {report}"))
}

/// A check of an item.
pub(crate) fn check<'a>(item: &'a Value, name: &str) -> &'a Value {
    let checks = item["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {item}"))
}

/// Why a file failed; it must have.
pub(crate) fn problem<'a>(report: &'a Value, name: &str) -> &'a str {
    let item = item(report, name);
    assert_eq!(item["valid"], false, "{item}");
    item["error"].as_str().unwrap()
}

pub(crate) fn text(outcome: &Outcome) -> String {
    format!("{}{}", outcome.out, outcome.err)
}
