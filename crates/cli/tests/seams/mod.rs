//! What the tests through the binary share, beside a machine: a repository with a key that is cheap to derive, stock
//! restic on the same repository, fingerprints of whole trees, and processes that are killed or hold a file.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use crate::support::{Machine, Outcome, outcome};
use flow::Secret;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use storage::LocalStorage;

/// The password of every repository here, and of restic's own test repositories.
pub const PASSWORD: &str = "geheim";

/// A machine with a repository in `work/repo`, which is the one that commands use.
pub struct Place {
    pub machine: Machine,
}

impl Place {
    pub fn new() -> Self {
        let place = Self::without_repository();
        make_repository(&place.repository());
        place
    }

    pub fn without_repository() -> Self {
        Self { machine: Machine::new() }
    }

    /// With a repository of restic's own test suite.
    pub fn with_test_data(name: &str) -> Self {
        let place = Self::without_repository();
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/restic").join(name);
        let status =
            Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(place.path("")).status().unwrap();
        assert!(status.success());
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.machine.path(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.machine.text(name)
    }

    pub fn repository(&self) -> PathBuf {
        self.path("repo")
    }

    pub fn command(&self) -> assert_cmd::Command {
        let mut command = self.machine.command();
        command.env("BACKSTAY_PASSWORD", PASSWORD).env("BACKSTAY_REPOSITORY", self.repository());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(self.command().args(arguments))
    }

    /// Runs what must succeed.
    pub fn done(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 0, "{arguments:?}: {} {}", outcome.out, outcome.err);
        outcome
    }

    /// Runs what must succeed with `--json`.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        self.done(&[arguments, &["--json"]].concat()).json()
    }

    /// Backs up one database and returns the id.
    pub fn backup(&self, source: &str) -> String {
        let report = self.json(&["backup", source]);
        report["backups"][0]["id"].as_str().unwrap().to_owned()
    }

    /// Runs stock restic, which must succeed, and returns what it printed.
    pub fn restic(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.try_restic(arguments);
        assert!(output.status.success(), "restic {arguments:?}: {}", both(&output));
        output.stdout
    }

    pub fn restic_json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_slice(&self.restic(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Runs stock restic.
    pub fn try_restic(&self, arguments: &[&str]) -> Output {
        Command::new("restic")
            .args(arguments)
            .arg("--no-cache")
            .arg("-r")
            .arg(self.repository())
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("HOME", &self.machine.root)
            .env("TMPDIR", &self.machine.root)
            .current_dir(self.path(""))
            .output()
            .expect("restic must be installed")
    }

    /// The program as a plain process, for those who kill it.
    pub fn process(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("backstay"));
        command
            .args(arguments)
            .env_clear()
            .envs(testkit::counters())
            .env("HOME", self.machine.root.join("home"))
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TZ", "UTC")
            .env("BACKSTAY_PASSWORD", PASSWORD)
            .env("BACKSTAY_REPOSITORY", self.repository())
            .current_dir(self.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

/// Makes a repository whose key is cheap to derive: half a second for each command would be most of these tests.
pub fn make_repository(path: &Path) {
    let storage = Arc::new(LocalStorage::create(path).unwrap());
    let options = restic::CreateOptions { derivation_passes: Some(1), ..restic::CreateOptions::default() };
    restic::Repository::create(storage, &Secret::new(PASSWORD), options).unwrap();
}

/// Takes a lock of somebody else's on a repository: olga's, by a process that lives.
pub fn lock(place: &Place, kind: restic::LockKind) -> restic::LockGuard {
    let storage = Arc::new(LocalStorage::open(place.repository()).unwrap());
    let options = restic::OpenOptions::default();
    let repository = restic::Repository::open(storage, &Secret::new(PASSWORD), options).unwrap();
    let owner = restic::LockOwner {
        host: crate::support::host(),
        user: "olga".to_owned(),
        pid: std::process::id(),
        uid: 1000,
        gid: 1000,
    };
    repository.lock(kind, &owner, restic::LockOptions::default()).unwrap()
}

/// Returns what a process printed.
pub fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every file, folder and link below a folder, with mode and content.
pub fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let metadata = path.symlink_metadata().unwrap();
            let mode = metadata.permissions().mode();
            let content = if metadata.is_dir() {
                open.push(path.clone());
                "folder".to_owned()
            } else if metadata.is_symlink() {
                format!("-> {}", std::fs::read_link(&path).unwrap().display())
            } else {
                hash(&std::fs::read(&path).unwrap_or_default())
            };
            found.insert(path, format!("{mode:o} {content}"));
        }
    }
    found
}

pub fn hash(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files below a folder by their path in it.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    tree(folder)
        .into_keys()
        .filter(|path| path.symlink_metadata().unwrap().is_file())
        .map(|path| (path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

/// Runs SQL in a database file.
pub fn sql(path: &Path, text: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(text).unwrap();
}

/// Runs a tool that must succeed and returns what it printed.
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", both(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Another process that keeps a database open, until it is dropped.
pub struct Holding(Child);

impl Holding {
    /// Begins with some SQL; returns once it was done.
    pub fn begin(database: &Path, text: &str) -> Self {
        let mut child = Command::new("sqlite3")
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sqlite3 must be installed");
        writeln!(child.stdin.as_mut().unwrap(), "{text}\nSELECT 'holding';").unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "holding"));
        Self(child)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
