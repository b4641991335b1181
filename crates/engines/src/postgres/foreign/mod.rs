//! Dumps that `pg_dump` wrote for somebody else, as backups to restore from: custom archives, tar archives and folders, with
//! data packed in whatever way, and SQL text.
//!
//! An archive is read to its end once, and all of its rows are counted: what is cut or damaged shows before anything else
//! happens (those that are INSERT statements as they are turned into rows). Afterwards its data are read where they lie, entry by entry. Only an archive that was packed as a whole is laid
//! into scratch, as it is within. A crash leaves that file there.

mod conversion;
mod custom;
mod folder;
mod inserts;
mod place;
mod survey;
mod tar;
mod text;

use super::archive::ArchiveError;
use crate::engine::{Converted, ExportForm, LoadRequest};
use conversion::Conversion;
use flow::{BackupReader, Context, DatabaseRef, SourceError, SourceErrorKind};
use std::path::Path;
use std::sync::Arc;
use survey::Survey;

/// Gives an archive that is one file as a backup.
pub(super) fn open(
    request: LoadRequest<'_>,
    database: &DatabaseRef,
    context: &Context,
) -> Result<Arc<dyn BackupReader>, SourceError> {
    let object = request.object.to_owned();
    let survey = match request.form {
        ExportForm::Custom => custom::read(request, context)?,
        ExportForm::Tar => tar::read(request, context)?,
        ExportForm::Sql => return Ok(Arc::new(text::read(request, database, context)?)),
        ExportForm::Image => {
            let message = "PostgreSQL has no dumps of this form";
            return Err(SourceError::new(SourceErrorKind::Unsupported, object, message));
        }
    };
    Ok(Arc::new(survey.into_backup(&object, database)?))
}

/// Gives an archive that is a folder as a backup; `None` where the folder is none.
pub(super) fn open_folder(
    folder: &Path,
    database: &DatabaseRef,
    context: &Context,
) -> Option<Result<Arc<dyn BackupReader>, SourceError>> {
    if !folder.join("toc.dat").is_file() {
        return None;
    }
    let object = folder.display().to_string();
    let read = || -> Result<Arc<dyn BackupReader>, SourceError> {
        Ok(Arc::new(folder::read(folder, context)?.into_backup(&object, database)?))
    };
    Some(read())
}

/// Gives an archive that is one file as a dump of ours.
pub(super) fn convert(
    request: LoadRequest<'_>,
    database: &DatabaseRef,
    context: &Context,
) -> Result<Converted, SourceError> {
    let object = request.object.to_owned();
    let survey = match request.form {
        ExportForm::Custom => custom::read(request, context)?,
        ExportForm::Tar => tar::read(request, context)?,
        ExportForm::Sql | ExportForm::Image => {
            return Err(SourceError::new(SourceErrorKind::Unsupported, object, "is no archive"));
        }
    };
    converted(survey, database, &object, context)
}

/// Gives an archive that is a folder as a dump of ours; `None` where the folder is none.
pub(super) fn convert_folder(
    folder: &Path,
    database: &DatabaseRef,
    context: &Context,
) -> Option<Result<Converted, SourceError>> {
    if !folder.join("toc.dat").is_file() {
        return None;
    }
    let object = folder.display().to_string();
    let survey = folder::read(folder, context);
    Some(survey.and_then(|survey| converted(survey, database, &object, context)))
}

fn converted(
    survey: Survey,
    database: &DatabaseRef,
    object: &str,
    context: &Context,
) -> Result<Converted, SourceError> {
    let archived = survey.into_backup(object, database)?;
    let dump = Conversion::begin(archived, database, object, context)?;
    Ok(Converted { selection: dump.selection(), dump: Box::new(dump), served_by: None })
}

/// Makes the error of an archive that is not whole.
fn damaged(object: &str, message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Damaged, object, message).with_hint("take another dump file")
}

/// Makes the error of what cannot be read or unpacked.
fn unread(object: &str, what: &str, error: std::io::Error) -> SourceError {
    if error.raw_os_error().is_some() {
        let message = format!("{what} cannot be read");
        return SourceError::new(SourceErrorKind::Unreadable, object, message)
            .with_hint("check the device and the filesystem")
            .with_source(error);
    }
    damaged(object, format!("{what} cannot be unpacked: it is damaged or cut off")).with_source(error)
}

fn broken(object: &str, error: ArchiveError) -> SourceError {
    match error {
        ArchiveError::Io(error) => unread(object, "it", error),
        ArchiveError::Unsupported(message) => SourceError::new(SourceErrorKind::Unsupported, object, message)
            .with_hint("`pg_restore -f FILE.sql` of the version that wrote it makes SQL text of it"),
        other => damaged(object, other.to_string()),
    }
}
