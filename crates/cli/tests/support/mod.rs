//! A machine for one test: a home of its own, a folder for databases, and the program with nothing else in its
//! environment.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use assert_cmd::Command;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) struct Machine {
    folder: tempfile::TempDir,
    pub(crate) root: PathBuf,
}

pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Outcome {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }
}

impl Machine {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("home")).unwrap();
        std::fs::create_dir(root.join("here")).unwrap();
        Self { folder, root }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join("here").join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("backstay"));
        command
            .env_clear()
            .envs(testkit::counters())
            .env("HOME", self.root.join("home"))
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TZ", "UTC")
            .env("TMPDIR", &self.root)
            .current_dir(self.root.join("here"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(self.command().args(arguments))
    }

    /// Runs what must succeed.
    pub(crate) fn done(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 0, "{arguments:?}: {} {}", outcome.out, outcome.err);
        outcome
    }

    pub(crate) fn database(&self, name: &str, rows: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT NOT NULL)").unwrap();
        connection
            .execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                 INSERT INTO t SELECT i, 'row ' || i FROM n",
                [rows],
            )
            .unwrap();
        path
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The program's only key file.
    pub(crate) fn key(&self) -> String {
        let keys = self.root.join("home/.config/backstay/keys");
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(keys).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        std::fs::read_to_string(files.pop().unwrap()).unwrap().trim().to_owned()
    }

    /// Replaces what differs from run to run: the folder, ids, process numbers, times.
    pub(crate) fn steady(&self, text: &str) -> String {
        let text = text.replace(&self.root.display().to_string(), "[ROOT]").replace(&host(), "[HOST]");
        let text = between(&between(&text, ".safety-", "."), "of space (", " are free");
        let mut steady = String::new();
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let word: String = rest.chars().take_while(|letter| letter.is_ascii_alphanumeric()).collect();
            if word.is_empty() {
                steady.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
            let hex =
                word.len() >= 8 && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            let after_process = steady.ends_with("process ");
            let time = rest.len() > 19 && rest.is_char_boundary(19) && is_time(&rest[..19]);
            if time {
                steady.push_str("[TIME]");
                rest = rest[19..].trim_start_matches(|letter: char| letter == '.' || letter.is_ascii_digit());
                rest = rest.strip_prefix('Z').unwrap_or(rest);
                continue;
            }
            steady.push_str(if hex {
                "[ID]"
            } else if after_process {
                "[PID]"
            } else {
                &word
            });
            rest = &rest[word.len()..];
        }
        steady
    }
}

/// Masks what stands between two texts.
fn between(text: &str, before: &str, after: &str) -> String {
    let mut parts = text.split(before);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.split_once(after).map_or("", |(_, rest)| rest);
        masked.push_str(&format!("{before}[…]{after}{rest}"));
    }
    masked
}

fn is_time(text: &str) -> bool {
    text.bytes().zip(b"0000-00-00T00:00:00").all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => byte == b'T' || byte == b' ',
        other => byte == *other,
    })
}

pub(crate) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}

pub(crate) fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub(crate) fn count(path: &Path) -> u32 {
    rusqlite::Connection::open(path)
        .unwrap()
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .unwrap()
}

/// The content of every file below a folder, by hash.
pub(crate) fn fingerprint(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else {
                let content = std::fs::read(&path).unwrap_or_default();
                let digest: String =
                    Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
                found.insert(path, digest);
            }
        }
    }
    found
}
