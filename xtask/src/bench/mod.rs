//! `cargo xtask bench`: our program beside stock restic, in turn in one run, on the same input.
//!
//! The machine is noisy, so what counts is the ratio of medians of runs that alternate. Both write to fresh
//! repositories on the same disk with fsync on, both find their input in the page cache, and each derives its key.

mod contender;
mod files;
mod many;
mod orders;
mod postgres;
mod postgres_server;
mod process;
mod rows;
mod sqlite;
mod table;

use std::path::{Path, PathBuf};

/// Runs the named benches; all where none is named.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let mut names: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.extend(["rows", "sqlite", "many", "postgres", "files"]);
    }
    let folder = folder(root)?;
    let mut missed = Vec::new();
    for name in names {
        let (bench, size) = name.split_once('=').map_or((name, None), |(bench, size)| (bench, Some(size)));
        let outcome = match bench {
            "rows" => rows::run(root, &folder),
            "many" => many::run(root, &folder),
            "sqlite" => sqlite::run(root, &folder),
            "files" => files::run(root, &folder),
            "postgres" => postgres::run(root, &folder, size),
            other => {
                return Err(format!(
                    "there is no bench `{other}`; there are: rows, sqlite, many, postgres, files"
                ));
            }
        };
        // The other benches are still worth a look.
        missed.extend(outcome.err().map(|failure| format!("{name}: {failure}")));
    }
    if missed.is_empty() { Ok(()) } else { Err(missed.join("; ")) }
}

/// Inputs are kept here between runs; they take half a minute to make.
fn folder(root: &Path) -> Result<PathBuf, String> {
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    Ok(folder)
}
