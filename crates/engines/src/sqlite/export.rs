//! A stored backup as one plain file: the image itself, or SQL text made of a scratch copy of it. The scratch copy
//! goes when the export ends; after a crash it stays in the scratch folder.

use super::cut::IMAGE_ENTRY;
use super::stage::{Staged, unwritable};
use super::{failure, sql_text};
use crate::engine::{ExportForm, ExportSummary};
use crate::restore::RestoreError;
use flow::{BackupReader, Context, EntryName, ReadError, ReadErrorKind, SourceError, SourceErrorKind};
use rusqlite::{Connection, OpenFlags};
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a backup in this form.
pub(super) fn export(
    backup: &dyn BackupReader,
    form: ExportForm,
    out: &mut (dyn Write + Send),
    context: &Context,
) -> Result<ExportSummary, RestoreError> {
    let database = &backup.manifest().connection;
    match form {
        ExportForm::Image => {
            let size_bytes = image(backup, out, context, |error| refused(database, error))?;
            Ok(ExportSummary { size_bytes })
        }
        ExportForm::Sql => sql(backup, out, context),
        ExportForm::Custom | ExportForm::Tar => {
            let message = "a SQLite backup has no such form";
            Err(SourceError::new(SourceErrorKind::Unsupported, database, message)
                .with_hint("use .db for the database file or .sql for SQL text")
                .into())
        }
    }
}

/// Streams the image to `out`.
fn image(
    backup: &dyn BackupReader,
    out: &mut dyn Write,
    context: &Context,
    failed: impl Fn(io::Error) -> SourceError,
) -> Result<u64, RestoreError> {
    let name = EntryName::new(IMAGE_ENTRY)
        .map_err(|error| ReadError::new(ReadErrorKind::Missing, IMAGE_ENTRY, error.to_string()))?;
    let entry = backup
        .manifest()
        .entry(&name)
        .ok_or_else(|| ReadError::new(ReadErrorKind::Missing, IMAGE_ENTRY, "the backup has no such entry"))?;
    let size_bytes = entry.size_bytes;
    let mut reader = backup.read(&name, 0..size_bytes)?;
    let mut buffer = vec![0; 1 << 20];
    let mut written = 0;
    loop {
        context.cancel.check().map_err(|_| SourceError::cancelled(IMAGE_ENTRY))?;
        let read = reader.read(&mut buffer).map_err(|error| ReadError::from_io(error, IMAGE_ENTRY))?;
        if read == 0 {
            break;
        }
        out.write_all(&buffer[..read]).map_err(&failed)?;
        written += read as u64;
    }
    if written != size_bytes {
        let message = format!("ended after {written} of {size_bytes} bytes");
        return Err(ReadError::new(ReadErrorKind::Damaged, IMAGE_ENTRY, message).into());
    }
    out.flush().map_err(failed)?;
    Ok(written)
}

fn sql(
    backup: &dyn BackupReader,
    out: &mut (dyn Write + Send),
    context: &Context,
) -> Result<ExportSummary, RestoreError> {
    let staged = Staged::empty(context)?;
    let path = staged.path();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| unwritable(path, error))?;
    image(backup, &mut file, context, |error| unwritable(path, error))?;
    drop(file);
    let size_bytes = text(path, &backup.manifest().connection, out, context)?;
    Ok(ExportSummary { size_bytes })
}

/// Writes the SQL text of a scratch copy; returns how many bytes that were.
pub(super) fn text(
    path: &Path,
    database: &str,
    out: &mut (dyn Write + Send),
    context: &Context,
) -> Result<u64, SourceError> {
    let failed = |error| failure::sqlite(Path::new(database), error);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    let mut counted = Counted { out: BufWriter::with_capacity(1 << 16, out), size_bytes: 0 };
    sql_text::write(&connection, &mut counted, &context.cancel).map_err(|error| match error {
        sql_text::DumpError::Sqlite(error) => failed(error),
        sql_text::DumpError::Output(error) => refused(database, error),
        sql_text::DumpError::Cancelled => SourceError::cancelled(database),
    })?;
    counted.flush().map_err(|error| refused(database, error))?;
    Ok(counted.size_bytes)
}

/// Makes the error of an output that takes no more.
pub(super) fn refused(database: &str, error: io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Failed, database, "the export cannot be written")
        .with_hint("make room where it is written to")
        .with_source(error)
}

struct Counted<W: Write> {
    out: W,
    size_bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
