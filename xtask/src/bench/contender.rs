//! The two programs that are compared, each with a repository, a cache and a home of its own.

use super::process::{Taken, folder_bytes, measure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The password where one is used.
pub(super) const PASSWORD: &str = "bench";

/// How a program opens its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opens {
    /// By the key file that it made: what our program does where nobody gives a password.
    KeyFile,
    /// By a password.
    Password,
}

/// One of the programs.
pub(super) struct Contender<'a> {
    pub(super) program: &'a Path,
    pub(super) ours: bool,
    pub(super) opens: Opens,
    pub(super) folder: PathBuf,
}

impl<'a> Contender<'a> {
    /// Our program.
    pub(super) fn ours(program: &'a Path, opens: Opens, folder: PathBuf) -> Self {
        Self { program, ours: true, opens, folder }
    }

    /// Stock restic.
    pub(super) fn restic(folder: PathBuf) -> Self {
        Self { program: Path::new("restic"), ours: false, opens: Opens::Password, folder }
    }

    /// Returns its repository.
    pub(super) fn repository(&self) -> PathBuf {
        self.folder.join("repository")
    }

    /// Returns its cache.
    pub(super) fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// Begins a command line; where its files are is in the environment.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("RESTIC_REPOSITORY", self.repository())
            .env("RESTIC_CACHE_DIR", self.cache())
            .env("BACKSTAY_REPOSITORY", self.repository())
            .env("HOME", &self.folder);
        for variable in ["XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
            command.env_remove(variable);
        }
        match self.opens {
            Opens::Password => command.env("BACKSTAY_PASSWORD", PASSWORD),
            Opens::KeyFile => command.env_remove("BACKSTAY_PASSWORD"),
        };
        command
    }

    /// Makes a fresh repository, with nothing in home and cache.
    pub(super) fn init(&self) -> Result<(), String> {
        self.clear()?;
        let mut command = self.command();
        if self.ours {
            command.args(["init", "--repository"]).arg(self.repository());
        } else {
            command.arg("init");
        }
        measure(&mut command).map(drop)
    }

    /// Backs up a database, or a folder of them.
    pub(super) fn backup(&self, database: &Path) -> Result<Taken, String> {
        warm(database)?;
        measure(self.command().arg("backup").arg(database))
    }

    /// Empties its folder.
    pub(super) fn clear(&self) -> Result<(), String> {
        let _ = std::fs::remove_dir_all(&self.folder);
        std::fs::create_dir_all(&self.folder).map_err(|error| error.to_string())
    }

    /// Returns what its repository takes up.
    pub(super) fn stored_bytes(&self) -> f64 {
        folder_bytes(&self.repository()) as f64
    }
}

/// Reads the file, or the files of a folder, once, so that both find them in the page cache.
pub(super) fn warm(path: &Path) -> Result<(), String> {
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
    build_package(root, &["backstay"])?;
    Ok(root.join("target/release/backstay"))
}

/// Builds something of a package with optimisations.
pub(super) fn build_package(root: &Path, what: &[&str]) -> Result<(), String> {
    let status =
        Command::new("cargo").current_dir(root).args(["build", "--release", "--package"]).args(what).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err("the release build failed".to_owned()),
    }
}
