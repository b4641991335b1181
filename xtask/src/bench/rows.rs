//! One stream of 1.5 GB of rows: stored, stored again, read back.
//!
//! No command gives raw rows yet, so our side is an example of the crate `repository`, which does what the binary does
//! with a part of content rows. Stock restic reads the same file from its standard input.

use super::contender::{Contender, Opens, PASSWORD, build_package, warm};
use super::process::{Taken, measure, measure_with};
use super::table::Table;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ROUNDS: usize = 3;
const BYTES: &str = "1500000000";

/// The figures of one program, a value a round.
#[derive(Default)]
struct Figures {
    first: Vec<f64>,
    again: Vec<f64>,
    read: Vec<f64>,
    memory: f64,
    stored: f64,
}

pub(super) fn run(root: &Path, folder: &Path) -> Result<(), String> {
    build_package(root, &["repository", "--example", "row_stream"])?;
    let program = root.join("target/release/examples/row_stream");
    let rows = rows(&program, folder)?;
    let ours = Contender::ours(&program, Opens::Password, folder.join("rows-backstay"));
    let restic = Contender::restic(folder.join("rows-restic"));
    let mut figures = [Figures::default(), Figures::default()];
    for round in 0..ROUNDS {
        eprintln!("rows: round {} of {ROUNDS} …", round + 1);
        for (contender, figures) in [&ours, &restic].into_iter().zip(&mut figures) {
            if contender.ours {
                contender.clear()?;
                measure(&mut example(contender, "init"))?;
            } else {
                contender.init()?;
            }
            let mut memory = 0;
            let mut seconds = |taken: Taken| {
                memory = memory.max(taken.memory_bytes);
                taken.seconds
            };
            figures.first.push(seconds(back_up(contender, &rows)?));
            figures.stored = contender.stored_bytes();
            figures.again.push(seconds(back_up(contender, &rows)?));
            figures.read.push(seconds(read(contender)?));
            figures.memory = figures.memory.max(memory as f64);
        }
    }
    let [ours, restic] = figures;
    let mut table =
        Table::new(&format!("Row text of 1.5 GB, medians of {ROUNDS} rounds, in turn with restic"));
    table.seconds("first backup", &ours.first, &restic.first, Some(0.4));
    table.seconds("again", &ours.again, &restic.again, Some(0.4));
    table.seconds("read back", &ours.read, &restic.read, Some(0.4));
    table.megabytes("stored", ours.stored, restic.stored, Some(1.05));
    table.memory(ours.memory, restic.memory);
    table.print()
}

/// Makes the rows where they are not there yet.
fn rows(program: &Path, folder: &Path) -> Result<PathBuf, String> {
    let path = folder.join("rows.copy");
    if !path.exists() {
        eprintln!("making {} …", path.display());
        let partial = folder.join("rows.partial");
        measure(Command::new(program).arg("make").arg(&partial).arg(BYTES))?;
        std::fs::rename(&partial, &path).map_err(|error| error.to_string())?;
    }
    Ok(path)
}

fn example(contender: &Contender<'_>, verb: &str) -> Command {
    let mut command = contender.command();
    command.env("BACKSTAY_PASSWORD", PASSWORD).arg(verb).arg(contender.repository()).arg(contender.cache());
    command
}

fn back_up(contender: &Contender<'_>, rows: &Path) -> Result<Taken, String> {
    warm(rows)?;
    if contender.ours {
        return measure(example(contender, "backup").arg(rows));
    }
    let input = File::open(rows).map_err(|error| error.to_string())?;
    let mut command = contender.command();
    command.args(["backup", "--stdin", "--stdin-filename", "rows"]);
    measure_with(&mut command, Stdio::from(input))
}

fn read(contender: &Contender<'_>) -> Result<Taken, String> {
    if contender.ours {
        measure(&mut example(contender, "read"))
    } else {
        measure(contender.command().args(["dump", "latest", "/rows"]))
    }
}
