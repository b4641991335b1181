//! `restore FILE|FOLDER --target …`: which of the dump files is meant, and where it goes.

use super::restore_options::{Options, hooks, ownership, safety};
use super::restore_telling::{ask, show_dry_run, show_plan, tell};
use crate::errors::{Failure, exit};
use crate::json::Finished;
use crate::opening;
use crate::references::database;
use crate::session::Session;
use crate::wording::moment;
use config::SourceArgument;
use jiff::tz::TimeZone;
use operations::OperationError;
use operations::dump_files::{Choice, DumpFile, Pattern, TimeSource, find};
use operations::restore::{DumpRestoreOptions, Planned};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(super) fn run(
    session: &Session,
    options: &Options,
    text: &str,
    target: &str,
) -> Result<Finished, Failure> {
    let source = session.arguments().source(target)?;
    let files = files(session, options, text, &source)?;
    let target = database(session, &source)?;
    if files.iter().any(|file| file.path == target.connection) {
        return Err(Failure::usage(
            format!("{} would be restored to itself", target.connection),
            "name another target",
        ));
    }
    if options.create_roles {
        return Err(Failure::usage(
            "`--create-roles` has no effect on a dump file, which has no roles in it",
            "make them first (`pg_dumpall --roles-only` of the old server), or use --role-map or --no-owner",
        ));
    }
    let services = opening::without_repository(session)?;
    let verb = DumpRestoreOptions {
        files,
        target,
        engine: source.target.engine,
        in_place: options.in_place,
        safety: safety(session, options, source.configured),
        verify: options.verifies(session),
        ownership: ownership(options)?,
        tables: options.table.clone(),
        hooks: hooks(options, source.configured),
        fallback: options.fallback,
        dry_run: options.dry_run.dry_run,
    };
    let refused = |failure: Failure| {
        let first = verb.files.first();
        failure
            .knowing("backup", first.map(|file| file.path.clone()))
            .knowing("backup_time", first.map(|file| file.time.to_string()))
            .knowing("target", verb.target.connection.clone())
            .knowing("rolled_back", false)
            .knowing("dry_run", verb.dry_run)
    };
    let mut refusal = None;
    let mut confirm = |planned: &Planned| {
        show_plan(session, options, planned);
        if !options.table.is_empty() && !options.in_place {
            return Ok(());
        }
        ask(session, options, planned).map_err(|failure| {
            let error = OperationError::usage(failure.message.clone(), failure.hint.clone());
            refusal = Some(failure);
            error
        })
    };
    let outcome = operations::restore::run_dump(&services, &verb, &mut confirm);
    if let Some(failure) = refusal {
        return Err(refused(failure));
    }
    let report = outcome.map_err(|error| refused(error.into()))?;
    if verb.dry_run {
        return show_dry_run(session, &report);
    }
    tell(session, &report);
    Finished::new(&report)
}

/// Returns the files of one database, newest first: the one that is named, or those of a folder or a pattern.
fn files(
    session: &Session,
    options: &Options,
    text: &str,
    source: &SourceArgument<'_>,
) -> Result<Vec<DumpFile>, Failure> {
    let path = full(session, Path::new(text));
    let is_one = path.exists() && (!path.is_dir() || path.join("toc.dat").exists());
    if options.pattern.is_some() && is_one {
        return Err(Failure::usage(
            format!("`--pattern` has no effect: {} is one dump", path.display()),
            "leave it out, or name the folder",
        ));
    }
    let patterns = options.pattern.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
    let choice = Choice { zone: zone(session, source), patterns };
    let found = find(std::slice::from_ref(&path), &choice, &session.engines);
    // What cannot even be looked at may be the newest of all.
    if let Some((_, error)) = found.failed.into_iter().next() {
        return Err(error.into());
    }
    let mut files = found.files;
    files.reverse();
    let Some(newest) = files.first() else {
        return Err(Failure::new(exit::DATABASE, format!("{}: there is no dump file", path.display()))
            .with_hint("`ls` the folder, and mind the quotes around a pattern"));
    };
    let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    if names.len() > 1 {
        let shown: Vec<&str> = names.iter().take(10).copied().collect();
        return Err(Failure::usage(
            format!("{} has dumps of {} databases: {}", path.display(), names.len(), shown.join(", ")),
            format!("say which by --pattern, as in --pattern '{}*', or name the file", newest.name),
        ));
    }
    if !is_one {
        let from = match newest.time_source {
            TimeSource::Name => "by its name",
            TimeSource::Modified => "by the time at which it was modified",
        };
        session.console.say(&format!(
            "Chose {} of {}, the newest of {} {from}.",
            newest.path,
            moment(newest.time, &session.zone),
            files.len(),
        ));
    }
    Ok(files)
}

/// Returns a path from the root, with the name that the file was given: a link may have the one that tells.
fn full(session: &Session, path: &Path) -> PathBuf {
    let path = session.absolute(path);
    match (path.is_dir(), path.parent(), path.file_name()) {
        (false, Some(folder), Some(name)) => config::canonical_path(folder).join(name),
        _ => config::canonical_path(&path),
    }
}

/// Returns the zone of the times in names: that of the target's plan, else the local one.
fn zone(session: &Session, source: &SourceArgument<'_>) -> TimeZone {
    let plans = source.configured.into_iter().flat_map(|target| target.plans.values());
    plans.into_iter().find_map(|plan| plan.time_zone.clone()).unwrap_or_else(|| session.zone.clone())
}
