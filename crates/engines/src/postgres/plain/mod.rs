//! A database as one plain file: a custom archive, a tar archive or SQL text, written as a stream from a stored backup or
//! from what `pg_dump` gives.
//!
//! Memory does not grow with the database. Of a tar archive whose members' sizes are not known before, one member at a
//! time lies in the scratch folder, without a name: a crash leaves nothing of it.

mod custom;
mod export;
mod script;
mod tar;

pub(super) use export::export;

use crate::engine::ExportForm;
use crate::postgres::archive::{ArchiveError, TableOfContents};
use custom::CustomFile;
use flow::{Context, SourceError, SourceErrorKind};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io::{self, Write};
use tar::TarFile;

/// The forms that a PostgreSQL database can have; the first is that of a stream of which nothing else is said.
pub(super) const FORMS: &[ExportForm] = &[ExportForm::Custom, ExportForm::Sql, ExportForm::Tar];

/// What takes the data of an archive, entry by entry in the order of its table of contents. Each `begin…` is followed by
/// bytes and its `end…`.
pub(super) trait DataSink {
    /// Begins the data of an entry, of that size where it is known before.
    fn begin(&mut self, dump_id: i32, size_bytes: Option<u64>) -> Result<(), SourceError>;

    /// Begins large objects, each of which follows.
    fn begin_objects(&mut self, dump_id: i32) -> Result<(), SourceError>;

    /// Begins a large object.
    fn begin_object(&mut self, oid: u32, size_bytes: Option<u64>) -> Result<(), SourceError>;

    /// Takes the next bytes of what was begun last.
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), SourceError>;

    /// Ends the data of an entry, or a large object.
    fn end(&mut self) -> Result<(), SourceError>;

    /// Ends large objects.
    fn end_objects(&mut self) -> Result<(), SourceError>;

    /// Ends the archive and says what it came to.
    fn finish(self: Box<Self>) -> Result<Written, SourceError>;
}

/// A file that was written.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    /// Its bytes.
    pub(super) size_bytes: u64,
    /// What its beginning would be, had everything been known at the beginning.
    pub(super) front: Option<Vec<u8>>,
}

/// What a file is made of.
pub(super) struct Made<'a> {
    /// The form.
    pub(super) form: ExportForm,
    /// The table of contents, as `pg_dump` wrote it or as a backup holds it.
    pub(super) toc: &'a TableOfContents,
    /// At which offsets data will be in a custom archive, where that is known.
    pub(super) offsets: Option<BTreeMap<i32, u64>>,
    /// The moment that it shows.
    pub(super) time: Timestamp,
    /// The version of the programs that fit, which `pg_dump` had.
    pub(super) major: u32,
    /// The database, for messages.
    pub(super) object: &'a str,
}

/// Writes a file: `feed` gives the data.
pub(super) fn write<E: From<SourceError>>(
    made: Made<'_>,
    out: &mut (dyn Write + Send),
    context: &Context,
    feed: impl FnOnce(&mut dyn DataSink) -> Result<(), E>,
) -> Result<Written, E> {
    let object = made.object;
    let mut sink: Box<dyn DataSink + '_> = match made.form {
        ExportForm::Sql => return script::write(made, out, context, feed),
        ExportForm::Custom => Box::new(CustomFile::begin(out, made.toc, made.offsets, object)?),
        ExportForm::Tar => Box::new(TarFile::begin(out, made.toc, made.time, object, context)?),
        ExportForm::Image => {
            let message = "a PostgreSQL database has no such form";
            return Err(SourceError::new(SourceErrorKind::Unsupported, object, message)
                .with_hint("use .dump for a custom archive, .tar for a tar archive or .sql for SQL text")
                .into());
        }
    };
    feed(sink.as_mut())?;
    Ok(sink.finish()?)
}

/// Makes the error of a file that takes no more.
fn refused(object: &str, error: io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Failed, object, "the file cannot be written")
        .with_hint("make room where it is written to")
        .with_source(error)
}

fn not_written(object: &str, error: ArchiveError) -> SourceError {
    match error {
        ArchiveError::Io(error) => refused(object, error),
        other => SourceError::new(SourceErrorKind::Failed, object, format!("the archive {other}")),
    }
}

/// Counts what passes.
struct Counted<W> {
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
