//! One plain file, and parts of databases, through the program: what it writes stock programs load, and it holds what
//! `pg_dump` with the same options has; what fails leaves nothing under the name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod broken;
mod files;
mod many;
mod parts;
#[path = "../seams/mod.rs"]
mod seams;
mod sqlite;
#[path = "../support/mod.rs"]
mod support;

use seams::Place;
use std::path::Path;
use std::process::Command;
use support::{Outcome, outcome};
use testkit::Cluster;

/// A database with every kind of object.
const EVERYTHING: &str = include_str!("../../../engines/tests/postgres_dump/everything.sql");

/// Makes a database with every kind of object.
fn make_everything(cluster: &Cluster, database: &str) {
    cluster.create(database);
    let roles = format!("\\set role_reader reader_{database}\n\\set role_owner 'the owner {database}'\n");
    cluster.sql(database, &format!("{roles}{EVERYTHING}"));
}

/// The program, with a server's own programs first.
fn command(place: &Place, cluster: &Cluster) -> assert_cmd::Command {
    let mut command = place.command();
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", cluster.programs().display()));
    command
}

fn run(place: &Place, cluster: &Cluster, arguments: &[&str]) -> Outcome {
    outcome(command(place, cluster).args(arguments))
}

#[track_caller]
fn done(place: &Place, cluster: &Cluster, arguments: &[&str]) -> Outcome {
    let outcome = run(place, cluster, arguments);
    assert_eq!(outcome.code, 0, "{arguments:?}: {} {}", outcome.out, outcome.err);
    outcome
}

/// Fails with what differs, as `diff` shows it.
#[track_caller]
fn assert_same(left: &str, right: &str, what: &str) {
    if left == right {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("left"), left).unwrap();
    std::fs::write(folder.path().join("right"), right).unwrap();
    let output = Command::new("diff").arg("-u").args(["left", "right"]).current_dir(folder.path()).output();
    let difference = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
    panic!("{what}: {}", difference.chars().take(4000).collect::<String>());
}

/// Loads a plain file into a new database by stock programs, which must not complain.
#[track_caller]
fn load(cluster: &Cluster, file: &Path, into: &str) {
    cluster.sql("postgres", &format!("DROP DATABASE IF EXISTS \"{into}\""));
    cluster.create(into);
    let name = file.display().to_string();
    let (program, arguments): (_, &[&str]) = match file.extension().and_then(|ending| ending.to_str()) {
        Some("sql") => {
            ("psql", &["-X", "-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-d", into, "-f", &name])
        }
        Some("dump") => ("pg_restore", &["-j2", "--exit-on-error", "-d", into, &name]),
        _ => ("pg_restore", &["--exit-on-error", "-d", into, &name]),
    };
    let output = cluster.command(program).args(arguments).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{name}: {}: {complaints}", output.status);
}

/// Unpacks a file by its own tool and returns what was in it.
#[track_caller]
fn unpacked(file: &Path) -> Vec<u8> {
    let program = match file.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => "gzip",
        Some("zst") => "zstd",
        Some("lz4") => "lz4",
        Some("xz") => "xz",
        Some("bz2") => "bzip2",
        _ => return std::fs::read(file).unwrap(),
    };
    let output = Command::new(program).args(["-d", "-c"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
