//! Imports dump files that other tools made: each becomes a backup of its own snapshot, at the moment that it shows.
//!
//! A file is unpacked, and the database that it holds is built in scratch and checked; what is stored is a dump of that
//! database, by the way that every backup goes. So a file is wholly imported or not at all: one that is cut, damaged or
//! no dump leaves nothing, and the others go on. Files are opened for reading and nothing else. A crash leaves a scratch
//! folder, which the next import removes; what was imported before it is there, and is known again by its digest.

pub(crate) mod scratch;

pub use crate::dump_files::{Choice, DumpFile, Found, TimeSource, find};

use crate::dump_files::{self, Fingerprint, Unpacked, recognise, unreadable};
use crate::journaling;
use crate::plain_file::Compression;
use crate::report::{ErrorReport, Outcome, Report, elapsed_ms};
use crate::{OperationError, Services};
use engines::{ExportForm, LoadRequest, Skipped};
use flow::{
    Context, DatabaseName, DatabaseRef, DatabaseRequest, DumpOptions, DumpRequest, EngineKind, Event,
    Finding, Phase, Severity, SourceError, SourceErrorKind, Step, TargetName, TargetRef,
};
use jiff::Timestamp;
use repository::{
    BackupId, BackupRecord, IMPORTED_TAG, PartError, ProofLevel, RepositoryErrorKind, SnapshotReport,
    SnapshotRequest, SnapshotWriter,
};
use scratch::ScratchFolder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The property of a manifest that says from which file a backup was imported.
pub const PROPERTY: &str = "imported";
/// What is left of the scratch disk for others.
const RESERVED_BYTES: u64 = 32 << 20;

/// Where an imported backup is from, as its manifest keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The file's path.
    pub path: String,
    /// SHA-256 of the file as it was, packed or not.
    pub sha256: String,
    /// Its length.
    pub size_bytes: u64,
    /// Whether somebody said of which database it is. Where nobody did, a restore has no place to go to by itself.
    pub target_given: bool,
}

/// A file, and what it is a backup of.
#[derive(Debug, Clone)]
pub struct ImportFile {
    /// The file.
    pub file: DumpFile,
    /// The database.
    pub database: DatabaseRef,
}

/// What to import, and how.
#[derive(Debug)]
pub struct ImportOptions {
    /// The files, in the order in which they are taken.
    pub files: Vec<ImportFile>,
    /// What was passed over.
    pub skipped: Vec<Skipped>,
    /// What was named and cannot be taken: the path and why.
    pub failed: Vec<(String, OperationError)>,
    /// Whether somebody said of which databases they are.
    pub target_given: bool,
    /// Tags for the snapshots, beside ours.
    pub tags: Vec<String>,
    /// Tells what would be imported, and writes nothing.
    pub dry_run: bool,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportStatus {
    /// It is a backup now.
    Imported,
    /// It was imported before, as the backup of that id.
    Known,
    /// It would be imported: this was a dry run.
    Planned,
    /// It was refused, or could not be read or stored.
    Failed,
}

/// One file.
#[derive(Debug, Clone, Serialize)]
pub struct ImportItem {
    /// Its path.
    pub path: String,
    /// What became of it.
    pub status: ImportStatus,
    /// The backup's id; null where there is none.
    pub id: Option<BackupId>,
    /// The target; null where it is not known, as is all that follows.
    pub target: Option<TargetName>,
    /// The database.
    pub database: Option<DatabaseName>,
    /// The engine.
    pub engine: Option<EngineKind>,
    /// The moment that it shows.
    pub time: Option<Timestamp>,
    /// From where that is known.
    pub time_source: Option<TimeSource>,
    /// The form of the dump.
    pub form: Option<ExportForm>,
    /// How it is packed.
    pub compression: Option<Compression>,
    /// SHA-256 of the file.
    pub sha256: Option<String>,
    /// The file's length.
    pub file_bytes: Option<u64>,
    /// Size of the database.
    pub size_bytes: Option<u64>,
    /// What it added to the repository.
    pub added_bytes: Option<u64>,
    /// Rows of all its tables.
    pub rows: Option<u64>,
    /// How far it is proven.
    pub proof: Option<ProofLevel>,
    /// How long it took.
    pub elapsed_ms: Option<u64>,
    /// Why it failed.
    pub error: Option<ErrorReport>,
}

/// The report's own part.
#[derive(Debug, Clone, Serialize)]
pub struct ImportBody {
    /// The files, oldest first, then those that could not even be looked at.
    pub imports: Vec<ImportItem>,
    /// What lies in a folder and is no dump.
    pub skipped: Vec<Skipped>,
    /// Whether nothing was done but telling.
    pub dry_run: bool,
}

/// What a run came to.
#[derive(Debug)]
pub struct ImportResult {
    /// The report.
    pub report: Report<ImportBody>,
    /// The errors of the files that failed, in the order of the report's items that have one.
    pub errors: Vec<OperationError>,
    /// Why it ended before all files were tried: the repository failed, or it was interrupted.
    pub broken: Option<OperationError>,
}

/// Imports. A file that fails takes no other with it.
pub fn run(services: &Services, options: ImportOptions) -> Result<ImportResult, OperationError> {
    let started = Timestamp::now();
    if options.dry_run {
        return all_files(services, options, started);
    }
    let recorded = journaling::begin(services, "import", None, started);
    let outcome = all_files(services, options, started);
    match &outcome {
        Ok(ImportResult { broken: Some(error), .. }) => {
            journaling::finish::<ImportBody>(services, &recorded, Err(error));
        }
        other => journaling::finish(services, &recorded, other.as_ref().map(|result| &result.report)),
    }
    outcome
}

fn all_files(
    services: &Services,
    options: ImportOptions,
    started: Timestamp,
) -> Result<ImportResult, OperationError> {
    let scratch = services.context.scratch.path();
    let mut folder = match options.dry_run {
        true => None,
        false => Some(ScratchFolder::make(scratch).map_err(|error| no_scratch(scratch, error))?),
    };
    let (mut imports, mut errors, mut broken) = (Vec::new(), Vec::new(), None);
    let mut known = Known::new();
    for file in &options.files {
        let began = Timestamp::now();
        let mut item = empty_item(&file.file.path);
        let attempt = Import { services, options: &options, file, item: &mut item, known: &mut known }
            .run(folder.as_mut());
        item.elapsed_ms = Some(elapsed_ms(began, Timestamp::now()));
        match attempt {
            Ok(()) => imports.push(item),
            Err(error @ (OperationError::Source(_) | OperationError::Local { .. }))
                if !is_cancelled(&error) =>
            {
                imports.push(failed(item, &error));
                errors.push(error);
            }
            Err(error) => {
                broken = Some(if is_cancelled(&error) { OperationError::Cancelled } else { error });
                break;
            }
        }
    }
    for (path, error) in options.failed {
        imports.push(failed(empty_item(&path), &error));
        errors.push(error);
    }
    let outcome = match (errors.len(), &broken) {
        (0, None) => Outcome::Complete,
        (failed, None) if failed >= imports.len() => Outcome::Failed,
        (_, Some(_)) if imports.is_empty() => Outcome::Failed,
        _ => Outcome::Incomplete,
    };
    let body = ImportBody { imports, skipped: options.skipped, dry_run: options.dry_run };
    Ok(ImportResult { report: Report::new("import", started, outcome, body), errors, broken })
}

fn is_cancelled(error: &OperationError) -> bool {
    matches!(error, OperationError::Cancelled)
        || matches!(error, OperationError::Source(error) if error.kind == SourceErrorKind::Cancelled)
}

pub(crate) fn no_scratch(path: &Path, error: std::io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Failed, path.display().to_string(), "scratch space cannot be used")
        .with_hint("make room there, or name another folder by --scratch")
        .with_source(error)
}

/// The import of one file, and what is known of it so far.
struct Import<'a> {
    services: &'a Services,
    options: &'a ImportOptions,
    file: &'a ImportFile,
    item: &'a mut ImportItem,
    known: &'a mut Known,
}

/// What was imported before, by target: asked for once in a run.
type Known = BTreeMap<TargetName, Vec<BackupRecord>>;

impl Import<'_> {
    fn run(&mut self, scratch: Option<&mut ScratchFolder>) -> Result<(), OperationError> {
        let context = &self.services.context;
        context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        context.observer.event(Event::Phase(Phase {
            name: format!("importing {}", self.file.file.path),
            total_bytes: None,
        }));
        let (file, database) = (&self.file.file, &self.file.database);
        self.item.target = Some(database.target.clone());
        self.item.database = Some(database.name.clone());
        (self.item.time, self.item.time_source) = (Some(file.time), Some(file.time_source));
        let path = Path::new(&file.path);
        let opened = File::open(path).map_err(|error| unreadable(path, error))?;
        let before = Look::at(&opened, path)?;
        self.item.file_bytes = Some(before.size_bytes);
        if let Some((id, sha256)) = self.known(path)? {
            (self.item.status, self.item.id, self.item.sha256) =
                (ImportStatus::Known, Some(id), Some(sha256));
            return Ok(());
        }
        let mut unpacked = Unpacked::begin(opened).map_err(|error| undecodable(&file.path, error))?;
        self.item.compression = Some(unpacked.compression);
        let known = recognise(&self.services.engines, &unpacked.head).and_then(importable);
        let (engine, form) = known.map_err(|reason| {
            SourceError::new(SourceErrorKind::NotADatabase, file.path.as_str(), reason)
                .with_hint("name a SQLite database file, or SQL text that makes one, plain or packed")
        })?;
        (self.item.engine, self.item.form) = (Some(engine), Some(form));
        tell_future(context, file);
        let Some(scratch) = scratch else {
            self.item.status = ImportStatus::Planned;
            return Ok(());
        };
        let folder = scratch.fresh().map_err(|error| no_scratch(context.scratch.path(), error))?;
        enough_space(context.scratch.path(), before.size_bytes, unpacked.compression, form)?;
        let loaded = self.load(engine, form, &mut unpacked, &folder)?;
        let fingerprint = unpacked.finish().map_err(|error| undecodable(&file.path, error))?;
        if before != Look::at(&File::open(path).map_err(|error| unreadable(path, error))?, path)? {
            return Err(SourceError::new(
                SourceErrorKind::Busy,
                file.path.as_str(),
                "changes while it is read: it is still being written",
            )
            .with_hint("import it when it is finished")
            .into());
        }
        self.item.sha256 = Some(fingerprint.sha256.clone());
        let report = self.store(engine, &loaded, fingerprint)?;
        scratch.clear().map_err(|error| no_scratch(&folder, error))?;
        self.stored(report);
        Ok(())
    }

    /// Looks whether the same file was imported before, as a backup of the same database and moment. One that was found
    /// damaged since does not count: it is imported anew.
    fn known(&mut self, path: &Path) -> Result<Option<(BackupId, String)>, OperationError> {
        let (repository, context) = (&self.services.repository, &self.services.context);
        let database = &self.file.database;
        if !self.known.contains_key(&database.target) {
            let mut records = match repository.backups(Some(&database.target), context) {
                // The first import makes it.
                Err(error) if error.kind == RepositoryErrorKind::NotFound && self.options.dry_run => vec![],
                other => other?,
            };
            records.retain(|record| record.proof.is_some() && record.is_imported());
            self.known.insert(database.target.clone(), records);
        }
        let same =
            |record: &&BackupRecord| record.database == database.name && record.time == self.file.file.time;
        let mut fingerprint = None;
        for record in self.known.get(&database.target).into_iter().flatten().filter(same) {
            let Ok(backup) = repository.open(&record.id, context) else { continue };
            let origin = backup.manifest().facts.properties.get(PROPERTY).cloned();
            let Some(origin) = origin.and_then(|origin| serde_json::from_value::<Origin>(origin).ok()) else {
                continue;
            };
            let own: &Fingerprint = match &mut fingerprint {
                Some(own) => own,
                none => {
                    let file = File::open(path).map_err(|error| unreadable(path, error))?;
                    none.insert(dump_files::fingerprint(file).map_err(|error| unreadable(path, error))?)
                }
            };
            if (origin.sha256.as_str(), origin.size_bytes) == (own.sha256.as_str(), own.size_bytes) {
                return Ok(Some((record.id.clone(), origin.sha256)));
            }
        }
        Ok(None)
    }

    fn load(
        &self,
        engine: EngineKind,
        form: ExportForm,
        unpacked: &mut Unpacked,
        folder: &Path,
    ) -> Result<PathBuf, OperationError> {
        let path = &self.file.file.path;
        let plain = unpacked.compression == Compression::None;
        let mut bytes = unpacked.bytes();
        let request = LoadRequest {
            object: path,
            form,
            dump: &mut bytes,
            file: plain.then(|| Path::new(path)),
            folder,
            again: None,
        };
        Ok(self.services.engines.get(engine)?.load(request, &self.services.context)?)
    }

    /// Stores the database that was built, as what it is a backup of.
    fn store(
        &self,
        engine: EngineKind,
        loaded: &Path,
        fingerprint: Fingerprint,
    ) -> Result<SnapshotReport, OperationError> {
        let (services, context) = (self.services, &self.services.context);
        let (file, database) = (&self.file.file, &self.file.database);
        let origin = Origin {
            path: file.path.clone(),
            sha256: fingerprint.sha256,
            size_bytes: fingerprint.size_bytes,
            target_given: self.options.target_given,
        };
        let mut tags = vec![IMPORTED_TAG.to_owned()];
        tags.extend(self.options.tags.iter().cloned());
        let writer = services.repository.begin(
            SnapshotRequest {
                target: database.target.clone(),
                only: Some(database.name.clone()),
                plan: None,
                selection: None,
                host: services.host.clone(),
                user: services.user.clone(),
                tags,
                time: file.time,
            },
            context,
        )?;
        let connection = loaded.display().to_string();
        let built = DatabaseRef { connection: connection.clone(), ..database.clone() };
        let request = DumpRequest {
            target: TargetRef {
                name: database.target.clone(),
                engine,
                connection,
                secret: None,
                tenants: None,
            },
            databases: vec![DatabaseRequest { database: built, previous: None }],
            options: DumpOptions { jobs: 1, ..DumpOptions::default() },
        };
        let named = |error: SourceError| SourceError { object: file.path.clone(), ..error };
        let dump = services.engines.get(engine)?.begin_dump(&request, context.clone())?;
        while let Some(step) = dump.next().map_err(named)? {
            context.cancel.check().map_err(|_| OperationError::Cancelled)?;
            self.take_step(step, writer.as_ref(), &origin)?;
        }
        dump.finish().map_err(named)?;
        Ok(writer.commit()?)
    }

    fn take_step(
        &self,
        step: Step,
        writer: &dyn SnapshotWriter,
        origin: &Origin,
    ) -> Result<(), OperationError> {
        let file = &self.file.file;
        let named = |error: SourceError| SourceError { object: file.path.clone(), ..error };
        match step {
            Step::Part(mut part) => {
                part.database = self.file.database.clone();
                writer.part(part).map_err(|error| match error {
                    PartError::Source(error) => OperationError::from(named(error)),
                    PartError::Write(error) => error.into(),
                })
            }
            Step::Done(_, Ok(mut dumped)) => {
                dumped.facts.consistency.time = file.time;
                let origin = serde_json::to_value(origin).unwrap_or_default();
                dumped.facts.properties.insert(PROPERTY.to_owned(), origin);
                // Marks of scratch would make nothing known again.
                dumped.marks.value = serde_json::Value::Null.into();
                Ok(writer.done(&self.file.database, dumped)?)
            }
            Step::Done(_, Err(error)) => Err(named(error).into()),
            Step::Reuse(_) | Step::Unchanged(..) => {
                let message = "was said to be unchanged, and was never backed up";
                Err(SourceError::new(SourceErrorKind::Failed, file.path.as_str(), message).into())
            }
        }
    }

    fn stored(&mut self, report: SnapshotReport) {
        self.item.status = ImportStatus::Imported;
        if let Some(written) = report.databases.into_iter().next() {
            let record = written.record;
            self.known.entry(record.target.clone()).or_default().push(record.clone());
            self.item.id = Some(record.id);
            self.item.size_bytes = Some(record.size_bytes);
            self.item.added_bytes = Some(record.added_bytes);
            self.item.rows = record.rows;
            self.item.proof = record.proof.map(|proof| proof.level);
        }
    }
}

/// Of PostgreSQL nothing is imported: it would have to be loaded into a server first.
fn importable((engine, form): (EngineKind, ExportForm)) -> Result<(EngineKind, ExportForm), String> {
    match (engine, form) {
        (EngineKind::Postgres, ExportForm::Sql) => {
            Err("is a PostgreSQL dump, which this version does not import".to_owned())
        }
        (EngineKind::Postgres, _) => {
            Err("is a PostgreSQL archive, which this version does not import".to_owned())
        }
        known => Ok(known),
    }
}

/// What a file was when it was looked at.
#[derive(PartialEq, Eq)]
pub(crate) struct Look {
    identity: (u64, u64),
    pub(crate) size_bytes: u64,
    modified: (i64, i64),
}

impl Look {
    pub(crate) fn at(file: &File, path: &Path) -> Result<Self, SourceError> {
        use std::os::unix::fs::MetadataExt;
        let metadata = file.metadata().map_err(|error| unreadable(path, error))?;
        Ok(Self {
            identity: (metadata.dev(), metadata.ino()),
            size_bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

pub(crate) fn undecodable(path: &str, error: std::io::Error) -> SourceError {
    if error.raw_os_error().is_some() {
        return unreadable(Path::new(path), error);
    }
    SourceError::new(SourceErrorKind::Damaged, path, "cannot be unpacked: it is damaged or cut off")
        .with_hint("take another dump file")
        .with_source(error)
}

/// A moment that is still to come stays the newest for long, whatever is backed up meanwhile.
pub(crate) fn tell_future(context: &Context, file: &DumpFile) {
    if file.time > Timestamp::now() {
        context.observer.event(Event::Finding(Finding {
            severity: Severity::Warning,
            object: file.path.clone(),
            message: format!("its time {} is in the future: until then it counts as the newest", file.time),
            hint: Some("check the clock of the host that wrote it, and --time-zone".to_owned()),
        }));
    }
}

/// Asks for the room that the database will take; how much a packed file unpacks to is a guess.
pub(crate) fn enough_space(
    folder: &Path,
    file_bytes: u64,
    compression: Compression,
    form: ExportForm,
) -> Result<(), SourceError> {
    let Ok(space) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let factor = match (compression, form) {
        (Compression::None, _) => 1,
        (_, ExportForm::Sql) => 4,
        _ => 2,
    };
    let needed = file_bytes.saturating_mul(factor).saturating_add(RESERVED_BYTES);
    if needed <= free {
        return Ok(());
    }
    let message = format!("scratch space has {free} bytes free, and about {needed} are needed");
    Err(SourceError::new(SourceErrorKind::Failed, folder.display().to_string(), message)
        .with_hint("make room there, or name another folder by --scratch"))
}

fn empty_item(path: &str) -> ImportItem {
    ImportItem {
        path: path.to_owned(),
        status: ImportStatus::Failed,
        id: None,
        target: None,
        database: None,
        engine: None,
        time: None,
        time_source: None,
        form: None,
        compression: None,
        sha256: None,
        file_bytes: None,
        size_bytes: None,
        added_bytes: None,
        rows: None,
        proof: None,
        elapsed_ms: None,
        error: None,
    }
}

fn failed(item: ImportItem, error: &OperationError) -> ImportItem {
    ImportItem { status: ImportStatus::Failed, error: Some(ErrorReport::from(error)), ..item }
}
