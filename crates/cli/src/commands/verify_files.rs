//! `verify PATH…`: dump files of any tool, PASS or FAIL a file, with the reason.

use crate::age_options::Identities;
use crate::errors::{Failure, exit};
use crate::json::Finished;
use crate::opening;
use crate::session::Session;
use crate::wording::{count, duration, size};
use clap::Args;
use operations::dump_files::{Choice, Pattern};
use operations::verify_files::{FileItem, Limits, VerifyFilesBody, VerifyFilesOptions};
use repository::retention::{Span, parse_size};
use std::path::{Path, PathBuf};

/// What is asked of dump files.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "For dump files")]
pub(crate) struct FileOptions {
    /// In folders, only the files whose names fit, as in '*.db.gz'; once or more
    #[arg(long, value_name = "PATTERN")]
    pattern: Vec<String>,

    /// Of all that match, only the newest
    #[arg(long)]
    latest: bool,

    /// Fail what is older: 25h, 7d, 4w (m is months)
    #[arg(long, value_name = "SPAN")]
    max_age: Option<Span>,

    /// Fail what is smaller: 1MB, 500KiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    min_size: Option<u64>,

    /// Fail what is larger
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,

    /// Check SQLite databases by quick_check, which leaves their indexes out
    #[arg(long)]
    quick: bool,

    /// Pass dumps that hold nothing at all
    #[arg(long)]
    allow_empty: bool,

    #[command(flatten)]
    identities: Identities,

    /// Unpack what has to be unpacked in this folder
    #[arg(long, value_name = "DIR", visible_alias = "sqlite-tmp")]
    scratch: Option<PathBuf>,

    /// The zone of the times in names that say none [default: the local one]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,

    /// The same as --max-age Nd
    #[arg(long, value_name = "N", hide = true, conflicts_with = "max_age", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_age_days: Option<u32>,

    /// The same as --max-age Nh
    #[arg(long, value_name = "N", hide = true, conflicts_with_all = ["max_age", "max_age_days"], value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_age_hours: Option<u32>,

    /// The same as --min-size NMiB
    #[arg(long, value_name = "N", hide = true, conflicts_with = "min_size", value_parser = mebibytes)]
    min_size_mb: Option<u64>,

    /// The same as --max-size NGiB
    #[arg(long, value_name = "N", hide = true, conflicts_with = "max_size", value_parser = gibibytes)]
    max_size_gb: Option<u64>,
}

/// Folder tools count an MB as 2²⁰ bytes and a GB as 2³⁰, take fractions, and 0 for no limit.
fn mebibytes(text: &str) -> Result<u64, String> {
    of_unit(text, "MiB")
}

fn gibibytes(text: &str) -> Result<u64, String> {
    of_unit(text, "GiB")
}

fn of_unit(text: &str, unit: &str) -> Result<u64, String> {
    if text.trim() == "0" {
        return Ok(0);
    }
    parse_size(&format!("{text}{unit}")).map_err(|_| "write a number, as in 50 or 0.5".to_owned())
}

impl FileOptions {
    /// Of backups in a repository none of these is asked.
    pub(super) fn refuse_for_backups(&self) -> Result<(), Failure> {
        let given = [
            ("--pattern", !self.pattern.is_empty()),
            ("--latest", self.latest),
            ("--max-age", self.limits().max_age.is_some()),
            ("--min-size", self.limits().min_size_bytes.is_some()),
            ("--max-size", self.limits().max_size_bytes.is_some()),
            ("--quick", self.quick),
            ("--allow-empty", self.allow_empty),
            ("--age-identity", self.identities.is_given()),
            ("--scratch", self.scratch.is_some()),
            ("--time-zone", self.time_zone.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((option, _)) => Err(Failure::usage(
                format!("{option} is for dump files, and none is named"),
                "name a dump file, a folder of them, or a pattern in quotes",
            )),
        }
    }

    fn limits(&self) -> Limits {
        let hours = |hours| Span { hours, ..Span::default() };
        let given = |size: Option<u64>| size.filter(|size| *size > 0);
        Limits {
            min_size_bytes: given(self.min_size.or(self.min_size_mb)),
            max_size_bytes: given(self.max_size.or(self.max_size_gb)),
            max_age: self.max_age.or(self.max_age_days.map(Span::of_days)).or(self.max_age_hours.map(hours)),
        }
    }

    fn choice(&self, session: &Session) -> Result<Choice, Failure> {
        let zone = session.named_zone(self.time_zone.as_deref())?;
        let patterns: Result<Vec<Pattern>, _> =
            self.pattern.iter().map(|text| Pattern::parse(text)).collect();
        Ok(Choice { zone, patterns: patterns? })
    }
}

/// Verifies dump files.
pub(super) fn run(
    session: &Session,
    options: &FileOptions,
    (paths, identities): (&[&str], &[PathBuf]),
    dry_run: bool,
) -> Result<Finished, Failure> {
    let mut services = opening::without_repository(session)?;
    if let Some(scratch) = &options.scratch {
        services.context.scratch = flow::ScratchDir::new(session.absolute(scratch));
    }
    let verify = VerifyFilesOptions {
        paths: paths.iter().map(|path| full(session, Path::new(path))).collect(),
        choice: options.choice(session)?,
        latest: options.latest,
        limits: options.limits(),
        quick: options.quick,
        allow_empty: options.allow_empty,
        keys: options.identities.keys(session, identities)?,
        dry_run,
    };
    let report = operations::verify_files::run(&services, &verify)?;
    show(session, &report.body, dry_run)?;
    if dry_run {
        session.console.say("Nothing was read: this was a dry run.");
        return Finished::new(&report);
    }
    let summary = &report.body.summary;
    session.console.say(&format!(
        "Verified {} ({} read) in {}.",
        count(summary.total_files, "file", "files"),
        size(report.body.performance.bytes_read),
        duration(report.elapsed_ms)
    ));
    if summary.all_valid {
        return Finished::new(&report);
    }
    let message = format!("{} of {} failed", summary.invalid, count(summary.total_files, "file", "files"));
    let failure = Failure::new(exit::NOT_VALID, message)
        .with_hint("do not restore from these; look at what writes them, and make a new backup now");
    Finished::failing(report, failure)
}

/// Returns a path from the root, with the name that the file was given.
fn full(session: &Session, path: &Path) -> PathBuf {
    let path = session.absolute(path);
    match (path.is_dir(), path.parent(), path.file_name()) {
        (false, Some(folder), Some(name)) => config::canonical_path(folder).join(name),
        _ => config::canonical_path(&path),
    }
}

fn show(session: &Session, body: &VerifyFilesBody, dry_run: bool) -> Result<(), Failure> {
    for skipped in &body.skipped {
        session.console.detail(&format!("Passed over {}: {}.", on_one_line(&skipped.object), skipped.reason));
    }
    for item in &body.files {
        session.console.data(&line(session, item, dry_run))?;
    }
    let passed_over = body.skipped.len() as u64;
    if passed_over > 0 && !session.globals.verbose {
        let files = count(passed_over, "other file", "other files");
        session.console.say(&format!("Passed over {files}; `--verbose` tells which and why."));
    }
    Ok(())
}

fn line(session: &Session, item: &FileItem, dry_run: bool) -> String {
    let head = if dry_run && item.error.is_none() {
        "would verify".to_owned()
    } else {
        session.console.verdict(item.valid)
    };
    let mut text = format!("{head}  {}", on_one_line(&item.path));
    if let Some(format) = item.format {
        text.push_str(&format!("  {format}"));
    }
    text.push_str(&format!("  {}", size(item.size_bytes)));
    for check in item.checks.iter().filter(|check| !check.passed) {
        text.push_str(&format!("\n      {}: {}", check.name, on_one_line(&check.detail)));
    }
    for doubt in &item.doubts {
        text.push_str(&format!("\n      doubtful: {}", on_one_line(doubt)));
    }
    if session.globals.verbose {
        for check in item.checks.iter().filter(|check| check.passed) {
            text.push_str(&format!("\n      {}: {}", check.name, on_one_line(&check.detail)));
        }
    }
    text
}

/// Returns a text without line ends and other control characters: a name may have them, and a line is one file.
fn on_one_line(text: &str) -> String {
    text.chars()
        .flat_map(|letter| match letter.is_control() {
            true => letter.escape_default().collect::<Vec<_>>(),
            false => vec![letter],
        })
        .collect()
}
