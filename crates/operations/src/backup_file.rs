//! Backs up one database into one plain file instead of into a repository: the same consistent moment, the same verdict,
//! no repository needed.
//!
//! The source's verdict comes before the file has its name. What failed, or was killed, leaves nothing under that name.

use crate::backup::{BackupBody, BackupItem, BackupTarget, stepping_back};
use crate::hooks::{self, Hook};
use crate::plain_file::{self, FileOut, Place, WrittenFile, Wrote};
use crate::report::{Outcome, Report};
use crate::{OperationError, Services, journaling};
use engines::Engine;
use flow::{
    DatabaseRef, DatabaseRequest, DumpOptions, DumpRequest, Event, Facts, Phase, SourceError, SourceErrorKind,
};
use jiff::Timestamp;
use std::io::Write;
use std::time::Instant;

/// Writes the one database of a target. The services' repository is not used.
pub fn run(
    services: &Services,
    target: &BackupTarget,
    out: FileOut<'_>,
    dump: &DumpOptions,
    dry_run: bool,
) -> Result<Report<BackupBody>, OperationError> {
    let started = Timestamp::now();
    if dry_run {
        return write(services, target, out, dump, started, true);
    }
    let recorded = journaling::begin(services, "backup", Some(target.target.name.to_string()), started);
    let outcome = write(services, target, out, dump, started, false);
    journaling::finish(services, &recorded, outcome.as_ref());
    outcome
}

fn write(
    services: &Services,
    target: &BackupTarget,
    out: FileOut<'_>,
    dump: &DumpOptions,
    started: Timestamp,
    dry_run: bool,
) -> Result<Report<BackupBody>, OperationError> {
    let engine = services.engines.of(&target.target)?;
    let place = plain_file::place(&out, engine.forms())?;
    let database = the_one(services, engine, target)?;
    let mut body = BackupBody { dry_run, ..BackupBody::default() };
    let mut written = WrittenFile {
        path: place.path.clone(),
        form: place.form,
        compression: place.compression,
        encryption: place.encryption,
        size_bytes: None,
        written_bytes: None,
    };
    let mut item = BackupItem {
        database: Some(database.name.clone()),
        selection: target.selection.clone(),
        ..BackupItem::of(&target.target)
    };
    if dry_run {
        item.size_bytes = Some(engine.probe(&database, false, &services.context)?.size_bytes);
    } else {
        let options = DumpOptions { selection: target.selection.clone(), ..dump.clone() };
        let request = DumpRequest {
            target: target.target.clone(),
            databases: vec![DatabaseRequest { database, previous: None }],
            options,
        };
        let began = Instant::now();
        let only = target.only.as_ref();
        let mut came = None;
        hooks::around(
            Hook::new("before_backup", target.before.as_deref(), &target.target.name, only),
            Hook::new("after_backup", target.after.as_deref(), &target.target.name, only),
            false,
            services,
            || {
                came = Some(stepping_back(|| to_place(services, engine, &request, out, &place))?);
                Ok(())
            },
        )?;
        if let Some((facts, size_bytes, written_bytes)) = came {
            (written.size_bytes, written.written_bytes) = (Some(size_bytes), Some(written_bytes));
            item.time = Some(facts.consistency.time);
            item.rows = facts.rows();
            (item.size_bytes, item.read_bytes) = (Some(size_bytes), Some(facts.size_bytes));
            item.unchanged = Some(false);
            item.elapsed_ms = Some(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        }
    }
    body.backups.push(item);
    body.file = Some(written);
    Ok(Report::new("backup", started, Outcome::Complete, body))
}

/// Returns the database that goes into the file. A target of several has none.
fn the_one(
    services: &Services,
    engine: &dyn Engine,
    target: &BackupTarget,
) -> Result<DatabaseRef, OperationError> {
    let missing = |name: &str| {
        let object = format!("{}/{name}", target.target.name);
        SourceError::new(SourceErrorKind::Missing, object, "the target has no such database")
    };
    if let Some(only) = &target.only {
        let found = engine.database(&target.target, only, &services.context)?;
        return Ok(found.ok_or_else(|| missing(only.as_str()))?);
    }
    let mut found = engine.databases(&target.target, &services.context)?.databases;
    match (found.pop(), found.len()) {
        (Some(one), 0) => Ok(one),
        (None, _) => Err(missing("").into()),
        (Some(last), others) => Err(OperationError::usage(
            format!("{} has {} databases, and one goes into a file", target.target.name, others + 1),
            format!("name one of them, as in {}", last.connection),
        )),
    }
}

fn to_place(
    services: &Services,
    engine: &dyn Engine,
    request: &DumpRequest,
    out: FileOut<'_>,
    place: &Place,
) -> Result<(Facts, u64, u64), OperationError> {
    let name = format!("backing up {}", request.target.connection);
    services.context.observer.event(Event::Phase(Phase { name, total_bytes: None }));
    let mut facts = None;
    let mut write = |sink: &mut (dyn Write + Send)| {
        let written = engine.dump_file(request, place.form, sink, &services.context)?;
        facts = Some(written.facts);
        Ok(Wrote { size_bytes: written.size_bytes, front: written.front })
    };
    let (size_bytes, written_bytes) = plain_file::write(out, place, &mut write)?;
    services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
    let facts = facts.ok_or_else(|| {
        let message = "it was written without a verdict on it";
        SourceError::new(SourceErrorKind::Failed, request.target.connection.clone(), message)
    })?;
    Ok((facts, size_bytes, written_bytes))
}
