//! The two programs that are measured, called alike: each with a repository, a home and a cache of its own.

use super::process::{Taken, folder_bytes, measure};
use std::path::{Path, PathBuf};
use std::process::Command;

const PASSWORD: &str = "bench";

/// One of the two programs.
pub(super) struct Contender<'a> {
    pub(super) program: &'a Path,
    pub(super) ours: bool,
    pub(super) folder: PathBuf,
}

impl Contender<'_> {
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("RESTIC_REPOSITORY", self.folder.join("repository"))
            .env("RESTIC_CACHE_DIR", self.folder.join("cache"))
            .env("BACKSTAY_PASSWORD", PASSWORD)
            .env("BACKSTAY_REPOSITORY", self.folder.join("repository"))
            .env("HOME", &self.folder)
            .env_remove("XDG_CACHE_HOME")
            .env_remove("XDG_STATE_HOME");
        command
    }

    pub(super) fn init(&self) -> Result<(), String> {
        let _ = std::fs::remove_dir_all(&self.folder);
        std::fs::create_dir_all(&self.folder).map_err(|error| error.to_string())?;
        let mut command = self.command();
        if self.ours {
            command.args(["init", "--repository"]).arg(self.folder.join("repository"));
        } else {
            command.arg("init");
        }
        measure(&mut command).map(drop)
    }

    pub(super) fn backup(&self, database: &Path) -> Result<Taken, String> {
        warm(database)?;
        measure(self.command().arg("backup").arg(database))
    }

    pub(super) fn restore(&self, database: &Path, verified: bool) -> Result<Taken, String> {
        let out = self.folder.join("restored");
        let mut command = self.command();
        if self.ours {
            command
                .arg("restore")
                .arg(format!("{}@latest", database.display()))
                .arg("--to-new")
                .arg(&out)
                .arg("--yes");
            if !verified {
                command.arg("--no-verify");
            }
        } else {
            command.args(["restore", "latest", "--target"]).arg(&out);
        }
        let taken = measure(&mut command)?;
        let removed = if out.is_dir() { std::fs::remove_dir_all(&out) } else { std::fs::remove_file(&out) };
        removed.map_err(|error| error.to_string())?;
        Ok(taken)
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        folder_bytes(&self.folder.join("repository"))
    }
}

/// Reads the file, or the files of a folder, once, so that both find them in the page cache.
fn warm(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| error.to_string())?;
        return entries.filter_map(Result::ok).try_for_each(|entry| warm(&entry.path()));
    }
    let mut file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    std::io::copy(&mut file, &mut std::io::sink()).map_err(|error| error.to_string())?;
    Ok(())
}

/// Builds the release binary and returns its path.
pub(super) fn build(root: &Path) -> Result<PathBuf, String> {
    let status = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--release", "--package", "backstay"])
        .status();
    match status {
        Ok(status) if status.success() => {}
        _ => return Err("the release build failed".to_owned()),
    }
    Ok(root.join("target/release/backstay"))
}
