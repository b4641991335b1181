//! `restore`: shows the plan, asks for the target's name, restores, and tells what was done. Also finishes or undoes a
//! restore that a crash left.

use crate::commands::restore_files;
use crate::confirm::{self, Question};
use crate::errors::Failure;
use crate::globals::DryRun;
use crate::json::Finished;
use crate::opening;
use crate::references::{announce, database, is_bare_path, reference};
use crate::session::Session;
use crate::wording::{duration, moment, size};
use clap::Args;
use config::SourceArgument;
use engines::postgres::connection::with_database;
use engines::{Ownership, RestorePlan, Safety};
use flow::{DatabaseRef, EngineKind, quoted};
use operations::import;
use operations::reference::{Moment, Reference, Selector, resolve_one, short};
use operations::report::Report;
use operations::restore::{Destination, Hooks, PendingOptions, Planned, RestoreBody, RestoreOptions};
use operations::{OperationError, Services};
use repository::BackupRecord;
use std::path::{Path, PathBuf};

/// Restore a database
///
/// The backup is written beside the target, compared and checked there, and only then takes its place; what the
/// target held is kept as a safety copy. Whatever fails, the target is as it was. The plan is shown first, and the
/// target's name is to be typed. A dry run shows the plan and what would be refused as things are, and ends with 0.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay restore /srv/shop/shop.db@latest
  backstay restore shops/acme@2026-11-20T02:00 --dry-run
  backstay restore 3fa1c0de --to-new /tmp/look.db    beside everything, replaces nothing
  backstay restore erp --confirm erp                 without a terminal
  backstay restore postgres:///erp@latest --to-new erp_look
  backstay restore postgres:///erp@latest --table sales.orders    a dropped one, or a copy beside
  backstay restore postgres:///erp@latest --table sales.orders --in-place
  backstay restore --continue --target /srv/shop/shop.db
  backstay restore --rollback --target /srv/shop/shop.db")]
pub(crate) struct Options {
    /// The backup: an id, SOURCE, SOURCE@latest, SOURCE@latest~2, SOURCE@2026-11-20T02:00, or latest
    #[arg(value_name = "BACKUP", required_unless_present_any = ["resume", "rollback"])]
    backup: Option<String>,

    /// Restore to this database instead of where the backup came from
    #[arg(long, value_name = "SOURCE")]
    target: Option<String>,

    /// Restore to a new file or database, which must not exist, and replace nothing
    ///
    /// PostgreSQL: the name of a database on the server that the backup came from, or a URL.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["target", "in_place", "confirm"])]
    to_new: Option<PathBuf>,

    /// Write into the live database, under the eyes of those that keep it open, instead of renaming
    ///
    /// SQLite: through SQLite, as one transaction. PostgreSQL: the schemas are renamed and made anew in one transaction,
    /// for a role that may rename no database; with --table, the rows of those tables are replaced.
    #[arg(long)]
    in_place: bool,

    /// Neither compare nor check what was written
    #[arg(long)]
    no_verify: bool,

    /// Restore only this table (PostgreSQL; may be repeated)
    ///
    /// One that is gone comes back under its own name, with all that belonged to it. One that is there is made beside as
    /// TABLE__restored_…, with its indexes; with --in-place its rows are replaced instead. Nothing else is touched, and
    /// all of it is one transaction.
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["to_new", "safety_dir", "stop_command", "start_command", "health_url", "create_roles"])]
    table: Vec<String>,

    /// Let everything belong to the role that restores (PostgreSQL)
    #[arg(long)]
    no_owner: bool,

    /// Give to role NEW what belonged to OLD, and its rights (PostgreSQL; may be repeated)
    #[arg(long, value_name = "OLD=NEW")]
    role_map: Vec<String>,

    /// Make roles that the server does not have, as the backup has them, without passwords (PostgreSQL)
    #[arg(long, conflicts_with_all = ["no_owner", "in_place"])]
    create_roles: bool,

    /// Keep the safety copy in this folder (SQLite)
    #[arg(long, value_name = "DIR", conflicts_with = "no_safety")]
    safety_dir: Option<PathBuf>,

    /// Keep no safety copy
    #[arg(long)]
    no_safety: bool,

    /// Stop what uses the database, before the swap (a shell command)
    ///
    /// With --continue or --rollback, this and the next two stand in for what the restore was begun with.
    #[arg(long, value_name = "COMMAND")]
    stop_command: Option<String>,

    /// Start it again, after the swap or the way back (a shell command)
    #[arg(long, value_name = "COMMAND")]
    start_command: Option<String>,

    /// Accept the restore only once this URL answers with success
    #[arg(long, value_name = "URL")]
    health_url: Option<String>,

    /// Take the next older backup where this one is damaged
    #[arg(long)]
    fallback: bool,

    /// Answer the question for the target's name
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,

    /// Finish a restore that was interrupted
    #[arg(long = "continue", conflicts_with_all = ["rollback", "to_new", "in_place", "no_verify", "safety_dir", "no_safety", "fallback", "confirm", "no_owner", "role_map", "create_roles", "table"])]
    resume: bool,

    /// Undo a restore that was interrupted
    #[arg(long, conflicts_with_all = ["to_new", "in_place", "no_verify", "safety_dir", "no_safety", "fallback", "confirm", "no_owner", "role_map", "create_roles", "table"])]
    rollback: bool,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    if options.resume || options.rollback {
        return take_up(session, options);
    }
    refuse_without_effect(options)?;
    let text = options.backup.as_deref().unwrap_or_default();
    if options.target.is_some() && is_bare_path(session, text)? {
        return Err(Failure::usage(
            format!("`{text}` would be a dump file, and this version restores none yet"),
            format!("the newest backup of a database is {}", quoted(&format!("{text}@latest"))),
        ));
    }
    let reference = reference(session, text)?;
    let services = opening::for_backup_argument(session, text)?;
    let records = operations::candidates::load(&services, &reference)?;
    if !options.fallback {
        operations::unlisted::refuse(&services, &records, &reference)?;
    }
    let (record, path) = choose(&records, &reference, &services.host)?;
    announce(session, &reference, &record.id, record.time);
    if record.engine.is_none() {
        let wanted = restore_files::Wanted {
            record: &record,
            path,
            folder: options.to_new.as_deref(),
            dry_run: options.dry_run.dry_run,
        };
        return restore_files::run(session, &services, wanted);
    }
    let destination = destination(session, &services, options, &reference, &record)?;
    let chosen = Reference { selector: exactly(&record), moment: Moment::Newest, ..reference };
    database_restore(session, options, &services, (chosen, destination), &record)
}

/// Nothing is replaced by tables that are made beside: then there is nothing to be asked for or to be kept.
fn refuse_without_effect(options: &Options) -> Result<(), Failure> {
    if options.table.is_empty() || options.in_place {
        return Ok(());
    }
    let given = [("--confirm", options.confirm.is_some()), ("--no-safety", options.no_safety)];
    match given.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Failure::usage(
            format!("`{option}` has no effect on `--table` without `--in-place`, which replaces nothing"),
            format!("leave `{option}` out, or add `--in-place` to replace the rows of the table"),
        )),
        None => Ok(()),
    }
}

/// Finds the backup. `ID:PATH` of a snapshot that stock restic wrote names a file in it.
fn choose(
    records: &[BackupRecord],
    reference: &Reference,
    host: &str,
) -> Result<(BackupRecord, Option<String>), Failure> {
    let first = resolve_one(records, reference, host);
    if let (Err(_), Selector::Id { prefix, database: Some(path) }) = (&first, &reference.selector) {
        let whole = Reference {
            selector: Selector::Id { prefix: prefix.clone(), database: None },
            ..reference.clone()
        };
        if let Ok(record) = resolve_one(records, &whole, host)
            && record.engine.is_none()
        {
            return Ok((record, Some(path.clone())));
        }
    }
    Ok((first?, None))
}

fn exactly(record: &BackupRecord) -> Selector {
    let database = record.id.0.split_once(':').map(|(_, database)| database.to_owned());
    Selector::Id { prefix: record.snapshot.to_string(), database }
}

fn database_restore(
    session: &Session,
    options: &Options,
    services: &Services,
    (backup, destination): (Reference, Destination),
    record: &BackupRecord,
) -> Result<Finished, Failure> {
    let target = match &destination {
        Destination::Target(target, _) => target.target.clone(),
        _ => record.target.clone(),
    };
    let to_new = options.to_new.is_some();
    let configured = session.settings.targets.get(target.as_str()).filter(|_| !to_new);
    let verb = RestoreOptions {
        backup,
        destination,
        in_place: options.in_place,
        safety: safety(session, options, configured),
        verify: !options.no_verify,
        ownership: ownership(options)?,
        tables: options.table.clone(),
        hooks: hooks(options, configured),
        fallback: options.fallback,
        dry_run: options.dry_run.dry_run,
    };
    let place = match &verb.destination {
        Destination::Origin => record.connection.to_string(),
        Destination::Target(target, _) => target.connection.clone(),
        Destination::New(path) => path.clone(),
    };
    // What was refused before it began is known to have changed nothing.
    let refused = |failure: Failure| {
        failure
            .knowing("backup", record.id.0.clone())
            .knowing("backup_time", record.time.to_string())
            .knowing("target", place.clone())
            .knowing("rolled_back", false)
            .knowing("dry_run", options.dry_run.dry_run)
    };
    let mut refusal = None;
    let mut confirm = |planned: &Planned| {
        show_plan(session, options, planned);
        if to_new || (!options.table.is_empty() && !options.in_place) {
            return Ok(());
        }
        ask(session, options, planned).map_err(|failure| {
            // The verb knows errors of its own kind only; what was refused is kept here as it is.
            let error = OperationError::usage(failure.message.clone(), failure.hint.clone());
            refusal = Some(failure);
            error
        })
    };
    let outcome = operations::restore::run(services, &verb, &mut confirm);
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

/// What was imported without a target came from a dump file: there is no database to put it back to.
fn refuse_no_origin(services: &Services, record: &BackupRecord) -> Result<(), Failure> {
    if !record.is_imported() {
        return Ok(());
    }
    let backup = services.repository.open(&record.id, &services.context)?;
    let origin = backup.manifest().facts.properties.get(import::PROPERTY).cloned();
    match origin.and_then(|origin| serde_json::from_value::<import::Origin>(origin).ok()) {
        Some(origin) if !origin.target_given => Err(Failure::usage(
            format!(
                "{} was imported from {}, and belongs to no database yet",
                short(&record.id.0),
                origin.path
            ),
            "say where it shall go: --target PATH to replace a database, --to-new PATH to make a new one",
        )),
        _ => Ok(()),
    }
}

fn destination(
    session: &Session,
    services: &Services,
    options: &Options,
    reference: &Reference,
    record: &BackupRecord,
) -> Result<Destination, Failure> {
    if let Some(path) = &options.to_new {
        if record.engine == Some(EngineKind::Postgres) {
            return new_at_server(session, reference, record, &path.to_string_lossy());
        }
        let path = config::canonical_path(&session.absolute(path));
        return Ok(Destination::New(path.to_string_lossy().into_owned()));
    }
    let Some(text) = &options.target else {
        let origin = origin(session, reference, record);
        if matches!(origin, Destination::Origin) {
            refuse_no_origin(services, record)?;
        }
        return Ok(origin);
    };
    let source = session.arguments().source(text)?;
    let mut target = database(session, &source)?;
    if source.configured.is_none() && target.connection == record.connection {
        // The same place by another name: it keeps the name that its backups have.
        target.target = record.target.clone();
        target.name = record.database.clone();
    }
    Ok(Destination::Target(target, source.target.engine))
}

/// Returns a new database of a server: of the one that a URL names, else of the one that the backup came from.
fn new_at_server(
    session: &Session,
    reference: &Reference,
    record: &BackupRecord,
    name: &str,
) -> Result<Destination, Failure> {
    if name.contains("://") {
        let source = session.arguments().source(name)?;
        if source.target.engine != EngineKind::Postgres {
            return Err(Failure::usage(
                format!("a backup of postgres cannot be restored to {name}"),
                "name a database, or a postgres:// URL",
            ));
        }
        return Ok(Destination::New(source.target.connection));
    }
    let near = match origin(session, reference, record) {
        Destination::Target(target, _) => target.connection,
        _ => record.connection.to_string(),
    };
    Ok(Destination::New(with_database(&near, name)))
}

fn ownership(options: &Options) -> Result<Ownership, Failure> {
    let mut ownership =
        Ownership { no_owner: options.no_owner, create_roles: options.create_roles, ..Ownership::default() };
    for pair in &options.role_map {
        let Some((old, new)) = pair.split_once('=').filter(|(old, new)| !old.is_empty() && !new.is_empty())
        else {
            return Err(Failure::usage(
                format!("`--role-map {pair}` does not name two roles"),
                "write --role-map OLD=NEW",
            ));
        };
        ownership.role_map.insert(old.to_owned(), new.to_owned());
    }
    Ok(ownership)
}

/// Returns where a backup came from, or where its target is now: a configured one may have moved since.
fn origin(session: &Session, reference: &Reference, record: &BackupRecord) -> Destination {
    let Selector::Target { target, .. } = &reference.selector else { return Destination::Origin };
    let Some(configured) = session.settings.targets.get(target.as_str()) else { return Destination::Origin };
    let source = SourceArgument {
        text: reference.text.clone(),
        target: configured.target.clone(),
        configured: Some(configured),
        only: Some(record.database.clone()),
        near: None,
    };
    match database(session, &source) {
        Ok(now) if now.connection != record.connection => {
            session.console.say(&format!(
                "The backup came from {}; the configuration has its target at {}.",
                record.connection, now.connection
            ));
            Destination::Target(
                DatabaseRef { name: record.database.clone(), ..now },
                configured.target.engine,
            )
        }
        _ => Destination::Origin,
    }
}

fn safety(session: &Session, options: &Options, configured: Option<&config::Target>) -> Safety {
    if options.no_safety || options.to_new.is_some() {
        return Safety::None;
    }
    // Tables stay where they are: a folder of the configuration is for files.
    if !options.table.is_empty() {
        return Safety::Beside;
    }
    let given = options.safety_dir.as_ref().map(|folder| session.absolute(folder));
    match given.or_else(|| configured.and_then(|target| target.restore.safety_dir.clone())) {
        Some(folder) => Safety::Folder(folder),
        None => Safety::Beside,
    }
}

fn hooks(options: &Options, configured: Option<&config::Target>) -> Hooks {
    let shell = |command: &Option<String>| {
        command.as_ref().map(|text| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()])
    };
    // Single tables are brought back under the eyes of those that use the database.
    let own = configured.map(|target| &target.restore).filter(|_| options.table.is_empty());
    Hooks {
        stop: shell(&options.stop_command).or_else(|| own.and_then(|own| own.stop.clone())),
        start: shell(&options.start_command).or_else(|| own.and_then(|own| own.start.clone())),
        health_url: options.health_url.clone().or_else(|| own.and_then(|own| own.health_url.clone())),
        ..Hooks::default()
    }
}

fn ask(session: &Session, options: &Options, planned: &Planned) -> Result<(), Failure> {
    let name = typed_name(session, &planned.target);
    let place = match options.table[..] {
        [] => planned.target.connection.clone(),
        _ => format!("{} of {}", options.table.join(", "), planned.target.connection),
    };
    confirm::ask(
        &Question {
            name: &name,
            place: &place,
            holders: &planned.plan.holders,
            ends_holders: planned.plan.ends_holders,
            confirm: options.confirm.as_deref(),
            yes: session.globals.yes,
        },
        &session.console,
    )
}

/// Returns what a person types: the configured name, or the name of the file or the database.
fn typed_name(session: &Session, target: &DatabaseRef) -> String {
    if session.settings.targets.contains_key(target.target.as_str()) {
        return session.label(target.target.as_str(), Some(target.name.as_str()), None);
    }
    if target.connection.starts_with("postgres://") {
        return target.name.to_string();
    }
    let path = Path::new(&target.connection);
    path.file_name().map_or_else(|| target.connection.clone(), |name| name.to_string_lossy().into_owned())
}

fn show_plan(session: &Session, options: &Options, planned: &Planned) {
    // Whoever is asked sees what about, also where they want quiet.
    let answered = session.globals.yes
        || options.confirm.is_some()
        || options.to_new.is_some()
        || (!options.table.is_empty() && !options.in_place);
    let say = |line: &str| match answered {
        true => session.console.say(line),
        false => session.console.note(line),
    };
    say(&format!(
        "Restoring {} of {} to {}.",
        short(&planned.record.id.0),
        moment(planned.record.time, &session.zone),
        planned.target.connection
    ));
    for line in plan_lines(&planned.plan, planned.estimated_ms) {
        say(&line);
    }
}

fn plan_lines(plan: &RestorePlan, estimated_ms: u64) -> Vec<String> {
    let mut lines: Vec<String> = plan.actions.iter().map(|action| format!("  - {action}")).collect();
    let free = plan
        .free_bytes
        .map_or("an unknown number of bytes is free".to_owned(), |free| format!("{} are free", size(free)));
    if estimated_ms > 0 {
        lines.push(format!(
            "It writes {}, needs {} of space ({free}), and takes about {}.",
            size(plan.write_bytes),
            size(plan.needed_bytes),
            duration(estimated_ms)
        ));
    }
    if !plan.holders.is_empty() {
        let holders: Vec<String> = plan.holders.iter().map(confirm::describe).collect();
        lines.push(format!("The target is in use by {}.", holders.join(", ")));
    }
    lines
}

fn show_dry_run(session: &Session, report: &Report<RestoreBody>) -> Result<Finished, Failure> {
    if let Some(plan) = &report.body.plan {
        // A way back has no steps of a restore.
        let verb = if plan.steps.is_empty() { "roll back the restore of" } else { "restore to" };
        session.console.data(&format!("would {verb} {}:", report.body.target))?;
        for line in plan_lines(plan, report.body.estimated_ms.unwrap_or(0)) {
            session.console.data(&line)?;
        }
    }
    for refusal in &report.body.refusals {
        session.console.data(&format!("would be refused: {refusal}"))?;
    }
    session.console.say("Nothing was changed: this was a dry run.");
    Finished::new(report)
}

fn tell(session: &Session, report: &Report<RestoreBody>) {
    let body = &report.body;
    let proven = if body.verified { ", compared with the backup and checked" } else { "" };
    let verb = if body.rolled_back { "Rolled back" } else { "Restored" };
    let bytes = if body.rolled_back {
        String::new()
    } else {
        format!(" ({}{proven})", size(body.performance.bytes_written))
    };
    session.console.say(&format!("{verb} {}{bytes} in {}.", body.target, duration(report.elapsed_ms)));
    for step in &body.steps {
        session.console.detail(&format!("  {:<10} {}", step.name, duration(step.elapsed_ms)));
    }
    if let Some(copy) = &body.safety_copy {
        session.console.say(&format!("What it held before is kept as {copy}"));
    }
    if body.rolled_back {
        session.console.say("The target is as it was before the restore.");
    }
}

/// Finishes or undoes what lies beside a target.
fn take_up(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let verb = if options.resume { "--continue" } else { "--rollback" };
    let text = match (&options.target, &options.backup) {
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => {
            return Err(Failure::usage(
                format!("`{verb}` needs the target beside which the restore lies"),
                format!("backstay restore {verb} --target PATH"),
            ));
        }
        (Some(_), Some(_)) => {
            return Err(Failure::usage(
                format!("`{verb}` knows the backup by itself"),
                format!("backstay restore {verb} --target PATH"),
            ));
        }
    };
    let source = session.arguments().source(text)?;
    let pending = PendingOptions {
        target: database(session, &source)?,
        engine: source.target.engine,
        hooks: hooks(options, None),
        dry_run: options.dry_run.dry_run,
    };
    let outcome = finish_pending(session, &pending, options.resume);
    let report = outcome.map_err(|failure| {
        failure.knowing("target", pending.target.connection.clone()).knowing("dry_run", pending.dry_run)
    })?;
    if pending.dry_run {
        return show_dry_run(session, &report);
    }
    tell(session, &report);
    Finished::new(&report)
}

fn finish_pending(
    session: &Session,
    pending: &PendingOptions,
    resume: bool,
) -> Result<Report<RestoreBody>, Failure> {
    if resume {
        let state = pending.state(&session.engines, &session.context)?;
        session.console.say(&format!("Going on with the restore of {}.", pending.target.connection));
        let services = opening::at_location(session, &state.request.repository)?;
        Ok(operations::restore::resume(&services, pending)?)
    } else {
        let services = opening::without_repository(session)?;
        Ok(operations::restore::roll_back(&session.engines, &services, pending)?)
    }
}
