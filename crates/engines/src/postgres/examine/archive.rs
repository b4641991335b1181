//! A custom archive, read to its end: every entry that has data must have its block, each block must be whole, and its data,
//! unpacked, must be what its entry says.

use super::{broken, damaged, unread};
use crate::counting::counted;
use crate::engine::{ExamineRequest, Examined};
use crate::postgres::archive::{
    BlockKind, BlockReader, DataPlace, Entry, Packing, TableOfContents, Unpacked,
};
use crate::postgres::script::{CopyLines, columns_of};
use flow::{Context, SourceError};
use std::collections::HashSet;
use std::io::{self, BufReader, Read};

/// What says where an entry's data are not, in an archive that knew its offsets.
const NO_DATA: u8 = 3;
const CHUNK_BYTES: usize = 64 << 10;

/// Reads a custom archive to its end.
pub(super) fn examine(request: ExamineRequest<'_>, context: &Context) -> Result<Examined, SourceError> {
    let object = request.object;
    let reader = BufReader::with_capacity(256 << 10, request.dump);
    let mut blocks = BlockReader::begin(reader).map_err(|error| broken(object, error))?;
    let toc = blocks.toc().clone();
    let packing = Packing::of_custom(toc.header.compression).map_err(|error| broken(object, error))?;
    let mut seen = HashSet::new();
    let mut totals = Totals::default();
    loop {
        context.cancel.check().map_err(|_| SourceError::cancelled(object))?;
        let Some(block) = blocks.next_block().map_err(|error| broken(object, error))? else { break };
        let entry = toc.entry(block.dump_id);
        if !seen.insert(block.dump_id) {
            return Err(damaged(object, format!("{} has its data twice", name(entry))));
        }
        match block.kind {
            BlockKind::Data => totals.data(object, entry, packing, block)?,
            BlockKind::LargeObjects => {
                let mut objects = block.large_objects();
                while let Some(oid) = objects.next_object().map_err(|error| broken(object, error))? {
                    totals.object(object, &format!("large object {oid}"), packing, &mut objects)?;
                }
            }
        }
    }
    if let Some(missing) = toc.entries.iter().find(|entry| has_data(entry) && !seen.contains(&entry.dump_id))
    {
        return Err(damaged(
            object,
            format!("the data of {} are missing: it is cut off", name(Some(missing))),
        ));
    }
    Ok(totals.examined(&toc))
}

fn has_data(entry: &Entry) -> bool {
    entry.had_dumper && !matches!(entry.place, DataPlace::Offset { state: NO_DATA, .. })
}

/// Returns how an entry is called in messages.
pub(super) fn name(entry: Option<&Entry>) -> String {
    let Some(entry) = entry else { return "an unknown entry".to_owned() };
    let text = |bytes: &Option<Vec<u8>>| {
        bytes.as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned()
    };
    match text(&entry.schema) {
        schema if schema.is_empty() => format!("{} {}", text(&entry.kind), text(&entry.tag)),
        schema => format!("{} {schema}.{}", text(&entry.kind), text(&entry.tag)),
    }
}

/// What was read of the data of an archive.
#[derive(Default)]
pub(super) struct Totals {
    rows: u64,
    objects: u64,
    bytes: u64,
}

impl Totals {
    /// Reads the data of an entry.
    pub(super) fn data(
        &mut self,
        object: &str,
        entry: Option<&Entry>,
        packing: Packing,
        packed: impl io::Read,
    ) -> Result<(), SourceError> {
        let copy = entry.and_then(|entry| entry.copy.as_deref());
        let columns = copy.and_then(|copy| columns_of(copy).ok());
        let mut lines = columns.map(CopyLines::new);
        let mut more = false;
        let bytes = unpack(packing, packed, &mut |piece| {
            if let Some(lines) = &mut lines {
                let taken = lines.take(piece);
                more |= piece[taken..].iter().any(|byte| !byte.is_ascii_whitespace());
            }
        })
        .map_err(|error| unread_entry(object, &name(entry), error))?;
        self.bytes += bytes;
        let Some(lines) = lines else { return Ok(()) };
        self.rows += lines.rows();
        if let Some(problem) = lines.wrong() {
            return Err(damaged(object, format!("{}: {problem}", name(entry))));
        }
        if more || lines.is_within_line() {
            return Err(damaged(object, format!("{}: its rows do not end as rows end", name(entry))));
        }
        Ok(())
    }

    /// Reads a large object.
    pub(super) fn object(
        &mut self,
        object: &str,
        name: &str,
        packing: Packing,
        packed: impl io::Read,
    ) -> Result<(), SourceError> {
        let bytes = unpack(packing, packed, &mut |_| ());
        self.bytes += bytes.map_err(|error| unread_entry(object, name, error))?;
        self.objects += 1;
        Ok(())
    }

    /// Returns what an archive is that was read to its end.
    pub(super) fn examined(self, toc: &TableOfContents) -> Examined {
        let tables = toc.entries.iter().filter(|entry| entry.is("TABLE")).count() as u64;
        let settings = ["ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES"];
        let content = toc.entries.iter().any(|entry| !settings.iter().any(|kind| entry.is(kind)));
        let by = toc.header.dump_version.as_deref().map(String::from_utf8_lossy);
        let by = by.map(|version| format!(" by pg_dump {version}")).unwrap_or_default();
        let entries = counted(toc.entries.len() as u64, "entry", "entries");
        let objects = match self.objects {
            0 => String::new(),
            count => format!(", {}", counted(count, "large object", "large objects")),
        };
        Examined {
            detail: format!(
                "table of contents with {entries}{by}; {}, {}{objects}, {} of data",
                counted(tables, "table", "tables"),
                counted(self.rows, "row", "rows"),
                counted(self.bytes, "byte", "bytes")
            ),
            tables: Some(tables),
            rows: Some(self.rows),
            is_empty: !content,
            doubts: vec![],
        }
    }
}

/// Makes the error of data that cannot be unpacked.
fn unread_entry(object: &str, name: &str, error: io::Error) -> SourceError {
    let made = unread(object, error);
    SourceError { message: format!("{name}: {}", made.message), ..made }
}

/// Reads packed data to their end and hands on what they hold. Returns how many bytes that were.
fn unpack(packing: Packing, packed: impl Read, take: &mut dyn FnMut(&[u8])) -> io::Result<u64> {
    let mut unpacked = Unpacked::new(packed, packing)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut total = 0;
    loop {
        match unpacked.read(&mut chunk) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                take(&chunk[..count]);
                total += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
