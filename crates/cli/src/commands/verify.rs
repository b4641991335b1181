//! `verify`: reads back what is stored and says PASS or FAIL for each backup.

use crate::errors::{Failure, exit};
use crate::globals::DryRun;
use crate::json::Finished;
use crate::opening;
use crate::references::{is_bare_path, reference};
use crate::session::Session;
use crate::wording::{count, duration, size};
use clap::Args;
use flow::quoted;
use operations::reference::short;
use operations::verify::VerifyItem;

/// Read back what is stored, every byte
///
/// Without a BACKUP: the newest backup of every database. The outcome is kept in the repository as the backup's proof.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay verify
  backstay verify /srv/shop/shop.db@latest
  backstay verify shops                   the newest backup of each database of a target
  backstay verify 3fa1c0de")]
pub(crate) struct Options {
    /// The backups: an id, SOURCE@latest, SOURCE@latest~2, SOURCE@2026-11-20T02:00, a configured target, or latest
    #[arg(value_name = "BACKUP")]
    backups: Vec<String>,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let mut references = Vec::new();
    for text in &options.backups {
        if is_bare_path(session, text)? {
            return Err(Failure::usage(
                format!("`{text}` would be a dump file, and this version verifies none yet"),
                format!("the newest backup of a database is {}", quoted(&format!("{text}@latest"))),
            ));
        }
        references.push(reference(session, text)?);
    }
    let services = match options.backups.first() {
        Some(first) => opening::for_backup_argument(session, first)?,
        None => opening::for_source(session, None)?,
    };
    let report = operations::verify::run(&services, &references, options.dry_run.dry_run)?;
    let body = &report.body;
    for item in &body.files {
        let line = line(session, item, options.dry_run.dry_run);
        session.console.data(&line)?;
    }
    if options.dry_run.dry_run {
        session.console.say("Nothing was read: this was a dry run.");
        return Finished::new(&report);
    }
    session.console.say(&format!(
        "Verified {} ({} read) in {}.",
        count(body.summary.total_files, "backup", "backups"),
        size(body.performance.bytes_read),
        duration(report.elapsed_ms)
    ));
    if body.summary.all_valid {
        return Finished::new(&report);
    }
    let failure = Failure::new(
        exit::NOT_VALID,
        format!(
            "{} of {} failed",
            body.summary.invalid,
            count(body.summary.total_files, "backup", "backups")
        ),
    )
    .with_hint("`backstay check --read-data` names everything that is damaged, and the backups it affects");
    Finished::failing(report, failure)
}

fn line(session: &Session, item: &VerifyItem, dry_run: bool) -> String {
    let name = session.label(&item.target, Some(&item.database), None);
    let head = if dry_run { "would verify".to_owned() } else { session.console.verdict(item.valid) };
    let mut text = format!("{head}  {}  {name}  {}", short(&item.id.0), size(item.size_bytes));
    for check in item.checks.iter().filter(|check| !check.passed) {
        text.push_str(&format!("\n      {}: {}", check.name, check.detail));
    }
    if let Some(reasons) = &item.suspect {
        text.push_str(&format!(
            "\n      its bytes are right, its content is suspect: {}",
            reasons.join("; ")
        ));
    }
    text
}
