//! `import`: dump files of other tools as backups of their own times. Here it is decided of which database each is.

use super::backup::check_tags;
use crate::age_options::Identities;
use crate::errors::{Failure, exit, exit_code};
use crate::globals::DryRun;
use crate::json::Finished;
use crate::opening;
use crate::references::{database, has_many};
use crate::session::Session;
use crate::wording::{count, duration, moment, size};
use clap::Args;
use config::SourceArgument;
use flow::{DatabaseName, DatabaseRef, SourceError, SourceErrorKind, TargetName};
use jiff::tz::TimeZone;
use operations::OperationError;
use operations::import::{
    Choice, DumpFile, Found, ImportBody, ImportFile, ImportItem, ImportOptions, ImportResult, ImportStatus,
    TimeSource, find,
};
use operations::reference::short;
use operations::report::Report;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Import dump files of other tools, each as a backup of its own time
///
/// SQLite database files, and SQL text as `sqlite3 FILE .dump` writes it; of PostgreSQL custom, tar and directory archives of
/// pg_dump, and its SQL text. Plain, or packed by gzip, zstd, lz4, xz or bzip2, encrypted by age or not. What a file is, is
/// told by its content. The time is the one in its name, as in acme-20260105.sql or app_backup_20260105_120000.db.gz, else
/// the one at which it was modified last. A file that was imported before, as the same database and time, is passed over. The
/// files stay as they are.
///
/// Each is read to its end before anything is stored of it: one that is cut off, damaged or no dump is refused, and the
/// others go on. A SQLite dump is built as a database in scratch and checked; SQL text may do nothing but fill its own
/// database. An archive is stored as it is within. SQL text of PostgreSQL is loaded into a throwaway server, which an
/// installed PostgreSQL is needed for, and dumped from there. No dump of one database holds roles: those that it names must
/// be there when it is restored.
///
/// Without --target, a file is a backup of the database that its name speaks of, in the folder in which it lies:
/// /srv/dumps/acme-20260105.sql is one of /srv/dumps/acme.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay import /srv/dumps --dry-run                       what each file would become
  backstay import /srv/dumps/shop-*.sql.gz --target shop     backups of a configured target
  backstay import /srv/dumps --target shops                  of its tenants, by the names of the files
  backstay import /srv/dumps/erp-*.dump --target erp         archives of pg_dump, each a backup of its own day
  backstay import old.db --target /srv/shop/shop.db --time-zone Europe/Berlin")]
pub(crate) struct Options {
    /// Dump files, and folders of them, which are not searched below themselves
    #[arg(value_name = "FILE|FOLDER", required = true)]
    paths: Vec<PathBuf>,

    /// Of which database they are backups: a configured target, one tenant of it (shops/acme), or a path
    #[arg(long, value_name = "SOURCE")]
    target: Option<String>,

    /// The zone of the times in names that say none [default: that of the target's plan, else the local one]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,

    /// Add a tag to each backup
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,

    /// Build the databases in this folder
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,

    #[command(flatten)]
    identities: Identities,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    check_tags(&options.tag)?;
    let source = options.target.as_ref().map(|text| session.arguments().source(text)).transpose()?;
    let zone = zone(session, options, source.as_ref())?;
    let paths: Vec<PathBuf> = options.paths.iter().map(|path| full(session, path)).collect();
    let found = find(&paths, &Choice::all(zone.clone()), &session.engines);
    let place = opening::place_of(session, source.as_ref())?;
    let chosen = choose(session, options, source.as_ref(), found)?;
    let (mut services, _) = opening::for_backup(session, &place, options.dry_run.dry_run)?;
    if let Some(scratch) = &options.scratch {
        services.context.scratch = flow::ScratchDir::new(session.absolute(scratch));
    }
    let result = operations::import::run(&services, chosen)?;
    finish(session, &zone, result)
}

/// Returns a path from the root, with the name that the file was given: a link may have the one that tells.
fn full(session: &Session, path: &Path) -> PathBuf {
    let path = session.absolute(path);
    match (path.is_dir(), path.parent(), path.file_name()) {
        (false, Some(folder), Some(name)) => config::canonical_path(folder).join(name),
        _ => config::canonical_path(&path),
    }
}

fn zone(
    session: &Session,
    options: &Options,
    source: Option<&SourceArgument<'_>>,
) -> Result<TimeZone, Failure> {
    if options.time_zone.is_some() {
        return session.named_zone(options.time_zone.as_deref());
    }
    let plans =
        source.and_then(|source| source.configured).into_iter().flat_map(|target| target.plans.values());
    let planned = plans.into_iter().find_map(|plan| plan.time_zone.clone());
    Ok(planned.unwrap_or_else(|| session.zone.clone()))
}

/// Decides of which database each file is.
fn choose(
    session: &Session,
    options: &Options,
    source: Option<&SourceArgument<'_>>,
    found: Found,
) -> Result<ImportOptions, Failure> {
    let names: BTreeSet<&str> = found.files.iter().map(|file| file.name.as_str()).collect();
    if let Some(source) = source
        && (source.only.is_some() || !has_many(&source.target))
        && names.len() > 1
    {
        // Under one name the newest of one would make retention remove the others.
        let names: Vec<&str> = names.into_iter().take(5).collect();
        return Err(Failure::usage(
            format!("the files are of several databases ({}), and {} is one", names.join(", "), source.text),
            "import those of one database at a time, or leave --target away",
        ));
    }
    let mut chosen = ImportOptions {
        files: vec![],
        skipped: found.skipped,
        failed: found.failed,
        target_given: source.is_some(),
        engine: source.map(|source| source.target.engine),
        keys: options.identities.keys(session, &[])?,
        scratch_given: options.scratch.is_some(),
        tags: options.tag.clone(),
        dry_run: options.dry_run.dry_run,
    };
    let members = source.map(|source| members(session, source)).unwrap_or_default();
    for file in found.files {
        let database = match source {
            Some(source) => member(session, source, &members, &file)?,
            None => Ok(in_its_folder(&file)?),
        };
        match database {
            Ok(database) => chosen.files.push(ImportFile { file, database }),
            Err(error) => chosen.failed.push((file.path, error)),
        }
    }
    Ok(chosen)
}

/// Returns the databases that a folder or a glob has now.
fn members(session: &Session, source: &SourceArgument<'_>) -> Vec<DatabaseRef> {
    let named =
        source.only.is_some() || !has_many(&source.target) || source.target.connection.contains("{tenant}");
    if named {
        return vec![];
    }
    let found = session
        .engines
        .of(&source.target)
        .and_then(|engine| engine.databases(&source.target, &session.context));
    found.map(|found| found.databases).unwrap_or_default()
}

/// Returns the database of a source that a file is of. The inner error is that file's own.
fn member(
    session: &Session,
    source: &SourceArgument<'_>,
    members: &[DatabaseRef],
    file: &DumpFile,
) -> Result<Result<DatabaseRef, OperationError>, Failure> {
    if source.only.is_some() || !has_many(&source.target) {
        return database(session, source).map(Ok);
    }
    if source.target.connection.contains("{tenant}") {
        let only = Some(database_name(&file.name)?);
        return database(session, &SourceArgument { only, ..source.clone() }).map(Ok);
    }
    let fits = |database: &&DatabaseRef| {
        let stem = Path::new(database.name.as_str()).file_stem().and_then(|stem| stem.to_str());
        database.name.as_str() == file.name || stem == Some(&file.name)
    };
    let mut fitting = members.iter().filter(fits);
    let message = match (fitting.next(), fitting.next()) {
        (Some(one), None) => return Ok(Ok(one.clone())),
        (None, _) => format!("is of {}, and {} has no such database", file.name, source.text),
        _ => format!("is of {}, and {} has several databases of that name", file.name, source.text),
    };
    let error = SourceError::new(SourceErrorKind::Missing, file.path.as_str(), message)
        .with_hint("name the database itself by --target, or leave --target away");
    Ok(Err(error.into()))
}

/// Returns the database that a file is of where nobody says more.
fn in_its_folder(file: &DumpFile) -> Result<DatabaseRef, Failure> {
    let folder = Path::new(&file.path).parent().unwrap_or(Path::new("/"));
    let target = TargetName::new(folder.to_string_lossy())
        .map_err(|error| Failure::usage(error.to_string(), "say --target"))?;
    let connection = folder.join(&file.name).to_string_lossy().into_owned();
    Ok(DatabaseRef { target, name: database_name(&file.name)?, connection })
}

fn database_name(name: &str) -> Result<DatabaseName, Failure> {
    DatabaseName::new(name).map_err(|error| Failure::usage(error.to_string(), "say --target"))
}

fn finish(session: &Session, zone: &TimeZone, result: ImportResult) -> Result<Finished, Failure> {
    let ImportResult { mut report, errors, broken } = result;
    let shown = report.body.imports.iter_mut().filter_map(|item| item.error.as_mut());
    for (shown, error) in shown.zip(&errors) {
        shown.exit_code = Some(exit_code(error));
    }
    show(session, zone, &report)?;
    let all = report.body.imports.len();
    match broken.map(Failure::from).or_else(|| verdict(session, errors, all)) {
        Some(failure) => Finished::failing(report, failure),
        None => Finished::new(&report),
    }
}

/// Shows each failure of several and returns the one that decides the exit code.
fn verdict(session: &Session, errors: Vec<OperationError>, all: usize) -> Option<Failure> {
    let failed = errors.len();
    let first_code = errors.first().map(exit_code)?;
    let mut failures: Vec<Failure> = errors.into_iter().map(Failure::from).collect();
    if all == 1 {
        return failures.pop();
    }
    for failure in &failures {
        failure.show(&session.console);
    }
    let code = if failed >= all { first_code } else { exit::INCOMPLETE };
    Some(Failure::new(code, format!("{failed} of {all} files failed")))
}

fn show(session: &Session, zone: &TimeZone, report: &Report<ImportBody>) -> Result<(), Failure> {
    let console = &session.console;
    for skipped in &report.body.skipped {
        console.say(&format!("Passed over {}: {}.", skipped.object, skipped.reason));
    }
    let of = |status: ImportStatus| report.body.imports.iter().filter(move |item| item.status == status);
    for item in &report.body.imports {
        if let Some(line) = line(session, zone, item) {
            console.data(&line)?;
        }
    }
    let done = of(ImportStatus::Imported).count() as u64;
    let known = of(ImportStatus::Known).count() as u64;
    if report.body.dry_run {
        console.say("Nothing was imported: this was a dry run.");
        return Ok(());
    }
    let there = if known == 0 { String::new() } else { format!(", {known} were imported before") };
    console.say(&format!(
        "Imported {} ({} new{there}) in {}.",
        count(done, "file", "files"),
        size(of(ImportStatus::Imported).filter_map(|item| item.added_bytes).sum()),
        duration(report.elapsed_ms)
    ));
    let by_file =
        of(ImportStatus::Imported).filter(|item| item.time_source == Some(TimeSource::Modified)).count();
    if by_file > 0 {
        console.say(&format!(
            "{} no time in the name: there the time is the one at which the file was modified.",
            if by_file == 1 { "1 of them has".to_owned() } else { format!("{by_file} of them have") }
        ));
    }
    Ok(())
}

fn line(session: &Session, zone: &TimeZone, item: &ImportItem) -> Option<String> {
    let place = match (&item.target, &item.database) {
        (Some(target), Some(database)) if target.as_str().starts_with('/') => {
            Path::new(target.as_str()).join(database.as_str()).display().to_string()
        }
        (Some(target), Some(database)) => session.label(target.as_str(), Some(database.as_str()), None),
        _ => return None,
    };
    let source = match item.time_source {
        Some(TimeSource::Modified) => " (modified)",
        _ => "",
    };
    let time = format!("{}{source}", moment(item.time?, zone));
    let id = item.id.as_ref().map(|id| short(&id.0));
    match item.status {
        ImportStatus::Imported => {
            let proof = item.proof.map(|level| format!(", {level}")).unwrap_or_default();
            let sizes = format!("{}, {} new", size(item.size_bytes?), size(item.added_bytes?));
            Some(format!("{}  {place}  {time}  {sizes}{proof}  from {}", id?, item.path))
        }
        ImportStatus::Known => Some(format!("{}  {place}  {time}  imported before  from {}", id?, item.path)),
        ImportStatus::Planned => Some(format!("would import {} as {place} of {time}", item.path)),
        ImportStatus::Failed => None,
    }
}
