//! `check`: looks at a repository as a whole, and heals it with `--heal`.

use crate::errors::{Failure, exit};
use crate::json::Finished;
use crate::opening;
use crate::session::Session;
use crate::wording::{count, duration, size};
use clap::Args;
use operations::Services;
use operations::check::CheckBody;
use operations::reference::short;
use operations::report::{Outcome, Report};
use repository::{CheckDepth, HealRequest};

/// Check a repository as a whole, and heal it
///
/// That everything which a backup needs is there; with --read-data every byte too. What is damaged is named, with the
/// backups that it affects.
///
/// With --heal what can be mended is mended: a lost or damaged index is made anew from the packs, what is good of a damaged
/// pack is copied before that goes, and what only the source can bring back is stored again by its next backup. Backups
/// that lack something even after that are listed as LOST, and refused.
///
/// Ends with 0 where nothing is damaged, with --heal where every backup is whole afterwards; with 21 where something is
/// damaged, with --heal where backups still lack something, or are gone.
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

    /// Mend what can be mended; what was found damaged before is read too
    #[arg(long)]
    heal: bool,

    /// With --heal: tell what would be done, and change nothing
    #[arg(long, requires = "heal")]
    pub(crate) dry_run: bool,

    /// With --heal: packs that are not there are gone for good, however many they are
    ///
    /// Without it a heal refuses where more than two, and more than one in twenty, are missing: the storage may be there
    /// in part only.
    #[arg(long, requires = "heal")]
    accept_missing: bool,
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
    if options.heal {
        let request = HealRequest { depth, dry_run: options.dry_run, accept_missing: options.accept_missing };
        let report = operations::check::heal(&services, &request)?;
        return heal(session, &services, report);
    }
    let report = operations::check::run(&services, depth)?;
    tell_found(session, &report)?;
    if report.body.errors.is_empty() {
        session.console.say("Nothing is damaged.");
        return Finished::new(&report);
    }
    let number = count(report.body.errors.len() as u64, "object is", "objects are");
    let failure = Failure::new(
        exit::NOT_VALID,
        format!("{number} damaged in {}", services.repository.location()),
    )
    .with_hint(
        "`backstay check --heal` mends what can be mended, then back up what is affected while its source is there; \
         other backups can be restored as ever",
    );
    Finished::failing(report, failure)
}

/// Shows what is damaged, and how much was looked at.
fn tell_found(session: &Session, report: &Report<CheckBody>) -> Result<(), Failure> {
    let body = &report.body;
    for damage in &body.errors {
        let affected = match damage.backups.len() {
            0 => "affects no backup".to_owned(),
            number => format!(
                "affects {}: {}",
                count(number as u64, "backup", "backups"),
                listed(damage.backups.iter().map(|id| id.0.as_str()))
            ),
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
    Ok(())
}

fn listed<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    ids.map(short).collect::<Vec<_>>().join(" ")
}

/// Shows what was done about the damage, and what is left of it.
fn heal(session: &Session, services: &Services, report: Report<CheckBody>) -> Result<Finished, Failure> {
    tell_found(session, &report)?;
    let body = &report.body;
    for action in &body.actions {
        session.console.data(&format!("{}  {}", action.object, action.action))?;
    }
    if body.actions.is_empty() && body.affected.is_empty() && body.removed_snapshots.is_empty() {
        session.console.say("Nothing is damaged.");
    }
    if body.dry_run {
        session.console.say("Nothing was changed: this was a dry run.");
    }
    if report.outcome == Outcome::Complete {
        if !body.actions.is_empty() {
            session.console.say("Every backup is whole.");
        }
        return Finished::new(&report);
    }
    let location = services.repository.location();
    let (message, hint) = left_over(body, &location);
    Finished::failing(report, Failure::new(exit::NOT_VALID, message).with_hint(hint))
}

/// Says what is left of the damage, and the next step.
fn left_over(body: &CheckBody, location: &str) -> (String, &'static str) {
    if body.dry_run {
        let number = count(body.errors.len() as u64, "object is", "objects are");
        return (format!("{number} damaged in {location}"), "without --dry-run it is healed as told");
    }
    let mut parts = Vec::new();
    if !body.affected.is_empty() {
        let number = count(body.affected.len() as u64, "backup still lacks", "backups still lack");
        let ids = listed(body.affected.iter().map(|id| id.0.as_str()));
        parts.push(format!("{number} what no pack holds any more: {ids}"));
    }
    if !body.removed_snapshots.is_empty() {
        let number = count(body.removed_snapshots.len() as u64, "snapshot is gone", "snapshots are gone");
        let ids = listed(body.removed_snapshots.iter().map(String::as_str));
        parts.push(format!("{number}, since nobody can tell what was in it: {ids}"));
    }
    let hint = "back up the databases concerned while their sources are there: what these still have is stored again, and \
                what is lost is listed as such";
    (format!("{location} is healed, and {}", parts.join("; ")), hint)
}
