//! `prune`: which backups go and why, as a table for each database, and what that frees.

use super::prune_folder::{self, FolderArguments};
use crate::errors::Failure;
use crate::folder_scopes::{KnownSources, is_folder};
use crate::globals::DryRun;
use crate::json::Finished;
use crate::opening;
use crate::prune_scopes::{Job, jobs, refuse_unknown};
use crate::session::Session;
use crate::wording::{age, count, duration, moment, size, table};
use clap::Args;
use config::{FolderPruning, RepositoryLayout};
use flow::quoted;
use operations::SafetyItem;
use operations::prune::{PruneBody, PruneOptions};
use operations::reference::short;
use operations::report::{Outcome, Report};
use repository::retention::{Rules, Span, Verdict, parse_size};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Remove the backups that rules let go, and free their space
///
/// What any --keep-* keeps stays. Of the rest, with --max-age only what is older goes, without it all. --max-size then
/// removes the oldest first, also what is kept otherwise. The rules are for each database by itself.
///
/// Never goes: the newest backup of a database, its newest proven one, where that was imported the newest proven one that
/// was not, what a snapshot holds beside a backup that stays, and what other programs wrote. Without any rule here, those of the configuration's plans hold.
///
/// Of a folder of dump files of any tool, files go: those with a time in their name, or that fit a --pattern. The newest
/// that is whole stays, as do files that are open or have a -wal, -shm or -journal beside them; a folder that is or
/// contains a source of the configuration or of a backup is refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay prune --keep-daily 7 --keep-weekly 4 --dry-run    what would go, and why
  backstay prune erp --keep-last 10
  backstay prune shops/acme --max-age 90d --min-keep 3
  backstay prune /srv/dumps --keep-daily 7 --keep-weekly 4   a folder of dump files of any tool
  backstay prune /srv/dumps --pattern '*.sql.gz' --max-age 30d --max-size 50GiB --report pruned.json
  backstay prune                                             as the plans of the configuration say")]
pub(crate) struct Options {
    /// Only the backups of these: a configured target, one tenant of it (shops/acme), or a path; or folders of dump files
    #[arg(value_name = "SOURCE|FOLDER")]
    pub(crate) sources: Vec<String>,

    /// Keep so many of the newest
    #[arg(long, value_name = "N", visible_alias = "max-count", alias = "keep-count", value_parser = clap::value_parser!(u32).range(1..))]
    keep_last: Option<u32>,

    /// Keep the newest of each of the last N hours that have backups
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_hourly: Option<u32>,

    /// Of each of the last N days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_daily: Option<u32>,

    /// Of each of the last N weeks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_weekly: Option<u32>,

    /// Of each of the last N months
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_monthly: Option<u32>,

    /// Of each of the last N years
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_yearly: Option<u32>,

    /// Keep all that are so close to the newest: 7d, 12w, 1y6m (m is months)
    #[arg(long, value_name = "SPAN")]
    keep_within: Option<Span>,

    /// Remove only what is older than this
    #[arg(long, value_name = "SPAN")]
    max_age: Option<Span>,

    /// Remove the oldest while the backups of a database have more than this in sum, each as large as when restored
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,

    /// Keep so many of each database whatever the rules say [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    min_keep: Option<u32>,

    /// The same as --max-age Nd
    #[arg(long, value_name = "N", hide = true, conflicts_with = "max_age", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    age_days: Option<u32>,

    /// The same as --max-size NGiB
    #[arg(long, value_name = "N", hide = true, conflicts_with = "max_size", value_parser = gibibytes)]
    max_size_gb: Option<u64>,

    /// Remove the backups, and leave freeing their space to a later prune
    #[arg(long)]
    forget_only: bool,

    #[command(flatten)]
    folder: FolderArguments,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

/// Folder tools count a GB as 2³⁰ bytes, and take fractions.
fn gibibytes(text: &str) -> Result<u64, String> {
    parse_size(&format!("{text}GiB")).map_err(|_| "write a number above 0, as in 50 or 0.5".to_owned())
}

impl Options {
    /// Returns the rules of the command line; `None` where there is none.
    fn rules(&self) -> Result<Option<Rules>, Failure> {
        let rules = self.rules_or(&FolderPruning::default());
        match (rules.is_empty(), self.min_keep) {
            (false, _) => Ok(Some(rules)),
            (true, None) => Ok(None),
            (true, Some(_)) => Err(Failure::usage(
                "--min-keep alone is no rule: it says what stays, and nothing says what goes",
                "add a rule, as in: backstay prune --keep-daily 7 --min-keep 3 --dry-run",
            )),
        }
    }

    /// Returns the rules of the command line; where an option is not given, what stands for it.
    fn rules_or(&self, defaults: &FolderPruning) -> Rules {
        Rules {
            last: self.keep_last.or(defaults.keep_last).unwrap_or(0),
            hourly: self.keep_hourly.unwrap_or(0),
            daily: self.keep_daily.unwrap_or(0),
            weekly: self.keep_weekly.unwrap_or(0),
            monthly: self.keep_monthly.unwrap_or(0),
            yearly: self.keep_yearly.unwrap_or(0),
            within: self.keep_within,
            max_age: self.max_age.or(self.age_days.map(Span::of_days)).or(defaults.max_age),
            max_size_bytes: self.max_size.or(self.max_size_gb).or(defaults.max_size_bytes),
            min_keep: self.min_keep.unwrap_or(1),
        }
    }
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    if let Some((folders, known)) = folders(session, options)? {
        return run_folders(session, options, &folders, &known);
    }
    let jobs = jobs(session, &options.sources, options.rules()?.as_ref())?;
    let mut whole: Option<PruneBody> = None;
    for job in jobs {
        match run_job(session, options, job) {
            Ok(body) => match &mut whole {
                None => whole = Some(body),
                Some(whole) => add(whole, body),
            },
            Err(failure) => {
                let Some(body) = whole else { return Err(failure) };
                show(session, &body)?;
                let report = Report::new("prune", session.started, Outcome::Incomplete, body);
                return Finished::failing(report, failure);
            }
        }
    }
    let body = whole.ok_or_else(|| Failure::usage("nothing to prune is named", "name a source"))?;
    let report = Report::new("prune", session.started, Outcome::Complete, body);
    show(session, &report.body)?;
    summary(session, &report);
    Finished::where_asked(session, &report)
}

/// Returns the folders of dump files, where such are named: a folder of databases that has backups is a source.
fn folders(session: &Session, options: &Options) -> Result<Option<(Vec<PathBuf>, KnownSources)>, Failure> {
    let mut named = Vec::new();
    for text in &options.sources {
        named.push(session.arguments().source(text)?);
    }
    let of_folder = options.folder.is_given();
    if !named.iter().any(is_folder) {
        return match of_folder {
            false => Ok(None),
            true => Err(Failure::usage(
                "--pattern and --time-zone are for folders of dump files, and none is named",
                "backstay prune FOLDER --pattern '*.sql.gz' --keep-daily 7 --dry-run",
            )),
        };
    }
    let known = KnownSources::look(session)?;
    let is_dumps = |source: &config::SourceArgument<'_>| {
        let folder = Path::new(&source.target.connection);
        is_folder(source) && (of_folder || !known.has_backups_of(folder))
    };
    let folders: Vec<PathBuf> = named
        .iter()
        .filter(|source| is_dumps(source))
        .map(|source| PathBuf::from(&source.target.connection))
        .collect();
    if folders.is_empty() {
        return Ok(None);
    }
    if folders.len() < named.len() {
        return Err(Failure::usage(
            "some of what is named are folders of dump files, and some are sources",
            "prune the ones first, and then the others",
        ));
    }
    if options.forget_only {
        return Err(no_space_is_left());
    }
    Ok(Some((folders, known)))
}

fn no_space_is_left() -> Failure {
    let message = "--forget-only leaves space for later, and a file that is removed leaves none";
    Failure::usage(message, "take it away")
}

fn run_folders(
    session: &Session,
    options: &Options,
    folders: &[PathBuf],
    known: &KnownSources,
) -> Result<Finished, Failure> {
    let rules = options.rules_or(&session.settings.pruning);
    if rules.is_empty() {
        options.rules()?;
        let folder = folders.first().map(|folder| quoted(&folder.display().to_string())).unwrap_or_default();
        return Err(Failure::usage(
            "no rule says what to keep",
            format!("try backstay prune {folder} --keep-daily 7 --keep-weekly 4 --dry-run"),
        ));
    }
    let choice = options.folder.choice(session)?;
    let (body, failure) =
        prune_folder::run(session, folders, known, &choice, (&rules, options.dry_run.dry_run))?;
    prune_folder::show(session, &body, &choice.zone)?;
    let Some(failure) = failure else {
        let report = Report::new("prune", session.started, Outcome::Complete, body);
        summary(session, &report);
        return Finished::where_asked(session, &report);
    };
    let nothing = body.files_removed.is_empty();
    let outcome = if nothing { Outcome::Failed } else { Outcome::Incomplete };
    Finished::failing(Report::new("prune", session.started, outcome, body), failure)
}

fn run_job(session: &Session, options: &Options, job: Job<'_>) -> Result<PruneBody, Failure> {
    if job.place.repository.layout != RepositoryLayout::Restic {
        if options.forget_only {
            return Err(no_space_is_left());
        }
        return prune_folder::of_files(session, job.place, job.scopes, options.dry_run.dry_run);
    }
    let services = opening::services(session, opening::open(session, &job.place)?.repository)?;
    refuse_unknown(session, &services, &job)?;
    let prune = PruneOptions {
        scopes: job.scopes,
        dry_run: options.dry_run.dry_run,
        forget_only: options.forget_only,
        safety: job.safety,
    };
    Ok(operations::prune::run(&services, &prune)?.body)
}

fn add(whole: &mut PruneBody, body: PruneBody) {
    whole.verdicts.extend(body.verdicts);
    whole.safety_kept.extend(body.safety_kept);
    whole.safety_removed.extend(body.safety_removed);
    whole.files_kept.extend(body.files_kept);
    whole.files_removed.extend(body.files_removed);
    whole.skipped.extend(body.skipped);
    whole.snapshots += body.snapshots;
    whole.freed_bytes += body.freed_bytes;
    whole.foreign += body.foreign;
    whole.unlisted += body.unlisted;
}

/// How many databases have their table where a prune decides on very many; `--verbose` shows them all.
const TABLES_SHOWN: usize = 20;

/// Shows a table for each database that loses a backup; in a dry run, or where more is asked for, of every one.
fn show(session: &Session, body: &PruneBody) -> Result<(), Failure> {
    let mut databases: BTreeMap<_, Vec<&Verdict>> = BTreeMap::new();
    for verdict in &body.verdicts {
        let origin = &verdict.backup.origin;
        let host = origin.target.as_str().starts_with('/').then_some(origin.host.as_str());
        let plan = origin.plan.as_deref();
        databases.entry((&origin.target, &origin.database, host, plan)).or_default().push(verdict);
    }
    let (mut unchanged, mut tables, mut more) = (0_u64, 0, 0_u64);
    let verbose = session.globals.verbose;
    for ((target, database, host, _), mut verdicts) in databases {
        if verdicts.iter().all(|verdict| verdict.kept) && !body.dry_run && !verbose {
            unchanged += 1;
            continue;
        }
        if tables >= TABLES_SHOWN && !verbose {
            more += 1;
            continue;
        }
        tables += 1;
        // Of one moment what goes comes last.
        verdicts.sort_by_key(|verdict| (std::cmp::Reverse(verdict.backup.time), !verdict.kept));
        let place = verdicts.first().map(|verdict| verdict.backup.origin.connection.as_str());
        let mut title = session.label(target.as_str(), Some(database.as_str()), place);
        if let Some(host) = host.filter(|host| *host != session.host) {
            title.push_str(&format!(" on {host}"));
        }
        session.console.data(&format!("{title}\n{}\n\n", rows(session, &verdicts)))?;
    }
    if more > 0 {
        let databases = count(more, "more database", "more databases");
        session.console.say(&format!("… and {databases}; `--verbose` shows them all."));
    }
    if unchanged > 0 {
        let all = count(unchanged, "database keeps", "databases keep");
        session.console.say(&format!("{all} every backup."));
    }
    if !body.files_kept.is_empty() || !body.files_removed.is_empty() {
        prune_folder::show(session, body, &session.zone)?;
    }
    show_safety_copies(session, body)
}

/// Shows the safety copies that go; in a dry run, or where more is asked for, those too that stay.
fn show_safety_copies(session: &Session, body: &PruneBody) -> Result<(), Failure> {
    let told = body.dry_run || session.globals.verbose;
    let kept = body.safety_kept.iter().filter(|_| told).map(|item| (item, "keep"));
    let all: Vec<(&SafetyItem, &str)> =
        body.safety_removed.iter().map(|item| (item, "remove")).chain(kept).collect();
    if all.is_empty() {
        return Ok(());
    }
    let row = |(item, verdict): &(&SafetyItem, &str)| {
        vec![
            item.path.clone(),
            moment(item.time, &session.zone),
            age(item.time, session.started),
            size(item.size_bytes),
            (*verdict).to_owned(),
            item.reasons.join(", "),
        ]
    };
    let header = ["SAFETY COPY", "TIME", "AGE", "SIZE", "VERDICT", "REASONS"];
    let rows = all.iter().take(if session.globals.verbose { usize::MAX } else { TABLES_SHOWN }).map(row);
    session.console.data(&format!("{}\n\n", table(&header, rows.collect(), &[2, 3])))?;
    if let Some(more) =
        all.len().checked_sub(TABLES_SHOWN).filter(|more| *more > 0 && !session.globals.verbose)
    {
        let copies = count(more as u64, "more safety copy", "more safety copies");
        session.console.say(&format!("… and {copies}; `--verbose` shows them all."));
    }
    Ok(())
}

fn rows(session: &Session, verdicts: &[&Verdict]) -> String {
    let row = |Verdict { backup, kept, reasons }: &&Verdict| {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        vec![
            short(&backup.id().0),
            moment(backup.time, &session.zone),
            age(backup.time, session.started),
            size(backup.size_bytes),
            if *kept { "keep" } else { "remove" }.to_owned(),
            reasons.join(", "),
        ]
    };
    table(&["ID", "TIME", "AGE", "SIZE", "VERDICT", "REASONS"], verdicts.iter().map(row).collect(), &[2, 3])
}

fn summary(session: &Session, report: &Report<PruneBody>) {
    let body = &report.body;
    let removed = count(body.removed(), "backup", "backups");
    let kept = count(body.kept(), "backup", "backups");
    let freed = size(body.freed_bytes);
    let time = duration(report.elapsed_ms);
    let text = match (body.dry_run, body.forget_only) {
        (true, true) => {
            format!("Would remove {removed} and keep {kept}. Nothing was removed: this was a dry run.")
        }
        (true, false) => format!(
            "Would remove {removed}, keep {kept}, and free about {freed}. Nothing was removed: this was a dry run."
        ),
        (false, true) => {
            format!(
                "Removed {removed}, kept {kept} in {time}. `backstay prune` without --forget-only frees the space."
            )
        }
        (false, false) => format!("Removed {removed}, kept {kept}, freed {freed} in {time}."),
    };
    session.console.say(&text);
    if !body.safety_removed.is_empty() {
        let copies = count(body.safety_removed.len() as u64, "safety copy", "safety copies");
        let bytes = size(body.safety_removed.iter().map(|item| item.size_bytes).sum());
        let verb = if body.dry_run { "Would remove" } else { "Removed" };
        session.console.say(&format!("{verb} {copies} of earlier restores ({bytes})."));
    }
    if body.foreign > 0 {
        let foreign = count(body.foreign, "snapshot", "snapshots");
        session.console.detail(&format!("{foreign} of other programs left alone."));
    }
}
