//! Imports dump files that other tools made: each becomes a backup of its own snapshot, at the moment that it shows.
//!
//! A file is unpacked and read to its end before anything is stored of it: the database that it holds is built in scratch
//! and checked, or, of an archive of PostgreSQL, every row is counted. What is stored is a dump like that of a live database,
//! by the way that every backup goes. So a file is wholly imported or not at all: one that is cut, damaged or no dump leaves
//! nothing, and the others go on. Files are opened for reading and nothing else. A crash leaves a scratch folder, which the
//! next import removes; what was imported before it is there, and is known again by its digest.

mod look;
mod one;
pub(crate) mod scratch;

pub use crate::dump_files::{Choice, DumpFile, Found, TimeSource, find};

use crate::journaling;
use crate::plain_file::Compression;
use crate::report::{ErrorReport, Outcome, Report, elapsed_ms};
use crate::{AgeKeys, OperationError, Services};
use engines::{ExportForm, Skipped};
use flow::{DatabaseName, DatabaseRef, EngineKind, SourceError, SourceErrorKind, TargetName};
use jiff::Timestamp;
pub(crate) use look::{Look, enough_space, tell_future};
use one::{Import, Known, Rooms};
use repository::{BackupId, ProofLevel};
use serde::{Deserialize, Serialize};
use std::path::Path;

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
    /// Of which system those are, where somebody said.
    pub engine: Option<EngineKind>,
    /// By what encrypted files are read.
    pub keys: AgeKeys,
    /// Whether somebody said where the scratch folder is.
    pub scratch_given: bool,
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

/// The form of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DumpForm {
    /// A database file.
    Image,
    /// SQL text.
    Sql,
    /// A custom archive.
    Custom,
    /// A tar archive.
    Tar,
    /// A directory archive.
    Directory,
}

impl From<ExportForm> for DumpForm {
    fn from(form: ExportForm) -> Self {
        match form {
            ExportForm::Image => Self::Image,
            ExportForm::Sql => Self::Sql,
            ExportForm::Custom => Self::Custom,
            ExportForm::Tar => Self::Tar,
        }
    }
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
    pub form: Option<DumpForm>,
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
    /// The files and folders, oldest first, then those that could not even be looked at.
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
    let mut rooms = match options.dry_run {
        true => None,
        false => Some(Rooms::make(services, options.scratch_given)?),
    };
    let (mut imports, mut errors, mut broken) = (Vec::new(), Vec::new(), None);
    let mut known = Known::new();
    for file in &options.files {
        let began = Timestamp::now();
        let mut item = empty_item(&file.file.path);
        let attempt = Import { services, options: &options, file, item: &mut item, known: &mut known }
            .run(rooms.as_mut());
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
