//! `check`: looks at a repository as a whole.

use crate::errors::{Failure, exit};
use crate::json::Finished;
use crate::opening;
use crate::session::Session;
use crate::wording::{count, duration, size};
use clap::Args;
use operations::reference::short;
use repository::CheckDepth;

/// Check a repository as a whole
///
/// That everything which a backup needs is there; with --read-data every byte too. What is damaged is named, with the
/// backups that it affects.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Read every byte
    #[arg(long)]
    read_data: bool,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let services = opening::for_source(session, None)?;
    let depth = if options.read_data { CheckDepth::Data } else { CheckDepth::Structure };
    let report = operations::check::run(&services, depth)?;
    let body = &report.body;
    for damage in &body.errors {
        let backups: Vec<String> = damage.backups.iter().map(|id| short(&id.0)).collect();
        let affected = match backups.len() {
            0 => "affects no backup".to_owned(),
            number => format!("affects {}: {}", count(number as u64, "backup", "backups"), backups.join(" ")),
        };
        let line =
            format!("{}  {}: {}; {affected}", session.console.verdict(false), damage.object, damage.problem);
        session.console.data(&line)?;
    }
    for remark in &body.remarks {
        session.console.say(&format!("notice: {remark}"));
    }
    session.console.say(&format!(
        "Checked {} and {} ({} read) in {}.",
        count(body.snapshots, "snapshot", "snapshots"),
        count(body.packs, "pack", "packs"),
        size(body.bytes_read),
        duration(report.elapsed_ms)
    ));
    if body.errors.is_empty() {
        session.console.say("Nothing is damaged.");
        return Finished::new(&report);
    }
    let number = count(body.errors.len() as u64, "object is", "objects are");
    let failure = Failure::new(
        exit::NOT_VALID,
        format!("{number} damaged in {}", services.repository.location()),
    )
    .with_hint(
        "back up what is affected again while its source is there; other backups can be restored as ever",
    );
    Finished::failing(report, failure)
}
