//! One SQLite file of 1.3 GB: first backup, unchanged, one row in a hundred changed, restored.

use super::contender::{Contender, Opens, build};
use super::orders;
use super::process::{Taken, measure};
use super::table::Table;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROUNDS: usize = 3;
/// What is short is measured more often.
const SHORT: usize = 3;
/// What a careful person runs on a database that restic restored; as much memory for it as our check has.
const CHECKS: &str = "PRAGMA cache_size=-65536; PRAGMA integrity_check; PRAGMA foreign_key_check;";

/// How a restore ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// As each program does it where nothing else is said.
    Default,
    /// The file is synced: ours without comparison and checks, restic's by `sync` on it.
    Synced,
    /// Synced and compared with the backup: ours as by default, restic's by `--verify` and `sync`.
    Compared,
    /// Synced, compared with the backup, and checked by SQLite.
    Checked,
}

/// The figures of one program, a value a run.
#[derive(Default)]
struct Figures {
    first: Vec<f64>,
    unchanged: Vec<f64>,
    with_password: Vec<f64>,
    changed: Vec<f64>,
    restored: Vec<f64>,
    synced: Vec<f64>,
    compared: Vec<f64>,
    checked: Vec<f64>,
    memory: f64,
    stored: f64,
}

impl Figures {
    fn seconds(&mut self, taken: Taken) -> f64 {
        self.memory = self.memory.max(taken.memory_bytes as f64);
        taken.seconds
    }
}

pub(super) fn run(root: &Path, folder: &Path) -> Result<(), String> {
    let database = orders::database(folder)?;
    let program = build(root)?;
    let ours = Contender::ours(&program, Opens::KeyFile, folder.join("backstay"));
    let typed = Contender::ours(&program, Opens::Password, folder.join("backstay-password"));
    let restic = Contender::restic(folder.join("restic"));
    let mut figures = [Figures::default(), Figures::default()];
    for round in 0..ROUNDS {
        eprintln!("sqlite: round {} of {ROUNDS} …", round + 1);
        for (contender, figures) in [&ours, &restic].into_iter().zip(&mut figures) {
            contender.init()?;
            let first = contender.backup(&database)?;
            let first = figures.seconds(first);
            figures.first.push(first);
            figures.stored = contender.stored_bytes();
        }
        typed.init()?;
        typed.backup(&database)?;
        for _ in 0..SHORT {
            figures[0].unchanged.push(ours.backup(&database)?.seconds);
            figures[0].with_password.push(typed.backup(&database)?.seconds);
            figures[1].unchanged.push(restic.backup(&database)?.seconds);
        }
        orders::change(&database, round + 1)?;
        for (contender, figures) in [&ours, &restic].into_iter().zip(&mut figures) {
            let changed = contender.backup(&database)?;
            let changed = figures.seconds(changed);
            figures.changed.push(changed);
        }
        for until in [Until::Default, Until::Synced, Until::Compared, Until::Checked] {
            for (contender, figures) in [&ours, &restic].into_iter().zip(&mut figures) {
                restored(contender, &database, until, figures)?;
            }
        }
    }
    print(std::fs::metadata(&database).map_err(|error| error.to_string())?.len(), &figures)
}

fn restored(
    contender: &Contender<'_>,
    database: &Path,
    until: Until,
    figures: &mut Figures,
) -> Result<(), String> {
    let out = contender.folder.join("restored");
    let seconds = if contender.ours {
        // Compared and checked is what ours does by default: that is measured once.
        if matches!(until, Until::Compared | Until::Checked) {
            return Ok(());
        }
        let mut command = contender.command();
        let backup = format!("{}@latest", database.display());
        command.arg("restore").arg(backup).arg("--to-new").arg(&out).arg("--yes");
        if until == Until::Synced {
            command.arg("--no-verify");
        }
        let taken = measure(&mut command)?;
        figures.seconds(taken)
    } else {
        let mut command = contender.command();
        command.args(["restore", "latest", "--target"]).arg(&out);
        if matches!(until, Until::Compared | Until::Checked) {
            command.arg("--verify");
        }
        let taken = measure(&mut command)?;
        figures.seconds(taken) + after_restic(&found_below(&out, database), until)?
    };
    match until {
        Until::Default if contender.ours => {
            figures.restored.push(seconds);
            figures.compared.push(seconds);
            figures.checked.push(seconds);
        }
        Until::Default => figures.restored.push(seconds),
        Until::Synced => figures.synced.push(seconds),
        Until::Compared => figures.compared.push(seconds),
        Until::Checked => figures.checked.push(seconds),
    }
    let removed = if out.is_dir() { std::fs::remove_dir_all(&out) } else { std::fs::remove_file(&out) };
    removed.map_err(|error| error.to_string())
}

/// Restic restores the whole path below its target.
fn found_below(out: &Path, database: &Path) -> PathBuf {
    out.join(database.strip_prefix("/").unwrap_or(database))
}

fn after_restic(file: &Path, until: Until) -> Result<f64, String> {
    if until == Until::Default {
        return Ok(0.0);
    }
    let mut seconds = measure(Command::new("sync").arg(file))?.seconds;
    if until == Until::Checked {
        seconds += measure(Command::new("sqlite3").arg("-readonly").arg(file).arg(CHECKS))?.seconds;
    }
    Ok(seconds)
}

fn print(database_bytes: u64, figures: &[Figures; 2]) -> Result<(), String> {
    let [ours, restic] = figures;
    let mut table = Table::new(&format!(
        "SQLite file of {:.2} GB, medians of {ROUNDS} rounds, in turn with restic",
        database_bytes as f64 / 1e9
    ));
    table.seconds("first backup", &ours.first, &restic.first, Some(0.35));
    table.seconds("unchanged, by key file", &ours.unchanged, &restic.unchanged, Some(0.2));
    table.seconds("unchanged, by password", &ours.with_password, &restic.unchanged, None);
    table.seconds("1 % of rows changed", &ours.changed, &restic.changed, Some(0.8));
    table.seconds("restored, synced", &ours.synced, &restic.synced, Some(0.6));
    table.seconds("restored, synced, compared", &ours.compared, &restic.compared, Some(0.6));
    table.seconds("restored, synced, compared, checked", &ours.checked, &restic.checked, None);
    table.seconds("restored as each does it unasked", &ours.restored, &restic.restored, None);
    table.megabytes("stored", ours.stored, restic.stored, Some(1.05));
    table.memory(ours.memory, restic.memory);
    table.print()
}
