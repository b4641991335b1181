//! Restores from a dump file that any tool made: what it holds is read to its end first, and is then restored as a backup is,
//! with the same steps, safety copy and way back.
//!
//! The file is opened for reading and nothing else. What has to be unpacked or loaded lies in scratch meanwhile, never beside
//! the target. After a crash the record beside the target names the file and its SHA-256: only the same one is gone on with.

use super::pending::{PendingOptions, resume_from};
use super::plan::{self, Planned, Subject, plan_request};
use super::{Hooks, RestoreBody, execute};
use crate::dump_files::{
    DumpFile, DumpSource, fingerprint, recognise, refuse_another_digest, undecodable, unpack, unreadable_at,
};
use crate::encryption::Encryption;
use crate::import::scratch::ScratchFolder;
use crate::import::{enough_space, no_scratch, tell_future};
use crate::plain_file::Compression;
use crate::report::{Outcome, Report};
use crate::{AgeKeys, OperationError, Services};
use engines::{ExportForm, LoadRequest, Ownership, RestoreMode, RestoreRequest, RestoreState, Safety};
use flow::{
    BackupReader, DatabaseRef, EngineKind, Event, Finding, Phase, ReadErrorKind, Severity, SourceError,
    SourceErrorKind,
};
use jiff::Timestamp;
use std::path::Path;
use std::sync::Arc;
use storage::FileKind;

/// How a restore record names a dump file as where the backup is, before the file's SHA-256.
const LOCATION: &str = "dump-file:";

/// Which dump file to restore, where to, and how.
#[derive(Debug, Clone)]
pub struct DumpRestoreOptions {
    /// The file, and behind it the older ones of the same database, newest first.
    pub files: Vec<DumpFile>,
    /// The database that it goes to, which need not exist.
    pub target: DatabaseRef,
    /// The system of that database.
    pub engine: EngineKind,
    /// Makes that database, which must not exist, and replaces nothing.
    pub to_new: bool,
    /// Writes through the database system instead of renaming.
    pub in_place: bool,
    /// What becomes of the old database.
    pub safety: Safety,
    /// Whether what was written is compared and checked.
    pub verify: bool,
    /// To whom it belongs, where the database system has owners.
    pub ownership: Ownership,
    /// Only these tables.
    pub tables: Vec<String>,
    /// Definitions without rows.
    pub schema_only: bool,
    /// Rows without definitions, added to tables that are there.
    pub data_only: bool,
    /// Commands and checks around the swap.
    pub hooks: Hooks,
    /// By what encrypted files are read.
    pub keys: AgeKeys,
    /// Takes the next older file where this one is damaged.
    pub fallback: bool,
    /// Tells what would happen, and changes nothing.
    pub dry_run: bool,
}

/// Restores a dump file. `confirm` is shown the plan before anything changes, and may refuse by its error. A file that is
/// not whole stops it, and the next older one is named; that one is taken only where `fallback` says so.
pub fn run_dump(
    services: &Services,
    options: &DumpRestoreOptions,
    confirm: &mut dyn FnMut(&Planned) -> Result<(), OperationError>,
) -> Result<Report<RestoreBody>, OperationError> {
    let started = Timestamp::now();
    let mut files = options.files.iter();
    let mut file =
        files.next().ok_or_else(|| OperationError::usage("no dump file is named", "name one".to_owned()))?;
    let mut confirmed = false;
    loop {
        let error = match attempt(services, options, file, started, &mut confirmed, confirm) {
            Err(error) if is_of_the_dump(&error, file) => error,
            outcome => return outcome,
        };
        match files.next() {
            Some(next) if options.fallback => {
                tell_fallback(services, file, next, &error);
                file = next;
            }
            Some(next) => return Err(explain(error, file, next)),
            None => return Err(error),
        }
    }
}

fn attempt(
    services: &Services,
    options: &DumpRestoreOptions,
    file: &DumpFile,
    started: Timestamp,
    confirmed: &mut bool,
    confirm: &mut dyn FnMut(&Planned) -> Result<(), OperationError>,
) -> Result<Report<RestoreBody>, OperationError> {
    let source = DumpSource::of(Path::new(&file.path))?;
    let _lock = source.lock()?;
    let mut scratch = make_scratch(services)?;
    tell_future(&services.context, file);
    let opened = read(services, (&options.target, options.engine), (&source, &options.keys), &mut scratch)?;
    let request = RestoreRequest {
        target: options.target.clone(),
        mode: match (options.to_new, options.in_place) {
            (true, _) => RestoreMode::ToNew,
            (false, true) => RestoreMode::InPlace,
            (false, false) => RestoreMode::Swap,
        },
        safety: options.safety.clone(),
        verify: options.verify,
        ownership: options.ownership.clone(),
        tables: options.tables.clone(),
        schema_only: options.schema_only,
        data_only: options.data_only,
        backup: file.path.clone(),
        repository: format!("{LOCATION}{}", opened.sha256),
        started: Timestamp::now(),
        host: services.host.clone(),
    };
    let subject = Subject { shown: file.path.clone(), time: file.time };
    let planned = plan_request(services, request, (options.engine, subject), opened.backup, &options.hooks)?;
    if options.dry_run {
        return Ok(Report::new("restore", started, Outcome::Complete, plan::dry_run(&planned)));
    }
    if !*confirmed {
        confirm(&planned)?;
        *confirmed = true;
    }
    execute::execute(services, planned, started)
}

/// A dump file that was read to its end.
struct Opened {
    backup: Arc<dyn BackupReader>,
    sha256: String,
}

fn make_scratch(services: &Services) -> Result<ScratchFolder, OperationError> {
    let path = services.context.scratch.path();
    Ok(ScratchFolder::make(path).map_err(|error| no_scratch(path, error))?)
}

/// Reads a dump file to its end, as a backup of what it holds. The target says for which system it must be.
fn read(
    services: &Services,
    (target, kind): (&DatabaseRef, EngineKind),
    (source, keys): (&DumpSource, &AgeKeys),
    scratch: &mut ScratchFolder,
) -> Result<Opened, OperationError> {
    let before = source.look()?;
    if before.kind == FileKind::Folder {
        return open_folder(services, target, kind, source);
    }
    let context = &services.context;
    let object = source.object();
    let file = source.open()?;
    let phase = Phase { name: format!("reading {object}"), total_bytes: None };
    context.observer.event(Event::Phase(phase));
    let mut unpacked = unpack(&object, file, keys)?;
    let (engine, form) = recognise(&services.engines, &unpacked.head).map_err(|reason| {
        SourceError::new(SourceErrorKind::NotADatabase, object.as_str(), reason)
            .with_hint("name a dump file of a database, plain or packed")
    })?;
    if engine != kind {
        return Err(OperationError::usage(
            format!("{object} is a dump of {engine}, and cannot be restored to {target}, which is {kind}"),
            "name a target of the same system".to_owned(),
        ));
    }
    let folder = scratch.fresh().map_err(|error| no_scratch(context.scratch.path(), error))?;
    // SQL text of PostgreSQL is read again where it lies.
    if (engine, form) != (EngineKind::Postgres, ExportForm::Sql) {
        enough_space(context.scratch.path(), before.size_bytes, unpacked.compression, form)?;
    }
    let plain = unpacked.compression == Compression::None && unpacked.encryption == Encryption::None;
    let path = source.local_path().filter(|_| plain);
    let mut bytes = unpacked.bytes();
    let request = LoadRequest {
        object: &object,
        form,
        dump: &mut bytes,
        file: path.as_deref(),
        folder: &folder,
        again: Some(source.again(keys)),
    };
    let backup = services.engines.get(engine)?.open_dump(request, target, context)?;
    drop(bytes);
    let fingerprint = unpacked.finish().map_err(|error| undecodable(&object, error))?;
    refuse_another_digest(source, &fingerprint)?;
    if !source.look()?.is_same(&before) {
        let message = "changes while it is read: it is still being written";
        return Err(SourceError::new(SourceErrorKind::Busy, object, message)
            .with_hint("restore it when it is finished")
            .into());
    }
    Ok(Opened { backup, sha256: fingerprint.sha256 })
}

/// Reads a dump that is a folder to its end. It is known again by its table of contents.
fn open_folder(
    services: &Services,
    target: &DatabaseRef,
    kind: EngineKind,
    source: &DumpSource,
) -> Result<Opened, OperationError> {
    let object = source.object();
    let phase = Phase { name: format!("reading {object}"), total_bytes: None };
    services.context.observer.event(Event::Phase(phase));
    let opened =
        services.engines.get(kind)?.open_dump_folder(&source.local_folder()?, target, &services.context);
    let backup = opened.ok_or_else(|| {
        OperationError::usage(
            format!("{object} is a folder, and no dump of {kind}, which {target} is"),
            "name a target of the same system".to_owned(),
        )
    })??;
    let contents = source.member("toc.dat");
    let fingerprint =
        fingerprint(contents.open()?).map_err(|error| unreadable_at(contents.object(), error))?;
    Ok(Opened { backup, sha256: fingerprint.sha256 })
}

/// Tells whether a restore that was begun is one of a dump file: then no repository is needed to go on.
pub fn is_of_dump_file(state: &RestoreState) -> bool {
    state.request.repository.starts_with(LOCATION)
}

/// Runs the remaining steps of a restore from a dump file. The file must be what it was.
pub fn resume_dump(
    services: &Services,
    options: &PendingOptions,
    keys: &AgeKeys,
) -> Result<Report<RestoreBody>, OperationError> {
    let mut scratch = make_scratch(services)?;
    let mut locks = Vec::new();
    resume_from(services, options, &mut |state| {
        let source = DumpSource::of(Path::new(&state.request.backup))?;
        locks.extend(source.lock()?);
        let opened = read(services, (&options.target, options.engine), (&source, keys), &mut scratch)?;
        if state.request.repository.strip_prefix(LOCATION) == Some(&opened.sha256) {
            return Ok(opened.backup);
        }
        let message = "is not the file any more with which the restore was begun";
        let hint = "undo the restore with `backstay restore --rollback`, then begin it again";
        let object = state.request.backup.as_str();
        Err(SourceError::new(SourceErrorKind::Damaged, object, message).with_hint(hint).into())
    })
}

/// Tells whether a failure says that the dump is worth nothing, and not that the target is busy, or no database.
fn is_of_the_dump(error: &OperationError, file: &DumpFile) -> bool {
    use SourceErrorKind::{Busy, Damaged, NotADatabase};
    match error {
        OperationError::Source(error) => {
            matches!(error.kind, Damaged | NotADatabase | Busy)
                && Path::new(&error.object).starts_with(&file.path)
        }
        OperationError::Backup(error) => {
            matches!(error.kind, ReadErrorKind::Damaged | ReadErrorKind::Missing)
        }
        // What was made of it was looked at, and was not in order.
        OperationError::Restore { source, attempt, .. } if attempt.rolled_back => match &**source {
            OperationError::Source(error) => error.kind == Damaged,
            other => is_of_the_dump(other, file),
        },
        _ => false,
    }
}

/// Names the next older file and its age: never taken in silence.
fn explain(error: OperationError, file: &DumpFile, next: &DumpFile) -> OperationError {
    let hint = format!(
        "the next older one is {} of {}, {} older; `--fallback` accepts it",
        next.path,
        next.time,
        plan::age_between(next.time, file.time)
    );
    let message = "is the newest dump, and cannot be restored";
    SourceError::new(SourceErrorKind::Damaged, file.path.as_str(), message)
        .with_hint(hint)
        .with_source(error)
        .into()
}

/// Says aloud that an older file is taken.
fn tell_fallback(services: &Services, from: &DumpFile, to: &DumpFile, error: &OperationError) {
    services.context.observer.event(Event::Finding(Finding {
        severity: Severity::Warning,
        object: from.path.clone(),
        message: format!("cannot be restored ({error}); taking {} of {} instead", to.path, to.time),
        hint: None,
    }));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dump_files::{Likeness, TimeSource};

    #[test]
    fn a_target_that_is_busy_or_no_database_says_nothing_of_the_dump() {
        let file = DumpFile {
            path: "/dumps/app-20260105.db".to_owned(),
            name: "app".to_owned(),
            time: Timestamp::UNIX_EPOCH,
            time_source: TimeSource::Name,
            size_bytes: 1,
            modified: Timestamp::UNIX_EPOCH,
            is_folder: false,
            likeness: Likeness::Name,
        };
        let error = |kind, object: &str| OperationError::Source(SourceError::new(kind, object, "is so"));
        for kind in [SourceErrorKind::Busy, SourceErrorKind::NotADatabase, SourceErrorKind::Damaged] {
            assert!(is_of_the_dump(&error(kind, &file.path), &file), "{kind:?}");
            assert!(is_of_the_dump(&error(kind, "/dumps/app-20260105.db/toc.dat"), &file), "{kind:?}");
            assert!(!is_of_the_dump(&error(kind, "/srv/app.db"), &file), "{kind:?}");
        }
        assert!(!is_of_the_dump(&error(SourceErrorKind::Unwritable, &file.path), &file));
    }
}
