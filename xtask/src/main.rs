//! The project's own chores: `cargo xtask test`, `tidy`, `bench`, `coverage`. One file a chore.

mod bench;
mod coverage;
mod test;
mod tidy;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask CHORE

chores:
  test [--long] [ARGS]  install or find what the tests need, then run them all
                        (--long: the slow ones too; ARGS go to cargo test)
  tidy                  hold the sources against the house rules
  bench [NAME]          measure ours beside stock restic, in turn (rows, sqlite, many, postgres; postgres=100 for
                        a database of 100 MB), or beside gzip and zstd (files)
  coverage [ARGS]       measure which lines the tests reach (ARGS go to cargo test)";

/// A chore ended badly, with what a person needs to know.
type Failure = String;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first().map(|(chore, rest)| (chore.as_str(), rest)) {
        Some(("test", rest)) => test::run(&root(), rest),
        Some(("tidy", [])) => tidy::run(&root()),
        Some(("bench", rest)) => bench::run(&root(), rest),
        Some(("coverage", rest)) => coverage::run(&root(), rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the root of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}
