//! `accept`: a backup marked as suspect is as its owner wants it.

use crate::errors::Failure;
use crate::globals::DryRun;
use crate::json::Finished;
use crate::opening;
use crate::references::reference;
use crate::session::Session;
use crate::wording::moment;
use clap::Args;
use operations::accept::AcceptItem;
use operations::reference::short;

/// Accept a backup that is marked as suspect
///
/// A backup whose database became empty, lost a table, or lost more than half of its rows or its size is marked: it does
/// not count for retention, and later ones are not measured by it. Accepting it says that the loss was meant.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay accept 3fa1c0de
  backstay accept shops/acme@latest
  backstay accept shops                   the newest backup of each database of a target")]
pub(crate) struct Options {
    /// The backups: an id, SOURCE@latest, SOURCE@latest~2, SOURCE@2026-11-20T02:00, a configured target, or latest
    #[arg(value_name = "BACKUP", required = true)]
    backups: Vec<String>,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let references: Vec<_> =
        options.backups.iter().map(|text| reference(session, text)).collect::<Result<_, _>>()?;
    let first = options.backups.first().map_or("latest", String::as_str);
    let services = opening::for_backup_argument(session, first)?;
    let report = operations::accept::run(&services, &references, options.dry_run.dry_run)?;
    for item in &report.body.backups {
        session.console.data(&line(session, item, options.dry_run.dry_run))?;
    }
    if options.dry_run.dry_run {
        session.console.say("Nothing was accepted: this was a dry run.");
    }
    Finished::new(&report)
}

fn line(session: &Session, item: &AcceptItem, dry_run: bool) -> String {
    let name = session.label(item.target.as_str(), Some(item.database.as_str()), None);
    let (id, time) = (short(&item.id.0), moment(item.time, &session.zone));
    match (item.accepted, dry_run) {
        (false, _) => format!("{id}  {name}  {time}  is not suspect: there is nothing to accept"),
        (true, true) => format!("would accept {id}  {name}  {time}: {}", item.reasons.join("; ")),
        (true, false) => format!("accepted {id}  {name}  {time}: {}", item.reasons.join("; ")),
    }
}
