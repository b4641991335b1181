//! From the text of arguments to what verbs take: references to backups, targets to back up, databases to restore to.

use crate::errors::Failure;
use crate::session::Session;
use crate::wording;
use config::{BackupArgument, SourceArgument, Which};
use engines::postgres::connection::with_database;
use flow::{DatabaseName, DatabaseRef, EngineKind, TargetRef};
use jiff::Timestamp;
use operations::Services;
use operations::reference::{Moment, Reference, Selector, short};
use repository::{BackupId, BackupRecord};
use std::path::Path;

/// Returns the reference that a text means.
pub(crate) fn reference(session: &Session, text: &str) -> Result<Reference, Failure> {
    let (selector, which) = match session.arguments().backup(text)? {
        BackupArgument::Only(which) => (Selector::Only, Some(which)),
        BackupArgument::Id { prefix, database } => (Selector::Id { prefix, database }, None),
        BackupArgument::Of { source, which } => (selector(&source), which),
    };
    let moment = match which {
        None | Some(Which::Latest(0)) => Moment::Newest,
        Some(Which::Latest(steps)) => Moment::Back(steps),
        Some(Which::At(time)) => Moment::At(time),
    };
    Ok(Reference { text: text.to_owned(), selector, moment })
}

fn selector(source: &SourceArgument<'_>) -> Selector {
    match source.configured {
        Some(_) => Selector::Target { target: source.target.name.clone(), database: source.only.clone() },
        None => Selector::Place(source.target.connection.clone()),
    }
}

/// Tells whether a text is a path alone, without a moment: where dump files are meant.
pub(crate) fn is_bare_path(session: &Session, text: &str) -> Result<bool, Failure> {
    let argument = session.arguments().backup(text)?;
    let is_path = |source: &SourceArgument<'_>| {
        source.configured.is_none() && source.target.engine == EngineKind::Sqlite
    };
    Ok(matches!(argument, BackupArgument::Of { source, which: None } if is_path(&source)))
}

/// Says which backup a time chose, and how far from it that is.
pub(crate) fn announce(session: &Session, reference: &Reference, id: &BackupId, chosen: Timestamp) {
    if let Moment::At(time) = reference.moment {
        let distance = u64::try_from(time.as_millisecond() - chosen.as_millisecond()).unwrap_or(0);
        session.console.say(&format!(
            "Chose the backup of {}, {} before the time asked for: {}",
            wording::moment(chosen, &session.zone),
            wording::duration(distance),
            short(&id.0)
        ));
    }
}

/// Finds the one backup that a text means, and says so where a time chose it.
pub(crate) fn find(
    session: &Session,
    services: &Services,
    reference: &Reference,
) -> Result<BackupRecord, Failure> {
    let records = operations::candidates::load(services, reference)?;
    operations::unlisted::refuse(services, &records, reference)?;
    let record = operations::reference::resolve_one(&records, reference, &services.host)?;
    announce(session, reference, &record.id, record.time);
    Ok(record)
}

/// Returns the one database that a source is, for a restore: it need not exist.
pub(crate) fn database(session: &Session, source: &SourceArgument<'_>) -> Result<DatabaseRef, Failure> {
    let target = &source.target;
    if target.engine == EngineKind::Postgres && has_many(target) {
        return one_of_server(source);
    }
    if target.engine == EngineKind::Postgres {
        let found = session.engines.of(target)?.databases(target, &session.context)?.databases;
        return found.into_iter().next().ok_or_else(|| {
            Failure::usage(format!("{} names no database", source.text), "name one after the last slash")
        });
    }
    let path = Path::new(&target.connection);
    let many = has_many(target);
    if let Some(only) = &source.only
        && !many
        && !path.exists()
        && path.file_name().is_none_or(|name| name != only.as_str())
    {
        // A folder of databases that is gone: the name is that of the file which was in it.
        let connection = format!("{}/{only}", target.connection);
        return Ok(DatabaseRef { target: target.name.clone(), name: only.clone(), connection });
    }
    if !many {
        let name =
            path.file_name().map_or(target.connection.clone(), |name| name.to_string_lossy().into_owned());
        let name =
            DatabaseName::new(name).map_err(|error| Failure::usage(error.to_string(), "name a file"))?;
        return Ok(DatabaseRef { target: target.name.clone(), name, connection: target.connection.clone() });
    }
    let Some(only) = &source.only else {
        return Err(Failure::usage(
            format!("{} has many databases, and one is to be restored", source.text),
            format!("name one, as in {}/DATABASE, or the path of its file", source.text),
        ));
    };
    if let Ok(Some(database)) = session.engines.of(target)?.database(target, only, &session.context) {
        return Ok(database);
    }
    if target.connection.contains("{tenant}") {
        let connection = target.connection.replace("{tenant}", only.as_str());
        return Ok(DatabaseRef { target: target.name.clone(), name: only.clone(), connection });
    }
    Err(Failure::usage(
        format!("{} has no database {only}", target.name),
        "give the path of the file as --target PATH",
    ))
}

/// Returns the one database that is meant of those of a server, by the pattern alone: it need not exist.
fn one_of_server(source: &SourceArgument<'_>) -> Result<DatabaseRef, Failure> {
    let target = &source.target;
    let Some(only) = &source.only else {
        return Err(Failure::usage(
            format!("{} has many databases, and one is meant", source.text),
            format!("name one, as in {}/DATABASE, or by its URL", source.text),
        ));
    };
    // Encoded as the name of a database is in a URL.
    let encoded = with_database("postgres://", only.as_str());
    let encoded = encoded.rsplit('/').next().unwrap_or_default();
    let connection = match target.connection.contains("{tenant}") {
        true => target.connection.replace("{tenant}", encoded),
        false => with_database(&target.connection, only.as_str()),
    };
    Ok(DatabaseRef { target: target.name.clone(), name: only.clone(), connection })
}

/// Returns a new database of a server: of the one that a URL names, else of the one of another database.
pub(crate) fn new_at_server(session: &Session, name: &str, near: &str) -> Result<String, Failure> {
    if name.contains("://") {
        let source = session.arguments().source(name)?;
        if source.target.engine != EngineKind::Postgres {
            return Err(Failure::usage(
                format!("a backup of postgres cannot be restored to {name}"),
                "name a database, or a postgres:// URL",
            ));
        }
        return Ok(source.target.connection);
    }
    Ok(with_database(near, name))
}

/// Tells whether a target may have many databases: a folder, a glob, or a template.
pub(crate) fn has_many(target: &TargetRef) -> bool {
    if target.engine == EngineKind::Postgres {
        // What stands behind the question mark is no pattern.
        let place = target.connection.split('?').next().unwrap_or_default();
        return place.contains('*') || place.contains("{tenant}");
    }
    let path = Path::new(&target.connection);
    target.connection.contains("{tenant}") || path.is_dir() || has_wildcard(path)
}

fn has_wildcard(path: &Path) -> bool {
    !path.exists()
        && path.as_os_str().as_encoded_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}
