//! `cargo xtask coverage`: which lines the tests reach, by cargo-tarpaulin with the compiler's own counters.

use crate::Failure;
use crate::tools::{cargo, run as run_command};
use std::path::Path;
use std::process::Stdio;

/// Measures the coverage; further arguments go to tarpaulin.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    let found = cargo(root)
        .args(["tarpaulin", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("Installing cargo-tarpaulin.");
        run_command(cargo(root).args(["install", "--locked", "cargo-tarpaulin@^0.37"]))?;
    }
    let mut command = cargo(root);
    command.args(["tarpaulin", "--engine", "llvm", "--workspace", "--out", "Stdout", "--skip-clean"]);
    command.args(["--target-dir", "target/coverage"]);
    command.args(["--exclude-files", "xtask/*", "--exclude-files", "crates/testkit/*"]);
    command.args(["--exclude-files", "*/tests/*"]).args(arguments);
    run_command(&mut command)
}
