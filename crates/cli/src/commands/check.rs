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
    /// Read every byte too; with a share (5%), of so much of the packs
    ///
    /// Each check of a share goes on where the one before it ended, so that twenty checks of 5% read everything.
    #[arg(
        long,
        value_name = "SHARE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "100%",
        value_parser = hundredths
    )]
    read_data: Option<u32>,
}

/// What `--read-data` alone means, in hundredths of a percent.
const ALL: u32 = 10_000;

/// Reads a percentage, as hundredths of a percent.
fn hundredths(text: &str) -> Result<u32, String> {
    let wrong = || "write a percentage above 0 and up to 100, as in 5% or 0.5%".to_owned();
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 || whole.len() > 3 {
        return Err(wrong());
    }
    let number = |text: String| text.parse::<u32>().map_err(|_| wrong());
    let found = number(whole.to_owned())? * 100 + number(format!("{part:0<2}"))?;
    if (1..=ALL).contains(&found) { Ok(found) } else { Err(wrong()) }
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let services = opening::for_source(session, None)?;
    let depth = match options.read_data {
        None => CheckDepth::Structure,
        Some(ALL) => CheckDepth::Data,
        Some(hundredths) => CheckDepth::Share { hundredths },
    };
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
    if let (Some(percent), Some(selection @ ("rotating" | "random"))) =
        (body.read_data_percent, body.selection)
    {
        session.console.say(&format!(
            "Read {} of {} ({percent}%): {}.",
            count(body.packs_read, "pack", "packs"),
            body.packs,
            match selection {
                "rotating" => "those that the checks before left longest",
                _ => "chosen at random; the next check of a share goes on from there",
            }
        ));
    }
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
