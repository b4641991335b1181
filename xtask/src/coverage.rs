//! `cargo xtask coverage`: which lines the tests reach, by the compiler's own counters, those of the programs included
//! that tests start.
//!
//! Each process adds its counters to a few files when it ends; one that is killed adds none. Only the crates of the
//! workspace count, in a target folder of their own, and what is compiled for tests alone does not.

mod lines;

use crate::Failure;
use crate::test;
use crate::tools::{cargo, run as run_command};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a wrapper of the compiler does for the crates of the workspace.
const WRAPPER: &str = "#!/bin/sh\nexec \"$@\" -C instrument-coverage\n";

/// How many of a hundred lines the tests have to reach.
const REQUIRED_PERCENT: f64 = 85.0;

/// Measures the coverage; further arguments go to `cargo test`. Tests that fail are told, and counted all the same.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    let tools = tools(root)?;
    let folder = root.join("target/coverage");
    let profiles = folder.join("profiles");
    let _ = std::fs::remove_dir_all(&profiles);
    std::fs::create_dir_all(&profiles).map_err(|error| format!("{}: {error}", profiles.display()))?;
    let environment = [
        ("RUSTC_WORKSPACE_WRAPPER", wrapper(&folder)?),
        ("CARGO_TARGET_DIR", folder.clone()),
        // Several processes share a file, and add up in it: tests start many thousands.
        ("LLVM_PROFILE_FILE", profiles.join("%8m.profraw")),
    ];
    let programs = build(root, &environment, arguments)?;
    let tested = test::run_in(root, arguments, &environment);
    let reached = lines::Reached::of(root, &collect(&tools, &folder, &profiles, &programs)?);
    let missed = folder.join("missed.txt");
    std::fs::write(&missed, reached.missed()).map_err(|error| format!("{}: {error}", missed.display()))?;
    println!("{}\nWhat is not reached: {}", reached.table(), missed.display());
    tested?;
    let percent = reached.percent();
    if percent < REQUIRED_PERCENT {
        return Err(format!("{percent:.1} % of the lines are reached, {REQUIRED_PERCENT} % are required"));
    }
    Ok(())
}

/// Returns the folder with the compiler's own LLVM programs, which read its counters; installs them where they are missing.
fn tools(root: &Path) -> Result<PathBuf, Failure> {
    let output = Command::new("rustc").args(["--print", "target-libdir"]).current_dir(root).output();
    let output = output.map_err(|error| format!("rustc cannot be started: {error}"))?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let folder = libraries.parent().map(|folder| folder.join("bin")).unwrap_or_default();
    let are_there = || ["llvm-cov", "llvm-profdata"].iter().all(|tool| folder.join(tool).is_file());
    if !are_there() {
        eprintln!("Installing the component llvm-tools.");
        run_command(Command::new("rustup").args(["component", "add", "llvm-tools"]).current_dir(root))?;
    }
    match are_there() {
        true => Ok(folder),
        false => Err(format!("{} has no llvm-cov\nhint: rustup component add llvm-tools", folder.display())),
    }
}

fn wrapper(folder: &Path) -> Result<PathBuf, Failure> {
    let path = folder.join("rustc-with-counters");
    let written = std::fs::write(&path, WRAPPER)
        .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)));
    written.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// Builds all tests, and returns the programs that were made: tests, and what they start.
fn build(
    root: &Path,
    environment: &[(&str, PathBuf)],
    arguments: &[String],
) -> Result<Vec<PathBuf>, Failure> {
    let mut command = cargo(root);
    command.args(["test", "--workspace", "--no-run", "--message-format=json"]);
    let of_cargo = arguments.iter().take_while(|argument| *argument != "--");
    command.args(of_cargo.filter(|argument| *argument != "--long"));
    command.envs(environment.iter().map(|(name, value)| (name, value))).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("the tests cannot be built: {}", output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Ok(messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).collect())
}

/// Returns which line was reached how often, in the format of lcov.
fn collect(tools: &Path, folder: &Path, profiles: &Path, programs: &[PathBuf]) -> Result<String, Failure> {
    let merged = folder.join("all.profdata");
    let raw = std::fs::read_dir(profiles).map_err(|error| format!("{}: {error}", profiles.display()))?;
    let raw: Vec<PathBuf> = raw.filter_map(|file| Some(file.ok()?.path())).collect();
    let mut merge = Command::new(tools.join("llvm-profdata"));
    // What a process left half written says nothing.
    merge.args(["merge", "-sparse", "--failure-mode=all", "-o"]).arg(&merged).args(&raw);
    run_command(&mut merge)?;
    let mut export = Command::new(tools.join("llvm-cov"));
    export.args(["export", "-format=lcov"]).arg("-instr-profile").arg(&merged);
    for (number, program) in programs.iter().enumerate() {
        if number > 0 {
            export.arg("-object");
        }
        export.arg(program);
    }
    let output = export.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("llvm-cov cannot be started: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("llvm-cov failed: {}", output.status)),
    }
}
