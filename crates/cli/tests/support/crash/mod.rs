//! A machine that crashes on purpose: its own home, repository and database, on which the program is killed at a system
//! call or loses what it had not made durable, and a look at what is left that mends nothing.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

pub mod backups;
pub mod content;
pub mod restores;
pub mod strace;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

pub const PASSWORD: &str = "correct horse battery staple";

/// Whether every point is tried, not a sample.
pub fn long() -> bool {
    std::env::var_os("BACKSTAY_LONG").is_some()
}

/// The seed of what is drawn: fixed, unless `BACKSTAY_SEED` says another.
pub fn seed() -> u64 {
    std::env::var("BACKSTAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121)
}

/// Numbers that are the same from run to run (SplitMix64).
pub struct Draw(pub u64);

impl Draw {
    /// Returns a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }

    /// Returns `count` of them in their order, or all.
    pub fn sample<T: Clone>(&mut self, of: &[T], count: usize) -> Vec<T> {
        let mut left: Vec<usize> = (0..of.len()).collect();
        let mut drawn: Vec<usize> =
            (0..count.min(of.len())).map(|_| left.swap_remove(self.below(left.len()))).collect();
        drawn.sort_unstable();
        drawn.into_iter().map(|index| of[index].clone()).collect()
    }
}

/// What a run of the program came to.
pub struct Outcome {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Outcome {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }
}

/// A machine. What a power cut may reach is below `disk`; what the test keeps for itself is beside it.
pub struct Stage {
    _folder: tempfile::TempDir,
    pub root: PathBuf,
    pub disk: PathBuf,
    /// The zone of the programs: what day it is there.
    pub zone: String,
    /// Whether the program opens the repository by a key file alone.
    by_key_file: bool,
}

impl Stage {
    /// Makes one with an empty repository, whose key is weak so that it opens at once.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let disk = root.join("disk");
        for name in ["home", "work"] {
            std::fs::create_dir_all(disk.join(name)).unwrap();
        }
        let stage = Self { _folder: folder, root, disk, zone: "UTC".to_owned(), by_key_file: false };
        let storage = storage::LocalStorage::create(stage.repository()).unwrap();
        let options =
            restic::CreateOptions { derivation_passes: Some(1), ..restic::CreateOptions::default() };
        restic::Repository::create(Arc::new(storage), &flow::Secret::new(PASSWORD), options).unwrap();
        stage
    }

    /// As [`Stage::new`], with the password in a key file in the home, and nowhere else.
    pub fn with_key_file() -> Self {
        let stage = Self { by_key_file: true, ..Self::new() };
        std::fs::create_dir_all(stage.keys()).unwrap();
        std::fs::write(stage.keys().join("first.key"), format!("{PASSWORD}\n")).unwrap();
        stage
    }

    /// The folder of key files.
    pub fn keys(&self) -> PathBuf {
        self.disk.join("home/.config/backstay/keys")
    }

    pub fn work(&self) -> PathBuf {
        self.disk.join("work")
    }

    pub fn target(&self) -> PathBuf {
        self.work().join("app.db")
    }

    pub fn record(&self) -> PathBuf {
        beside(&self.target(), ".backstay-restore")
    }

    pub fn repository(&self) -> PathBuf {
        self.disk.join("repository")
    }

    /// Gives a command the environment of this machine, and nothing else.
    pub fn settle<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env_clear();
        // Its system calls are counted: none may be there for the sake of counters.
        command.envs(testkit::no_counters());
        if !self.by_key_file {
            command.env("BACKSTAY_PASSWORD", PASSWORD);
        }
        command
            .env("HOME", self.disk.join("home"))
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TZ", &self.zone)
            .env("TMPDIR", &self.root)
            .env("BACKSTAY_REPOSITORY", self.repository())
            .env("RESTIC_REPOSITORY", self.repository())
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("RESTIC_CACHE_DIR", self.root.join("restic-cache"))
            .stdin(Stdio::null())
            .current_dir(&self.root)
    }

    /// Returns the program with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        self.settle(&mut command).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(&mut self.command(arguments))
    }

    /// Runs what must succeed.
    pub fn done(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {} {}", outcome.out, outcome.err);
        outcome
    }

    pub fn back_up(&self) -> Outcome {
        self.done(&["backup", &self.target().display().to_string(), "--json"])
    }
}

/// The program under test, or the one that `BACKSTAY_PROGRAM` names (a release build, to measure).
pub fn program() -> PathBuf {
    std::env::var_os("BACKSTAY_PROGRAM")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_backstay")), PathBuf::from)
}

pub fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Empties a folder of files.
pub fn empty(folder: &Path) {
    for name in names(folder) {
        std::fs::remove_file(folder.join(name)).unwrap();
    }
}
