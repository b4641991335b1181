//! A custom archive. Data come in chunks of one size, so that where sizes are known before, offsets are too, and stand in
//! the table of contents from the beginning: stock `pg_restore` then goes straight to what it is asked for.

use super::{DataSink, Written, not_written};
use crate::postgres::archive::{ArchiveError, BlockWriter, TableOfContents};
use flow::SourceError;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

/// The size of a chunk, but for the last of each row of them.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
const BUFFER_BYTES: usize = 256 << 10;

pub(super) struct CustomFile<'a, W: Write> {
    writer: BlockWriter<BufWriter<W>>,
    toc: &'a TableOfContents,
    chunk: Vec<u8>,
    starts: BTreeMap<i32, u64>,
    /// Whether the offsets were known when the table of contents was written.
    known: bool,
    object: String,
}

impl<'a, W: Write> CustomFile<'a, W> {
    /// Writes the table of contents.
    pub(super) fn begin(
        out: W,
        toc: &'a TableOfContents,
        offsets: Option<BTreeMap<i32, u64>>,
        object: &str,
    ) -> Result<Self, SourceError> {
        let (known, starts) = (offsets.is_some(), offsets.unwrap_or_default());
        let first = toc.with_offsets(&starts);
        let out = BufWriter::with_capacity(BUFFER_BYTES, out);
        let writer = BlockWriter::begin_with(out, first).map_err(|error| not_written(object, error))?;
        let chunk = Vec::with_capacity(CHUNK_BYTES);
        Ok(Self { writer, toc, chunk, starts: BTreeMap::new(), known, object: object.to_owned() })
    }

    /// Writes what is left of the last chunk.
    fn rest(&mut self) -> Result<(), SourceError> {
        let done = self.writer.chunk(&self.chunk);
        self.chunk.clear();
        done.map_err(|error| not_written(&self.object, error))
    }

    fn done(
        &mut self,
        write: impl FnOnce(&mut BlockWriter<BufWriter<W>>) -> Result<(), ArchiveError>,
    ) -> Result<(), SourceError> {
        write(&mut self.writer).map_err(|error| not_written(&self.object, error))
    }
}

impl<W: Write> DataSink for CustomFile<'_, W> {
    fn begin(&mut self, dump_id: i32, _size_bytes: Option<u64>) -> Result<(), SourceError> {
        self.starts.insert(dump_id, self.writer.position());
        self.done(|writer| writer.begin_data(dump_id))
    }

    fn begin_objects(&mut self, dump_id: i32) -> Result<(), SourceError> {
        self.starts.insert(dump_id, self.writer.position());
        self.done(|writer| writer.begin_objects(dump_id))
    }

    fn begin_object(&mut self, oid: u32, _size_bytes: Option<u64>) -> Result<(), SourceError> {
        self.done(|writer| writer.begin_object(oid))
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), SourceError> {
        while !bytes.is_empty() {
            let room = CHUNK_BYTES - self.chunk.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if now.len() == CHUNK_BYTES {
                self.done(|writer| writer.chunk(now))?;
            } else {
                self.chunk.extend_from_slice(now);
                if self.chunk.len() == CHUNK_BYTES {
                    self.rest()?;
                }
            }
            bytes = later;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), SourceError> {
        self.rest()?;
        self.done(BlockWriter::end_chunks)
    }

    fn end_objects(&mut self) -> Result<(), SourceError> {
        self.done(BlockWriter::end_objects)
    }

    fn finish(self: Box<Self>) -> Result<Written, SourceError> {
        let Self { writer, toc, starts, known, object, .. } = *self;
        let size_bytes = writer.position();
        writer.into_inner().flush().map_err(|error| super::refused(&object, error))?;
        let mut front = Vec::new();
        if !known {
            toc.with_offsets(&starts).write(&mut front).map_err(|error| not_written(&object, error))?;
        }
        Ok(Written { size_bytes, front: Some(front).filter(|front| !front.is_empty()) })
    }
}
