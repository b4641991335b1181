//! `restore FILE|FOLDER --target …`, and `restore NAME` of a repository of layout `files`: which of the dump files is meant,
//! and where it goes.

use super::restore_options::{Options, hooks, ownership, safety};
use super::restore_telling::{ask, show_dry_run, show_plan, tell};
use crate::errors::{Failure, exit};
use crate::folder_backups::{Chosen, Meant};
use crate::json::Finished;
use crate::opening;
use crate::references::{database, has_many, new_at_server};
use crate::session::Session;
use crate::wording::moment;
use config::{SourceArgument, Target};
use flow::{DatabaseRef, EngineKind};
use jiff::tz::TimeZone;
use operations::dump_files::{Choice, DumpFile, Pattern, TimeSource, find};
use operations::restore::{DumpRestoreOptions, Planned};
use operations::{AgeKeys, OperationError};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is restored where.
struct Wanted<'a> {
    /// The file, and behind it the older ones of the same database.
    files: Vec<DumpFile>,
    target: DatabaseRef,
    engine: EngineKind,
    configured: Option<&'a Target>,
    keys: AgeKeys,
}

/// Restores a dump file that is named, or the newest of a folder.
pub(super) fn run(
    session: &Session,
    options: &Options,
    text: &str,
    target: &str,
) -> Result<Finished, Failure> {
    let source = session.arguments().source(target)?;
    let wanted = Wanted {
        files: files(session, options, text, &source)?,
        target: database(session, &source)?,
        engine: source.target.engine,
        configured: source.configured,
        keys: options.identities.keys(session, &[])?,
    };
    restore(session, options, wanted)
}

/// Restores a file of a repository of layout `files`.
pub(super) fn of_repository(
    session: &Session,
    options: &Options,
    meant: &Meant<'_>,
) -> Result<Finished, Failure> {
    if options.pattern.is_some() {
        return Err(Failure::usage(
            "`--pattern` is for a folder that is named by its path",
            "leave it out: NAME@latest is the newest file of the target",
        ));
    }
    let chosen = meant.one(session)?;
    refuse_part_for_whole(options, chosen)?;
    let (target, engine, configured) = destination(session, options, meant, chosen)?;
    let came_from = chosen.files.first().and_then(|file| file.manifest.as_ref()).map(|own| &own.connection);
    if let Some(origin) = came_from
        && options.target.is_none()
        && options.to_new.is_none()
        && *origin != target.connection
    {
        session.console.say(&format!(
            "The backup came from {origin}; the configuration has its target at {}.",
            target.connection
        ));
    }
    let files = chosen.files.iter().map(|file| file.file.clone()).collect();
    let keys = options.identities.keys(session, &meant.identities())?;
    restore(session, options, Wanted { files, target, engine, configured, keys })
}

/// What a part of a database leaves out would be gone where it takes the place of the whole.
fn refuse_part_for_whole(options: &Options, chosen: &Chosen) -> Result<(), Failure> {
    let part =
        chosen.files.first().and_then(|file| Some((file, file.manifest.as_ref()?.selection.as_ref()?)));
    let Some((file, part)) = part else { return Ok(()) };
    if options.to_new.is_some() || !options.table.is_empty() || options.data_only {
        return Ok(());
    }
    Err(Failure::usage(
        format!(
            "{} holds a part of {} ({part}), and would take the place of the whole",
            file.file.path, chosen.database
        ),
        "`--to-new NAME` restores it beside, `--data-only` adds its rows to the tables that are there; `backstay list` shows \
         files of the whole",
    ))
}

/// Returns where a file of a repository goes: to a new database, to another one, or to where it came from, which is where
/// its target is now.
fn destination<'a>(
    session: &'a Session,
    options: &Options,
    meant: &Meant<'a>,
    chosen: &Chosen,
) -> Result<(DatabaseRef, EngineKind, Option<&'a Target>), Failure> {
    if let Some(text) = &options.target {
        let source = session.arguments().source(text)?;
        return Ok((database(session, &source)?, source.target.engine, source.configured));
    }
    let (origin, engine, configured) = origin(session, meant, chosen)?;
    let Some(new) = &options.to_new else { return Ok((origin, engine, configured)) };
    let connection = match engine {
        EngineKind::Postgres => new_at_server(session, &new.to_string_lossy(), &origin.connection)?,
        _ => config::canonical_path(&session.absolute(new)).to_string_lossy().into_owned(),
    };
    Ok((DatabaseRef { connection, ..origin }, engine, None))
}

fn origin<'a>(
    session: &'a Session,
    meant: &Meant<'a>,
    chosen: &Chosen,
) -> Result<(DatabaseRef, EngineKind, Option<&'a Target>), Failure> {
    let by_name = || {
        let configured = session.settings.targets.get(chosen.target.as_str())?;
        let (text, target) = (chosen.target.to_string(), configured.target.clone());
        Some(SourceArgument { text, target, configured: Some(configured), only: None, near: None })
    };
    if let Some(source) = meant.source.clone().or_else(by_name) {
        let only = source.only.clone().or_else(|| has_many(&source.target).then(|| chosen.database.clone()));
        let source = SourceArgument { only, ..source };
        return Ok((database(session, &source)?, source.target.engine, source.configured));
    }
    let manifest = chosen.files.first().and_then(|file| file.manifest.as_ref()).ok_or_else(|| {
        let path = chosen.files.first().map(|file| file.file.path.as_str()).unwrap_or_default();
        Failure::usage(
            format!("nothing says which database {path} came from"),
            "say where it shall go: --target PATH",
        )
    })?;
    let (target, name) = (manifest.target.clone(), manifest.database.clone());
    let origin = DatabaseRef { target, name, connection: manifest.connection.clone() };
    Ok((origin, manifest.engine, None))
}

fn restore(session: &Session, options: &Options, wanted: Wanted<'_>) -> Result<Finished, Failure> {
    let Wanted { files, target, engine, configured, keys } = wanted;
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
    let to_new = options.to_new.is_some();
    let configured = configured.filter(|_| !to_new);
    let verb = DumpRestoreOptions {
        files,
        target,
        engine,
        to_new,
        in_place: options.in_place,
        safety: safety(session, options, configured),
        verify: options.verifies(session)?,
        ownership: ownership(options)?,
        tables: options.table.clone(),
        schema_only: options.schema_only,
        data_only: options.data_only,
        hooks: hooks(options, configured),
        keys,
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
        if options.replaces_nothing() {
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
    let default =
        session.context.environment.get("BACKUP_DEFAULT_PATTERN").filter(|_| path.is_dir() && !is_one);
    let pattern = options.pattern.as_deref().or(default);
    let patterns = pattern.into_iter().map(Pattern::parse).collect::<Result<_, _>>()?;
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
