//! `restore` of a snapshot that stock restic wrote: its files, into a folder.

use crate::errors::{Failure, exit};
use crate::json::Finished;
use crate::session::Session;
use crate::wording::{count, size};
use operations::Services;
use operations::reference::short;
use operations::restore::FilesOptions;
use repository::BackupRecord;
use std::path::Path;

/// What is to be written where.
pub(crate) struct Wanted<'a> {
    /// The snapshot.
    pub(crate) record: &'a BackupRecord,
    /// The file or folder in it; all of it where there is none.
    pub(crate) path: Option<String>,
    /// The folder that was named.
    pub(crate) folder: Option<&'a Path>,
    pub(crate) dry_run: bool,
}

/// Writes the files of a snapshot that stock restic made.
pub(crate) fn run(session: &Session, services: &Services, wanted: Wanted<'_>) -> Result<Finished, Failure> {
    let Some(folder) = wanted.folder else {
        let id = short(&wanted.record.id.0);
        return Err(Failure::usage(
            format!("{id} was stored by restic and holds files, no database"),
            format!("`backstay restore {id} --to-new FOLDER` writes them"),
        ));
    };
    let verb = FilesOptions {
        snapshot: wanted.record.snapshot.to_string(),
        path: wanted.path,
        folder: session.absolute(folder),
        dry_run: wanted.dry_run,
    };
    let report = operations::restore::restore_files(services, &verb)?;
    let body = &report.body;
    for skipped in &body.skipped {
        session.console.warn(&format!("left out {skipped}"), None);
    }
    let word = if body.dry_run { "Would restore" } else { "Restored" };
    session.console.say(&format!(
        "{word} {} ({}) to {}.",
        count(body.files, "file", "files"),
        size(body.bytes_written),
        folder.display()
    ));
    if body.skipped.is_empty() {
        return Finished::new(&report);
    }
    let number = count(body.skipped.len() as u64, "file was", "files were");
    Finished::failing(report, Failure::new(exit::INCOMPLETE, format!("{number} left out")))
}
