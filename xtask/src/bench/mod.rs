//! `cargo xtask bench`: our program beside stock restic, in turn in one run, on the same input.
//!
//! The machine is noisy, so what counts is the ratio of medians of runs that alternate. Both write to fresh
//! repositories on the same disk with fsync on, both find their input in the page cache, both derive their keys as
//! slowly as restic does.

mod contender;
mod many;
mod orders;
mod process;
mod sqlite;

use std::path::{Path, PathBuf};

/// Runs the named benches; all where none is named.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let mut names: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.push("all");
    }
    for name in names {
        match name {
            "many" => many::run(root, &folder(root)?)?,
            "sqlite" => sqlite::run(root, &folder(root)?)?,
            "all" => {
                sqlite::run(root, &folder(root)?)?;
                many::run(root, &folder(root)?)?;
            }
            other => return Err(format!("there is no bench `{other}`; there are: many, sqlite, all")),
        }
    }
    Ok(())
}

/// Inputs are kept here between runs; they take half a minute to make.
fn folder(root: &Path) -> Result<PathBuf, String> {
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    Ok(folder)
}
