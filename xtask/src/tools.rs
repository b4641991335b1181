//! Programs that chores need: looking for them, and installing them where that is possible.

use crate::Failure;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program, and the Debian package that holds it.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// Returns the path of a program.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Makes sure that all programs are there: installs what is missing as root on Debian, says what is missing elsewhere.
pub(crate) fn provide(tools: &[Tool]) -> Result<(), Failure> {
    let missing = || tools.iter().filter(|tool| find(tool.program).is_none()).collect::<Vec<_>>();
    if missing().is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing().iter().map(|tool| tool.package).collect();
    if is_root() && find("apt-get").is_some() {
        eprintln!("Installing {}.", packages.join(", "));
        let install = || {
            let mut command = Command::new("apt-get");
            command.args(["install", "-y", "-q", "--no-install-recommends"]).args(&packages);
            command.env("DEBIAN_FRONTEND", "noninteractive");
            run(&mut command)
        };
        if install().is_err() {
            run(Command::new("apt-get").args(["update", "-q"]))?;
            install()?;
        }
    }
    let programs: Vec<&str> = missing().iter().map(|tool| tool.program).collect();
    if programs.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} not found\nhint: install the Debian packages: apt-get install {}",
        programs.join(", "),
        packages.join(" ")
    ))
}

/// Makes sure that a Python package is there, in an environment of its own below `target/tools`.
pub(crate) fn provide_wheel(root: &Path, module: &str, requirement: &str) -> Result<(), Failure> {
    let environment = root.join("target/tools/python");
    let python = environment.join("bin/python");
    let found = |python: &Path| {
        let script = format!("import {module}");
        Command::new(python).args(["-c", &script]).output().is_ok_and(|output| output.status.success())
    };
    if found(&python) {
        return Ok(());
    }
    eprintln!("Installing {requirement}.");
    if !environment.join("bin/pip").is_file() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    run(Command::new(environment.join("bin/pip")).args(["install", "-q", requirement]))
}

/// Runs a command to its end; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let name = command.get_program().display().to_string();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} failed: {status}")),
        Err(error) => Err(format!("{name} cannot be started: {error}")),
    }
}

/// Returns a cargo command in the checkout.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
