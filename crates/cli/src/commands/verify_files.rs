//! `verify PATH…`: dump files of any tool, PASS or FAIL a file, with the reason.

use super::verify_defaults::{self, gibibytes, mebibytes};
use crate::age_options::Identities;
use crate::errors::{Failure, exit};
use crate::json::Finished;
use crate::opening;
use crate::session::Session;
use crate::wording::{count, duration, size};
use clap::Args;
use operations::dump_files::{Choice, Pattern};
use operations::verify_files::{
    Expectation, FileItem, Limits, Question, VerifyFilesBody, VerifyFilesOptions,
};
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

    /// Load each dump that passes into scratch, as a restore would
    ///
    /// SQLite dumps into a temporary database, PostgreSQL dumps into a server that is started for it from installed programs
    /// and ended again. A dump is a program: load only what you would restore.
    #[arg(long, conflicts_with = "quick")]
    deep: bool,

    /// Ask what was loaded (implies --deep; may be repeated)
    ///
    /// One SELECT. Without --expect the first value of its answer must be there, and be neither 0, false nor empty.
    #[arg(long, value_name = "SQL", conflicts_with = "quick")]
    query: Vec<String>,

    /// What the first value must be: '> 0', '= 12', '10..20', 'no rows'; one for each --query, in their order
    #[arg(long, value_name = "EXPECTATION", requires = "query", allow_hyphen_values = true, value_parser = Expectation::parse)]
    expect: Vec<Expectation>,

    /// Unpack and load in this folder, which is removed again where it was not there
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,

    /// The same as --deep --scratch DIR
    #[arg(long, value_name = "DIR", hide = true, conflicts_with_all = ["scratch", "quick"])]
    sqlite_tmp: Option<PathBuf>,

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
            ("--deep", self.deep),
            ("--query", !self.query.is_empty()),
            ("--scratch", self.scratch.is_some()),
            ("--sqlite-tmp", self.sqlite_tmp.is_some()),
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

    /// Returns the limits that are given; a size of 0 is none.
    fn limits(&self) -> Limits {
        let hours = |hours| Span { hours, ..Span::default() };
        Limits {
            min_size_bytes: self.min_size.or(self.min_size_mb),
            max_size_bytes: self.max_size.or(self.max_size_gb),
            max_age: self.max_age.or(self.max_age_days.map(Span::of_days)).or(self.max_age_hours.map(hours)),
        }
    }

    /// Returns the folder that is named for scratch.
    fn scratch(&self, session: &Session) -> Result<Option<PathBuf>, Failure> {
        let named = self.scratch.as_ref().map(|path| ("--scratch", path));
        let named = named.or(self.sqlite_tmp.as_ref().map(|path| ("--sqlite-tmp", path)));
        let Some((option, path)) = named else { return Ok(None) };
        let path = session.absolute(path);
        if path.exists() && !path.is_dir() {
            return Err(Failure::usage(
                format!("`{option}` names {}, which is there and no folder", path.display()),
                "name a folder, or one that is not there yet: it is removed again",
            ));
        }
        Ok(Some(path))
    }

    fn questions(&self) -> Result<Vec<Question>, Failure> {
        let (queries, expectations) = (self.query.len(), self.expect.len());
        if expectations > 0 && expectations != queries {
            return Err(Failure::usage(
                format!(
                    "there are {} and {}",
                    count(queries as u64, "--query", "--query"),
                    count(expectations as u64, "--expect", "--expect")
                ),
                "write one --expect for each --query, in the same order, or none",
            ));
        }
        let expected = self.expect.iter().cloned().chain(std::iter::repeat(Expectation::Something));
        let questions = self.query.iter().zip(expected);
        Ok(questions.map(|(sql, expected)| Question { sql: sql.clone(), expected }).collect())
    }

    fn choice(&self, session: &Session) -> Result<Choice, Failure> {
        let zone = session.named_zone(self.time_zone.as_deref())?;
        let patterns: Result<Vec<Pattern>, _> = verify_defaults::patterns(session, &self.pattern)
            .iter()
            .map(|text| Pattern::parse(text))
            .collect();
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
    let scratch = options.scratch(session)?;
    if let Some(scratch) = &scratch {
        services.context.scratch = flow::ScratchDir::new(scratch);
    }
    let verify = VerifyFilesOptions {
        paths: paths.iter().map(|path| full(session, Path::new(path))).collect(),
        choice: options.choice(session)?,
        latest: options.latest,
        limits: verify_defaults::limits(session, &options.limits())?,
        quick: options.quick,
        allow_empty: options.allow_empty,
        deep: options.deep || !options.query.is_empty() || options.sqlite_tmp.is_some(),
        questions: options.questions()?,
        scratch_given: scratch.is_some(),
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
    if let Some(failure) = untried(&report.body) {
        return Finished::failing(report, failure);
    }
    let message = format!("{} of {} failed", summary.invalid, count(summary.total_files, "file", "files"));
    let failure = Failure::new(exit::NOT_VALID, message)
        .with_hint("do not restore from these; look at what writes them, and make a new backup now");
    Finished::failing(report, failure)
}

/// Returns the failure of a run in which nothing is wrong but that dumps could not be loaded here.
fn untried(body: &VerifyFilesBody) -> Option<Failure> {
    let failed: Vec<&FileItem> = body.files.iter().filter(|item| !item.valid).collect();
    let first = failed.first()?;
    let hint = first.untried.clone()?;
    if failed.iter().any(|item| item.untried.is_none()) {
        return None;
    }
    let files = count(failed.len() as u64, "file", "files");
    let why = first.error.as_deref().unwrap_or_default();
    let message =
        format!("{files} could not be loaded here, which says nothing against them: {}: {why}", first.path);
    Some(Failure::new(exit::DATABASE, message).with_hint(hint))
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
