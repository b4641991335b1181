//! `doctor`: what would stop or spoil a backup, each with the fix.

use crate::errors::{Failure, exit};
use crate::json::Finished;
use crate::session::Session;
use crate::wording::{count, size};
use clap::Args;
use flow::Severity;
use operations::report::Outcome;

/// Find what would stop or spoil a backup, each with the fix
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A configured target, one tenant of it, a SQLite file, a folder, or a glob
    #[arg(value_name = "SOURCE")]
    source: String,

    /// Let the database system check the whole content of the live database
    #[arg(long)]
    integrity: bool,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let source = session.live_source(&options.source)?;
    let report = operations::doctor::run(
        &session.engines,
        &source.target,
        source.only.as_ref(),
        options.integrity,
        &session.context,
    )?;
    if source.only.is_some() && report.body.databases.is_empty() {
        return Err(Failure::new(
            exit::DATABASE,
            format!("{}: the target has no such database", options.source),
        ));
    }
    let mut problems = 0;
    for examined in &report.body.databases {
        let name = session.label(
            examined.target.as_str(),
            Some(examined.database.as_str()),
            Some(&examined.connection),
        );
        let version = examined.engine_version.as_deref().unwrap_or("of unknown version");
        let bytes = examined.size_bytes.map_or("of unknown size".to_owned(), size);
        session.console.data(&format!("{name}: {} {version}, {bytes}", examined.engine))?;
        for finding in &examined.findings {
            session.console.data(&session.console.finding(finding))?;
            problems += u64::from(finding.severity == Severity::Problem);
        }
    }
    for skipped in &report.body.skipped {
        session.console.detail(&format!("Passed over {}: {}.", skipped.object, skipped.reason));
    }
    let number = count(report.body.databases.len() as u64, "database", "databases");
    if report.outcome == Outcome::Failed {
        let found = count(problems, "problem", "problems");
        return Finished::failing(report, Failure::new(exit::NOT_VALID, format!("{found} in {number}")));
    }
    session.console.say(&format!("Examined {number}: nothing stands in the way of a backup."));
    Finished::new(&report)
}
