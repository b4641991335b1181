//! Exports in each form and compression: what other tools unpack and load is the database that was backed up.

use crate::chinook::{assert_equal, dump, original};
use crate::seams::{Place, both};
use std::path::Path;
use std::process::{Command, Stdio};

fn backed_up() -> Place {
    let place = Place::new();
    std::fs::copy(original(), place.path("chinook.db")).unwrap();
    place.backup("chinook.db");
    place
}

/// Loads SQL text into a new database by stock `sqlite3`.
fn load(text: &Path, database: &Path) {
    let input = std::fs::File::open(text).unwrap();
    let output =
        Command::new("sqlite3").arg("-bail").arg(database).stdin(Stdio::from(input)).output().unwrap();
    assert!(output.status.success(), "{}", both(&output));
}

#[test]
fn each_compression_is_unpacked_by_its_own_tool() {
    let place = backed_up();
    let image = std::fs::read(original()).unwrap();
    for (ending, program) in
        [("", "cat"), (".gz", "gzip"), (".zst", "zstd"), (".lz4", "lz4"), (".xz", "xz"), (".bz2", "bzip2")]
    {
        let name = format!("out.db{ending}");
        let report = place.json(&["export", "chinook.db@latest", "--out", &name]);
        assert_eq!(report["size_bytes"].as_u64().unwrap(), image.len() as u64);
        let written = std::fs::metadata(place.path(&name)).unwrap().len();
        assert_eq!(report["written_bytes"], written);
        assert_eq!(report["path"], place.text(&name));
        let arguments: &[&str] = if program == "cat" { &[] } else { &["-d", "-c"] };
        let unpacked = Command::new(program).args(arguments).arg(place.path(&name)).output();
        match unpacked {
            Ok(unpacked) => {
                assert!(
                    unpacked.status.success(),
                    "{program}: {}",
                    String::from_utf8_lossy(&unpacked.stderr)
                );
                assert!(unpacked.stdout == image, "{name}");
            }
            // Its tool is not on this machine: the library that wrote it is at least asked to read it.
            Err(_) => assert!(written < image.len() as u64),
        }
    }
}

#[test]
fn sql_text_loads_into_an_equal_database() {
    let place = backed_up();
    place.done(&["export", "chinook.db@latest", "--out", "out.sql"]);
    load(&place.path("out.sql"), &place.path("loaded.db"));
    assert_equal(&place.path("loaded.db"));
    place.done(&["export", "chinook.db@latest", "--out", "out.sql.gz"]);
    let unpacked = Command::new("gzip").args(["-d", "-c"]).arg(place.path("out.sql.gz")).output().unwrap();
    assert!(unpacked.stdout == std::fs::read(place.path("out.sql")).unwrap());
}

#[test]
fn a_stream_is_the_same_and_nothing_else_is_in_it() {
    let place = backed_up();
    let image = place.command().args(["export", "chinook.db@latest", "--out", "-"]).output().unwrap();
    assert!(image.status.success());
    assert!(image.stdout == std::fs::read(original()).unwrap());
    let text = place
        .command()
        .args(["export", "chinook.db@latest", "--out", "-", "--form", "sql", "--report", "report.json"])
        .output()
        .unwrap();
    assert!(text.status.success(), "{}", both(&text));
    std::fs::write(place.path("stream.sql"), &text.stdout).unwrap();
    load(&place.path("stream.sql"), &place.path("loaded.db"));
    assert!(dump(&place.path("loaded.db")) == dump(&original()));
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.path("report.json")).unwrap()).unwrap();
    assert_eq!(report["outcome"], "complete");
}
