//! A database as one plain file, written as `pg_dump` reads it: the same ground as a backup's (every table locked, then the
//! snapshot), one table after the other, rows counted and summed up as they pass.
//!
//! The file is whole once this returned: `pg_dump` ended well, everything that its table of contents names came, and the
//! server still held the snapshot at the end. Dropped or failing, programs and transactions end.

use super::close;
use super::ground::{self, Ground, Opened, Rows, tell};
use super::late;
use super::stream::{ArchiveStream, Next};
use crate::engine::{ExportForm, FileDump};
use crate::postgres::catalog::Table;
use crate::postgres::contents;
use crate::postgres::digest::ArchivedRows;
use crate::postgres::plain::{self, DataSink, Made};
use flow::{Context, DumpRequest, Event, SourceError, SourceErrorKind};
use std::io::Write;

const BUFFER_BYTES: usize = 256 << 10;

/// Writes the database of a request.
pub(in crate::postgres) fn dump_file(
    request: &DumpRequest,
    form: ExportForm,
    out: &mut (dyn Write + Send),
    context: &Context,
) -> Result<FileDump, SourceError> {
    let [one] = request.databases.as_slice() else {
        let message = "one database is written into one file";
        return Err(SourceError::new(SourceErrorKind::Invalid, request.target.connection.clone(), message));
    };
    let connection = one.database.connection.as_str();
    let rows = Rows::ByPgDump(request.options.selection.as_ref());
    let opened = ground::open(connection, &request.target, rows, &request.options, context)?;
    let Opened { ground, mut holder, archive, tables } = opened;
    let toc = archive.toc().clone();
    let made = Made {
        form,
        toc: &toc,
        offsets: None,
        time: ground.moment.time,
        major: ground.pg_dump.major,
        object: connection,
    };
    let mut passed = Passed { sums: vec![(0, 0); tables.len()], objects: 0, size_bytes: 0 };
    let written = plain::write(made, out, context, |sink| {
        feed(Box::new(archive), sink, &ground, &tables, &mut passed, context)
    })?;
    let mut session = late::session(Vec::new(), &ground, context)?;
    late::check_names(&mut holder, &mut session, connection)?;
    drop(session);
    close::end(holder)?;
    let Passed { sums, objects, size_bytes } = passed;
    let facts = close::facts(&ground, &toc, &tables, &sums, size_bytes, objects);
    Ok(FileDump { facts, size_bytes: written.size_bytes, front: written.front })
}

/// What went by.
struct Passed {
    /// Rows and digest of each table.
    sums: Vec<(u64, u128)>,
    /// Large objects.
    objects: u64,
    size_bytes: u64,
}

fn feed(
    mut stream: Box<ArchiveStream>,
    sink: &mut dyn DataSink,
    ground: &Ground,
    tables: &[Table],
    passed: &mut Passed,
    context: &Context,
) -> Result<(), SourceError> {
    let failed = |message: String| SourceError::new(SourceErrorKind::Failed, ground.object.clone(), message);
    let mut in_objects = false;
    loop {
        match stream.next()? {
            Next::Rows(dump_id, open) => {
                let oid = open.toc().entry(dump_id).and_then(contents::oid_of);
                let table = tables.iter().position(|table| Some(table.oid) == oid).ok_or_else(|| {
                    failed(format!("pg_dump wrote rows for its entry {dump_id}, which is no table"))
                })?;
                let mut rows = ArchivedRows::default();
                sink.begin(dump_id, None)?;
                stream = pass(open, sink, |bytes| rows.take(bytes), passed, context)?;
                sink.end()?;
                let shown = tables.get(table).map_or("?", |table| table.shown.as_str());
                let (count, digest) =
                    rows.finish().ok_or_else(|| failed(format!("table {shown} ended within a row")))?;
                if let Some(sum) = passed.sums.get_mut(table) {
                    *sum = (count, digest.0);
                }
            }
            Next::Object(oid, open) => {
                if !std::mem::replace(&mut in_objects, true) {
                    sink.begin_objects(open.block())?;
                }
                sink.begin_object(oid, None)?;
                stream = pass(open, sink, |_| (), passed, context)?;
                sink.end()?;
                passed.objects += 1;
            }
            Next::List(_, _, open) => {
                if !std::mem::take(&mut in_objects) {
                    sink.begin_objects(open.block())?;
                }
                sink.end_objects()?;
                stream = open;
            }
            Next::End(end) => {
                if !end.complaints.is_empty() {
                    tell(context, &ground.object, end.complaints.join("; "));
                }
                return Ok(());
            }
        }
    }
}

/// Passes on what the stream gives until the end of what it stands in.
fn pass(
    mut stream: Box<ArchiveStream>,
    sink: &mut dyn DataSink,
    mut look: impl FnMut(&[u8]),
    passed: &mut Passed,
    context: &Context,
) -> Result<Box<ArchiveStream>, SourceError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        context.cancel.check().map_err(|_| SourceError::cancelled("the backup"))?;
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Ok(stream),
            Ok(count) => count,
            Err(error) => return Err(stream.failed(&error)),
        };
        look(&buffer[..count]);
        sink.bytes(&buffer[..count])?;
        passed.size_bytes += count as u64;
        context.observer.event(Event::Bytes(count as u64));
    }
}
