//! `restore`: shows the plan, asks for the target's name, restores, and tells what was done. Also finishes or undoes a
//! restore that a crash left.

pub(crate) use super::restore_options::Options;

use super::restore_options::{hooks, ownership, refuse_without_effect, safety};
use super::restore_telling::{ask, show_dry_run, show_plan, tell};
use crate::commands::{restore_dump, restore_files};
use crate::errors::Failure;
use crate::folder_backups;
use crate::json::Finished;
use crate::opening;
use crate::references::{announce, database, is_bare_path, new_at_server, reference};
use crate::session::Session;
use config::{RepositoryLayout, RepositoryPlace, SourceArgument};
use flow::{DatabaseRef, EngineKind};
use operations::import;
use operations::reference::{Moment, Reference, Selector, resolve_one, short};
use operations::report::Report;
use operations::restore::{
    Destination, PendingOptions, Planned, RestoreBody, RestoreOptions, is_of_dump_file,
};
use operations::{AgeKeys, OperationError, Services};
use repository::BackupRecord;
use std::path::PathBuf;

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    if options.resume || options.rollback {
        return take_up(session, options);
    }
    refuse_without_effect(options)?;
    let text = options.named();
    if let Some(target) = &options.target
        && is_bare_path(session, text)?
    {
        return restore_dump::run(session, options, text, target);
    }
    if let Some(meant) = folder_backups::meant(session, text)? {
        return restore_dump::of_repository(session, options, &meant);
    }
    options.identities.refuse_for_backups()?;
    let reference = reference(session, text)?;
    let services = opening::for_backup_argument(session, text)?;
    let records = operations::candidates::load(&services, &reference)?;
    if !options.fallback {
        operations::unlisted::refuse(&services, &records, &reference)?;
    }
    let (record, path) = choose(&records, &reference, &services.host)?;
    announce(session, &reference, &record.id, record.time);
    if record.engine.is_none() {
        if options.data_only {
            return Err(Failure::usage(
                format!("`--data-only` has no effect on {}, which holds files", short(&record.id.0)),
                "leave it out",
            ));
        }
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
        verify: options.verifies(session)?,
        ownership: ownership(options)?,
        tables: options.table.clone(),
        schema_only: options.schema_only,
        data_only: options.data_only,
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
        if options.replaces_nothing() {
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
            match record.engine {
                Some(EngineKind::Postgres) => {
                    "say where it shall go: --target postgres://HOST/NAME to replace a database, --to-new postgres://HOST/NAME \
                     to make a new one"
                }
                _ => {
                    "say where it shall go: --target PATH to replace a database, --to-new PATH to make a new one"
                }
            },
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
            let near = match origin(session, reference, record) {
                Destination::Target(target, _) => target.connection,
                _ => record.connection.to_string(),
            };
            if !near.contains("://") && !path.to_string_lossy().contains("://") {
                // What was imported came from a file: no server is known.
                return Err(Failure::usage(
                    format!("{} came from {near}, and no server is known for it", short(&record.id.0)),
                    format!("name one: --to-new postgres://HOST/{}", path.display()),
                ));
            }
            return Ok(Destination::New(new_at_server(session, &path.to_string_lossy(), &near)?));
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
    let keys = options.identities.keys(session, &configured_identities(session))?;
    let outcome = finish_pending(session, &pending, (options.resume, &keys));
    let report = outcome.map_err(|failure| {
        failure.knowing("target", pending.target.connection.clone()).knowing("dry_run", pending.dry_run)
    })?;
    if pending.dry_run {
        return show_dry_run(session, &report);
    }
    tell(session, &report);
    Finished::new(&report)
}

/// Returns the identity files of all folders that are configured: the record of a restore names only the file.
fn configured_identities(session: &Session) -> Vec<PathBuf> {
    let identity = |place: &RepositoryPlace| match &place.layout {
        RepositoryLayout::Files { age_identity, .. } => age_identity.clone(),
        RepositoryLayout::Restic => None,
    };
    let all = session.settings.repositories.values().filter_map(identity);
    all.filter(|path| path.exists()).collect()
}

fn finish_pending(
    session: &Session,
    pending: &PendingOptions,
    (resume, keys): (bool, &AgeKeys),
) -> Result<Report<RestoreBody>, Failure> {
    if resume {
        let state = pending.state(&session.engines, &session.context)?;
        session.console.say(&format!("Going on with the restore of {}.", pending.target.connection));
        if is_of_dump_file(&state) {
            let services = opening::without_repository(session)?;
            return Ok(operations::restore::resume_dump(&services, pending, keys)?);
        }
        let services = opening::at_location(session, &state.request.repository)?;
        Ok(operations::restore::resume(&services, pending)?)
    } else {
        let services = opening::without_repository(session)?;
        Ok(operations::restore::roll_back(&session.engines, &services, pending)?)
    }
}
