//! The programs that hold the tests: built by cargo, then run two at a time.
//!
//! Each writes to a file of its own, which is shown when it has ended: nothing is mixed, and of one that hangs the file
//! in `target/test-output` tells how far it came.

use super::Counts;
use crate::Failure;
use crate::tools::cargo;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How many run at once.
const AT_ONCE: usize = 2;

/// A program with tests.
pub(super) struct TestProgram {
    executable: PathBuf,
    /// Where the tests expect to be started.
    package: PathBuf,
}

/// Builds all of them.
pub(super) fn build(root: &Path, environment: &[(&str, PathBuf)]) -> Result<Vec<TestProgram>, Failure> {
    let mut command = cargo(root);
    command.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    command.envs(environment.iter().map(|(name, value)| (name, value))).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("the tests cannot be built: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(test_program).collect())
}

/// Reads one message of cargo; `None` where it is not about a program with tests.
fn test_program(message: &str) -> Option<TestProgram> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let executable = message["executable"].as_str()?.into();
    let package = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    Some(TestProgram { executable, package })
}

/// Runs all of them and adds up what they counted. One that fails, or dies, does not end the others.
pub(super) fn run(
    root: &Path,
    programs: &[TestProgram],
    environment: &[(&str, PathBuf)],
) -> Result<(Counts, Result<(), Failure>), Failure> {
    let outputs = root.join("target").join("test-output");
    fs::create_dir_all(&outputs).map_err(|error| format!("{} cannot be made: {error}", outputs.display()))?;
    let next = AtomicUsize::new(0);
    let done = Mutex::new((Counts::default(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = one(program, &outputs, environment);
                    // Held while it is shown, so that outputs follow each other.
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcome {
                        Ok((shown, success)) => {
                            print!("{shown}");
                            shown.lines().for_each(|line| done.0.line(line));
                            if !success {
                                done.1.push(program.executable.display().to_string());
                            }
                        }
                        Err(failure) => done.1.push(failure),
                    }
                }
            });
        }
    });
    let (counts, failed) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let outcome = if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) };
    Ok((counts, outcome))
}

/// Runs one; returns what it wrote, and whether it succeeded.
fn one(
    program: &TestProgram,
    outputs: &Path,
    environment: &[(&str, PathBuf)],
) -> Result<(String, bool), Failure> {
    let name = program.executable.file_name().unwrap_or_default().to_string_lossy();
    let path = outputs.join(format!("{name}.out"));
    let failed = |error: std::io::Error| format!("{name}: {error}");
    let file = File::create(&path).map_err(failed)?;
    let started = Instant::now();
    let status = Command::new(&program.executable)
        .current_dir(&program.package)
        .env("CARGO_MANIFEST_DIR", &program.package)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(failed)?)
        .stderr(file)
        .status()
        .map_err(failed)?;
    let output = fs::read(&path).map_err(failed)?;
    let seconds = started.elapsed().as_secs_f64();
    let shown = format!("\n{name}, {seconds:.1} s:{}", String::from_utf8_lossy(&output));
    Ok((shown, status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_with_tests_are_taken_from_what_cargo_says() {
        let built = r#"{"reason":"compiler-artifact","manifest_path":"/a/crates/x/Cargo.toml","profile":{"test":true},"executable":"/a/target/x-1"}"#;
        let program = test_program(built).map(|program| (program.executable, program.package));
        assert_eq!(program, Some(("/a/target/x-1".into(), "/a/crates/x".into())));
        assert!(test_program(&built.replace("true", "false")).is_none());
        assert!(test_program(&built.replace("\"/a/target/x-1\"", "null")).is_none());
        assert!(test_program("warning: unused").is_none());
    }
}
