//! A PostgreSQL dump that is read to its end: SQL text statement by statement, archives by their table of contents and
//! every block of data, unpacked.
//!
//! Nothing is run and nothing is written. Memory grows with the table of contents, never with the data.

mod archive;
mod folder;
mod recognise;
mod script;
mod tar;

pub(super) use folder::examine as examine_folder;
pub(super) use recognise::recognise;

use crate::ExportForm;
use crate::engine::{ExamineRequest, Examined};
use crate::postgres::archive::ArchiveError;
use flow::{Context, SourceError, SourceErrorKind};
use std::io;

/// Reads a dump to its end.
pub(super) fn examine(request: ExamineRequest<'_>, context: &Context) -> Result<Examined, SourceError> {
    match request.form {
        ExportForm::Sql => script::examine(request, context),
        ExportForm::Custom => archive::examine(request, context),
        ExportForm::Tar => tar::examine(request, context),
        ExportForm::Image => {
            let message = "PostgreSQL has no dumps of this form";
            Err(SourceError::new(SourceErrorKind::Unsupported, request.object, message))
        }
    }
}

/// Makes the error of a dump that is not whole.
fn damaged(object: &str, problem: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Damaged, object, problem).with_hint("take another dump file")
}

/// Makes the error of bytes that do not come.
fn unread(object: &str, error: io::Error) -> SourceError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(object, "is cut off: it ends too early").with_source(error),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            damaged(object, error.to_string())
        }
        _ => SourceError::new(SourceErrorKind::Unreadable, object, "cannot be read").with_source(error),
    }
}

/// Makes the error of an archive.
fn broken(object: &str, error: ArchiveError) -> SourceError {
    match error {
        ArchiveError::Io(error) => unread(object, error),
        ArchiveError::Unsupported(message) => SourceError::new(SourceErrorKind::Unsupported, object, message)
            .with_hint("`pg_restore --list FILE` of a newer PostgreSQL may know it"),
        other => damaged(object, other.to_string()),
    }
}
