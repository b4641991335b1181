//! `backup`: which targets go to which repository, one run of the verb for each repository, and what came of it.

use super::backup_file::{self, FileOptions};
use super::backup_folder::{self, Files, Planned};
use crate::errors::{Failure, exit, exit_code};
use crate::globals::DryRun;
use crate::json::Finished;
use crate::opening::{self, Place};
use crate::prune_scopes::safety_rule;
use crate::selecting::{Selecting, refuse_where_there_are_none};
use crate::session::Session;
use crate::wording::{count, duration, moment, printable, size};
use clap::Args;
use config::{Plan, RepositoryLayout, RepositoryPlace, SourceArgument};
use flow::{DatabaseName, DumpOptions, Selection, TargetName};
use operations::backup::{BackupBody, BackupItem, BackupOptions, BackupTarget, Suspicion};
use operations::reference::short;
use operations::report::{Outcome, Report};
use operations::{Configuration, OperationError, Retention, Services};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Back up databases
///
/// A database that has not changed since its last backup is not read again. A backup counts once its source ended
/// cleanly and every byte of it was read back from the repository.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay backup /srv/shop/shop.db
  backstay backup '/srv/shops/*.db'       all that match, in one run
  backstay backup erp shops/acme          configured targets
  backstay backup --all --json            everything configured, for a script
  backstay backup postgres:///erp --out erp.dump
                                          one plain file, no repository")]
pub(crate) struct Options {
    /// What to back up: a configured target, one tenant of it (shops/acme), a SQLite file, a folder, a glob, or a postgres:// URL
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,

    /// Back up every configured target
    #[arg(long, conflicts_with = "sources")]
    all: bool,

    /// Tag of the backup, beside those of its plan (may be repeated)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,

    /// How many parts are read at once; never changes what is stored
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,

    /// Read databases that seem unchanged too
    #[arg(long)]
    read_all: bool,

    /// Keep old backups too, whatever the plan says
    #[arg(long)]
    no_prune: bool,

    /// How many seconds to wait for a database that somebody keeps locked
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    lock_wait: u64,

    #[command(flatten)]
    selecting: Selecting,

    #[command(flatten)]
    file: FileOptions,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

/// The targets that go to one repository.
struct Job {
    place: Place,
    targets: Vec<Planned>,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    check_tags(&options.tag)?;
    let selection = options.selecting.selection()?;
    let sources = sources(session, options)?;
    for source in &sources {
        refuse_where_there_are_none(&source.text, source.target.engine, selection.as_ref())?;
    }
    let dump = DumpOptions {
        read_all: options.read_all,
        jobs: usize::from(options.jobs.unwrap_or_else(default_jobs)),
        lock_wait: Duration::from_secs(options.lock_wait),
        selection: None,
    };
    if let Some(out) = &options.file.out {
        let [source] = sources.as_slice() else {
            return Err(Failure::usage(
                format!("{} sources are named, and one goes into a file", sources.len()),
                "write each into a file of its own, or all of them into a repository",
            ));
        };
        let dry_run = options.dry_run.dry_run;
        return backup_file::run(session, source, selection, &dump, (out, &options.file, dry_run));
    }
    let mut jobs: Vec<Job> = Vec::new();
    for source in &sources {
        for (place, target) in plans(session, source, selection.as_ref(), options)? {
            let known = jobs.iter_mut().find(|job| job.place.repository.path == place.repository.path);
            match known {
                Some(job) => job.targets.push(target),
                None => jobs.push(Job { place, targets: vec![target] }),
            }
        }
    }
    let mut whole = Whole::new(session, options.dry_run.dry_run);
    for job in jobs {
        let attempt = run_job(session, job, &dump, options.dry_run.dry_run);
        match attempt {
            Ok(result) => whole.take(result),
            Err(failure) if whole.is_empty() => return Err(failure),
            Err(failure) => return whole.finish(session, Some(failure)),
        }
    }
    whole.finish(session, None)
}

fn default_jobs() -> u16 {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    u16::try_from(cores).unwrap_or(8).clamp(1, 8)
}

pub(crate) fn check_tags(tags: &[String]) -> Result<(), Failure> {
    let ours = |tag: &str| {
        ["target=", "plan=", "database=", "selection="].iter().any(|key| tag.starts_with(key))
            || ["backstay-state", "imported"].contains(&tag)
    };
    match tags.iter().find(|tag| tag.is_empty() || tag.contains(',') || ours(tag)) {
        Some(tag) => Err(Failure::usage(
            format!("`{tag}` cannot be a tag"),
            "a tag is not empty, has no comma, and is none of `target=…`, `plan=…`, `database=…`, `selection=…`, \
             `imported` and `backstay-state`",
        )),
        None => Ok(()),
    }
}

fn sources<'a>(session: &'a Session, options: &Options) -> Result<Vec<SourceArgument<'a>>, Failure> {
    let names: Vec<String> = if options.all {
        session.settings.targets.keys().cloned().collect()
    } else {
        options.sources.clone()
    };
    if names.is_empty() {
        let configured: Vec<&str> = session.settings.targets.keys().map(String::as_str).collect();
        return Err(if options.all {
            Failure::usage(
                "no target is configured",
                "name a file, or let `backstay init` write a configuration",
            )
        } else if configured.is_empty() {
            Failure::usage(
                "nothing to back up is named",
                "name a SQLite file or a PostgreSQL database: backstay backup /path/of/app.db, backstay backup postgres:///erp",
            )
        } else {
            Failure::usage(
                "nothing to back up is named",
                format!("name one of {}, or say --all", configured.join(", ")),
            )
        });
    }
    let mut sources: Vec<SourceArgument<'a>> = Vec::new();
    for name in names {
        let source = session.live_source(&name)?;
        if !sources.iter().any(|earlier| earlier.target == source.target && earlier.only == source.only) {
            sources.push(source);
        }
    }
    Ok(sources)
}

/// Returns where a source goes: once for each of its plans; those of another repository than the one that was asked
/// for are left out.
fn plans(
    session: &Session,
    source: &SourceArgument<'_>,
    selection: Option<&Selection>,
    options: &Options,
) -> Result<Vec<(Place, Planned)>, Failure> {
    let asked = opening::asked_for(session)?;
    let default = || opening::default_place(session);
    let among = named_tenants(source)?;
    let target = |plan: Option<(&String, &Plan)>| Planned {
        target: target_of(session, (source, among.as_ref()), selection, options, plan),
        form: plan.and_then(|(_, plan)| plan.form.clone()),
        zone: plan.and_then(|(_, plan)| plan.time_zone.clone()),
    };
    let mut planned = Vec::new();
    for plan in source.configured.iter().flat_map(|configured| &configured.plans) {
        let own: Option<&RepositoryPlace> = plan.1.repository.as_ref();
        let place = match own {
            Some(repository) => Place::named(repository.clone()),
            None => default()?,
        };
        if asked.as_ref().is_none_or(|asked| asked.repository.path == place.repository.path) {
            planned.push((place, target(Some(plan))));
        }
    }
    if planned.is_empty() {
        let place = match asked {
            Some(asked) => asked,
            None => default()?,
        };
        planned.push((place, target(None)));
    }
    Ok(planned)
}

/// Returns the databases of a source that a list names, where there is one and no single database is meant.
fn named_tenants(source: &SourceArgument<'_>) -> Result<Option<BTreeSet<DatabaseName>>, Failure> {
    let list = source.configured.and_then(|configured| configured.tenants.as_ref());
    let Some(list) = list.filter(|_| source.only.is_none()) else { return Ok(None) };
    let name = |name: String| {
        DatabaseName::new(name).map_err(|error| Failure::usage(error.to_string(), "correct the list"))
    };
    list.read()?.into_iter().map(name).collect::<Result<_, _>>().map(Some)
}

fn target_of(
    session: &Session,
    (source, among): (&SourceArgument<'_>, Option<&BTreeSet<DatabaseName>>),
    selection: Option<&Selection>,
    options: &Options,
    plan: Option<(&String, &Plan)>,
) -> BackupTarget {
    BackupTarget {
        target: source.target.clone(),
        plan: plan.map(|(name, _)| name.clone()),
        only: source.only.clone(),
        among: among.cloned(),
        // What a command says goes before what a plan does.
        selection: selection.or(plan.and_then(|(_, plan)| plan.selection.as_ref())).cloned(),
        before: source.configured.and_then(|configured| configured.before_backup.clone()),
        after: source.configured.and_then(|configured| configured.after_backup.clone()),
        tags: plan
            .map(|(_, plan)| plan.tags.clone())
            .unwrap_or_default()
            .into_iter()
            .chain(options.tag.iter().cloned())
            .collect(),
        retention: plan.filter(|_| !options.no_prune).and_then(|(_, plan)| retention(session, source, plan)),
    }
}

fn retention(session: &Session, source: &SourceArgument<'_>, plan: &Plan) -> Option<Retention> {
    let rules = plan.keep.clone()?;
    let zone = plan.time_zone.clone().unwrap_or_else(|| session.zone.clone());
    let safety = safety_rule(session, &source.target, source.configured, source.only.as_ref(), &zone);
    Some(Retention { rules, zone, safety })
}

fn run_job(
    session: &Session,
    job: Job,
    dump: &DumpOptions,
    dry_run: bool,
) -> Result<operations::backup::BackupResult, Failure> {
    if let RepositoryLayout::Files { names, age_recipients, .. } = &job.place.repository.layout {
        let files = Files { names, age_recipients };
        return backup_folder::run(session, &job.place, files, job.targets, dump.clone(), dry_run);
    }
    let (services, key_file) = opening::for_backup(session, &job.place, dry_run)?;
    let configuration = configuration(session, &job.place, &services);
    let targets = job.targets.into_iter().map(|planned| planned.target).collect();
    let options = BackupOptions { targets, dump: dump.clone(), dry_run, configuration };
    let result = operations::backup::run(&services, &options)?;
    let worth_saying = !session.globals.quiet && !dry_run && result.errors.is_empty();
    if let Some(key_file) = key_file.filter(|_| worth_saying) {
        remind(session, &services, &key_file);
    }
    Ok(result)
}

/// Returns the configuration that is in use, to be kept beside the backups, unless it seems to hold a secret.
fn configuration(session: &Session, place: &Place, services: &Services) -> Option<Configuration> {
    let file = session.settings.file.as_ref()?;
    if let Some(line) = config::inline_secret(&session.settings) {
        session.console.warn(
            &format!(
                "{}:{line}: it seems to hold a secret, so it is not kept beside the backups",
                file.display()
            ),
            Some("put the secret into a file and name that file; then `adopt` brings the configuration back"),
        );
        return None;
    }
    let key_file = session.places.key_file(services.repository.id());
    Some(Configuration {
        file: file.display().to_string(),
        text: session.settings.text.clone(),
        repository: place.repository.name.clone(),
        key_file: (place.repository.password.is_none() && key_file.exists())
            .then(|| key_file.display().to_string()),
    })
}

/// Reminds of the copy of the key, until one was shown.
fn remind(session: &Session, services: &Services, key_file: &Path) {
    // Where that cannot be told, the backup said why.
    if let Ok(false) = operations::keys::is_confirmed(services) {
        session.console.say(&format!(
            "reminder: copy the key file {} to a safe place, then: backstay key confirm COPY",
            key_file.display()
        ));
    }
}

/// What the runs of all repositories came to together.
struct Whole {
    report: Option<Report<BackupBody>>,
    errors: Vec<OperationError>,
    dry_run: bool,
    started: jiff::Timestamp,
}

impl Whole {
    fn new(session: &Session, dry_run: bool) -> Self {
        Self { report: None, errors: vec![], dry_run, started: session.started }
    }

    fn is_empty(&self) -> bool {
        self.report.is_none()
    }

    fn take(&mut self, mut result: operations::backup::BackupResult) {
        let shown = result.report.body.backups.iter_mut().filter_map(|item| item.error.as_mut());
        for (shown, error) in shown.zip(&result.errors) {
            shown.exit_code = Some(exit_code(error));
        }
        self.errors.extend(result.errors);
        match &mut self.report {
            None => self.report = Some(result.report),
            Some(report) => {
                report.body.backups.extend(result.report.body.backups);
                report.body.suspicions.extend(result.report.body.suspicions);
                report.body.appeared.extend(result.report.body.appeared);
                report.body.vanished.extend(result.report.body.vanished);
                report.body.healed.extend(result.report.body.healed);
                report.body.lost.extend(result.report.body.lost);
                report.body.skipped.extend(result.report.body.skipped);
                if let Some(pruned) = result.report.body.pruned {
                    report.body.pruned.get_or_insert_default().add(pruned);
                }
            }
        }
    }

    fn finish(self, session: &Session, broken: Option<Failure>) -> Result<Finished, Failure> {
        let Some(report) = self.report else {
            return Err(
                broken.unwrap_or_else(|| Failure::usage("nothing to back up is named", "name a source"))
            );
        };
        let failed = self.errors.len();
        let all = report.body.backups.len();
        let outcome = match (failed, &broken) {
            (0, None) if !report.body.suspicions.is_empty() => Outcome::Suspect,
            (0, None) => Outcome::Complete,
            (failed, None) if failed >= all => Outcome::Failed,
            _ => Outcome::Incomplete,
        };
        let report = Report::new("backup", self.started, outcome, report.body);
        show(session, &report, self.dry_run)?;
        let failure = broken.or_else(|| verdict(session, self.errors, all));
        match failure {
            Some(failure) => Finished::failing(report, failure),
            None => Finished::where_asked(session, &report),
        }
    }
}

/// How many databases are shown one by one where a run has very many; `--verbose` shows them all.
const LINES_SHOWN: usize = 20;

/// Shows the failures of several and returns the one that decides the exit code.
fn verdict(session: &Session, errors: Vec<OperationError>, all: usize) -> Option<Failure> {
    let failed = errors.len();
    let first_code = errors.first().map(exit_code)?;
    let mut failures: Vec<Failure> = errors.into_iter().map(Failure::from).collect();
    if all == 1 && failures.len() == 1 {
        return failures.pop();
    }
    for failure in failures.iter().take(LINES_SHOWN) {
        failure.show(&session.console);
    }
    if let Some(more) = failures.len().checked_sub(LINES_SHOWN).filter(|more| *more > 0) {
        session.console.note(&format!("… and {more} more: `--json` names them all"));
    }
    let code = if failed >= all { first_code } else { exit::INCOMPLETE };
    Some(Failure::new(code, format!("{failed} of {all} databases failed")))
}

fn show(session: &Session, report: &Report<BackupBody>, dry_run: bool) -> Result<(), Failure> {
    let console = &session.console;
    for skipped in &report.body.skipped {
        console.detail(&format!("Passed over {}: {}.", skipped.object, skipped.reason));
    }
    tell_comings_and_goings(session, &report.body);
    for suspicion in report.body.suspicions.iter().take(LINES_SHOWN) {
        tell_suspicion(session, suspicion);
    }
    if let Some(more) = report.body.suspicions.len().checked_sub(LINES_SHOWN).filter(|more| *more > 0) {
        console.warn(&format!("{more} more backups are suspect: `--json` names them all"), None);
    }
    tell_settled(session, &report.body);
    let done: Vec<&BackupItem> = report.body.backups.iter().filter(|item| item.error.is_none()).collect();
    let (shown, more) = shown(session, &done);
    if dry_run {
        for item in shown {
            console.data(&format!(
                "would back up {} ({})",
                label(session, item),
                size(item.size_bytes.unwrap_or(0))
            ))?;
        }
        tell_more(session, more);
        console.say("Nothing was backed up: this was a dry run.");
        return Ok(());
    }
    for item in shown {
        show_done(session, item)?;
    }
    tell_more(session, more);
    if !done.is_empty() {
        let added = done.iter().filter_map(|item| item.added_bytes).sum();
        let unchanged = done.iter().filter(|item| item.unchanged == Some(true)).count() as u64;
        let same = if unchanged == 0 { String::new() } else { format!(", {} of them unchanged", unchanged) };
        console.say(&format!(
            "Backed up {} ({} new{same}) in {}.",
            count(done.len() as u64, "database", "databases"),
            size(added),
            duration(report.elapsed_ms)
        ));
    }
    if let Some(pruned) = report.body.pruned.as_ref().filter(|pruned| pruned.backups > 0) {
        let old = count(pruned.backups, "old backup", "old backups");
        let freed = match pruned.freed_bytes {
            0 => String::new(),
            bytes => format!(", which freed {}", size(bytes)),
        };
        console.say(&format!("Removed {old} that the plan does not keep{freed}."));
    }
    if let Some(pruned) = report.body.pruned.as_ref().filter(|pruned| pruned.safety_copies > 0) {
        let copies = count(pruned.safety_copies, "safety copy", "safety copies");
        console.say(&format!("Removed {copies} of earlier restores."));
    }
    Ok(())
}

/// Shows a backup that was made.
fn show_done(session: &Session, item: &BackupItem) -> Result<(), Failure> {
    let bytes = size(item.size_bytes.unwrap_or(0));
    let added = size(item.added_bytes.unwrap_or(0));
    let label = label(session, item);
    let proof = item.proof.map(|level| level.to_string()).unwrap_or_default();
    if let Some(path) = &item.path {
        session.console.data(&format!("{}  {label}  {bytes}, {added} written, {proof}", printable(path)))?;
    }
    if let Some(id) = &item.id {
        let change =
            if item.unchanged == Some(true) { "unchanged".to_owned() } else { format!("{added} new") };
        session.console.data(&format!("{}  {label}  {bytes}, {change}, {proof}", short(&id.0)))?;
    }
    Ok(())
}

/// Says which damaged backups are whole again, and warns of those that nobody brings back.
fn tell_settled(session: &Session, body: &BackupBody) {
    if !body.healed.is_empty() {
        let all = body.healed.iter().map(|id| short(&id.0)).collect();
        let noun = count(body.healed.len() as u64, "damaged backup is", "damaged backups are");
        session.console.say(&format!("{noun} whole again: {}.", names(all)));
    }
    for lost in &body.lost {
        session.console.warn(
            &format!("backup {} is lost: {}", short(&lost.id.0), lost.reason),
            Some("it stays in the list, and is refused; other backups can be restored as ever"),
        );
    }
}

/// Returns the databases that are shown one by one, and how many are not: of very many only the first that changed.
fn shown<'a>(session: &Session, done: &[&'a BackupItem]) -> (Vec<&'a BackupItem>, usize) {
    if done.len() <= LINES_SHOWN || session.globals.verbose {
        return (done.to_vec(), 0);
    }
    let changed: Vec<&BackupItem> =
        done.iter().copied().filter(|item| item.unchanged != Some(true)).collect();
    let more = changed.len().saturating_sub(LINES_SHOWN);
    (changed.into_iter().take(LINES_SHOWN).collect(), more)
}

fn tell_more(session: &Session, more: usize) {
    if more > 0 {
        session.console.say(&format!("… and {more} more; `--verbose` shows them all."));
    }
}

fn tell_suspicion(session: &Session, suspicion: &Suspicion) {
    let label = session.label(suspicion.target.as_str(), Some(suspicion.database.as_str()), None);
    let against = match (&suspicion.baseline, suspicion.baseline_time) {
        (Some(id), Some(time)) => {
            format!("against the backup {} of {}", short(&id.0), moment(time, &session.zone))
        }
        _ => "unchanged since it was found to be so".to_owned(),
    };
    session.console.warn(
        &format!("the backup of {label} is suspect ({against}): {}", suspicion.reasons.join("; ")),
        Some(&format!(
            "look at the database; if this is as it should be, `backstay accept {}`; until then the backup does not \
             count for retention",
            short(&suspicion.backup.0)
        )),
    );
}

/// How many names a sentence holds.
const NAMES_SHOWN: usize = 10;

fn names(all: Vec<String>) -> String {
    match all.get(NAMES_SHOWN..) {
        Some(rest) if !rest.is_empty() => {
            format!("{} and {} more", all[..NAMES_SHOWN].join(", "), rest.len())
        }
        _ => all.join(", "),
    }
}

/// Says which databases of many are new, and warns of those that are gone.
fn tell_comings_and_goings(session: &Session, body: &BackupBody) {
    let label = |target: &TargetName, database: &DatabaseName| {
        session.label(target.as_str(), Some(database.as_str()), None)
    };
    if !body.appeared.is_empty() {
        let all = body.appeared.iter().map(|new| label(&new.target, &new.database)).collect();
        session.console.say(&format!("{} new: {}.", body.appeared.len(), names(all)));
    }
    if !body.vanished.is_empty() {
        let all = body.vanished.iter().map(|gone| {
            let time = moment(gone.time, &session.zone);
            format!(
                "{} (last backup {} of {time})",
                label(&gone.target, &gone.database),
                short(&gone.backup.0)
            )
        });
        session.console.warn(
            &format!("{} vanished: {}", body.vanished.len(), names(all.collect())),
            Some("`backstay restore` brings one back; if it was meant to go, nothing is to be done: its backups stay"),
        );
    }
}

fn label(session: &Session, item: &BackupItem) -> String {
    let database = item.database.as_ref().map(flow::DatabaseName::as_str);
    let label = session.label(item.target.as_str(), database, None);
    match &item.selection {
        Some(selection) => format!("{label} ({selection})"),
        None => label,
    }
}
