//! One SQLite file of 1.3 GB: first backup, unchanged, one row in a hundred changed, restored.

use super::contender::{Contender, build};
use super::orders;
use super::process::median;
use std::path::Path;

const ROUNDS: usize = 3;

/// The figures of one program, a value a round.
#[derive(Default)]
struct Figures {
    first: Vec<f64>,
    unchanged: Vec<f64>,
    changed: Vec<f64>,
    restored: Vec<f64>,
    checked: Vec<f64>,
    memory: f64,
    stored: Vec<f64>,
}

pub(super) fn run(root: &Path, folder: &Path) -> Result<(), String> {
    let database = orders::database(folder)?;
    let binary = build(root)?;
    let ours = Contender { program: &binary, ours: true, folder: folder.join("backstay") };
    let restic = Contender { program: Path::new("restic"), ours: false, folder: folder.join("restic") };
    let mut figures = [Figures::default(), Figures::default()];
    for round in 0..ROUNDS {
        eprintln!("round {} of {ROUNDS} …", round + 1);
        for (contender, figures) in [&ours, &restic].into_iter().zip(&mut figures) {
            contender.init()?;
            let first = contender.backup(&database)?;
            figures.first.push(first.seconds);
            figures.stored.push(contender.stored_bytes() as f64);
            figures.unchanged.push(contender.backup(&database)?.seconds);
            figures.memory = figures.memory.max(first.memory_bytes as f64);
        }
        orders::change(&database, round + 1)?;
        for (contender, figures) in [&ours, &restic].into_iter().zip(&mut figures) {
            let changed = contender.backup(&database)?;
            let restored = contender.restore(&database, false)?;
            if contender.ours && round + 1 == ROUNDS {
                figures.checked.push(contender.restore(&database, true)?.seconds);
            }
            figures.changed.push(changed.seconds);
            figures.restored.push(restored.seconds);
            figures.memory = figures.memory.max(changed.memory_bytes.max(restored.memory_bytes) as f64);
        }
    }
    print(std::fs::metadata(&database).map_err(|error| error.to_string())?.len(), figures)
}

fn print(database_bytes: u64, figures: [Figures; 2]) -> Result<(), String> {
    let [ours, restic] = figures;
    println!(
        "SQLite file of {:.2} GB, medians of {ROUNDS} rounds, in turn with restic:\n",
        database_bytes as f64 / 1e9
    );
    println!("| | backstay | restic | ratio | required | goal |\n| --- | --- | --- | --- | --- | --- |");
    let mut missed = Vec::new();
    let mut row = |name: &str, ours: f64, restic: f64, unit: &str, required: f64, goal: f64| {
        let ratio = ours / restic;
        println!(
            "| {name} | {ours:.2} {unit} | {restic:.2} {unit} | {ratio:.2} | {} | {} |",
            limit(required),
            limit(goal)
        );
        if ratio > required {
            missed.push(name.to_owned());
        }
    };
    row("first backup", median(ours.first), median(restic.first), "s", 0.6, 0.3);
    row("unchanged", median(ours.unchanged), median(restic.unchanged), "s", f64::INFINITY, 0.2);
    row("1 % of rows changed", median(ours.changed), median(restic.changed), "s", f64::INFINITY, 0.8);
    let restored = median(restic.restored);
    row("restored", median(ours.restored), restored, "s", f64::INFINITY, 0.6);
    row("restored, compared and checked", median(ours.checked), restored, "s", f64::INFINITY, f64::NAN);
    row("stored", median(ours.stored) / 1e6, median(restic.stored) / 1e6, "MB", 1.05, 1.0);
    let memory = ours.memory / 1e6;
    println!("| memory at most | {memory:.0} MB | {:.0} MB | | ≤ 150 MB | |", restic.memory / 1e6);
    if memory > 150.0 {
        missed.push("memory".to_owned());
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join(", "))) }
}

fn limit(ratio: f64) -> String {
    if ratio.is_finite() { format!("≤ {ratio}") } else { String::new() }
}
